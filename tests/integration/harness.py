"""Starts and stops the real binaries for tests. BACKPROP_BIN is their directory."""

import fcntl
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ["BACKPROP_BIN"])


def pass_sockets(command, environment, sockets):
    """The command, environment and further arguments of Popen with which a process inherits `sockets`, pairs of
    a name and a socket (or another file), as sd_listen_fds(3) describes."""
    numbers = [file.fileno() for _, file in sockets]

    def place():
        # First out of the way: a number may be both a source and a target.
        above = [fcntl.fcntl(number, fcntl.F_DUPFD, 100) for number in numbers]
        for target, source in enumerate(above, start=3):
            os.dup2(source, target)

    environment = {**environment, "LISTEN_FDS": str(len(numbers)),
                   "LISTEN_FDNAMES": ":".join(name for name, _ in sockets)}
    # The shell becomes the server, and so has its number.
    command = ["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *map(str, command)]
    return command, environment, {"preexec_fn": place, "pass_fds": range(3, 3 + len(numbers))}


class Server:
    """A backpropd on a free port; a context manager that stops it. It inherits `sockets`, which are pairs
    of a name and a socket, as from systemd."""

    def __init__(self, *flags, listen="127.0.0.1:0", env=None, expect_exit=0, wrapper=(), cwd=None, sockets=()):
        self.folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.folder.name)
        self.flags = flags
        self.listen = listen
        self.env = env or {}
        self.expect_exit = expect_exit
        self.cwd = cwd
        self.wrapper = wrapper  # a command that runs the server, such as ("prlimit", "--nofile=64")
        self.sockets = sockets

    def __enter__(self):
        command = [*self.wrapper, BIN / "backpropd", "--port-file", self.path / "address", *self.flags]
        if self.listen:
            command += ["--listen", self.listen]
        self.log_file = open(self.path / "log", "w")
        environment = {**os.environ, **self.env}
        inherited = {}
        if self.sockets:
            command, environment, inherited = pass_sockets(command, environment, self.sockets)
        self.process = subprocess.Popen(command, stdout=self.log_file, stderr=self.log_file, env=environment,
                                        cwd=self.cwd, **inherited)
        deadline = time.monotonic() + 30
        while not (self.path / "address").exists():
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}: {self.log()}")
            if time.monotonic() > deadline:
                self.process.kill()
                raise RuntimeError(f"the server did not start: {self.log()}")
            time.sleep(0.01)
        self.address = (self.path / "address").read_text().strip()
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(timeout=60)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.log_file.close()
            log = self.log()
            self.folder.cleanup()
        if exc[0] is not None:
            print(f"the server ended with {self.process.returncode}:\n{log}", file=sys.stderr)
        elif self.process.returncode != self.expect_exit:
            raise AssertionError(f"the server ended with {self.process.returncode}:\n{log}")

    def log(self):
        return (self.path / "log").read_text()

    def terminate_and_wait(self, timeout=60):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=timeout)


def cli(*arguments, server=None, stdin=None, cwd=None, env=None, timeout=120):
    """Runs `backprop`; returns the finished process with text output."""
    own = ("BACKPROP_SERVER", "BACKPROP_CONTEXT", "BACKPROP_TOKEN")  # of whoever runs the tests
    environment = {k: v for k, v in os.environ.items() if k not in own}
    environment["XDG_CONFIG_HOME"] = "/nonexistent"
    if server is not None:
        environment["BACKPROP_SERVER"] = server
    environment.update(env or {})
    return subprocess.run([BIN / "backprop", *map(str, arguments)], input=stdin, capture_output=True,
                          text=True, cwd=cwd, env=environment, timeout=timeout)


def readme_blocks(language, page="README.md"):
    """Returns the fenced code blocks in a language of README.md or another page, in order."""
    text = (ROOT / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)
