"""A client in another language, with code generated from the .proto files: the same XOR training."""

import sys
import unittest

import grpc
import numpy as np

from harness import Server
from stubs import model, service, service_grpc, tensor, training


def raw(array):
    types = {np.dtype("<f4"): tensor.DATA_TYPE_FLOAT32, np.dtype("<f8"): tensor.DATA_TYPE_FLOAT64,
             np.dtype("<i4"): tensor.DATA_TYPE_INT32, np.dtype("<i8"): tensor.DATA_TYPE_INT64}
    return tensor.Tensor(shape=array.shape, raw=array.tobytes(), data_type=types[array.dtype])


def numpy_of(message):
    kind = "<f4" if message.data_type == tensor.DATA_TYPE_FLOAT32 else "<f8"
    return np.frombuffer(message.raw, kind).reshape(message.shape)


def xor(seed):
    random = np.random.default_rng(seed)
    points = random.uniform(-1, 1, (200, 2))
    labels = (points[:, 0] * points[:, 1] > 0).astype("<i8")
    return (points + random.normal(0, 0.05, points.shape)).astype("<f4"), labels


class PythonClientTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.server.__enter__()
        cls.channel = grpc.insecure_channel(cls.server.address)
        cls.stub = service_grpc.TrainingServiceStub(cls.channel)

    @classmethod
    def tearDownClass(cls):
        cls.channel.close()
        cls.server.__exit__(None, None, None)

    def create(self, model_id, data_type=tensor.DATA_TYPE_FLOAT32, seed=0):
        spec = model.ModelSpec(input_size=2, layers=[model.Layer(units=8), model.Layer(units=2)],
                               optimizer=model.Optimizer(sgd=model.Sgd(learning_rate=0.1)),
                               seed=seed, data_type=data_type)
        return self.stub.CreateModel(service.CreateModelRequest(model_id=model_id, spec=spec)).model

    def test_xor_is_learned(self):
        points, labels = xor(0)
        for values in ("raw", "typed"):
            with self.subTest(values):
                name = self.create(f"py-{values}").name
                if values == "raw":
                    data = tensor.Batch(inputs=raw(points), labels=raw(labels))
                else:
                    data = tensor.Batch(inputs=tensor.Tensor(shape=points.shape, values=points.ravel()),
                                        labels=tensor.Tensor(values=labels))
                events = [r.event for r in self.stub.Train(service.TrainRequest(
                    model=name, data=data,
                    config=training.TrainingConfig(iterations=3000, report_every=300)))]
                self.assertEqual([e.sequence for e in events], list(range(1, len(events) + 1)))
                for event in events:
                    if event.HasField("progress"):
                        p = event.progress
                        print(f"{p.iteration:6d} {p.metrics.loss:.6f} {p.metrics.accuracy:.4f}")
                summary = events[-1].summary
                self.assertEqual(summary.stop_reason, training.STOP_REASON_COMPLETED)
                self.assertGreaterEqual(summary.metrics.accuracy, 0.90)
                self.assertLess(summary.metrics.loss, events[1].progress.metrics.loss / 3)

    def test_one_step_equals_numpy(self):
        """The derivation in NumPy gives the same step."""
        points, labels = xor(1)
        name = self.create("py-step", tensor.DATA_TYPE_FLOAT64).name

        def parameters():
            reply = self.stub.GetParameters(service.GetParametersRequest(
                model=name, encoding=tensor.TENSOR_ENCODING_RAW))
            return [numpy_of(t.tensor) for t in reply.parameters.tensors]

        W1, b1, W2, b2 = parameters()
        x = points.astype("<f8")
        z1 = x @ W1 + b1
        a1 = np.maximum(z1, 0)
        z2 = a1 @ W2 + b2
        e = np.exp(z2 - z2.max(axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        loss = -np.log(p[np.arange(200), labels]).mean()
        dz2 = (p - np.eye(2)[labels]) / 200
        dz1 = (dz2 @ W2.T) * (z1 > 0)
        step = self.stub.Step(service.StepRequest(
            model=name, batch=tensor.Batch(inputs=raw(points), labels=raw(labels))))
        self.assertAlmostEqual(step.metrics.loss, loss, places=13)
        expected = [W1 - 0.1 * x.T @ dz1, b1 - 0.1 * dz1.sum(axis=0),
                    W2 - 0.1 * a1.T @ dz2, b2 - 0.1 * dz2.sum(axis=0)]
        for got, want in zip(parameters(), expected):
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-14)

    def test_errors_carry_their_fields(self):
        with self.assertRaises(grpc.RpcError) as raised:
            self.stub.CreateModel(service.CreateModelRequest(spec=model.ModelSpec(
                input_size=2, layers=[model.Layer(units=0), model.Layer(units=2)])))
        self.assertEqual(raised.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        self.assertEqual(raised.exception.details(),
                         "spec.layers[0].units: must be at least 1, got 0")
        trailers = dict(raised.exception.trailing_metadata())
        self.assertIn(b"spec.layers[0].units", trailers["grpc-status-details-bin"])

    # Every feature that could depend on timing is in use.
    def test_the_same_requests_give_the_same_bytes_on_another_server(self):
        points, labels = xor(3)

        def train(stub):
            spec = model.ModelSpec(
                input_size=2, seed=5, layers=[model.Layer(units=16, dropout=0.3), model.Layer(units=2)],
                optimizer=model.Optimizer(adamw=model.AdamW(), schedule=model.Schedule(
                    warmup_steps=10, reduce_on_plateau=model.ReduceOnPlateauSchedule(patience=1))),
                input_standardization=model.InputStandardization())
            name = stub.CreateModel(service.CreateModelRequest(spec=spec)).model.name
            data = tensor.Batch(inputs=raw(points), labels=raw(labels))
            config = training.TrainingConfig(epochs=20, batch_size=7, validation_split=0.2,
                                             early_stopping=training.EarlyStopping(patience=100))
            for _ in stub.Train(service.TrainRequest(model=name, data=data, config=config)):
                pass
            stub.Step(service.StepRequest(model=name, batch=data))
            reply = stub.GetParameters(service.GetParametersRequest(
                model=name, encoding=tensor.TENSOR_ENCODING_RAW))
            return reply.parameters.SerializeToString(deterministic=True)

        first = train(self.stub)
        self.assertEqual(train(self.stub), first)
        for threads in (1, 3):
            with Server("--threads", str(threads)) as other, \
                    grpc.insecure_channel(other.address) as channel:
                self.assertEqual(train(service_grpc.TrainingServiceStub(channel)), first)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + ["-v"])
