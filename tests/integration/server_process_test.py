"""The server as a process: flags, files, signals, exit statuses."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import grpc

from certificates import Certificate
from harness import BIN, Server, cli


def run(*flags, env=None):
    return subprocess.run([BIN / "backpropd", *flags], capture_output=True, text=True, timeout=30,
                          env={**os.environ, **(env or {})})


class ServerProcessTest(unittest.TestCase):
    def test_help_and_version(self):
        self.assertEqual(run("--help").returncode, 0)
        for word in ("--listen", "--max-models", "BACKPROPD_MAX_MODELS", "SIGTERM"):
            self.assertIn(word, run("--help").stdout)
        self.assertRegex(run("--version").stdout,
                         r"^backpropd \d+\.\d+\.\d+ \(commit \w+, [\w-]+\)$")

    def test_bad_flags_are_wrong_usage(self):
        for flags in (["--nonsense"], ["--threads", "0"], ["--threads", "x"], ["--log-level", "loud"],
                      ["--max-rows", "0"], ["--config", "/nonexistent"]):
            with self.subTest(flags):
                result = run(*flags)
                self.assertEqual(result.returncode, 2, result.stderr)
                self.assertTrue(result.stderr.strip())

    def test_addresses_that_are_not_available(self):
        with Server() as server:
            port_in_use = run("--listen", server.address)
            self.assertEqual(port_in_use.returncode, 1)
            self.assertEqual(len(port_in_use.stderr.strip().splitlines()), 1, port_in_use.stderr)
            self.assertIn("the port is free; port 0 selects a free port", port_in_use.stderr)
        unwritable = run("--listen", "127.0.0.1:0", "--unix-socket", "/nonexistent/x.sock")
        self.assertEqual(unwritable.returncode, 1)
        self.assertIn("check that its directory is writable", unwritable.stderr)
        port_file = run("--listen", "127.0.0.1:0", "--port-file", "/nonexistent/port")
        self.assertEqual(port_file.returncode, 1)
        self.assertIn("--port-file /nonexistent/port", port_file.stderr)

    def test_two_servers_never_share_a_port(self):
        def refused(*flags):
            second = run(*flags)
            self.assertEqual(second.returncode, 1, flags)
            self.assertIn("Address already in use", second.stderr)
        # Neither with another server, on the same, on more or on fewer addresses,
        for listen, others in (("127.0.0.1:0", ("127.0.0.1", "0.0.0.0", "[::]", "localhost")),
                               ("0.0.0.0:0", ("127.0.0.1", "0.0.0.0"))):
            with Server("--allow-anonymous", listen=listen) as server:
                port = server.address.rsplit(":", 1)[1]
                for other in others:
                    with self.subTest(listen, other=other):
                        refused("--allow-anonymous", "--listen", f"{other}:{port}")
                        refused("--allow-anonymous", "--listen", "127.0.0.1:0", "--admin-listen", f"{other}:{port}")
        # nor with a program that would share it.
        with socket.socket() as shared:
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            shared.bind(("127.0.0.1", 0))
            shared.listen()
            refused("--listen", "127.0.0.1:%d" % shared.getsockname()[1])

    ADMIN_METHODS = ("/backprop.v1.AdminService/ListProjects", "/grpc.channelz.v1.Channelz/GetServers",
                     "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                     "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    OTHER_METHODS = ("/backprop.v1.TrainingService/ListModels",)

    def codes(self, address, methods, credentials=None, token=None):
        """The code of a call of each method; None for success."""
        raw = {"request_serializer": None, "response_deserializer": None}
        metadata = [("authorization", f"Bearer {token}")] if token else []
        codes = []
        with grpc.secure_channel(address, credentials) if credentials else grpc.insecure_channel(address) as channel:
            for method in methods:
                try:
                    if method.endswith("ServerReflectionInfo"):
                        list(channel.stream_stream(method, **raw)(iter([b"\x3a\x00"]), timeout=20, metadata=metadata))
                    else:
                        channel.unary_unary(method, **raw)(b"", timeout=20, metadata=metadata)
                    codes.append(None)
                except grpc.RpcError as error:
                    codes.append(error.code().name)
        return codes

    def test_administrators_have_an_address_of_their_own(self):
        health = ("/grpc.health.v1.Health/Check",)
        with Server() as server:
            self.assertEqual(set(self.codes(server.address, self.ADMIN_METHODS + self.OTHER_METHODS + health)), {None})
        with tempfile.TemporaryDirectory() as folder:
            for listen in ("127.0.0.1:0", f"unix:{folder}/admin.sock"):
                port_file = pathlib.Path(folder) / "admin-address"
                with self.subTest(listen), \
                        Server("--admin-listen", listen, "--admin-port-file", str(port_file)) as server:
                    admin = port_file.read_text().strip()
                    self.assertEqual(len(server.address.splitlines()), 1, "the port file is as before")
                    self.assertNotEqual(admin, server.address)
                    self.assertEqual(self.codes(server.address, self.ADMIN_METHODS), ["UNIMPLEMENTED"] * 4)
                    self.assertEqual(self.codes(admin, self.OTHER_METHODS), ["UNIMPLEMENTED"])
                    self.assertEqual(self.codes(admin, self.ADMIN_METHODS + health), [None] * 5)
                    self.assertEqual(self.codes(server.address, self.OTHER_METHODS + health), [None] * 2)
                    self.assertIn(f"AdminService, channelz and reflection are served on {admin} only", server.log())
                    self.assertEqual(server.terminate_and_wait(), 0)
                    self.assertFalse(port_file.exists())
                    self.assertFalse(pathlib.Path(f"{folder}/admin.sock").exists())
            refused = run("--listen", "127.0.0.1:0", "--admin-port-file", f"{folder}/x")
            self.assertEqual(refused.returncode, 1)
            self.assertIn("--admin-port-file: needs --admin-listen", refused.stderr)

    def test_the_address_of_administrators_has_the_same_rules(self):
        refused = run("--listen", "127.0.0.1:0", "--admin-listen", "0.0.0.0:0")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("--admin-listen 0.0.0.0:0: without authentication", refused.stderr)
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            authority = Certificate(folder, "authority", authority=True)
            own = Certificate(folder, "server", authority)
            tokens = {}
            principals = []
            for role in ("admin", "operator"):
                made = json.loads(cli("token", "create", "--name", role, "--role", role, "--project", "default",
                                      "--json").stdout)
                tokens[role] = made["token"]
                principals.append(made["principal"])
            auth = folder / "auth.json"
            auth.write_text(json.dumps({"principals": principals}))
            port_file = folder / "admin-address"
            with Server("--admin-listen", "127.0.0.1:0", "--admin-port-file", str(port_file), "--auth-file", str(auth),
                        "--tls-cert", str(own.pem), "--tls-key", str(own.key)) as server:
                admin = port_file.read_text().strip()
                credentials = grpc.ssl_channel_credentials(authority.pem.read_bytes())
                asked = self.ADMIN_METHODS[1:]
                self.assertEqual(self.codes(admin, asked), ["UNAVAILABLE"] * 3, "clear text is refused")
                self.assertEqual(self.codes(admin, asked, credentials), ["UNAUTHENTICATED"] * 3)
                self.assertEqual(self.codes(admin, asked, credentials, tokens["admin"]), ["PERMISSION_DENIED"] * 3)
                self.assertEqual(self.codes(admin, self.ADMIN_METHODS, credentials, tokens["operator"]), [None] * 4)
                self.assertEqual(self.codes(server.address, self.ADMIN_METHODS, credentials, tokens["operator"]),
                                 ["UNIMPLEMENTED"] * 4)

    def test_an_address_that_others_reach_is_named_with_what_they_can_do(self):
        with Server("--allow-anonymous", listen="0.0.0.0:0") as server:
            self.assertRegex(server.log(), r"warning other machines can reach 0\.0\.0\.0:0: without an edge")
        with Server() as server:
            self.assertNotIn("without an edge", server.log())

    def test_port_file_and_socket_are_removed_when_the_server_stops(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "s.sock"
            with Server("--unix-socket", str(path)) as server:
                self.assertEqual(cli("health", "--server", f"unix:{path}").stdout, "SERVING\n")
                self.assertEqual(cli("health", server=server.address).stdout, "SERVING\n")
                self.assertEqual(server.terminate_and_wait(), 0)
                self.assertFalse(path.exists())
                self.assertFalse((server.path / "address").exists())

    def test_a_stale_socket_is_replaced(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "s.sock"
            stale = socket.socket(socket.AF_UNIX)
            stale.bind(str(path))
            stale.close()
            with Server("--unix-socket", str(path)):
                self.assertEqual(cli("health", "--server", f"unix:{path}").returncode, 0)

    def test_the_health_check_uses_the_address_in_the_port_file(self):
        for listen in ("127.0.0.1:0", "0.0.0.0:0"):
            with self.subTest(listen), Server("--allow-anonymous", listen=listen) as server:
                port_file = server.path / "address"
                env = {**os.environ, "BACKPROPD_PORT_FILE": str(port_file), "BACKPROPD_LISTEN": "0.0.0.0:1"}
                check = subprocess.run([BIN / "backpropd", "--health-check"], capture_output=True, text=True, env=env)
                self.assertEqual((check.returncode, check.stdout), (0, "SERVING\n"), check.stderr)
                self.assertEqual(run("--port-file", str(port_file), "--health-check").returncode, 0)
                server.terminate_and_wait()
                gone = run("--health-check", "--port-file", str(port_file))
                self.assertEqual(gone.returncode, 1)
                self.assertIn(f"no server has written its address to {port_file}", gone.stderr)
        unset = run("--health-check")
        self.assertEqual(unset.returncode, 1)
        self.assertIn("--health-check: requires an address or --port-file", unset.stderr)

    def test_environment_and_config_file(self):
        with tempfile.TemporaryDirectory() as folder:
            config = pathlib.Path(folder) / "backpropd.toml"
            config.write_text('max-models = 1\nlog-level = "debug"\n')
            with Server("--config", str(config), env={"BACKPROPD_MAX_MODELS": "2"}) as server:
                for name, status in (("a", 0), ("b", 0), ("c", 1)):
                    made = cli("create", name, "--inputs", 1, "--layers", "2", server=server.address)
                    self.assertEqual(made.returncode, status, made.stderr)
                self.assertIn("RESOURCE_EXHAUSTED: the server already holds 2 models", made.stderr)
                self.assertIn("debug CreateModel models/a OK", server.log())
            config.write_text("no-such-flag = 1\n")
            self.assertEqual(run("--config", str(config)).returncode, 2)

    def test_json_logs_are_json_and_name_runs(self):
        with Server("--log-format", "json", "--log-level", "debug") as server:
            cli("create", "m", "--inputs", 2, "--layers", "2", server=server.address)
            cli("train", "m", "--data", "xor", "--iterations", 5, server=server.address)
            cli("get", 'no"such', server=server.address)
            self.assertEqual(server.terminate_and_wait(), 0)
            lines = [json.loads(line) for line in server.log().splitlines()]
            messages = [line["message"] for line in lines]
            self.assertTrue(any("models/m/runs/1 completed after 5 iterations" in m for m in messages))
            self.assertTrue(any('no"such' in m.replace("\\", "") for m in messages), messages)
            self.assertEqual(messages[-1], "stopped")

    def test_sigterm_stops_runs_at_a_step_and_exits_0(self):
        with Server() as server:
            cli("create", "m", "--inputs", 2, "--layers", "8,2", server=server.address)
            train = subprocess.Popen(
                [BIN / "backprop", "--server", server.address, "train", "m", "--data", "xor",
                 "--iterations", "1000000000000", "--report-every", "10000"],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            train.stdout.readline()
            train.stdout.readline()
            begin = time.monotonic()
            self.assertEqual(server.terminate_and_wait(), 0)
            self.assertLess(time.monotonic() - begin, 10)
            out, err = train.communicate(timeout=60)
            self.assertEqual(train.returncode, 1)
            self.assertIn("server shutdown after", out)
            self.assertIn("UNAVAILABLE", err)
            self.assertIn("models/m/runs/1 server_shutdown after", server.log())

    def long_check(self, server):
        """An active GradCheck that would take minutes."""
        cli("create", "m", "--inputs", 200, "--layers", "300,300,10", server=server.address)
        rows = server.path / "rows.csv"
        rows.write_text("\n".join(",".join(["0.5"] * 200 + [str(i % 10)]) for i in range(400)))
        check = subprocess.Popen([BIN / "backprop", "--server", server.address, "grad-check", "m",
                                  "--data", rows, "--max-entries", "100000"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(2)
        self.assertIsNone(check.poll())
        self.addCleanup(check.wait)
        self.addCleanup(check.kill)

    def test_a_second_signal_ends_at_once(self):
        with Server("--grace", "600", expect_exit=128 + signal.SIGINT) as server:
            self.long_check(server)
            server.process.send_signal(signal.SIGTERM)
            time.sleep(1)
            self.assertIsNone(server.process.poll(), "the first signal waits for the call")
            server.process.send_signal(signal.SIGINT)
            self.assertEqual(server.process.wait(timeout=10), 128 + signal.SIGINT)

    def test_other_signals_do_not_end_the_server(self):
        ends = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGXCPU}
        # These cannot be caught, only stop the process temporarily, or report faults of the process
        # itself.
        not_ours = {signal.SIGKILL, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU,
                    signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT,
                    signal.SIGTRAP, signal.SIGSYS}
        with Server() as server:
            for number in sorted(signal.valid_signals() - ends - not_ours):
                server.process.send_signal(number)
            # Handled in the order of their numbers; the last one is logged.
            deadline = time.monotonic() + 30
            while "User defined signal 2: ignored" not in server.log():
                self.assertLess(time.monotonic(), deadline, server.log())
                time.sleep(0.01)
            self.assertIn("Hangup: ignored; there is nothing to reload", server.log())
            self.assertIn("User defined signal 1: ignored", server.log())
            self.assertEqual(cli("health", server=server.address).stdout, "SERVING\n")
            self.assertEqual(server.terminate_and_wait(), 0)
        for number in ends:
            with self.subTest(number), Server() as server:
                server.process.send_signal(number)
                self.assertEqual(server.process.wait(timeout=30), 0)
                self.assertIn("stopped", server.log())

    def test_the_health_check_uses_no_proxy(self):
        nowhere = "http://127.0.0.1:9"
        proxies = {"http_proxy": nowhere, "https_proxy": nowhere, "grpc_proxy": nowhere}
        with Server() as server:
            healthy = run("--health-check", server.address, env=proxies)
            self.assertEqual((healthy.returncode, healthy.stdout), (0, "SERVING\n"), healthy.stderr)

    def test_calls_that_last_longer_than_the_grace_period_are_cancelled(self):
        with Server("--grace", "0.5") as server:
            self.long_check(server)
            self.assertEqual(server.terminate_and_wait(), 0)
            self.assertIn("were cancelled", server.log())

    def test_health_check_of_the_binary_itself(self):
        with Server() as server:
            healthy = run("--health-check", server.address)
            self.assertEqual((healthy.returncode, healthy.stdout), (0, "SERVING\n"))
        self.assertEqual(run("--health-check", server.address).returncode, 1)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + ["-v"])
