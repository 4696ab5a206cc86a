"""Models as ONNX files: what ONNX Runtime computes from an exported file equals Predict, other readers accept it, and
the files of other exporters (fixtures/, made by generate.py) become models that train."""

import itertools
import json
import pathlib
import sys
import tempfile
import unittest

import grpc
import netron.onnx
import numpy
import onnx
import onnxruntime
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from harness import Server, cli
from stubs import model, service, service_grpc, tensor, training

FIXTURES = pathlib.Path(__file__).resolve().parent / "fixtures"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())

ACTIVATIONS = [name for name in model.Activation.keys() if name != "ACTIVATION_UNSPECIFIED"]
LOSSES = [field.name for field in model.Loss.DESCRIPTOR.fields]
TYPES = {tensor.DATA_TYPE_FLOAT32: numpy.float32, tensor.DATA_TYPE_FLOAT64: numpy.float64}
CLASSIFY = ("softmax_cross_entropy", "binary_cross_entropy")


def raw(array):
    kind = tensor.DATA_TYPE_FLOAT64 if array.dtype == numpy.float64 else tensor.DATA_TYPE_FLOAT32
    return tensor.Tensor(shape=array.shape, raw=array.tobytes(), data_type=kind)


def array(message):
    return numpy.frombuffer(message.raw, TYPES[message.data_type]).reshape(message.shape)


def apply(layer, z):
    """The activation of a layer in float64, as docs/numerics.md defines it."""
    kind = model.Activation.Name(layer.activation).removeprefix("ACTIVATION_")
    if kind == "RELU":
        return numpy.maximum(z, 0)
    if kind == "TANH":
        return numpy.tanh(z)
    if kind == "SIGMOID":
        return 1 / (1 + numpy.exp(-z))
    if kind == "LEAKY_RELU":
        return numpy.where(z > 0, z, layer.negative_slope * z)
    if kind == "ELU":
        return numpy.where(z > 0, z, layer.alpha * numpy.expm1(numpy.minimum(z, 0)))
    if kind == "GELU":
        import math
        return z * numpy.vectorize(math.erfc)(-z / math.sqrt(2)) / 2
    if kind == "SILU":
        return z / (1 + numpy.exp(-z))
    if kind == "SOFTPLUS":
        return numpy.logaddexp(0, z)
    return z


# No slope of an activation is larger.
STEEPEST = 1.13


def tolerance(spec, parameters, x):
    """The tolerance of docs/onnx.md for the logits of rows: each layer may differ by 2 ulp of the sum of the sizes of
    its products, and its activation by 2 ulp of max(1, |z|); these differences pass through later layers. An ulp is
    that of 1 in the model's precision."""
    ulp = numpy.finfo(TYPES[spec.data_type]).eps
    tensors = {named.name: array(named.tensor).astype("float64") for named in parameters.tensors}
    a = x.astype("float64")
    if spec.HasField("input_standardization"):
        a = (a - spec.input_standardization.mean) / spec.input_standardization.std
    difference = numpy.zeros_like(a)
    for i, layer in enumerate(spec.layers):
        weights, bias = tensors[f"layers[{i}].weights"], tensors[f"layers[{i}].bias"]
        sizes = numpy.abs(a) @ numpy.abs(weights) + numpy.abs(bias)
        difference = difference @ numpy.abs(weights) + 2 * ulp * sizes
        z = a @ weights + bias
        a = apply(layer, z)
        if layer.activation != model.ACTIVATION_IDENTITY:
            difference = STEEPEST * difference + 2 * ulp * numpy.maximum(1, numpy.abs(z))
    return difference


class OnnxTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(Server())
        cls.channel = cls.enterClassContext(grpc.insecure_channel(
            cls.server.address, options=[("grpc.max_receive_message_length", -1)]))
        cls.stub = service_grpc.TrainingServiceStub(cls.channel)

    def export(self, name):
        request = service.ExportModelRequest(model=f"models/{name}", format=service.MODEL_FILE_FORMAT_ONNX)
        return b"".join(piece.data for piece in self.stub.ExportModel(request))

    def import_(self, file, **first):
        def pieces():
            for at in range(0, len(file), 1000):
                yield service.ImportModelRequest(data=file[at:at + 1000], **(first if at == 0 else {}))
        return self.stub.ImportModel(pieces()).model

    def predict(self, name, x, *outputs):
        request = service.PredictRequest(model=name, inputs=raw(x), outputs=[
            service.PredictOutput.Value(f"PREDICT_OUTPUT_{output}") for output in outputs])
        return self.stub.Predict(request)

    def refusal(self, call):
        with self.assertRaises(grpc.RpcError) as refused:
            call()
        self.assertEqual(refused.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
        details = error_details_pb2.BadRequest()
        self.assertTrue(rpc_status.from_call(refused.exception).details[0].Unpack(details))
        return details.field_violations[0]


class ExportTest(OnnxTest):
    def create(self, name, activation, loss, data_type, units=3, **fields):
        layers = [model.Layer(units=16, activation=activation), model.Layer(units=8, activation=activation),
                  model.Layer(units=units, activation=model.ACTIVATION_UNSPECIFIED if loss in CLASSIFY else activation)]
        for layer in layers:
            if layer.activation == model.ACTIVATION_LEAKY_RELU:
                layer.negative_slope = 0.3
            if layer.activation == model.ACTIVATION_ELU:
                layer.alpha = 0.7
        spec = model.ModelSpec(input_size=5, layers=layers, seed=len(name), data_type=data_type, **fields)
        getattr(spec.loss, loss).SetInParent()
        return self.stub.CreateModel(service.CreateModelRequest(model_id=name, spec=spec)).model

    def test_onnx_runtime_computes_what_predict_computes(self):
        worst = {}
        for activation, loss, (data_type, dtype), standardized in itertools.product(
                ACTIVATIONS, LOSSES, TYPES.items(), (False, True)):
            name = f"{activation}-{loss}-{dtype.__name__}-{standardized}".lower()
            with self.subTest(name):
                fields = {}
                if standardized:
                    fields["input_standardization"] = model.InputStandardization(
                        mean=[1, -2, 0.1, 3, 0], std=[0.3, 2, 1, 5, 10])
                spec = self.create(name, activation, loss, data_type, **fields).spec
                file = self.export(name)
                onnx.checker.check_model(file, full_check=True)
                session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
                x = (numpy.random.default_rng(len(name)).normal(size=(64, 5)) * [1, 3, 1, 6, 12]).astype(dtype)
                found = dict(zip([output.name for output in session.get_outputs()], session.run(None, {"inputs": x})))
                parameters = self.stub.GetParameters(service.GetParametersRequest(
                    model=f"models/{name}", encoding=tensor.TENSOR_ENCODING_RAW)).parameters
                allowed = tolerance(spec, parameters, x)
                if loss not in CLASSIFY:
                    ours = {"predictions": array(self.predict(f"models/{name}", x, "LOGITS").logits)}
                    allowed = {"predictions": allowed}
                else:
                    predicted = self.predict(f"models/{name}", x, "LOGITS", "PROBABILITIES")
                    ours = {"logits": array(predicted.logits), "probabilities": array(predicted.probabilities)}
                    ulp = numpy.finfo(dtype).eps
                    allowed = {"logits": allowed,
                               "probabilities": 2 * allowed.max(axis=1, keepdims=True) * ours["probabilities"] + 2 * ulp}
                self.assertLessEqual(ours.keys(), found.keys())
                for output, expected in ours.items():
                    self.assertEqual(found[output].dtype, dtype)
                    ratio = (numpy.abs(found[output].astype("float64") - expected) / allowed[output]).max()
                    worst[(activation, dtype.__name__)] = max(worst.get((activation, dtype.__name__), 0), ratio)
                    self.assertLessEqual(ratio, 1, output)
        print("largest difference, as a part of the tolerance:",
              {f"{a.removeprefix('ACTIVATION_')} {d}": round(float(r), 2) for (a, d), r in worst.items()})

    def test_labels_are_the_classes_of_predict(self):
        for loss, units, names in (("softmax_cross_entropy", 4, 4), ("binary_cross_entropy", 1, 2)):
            for named in (False, True):
                with self.subTest(loss, named=named):
                    name = f"label-{units}-{named}".lower()
                    self.create(name, model.ACTIVATION_TANH, loss, tensor.DATA_TYPE_FLOAT32, units=units,
                                class_names=[f"class {i} é" for i in range(names)] if named else [],
                                feature_names=["a", "b", "c", "d", "e"])
                    file = self.export(name)
                    onnx.checker.check_model(file, full_check=True)
                    session = onnxruntime.InferenceSession(file)
                    x = numpy.random.default_rng(1).normal(size=(200, 5), scale=4).astype("float32")
                    predicted = self.predict(f"models/{name}", x, "CLASSES")
                    label, = session.run(["label"], {"inputs": x})
                    expected = predicted.class_names if named else predicted.classes
                    self.assertEqual(label.tolist(), list(expected))
                    self.assertGreater(len(set(expected)), 1)
                    metadata = session.get_modelmeta().custom_metadata_map
                    self.assertEqual(json.loads(metadata["backprop.feature_names"]), ["a", "b", "c", "d", "e"])
                    self.assertEqual(json.loads(metadata.get("backprop.class_names", "[]")),
                                     list(predicted.class_names) and [f"class {i} é" for i in range(names)])

    def test_any_number_of_rows(self):
        self.create("rows", model.ACTIVATION_GELU, "mean_squared_error", tensor.DATA_TYPE_FLOAT64)
        session = onnxruntime.InferenceSession(self.export("rows"))
        for rows in (1, 3, 1000):
            self.assertEqual(session.run(None, {"inputs": numpy.zeros((rows, 5))})[0].shape, (rows, 3))

    def test_netron_shows_the_graph(self):
        """The part of Netron's package that reads a model in Python; the rest of it runs in a browser."""
        self.create("netron", model.ACTIVATION_SILU, "softmax_cross_entropy", tensor.DATA_TYPE_FLOAT32,
                    class_names=["a", "b", "c"])
        shown = netron.onnx.ModelFactory().open(onnx.load_from_string(self.export("netron"))).to_json()
        graph, = shown["graphs"]
        operators = [node["type"]["name"] for node in graph["nodes"]]
        self.assertEqual(operators, ["Gemm", "Sigmoid", "Mul"] * 2 + ["Gemm", "Identity", "Softmax", "ArgMax", "Gather"])
        self.assertEqual(shown["producer"], "backpropd")
        names = {value["name"] for value in graph["values"]}
        self.assertLessEqual({"inputs", "layers[0].weights", "layers[2].bias", "probabilities", "label"}, names)

    def test_a_round_trip_keeps_every_prediction(self):
        created = self.create("there", model.ACTIVATION_ELU, "softmax_cross_entropy", tensor.DATA_TYPE_FLOAT32,
                              class_names=["a", "b", "c"], input_standardization=model.InputStandardization())
        x = numpy.random.default_rng(2).normal(size=(50, 5)).astype("float32")
        batch = tensor.Batch(inputs=raw(x), labels=tensor.Tensor(values=[i % 3 for i in range(50)]))
        for _ in self.stub.Train(service.TrainRequest(model="models/there", data=batch,
                                                      config=training.TrainingConfig(epochs=20))):
            pass
        back = self.import_(self.export("there"), model_id="back")
        self.assertEqual(back.spec, created.spec)
        self.assertEqual(back.step, 0)
        outputs = "LOGITS", "PROBABILITIES", "CLASSES"
        before, after = self.predict("models/there", x, *outputs), self.predict("models/back", x, *outputs)
        before.step = after.step
        self.assertEqual(before, after)
        there, back = (onnx.load_from_string(self.export(name)) for name in ("there", "back"))
        self.assertEqual(back.graph.node, there.graph.node)
        self.assertEqual(back.graph.initializer, there.graph.initializer)


class ImportTest(OnnxTest):
    def loss_of(self, name):
        loss = model.Loss()
        if "loss" in EXPECTED[name]:
            getattr(loss, EXPECTED[name]["loss"]).SetInParent()
            return {"loss": loss}
        return {}

    def test_fixtures_of_every_exporter(self):
        self.assertEqual({path.stem for path in FIXTURES.glob("*.onnx")}, set(EXPECTED))
        for exporter in ("pytorch", "tensorflow", "sklearn"):
            kinds = ["refused" in one for name, one in EXPECTED.items() if name.startswith(exporter)]
            self.assertIn(True, kinds)
            self.assertIn(False, kinds)

    def test_predictions_are_those_of_the_exporting_library(self):
        for name, expected in EXPECTED.items():
            if "refused" in expected:
                continue
            with self.subTest(name):
                file = (FIXTURES / f"{name}.onnx").read_bytes()
                imported = self.import_(file, **self.loss_of(name))
                activations = [model.Activation.Name(layer.activation) for layer in imported.spec.layers]
                self.assertEqual(activations, [f"ACTIVATION_{a}" for a in expected["layers"]])
                dtype = TYPES[imported.spec.data_type]
                self.assertEqual(dtype, numpy.float64 if "float64" in name else numpy.float32)
                x = numpy.array(expected["inputs"], dtype)
                outputs = numpy.array(expected["outputs"])
                predicted = self.predict(imported.name, x, expected["kind"].upper())
                found = array(getattr(predicted, expected["kind"])).astype("float64")
                # Other libraries add in another order; scikit-learn computed in float64 from float64 inputs.
                close = 1e-12 if dtype == numpy.float64 and not name.startswith("sklearn") else 2e-5
                numpy.testing.assert_allclose(found, outputs, rtol=close, atol=close)
                self.train(imported, x)

    def train(self, imported, x):
        k = imported.spec.layers[-1].units
        kind = imported.spec.loss.WhichOneof("kind")
        batch = tensor.Batch(inputs=raw(x))
        if kind == "softmax_cross_entropy":
            batch.labels.values.extend(i % k for i in range(len(x)))
        else:
            batch.targets.CopyFrom(tensor.Tensor(shape=[len(x), k], values=[i % 2 for i in range(len(x) * k)]))
        losses = [self.stub.Step(service.StepRequest(model=imported.name, batch=batch)).metrics.loss
                  for _ in range(20)]
        self.assertLess(losses[-1], losses[0])

    def test_what_is_no_model_is_refused_with_the_node_and_the_reason(self):
        for name, expected in EXPECTED.items():
            if "refused" not in expected:
                continue
            with self.subTest(name):
                file = (FIXTURES / f"{name}.onnx").read_bytes()
                violation = self.refusal(lambda: self.import_(file, model_id="refused"))
                self.assertEqual(violation.field, "data")
                self.assertIn(expected["refused"], violation.description)
        with self.assertRaises(grpc.RpcError) as missing:
            self.stub.GetModel(service.GetModelRequest(name="models/refused"))
        self.assertEqual(missing.exception.code(), grpc.StatusCode.NOT_FOUND)

    def test_class_labels_of_scikit_learn(self):
        imported = self.import_((FIXTURES / "sklearn_binary_zipmap.onnx").read_bytes())
        self.assertEqual(list(imported.spec.class_names), ["no", "yes"])
        self.assertTrue(imported.spec.HasField("loss"))
        self.assertEqual(imported.spec.loss.WhichOneof("kind"), "binary_cross_entropy")

    def test_the_command_line(self):
        address = self.server.address
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/model.onnx"
            fixture = str(FIXTURES / "pytorch_images_torchscript.onnx")
            done = cli("import", fixture, "images", "--loss", "softmax_cross_entropy", "--optimizer", "adam",
                       "--learning-rate", "0.01", server=address)
            self.assertEqual(done.returncode, 0, done.stderr)
            spec = self.stub.GetModel(service.GetModelRequest(name="models/images")).model.spec
            self.assertTrue(spec.loss.HasField("softmax_cross_entropy"))
            self.assertEqual(spec.optimizer.adam.learning_rate, 0.01)
            for arguments in (["export", "images", path], ["export", "--format", "onnx", "images", f"{folder}/m"],
                              ["import", path, "again"], ["import", "--format", "onnx", f"{folder}/m", "once-more"]):
                done = cli(*arguments, server=address)
                self.assertEqual(done.returncode, 0, done.stderr)
            onnx.checker.check_model(path, full_check=True)
            refused = cli("import", str(FIXTURES / "pytorch_residual_dynamo.onnx"), server=address)
            self.assertNotEqual(refused.returncode, 0)
            self.assertIn("branches", refused.stderr)


if __name__ == "__main__":
    if sys.byteorder != "little":
        sys.exit("raw tensors are little-endian")
    unittest.main(verbosity=2)
