"""Starts a server of one's own: on a private Unix socket, for as long as this process lives."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

from backprop import errors
from backprop.client import Client

__all__ = ["Server", "find_server", "serve"]

START_SECONDS = 30.0
STOP_SECONDS = 15.0

# Runs in a fresh interpreter that becomes the server: the kernel ends it when the thread that
# started it ends, also when that process is killed. A process that starts after its parent died
# ends at once.
_BECOME_SERVER = """
import ctypes, os, signal, sys
ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM, 0, 0, 0)
if os.getppid() != int(sys.argv[1]): sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def find_server() -> str:
    """The program backpropd: $BACKPROPD, that of the wheel, or that of PATH."""
    given = os.environ.get("BACKPROPD")
    if given:
        if not os.access(given, os.X_OK):
            raise FileNotFoundError(f"BACKPROPD names {given}, which is not a program")
        return given
    carried = Path(__file__).parent / "_server/bin/backpropd"
    if carried.exists():
        if not os.access(carried, os.X_OK):  # some installers drop the permission
            carried.chmod(0o755)
        return str(carried)
    found = shutil.which("backpropd")
    if found is None:
        raise FileNotFoundError(
            "there is no backpropd: install a wheel that carries it, add it to PATH, or set "
            "BACKPROPD to its path")
    return found


class Server:
    """A server that this process started. It ends with close(), and with this process.

    address is that of its Unix socket, which only this user can use; log is the path of its log.
    """

    def __init__(self, data_dir: Union[str, os.PathLike[str], None] = None, *,
                 flags: Sequence[str] = (), binary: Optional[str] = None,
                 environment: Optional[Mapping[str, str]] = None) -> None:
        program = find_server() if binary is None else binary
        self._folder = tempfile.mkdtemp(prefix="backprop-")  # mode 0700
        socket = os.path.join(self._folder, "socket")
        self.address = "unix:" + socket
        self.log = os.path.join(self._folder, "log")
        ready = os.path.join(self._folder, "address")
        command = [program, "--listen", self.address, "--port-file", ready, *flags]
        if data_dir is not None:
            command += ["--data-dir", os.fspath(data_dir)]
        kept = {k: v for k, v in os.environ.items() if not k.startswith("BACKPROPD_")}
        kept.update(environment or {})
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._failure: Optional[BaseException] = None
        self._owner = os.getpid()
        self._lock = threading.Lock()
        started = threading.Event()

        # The kernel watches the thread that starts the server, so that thread lives as long.
        def own() -> None:
            try:
                with open(self.log, "wb") as log:
                    self._process = subprocess.Popen(
                        [sys.executable, "-I", "-S", "-c", _BECOME_SERVER, str(os.getpid()),
                         *command],
                        stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=kept,
                        start_new_session=True)
            except BaseException as error:
                self._failure = error
                return
            finally:
                started.set()
            self._process.wait()

        threading.Thread(target=own, name="backprop-server", daemon=True).start()
        started.wait()
        atexit.register(self.close)
        try:
            if self._failure is not None:
                raise self._failure
            self._wait(ready)
        except BaseException:
            self.close()
            raise

    def _wait(self, ready: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not (os.path.exists(ready) and os.path.getsize(ready) > 0):
            if self.returncode is not None:
                raise errors.FailedPrecondition("the server did not start: " + self.log_text())
            if time.monotonic() > deadline:
                raise errors.DeadlineExceeded("the server did not start: " + self.log_text())
            time.sleep(0.002)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def returncode(self) -> Optional[int]:
        """The exit status of the server, or None while it runs."""
        return None if self._process is None else self._process.poll()

    def log_text(self, last: int = 4096) -> str:
        """The end of the server's log."""
        try:
            with open(self.log, "rb") as file:
                return file.read()[-last:].decode(errors="replace").strip()
        except OSError:
            return ""

    def close(self) -> None:
        """Stops the server, and removes its socket and log."""
        if os.getpid() != self._owner:  # a forked child does not own it
            return
        with self._lock:
            atexit.unregister(self.close)
            process = self._process
            if process is not None and process.poll() is None:
                process.terminate()
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def serve(data_dir: Union[str, os.PathLike[str], None] = None, *, flags: Sequence[str] = (),
          binary: Optional[str] = None, **options: Any) -> Iterator[Client]:
    """Starts a server and yields a client of it; both end with the block.

        with backprop.serve() as client:
            client.create_model(...)

    data_dir: where models are stored; without it they live in memory. flags: more flags of
    backpropd. options: those of Client.
    """
    with Server(data_dir, flags=flags, binary=binary) as server:
        options.setdefault("use_proxy", False)
        with Client(server.address, **options) as client:
            yield client
