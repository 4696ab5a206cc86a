"""buf breaking must see a change that breaks v1, or it guards nothing."""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUF = pathlib.Path(sys.executable).parent / "buf"


def breaking(tree):
    return subprocess.run([BUF, "breaking", "--against", ROOT / "tests/contract/v1.binpb"], cwd=tree,
                          capture_output=True, text=True)


class ContractTest(unittest.TestCase):
    def test_lint_passes(self):
        run = subprocess.run([BUF, "lint"], cwd=ROOT, capture_output=True, text=True)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)

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
