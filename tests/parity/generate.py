"""Creates the fixtures with which parity_test.py compares the service: trajectories of PyTorch in float64
and metrics of scikit-learn. Run it through scripts/parity-fixtures, which installs both.

Every case is a spec as the contract has it (JSON), rows, initial parameters, and what PyTorch makes of
them in 1,000 steps. Nothing here looks at the service.
"""

import base64
import functools
import json
import math
import multiprocessing
import pathlib
import sys

import numpy as np
import sklearn
import sklearn.metrics as skm
import torch

HERE = pathlib.Path(__file__).resolve().parent
STEPS = 1000
REPORT_EVERY = 100
D, HIDDEN, K, N = 3, 4, 3, 12
STABLE = 1e-11

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)

OPTIMIZERS = {
    "sgd": ("sgd", {"learningRate": 0.05}),
    "momentum": ("sgd", {"learningRate": 0.01, "momentum": 0.9}),
    "nesterov": ("sgd", {"learningRate": 0.01, "momentum": 0.9, "nesterov": True}),
    "rmsprop": ("rmsprop", {"learningRate": 0.00005}),
    "adagrad": ("adagrad", {"learningRate": 0.01}),
    "adam": ("adam", {"learningRate": 0.0005}),
    "adamw": ("adamw", {"learningRate": 0.0005}),
}
ACTIVATIONS = {
    "identity": {"activation": "ACTIVATION_IDENTITY"},
    "relu": {"activation": "ACTIVATION_RELU"},
    "leaky_relu": {"activation": "ACTIVATION_LEAKY_RELU", "negativeSlope": 0.1},
    "elu": {"activation": "ACTIVATION_ELU", "alpha": 0.8},
    "gelu": {"activation": "ACTIVATION_GELU"},
    "silu": {"activation": "ACTIVATION_SILU"},
    "tanh": {"activation": "ACTIVATION_TANH"},
    "sigmoid": {"activation": "ACTIVATION_SIGMOID"},
    "softplus": {"activation": "ACTIVATION_SOFTPLUS"},
}
# Losses of the API, and the rows they take.
LOSSES = {
    "softmax_labels": ({"softmaxCrossEntropy": {}}, "labels"),
    "softmax_targets": ({"softmaxCrossEntropy": {}}, "shares"),
    "binary": ({"binaryCrossEntropy": {}}, "yes_no"),
    "squared": ({"meanSquaredError": {}}, "numbers"),
    "absolute": ({"meanAbsoluteError": {}}, "numbers"),
    "huber": ({"huber": {"delta": 0.5}}, "numbers"),
}


def rows(rng):
    """A set of inputs with every kind of target."""
    shares = rng.uniform(0.1, 1, (N, K))
    return {
        "inputs": rng.uniform(-1, 1, (N, D)),
        "labels": rng.integers(0, K, N),
        "shares": shares / shares.sum(axis=1, keepdims=True),
        "yes_no": rng.integers(0, 2, (N, K)).astype(float),
        "numbers": rng.uniform(-1, 1, (N, K)),
        "weights": np.where(rng.uniform(size=N) < 0.2, 0, rng.uniform(0.2, 2, N)),
    }


def activate(layer, z):
    f = layer.get("activation", "ACTIVATION_RELU")
    if f == "ACTIVATION_IDENTITY":
        return z
    if f == "ACTIVATION_LEAKY_RELU":
        return torch.nn.functional.leaky_relu(z, layer.get("negativeSlope", 0.01))
    if f == "ACTIVATION_ELU":
        return torch.nn.functional.elu(z, layer.get("alpha", 1.0))
    return {"ACTIVATION_RELU": torch.relu, "ACTIVATION_GELU": torch.nn.functional.gelu,
            "ACTIVATION_SILU": torch.nn.functional.silu, "ACTIVATION_TANH": torch.tanh,
            "ACTIVATION_SIGMOID": torch.sigmoid,
            "ACTIVATION_SOFTPLUS": torch.nn.functional.softplus}[f](z)


