"""What calls return. Names are those of the contract; an unset field is None."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Optional, Union

import numpy as np

from backprop import tensors
from backprop.spec import (
    InputStandardization,
    ModelSpec,
    enum_name,
    extract,
    extract_enum,
    from_spec,
)
from backprop.tensors import Array

__all__ = [
    "AppliedGradients",
    "AverageMetrics",
    "Checkpoint",
    "ClassMetrics",
    "ClassificationMetrics",
    "Dataset",
    "Evaluation",
    "GradCheck",
    "Gradients",
    "Metrics",
    "Model",
    "Parameters",
    "PlateauState",
    "Prediction",
    "Progress",
    "Project",
    "QuotaUse",
    "RegressionMetrics",
    "RunStarted",
    "ServerFlag",
    "ServerStatus",
    "ServiceHealth",
    "StepResult",
    "StoppedRun",
    "TensorGradCheck",
    "TrainingEvent",
    "TrainingSummary",
]


def _time(message: Any, name: str) -> Optional[datetime]:
    if not message.HasField(name):
        return None
    stamp = getattr(message, name)
    return datetime.fromtimestamp(stamp.seconds, timezone.utc) + timedelta(
        microseconds=stamp.nanos // 1000)


def _seconds(duration: Any) -> float:
    return float(duration.seconds + duration.nanos / 1e9)


@dataclass(frozen=True)
class Model:
    name: str
    spec: ModelSpec
    step: int
    parameter_count: int
    labels: Mapping[str, str]
    create_time: Optional[datetime]
    ttl: Optional[timedelta]
    expire_time: Optional[datetime]
    active_run: str
    durability: Optional[str]

    @classmethod
    def of(cls, m: Any) -> Model:
        ttl = timedelta(seconds=_seconds(m.ttl)) if m.HasField("ttl") else None
        return cls(m.name, from_spec(m.spec), m.step, m.parameter_count, dict(m.labels),
                   _time(m, "create_time"), ttl, _time(m, "expire_time"), m.active_run,
                   extract_enum(m, "durability"))


@dataclass(frozen=True)
class Metrics:
    """loss and accuracy (None for regression) on a number of rows."""

    loss: float
    accuracy: Optional[float]
    rows: int

    @classmethod
    def of(cls, m: Any) -> Metrics:
        return cls(m.loss, m.accuracy if m.HasField("accuracy") else None, m.rows)

    @classmethod
    def maybe(cls, m: Any, name: str) -> Optional[Metrics]:
        return cls.of(getattr(m, name)) if m.HasField(name) else None


@dataclass(frozen=True)
class RunStarted:
    total_iterations: int
    iterations_per_epoch: int
    rows: int
    start_step: int
    validation_rows: int
    batch_size: int
    resumed_batches: int


@dataclass(frozen=True)
class Progress:
    iteration: int
    total_iterations: int
    epoch: int
    step: int
    metrics: Metrics
    learning_rate: float
    gradient_norm: float
    samples_per_second: float
    eta: float
    validation: Optional[Metrics]


@dataclass(frozen=True)
class TrainingSummary:
    """The end of a run. stop_reason: completed, stopped, cancelled, diverged, early_stopped, …"""

    stop_reason: str
    iterations: int
    step: int
    metrics: Optional[Metrics]
    elapsed: float
    message: str
    validation: Optional[Metrics]
    best_iteration: int
    best_loss: float
    restored_best: bool

    @classmethod
    def of(cls, m: Any) -> TrainingSummary:
        reason = enum_name(m.DESCRIPTOR.fields_by_name["stop_reason"].enum_type, m.stop_reason)
        return cls(reason, m.iterations, m.step, Metrics.maybe(m, "metrics"), _seconds(m.elapsed),
                   m.message, Metrics.maybe(m, "validation"), m.best_iteration, m.best_loss,
                   m.restored_best)


@dataclass(frozen=True)
class TrainingEvent:
    """An event of a run: body is RunStarted, Progress or TrainingSummary.

    sequence counts from 1; dropped is the number of events that this reader missed before it.
    """

    run: str
    sequence: int
    dropped: int
    body: Union[RunStarted, Progress, TrainingSummary]

    @classmethod
    def of(cls, m: Any) -> TrainingEvent:
        kind = m.WhichOneof("event")
        body: Union[RunStarted, Progress, TrainingSummary]
        if kind == "progress":
            p = m.progress
            body = Progress(p.iteration, p.total_iterations, p.epoch, p.step,
                            Metrics.of(p.metrics), p.learning_rate, p.gradient_norm,
                            p.samples_per_second, _seconds(p.eta), Metrics.maybe(p, "validation"))
        elif kind == "started":
            body = extract(RunStarted, m.started)
        else:
            body = TrainingSummary.of(m.summary)
        return cls(m.run, m.sequence, m.dropped, body)

    @property
    def progress(self) -> Optional[Progress]:
        return self.body if isinstance(self.body, Progress) else None

    @property
    def summary(self) -> Optional[TrainingSummary]:
        return self.body if isinstance(self.body, TrainingSummary) else None


@dataclass(frozen=True)
class StoppedRun:
    run: str
    summary: TrainingSummary


@dataclass(frozen=True)
class StepResult:
    """step: the model's step count after the step; metrics are of the batch before the update."""

    step: int
    metrics: Metrics
    gradient_norm: float
    learning_rate: float

    @classmethod
    def of(cls, m: Any) -> StepResult:
        return cls(m.step, Metrics.of(m.metrics), m.gradient_norm, m.learning_rate)

    @property
    def loss(self) -> float:
        return self.metrics.loss


