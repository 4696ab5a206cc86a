"""The limits on what one peer can hold, seen from outside: connections, calls, metadata, time, memory."""

import contextlib
import socket
import sys
import tempfile
import threading
import time
import unittest

import grpc

from attacks import SERVICE, Link, Scale, message_of, setting
from harness import Server, cli
from proxy import Proxy
from stubs import model, service, service_grpc, tensor, training


def create(stub, model_id="m"):
    spec = model.ModelSpec(input_size=2, layers=[model.Layer(units=8), model.Layer(units=2)])
    return stub.CreateModel(service.CreateModelRequest(model_id=model_id, spec=spec)).model.name


def rows(count=4):
    return tensor.Batch(inputs=tensor.Tensor(shape=[count, 2], values=[0.5] * 2 * count),
                        labels=tensor.Tensor(values=[i % 2 for i in range(count)]))


def step(name="models/m"):
    return service.StepRequest(model=name, batch=rows())


def endless(name="models/m"):
    """A run that continues until it is stopped and reports each second."""
    return service.TrainRequest(model=name, data=rows(), config=training.TrainingConfig(
        iterations=10**12, report_every=10**12))


def connect(address, source=None):
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=10,
                                    source_address=(source, 0) if source else None)


def is_closed(connection):
    """A gRPC server sends first, so data means that it serves."""
    try:
        connection.settimeout(10)
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def wait_until(condition, timeout_s=30, what="it"):
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {timeout_s} s")
        time.sleep(0.02)
    return value


