//! Programs that start another one, which their own arguments name.

use std::ffi::OsString;

use super::text;

/// How the arguments of such a program are passed over.
#[derive(Debug, Clone, Copy)]
pub struct Wrapper {
    /// Its names.
    names: &'static [&'static str],
    /// Letters of options that have a value.
    letters: &'static str,
    /// Long options that have a value which may stand apart.
    options: &'static [&'static str],
    /// How many other arguments come before the program.
    operands: usize,
    /// Whether arguments of the form `NAME=VALUE` set variables.
    has_assignments: bool,
}

const NONE: Wrapper = Wrapper { names: &[], letters: "", options: &[], operands: 0, has_assignments: false };

const WRAPPERS: &[Wrapper] = &[
    Wrapper {
        names: &["env"],
        letters: "uCS",
        options: &["unset", "chdir", "split-string"],
        has_assignments: true,
        ..NONE
    },
    Wrapper { names: &["nohup", "setsid", "exec", "command", "builtin", "unbuffer", "chronic"], ..NONE },
    Wrapper {
        names: &["catchsegv", "dumb-init", "fakeroot", "time"],
        letters: "fo",
        options: &["format", "output"],
        ..NONE
    },
    Wrapper { names: &["tini"], letters: "pe", ..NONE },
    Wrapper { names: &["nice"], letters: "n", options: &["adjustment"], ..NONE },
    Wrapper { names: &["ionice"], letters: "cnpPu", options: &["class", "classdata"], ..NONE },
    Wrapper { names: &["timeout", "gtimeout"], letters: "ks", options: &["kill-after", "signal"], operands: 1, ..NONE },
    Wrapper { names: &["stdbuf"], letters: "ioe", options: &["input", "output", "error"], ..NONE },
    Wrapper { names: &["taskset"], operands: 1, ..NONE },
    Wrapper { names: &["chrt"], letters: "TPD", operands: 1, ..NONE },
    Wrapper {
        names: &["numactl"],
        letters: "imNCp",
        options: &["interleave", "membind", "cpunodebind", "physcpubind", "preferred"],
        ..NONE
    },
    Wrapper {
        names: &["xvfb-run"],
        letters: "efnpsw",
        options: &["error-file", "auth-file", "server-num", "xauth-protocol", "server-args", "wait"],
        ..NONE
    },
    Wrapper {
        names: &["sudo", "doas"],
        letters: "ugCDhpRrTtU",
        options: &[
            "user",
            "group",
            "chdir",
            "host",
            "prompt",
            "chroot",
            "role",
            "type",
            "command-timeout",
            "other-user",
        ],
        has_assignments: true,
        ..NONE
    },
    Wrapper { names: &["gosu", "su-exec", "setpriv"], operands: 1, ..NONE },
    Wrapper {
        names: &["flock"],
        letters: "wEc",
        options: &["timeout", "wait", "conflict-exit-code"],
        operands: 1,
        ..NONE
    },
    Wrapper { names: &["strace", "ltrace"], letters: "aeEIopPsSuXbO", ..NONE },
    Wrapper { names: &["caffeinate"], letters: "tw", ..NONE },
    Wrapper {
        names: &["systemd-run"],
        letters: "pEMHu",
        options: &["property", "setenv", "unit", "slice", "description"],
        ..NONE
    },
    Wrapper { names: &["prlimit", "choom"], letters: "npu", ..NONE },
];

/// What a wrapper leads to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unwrapped {
    /// The program that it starts, with its arguments.
    pub command: Vec<OsString>,
    /// The folder that it goes to.
    pub folder: Option<OsString>,
    /// Variables that it sets, or removes.
    pub variables: Vec<(OsString, Option<OsString>)>,
    /// Whether it removes all others.
    pub is_bare: bool,
}

/// What a program starts, if it is a wrapper.
pub fn unwrap(name: &str, arguments: &[OsString]) -> Option<Unwrapped> {
    let wrapper = WRAPPERS.iter().find(|wrapper| wrapper.names.contains(&name))?;
    let mut found = Unwrapped::default();
    let mut operands = wrapper.operands;
    let mut rest = arguments;
    let mut is_behind = false;
    while let Some((first, behind)) = rest.split_first() {
        let said = text(first);
        if !is_behind && said.starts_with('-') && (said.len() > 1 || name == "env") {
            rest = behind;
            is_behind = said == "--";
            if is_behind {
                continue;
            }
            let option = said.trim_start_matches('-');
            let (option, attached) = match option.split_once('=') {
                Some((option, value)) => (option, Some(OsString::from(value))),
                None => (option, None),
            };
            let (option, value) = if said.starts_with("--") {
                (option.to_owned(), attached.or_else(|| next_if(wrapper.options.contains(&option), &mut rest)))
            } else {
                short(wrapper.letters, &said, &mut rest)
            };
            note(name, &option, value, &mut found, &mut rest);
            continue;
        }
        if let (true, Some((variable, value))) = (wrapper.has_assignments, said.split_once('=')) {
            found.variables.push((variable.into(), Some(value.into())));
            rest = behind;
            continue;
        }
        if operands == 0 {
            break;
        }
        operands -= 1;
        rest = behind;
    }
    found.command.extend(rest.iter().cloned());
    Some(found)
}

fn next_if(has_value: bool, rest: &mut &[OsString]) -> Option<OsString> {
    let (first, behind) = rest.split_first().filter(|_| has_value)?;
    *rest = behind;
    Some(first.clone())
}

/// A cluster of letters: the first that has a value ends it.
fn short(with_value: &str, said: &str, rest: &mut &[OsString]) -> (String, Option<OsString>) {
    let letters = said.trim_start_matches('-');
    let Some(at) = letters.find(|letter| with_value.contains(letter)) else { return (letters.to_owned(), None) };
    let (before, option) = letters.split_at_checked(at).unwrap_or_default();
    let mut behind = option.chars();
    let letter = behind.next().map(String::from).unwrap_or_default();
    // `-iS` of env: what comes before counts as well.
    let option = if before.is_empty() { letter } else { format!("{before}{letter}") };
    match behind.as_str() {
        "" => (option, next_if(true, rest)),
        attached => (option, Some(attached.into())),
    }
}

/// What the options of single wrappers mean.
fn note(name: &str, option: &str, value: Option<OsString>, found: &mut Unwrapped, rest: &mut &[OsString]) {
    match (name, option, value) {
        ("env", "" | "i" | "ignore-environment", _) => found.is_bare = true,
        ("env", "u" | "unset", Some(variable)) => found.variables.push((variable, None)),
        ("env", "C" | "chdir", Some(folder)) | ("sudo", "D" | "chdir", Some(folder)) => found.folder = Some(folder),
        ("env", split, Some(value)) if split.ends_with('S') || split == "split-string" => {
            found.is_bare |= split.starts_with('i');
            let words = super::shell::commands(&text(&value), &[], &Default::default());
            let words = words.into_iter().flatten();
            let (set, command): (Vec<_>, Vec<_>) = words.partition(|word| super::shell::assignment(word).is_some());
            for word in &set {
                let (variable, value) = super::shell::assignment(word).unwrap_or_default();
                found.variables.push((variable.into(), Some(value.into())));
            }
            // Options of env itself in it are rare: what is not the program's is skipped.
            found.command.extend(command.into_iter().skip_while(|word| text(word).starts_with('-')));
            found.command.extend(std::mem::take(rest).iter().cloned());
        }
        ("flock", "c" | "command", Some(script)) => {
            found.command.extend(["sh".into(), "-c".into(), script]);
            *rest = &[];
        }
        _ => {}
    }
}
