"""How calls are made, shared by both clients: options, channels, credentials, retries."""

from __future__ import annotations

import ipaddress
import os
import random
import threading
import time
from dataclasses import dataclass
from typing import Any, Callable, Optional, Union

import grpc

from backprop.errors import Error, FailedPrecondition, Unauthenticated, invalid

DEFAULT_ADDRESS = "localhost:50051"
UNARY_SECONDS = 60.0
MAX_FILE_BYTES = 1 << 20
MAX_TOKEN_BYTES = 8192
MAX_RETRY_DELAY = 60.0


class _Default:
    """The default of timeout: 60 s for calls with one response, none for streams."""

    def __repr__(self) -> str:
        return "DEFAULT"


DEFAULT = _Default()
Timeout = Union[float, None, _Default]


@dataclass(frozen=True)
class Retry:
    """Retries of calls that end with UNAVAILABLE, or with RESOURCE_EXHAUSTED and a time to retry.

    The pause before a retry is random, at most first_pause, doubled each time up to last_pause
    (seconds), and follows the time that the server asks for. max_attempts = 1: no retries.
    """

    max_attempts: int = 8
    first_pause: float = 0.05
    last_pause: float = 1.0

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise invalid("max_attempts", f"must be at least 1, got {self.max_attempts}")
        if not 0 <= self.first_pause <= self.last_pause:
            raise invalid("first_pause", "must be at least 0 and at most last_pause")


@dataclass(frozen=True)
class Tls:
    """Encryption. Files are in PEM. ca: authorities to trust instead of the system's.

    certificate and key: the client's own, for mutual TLS. server_name: the name in the server's
    certificate, if it is not that of the address.
    """

    ca: Union[str, os.PathLike[str], None] = None
    certificate: Union[str, os.PathLike[str], None] = None
    key: Union[str, os.PathLike[str], None] = None
    server_name: Optional[str] = None


class Cancellation:
    """Cancels calls from another thread: pass it to calls, and call cancel()."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._actions: dict[int, Callable[[], object]] = {}
        self._next = 0

    def cancel(self) -> None:
        """Cancels the active calls that use this object, and all later ones."""
        with self._lock:
            self._event.set()
            actions = list(self._actions.values())
        for action in actions:
            action()

    @property
    def cancelled(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Sleeps; returns True as soon as cancel() is called."""
        return self._event.wait(seconds)

    def _add(self, action: Callable[[], object]) -> int:
        with self._lock:
            self._next += 1
            self._actions[self._next] = action
            number, now = self._next, self._event.is_set()
        if now:
            action()
        return number

    def _remove(self, number: int) -> None:
        with self._lock:
            self._actions.pop(number, None)


class Attempts:
    """Counts the attempts of a call, within its deadline."""

    def __init__(self, retry: Retry, timeout: Optional[float]) -> None:
        if timeout is not None and not timeout > 0:
            raise invalid("timeout", f"must be above 0, got {timeout}")
        self._retry = retry
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self.reset()

    def reset(self) -> None:
        """After progress, the next failure is the first one again."""
        self._made = 0
        self._pause = self._retry.first_pause

    def left(self) -> Optional[float]:
        """Seconds to the deadline; None if there is none."""
        return None if self._deadline is None else max(self._deadline - time.monotonic(), 0.001)

    def pause(self, error: Error) -> Optional[float]:
        """Seconds to wait before another attempt, or None: the error is final."""
        retried = error.code == "UNAVAILABLE" or (
            error.code == "RESOURCE_EXHAUSTED" and error.retry_delay is not None)
        self._made += 1
        if not retried or self._made >= self._retry.max_attempts:
            return None
        asked = min(max(error.retry_delay or 0.0, 0.0), MAX_RETRY_DELAY)
        pause = asked + random.uniform(0, self._pause)
        self._pause = min(self._pause * 2, self._retry.last_pause)
        if self._deadline is not None and time.monotonic() + pause >= self._deadline:
            return None
        return pause


def _is_unix(address: str) -> bool:
    return address.startswith(("unix:", "unix-abstract:"))