@dataclass(frozen=True)
class Gradients:
    """Gradients by the name of the parameter; weight is that of the batch in a mean of several."""

    tensors: Mapping[str, Array]
    metrics: Metrics
    gradient_norm: float
    weight: float
    step: int

    @classmethod
    def of(cls, m: Any) -> Gradients:
        return cls(_tensors(m.gradients), Metrics.of(m.metrics), m.gradient_norm, m.weight, m.step)


@dataclass(frozen=True)
class AppliedGradients:
    step: int
    gradient_norm: float
    learning_rate: float


@dataclass(frozen=True)
class Prediction:
    """The outputs for n rows: logits and probabilities [n, k], classes [n]."""

    logits: Optional[Array]
    probabilities: Optional[Array]
    classes: Optional[Array]
    class_names: Optional[list[str]]
    step: int

    @classmethod
    def of(cls, m: Any) -> Prediction:
        return cls(
            tensors.from_tensor(m.logits) if m.HasField("logits") else None,
            tensors.from_tensor(m.probabilities) if m.HasField("probabilities") else None,
            np.array(m.classes, np.int32) if m.classes else None,
            list(m.class_names) or None,
            m.step)


@dataclass(frozen=True)
class ClassMetrics:
    class_index: int
    class_name: str
    precision: float
    recall: float
    f1: float
    support: float
    roc_auc: Optional[float]


@dataclass(frozen=True)
class AverageMetrics:
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class ClassificationMetrics:
    """confusion_matrix: entry (i, j) is the weight of rows of class i that are predicted as j."""

    accuracy: float
    top_k_accuracy: Optional[float]
    top_k: int
    confusion_matrix: Array
    classes: tuple[ClassMetrics, ...]
    macro: AverageMetrics
    weighted: AverageMetrics
    roc_auc: Optional[float]
    log_loss: Optional[float]


@dataclass(frozen=True)
class RegressionMetrics:
    mean_squared_error: float
    root_mean_squared_error: float
    mean_absolute_error: float
    r2: float


@dataclass(frozen=True)
class Evaluation:
    metrics: Metrics
    step: int
    classification: Optional[ClassificationMetrics]
    regression: Optional[RegressionMetrics]

    @classmethod
    def of(cls, m: Any) -> Evaluation:
        classification = regression = None
        if m.HasField("classification"):
            c = m.classification
            side = round(len(c.confusion_matrix) ** 0.5)
            classification = extract(
                ClassificationMetrics, c,
                confusion_matrix=np.array(c.confusion_matrix).reshape(side, side),
                classes=tuple(extract(ClassMetrics, k) for k in c.classes),
                macro=extract(AverageMetrics, c.macro),
                weighted=extract(AverageMetrics, c.weighted))
        if m.HasField("regression"):
            regression = extract(RegressionMetrics, m.regression)
        return cls(Metrics.of(m.metrics), m.step, classification, regression)


@dataclass(frozen=True)
class TensorGradCheck:
    name: str
    shape: tuple[int, ...]
    checked: int
    set_aside: int
    not_sampled: int
    max_absolute_error: float
    max_relative_error: float
    worst_index: tuple[int, ...]
    worst_analytic: float
    worst_numeric: float
    worst_error_bound: float
    kernel_max_relative_error: float
    kernel_max_bound_ratio: float
    unresolved: int
    passed: bool
    verdict: Optional[str]
    explanation: str


