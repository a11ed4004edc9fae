#!/usr/bin/env python3
"""Finds out which files a project's run really loads, by running it with the Python that runs this.

    trace.py --write FILE...              puts what was found out into the files
    trace.py --check FILE...              says where they differ from it; exit status 1 if they do
    trace.py --plain FILE...              the same without a tracer: access times tell which files were read
    trace.py --probe                      says what an interpreter that is traced can notice of it
    trace.py --lay-out FILE FOLDER        lays one project out
    trace.py --lay-out-all FOLDER FILE... lays all out, each in a folder of its own, and prints them as JSON
"""

import argparse
import difflib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv

import archive

HERE = os.path.dirname(os.path.abspath(__file__))
SECONDS = 60
# First of all: a module that another .pth file imports is seen as well.
PTH = "00_hook.pth"


class Failed(Exception):
    """A project that cannot be traced as it is."""


class Interpreter:
    """A venv that nothing is installed in: no project sees what the machine has."""

    def __init__(self, folder):
        self.folder = folder
        venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)


def trace(laid_out, interpreter, work):
    """Runs a project with the hook in its interpreter; gives the files that it loaded and what it printed."""
    log = os.path.join(work, "log")
    with open(os.path.join(HERE, "hook.py"), encoding="utf-8") as file:
        hook = file.read()
    home = laid_out.venv or interpreter
    # A line of a .pth file runs in every interpreter of that venv, children included, before anything of the project
    # does, and touches neither sys.path nor sys.modules nor the environment.
    pth = os.path.join(archive.site_packages(home), PTH)
    with open(pth, "w", encoding="utf-8") as out:
        out.write("import sys; exec(%r, {'LOG': %r})\n" % (hook, log))
    before = laid_out.local_files()
    try:
        prints = execute(laid_out, home)
    finally:
        os.remove(pth)
    return loaded(laid_out, before, log), prints


def command(laid_out):
    """What Python gets as arguments to run a project, and the folder to run it in."""
    run, folder = laid_out.run(), laid_out.folder
    if run[0].endswith(".ipynb"):
        path = os.path.join(HERE, "cells.py")
        text = "exec(compile(open(%r).read(), %r, 'exec'), {'NOTEBOOK': %r})" % (path, path, os.path.basename(run[0]))
        # A kernel's working folder is its notebook's.
        folder = os.path.join(folder, os.path.dirname(run[0]))
        run = ["-c", text]
    return run + laid_out.arguments(), folder