def mean_loss(loss, z, wanted, weights):
    """PyTorch's mean or, with sample weights, the weighted mean of its row losses."""
    (kind, options), = loss.items()
    F = torch.nn.functional
    reduction = "mean" if weights is None else "none"
    class_weights = options.get("classWeights")
    w = None if class_weights is None else torch.tensor(class_weights)
    if kind == "softmaxCrossEntropy":
        out = F.cross_entropy(z, wanted, weight=w, reduction=reduction,
                              label_smoothing=options.get("labelSmoothing", 0.0))
        if weights is None:
            return out
        by_class = weights * w[wanted] if w is not None and wanted.dim() == 1 else weights
        return (weights * out).sum() / by_class.sum()
    if kind == "binaryCrossEntropy":
        p = options.get("posWeight")
        out = F.binary_cross_entropy_with_logits(
            z, wanted, weight=w, reduction=reduction,
            pos_weight=None if p is None else torch.tensor(p))
    elif kind == "meanSquaredError":
        out = F.mse_loss(z, wanted, reduction=reduction)
    elif kind == "meanAbsoluteError":
        out = F.l1_loss(z, wanted, reduction=reduction)
    else:
        out = F.huber_loss(z, wanted, reduction=reduction, delta=options.get("delta", 1.0))
    if weights is None:
        return out
    return (weights * out.mean(dim=1)).sum() / weights.sum()


def make_optimizer(message, parameters):
    kind = next(k for k in ("sgd", "adam", "adamw", "rmsprop", "adagrad") if k in message)
    o = message[kind]
    names = {"learningRate": "lr", "weightDecay": "weight_decay", "epsilon": "eps",
             "lrDecay": "lr_decay", "initialAccumulatorValue": "initial_accumulator_value"}
    arguments = {names.get(k, k): v for k, v in o.items() if k not in ("beta1", "beta2")}
    if kind in ("adam", "adamw"):
        arguments["betas"] = (o.get("beta1", 0.9), o.get("beta2", 0.999))
    make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW,
            "rmsprop": torch.optim.RMSprop, "adagrad": torch.optim.Adagrad}[kind]
    return make(parameters, **arguments)


def make_schedule(message, optimizer):
    """Returns the scheduler per step (or None) and the scheduler per epoch (or None)."""
    schedulers = torch.optim.lr_scheduler
    s = message.get("schedule", {})
    if "reduceOnPlateau" in s:
        p = s["reduceOnPlateau"]
        return None, schedulers.ReduceLROnPlateau(
            optimizer, factor=p.get("factor", 0.1), patience=p.get("patience", 10),
            threshold=p.get("threshold", 1e-4), cooldown=p.get("cooldown", 0),
            min_lr=p.get("minLearningRate", 0))
    rest = None
    if "step" in s:
        rest = schedulers.StepLR(optimizer, s["step"]["stepSize"], s["step"].get("gamma", 0.1))
    elif "exponential" in s:
        rest = schedulers.ExponentialLR(optimizer, s["exponential"]["gamma"])
    elif "cosine" in s:
        rest = schedulers.CosineAnnealingLR(optimizer, s["cosine"]["totalSteps"],
                                            s["cosine"].get("minLearningRate", 0.0))
    warmup = s.get("warmupSteps", 0)
    if warmup == 0:
        return rest, None
    if rest is None:
        rest = schedulers.ConstantLR(optimizer, 1.0, 1)
    first = schedulers.LinearLR(optimizer, s.get("warmupStartFactor", 1 / 3), 1.0, warmup)
    return schedulers.SequentialLR(optimizer, [first, rest], [warmup]), None


def check_stable(case, data):
    """A case is used only if PyTorch gives the same result when the last bit of the initial parameters
    changes, because the dynamics of adaptive optimisers can magnify rounding without bound."""
    moved = dict(case, initial=[np.nextafter(p, np.inf) for p in case["initial"]])
    trajectory(case, data)
    trajectory(moved, data)
    a, b = (np.frombuffer(base64.b64decode(c["final"]), "<f8") for c in (case, moved))
    case["moved"] = float(np.abs(a - b).max())
    return case


