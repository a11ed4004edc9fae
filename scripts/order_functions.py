#!/usr/bin/env python3
"""Writes scripts/hot_functions.ld: the functions that captures run, in the order of their first call.

  scripts/order_functions.py        needs valgrind and a C library to link statically

The program has some ten megabytes of code, of which a capture runs a twelfth. Where that is scattered, the system maps some
seventy pieces of the file, and as many neighbours of each, at every start; where it lies together, a dozen. The linker
is told by scripts/link.rs. A function that is missing there, or whose name has changed, only lies elsewhere.

Run it again once much of what a capture does is done by other functions.
"""
import re, shutil, subprocess, sys, tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "hot_functions.ld"
MODULES = 300
# So many bytes of other functions may come with a pattern.
MAX_EXTRA = 4096
HEAD = """/* The functions that captures run, in the order of their first call: see scripts/order_functions.py, which writes this file. */
SECTIONS
{
  .text.captures :
  {
"""
TAIL = """  }
}
INSERT BEFORE .text;
"""


def run(*command, **options) -> str:
    done = subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, text=True, **options)
    return done.stdout


def called(program: Path, trace: Path, *arguments) -> list[str]:
    """The functions that the program calls, by their names in the object files."""
    run("valgrind", "--tool=callgrind", "--demangle=no", f"--callgrind-out-file={trace}", program, *arguments, stderr=subprocess.DEVNULL)
    # A name is told once, with a number; recursion is told by an apostrophe.
    names = re.findall(r"^c?fn=\(\d+\) ([^'\n]+)", trace.read_text(), re.M)
    return list(dict.fromkeys(names))


def captures(program: Path, folder: Path) -> list[str]:
    """The functions that captures of several kinds call: of unchanged trees first, of programs last."""
    tree, store = folder / "tree", folder / "store"
    shutil.copytree(ROOT / "examples" / "sma_crossover", tree)
    for number in range(MODULES):
        module = tree / f"package{number % 7}" / f"module{number}.py"
        module.parent.mkdir(exist_ok=True)
        module.write_text("".join(f"value_{line} = {line * number}\n" for line in range(60)))
    whole = ("capture", "--store", store, "--tree", tree)
    program_of = ("capture", "--store", store, tree / "strategy.py")
    run(program, "init", "--store", store)
    edited = tree / "package3" / "module3.py"

    def edit(number: int):
        edited.write_text(edited.read_text() + f"edit = {number}\n")

    # Files are believed once the clock has moved on; the second edit is a difference to the first.
    for number in range(3):
        edit(number)
        subprocess.run(["sleep", "0.1"], check=True)
        run(program, *whole)
    run(program, *program_of)
    names = called(program, folder / "trace", *whole)
    edit(4)
    names += called(program, folder / "trace", *whole)
    names += called(program, folder / "trace", *whole, "--quiet", "--run", "one", "--sweep", "grid", "--param", "fast=1")
    names += called(program, folder / "trace", *whole, "--run-dir", folder / "runs" / "one")
    names += called(program, folder / "trace", *program_of, "--run", "two", "--run-dir", folder / "runs" / "two")
    return list(dict.fromkeys(names))


def members() -> dict[str, str]:
    """In which part of the C library its functions are: it has no section for each."""
    library = run("cc", "-print-file-name=libc.a").strip()
    found = re.findall(r"libc\.a:([^:]+):\S* +[TtWwi] (\S+)$", run("nm", "-A", library, stderr=subprocess.DEVNULL), re.M)
    return {name: member for member, name in found}


def sizes(program: Path) -> dict[str, int]:
    """The functions of a program, and how long they are."""
    lines = (line.split() for line in run("nm", "-S", "--defined-only", program).splitlines())
    return {line[3]: int(line[1], 16) for line in lines if len(line) == 4 and line[2] in "tTwW"}


def pattern(name: str, library: dict[str, str]) -> str:
    """What names the section of a function, whatever hash the compiler puts into its name."""
    if re.match(r"_ZN.*17h[0-9a-f]{16}E", name):
        return f"*(.text.{re.sub(r'17h[0-9a-f]{16}E.*', '17h*', name)})"
    if name.startswith("_R"):
        return f"*(.text.{re.sub(r'Cs[0-9A-Za-z]+_', 'Cs*_', name.split('.')[0])}*)"
    if name in library:
        return f"*libc.a:{library[name]}(.text .text.*)"
    return f"*(.text.{name.split('.')[0]} .text.{name.split('.')[0]}.*)"


def precise(names: list[str], all_sizes: dict[str, int], library: dict[str, str]) -> list[str]:
    """The patterns of some functions, but for those that bring in far more: closures of one name there are by the hundred."""
    wanted, matched = {}, {}
    for name, size in all_sizes.items():
        key = pattern(name, library)
        matched[key] = matched.get(key, 0) + size
    for name in names:
        key = pattern(name, library)
        wanted[key] = wanted.get(key, 0) + all_sizes[name]
    return [key for key, size in wanted.items() if matched[key] <= 2 * size + MAX_EXTRA]


def main():
    run("cargo", "rustc", "--release", "--locked", "--bin", "runsnap", "--", "-C", "strip=none", cwd=ROOT)
    library = members()
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "runsnap"
        shutil.copy(ROOT / "target" / "release" / "runsnap", program)
        all_sizes = sizes(program)
        names = [name for name in captures(program, Path(folder)) if name in all_sizes]
    lines = precise(names, all_sizes, library)
    SCRIPT.write_text(HEAD + "".join(f"    {line}\n" for line in lines) + TAIL)
    print(f"{len(lines)} patterns for {len(names)} functions", file=sys.stderr)


if __name__ == "__main__":
    main()
