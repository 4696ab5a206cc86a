"""Exports scikit-learn's datasets and the results of its MLPs on them; real_data_test.py trains the same
networks through the service. scripts/parity-fixtures runs it."""

import gzip
import io
import json
import pathlib
import warnings

import numpy as np
import sklearn
from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

HERE = pathlib.Path(__file__).resolve().parent
SEEDS = range(20)
# Both train one hidden layer with Adam, mini-batches of 32, no penalty, for this number of epochs.
PLANS = {
    "iris": {"hidden": 32, "epochs": 100, "learning_rate": 0.005, "activation": "tanh"},
    "wine": {"hidden": 32, "epochs": 50, "learning_rate": 0.005, "activation": "relu"},
    "breast_cancer": {"hidden": 32, "epochs": 30, "learning_rate": 0.002, "activation": "relu"},
    "digits": {"hidden": 64, "epochs": 40, "learning_rate": 0.002, "activation": "relu"},
    "diabetes": {"hidden": 16, "epochs": 40, "learning_rate": 0.002, "activation": "relu"},
}
BATCH_SIZE = 32


def export(name, X, y):
    text = io.StringIO()
    for row, wanted in zip(X, y):
        text.write(",".join(repr(float(v)).removesuffix(".0") for v in row) + f",{wanted:g}\n")
    with open(HERE / f"{name}.csv.gz", "wb") as file, \
            gzip.GzipFile(fileobj=file, mode="wb", mtime=0, filename="") as packed:
        packed.write(text.getvalue().encode())


def main():
    warnings.simplefilter("ignore", ConvergenceWarning)
    out = {"made_by": f"tests/real_data/generate.py with scikit-learn {sklearn.__version__}",
           "batch_size": BATCH_SIZE, "sets": {}}
    for name, plan in PLANS.items():
        options = {"scaled": False} if name == "diabetes" else {}
        X, y = getattr(datasets, f"load_{name}")(return_X_y=True, **options)
        regression = name == "diabetes"
        export(name, X, y)
        tests, scores = [], []
        for seed in SEEDS:
            train, test = train_test_split(np.arange(len(y)), test_size=0.25, random_state=seed,
                                           stratify=None if regression else y)
            scaler = StandardScaler().fit(X[train])
            wanted = y.astype(float)
            if regression:
                wanted = (wanted - wanted[train].mean()) / wanted[train].std()
            make = MLPRegressor if regression else MLPClassifier
            model = make(hidden_layer_sizes=(plan["hidden"],), activation=plan["activation"], alpha=0,
                         batch_size=BATCH_SIZE,
                         learning_rate_init=plan["learning_rate"], max_iter=plan["epochs"],
                         n_iter_no_change=plan["epochs"] + 1, random_state=seed)
            model.fit(scaler.transform(X[train]), wanted[train] if regression else y[train])
            scores.append(model.score(scaler.transform(X[test]),
                                      wanted[test] if regression else y[test]))
            tests.append(sorted(int(i) for i in test))
        out["sets"][name] = {**plan, "regression": regression, "classes": 0 if regression else
                             int(y.max()) + 1, "test_rows": tests, "scikit_learn": scores}
        print(f"{name}: {np.mean(scores):.4f} {[round(s, 4) for s in scores]}")
    (HERE / "expected.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
