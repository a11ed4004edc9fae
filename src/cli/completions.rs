use clap::CommandFactory;
use clap_complete::Shell;
use runsnap::Result;

use super::output::{Outcome, print_bytes};

/// Print a shell's completion script
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The shell
    shell: Shell,
}

pub fn run(arguments: &Arguments) -> Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::Arguments::command(), "runsnap", &mut script);
    print_bytes(&script)?;
    Ok(Outcome::Done)
}
