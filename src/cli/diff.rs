use std::path::Path;

use runsnap::Result;
use runsnap::operations::diff::{Change, ChangeKind, Diff, diff_runs, diff_working_tree};

use super::context::Context;
use super::output::{Outcome, colours, counted, print, print_json};

/// Show what changed between two runs, or between a run and the working tree
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The older run
    run: String,
    /// The newer run [default: the working tree]
    #[arg(conflicts_with = "working_tree")]
    other: Option<String>,
    /// Compare with the files as they are now
    #[arg(long)]
    working_tree: bool,
    /// Show how many lines changed in each file
    #[arg(long)]
    stat: bool,
}

pub fn run(context: &Context, arguments: &Arguments) -> Result<Outcome> {
    let store = context.open()?;
    let runs = context.runs(&store)?;
    let old = context.find(&store, &runs, &arguments.run)?;
    let diff = match &arguments.other {
        Some(other) => diff_runs(&store, &old, &context.find(&store, &runs, other)?)?,
        None => diff_working_tree(&store, &old, Path::new(&old.start.project.root))?,
    };
    if context.json {
        print_json(&diff)?;
    } else {
        print(&text(&diff, arguments.stat, colours()))?;
    }
    Ok(Outcome::Done)
}

fn text(diff: &Diff, stat: bool, colours: bool) -> String {
    let paint = |code: &str, text: &str| if colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    let (bold, red, green, cyan) = ("1", "31", "32", "36");
    let mut out = String::new();
    for change in &diff.params {
        let shown =
            |value: &Option<serde_json::Value>| value.as_ref().map_or_else(|| "(none)".to_owned(), ToString::to_string);
        out += &format!(
            "param {}: {} -> {}\n",
            change.name,
            paint(red, &shown(&change.old)),
            paint(green, &shown(&change.new))
        );
    }
    if stat {
        let width = diff.files.iter().map(|change| change.path.to_string().chars().count()).max().unwrap_or(0);
        for change in &diff.files {
            let path = change.path.to_string();
            let pad = " ".repeat(width - path.chars().count());
            let counts = match change {
                Change { binary: true, .. } => "binary".to_owned(),
                change => format!(
                    "{} {}",
                    paint(green, &format!("+{}", change.added_lines)),
                    paint(red, &format!("-{}", change.removed_lines))
                ),
            };
            out += &format!("{path}{pad} | {counts}{}\n", note(change.kind));
        }
        let (added, removed) = diff.files.iter().fold((0, 0), |(a, r), c| (a + c.added_lines, r + c.removed_lines));
        let files = counted(diff.files.len() as u64, "file", "files");
        let (added, removed) = (counted(added, "line", "lines"), counted(removed, "line", "lines"));
        out += &format!("{files} changed, {added} added, {removed} removed\n");
        return out;
    }
    for change in &diff.files {
        let path = change.path.to_string();
        let (old, new) = match change.kind {
            ChangeKind::Added => ("/dev/null".to_owned(), format!("b/{path}")),
            ChangeKind::Removed => (format!("a/{path}"), "/dev/null".to_owned()),
            ChangeKind::Modified | ChangeKind::TypeChanged => (format!("a/{path}"), format!("b/{path}")),
        };
        if change.binary {
            out += &paint(bold, &format!("Binary files {old} and {new} differ\n"));
            continue;
        }
        out += &paint(bold, &format!("--- {old}\n+++ {new}{}\n", note(change.kind)));
        for line in change.hunks.lines() {
            let code = match line.bytes().next() {
                Some(b'@') => Some(cyan),
                Some(b'+') => Some(green),
                Some(b'-') => Some(red),
                _ => None,
            };
            out += &code.map_or_else(|| line.to_owned(), |code| paint(code, line));
            out.push('\n');
        }
    }
    out
}

fn note(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Added => " (new)",
        ChangeKind::Removed => " (gone)",
        ChangeKind::Modified => "",
        ChangeKind::TypeChanged => " (type or executable bit changed)",
    }
}
