"""The server that estimators share: one for a process and the processes that it starts.

The first process that needs it starts it and leaves its address in the environment, which worker
processes inherit. An estimator that is pickled carries the address too, so that workers that were
started before find it. $BACKPROP_ADDRESS names a server to use instead. The server ends with the
process that started it.
"""

from __future__ import annotations

import atexit
import os
import socket
import threading
from collections import deque
from typing import Optional

from backprop import errors
from backprop.client import Client
from backprop.server import Server

SHARED = "BACKPROP_SHARED_SERVER"

_lock = threading.Lock()
_server: Optional[Server] = None
_clients: dict[tuple[int, str], Client] = {}  # by process and address
_adopted: Optional[str] = None

# Models whose estimators were freed. They are deleted with the next call: a finalizer runs at any
# time, also inside a call of gRPC, and so makes none.
_garbage: deque[tuple[int, str, str]] = deque(maxlen=100_000)


def _alive(address: Optional[str]) -> bool:
    """Whether a server listens on a Unix socket."""
    if not address or not address.startswith("unix:"):
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(address[len("unix:"):])
        except OSError:
            return False
    return True


def address(start: bool = True) -> Optional[str]:
    """The address of the shared server; without one, starts it or returns None."""
    global _server
    given = os.environ.get("BACKPROP_ADDRESS")
    if given:
        return given
    with _lock:
        if _server is not None and _server._owner == os.getpid() and _server.returncode is None:
            return _server.address
        for known in (os.environ.get(SHARED), _adopted):
            if _alive(known):
                return known
        if not start:
            return None
        _server = Server(flags=["--log-level", "warn"])
        os.environ[SHARED] = _server.address
        return _server.address


def adopt(known: Optional[str]) -> None:
    """Uses the server of the process that pickled an estimator, unless there is one here."""
    global _adopted
    if known is not None and _adopted != known:
        _adopted = known


def client(to: Optional[str] = None) -> Client:
    """The client of the shared server, or of another one, in this process."""
    target = to or address()
    assert target is not None
    key = (os.getpid(), target)
    with _lock:
        found = _clients.get(key)
        if found is None:
            found = _clients[key] = Client(target, use_proxy=not target.startswith("unix:"))
    _sweep(key, found)
    return found


def discard(pid: int, target: str, model: str) -> None:
    """Marks a model for deletion; makes no call."""
    _garbage.append((pid, target, model))


def _sweep(key: tuple[int, str], found: Client) -> None:
    for _ in range(len(_garbage)):
        try:
            pid, target, model = _garbage.popleft()
        except IndexError:
            return
        if (pid, target) != key:
            if pid == os.getpid():
                _garbage.append((pid, target, model))
            continue
        try:
            found.delete_model(model, timeout=5)
        except errors.Error:
            pass  # the server has ended, or has deleted it


@atexit.register
def _end() -> None:
    for (pid, target), found in list(_clients.items()):
        if pid != os.getpid():
            continue
        own = _server is not None and _server.address == target
        if not own and (_alive(target) or not target.startswith("unix:")):
            _sweep((pid, target), found)
        found.close()
    if _server is not None:
        _server.close()
        if os.environ.get(SHARED) == _server.address:
            del os.environ[SHARED]
