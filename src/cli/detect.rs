use std::path::{Path, PathBuf};

use foldhash::{HashMap, HashSet};
use runsnap::Result;
use runsnap::operations::detect::{Choice, Detected, detect};
use runsnap::store::OUTSIDE_FOLDER;
use runsnap::tracked_files::imports::{Certainty, Line, Reason, ReasonKind, UsedFile};
use runsnap::tracked_path::TrackedPath;
use serde_json::{Map, Value, json};

use super::context::Context;
use super::output::{Outcome, counted, print, print_json, warn};
use super::program::ProgramArguments;

/// Tell a run's entry point, the files that a capture would track, and why
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    program: ProgramArguments,
    /// Tell the entry point alone, not its files
    #[arg(long)]
    entry_only: bool,
}

pub fn run(context: &Context, arguments: Arguments) -> Result<Outcome> {
    let detected = detect(&arguments.program.target()?, !arguments.entry_only)?;
    let selection = detected.choice.as_ref().map(|choice| &choice.selection);
    let warnings = selection.map_or(&detected.start.warnings, |selection| &selection.warnings);
    for warning in warnings {
        warn(warning);
    }
    if context.json {
        print_json(&told(&detected, warnings))?;
    } else {
        print(&text(&detected))?;
    }
    let outcome = Outcome::problems_if(selection.is_some_and(|selection| selection.has_problems));
    // The process ends: to take it all apart first is lost time.
    std::mem::forget(detected);
    Ok(outcome)
}

/// All that is known, as JSON.
fn told(detected: &Detected, warnings: &[String]) -> Value {
    let start = &detected.start;
    let (major, minor, micro) = start.interpreter.version;
    let python = json!({
        "executable": start.interpreter.executable,
        "version": format!("{major}.{minor}.{micro}"),
        "platform": start.interpreter.platform,
    });
    let mut out = json!({
        "entry_point": detected.entry_point,
        "root": start.root,
        "working_folder": start.working_folder,
        "python": python,
        "warnings": warnings,
    });
    let (Some(choice), Value::Object(fields)) = (&detected.choice, &mut out) else { return out };
    let Choice { selection, analysis } = choice;
    let file = |(path, disk): (&TrackedPath, &PathBuf)| {
        let reason = analysis.files.get(path).map(|file| &file.reason);
        file_json(detected, path, disk, reason)
    };
    let type_only = analysis.type_only.iter().map(|(path, f)| file_json(detected, path, &f.disk, Some(&f.reason)));
    let unresolved = analysis.unresolved.iter().map(|import| {
        json!({ "module": import.module, "certainty": import.certainty, "by": line_json(detected, &import.by) })
    });
    let data = analysis.large.iter().map(|large| {
        let mut fields = path_json(&large.path);
        fields.insert("bytes".to_owned(), json!(large.bytes));
        fields.insert("id".to_owned(), json!(large.id));
        fields.insert("by".to_owned(), line_json(detected, &large.by));
        Value::Object(fields)
    });
    let problems = analysis.problems.iter().map(|(path, (line, message))| {
        let mut fields = path_json(path);
        fields.insert("line".to_owned(), json!(line));
        fields.insert("message".to_owned(), json!(message));
        Value::Object(fields)
    });
    let lists: [(&str, Value); 9] = [
        ("tracked_by", json!(selection.tracked_by)),
        ("files", selection.files.iter().map(file).collect()),
        ("type_only", type_only.collect()),
        ("unresolved", unresolved.collect()),
        ("installed", json!(analysis.installed)),
        ("data", data.collect()),
        ("problems", problems.collect()),
        ("left_out", json!(selection.left_out)),
        ("outside", json!(selection.outside)),
    ];
    fields.extend(lists.map(|(name, value)| (name.to_owned(), value)));
    out
}

