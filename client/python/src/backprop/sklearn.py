"""Estimators with the interface of scikit-learn, trained by backpropd.

    from backprop.sklearn import MLPClassifier

    MLPClassifier(hidden_layer_sizes=(32,), max_iter=300).fit(x, y).score(x, y)

Parameters that scikit-learn's MLPClassifier and MLPRegressor have mean the same here, except:

- alpha penalises weights and biases.
- early_stopping compares the validation loss, not the score, and restores the best epoch.
- loss_curve_ holds the loss of the last batch of each epoch, without the penalty. It is the same
  as scikit-learn's if a batch holds all rows. Epochs whose report the server dropped, because they
  were faster than they could be read, are interpolated.
- warm_start continues with the state of the optimiser; scikit-learn begins a new one.
- learning_rate is "constant" or "adaptive"; solver has no "lbfgs", and has adamw, rmsprop, adagrad.

The estimators of a process, and of the worker processes that it starts, share one server, which
starts with the first fit and ends with the process. $BACKPROP_ADDRESS, or the parameter server,
names another one.
"""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Optional, Union

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state, compute_class_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from backprop import _shared
from backprop._ops import EarlyStopping
from backprop.client import Client
from backprop.progress import show
from backprop.results import Progress
from backprop.spec import (
    Adagrad,
    Adam,
    AdamW,
    BinaryCrossEntropy,
    Layer,
    MeanSquaredError,
    ModelSpec,
    ReduceOnPlateauSchedule,
    RmsProp,
    Sgd,
    SoftmaxCrossEntropy,
)
from backprop.tensors import Batch

__all__ = ["MLPClassifier", "MLPRegressor"]

ACTIVATIONS = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu",
               "leaky_relu": "leaky_relu", "elu": "elu", "gelu": "gelu", "silu": "silu",
               "softplus": "softplus"}
SOLVERS = ("adam", "sgd", "adamw", "rmsprop", "adagrad")
MAX_NAME_BYTES = 255


class _Held:
    """A model in a server, for as long as an estimator needs it."""

    def __init__(self, target: str, name: str) -> None:
        self.target = target
        self.name = name
        self.pid = os.getpid()
        # No exit hook: the models of a process that ends are deleted by _shared.
        weakref.finalize(self, _shared.discard, self.pid, target, name)

    @property
    def client(self) -> Client:
        return _shared.client(self.target)


def _names(values: Any) -> tuple[str, ...]:
    """Names that the server takes, or none."""
    names = tuple(str(value) for value in values)
    fits = all(0 < len(name.encode()) <= MAX_NAME_BYTES for name in names)
    return names if fits and len(set(names)) == len(names) else ()


