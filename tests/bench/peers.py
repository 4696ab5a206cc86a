"""The work of the benchmarks in other frameworks, in process: one line of JSON for each figure,
{"name", "by", "value", "unit"}.

    peers.py [--quick] [--threads 1|2] [--peer NAME] [name…]

With two threads: the rows of two cores alone.
"""

import argparse
import json
import os
import statistics
import sys
import time

arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
arguments.add_argument("--quick", action="store_true", help="one short repetition: does it work?")
arguments.add_argument("--threads", type=int, default=1, choices=[1, 2])
arguments.add_argument("--peer", choices=["torch", "torch_compiled", "jax", "sklearn", "numpy", "onnx"])
arguments.add_argument("names", nargs="*", help="parts of the names of figures; default: all")
OPTIONS = arguments.parse_args()
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = str(OPTIONS.threads)
if OPTIONS.threads == 1:
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import numpy as np  # noqa: E402  (after the number of threads is set)

XOR_SIZES, MLP_SIZES = [2, 8, 2], [784, 256, 128, 10]
XOR = {f"xor_step_{n}": (n, XOR_SIZES) for n in (200, 32, 1)}
RUN, RUN_STEPS, RUN_READS = "train_xor_3000", 3000, 30  # the loss is read every RUN_READS steps
MLP = {f"mlp_{n}_{o}": (n, MLP_SIZES, o) for n in (32, 128, 1024) for o in ("sgd", "adam")}
if OPTIONS.threads == 2:
    XOR, RUN = {}, None
    MLP = {f"mlp_{n}_sgd_two_cores": (n, MLP_SIZES, "sgd") for n in (128, 1024)}


def wanted(name, peer):
    return name is not None and OPTIONS.peer in (None, peer) and (
        not OPTIONS.names or any(part in name for part in OPTIONS.names))


def seconds_of(work):
    """Median over rounds of about 0.2 s of the time of one call."""
    length, rounds = (0.01, 1) if OPTIONS.quick else (0.2, 7)
    calls = 1

    def measure():
        start = time.perf_counter()
        for _ in range(calls):
            work()
        return time.perf_counter() - start

    work()
    while measure() < length / 2:
        calls *= 2
    return statistics.median(measure() / calls for _ in range(rounds))


def report(name, by, seconds):
    by += ", two threads" if OPTIONS.threads == 2 else ""
    print(json.dumps({"name": name, "by": by, "value": seconds * 1e6, "unit": "us"}), flush=True)


def report_run(by, step):
    """A run of steps that return their loss, which is read as often as a run of backpropd reports."""
    steps = RUN_READS if OPTIONS.quick else RUN_STEPS

    def run():
        for i in range(steps):
            loss = step()
            if i % RUN_READS == 0:
                float(loss)
    run()
    times = []
    for _ in range(1 if OPTIONS.quick else 3):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    report(RUN, by, statistics.median(times))


def data(rows, sizes):
    rng = np.random.default_rng(1)
    return (rng.normal(size=(rows, sizes[0])).astype(np.float32),
            rng.integers(0, sizes[-1], rows))


def torch_peers():
    import torch
    torch.set_num_threads(OPTIONS.threads)

    def step_of(rows, sizes, optimizer):
        x, y = data(rows, sizes)
        x, y = torch.from_numpy(x), torch.from_numpy(y)
        layers = []
        for i, (d, u) in enumerate(zip(sizes, sizes[1:])):
            layers += [torch.nn.Linear(d, u)] + ([torch.nn.ReLU()] if i < len(sizes) - 2 else [])
        model = torch.nn.Sequential(*layers)
        kind = torch.optim.SGD if optimizer == "sgd" else torch.optim.Adam
        rule = kind(model.parameters(), lr=1e-3)
        loss_of = torch.nn.CrossEntropyLoss()

        def step():
            rule.zero_grad()
            loss = loss_of(model(x), y)
            loss.backward()
            rule.step()
            return loss.detach()
        return step

    for name, work in {**{k: (*v, "sgd") for k, v in XOR.items()}, **MLP}.items():
        if wanted(name, "torch"):
            report(name, "PyTorch eager", seconds_of(step_of(*work)))
        if wanted(name, "torch_compiled"):
            torch._dynamo.reset()
            try:
                step = torch.compile(step_of(*work))
                step()
            except Exception as error:  # prints the error instead of omitting the row
                print(f"PyTorch compiled does not compile {name}: {error}", file=sys.stderr)
                continue
            report(name, "PyTorch compiled", seconds_of(step))
    if wanted(RUN, "torch"):
        report_run("PyTorch eager", step_of(200, XOR_SIZES, "sgd"))


