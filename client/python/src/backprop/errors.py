"""The errors of the package: one hierarchy, with the fields and reasons that the server gives.

Error has a subclass for each canonical code. What the client refuses before sending is the same
InvalidArgument that the server would answer with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Optional, Protocol

import grpc

from backprop.rpc import error_details_pb2, status_pb2

__all__ = [
    "Aborted",
    "AlreadyExists",
    "Cancelled",
    "DataLoss",
    "DeadlineExceeded",
    "Error",
    "FailedPrecondition",
    "InvalidArgument",
    "NotFound",
    "PermissionDenied",
    "ResourceExhausted",
    "StepMismatch",
    "Unauthenticated",
    "Unavailable",
    "Violation",
]

_DETAILS = "grpc-status-details-bin"
# What grpc.aio says if the connection breaks while a message is sent.
_BROKEN_WRITE = "Internal error from Core"


@dataclass(frozen=True)
class Violation:
    """What is wrong with a field of a request; the path of the field is the server's."""

    field: str
    description: str


class Error(Exception):
    """A call failed.

    code: the canonical code, such as "NOT_FOUND".
    message: the text of the server.
    violations: the wrong fields of an INVALID_ARGUMENT.
    reason, metadata: google.rpc.ErrorInfo, such as MODEL_NOT_FOUND and {"model": "models/x"}.
    retry_delay: seconds after which the server asks to retry, or None.
    """

    code = "UNKNOWN"

    def __init__(
        self,
        message: str,
        *,
        code: Optional[str] = None,
        violations: Iterable[Violation] = (),
        reason: str = "",
        metadata: Optional[Mapping[str, str]] = None,
        retry_delay: Optional[float] = None,
    ) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code
        self.message = message
        self.violations = tuple(violations)
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.retry_delay = retry_delay

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    def __reduce__(self) -> tuple[object, ...]:
        return (_again, (type(self), self.message, self.code, self.violations, self.reason,
                         self.metadata, self.retry_delay))


def _again(kind: type[Error], message: str, code: str, violations: tuple[Violation, ...],
           reason: str, metadata: dict[str, str], retry_delay: Optional[float]) -> Error:
    return kind(message, code=code, violations=violations, reason=reason, metadata=metadata,
                retry_delay=retry_delay)


class InvalidArgument(Error, ValueError):
    """The request is wrong; violations say where and why."""

    code = "INVALID_ARGUMENT"


class NotFound(Error, LookupError):
    """There is no such model, run, dataset or checkpoint."""

    code = "NOT_FOUND"


class AlreadyExists(Error):
    """The id is in use."""

    code = "ALREADY_EXISTS"


class Aborted(Error):
    """The request met a state that it did not expect."""

    code = "ABORTED"


class StepMismatch(Aborted):
    """The model is not at expected_step; current_step says where it is."""

    @property
    def current_step(self) -> int:
        return int(self.metadata.get("current_step", -1))


class FailedPrecondition(Error):
    """The state of the model or server does not allow the request; reason says which."""

    code = "FAILED_PRECONDITION"


class ResourceExhausted(Error):
    """A limit or a quota is reached."""

    code = "RESOURCE_EXHAUSTED"


class Unavailable(Error, ConnectionError):
    """The server cannot be reached, is overloaded, or stops. Retries were made."""

    code = "UNAVAILABLE"


class DeadlineExceeded(Error, TimeoutError):
    """The timeout ended."""

    code = "DEADLINE_EXCEEDED"


class Cancelled(Error):
    """The caller cancelled the call."""

    code = "CANCELLED"


class Unauthenticated(Error):
    """The server does not know the caller."""

    code = "UNAUTHENTICATED"


class PermissionDenied(Error):
    """The role of the caller is too low."""

    code = "PERMISSION_DENIED"


class DataLoss(Error):
    """Stored records are damaged."""

    code = "DATA_LOSS"


_KINDS: dict[str, type[Error]] = {
    kind.code: kind
    for kind in (InvalidArgument, NotFound, AlreadyExists, Aborted, FailedPrecondition,
                 ResourceExhausted, Unavailable, DeadlineExceeded, Cancelled, Unauthenticated,
                 PermissionDenied, DataLoss)
}


class RpcError(Protocol):
    """What grpc and grpc.aio raise."""

    def code(self) -> grpc.StatusCode: ...

    def details(self) -> Optional[str]: ...

    def trailing_metadata(self) -> object: ...


def from_details(code: str, message: str, details: Iterable[object]) -> Error:
    """Makes an error of a code, a message and details (google.protobuf.Any)."""
    violations: list[Violation] = []
    reason, metadata, delay = "", {}, None
    for detail in details:
        # The messages are generated under another package, so the type is compared by its end.
        kind = detail.type_url.rpartition("google.rpc.")[2]  # type: ignore[attr-defined]
        value = detail.value  # type: ignore[attr-defined]
        if kind == "BadRequest":
            bad = error_details_pb2.BadRequest.FromString(value)
            violations += [Violation(v.field, v.description) for v in bad.field_violations]
        elif kind == "ErrorInfo":
            info = error_details_pb2.ErrorInfo.FromString(value)
            reason, metadata = info.reason, dict(info.metadata)
        elif kind == "RetryInfo":
            retry = error_details_pb2.RetryInfo.FromString(value)
            delay = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    kind_of_error = _KINDS.get(code, Error)
    if reason == "STEP_MISMATCH":
        kind_of_error = StepMismatch
    return kind_of_error(message, code=code, violations=violations, reason=reason,
                         metadata=metadata, retry_delay=delay)


def from_rpc(error: RpcError, cancelled_here: bool = False) -> Error:
    """Makes an error of what gRPC raised.

    CANCELLED that the caller did not ask for is UNAVAILABLE: a server that shuts down cancels
    calls, and they may be retried.
    """
    code = error.code().name
    message = error.details() or ""
    if code == "CANCELLED" and not cancelled_here:
        return Unavailable("the server cancelled the call")
    if code == "INTERNAL" and message == _BROKEN_WRITE:
        return Unavailable("the connection broke")
    status = status_pb2.Status()
    for key, value in error.trailing_metadata() or ():  # type: ignore[attr-defined]
        if key == _DETAILS and isinstance(value, bytes):
            try:
                status.ParseFromString(value)
            except Exception:  # a proxy wrote the trailer
                status = status_pb2.Status()
    return from_details(code, message, status.details)


def from_status(status: object) -> Error:
    """Makes an error of a google.rpc.Status in a message."""
    code = next(c.name for c in grpc.StatusCode if c.value[0] == status.code)  # type: ignore[attr-defined]
    return from_details(code, status.message, status.details)  # type: ignore[attr-defined]


def invalid(field: str, description: str) -> InvalidArgument:
    """The error of a wrong field that the client found itself."""
    return InvalidArgument(f"{field}: {description}", violations=[Violation(field, description)])
