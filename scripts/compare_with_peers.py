#!/usr/bin/env python3
"""Measures runsnap beside git, restic and borg; scripts/compare-with-peers.sh calls it.

Every tool has a work tree and a store of its own. They go through a history side by side, each step by all of them in
turn, so that all are measured under the same load; who comes first changes from step to step. Commands are started
directly, without a shell, and the clock runs from the start of a process to its end. Nothing is deleted before the end:
removing many files makes it slow for a while to create new ones.
"""

import argparse
import datetime
import filecmp
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

UNCHANGED = {"runsnap": 50, "git": 50, "restic": 10, "borg": 10}
RESTORES = 10
COUNTED_EDITS = 5
FLUSHES = "fsync,fdatasync,sync_file_range,msync,sync"
AUTHOR = {"NAME": "peer", "EMAIL": "peer@example.com"}


class Tool:
    """A tool with its store, and its commands, each a list of processes to be started one after the other."""

    name = ""

    def __init__(self, folder, tree=None):
        self.folder = folder
        self.store = folder / "store"
        self.tree = tree or folder / "tree"
        folder.mkdir(parents=True)
        self.tree.mkdir(exist_ok=True)
        self.clock, self.unchanged, self.restores = [], [], []
        self.env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        self.env |= {"HOME": str(folder), "XDG_CACHE_HOME": f"{folder}/cache", **self.environment()}
        self.run(self.init())

    def environment(self):
        return {}

    def init(self):
        return []

    def work_on(self, store):
        """Goes over to another store."""
        self.store = store
        self.env.update(self.environment())

    def compactions(self):
        """What makes the store smaller: what it is called, and its commands."""
        return []

    def run(self, commands, cwd=None):
        """Runs commands to their ends and gives the milliseconds that they took."""
        os.chdir(cwd or self.tree)
        log = self.folder / "log"
        streams = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
        streams += [(os.POSIX_SPAWN_OPEN, n, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644) for n in (1, 2)]
        taken = 0.0
        for command in commands:
            start = time.perf_counter()
            process = os.posix_spawnp(command[0], command, self.env, file_actions=streams)
            _, status = os.waitpid(process, 0)
            taken += time.perf_counter() - start
            if status:
                sys.exit(f"error: {' '.join(command)}: status {status}\n{log.read_text(errors='replace')[-2000:]}")
        return 1e3 * taken

    def flushes(self, name):
        """How often a capture asks for a flush, counted by strace."""
        total = 0
        for command in self.step(name):
            counts = self.folder / "flushes"
            self.run([["strace", "-f", "-c", "-e", f"trace={FLUSHES}", "-o", str(counts), *command]])
            for line in counts.read_text().splitlines():
                fields = line.split()
                if fields and fields[-1] in FLUSHES.split(","):
                    total += int(fields[3])
        return total


class Runsnap(Tool):
    name = "runsnap"
    binary = "runsnap"

    def init(self):
        return [[self.binary, "init", "--store", str(self.store)]]

    def step(self, name):
        return [[self.binary, "capture", "--store", str(self.store), "--tree", ".", "--run", name, "--quiet"]]

    def compactions(self):
        return [("gc", [[self.binary, "gc", "--store", str(self.store), "--quiet"]])]

    def restore(self, name, folder):
        return [[self.binary, "restore", name, "--store", str(self.store), "--output", str(folder), "--quiet"]], None