def jax_peers():
    import jax
    import jax.numpy as jnp

    def start(rows, sizes):
        x, y = data(rows, sizes)
        rng = np.random.default_rng(2)
        parameters = [(jnp.asarray(rng.normal(size=(d, u)).astype(np.float32) * (2 / d) ** 0.5),
                       jnp.zeros(u, jnp.float32)) for d, u in zip(sizes, sizes[1:])]
        return jnp.asarray(x), jnp.asarray(y), parameters

    def loss_of(parameters, x, y):
        for W, b in parameters[:-1]:
            x = jax.nn.relu(x @ W + b)
        W, b = parameters[-1]
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(x @ W + b), y[:, None], 1))

    def sgd(state, x, y):
        parameters, t, m, v = state
        grads = jax.grad(loss_of)(parameters, x, y)
        return (jax.tree.map(lambda p, g: p - 1e-3 * g, parameters, grads), t, m, v)

    def adam(state, x, y):
        parameters, t, m, v = state
        grads = jax.grad(loss_of)(parameters, x, y)
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, grads)
        step = 1e-3 / (1 - 0.9 ** t)
        root = jnp.sqrt(1 - 0.999 ** t)
        return (jax.tree.map(lambda p, m, v: p - step * m / (jnp.sqrt(v) / root + 1e-8),
                             parameters, m, v), t, m, v)

    for name, (rows, sizes, optimizer) in {**{k: (*v, "sgd") for k, v in XOR.items()}, **MLP}.items():
        if not wanted(name, "jax"):
            continue
        x, y, parameters = start(rows, sizes)
        update = adam if optimizer == "adam" else sgd

        def first_state():  # with its own arrays, because a step consumes its arguments
            copies = [jax.tree.map(jnp.copy, parameters)]
            copies += [jax.tree.map(jnp.zeros_like, parameters) for _ in range(2)]
            return copies[0], jnp.float32(0), copies[1], copies[2]

        compiled = jax.jit(update, donate_argnums=0)
        state = [first_state()]

        def step():
            state[0] = compiled(state[0], x, y)
            jax.block_until_ready(state[0])
        report(name, "JAX jit", seconds_of(step))
        many = 200 if rows < 1000 else 4
        scanned = jax.jit(lambda s, x, y: jax.lax.scan(
            lambda s, _: (update(s, x, y), None), s, None, length=many)[0], donate_argnums=0)
        state[0] = first_state()

        def scan():
            state[0] = scanned(state[0], x, y)
            jax.block_until_ready(state[0])
        report(name, "JAX scan", seconds_of(scan) / many)
    if wanted(RUN, "jax"):
        x, y, parameters = start(200, XOR_SIZES)

        @jax.jit
        def with_loss(p, x, y):
            loss, grads = jax.value_and_grad(loss_of)(p, x, y)
            return jax.tree.map(lambda p, g: p - 1e-3 * g, p, grads), loss

        def step():
            nonlocal parameters
            parameters, loss = with_loss(parameters, x, y)
            return loss
        report_run("JAX jit", step)


