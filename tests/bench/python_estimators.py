"""Times the fit of the estimators of client/python beside those of scikit-learn: one line of JSON
for each figure, {"name", "by", "value", "unit"}.

    python_estimators.py [--quick] [name…]

The same data and parameters; every epoch is made (no early end), so that both do the same work. Ours
is the whole call, with its server on the other side of a Unix socket. Needs the package backprop.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import time
import warnings

arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
arguments.add_argument("--quick", action="store_true", help="one short repetition: does it work?")
arguments.add_argument("names", nargs="*", help="parts of the names of figures; default: all")
OPTIONS = arguments.parse_args()
ROOT = pathlib.Path(__file__).resolve().parents[2]
os.environ.setdefault("BACKPROPD", str(ROOT / "build/release/bin/backpropd"))

NAMES = ("iris", "digits", "50000x20")
if OPTIONS.names and not any(part in f"sklearn_fit_{name}_{precision}" for part in OPTIONS.names
                             for name in NAMES for precision in ("float32", "float64")):
    sys.exit(0)

import numpy as np  # noqa: E402
from sklearn.datasets import load_digits, load_iris, make_classification  # noqa: E402
from sklearn.neural_network import MLPClassifier as Theirs  # noqa: E402

from backprop.sklearn import MLPClassifier as Ours  # noqa: E402

warnings.simplefilter("ignore")


def data(name):
    if name == "50000x20":
        return make_classification(50_000, 20, n_informative=10, random_state=0)
    return (load_iris if name == "iris" else load_digits)(return_X_y=True)


def seconds_of(estimator, x, y):
    estimator.fit(x, y)  # starts the server, and warms up
    times = []
    for _ in range(1 if OPTIONS.quick else 5):
        start = time.perf_counter()
        estimator.fit(x, y)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


for name in NAMES:
    for precision in ("float32", "float64"):
        row = f"sklearn_fit_{name}_{precision}"
        if OPTIONS.names and not any(part in row for part in OPTIONS.names):
            continue
        x, y = data(name)
        x = ((x - x.mean(0)) / (x.std(0) + 1e-9)).astype(getattr(np, precision))
        epochs = {"50000x20": 2 if OPTIONS.quick else 10}.get(name, 20 if OPTIONS.quick else 200)
        fixed = {"max_iter": epochs, "tol": 0.0, "n_iter_no_change": 10**6, "random_state": 0}
        for by, estimator in (("", Ours(**fixed)), ("scikit-learn", Theirs(**fixed))):
            print(json.dumps({"name": row, "by": by, "unit": "us",
                              "value": seconds_of(estimator, x, y) * 1e6}), flush=True)
