"""The API passes buf with its default rules too, its copies of published files are unmodified, and buf
breaking detects a change that breaks v1."""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from google.rpc import status_pb2

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUF = pathlib.Path(sys.executable).parent / "buf"


def breaking(tree):
    return subprocess.run([BUF, "breaking", "--against", ROOT / "tests/contract/v1.binpb"], cwd=tree,
                          capture_output=True, text=True)


class ContractTest(unittest.TestCase):
    def test_lint_passes(self):
        run = subprocess.run([BUF, "lint"], cwd=ROOT, capture_output=True, text=True)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)

    def test_lint_passes_with_the_default_rules(self):
        run = subprocess.run([BUF, "lint", "--path", "proto/backprop", "--config",
                              '{"version": "v2", "modules": [{"path": "proto"}]}'],
                             cwd=ROOT, capture_output=True, text=True)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)

    def test_google_rpc_is_upstreams_text(self):
        upstream = pathlib.Path(status_pb2.__file__).parent
        ours = sorted((ROOT / "proto/google/rpc").glob("*.proto"))
        self.assertEqual([p.name for p in ours], ["code.proto", "error_details.proto", "status.proto"])
        for path in ours:
            with self.subTest(path.name):
                self.assertEqual(path.read_text(), (upstream / path.name).read_text())

    def test_every_file_says_where_its_code_goes(self):
        """Go generates nothing without an import path; Java and C# guess a name of their own."""
        for path in (ROOT / "proto").rglob("*.proto"):
            if path.parts[-4:] == ("grpc", "reflection", "v1alpha", "reflection.proto"):
                continue  # upstream's text, which has no options; only old clients use it
            with self.subTest(path.name):
                text = path.read_text()
                self.assertRegex(text, r'(?m)^option go_package = "[a-z.]+/[^"]+";$')
                self.assertRegex(text, r'(?m)^option java_package = "[^"]+";$')
        health = (ROOT / "proto/grpc/health/v1/health.proto").read_text()
        self.assertEqual(re.findall(r"(?m)^  rpc (\w+)", health), ["Check", "List", "Watch"])
        self.assertIn('java_package = "io.grpc.health.v1"', health)
        self.assertIn('go_package = "google.golang.org/grpc/health/grpc_health_v1"', health)

    def test_the_contract_does_not_break_v1(self):
        run = breaking(ROOT)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)

    def test_breaking_changes_are_seen(self):
        edits = {
            "a field that changes its number": ("int32 units = 1;", "int32 units = 9;"),
            "a field that changes its type": ("uint64 seed = 5;", "string seed = 5;"),
            "an enum value that goes": ("  ACTIVATION_TANH = 3;\n", ""),
        }
        for what, (old, new) in edits.items():
            with self.subTest(what), tempfile.TemporaryDirectory() as tree:
                shutil.copytree(ROOT / "proto", pathlib.Path(tree) / "proto")
                shutil.copy(ROOT / "buf.yaml", tree)
                model = pathlib.Path(tree) / "proto/backprop/v1/model.proto"
                text = model.read_text()
                self.assertIn(old, text)
                model.write_text(text.replace(old, new))
                self.assertNotEqual(breaking(tree).returncode, 0)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + ["-v"])
