"""Arrays to and from messages. Numbers travel as raw little-endian bytes without a conversion of
each element.

Rows are NumPy arrays, pandas or polars data frames, Arrow tables, or anything that NumPy reads.
pandas, polars and pyarrow are not imported: their objects are recognised by what they offer.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import numpy.typing as npt

from backprop.errors import invalid
from backprop.v1 import tensor_pb2

Array = npt.NDArray[Any]

_TYPES = {"f4": tensor_pb2.DATA_TYPE_FLOAT32, "f8": tensor_pb2.DATA_TYPE_FLOAT64,
          "i4": tensor_pb2.DATA_TYPE_INT32, "i8": tensor_pb2.DATA_TYPE_INT64}
_DTYPES = {number: np.dtype("<" + name) for name, number in _TYPES.items()}
_STORED: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "float64": np.dtype("<f8")}


def columns_of(data: Any) -> Optional[list[str]]:
    """The names of the columns of a data frame or an Arrow table that are strings, or None."""
    names = getattr(data, "column_names", None)  # pyarrow
    if names is None:
        names = getattr(data, "columns", None)  # pandas, polars
    if names is None or callable(names):
        return None
    names = list(names)
    return names if names and all(isinstance(name, str) for name in names) else None


def to_numpy(data: Any) -> Array:
    """Any array, data frame or Arrow object as a NumPy array."""
    if isinstance(data, np.ndarray):
        return data
    if hasattr(data, "column_names") and hasattr(data, "itercolumns"):  # a pyarrow table
        return np.column_stack([column.to_numpy() for column in data.itercolumns()])
    if type(data).__module__.startswith("pyarrow"):  # an array of pyarrow, perhaps of strings
        try:
            return np.asarray(data.to_numpy(zero_copy_only=False))
        except TypeError:
            return np.asarray(data.to_numpy())  # a ChunkedArray
    if hasattr(data, "to_numpy"):
        return np.asarray(data.to_numpy())
    return np.asarray(data)


def _floating(array: Array, field: str) -> Array:
    """float32 stays, every other kind of number becomes float64."""
    if array.dtype.kind not in "fiub" and array.dtype != object:
        raise invalid(field, f"expected numbers, got an array of {array.dtype}")
    if array.dtype.kind == "f" and array.dtype.itemsize in (4, 8):
        return array
    if array.dtype == np.float16:
        return array.astype(np.float32)
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError):
        raise invalid(field, "expected numbers, got other objects") from None


def matrix(data: Any, field: str, vector_ok: bool = False) -> tuple[Array, Optional[list[str]]]:
    """(rows [n, d] in float32 or float64, names of the columns or None)."""
    array = _floating(to_numpy(data), field)
    if array.ndim == 1 and vector_ok:
        array = array[:, None]
    if array.ndim != 2:
        raise invalid(field, f"expected rows of shape [n, d], got shape {list(array.shape)}")
    if array.size == 0:
        raise invalid(field, f"expected at least one row and column, got {list(array.shape)}")
    return array, columns_of(data)


def _categories(labels: Any) -> Optional[tuple[list[Any], Any]]:
    """(categories, codes) of a pandas or polars categorical, else None."""
    dtype = getattr(labels, "dtype", None)
    categories = getattr(dtype, "categories", None)
    codes = getattr(labels, "codes", None)
    if codes is None:
        codes = getattr(getattr(labels, "cat", None), "codes", None)
    if categories is None or codes is None:
        return None
    return list(categories), codes


def class_names_of(labels: Any) -> Optional[list[str]]:
    """Names of the classes: the categories of a categorical, or the distinct strings, sorted."""
    found = _categories(labels)
    if found is not None and all(isinstance(name, str) for name in found[0]):
        return list(found[0])
    array = to_numpy(labels)
    if array.dtype.kind == "U" or (array.dtype == object and array.size
                                   and isinstance(array.flat[0], str)):
        return sorted({str(label) for label in array.flat})
    return None


def indices(labels: Any, field: str = "labels") -> Array:
    """Class indices [n] in int32 or int64."""
    found = _categories(labels)
    array = np.asarray(found[1]) if found is not None else to_numpy(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise invalid(field, f"expected labels of shape [n], got shape {list(array.shape)}")
    if array.dtype.kind == "f" and np.all(array == np.floor(array)):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iub":
        raise invalid(field, f"expected class indices or names, got an array of {array.dtype}")
    return array if array.dtype in (np.int32, np.int64) else array.astype(np.int64)


def fill_tensor(message: tensor_pb2.Tensor, array: Array) -> None:
    """Sets a tensor to the bytes of an array."""
    code = array.dtype.str[1:]
    if code not in _TYPES:
        raise invalid("data_type", f"cannot send an array of {array.dtype}")
    if array.dtype.byteorder == ">" or (array.dtype.byteorder == "=" and sys.byteorder == "big"):
        array = array.astype(array.dtype.newbyteorder("<"))
    message.shape.extend(array.shape)
    message.raw = array.tobytes()  # row-major, whatever the strides are
    message.data_type = _TYPES[code]
    message.byte_order = tensor_pb2.BYTE_ORDER_LITTLE_ENDIAN


def to_tensor(array: Array) -> tensor_pb2.Tensor:
    message = tensor_pb2.Tensor()
    fill_tensor(message, array)
    return message


def from_tensor(message: tensor_pb2.Tensor) -> Array:
    """The array of a tensor; of raw bytes it is a view, without a copy, and so read-only."""
    if message.raw:
        array = np.frombuffer(message.raw, _DTYPES[message.data_type])
    else:
        array = np.array(message.values)
    return array.reshape(tuple(message.shape)) if message.shape else array


def named_tensor(message: Any, name: str, data: Any) -> None:
    """Adds a named tensor to a repeated field."""
    array = _floating(to_numpy(data), name)
    if array.ndim not in (1, 2):
        raise invalid(name, f"expected one or two dimensions, got shape {list(array.shape)}")
    tensor = message.add()
    tensor.name = name
    fill_tensor(tensor.tensor, array)


class Batch:
    """Rows with what the model should produce: inputs [n, d] with labels [n] (indices, or names as
    strings or categories) or targets [n, k], and optionally sample_weights [n].

    Shapes are checked here, everything else by the server.
    """

    __slots__ = ("feature_names", "inputs", "label_names", "labels", "sample_weights", "targets")

    def __init__(self, inputs: Any, labels: Any = None, targets: Any = None,
                 sample_weights: Any = None) -> None:
        self.inputs, self.feature_names = matrix(inputs, "inputs")
        self.labels: Optional[Array] = None
        self.label_names: Optional[Sequence[str]] = None
        self.targets: Optional[Array] = None
        self.sample_weights: Optional[Array] = None
        rows = self.inputs.shape[0]
        if (labels is None) == (targets is None):
            raise invalid("labels", "expected exactly one of labels and targets")
        if labels is not None:
            found = _categories(labels)
            if class_names_of(labels) is None:
                self.labels = indices(labels)
            elif found is not None:
                names = [str(name) for name in found[0]]
                codes = np.asarray(found[1])
                if codes.size and codes.min() < 0:
                    raise invalid("labels", "a row has no label")
                self.label_names = [names[code] for code in codes]
            else:
                self.label_names = [str(label) for label in to_numpy(labels).ravel()]
        else:
            self.targets = matrix(targets, "targets", vector_ok=True)[0]
        if sample_weights is not None:
            weights = _floating(to_numpy(sample_weights), "sample_weights")
            if weights.ndim != 1:
                raise invalid("sample_weights", f"expected shape [n], got {list(weights.shape)}")
            self.sample_weights = weights
        for field in ("labels", "label_names", "targets", "sample_weights"):
            value = getattr(self, field)
            if value is not None and len(value) != rows:
                raise invalid(field, f"expected {rows} rows, as inputs has, got {len(value)}")

    def __len__(self) -> int:
        return int(self.inputs.shape[0])

    @classmethod
    def of(cls, data: Any) -> Batch:
        """A batch of a batch, a tuple (inputs, labels), or a dict of the arguments."""
        if isinstance(data, Batch):
            return data
        if isinstance(data, dict):
            return cls(**data)
        if isinstance(data, tuple) and len(data) in (2, 3):
            weights = data[2] if len(data) == 3 else None
            return cls(data[0], data[1], sample_weights=weights)
        raise invalid("batch", f"expected a Batch or (inputs, labels), got {type(data).__name__}")

    def rows(self, first: int, last: int) -> Batch:
        """The rows [first, last) as views."""
        part = Batch.__new__(Batch)
        part.feature_names = self.feature_names
        for field in ("inputs", "labels", "label_names", "targets", "sample_weights"):
            value = getattr(self, field)
            setattr(part, field, None if value is None else value[first:last])
        return part

    def fill(self, message: tensor_pb2.Batch) -> None:
        fill_tensor(message.inputs, self.inputs)
        if self.labels is not None:
            fill_tensor(message.labels, self.labels)
        if self.label_names is not None:
            message.label_names.extend(self.label_names)
        if self.targets is not None:
            fill_tensor(message.targets, self.targets)
        if self.sample_weights is not None:
            fill_tensor(message.sample_weights, self.sample_weights)


def stored(array: Array, data_type: str) -> Any:
    """The bytes of an array in the precision in which the server stores it."""
    return np.ascontiguousarray(array, dtype=_STORED[data_type]).data