class Git(Tool):
    name = "git"

    def environment(self):
        env = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in AUTHOR.items()}
        # A gc that git thinks is due counts for the step that has it, rather than for whoever comes next.
        settings = {"gc.autoDetach": "false", "maintenance.autoDetach": "false"}
        for number, (key, value) in enumerate(settings.items()):
            env |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        env |= {"GIT_CONFIG_COUNT": str(len(settings)), "GIT_CONFIG_NOSYSTEM": "1"}
        return env | {"GIT_DIR": str(self.store), "GIT_WORK_TREE": str(self.tree)}

    def init(self):
        return [["git", "init", "-q"]]

    def step(self, name):
        return [["git", "add", "-A"], ["git", "commit", "-q", "--allow-empty", "-m", name]]

    def compactions(self):
        return [
            ("gc", [["git", "gc", "-q"]]),
            ("gc --aggressive", [["git", "gc", "-q", "--aggressive", "--prune=now"]]),
        ]

    def restore(self, _, folder):
        folder.mkdir()
        return [["git", f"--work-tree={folder}", "checkout", "-f", "HEAD", "--", "."]], folder


class Restic(Tool):
    name = "restic"

    def environment(self):
        return {"RESTIC_PASSWORD": "x", "RESTIC_REPOSITORY": str(self.store)}

    def init(self):
        return [["restic", "init", "-q"]]

    def step(self, name):
        return [["restic", "backup", "-q", "--tag", name, "."]]

    def compactions(self):
        return [("prune", [["restic", "prune", "-q", "--max-unused", "0"]])]

    def restore(self, _, folder):
        return [["restic", "restore", "-q", "latest", "--target", str(folder)]], None


class Borg(Tool):
    name = "borg"

    def environment(self):
        return {
            "BORG_REPO": str(self.store),
            "BORG_BASE_DIR": str(self.folder),
            "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
        }

    def init(self):
        return [["borg", "init", "-e", "none"]]

    def step(self, name):
        return [["borg", "create", "-C", "zstd,3", f"::{name}", "."]]

    def compactions(self):
        return [("compact", [["borg", "compact"]])]

    def restore(self, name, folder):
        folder.mkdir()
        return [["borg", "extract", f"::{name}"]], folder


class Copy(Tool):
    """The plain copy that restores are measured against."""

    name = "cp -r"

    def restore(self, _, folder):
        return [["cp", "-r", str(self.tree), str(folder)]], None


def folder_bytes(folder):
    return sum(os.lstat(os.path.join(root, name)).st_size for root, _, names in os.walk(folder) for name in names)


def store_bytes(tool):
    # What runsnap keeps outside of its store is part of its bill.
    cache = tool.folder / "cache"
    return folder_bytes(tool.store) + (folder_bytes(cache) if tool.name == "runsnap" and cache.exists() else 0)


def bring_up_to(step, blobs, tree):
    for path, blob in step["write"].items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(blobs / blob, tree / path)
    for path in step["delete"]:
        (tree / path).unlink()


def differing(left, right):
    """The files that are in one tree alone, or differ."""

    def names(folder):
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}

    one, other = names(left), names(right)
    return sorted(one ^ other) + [
        name for name in sorted(one & other) if not filecmp.cmp(left / name, right / name, shallow=False)
    ]


def in_turn(tools, number):
    """The tools, another one first each time."""
    start = number % len(tools)
    return tools[start:] + tools[:start]


def unchanged(tools, record, prefix):
    for number in range(max(UNCHANGED[tool.name] for tool in tools)):
        for tool in in_turn(tools, number):
            if number < UNCHANGED[tool.name]:
                record(tool).append(tool.run(tool.step(f"{prefix}-{number}")))


