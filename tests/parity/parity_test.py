"""Compares the service, through a real server, with PyTorch's trajectories and scikit-learn's metrics
in the fixtures of generate.py."""

import base64
import contextlib
import json
import pathlib
import struct
import sys
import unittest

import grpc
from google.protobuf import json_format

import harness
from stubs import service as pb, service_grpc, training

HERE = pathlib.Path(__file__).resolve().parent
TRAJECTORY_TOLERANCE = 1e-9  # relative to the largest number of a tensor
METRIC_TOLERANCE = 1e-12


def floats(text):
    raw = base64.b64decode(text)
    return struct.unpack(f"<{len(raw) // 8}d", raw)


def tensor_sizes(spec):
    inputs = spec["inputSize"]
    for i, layer in enumerate(spec["layers"]):
        yield f"layers[{i}].weights", inputs * layer["units"]
        yield f"layers[{i}].bias", layer["units"]
        inputs = layer["units"]


class ParityTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = contextlib.ExitStack()
        cls.addClassCleanup(cls.stack.close)
        server = cls.stack.enter_context(harness.Server())
        channel = cls.stack.enter_context(grpc.insecure_channel(server.address))
        cls.stub = service_grpc.TrainingServiceStub(channel)

    def batch(self, rows, wanted, weighted):
        batch = {"inputs": {"shape": [len(rows["inputs"]), len(rows["inputs"][0])],
                            "values": sum(rows["inputs"], [])}}
        if wanted == "labels":
            batch["labels"] = {"values": rows["labels"]}
        else:
            batch["targets"] = {"values": sum(rows[wanted], [])}
        if weighted:
            batch["sampleWeights"] = {"values": rows["weights"]}
        return batch

    def run_case(self, fixtures, case):
        """Returns the largest relative differences of final parameters and of losses."""
        initial = floats(fixtures["initial"][case["initial"]])
        request = {"spec": case["spec"], "initialParameters": {"tensors": []}}
        at = 0
        for name, size in tensor_sizes(case["spec"]):
            request["initialParameters"]["tensors"].append(
                {"name": name, "tensor": {"values": list(initial[at:at + size])}})
            at += size
        model = self.stub.CreateModel(json_format.ParseDict(request, pb.CreateModelRequest())).model
        config = {"iterations": str(fixtures["steps"]), "shuffle": False,
                  "reportEvery": str(fixtures["report_every"]), "reportInterval": "3600s"}
        if "batchSize" in case:
            config["batchSize"] = case["batchSize"]
        train = {"model": model.name, "config": config,
                 "data": self.batch(fixtures["rows"], case["wanted"], case.get("weighted", False))}
        worst_loss = 0.0
        seen = set()
        for response in self.stub.Train(json_format.ParseDict(train, pb.TrainRequest())):
            if response.event.HasField("progress"):
                progress = response.event.progress
                expected = case["losses"][str(progress.iteration)]
                seen.add(str(progress.iteration))
                worst_loss = max(worst_loss, abs(progress.metrics.loss - expected) /
                                 max(abs(expected), 1e-3))
        self.assertEqual(seen, set(case["losses"]), case["name"])
        self.assertEqual(response.event.summary.stop_reason, training.STOP_REASON_COMPLETED)
        final = self.stub.GetParameters(pb.GetParametersRequest(model=model.name)).parameters
        self.stub.DeleteModel(pb.DeleteModelRequest(name=model.name))
        expected = floats(case["final"])
        worst, at = 0.0, 0
        for named in final.tensors:
            ours = list(named.tensor.values)
            theirs = expected[at:at + len(ours)]
            at += len(ours)
            scale = max(abs(v) for v in theirs)
            worst = max(worst, max(abs(a - b) for a, b in zip(ours, theirs)) / scale)
        self.assertEqual(at, len(expected))
        return max(worst, 0.0), worst_loss

    def test_trajectories_equal_pytorchs(self):
        fixtures = json.loads((HERE / "trajectories.json").read_text())
        self.assertGreater(len(fixtures["cases"]), 500)
        results = []
        for case in fixtures["cases"]:
            parameters, loss = self.run_case(fixtures, case)
            results.append((parameters, loss, case["name"]))
            with self.subTest(case["name"]):
                self.assertLessEqual(parameters, TRAJECTORY_TOLERANCE)
                self.assertLessEqual(loss, TRAJECTORY_TOLERANCE)
        results.sort(reverse=True)
        print(f"{len(results)} trajectories of {fixtures['steps']} steps; worst:")
        for parameters, loss, name in results[:10]:
            print(f"  parameters {parameters:.1e}  losses {loss:.1e}  {name}")

    def compare(self, what, ours, theirs):
        self.worst = max(self.worst, abs(ours - theirs))
        self.assertLessEqual(abs(ours - theirs), METRIC_TOLERANCE * max(1, abs(theirs)), what)

    def test_metrics_equal_scikit_learns(self):
        fixtures = json.loads((HERE / "metrics.json").read_text())
        self.worst = 0.0
        for case in fixtures["cases"]:
            k = case["outputs"]
            identity = [float(i == j) for i in range(k) for j in range(k)]
            spec = {"inputSize": k, "layers": [{"units": k}], "loss": case["loss"],
                    "dataType": "DATA_TYPE_FLOAT64"}
            tensors = [{"name": "layers[0].weights", "tensor": {"values": identity}},
                       {"name": "layers[0].bias", "tensor": {"values": [0.0] * k}}]
            model = self.stub.CreateModel(json_format.ParseDict(
                {"spec": spec, "initialParameters": {"tensors": tensors}}, pb.CreateModelRequest())).model
            data = {"inputs": {"values": sum(case["logits"], [])}}
            if "labels" in case:
                data["labels"] = {"values": case["labels"]}
            else:
                data["targets"] = {"values": sum(case["targets"], [])}
            if case["weights"] is not None:
                data["sampleWeights"] = {"values": case["weights"]}
            reply = self.stub.Evaluate(json_format.ParseDict(
                {"model": model.name, "data": data, "topK": case["topK"]}, pb.EvaluateRequest()))
            with self.subTest(loss=case["loss"], outputs=k, weighted=case["weights"] is not None):
                if "regression" in case:
                    ours = reply.regression
                    theirs = case["regression"]
                    self.compare("mse", ours.mean_squared_error, theirs["meanSquaredError"])
                    self.compare("rmse", ours.root_mean_squared_error, theirs["rootMeanSquaredError"])
                    self.compare("mae", ours.mean_absolute_error, theirs["meanAbsoluteError"])
                    self.compare("r2", ours.r2, theirs["r2"])
                    continue
                ours, theirs = reply.classification, case["classification"]
                self.compare("accuracy", ours.accuracy, theirs["accuracy"])
                self.compare("roc_auc", ours.roc_auc, theirs["rocAuc"])
                for average in ("macro", "weighted"):
                    for score in ("precision", "recall", "f1"):
                        self.compare(f"{average} {score}", getattr(getattr(ours, average), score),
                                     theirs[average][score])
                self.assertEqual(len(ours.classes), len(theirs["classes"]))
                for a, b in zip(ours.classes, theirs["classes"]):
                    for score in ("precision", "recall", "f1", "support"):
                        self.compare(score, getattr(a, score), b[score])
                if "logLoss" in theirs:
                    self.compare("log_loss", ours.log_loss, theirs["logLoss"])
                    for a, b in zip(ours.confusion_matrix, theirs["confusion"], strict=True):
                        self.compare("confusion", a, b)
                if "topKAccuracy" in theirs:
                    self.compare("top_k", ours.top_k_accuracy, theirs["topKAccuracy"])
                    self.assertEqual(ours.top_k, case["topK"])
        print(f"{len(fixtures['cases'])} sets of predictions; largest difference to "
              f"scikit-learn: {self.worst:.1e}")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + ["-v"])