def trajectory(case, data):
    spec = case["spec"]
    x = torch.tensor(data["inputs"])
    standardization = spec.get("inputStandardization")
    if standardization is not None:
        fitted = "mean" not in standardization
        mean = x.mean(dim=0) if fitted else torch.tensor(standardization["mean"])
        std = x.std(dim=0, correction=0) if fitted else torch.tensor(standardization["std"])
        x = (x - mean) / std
    wanted = torch.tensor(data[case["wanted"]])
    weights = torch.tensor(data["weights"]) if case.get("weighted") else None
    parameters = [torch.tensor(p, requires_grad=True) for p in case["initial"]]
    message = spec["optimizer"]
    optimizer = make_optimizer(message, parameters)
    every_step, every_epoch = make_schedule(message, optimizer)
    size = case.get("batchSize", N)
    batches = [slice(i, min(i + size, N)) for i in range(0, N, size)]
    losses, epoch = {}, [0.0, 0.0]
    for i in range(STEPS):
        part = batches[i % len(batches)]
        a = x[part]
        for l, layer in enumerate(spec["layers"]):
            z = a @ parameters[2 * l] + parameters[2 * l + 1]
            a = activate(layer, z) if l + 1 < len(spec["layers"]) else z
        s = None if weights is None else weights[part]
        loss = mean_loss(spec["loss"], a, wanted[part], s)
        optimizer.zero_grad()
        penalty = message.get("l1", 0) * sum(p.abs().sum() for p in parameters)
        (loss + penalty).backward()
        if "clipNorm" in message:
            torch.nn.utils.clip_grad_norm_(parameters, message["clipNorm"])
        if "clipValue" in message:
            torch.nn.utils.clip_grad_value_(parameters, message["clipValue"])
        optimizer.step()
        if every_step is not None:
            every_step.step()
        count = len(a) if s is None else float(s.sum())
        epoch = [epoch[0] + loss.item() * count, epoch[1] + count]
        if (i + 1) % len(batches) == 0:
            if every_epoch is not None:
                every_epoch.step(epoch[0] / epoch[1])
            epoch = [0.0, 0.0]
        if i == 0 or (i + 1) % REPORT_EVERY == 0:
            losses[i + 1] = loss.item()
    final = np.concatenate([p.detach().numpy().ravel() for p in parameters])
    assert np.isfinite(final).all(), case["name"]
    case["losses"] = losses
    case["final"] = encode(final)


def encode(array):
    return base64.b64encode(np.asarray(array, "<f8").tobytes()).decode()


