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
            self.assertIn("models/m/runs/1 server shutdown after", server.log())

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
