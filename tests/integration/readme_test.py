"""The documents: their commands are run, verbatim, against a real server.

A ```console block holds commands after "$ " and what they print; a line "…" stands for any lines.
Times and speeds may differ. Fractions may differ as float32 does between instruction sets
(docs/numerics.md); whole numbers may not. The commands of a ```sh block must succeed, a ```python
block must print what its last comment says, a ```cpp block must compile, a ```toml block must be
accepted by `backpropd --config`, and a ```json block by `backpropd --auth-file`. NOT_RUN lists the commands that are not run, and why.
"""

import contextlib
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest

from harness import BIN, ROOT, Server

PAGES = sorted(str(path.relative_to(ROOT)) for folder in (ROOT, ROOT / "docs", ROOT / ".github")
               for path in folder.glob("*.md"))

# Page and command (as patterns of the whole text), and the reason why the command is not run here.
NOT_RUN = [
    (r".*", r"git clone .*", "needs the network; ci.yml clones"),
    (r".*", r"\./scripts/.*",
     "builds the project and takes minutes: .ci/run runs test, lint, sanitize, crash and bench; "
     "this test only checks that the script exists"),
    (r".*", r"docker .*", "needs a Docker daemon: scripts/docker-test builds and runs the image"),
    (r"docs/clients\.md", r".*", "scripts/examples runs the commands of each language"),
    (r"docs/cli\.md", r"backprop completion (zsh|fish) > .*",
     "writes to the user's home: completion_test.py runs the scripts in each shell"),
    (r"docs/operations\.md", r"sudo apt install \./build/release/package/.*", "scripts/package-test installs the package"),
    (r"docs/operations\.md", r"setpriv --reuid=backpropd .*", "needs the package's user: scripts/package-test runs it so"),
    (r"docs/operations\.md", r"backprop --server NEW:50051 restore .*",
     "needs a second server: backup_test.py restores into an empty one"),
]