def cases(rng):
    def initial(hidden=(HIDDEN,)):
        sizes = [D, *hidden, K]
        out = []
        for inputs, units in zip(sizes, sizes[1:]):
            out.append(rng.uniform(-1, 1, (inputs, units)))
            out.append(rng.uniform(-0.5, 0.5, units))
        return out

    shared = initial()

    def case(name, activation="tanh", loss="squared", optimizer="sgd", loss_options=None,
             optimizer_options=None, message=None, hidden=1, **more):
        kind, options = OPTIMIZERS[optimizer]
        loss_message, wanted = LOSSES[loss]
        (loss_kind, plain), = loss_message.items()
        spec = {
            "inputSize": D,
            "layers": [{"units": HIDDEN, **ACTIVATIONS[activation]}] * hidden + [{"units": K}],
            "loss": {loss_kind: {**plain, **(loss_options or {})}},
            "optimizer": {kind: {**options, **(optimizer_options or {})}, **(message or {})},
            "dataType": "DATA_TYPE_FLOAT64",
        }
        if "standardization" in more:
            spec["inputStandardization"] = more.pop("standardization")
        return {"name": name, "spec": spec, "wanted": wanted,
                "initial": shared if hidden == 1 else initial((HIDDEN,) * hidden), **more}

    for loss in LOSSES:
        for activation in ACTIVATIONS:
            for optimizer in OPTIMIZERS:
                yield case(f"{optimizer} {activation} {loss}", activation, loss, optimizer)
    for optimizer in OPTIMIZERS:
        def vary(what, **kw):
            return case(f"{optimizer} {what}", optimizer=optimizer, **kw)
        yield vary("weight_decay", optimizer_options={"weightDecay": 0.05})
        yield vary("l1", message={"l1": 0.01}, loss="softmax_labels")
        yield vary("clip_norm", message={"clipNorm": 0.05})
        yield vary("clip_value", message={"clipValue": 0.02})
        yield vary("l1 and clip_norm and weight_decay", message={"l1": 0.005, "clipNorm": 0.1},
                   optimizer_options={"weightDecay": 0.01})
        yield vary("mini-batches", batchSize=5, loss="softmax_labels", activation="silu")
        yield vary("sample weights", weighted=True, loss="huber", activation="elu")
        yield vary("step", message={"schedule": {"step": {"stepSize": 130, "gamma": 0.5}}})
        yield vary("exponential", message={"schedule": {"exponential": {"gamma": 0.998}}})
        yield vary("cosine", message={"schedule": {"cosine": {"totalSteps": 400,
                                                              "minLearningRate": 0.00002}}})
        yield vary("warm-up", message={"schedule": {"warmupSteps": 50}})
        yield vary("warm-up and step", message={"schedule": {
            "warmupSteps": 40, "warmupStartFactor": 0.1, "step": {"stepSize": 200}}})
        yield vary("warm-up and exponential", message={"schedule": {
            "warmupSteps": 70, "exponential": {"gamma": 0.999}}})
        yield vary("warm-up and cosine", message={"schedule": {
            "warmupSteps": 100, "warmupStartFactor": 0.25, "cosine": {"totalSteps": 900}}})
        yield vary("reduce_on_plateau", loss="absolute", batchSize=6, message={"schedule": {
            "reduceOnPlateau": {"factor": 0.5, "patience": 3, "threshold": 0.01, "cooldown": 2,
                                "minLearningRate": 0.00001}}})
        yield vary("two hidden layers", hidden=2, activation="gelu", loss="binary")
    for weighted in (False, True):
        def weigh(what, **kw):
            suffix = ", sample weights" if weighted else ""
            return case(f"{what}{suffix}", weighted=weighted, optimizer="adam", **kw)
        weights = {"classWeights": [0.3, 2.0, 1.1]}
        smooth = {"labelSmoothing": 0.2}
        for loss in ("softmax_labels", "softmax_targets"):
            yield weigh(f"{loss} class_weights", loss=loss, loss_options=weights)
            yield weigh(f"{loss} label_smoothing", loss=loss, loss_options=smooth)
            yield weigh(f"{loss} both", loss=loss, loss_options={**weights, **smooth})
            yield weigh(f"{loss} both, mini-batches", loss=loss, batchSize=5,
                        loss_options={**weights, **smooth})
        yield weigh("binary pos_weight", loss="binary", loss_options={"posWeight": [0.5, 2, 3]})
        yield weigh("binary class_weights", loss="binary", loss_options=weights)
        yield weigh("binary both", loss="binary",
                    loss_options={"posWeight": [0.5, 2, 3], **weights})
        for loss in ("softmax_labels", "binary", "squared", "absolute"):
            yield weigh(f"{loss} plain", loss=loss)
    yield case("rmsprop centered", optimizer="rmsprop", optimizer_options={"centered": True})
    yield case("rmsprop momentum", optimizer="rmsprop", optimizer_options={"momentum": 0.7, "learningRate": 0.00002})
    yield case("rmsprop everything", optimizer="rmsprop",
               optimizer_options={"learningRate": 0.00005, "momentum": 0.5, "centered": True, "alpha": 0.95,
                                  "epsilon": 1e-4, "weightDecay": 0.01})
    yield case("adagrad lr_decay", optimizer="adagrad", optimizer_options={"lrDecay": 0.01})
    yield case("adagrad initial_accumulator_value", optimizer="adagrad",
               optimizer_options={"initialAccumulatorValue": 0.3, "epsilon": 1e-3})
    yield case("adam betas", optimizer="adam",
               optimizer_options={"beta1": 0.7, "beta2": 0.99, "epsilon": 1e-5})
    yield case("standardised by a given mean and std", optimizer="adam",
               standardization={"mean": [0.1, -0.2, 0.3], "std": [0.5, 2.0, 1.5]})
    yield case("standardised by what the run fits", optimizer="momentum", standardization={})


