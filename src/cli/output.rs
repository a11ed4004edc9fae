//! What goes to the terminal and how.

use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};
use runsnap::progress::Progress;
use runsnap::{Error, Result};
use serde::Serialize;

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All is well.
    Done,
    /// Done, but with problems that the output names.
    WithProblems,
}

impl Outcome {
    /// `WithProblems` where `problems` holds.
    pub fn problems_if(problems: bool) -> Self {
        if problems { Self::WithProblems } else { Self::Done }
    }
}

/// Writes to standard output. Who closes the other end of a pipe has seen enough: that ends the program quietly.
pub fn print_bytes(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(e) => Err(Error::io("write to", "standard output", e)),
        Ok(()) => Ok(()),
    }
}

pub fn print(text: &str) -> Result<()> {
    print_bytes(text.as_bytes())
}

/// Prints for whoever still reads. A command that works on for others does not end because nobody does.
pub fn print_if_read(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints JSON as it is made, so that a long list need not be in memory.
pub fn print_json<T: Serialize>(value: &T) -> Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from);
    match written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(e) => Err(Error::io("write to", "standard output", e)),
        Ok(()) => Ok(()),
    }
}

fn print_error_line(text: &str) {
    // There is nobody left to tell if this fails.
    let _ = writeln!(io::stderr().lock(), "{}", text.replace('\n', " "));
}

pub fn warn(message: &str) {
    print_error_line(&format!("warning: {message}"));
}

/// Prints an error and what to do about it, in one line.
pub fn error(error: &Error) {
    let hint = match error {
        Error::NoStore { .. } => Some("make one with `runsnap init`, or name one with --store DIR"),
        Error::NotAStore { .. } => Some("name a store's folder, or make one with `runsnap init --store DIR`"),
        Error::NewerFormat { .. } | Error::UnknownFeature { .. } => Some("use a newer runsnap"),
        Error::UnknownRun { .. } => Some("`runsnap list --all-projects` shows all runs"),
        Error::AmbiguousRun { .. } => Some("write more of it, or the id"),
        Error::Maintained { .. } => Some("try again later"),
        Error::WatcherStopped { .. } => {
            Some("let it go on or end it, then `runsnap show` with that id tells whether the run is there")
        }
        Error::NameInUse { .. } => Some("choose another --run name, or leave it out"),
        Error::NoSuchPath { .. } => Some("`runsnap show RUN` lists its files"),
        Error::NotEmpty { .. } => Some("choose a new folder, or --force to write into this one"),
        Error::NotAPython { .. } => Some("name a Python 3.9 or newer, or the folder of an environment"),
        Error::NoProcessFolder { .. } | Error::UnclearProcess { .. } => Some("name the script or module that it runs"),
        Error::NoSuchProcess { .. } => None,
        Error::ForeignProcess { .. } => Some("ask as that user, or name the script or module that it runs"),
        Error::Missing { .. } | Error::MissingBase { .. } | Error::Damaged { .. } => {
            Some("`runsnap verify --read-data` tells what is hit, `runsnap repair` saves what can be saved")
        }
        Error::Io { source, .. } => match source.kind() {
            io::ErrorKind::StorageFull => Some("free some space and try again: nothing that was stored is lost"),
            io::ErrorKind::ReadOnlyFilesystem => Some("captures need a store that can be written"),
            _ => None,
        },
        Error::Watched { .. } | Error::Usage(_) => None,
    };
    print_error_line(&match hint {
        Some(hint) => format!("error: {error}; {hint}"),
        None => format!("error: {error}"),
    });
}

/// Bytes as people read them: powers of 1,000.
pub fn bytes(count: u64) -> String {
    let mut value = count as f64;
    for unit in ["B", "KB", "MB", "GB"] {
        if value < 999.95 || (unit == "B" && count < 1000) {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    format!("{value:.1} TB")
}

/// A count with its noun.
pub fn counted(count: u64, one: &str, many: &str) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    format!("{out} {}", if count == 1 { one } else { many })
}

/// The widths of a table's columns, from its rows one after the other, the heading first.
#[derive(Default)]
pub struct Layout {
    widths: Vec<usize>,
    /// Whether all cells so far that are not empty are numbers; `None` before the first.
    numbers: Vec<Option<bool>>,
    has_heading: bool,
}

impl Layout {
    /// Takes a row into account.
    pub fn add(&mut self, row: &[String]) {
        let columns = self.widths.len().max(row.len());
        self.widths.resize(columns, 0);
        self.numbers.resize(columns, None);
        // A number may have a unit after it. Times and ids begin with digits as well.
        let is_number = |cell: &str| cell.split(' ').next().is_some_and(|word| word.parse::<f64>().is_ok());
        for ((cell, width), numbers) in row.iter().zip(&mut self.widths).zip(&mut self.numbers) {
            *width = cell.chars().count().max(*width);
            if self.has_heading && !cell.is_empty() {
                *numbers = Some(numbers.unwrap_or(true) && is_number(cell));
            }
        }
        self.has_heading = true;
    }

    /// A row as a line; numbers to the right.
    pub fn line(&self, row: &[String]) -> String {
        let mut line = String::new();
        for ((cell, width), numbers) in row.iter().zip(&self.widths).zip(&self.numbers) {
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            line += &if *numbers == Some(true) { format!("{pad}{cell}  ") } else { format!("{cell}{pad}  ") };
        }
        format!("{}\n", line.trim_end())
    }
}

/// Text in columns, the first row being the heading; numbers to the right.
pub fn table(rows: &[Vec<String>]) -> String {
    let mut layout = Layout::default();
    rows.iter().for_each(|row| layout.add(row));
    rows.iter().map(|row| layout.line(row)).collect()
}

/// Whether to colour what goes to standard output.
pub fn colours() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A progress bar on standard error, where that is a terminal.
#[derive(Default)]
pub struct Bar {
    bar: Mutex<Option<ProgressBar>>,
}

impl Bar {
    fn with(&self, act: impl FnOnce(&ProgressBar)) {
        if let Some(bar) = &*self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
            act(bar);
        }
    }
}

impl Progress for Bar {
    fn begin(&self, stage: &'static str, total: u64) {
        if !io::stderr().is_terminal() {
            return;
        }
        let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
        let bar = ProgressBar::new(total).with_message(stage);
        let bar = match style {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        };
        *self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(bar);
    }

    fn advance(&self, units: u64) {
        self.with(|bar| bar.inc(units));
    }

    fn end(&self) {
        self.with(ProgressBar::finish_and_clear);
    }

    fn warn(&self, message: &str) {
        self.with(ProgressBar::finish_and_clear);
        warn(message);
    }
}
