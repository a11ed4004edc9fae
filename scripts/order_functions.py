#!/usr/bin/env python3
"""Writes scripts/hot_functions.ld: the functions that captures run, in the order of their first call.

  scripts/order_functions.py        needs valgrind and a C library to link statically

The program has some ten megabytes of code, of which a capture runs a twelfth. Where that is scattered, the system maps some
seventy pieces of the file, and as many neighbours of each, at every start; where it lies together, a dozen. The linker
is told by scripts/link.rs. A function that is missing there, or whose name has changed, only lies elsewhere.

Run it again once much of what a capture does is done by other functions.
"""
import re, shutil, subprocess, sys, tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "scripts" / "hot_functions.ld"
MODULES = 300
# What runs before main, or is chosen by what the processor can do: no trace shows it, or another than on the next machine.
STARTUP = ["crt1.o", "crtbeginT.o", "libc.a:libc-start.o", "libgcc_eh.a:unwind-dw2-fde-dip.o"]
BEFORE_TRACE = ["strcmp-avx2.o"]
HASHES = ["blake3_avx512_x86-64_unix.o", "blake3_avx2_x86-64_unix.o"]
WIDER = re.compile(r"-(avx2|avx|evex|sse2|sse42?)\b.*")
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


def symbols(types: str) -> list[tuple[str, str]]:
    """Symbols of the C library, each with the part that it is in."""
    library = run("cc", "-print-file-name=libc.a").strip()
    listed = run("nm", "-A", library, stderr=subprocess.DEVNULL)
    return re.findall(rf"libc\.a:([^:]+):\S* +[{types}] (\S+)$", listed, re.M)


def members() -> dict[str, str]:
    """In which part of the C library its functions are: it has no section for each."""
    return {name: member for member, name in symbols("TtWwi")}


def choosers() -> list[str]:
    """The parts of the C library that find out at the start which variant of a function the processor can run."""
    return [member for member, _ in symbols("i")]


def functions(program: Path) -> list[str]:
    """The functions of a program."""
    lines = (line.split() for line in run("nm", "-S", "--defined-only", program).splitlines())
    return [line[3] for line in lines if len(line) == 4 and line[2] in "tTwW"]


def siblings(members: list[str], library: dict[str, str]) -> list[str]:
    """The same functions for processors that can do more than the one that the trace was made on."""
    there = sorted(set(library.values()))
    bases = dict.fromkeys(WIDER.sub("", member) for member in members if WIDER.search(member))
    is_wider = re.compile(r"-(evex|avx512)").search
    return [member for base in bases for member in there if member.startswith(f"{base}-") and is_wider(member)]


def pattern(name: str) -> str:
    """What names the section of a function, whatever hash the compiler puts into its name."""
    if re.match(r"_ZN.*17h[0-9a-f]{16}E", name):
        return in_text(re.sub(r"17h[0-9a-f]{16}E.*", "17h*", name))
    if name.startswith("_R"):
        return in_text(re.sub(r"Cs[0-9A-Za-z]+_", "Cs*_", name.split(".")[0]) + "*")
    return exact(name)


def exact(name: str) -> str:
    name = name.split(".llvm.")[0]
    return in_text(name, f"{name}.*")


def in_text(*names: str) -> str:
    """Where functions are: those that seldom run, as the compiler thinks, lie apart."""
    return " ".join(f"{section}{name}" for name in names for section in (".text.", ".text.unlikely."))


def sections(names: list[str], all_names: list[str], library: dict[str, str]) -> list[str]:
    """What names the sections of some functions. A pattern stays true with the next compiler, but must not bring in others:
    of some generic functions and closures there are hundreds under one name."""
    count = Counter(pattern(name) for name in all_names)
    whole = [library[name] for name in names if name in library]
    lines = [f"*{file}(.text .text.*)" for file in STARTUP]
    # Each chooses one of several at the start.
    lines += [f"*libc.a:{member}(.text .text.*)" for member in sorted(set(choosers()))]
    for name in names:
        if name in library:
            lines.append(f"*libc.a:{library[name]}(.text .text.*)")
        else:
            lines.append(f"*({pattern(name) if count[pattern(name)] == 1 else exact(name)})")
    lines += [f"*libc.a:{member}(.text .text.*)" for member in siblings([*whole, *BEFORE_TRACE], library)]
    lines += [f"*{file}(.text .text.*)" for file in HASHES]
    return list(dict.fromkeys(lines))


def main():
    run("cargo", "rustc", "--release", "--locked", "--bin", "runsnap", "--", "-C", "strip=none", cwd=ROOT)
    library = members()
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "runsnap"
        shutil.copy(ROOT / "target" / "release" / "runsnap", program)
        there = functions(program)
        names = [name for name in captures(program, Path(folder)) if name in set(there)]
    lines = sections(names, there, library)
    SCRIPT.write_text(HEAD + "".join(f"    {line}\n" for line in lines) + TAIL)
    print(f"{len(lines)} patterns for {len(names)} functions", file=sys.stderr)


if __name__ == "__main__":
    main()
