"""Shell completion in real shells."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

from harness import BIN, Server, cli

# Completes the words given as arguments, of which the last is at the cursor, like readline.
BASH = r"""
source <(backprop completion bash)
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}
[[ $(complete -p backprop) == "complete -F _backprop backprop" ]] || exit 3
_backprop
printf '%s\n' "${COMPREPLY[@]}"
"""


class CompletionTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.server.__enter__()
        cls.folder = tempfile.TemporaryDirectory()
        cls.path = pathlib.Path(cls.folder.name)
        (cls.path / "rows of mine.csv").write_text("1,2,0\n")
        cls.env = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "BACKPROP_SERVER": cls.server.address,
                   "HOME": cls.folder.name, "LC_ALL": "C.UTF-8"}
        for name in ("cat", "cow", "dog"):
            cli("create", name, "--inputs", 2, "--layers", "8,2", server=cls.server.address)
        cli("dataset", "upload", "circles-1", "--data", "circles", server=cls.server.address)
        for name in ("before", "best"):
            cli("checkpoint", "create", "cat", name, server=cls.server.address)

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)
        cls.folder.cleanup()

    def bash(self, *words, env=None):
        result = subprocess.run(["bash", "-c", BASH, "bash", "backprop", *words], env={**self.env, **(env or {})},
                                cwd=self.path, capture_output=True, text=True, timeout=60)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return result.stdout.split("\n")[:-1] if result.stdout.strip() else []

    CASES = [
        (("tr",), ["train"]),
        (("checkpoint", ""), ["create", "list", "restore", "delete"]),
        (("get", "c"), ["cat", "cow"]),
        (("get", ""), ["cat", "cow", "dog"]),
        (("get", "cat", ""), []),
        (("delete", "cat", "c"), ["cow"]),
        (("train", "dog", "--iter"), ["--iterations"]),
        (("train", "dog", "--dataset", ""), ["circles-1"]),
        (("dataset", "get", "c"), ["circles-1"]),
        (("checkpoint", "restore", "cat", "be"), ["before", "best"]),
        (("create", "x", "--optimizer", "ada"), ["adagrad", "adam", "adamw"]),
        (("create", "x", "--durability", "e"), ["every-second"]),
        (("top", "--in"), ["--interval"]),
        (("completion", ""), ["bash", "zsh", "fish"]),
        (("--json", "ver"), ["version"]),
        (("frobnicate", "x"), []),
    ]

    def test_bash(self):
        for words, expected in self.CASES:
            with self.subTest(words):
                self.assertEqual(sorted(self.bash(*words)), sorted(expected))
        self.assertEqual(self.bash("train", "cat", "--data", "x"), ["xor"])
        self.assertIn("rows of mine.csv", self.bash("train", "cat", "--data", "rows"))
        self.assertIn("rows of mine.csv", self.bash("import", ""))
        # bash treats the equals sign as a word.
        self.assertEqual(self.bash("create", "x", "--optimizer", "=", "adamw"), ["adamw"])
        self.assertIn("adagrad", self.bash("create", "x", "--optimizer", "="))

    def test_the_server_of_the_command_line_is_asked(self):
        gone = {"BACKPROP_SERVER": "127.0.0.1:1"}
        self.assertEqual(self.bash("get", "c", env=gone), [])
        self.assertEqual(self.bash("--server", self.server.address, "get", "c", env=gone), ["cat", "cow"])

    def test_a_server_that_does_not_answer_offers_nothing_and_soon(self):
        for server in ("127.0.0.1:1", "http://nonsense", "192.0.2.1:1"):
            with self.subTest(server):
                begin = time.monotonic()
                result = cli("__complete", "get", "", server=server)
                self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))
                self.assertLess(time.monotonic() - begin, 5)

    def test_nothing_that_is_typed_is_an_error(self):
        for words in ([], [""], ["-"], ["--"], ["--="], ["="], ["--server"], ["--server", ""], ["get", "--nothing", ""],
                      ["train", "--data="], ["checkpoint", "restore", "cat", "x", "y", "z"], ["\u00e9"], ["a" * 5000],
                      ["checkpoint", "restore", "no/such", ""], ["get", "--", ""]):
            with self.subTest(words):
                result = cli("__complete", *words, server=self.server.address)
                self.assertEqual((result.returncode, result.stderr), (0, ""))

    def test_fish(self):
        self.assertTrue(shutil.which("fish"), "fish is missing: scripts/test installs it")
        for words, expected in self.CASES:
            with self.subTest(words):
                line = " ".join(["backprop", *words])
                result = subprocess.run(["fish", "--no-config", "-c", f"backprop completion fish | source; complete -C '{line}'"],
                                        env=self.env, cwd=self.path, capture_output=True, text=True, timeout=60)
                self.assertEqual((result.returncode, result.stderr), (0, ""))
                got = sorted(offer.split("\t")[0] for offer in result.stdout.splitlines())
                self.assertEqual(got, sorted(expected))
        result = subprocess.run(["fish", "--no-config", "-c",
                                 "backprop completion fish | source; complete -C 'backprop import ro'"],
                                env=self.env, cwd=self.path, capture_output=True, text=True, timeout=60)
        self.assertIn("mine.csv", result.stdout)

    def test_zsh(self):
        self.assertTrue(shutil.which("zsh"), "zsh is missing: scripts/test installs it")
        (self.path / ".zshrc").write_text(
            "PROMPT='%% '\nautoload -U compinit; compinit -D -u\nsource <(backprop completion zsh)\n"
            "setopt no_beep no_list_beep\nunsetopt prompt_sp\n")
        for typed, shown in (("backprop tra\t", r"backprop train "),
                             ("backprop get co\t", r"backprop get cow "),
                             ("backprop checkpoint restore cat bef\t", r"restore cat before "),
                             ("backprop train dog --dataset \t", r"--dataset circles-1 "),
                             ("backprop import ro\t", r"import rows\\ of\\ mine.csv ")):
            with self.subTest(typed):
                seen = self.zsh(typed, shown)
                self.assertRegex(seen, shown)

    def zsh(self, typed, shown):
        """Returns what an interactive zsh shows after some keys."""
        import pty
        import select
        pid, fd = pty.fork()
        if pid == 0:
            os.chdir(self.path)
            os.execvpe("zsh", ["zsh", "-i"], {**self.env, "TERM": "dumb", "ZDOTDIR": str(self.path)})
        try:
            seen = ""
            sent = False
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline and not (sent and re.search(shown, seen)):
                ready, _, _ = select.select([fd], [], [], 1)
                if ready:
                    seen += os.read(fd, 65536).decode(errors="replace")
                if not sent and "% " in seen:
                    os.write(fd, typed.encode())
                    sent = True
            return seen
        finally:
            os.close(fd)
            os.waitpid(pid, 0)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + ["-v"])
