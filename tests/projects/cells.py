"""Runs the cells of a notebook in order, in one namespace, as a kernel would.

Run as text under `python -c`, which has the `sys.path` of a kernel: '' first. It knows the magics that run or read a
file, by really running it: %run, %load, %cd, !command, and the cell magics that only wrap Python.
"""


def run_notebook(path):
    import json
    import os
    import re
    import runpy
    import shlex
    import subprocess
    import sys

    namespace = sys.modules["__main__"].__dict__

    def shell(command):
        sys.stdout.flush()
        subprocess.run(command, shell=True, check=True)

    def run_line(arguments):
        words = shlex.split(arguments)
        inside = words[0] == "-i"
        words = words[1:] if inside else words
        if words[0] == "-m":
            sys.argv = words[1:]
            namespace.update(runpy.run_module(words[1], run_name="__main__", alter_sys=True))
            return
        file = words[0] if os.path.exists(words[0]) else words[0] + ".py"
        before, sys.argv = sys.argv, [file] + words[1:]
        sys.path.insert(0, os.path.dirname(os.path.abspath(file)))
        try:
            if file.endswith(".ipynb"):
                for cell in cells(file):
                    run_cell(cell, namespace)
                return
            with open(file, "rb") as source:
                code = compile(source.read(), file, "exec")
            if inside:
                exec(code, namespace)
            else:
                inner = {"__name__": "__main__", "__file__": file, "__builtins__": __builtins__}
                exec(code, inner)
                namespace.update({name: inner[name] for name in inner if not name.startswith("__")})
        finally:
            sys.argv = before
            del sys.path[0]

    def load(arguments):
        # The cell is replaced by the text, which runs only when the user runs the cell again.
        with open(arguments.strip(), "rb") as source:
            source.read()

    magics = {"run": run_line, "load": load, "cd": lambda folder: os.chdir(folder.strip())}

    def line_magic(name, arguments):
        if name in magics:
            magics[name](arguments)

    class Shell:
        """What get_ipython() gives."""

        def run_line_magic(self, name, arguments):
            line_magic(name, arguments)

        def system(self, command):
            shell(command)

    def run_cell(text, namespace):
        first, _, rest = text.partition("\n")
        if first.startswith(("%%bash", "%%sh", "%%script")):
            shell(rest)
            return
        if first.startswith("%%writefile"):
            with open(first.split(None, 1)[1], "w", encoding="utf-8") as out:
                out.write(rest)
            return
        if first.startswith(("%%time", "%%capture", "%%prun")):
            text = rest
        elif first.startswith("%%"):
            return
        lines = []
        for line in text.split("\n"):
            found = re.match(r"(\s*)(?:%(\w+)\s*(.*)|!(.*))$", line)
            if found and found.group(2):
                line = "%s__magic__(%r, %r)" % found.group(1, 2, 3)
            elif found:
                line = "%s__shell__(%r)" % found.group(1, 4)
            lines.append(line)
        inner = compile("\n".join(lines), "<cell>", "exec")
        namespace.update(__magic__=line_magic, __shell__=shell, get_ipython=Shell)
        exec(inner, namespace)

    def cells(path):
        with open(path, encoding="utf-8") as file:
            notebook = json.load(file)
        sheets = notebook.get("worksheets", [notebook])
        for cell in (cell for sheet in sheets for cell in sheet["cells"]):
            if cell["cell_type"] == "code":
                text = cell.get("source", cell.get("input"))
                yield text if isinstance(text, str) else "".join(text)

    for cell in cells(path):
        try:
            run_cell(cell, namespace)
        except Exception as error:
            # A cell that fails does not keep anybody from running the next one.
            print(type(error).__name__)


run_notebook(NOTEBOOK)  # noqa: F821
