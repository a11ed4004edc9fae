"""The format of a .project file: reads it, writes its expectations back, lays its files out. README.md describes it."""

import io
import json
import os
import py_compile
import shlex
import shutil
import stat
import sys
import tempfile
import venv
import zipfile

RESULTS = ("loaded", "tracked", "prints", "missed", "extra")
HEADERS = ("description", "run", "folder", "environment", "venv", "arguments", "needs")
PLAIN_OPTIONS = ("executable", "latin-1", "utf-16", "crlf", "bom", "expand", "escapes", "no-final-newline", "compiled",
                 "notebook", "notebook-3", "zip", "sqlite")
VALUE_OPTIONS = ("link", "repeat")
# What a cell of a notebook begins with, on a line of its own.
CELLS = {"[code]": "code", "[markdown]": "markdown", "[raw]": "raw"}


class Wrong(Exception):
    """A .project file that does not follow the format."""


class File:
    """One section of files: its path, its options, its text."""

    def __init__(self, path, options, text):
        self.path, self.options, self.text = path, options, text


class Project:
    """A .project file, read."""

    def __init__(self, path):
        self.path = path
        self.name = os.path.splitext(os.path.basename(path))[0]
        self.header = {}
        self.files = []
        # None: the file has no such section.
        self.results = dict.fromkeys(RESULTS)
        with open(path, encoding="utf-8", newline="") as file:
            self._read(file.read())
        for name in ("description", "run"):
            if name not in self.header:
                raise Wrong("%s: no %s" % (path, name))

    def _read(self, text):
        section = None
        for number, line in enumerate(_lines(text), 1):
            where = "%s:%d" % (self.path, number)
            if line.startswith("=== "):
                path, _, options = line[4:].rstrip("\n").partition(" ===")
                section = File(path, _options(where, options), "")
                self.files.append(section)
            elif line.startswith("--- "):
                section = line[4:].strip()
                if section not in RESULTS or self.results[section] is not None:
                    raise Wrong("%s: %s" % (where, line.strip()))
                self.results[section] = ""
            elif isinstance(section, File):
                section.text += line[1:] if line.startswith(("\\===", "\\---")) else line
            elif section is not None:
                self.results[section] += line[1:] if line.startswith(("\\===", "\\---")) else line
            elif line.strip():
                name, colon, value = line.partition(":")
                if not colon or name not in HEADERS or name in self.header:
                    raise Wrong("%s: %s" % (where, line.strip()))
                self.header[name] = value.strip()

    def lines(self, section):
        """The lines of a section of results, or None."""
        text = self.results[section]
        return None if text is None else text.splitlines()

    def reasons(self, section):
        """The section's `path: reason` lines, as a mapping."""
        out = {}
        for line in self.lines(section) or []:
            path, colon, reason = line.partition(": ")
            if not colon or not reason.strip():
                raise Wrong("%s: no reason: %s" % (self.path, line))
            out[path] = reason
        return out

    def skipped(self, version=sys.version_info):
        """Why this Python cannot run it, or None."""
        for need in self.header.get("needs", "").split(","):
            need = need.strip()
            if not need:
                continue
            if need.startswith("python>="):
                if version < tuple(int(part) for part in need[8:].split(".")):
                    return "needs " + need
            elif need.startswith("python<"):
                if version >= tuple(int(part) for part in need[7:].split(".")):
                    return "needs " + need
            else:
                raise Wrong("%s: needs: %s" % (self.path, need))
        return None

    def write(self, loaded, prints):
        """Puts the two sections that the tracer finds out into the file."""
        with open(self.path, encoding="utf-8", newline="") as file:
            text = file.read()
        cut = len(text)
        for section in RESULTS:
            at = text.find("\n--- %s\n" % section)
            if at >= 0:
                cut = min(cut, at + 1)
        out = text[:cut]
        if not out.endswith("\n"):
            out += "\n"
        self.results["loaded"] = "".join(line + "\n" for line in loaded)
        self.results["prints"] = prints
        for section in RESULTS:
            if self.results[section] is not None:
                out += "--- %s\n" % section
                for line in _lines(self.results[section]):
                    out += "\\" + line if line.startswith(("===", "---")) else line
                if not out.endswith("\n"):
                    out += "\n"
        if out != text:
            with open(self.path, "w", encoding="utf-8", newline="") as file:
                file.write(out)


def _lines(text):
    # str.splitlines would cut at form feeds, which are legal in a Python source.
    return io.StringIO(text, newline="\n").readlines()


def _options(where, text):
    options = {}
    for option in text.split(","):
        name, _, value = option.strip().partition(" ")
        if name in VALUE_OPTIONS and value:
            options[name] = value
        elif name in PLAIN_OPTIONS and not value:
            options[name] = True
        elif name:
            raise Wrong("%s: option %s" % (where, option.strip()))
    return options


