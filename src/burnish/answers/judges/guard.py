"""The process that runs an unread program under limits; started by `sandbox.py` as a script, never imported.

Arguments: the program's file, seconds, bytes of memory, bytes of output. Standard input: the word printed at the end.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

FORBIDDEN = (
    "socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.kill", "os.putenv",
    "ctypes.", "pty.", "urllib.", "http.", "ftplib.", "smtplib.", "shutil.", "os.remove", "os.rename", "os.rmdir",
    "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate", "mmap.", "signal.", "gc.", "_posixsubprocess.",
    "fcntl.", "resource.", "syslog.", "webbrowser.", "sqlite3.",
)  # fmt: skip
NEW_USER, NEW_NET, NEW_PID, NEW_IPC = 0x10000000, 0x40000000, 0x20000000, 0x08000000


def main() -> None:
    file, seconds, memory, output = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    with open(file, encoding="utf-8", errors="surrogatepass") as stream:
        program = stream.read()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_USER | NEW_NET | NEW_PID | NEW_IPC) == 0 or libc.unshare(NEW_NET | NEW_PID | NEW_IPC) == 0:
        child = os.fork()  # the first process of a new namespace: what it starts ends with it
        if child:
            _, status = os.waitpid(child, 0)
            if os.WIFSIGNALED(status):
                os.kill(os.getpid(), os.WTERMSIG(status))
            os._exit(os.waitstatus_to_exitcode(status))
    libc.prctl(1, signal.SIGKILL)  # dies with its parent
    with open("/proc/self/statm") as pages:
        used = int(pages.read().split()[0]) * resource.getpagesize()
    whole = int(seconds) + 1
    for kind, most in (
        (resource.RLIMIT_CPU, whole), (resource.RLIMIT_AS, used + memory), (resource.RLIMIT_FSIZE, output),
        (resource.RLIMIT_NOFILE, 32), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_NPROC, 0),
    ):  # fmt: skip
        resource.setrlimit(kind, (most, most))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    allowed = tuple({os.path.realpath(p) + os.sep for p in (sys.prefix, sys.base_prefix, os.getcwd())})
    real, fs, forbidden, text = os.path.realpath, os.fspath, FORBIDDEN, isinstance

    def hook(event: str, args: tuple) -> None:  # type: ignore[type-arg]
        if event in ("open", "os.listdir", "os.scandir"):
            path = args[0]
            if text(path, (str, bytes)) or hasattr(path, "__fspath__"):
                name = fs(path)
                name = name.decode() if text(name, bytes) else name
                if not (real(name) + "/").startswith(allowed):
                    raise PermissionError("an answer may not open " + name)
        elif event.startswith(forbidden):
            raise PermissionError("an answer may not do this: " + event)

    space = {"__name__": "__main__", "__builtins__": __builtins__}
    code = compile(program, "answer.py", "exec")
    sys.addaudithook(hook)
    exec(code, space)
    sys.stdout.flush()
    os.write(1, os.read(0, 64))


if __name__ == "__main__":
    main()