def metrics(rng):
    """Returns logits with scikit-learn's metrics."""
    def average(prefix, y, predicted, **kw):
        p, r, f, _ = skm.precision_recall_fscore_support(y, predicted, average=prefix,
                                                         zero_division=0, **kw)
        return {"precision": p, "recall": r, "f1": f}

    def softmax(z):
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    def per_class(y, predicted, labels, **kw):
        p, r, f, s = skm.precision_recall_fscore_support(y, predicted, labels=labels,
                                                         zero_division=0, **kw)
        return [{"precision": a, "recall": b, "f1": c, "support": d} for a, b, c, d in
                zip(p, r, f, s)]

    for weighted in (False, True):
        for k, n, top_k in ((2, 60, 1), (3, 200, 2), (10, 500, 3)):
            # Ties are equal rows, because scores that differ only by rounding would be ranked by
            # it.
            z = rng.normal(size=(n, k)).round(5)
            z[:, 0] += 0.5
            z[::5] = z[1::5][:len(z[::5])]
            for scores in softmax(np.unique(z, axis=0)).T:
                assert np.diff(np.sort(scores)).min() > 1e-12
            y = rng.integers(0, k, n)
            w = np.where(rng.uniform(size=n) < 0.1, 0, rng.uniform(0.1, 3, n).round(3)) if weighted else None
            kw = {"sample_weight": w}
            p, predicted, labels = softmax(z), z.argmax(axis=1), list(range(k))
            expected = {
                "accuracy": skm.accuracy_score(y, predicted, **kw),
                "confusion": skm.confusion_matrix(y, predicted, labels=labels, **kw).ravel().tolist(),
                "classes": per_class(y, predicted, labels, **kw),
                "macro": average("macro", y, predicted, **kw),
                "weighted": average("weighted", y, predicted, **kw),
                "logLoss": skm.log_loss(y, p, labels=labels, **kw),
                "rocAuc": skm.roc_auc_score(y, p[:, 1], **kw) if k == 2 else
                np.mean([skm.roc_auc_score(y == c, p[:, c], **kw) for c in labels]),
            }
            if k > 2:
                expected["topKAccuracy"] = skm.top_k_accuracy_score(y, p, k=top_k, labels=labels, **kw)
                if not weighted:  # scikit-learn's one-against-rest does not support weights
                    own = skm.roc_auc_score(y, p, multi_class="ovr", average="macro")
                    assert abs(own - expected["rocAuc"]) < 1e-12
            yield {"loss": {"softmaxCrossEntropy": {}}, "outputs": k, "logits": z.tolist(),
                   "labels": y.tolist(), "weights": None if w is None else w.tolist(),
                   "topK": top_k, "classification": expected}
        n, k = 150, 4
        z = rng.normal(size=(n, k)).round(3)
        y = rng.integers(0, 2, (n, k))
        w = rng.uniform(0.1, 3, n).round(3) if weighted else None
        kw = {"sample_weight": w}
        predicted = (z > 0).astype(int)
        yield {"loss": {"binaryCrossEntropy": {}}, "outputs": k, "logits": z.tolist(),
               "targets": y.tolist(), "weights": None if w is None else w.tolist(), "topK": 2,
               "classification": {
                   "accuracy": skm.accuracy_score(y, predicted, **kw),
                   "classes": per_class(y, predicted, None, **kw),
                   "macro": average("macro", y, predicted, **kw),
                   "weighted": average("weighted", y, predicted, **kw),
                   "rocAuc": skm.roc_auc_score(y, z, average="macro", **kw)}}
        n = 80
        z = rng.normal(size=n).round(3)
        y = rng.integers(0, 2, n)
        w = rng.uniform(0.1, 3, n).round(3) if weighted else None
        kw = {"sample_weight": w}
        p = 1 / (1 + np.exp(-z))
        predicted = (z > 0).astype(int)
        yield {"loss": {"binaryCrossEntropy": {}}, "outputs": 1, "logits": z[:, None].tolist(),
               "labels": y.tolist(), "weights": None if w is None else w.tolist(), "topK": 2,
               "classification": {
                   "accuracy": skm.accuracy_score(y, predicted, **kw),
                   "confusion": skm.confusion_matrix(y, predicted, **kw).ravel().tolist(),
                   "classes": per_class(y, predicted, [0, 1], **kw),
                   "macro": average("macro", y, predicted, **kw),
                   "weighted": average("weighted", y, predicted, **kw),
                   "logLoss": skm.log_loss(y, p, **kw), "rocAuc": skm.roc_auc_score(y, p, **kw)}}
        n, k = 100, 3
        z = rng.normal(size=(n, k)).round(3)
        y = (z + rng.normal(size=(n, k))).round(3)
        if not weighted:  # with weights, scikit-learn's mean of equal numbers is not exact
            y[:, 2] = 1.5  # constant
        w = rng.uniform(0.1, 3, n).round(3) if weighted else None
        kw = {"sample_weight": w}
        yield {"loss": {"huber": {}}, "outputs": k, "logits": z.tolist(), "targets": y.tolist(),
               "weights": None if w is None else w.tolist(), "topK": 2,
               "regression": {
                   "meanSquaredError": skm.mean_squared_error(y, z, **kw),
                   "rootMeanSquaredError": skm.root_mean_squared_error(y, z, **kw),
                   "meanAbsoluteError": skm.mean_absolute_error(y, z, **kw),
                   "r2": skm.r2_score(y, z, **kw)}}


