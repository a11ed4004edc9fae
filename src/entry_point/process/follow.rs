//! From the process that was named to the one that runs the program.

use std::collections::BTreeSet;
use std::path::Path;

use super::proc_files::{Snapshot, children, look, unclear};
use crate::error::{Error, Result};
use crate::python::command_line::{PythonCommand, is_python};

/// Generations of processes.
const MAX_DEPTH: usize = 32;
/// Processes that are looked at below a wrapper.
const MAX_PROCESSES: usize = 4096;

/// The process that runs the program, and those over which it was found.
pub fn to_program(proc: &Path, pid: u32) -> Result<(Snapshot, Vec<u32>)> {
    let mut found = look(proc, pid)?;
    let mut followed = Vec::new();
    if !is_a_python(&found) {
        found = below(proc, found, &mut followed)?;
    }
    while is_worker(&found) {
        if followed.len() >= MAX_DEPTH || found.parent <= 1 {
            return Err(unclear(found.pid, "is a worker whose program has ended"));
        }
        followed.push(found.pid);
        let above = look(proc, found.parent)?;
        // Who starts workers is a Python, or stands in for one.
        if !is_a_python(&above) {
            return Err(unclear(pid, "is a worker of something that is no Python"));
        }
        found = above;
    }
    Ok((found, followed))
}

/// Whether the process itself is a Python, whatever it calls itself.
fn is_a_python(process: &Snapshot) -> bool {
    let name = process.resolved.file_name().unwrap_or_default().to_string_lossy();
    is_python(name.strip_suffix(" (deleted)").unwrap_or(&name))
}

fn is_worker(process: &Snapshot) -> bool {
    process.command.as_ref().is_some_and(PythonCommand::is_worker)
}

/// The Python that a wrapper has started, generation after generation.
fn below(proc: &Path, wrapper: Snapshot, followed: &mut Vec<u32>) -> Result<Snapshot> {
    let mut generation = vec![(wrapper.pid, Vec::new())];
    let mut seen = BTreeSet::from([wrapper.pid]);
    for _ in 0..MAX_DEPTH {
        let (mut pythons, mut next) = (Vec::new(), Vec::new());
        for (pid, over) in generation {
            for child in children(proc, pid) {
                if seen.len() >= MAX_PROCESSES || !seen.insert(child) {
                    continue;
                }
                let mut over: Vec<u32> = over.clone();
                over.push(pid);
                match look(proc, child) {
                    Ok(process) if is_a_python(&process) => {
                        if !is_worker(&process) {
                            pythons.push((process, over));
                        }
                    }
                    // What belongs to others may still have started something of the user's, as sudo does.
                    Ok(_) | Err(Error::ForeignProcess { .. }) => next.push((child, over)),
                    Err(_) => {}
                }
            }
        }
        if let Some((first, over)) = one_of(wrapper.pid, pythons)? {
            followed.extend(over);
            return Ok(launched_by(&wrapper, first));
        }
        if next.is_empty() {
            break;
        }
        generation = next;
    }
    let has_said =
        if wrapper.command.is_some() { "has started no Python" } else { "is no Python and has started none" };
    Err(unclear(wrapper.pid, has_said))
}

/// One of those that run the same program.
fn one_of(wrapper: u32, pythons: Vec<(Snapshot, Vec<u32>)>) -> Result<Option<(Snapshot, Vec<u32>)>> {
    let numbers: Vec<String> = pythons.iter().map(|(python, _)| python.pid.to_string()).collect();
    let mut pythons = pythons.into_iter();
    let Some(first) = pythons.next() else { return Ok(None) };
    if pythons.all(|(other, _)| other.argv == first.0.argv && other.folder == first.0.folder) {
        return Ok(Some(first));
    }
    Err(unclear(wrapper, format!("has started several Pythons: name one of {}", numbers.join(", "))))
}

/// What the wrapper's command line tells of launchers belongs to the program's.
fn launched_by(wrapper: &Snapshot, mut python: Snapshot) -> Snapshot {
    let outer = wrapper.command.as_ref().and_then(|command| command.launcher.clone());
    if let (Some(outer), Some(command)) = (outer, &mut python.command) {
        command.launcher = Some(match command.launcher.take() {
            Some(inner) if !outer.ends_with(&inner) => format!("{outer}, {inner}"),
            _ => outer,
        });
    }
    python
}