def with_watcher(tool):
    """The median of captures of an unchanged tree beside a watcher; None where this runsnap has none."""
    knows = subprocess.run([tool.binary, "watch", "--help"], capture_output=True, env=tool.env)
    if knows.returncode:
        return None
    command = [tool.binary, "watch", str(tool.tree), "--store", str(tool.store)]
    watcher = subprocess.Popen(
        command, cwd=tool.tree, env=tool.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        # It says that it watches once it does.
        os.set_blocking(watcher.stdout.fileno(), False)
        patience = time.monotonic() + 20
        while not watcher.stdout.read() and time.monotonic() < patience:
            if watcher.poll() is not None:
                sys.exit(f"error: {' '.join(command)}: status {watcher.returncode}")
            time.sleep(0.05)
        taken = []
        unchanged([tool], lambda _: taken, "watched")
        return statistics.median(taken)
    finally:
        watcher.terminate()
        watcher.wait()


def number(value):
    return f"{value:,}"


def milliseconds(value):
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def ratio(value, to):
    return f"{value / to:.2f}" if value < 10 * to else f"{value / to:.0f}"


def table(head, rows):
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    print("\n".join("| " + " | ".join(line) + " |" for line in lines), end="\n\n", flush=True)


def say(text):
    print(text, file=sys.stderr, flush=True)


def compare(history, kinds, work, limit):
    steps = json.loads((history / "steps.json").read_text())[:limit]
    blobs = history / "blobs"
    tools = [kind(work / kind.name) for kind in kinds]
    runsnap = tools[0]
    for i, step in enumerate(steps):
        if i % 50 == 0:
            say(f"{history.name}: step {i} of {len(steps)}")
        for tool in in_turn(tools, i):
            bring_up_to(step, blobs, tool.tree)
            tool.clock.append(tool.run(tool.step(f"r{i}")))
    written = {tool: store_bytes(tool) for tool in tools}

    # Of a copy: what is measured after this are stores as their captures left them.
    say(f"{history.name}: compaction")
    compacted = {}
    for tool in tools:
        shutil.copytree(tool.store, tool.folder / "compacted", symlinks=True)
        tool.work_on(tool.folder / "compacted")
        compacted[tool] = []
        for name, commands in tool.compactions():
            tool.run(commands)
            compacted[tool].append(f"{number(store_bytes(tool))} ({name})")

    say(f"{history.name}: restores")
    copy = Copy(work / "cp", runsnap.tree)
    with_copy = [*tools, copy]
    for i in range(RESTORES):
        for tool in in_turn(with_copy, i):
            folder = tool.folder / f"restored-{i}"
            commands, cwd = tool.restore(f"r{len(steps) - 1}", folder)
            tool.restores.append(tool.run(commands, cwd))
            if i == 0 and (wrong := differing(tool.tree, folder)):
                sys.exit(f"error: {tool.name} restored other files: {wrong[:5]}")

    say(f"{history.name}: unchanged trees")
    for tool in tools:
        tool.work_on(tool.folder / "store")
    unchanged(tools, lambda tool: tool.unchanged, "same")
    watched = with_watcher(runsnap)

    # A few more edits, of which nothing but the flushes is counted: now and then a step merges as well.
    edited = max(steps[-1]["write"] or steps[0]["write"])
    flushes = {tool: [] for tool in tools}
    for i in range(COUNTED_EDITS):
        for tool in tools:
            with open(tool.tree / edited, "ab") as file:
                file.write(b"\n")
            flushes[tool].append(tool.flushes(f"edited-{i}"))

    last = steps[-1]
    size = f"{number(last['files'])} files and {number(last['bytes'])} bytes"
    print(f"## {history.name}: {len(steps)} versions, the last of {size}\n")
    print(f"Full copies of all versions: {number(sum(step['bytes'] for step in steps))} bytes.\n")
    step_of, same_of, restore_of = (
        {tool: statistics.median(times) for tool, times in of} for of in (
            [(tool, tool.clock) for tool in tools],
            [(tool, tool.unchanged) for tool in tools],
            [(tool, tool.restores) for tool in with_copy],
        )
    )
    rows = [
        [
            tool.name,
            number(written[tool]),
            ", ".join(compacted[tool]),
            milliseconds(step_of[tool]),
            ratio(step_of[tool], step_of[runsnap]),
            str(statistics.median(flushes[tool])),
            milliseconds(same_of[tool]),
            ratio(same_of[tool], same_of[runsnap]),
            milliseconds(restore_of[tool]),
            ratio(restore_of[tool], restore_of[copy]),
        ]
        for tool in tools
    ]
    if watched is not None:
        beside = [milliseconds(watched), ratio(watched, same_of[runsnap])]
        rows.insert(1, ["runsnap with `watch`", "", "", "", "", "", *beside, "", ""])
    rows.append(["cp -r", "", "", "", "", "", "", "", milliseconds(restore_of[copy]), "1.00"])
    head = ["tool", "store, bytes", "compacted, bytes", "step, ms", "ratio to runsnap", "flushes in a step"]
    table([*head, "unchanged, ms", "ratio to runsnap", "restore, ms", "ratio to cp"], rows)


def first_capture(kinds, work, files):
    """The first capture of a large tree, and the memory that it takes."""
    tree = work / "generated"
    tree.mkdir(parents=True)
    words = random.Random(1)
    for i in range(files):
        folder = tree / f"package{i // 2000:03}" / f"module{i // 100:04}"
        if i % 100 == 0:
            folder.mkdir(parents=True)
        lines = (f"value_{words.getrandbits(20)} = {words.getrandbits(40)}\n" for _ in range(words.randint(10, 120)))
        (folder / f"file{i:05}.py").write_text("".join(lines))
    os.sync()
    rows, runsnap = [], None
    for kind in kinds:
        tool = kind(work / f"first-{kind.name}", tree)
        say(f"first capture: {tool.name}")
        memory = tool.folder / "memory"
        # git's two steps are a capture and its name: the second is no part of the work.
        command = tool.step("first")[0]
        taken = tool.run([["/usr/bin/time", "-f", "%M", "-o", str(memory), *command]])
        runsnap = runsnap or taken
        name = "git add -A" if kind is Git else tool.name
        mebibytes = int(memory.read_text().split()[-1]) / 1024
        rows.append([name, f"{taken / 1e3:.2f}", ratio(taken, runsnap), f"{mebibytes:.0f}", number(store_bytes(tool))])
    print(f"## The first capture of {number(files)} files, {number(folder_bytes(tree))} bytes\n")
    table(["tool", "seconds", "ratio to runsnap", "peak memory, MiB", "store, bytes"], rows)


def version_of(command):
    output = subprocess.run(command, capture_output=True, text=True).stdout.split()
    return " ".join(output[:3] if output[:1] == ["git"] else output[:2])


def machine(work):
    kind = subprocess.run(["stat", "-f", "-c", "%T", str(work)], capture_output=True, text=True).stdout.strip()
    today = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return f"{today}; {os.cpu_count()} cores ({platform.machine()}), Linux {platform.release()}, {kind}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("histories", type=Path)
    parser.add_argument("--runsnap", required=True, help="the binary")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--peers", default="git,restic,borg")
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--work", type=Path, default=Path("/var/tmp"))
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    folder = options.histories.resolve()
    is_one = (folder / "steps.json").is_file()
    histories = [folder] if is_one else sorted(path.parent for path in folder.glob("*/steps.json"))
    if not histories:
        sys.exit(f"error: no history in {folder}: there is neither steps.json nor */steps.json")
    peers = {kind.name: kind for kind in (Git, Restic, Borg)}
    kinds = [Runsnap, *(peers[name] for name in options.peers.split(","))]
    options.work.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="compare-", dir=options.work)).resolve()
    try:
        # A copy: whoever builds meanwhile takes the binary away for a moment.
        Runsnap.binary = str(shutil.copy2(options.runsnap, work / "runsnap"))
        for history in histories:
            compare(history, kinds, work / f"history-{history.name}", options.steps)
        if options.files:
            first_capture([kind for kind in kinds if kind is not Borg], work / "first", options.files)
        versions = {"restic": ["restic", "version"]}
        names = [Runsnap.binary, *(kind.name for kind in kinds[1:])]
        print("; ".join(version_of(versions.get(name, [name, "--version"])) for name in names))
        print(machine(work))
    finally:
        os.chdir("/")
        if options.keep:
            say(f"kept: {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
