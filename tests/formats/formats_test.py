"""This server opens the data of servers of every format: directories after a kill, backups and
exported models. generate.py creates the fixtures."""

import contextlib
import json
import pathlib
import sys
import tarfile
import tempfile
import time
import unittest

from auth_test import new_token
from contents import OTHER_PROJECT, auth_file, contents, floats, parameters, step, steps_of_run, stub_of
from harness import Server, cli
from stubs import model as model_pb

FIXTURES = sorted(pathlib.Path(__file__).resolve().parent.glob("*.tar.gz"))
assert FIXTURES
# Logged steps are repeated with this machine's instruction set, which may round differently.
TOLERANCE = 1e-5


def first_default(activation):
    """Checks how a layer's weights were drawn when all biases were 0: current defaults must not affect
    models that were created before."""
    saturates = activation in (model_pb.ACTIVATION_TANH, model_pb.ACTIVATION_SIGMOID)
    return model_pb.INITIALIZER_XAVIER_UNIFORM if saturates else model_pb.INITIALIZER_HE_NORMAL


class FormatsTest(unittest.TestCase):
    @contextlib.contextmanager
    def unpacked(self, fixture):
        """Returns its directory and the contents of the server that created it."""
        with self.subTest(fixture.name), tempfile.TemporaryDirectory() as folder:
            with tarfile.open(fixture) as tar:
                tar.extractall(folder)
            path = pathlib.Path(folder) / fixture.name.removesuffix(".tar.gz")
            yield path, json.loads((path / "expected.json").read_text())

    def assert_close(self, found, expected, what):
        self.assertEqual(len(found), len(expected), what)
        for a, b in zip(found, expected):
            self.assertAlmostEqual(a, b, delta=TOLERANCE * max(1, abs(b)), msg=what)

    def check(self, server, expected):
        stub = stub_of(server)
        begun = steps_of_run(stub)
        self.assertGreaterEqual(begun, expected["steps_of_run"], "a run resumes where it was")
        found = contents(stub)
        self.assertEqual(found["datasets"], expected["datasets"])
        self.assertEqual(found["models"].keys(), expected["models"].keys())
        for name, model in expected["models"].items():
            other = found["models"][name]
            self.assert_close([other.pop("loss")], [model.pop("loss")], name)
            self.assert_close(floats(other.pop("parameters")), floats(model.pop("parameters")), name)
            if "layers" not in model:  # older fixtures do not contain them
                model["layers"] = [[layer[0], first_default(layer[0]), 0] for layer in other["layers"]]
            self.assertEqual(other, model, name)
        self.assertEqual(cli("checkpoint", "restore", "a", "at-40", server=server.address).returncode, 0)
        self.assertEqual(parameters(stub, "models/a"), expected["at-40"], "to the last bit")
        step(stub, "models/a")  # with the optimiser's state
        self.assert_close(floats(parameters(stub, "models/a")), floats(expected["at-41"]), "at-41")
        deadline = time.monotonic() + 60
        while steps_of_run(stub) == begun:
            self.assertLess(time.monotonic(), deadline, "the run does not continue")
            time.sleep(0.01)

    def check_other_project(self, fixture, path, data, expected):
        """What belongs to another project is there, and is not that of the project `default`."""
        if OTHER_PROJECT not in expected:
            self.assertEqual(fixture.name, "1.tar.gz", "only format 1 has no projects")
            return
        token = auth_file(path / "auth.json", new_token)
        with Server("--data-dir", str(path / data), "--auth-file", str(path / "auth.json")) as server:
            found = contents(stub_of(server, token))
        model, other = (c["models"]["models/a"] for c in (expected[OTHER_PROJECT], found))
        self.assert_close(floats(other.pop("parameters")), floats(model.pop("parameters")), "models/a")
        self.assert_close([other.pop("loss")], [model.pop("loss")], "models/a")
        self.assertEqual(found, expected[OTHER_PROJECT])
        self.assertNotEqual(found["datasets"], expected["datasets"])

    def test_a_directory_after_a_kill(self):
        for fixture in FIXTURES:
            with self.unpacked(fixture) as (path, expected):
                with Server("--data-dir", str(path / "data")) as server:
                    self.assertIn("1 runs resume", server.log())
                    self.check(server, expected)
                with Server("--data-dir", str(path / "data")) as server:
                    self.assert_close(floats(parameters(stub_of(server), "models/a")),
                                      floats(expected["at-41"]), "after a stop")
                self.check_other_project(fixture, path, "data", expected)

    def test_a_backup(self):
        for fixture in FIXTURES:
            with self.unpacked(fixture) as (path, expected):
                with Server("--data-dir", str(path / "new")) as server:
                    restored = cli("restore", path / "all.backup", server=server.address)
                    self.assertEqual(restored.returncode, 0, restored.stderr)
                    self.check(server, expected)
                self.check_other_project(fixture, path, "new", expected)

    def test_an_exported_model(self):
        for fixture in FIXTURES:
            with self.unpacked(fixture) as (path, expected):
                with Server() as server:
                    imported = cli("import", path / "a.model", "a", server=server.address)
                    self.assertEqual(imported.returncode, 0, imported.stderr)
                    self.assertEqual(parameters(stub_of(server), "models/a"),
                                     expected["models"]["models/a"]["parameters"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
