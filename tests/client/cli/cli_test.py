"""The command line against a real server: golden outputs, bad data, wrong servers, Ctrl-C."""

import gzip
import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import numpy as np

from harness import BIN, Server, cli
from terminal import Terminal, backprop

GOLDEN_GRAD_CHECK = re.compile(
    r"tensor +shape +checked +set aside +unresolved +max abs err +max rel err +kernel/bound *\n"
    r"(layers\[\d\]\.(weights|bias) +\[[\d,]+\] +\d+ +\d+ +\d+ +\S+ +\S+ +\S+  ok\n){4}"
    r"PASSED: largest relative error \S+, tolerance 1e-04\n")


class CliTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.server.__enter__()
        cls.folder = tempfile.TemporaryDirectory()
        cls.path = pathlib.Path(cls.folder.name)

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__(None, None, None)
        cls.folder.cleanup()

    def run_cli(self, *arguments, **options):
        return cli(*arguments, server=self.server.address, cwd=self.path, **options)

    def ok(self, *arguments, **options):
        result = self.run_cli(*arguments, **options)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def fails(self, status, *arguments, **options):
        result = self.run_cli(*arguments, **options)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        return result.stderr

    def create(self, name, *more):
        return self.ok("create", name, "--inputs", 2, "--layers", "8,2", "--learning-rate", 0.1, *more)

    def file(self, name, text):
        (self.path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return name

    # Models.

    def test_create_get_list_delete(self):
        golden = ("models/life\n"
                  "  2 → 8 relu → 2, softmax_cross_entropy, sgd(learning_rate=0.1, momentum=0), float32\n"
                  "  42 parameters, step 0, seed 0\n"
                  "  classes no, yes\n"
                  "  tenant=acme\n"
                  "  deleted after 3600 s without use\n"
                  "  durability none\n")
        self.assertEqual(self.create("life", "--class-names", "no,yes", "--label", "tenant=acme",
                                     "--ttl", 3600), golden)
        self.assertEqual(self.ok("get", "life"), golden)
        listed = self.ok("list", "--label", "tenant=acme").splitlines()
        self.assertEqual(listed[0].split(), ["NAME", "STEP", "PARAMETERS", "STATE", "AGE", "MODEL"])
        self.assertRegex(listed[1], r"^models/life +0 +42  idle +\d+s  2 → 8 relu → 2, softmax")
        self.assertEqual(len(listed), 2)
        self.assertEqual(self.ok("delete", "life"), "deleted models/life\n")
        self.assertEqual(self.fails(1, "get", "life"), "NOT_FOUND: models/life: no such model\n")

    def test_list_pages_through_all(self):
        for i in range(5):
            self.create(f"page{i}", "--label", "page=yes")
        listed = self.ok("list", "--label", "page=yes", "--page-size", 2).splitlines()
        self.assertEqual(len(listed), 6)

    def test_spec_from_json(self):
        self.file("spec.json", '{"inputSize":3,"layers":[{"units":4,"activation":"ACTIVATION_TANH"},'
                               '{"units":1}],"loss":{"meanSquaredError":{}},"optimizer":{"adam":{}}}')
        self.assertIn("3 → 4 tanh → 1, mean_squared_error, adam(learning_rate=0.001)",
                      self.ok("create", "spec", "--spec", "spec.json"))
        self.file("bad.json", '{"inputSize":"x"}')
        self.assertIn("bad.json:", self.fails(1, "create", "--spec", "bad.json"))

    def test_errors_of_the_server_name_their_fields(self):
        self.assertEqual(
            self.fails(1, "create", "bad", "--inputs", 2, "--layers", "0,2"),
            "INVALID_ARGUMENT: spec.layers[0].units: must be at least 1, got 0\n")

    def test_usage_errors(self):
        for arguments in (["frobnicate"], ["create", "--layers", "x"], ["create"], ["get"],
                          ["create", "--layers", "2:none"], ["train", "m", "--data", "xor"],
                          ["train", "m", "--iterations", 1], ["list", "--label", "x"],
                          ["create", "--layers", "2", "--loss", "none"],
                          ["train", "m", "--data", "xor", "--iterations", 1, "--epochs", 1]):
            with self.subTest(arguments):
                self.assertTrue(self.fails(2, *arguments))
        self.assertEqual(self.run_cli("--help").returncode, 0)
        self.assertEqual(self.run_cli("train", "--help").returncode, 0)

    # Training.

    def test_train_prints_plain_rows_in_a_pipe(self):
        self.create("rows", "--seed", 67)
        out = self.ok("train", "rows", "--data", "xor", "--data-seed", 67, "--iterations", 3000,
                      "--report-every", 1000, "--report-interval", 3600).splitlines()
        self.assertEqual(out[0].split(), ["iteration", "epoch", "loss", "accuracy", "grad", "norm", "steps/s"])
        self.assertEqual([row.split()[0] for row in out[1:5]], ["1", "1000", "2000", "3000"])
        self.assertEqual(out[1].split()[2], "0.688974")
        self.assertRegex(out[5], r"^completed after 3000 iterations in \S+ s: loss 0\.0813\d\d, accuracy 0\.9750$")
        self.assertEqual(self.ok("evaluate", "rows", "--data", "xor", "--data-seed", 67, "--summary-only"),
                         f"200 rows at step 3000: {out[5].split(': ')[1]}\n")
        step = self.ok("step", "rows", "--data", "xor", "--expected-step", 3000)
        self.assertRegex(step, r"^step 3001: loss 0\.\d{6}, accuracy 0\.\d{4}, gradient norm \S+\n$")
        self.assertIn("ABORTED: expected_step: expected 3000, but the model is at step 3001",
                      self.fails(1, "step", "rows", "--data", "xor", "--expected-step", 3000))

    def test_an_epoch_that_was_cut_is_continued(self):
        def parameters(name, *runs):
            self.create(name)
            for run in runs:
                self.ok("train", name, "--data", "xor", "--n", 100, "--batch-size", 10,
                        "--validation-split", 0.2, "--no-stratify", *run)
            self.ok("parameters", "get", name, "--output", f"{name}.json")
            return (self.path / f"{name}.json").read_text()
        whole = parameters("whole", ["--epochs", 3])
        self.assertEqual(parameters("cut", ["--iterations", 15], ["--epochs", 2, "--continue-epoch"]), whole)
        self.assertNotEqual(parameters("anew", ["--iterations", 15], ["--iterations", 9]), whole)
        self.assertNotEqual(parameters("redrawn", ["--iterations", 16],
                                       ["--epochs", 1, "--redraw-validation-split"]), whole)
        self.fails(2, "train", "whole", "--data", "xor", "--epochs", 1, "--redraw-validation-split")
        self.fails(2, "train", "whole", "--data", "xor", "--epochs", 1, "--report-interval", 0.0001)

    def test_first_biases_are_as_asked(self):
        def biases(name, *flags):
            self.create(name, *flags)
            self.ok("parameters", "get", name, "--output", f"{name}.json")
            text = (self.path / f"{name}.json").read_text()
            tensors = {t["name"]: t["tensor"]["values"] for t in json.loads(text)["tensors"]}
            return tensors["layers[0].bias"] + tensors["layers[1].bias"]
        self.assertEqual(len(set(biases("first-drawn"))), 10)
        self.assertEqual(set(biases("first-he", "--initializer", "he_normal")), {0})
        self.assertEqual(set(biases("first-zeros", "--bias-init", "zeros")), {0})
        self.assertEqual(set(biases("first-constant", "--bias-init", "constant", "--initial-bias", 0.25)), {0.25})
        self.fails(2, "create", "none", "--inputs", 2, "--layers", 2, "--initial-bias", 1)
        self.fails(2, "create", "none", "--inputs", 2, "--layers", 2, "--bias-init", "he_normal")

    def test_json_is_one_object_a_line(self):
        self.create("json")
        lines = [json.loads(l) for l in self.ok("--json", "train", "json", "--data", "xor",
                                                "--iterations", 10, "--report-every", 5,
                                                "--report-interval", 3600).splitlines()]
        self.assertEqual(lines[0]["event"]["started"]["totalIterations"], "10")
        self.assertEqual([l["event"]["progress"]["iteration"] for l in lines[1:4]], ["1", "5", "10"])
        self.assertEqual(lines[-1]["event"]["summary"]["stopReason"], "STOP_REASON_COMPLETED")
        self.assertEqual(json.loads(self.ok("--json", "get", "json"))["model"]["step"], "10")
        predicted = json.loads(self.ok("predict", "json", "--row", "1,1", "--json"))
        self.assertEqual(len(predicted["classes"]), 1)

    def test_datasets_come_from_what_train_takes(self):
        self.file("points.csv", "x,y,kind\n0,0,low\n1,1,high\n2,2,high\n")
        self.assertIn("3 rows of 2 inputs and one of 2 classes",
                      self.ok("dataset", "upload", "points", "--data", "points.csv"))
        self.file("line.csv", "x,t,w\n1,2,1\n2,4,0.5\n")
        self.assertIn("2 rows of 1 inputs and 1 targets, weighted, float64",
                      self.ok("dataset", "upload", "line", "--data", "line.csv", "--target-columns", 1,
                              "--weight-column", "w", "--float64"))
        self.assertIn("already exists",
                      self.fails(1, "dataset", "upload", "line", "--data", "xor"))
        self.assertEqual(len(self.ok("dataset", "list").splitlines()), 3)
        self.assertIn("no such dataset", self.fails(1, "dataset", "get", "none"))
        self.create("by-name")
        self.assertIn("the model has no class", self.fails(1, "train", "by-name", "--dataset", "points",
                                                           "--iterations", 1))
        self.fails(2, "train", "by-name", "--dataset", "points", "--data", "xor", "--iterations", 1)
        self.fails(2, "train", "by-name", "--iterations", 1)
        for name in ("points", "line"):
            self.assertEqual(self.ok("dataset", "delete", name), f"deleted datasets/{name}\n")

    def test_columns_are_found_by_their_names(self):
        self.create("names", "--feature-names", "width,height", "--class-names", "no,yes")
        self.file("straight.csv", "width,height,kind\n0,3,no\n1,-2,yes\n4,1,no\n")
        self.file("mixed.csv", "id,kind,height,width\n7,no,3,0\n8,yes,-2,1\n9,no,1,4\n")
        straight = self.ok("predict", "names", "--data", "straight.csv", "--logits")
        mixed = self.run_cli("predict", "names", "--data", "mixed.csv", "--logits")
        self.assertEqual(mixed.stdout, straight)
        self.assertEqual(mixed.stderr, "note: mixed.csv: ignores id, kind\n")
        evaluate = ("evaluate", "names", "--label-column", "kind", "--summary-only", "--data")
        result = self.run_cli(*evaluate, "mixed.csv")
        self.assertEqual(result.stderr, "note: mixed.csv: ignores id; the label is kind\n")
        self.assertEqual(result.stdout, self.ok(*evaluate, "straight.csv"))
        self.file("short.csv", "id,width,kind\n7,0,no\n")
        self.assertEqual(self.fails(1, "predict", "names", "--data", "short.csv"),
                         "short.csv: has no column \"height\", a feature of models/names; it has id, width, kind\n")
        self.assertIn("has no column \"sort\"; it has width, height, kind",
                      self.fails(1, "evaluate", "names", "--data", "straight.csv", "--label-column", "sort"))
        # A dataset uploaded for the model has the model's column order, and gives the same
        # evaluation.
        self.ok("dataset", "upload", "mixed", "--data", "mixed.csv", "--model", "names", "--label-column", "kind")
        self.assertEqual(self.ok("evaluate", "names", "--dataset", "mixed", "--summary-only"), result.stdout)
        self.fails(2, "dataset", "upload", "x", "--data", "mixed.csv", "--model", "names", "--target-columns", 1)
        plain = self.run_cli("dataset", "upload", "plain", "--data", "straight.csv")
        self.assertEqual(plain.stderr, "note: straight.csv: the features are, in this order, width, height; "
                                       "the label is kind\n")
        # One that was uploaded for no model keeps its own order and names, which the model compares.
        self.file("swapped.csv", "height,width,kind\n5,1,yes\n")
        self.ok("dataset", "upload", "swapped", "--data", "swapped.csv")
        self.assertIn('expected the model\'s feature "width" in column 0, but datasets/swapped has "height"',
                      self.fails(1, "evaluate", "names", "--dataset", "swapped"))
        self.ok("evaluate", "names", "--dataset", "plain")
        for name in ("mixed", "plain", "swapped"):
            self.ok("dataset", "delete", name)

    def test_a_dataset_is_stored_without_names_that_cannot_be_stored(self):
        note = "note: the dataset is stored without column names: "
        for name, header, reason in (
                ("latin", b"gr\xf6\xdfe \x1b[31m,b", "a name is not UTF-8"),
                ("long", b"x" * 256 + b",b", "a name has more than 255 bytes")):
            self.file(f"{name}.csv", header + b",label\n1,2,0\n3,4,1\n")
            result = self.run_cli("dataset", "upload", name, "--data", f"{name}.csv")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn(note + reason, result.stderr)
            self.assertNotIn("libprotobuf", result.stderr)
            self.assertNotIn("\x1b", result.stderr)
            self.assertNotIn("featureNames", self.ok("dataset", "get", name, "--json"))
            self.ok("dataset", "delete", name)
        self.file("longest.csv", b"x" * 255 + b",b,label\n1,2,0\n")
        self.ok("dataset", "upload", "longest", "--data", "longest.csv")
        self.assertIn("featureNames", self.ok("dataset", "get", "longest", "--json"))
        self.ok("dataset", "delete", "longest")
        self.file("wide.csv", ",".join(f"f{i}" for i in range(65537)) + ",label\n" + "1," * 65537 + "0\n")
        result = self.run_cli("dataset", "upload", "wide", "--data", "wide.csv")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn(note + "there are more than 65536 names", result.stderr)
        self.ok("dataset", "delete", "wide")
        # A label is part of the rows.
        self.file("labels.csv", b"a,b,label\n1,2,caf\xe9\n3,4,tea\n")
        self.assertIn("labels.csv:2:3: the label is not text in UTF-8",
                      self.fails(1, "dataset", "upload", "labels", "--data", "labels.csv"))

    def test_validation_data_has_the_columns_of_the_training_data(self):
        for name in ("same", "swapped"):
            self.create(name)
        self.file("train.csv", "a,b,y\n0,5,0\n1,-5,1\n")
        self.file("same.csv", "a,b,y\n0,4,0\n3,-1,1\n")
        self.file("swapped.csv", "b,y,a\n4,0,0\n-1,1,3\n")
        def losses(model, validation):
            out = self.ok("--json", "train", model, "--data", "train.csv", "--validation-data", validation,
                          "--iterations", 3, "--report-every", 1)
            return re.findall(r'"validation\w*": ?({[^}]*})', out)
        self.assertTrue(losses("same", "same.csv"))
        self.create("other")
        self.assertEqual(losses("other", "swapped.csv"), losses("swapped", "same.csv"))

    def test_float_labels_mean_the_same_everywhere(self):
        self.file("float.csv", "0,1,0.0\n1,0,1.0\n")
        self.file("whole.csv", "0,1,0\n1,0,1\n")
        for name in ("data", "set", "whole"):
            self.create(f"float-{name}")
        self.ok("dataset", "upload", "float", "--data", "float.csv")
        self.ok("step", "float-data", "--data", "float.csv")
        self.ok("step", "float-whole", "--data", "whole.csv")
        self.ok("train", "float-set", "--dataset", "float", "--iterations", 1)
        self.ok("dataset", "delete", "float")
        weights = [self.ok("parameters", "get", f"float-{name}", "--weights-only") for name in
                   ("data", "set", "whole")]
        self.assertEqual(weights[0], weights[1])
        self.assertEqual(weights[0], weights[2])

    def test_numpys_own_files(self):
        self.create("numpy")
        rows = np.array([[0, 1], [3, 2], [1, 0]])
        def predict(array):
            np.save(self.path / "x.npy", array)
            return self.ok("predict", "numpy", "--data", "x.npy", "--logits")
        expected = predict(rows.astype("<f8"))
        for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"):
            for order in "<>":
                with self.subTest(kind, order=order):
                    self.assertEqual(predict(rows.astype(order + kind)), expected)
        self.assertEqual(predict(np.asfortranarray(rows)), expected)
        self.assertEqual(predict(rows > 0), predict((rows > 0).astype("f8")))
        np.save(self.path / "x.npy", rows)
        def measured(labels):
            np.save(self.path / "y.npy", labels)
            return self.ok("evaluate", "numpy", "--data", "x.npy", "--labels", "y.npy", "--summary-only")
        for kind in ("bool", "u1", "<i2", ">i8", "<u8", "<f4"):
            self.assertEqual(measured(np.array([0, 1, 1]).astype(kind)), measured(np.array([0, 1, 1])), kind)
        np.save(self.path / "y.npy", np.array([0, 1, 2**40]))
        self.assertIn("y.npy[2]: expected a class index, a whole number from 0 to 2147483647, got 1099511627776",
                      self.fails(1, "evaluate", "numpy", "--data", "x.npy", "--labels", "y.npy"))
        for array, named in ((rows.astype("c16"), "complex numbers (<c16)"), (rows.astype("U3"), "text (<U3)"),
                             (np.zeros(2, "M8[s]"), "dates or times (<M8[s])"),
                             (np.zeros(2, [("a", "f4" )]), "elements of several fields"),
                             (np.zeros((1, 1, 2)), "must have one or two dimensions, got 3")):
            np.save(self.path / "x.npy", array)
            self.assertIn(named, self.fails(1, "predict", "numpy", "--data", "x.npy"))
        np.savez(self.path / "z.npz", rows)
        self.assertIn("z.npz: is a zip archive", self.fails(1, "predict", "numpy", "--data", "z.npz"))
        with gzip.open(self.path / "g.csv", "wt") as file:
            file.write("1,2\n")
        self.assertIn("g.csv: is compressed by gzip", self.fails(1, "predict", "numpy", "--data", "g.csv"))
        self.assertEqual(self.fails(1, "predict", "numpy", "--data", "."), ".: is a directory\n")

    def test_checkpoints(self):
        self.create("points")
        self.assertIn("step 0", self.ok("checkpoint", "create", "points", "start"))
        self.ok("train", "points", "--data", "xor", "--iterations", 10, "--checkpoint-every", 5,
                "--keep-last", 1, "--keep-best")
        names = [line.split()[0] for line in self.ok("checkpoint", "list", "points").splitlines()[1:]]
        self.assertEqual(names, [f"models/points/checkpoints/{n}" for n in
                                 ("run-1-best", "run-1-iteration-10", "start")])
        self.assertIn("ABORTED", self.fails(1, "checkpoint", "restore", "points", "start", "--expected-step", 3))
        self.assertEqual(self.ok("checkpoint", "restore", "points", "start"), "restored; step 0\n")
        self.assertEqual(self.ok("checkpoint", "delete", "points", "start"),
                         "deleted models/points/checkpoints/start\n")
        self.assertIn("no such checkpoint", self.fails(1, "checkpoint", "restore", "points", "start"))
        self.fails(2, "train", "points", "--data", "xor", "--iterations", 1, "--keep-last", 1)

    def test_a_diverging_run_fails(self):
        self.ok("create", "wild", "--inputs", 1, "--layers", "1", "--loss", "mean_squared_error",
                "--learning-rate", 1e6)
        self.file("line.csv", "x,y\n1,2\n2,4\n3,6\n")
        result = self.run_cli("train", "wild", "--data", "line.csv", "--iterations", 1000)
        self.assertEqual(result.returncode, 1)
        self.assertIn("diverged after", result.stdout)
        self.assertIn("not finite at iteration", result.stdout)

    def test_detach_watch_stop(self):
        self.create("detached")
        out = self.ok("train", "detached", "--data", "xor", "--iterations", 10**12, "--detach")
        self.assertEqual(out, "models/detached/runs/1 is under way; watch it with: backprop watch detached\n")
        self.assertIn("FAILED_PRECONDITION: models/detached/runs/1 is under way",
                      self.fails(1, "train", "detached", "--data", "xor", "--iterations", 1))
        watch = subprocess.Popen([BIN / "backprop", "--server", self.server.address, "watch", "detached"],
                                 stdout=subprocess.PIPE, text=True)
        self.assertIn("iteration", watch.stdout.readline())
        self.assertRegex(self.ok("stop", "detached"), r"^models/detached/runs/1 stopped after \d+ iterations")
        out, _ = watch.communicate(timeout=60)
        self.assertIn("stopped after", out)
        self.assertEqual(watch.returncode, 0)
        self.assertIn("no run is under way", self.fails(1, "stop", "detached"))

    def interrupt(self, *arguments):
        process = subprocess.Popen([BIN / "backprop", "--server", self.server.address, *arguments],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stdout.readline()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def test_ctrl_c_stops_the_run_and_keeps_what_it_learned(self):
        self.create("interrupted")
        status, _, err = self.interrupt("train", "interrupted", "--data", "xor", "--iterations", "1000000000000",
                                        "--report-every", "10000")
        self.assertEqual(status, 130)
        self.assertIn("interrupted; the run was stopped; its parameters", err)
        deadline = time.monotonic() + 30
        while "active run" in self.ok("get", "interrupted") and time.monotonic() < deadline:
            time.sleep(0.05)
        described = self.ok("get", "interrupted")
        self.assertNotIn("active run", described)
        self.assertNotIn("step 0,", described)

    def test_ctrl_c_of_a_watcher_leaves_the_run(self):
        self.create("watched")
        self.ok("train", "watched", "--data", "xor", "--iterations", 10**12, "--detach")
        status, _, err = self.interrupt("watch", "watched")
        self.assertEqual(status, 130)
        self.assertIn("models/watched/runs/1 continues; follow it again with: backprop watch watched", err)
        self.assertIn("active run", self.ok("get", "watched"))
        self.ok("stop", "watched")

    def test_a_terminal_gets_one_live_line(self):
        self.create("live")
        terminal = Terminal(backprop(self.server, "train", "live", "--data", "xor", "--iterations", 20000), 120)
        self.addCleanup(terminal.close)
        self.assertEqual(terminal.finish(), 0)
        self.assertRegex(terminal.screen.frames[-2], r"^20000/20000 100%  loss \d\.\d+  accuracy \d\.\d+  \d+ steps/s  "
                                                     r"ETA \S+ s  [▁▂▃▄▅▆▇█]+$")
        self.assertEqual(len(terminal.screen.lines), 2, "only the summary ends a line")

    # Data.

    def test_csv_with_names(self):
        self.file("pets.csv", "width,height,animal\n0,1,cat\n1,0,dog\n0.1,0.9,cat\n0.9,0.2,dog\n")
        self.ok("create", "pets", "--inputs", 2, "--layers", "8,2", "--learning-rate", 0.5,
                "--class-names", "cat,dog")
        self.assertIn("accuracy 1.0000", self.ok("train", "pets", "--data", "pets.csv", "--iterations", 300))
        out = self.ok("predict", "pets", "--data", "pets.csv").splitlines()
        self.assertEqual([line.split()[0] for line in out], ["cat", "dog", "cat", "dog"])
        rows = self.ok("predict", "pets", "--row", "0,1", "--row", "1,0", "--classes")
        self.assertEqual(rows, "cat\ndog\n")
        piped = self.ok("predict", "pets", "--data", "-", "--classes", stdin="0,1\n1,0\n")
        self.assertEqual(piped, "cat\ndog\n")
        self.file("first.csv", "animal,width,height\ncat,0,1\ndog,1,0\n")
        for column in ("animal", "0"):
            self.assertIn("accuracy 1.0000", self.ok("evaluate", "pets", "--data", "first.csv",
                                                     "--label-column", column))
        self.file("cow.csv", "0,1,cat\n1,0,cow\n")
        self.assertEqual(self.fails(1, "evaluate", "pets", "--data", "cow.csv"),
                         'cow.csv:2:3: expected one of the model\'s class_names cat, dog, got "cow"\n')

    def test_csv_errors_name_file_line_and_column(self):
        self.create("csv")
        for text, message in (
                ("1,2,0\n3,x,1\n", 'd.csv:2:2: expected a number, got "x"\n'),
                ("1,2,0\n3,4\n", "d.csv:2: expected 3 columns, got 2\n"),
                ("1,2,0.5\n", 'd.csv:1:3: expected a class index from 0 to 1, got "0.5"\n'),
                ("1,2,3,0\n", "d.csv: has 3 feature columns and 1 for the label, but models/csv "
                              "takes 2 features\n"),
                ("", "d.csv: has no rows of data\n")):
            with self.subTest(text):
                self.file("d.csv", text)
                self.assertEqual(self.fails(1, "train", "csv", "--data", "d.csv", "--iterations", 1), message)
        self.assertEqual(self.fails(1, "train", "csv", "--data", "none.csv", "--iterations", 1),
                         "none.csv: No such file or directory\n")
        self.assertIn('has no column "z"', self.fails(
            1, "train", "csv", "--data", self.file("d.csv", "a,b,c\n1,2,0\n"), "--label-column", "z",
            "--iterations", 1))

    def test_npy(self):
        import numpy as np
        random = np.random.default_rng(0)
        x = random.normal(size=(50, 2)).astype("f4")
        np.save(self.path / "x.npy", x)
        np.save(self.path / "y.npy", (x[:, 0] > 0).astype("i8"))
        np.save(self.path / "t.npy", x @ np.array([[2.0], [-1.0]]))
        self.create("npy")
        self.assertIn("accuracy 1.0000", self.ok("train", "npy", "--data", "x.npy", "--labels", "y.npy",
                                                 "--iterations", 3000))
        self.ok("create", "fit", "--inputs", 2, "--layers", "1", "--loss", "mean_squared_error",
                "--learning-rate", 0.1)
        self.ok("train", "fit", "--data", "x.npy", "--targets", "t.npy", "--iterations", 500)
        self.assertAlmostEqual(float(self.ok("predict", "fit", "--row", "1,0").strip()), 2, places=3)
        self.assertIn("requires --labels or --targets", self.fails(1, "train", "npy", "--data", "x.npy",
                                                               "--iterations", 1))

    # Reading.

    # All options of a model and all commands.

    def test_every_option_of_a_model(self):
        out = self.ok("create", "full", "--inputs", 2, "--layers", "8:elu,4:leaky_relu,2", "--elu-alpha", 2,
                      "--negative-slope", 0.1, "--dropout", 0.2, "--optimizer", "rmsprop", "--momentum", 0.5,
                      "--centered", "--weight-decay", 0.01, "--l1", 0.001, "--clip-value", 0.5,
                      "--schedule", "reduce_on_plateau", "--plateau-patience", 2, "--factor", 0.5,
                      "--warmup-steps", 5, "--label-smoothing", 0.1, "--class-weights", "1,2",
                      "--input-mean", "0,0.1", "--input-std", "1,2")
        self.assertIn("2 → 8 elu (dropout 0.2) → 4 leaky_relu (dropout 0.2) → 2, softmax_cross_entropy, "
                      "rmsprop(learning_rate=0.01), warm-up of 5 steps, reduce_on_plateau schedule, "
                      "standardised inputs, float32", out)
        spec = json.loads(self.ok("--json", "get", "full"))["model"]["spec"]
        self.assertEqual(spec["layers"][0]["alpha"], 2)
        self.assertEqual(spec["layers"][1]["negativeSlope"], 0.1)
        self.assertEqual(spec["loss"]["softmaxCrossEntropy"], {"labelSmoothing": 0.1, "classWeights": [1, 2]})
        optimizer = spec["optimizer"]
        self.assertEqual(optimizer["rmsprop"], {"learningRate": 0.01, "alpha": 0.99, "epsilon": 1e-8,
                                                "momentum": 0.5, "centered": True, "weightDecay": 0.01})
        self.assertEqual((optimizer["l1"], optimizer["clipValue"]), (0.001, 0.5))
        self.assertEqual(optimizer["schedule"]["reduceOnPlateau"]["factor"], 0.5)
        self.assertEqual(spec["inputStandardization"], {"mean": [0, 0.1], "std": [1, 2]})

    def test_flags_that_do_not_go_together(self):
        base = ("create", "x", "--inputs", 2, "--layers", "4,2")
        for flags, message in (
                (("--nesterov",), None),  # goes with sgd, the default; the server wants a momentum
                (("--beta1", 0.9), "--beta1: requires --optimizer adam, adamw, got sgd"),
                (("--delta", 1), "--delta: requires --loss huber, got softmax_cross_entropy"),
                (("--gamma", 0.5), "--gamma: requires --schedule step, exponential, got constant"),
                (("--schedule", "cosine"), "--total-steps is required"),
                (("--negative-slope", 0.1), "--negative-slope: requires a leaky_relu layer"),
                (("--clip-norm", 1, "--clip-value", 1), "--clip-norm excludes --clip-value"),
                (("--input-mean", "0,0"), "--input-mean requires --input-std"),
                (("--initial-value", 1), "--initial-value: requires --initializer constant")):
            with self.subTest(flags):
                if message is None:
                    self.assertIn("requires a momentum above 0", self.fails(1, *base, *flags))
                else:
                    self.assertIn(message, self.fails(2, *base, *flags))

    def test_validation_and_early_stopping(self):
        self.create("early", "--standardize")
        self.assertIn("the first Train fits",
                      self.fails(1, "predict", "early", "--row", "0,0"))
        out = self.ok("train", "early", "--data", "xor", "--epochs", 500, "--validation-split", 0.25,
                      "--early-stopping", "--patience", 3, "--min-delta", 1000)
        self.assertRegex(out, r"validation 0\.\d{6} [01]\.\d{4}\n")
        self.assertRegex(out, r"stopped early after 4 iterations in .*; validation loss .*; "
                              r"best at iteration 1 with 0\.\d{6}, restored\n$")
        rows = "\n".join(f"{a},{b},{int(a != b)}" for a in (0, 1) for b in (0, 1)) + "\n"
        self.file("v.csv", rows)
        out = self.ok("train", "early", "--data", "xor", "--epochs", 5, "--validation-data", "v.csv")
        self.assertRegex(out, r"; validation loss ")

    def test_evaluate_in_detail(self):
        self.create("detail", "--class-names", "no,yes")
        out = self.ok("evaluate", "detail", "--data", "xor", "--n", 50)
        self.assertRegex(out, r"precision +recall +f1 +support +roc_auc\nno +")
        self.assertRegex(out, r"macro .*\nweighted .*\nroc_auc \S+, log_loss \S+\nconfusion matrix")
        self.assertEqual(len(self.ok("evaluate", "detail", "--data", "xor", "--summary-only").splitlines()), 1)
        self.ok("create", "line", "--inputs", 1, "--layers", 1, "--loss", "huber", "--delta", 0.5)
        self.file("line.csv", "1,2\n2,4\n3,6\n")
        self.assertRegex(self.ok("evaluate", "line", "--data", "line.csv"), r"mse \S+, rmse \S+, mae \S+, r2 ")

    def test_weights_of_rows(self):
        for name in ("weighted", "plain"):
            self.create(name)
        self.file("w.csv", "a,b,weight,label\n0,0,1,0\n5,5,0,1\n0,1,1,1\n")
        self.file("p.csv", "0,0,0\n0,1,1\n")
        self.ok("step", "weighted", "--data", "w.csv", "--weight-column", "weight")
        self.ok("step", "plain", "--data", "p.csv", "--no-header")
        self.assertEqual(self.ok("parameters", "get", "weighted"), self.ok("parameters", "get", "plain"))

    def test_step_stream_and_gradients(self):
        for name in ("stream", "halves"):
            self.create(name)
        out = self.ok("step-stream", "stream", "--data", "xor", "--n", 40, "--batch-size", 20, "--steps", 9,
                      "--in-flight", 4)
        self.assertRegex(out, r"^9 steps in \d+\.\d\d s, \d+ steps/s; step 9: loss 0\.\d+, accuracy ")
        self.ok("gradients", "compute", "halves", "--data", "xor", "--output", "g.json")
        self.assertRegex(self.ok("gradients", "apply", "halves", "--input", "g.json", "--input", "g.json"),
                         r"^step 1: gradient norm \S+, learning rate 0.1\n$")
        self.assertIn("ABORTED", self.fails(1, "gradients", "apply", "halves", "--input", "g.json",
                                            "--expected-step", 0))
        self.file("bad.json", '{"weight":1,"gradients":[]}')
        self.assertIn("bad.json: has no layers[0].weights",
                      self.fails(1, "gradients", "apply", "halves", "--input", "g.json", "--input", "bad.json"))

    def test_grad_check(self):
        self.create("check")
        self.assertRegex(self.ok("grad-check", "check", "--data", "xor"), GOLDEN_GRAD_CHECK)
        finer = self.run_cli("grad-check", "check", "--data", "xor", "--tolerance", 1e-17)
        self.assertEqual(finer.returncode, 1)
        self.assertRegex(finer.stdout, r"\nINCONCLUSIVE: layers\[0\]\.weights: the gradient of \d+ of 16 entries is lost")
        self.ok("create", "zeros", "--inputs", 2, "--layers", "8,2", "--initializer", "zeros")
        zeros = self.run_cli("grad-check", "zeros", "--data", "xor")
        self.assertEqual(zeros.returncode, 1)
        self.assertIn("INCONCLUSIVE: layers[0].weights: every entry lies on a kink", zeros.stdout)

    def test_parameters_get_and_set(self):
        self.create("source", "--optimizer", "adam")
        self.ok("train", "source", "--data", "xor", "--iterations", 5)
        self.ok("parameters", "get", "source", "--output", "p.json")
        parameters = json.loads((self.path / "p.json").read_text())
        self.assertEqual(parameters["step"], "5")
        self.assertEqual(len(parameters["tensors"]), 4)
        self.assertEqual(len(parameters["optimizerState"]), 8)
        self.create("target", "--optimizer", "adam", "--seed", 5)
        self.assertEqual(self.ok("parameters", "set", "target", "--input", "p.json"), "set; step 5\n")
        self.assertEqual(self.ok("parameters", "get", "target"), self.ok("parameters", "get", "source"))
        weights = json.loads(self.ok("parameters", "get", "source", "--weights-only"))
        self.assertNotIn("optimizerState", weights)
        self.assertIn("ABORTED", self.fails(1, "parameters", "set", "target", "--expected-step", 4,
                                            stdin=json.dumps(weights)))

    def test_health_and_version(self):
        self.assertEqual(self.ok("health"), "SERVING\n")
        self.assertEqual(self.fails(1, "health", "--service", "none"), "NOT_FOUND: service name unknown\n")
        self.assertRegex(self.ok("version"), r"^backprop \d+\.\d+\.\d+ \(commit \w+\)\n$")

    def test_a_wrong_server(self):
        result = cli("get", "m", "--server", "127.0.0.1:1")
        self.assertEqual(result.returncode, 1)
        self.assertIn("UNAVAILABLE", result.stderr)
        self.assertIn("Is a server running at 127.0.0.1:1?", result.stderr)

    def test_demo(self):
        out = self.ok("demo")
        self.assertRegex(out, r"completed after 3000 iterations in \S+ s: loss 0\.081\d+, accuracy 0\.9750")
        self.assertIn("Predicted classes", out)
        self.assertRegex(out, GOLDEN_GRAD_CHECK)
        poor = self.run_cli("demo", "--seed", 16)
        self.assertEqual(poor.returncode, 1)
        self.assertIn("is below 0.97", poor.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + ["-v"])
