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

pub fn print_json<T: Serialize>(value: &T) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|e| Error::Usage(format!("Cannot write JSON: {e}")))?;
    bytes.push(b'\n');
    print_bytes(&bytes)
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
        Error::NameInUse { .. } => Some("choose another --run name, or leave it out"),
        Error::NoSuchPath { .. } => Some("`runsnap show RUN` lists its files"),
        Error::NotEmpty { .. } => Some("choose a new folder, or --force to write into this one"),
        Error::Missing { .. } | Error::MissingBase { .. } | Error::Damaged { .. } => {
            Some("`runsnap verify --read-data` tells what is hit, `runsnap repair` saves what can be saved")
        }
        Error::Io { source, .. } => match source.kind() {
            io::ErrorKind::StorageFull => Some("free some space and try again: nothing that was stored is lost"),
            io::ErrorKind::ReadOnlyFilesystem => Some("captures need a store that can be written"),
            _ => None,
        },
        Error::Usage(_) => None,
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

/// Text in columns, the first row being the heading; numbers to the right.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let is_number = |column: usize| {
        let mut cells =
            rows.iter().skip(1).filter_map(|row| row.get(column)).filter(|cell| !cell.is_empty()).peekable();
        // A number may have a unit after it. Times and ids begin with digits as well.
        let is_one = |cell: &String| cell.split(' ').next().is_some_and(|word| word.parse::<f64>().is_ok());
        cells.peek().is_some() && cells.all(is_one)
    };
    let right: Vec<bool> = (0..columns).map(is_number).collect();
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for ((cell, width), right) in row.iter().zip(&widths).zip(&right) {
            let pad = " ".repeat(width - cell.chars().count());
            line += &if *right { format!("{pad}{cell}  ") } else { format!("{cell}{pad}  ") };
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
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
