"""backprop top: its figures, on a terminal and without one, and the callers that may see them."""

import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import termios
import unittest

from auth_test import eventually, new_token
from certificates import Certificate
from harness import Server, cli
from terminal import Terminal, backprop


class TopTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.server = Server("--data-dir", f"{cls.folder.name}/data", "--log-level", "debug")
        cls.server.__enter__()
        cls.addClassCleanup(cls.server.__exit__, None, None, None)
        cli("create", "m", "--inputs", 2, "--layers", "8,2", server=cls.server.address)

    def top(self, *arguments, **options):
        result = cli("top", *arguments, server=self.server.address, **options)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return result.stdout

    def terminal(self, width, height, *arguments, server=None):
        terminal = Terminal(backprop(server or self.server, "top", *arguments), width, whole=True, height=height)
        self.addCleanup(terminal.close)
        return terminal

    def samples_taken(self):
        return self.server.log().count("debug GetServerStatus ")

    # Figures.

    def test_rates_are_what_happened_in_the_interval(self):
        before = self.samples_taken()
        process = subprocess.Popen(backprop(self.server, "top", "--once", "--json", "--interval", 4),
                                   stdout=subprocess.PIPE, text=True)
        eventually(lambda: self.samples_taken() == before + 1, "the first sample")
        stepped = cli("step-stream", "m", "--data", "xor", "--steps", 300, "--batch-size", 4, server=self.server.address)
        self.assertEqual(stepped.returncode, 0, stepped.stderr)
        self.assertEqual(cli("get", "nothing", server=self.server.address).returncode, 1)
        self.assertEqual(self.samples_taken(), before + 1, "this machine is too slow for the interval of this test")
        out, _ = process.communicate(timeout=60)
        figures = json.loads(out)
        seconds = figures["intervalSeconds"]
        self.assertGreaterEqual(seconds, 3.9)
        self.assertAlmostEqual(figures["work"]["stepsPerSecond"] * seconds, 300, places=3)
        self.assertAlmostEqual(figures["work"]["trainedRowsPerSecond"] * seconds, 1200, places=3)
        self.assertEqual(figures["work"]["predictedRowsPerSecond"], 0)
        self.assertAlmostEqual(figures["store"]["changesPerSecond"] * seconds, 300, places=3)
        self.assertGreater(figures["store"]["groupsPerSecond"], 0)
        self.assertGreater(figures["store"]["syncP99Seconds"], 0)
        self.assertAlmostEqual(figures["calls"]["errorsPerSecond"] * seconds, 1, places=3)
        self.assertAlmostEqual(figures["calls"]["refusalsPerSecond"] * seconds, 1, places=3)
        methods = {method["method"]: method for method in figures["methods"]}
        # The call of the first sample ended after the sample.
        # `step-stream` asks for the model as well.
        for method, calls in (("StepStream", 1), ("GetModel", 2), ("GetServerStatus", 1)):
            self.assertAlmostEqual(methods[method]["callsPerSecond"] * seconds, calls, places=3)
            self.assertGreater(methods[method]["p99Seconds"], 0)
        self.assertAlmostEqual(methods["GetModel"]["errorsPerSecond"] * seconds, 1, places=3)
        self.assertEqual(methods["StepStream"]["errorsPerSecond"], 0)
        self.assertEqual(methods["GetServerStatus"]["inFlight"], 1)

    def test_runs_models_pool_and_memory(self):
        cli("create", "run", "--inputs", 2, "--layers", "8,2", server=self.server.address)
        cli("train", "run", "--data", "xor", "--iterations", 10**12, "--detach", server=self.server.address)
        figures = json.loads(self.top("--once", "--json", "--interval", 1))
        cli("stop", "run", server=self.server.address)
        self.assertEqual(figures["runs"]["active"], 1)
        self.assertEqual(figures["models"]["stored"], len(cli("list", "-q", server=self.server.address).stdout.split()))
        self.assertGreater(figures["work"]["stepsPerSecond"], 0)
        self.assertGreater(figures["pool"]["backgroundBusyThreads"], 0.1)
        self.assertGreater(figures["process"]["cpuCores"], 0.1)
        self.assertIn("backgroundP99Seconds", figures["queue"])
        self.assertEqual(figures["server"]["health"], [
            {"service": "", "serving": True}, {"service": "backprop.v1.TrainingService.writes", "serving": True}])
        version = cli("version", "--json").stdout
        self.assertEqual(figures["server"]["version"], json.loads(version)["version"])
        statm = pathlib.Path(f"/proc/{self.server.process.pid}/statm").read_text().split()
        self.assertLess(abs(figures["memory"]["residentBytes"] - int(statm[1]) * 4096), 64 << 20)

    def test_without_a_data_directory_there_is_no_store(self):
        with Server() as server:
            shown = cli("top", "--once", "--interval", 0.1, server=server.address).stdout
            self.assertIn("none: models are in memory only", shown)
            figures = json.loads(cli("top", "--once", "--json", "--interval", 0.1, server=server.address).stdout)
            self.assertEqual(figures["store"], {})

    # Without a terminal.

    def test_prints_once_per_interval_until_it_is_interrupted(self):
        process = subprocess.Popen(backprop(self.server, "top", "--interval", 0.2), stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        lines = []
        while sum(line.startswith("backpropd ") for line in lines) < 3:
            lines.append(process.stdout.readline())
            self.assertNotEqual(lines[-1], "", lines)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
        self.assertEqual((process.returncode, error), (130, ""))
        text = "".join(lines)
        for part in (r"SERVING  up \d+ s", r"calls +[\d.]+ calls/s", r"runs +\d+ active", r"models +\d+ resident of \d+",
                     r"pool +\d+% busy", r"queue +\d+ waiting", r"fdatasync p99 ", r"memory +\d+ MB resident",
                     r"METHOD +CALLS/S +ERRORS/S +P50 +P99 +IN FLIGHT", r"GetServerStatus +[\d.]+ "):
            self.assertRegex(text, part)
        self.assertNotIn("\x1b", text)

    def test_json_is_a_line_for_each_interval(self):
        process = subprocess.Popen(backprop(self.server, "top", "--json", "--interval", 0.2), stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        for _ in range(3):
            figures = json.loads(process.stdout.readline())
            self.assertGreater(figures["calls"]["perSecond"], 0)
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)
        self.assertEqual((process.returncode, error), (130, ""))

    def test_a_server_that_is_gone_is_an_error(self):
        gone = cli("top", "--once", server="127.0.0.1:1")
        self.assertEqual((gone.returncode, gone.stdout), (1, ""))
        self.assertIn("UNAVAILABLE", gone.stderr)
        with Server(expect_exit=-signal.SIGKILL) as server:
            process = subprocess.Popen(backprop(server, "top", "--interval", 0.2), stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, text=True)
            process.stdout.readline()
            server.process.kill()
            _, error = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 1)
            self.assertIn("UNAVAILABLE", error)

    def test_wrong_usage(self):
        for interval in (0, 0.05, "often", -1):
            self.assertEqual(cli("top", "--interval", interval, server=self.server.address).returncode, 2)

    # On a terminal. The emulated terminal fails if a line wraps or the screen scrolls.

    def test_fits_the_terminal(self):
        for width, height in ((80, 24), (40, 14), (20, 5), (5, 1), (200, 60)):
            with self.subTest(width=width, height=height):
                terminal = self.terminal(width, height, "--interval", 0.1)
                terminal.read_until(lambda s: len(s.frames) > 5)
                self.assertTrue(terminal.screen.alternate)
                self.assertFalse(terminal.screen.cursor)
                self.assertTrue(terminal.screen.frames[-1][0].startswith("back"))
                terminal.write("q")
                self.assertEqual(terminal.finish(), 0)
                self.assertFalse(terminal.screen.alternate)
                self.assertTrue(terminal.screen.cursor)
                self.assertEqual(terminal.screen.drawn, [""], "nothing is left behind")

    def test_nothing_is_cleared_before_it_is_drawn(self):
        terminal = self.terminal(80, 24, "--interval", 0.1)
        terminal.read_until(lambda s: len(s.frames) > 8)
        for frame in terminal.screen.frames[2:]:  # the first ones are empty
            self.assertGreater(len(frame), 10)
            self.assertRegex("\n".join(frame), r"SERVING(.|\n)*runs +\d+ active")
        terminal.write("q")
        self.assertEqual(terminal.finish(), 0)

    def test_follows_the_size_of_the_terminal(self):
        terminal = self.terminal(80, 24, "--interval", 0.1)
        terminal.read_until(lambda s: len(s.frames) > 3)
        self.assertTrue(any("in flight" in row for row in terminal.screen.frames[-1]))
        terminal.resize(30)
        terminal.screen.width = 80  # frames drawn before the program noticed may still arrive
        terminal.read_until(lambda s: all(len(row) < 30 for row in s.frames[-1]))
        terminal.write("q")
        self.assertEqual(terminal.finish(), 0)

    def test_ctrl_c_restores_the_terminal(self):
        terminal = self.terminal(80, 24, "--interval", 60)
        terminal.read_until(lambda s: "SERVING" in "".join(s.drawn))
        flags = termios.tcgetattr(terminal.primary)[3]
        self.assertFalse(flags & (termios.ICANON | termios.ECHO))
        terminal.process.send_signal(signal.SIGINT)
        self.assertEqual(terminal.finish(), 130)
        flags = termios.tcgetattr(terminal.primary)[3]
        self.assertEqual(flags & (termios.ICANON | termios.ECHO), termios.ICANON | termios.ECHO)
        self.assertFalse(terminal.screen.alternate)
        self.assertTrue(terminal.screen.cursor)

    def test_a_lost_server_is_reported_and_waited_for(self):
        with Server(expect_exit=-signal.SIGKILL) as server:
            terminal = self.terminal(120, 24, "--interval", 0.2, server=server)
            terminal.read_until(lambda s: any("GetServerStatus" in row for row in s.drawn))
            server.process.kill()
            server.process.wait()
            terminal.read_until(lambda s: "UNAVAILABLE" in s.drawn[0] and "last values" in s.drawn[0])
            with Server(listen=server.address):
                terminal.read_until(lambda s: re.search(r"^backpropd  SERVING", s.drawn[0]))
                terminal.write("q")
                self.assertEqual(terminal.finish(), 0)

    def test_a_dumb_terminal_gets_plain_lines(self):
        terminal = Terminal(backprop(self.server, "top", "--once", "--interval", 0.1), 80, env={"TERM": "dumb"})
        self.addCleanup(terminal.close)
        self.assertEqual(terminal.finish(), 0)
        self.assertTrue(terminal.screen.lines[0].startswith("backpropd  SERVING"))