fn path_json(path: &TrackedPath) -> Map<String, Value> {
    match serde_json::to_value(path) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

fn file_json(detected: &Detected, path: &TrackedPath, disk: &Path, reason: Option<&Reason>) -> Value {
    let mut fields = path_json(path);
    let kind = reason.map_or(ReasonKind::StrategyYaml, |reason| reason.kind);
    fields.insert("reason".to_owned(), json!(kind));
    if let Some(reason) = reason {
        fields.insert("certainty".to_owned(), json!(reason.certainty));
        if let Some(module) = &reason.module {
            fields.insert("module".to_owned(), json!(module));
        }
        if let Some(by) = &reason.by {
            fields.insert("by".to_owned(), line_json(detected, by));
        }
        if reason.is_assumed {
            fields.insert("assumed".to_owned(), json!(true));
        }
    }
    let mut parts = path.parts();
    if let (Some(first), Some(label)) = (parts.next(), parts.next())
        && first == OUTSIDE_FOLDER.as_bytes()
    {
        fields.insert("outside".to_owned(), json!(String::from_utf8_lossy(label)));
        fields.insert("real_path".to_owned(), json!(disk));
    }
    Value::Object(fields)
}

fn line_json(detected: &Detected, line: &Line) -> Value {
    let mut fields = Map::new();
    if let Some(file) = &line.file {
        fields.insert("path".to_owned(), json!(shown(detected, file)));
    }
    fields.insert("line".to_owned(), json!(line.line));
    if let Some(cell) = line.cell {
        fields.insert("cell".to_owned(), json!(cell));
    }
    Value::Object(fields)
}

/// A path relative to the project where it lies in it.
fn shown(detected: &Detected, path: &Path) -> String {
    path.strip_prefix(&detected.start.root).unwrap_or(path).to_string_lossy().into_owned()
}

/// All that matters, for people: a tree in which each file stands below the one that brought it in.
fn text(detected: &Detected) -> String {
    let start = &detected.start;
    let entry = &detected.entry_point;
    let name = match (&entry.module, &entry.path) {
        (Some(module), Some(path)) => format!("{module} ({path})"),
        (None, Some(path)) => path.to_string(),
        _ => "none".to_owned(),
    };
    let kind = serde_json::to_value(entry.kind).ok().and_then(|kind| kind.as_str().map(|k| k.replace('_', " ")));
    let launcher = entry.launcher.as_ref().map(|launcher| format!(", started by {launcher}")).unwrap_or_default();
    let (major, minor, micro) = start.interpreter.version;
    let python = start.interpreter.executable.as_ref().map_or("none found".into(), |python| python.to_string_lossy());
    let mut out = format!(
        "entry point  {name}, {}{launcher}\nproject      {}\npython       {python} ({major}.{minor}.{micro})\n",
        kind.unwrap_or_default(),
        start.root.display()
    );
    let Some(Choice { selection, analysis }) = &detected.choice else { return out };
    out.push('\n');
    // Each file below what brought it in; those of strategy.yaml that nothing brings in come first.
    let files: Vec<(&TrackedPath, Option<&UsedFile>)> =
        selection.files.keys().map(|path| (path, analysis.files.get(path))).collect();
    let known: HashSet<&Path> = files.iter().filter_map(|(_, used)| Some(used.as_ref()?.found.as_path())).collect();
    let mut below: HashMap<Option<&Path>, Vec<(&TrackedPath, Option<&UsedFile>)>> = HashMap::default();
    for (path, used) in files {
        let by = used.and_then(|file| file.reason.by.as_ref()).and_then(|by| by.file.as_deref());
        let by = by.filter(|by| known.contains(by) && used.is_none_or(|used| used.found != **by));
        below.entry(by).or_default().push((path, used));
    }
    for files in below.values_mut() {
        files
            .sort_by_key(|(path, used)| (used.map(|used| used.reason.by.as_ref().map(|by| (by.cell, by.line))), *path));
    }
    let mut waiting: Vec<(usize, &TrackedPath, Option<&UsedFile>)> = Vec::new();
    let push = |waiting: &mut Vec<(usize, _, _)>, depth: usize, by: Option<&Path>| {
        let files = below.get(&by).into_iter().flatten().rev();
        waiting.extend(files.map(|(path, used)| (depth, *path, *used)));
    };
    push(&mut waiting, 0, None);
    while let Some((depth, path, used)) = waiting.pop() {
        out.extend(std::iter::repeat_n("  ", depth));
        out += &path.to_string();
        out += &used.map(|used| why(&used.reason)).unwrap_or_default();
        out.push('\n');
        // Links stand before what they lead to, and nothing stands below them.
        if let Some(used) = used
            && !used.is_link
        {
            push(&mut waiting, depth + 1, Some(&used.found));
        }
    }
    out += &format!("\n{}\n", counted(selection.files.len() as u64, "file", "files"));
    let list = |out: &mut String, title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            *out += &format!("\n{title}\n{}\n", lines.iter().map(|l| format!("  {l}")).collect::<Vec<_>>().join("\n"));
        }
    };
    let place = |by: &Line| place(detected, by);
    let lines =
        analysis.large.iter().map(|f| format!("{} ({}), {}", f.path, super::output::bytes(f.bytes), place(&f.by)));
    list(&mut out, "named, but too long to be tracked:", lines.collect());
    let lines = analysis.type_only.keys().map(ToString::to_string);
    list(&mut out, "read by type checkers alone:", lines.collect());
    let lines = analysis.unresolved.iter().map(|import| {
        let certainty = if import.certainty == Certainty::Certain { "" } else { ", perhaps never reached" };
        format!("{}, {}{certainty}", import.module, place(&import.by))
    });
    list(&mut out, "imported, but not found:", lines.collect());
    let installed: Vec<&str> = analysis.installed.iter().map(String::as_str).collect();
    if !installed.is_empty() {
        out += &format!("\ninstalled packages: {}\n", installed.join(", "));
    }
    out
}

fn place(detected: &Detected, by: &Line) -> String {
    let file = by.file.as_ref().map_or_else(|| "the command".to_owned(), |file| shown(detected, file));
    match by.cell {
        Some(cell) => format!("{file}, cell {cell}, line {}", by.line),
        None if by.line == 0 => file,
        None => format!("{file}:{}", by.line),
    }
}

/// Why a file is tracked, in a few words after its name.
fn why(reason: &Reason) -> String {
    let how = match reason.kind {
        ReasonKind::EntryPoint if reason.by.is_none() => return String::new(),
        ReasonKind::EntryPoint => "entry point",
        ReasonKind::Import => "import",
        ReasonKind::PackageInit => "package",
        ReasonKind::DynamicImport => "dynamic import",
        ReasonKind::Plugin => "plugin by an entry point",
        ReasonKind::Run => "run",
        ReasonKind::Source => "source of it",
        ReasonKind::Library => "library",
        ReasonKind::Opened => "data",
        ReasonKind::Argument => "argument",
        ReasonKind::StrategyYaml => "listed",
    };
    let line = match reason.by.as_ref() {
        Some(Line { line: 0, .. }) | None => String::new(),
        Some(Line { line, cell: Some(cell), .. }) => format!(", cell {cell}, line {line}"),
        Some(Line { line, .. }) => format!(", line {line}"),
    };
    let certainty = match reason.certainty {
        Certainty::Certain | Certainty::TypeOnly => "",
        Certainty::Conditional => ", conditional",
        Certainty::Lazy => ", in a function",
    };
    let assumed = if reason.is_assumed { ", not on the search path" } else { "" };
    format!("  ({how}{line}{certainty}{assumed})")
}
