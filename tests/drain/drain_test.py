"""Servers that stop and start under load: clients that retry see no error."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import grpc

from attacks import (GOAWAY, SERVICE, Link, Scale, frame, message_of, setting, DATA, END_STREAM, HEADERS,
                     WINDOW_UPDATE)
from harness import BIN, ROOT, Server, pass_sockets
from stubs import model, service, service_grpc, tensor

RATE = 1000  # calls per second
STEP = service.StepRequest(
    model="models/m", batch=tensor.Batch(inputs=tensor.Tensor(shape=[4, 2], values=[0, 0, 0, 1, 1, 0, 1, 1]),
                                         labels=tensor.Tensor(values=[0, 1, 1, 0])))
REQUEST_ID_FIELD = service.StepRequest.DESCRIPTOR.fields_by_name["request_id"].number


def create(address, model_id="m", layers=(8, 2), inputs=2):
    with grpc.insecure_channel(address) as channel:
        spec = model.ModelSpec(input_size=inputs, layers=[model.Layer(units=units) for units in layers])
        service_grpc.TrainingServiceStub(channel).CreateModel(
            service.CreateModelRequest(model_id=model_id, spec=spec), timeout=20)


def steps_of(address):
    with grpc.insecure_channel(address) as channel:
        return service_grpc.TrainingServiceStub(channel).GetModel(
            service.GetModelRequest(name="models/m"), timeout=20).model.step


def wait_until(condition, what, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {timeout_s} s")
        time.sleep(0.005)
    return value


class Load:
    """Steps of the Go client, with unique request ids; a context manager."""

    def __init__(self, binary, folder, address, seconds):
        request = pathlib.Path(folder) / "request"
        request.write_bytes(STEP.SerializeToString())
        self.command = [binary, "-target", address, "-method", f"{SERVICE}Step", "-request", request,
                        "-request-id-field", str(REQUEST_ID_FIELD), "-rate", str(RATE), "-seconds", str(seconds)]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "begun\n"
        return self

    def __exit__(self, *exc):
        self.process.kill()
        self.process.communicate()

    def outcome(self):
        return json.loads(self.process.communicate(timeout=120)[0])


class RestartTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.client = pathlib.Path(cls.folder.name) / "drain"
        go = shutil.which("go") or "/usr/local/go/bin/go"
        subprocess.run([go, "build", "-buildvcs=false", "-o", cls.client, "."], cwd=ROOT / "tests/drain", check=True)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def expect_no_error(self, load, address, seconds):
        outcome = load.outcome()
        self.assertEqual(outcome["errors"], {})
        self.assertGreater(outcome["calls"], RATE * seconds * 0.9)
        self.assertEqual(outcome["ok"], outcome["calls"])
        self.assertEqual(steps_of(address), outcome["ok"], "each step was made once")

    def test_a_restart_with_an_inherited_socket_has_no_gap(self):
        with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as held:
            address = "127.0.0.1:%d" % held.getsockname()[1]
            with contextlib.ExitStack() as stack:
                def start():
                    server = stack.enter_context(Server("--data-dir", f"{folder}/data", listen=None,
                                                        sockets=[("backpropd", held)]))
                    self.assertEqual(server.address, address)
                    return server
                server = start()
                create(address)
                with Load(self.client, folder, address, seconds=6) as load:
                    for _ in range(3):
                        time.sleep(1)
                        self.assertEqual(server.terminate_and_wait(), 0)
                        # The parent's socket accepts connections, which wait for the next server.
                        socket.create_connection(held.getsockname(), timeout=5).close()
                        server = start()
                    self.expect_no_error(load, address, 6)

    def test_a_restart_on_the_same_port(self):
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            def start(listen):
                return stack.enter_context(Server("--data-dir", f"{folder}/data", listen=listen))
            server = start("127.0.0.1:0")
            address = server.address
            create(address)
            with Load(self.client, folder, address, seconds=6) as load:
                for _ in range(3):
                    time.sleep(1)
                    self.assertEqual(server.terminate_and_wait(), 0)
                    server = start(address)
                self.expect_no_error(load, address, 6)


class Recorder(Link):
    """Keeps the frames that it gets, as (kind, flags, stream, payload)."""

    def __init__(self, *arguments, **options):
        self.frames = []
        super().__init__(*arguments, **options)

    def _frames(self, answer):
        rest = self.buffer
        while len(rest) >= 9 and len(rest) >= 9 + (size := int.from_bytes(rest[:3], "big")):
            stream = int.from_bytes(rest[5:9], "big") & 0x7fffffff
            self.frames.append((rest[3], rest[4], stream, rest[9:9 + size]))
            rest = rest[9 + size:]
        super()._frames(answer)

    def get(self, kind, stream=None):
        """The payloads of the frames of a kind so far."""
        self.drain(0, answer=False)
        return [payload for got, _, of, payload in self.frames if got == kind and stream in (None, of)]


def health(address):
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        answer = channel.unary_unary("/grpc.health.v1.Health/Check", request_serializer=None,
                                     response_deserializer=None)(b"", timeout=10)
        return {b"\x08\x01": "SERVING", b"\x08\x02": "NOT_SERVING"}[answer]


def get_model(link, stream):
    request = message_of(service.GetModelRequest(name="models/m"))
    link.call(stream, f"{SERVICE}GetModel", Scale())
    link.send(frame(DATA, END_STREAM, stream, request))


class StopTest(unittest.TestCase):
    def test_goaway_comes_first_and_calls_of_clients_that_have_not_seen_it_are_served(self):
        with Server("--log-level", "debug") as server:
            create(server.address)
            link = Recorder(server.address)
            self.addCleanup(link.close)
            link.drain(0.2)
            link.call(1, f"{SERVICE}StepStream", Scale())
            get_model(link, 3)
            wait_until(lambda: link.get(DATA, 3), "a response")
            server.process.send_signal(signal.SIGTERM)
            goaway = wait_until(lambda: link.get(GOAWAY), "GOAWAY")[0]
            self.assertEqual(int.from_bytes(goaway[:4], "big") & 0x7fffffff, 2**31 - 1, "no stream is excluded")
            self.assertEqual(link.get(HEADERS, 1), [], "the stream continues")
            get_model(link, 5)
            wait_until(lambda: link.get(DATA, 5) or link.closed, "a response")
            self.assertTrue(link.get(DATA, 5))
            wait_until(lambda: link.get(HEADERS, 1), "the end of the stream, with trailers")
            self.assertEqual(server.process.wait(timeout=30), 0)

    def test_a_new_connection_is_refused_when_the_delay_is_over(self):
        with Server() as server:
            host, port = server.address.rsplit(":", 1)
            link = Link(server.address)
            self.addCleanup(link.close)
            link.drain(0.2)
            link.call(1, f"{SERVICE}StepStream", Scale())
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: link.drain(0.01) or link.goaway, "GOAWAY")
            with self.assertRaises(ConnectionRefusedError):
                socket.create_connection((host, int(port)), timeout=5).close()
            self.assertEqual(server.process.wait(timeout=30), 0)

    def test_the_delay_serves_calls_while_health_is_not_serving(self):
        with Server("--drain-delay", "2", "--metrics-listen", "127.0.0.1:0") as server:
            create(server.address)
            link = Recorder(server.address)
            self.addCleanup(link.close)
            link.drain(0.2)
            self.assertEqual(health(server.address), "SERVING")
            begin = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: health(server.address) == "NOT_SERVING", "NOT_SERVING")
            with grpc.insecure_channel(server.address) as channel:
                stub = service_grpc.TrainingServiceStub(channel)
                while time.monotonic() < begin + 1.5:
                    stub.Step(STEP, timeout=10)
            self.assertEqual(link.get(GOAWAY), [])
            wait_until(lambda: link.get(GOAWAY), "GOAWAY")
            self.assertGreater(time.monotonic() - begin, 1.9)
            self.assertEqual(server.process.wait(timeout=30), 0)
            self.assertIn("health is NOT_SERVING; stopping in 2s (--drain-delay)", server.log())

    def test_a_second_signal_ends_the_delay_and_a_third_one_the_process(self):
        with Server("--drain-delay", "600") as server:
            server.process.send_signal(signal.SIGTERM)
            wait_until(lambda: health(server.address) == "NOT_SERVING", "NOT_SERVING")
            server.process.send_signal(signal.SIGINT)
            self.assertEqual(server.process.wait(timeout=20), 0)
            self.assertIn("Interrupt: stopping", server.log())
        with Server("--drain-delay", "600", "--grace", "600", expect_exit=128 + signal.SIGTERM) as server:
            # A request that does not end: it keeps the server for the grace.
            create(server.address, layers=(300, 300, 10), inputs=200)
            link = Link(server.address)
            self.addCleanup(link.close)
            request = service.GradCheckRequest(model="models/m", batch=tensor.Batch(
                inputs=tensor.Tensor(shape=[400, 200], values=[0.5] * 80000),
                labels=tensor.Tensor(values=[i % 10 for i in range(400)])))
            request.config.max_entries_per_tensor = 100_000
            link.drain(0.2)
            link.call(1, f"{SERVICE}GradCheck", Scale())
            self.assertTrue(link.data(1, message_of(request), Scale(), end=True))
            time.sleep(1)
            for number in (signal.SIGTERM, signal.SIGTERM):
                server.process.send_signal(number)
                wait_until(lambda: "NOT_SERVING" in server.log(), "the delay")
            wait_until(lambda: "Terminated: stopping\n" in server.log(), "the end of the delay")
            with self.assertRaises(subprocess.TimeoutExpired):
                server.process.wait(timeout=1)
            server.process.send_signal(signal.SIGTERM)
            self.assertEqual(server.process.wait(timeout=20), 128 + signal.SIGTERM)

    def deaf(self, server, method, request, window, count=10):
        """A client that asks `count` times and reads nothing; `window` is that of HTTP/2."""
        link = Link(server.address, settings=setting(4, window))
        self.addCleanup(link.close)
        link.drain(0.3)
        if window:
            link.send(frame(WINDOW_UPDATE, 0, 0, (2**31 - 1 - 65535).to_bytes(4, "big")))
        for stream in range(1, 2 * count, 2):
            link.call(stream, method, Scale())
            link.send(frame(DATA, END_STREAM, stream, message_of(request)))
        return link

    def test_clients_that_read_nothing_do_not_delay_the_stop(self):
        large = service.GetParametersRequest(model="models/m")
        export = service.ExportModelRequest(model="models/m")
        for what, method, request, window in (
                ("responses that TCP does not take", "GetParameters", large, 2**31 - 1),
                ("responses that HTTP/2 does not take", "GetParameters", large, 0),
                ("downloads that TCP does not take", "ExportModel", export, 2**31 - 1),
                ("downloads that HTTP/2 does not take", "ExportModel", export, 0)):
            with self.subTest(what), Server("--grace", "60") as server:
                create(server.address, layers=(1000, 1000, 2))
                self.deaf(server, SERVICE + method, request, window)
                time.sleep(1.5)
                begin = time.monotonic()
                self.assertEqual(server.terminate_and_wait(), 0)
                self.assertLess(time.monotonic() - begin, 10)


class InheritedSocketsTest(unittest.TestCase):
    def refusal(self, sockets, *flags, env=None):
        command, environment, inherited = pass_sockets([BIN / "backpropd", "--listen", "127.0.0.1:0", *flags], os.environ,
                                                       sockets)
        refused = subprocess.run(command, env={**environment, **(env or {})}, capture_output=True, text=True, timeout=30,
                                 **inherited)
        self.assertEqual(refused.returncode, 1, refused.stderr)
        return refused.stderr

    def test_what_is_no_listening_stream_socket_is_refused(self):
        with socket.create_server(("127.0.0.1", 0)) as good, socket.socket() as idle, \
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, open("/dev/null") as file:
            expected = "expected a TCP or Unix stream socket that listens, got "
            for bad, what in ((idle, "a socket that does not listen"), (datagrams, "a datagram socket"),
                              (file, "a descriptor that is no socket")):
                with self.subTest(what):
                    self.assertEqual(self.refusal([("web", good), ("odd", bad)]),
                                     f"backpropd: LISTEN_FDS: descriptor 4 (odd): {expected}{what}\n")
            self.assertIn("LISTEN_FDS: expected 0 to 64", self.refusal([("a", good)], env={"LISTEN_FDS": "many"}))
            self.assertIn("LISTEN_FDNAMES: expected 1 names", self.refusal([("a", good)], env={"LISTEN_FDNAMES": "a:b"}))

    def test_inherited_sockets_are_exposed_by_the_same_rule(self):
        with socket.create_server(("0.0.0.0", 0)) as everywhere:
            refused = self.refusal([("a", everywhere)])
            self.assertIn("without authentication", refused)
            self.assertIn("the inherited socket 0.0.0.0:", refused)
            refused = self.refusal([("admin", everywhere)])
            self.assertIn("the inherited socket 0.0.0.0:", refused)

    def test_they_replace_the_flags_of_their_listener_and_no_other(self):
        with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as tcp, \
                socket.socket(socket.AF_UNIX) as local:
            local.bind(f"{folder}/admin.sock")
            local.listen()
            main = "127.0.0.1:%d" % tcp.getsockname()[1]
            admin = f"unix:{folder}/admin.sock"
            port_files = ("--admin-port-file", f"{folder}/admin")
            with Server(*port_files, sockets=[("x", tcp), ("admin", local)]) as server:
                self.assertEqual(server.address, main)
                self.assertEqual((pathlib.Path(folder) / "admin").read_text(), f"{admin}\n")
                self.assertIn("--listen and --unix-socket are ignored", server.log())
                self.assertEqual((health(main), health(admin)), ("SERVING", "SERVING"))
                self.assertEqual(server.terminate_and_wait(), 0)
                self.assertTrue(pathlib.Path(f"{folder}/admin.sock").exists(), "it belongs to the parent")
            with Server(*port_files, sockets=[("admin", local)]) as server:
                self.assertNotEqual(server.address, main)
                self.assertNotIn("ignored", server.log())
                self.assertEqual((health(server.address), health(admin)), ("SERVING", "SERVING"))

    def test_sockets_for_another_process_are_left_alone(self):
        with Server(env={"LISTEN_PID": "1", "LISTEN_FDS": "1"}) as server:
            self.assertEqual(health(server.address), "SERVING")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + ["-v"])
