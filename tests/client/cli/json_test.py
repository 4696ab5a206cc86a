"""--json on every command: one document of numbers on standard output, or an error on standard error."""

import json
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

from harness import Server, cli
from terminal import backprop
from usage_test import all_commands


class JsonTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.data = tempfile.TemporaryDirectory()
        cls.server = Server("--data-dir", cls.data.name)
        cls.server.__enter__()
        cls.folder = tempfile.TemporaryDirectory()
        cls.path = pathlib.Path(cls.folder.name)

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)
        cls.folder.cleanup()
        cls.data.cleanup()

    def run_cli(self, *arguments, **options):
        return cli(*arguments, "--json", server=self.server.address, cwd=self.path, **options)

    def document(self, *arguments, status=0):
        """Returns the single document that a command prints."""
        result = self.run_cli(*arguments)
        self.assertEqual(result.returncode, status, result.stderr)
        self.assertEqual(result.stderr, "")
        self.assertEqual(len(result.stdout.splitlines()), 1, result.stdout)
        return json.loads(result.stdout)

    def error(self, *arguments, status=1, **options):
        result = self.run_cli(*arguments, **options)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        self.assertEqual(result.stdout, "")
        return json.loads(result.stderr)["error"]

    def test_every_command(self):
        seen = set()

        def document(*arguments, **options):
            words = [a for a in arguments[:2] if isinstance(a, str)]
            seen.add(tuple(words[:2]) if tuple(words[:2]) in commands else (words[0],))
            return self.document(*arguments, **options)

        commands = set(all_commands())
        self.assertEqual(document("create", "j", "--inputs", 2, "--layers", "8,2")["model"]["name"], "models/j")
        self.assertEqual(document("get", "j")["model"]["parameterCount"], "42")
        self.assertIn("models/j", [model["name"] for model in document("list")["models"]])
        predicted = document("predict", "j", "--row", "1,1", "--row", "0,0", "--probabilities", "--logits")
        for name in ("probabilities", "logits"):
            self.assertEqual(predicted[name]["shape"], [2, 2])
            self.assertEqual(len(predicted[name]["values"]), 4)
            self.assertTrue(all(isinstance(value, (int, float)) for value in predicted[name]["values"]))
        self.assertAlmostEqual(sum(predicted["probabilities"]["values"]), 2, places=5)
        self.assertIn("loss", document("evaluate", "j", "--data", "xor")["metrics"])
        self.assertIn("result", document("grad-check", "j", "--data", "xor"))
        self.assertEqual(document("step", "j", "--data", "xor")["step"], "1")
        self.assertEqual(len(document("gradients", "compute", "j", "--data", "xor")["gradients"]), 4)
        self.assertEqual(document("gradients", "compute", "j", "--data", "xor", "--output", "g.json"), {"file": "g.json"})
        self.assertEqual(document("gradients", "apply", "j", "--input", "g.json")["step"], "2")
        self.assertEqual(len(document("parameters", "get", "j")["tensors"]), 4)
        document("parameters", "get", "j", "--output", "p.json")
        self.assertEqual(document("parameters", "set", "j", "--input", "p.json")["step"], "2")
        self.assertIn("checkpoint", document("checkpoint", "create", "j", "c"))
        self.assertEqual(len(document("checkpoint", "list", "j")["checkpoints"]), 1)
        self.assertEqual(document("checkpoint", "restore", "j", "c"), {"step": "2"})
        self.assertEqual(document("checkpoint", "delete", "j", "c"), {"deleted": ["models/j/checkpoints/c"]})
        self.assertEqual(document("checkpoint", "list", "j"), {"checkpoints": []})
        self.assertEqual(document("dataset", "upload", "d", "--data", "xor")["dataset"]["rows"], "200")
        self.assertEqual(document("dataset", "get", "d")["dataset"]["rows"], "200")
        self.assertEqual(len(document("dataset", "list")["datasets"]), 1)
        self.assertEqual(document("dataset", "delete", "d"), {"deleted": ["datasets/d"]})
        exported = document("export", "j", "j.model")
        self.assertEqual(exported, {"file": "j.model", "bytes": (self.path / "j.model").stat().st_size})
        self.assertEqual(document("import", "j.model", "k")["model"]["name"], "models/k")
        self.assertEqual(document("backup", "all.backup")["file"], "all.backup")
        with tempfile.TemporaryDirectory() as empty, Server("--data-dir", empty) as other:
            self.assertEqual(document("restore", "all.backup", "--server", other.address)["models"],
                             str(len(self.document("list")["models"])))
        self.assertEqual(document("health"), {"status": "SERVING"})
        top = document("top", "--once", "--interval", 0.1)
        self.assertEqual(top["models"]["stored"], len(document("list")["models"]))
        self.assertEqual(top["server"]["health"][0], {"service": "", "serving": True})
        archive = document("debug", "--output", "d.zip")
        self.assertEqual(archive, {"file": "d.zip", "bytes": (self.path / "d.zip").stat().st_size})
        projects = document("project", "list")["projects"]
        self.assertEqual([project["name"] for project in projects], ["projects/default"])
        self.assertEqual(document("project", "get", "default")["project"], projects[0])
        (self.path / "config/backprop").mkdir(parents=True)
        (self.path / "config/backprop/config.toml").write_text('[contexts.prod]\nserver = "example.org"\n')
        for words in (("context", "use", "prod"), ("context", "list")):
            shown = cli(*words, "--json", env={"XDG_CONFIG_HOME": str(self.path / "config")})
            self.assertEqual((shown.returncode, shown.stderr), (0, ""))
            self.assertIn("prod", json.dumps(json.loads(shown.stdout)))
            seen.add(words[:2])
        token = document("token", "create", "--name", 'a"b', "--project", "p", "--role", "admin")
        self.assertEqual(set(token), {"token", "principal"})
        self.assertEqual({k: v for k, v in token["principal"].items() if k != "token_sha256"},
                         {"name": 'a"b', "project": "p", "role": "ADMIN"})
        self.assertEqual(set(document("version")), {"version", "commit"})
        demo = document("demo")
        self.assertGreater(demo["accuracy"], 0.9)
        self.assertIs(demo["gradCheckPassed"], True)
        self.assertEqual(document("delete", "j", "k"), {"deleted": ["models/j", "models/k"]})
        streams = {("train",), ("watch",), ("stop",), ("step-stream",)}
        groups = {("dataset",), ("checkpoint",), ("gradients",), ("parameters",), ("token",), ("project",), ("context",)}
        self.assertEqual(commands - seen - streams - groups, {("completion",)})

    def test_pages_are_one_list(self):
        for i in range(5):
            self.document("create", f"page{i}", "--inputs", 2, "--layers", "2", "--label", "pages=yes")
        listed = self.document("list", "--label", "pages=yes", "--page-size", 2)
        self.assertEqual([model["name"] for model in listed["models"]], [f"models/page{i}" for i in range(5)])
        self.assertNotIn("nextPageToken", listed)
        self.assertEqual(self.document("list", "--label", "pages=no"), {"models": []})

    def test_streams_are_lines(self):
        self.document("create", "s", "--inputs", 2, "--layers", "8,2")
        lines = self.run_cli("train", "s", "--data", "xor", "--iterations", 10, "--report-every", 5).stdout.splitlines()
        kinds = [set(json.loads(line)["event"]) & {"started", "progress", "summary"} for line in lines]
        self.assertEqual(kinds, [{"started"}, {"progress"}, {"progress"}, {"progress"}, {"summary"}])
        watched = self.run_cli("watch", "s").stdout.splitlines()
        self.assertEqual(watched, lines)
        steps = self.run_cli("step-stream", "s", "--data", "xor", "--steps", 7).stdout.splitlines()
        self.assertEqual([json.loads(line)["step"]["step"] for line in steps], [str(i) for i in range(11, 18)])
        self.run_cli("train", "s", "--data", "xor", "--iterations", 10**12, "--detach")
        self.assertEqual(self.document("stop", "s")["summary"]["stopReason"], "STOP_REASON_STOPPED")

    def test_errors_of_the_server(self):
        error = self.error("create", "bad", "--inputs", 2, "--layers", "0,2")
        self.assertEqual(error["code"], "INVALID_ARGUMENT")
        self.assertEqual(error["fieldViolations"],
                         [{"field": "spec.layers[0].units", "description": "must be at least 1, got 0"}])
        self.assertEqual(error["message"], "spec.layers[0].units: must be at least 1, got 0")
        error = self.error("get", "none")
        self.assertEqual((error["code"], error["reason"]), ("NOT_FOUND", "MODEL_NOT_FOUND"))
        self.assertEqual(self.error("list", "--server", "127.0.0.1:1")["code"], "UNAVAILABLE")
        self.assertIn("127.0.0.1:1", self.error("list", "--server", "127.0.0.1:1")["hint"])

    def test_errors_of_the_command_line_and_of_data(self):
        for arguments in (("trian",), ("create", "--lr", 1), ("train", "m", "--data", "xor"), ("list", "--label", "x"),
                          ("list", "--server", "http://x")):
            with self.subTest(arguments):
                error = self.error(*arguments, status=2)
                self.assertEqual((error["code"], error["reason"]), ("INVALID_ARGUMENT", "USAGE"))
        self.document("create", "data", "--inputs", 2, "--layers", "2")
        name = 'quo"te\n\u00e9.csv'
        error = self.error("train", "data", "--data", name, "--iterations", 1)
        self.assertEqual((error["code"], error["reason"]), ("INVALID_ARGUMENT", "DATA"))
        self.assertIn(name, error["message"])

    def test_notes_are_json_too(self):
        (self.path / "named.csv").write_text("x,y,kind\n0,1,0\n1,0,1\n")
        result = self.run_cli("dataset", "upload", "named", "--data", "named.csv")
        self.assertEqual(result.returncode, 0)
        self.assertEqual(json.loads(result.stdout)["dataset"]["name"], "datasets/named")
        self.assertIn("the features are, in this order, ", json.loads(result.stderr)["note"])

    def test_what_is_no_utf8_is_replaced(self):
        result = subprocess.run([b.encode() for b in backprop(self.server)] + [b"--json", b"tr\xff\xc3(\xed\xa0\x80"],
                                capture_output=True)
        self.assertEqual(result.returncode, 2)
        self.assertIn("tr\ufffd\ufffd(\ufffd", json.loads(result.stderr.decode())["error"]["message"])

    def test_deletion_that_fails_in_part(self):
        self.document("create", "there", "--inputs", 2, "--layers", "2")
        result = self.run_cli("delete", "there", "gone")
        self.assertEqual(result.returncode, 1)
        self.assertEqual(json.loads(result.stdout), {"deleted": ["models/there"]})
        self.assertEqual(json.loads(result.stderr)["error"]["code"], "NOT_FOUND")

    def test_an_interrupted_run(self):
        self.document("create", "cut", "--inputs", 2, "--layers", "8,2")
        process = subprocess.Popen(backprop(self.server, "--json", "train", "cut", "--data", "xor", "--iterations", 10**12,
                                            "--report-every", 10000),
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stdout.readline()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        for line in out.splitlines():
            json.loads(line)
        error = json.loads(err)["error"]
        self.assertEqual((error["code"], error["reason"]), ("CANCELLED", "INTERRUPTED"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + ["-v"])
