"""What other frameworks make of the benchmarks' work, in process on one thread: one line of JSON for
each figure, {"name", "peer", "value", "unit"}.

    peers.py [--quick] [--threads N] [--peer NAME] [name…]
"""

import argparse
import json
import os
import statistics
import sys
import time

arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
arguments.add_argument("--quick", action="store_true", help="one short repetition: does it work?")
arguments.add_argument("--threads", type=int, default=1)
arguments.add_argument("--peer", choices=["torch", "torch_compiled", "jax", "sklearn", "numpy"])
arguments.add_argument("names", nargs="*", help="parts of the names of figures; default: all")
OPTIONS = arguments.parse_args()
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = str(OPTIONS.threads)
if OPTIONS.threads == 1:
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import numpy as np  # noqa: E402  (after the number of threads is set)

XOR = {f"xor_step_{n}": (n, [2, 8, 2]) for n in (200, 32, 1)}
MLP = {f"mlp_{n}_{o}": (n, [784, 256, 128, 10], o) for n in (32, 128, 1024) for o in ("sgd", "adam")}


def wanted(name, peer):
    return (OPTIONS.peer in (None, peer)) and (
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


def report(name, peer, seconds):
    print(json.dumps({"name": name, "peer": peer, "value": seconds * 1e6, "unit": "us"}), flush=True)


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
            loss_of(model(x), y).backward()
            rule.step()
        return step

    for name, work in {**{k: (*v, "sgd") for k, v in XOR.items()}, **MLP}.items():
        if wanted(name, "torch"):
            report(name, "PyTorch eager", seconds_of(step_of(*work)))
        if wanted(name, "torch_compiled"):
            try:
                step = torch.compile(step_of(*work))
                step()
            except Exception as error:  # says so instead of leaving the row out
                print(f"PyTorch compiled does not compile {name}: {error}", file=sys.stderr)
                continue
            report(name, "PyTorch compiled", seconds_of(step))


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
        zeros = jax.tree.map(jnp.zeros_like, parameters)
        update = adam if optimizer == "adam" else sgd
        state = [(parameters, jnp.float32(0), zeros, zeros)]
        compiled = jax.jit(update, donate_argnums=0)

        def step():
            state[0] = compiled(state[0], x, y)
            jax.block_until_ready(state[0])
        report(name, "JAX jit", seconds_of(step))
        many = 200 if rows < 1000 else 4
        scanned = jax.jit(lambda s, x, y: jax.lax.scan(
            lambda s, _: (update(s, x, y), None), s, None, length=many)[0], donate_argnums=0)
        x, y, parameters = start(rows, sizes)
        state[0] = (parameters, jnp.float32(0), zeros, jax.tree.map(jnp.zeros_like, zeros))

        def scan():
            state[0] = scanned(state[0], x, y)
            jax.block_until_ready(state[0])
        state[0] = jax.tree.map(jnp.copy, (parameters, jnp.float32(0), jax.tree.map(jnp.zeros_like, parameters),
                                           jax.tree.map(jnp.zeros_like, parameters)))
        report(name, "JAX scan", seconds_of(scan) / many)


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


def numpy_peers():
    for name, (rows, sizes) in XOR.items():
        if not wanted(name, "numpy"):
            continue
        x, y = data(rows, sizes)
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
        report(name, "NumPy", seconds_of(step))


torch_peers()
jax_peers()
sklearn_peers()
numpy_peers()