def sklearn_peers():
    import warnings

    from sklearn.neural_network import MLPClassifier
    warnings.simplefilter("ignore")
    for name, (rows, sizes) in XOR.items():
        if not wanted(name, "sklearn"):
            continue
        x, y = data(rows, sizes)
        model = MLPClassifier(sizes[1:-1], solver="sgd", momentum=0, alpha=0, batch_size=rows,
                              learning_rate_init=1e-3)
        model.partial_fit(x, y, classes=[0, 1])
        report(name, "scikit-learn partial_fit", seconds_of(lambda: model.partial_fit(x, y)))
    if wanted(RUN, "sklearn"):
        x, y = data(200, XOR_SIZES)
        model = MLPClassifier(XOR_SIZES[1:-1], solver="sgd", momentum=0, alpha=0, batch_size=200,
                              learning_rate_init=1e-3)
        model.partial_fit(x, y, classes=[0, 1])
        report_run("scikit-learn partial_fit", lambda: model.partial_fit(x, y).loss_)


def numpy_peers():
    def step_of(rows):
        x, y = data(rows, XOR_SIZES)
        rng = np.random.default_rng(2)
        W1, W2 = (rng.normal(size=s).astype(np.float32) for s in ((2, 8), (8, 2)))
        b1, b2 = np.zeros(8, np.float32), np.zeros(2, np.float32)
        at = np.arange(rows), y

        def step():
            nonlocal W1, b1, W2, b2
            z1 = x @ W1 + b1
            a1 = np.maximum(z1, 0)
            z2 = a1 @ W2 + b2
            e = np.exp(z2 - z2.max(1, keepdims=True))
            p = e / e.sum(1, keepdims=True)
            loss = -np.log(p[at]).mean()
            p[at] -= 1
            p /= rows
            dz1 = (p @ W2.T) * (z1 > 0)
            W2 = W2 - np.float32(1e-3) * (a1.T @ p)
            b2 = b2 - np.float32(1e-3) * p.sum(0)
            W1 = W1 - np.float32(1e-3) * (x.T @ dz1)
            b1 = b1 - np.float32(1e-3) * dz1.sum(0)
            return loss
        return step

    for name, (rows, _) in XOR.items():
        if wanted(name, "numpy"):
            report(name, "NumPy", seconds_of(step_of(rows)))
    if wanted(RUN, "numpy"):
        report_run("NumPy", step_of(200))


def onnx_peers():
    names = {"predict_10000_xor": XOR_SIZES, "predict_10000_mlp": MLP_SIZES}
    if OPTIONS.threads == 2 or not any(wanted(name, "onnx") for name in names):
        return
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    for name, sizes in names.items():
        if not wanted(name, "onnx"):
            continue
        rng = np.random.default_rng(2)
        nodes, weights, value = [], [], "x"
        for i, (d, u) in enumerate(zip(sizes, sizes[1:])):
            W = rng.normal(size=(d, u)).astype(np.float32) * np.float32((2 / d) ** 0.5)
            weights += [numpy_helper.from_array(W, f"W{i}"),
                        numpy_helper.from_array(np.zeros(u, np.float32), f"b{i}")]
            nodes.append(helper.make_node("Gemm", [value, f"W{i}", f"b{i}"], [f"z{i}"]))
            last = i == len(sizes) - 2
            nodes.append(helper.make_node("Softmax" if last else "Relu", [f"z{i}"], [f"a{i}"]))
            value = f"a{i}"
        float32 = TensorProto.FLOAT
        graph = helper.make_graph(
            nodes, "mlp", [helper.make_tensor_value_info("x", float32, [None, sizes[0]])],
            [helper.make_tensor_value_info(value, float32, [None, sizes[-1]])], weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(model.SerializeToString(), options,
                                               providers=["CPUExecutionProvider"])
        x, _ = data(100 if OPTIONS.quick else 10_000, sizes)
        report(name, "ONNX Runtime", seconds_of(lambda: session.run(None, {"x": x})))


torch_peers()
jax_peers()
sklearn_peers()
numpy_peers()
onnx_peers()
