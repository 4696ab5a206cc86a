"""Makes the files of tests/onnx/fixtures with the exporters of PyTorch, TensorFlow (tf2onnx) and scikit-learn
(skl2onnx), and expected.json with what these libraries compute themselves. scripts/onnx-fixtures runs it.

    generate.py [pytorch] [tensorflow] [sklearn]     default: all
"""

import json
import pathlib
import sys
import warnings

import numpy
import onnx

FOLDER = pathlib.Path(__file__).parent / "fixtures"
ROWS = 5


def rows(columns, dtype="float32", shape=None):
    return numpy.random.default_rng(columns).normal(size=shape or (ROWS, columns)).astype(dtype)


def record(name, inputs, outputs, *, kind, loss=None, refused=None, layers=None):
    """What a test expects of fixtures/{name}.onnx. `kind` is the output of Predict that `outputs` are; `loss` is given to
    the import; `refused` is in the error."""
    path = FOLDER / "expected.json"
    expected = json.loads(path.read_text()) if path.exists() else {}
    one = {"kind": kind, "loss": loss, "refused": refused, "layers": layers}
    if refused is None:
        one["inputs"] = numpy.asarray(inputs, "float64").reshape(ROWS, -1).tolist()
        one["outputs"] = numpy.asarray(outputs, "float64").reshape(ROWS, -1).tolist()
    expected[name] = {key: value for key, value in one.items() if value is not None}
    path.write_text("{\n" + ",\n".join(f' "{key}": {json.dumps(expected[key])}' for key in sorted(expected)) + "\n}\n")
    print(name, (FOLDER / f"{name}.onnx").stat().st_size, "bytes")


def pytorch():
    import torch
    from torch import nn

    class Standardized(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.tensor([0.5, -1.0, 2.0]))
            self.register_buffer("std", torch.tensor([2.0, 0.25, 3.0]))
            self.net = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))

        def forward(self, x):
            return self.net((x - self.mean) / self.std)

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, x):
            return self.second(torch.relu(self.first(x)) + x)

    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.policy, self.value = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(4, 1)

        def forward(self, x):
            x = torch.tanh(self.body(x))
            return self.policy(x), self.value(x)

    def export(name, model, inputs, dynamo, **options):
        torch.manual_seed(len(name))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        model.eval()
        x = torch.from_numpy(inputs)
        target = str(FOLDER / f"{name}.onnx")
        if dynamo:
            options.setdefault("external_data", False)
            torch.onnx.export(model, (x,), target, dynamo=True, dynamic_shapes=({0: torch.export.Dim("n")},),
                              verbose=False, **options)
        else:
            torch.onnx.export(model, (x,), target, dynamo=False, input_names=["x"], output_names=["y"],
                              dynamic_axes={"x": {0: "n"}, "y": {0: "n"}}, **options)
        with torch.no_grad():
            return model(x)

    activations = [nn.Tanh(), nn.Sigmoid(), nn.LeakyReLU(0.2), nn.ELU(0.7), nn.GELU(), nn.SiLU(), nn.Softplus(), nn.ReLU()]
    names = ["TANH", "SIGMOID", "LEAKY_RELU", "ELU", "GELU", "SILU", "SOFTPLUS", "RELU"]

    def every_activation():
        parts = [nn.Linear(4, 6)]
        for activation in activations:
            parts += [activation, nn.Linear(6, 6)]
        return nn.Sequential(*parts)

    for dynamo in (False, True):
        suffix = "dynamo" if dynamo else "torchscript"
        x = rows(4)
        name = f"pytorch_activations_{suffix}"
        record(name, x, export(name, nn.Sequential(every_activation(), nn.Softmax(dim=1)), x, dynamo),
               kind="probabilities", layers=names + ["IDENTITY"])
        name = f"pytorch_float64_{suffix}"
        x = rows(4, "float64")
        record(name, x, export(name, every_activation().double(), x, dynamo), kind="logits", layers=names + ["IDENTITY"])
        name = f"pytorch_images_{suffix}"
        x = rows(16, shape=(ROWS, 1, 4, 4))
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
        record(name, x, export(name, net, x, dynamo), kind="logits", loss="softmax_cross_entropy",
               layers=["RELU", "IDENTITY"])
        name = f"pytorch_standardized_{suffix}"
        x = rows(3)
        record(name, x, export(name, Standardized(), x, dynamo), kind="logits", layers=["RELU", "IDENTITY"])
        name = f"pytorch_residual_{suffix}"
        export(name, Residual(), x, dynamo)
        record(name, None, None, kind="logits", refused="networks with branches are not supported")
        name = f"pytorch_gelu_tanh_{suffix}"
        export(name, nn.Sequential(nn.Linear(3, 4), nn.GELU(approximate="tanh"), nn.Linear(4, 2)), x, dynamo)
        record(name, None, None, kind="logits", refused="(Gelu): is an approximation")
    x = rows(3)
    name = "pytorch_binary"
    record(name, x, export(name, nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1), nn.Sigmoid()), x, False),
           kind="probabilities", layers=["TANH", "IDENTITY"])
    name = "pytorch_log_softmax"
    logits = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
    record(name, x, torch.exp(export(name, nn.Sequential(logits, nn.LogSoftmax(dim=-1)), x, False)),
           kind="probabilities", layers=["TANH", "IDENTITY"])
    name = "pytorch_two_heads"
    export(name, TwoHeads(), x, False)
    record(name, None, None, kind="logits", refused="a model has one output")
    name = "pytorch_batch_norm"
    export(name, nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.BatchNorm1d(4), nn.Linear(4, 2)), x, False)
    record(name, None, None, kind="logits", refused="the operator BatchNormalization is not supported")
    name = "pytorch_external_data"
    export(name, nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), x, True)
    record(name, None, None, kind="logits", refused="external_data=False")
    # PyTorch itself keeps small tensors in the file.
    path = FOLDER / f"{name}.onnx"
    onnx.save_model(onnx.load(path), path, save_as_external_data=True, location=f"{name}.onnx.data", size_threshold=0)
    (FOLDER / f"{name}.onnx.data").unlink()