# Output that differs between machines and runs.
TIMES = [
    (re.compile(r"in \d+(\.\d+)? (s|min|h)"), "in T"),
    (re.compile(r"\s+\d+$"), " N"),  # steps/s at the end of a row
    (re.compile(r'"(create_time|createTime)": "[^"]*"'), '"create_time": "T"'),
    (re.compile(r'"(eta|elapsed)": "[^"]*"'), '"elapsed": "T"'),
    (re.compile(r'"(samples_per_second)": [0-9.e+]+'), '"samples_per_second": N'),
    (re.compile(r"(?<=\s)\d+[smhd](?=\s)"), "AGE"),
    (re.compile(r"(?<=the model is at step )\d+"), "N"),
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


def blocks(page):
    """(language, text) of the fenced blocks of a page, in order."""
    return re.findall(r"^```([^\n]*)\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)


def outside_blocks(page):
    return re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.M | re.S)


def console_commands(block):
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


def shell_commands(block):
    """The commands of an sh block, without comments."""
    lines = block.replace("\\\n", " ").splitlines()
    commands = [re.sub(r"(^|\s+)# .*", "", line) for line in lines]
    return [command for command in commands if command]


def reason_not_run(page, command):
    for entry in NOT_RUN:
        if re.fullmatch(entry[0], page) and re.fullmatch(entry[1], command, re.S):
            return entry
    return None


def rpcs_of_the_contract():
    text = "".join(path.read_text() for path in sorted((ROOT / "proto/backprop/v1").glob("*_service.proto")))
    return re.findall(r"^  rpc (\w+)\(", text, re.M)


def commands_of_the_binary():
    text = subprocess.run([BIN / "backprop", "--help"], capture_output=True, text=True).stdout
    return re.findall(r"^  ([a-z][a-z-]*) ", re.search(r"Subcommands:\n(.*?)\n\n", text, re.S).group(1), re.M)


class Page:
    """Runs the blocks of one page, in order, against one server."""

    def __init__(self, test, page, server, scratch, stack):
        self.test = test
        self.page = page
        self.server = server
        self.scratch = pathlib.Path(scratch)
        self.stack = stack  # ends the servers of the page
        self.http = "127.0.0.1:8080"  # of the server, once one was started with --http
        self.ran = []
        self.skipped = []  # used entries of NOT_RUN
        self.environment = {**os.environ, "BACKPROP_SERVER": server.address,
                            "PATH": f"{BIN}:{ROOT}/build/tools/bin:{os.environ['PATH']}"}

    def run(self, language, text):
        run = {"console": self.console, "sh": self.shell, "python": self.python, "cpp": self.cpp,
               "toml": self.toml, "json": self.json}.get(language)
        self.test.assertIsNotNone(run, f"{self.page}: a block in '{language}', which is not tested:\n{text}")
        run(text)

    def console(self, text):
        for command, expected in console_commands(text):
            with self.test.subTest(page=self.page, command=command):
                result = self.bash(command, cwd=ROOT)
                got = result.stdout + result.stderr
                self.test.assertTrue(matches(expected, got), f"expected:\n{expected}\ngot:\n{got}")
                self.ran.append(command)

    def shell(self, text):
        for command in shell_commands(text):
            with self.test.subTest(page=self.page, command=command):
                entry = reason_not_run(self.page, command)
                if entry:
                    self.skipped.append(entry)
                    if command.startswith("./scripts/"):
                        self.test.assertTrue(os.access(ROOT / command.split()[0], os.X_OK), "no such script")
                elif command.startswith("backpropd "):
                    server = self.start_server(shlex.split(command.removesuffix("&"))[1:])
                    if command.endswith("&"):
                        self.stays(server)
                    else:
                        server.__exit__(None, None, None)
                    self.ran.append(command)
                else:
                    result = self.bash(command, cwd=self.scratch)
                    self.test.assertEqual(result.returncode, 0, result.stdout + result.stderr)
                    self.ran.append(command)

    def start_server(self, flags):
        """Starts a server with the flags, but on a free port, and with its files in the scratch folder."""
        in_scratch = lambda path: self.scratch / path.lstrip("/").replace("/", "_")
        if "--listen" in flags:
            at = flags.index("--listen")
            del flags[at:at + 2]
        http = self.scratch / "http-port"
        if "--http" in flags:
            at = flags.index("--http")
            flags[at:at + 2] = ["--http", "127.0.0.1:0", "--http-port-file", str(http)]
        if "--data-dir" in flags:
            at = flags.index("--data-dir")
            flags[at + 1] = in_scratch(flags[at + 1])
        flags = [f"unix:{in_scratch(flag[5:])}" if str(flag).startswith("unix:/") else flag for flag in flags]
        server = Server(*flags, cwd=self.scratch).__enter__()
        if http.exists():
            self.http = http.read_text().strip()
        return server

    def stays(self, server):
        """The following commands use this server."""
        self.stack.push(server)
        self.environment["BACKPROP_SERVER"] = server.address
        self.server = server

    def python(self, text):
        with self.test.subTest(page=self.page, python=text):
            package = self.scratch / "python"  # the client, as its build makes it
            shutil.copytree(ROOT / "client/python/src", package, dirs_exist_ok=True)
            subprocess.run([sys.executable, ROOT / "client/python/hatch_build.py", package], check=True)
            result = subprocess.run([sys.executable, "-c", self.with_address(text)], capture_output=True, text=True,
                                    env={**self.environment, "PYTHONPATH": str(package)}, timeout=120)
            self.test.assertEqual(result.returncode, 0, result.stderr)
            self.test.assertEqual(result.stdout.strip(), text.rpartition("  # ")[2].strip())

    def cpp(self, text):
        with self.test.subTest(page=self.page, cpp=text):
            source = ("#include <backprop/client.h>\n#include <backprop/datasets.h>\n#include <iostream>\n"
                      f"int main() {{\n{text}}}\n")
            result = subprocess.run([os.environ.get("CXX", "c++"), "-std=c++20", "-fsyntax-only", "-I", ROOT / "client",
                                     "-x", "c++", "-"], input=source, capture_output=True, text=True, timeout=120)
            self.test.assertEqual(result.returncode, 0, result.stderr)

    def toml(self, text):
        with self.test.subTest(page=self.page, toml=text):
            path = self.scratch / "config.toml"
            path.write_text(text)
            self.start_server(["--config", path]).__exit__(None, None, None)

    def json(self, text):
        with self.test.subTest(page=self.page, json=text):
            path = self.scratch / "auth.json"
            path.write_text(text)
            self.start_server(["--auth-file", path]).__exit__(None, None, None)

    def bash(self, command, cwd):
        return subprocess.run(["bash", "-euo", "pipefail", "-c", self.with_address(command)], capture_output=True,
                              text=True, env=self.environment, cwd=cwd, timeout=120)

    def with_address(self, text):
        text = text.replace("localhost:50051", self.server.address)
        return text.replace("127.0.0.1:8080", self.http)


class DocumentsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.log = {}
        cls.pages = {}

    def run_page(self, page):
        """Runs the page, once; returns the Page."""
        if page not in self.pages:
            with contextlib.ExitStack() as stack:
                data, scratch = (stack.enter_context(tempfile.TemporaryDirectory()) for _ in range(2))
                server = stack.enter_context(Server("--log-level", "debug", "--data-dir", data))
                run = self.pages[page] = Page(self, page, server, scratch, stack)
                for language, text in blocks(page):
                    run.run(language, text)
                self.log[page] = server.log()
        return self.pages[page]

    def test_every_block_does_what_it_says(self):
        skipped = []
        for page in PAGES:
            if blocks(page):
                skipped += self.run_page(page).skipped
        for entry in NOT_RUN:
            self.assertIn(entry, skipped, "no page has this command any more")

    def test_the_languages_of_the_page_on_clients_have_a_script(self):
        script = (ROOT / "scripts/examples").read_text()
        languages = re.findall(r"^## (\w+)\n\n```sh$", (ROOT / "docs/clients.md").read_text(), re.M)
        self.assertGreaterEqual(len(languages), 5)
        for language in languages:
            self.assertRegex(script, rf"(?m)^    {language.lower()}\)")

    def test_no_command_is_outside_a_block(self):
        for page in PAGES:
            for line in outside_blocks(page).splitlines():
                self.assertNotRegex(line, r"^    (\$ |sudo |git |docker |grpcurl |source |\./scripts/|backpropd? )", page)

    def test_there_is_a_call_for_each_rpc(self):
        run = self.run_page("docs/api.md")
        text = (ROOT / "docs/api.md").read_text()
        self.assertGreater(len(rpcs_of_the_contract()), 20)
        for rpc in rpcs_of_the_contract():
            with self.subTest(rpc):
                self.assertTrue(any(f"Service/{rpc}" in c for c in run.ran), "a grpcurl example for each RPC")
                self.assertRegex(self.log["docs/api.md"], rf"debug {rpc} ")
                self.assertRegex(text, rf"(?m)^\| (AdminService/)?{rpc} \|", "a row for each RPC")

    def test_there_is_a_row_for_each_reason(self):
        sources = "".join(path.read_text() for path in sorted((ROOT / "server").rglob("*.cc")))
        headers = "".join(path.read_text() for path in sorted((ROOT / "server/store").rglob("*.h")))
        reasons = set(re.findall(r'\{"([A-Z]+(?:_[A-Z]+)*)",\s*\{', sources))
        reasons |= set(re.findall(r' k\w+\[\] = "([A-Z]+(?:_[A-Z]+)+)"', headers))
        self.assertGreater(len(reasons), 20)
        table = "".join(re.findall(r"^\| [A-Z_, ]+ \| [A-Z_, ]+ \|", (ROOT / "docs/api.md").read_text(), re.M))
        self.assertEqual(set(), reasons - set(re.findall(r"\w+", table)))

    def test_the_page_on_the_command_line_has_each_command(self):
        run = self.run_page("docs/cli.md")
        text = (ROOT / "docs/cli.md").read_text()
        for command in commands_of_the_binary():
            self.assertRegex(text, rf"(?m)^## .*\b{command}\b", "a section for each command")
            if command not in ("demo", "version"):  # cli_test.py runs them
                self.assertTrue(any(f"backprop {command} " in f"{line} " for line in run.ran), command)

    def test_the_page_of_flags_is_fresh(self):
        page = subprocess.run([ROOT / "scripts/flags-page", "--print"], capture_output=True, text=True, check=True).stdout
        self.assertEqual((ROOT / "docs/flags.md").read_text(), page, "run scripts/flags-page")

    def test_the_flags_of_the_readme_exist(self):
        flags = (ROOT / "docs/flags.md").read_text()
        for flag in re.findall(r"^\| `(--[a-z-]+ [A-Z]+)`", (ROOT / "README.md").read_text(), re.M):
            self.assertIn(f"| `{flag}` |", flags)

    def test_the_figures_of_the_readme_are_measured(self):
        rows = re.findall(r"^\| [^|]+(\| \w+ \| [\d,.]+ [^|]+\| [^|]+\| [\d,.]+ [^|]+\|)$",
                          (ROOT / "README.md").read_text(), re.M)
        self.assertEqual(len(rows), 3)
        for row in rows:
            self.assertIn(row, (ROOT / "docs/BENCHMARKS.md").read_text())

    def test_every_link_leads_somewhere(self):
        for page in PAGES:
            for target in re.findall(r"\]\(([^)\s]+)\)", outside_blocks(page)):
                path, _, anchor = target.partition("#")
                if "://" in path:
                    continue
                with self.subTest(page=page, link=target):
                    found = (ROOT / page).parent / path if path else ROOT / page
                    self.assertTrue(found.exists())
                    if anchor and found.suffix == ".md":
                        headings = re.findall(r"^#+ (.*)$", found.read_text(), re.M)
                        self.assertIn(anchor, [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings])

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
