"""The README's commands, verbatim, against a real server.

Blocks marked ```console hold commands after "$ " and what they print; a line "…" stands for any
lines, and numbers of time and speed may differ. Fractions may differ as float32 does between
instruction sets (docs/numerics.md); whole numbers may not.
"""

import os
import re
import subprocess
import sys
import tempfile
import unittest

from harness import BIN, ROOT, Server, readme_blocks

# What differs from machine to machine.
TIMES = [
    (re.compile(r"in \d+(\.\d+)? (s|min|h)"), "in T"),
    (re.compile(r"\s+\d+$"), " N"),  # steps/s at the end of a row
    (re.compile(r'"(create_time|createTime)": "[^"]*"'), '"create_time": "T"'),
    (re.compile(r'"(eta|elapsed)": "[^"]*"'), '"elapsed": "T"'),
    (re.compile(r'"(samples_per_second)": [0-9.e+]+'), '"samples_per_second": N'),
    (re.compile(r"\s+"), " "),
]


def plain(line):
    for pattern, replacement in TIMES:
        line = pattern.sub(replacement, line)
    return line.strip()


FRACTION = re.compile(r"-?\d+(?:\.\d+(?:e[+-]?\d+)?|e[+-]?\d+)")


class Line(str):
    """A line that equals another one with nearly the same fractions."""

    def __eq__(self, other):
        if FRACTION.sub("x", self) != FRACTION.sub("x", other):
            return False
        pairs = zip(FRACTION.findall(self), FRACTION.findall(other))
        return all(abs(float(a) - float(b)) <= 2e-6 + 1e-4 * abs(float(a)) for a, b in pairs)

    __hash__ = None


def matches(expected, got):
    """Whether got is expected, where … stands for any number of lines."""
    got = [Line(plain(line)) for line in got.strip().splitlines()]
    segments = [[]]
    for line in expected.strip().splitlines():
        if line == "…":
            segments.append([])
        else:
            segments[-1].append(Line(plain(line)))
    if len(segments) == 1:
        return segments[0] == got
    first, last = segments[0], segments[-1]
    if len(first) + len(last) > len(got) or got[:len(first)] != first:
        return False
    if last and got[-len(last):] != last:
        return False
    at = len(first)
    for segment in segments[1:-1]:
        while got[at:at + len(segment)] != segment:
            at += 1
            if at > len(got):
                return False
        at += len(segment)
    return at <= len(got) - len(last)


def commands(block):
    """(command, expected output) pairs of a console block."""
    pairs = []
    for line in block.splitlines():
        if line.startswith("$ "):
            pairs.append([line[2:], ""])
        elif pairs and pairs[-1][0].endswith("\\"):
            pairs[-1][0] = pairs[-1][0] + "\n" + line
        elif pairs:
            pairs[-1][1] += line + "\n"
    return pairs


def shape(line):
    """A line of docs/cli.md without what differs from run to run: fractions, ages, times and step counts at Ctrl-C.
    The README's examples hold the numbers themselves."""
    line = re.sub(r"\b\d+[smhd]\b", "AGE", plain(line))
    line = re.sub(r"after \d+|step \d{4,}|\d+ bytes", "N", line)
    return FRACTION.sub("x", line)


def commands_of_the_binary():
    text = subprocess.run([BIN / "backprop", "--help"], capture_output=True, text=True).stdout
    return re.findall(r"^  ([a-z][a-z-]*) ", re.search(r"Subcommands:\n(.*?)\n\n", text, re.S).group(1), re.M)


class ReadmeTest(unittest.TestCase):
    def test_every_command_prints_what_it_says(self):
        blocks = readme_blocks("console")
        self.assertGreaterEqual(len(blocks), 3)
        ran = []
        with tempfile.TemporaryDirectory() as data, \
                Server("--log-level", "debug", "--data-dir", data) as server:
            environment = {**os.environ, "BACKPROP_SERVER": server.address,
                           "PATH": f"{BIN}:{ROOT}/build/tools/bin:{os.environ['PATH']}"}
            for block in blocks:
                for command, expected in commands(block):
                    with self.subTest(command):
                        actual = command.replace("localhost:50051", server.address)
                        result = subprocess.run(["bash", "-c", actual], capture_output=True, text=True,
                                                env=environment, cwd=ROOT, timeout=120)
                        got = result.stdout + result.stderr
                        self.assertTrue(matches(expected, got), f"expected:\n{expected}\ngot:\n{got}")
                        ran.append(command)
            log = server.log()
        for rpc in ("CreateModel", "GetModel", "ListModels", "DeleteModel", "Train", "WatchTraining",
                    "StopTraining", "Step", "StepStream", "ComputeGradients", "ApplyGradients", "Predict",
                    "Evaluate", "GradCheck", "GetParameters", "SetParameters", "CreateCheckpoint", "ListCheckpoints",
                    "RestoreCheckpoint", "DeleteCheckpoint", "UploadDataset", "GetDataset", "ListDatasets",
                    "DeleteDataset", "ExportModel", "ImportModel", "CreateBackup", "RestoreBackup"):
            with self.subTest(rpc):
                self.assertTrue(any(f"Service/{rpc}" in c for c in ran),
                                "a grpcurl example for each RPC")
                self.assertRegex(log, rf"debug {rpc} ")

    def test_every_command_of_the_page_on_the_command_line(self):
        ran = []
        with tempfile.TemporaryDirectory() as data, Server("--data-dir", data) as server:
            environment = {**os.environ, "BACKPROP_SERVER": server.address, "PATH": f"{BIN}:{os.environ['PATH']}"}
            for block in readme_blocks("console", "docs/cli.md"):
                for command, expected in commands(block):
                    with self.subTest(command):
                        result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment,
                                                cwd=ROOT, timeout=120)
                        got = result.stdout + result.stderr
                        self.assertEqual([shape(line) for line in expected.splitlines()],
                                         [shape(line) for line in got.splitlines()])
                        ran.append(command)
        for command in ("create", "list", "get", "delete", "train", "watch", "stop", "step", "step-stream", "gradients",
                        "predict", "evaluate", "grad-check", "parameters", "checkpoint", "dataset", "export", "import",
                        "backup", "health"):
            self.assertTrue(any(f"backprop {command} " in f"{line} " for line in ran), command)
        text = (ROOT / "docs/cli.md").read_text()
        for command in commands_of_the_binary():
            self.assertRegex(text, rf"(?m)^## .*\b{command}\b", "a section for each command")

    def test_the_flags_are_those_of_the_binary(self):
        help_text = subprocess.run([BIN / "backpropd", "--help"], capture_output=True, text=True).stdout
        shown = readme_blocks("text")[-1]
        # The default number of threads is the machine's.
        fold = lambda text: re.sub(r"\s+", " ", re.sub(r"\[1 - 1024\]=\d+", "[1 - 1024]=N", text)).strip()
        self.assertEqual(fold(shown), fold(help_text))

    def test_the_matcher_can_fail(self):
        self.assertTrue(matches("a\n…\nd", "a\nb\nc\nd"))
        self.assertFalse(matches("a\n…\nd", "a\nb\nc"))
        self.assertFalse(matches("loss 0.1", "loss 0.2"))
        self.assertFalse(matches("loss 0.1", "less 0.1"))
        self.assertTrue(matches("loss 0.123456 at 1e-04", "loss 0.123457 at 1e-04"))
        self.assertFalse(matches("loss 0.12345", "loss 0.12355"))
        self.assertFalse(matches("553 steps", "554 steps"))
        self.assertFalse(matches("1 step", "1.0 step"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + ["-v"])
