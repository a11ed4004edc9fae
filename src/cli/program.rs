//! How the user names a program: the arguments that `capture` and `detect` have in common.

use std::ffi::OsString;
use std::path::PathBuf;

use runsnap::entry_point::find::{Program, ProgramTarget};
use runsnap::{Error, Result};

use super::context::{cache_folder, current_folder};

/// A program, and who runs it.
#[derive(Debug, clap::Args)]
#[group(id = "program")]
pub struct ProgramArguments {
    /// What the run starts with: a script, a notebook, a zip archive, or a folder with a __main__.py
    #[arg(conflicts_with_all = ["module", "pid"])]
    entry: Option<PathBuf>,
    /// The module or package that the run starts with, as for `python -m`
    #[arg(short = 'm', value_name = "MODULE", conflicts_with = "pid")]
    module: Option<String>,
    /// A running process: what it runs
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// The Python that runs it [default: that of $VIRTUAL_ENV, of .venv in the project, else python3 on the PATH]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
    /// Data files that the code names are tracked up to this size, such as 500KB or 1MiB
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "1MiB")]
    data_limit: u64,
    /// What the program is given: files that are named there belong to the run, and modules may
    #[arg(last = true, value_name = "ARG", conflicts_with = "pid")]
    arguments: Vec<OsString>,
}

impl ProgramArguments {
    /// What they mean here and now.
    pub fn target(self) -> Result<ProgramTarget> {
        let program = match (self.entry, self.module, self.pid) {
            (Some(path), _, _) => Program::Path(path),
            (None, Some(module), _) => Program::Module(module),
            (None, None, Some(pid)) => Program::Process(pid),
            (None, None, None) => return Err(Error::Usage("Name a program, or a folder with --tree".into())),
        };
        Ok(ProgramTarget {
            arguments: self.arguments,
            working_folder: current_folder()?,
            variables: std::env::vars_os().collect(),
            python: self.python,
            data_bytes: self.data_limit,
            caches: cache_folder(),
            ..ProgramTarget::new(program)
        })
    }
}

/// Takes a size apart: a number, and perhaps a unit in powers of 1,000 (KB) or of 1,024 (KiB).
fn size(text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: u64 = number.parse().map_err(|_| "not a size: write a number, and KB, MiB or the like after it")?;
    let unit = match unit.trim().to_ascii_uppercase().as_str() {
        "" | "B" => 1,
        "K" | "KB" => 1_000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        "KIB" => 1 << 10,
        "MIB" => 1 << 20,
        "GIB" => 1 << 30,
        _ => return Err(format!("not a unit: {unit:?} (use B, KB, MB, GB, KiB, MiB or GiB)")),
    };
    number.checked_mul(unit).ok_or_else(|| "too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let sizes = ["0", "7B", "5KB", "5KiB", "1MiB", "2 gb"].map(|text| size(text).expect("a size"));
        assert_eq!(sizes, [0, 7, 5_000, 5_120, 1 << 20, 2_000_000_000]);
        for bad in ["", "KB", "1.5MB", "1XB", "-1", "99999999999999999999", "99999999999GiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
