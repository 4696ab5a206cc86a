"""Kills in the middle of everything: nothing is lost, nothing is done twice."""

import threading
import time

import numpy as np
import pytest
from conftest import slow_spec, spec, wide, xor

import backprop


def reference(work):
    """The parameters after work(client, model) on a server that nothing happens to."""
    with backprop.serve() as client:
        model = client.create_model(slow_spec(), "a")
        work(client, model)
        return client.get_parameters(model).tensors


def same(left, right):
    for name, array in left.items():
        np.testing.assert_array_equal(array, right[name])


def test_a_step_waits_for_the_server_and_is_made_once(server, client):
    x, y = xor()
    client.create_model(spec(), "a")
    server.kill()
    started = []

    def start():
        server.start()
        started.append(time.monotonic())

    timer = threading.Timer(0.5, start)
    timer.start()
    assert client.step("a", x, y).step == 1
    timer.join()
    assert time.monotonic() - started[0] < 5  # the connection is made during the pauses
    assert client.get_model("a").step == 1


def test_steps_between_kills_are_made_once(server, client):
    x, y = xor()
    client.create_model(spec(), "a")
    for i in range(5):
        for _ in range(10):
            client.step("a", x, y)
        server.restart()
        assert client.get_model("a").step == 10 * (i + 1)


def test_retries_end(server):
    with backprop.Client(server.address, retry=backprop.Retry(3, 0.02, 0.04)) as client:
        client.health()
        server.kill()
        start = time.monotonic()
        with pytest.raises(backprop.Unavailable):
            client.get_model("a")
        assert time.monotonic() - start < 5


def test_a_run_resumes_after_kills_with_the_same_bits(server, client):
    x, y = wide()

    def work(on, model):
        return on.train(model, x, y, iterations=600, batch_size=64, report_every=20)

    client.create_model(slow_spec(), "a")
    seen = []
    for event in client.start_training("a", x, y, iterations=600, batch_size=64, report_every=20):
        seen.append(event.sequence)
        if event.sequence in (4, 12):
            server.restart()
    assert event.summary.stop_reason == "completed" and event.summary.iterations == 600
    assert seen == sorted(set(seen)) and len(seen) > 12
    assert client.get_model("a").step == 600
    same(reference(work), client.get_parameters("a").tensors)


def test_a_watch_continues_after_kills(server, client):
    x, y = wide()
    client.create_model(slow_spec(), "a")
    for _ in client.start_training("a", x, y, iterations=600, batch_size=64, report_every=20,
                                   detach=True):
        break
    seen = []
    for event in client.watch_training("a"):
        seen.append(event.sequence)
        if len(seen) == 5:
            server.restart()
    assert event.summary.stop_reason == "completed"
    assert seen[0] == 1 and seen == sorted(set(seen))


def test_pipelined_steps_survive_kills_with_the_same_bits(server, client):
    x, y = wide()
    batches = [(x[i:i + 64], y[i:i + 64]) for i in range(0, 512, 64)] * 25
    client.create_model(slow_spec(), "a")
    made = []
    for result in client.steps("a", batches):
        made.append(result.step)
        if result.step in (40, 120):
            server.restart()
    assert made == list(range(1, 201))
    same(reference(lambda on, model: list(on.steps(model, batches))),
         client.get_parameters("a").tensors)


def test_an_upload_continues_after_kills(server, client):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(20_000, 16)).astype(np.float32), rng.integers(0, 2, 20_000)
    kills = [5_000, 12_000]
    sent = []

    def see(rows):
        sent.append(rows)
        if kills and rows >= kills[0]:
            kills.pop(0)
            server.restart()

    made = client.upload_dataset("d", x, y, chunk_rows=500, on_progress=see)
    assert made.rows == 20_000 and made.ready and not kills
    assert len(sent) < 2 * 40  # it did not begin again
    client.create_model(backprop.ModelSpec(16, [backprop.Layer(2)], optimizer="sgd"), "a")
    client.create_model(backprop.ModelSpec(16, [backprop.Layer(2)], optimizer="sgd"), "b")
    assert client.train("a", dataset="d", iterations=2).metrics == client.train(
        "b", x, y, iterations=2).metrics


def test_export_and_import_begin_again(server, client, tmp_path):
    client.create_model(backprop.ModelSpec(1250, [backprop.Layer(4000), backprop.Layer(2)],
                                           optimizer="sgd"), "a")
    whole = client.export_model("a")
    server.kill()
    timer = threading.Timer(0.3, server.start)
    timer.start()
    assert client.export_model("a") == whole
    timer.join()
    server.kill()
    timer = threading.Timer(0.3, server.start)
    timer.start()
    assert client.import_model(whole, "b").name == "models/b"
    timer.join()


def test_a_run_without_durability_ends_with_its_connection(tmp_path):
    x, y = wide()
    with backprop.Server() as own, backprop.Client(
            own.address, retry=backprop.Retry(3, 0.01, 0.02)) as client:
        client.create_model(slow_spec(), "a")
        with pytest.raises(backprop.Unavailable):
            for event in client.start_training("a", x, y, iterations=10**6, report_every=10):
                if event.sequence == 3:
                    own._process.kill()


def test_a_deadline_of_a_frozen_server(server, client):
    x, y = xor()
    client.create_model(spec(), "a")
    server.freeze()
    start = time.monotonic()
    with pytest.raises(backprop.DeadlineExceeded):
        client.step("a", x, y, timeout=0.5)
    assert 0.4 < time.monotonic() - start < 3
    server.thaw()
    assert client.health()