class _Base(BaseEstimator):  # type: ignore[misc]
    """What both estimators share. The state of a fitted one: _spec, and _model or _bytes."""

    def __init__(self, hidden_layer_sizes: Any, activation: str, solver: str, alpha: float,
                 batch_size: Union[int, str], learning_rate: str, learning_rate_init: float,
                 max_iter: int, shuffle: bool, random_state: Any, tol: float, verbose: Any,
                 warm_start: bool, momentum: float, nesterovs_momentum: bool,
                 early_stopping: bool, validation_fraction: float, beta_1: float, beta_2: float,
                 epsilon: float, n_iter_no_change: int, precision: str,
                 server: Optional[str]) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.precision = precision
        self.server = server

    n_iter_: int
    t_: int
    loss_curve_: list[float]
    _shape: tuple[int, tuple[int, ...], int]
    # How many times scikit-learn's loss is larger than the server's, if the gradient's is another.
    _curve_scale: Optional[float] = None

    # Parameters.

    def _hidden(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        if isinstance(sizes, Integral):
            return [int(sizes)]
        return [int(size) for size in np.asarray(sizes).ravel()]

    def _check_parameters(self) -> None:
        def check(name: str, fits: bool, expected: str) -> None:
            if not fits:
                raise ValueError(f"{name} must be {expected}, got {getattr(self, name)!r}")

        def number(name: str, low: float, high: float = np.inf, open_low: bool = False) -> None:
            fits = False
            if isinstance(getattr(self, name), Real):
                value = float(getattr(self, name))
                fits = (low < value if open_low else low <= value) and value <= high
            check(name, fits, f"a number {'above' if open_low else 'of at least'} {low}"
                  + (f" and at most {high}" if high < np.inf else ""))

        check("hidden_layer_sizes", all(size > 0 for size in self._hidden()), "sizes above 0")
        check("activation", self.activation in ACTIVATIONS, f"one of {', '.join(ACTIVATIONS)}")
        check("solver", self.solver in SOLVERS, f"one of {', '.join(SOLVERS)}")
        check("learning_rate", self.learning_rate in ("constant", "adaptive"),
              "'constant' or 'adaptive'")
        check("precision", self.precision in ("auto", "float32", "float64"),
              "'auto', 'float32' or 'float64'")
        check("batch_size", self.batch_size == "auto"
              or (isinstance(self.batch_size, Integral) and self.batch_size > 0),
              "'auto' or a whole number above 0")
        for name, low, high, open_low in (
                ("alpha", 0, np.inf, False), ("learning_rate_init", 0, np.inf, True),
                ("max_iter", 1, np.inf, False), ("momentum", 0, 1, False),
                ("beta_1", 0, 1, False), ("beta_2", 0, 1, False), ("epsilon", 0, np.inf, True),
                ("n_iter_no_change", 1, np.inf, False), ("validation_fraction", 0, 1, False)):
            number(name, low, high, open_low)

    def _rows_of_batch(self, rows: int) -> int:
        if self.batch_size == "auto":
            return min(200, rows)
        if int(self.batch_size) > rows:
            warnings.warn(f"batch_size is {self.batch_size}, but there are {rows} rows",
                          stacklevel=3)
        return min(int(self.batch_size), rows)

    def _make_spec(self, x: Any, outputs: int, loss: Any, loss_scale: float,
                   batch_weight: float, seed: int, classes: Any) -> ModelSpec:
        """loss_scale: how many times scikit-learn's loss is larger than the server's.

        Scaling the penalty down and the steps of plain descent up gives scikit-learn's updates.
        """
        decay = self.alpha / batch_weight / loss_scale
        rate = self.learning_rate_init
        optimizers: dict[str, Any] = {
            "adam": lambda: Adam(rate, self.beta_1, self.beta_2, self.epsilon, decay),
            "adamw": lambda: AdamW(rate, self.beta_1, self.beta_2, self.epsilon, self.alpha),
            "rmsprop": lambda: RmsProp(rate, self.beta_2, self.epsilon, weight_decay=decay),
            "adagrad": lambda: Adagrad(rate, epsilon=self.epsilon, weight_decay=decay),
            "sgd": lambda: Sgd(rate * loss_scale, self.momentum,
                               bool(self.nesterovs_momentum and self.momentum > 0), decay),
        }
        schedule = None
        if self.learning_rate == "adaptive" and self.solver == "sgd":
            schedule = ReduceOnPlateauSchedule(factor=0.2, patience=self.n_iter_no_change,
                                               threshold=0.0)
        activation = ACTIVATIONS[self.activation]
        layers = [Layer(size, activation, "xavier_uniform") for size in self._hidden()]
        layers.append(Layer(outputs, "identity", "xavier_uniform"))
        return ModelSpec(
            x.shape[1], layers, loss, optimizers[self.solver](), seed,
            "float64" if x.dtype == np.float64 else "float32",
            _names(classes) if classes is not None else (),
            _names(getattr(self, "feature_names_in_", ())), schedule=schedule)

    # The model.

    def _target(self) -> str:
        target = self.server or _shared.address()
        assert target is not None
        return target

    def _create(self, spec: ModelSpec) -> None:
        target = self._target()
        model = _shared.client(target).create_model(spec)
        self._spec = spec
        self._bytes: Optional[bytes] = None
        self._model: Optional[_Held] = _Held(target, model.name)

    def _held(self) -> _Held:
        """The model in the server; one that travelled as bytes is imported."""
        check_is_fitted(self, "n_iter_")
        if self._model is None:
            with _import_lock:
                if self._model is None:
                    target = self._target()
                    model = _shared.client(target).import_model(self._bytes or b"")
                    self._model = _Held(target, model.name)
        return self._model

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        held = state.pop("_model", None)
        if held is not None:
            state["_bytes"] = held.client.export_model(held.name)
        # Workers of a parallel search get estimators that are not fitted, and share this server.
        if self.server is None:
            state["_shared_server"] = _shared.address(start=held is None and "_spec" not in state)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        known = state.pop("_shared_server", None)
        super().__setstate__(state)
        _shared.adopt(known)
        if "_spec" in state:
            self._model = None

    def _fit_run(self, batch: Batch, epochs: int, rows_of_batch: int, early_stopping: bool,
                 scale: float) -> None:
        """Trains the model for some epochs and keeps the curves."""
        held = self._held() if hasattr(self, "n_iter_") else self._model
        assert held is not None
        rows = len(batch)
        options: dict[str, Any] = {}
        if early_stopping:
            options["validation_split"] = float(self.validation_fraction)
            options["stratify"] = batch.labels is not None
            rows -= int(np.ceil(self.validation_fraction * rows))
            if rows < 1:
                raise ValueError(
                    f"The number of rows is too small: validation_fraction="
                    f"{self.validation_fraction} leaves none for training")
        patient = self.learning_rate != "adaptive" or self.solver != "sgd" or early_stopping
        if patient and self.tol > -np.inf and epochs > 1:
            options["early_stopping"] = EarlyStopping(
                int(self.n_iter_no_change), max(float(self.tol), 0.0), restore_best=early_stopping)
        per_epoch = -(-rows // min(rows_of_batch, rows))
        run = held.client.start_training(
            held.name, batch, epochs=epochs, batch_size=rows_of_batch,
            shuffle=bool(self.shuffle) and rows_of_batch < len(batch), report_every=per_epoch,
            report_interval=3600 if epochs > 1 else None, **options)
        seen: dict[int, tuple[float, Optional[float], Optional[float]]] = {}
        shown = self.verbose if isinstance(self.verbose, str) else bool(self.verbose)
        with show(shown) as display, run:
            for event in run:
                display(event)
                body = event.body
                if isinstance(body, Progress) and body.iteration % per_epoch == 0:
                    validation = body.validation
                    seen[body.iteration // per_epoch] = (
                        body.metrics.loss, None if validation is None else validation.loss,
                        None if validation is None else validation.accuracy)
        summary = run.summary
        assert summary is not None
        if summary.stop_reason == "diverged":
            raise ValueError("Solver produced non-finite parameter weights. The input data may "
                             f"contain large values and need to be preprocessed. {summary.message}")
        if summary.stop_reason not in ("completed", "early_stopped"):
            raise RuntimeError(f"the run ended: {summary.stop_reason} {summary.message}")
        made = max(1, -(-summary.iterations // per_epoch))
        self.n_iter_ += made
        self.t_ += made * rows
        self.loss_curve_ += [loss * scale for loss in _whole(seen, made, 0)]
        self.loss_ = self.loss_curve_[-1]
        if early_stopping:
            self.validation_loss_curve_ = getattr(self, "validation_loss_curve_", []) + [
                loss * scale for loss in _whole(seen, made, 1)]
            if any(entry[2] is not None for entry in seen.values()):
                self.validation_scores_ = getattr(self, "validation_scores_", []) + _whole(
                    seen, made, 2)
                self.best_validation_score_ = max(self.validation_scores_)
            self.best_loss_ = None
        else:
            self.best_loss_ = min(self.loss_curve_)
        if epochs > 1 and summary.stop_reason == "completed":
            warnings.warn(f"Stochastic Optimizer: Maximum iterations ({epochs}) reached and the "
                          "optimization hasn't converged yet.", ConvergenceWarning, stacklevel=4)

    def _fit(self, x: Any, y: Any, sample_weight: Any, incremental: bool,
             classes: Any = None) -> Any:
        self._check_parameters()
        kinds: Any = {"auto": (np.float64, np.float32)}.get(
            self.precision, getattr(np, self.precision, None))
        fresh = not hasattr(self, "n_iter_") or not (incremental or self.warm_start)
        x, y = validate_data(self, x, y, accept_sparse=False, multi_output=True, dtype=kinds,
                             reset=fresh)
        if x.dtype == np.float64 and self.precision == "auto" and not fresh:
            x = x.astype(self._spec.data_type, copy=False)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, x)
        batch, outputs, loss, scale, names, weight = self._problem(
            x, y, sample_weight, fresh, incremental, classes)
        rows_of_batch = self._rows_of_batch(len(batch))
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        shape = (x.shape[1], tuple(self._hidden()), outputs)
        if not fresh and shape != self._shape:
            if self.warm_start and not incremental:
                raise ValueError(f"warm_start: the network was {self._shape}, and is now {shape}")
            raise ValueError(f"the network was {self._shape}, and is now {shape}")
        if fresh:
            seed = int(check_random_state(self.random_state).randint(2**31 - 1))
            mean_weight = 1.0 if weight is None else float(np.sum(weight)) / len(batch)
            self._create(self._make_spec(x, outputs, loss, scale,
                                         rows_of_batch * max(mean_weight, 1e-300), seed, names))
            self._shape = shape
            for name in ("n_iter_", "validation_scores_", "validation_loss_curve_",
                         "best_validation_score_"):
                if hasattr(self, name):
                    delattr(self, name)
            self.loss_curve_ = []
            self.t_ = 0
            self.n_iter_ = 0
        elif not incremental:
            self.n_iter_ = 0
            self.loss_curve_ = []
        self.n_layers_ = len(self._hidden()) + 2
        self.n_outputs_ = outputs
        try:
            self._fit_run(batch, 1 if incremental else int(self.max_iter), rows_of_batch,
                          bool(self.early_stopping), self._curve_scale or scale)
        except BaseException:
            if fresh:
                del self.n_iter_
            raise
        return self

    def _problem(self, x: Any, y: Any, sample_weight: Any, fresh: bool, incremental: bool,
                 classes: Any) -> tuple[Batch, int, Any, float, Any, Any]:
        """(rows, outputs, loss, scale of the loss, names of the classes, weights)."""
        raise NotImplementedError

    def _outputs(self, x: Any, outputs: str) -> Any:
        check_is_fitted(self, "n_iter_")
        x = validate_data(self, x, reset=False, accept_sparse=False,
                          dtype=(np.float64, np.float32))
        held = self._held()
        found = held.client.predict(held.name, x, outputs=outputs)
        return np.array(getattr(found, outputs))

    def _parameters(self) -> dict[str, Any]:
        held = self._held()
        return dict(held.client.get_parameters(held.name, with_optimizer_state=False).tensors)

    @property
    def coefs_(self) -> list[Any]:
        """The weights of each layer, [inputs, units]."""
        return self._of_layers("weights")

    @property
    def intercepts_(self) -> list[Any]:
        """The biases of each layer, [units]."""
        return self._of_layers("bias")

    def _of_layers(self, kind: str) -> list[Any]:
        if not hasattr(self, "n_iter_"):
            raise AttributeError("the estimator is not fitted")
        named = self._parameters()
        return [np.array(named[f"layers[{i}].{kind}"]) for i in range(self.n_layers_ - 1)]

    def export_model(self) -> bytes:
        """The model as a file of backpropd, for Client.import_model()."""
        held = self._held()
        return held.client.export_model(held.name)


_import_lock = threading.Lock()


def _whole(seen: dict[int, tuple[Any, ...]], epochs: int, at: int) -> list[float]:
    """One number for each epoch; those that were not reported are interpolated."""
    known = sorted((epoch, entry[at]) for epoch, entry in seen.items() if entry[at] is not None)
    if not known:
        return [float("nan")] * epochs
    x, y = zip(*known)
    return [float(v) for v in np.interp(np.arange(1, epochs + 1), x, y)]


class MLPClassifier(ClassifierMixin, _Base):  # type: ignore[misc]
    """A multi-layer perceptron for classes, or for several labels a row.

    The parameters are those of sklearn.neural_network.MLPClassifier, and:

    class_weight: None, "balanced" or a dict from class to weight, as in other classifiers.
    precision: "float32", "float64", or "auto": that of the data, as scikit-learn does. float32 is
    faster.
    server: the address of a server; default: the shared one.
    """

    def __init__(self, hidden_layer_sizes: Any = (100,), activation: str = "relu", *,
                 solver: str = "adam", alpha: float = 0.0001,
                 batch_size: Union[int, str] = "auto", learning_rate: str = "constant",
                 learning_rate_init: float = 0.001, max_iter: int = 200, shuffle: bool = True,
                 random_state: Any = None, tol: float = 1e-4, verbose: Any = False,
                 warm_start: bool = False, momentum: float = 0.9,
                 nesterovs_momentum: bool = True, early_stopping: bool = False,
                 validation_fraction: float = 0.1, beta_1: float = 0.9, beta_2: float = 0.999,
                 epsilon: float = 1e-8, n_iter_no_change: int = 10, class_weight: Any = None,
                 precision: str = "auto", server: Optional[str] = None) -> None:
        super().__init__(hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate,
                         learning_rate_init, max_iter, shuffle, random_state, tol, verbose,
                         warm_start, momentum, nesterovs_momentum, early_stopping,
                         validation_fraction, beta_1, beta_2, epsilon, n_iter_no_change, precision,
                         server)
        self.class_weight = class_weight

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPClassifier:
        """Trains on rows and their classes."""
        self._fit(X, y, sample_weight, incremental=False)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Optional[Sequence[Any]] = None,
                    sample_weight: Any = None) -> MLPClassifier:
        """Trains for one epoch. The first call needs classes, all that there will be."""
        self._fit(X, y, sample_weight, incremental=True, classes=classes)
        return self

    def _problem(self, x: Any, y: Any, sample_weight: Any, fresh: bool, incremental: bool,
                 classes: Any) -> tuple[Batch, int, Any, float, Any, Any]:
        check_classification_targets(y)
        multilabel = type_of_target(y).startswith("multilabel")
        if not multilabel:
            y = column_or_1d(y, warn=True)
        if fresh:
            if incremental:
                if classes is None:
                    raise ValueError("classes must be passed on the first call to partial_fit.")
                self.classes_ = (np.arange(y.shape[1]) if multilabel
                                 else unique_labels(np.asarray(classes)))
            else:
                self.classes_ = np.arange(y.shape[1]) if multilabel else np.unique(y)
            self._multilabel = multilabel
        elif classes is not None and not np.array_equal(
                unique_labels(np.asarray(classes)), self.classes_):
            raise ValueError(f"`classes={classes}` is not the same as on last call to partial_fit,"
                             f" was: {self.classes_}")
        if multilabel != self._multilabel:
            raise ValueError("y has another form than in the earlier call")
        weight = sample_weight
        if multilabel:
            if self.class_weight is not None:
                raise ValueError("class_weight is for one class a row")
            outputs = y.shape[1]
            self.out_activation_ = "logistic"
            batch = Batch(x, targets=np.ascontiguousarray(y, x.dtype), sample_weights=weight)
            return batch, outputs, BinaryCrossEntropy(), float(outputs), None, weight
        index = np.searchsorted(self.classes_, y)
        index = np.minimum(index, len(self.classes_) - 1)
        if not np.array_equal(self.classes_[index], y):
            unknown = sorted(set(np.asarray(y)[self.classes_[index] != y].tolist()), key=str)
            raise ValueError(f"y has labels that are not in classes: {unknown}")
        if self.class_weight is not None:
            of_class = self._class_weights(y)
            weight = of_class[index] * (1.0 if sample_weight is None else sample_weight)
        if len(self.classes_) <= 2:
            self.out_activation_ = "logistic"
            batch = Batch(x, index.astype(np.int32), sample_weights=weight)
            return (batch, 1, BinaryCrossEntropy(), 1.0,
                    self.classes_ if len(self.classes_) == 2 else None, weight)
        self.out_activation_ = "softmax"
        batch = Batch(x, index.astype(np.int32), sample_weights=weight)
        return batch, len(self.classes_), SoftmaxCrossEntropy(), 1.0, self.classes_, weight

    def _class_weights(self, y: Any) -> Any:
        if self.class_weight == "balanced":
            present = np.unique(y)
            found = np.ones(len(self.classes_))
            found[np.searchsorted(self.classes_, present)] = compute_class_weight(
                "balanced", classes=present, y=y)
            return found
        return compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_)

    def predict_proba(self, X: Any) -> Any:
        """Probabilities [n, classes]; for several labels a row, of each label."""
        found = self._outputs(X, "probabilities").astype(np.float64)
        if self._multilabel or self.out_activation_ == "softmax":
            return found
        if len(self.classes_) == 1:
            return np.ones((len(found), 1))
        return np.column_stack([1 - found[:, 0], found[:, 0]])

    def predict_log_proba(self, X: Any) -> Any:
        """The logarithm of predict_proba()."""
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def predict(self, X: Any) -> Any:
        """The most probable class of each row, or the labels with a probability above 1/2."""
        found = self._outputs(X, "logits")
        if self._multilabel:
            return (found > 0).astype(int)
        if self.out_activation_ == "softmax":
            return self.classes_[found.argmax(axis=1)]
        if len(self.classes_) == 1:
            return np.full(len(found), self.classes_[0])
        return self.classes_[(found[:, 0] > 0).astype(int)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(RegressorMixin, _Base):  # type: ignore[misc]
    """A multi-layer perceptron for numbers, with the squared error.

    The parameters are those of sklearn.neural_network.MLPRegressor; precision and server as in
    MLPClassifier.
    """

    _curve_scale = 0.5

    def __init__(self, hidden_layer_sizes: Any = (100,), activation: str = "relu", *,
                 solver: str = "adam", alpha: float = 0.0001,
                 batch_size: Union[int, str] = "auto", learning_rate: str = "constant",
                 learning_rate_init: float = 0.001, max_iter: int = 200, shuffle: bool = True,
                 random_state: Any = None, tol: float = 1e-4, verbose: Any = False,
                 warm_start: bool = False, momentum: float = 0.9,
                 nesterovs_momentum: bool = True, early_stopping: bool = False,
                 validation_fraction: float = 0.1, beta_1: float = 0.9, beta_2: float = 0.999,
                 epsilon: float = 1e-8, n_iter_no_change: int = 10, precision: str = "auto",
                 server: Optional[str] = None) -> None:
        super().__init__(hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate,
                         learning_rate_init, max_iter, shuffle, random_state, tol, verbose,
                         warm_start, momentum, nesterovs_momentum, early_stopping,
                         validation_fraction, beta_1, beta_2, epsilon, n_iter_no_change, precision,
                         server)

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Trains on rows and their targets [n] or [n, k]."""
        self._fit(X, y, sample_weight, incremental=False)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Trains for one epoch."""
        self._fit(X, y, sample_weight, incremental=True)
        return self

    def _problem(self, x: Any, y: Any, sample_weight: Any, fresh: bool, incremental: bool,
                 classes: Any) -> tuple[Batch, int, Any, float, Any, Any]:
        y = np.asarray(y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if fresh:
            self._vector = y.ndim == 1
        targets = np.ascontiguousarray(y if y.ndim == 2 else y[:, None], x.dtype)
        outputs = targets.shape[1]
        self.out_activation_ = "identity"
        batch = Batch(x, targets=targets, sample_weights=sample_weight)
        # scikit-learn's gradient is (z − y) / n for each output, the server's 2·(z − y) / (n·k).
        return batch, outputs, MeanSquaredError(), outputs / 2, None, sample_weight

    def predict(self, X: Any) -> Any:
        """Predictions [n], or [n, k] for several outputs."""
        found = self._outputs(X, "logits")
        return found[:, 0] if self._vector else found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

