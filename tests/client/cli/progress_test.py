"""The live line of a run: it fits the terminal, and reports silence and how to return to the run."""

import json
import re
import signal
import subprocess
import sys
import unittest

from harness import Server, cli
from terminal import Terminal, backprop

LONG = 10**8  # iterations


class ProgressTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.server.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)

    def ok(self, *arguments):
        result = cli(*arguments, server=self.server.address)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def create(self, name):
        self.ok("create", name, "--inputs", 2, "--layers", "8,2", "--learning-rate", 0.1)

    def terminal(self, width, *arguments, server=None, **options):
        terminal = Terminal(backprop(server or self.server, *arguments), width, **options)
        self.addCleanup(terminal.close)
        return terminal

    def long_run(self, name, width, *more, **options):
        self.create(name)
        return self.terminal(width, "train", name, "--data", "xor", "--iterations", LONG, "--report-every", 1000,
                             *more, **options)

    def test_the_line_fits_the_terminal(self):
        for width in (80, 40, 20):
            with self.subTest(width):
                terminal = self.long_run(f"fits{width}", width)
                terminal.read_until(lambda s: len(s.frames) > 50)
                self.assertEqual(terminal.screen.wrapped, 0)
                self.assertEqual(len(terminal.screen.lines), 1, "one line, rewritten")
                # 20 columns have no room for the percentage after 100,000 iterations.
                percent = r" +\d+%" if width >= 40 else ""
                self.assertRegex(terminal.screen.frames[-1], rf"^\d+/{LONG}" + percent)
                terminal.process.send_signal(signal.SIGINT)
                self.assertEqual(terminal.finish(), 130)
                self.assertEqual(terminal.screen.lines, [""], "the line is cleared")

    def test_the_line_follows_the_size_of_the_terminal(self):
        terminal = self.long_run("resized", 120)
        terminal.read_until(lambda s: len(s.frames) > 20)
        wide = terminal.screen.frames[-1]
        for part in ("loss ", "accuracy ", "steps/s", "ETA "):
            self.assertIn(part, wide)
        terminal.resize(40)
        # Frames drawn before the program noticed may still arrive.
        terminal.read_until(lambda s: s.frames and 0 < len(s.frames[-1]) < 40)
        terminal.screen.wrapped = 0
        terminal.screen.lines = [""]
        terminal.screen.column = 0
        terminal.screen.frames.clear()
        terminal.read_until(lambda s: len(s.frames) > 20)
        self.assertEqual(terminal.screen.wrapped, 0)
        self.assertIn("ETA ", terminal.screen.frames[-1], "what matters most stays")
        terminal.process.send_signal(signal.SIGINT)
        terminal.finish()

    def test_a_dumb_terminal_gets_plain_lines(self):
        self.create("dumb")
        terminal = self.terminal(80, "train", "dumb", "--data", "xor", "--iterations", 3, env={"TERM": "dumb"})
        self.assertEqual(terminal.finish(), 0)
        self.assertIn("iteration", terminal.screen.lines[0])
        self.assertIn("completed after 3", terminal.screen.lines[-2])

    def test_no_color(self):
        # Only the points of the demo are coloured; the emulated terminal fails on an escape
        # sequence.
        terminal = self.terminal(80, "demo", env={"NO_COLOR": "1"})
        self.assertEqual(terminal.finish(), 0)
        terminal = self.terminal(80, "demo")
        with self.assertRaises(AssertionError):
            terminal.finish()

    def test_a_quiet_run_says_so(self):
        with Server() as server:
            cli("create", "quiet", "--inputs", 2, "--layers", "8,2", server=server.address)
            arguments = ("train", "quiet", "--data", "xor", "--iterations", 10**12, "--report-every", 1000,
                         "--quiet-after", 0.5)
            terminal = self.terminal(80, *arguments, server=server)
            terminal.read_until(lambda s: len(s.frames) > 3)
            server.process.send_signal(signal.SIGSTOP)
            try:
                for _ in range(2):
                    terminal.screen.frames.clear()
                    terminal.read_until(lambda s: any(re.search(r"no events for \d+ s; still connected", f)
                                                      for f in s.frames))
                self.assertEqual(terminal.screen.wrapped, 0)
                self.assertEqual(len(terminal.screen.lines), 1)
            finally:
                server.process.send_signal(signal.SIGCONT)
            terminal.screen.frames.clear()
            terminal.read_until(lambda s: s.frames and "loss" in s.frames[-1] and "news" not in s.frames[-1])
            terminal.process.send_signal(signal.SIGINT)
            self.assertEqual(terminal.finish(), 130)

    def test_a_quiet_run_in_a_pipe_says_so_on_standard_error(self):
        with Server() as server:
            cli("create", "quiet", "--inputs", 2, "--layers", "8,2", server=server.address)
            process = subprocess.Popen(
                backprop(server, "train", "quiet", "--data", "xor", "--iterations", 10**12, "--quiet-after", "1.5"),
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            process.stdout.readline()
            server.process.send_signal(signal.SIGSTOP)
            try:
                news = [process.stderr.readline() for _ in range(2)]
                seconds = [int(re.fullmatch(r"no events for (\d+) s; still connected\n", line).group(1))
                           for line in news]
                self.assertGreaterEqual(seconds[0], 1)
                self.assertGreater(seconds[1], seconds[0])
            finally:
                server.process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=60)
            self.assertNotIn("no events for", out)

    def test_a_lost_server_is_not_called_connected(self):
        with Server(expect_exit=-signal.SIGKILL) as server:
            cli("create", "lost", "--inputs", 2, "--layers", "8,2", server=server.address)
            terminal = self.terminal(80, "train", "lost", "--data", "xor", "--iterations", 10**12, "--quiet-after", 0.3,
                                     server=server)
            terminal.read_until(lambda s: len(s.frames) > 3)
            server.process.kill()
            terminal.read_until(lambda s: any("not connected, retrying" in f for f in s.frames))
            self.assertEqual(terminal.finish(), 1)
            error = terminal.process.stderr.read()
            self.assertIn("UNAVAILABLE", error)
            self.assertIn("backprop watch lost", error)

    def test_the_step_after_ctrl_c_is_the_models(self):
        for attempt in range(5):
            name = f"stopped{attempt}"
            self.create(name)
            process = subprocess.Popen(backprop(self.server, "train", name, "--data", "xor", "--n", 20000,
                                                "--iterations", LONG, "--report-every", 1),
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            process.stdout.readline()
            process.stdout.readline()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
            self.assertEqual(process.returncode, 130)
            step = int(re.search(r"its parameters up to step (\d+) are kept", err).group(1))
            self.assertEqual(int(json.loads(self.ok("get", name, "--json"))["model"].get("step", 0)), step)

    def test_giving_up_says_how_to_get_back(self):
        self.create("back")
        self.ok("train", "back", "--data", "xor", "--iterations", 10**12, "--detach")
        result = cli("watch", "back", "--timeout", 0.5, server=self.server.address)
        self.assertEqual(result.returncode, 1)
        self.assertIn("DEADLINE_EXCEEDED", result.stderr)
        self.assertIn("models/back/runs/1 continues; follow it again with: backprop watch back; "
                      "stop it with: backprop stop back", result.stderr)
        self.ok("stop", "back")
        result = cli("train", "back", "--data", "xor", "--iterations", 10**12, "--timeout", 0.5,
                     server=self.server.address)
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"the run was stopped; its parameters up to step \d+ are kept")
        self.assertNotIn("active run", self.ok("get", "back"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + ["-v"])
