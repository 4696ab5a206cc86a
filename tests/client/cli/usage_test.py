"""Messages for mistakes on the command line, and the help of every command, whose examples are run."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

from harness import BIN, Server, cli
from terminal import Terminal, backprop


def help_of(*command):
    result = cli(*command, "--help")
    assert result.returncode == 0, result.stderr
    return result.stdout


def commands_in(text):
    """Returns the commands that a help text lists under "Subcommands:"."""
    block = re.search(r"^Subcommands:\n((?:  .*\n?)+)", text, re.M)
    return re.findall(r"^  ([a-z][a-z-]*) ", block.group(1), re.M) if block else []


def all_commands():
    found = []
    for name in commands_in(help_of()):
        found.append((name,))
        found += [(name, sub) for sub in commands_in(help_of(name))]
    return found


class UsageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.server.__enter__()
        cls.folder = tempfile.TemporaryDirectory()
        cls.path = pathlib.Path(cls.folder.name)
        (cls.path / "points.csv").write_text("x,y,kind\n" + "0,0,0\n1,1,1\n0.2,0.1,0\n0.8,1,1\n" * 25)

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)
        cls.folder.cleanup()

    def run_cli(self, *arguments, **options):
        return cli(*arguments, server=self.server.address, cwd=self.path, **options)

    # Help.

    def test_every_command_has_help_with_examples(self):
        commands = all_commands()
        self.assertGreaterEqual(len(commands), 37)
        for command in commands:
            with self.subTest(command):
                text = help_of(*command)
                self.assertIn("Usage: backprop " + " ".join(command), text)
                self.assertRegex(text, r"\nExamples?:\n  \S")
                for line in text.splitlines():
                    self.assertEqual(line, line.rstrip(" ") or line)

    def test_bare_commands_print_their_help(self):
        for command in ((), ("dataset",), ("checkpoint",), ("gradients",), ("parameters",), ("token",), ("context",), ("project",)):
            with self.subTest(command):
                bare = self.run_cli(*command)
                self.assertEqual((bare.returncode, bare.stderr), (0, ""))
                self.assertEqual(bare.stdout, self.run_cli(*command, "--help").stdout)

    def test_version(self):
        self.assertEqual(help_version := self.run_cli("--version").stdout, self.run_cli("version").stdout)
        self.assertRegex(help_version, r"^backprop \d+\.\d+\.\d+ \(commit \w+\)\n$")

    def test_every_example_runs(self):
        order = ["demo", "create", "get", "list", "train", "stop", "watch", "step", "step-stream", "gradients", "predict",
                 "evaluate", "grad-check", "parameters", "checkpoint", "dataset", "export", "import", "backup", "restore",
                 "health", "top", "debug", "project", "context", "token", "version", "completion", "delete"]
        commands = all_commands()
        self.assertEqual(sorted(order), sorted({command[0] for command in commands}))
        commands.sort(key=lambda command: order.index(command[0]))
        with tempfile.TemporaryDirectory() as data, tempfile.TemporaryDirectory() as empty, \
                Server("--data-dir", data) as server, Server("--data-dir", empty) as other:
            environment = {**os.environ, "BACKPROP_SERVER": server.address, "HOME": self.folder.name,
                           "XDG_CONFIG_HOME": "", "PATH": f"{BIN}:{os.environ['PATH']}"}
            (self.path / ".config/fish/completions").mkdir(parents=True)
            (self.path / ".config/backprop").mkdir()
            (self.path / ".config/backprop/config.toml").write_text(f'[contexts.prod]\nserver = "{server.address}"\n')
            for command in commands:
                text = help_of(*command)
                for line in text[re.search(r"\nExamples?:\n", text).end():].splitlines():
                    line = line.strip().replace("localhost:50052", other.address)
                    line = line.replace('"${fpath[1]}/_backprop"', "_backprop")  # zsh's
                    line = line.replace("| jq -r '.models[].name'", "")  # may not be installed
                    with self.subTest(line):
                        result = subprocess.run(["bash", "-c", line], env=environment, cwd=self.path,
                                                capture_output=True, text=True, timeout=120)
                        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    # Mistakes.

    def test_the_most_likely_mistakes(self):
        self.run_cli("create", "m", "--inputs", 2, "--layers", "8,2")
        (self.path / "bad.csv").write_text("1,2,0\n3,x,1\n")
        see = "See backprop"
        mistakes = [
            # (arguments, exit status, text that the message must contain)
            (("trian", "m"), 2, 'unknown command "trian"; did you mean train?'),
            (("creat", "m", "--inputs", 2), 2, 'unknown command "creat"; did you mean create?'),
            (("datasets", "list"), 2, 'unknown command "datasets"; did you mean dataset?'),
            (("dataset", "remove", "x"), 2, 'unknown command "remove"'),
            (("ls",), 2, 'unknown command "ls"'),
            (("train", "m", "--data", "xor", "--iteratons", 5), 2,
             "unknown flag --iteratons of backprop train; did you mean --iterations?"),
            (("create", "n", "--inputs", 2, "--layers", "2", "--learning_rate", 0.1), 2,
             "unknown flag --learning_rate of backprop create; did you mean --learning-rate?"),
            (("create", "n", "--inputs", 2, "--layers", "2", "--lr", 0.1), 2, "unknown flag --lr of backprop create"),
            (("train", "m", "--data", "xor", "--iter", 5), 2, "did you mean --iterations?"),
            (("train", "m", "--data", "xor"), 2, "--iterations or --epochs is required"),
            (("train", "m", "--iterations", 5), 2, "--data or --dataset is required"),
            (("train", "--data", "xor", "--iterations", 5), 2, "model is required"),
            (("train", "m", "--data", "xor", "--iterations", "many"), 2, "--iterations"),
            (("train", "m", "--data", "xor", "--iterations", 1, "--epochs", 1), 2, "--iterations excludes --epochs"),
            (("create", "n", "--inputs", 2, "--layers", "2", "--loss", "mse"), 2, "mean_squared_error"),
            (("create", "n", "--layers", "8,2:softmax", "--inputs", 2), 2, "softmax"),
            (("create", "m", "--inputs", 2, "--layers", "8,2"), 1, "ALREADY_EXISTS"),
            (("predict", "m", "-0.5,0.5"), 2, "--row=-0.5,0.5"),
            (("predict", "--row", "0.5,0.5", "n"), 1, "NOT_FOUND: models/n"),  # no row
            (("create", "--layers", "8,2", "m", "--inputs", 2), 1, "models/m"),  # no layer
            (("predict", "m", "--row", "0.5"), 1, "expected"),
            (("predict", "nothing", "--row", "1,1"), 1, "NOT_FOUND: models/nothing: no such model"),
            (("train", "m", "--data", "none.csv", "--iterations", 1), 1, "none.csv"),
            (("train", "m", "--data", "bad.csv", "--iterations", 1), 1, 'bad.csv:2:2: expected a number, got "x"'),
            (("list", "--server", "http://localhost:50051"), 2, "omit http://"),
            (("list", "--server", "localhost:5005l"), 2, "a port is a number from 1 to 65535"),
            (("delete",), 2, "models or --label is required"),
            (("delete", "--label", "x=y", "m"), 2, "models excludes --label"),
            (("get", "m", "extra"), 2, 'unexpected argument "extra" of backprop get'),
            (("completion", "tcsh"), 2, "bash"),
        ]
        for arguments, status, message in mistakes:
            with self.subTest(arguments):
                result = self.run_cli(*arguments)
                self.assertEqual(result.returncode, status, result.stdout + result.stderr)
                self.assertEqual(result.stdout, "")
                self.assertIn(message, result.stderr)
                self.assertEqual(see in result.stderr, status == 2, result.stderr)
                self.assertLessEqual(len(result.stderr.splitlines()), 2)

    def test_the_server_flag(self):
        host, port = self.server.address.rsplit(":", 1)
        # No server listens on the default port in a test; the message contains the address.
        for given, used in (("localhost", "localhost:50051"), ("[::1]", "[::1]:50051"), ("::1", "[::1]:50051"),
                            ("[::1]:1", "[::1]:1"), ("unix:/no/such", "unix:/no/such")):
            with self.subTest(given):
                shown = cli("--server", given, "--timeout", 0.001, "--json", "get", "x")
                self.assertEqual(shown.returncode, 1)
                self.assertNotIn("USAGE", shown.stderr)
                told = cli("--server", given, "get", "x")
                if "UNAVAILABLE" in told.stderr:
                    self.assertIn(f"Is a server running at {used}?", told.stderr)
        self.assertEqual(cli("--server", f"localhost:{port}", "health").stdout, "SERVING\n")
        for wrong in ("", ":1", "host:", "host:0", "host:65536", "[::1", "[]:1", "a b"):
            with self.subTest(wrong):
                self.assertEqual(cli("--server", wrong, "health").returncode, 2)
                self.assertEqual(cli("health", server=wrong or " ").returncode, 2)

    # Lists and deletion.

    def test_lists_are_aligned_and_can_be_quiet(self):
        for name in ("a", "a-model-with-quite-a-long-name-so-that-columns-grow"):
            self.run_cli("create", name, "--inputs", 2, "--layers", "8,2", "--label", "list=yes")
        self.run_cli("train", "a", "--data", "xor", "--iterations", 10**12, "--detach")
        lines = self.run_cli("list", "--label", "list=yes").stdout.splitlines()
        self.run_cli("stop", "a")
        self.assertEqual(lines[0].split(), ["NAME", "STEP", "PARAMETERS", "STATE", "AGE", "MODEL"])
        self.assertEqual(len({re.search(r"2 → 8|MODEL", line).start() for line in lines}), 1)
        self.assertRegex(lines[1], r"^models/a +\d+ +42  training +\d+s  2 → 8 relu → 2")
        self.assertRegex(lines[2], r"^models/a-model\S+ +0 +42  idle +\d+s  2 → 8 relu → 2")
        self.assertEqual(self.run_cli("list", "-q", "--label", "list=yes").stdout.split(),
                         ["a", "a-model-with-quite-a-long-name-so-that-columns-grow"])
        self.assertEqual(self.run_cli("list", "--label", "list=none").stdout, "")

    def make(self, *names, label):
        for name in names:
            self.run_cli("create", name, "--inputs", 2, "--layers", "2", "--label", f"{label}=yes")

    def test_delete_takes_several(self):
        self.make("d1", "d2", "d3", label="several")
        result = self.run_cli("delete", "d1", "none", "models/d3")
        self.assertEqual(result.returncode, 1)
        self.assertEqual(result.stdout, "deleted models/d1\ndeleted models/d3\n")
        self.assertEqual(result.stderr, "NOT_FOUND: models/none: no such model\n")
        self.assertEqual(self.run_cli("list", "-q", "--label", "several=yes").stdout, "d2\n")

    def test_delete_by_label_asks_or_needs_yes(self):
        self.make("l1", "l2", label="group")
        refused = self.run_cli("delete", "--label", "group=yes", stdin="")
        self.assertEqual(refused.returncode, 2)
        self.assertIn("--yes", refused.stderr)
        for answer, left in (("n", "l1\nl2\n"), ("", "l1\nl2\n"), ("y", "")):
            terminal = Terminal(backprop(self.server, "delete", "--label", "group=yes"), 200, whole=True)
            self.addCleanup(terminal.close)
            terminal.read_until(lambda s: "Delete 2 models (models/l1, models/l2)? [y/N]" in s.lines[-1])
            terminal.write(answer + "\n")
            self.assertEqual(terminal.finish(), 0 if answer == "y" else 1)
            self.assertEqual(self.run_cli("list", "-q", "--label", "group=yes").stdout, left)
        self.make("l3", label="group")
        self.assertEqual(self.run_cli("delete", "--label", "group=yes", "--yes").stdout, "deleted models/l3\n")
        self.assertEqual(self.run_cli("delete", "--label", "group=yes", "--yes").returncode, 0)

    def test_checkpoints_and_datasets_likewise(self):
        self.make("kept", label="kept")
        for name in ("one", "two"):
            self.run_cli("checkpoint", "create", "kept", name)
            self.run_cli("dataset", "upload", name, "--data", "points.csv")
        for command in (("checkpoint", "list", "kept"), ("dataset", "list")):
            lines = self.run_cli(*command).stdout.splitlines()
            self.assertEqual(lines[0].split()[0], "NAME")
            self.assertEqual(self.run_cli(*command, "--quiet").stdout, "one\ntwo\n")
        self.assertEqual(self.run_cli("checkpoint", "delete", "kept", "one", "two").stdout,
                         "deleted models/kept/checkpoints/one\ndeleted models/kept/checkpoints/two\n")
        self.assertEqual(self.run_cli("dataset", "delete", "one", "two").stdout,
                         "deleted datasets/one\ndeleted datasets/two\n")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + ["-v"])
