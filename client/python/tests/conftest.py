"""A real server for each test that wants one, which tests kill and start again."""

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

import backprop

ROOT = Path(__file__).resolve().parents[3]


def binary():
    path = os.environ.get("BACKPROPD") or str(ROOT / "build/release/bin/backpropd")
    assert os.access(path, os.X_OK), f"{path}: build the server, or set BACKPROPD"
    return path


os.environ.setdefault("BACKPROPD", binary())


class Server:
    """A server with a data directory that keeps its address."""

    def __init__(self, folder, *flags, listen="127.0.0.1:0"):
        self.folder = folder
        self.flags = flags
        self.listen = listen
        self.process = None
        self.start()

    def start(self):
        ready = self.folder / "address"
        ready.unlink(missing_ok=True)
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [binary(), "--listen", self.listen, "--port-file", ready,
                 "--data-dir", self.folder / "data", "--mark-interval", "0.05", *self.flags],
                stderr=log)
        deadline = time.monotonic() + 30
        while not (ready.exists() and ready.stat().st_size):
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        self.address = self.listen = ready.read_text().strip()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def restart(self):
        self.kill()
        self.start()

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self):
        if self.process.poll() is None:
            self.thaw()
            self.process.terminate()
            self.process.wait(30)


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def client(server):
    with backprop.Client(server.address, retry=backprop.Retry(max_attempts=100)) as client:
        yield client


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.stop()


@pytest.fixture
def quick(shared_server):
    """A client of a server that other tests use too: names must be unique."""
    with backprop.Client(shared_server.address) as client:
        yield client


def xor(rows=200, dtype=np.float32, seed=7):
    rng = np.random.default_rng(seed)
    points = rng.uniform(-1, 1, (rows, 2)).astype(dtype)
    return points, (points[:, 0] * points[:, 1] > 0).astype(np.int32)


def spec(**fields):
    fields.setdefault("optimizer", backprop.Sgd(0.1))
    return backprop.ModelSpec(2, [backprop.Layer(8), backprop.Layer(2)], seed=42, **fields)


def slow_spec(**fields):
    """A model whose steps on wide() take about a millisecond."""
    layers = [backprop.Layer(256), backprop.Layer(256), backprop.Layer(2)]
    return backprop.ModelSpec(64, layers, optimizer="adam", seed=5, **fields)


def wide(rows=512):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(rows, 64)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(np.int32)
