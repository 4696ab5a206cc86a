"""The server and its clients on many, hostile, frozen or closing connections."""

import contextlib
import os
import pathlib
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import zlib

import grpc
import h2.config
import h2.connection
import h2.events

from harness import BIN, Server, cli
from proxy import Proxy
from stubs import model, service, service_grpc, tensor, training


def create(stub, model_id="m"):
    spec = model.ModelSpec(input_size=2, layers=[model.Layer(units=8), model.Layer(units=2)])
    return stub.CreateModel(service.CreateModelRequest(model_id=model_id, spec=spec)).model.name


def rows(count=4):
    return tensor.Batch(inputs=tensor.Tensor(shape=[count, 2], values=[0.5] * 2 * count),
                        labels=tensor.Tensor(values=[i % 2 for i in range(count)]))


def wait_until(condition, timeout_s=30, what="it"):
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {timeout_s} s")
        time.sleep(0.02)
    return value


def open_connections(address, count):
    """Opens idle connections; returns those that the server did not close at once."""
    host, port = address.rsplit(":", 1)
    opened = []
    for _ in range(count):
        try:
            opened.append(socket.create_connection((host, int(port)), timeout=10))
        except OSError:
            pass
    return opened


def is_closed(connection):
    """Whether the other end closed the connection. A gRPC server sends first, so data means that it serves."""
    try:
        connection.settimeout(10)
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def memory_mb(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024


# Memory that 1 MB of compressed zeros may use; a sanitizer keeps freed memory for a while.
# Uncompressed it is 1,000 MB.
MOST_GROWTH_MB = 500 if os.environ.get("BACKPROP_SANITIZE") else 50


class DescriptorsTest(unittest.TestCase):
    def exhaust(self, server, count):
        connections = open_connections(server.address, count)
        refused = sum(is_closed(c) for c in connections)
        self.assertGreater(refused, 0, "all were served: the test does not reach the limit")
        wait_until(lambda: "refused" in server.log(), what="a line in the log")
        for connection in connections:
            connection.close()
        return len(connections) - refused

    def test_the_listener_survives_a_lack_of_descriptors(self):
        for limit, count in ((64, 100), (1024, 1100)):
            with self.subTest(limit), Server("--max-connections-per-peer", "10000", wrapper=(
                    "prlimit", f"--nofile={limit}:{limit}")) as server:
                for _ in range(2):
                    served = self.exhaust(server, count)
                    self.assertGreaterEqual(served, limit // 4)
                    healthy = wait_until(
                        lambda: subprocess.run([BIN / "backpropd", "--health-check", server.address],
                                               capture_output=True, text=True).stdout == "SERVING\n",
                        what="the health check")
                    self.assertTrue(healthy)
                    made = cli("create", "--inputs", 1, "--layers", "2", server=server.address)
                    self.assertEqual(made.returncode, 0, made.stderr)
                lines = [line for line in server.log().splitlines() if "refused" in line]
                self.assertRegex(lines[0], r"\d+ connections? (was|were) refused: the limit of open "
                                           r"files is reached .*; \d+ are open|--max-connections")
                self.assertLess(len(lines), 6, "the log is not flooded")

    def test_the_soft_limit_is_raised(self):
        with Server(wrapper=("prlimit", "--nofile=64:4096")) as server:
            limits = pathlib.Path(f"/proc/{server.process.pid}/limits").read_text()
            self.assertRegex(limits, r"Max open files\s+4096\s+4096")

    def test_the_store_keeps_its_descriptors(self):
        with tempfile.TemporaryDirectory() as folder, \
                Server("--data-dir", folder, wrapper=("prlimit", "--nofile=64:64")) as server, \
                grpc.insecure_channel(server.address) as channel:
            stub = service_grpc.TrainingServiceStub(channel)
            create(stub)
            connections = open_connections(server.address, 100)
            self.assertTrue(any(is_closed(c) for c in connections))
            for i in range(3):
                stub.Step(service.StepRequest(model="models/m", batch=rows()))
                create(stub, f"m{i}")
            for connection in connections:
                connection.close()

    def test_without_a_descriptor_connections_are_closed(self):
        with Server() as server:
            pid = str(server.process.pid)
            descriptors = lambda: {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
            highest = max(descriptors())
            kept = []
            while not set(range(highest + 1)) <= descriptors():
                kept += open_connections(server.address, 1)
                self.assertFalse(is_closed(kept[-1]))
            subprocess.run(["prlimit", "--pid", pid, f"--nofile={highest + 1}:"], check=True)
            for _ in range(3):
                for over in open_connections(server.address, 2):
                    self.assertTrue(is_closed(over))
                    over.close()
            wait_until(lambda: "the limit of open files is reached" in server.log(),
                       what="a line in the log")
            self.assertRegex(server.log(), r" [1-6] connections? (was|were) refused")
            subprocess.run(["prlimit", "--pid", pid, "--nofile=1024:"], check=True)
            self.assertEqual(cli("health", server=server.address).stdout, "SERVING\n")
            begin = time.monotonic()
            self.assertEqual(server.terminate_and_wait(), 0)
            self.assertLess(time.monotonic() - begin, 3)
            for connection in kept:
                connection.close()

    def test_max_connections(self):
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/s.sock"
            with Server("--max-connections", "3", "--unix-socket", path) as server:
                kept = open_connections(server.address, 3)
                self.assertFalse(any(is_closed(c) for c in kept))
                for over in open_connections(server.address, 1):
                    self.assertTrue(is_closed(over))
                    over.close()
                over = socket.socket(socket.AF_UNIX)
                over.connect(path)
                self.assertTrue(is_closed(over), "the limit is of all listeners together")
                wait_until(lambda: "the limit --max-connections is reached; 3 are open" in server.log(),
                           what="a line in the log")
                kept[0].close()
                wait_until(lambda: cli("health", "--server", f"unix:{path}").stdout == "SERVING\n",
                           what="a place for the next one")
                for connection in kept:
                    connection.close()
                over.close()

    def test_addresses_of_every_form(self):
        with tempfile.TemporaryDirectory() as folder:
            for listen, dialled in (("localhost:0", r"localhost:\d+"), ("[::]:0", r"\[::\]:\d+"),
                                    ("0.0.0.0:0", r"0\.0\.0\.0:\d+"), ("[::1]:0", r"\[::1\]:\d+"),
                                    (f"unix:{folder}/s.sock", rf"unix:{folder}/s\.sock")):
                if "::" in listen and not socket.has_dualstack_ipv6():
                    continue
                with self.subTest(listen), Server("--allow-anonymous", listen=listen) as server:
                    self.assertRegex(server.address, f"^{dialled}$")
                    self.assertEqual(cli("health", server=server.address).stdout, "SERVING\n")
                    for host in ("127.0.0.1", "[::1]") if "0.0.0" in listen or "[::]" in listen else ():
                        if host == "[::1]" and not socket.has_dualstack_ipv6():
                            continue
                        port = server.address.rsplit(":", 1)[1]
                        self.assertEqual(cli("health", server=f"{host}:{port}").stdout, "SERVING\n")
            for listen in ("localhost", "::1:50051", "127.0.0.1:", ":50051", "no.such.host.invalid:1"):
                with self.subTest(listen):
                    failed = subprocess.run([BIN / "backpropd", "--allow-anonymous", "--listen", listen],
                                            capture_output=True, text=True, timeout=30)
                    self.assertEqual(failed.returncode, 1)
                    self.assertIn(f"--listen {listen}: cannot listen", failed.stderr)


class CompressedRequestsTest(unittest.TestCase):
    ZEROS = 1_000_000_000

    @classmethod
    def setUpClass(cls):
        chunk = b"\0" * 10_000_000
        cls.bombs = {}
        for name, bits in (("gzip", 31), ("deflate", 15)):
            stream = zlib.compressobj(9, zlib.DEFLATED, bits)
            cls.bombs[name] = b"".join(stream.compress(chunk) for _ in range(cls.ZEROS // len(chunk)))
            cls.bombs[name] += stream.flush()

    def send(self, server, method, encoding, body):
        """Makes a call with a handmade compressed message; returns its status and message."""
        host, port = server.address.rsplit(":", 1)
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        connection.initiate_connection()
        connection.send_headers(1, [
            (":method", "POST"), (":scheme", "http"), (":path", method), (":authority", "x"),
            ("content-type", "application/grpc"), ("te", "trailers"), ("grpc-encoding", encoding)])
        frame = struct.pack(">BI", 1, len(body)) + body
        headers = {}
        with socket.create_connection((host, int(port)), timeout=60) as link:
            ended = False
            while not ended:
                while frame and (room := min(connection.local_flow_control_window(1),
                                             connection.max_outbound_frame_size)) > 0:
                    connection.send_data(1, frame[:room], end_stream=len(frame) <= room)
                    frame = frame[room:]
                link.sendall(connection.data_to_send())
                data = link.recv(1 << 16)
                if not data:
                    break
                for event in connection.receive_data(data):
                    if isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived)):
                        headers.update(event.headers)
                    if isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)):
                        ended, frame = True, b""
        headers = {(k if isinstance(k, str) else k.decode()): (v if isinstance(v, str) else v.decode())
                   for k, v in headers.items()}
        return headers.get("grpc-status"), headers.get("grpc-message")

    def test_a_compressed_megabyte_does_not_use_a_gigabyte(self):
        with Server() as server:
            with grpc.insecure_channel(server.address) as channel:
                create(service_grpc.TrainingServiceStub(channel))
            before = memory_mb(server.process.pid)
            for method in ("/backprop.v1.TrainingService/Step", "/backprop.v1.TrainingService/Train",
                           "/backprop.v1.TrainingService/StepStream",
                           "/backprop.v1.AdminService/RestoreBackup", "/grpc.health.v1.Health/Check",
                           "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                           "/no.such.Service/Call"):
                for encoding, bomb in self.bombs.items():
                    with self.subTest(method=method, encoding=encoding):
                        status, message = self.send(server, method, encoding, bomb)
                        self.assertEqual(status, str(grpc.StatusCode.UNIMPLEMENTED.value[0]), message)
                        self.assertLess(memory_mb(server.process.pid) - before, MOST_GROWTH_MB)
            with grpc.insecure_channel(server.address) as channel:
                stub = service_grpc.TrainingServiceStub(channel)
                self.assertEqual(stub.Step(service.StepRequest(model="models/m", batch=rows())).step, 1)

    def test_a_compressed_request_is_rejected_with_its_encoding(self):
        with Server() as server:
            with grpc.insecure_channel(server.address, compression=grpc.Compression.Gzip) as channel:
                with self.assertRaises(grpc.RpcError) as failed:
                    create(service_grpc.TrainingServiceStub(channel))
                self.assertEqual(failed.exception.code(), grpc.StatusCode.UNIMPLEMENTED)
                self.assertIn("gzip", failed.exception.details())


class KeepaliveTest(unittest.TestCase):
    def pings_for(self, server, time_ms, seconds, with_call):
        """Pings without data; returns whether the connection survived."""
        options = [("grpc.keepalive_time_ms", time_ms), ("grpc.keepalive_timeout_ms", 10000),
                   ("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.max_pings_without_data", 0)]
        with grpc.insecure_channel(server.address, options=options) as channel:
            grpc.channel_ready_future(channel).result(timeout=10)
            lost = threading.Event()
            if with_call:
                stub = service_grpc.TrainingServiceStub(channel)
                name = create(stub)
                run = stub.Train(service.TrainRequest(model=name, data=rows(), config=training.TrainingConfig(
                    iterations=10**12, report_every=10**12)))
                run.add_done_callback(lost.set)
                self.assertTrue(next(run).event.HasField("started"))
            else:
                channel.subscribe(lambda state: state in (
                    grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.TRANSIENT_FAILURE)
                    and lost.set())
            survived = not lost.wait(seconds)
            if with_call:
                run.cancel()
                cli("delete", "m", server=server.address)
            return survived

    def test_clients_may_ping_with_and_without_calls(self):
        # gRPC clients ping at most once a second without data.
        with Server("--min-ping-interval", "0.5") as server:
            for with_call in (True, False):
                with self.subTest(with_call=with_call):
                    self.assertTrue(self.pings_for(server, 1000, 6, with_call))

    def test_clients_that_ping_too_often_are_disconnected(self):
        with Server("--min-ping-interval", "60") as server:
            self.assertFalse(self.pings_for(server, 1000, 30, False))

    def test_the_default_allows_ten_seconds(self):
        out = subprocess.run([BIN / "backpropd", "--help"], capture_output=True, text=True).stdout
        self.assertRegex(out, r"--min-ping-interval SECONDS.*=5 ")

    def test_a_frozen_link_stops_a_run_that_its_caller_owns(self):
        with Server("--keepalive-time", "0.3", "--keepalive-timeout", "0.3") as server, \
                Proxy(server.address) as proxy:
            with grpc.insecure_channel(server.address) as channel, \
                    grpc.insecure_channel(proxy.address) as frozen:
                create(service_grpc.TrainingServiceStub(channel))
                run = service_grpc.TrainingServiceStub(frozen).Train(service.TrainRequest(
                    model="models/m", data=rows(),
                    config=training.TrainingConfig(iterations=10**12, report_every=10**12)))
                self.assertTrue(next(run).event.HasField("started"))
                proxy.freeze()
                begin = time.monotonic()
                wait_until(lambda: "models/m/runs/1 cancelled after" in server.log(), 20,
                           "the end of the run")
                self.assertLess(time.monotonic() - begin, 5)
                run.cancel()

    def test_a_quiet_link_is_not_taken_for_a_frozen_one(self):
        with Server("--keepalive-time", "0.2", "--keepalive-timeout", "1") as server, \
                Proxy(server.address) as proxy, grpc.insecure_channel(proxy.address) as channel:
            stub = service_grpc.TrainingServiceStub(channel)
            create(stub)
            run = stub.Train(service.TrainRequest(model="models/m", data=rows(), config=training.TrainingConfig(
                iterations=10**12, report_every=10**12)))
            next(run)
            ended = threading.Event()
            run.add_done_callback(ended.set)
            self.assertFalse(ended.wait(4))
            self.assertEqual(proxy.connections, 1)
            run.cancel()


class ClientTest(unittest.TestCase):
    """The command line, and through it the C++ client."""

    def test_watch_reconnects_after_a_frozen_link(self):
        with Server() as server, Proxy(server.address) as proxy:
            with grpc.insecure_channel(server.address) as channel:
                stub = service_grpc.TrainingServiceStub(channel)
                create(stub)
                run = stub.Train(service.TrainRequest(
                    model="models/m", data=rows(), detach=True,
                    config=training.TrainingConfig(iterations=10**12, report_every=10**6)))
                next(run)
                run.cancel()
                watch = subprocess.Popen(
                    [BIN / "backprop", "--server", proxy.address, "--keepalive-time", "1",
                     "--keepalive-timeout", "0.5", "watch", "m"],
                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                self.addCleanup(watch.wait)
                self.addCleanup(watch.kill)
                watch.stdout.readline()
                self.assertEqual(proxy.connections, 1)
                proxy.freeze()
                wait_until(lambda: proxy.connections > 1, 20, "another connection")
                self.assertIsNone(watch.poll())
                proxy.thaw()
                stub.StopTraining(service.StopTrainingRequest(model="models/m"))
                out, err = watch.communicate(timeout=60)
                self.assertEqual(watch.returncode, 0, err)
                self.assertIn("stopped after", out)

    def train_through(self, proxy):
        """Starts a run that is owned by its call; the client closes a silent connection after 1.5 s."""
        train = subprocess.Popen(
            [BIN / "backprop", "--server", proxy.address, "--keepalive-time", "1",
             "--keepalive-timeout", "0.5", "train", "m", "--data", "xor", "--iterations",
             str(10**12), "--report-every", str(10**6)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(train.wait)
        self.addCleanup(train.kill)
        self.read_until(train, 1)
        return train

    def read_until(self, train, iteration):
        """Reads what `train` prints up to a line about `iteration` or a later one."""
        for line in train.stdout:
            first = line.split()[0]
            if first.isdigit() and int(first) >= iteration:
                return
        self.fail(f"ended before iteration {iteration}: {train.stderr.read()}")

    @contextlib.contextmanager
    def frozen_run(self):
        """A run whose client has closed its frozen connection and waits for another one. Yields the proxy, a stub that
        does not use it, the client, and the number of frozen connections."""
        with Server() as server, Proxy(server.address) as proxy, grpc.insecure_channel(server.address) as channel:
            stub = service_grpc.TrainingServiceStub(channel)
            create(stub)
            train = self.train_through(proxy)
            frozen = proxy.connections
            proxy.freeze()
            wait_until(lambda: proxy.connections > frozen, 20, "another connection")
            yield proxy, stub, train, frozen

    def test_a_run_ends_with_the_connection_of_its_call(self):
        with self.frozen_run() as (proxy, stub, train, frozen):
            proxy.cut(frozen)  # the server notices it before the client reconnects
            for event in stub.WatchTraining(service.WatchTrainingRequest(model="models/m")):
                last = event.event
            self.assertEqual(last.summary.stop_reason, training.STOP_REASON_CANCELLED)
            proxy.thaw()
            _, err = train.communicate(timeout=60)
            self.assertEqual(train.returncode, 1, err)
            self.assertIn("the connection broke, which stopped the run", err)

    def test_a_retry_in_time_keeps_the_run(self):
        with self.frozen_run() as (proxy, stub, train, frozen):
            step = stub.GetModel(service.GetModelRequest(name="models/m")).model.step
            proxy.thaw(after=frozen)  # the server still has the old connection
            self.read_until(train, step + 1)
            proxy.cut(frozen)
            step = stub.GetModel(service.GetModelRequest(name="models/m")).model.step
            self.read_until(train, step + 10**6)
            stub.StopTraining(service.StopTrainingRequest(model="models/m"))
            out, err = train.communicate(timeout=60)
            self.assertEqual(train.returncode, 0, err)
            self.assertIn("stopped after", out)

    def test_a_slow_link_is_not_closed(self):
        with Server() as server, Proxy(server.address, delay_s=0.2) as proxy:
            healthy = cli("health", server=proxy.address)
            self.assertEqual(healthy.stdout, "SERVING\n", healthy.stderr)
            self.assertEqual(proxy.connections, 1)


class HttpProxy(Proxy):
    """An HTTP proxy: accepts CONNECT to any host, and connects to the target."""

    def _forward(self, client, server, number):
        request = b""
        while b"\r\n\r\n" not in request:
            piece = client.recv(4096)
            if not piece:
                return
            request += piece
        self.asked = request.split()[1].decode()
        client.sendall(b"HTTP/1.0 200 Connection established\r\n\r\n")
        super()._forward(client, server, number)


class ProxyVariablesTest(unittest.TestCase):
    NOWHERE = "http://127.0.0.1:9"

    def test_loopback_and_unix_sockets_use_none(self):
        proxies = {name: self.NOWHERE for name in ("http_proxy", "https_proxy", "grpc_proxy")}
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/s.sock"
            with Server("--unix-socket", path) as server:
                port = server.address.rsplit(":", 1)[1]
                for address in (server.address, f"localhost:{port}", f"unix:{path}"):
                    healthy = cli("health", server=address, env=proxies)
                    self.assertEqual(healthy.stdout, "SERVING\n", healthy.stderr)

    def test_other_addresses_use_the_proxy_unless_disabled(self):
        with Server() as server, HttpProxy(server.address) as proxy:
            variables = {"http_proxy": f"http://{proxy.address}"}
            healthy = cli("health", server="model.invalid:50051", env=variables)
            self.assertEqual(healthy.stdout, "SERVING\n", healthy.stderr)
            self.assertEqual(proxy.asked, "model.invalid:50051")
            for flags, more in ((["--no-proxy"], {}), ([], {"no_proxy": "x, .invalid"}),
                                ([], {"no_proxy": "*"})):
                with self.subTest(flags=flags, more=more):
                    failed = cli(*flags, "health", server="model.invalid:50051",
                                 env={**variables, **more})
                    self.assertEqual(failed.returncode, 1)
                    self.assertNotIn("proxy", failed.stderr)
            self.assertEqual(proxy.connections, 1)

    def test_an_error_names_the_proxy(self):
        failed = cli("health", server="model.invalid:50051",
                     env={"https_proxy": "http://me:secret@127.0.0.1:9"})
        self.assertEqual(failed.returncode, 1)
        self.assertIn("through the proxy http://127.0.0.1:9 of https_proxy", failed.stderr)
        self.assertNotIn("secret", failed.stderr)


class DrainTest(unittest.TestCase):
    STEPPERS = 16

    def step_until_refused(self, address, results, started):
        # Each has its own connection.
        with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = service_grpc.TrainingServiceStub(channel)
            request = service.StepRequest(model="models/m", batch=rows())
            after = 0
            while after < 20:  # results after the first rejection count as well
                try:
                    stub.Step(request, timeout=30)
                    started.release()
                except grpc.RpcError as error:
                    results.append((error.code(), error.details()))
                    after += 1

    def test_callers_get_unavailable_with_a_message(self):
        for attempt in range(10):
            with self.subTest(attempt), Server() as server:
                with grpc.insecure_channel(server.address) as channel:
                    create(service_grpc.TrainingServiceStub(channel))
                results, started = [], threading.Semaphore(0)
                threads = [threading.Thread(target=self.step_until_refused,
                                            args=(server.address, results, started))
                           for _ in range(self.STEPPERS)]
                for thread in threads:
                    thread.start()
                for _ in range(20 * self.STEPPERS):
                    started.acquire()
                self.assertEqual(server.terminate_and_wait(), 0)
                for thread in threads:
                    thread.join()
                self.assertEqual({code for code, _ in results}, {grpc.StatusCode.UNAVAILABLE}, results)
                self.assertTrue(all(details for _, details in results))


if __name__ == "__main__":
    unittest.main(argv=sys.argv + ["-v"])
