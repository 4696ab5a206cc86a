"""The estimators: scikit-learn's own checks, and what they cannot see."""

import os
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from conftest import xor

pytest.importorskip("sklearn", "1.6")

from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris, make_regression
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.neural_network import MLPRegressor as TheirRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import backprop
from backprop import _shared
from backprop.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@parametrize_with_checks([MLPClassifier(), MLPRegressor()])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("data", [load_iris, load_digits])
def test_it_learns_as_well_as_scikit_learns_own(data):
    x, y = data(return_X_y=True)
    x = StandardScaler().fit_transform(x)
    x = x[:600]
    y = y[:600]
    fixed = {"random_state": 1, "max_iter": 40, "learning_rate_init": 0.01}
    theirs = cross_val_score(TheirClassifier(**fixed), x, y, cv=3).mean()
    for precision in ("float32", "float64"):
        ours = cross_val_score(MLPClassifier(precision=precision, **fixed), x, y, cv=3).mean()
        assert ours > theirs - 0.03


@pytest.mark.parametrize(("solver", "tolerance"), [("sgd", 1e-9), ("adam", 1e-6)])
@pytest.mark.parametrize("outputs", [1, 2])
def test_updates_are_scikit_learns(solver, tolerance, outputs):
    """From the same parameters, full batches give the same trajectory."""
    x, y = make_regression(60, 4, n_targets=outputs, random_state=0)
    y = y / 50
    fixed = {"hidden_layer_sizes": (5,), "solver": solver, "alpha": 0.0, "tol": 0.0,
             "n_iter_no_change": 1000, "random_state": 0, "batch_size": 60, "shuffle": False,
             "activation": "tanh"}
    ours = MLPRegressor(**fixed, max_iter=1).fit(x, y)
    theirs = TheirRegressor(**fixed, max_iter=1).fit(x, y)
    held = ours._held()
    theirs.coefs_ = [w.copy() for w in ours.coefs_]
    theirs.intercepts_ = [b.copy() for b in ours.intercepts_]
    # Both optimisers begin anew, from these parameters.
    held.client.set_parameters(held.name, held.client.get_parameters(
        held.name, with_optimizer_state=False).tensors)
    theirs.set_params(warm_start=True, max_iter=20)
    ours.set_params(warm_start=True, max_iter=20)
    theirs._optimizer = None
    theirs.fit(x, y)
    ours.fit(x, y)
    np.testing.assert_allclose(ours.predict(x), theirs.predict(x), rtol=0, atol=tolerance)


def test_binary_multiclass_and_multilabel():
    x, y = xor()
    binary = MLPClassifier((16,), learning_rate_init=0.05, random_state=0).fit(x, y)
    assert binary.score(x, y) > 0.9 and binary.predict_proba(x).shape == (200, 2)
    assert [w.shape for w in binary.coefs_] == [(2, 16), (16, 1)]
    many = np.column_stack([y, 1 - y, x[:, 0] > 0]).astype(int)
    labels = MLPClassifier((16,), learning_rate_init=0.05, random_state=0).fit(x, many)
    assert (labels.predict(x) == many).mean() > 0.9
    assert labels.predict_proba(x).shape == (200, 3)


def test_the_same_seed_gives_the_same_model():
    x, y = load_iris(return_X_y=True)
    one, two, other = (MLPClassifier(random_state=s, max_iter=20).fit(x, y) for s in (1, 1, 2))
    np.testing.assert_array_equal(one.predict_proba(x), two.predict_proba(x))
    assert not np.array_equal(one.predict_proba(x), other.predict_proba(x))


def test_curves_and_early_stopping():
    x, y = load_digits(return_X_y=True)
    x = x / 16
    fitted = MLPClassifier(max_iter=50, early_stopping=True, n_iter_no_change=3,
                           learning_rate_init=0.01, random_state=0).fit(x, y)
    assert len(fitted.loss_curve_) == fitted.n_iter_ == len(fitted.validation_scores_)
    assert fitted.n_iter_ < 50 and fitted.loss_curve_[-1] < fitted.loss_curve_[0] / 2
    assert fitted.best_validation_score_ > 0.9
    with pytest.warns(ConvergenceWarning):
        short = MLPClassifier(max_iter=150, tol=-1, random_state=0).fit(x[:300], y[:300])
    assert len(short.loss_curve_) == short.n_iter_ == 150
    assert np.isfinite(short.loss_curve_).all()


def test_warm_start_and_partial_fit_continue():
    x, y = load_iris(return_X_y=True)
    warm = MLPClassifier(max_iter=5, warm_start=True, random_state=0).fit(x, y)
    first = warm.loss_curve_[0]
    warm.fit(x, y)
    assert warm.loss_curve_[0] < first
    part = MLPClassifier(random_state=0)
    for _ in range(5):
        part.partial_fit(x, y, classes=[0, 1, 2])
    assert part.n_iter_ == 5 and part.loss_curve_[4] < part.loss_curve_[0]
    with pytest.raises(ValueError, match="classes must be passed"):
        MLPClassifier().partial_fit(x, y)


