"""The definition of a model. Names, defaults and ranges are those of the contract; a field that is
None has the server's default.

    ModelSpec(2, [Layer(8), Layer(2)], optimizer=Adam(learning_rate=0.01), seed=1)
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional, TypeVar, Union

from google.protobuf import json_format

from backprop.errors import invalid
from backprop.v1 import model_pb2

__all__ = [
    "Adagrad",
    "Adam",
    "AdamW",
    "BinaryCrossEntropy",
    "CosineSchedule",
    "ExponentialSchedule",
    "Huber",
    "InputStandardization",
    "Layer",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "ModelSpec",
    "ReduceOnPlateauSchedule",
    "RmsProp",
    "Sgd",
    "SoftmaxCrossEntropy",
    "StepSchedule",
]

T = TypeVar("T")


@dataclass(frozen=True)
class Layer:
    """A dense layer: activation(x·W + b).

    activation: identity, relu, tanh, sigmoid, leaky_relu, elu, gelu, silu or softplus.
    initializer: he_normal, he_uniform, xavier_normal, xavier_uniform, zeros, constant or
    pytorch_linear.
    """

    units: int
    activation: Optional[str] = None
    initializer: Optional[str] = None
    negative_slope: Optional[float] = None
    alpha: Optional[float] = None
    dropout: Optional[float] = None
    initial_value: Optional[float] = None
    bias_initializer: Optional[str] = None
    initial_bias: Optional[float] = None


@dataclass(frozen=True)
class SoftmaxCrossEntropy:
    label_smoothing: Optional[float] = None
    class_weights: Sequence[float] = ()


@dataclass(frozen=True)
class BinaryCrossEntropy:
    pos_weight: Sequence[float] = ()
    class_weights: Sequence[float] = ()


@dataclass(frozen=True)
class MeanSquaredError:
    pass


@dataclass(frozen=True)
class MeanAbsoluteError:
    pass


@dataclass(frozen=True)
class Huber:
    delta: Optional[float] = None


Loss = Union[SoftmaxCrossEntropy, BinaryCrossEntropy, MeanSquaredError, MeanAbsoluteError, Huber]
LOSSES: dict[str, type[Any]] = {
    "softmax_cross_entropy": SoftmaxCrossEntropy,
    "binary_cross_entropy": BinaryCrossEntropy,
    "mean_squared_error": MeanSquaredError,
    "mean_absolute_error": MeanAbsoluteError,
    "huber": Huber,
}


@dataclass(frozen=True)
class Sgd:
    learning_rate: Optional[float] = None
    momentum: Optional[float] = None
    nesterov: Optional[bool] = None
    weight_decay: Optional[float] = None


@dataclass(frozen=True)
class Adam:
    learning_rate: Optional[float] = None
    beta1: Optional[float] = None
    beta2: Optional[float] = None
    epsilon: Optional[float] = None
    weight_decay: Optional[float] = None


@dataclass(frozen=True)
class AdamW:
    learning_rate: Optional[float] = None
    beta1: Optional[float] = None
    beta2: Optional[float] = None
    epsilon: Optional[float] = None
    weight_decay: Optional[float] = None


@dataclass(frozen=True)
class RmsProp:
    learning_rate: Optional[float] = None
    alpha: Optional[float] = None
    epsilon: Optional[float] = None
    momentum: Optional[float] = None
    centered: Optional[bool] = None
    weight_decay: Optional[float] = None


@dataclass(frozen=True)
class Adagrad:
    learning_rate: Optional[float] = None
    lr_decay: Optional[float] = None
    epsilon: Optional[float] = None
    initial_accumulator_value: Optional[float] = None
    weight_decay: Optional[float] = None


Optimizer = Union[Sgd, Adam, AdamW, RmsProp, Adagrad]
OPTIMIZERS: dict[str, type[Any]] = {
    "sgd": Sgd, "adam": Adam, "adamw": AdamW, "rmsprop": RmsProp, "adagrad": Adagrad,
}


@dataclass(frozen=True)
class StepSchedule:
    step_size: int
    gamma: Optional[float] = None


@dataclass(frozen=True)
class ExponentialSchedule:
    gamma: float


@dataclass(frozen=True)
class CosineSchedule:
    total_steps: int
    min_learning_rate: Optional[float] = None


@dataclass(frozen=True)
class ReduceOnPlateauSchedule:
    factor: Optional[float] = None
    patience: Optional[int] = None
    threshold: Optional[float] = None
    cooldown: Optional[int] = None
    min_learning_rate: Optional[float] = None


Schedule = Union[StepSchedule, ExponentialSchedule, CosineSchedule, ReduceOnPlateauSchedule]
SCHEDULES: dict[str, type[Any]] = {
    "step": StepSchedule, "exponential": ExponentialSchedule, "cosine": CosineSchedule,
    "reduce_on_plateau": ReduceOnPlateauSchedule,
}


@dataclass(frozen=True)
class InputStandardization:
    """Both empty: the first run fits them to its rows."""

    mean: Sequence[float] = ()
    std: Sequence[float] = ()


@dataclass(frozen=True)
class ModelSpec:
    """The definition of a model. loss and optimizer also take a name, such as "adam".

    data_type is float32 or float64.
    """

    input_size: int
    layers: Sequence[Layer]
    loss: Union[Loss, str, None] = None
    optimizer: Union[Optimizer, str, None] = None
    seed: Optional[int] = None
    data_type: Optional[str] = None
    class_names: Sequence[str] = ()
    feature_names: Sequence[str] = ()
    input_standardization: Optional[InputStandardization] = None
    schedule: Optional[Schedule] = None
    warmup_steps: Optional[int] = None
    warmup_start_factor: Optional[float] = None
    l1: Optional[float] = None
    clip_norm: Optional[float] = None
    clip_value: Optional[float] = None

    @classmethod
    def for_data(
        cls,
        inputs: object,
        labels: object = None,
        targets: object = None,
        *,
        hidden: Sequence[int] = (16,),
        activation: Optional[str] = None,
        **fields: Any,
    ) -> ModelSpec:
        """A spec that fits data: sizes from the shapes, feature_names from the columns of a data
        frame, class_names from categories or strings.
        """
        from backprop import tensors

        x, names = tensors.matrix(inputs, "inputs")
        if (labels is None) == (targets is None):
            raise invalid("labels", "give either labels or targets")
        if labels is not None:
            classes = tensors.class_names_of(labels)
            if classes is None:
                outputs = int(tensors.indices(labels).max()) + 1
            else:
                outputs = len(classes)
                fields.setdefault("class_names", classes)
            outputs = max(outputs, 2)
        else:
            outputs = tensors.matrix(targets, "targets", vector_ok=True)[0].shape[1]
            fields.setdefault("loss", MeanSquaredError())
        fields.setdefault("feature_names", names or ())
        layers = [Layer(units, activation) for units in hidden] + [Layer(outputs)]
        return cls(x.shape[1], layers, **fields)

    @classmethod
    def from_json(cls, spec: Union[str, Mapping[str, Any]]) -> ModelSpec:
        """Reads the JSON form of the message backprop.v1.ModelSpec."""
        text = spec if isinstance(spec, str) else json.dumps(spec)
        try:
            return from_spec(json_format.Parse(text, model_pb2.ModelSpec()))
        except json_format.ParseError as error:
            raise invalid("spec", str(error)) from None

    def to_json(self) -> dict[str, Any]:
        """The JSON form of the message backprop.v1.ModelSpec."""
        result: dict[str, Any] = json_format.MessageToDict(to_spec(self))
        return result


def enum_value(descriptor: Any, name: str, field: str) -> int:
    """The number of an enum value; its name without the prefix, in any case."""
    prefix = descriptor.values[0].name[: -len("UNSPECIFIED")]
    given = str(name).upper()
    value = descriptor.values_by_name.get(given if given.startswith(prefix) else prefix + given)
    if value is None or value.number == 0:
        known = ", ".join(v.name[len(prefix):].lower() for v in descriptor.values if v.number)
        raise invalid(field, f"expected one of {known}; got {name!r}")
    return int(value.number)


def enum_name(descriptor: Any, number: int) -> str:
    """The name of an enum value without its prefix, in lower case."""
    prefix = descriptor.values[0].name[: -len("UNSPECIFIED")]
    value = descriptor.values_by_number.get(number)
    return str(number) if value is None else value.name[len(prefix):].lower()


def fill(message: Any, source: Any, path: str, skip: Sequence[str] = ()) -> None:
    """Sets the fields of a message to those of a dataclass that are not None."""
    for field in dataclasses.fields(source):
        value = getattr(source, field.name)
        if value is None or field.name in skip:
            continue
        where = f"{path}.{field.name}"
        descriptor = message.DESCRIPTOR.fields_by_name[field.name]
        try:
            if descriptor.enum_type is not None:
                setattr(message, field.name, enum_value(descriptor.enum_type, value, where))
            elif isinstance(value, (list, tuple)) or hasattr(value, "__array__"):
                getattr(message, field.name).extend(value)
            elif dataclasses.is_dataclass(value):
                getattr(message, field.name).SetInParent()
                fill(getattr(message, field.name), value, where)
            else:
                setattr(message, field.name, value)
        except (TypeError, OverflowError) as error:
            raise invalid(where, str(error)) from None
        except ValueError as error:
            if hasattr(error, "violations"):
                raise
            raise invalid(where, str(error)) from None


def extract(kind: type[T], message: Any, **more: Any) -> T:
    """Makes a dataclass of the fields of a message; an optional field that is not set is None."""
    values: dict[str, Any] = dict(more)
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if field.name in values:
            continue
        descriptor = message.DESCRIPTOR.fields_by_name[field.name]
        value = getattr(message, field.name)
        if descriptor.is_repeated:
            values[field.name] = (
                dict(value) if descriptor.message_type is not None
                and descriptor.message_type.GetOptions().map_entry else tuple(value))
        elif descriptor.has_presence and not message.HasField(field.name):
            values[field.name] = None
        elif descriptor.enum_type is not None:
            values[field.name] = enum_name(descriptor.enum_type, value) if value else None
        else:
            values[field.name] = value
    return kind(**values)


def _of_kind(value: Any, kinds: dict[str, type[Any]], field: str) -> tuple[str, Any]:
    """(name of the kind, its dataclass) of an object or a name."""
    if isinstance(value, str):
        if value not in kinds:
            raise invalid(field, f"expected one of {', '.join(kinds)}; got {value!r}")
        return value, kinds[value]()
    for name, kind in kinds.items():
        if isinstance(value, kind):
            return name, value
    raise invalid(field, f"expected one of {', '.join(kinds)}; got {type(value).__name__}")


def to_spec(spec: ModelSpec) -> model_pb2.ModelSpec:
    message = model_pb2.ModelSpec()
    own = ("layers", "loss", "optimizer", "schedule", "warmup_steps", "warmup_start_factor", "l1",
           "clip_norm", "clip_value")
    fill(message, spec, "spec", own)
    for i, layer in enumerate(spec.layers):
        fill(message.layers.add(), layer, f"spec.layers[{i}]")
    if spec.loss is not None:
        name, loss = _of_kind(spec.loss, LOSSES, "spec.loss")
        getattr(message.loss, name).SetInParent()
        fill(getattr(message.loss, name), loss, f"spec.loss.{name}")
    optimizer = message.optimizer
    if spec.optimizer is not None:
        name, kind = _of_kind(spec.optimizer, OPTIMIZERS, "spec.optimizer")
        getattr(optimizer, name).SetInParent()
        fill(getattr(optimizer, name), kind, f"spec.optimizer.{name}")
    elif any(getattr(spec, name) is not None for name in own[3:]):
        optimizer.sgd.SetInParent()
    if spec.schedule is not None:
        name, kind = _of_kind(spec.schedule, SCHEDULES, "spec.optimizer.schedule")
        getattr(optimizer.schedule, name).SetInParent()
        fill(getattr(optimizer.schedule, name), kind, f"spec.optimizer.schedule.{name}")
    if spec.warmup_steps is not None:
        optimizer.schedule.warmup_steps = spec.warmup_steps
    if spec.warmup_start_factor is not None:
        optimizer.schedule.warmup_start_factor = spec.warmup_start_factor
    if spec.clip_norm is not None and spec.clip_value is not None:
        raise invalid("spec.clip_norm", "at most one of clip_norm and clip_value may be given")
    for name in ("l1", "clip_norm", "clip_value"):
        if getattr(spec, name) is not None:
            setattr(optimizer, name, getattr(spec, name))
    return message


def _kind_in(message: Any, kinds: dict[str, type[Any]]) -> Any:
    name = message.WhichOneof("kind")
    return None if name is None else extract(kinds[name], getattr(message, name))


def from_spec(message: model_pb2.ModelSpec) -> ModelSpec:
    optimizer = message.optimizer
    clipping = optimizer.WhichOneof("clipping")
    standard = None
    if message.HasField("input_standardization"):
        standard = extract(InputStandardization, message.input_standardization)
    return ModelSpec(
        input_size=message.input_size,
        layers=tuple(extract(Layer, layer) for layer in message.layers),
        loss=_kind_in(message.loss, LOSSES),
        optimizer=_kind_in(optimizer, OPTIMIZERS),
        seed=message.seed,
        data_type=extract_enum(message, "data_type"),
        class_names=tuple(message.class_names),
        feature_names=tuple(message.feature_names),
        input_standardization=standard,
        schedule=_kind_in(optimizer.schedule, SCHEDULES),
        warmup_steps=optimizer.schedule.warmup_steps or None,
        warmup_start_factor=(
            optimizer.schedule.warmup_start_factor
            if optimizer.schedule.HasField("warmup_start_factor") else None),
        l1=optimizer.l1 if optimizer.HasField("l1") else None,
        clip_norm=optimizer.clip_norm if clipping == "clip_norm" else None,
        clip_value=optimizer.clip_value if clipping == "clip_value" else None,
    )


def extract_enum(message: Any, name: str) -> Optional[str]:
    number = getattr(message, name)
    return enum_name(message.DESCRIPTOR.fields_by_name[name].enum_type, number) if number else None
