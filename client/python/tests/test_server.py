"""The private server: it starts, is private, and ends with its parent."""

import os
import signal
import stat
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import spec, xor

import backprop


def gone(pid):
    """Whether a process ends within 10 seconds."""
    for _ in range(1000):
        try:
            os.kill(pid, 0)
            with open(f"/proc/{pid}/stat") as file:
                if file.read().rsplit(")", 1)[1].split()[0] == "Z":
                    return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.01)
    return False


def test_a_block_has_a_server():
    with backprop.Server() as server:
        pid, folder = server.pid, os.path.dirname(server.log)
        socket = server.address[len("unix:"):]
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        assert stat.S_IMODE(os.stat(socket).st_mode) == 0o600
        with backprop.Client(server.address) as client:
            assert client.health()
    assert gone(pid) and not os.path.exists(folder)
    with backprop.serve() as client:
        assert client.health()


def test_a_data_directory_keeps_models(tmp_path):
    x, y = xor()
    with backprop.serve(tmp_path / "data") as client:
        client.create_model(spec(), "a")
        client.train("a", x, y, iterations=10)
        expected = client.predict("a", x).probabilities
    with backprop.serve(tmp_path / "data") as client:
        np.testing.assert_array_equal(client.predict("a", x).probabilities, expected)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, None])
def test_it_ends_with_its_parent(sign):
    script = ("import backprop, sys, time; s = backprop.Server(); print(s.pid, flush=True); "
              "time.sleep(0 if sys.argv[1] == 'end' else 600)")
    parent = subprocess.Popen([sys.executable, "-c", script, "end" if sign is None else "wait"],
                              stdout=subprocess.PIPE)
    pid = int(parent.stdout.readline())
    if sign is not None:
        parent.send_signal(sign)
    parent.wait(30)
    parent.stdout.close()
    assert gone(pid)


def test_it_outlives_the_thread_that_started_it():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        server = pool.submit(backprop.Server).result()
    time.sleep(0.2)
    with server, backprop.Client(server.address) as client:
        assert client.health()


def test_failures_say_why(tmp_path, monkeypatch):
    with pytest.raises(backprop.FailedPrecondition, match="max-models"):
        backprop.Server(flags=["--max-models", "none"])
    monkeypatch.setenv("BACKPROPD", str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError, match="BACKPROPD"):
        backprop.Server()
    monkeypatch.delenv("BACKPROPD")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="PATH"):
        backprop.server.find_server()


def test_the_environment_of_another_server_is_not_used(monkeypatch):
    monkeypatch.setenv("BACKPROPD_MAX_MODELS", "1")
    with backprop.serve() as client:
        client.create_model(spec())
        client.create_model(spec())