def test_weights():
    x, y = xor()
    weight = np.where(y == 0, 0.0, 1.0)
    kept = MLPClassifier(max_iter=50, random_state=0).fit(x, y, sample_weight=weight)
    assert (kept.predict(x) == 1).all()
    by_class = MLPClassifier(max_iter=50, random_state=0, class_weight={0: 0.0, 1: 1.0}).fit(x, y)
    np.testing.assert_allclose(by_class.predict_proba(x), kept.predict_proba(x))


def test_a_pickle_carries_the_model_to_another_server():
    x, y = load_iris(return_X_y=True)
    fitted = MLPClassifier(max_iter=20, random_state=0).fit(x, y)
    content = pickle.dumps(fitted)
    script = ("import os, pickle, sys; sys.path[:0] = eval(sys.argv[1]); "
              "e = pickle.loads(sys.stdin.buffer.read()); "
              "from sklearn.datasets import load_iris; "
              "sys.stdout.write(repr(e.predict_proba(load_iris().data).tolist()))")
    environment = {k: v for k, v in os.environ.items() if k != _shared.SHARED}
    run = subprocess.run([sys.executable, "-c", script, repr(sys.path)], input=content,
                         capture_output=True, env=environment, check=True)
    assert eval(run.stdout) == fitted.predict_proba(x).tolist()
    again = pickle.loads(content)
    _shared._server.close()  # the server dies: the bytes are in the estimator
    np.testing.assert_array_equal(again.predict(x), pickle.loads(content).predict(x))


def test_a_parallel_search_has_one_server():
    x, y = load_iris(return_X_y=True)
    before = _shared.client().server_status()
    pid = _shared._server.pid
    search = GridSearchCV(
        make_pipeline(StandardScaler(), MLPClassifier(max_iter=30, random_state=0)),
        {"mlpclassifier__hidden_layer_sizes": [(8,), (16,)],
         "mlpclassifier__learning_rate_init": [0.001, 0.02]}, cv=3, n_jobs=2)
    search.fit(x, y)
    assert search.best_score_ > 0.9
    after = _shared.client().server_status()
    assert _shared._server.pid == pid and after.start_time == before.start_time

    def created(status):
        return sum(float(line.rsplit(" ", 1)[1]) for line in status.metrics.splitlines()
                   if line.startswith('backprop_requests_total{method="CreateModel"'))

    assert created(after) - created(before) >= 4 * 3 + 1  # the workers used this server


def test_freed_models_are_deleted():
    x, y = load_iris(return_X_y=True)
    client = _shared.client()
    before = len(list(client.list_models()))
    for seed in range(5):
        MLPClassifier(max_iter=2, random_state=seed).fit(x, y)
    assert len(list(_shared.client().list_models())) <= before + 1


def test_names_of_pandas_reach_the_model():
    pandas = pytest.importorskip("pandas")
    iris = load_iris(as_frame=True)
    names = pandas.Series(iris.target_names[iris.target]).astype("category")
    fitted = MLPClassifier(max_iter=5).fit(iris.data, names)
    held = fitted._held()
    made = held.client.get_model(held.name).spec
    assert made.feature_names == tuple(iris.data.columns)
    assert made.class_names == ("setosa", "versicolor", "virginica")
    assert set(fitted.predict(iris.data)) <= set(iris.target_names)


def test_exported_bytes_serve_predictions():
    x, y = load_iris(return_X_y=True)
    fitted = MLPClassifier(max_iter=20).fit(x, y)
    with backprop.serve() as client:
        model = client.import_model(fitted.export_model())
        np.testing.assert_array_equal(client.predict(model, x).probabilities,
                                      fitted.predict_proba(x))


def test_wrong_parameters_are_named():
    x, y = load_iris(return_X_y=True)
    for name, value in {"solver": "lbfgs", "activation": "cube", "alpha": -1, "max_iter": 0,
                        "batch_size": 0, "learning_rate": "invscaling", "precision": "half",
                        "hidden_layer_sizes": (0,), "learning_rate_init": 0}.items():
        with pytest.raises(ValueError, match=name):
            MLPClassifier(**{name: value}).fit(x, y)
    with pytest.raises(NotFittedError):
        clone(MLPClassifier()).predict(x)


def test_verbose_shows_progress(capfd):
    x, y = load_iris(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        MLPClassifier(max_iter=5, verbose=True).fit(x, y)
    assert "completed after 5 iterations" in capfd.readouterr().err