def make_trajectories():
    rng = np.random.default_rng(20)
    data = rows(rng)
    all_cases = list(cases(rng))
    with multiprocessing.Pool() as pool:
        all_cases = pool.map(functools.partial(check_stable, data=data), all_cases, chunksize=4)
    unstable = [f'{c["name"]} ({c["moved"]:.0e})' for c in all_cases if c["moved"] > STABLE]
    for c in all_cases:
        del c["moved"]
    if unstable:
        sys.exit(f"PyTorch does not agree with itself to {STABLE} on: {', '.join(unstable)}")
    initials = {}
    for case in all_cases:
        flat = encode(np.concatenate([np.ravel(p) for p in case["initial"]]))
        case["initial"] = initials.setdefault(flat, len(initials))
    write(HERE / "trajectories.json", {
        "made_by": f"tests/parity/generate.py with PyTorch {torch.__version__}, NumPy {np.__version__}",
        "steps": STEPS, "report_every": REPORT_EVERY,
        "rows": {k: v.tolist() for k, v in data.items()},
        "initial": list(initials), "cases": all_cases,
    })


def make_metrics():
    write(HERE / "metrics.json", {
        "made_by": f"tests/parity/generate.py with scikit-learn {sklearn.__version__}",
        "cases": list(metrics(np.random.default_rng(21)))})


def main():
    wanted = sys.argv[1:] or ["trajectories", "metrics"]
    if "trajectories" in wanted:
        make_trajectories()
    if "metrics" in wanted:
        make_metrics()


def write(path, content):
    """Writes compact JSON, one line per case, so that diffs are readable."""
    head = {k: v for k, v in content.items() if k != "cases"}
    text = json.dumps(head, separators=(",", ":"))[:-1] + ',"cases":[\n'
    text += ",\n".join(json.dumps(c, separators=(",", ":"), default=float)
                       for c in content["cases"])
    path.write_text(text + "\n]}\n")
    print(f"{path.name}: {len(content['cases'])} cases, {math.ceil(path.stat().st_size / 1024)} KB")


if __name__ == "__main__":
    main()
