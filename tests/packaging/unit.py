"""Reads a systemd unit, and starts its service as systemd does, where there is no systemd."""

import os
import pathlib
import re
import resource
import shlex
import signal
import socket
import subprocess
import time

from root import ENVIRONMENT

DIRECTORIES = {"StateDirectory": "var/lib", "RuntimeDirectory": "run", "LogsDirectory": "var/log"}


class Unit:
    """The settings of the section [Service]; later lines of a list follow earlier ones."""

    def __init__(self, path):
        self.settings = {}
        section = None
        for line in pathlib.Path(path).read_text().splitlines():
            if line.startswith("["):
                section = line
            elif section == "[Service]" and re.match(r"\w+=", line):
                key, _, value = line.partition("=")
                self.settings.setdefault(key, []).append(value)

    def __getitem__(self, key):
        return self.settings[key][-1]


class Service:
    """The process of a unit in a root; a context manager that kills what is left of it."""

    def __init__(self, root, unit):
        self.root, self.unit = root, unit

    def __enter__(self):
        owner = f"{self.unit['User']}:{self.unit['Group']}"
        for key, parent in DIRECTORIES.items():
            directory = f"/{parent}/{self.unit[key]}"
            user, group = owner.split(":")
            self.root.run("install", "-d", "-o", user, "-g", group, "-m", self.unit[f"{key}Mode"], directory)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = self.root / "run/notify"
        path.unlink(missing_ok=True)
        self.socket.bind(str(path))
        os.chmod(path, 0o666)
        files = min(int(self.unit["LimitNOFILE"]), resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        command = ["prlimit", f"--nofile={files}:{files}", "setpriv", "--no-new-privs",
                   *self.root.command(*shlex.split(self.unit["ExecStart"]), user=owner)]
        self.log_path = self.root.path.with_suffix(".log")
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, umask=int(self.unit["UMask"], 8),
                env={"PATH": ENVIRONMENT["PATH"], "NOTIFY_SOCKET": "/run/notify"})
        try:
            self.wait_for("READY=1", 60)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.socket.close()

    def log(self):
        return self.log_path.read_text()

    def wait_for(self, state, seconds):
        """Waits until the process has sent a state (sd_notify)."""
        deadline = time.monotonic() + seconds
        self.socket.settimeout(0.1)
        while True:
            try:
                message = self.socket.recv(4096).decode()
            except TimeoutError:
                message = ""
            if state in message.split("\n"):
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the service did not send {state}; exit status "
                                     f"{self.process.poll()}:\n{self.log()}")

    def stop(self):
        """Stops it as systemd does; returns (exit status, seconds)."""
        start = time.monotonic()
        self.process.send_signal(signal.Signals[self.unit["KillSignal"]])
        self.wait_for("STOPPING=1", float(self.unit["TimeoutStopSec"]))
        status = self.process.wait(timeout=float(self.unit["TimeoutStopSec"]))
        return status, time.monotonic() - start
