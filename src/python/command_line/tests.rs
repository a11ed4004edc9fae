use super::*;

fn words(line: &str) -> Vec<OsString> {
    // A sign that no command line here has stands for a space within a word.
    line.split(' ').map(|word| OsString::from(word.replace('·', " "))).collect()
}

fn shown(command: &PythonCommand) -> String {
    let path = |path: &Path| path.display().to_string();
    let mut shown = match &command.program {
        Program::Script(script) => format!("script {}", path(script)),
        Program::Module(module) => format!("module {module}"),
        Program::Command(code) => format!("code {code}"),
        Program::StandardInput => "stdin".into(),
        Program::Interactive => "interactive".into(),
        Program::Notebook(notebook) => format!("notebook {}", path(notebook)),
        Program::Kernel { connection_file } => {
            format!("kernel {}", connection_file.as_deref().map_or("-".into(), path))
        }
        Program::Other => "other".into(),
    };
    let arguments: Vec<_> = command.arguments.iter().map(text).collect();
    if !arguments.is_empty()
        && !matches!(command.program, Program::Kernel { .. } | Program::Notebook(_) | Program::Other)
    {
        shown += &format!(" [{}]", arguments.join(" "));
    }
    let flags = command.flags;
    let flags = [
        (flags.isolated, 'I'),
        (flags.no_site, 'S'),
        (flags.no_user_site, 's'),
        (flags.safe_path, 'P'),
        (flags.ignore_environment, 'E'),
    ];
    let flags: String = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, letter)| *letter).collect();
    for (name, value) in [
        ("python", command.python.as_deref().map(path)),
        ("flags", Some(flags).filter(|flags| !flags.is_empty())),
        ("by", command.launcher.clone()),
        ("in", command.folder.as_deref().map(path)),
        ("project", command.project.as_deref().map(path)),
    ] {
        if let Some(value) = value {
            shown += &format!(" | {name} {value}");
        }
    }
    for (name, value) in &command.variables {
        shown += &format!(" | {}={}", text(name), value.as_ref().map_or("(none)".into(), text));
    }
    if command.clears_variables {
        shown += " | bare";
    }
    shown
}

