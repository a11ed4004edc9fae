"""What a traced interpreter runs at its start: notes each file that is opened and each code that is run.

Run by a .pth file as text with LOG in its globals, never imported: it leaves no name in any module, opens nothing that
stays open, and imports only what every interpreter has loaded by then.
"""


def install(log):
    import posix
    import sys

    def note(kind, path):
        if isinstance(path, bytes):
            path = path.decode("utf-8", "surrogateescape")
        if not isinstance(path, str) or path == log or path.startswith("<"):
            return
        if not path.startswith("/"):
            path = posix.getcwd() + "/" + path
        line = kind + "\t" + path + "\n"
        # Opened for each line: a child that closes every descriptor, or is killed, has told what it had to tell.
        file = posix.open(log, posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_CLOEXEC, 0o600)
        try:
            posix.write(file, line.encode("utf-8", "surrogateescape"))
        finally:
            posix.close(file)

    def hook(event, args):
        try:
            if event == "open":
                path, mode, flags = args
                if mode is None:
                    writes = flags & (posix.O_WRONLY | posix.O_RDWR)
                else:
                    writes = any(letter in mode for letter in "wax+")
                note("write" if writes else "read", path)
            elif event == "exec":
                note("exec", getattr(args[0], "co_filename", None))
            elif event == "import" and args[1]:
                note("read", args[1])
            elif event == "sqlite3.connect":
                note("native", args[0])
        except Exception:
            # An interpreter that is being taken down has no functions left to call.
            pass

    sys.addaudithook(hook)


install(LOG)  # noqa: F821