class LaidOut:
    """A project in a folder: `base/project` is its root, what is outside of it lies beside that."""

    def __init__(self, project, base):
        self.project = project
        self.base = os.path.realpath(base)
        self.root = os.path.join(self.base, "project")
        self.venv = None
        os.makedirs(self.root)
        if "venv" in project.header:
            self.venv = os.path.join(self.root, project.header["venv"])
            # Without pip: it takes seconds, and nothing is installed but by hand.
            venv.EnvBuilder(symlinks=True, with_pip=False).create(self.venv)
        self.folder = os.path.normpath(os.path.join(self.root, project.header.get("folder", ".")))
        zips = {}
        for file in project.files:
            self._lay_out(file, zips)
        for path, (options, members) in zips.items():
            self._zip(path, options, members)

    def site_packages(self):
        """The venv's folder of installed packages."""
        if self.venv is None:
            raise Wrong("%s: {site} without a venv" % self.project.path)
        return site_packages(self.venv)

    def expand(self, text):
        """Puts real folders into a text."""
        out = text.replace("{root}", self.root).replace("{beside}", self.base)
        out = out.replace("{cache_tag}", sys.implementation.cache_tag)
        return out.replace("{site}", self.site_packages()) if "{site}" in out else out

    def environment(self):
        """The variables of the header, with real folders."""
        out = {}
        for part in shlex.split(self.project.header.get("environment", "")):
            name, _, value = part.partition("=")
            out[name] = self.expand(value)
        if self.venv is not None:
            out["VIRTUAL_ENV"] = self.venv
        return out

    def run(self):
        """The arguments that name what is run."""
        return shlex.split(self.project.header["run"])

    def arguments(self):
        """The arguments that the program gets."""
        return shlex.split(self.project.header.get("arguments", ""))

    def local_files(self):
        """Every file and link of the project, by its path from the root, the venv's apart."""
        out = set()
        for folder, folders, files in os.walk(self.base):
            if self.venv is not None and folder == self.venv:
                folders[:] = []
                continue
            links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
            out.update(self.relative(os.path.join(folder, name)) for name in files + links)
        return out

    def relative(self, path):
        """A path as the expectations write it."""
        return os.path.relpath(path, self.root).replace(os.sep, "/")

    def _lay_out(self, file, zips):
        path, options = self.expand(file.path), file.options
        if "!/" in path:
            archive, _, member = path.partition("!/")
            zips.setdefault(archive, ({}, []))[1].append((member, self._content(file)))
            return
        if "zip" in options:
            zips.setdefault(path, ({}, []))[0].update(options)
            return
        target = os.path.normpath(os.path.join(self.root, path))
        if os.path.commonpath([target, self.base]) != self.base:
            raise Wrong("%s: outside of everything: %s" % (self.project.path, path))
        if path.endswith("/"):
            os.makedirs(target, exist_ok=True)
            return
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if "link" in options:
            os.symlink(self.expand(options["link"]), target)
        elif "sqlite" in options:
            import sqlite3

            connection = sqlite3.connect(target)
            connection.executescript(file.text)
            connection.close()
        elif "compiled" in options:
            with open(target, "wb") as out:
                # A .pyc in __pycache__ has to fit its source, or Python passes it over.
                source = os.path.join(os.path.dirname(os.path.dirname(target)), os.path.basename(path).split(".")[0])
                beside = source + ".py" if "__pycache__" in path and os.path.exists(source + ".py") else None
                out.write(_compiled(file.text, os.path.basename(path).split(".")[0] + ".py", beside))
        else:
            with open(target, "wb") as out:
                out.write(self._content(file))
        if "executable" in options:
            os.chmod(target, os.stat(target).st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)

    def _content(self, file):
        options, text = file.options, file.text
        if "compiled" in options:
            return _compiled(text, os.path.basename(file.path).split(".")[0] + ".py", None)
        if "expand" in options:
            text = self.expand(text)
        if "notebook" in options or "notebook-3" in options:
            text = _notebook(text, 4 if "notebook" in options else 3)
        if "escapes" in options:
            return text.replace("\n", "").encode("ascii").decode("unicode_escape").encode("latin-1")
        if "no-final-newline" in options and text.endswith("\n"):
            text = text[:-1]
        if "repeat" in options:
            text *= int(options["repeat"])
        if "crlf" in options:
            text = text.replace("\n", "\r\n")
        encoding = "latin-1" if "latin-1" in options else "utf-16" if "utf-16" in options else "utf-8"
        return (b"\xef\xbb\xbf" if "bom" in options else b"") + text.encode(encoding)

    def _zip(self, path, options, members):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in members:
                # A date of its own, so that the archive is the same each time.
                archive.writestr(zipfile.ZipInfo(member, (2024, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
        target = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as out:
            if "executable" in options:
                out.write(b"#!/usr/bin/env python3\n")
            out.write(content.getvalue())
        if "executable" in options:
            os.chmod(target, 0o755)


def site_packages(environment):
    """The folder of installed packages in a venv."""
    return os.path.join(environment, "lib", "python%d.%d" % sys.version_info[:2], "site-packages")


def _compiled(text, name, source):
    """The bytes of a .pyc; it fits the source file where one is given, else it was compiled somewhere else."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, name)
        if source is None:
            with open(path, "w", encoding="utf-8", newline="") as out:
                out.write(text)
        else:
            shutil.copy2(source, path)
        target = py_compile.compile(path, os.path.join(folder, "out.pyc"), dfile=name, doraise=True)
        with open(target, "rb") as compiled:
            return compiled.read()


def _notebook(text, version):
    """The JSON of a notebook from its cells' texts."""
    cells = []
    for line in _lines(text):
        if line.strip() in CELLS:
            cells.append((CELLS[line.strip()], []))
        elif cells:
            cells[-1][1].append(line)
    out = []
    for kind, lines in cells:
        if lines:
            lines[-1] = lines[-1].rstrip("\n")
        cell = {"cell_type": kind, "metadata": {}}
        if kind == "code":
            cell.update(outputs=[], **{"execution_count" if version == 4 else "prompt_number": None})
            if version == 3:
                cell["language"] = "python"
        cell["input" if version == 3 and kind == "code" else "source"] = lines
        out.append(cell)
    if version == 3:
        whole = {"metadata": {"name": ""}, "nbformat": 3, "nbformat_minor": 0,
                 "worksheets": [{"cells": out, "metadata": {}}]}
    else:
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        whole = {"cells": out, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"