def tensorflow():
    import tensorflow as tf
    import tf2onnx

    keras = tf.keras

    def export(name, layers, columns, dtype="float32"):
        keras.utils.set_random_seed(columns)
        model = keras.Sequential([keras.Input((columns,), dtype=dtype), *layers])
        model.set_weights([numpy.random.default_rng(i).normal(scale=0.5, size=w.shape).astype(w.dtype)
                           for i, w in enumerate(model.get_weights())])
        x = rows(columns, dtype)
        call = tf.function(lambda x: model(x), input_signature=[tf.TensorSpec((None, columns), dtype, name="x")])
        tf2onnx.convert.from_function(call, input_signature=call.input_signature, opset=15,
                                      output_path=str(FOLDER / f"{name}.onnx"))
        return x, model(x).numpy()

    dense = keras.layers.Dense
    names = ["tanh", "sigmoid", "elu", "gelu", "silu", "softplus", "relu"]
    hidden = [dense(6, activation=name) for name in names] + [dense(6), keras.layers.LeakyReLU(negative_slope=0.2)]
    layers = [name.upper() for name in names] + ["LEAKY_RELU", "IDENTITY"]
    name = "tensorflow_activations"
    x, y = export(name, hidden + [dense(3, activation="softmax")], 4)
    record(name, x, y, kind="probabilities", layers=layers)
    name = "tensorflow_regression"
    x, y = export(name, [dense(5, activation="relu"), keras.layers.Dropout(0.5), dense(2)], 3)
    record(name, x, y, kind="logits", layers=["RELU", "IDENTITY"])
    name = "tensorflow_binary"
    x, y = export(name, [dense(5, activation="tanh"), dense(1, activation="sigmoid")], 3)
    record(name, x, y, kind="probabilities", layers=["TANH", "IDENTITY"])
    name = "tensorflow_selu"
    export(name, [dense(5, activation="selu"), dense(1)], 3)
    record(name, None, None, kind="logits", refused="the operator Selu is not supported")


def sklearn():
    from skl2onnx import to_onnx
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler

    random = numpy.random.default_rng(1)
    data = random.normal(size=(120, 3)) * [1, 5, 0.2] + [0, 3, 1]
    three = (data[:, 0] + data[:, 1] > 3).astype(int) + (data[:, 2] > 1)
    two = numpy.where(data[:, 0] > 0, "yes", "no")
    x = data[:ROWS]

    def classifier(activation="relu"):
        return MLPClassifier((6, 4), activation=activation, max_iter=30, random_state=1)

    def export(name, model, dtype="float32", **options):
        if options:
            options = {"options": {id(model): options}}
        file = to_onnx(model, x.astype(dtype), target_opset={"": 17, "ai.onnx.ml": 3}, **options)
        (FOLDER / f"{name}.onnx").write_bytes(file.SerializeToString())

    for dtype in ("float32", "float64"):
        name = f"sklearn_pipeline_{dtype}"
        model = make_pipeline(StandardScaler(), classifier("tanh")).fit(data, three)
        export(name, model, dtype)
        record(name, x, model.predict_proba(x), kind="probabilities", layers=["TANH", "TANH", "IDENTITY"])
    name = "sklearn_classes"
    model = classifier().fit(data, three)
    export(name, model, zipmap=False)
    record(name, x, model.predict_proba(x), kind="probabilities", layers=["RELU", "RELU", "IDENTITY"])
    for zipmap in (True, False):
        name = "sklearn_binary" + ("_zipmap" if zipmap else "")
        model = classifier("logistic").fit(data, two)
        export(name, model, **({} if zipmap else {"zipmap": False}))
        record(name, x, model.predict_proba(x)[:, 1], kind="probabilities", layers=["SIGMOID", "SIGMOID", "IDENTITY"])
    name = "sklearn_regressor"
    model = MLPRegressor(hidden_layer_sizes=(6,), max_iter=30, random_state=1).fit(data, data[:, 0])
    export(name, model)
    record(name, x, model.predict(x), kind="logits", layers=["RELU", "IDENTITY"])
    name = "sklearn_normalizer"
    model = make_pipeline(Normalizer(), classifier()).fit(data, three)
    export(name, model)
    record(name, None, None, kind="logits", refused="a model standardises columns only")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    FOLDER.mkdir(exist_ok=True)
    for part in sys.argv[1:] or ["pytorch", "tensorflow", "sklearn"]:
        {"pytorch": pytorch, "tensorflow": tensorflow, "sklearn": sklearn}[part]()