def this_machine(address: str) -> bool:
    """Whether an address is a Unix socket or a loopback address."""
    if _is_unix(address):
        return True
    target = address
    for scheme in ("dns:", "ipv4:", "ipv6:"):
        if target.startswith(scheme):
            target = target[len(scheme):].rpartition("//")[2].rpartition("/")[2]
    host = target[1:target.find("]")] if target.startswith("[") else target.rpartition(":")[0]
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(path: Union[str, os.PathLike[str]], what: str) -> bytes:
    try:
        if os.path.getsize(path) > MAX_FILE_BYTES:
            raise FailedPrecondition(f"{what}: {path} has more than 1 MiB")
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise FailedPrecondition(f"{what}: {path}: {error.strerror}") from None
    if not content:
        raise FailedPrecondition(f"{what}: {path} is empty")
    return content


def _checked_token(token: str) -> str:
    if not token:
        raise Unauthenticated("the token is empty")
    if len(token) > MAX_TOKEN_BYTES:
        raise Unauthenticated(f"the token has more than {MAX_TOKEN_BYTES} bytes")
    if not all(" " < c < "\x7f" for c in token):
        raise Unauthenticated("the token has white space, or characters other than ASCII")
    return token


class Credentials:
    """Certificates and the token of a client. The token file is read again when it changes."""

    def __init__(self, address: str, tls: Optional[Tls], token: Optional[str],
                 token_file: Union[str, os.PathLike[str], None], allow_clear_text: bool) -> None:
        if token is not None and token_file is not None:
            raise invalid("token", "at most one of token and token_file may be given")
        encrypted = tls is not None and not _is_unix(address)
        if token is None and token_file is None and os.environ.get("BACKPROP_TOKEN"):
            token = os.environ["BACKPROP_TOKEN"]
        self._token = None if token is None else _checked_token(token.strip())
        self._file = token_file
        self._seen: object = None
        self._lock = threading.Lock()
        has_token = token is not None or token_file is not None
        if has_token and not encrypted and not allow_clear_text and not this_machine(address):
            raise FailedPrecondition(
                f"the token is not sent to {address} in clear text; use tls, or allow_clear_text")
        self.channel: Optional[grpc.ChannelCredentials] = None
        if tls is not None and encrypted:
            if (tls.certificate is None) != (tls.key is None):
                raise invalid("tls", "a client certificate and its key must be given together")
            ca = None if tls.ca is None else _read(tls.ca, "the certificates of authorities")
            if ca is not None and b"-----BEGIN CERTIFICATE-----" not in ca:
                raise FailedPrecondition(f"{tls.ca}: holds no certificate in PEM")
            chain = None if tls.certificate is None else _read(tls.certificate, "the certificate")
            key = None if tls.key is None else _read(tls.key, "the private key")
            self.channel = grpc.ssl_channel_credentials(ca, key, chain)

    def metadata(self) -> Optional[tuple[tuple[str, str], ...]]:
        if self._file is not None:
            with self._lock:
                try:
                    about = os.stat(self._file)
                except OSError as error:
                    raise Unauthenticated(
                        f"the token file {self._file}: {error.strerror}") from None
                stamp = (about.st_ino, about.st_size, about.st_mtime_ns)
                if stamp != self._seen:
                    text = _read(self._file, "the token file").decode("ascii", "replace").strip()
                    self._token = _checked_token(text)
                    self._seen = stamp
        return None if self._token is None else (("authorization", "Bearer " + self._token),)


def channel_options(address: str, tls: Optional[Tls], keepalive: Optional[float],
                    use_proxy: bool) -> list[tuple[str, Any]]:
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", -1),  # the server enforces its limits
        ("grpc.max_send_message_length", -1),
        # By default gRPC fails every call for a second after a refused connection. Retries here
        # have pauses of their own.
        ("grpc.initial_reconnect_backoff_ms", 50),
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.min_reconnect_backoff_ms", 5000),  # the time that an attempt to connect may take
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 1 if use_proxy and not this_machine(address) else 0),
        ("grpc.enable_retries", 0),
    ]
    if keepalive is not None:
        if keepalive < 1:
            raise invalid("keepalive", f"must be at least 1 second, got {keepalive}")
        options += [("grpc.keepalive_time_ms", int(keepalive * 1000)),
                    ("grpc.keepalive_timeout_ms", 10_000),
                    ("grpc.http2.max_pings_without_data", 0)]  # streams may be idle
    if tls is not None and tls.server_name is not None:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return options


def address_of(address: Optional[str]) -> str:
    address = address or os.environ.get("BACKPROP_ADDRESS") or DEFAULT_ADDRESS
    if not isinstance(address, str):
        raise invalid("address", f"expected a string, got {type(address).__name__}")
    return address
