"""Values of scenarios: arrays, rows made by rules, expectations, and paths into results."""

import array
import base64
import math
import pathlib
import random
import sys

assert sys.byteorder == "little", "raw tensors are little-endian, and this driver does not swap bytes"

CODES = {"float32": "f", "float64": "d"}
# Larger arrays travel in files.
MAX_INLINE_BYTES = 1 << 20


class Mismatch(AssertionError):
    """A result differs from what the scenario expects."""


class Array:
    """A row-major array of float32 or float64. Equal if all bits are."""

    def __init__(self, shape, dtype, raw):
        if dtype not in CODES:
            raise Mismatch(f"dtype {dtype!r} is neither float32 nor float64")
        if math.prod(shape) * array.array(CODES[dtype]).itemsize != len(raw):
            raise Mismatch(f"{len(raw)} bytes are not an array of shape {shape} and dtype {dtype}")
        self.shape, self.dtype, self.raw = list(shape), dtype, bytes(raw)

    @classmethod
    def of(cls, shape, numbers, dtype="float32"):
        return cls(shape, dtype, array.array(CODES[dtype], numbers).tobytes())

    def numbers(self):
        return array.array(CODES[self.dtype], self.raw)

    def rows(self, first, count):
        width = len(self.raw) // self.shape[0]
        return Array([count, *self.shape[1:]], self.dtype, self.raw[first * width:(first + count) * width])

    def __eq__(self, other):
        if not isinstance(other, Array):
            return NotImplemented
        return (self.shape, self.dtype, self.raw) == (other.shape, other.dtype, other.raw)

    def __repr__(self):
        return f"<{self.dtype} {self.shape} {list(self.numbers()[:4])}…>"


