//! A notebook's code cells as one Python source, with a way back from its lines to the cells.
//!
//! Commands of IPython are understood: what `%run`, `!python` and their like load is in the scan like any import or
//! file. `%cd` is not followed.

use std::borrow::Cow;

use ruff_python_parser::{Mode, ParseOptions, parse_cells_unchecked};
use ruff_text_size::{TextRange, TextSize};
use serde::Deserialize;

use super::source::{Depth, Lines, Problem, Scan, Target, Walker};

/// A longer file is refused.
const MAX_BYTES: usize = 64 << 20;
/// And so is more code.
const MAX_SOURCE_BYTES: usize = 16 << 20;

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
    "autopx",
    "skip",
    "notify",
    "wandb",
    "mlflow_run",
    "measure_energy",
    "cache",
];

/// A notebook as one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notebook {
    /// Its code cells.
    pub cells: Vec<Cell>,
    /// The text of all of them; where a cell is not Python, its lines are empty.
    pub source: String,
}

/// A code cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// Its place among all cells of the notebook, from 1.
    pub number: u32,
    /// The line of the source that it begins with, from 1.
    pub first_line: u32,
    /// The bytes of the source that it has.
    range: TextRange,
}

impl Notebook {
    /// The number of the cell that a line of the source is in, and the line there, both from 1.
    pub fn place_of(&self, line: u32) -> (u32, u32) {
        let after = self.cells.partition_point(|cell| cell.first_line <= line);
        match after.checked_sub(1).and_then(|at| self.cells.get(at)) {
            Some(cell) => (cell.number, line - cell.first_line + 1),
            None => (1, line),
        }
    }

    /// Reads the source: as [`super::source::scan`], with IPython's commands.
    pub fn scan(&self, target: &Target) -> Scan {
        let lines = Lines::new(&self.source);
        let mut depth = Depth::default();
        for cell in &self.cells {
            let text = self.source.get(cell.range.to_std_range()).unwrap_or_default();
            match Depth::of(text, Mode::Ipython) {
                Ok(own) => depth = depth.max(own),
                Err(refused) => {
                    let problem = Problem { line: cell.first_line, ..refused };
                    return Scan { problem: Some(problem), ..Scan::default() };
                }
            }
        }
        depth.with_stack(|| {
            let options = ParseOptions::from(Mode::Ipython);
            let parsed = parse_cells_unchecked(&self.source, self.cells.iter().map(|cell| cell.range), &options);
            let mut scan = Walker::new(&lines, target, &parsed.syntax().body).walk(&parsed.syntax().body);
            scan.problem = parsed
                .errors()
                .first()
                .map(|error| Problem { line: lines.of(error.location.start()), message: error.error.to_string() });
            scan
        })
    }
}

/// Reads a notebook and its source. The lines of the scan are the source's: [`Notebook::place_of`] leads to the cells.
pub fn scan(bytes: &[u8], target: &Target) -> Result<(Scan, Notebook), String> {
    let notebook = source_of(bytes)?;
    Ok((notebook.scan(target), notebook))
}

/// The file, of either format; what is not named here is skipped.
#[derive(Deserialize)]
struct File {
    cells: Option<Vec<FileCell>>,
    worksheets: Option<Vec<Worksheet>>,
    #[serde(default)]
    metadata: serde_json::Value,
}

/// nbformat 3 has its cells in these.
#[derive(Deserialize)]
struct Worksheet {
    #[serde(default)]
    cells: Vec<FileCell>,
}

#[derive(Deserialize)]
struct FileCell {
    cell_type: Option<String>,
    source: Option<Text>,
    /// nbformat 3.
    input: Option<Text>,
    /// nbformat 3.
    language: Option<String>,
    #[serde(default)]
    metadata: serde_json::Value,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Whole(String),
    Lines(Vec<String>),
}