fn assert_read(rows: &[(&str, &str)]) {
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|(line, expected)| {
            let found = parse(&words(line)).map_or("none".to_owned(), |command| shown(&command));
            (found != *expected).then(|| format!("{line}\n  found    {found}\n  expected {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn pythons_own_options() {
    assert_read(&[
        ("python x.py", "script x.py | python python"),
        ("python3.12 x.py a -b", "script x.py [a -b] | python python3.12"),
        ("/v/bin/python3.13t x.py", "script x.py | python /v/bin/python3.13t"),
        ("pypy3 x.py", "script x.py | python pypy3"),
        ("pythonw.exe x.py", "script x.py | python pythonw.exe"),
        ("python-config --libs", "none"),
        ("pythonic x.py", "none"),
        ("python", "interactive | python python"),
        ("python -i", "interactive | python python"),
        ("python -i x.py", "script x.py | python python"),
        ("python -", "stdin | python python"),
        ("python - a b", "stdin [a b] | python python"),
        ("python -u - a", "stdin [a] | python python"),
        ("python -BEIOPqsSuv x.py", "script x.py | python python | flags ISsPE"),
        ("python -OO -bb -d -R x.py -m", "script x.py [-m] | python python"),
        ("python -m pkg.mod a -c", "module pkg.mod [a -c] | python python"),
        ("python -mpkg a", "module pkg [a] | python python"),
        ("python -Im pkg", "module pkg | python python | flags I"),
        ("python -uIm pkg", "module pkg | python python | flags I"),
        ("python -uImpkg", "module pkg | python python | flags I"),
        ("python -c import·x; a", "code import x; [a] | python python"),
        ("python -cimport·x", "code import x | python python"),
        ("python -Sc pass", "code pass | python python | flags S"),
        ("python -W error -X dev -Wignore -Xfaulthandler x.py", "script x.py | python python"),
        ("python -uW error x.py", "script x.py | python python"),
        ("python --check-hash-based-pycs always x.py", "script x.py | python python"),
        ("python --check-hash-based-pycs=never x.py", "script x.py | python python"),
        ("python -- x.py --", "script x.py [--] | python python"),
        ("python -s -- -odd.py", "script -odd.py | python python | flags s"),
        ("python -V", "other | python python"),
        ("python --version", "other | python python"),
        ("python --help-all", "other | python python"),
        ("python -m", "other | python python"),
        ("python folder", "script folder | python python"),
        ("python app.pyz", "script app.pyz | python python"),
        ("py -3.12 x.py", "script x.py"),
        ("py x.py", "script x.py"),
    ]);
}

#[test]
fn wrappers_are_peeled() {
    assert_read(&[
        ("env python x.py", "script x.py | python python"),
        ("env A=1 B= python x.py", "script x.py | python python | A=1 | B="),
        ("env -i -u X A=1 python x.py", "script x.py | python python | X=(none) | A=1 | bare"),
        ("env -u X --unset=Y python x.py", "script x.py | python python | X=(none) | Y=(none)"),
        ("env - python x.py", "script x.py | python python | bare"),
        ("env -C /d python x.py", "script x.py | python python | in /d"),
        ("env --chdir=/d -- python x.py", "script x.py | python python | in /d"),
        ("env -S·python·-I x.py", "script x.py | python python | flags I"),
        ("env -S A=1·python·-s x.py", "script x.py | python python | flags s | A=1"),
        ("nohup python x.py", "script x.py | python python"),
        ("nice python x.py", "script x.py | python python"),
        ("nice -n 5 python x.py", "script x.py | python python"),
        ("nice -10 ionice -c 3 -n7 python x.py", "script x.py | python python"),
        ("time -p python x.py", "script x.py | python python"),
        ("/usr/bin/time -f %e -o log -v python x.py", "script x.py | python python"),
        ("timeout 60 python x.py 5", "script x.py [5] | python python"),
        ("timeout -k 5 -s KILL --foreground 1h python x.py", "script x.py | python python"),
        ("timeout --signal=INT --kill-after 5 60 python x.py", "script x.py | python python"),
        ("stdbuf -oL -e 0 python x.py", "script x.py | python python"),
        ("setsid -f python x.py", "script x.py | python python"),
        ("taskset 0x3 python x.py", "script x.py | python python"),
        ("taskset -c 0-3 python x.py", "script x.py | python python"),
        ("numactl --cpunodebind=0 -m 0 --membind 0 python x.py", "script x.py | python python"),
        ("xvfb-run -a -s -screen·0 python x.py", "script x.py | python python"),
        ("sudo -u me -E A=1 python x.py", "script x.py | python python | A=1"),
        ("sudo -nH -- env B=2 python x.py", "script x.py | python python | B=2"),
        ("nohup nice -n 5 env A=1 timeout 5 stdbuf -oL python -u x.py", "script x.py | python python | A=1"),
        ("flock /tmp/lock python x.py", "script x.py | python python"),
        ("flock -w 5 /tmp/lock -c python·x.py", "script x.py | python python"),
        ("strace -f -o log python x.py", "script x.py | python python"),
        ("mpirun -n 4 --host a,b python x.py", "script x.py | python python | by mpirun"),
        ("srun --gres=gpu:1 -c 4 python -m pkg", "module pkg | python python | by srun"),
        ("nohup sleep 5", "none"),
        ("timeout 5", "none"),
        ("env", "none"),
        ("ls -l", "none"),
        ("", "none"),
    ]);
    let deep = "env ".repeat(1_000) + "python x.py";
    assert_read(&[(&deep, "none")]);
}

#[test]
fn tools_that_manage_environments() {
    assert_read(&[
        ("uv run x.py a", "script x.py [a] | by uv run"),
        ("uv run python x.py", "script x.py | by uv run"),
        ("uv run -- python -I x.py", "script x.py | flags I | by uv run"),
        ("uv run -m pkg a", "module pkg [a] | by uv run"),
        ("uv run --module pytest t.py", "script t.py [t.py] | by uv run, pytest"),
        ("uv run -s script a", "script script [a] | by uv run"),
        ("uv run - a", "stdin [a] | by uv run"),
        ("uv run --with rich --with-requirements r.txt x.py", "script x.py | by uv run"),
        ("uv run -p 3.12 --project p --extra e x.py", "script x.py | python 3.12 | by uv run | project p"),
        ("uv run --python=/v/bin/python --frozen x.py", "script x.py | python /v/bin/python | by uv run"),
        ("uv --directory d run -q x.py", "script x.py | by uv run | in d"),
        ("uv run -p3.11 python x.py", "script x.py | python 3.11 | by uv run"),
        ("uv run /v/bin/python x.py", "script x.py | python /v/bin/python | by uv run"),
        ("uv run coverage run -m pkg", "module pkg | by uv run, coverage"),
        ("uv pip install x", "none"),
        ("uv sync", "none"),
        ("uv run", "none"),
        ("poetry run python x.py", "script x.py | by poetry run"),
        ("poetry -C d run python -m pkg", "module pkg | by poetry run | in d"),
        ("poetry run pytest", "module pytest | by poetry run, pytest"),
        ("pdm run -p d python x.py", "script x.py | by pdm run | project d"),
        ("pdm run x.py", "script x.py | by pdm run"),
        ("hatch run python x.py", "script x.py | by hatch run"),
        ("hatch run test:python x.py", "script x.py | by hatch run"),
        ("hatch -e dev run python x.py", "script x.py | by hatch run"),
        ("pipenv run python x.py", "script x.py | by pipenv run"),
        ("rye run python x.py", "script x.py | by rye run"),
        ("conda run -n env python x.py", "script x.py | by conda run"),
        (
            "conda run --no-capture-output -p /c/e --cwd /d python x.py",
            "script x.py | python /c/e | by conda run | in /d",
        ),
        ("micromamba run -n env python x.py", "script x.py | by micromamba run"),
        ("pixi run -e dev python x.py", "script x.py | by pixi run"),
        ("pixi run task", "none"),
    ]);
    let variables = [("CONDA_EXE", "/c/bin/conda")].into_iter().collect();
    let found = parse_in(&words("conda run -n e python x.py"), Path::new("/w"), &variables).expect("a Python");
    assert_eq!(found.python, Some("/c/envs/e".into()));
}

#[test]
fn shells_are_read() {
    assert_read(&[
        ("sh -c python·x.py", "script x.py | python python"),
        ("bash -lc exec·python·-u·'a·b.py'", "script a b.py | python python"),
        ("sh -c cd·/d·&&·python·x.py", "script x.py | python python | in /d"),
        ("sh -c cd·/d;·cd·e;·python·x.py", "script x.py | python python | in /d/e"),
        ("sh -c A=1·B='2·3'·python·x.py·>·log·2>&1", "script x.py | python python | A=1 | B=2 3"),
        ("sh -c export·A=1;·unset·B;·python·x.py·$A", "script x.py [1] | python python | A=1 | B=(none)"),
        ("sh -c make·&&·python·x.py", "script x.py | python python | by sh, its first Python"),
        ("sh -c python·a.py;·python·b.py", "script a.py | python python"),
        ("sh -c python·\"$0\"·\"$@\" x.py a b", "script x.py [a b] | python python"),
        ("bash -e -o pipefail -c uv·run·x.py·|·tee·log", "script x.py | by uv run"),
        ("sh -c source·/v/bin/activate·&&·python·x.py", "script x.py | VIRTUAL_ENV=/v"),
        ("sh -c if·[·-f·x.py·];·then·python·x.py;·fi", "script x.py | python python | by sh, its first Python"),
        ("timeout 5 sh -c nohup·bash·-c·'python·x.py'", "script x.py | python python"),
        ("bash run.sh", "none"),
        ("sh -c ls", "none"),
        ("bash", "none"),
    ]);
}

#[test]
fn launchers_are_told_apart_from_what_they_launch() {
    assert_read(&[
        ("pytest", "module pytest | by pytest"),
        ("python -m pytest -q tests", "module pytest [-q tests] | python python | by pytest"),
        ("pytest -k a tests/test_a.py::test_b", "script tests/test_a.py [-k a tests/test_a.py::test_b] | by pytest"),
        ("python /v/bin/pytest -q", "module pytest [-q] | python python | by pytest"),
        ("python -m unittest tests.test_a", "module unittest [tests.test_a] | python python | by unittest"),
        ("python -m cProfile x.py a", "script x.py [a] | python python | by cProfile"),
        ("python -m cProfile -o f -s time x.py a", "script x.py [a] | python python | by cProfile"),
        ("python -m cProfile -o f -m pkg a", "module pkg [a] | python python | by cProfile"),
        ("python -m cProfile -m pytest t.py", "script t.py [t.py] | python python | by cProfile, pytest"),
        ("python -m pdb -c continue x.py", "script x.py | python python | by pdb"),
        ("python -m pdb -m pkg", "module pkg | python python | by pdb"),
        ("python -m trace --count -C d --ignore-dir=e x.py", "script x.py | python python | by trace"),
        ("python -m trace -t --module pkg a", "module pkg [a] | python python | by trace"),
        ("python -m runpy pkg a", "module pkg [a] | python python | by runpy"),
        ("python -m debugpy --listen 5678 --wait-for-client x.py", "script x.py | python python | by debugpy"),
        ("python -m debugpy --listen 0.0.0.0:5678 -m pkg a", "module pkg [a] | python python | by debugpy"),
        (
            "/v/bin/python /e/debugpy/launcher 41231 -- /p/x.py a",
            "script /p/x.py [a] | python /v/bin/python | by debugpy",
        ),
        ("/v/bin/python /e/debugpy/launcher 41231 -- -m pkg a", "module pkg [a] | python /v/bin/python | by debugpy"),
        (
            "/v/bin/python /e/debugpy --connect 127.0.0.1:1 --configure-qt none --adapter-access-token t /p/x.py a",
            "script /p/x.py [a] | python /v/bin/python | by debugpy",
        ),
        (
            "python /e/pydev/pydevd.py --multiprocess --client 127.0.0.1 --port 1 --file /p/x.py a",
            "script /p/x.py [a] | python python | by pydevd",
        ),
        ("coverage run x.py a", "script x.py [a] | by coverage"),
        ("coverage run --source=a --omit b --branch -p -m pkg a", "module pkg [a] | by coverage"),
        ("python -m coverage run --rcfile r x.py", "script x.py | python python | by coverage"),
        ("coverage report", "other | by coverage"),
        ("kernprof -lv -o f x.py a", "script x.py [a] | by kernprof"),
        ("py-spy record -o f -r 50 -- python x.py a", "script x.py [a] | python python | by py-spy"),
        ("py-spy top --rate 10 python x.py", "script x.py | python python | by py-spy"),
        ("scalene --cpu --outfile f x.py a", "script x.py [a] | by scalene"),
        ("python -m scalene run --- x.py", "script x.py | python python | by scalene"),
        ("memray run -o f x.py", "script x.py | by memray"),
        ("memray run -fm pkg a", "module pkg [a] | by memray"),
        ("mprof run --interval 1 x.py", "script x.py | by mprof"),
        ("mprof run --python python x.py", "script x.py | python python | by mprof"),
        ("torchrun --nproc_per_node=4 --nnodes 1 x.py --lr 1", "script x.py [--lr 1] | by torch.distributed.run"),
        (
            "python -m torch.distributed.run --standalone -m pkg",
            "module pkg | python python | by torch.distributed.run",
        ),
        ("accelerate launch --num_processes 2 --multi_gpu x.py a", "script x.py [a] | by accelerate"),
        ("accelerate launch --unknown x.py a", "script a | by accelerate"),
        ("accelerate config", "other | by accelerate"),
        ("python -m IPython x.py a", "script x.py [a] | python python | by IPython"),
        ("ipython", "module IPython | by IPython"),
        ("ipython -i -c 1+1", "code 1+1 | by IPython"),
        ("ipython x.ipynb", "notebook x.ipynb | by IPython"),
        ("streamlit run x.py -- a", "script x.py [-- a] | by streamlit"),
        ("python -m streamlit run --server.port 80 x.py", "script x.py | python python | by streamlit"),
        ("ray job submit --address a -- python x.py a", "script x.py [a] | python python | by ray"),
        ("ray start --head", "other | by ray"),
        ("dask worker tcp://a", "other | by dask"),
        ("jupyter nbconvert --to notebook --execute x.ipynb", "notebook x.ipynb | by nbconvert"),
        ("jupyter nbconvert --to html x.ipynb", "other | by nbconvert"),
        ("jupyter execute x.ipynb", "notebook x.ipynb | by jupyter-execute"),
        ("jupyter run x.ipynb", "notebook x.ipynb | by jupyter-execute"),
        ("jupyter lab", "other | by jupyter"),
        ("papermill -p a 1 in.ipynb out.ipynb", "notebook in.ipynb | by papermill"),
        ("python -m papermill in.ipynb out.ipynb", "notebook in.ipynb | python python | by papermill"),
        ("python -m ipykernel_launcher -f /r/k.json", "kernel /r/k.json | python python | by ipykernel_launcher"),
        ("python -m ipykernel_launcher --f=/r/k.json", "kernel /r/k.json | python python | by ipykernel_launcher"),
        ("python -m ipykernel -f=/r/k.json", "kernel /r/k.json | python python | by ipykernel_launcher"),
        ("python -m spyder_kernels.console -f k.json", "kernel k.json | python python | by ipykernel_launcher"),
        ("python -m ipykernel_launcher", "kernel - | python python | by ipykernel_launcher"),
        ("mpirun -n 2 python -m mpi4py x.py", "script x.py | python python | by mpirun, mpi4py"),
    ]);
}

#[test]
fn scripts_are_followed_to_their_python() {
    use std::fs::write;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).expect("made");
    let at = bin.display();
    write(bin.join("freqtrade"), format!("#!{at}/python -I\nimport x\n")).expect("written");
    write(bin.join("tool"), "#!/usr/bin/env -S uv run --script\n").expect("written");
    write(bin.join("shell"), "#!/bin/sh\necho\n").expect("written");
    write(bin.join("loop"), format!("#!{at}/loop\n")).expect("written");
    let variables = [("PATH", bin.as_os_str())].into_iter().collect();
    let read = |line: &str| parse_in(&words(line), folder.path(), &variables).map(|command| shown(&command));
    let expected = format!("script {at}/freqtrade [backtest] | python {at}/python | flags I");
    assert_eq!(read("freqtrade backtest"), Some(expected.clone()));
    assert_eq!(read(&format!("{at}/freqtrade backtest")), Some(expected));
    let relative = format!("script bin/freqtrade | python {at}/python | flags I");
    assert_eq!(read("bin/freqtrade"), Some(relative));
    assert_eq!(read("nohup tool a"), Some(format!("script {at}/tool [a] | by uv run")));
    assert_eq!(read("./x.py a"), Some("script ./x.py [a]".into()));
    assert_eq!((read("shell"), read("loop"), read("none"), read("x.py")), (None, None, None, None));
}

#[test]
fn workers_are_known() {
    let is_worker = |line: &str| parse(&words(line)).expect("a Python").is_worker();
    for line in [
        "python -c from·multiprocessing.spawn·import·spawn_main;·spawn_main(5) --multiprocessing-fork",
        "python -s -c from·multiprocessing.forkserver·import·main;·main(3)",
        "python -c from·multiprocessing.resource_tracker·import·main;main(5)",
        "python -c from·joblib.externals.loky.backend.resource_tracker·import·main;·main(4)",
        "python -m joblib.externals.loky.backend.popen_loky_posix --process-name x --pipe 5",
    ] {
        assert!(is_worker(line), "{line}");
    }
    for line in ["python x.py", "python -c import·multiprocessing", "python -m pkg"] {
        assert!(!is_worker(line), "{line}");
    }
}

#[test]
fn variables_are_set_in_the_order_of_the_line() {
    let started_with = [("A", "0"), ("B", "0")].into_iter().collect();
    let variables = |line: &str| {
        let variables = parse(&words(line)).expect("a Python").variables_from(&started_with);
        variables.iter().map(|(name, value)| format!("{}={}", name.display(), value.display())).collect::<Vec<_>>()
    };
    assert_eq!(variables("env A=1 python x.py"), ["A=1", "B=0"]);
    assert_eq!(variables("env A=1 env -u A C=2 python x.py"), ["B=0", "C=2"]);
    assert_eq!(variables("env A=1 env -i C=2 python x.py"), ["C=2"]);
}

proptest::proptest! {
    #[test]
    fn nothing_panics(
        line in proptest::collection::vec("(python|uv|run|sh|env|coverage|-[a-zA-Z]{1,3}|--[a-z]{1,6}(=a)?|a b|x.py|--)?", 0..8)
    ) {
        let argv: Vec<OsString> = line.into_iter().map(OsString::from).collect();
        let _ = parse(&argv);
    }
}