def from_wire(value):
    """Replaces the arrays in a reply by Array."""
    if isinstance(value, list):
        return [from_wire(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "shape" in value and "dtype" in value:
        raw = pathlib.Path(value["file"]).read_bytes() if "file" in value else base64.b64decode(value["base64"])
        return Array(value["shape"], value["dtype"], raw)
    return {key: from_wire(item) for key, item in value.items()}


# --- Rows -------------------------------------------------------------------------------------------------

class Rows:
    """Inputs with labels or targets."""

    def __init__(self, inputs, labels=None, targets=None):
        self.inputs, self.labels, self.targets = inputs, labels, targets

    def slice(self, first, count):
        return Rows(self.inputs.rows(first, count),
                    None if self.labels is None else self.labels[first:first + count],
                    None if self.targets is None else self.targets.rows(first, count))


def _xor(rule, draw):
    numbers, labels = [], []
    for _ in range(rule["rows"]):
        x, y = draw.uniform(-1, 1), draw.uniform(-1, 1)
        numbers += [x, y]
        labels.append(int(x * y > 0))
    return [rule["rows"], 2], numbers, labels, None


def _wide(rule, draw):
    """Many features; the class is that of the sign of a product of two sums."""
    features, numbers, labels = rule["features"], [], []
    for _ in range(rule["rows"]):
        row = [draw.uniform(-1, 1) for _ in range(features)]
        half = features // 2
        numbers += row
        labels.append(int(sum(row[:half]) * sum(row[half:]) > 0))
    return [rule["rows"], features], numbers, labels, None


def _line(rule, draw):
    numbers = [draw.uniform(-1, 1) for _ in range(rule["rows"])]
    targets = Array.of([rule["rows"], 1], [2 * x + 1 for x in numbers], rule.get("dtype", "float32"))
    return [rule["rows"], 1], numbers, None, targets


def _large(rule, _):
    """Numbers in [2^-7, 2^-6), all different from their neighbours, made quickly; no labels."""
    count = rule["rows"] * rule["features"]
    seed = rule.get("seed", 0)
    bits = array.array("I", [0x3C000000 | ((i + seed) * 2654435761 & 0x7FFFFF) for i in range(count)])
    return [rule["rows"], rule["features"]], bits, None, None


KINDS = {"xor": _xor, "wide": _wide, "line": _line, "large": _large}


def make_rows(rule):
    """Rows by a rule {"kind", "rows", "seed"?, "dtype"?, "features"?}. The same rule makes the same bits."""
    dtype = rule.get("dtype", "float32")
    shape, numbers, labels, targets = KINDS[rule["kind"]](rule, random.Random(rule.get("seed", 0)))
    inputs = Array(shape, dtype, numbers.tobytes()) if isinstance(numbers, array.array) else \
        Array.of(shape, numbers, dtype)
    return Rows(inputs, labels, targets)


# --- Expectations -----------------------------------------------------------------------------------------

def at(value, path):
    """The part of a value at a path such as "tensors/layers[0].bias"; "" is the whole."""
    for key in filter(None, path.split("/")):
        try:
            value = value[int(key)] if isinstance(value, list) else value[key]
        except (KeyError, IndexError, TypeError, ValueError):
            raise Mismatch(f"there is no {path!r} in {shown(value)}") from None
    return value


def shown(value):
    text = repr(value)
    return text if len(text) <= 400 else text[:400] + "…"


def _increasing(values):
    return all(a < b for a, b in zip(values, values[1:]))


OPERATORS = {
    "$gt": lambda value, bound: value > bound,
    "$ge": lambda value, bound: value >= bound,
    "$lt": lambda value, bound: value < bound,
    "$le": lambda value, bound: value <= bound,
    "$ne": lambda value, other: value != other,
    "$in": lambda value, allowed: value in allowed,
    "$contains": lambda value, part: part in value,
    "$length": lambda value, length: len(value) == length,
    "$set": lambda value, wanted: bool(value) == wanted,
    "$near": lambda value, near: abs(value - near[0]) <= near[1],
    "$increasing": lambda value, wanted: _increasing(value) == wanted,
    "$first": lambda value, first: bool(value) and value[0] == first,
    "$range": lambda value, ends: list(value) == list(range(ends[0], ends[1] + 1)),
}


def match(value, expected, saved, where="result"):
    """Raises Mismatch unless `value` is as expected: objects may have more fields, lists are equal in length,
    {"$operator": x} compares, and {"$saved": name} is a saved value, equal to the last bit."""
    if isinstance(expected, dict) and expected and all(key.startswith("$") for key in expected):
        for operator, argument in expected.items():
            if operator == "$saved":
                if value != saved[argument]:
                    raise Mismatch(f"{where}: {shown(value)} is not the saved {argument}: {shown(saved[argument])}")
                continue
            if operator == "$any_of":
                if not any(_matches(value, one, saved) for one in argument):
                    raise Mismatch(f"{where}: {shown(value)} is none of {shown(argument)}")
                continue
            if operator == "$has":  # a list with an element that matches
                if not any(_matches(item, argument, saved) for item in value):
                    raise Mismatch(f"{where}: {shown(value)} has no element {shown(argument)}")
                continue
            try:
                good = OPERATORS[operator](value, argument)
            except TypeError:
                good = False
            if not good:
                raise Mismatch(f"{where}: {shown(value)} is not {operator} {shown(argument)}")
    elif isinstance(expected, dict):
        if not isinstance(value, dict):
            raise Mismatch(f"{where}: {shown(value)} is not an object")
        for key, item in expected.items():
            if key not in value:
                raise Mismatch(f"{where} has no {key}: {shown(value)}")
            match(value[key], item, saved, f"{where}/{key}")
    elif isinstance(expected, list):
        if not isinstance(value, list) or len(value) != len(expected):
            raise Mismatch(f"{where}: {shown(value)} is not a list of {len(expected)}")
        for i, item in enumerate(expected):
            match(value[i], item, saved, f"{where}/{i}")
    elif isinstance(value, bool) != isinstance(expected, bool) or value != expected:
        raise Mismatch(f"{where}: {shown(value)} instead of {shown(expected)}")


def _matches(value, expected, saved):
    try:
        match(value, expected, saved)
    except Mismatch:
        return False
    return True