@contextlib.contextmanager
def server_and_stub(*flags):
    with Server(*flags) as server, grpc.insecure_channel(
            server.address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        stub = service_grpc.TrainingServiceStub(channel)
        create(stub)
        yield server, stub


class Steps:
    """The requests of a StepStream, which the test sends one by one."""

    def __init__(self):
        self.ready = threading.Semaphore(0)
        self.last = False

    def __iter__(self):
        while True:
            self.ready.acquire()
            if self.last:
                return
            yield service.StepStreamRequest(step=step())

    def send(self):
        self.ready.release()

    def end(self):
        self.last = True
        self.ready.release()


class ConnectionsTest(unittest.TestCase):
    def test_connections_are_counted_by_address(self):
        for listen in ("127.0.0.1:0", "0.0.0.0:0"):  # the second one accepts IPv4 as mapped IPv6
            with self.subTest(listen), tempfile.TemporaryDirectory() as folder, \
                    Server("--allow-anonymous", "--max-connections-per-peer", "2",
                           "--unix-socket", f"{folder}/s.sock", listen=listen) as server, contextlib.ExitStack() as stack:
                address = server.address.replace("0.0.0.0", "127.0.0.1")
                kept = [stack.enter_context(connect(address)) for _ in range(2)]
                self.assertFalse(any(is_closed(c) for c in kept))
                self.assertTrue(is_closed(stack.enter_context(connect(address))))
                wait_until(lambda: "the limit --max-connections-per-peer is reached by 127.0.0.1; "
                                   "2 are open" in server.log(), what="a line in the log")
                for _ in range(2):
                    other = stack.enter_context(connect(address, source="127.0.0.2"))
                    self.assertFalse(is_closed(other), "another address has its own limit")
                self.assertTrue(is_closed(stack.enter_context(connect(address, source="127.0.0.2"))))
                for _ in range(5):
                    local = stack.enter_context(socket.socket(socket.AF_UNIX))
                    local.connect(f"{folder}/s.sock")
                    self.assertFalse(is_closed(local), "Unix sockets have no such limit")
                kept[0].close()
                wait_until(lambda: not is_closed(stack.enter_context(connect(address))),
                           what="a place for the next one")

    @unittest.skipUnless(socket.has_dualstack_ipv6(), "there is no IPv6")
    def test_connections_of_ipv6_are_counted_by_network(self):
        with Server("--max-connections-per-peer", "1", listen="[::1]:0") as server, \
                contextlib.ExitStack() as stack:
            port = int(server.address.rsplit(":", 1)[1])
            self.assertFalse(is_closed(stack.enter_context(socket.create_connection(("::1", port)))))
            self.assertTrue(is_closed(stack.enter_context(socket.create_connection(("::1", port)))))
            wait_until(lambda: "is reached by ::/64" in server.log(), what="a line in the log")

    def test_an_idle_connection_is_closed_and_the_client_opens_another(self):
        with Server("--max-connection-idle", "0.5") as server:
            link = Link(server.address)
            self.addCleanup(link.close)
            wait_until(lambda: link.drain(0.05) or link.closed, 10, "the end of the connection")
            self.assertTrue(link.goaway, "it is told, so that it sends no call that would be lost")
            with Proxy(server.address) as proxy, grpc.insecure_channel(proxy.address) as channel:
                stub = service_grpc.TrainingServiceStub(channel)
                create(stub)
                for connections in (2, 3):
                    time.sleep(1.2)
                    stub.Step(step())
                    self.assertEqual(proxy.connections, connections)

    def test_a_connection_with_a_call_is_not_idle(self):
        with server_and_stub("--max-connection-idle", "0.3") as (server, stub):
            run = stub.Train(endless())
            begin = time.monotonic()
            for event in run:
                if time.monotonic() - begin > 2:
                    break
            steps = Steps()
            stream = stub.StepStream(iter(steps))
            run.cancel()
            time.sleep(1)
            steps.send()
            self.assertEqual(next(stream).sequence, 1)
            steps.end()
            self.assertEqual(list(stream), [])

    def test_an_aged_connection_loses_no_call(self):
        with Server("--max-connection-age", "0.5") as server, Proxy(server.address) as proxy, \
                grpc.insecure_channel(proxy.address) as channel:
            stub = service_grpc.TrainingServiceStub(channel)
            create(stub)
            create(stub, "n")
            run = stub.Train(endless())
            begin = time.monotonic()
            while time.monotonic() - begin < 3:
                stub.Step(step("models/n"), timeout=10)
            self.assertGreater(proxy.connections, 2, "new calls use new connections")
            self.assertTrue(run.is_active())
            cli("stop", "m", server=server.address)
            *_, last = run
            self.assertEqual(last.event.summary.stop_reason, training.STOP_REASON_STOPPED)

    def test_the_grace_of_an_aged_connection_ends_its_calls(self):
        with server_and_stub("--max-connection-age", "0.5", "--max-connection-age-grace", "0.5") as (_, stub):
            run = stub.Train(endless())
            with self.assertRaises(grpc.RpcError) as failed:
                list(run)
            self.assertEqual(failed.exception.code(), grpc.StatusCode.UNAVAILABLE)
            stub.GetModel(service.GetModelRequest(name="models/m"))


class CallsTest(unittest.TestCase):
    def test_calls_above_the_limit_wait_in_the_client(self):
        with server_and_stub("--max-concurrent-streams", "3") as (server, stub):
            streams = []
            for _ in range(3):
                steps = Steps()
                streams.append((steps, stub.StepStream(iter(steps))))
                steps.send()
                self.assertEqual(next(streams[-1][1]).sequence, 1)
            with self.assertRaises(grpc.RpcError) as failed:
                stub.GetModel(service.GetModelRequest(name="models/m"), timeout=0.5)
            self.assertEqual(failed.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
            waiting = stub.GetModel.future(service.GetModelRequest(name="models/m"), timeout=30)
            steps, stream = streams.pop()
            steps.end()
            self.assertEqual(list(stream), [])
            self.assertEqual(waiting.result().model.step, 3)
            for steps, stream in streams:
                steps.end()
                self.assertEqual(list(stream), [])

    def test_the_default_is_announced(self):
        with Server() as server:
            link = Link(server.address)
            self.addCleanup(link.close)
            wait_until(lambda: link.drain(0.05) or link.settings, 10, "SETTINGS")
            self.assertEqual(link.settings[3], 100)
            self.assertEqual(link.settings[6], 16384)

    def test_a_client_that_opens_more_loses_its_connection(self):
        with Server("--max-concurrent-streams", "10") as server:
            link = Link(server.address)
            self.addCleanup(link.close)
            link.drain(0.5)  # acknowledges the settings
            time.sleep(0.2)
            for i in range(11):
                link.call(2 * i + 1, SERVICE + "StepStream", Scale())
            wait_until(lambda: link.drain(0.05) or link.closed, 10, "the end of the connection")

    def test_metadata(self):
        for flags, most in (((), 16384), (("--max-metadata-bytes", "4096"), 4096)):
            with self.subTest(most), server_and_stub(*flags) as (_, stub):
                def code(size):
                    try:
                        stub.GetModel(service.GetModelRequest(name="models/m"), metadata=[("x-text", "a" * size)])
                        return grpc.StatusCode.OK
                    except grpc.RpcError as error:
                        return error.code()
                self.assertEqual(code(most - 1000), grpc.StatusCode.OK)
                # gRPC 1.51 sometimes also closes the connection.
                refused = {code(most) for _ in range(5)}
                self.assertIn(grpc.StatusCode.RESOURCE_EXHAUSTED, refused)
                self.assertLessEqual(refused, {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE})
                wait_until(lambda: code(10) == grpc.StatusCode.OK, what="the next call")


class IdleStreamsTest(unittest.TestCase):
    WORDS = "for 1 seconds (--stream-idle-timeout of the server)"

    def expect_aborted(self, call, what):
        with self.assertRaises(grpc.RpcError) as failed:
            call()
        self.assertEqual(failed.exception.code(), grpc.StatusCode.ABORTED)
        self.assertIn(f"the caller {what} {self.WORDS}", failed.exception.details())

    def test_a_step_stream_that_sends_nothing_ends(self):
        with server_and_stub("--stream-idle-timeout", "1") as (_, stub):
            self.expect_aborted(lambda: next(stub.StepStream(iter(Steps()))), "sent no message")
            steps = Steps()
            stream = stub.StepStream(iter(steps))
            for number in range(1, 7):  # longer than the timeout, with pauses that are shorter
                steps.send()
                self.assertEqual(next(stream).sequence, number)
                time.sleep(0.5)
            self.expect_aborted(lambda: next(stream), "sent no message")

    def test_an_upload_that_sends_nothing_ends(self):
        def messages():
            yield service.ImportModelRequest(model_id="n", data=b"BPMODEL\x01")
            time.sleep(10)
        with server_and_stub("--stream-idle-timeout", "1") as (_, stub):
            self.expect_aborted(lambda: stub.ImportModel(messages()), "sent no message")

    def test_a_run_and_its_watchers_go_on(self):
        with server_and_stub("--stream-idle-timeout", "0.5") as (server, stub):
            run = stub.Train(endless())
            next(run)
            watch = stub.WatchTraining(service.WatchTrainingRequest(model="models/m"))
            time.sleep(3)
            self.assertTrue(run.is_active())
            self.assertTrue(watch.is_active())
            cli("stop", "m", server=server.address)
            *_, last = watch
            self.assertEqual(last.event.summary.stop_reason, training.STOP_REASON_STOPPED)

    def test_a_download_that_is_not_read_ends(self):
        with server_and_stub("--stream-idle-timeout", "1", "--log-level", "debug") as (server, stub):
            link = Link(server.address, settings=setting(4, 0))  # the window of each stream: nothing
            self.addCleanup(link.close)
            link.drain(0.3)
            request = message_of(service.ExportModelRequest(model="models/m"))
            link.call(1, SERVICE + "ExportModel", Scale())
            self.assertTrue(link.data(1, request, Scale(), end=True))
            begin = time.monotonic()
            wait_until(lambda: link.drain(0.05) or 1 in link.reset, 10, "the end of the call")
            self.assertGreater(time.monotonic() - begin, 0.9)
            self.assertFalse(link.closed)
            wait_until(lambda: "read no message" in server.log(), 10, "a line in the log")

    def test_a_large_response_that_is_not_received_is_given_up(self):
        spec = model.ModelSpec(input_size=1000, layers=[model.Layer(units=1000), model.Layer(units=2)])
        with server_and_stub("--stream-idle-timeout", "1", "--max-in-flight-bytes", "64MB") as (server, stub):
            stub.CreateModel(service.CreateModelRequest(model_id="large", spec=spec))
            asked = service.GetParametersRequest(model="models/large")

            def read():
                try:
                    return len(stub.GetParameters(asked).parameters.tensors)
                except grpc.RpcError as error:
                    self.assertEqual(error.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
                    self.assertIn("--max-in-flight-bytes", error.details())
                    return None
            link = Link(server.address, settings=setting(4, 0))
            self.addCleanup(link.close)
            link.drain(0.3)
            for stream in range(1, 21, 2):  # 10 of 16 MB: four fit into 64 MiB
                link.call(stream, SERVICE + "GetParameters", Scale())
                self.assertTrue(link.data(stream, message_of(asked), Scale(), end=True))
            wait_until(lambda: read() is None, 10, "a refusal")
            wait_until(lambda: link.drain(0.05) or len(link.reset) >= 3, 20, "the end of the calls")
            wait_until(lambda: read() == 4, 10, "room for others")
            self.assertFalse(link.closed)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + ["-v"])