class OperatorsTest(unittest.TestCase):
    """Over TLS, with tokens."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        path = pathlib.Path(cls.folder.name)
        cls.authority = Certificate(path, "authority", authority=True)
        own = Certificate(path, "server", cls.authority)
        cls.tokens, principals = {}, []
        for role in ("reader", "writer", "admin", "operator"):
            cls.tokens[role], principal = new_token(role, role)
            principals.append(principal)
        (path / "auth.json").write_text(json.dumps({"principals": principals}))
        cls.server = Server("--tls-cert", str(own.pem), "--tls-key", str(own.key), "--auth-file", str(path / "auth.json"))
        cls.server.__enter__()
        cls.addClassCleanup(cls.server.__exit__, None, None, None)

    def top(self, role):
        token = {} if role is None else {"BACKPROP_TOKEN": self.tokens[role]}
        return cli("top", "--once", "--interval", 0.1, "--ca", self.authority.pem, server=self.server.address, env=token)

    def test_only_operators_see_the_status(self):
        for role in ("reader", "writer", "admin"):
            refused = self.top(role)
            self.assertEqual((refused.returncode, refused.stdout), (1, ""), role)
            self.assertIn("PERMISSION_DENIED: backprop.v1.AdminService/GetServerStatus needs the role OPERATOR; "
                          f"the caller's role is {role.upper()}", refused.stderr)
        refused = self.top(None)
        self.assertEqual((refused.returncode, refused.stdout), (1, ""))
        self.assertIn("UNAUTHENTICATED", refused.stderr)
        self.assertIn("--token-file or BACKPROP_TOKEN", refused.stderr)

    def test_an_operator_sees_it(self):
        shown = self.top("operator")
        self.assertEqual((shown.returncode, shown.stderr), (0, ""))
        self.assertRegex(shown.stdout, r"(?m)^GetServerStatus +[\d.]+")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + ["-v"])