@dataclass(frozen=True)
class GradCheck:
    """verdict: passed, failed or inconclusive; explanation says why it is not passed."""

    passed: bool
    verdict: Optional[str]
    explanation: str
    tensors: tuple[TensorGradCheck, ...]
    max_relative_error: float
    sampled: bool
    loss: float
    tolerance: float
    kernel_tolerance: float
    step: int

    @classmethod
    def of(cls, m: Any) -> GradCheck:
        return extract(cls, m.result, step=m.step,
                       tensors=tuple(extract(TensorGradCheck, t) for t in m.result.tensors))


@dataclass(frozen=True)
class PlateauState:
    learning_rate: float
    best: float
    bad_epochs: int
    cooldown: int


@dataclass(frozen=True)
class Parameters:
    """Weights and biases by name, in the order of the layers: layers[0].weights, layers[0].bias, …

    With all fields, training continues exactly from this state.
    """

    tensors: Mapping[str, Array]
    optimizer_state: Mapping[str, Array] = field(default_factory=dict)
    step: Optional[int] = None
    optimizer_step: Optional[int] = None
    input_standardization: Optional[InputStandardization] = None
    plateau: Optional[PlateauState] = None

    @classmethod
    def of(cls, m: Any) -> Parameters:
        standard = plateau = None
        if m.HasField("input_standardization"):
            standard = extract(InputStandardization, m.input_standardization)
        if m.HasField("plateau"):
            plateau = extract(PlateauState, m.plateau)
        return cls(_tensors(m.tensors), _tensors(m.optimizer_state),
                   m.step if m.HasField("step") else None,
                   m.optimizer_step if m.HasField("optimizer_step") else None, standard, plateau)


def _tensors(named: Any) -> dict[str, Array]:
    return {t.name: tensors.from_tensor(t.tensor) for t in named}


@dataclass(frozen=True)
class Checkpoint:
    name: str
    step: int
    create_time: Optional[datetime]
    size_bytes: int
    run: str
    iteration: int
    best: bool
    metrics: Optional[Metrics]
    validation: Optional[Metrics]

    @classmethod
    def of(cls, m: Any) -> Checkpoint:
        return extract(cls, m, create_time=_time(m, "create_time"),
                       metrics=Metrics.maybe(m, "metrics"),
                       validation=Metrics.maybe(m, "validation"))


@dataclass(frozen=True)
class Dataset:
    name: str
    state: Optional[str]
    rows: int
    input_size: int
    target_size: int
    has_sample_weights: bool
    data_type: Optional[str]
    class_names: tuple[str, ...]
    feature_names: tuple[str, ...]
    labels: Mapping[str, str]
    create_time: Optional[datetime]
    size_bytes: int

    @classmethod
    def of(cls, m: Any) -> Dataset:
        return extract(cls, m, create_time=_time(m, "create_time"))

    @property
    def ready(self) -> bool:
        return self.state == "ready"


@dataclass(frozen=True)
class QuotaUse:
    quota: str
    used: Optional[int]
    limit: Optional[float]


@dataclass(frozen=True)
class Project:
    name: str
    quotas: tuple[QuotaUse, ...]
    weight: float

    @classmethod
    def of(cls, m: Any) -> Project:
        return extract(cls, m, quotas=tuple(extract(QuotaUse, q) for q in m.quotas))


@dataclass(frozen=True)
class ServiceHealth:
    service: str
    serving: bool
    reason: str


@dataclass(frozen=True)
class ServerFlag:
    name: str
    value: str
    given: bool


@dataclass(frozen=True)
class ServerStatus:
    version: str
    commit: str
    instruction_set: str
    start_time: Optional[datetime]
    status_time: Optional[datetime]
    health: tuple[ServiceHealth, ...]
    metrics: str
    flags: tuple[ServerFlag, ...]
    log_lines: tuple[str, ...]

    @classmethod
    def of(cls, m: Any) -> ServerStatus:
        return extract(cls, m, start_time=_time(m, "start_time"),
                       status_time=_time(m, "status_time"),
                       health=tuple(extract(ServiceHealth, h) for h in m.health),
                       flags=tuple(extract(ServerFlag, f) for f in m.flags))
