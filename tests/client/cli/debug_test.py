"""backprop debug: what its archive holds, and what it must not hold."""

import datetime
import hashlib
import io
import json
import os
import pathlib
import re
import sys
import tempfile
import unittest
import zipfile

from auth_test import eventually, new_token
from certificates import Certificate
from harness import ROOT, Server, cli

FILES = ["README.txt", "version.txt", "health.txt", "flags.txt", "metrics.txt", "log.txt"]


class DebugTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name)

    def debug(self, server, *arguments, **options):
        """{file: text} of the archive."""
        result = cli("debug", "--output", "d.zip", *arguments, server=server.address, cwd=self.path, **options)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return self.read("d.zip")

    def read(self, name):
        with zipfile.ZipFile(self.path / name) as archive:
            self.assertIsNone(archive.testzip())
            texts = {}
            for info in archive.infolist():
                folder, file = info.filename.split("/")
                self.assertRegex(folder, r"^backprop-debug-\d{8}T\d{6}Z$")
                self.assertEqual(info.external_attr >> 16, 0o100600)
                texts[file] = archive.read(info).decode()
        self.assertEqual(list(texts), FILES)
        return texts

    def test_what_it_holds(self):
        before = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
        with Server("--data-dir", self.path / "data", "--max-layers", "7", "--memory-limit", "1GiB",
                    "--log-level", "debug", env={"BACKPROPD_MAX_MODELS": "99"}) as server:
            cli("create", "seen", "--inputs", 2, "--layers", "2", server=server.address)
            texts = self.debug(server)
            server_log = server.log().splitlines()
        for file in FILES[1:]:
            self.assertIn(file, texts["README.txt"])
        version = json.loads(cli("version", "--json").stdout)
        self.assertRegex(texts["version.txt"],
                         rf"^backpropd {re.escape(version['version'])} \(commit \w+, \S+\)\n"
                         rf"backprop {re.escape(version['version'])} \(commit \w+\)\n")
        for when in re.findall(r"(?m)^(?:server started|server's time|client's time) (\S+)$", texts["version.txt"]):
            time = datetime.datetime.fromisoformat(when.replace("Z", "+00:00"))
            self.assertLess(abs(time - before), datetime.timedelta(minutes=2))
        self.assertEqual(texts["health.txt"], "server: SERVING\nbackprop.v1.TrainingService.writes: SERVING\n")
        flags = texts["flags.txt"].splitlines()
        for line in ("--max-layers=7", "--max-models=99", f"--data-dir={self.path}/data", f"--memory-limit={1 << 30}",
                     f"# --max-workspace-bytes={1 << 28}", "# --log-format=text", "--log-level=debug"):
            self.assertIn(line, flags)
        documented = set(re.findall(r"(?m)^\| `(--[a-z-]+)", (ROOT / "docs/flags.md").read_text()))
        shown = {line.removeprefix("# ").split("=")[0] for line in flags}
        self.assertEqual(documented - shown - {"--help", "--version", "--health-check", "--print-permissions"}, set())
        self.assertRegex(texts["metrics.txt"], r'(?m)^backprop_requests_total\{.*method="CreateModel".*\} 1$')
        self.assertIn("# TYPE backprop_store_sync_seconds histogram", texts["metrics.txt"])
        log = texts["log.txt"].splitlines()
        self.assertEqual(log, server_log[:len(log)], "the log as on standard error")
        self.assertRegex(texts["log.txt"], r"debug CreateModel models/seen OK ")
        self.assertGreaterEqual(len(log), 5)

    def test_the_archive_is_readable_by_its_owner_only_and_replaces_another(self):
        old = os.umask(0)
        try:
            (self.path / "d.zip").write_text("old")
            with Server() as server:
                self.debug(server)
                made = cli("debug", server=server.address, cwd=self.path)
        finally:
            os.umask(old)
        self.assertEqual((self.path / "d.zip").stat().st_mode & 0o777, 0o600)
        name, size = re.match(r"(backprop-debug-\d{8}T\d{6}Z\.zip): (\d+) bytes; .*read it before you share it\n$",
                              made.stdout).groups()
        self.assertEqual((self.path / name).stat().st_size, int(size))
        self.assertEqual((self.path / name).stat().st_mode & 0o777, 0o600)
        self.read(name)
        self.assertEqual([path.name for path in self.path.glob("*.partial")], [])

    def test_failures_leave_no_file(self):
        with Server() as server:
            failed = cli("debug", "--output", "no/such/folder/d.zip", server=server.address, cwd=self.path)
            self.assertEqual((failed.returncode, failed.stdout), (1, ""))
            self.assertIn("no/such/folder/d.zip: cannot write: No such file or directory", failed.stderr)
        failed = cli("debug", server="127.0.0.1:1", cwd=self.path)
        self.assertEqual((failed.returncode, failed.stdout), (1, ""))
        self.assertIn("UNAVAILABLE", failed.stderr)
        self.assertEqual(list(self.path.iterdir()), [])

    def test_the_log_is_in_the_format_and_from_the_level_of_the_server(self):
        with Server("--log-format", "json") as server:
            lines = [json.loads(line) for line in self.debug(server)["log.txt"].splitlines()]
            self.assertIn("info", {line["level"] for line in lines})
            self.assertNotIn("debug", {line["level"] for line in lines})
        with Server("--log-level", "off") as server:
            self.assertEqual(self.debug(server)["log.txt"], "")

    def test_text_of_callers_forges_no_line(self):
        with Server("--log-level", "debug") as server:
            cli("get", "a\nforged", server=server.address)
            texts = self.debug(server)
        self.assertNotRegex(texts["log.txt"], r"(?m)^forged")
        self.assertIn(r"a\nforged", texts["log.txt"])

    def test_health_has_reasons(self):
        token, operator = new_token("o", "operator")
        auth_file = self.path / "auth.json"
        auth_file.write_text(json.dumps({"principals": [operator]}))
        env = {"BACKPROP_TOKEN": token}
        data = self.path / "data"
        with Server("--auth-file", auth_file, "--data-dir", data) as server:
            self.assertEqual(self.debug(server, env=env)["health.txt"],
                             "server: SERVING\nbackprop.v1.TrainingService.writes: SERVING\n"
                             "backprop.v1.AuthFile: SERVING\n")
            auth_file.write_text(json.dumps({"principals": [{**operator, "role": "OWNER"}]}))
            eventually(lambda: "AuthFile: NOT_SERVING: " in self.debug(server, env=env)["health.txt"], "the broken file")
            self.assertRegex(self.debug(server, env=env)["health.txt"],
                             rf"backprop.v1.AuthFile: NOT_SERVING: {re.escape(str(auth_file))}: .+")
            auth_file.write_text(json.dumps({"principals": [operator]}))
            eventually(lambda: "AuthFile: SERVING\n" in self.debug(server, env=env)["health.txt"], "the good file")
            data.rename(self.path / "elsewhere")
            eventually(lambda: "server: NOT_SERVING: " in self.debug(server, env=env)["health.txt"], "the missing folder")
            self.assertRegex(self.debug(server, env=env)["health.txt"],
                             rf"(?m)^backprop.v1.TrainingService.writes: NOT_SERVING: .*{re.escape(str(data))}")

    def test_it_holds_no_secrets_and_is_for_operators(self):
        authority = Certificate(self.path, "authority", authority=True)
        own = Certificate(self.path, "server", authority)
        tokens, principals = zip(*(new_token(role, role) for role in ("reader", "writer", "admin", "operator")))
        auth_file = self.path / "auth.json"
        auth_file.write_text(json.dumps({"principals": principals}))
        work = self.path / "work"
        work.mkdir()
        with Server("--auth-file", auth_file, "--tls-cert", own.pem, "--tls-key", own.key, "--log-level", "debug",
                    "--audit-log", "stderr") as server:

            def debug(token):
                return cli("debug", "--output", "d.zip", "--ca", authority.pem, server=server.address, cwd=work,
                           env={"BACKPROP_TOKEN": token} if token else {})

            for token, code in (*((token, "PERMISSION_DENIED") for token in tokens[:3]), (None, "UNAUTHENTICATED"),
                                (tokens[0][:-1] + ("y" if tokens[0].endswith("x") else "x"), "UNAUTHENTICATED")):
                refused = debug(token)
                self.assertEqual((refused.returncode, refused.stdout), (1, ""))
                self.assertIn(code, refused.stderr)
                self.assertEqual(list(work.iterdir()), [])
            cli("create", "m", "--inputs", 2, "--layers", "2", "--ca", authority.pem, server=server.address,
                env={"BACKPROP_TOKEN": tokens[1]})
            made = debug(tokens[3])
            self.assertEqual((made.returncode, made.stderr), (0, ""))
        with zipfile.ZipFile(io.BytesIO((work / "d.zip").read_bytes())) as archive:
            text = "\n".join(archive.read(info).decode() for info in archive.infolist())
        self.assertIn(f"--auth-file={auth_file}\n", text)
        self.assertIn("authentication: 127.0.0.1: GetServerStatus: INVALID_TOKEN", text)
        secrets = [own.key.read_text().splitlines()[2]]
        for token in tokens:
            secrets += [token[4:20], hashlib.sha256(token.encode()).hexdigest()]
        for secret in secrets:
            self.assertNotIn(secret, text)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + ["-v"])