/// Reads a notebook; an error says why it is none, or none of Python.
pub fn source_of(bytes: &[u8]) -> Result<Notebook, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("over {MAX_BYTES} bytes long"));
    }
    let bytes = bytes.strip_prefix(&[0xef, 0xbb, 0xbf]).unwrap_or(bytes);
    let file: File = serde_json::from_slice(bytes).map_err(|e| format!("not a notebook: {e}"))?;
    let metadata = |[key, inner]: [&str; 2]| file.metadata.get(key).and_then(|value| value.get(inner)?.as_str());
    // What the kernel said when it ran goes before what was chosen.
    let language = metadata(["language_info", "name"]).or_else(|| metadata(["kernelspec", "language"]));
    if let Some(language) = language.filter(|language| !is_python(language)) {
        return Err(format!("a notebook of another language: {language}"));
    }
    let cells = match (file.cells, file.worksheets) {
        (Some(cells), _) => cells,
        (None, Some(worksheets)) => worksheets.into_iter().flat_map(|worksheet| worksheet.cells).collect(),
        (None, None) => return Err("not a notebook: it has no cells".into()),
    };
    let mut notebook = Notebook::default();
    let mut line = 1u32;
    for (at, cell) in cells.into_iter().enumerate() {
        if cell.cell_type.as_deref() != Some("code") {
            continue;
        }
        let text = match cell.source.or(cell.input) {
            Some(Text::Whole(text)) => text,
            Some(Text::Lines(lines)) => lines.concat(),
            None => continue,
        };
        let own = cell.metadata.get("vscode").and_then(|own| own.get("languageId")?.as_str().map(str::to_owned));
        let is_ours = own.or(cell.language).is_none_or(|language| is_python(&language));
        let text = if is_ours { python_of(&text) } else { Cow::Owned(blank(&text)) };
        if notebook.source.len() + text.len() > MAX_SOURCE_BYTES {
            return Err(format!("over {MAX_SOURCE_BYTES} bytes of code"));
        }
        let size = |text: &str| TextSize::try_from(text.len()).map_err(|e| e.to_string());
        let range = TextRange::at(size(&notebook.source)?, size(&text)?);
        notebook.cells.push(Cell { number: u32::try_from(at + 1).unwrap_or(u32::MAX), first_line: line, range });
        notebook.source.push_str(&text);
        notebook.source.push('\n');
        line = line.saturating_add(lines_of(&text));
    }
    Ok(notebook)
}

fn is_python(language: &str) -> bool {
    let language = language.to_ascii_lowercase();
    matches!(
        language.trim_start_matches('i').trim_end_matches(|c: char| c.is_ascii_digit() || c == '.'),
        "python" | "sage"
    )
}

/// How many lines a cell has, with the end that follows it.
fn lines_of(text: &str) -> u32 {
    // The end that follows goes with a `\r` before it.
    let end = TextSize::try_from(text.len() + 1).unwrap_or_default();
    Lines::new(&format!("{text}\n")).of(end) - 1
}

/// The text of a cell with what is not Python taken out, line by line.
fn python_of(text: &str) -> Cow<'_, str> {
    let start = text.len() - text.trim_start().len();
    let Some(magic) = text.get(start..).and_then(|rest| rest.strip_prefix("%%")) else { return Cow::Borrowed(text) };
    let end = magic.find(['\n', '\r']).unwrap_or(magic.len());
    let (line, body) = magic.split_at_checked(end).unwrap_or((magic, ""));
    let name = line.split_whitespace().next().unwrap_or_default();
    let body = match name {
        _ if KEPT_BODIES.contains(&name) => body.to_owned(),
        "bash" | "sh" => commands_of(body),
        _ => blank(body),
    };
    Cow::Owned(format!("{}{body}", blank(text.get(..start).unwrap_or_default())))
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
fn blank(text: &str) -> String {
    text.chars().filter(|c| matches!(c, '\n' | '\r')).collect()
}

#[cfg(test)]
mod tests;