def execute(laid_out, home):
    """Runs a project in a venv, and gives what it printed."""
    python = os.path.join(home, "bin", "python")
    arguments, folder = command(laid_out)
    environment = {
        "PATH": os.path.join(home, "bin") + os.pathsep + "/usr/bin:/bin",
        "HOME": laid_out.base,
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    environment.update(laid_out.environment())
    done = subprocess.run([python] + arguments, cwd=folder, env=environment,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=SECONDS)
    if done.returncode != 0:
        raise Failed("status %d: %s" % (done.returncode, done.stderr.decode("utf-8", "replace")))
    return done.stdout.decode("utf-8")


def loaded(laid_out, before, log):
    """What the log says that was read, as far as it was there before the run."""
    read, written, executed, native = set(), set(), set(), set()
    kinds = {"read": read, "write": written, "exec": executed, "native": native}
    with open(log, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            kind, path = line.rstrip("\n").split("\t")
            kinds[kind].update(entries(laid_out, path, before))
    out = sources((read | native) - written, before)
    # Code cannot have run that was not read. Its name may be that of another file only where it was compiled elsewhere.
    unread = {path for path in executed - out - written if not path.endswith(".pyc")}
    if unread:
        raise Failed("executed, but never opened: %s" % ", ".join(sorted(unread)))
    return sorted(out)


def sources(paths, before):
    """The sources of what stands in __pycache__."""
    out = set()
    for path in paths:
        folder, name = os.path.split(path)
        source = os.path.join(os.path.dirname(folder), name.split(".")[0] + ".py")
        if os.path.basename(folder) == "__pycache__" and source in before:
            path = source
        out.add(path)
    return out


def entries(laid_out, path, before):
    """What has to be there for a path to open: the links on the way, and the file."""
    out = set()
    path = os.path.normpath(path) if "/.." not in path else path
    done = "/"
    waiting = path.split("/")[::-1]
    hops = 0
    while waiting:
        name = waiting.pop()
        if name in ("", "."):
            continue
        if name == "..":
            done = os.path.dirname(done)
            continue
        here = os.path.join(done, name)
        if os.path.islink(here) and hops < 40:
            hops += 1
            out.add(laid_out.relative(here))
            target = os.readlink(here)
            done = "/" if target.startswith("/") else done
            waiting.extend(target.split("/")[::-1])
        else:
            done = here
    out.add(laid_out.relative(done))
    # A link counts only where a file was reached over it.
    return out & before if laid_out.relative(done) in before and os.path.isfile(done) else set()


def plain(laid_out, interpreter):
    """Runs a project without any hook; gives the files whose access time moved, and what it printed."""
    before = {}
    for path in laid_out.local_files():
        file = os.path.join(laid_out.root, path)
        if os.path.isfile(file) and not os.path.islink(file):
            # Long ago, so that a file system that saves itself most updates makes this one.
            os.utime(file, ns=(0, os.stat(file).st_mtime_ns))
            before[path] = os.stat(file).st_mtime_ns
    prints = execute(laid_out, laid_out.venv or interpreter)
    out = set()
    for path, changed in before.items():
        now = os.stat(os.path.join(laid_out.root, path)) if os.path.exists(os.path.join(laid_out.root, path)) else None
        if now is not None and now.st_atime_ns != 0 and now.st_mtime_ns == changed:
            out.add(path)
    return sorted(sources(out, laid_out.local_files())), prints


def probe(temporary):
    """Compares what an interpreter says of itself with and without the hook; gives the exit status."""
    project = archive.Project(os.path.join(HERE, "interpreter.probe"))
    with tempfile.TemporaryDirectory(dir=temporary) as work:
        interpreter = Interpreter(os.path.join(work, "venv")).folder
        said = []
        for traced in (False, True):
            # In the same place: paths are part of what is said.
            folder = os.path.join(work, "probe")
            laid_out = archive.LaidOut(project, os.path.join(folder, "laid"))
            if traced:
                files, prints = trace(laid_out, interpreter, folder)
            else:
                # Any .pth file makes site load a codec: utf_8_sig in 3.13. That is all that the hook's own one adds.
                with open(os.path.join(archive.site_packages(interpreter), PTH), "w", encoding="utf-8") as out:
                    out.write("# nothing\n")
                prints = execute(laid_out, interpreter)
            said.append(prints.splitlines())
            shutil.rmtree(folder)
    lines = list(difflib.unified_diff(said[0], said[1], "without", "traced", lineterm="", n=0))
    print("".join(line + "\n" for line in lines), end="")
    seen = files == ["asked/__init__.py", "asked/main.py", "asked/state.py"]
    print("%d lines said, %d differ, Python %d.%d.%d" % ((len(said[0]), len(lines)) + sys.version_info[:3]))
    return 0 if seen and len(said[0]) > 60 and not lines else 1


def keeps_access_times(folder):
    """Whether reading a file in the folder moves its access time."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(b"text")
        file.flush()
        os.utime(file.name, ns=(0, os.stat(file.name).st_mtime_ns))
        with open(file.name, "rb") as again:
            again.read()
        return os.stat(file.name).st_atime_ns != 0


def differences(project, found_files, found_prints, links):
    """What a run shows that the file does not say, as lines of a diff; without links where none can be seen."""
    expected = project.lines("loaded") or []
    if not links:
        expected = [path for path in expected if path not in project_links(project)]
    out = list(difflib.unified_diff(expected, found_files, "loaded", "found", lineterm="", n=0))
    said = (project.results["prints"] or "").splitlines()
    out += difflib.unified_diff(said, found_prints.splitlines(), "prints", "found", lineterm="", n=0)
    return out


def project_links(project):
    """The paths of the project's links."""
    return {os.path.normpath(file.path) for file in project.files if "link" in file.options}


def trace_all(options, paths):
    """Traces projects one after the other; gives the exit status."""
    wrong = 0
    with tempfile.TemporaryDirectory(dir=options.temporary) as work:
        work = os.path.realpath(work)
        if options.how == "plain" and not keeps_access_times(work):
            print("error: no access times in %s: name another folder with --temporary" % work, file=sys.stderr)
            return 2
        interpreter = Interpreter(os.path.join(work, "venv")).folder
        for path in paths:
            project = archive.Project(path)
            skipped = project.skipped()
            if skipped:
                print("%s: skipped: %s" % (project.name, skipped))
                continue
            folder = os.path.join(work, project.name)
            try:
                laid_out = archive.LaidOut(project, os.path.join(folder, "laid"))
                if options.how == "plain":
                    files, prints = plain(laid_out, interpreter)
                else:
                    files, prints = trace(laid_out, interpreter, folder)
                if laid_out.base in prints:
                    raise Failed("it prints the folder that it is in")
            except (Failed, subprocess.TimeoutExpired) as error:
                print("%s: %s" % (project.name, error))
                wrong += 1
                continue
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            if options.how == "write":
                project.write(files, prints)
                continue
            lines = differences(project, files, prints, options.how != "plain")
            if lines:
                wrong += 1
                print("%s:" % project.name)
                print("".join("  %s\n" % line for line in lines), end="")
    print("%d projects, %d wrong, Python %d.%d.%d" % ((len(paths), wrong) + sys.version_info[:3]))
    return 1 if wrong else 0


def described(project, laid_out, interpreter):
    """A project as the Rust tests want it."""
    out = {"name": project.name, "skipped": project.skipped(), "laid_out": None,
           "loaded": project.lines("loaded"), "tracked": project.lines("tracked"),
           "prints": project.results["prints"], "missed": project.reasons("missed"),
           "extra": project.reasons("extra")}
    if laid_out is not None:
        arguments, start = command(laid_out)
        python = os.path.join(laid_out.venv or interpreter, "bin", "python3")
        out["laid_out"] = {"base": laid_out.base, "root": laid_out.root, "folder": laid_out.folder,
                           "run": laid_out.run(), "arguments": laid_out.arguments(),
                           "command": arguments, "start": start,
                           "environment": laid_out.environment(), "python": python,
                           "venv": laid_out.venv}
    return out


def lay_out_all(folder, paths):
    """Lays projects out below a folder and prints what they are."""
    out = []
    # What the machine has installed may load modules before a project does, and hide what it shadows.
    interpreter = Interpreter(os.path.join(os.path.realpath(folder), ".venv")).folder
    for path in paths:
        project = archive.Project(path)
        laid_out = None if project.skipped() else archive.LaidOut(project, os.path.join(folder, project.name))
        out.append(described(project, laid_out, interpreter))
    json.dump(out, sys.stdout)


def main():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for how in ("write", "check", "plain", "probe", "lay-out", "lay-out-all"):
        parser.add_argument("--" + how, dest="how", action="store_const", const=how)
    parser.add_argument("--temporary", help="where to lay projects out")
    parser.add_argument("paths", nargs="*")
    options = parser.parse_args()
    paths = options.paths
    try:
        if options.how == "lay-out":
            file, folder = paths
            archive.LaidOut(archive.Project(file), folder)
        elif options.how == "lay-out-all":
            lay_out_all(paths[0], paths[1:])
        elif options.how in ("write", "check", "plain"):
            if not paths:
                names = sorted(name for name in os.listdir(HERE) if name.endswith(".project"))
                paths = [os.path.join(HERE, name) for name in names]
            return trace_all(options, paths)
        elif options.how == "probe":
            return probe(options.temporary)
        else:
            parser.error("one of --write, --check, --plain, --probe, --lay-out, --lay-out-all")
    except archive.Wrong as error:
        print("error: %s" % error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
