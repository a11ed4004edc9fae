//! The text of a cell as plain Python: IPython's commands become the calls that IPython makes of them. The lines stay
//! the lines.
//!
//! The parser knows IPython's syntax too, but ends the process over some of what is damaged.

/// Cell magics whose body is Python that runs.
const KEPT_BODIES: &[&str] = &[
    "time",
    "timeit",
    "capture",
    "prun",
    "python",
    "python3",
    "memit",
    "mprun",
    "lprun",
    "debug",
    "pyinstrument",
    "snakeviz",
    "heat",
    "scalene",
    "px",
    "skip",
    "notify",
    "wandb",
    "cache",
];

/// The text of a cell with what is not Python taken out or made Python.
pub(super) fn python_of(text: &str) -> String {
    let start = text.len() - text.trim_start().len();
    let (head, rest) = text.split_at_checked(start).unwrap_or(("", text));
    let Some(magic) = rest.strip_prefix("%%") else { return Cell::default().transformed(text) };
    let (line, body) = magic.split_at_checked(end_of_line(magic)).unwrap_or((magic, ""));
    let name = line.split_whitespace().next().unwrap_or_default();
    let body = match name {
        _ if KEPT_BODIES.contains(&name) => Cell::default().transformed(body),
        "bash" | "sh" => Cell::default().transformed(&commands_of(body)),
        _ => blank(body),
    };
    format!("{}{body}", blank(head))
}

/// The lines of a shell, as IPython's commands.
fn commands_of(body: &str) -> String {
    let line = |line: &str| match line.trim_start() {
        "" => line.to_owned(),
        command if command.starts_with('#') || command.trim_end().is_empty() => blank(line),
        command => format!("!{command}"),
    };
    body.split_inclusive('\n').map(line).collect()
}

/// The line ends of a text.
pub(super) fn blank(text: &str) -> String {
    text.chars().filter(|c| matches!(c, '\n' | '\r')).collect()
}

fn end_of_line(text: &str) -> usize {
    text.find(['\n', '\r']).unwrap_or(text.len())
}

/// Where a line of a cell begins: in a statement that goes on, or with a new one.
#[derive(Debug, Default)]
struct Cell {
    /// Brackets that are open.
    depth: usize,
    /// The quotes of a string that goes on.
    quotes: Option<&'static str>,
    /// Whether the line before ended with a backslash.
    continues: bool,
}

/// What of IPython is in a line of Python.
enum Escape {
    /// A command, from an offset on.
    Value(usize),
    /// `name?`.
    Help,
}

impl Cell {
    fn transformed(mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while !rest.is_empty() {
            let indent = rest.len() - rest.trim_start_matches([' ', '\t', '\x0c']).len();
            let (line, after) = rest.split_at_checked(end_of_line(rest)).unwrap_or((rest, ""));
            let is_command =
                self.begins_statement() && line.get(indent..).is_some_and(|line| line.starts_with(['%', '!', '?']));
            let escape = if is_command { Some(Escape::Value(indent)) } else { self.line(line) };
            rest = match escape {
                // What follows belongs to the command, over the lines that it has.
                Some(Escape::Value(at)) => {
                    let (before, from) = rest.split_at_checked(at).unwrap_or((rest, ""));
                    let (command, after) = command(from);
                    out.push_str(before);
                    out.push_str(&call(command));
                    out.push_str(&blank(command));
                    after
                }
                Some(Escape::Help) => {
                    out.push_str(line.get(..indent).unwrap_or_default());
                    out.push_str("pass");
                    after
                }
                None => {
                    out.push_str(line);
                    after
                }
            };
            let (end, after) = rest.split_at_checked(end_bytes(rest)).unwrap_or((rest, ""));
            out.push_str(end);
            rest = after;
        }
        out
    }

    fn begins_statement(&self) -> bool {
        self.depth == 0 && self.quotes.is_none() && !self.continues
    }

    /// Goes over a line of Python.
    fn line(&mut self, line: &str) -> Option<Escape> {
        let began = self.begins_statement();
        self.continues = false;
        let mut rest = line;
        while let Some(c) = rest.chars().next() {
            let after = rest.get(c.len_utf8()..).unwrap_or_default();
            rest = match (self.quotes, c) {
                (Some(_), '\\') => after.get(after.chars().next().map_or(0, char::len_utf8)..).unwrap_or_default(),
                (Some(quotes), _) => match rest.strip_prefix(quotes) {
                    Some(after) => {
                        self.quotes = None;
                        after
                    }
                    None => after,
                },
                (None, '"' | '\'') => {
                    self.quotes = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quotes| rest.starts_with(quotes));
                    rest.get(self.quotes.map_or(1, str::len)..).unwrap_or_default()
                }
                (None, '#') => break,
                (None, '(' | '[' | '{') => {
                    self.depth += 1;
                    after
                }
                (None, ')' | ']' | '}') => {
                    self.depth = self.depth.saturating_sub(1);
                    after
                }
                (None, '=') if self.depth == 0 && began => {
                    let value = after.trim_start_matches([' ', '\t']);
                    // Nothing of Python begins so.
                    if value.starts_with(['!', '%']) && !value.starts_with("!=") && !value.starts_with("%=") {
                        return Some(Escape::Value(line.len() - value.len()));
                    }
                    after
                }
                (None, '?') if began && self.depth == 0 && after.trim_start_matches('?').trim().is_empty() => {
                    return Some(Escape::Help);
                }
                (None, '\\') if after.is_empty() => {
                    self.continues = true;
                    after
                }
                _ => after,
            };
        }
        // Only strings of three quotes go on, and others behind a backslash.
        if self.quotes.is_some_and(|quotes| quotes.len() == 1) && !line.ends_with('\\') {
            self.quotes = None;
        }
        None
    }
}

/// How many bytes of a line end a text begins with.
fn end_bytes(text: &str) -> usize {
    if text.starts_with("\r\n") { 2 } else { usize::from(text.starts_with(['\n', '\r'])) }
}

/// A command with the lines that belong to it, and what comes behind.
fn command(text: &str) -> (&str, &str) {
    let mut end = end_of_line(text);
    while text.get(..end).is_some_and(|line| line.ends_with('\\')) {
        let next = end + end_bytes(text.get(end..).unwrap_or_default());
        if next >= text.len() {
            break;
        }
        end = next + end_of_line(text.get(next..).unwrap_or_default());
    }
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// The call that IPython makes of a command.
fn call(command: &str) -> String {
    let joined = command.replace("\\\r\n", " ").replace("\\\n", " ").replace("\\\r", " ");
    let literal = |text: &str| {
        let escaped = text.trim().replace('\\', "\\\\").replace('"', "\\\"").replace(['\r', '\n'], " ");
        format!("\"{escaped}\"")
    };
    if let Some(line) = joined.strip_prefix('!') {
        format!("get_ipython().system({})", literal(line.trim_start_matches('!')))
    } else if let Some(line) = joined.strip_prefix('%') {
        format!("get_ipython().magic({})", literal(line.trim_start_matches('%')))
    } else {
        "pass".to_owned()
    }
}
