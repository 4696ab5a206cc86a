"""Trains on real data through the RPCs with the defaults of a new model: as good on unseen rows as
scikit-learn's MLPs of the same architecture and budget, over twenty splits."""

import gzip
import json
import pathlib
import sys
import unittest

import grpc
import numpy as np

import harness
from stubs import model, service, service_grpc, tensor, training

HERE = pathlib.Path(__file__).resolve().parent


def raw(array, kind):
    types = {"<f8": tensor.DATA_TYPE_FLOAT64, "<i4": tensor.DATA_TYPE_INT32}
    return tensor.Tensor(shape=array.shape, raw=np.ascontiguousarray(array, kind).tobytes(),
                         data_type=types[kind])


def rows(name):
    table = np.loadtxt(gzip.open(HERE / f"{name}.csv.gz", "rt"), delimiter=",")
    return table[:, :-1], table[:, -1]


class RealDataTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        server = cls.enterClassContext(harness.Server())
        channel = cls.enterClassContext(grpc.insecure_channel(server.address))
        cls.stub = service_grpc.TrainingServiceStub(channel)

    def train(self, name, plan, seed, batch_size):
        X, y = rows(name)
        held_out = np.zeros(len(y), bool)
        held_out[plan["test_rows"][seed]] = True
        if plan["regression"]:
            y = (y - y[~held_out].mean()) / y[~held_out].std()

        def batch(part):
            inputs = raw(X[part], "<f8")
            if plan["regression"]:
                return tensor.Batch(inputs=inputs, targets=raw(y[part][:, None], "<f8"))
            return tensor.Batch(inputs=inputs, labels=raw(y[part], "<i4"))

        spec = model.ModelSpec(
            input_size=X.shape[1],
            layers=[model.Layer(units=plan["hidden"],
                                activation=f"ACTIVATION_{plan['activation'].upper()}"),
                    model.Layer(units=plan["classes"] or 1)],
            optimizer=model.Optimizer(adam=model.Adam(learning_rate=plan["learning_rate"])),
            input_standardization=model.InputStandardization(), seed=seed,
            data_type=tensor.DATA_TYPE_FLOAT64)
        if plan["regression"]:
            spec.loss.mean_squared_error.SetInParent()
        created = self.stub.CreateModel(service.CreateModelRequest(spec=spec)).model
        *_, last = self.stub.Train(service.TrainRequest(
            model=created.name, data=batch(~held_out),
            config=training.TrainingConfig(epochs=plan["epochs"], batch_size=batch_size)))
        self.assertEqual(last.event.summary.stop_reason, training.STOP_REASON_COMPLETED)
        reply = self.stub.Evaluate(service.EvaluateRequest(model=created.name, data=batch(held_out)))
        return reply.regression.r2 if plan["regression"] else reply.classification.accuracy

    def test_as_good_as_scikit_learn(self):
        expected = json.loads((HERE / "expected.json").read_text())
        print(f"\n{'':15} {'backpropd':>10} {'scikit-learn':>13} {'difference':>18}")
        for name, plan in expected["sets"].items():
            ours = np.array([self.train(name, plan, seed, expected["batch_size"])
                             for seed in range(len(plan["scikit_learn"]))])
            theirs = np.array(plan["scikit_learn"])
            # Both were trained and tested on the same rows, split by split.
            difference = ours - theirs
            error = difference.std(ddof=1) / np.sqrt(len(difference))
            print(f"{name:15} {ours.mean():10.4f} {theirs.mean():13.4f} {difference.mean():9.4f} ± {error:.4f}"
                  f"  {'R²' if plan['regression'] else 'accuracy'}")
            with self.subTest(name):
                self.assertGreaterEqual(len(difference), 20)
                self.assertGreaterEqual(difference.mean(), -error)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + ["-v"])
