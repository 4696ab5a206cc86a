"""The asynchronous client: the calls and the rules of backprop.Client, for asyncio.

    async with backprop.aio.Client("localhost:50051") as client:
        async for event in client.start_training("xor", x, y, iterations=1000):
            ...

A call is cancelled by cancelling its task. Leaving an `async for` ends the call, which stops a run
that is not detached. A client belongs to the event loop that makes its first call.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import IO, Any, Callable, Optional, TypeVar, Union

import grpc
import grpc.aio
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from backprop import _ops, errors, results
from backprop._calls import (
    DEFAULT,
    UNARY_SECONDS,
    Attempts,
    Credentials,
    Retry,
    Timeout,
    Tls,
    address_of,
    channel_options,
)
from backprop._ops import METHODS, Checkpoints, EarlyStopping, Op, Rows
from backprop.client import (
    ModelLike,
    Path,
    _seconds,
    batch_of,
    check_in_flight,
    rewindable,
    step_message,
    whole_file,
)
from backprop.errors import Error
from backprop.progress import show
from backprop.server import Server
from backprop.spec import ModelSpec
from backprop.tensors import Batch

__all__ = ["Client", "TrainingRun", "serve"]

T = TypeVar("T")
OnEvent = Callable[[results.TrainingEvent], Union[Optional[bool], Awaitable[Optional[bool]]]]


class TrainingRun:
    """A run whose events are being read. Iterate over it once, with `async for`."""

    def __init__(self, client: Client, method: str, request: Any, ends_with_call: bool, first: int,
                 timeout: Timeout) -> None:
        self._client = client
        self._method = method
        self._request = request
        self._ends_with_call = ends_with_call
        self._first = first
        self._seen = 0
        self._attempts = Attempts(client._retry, _seconds(timeout, None))
        self._cancelled = False
        self._reconnected = False
        self._call: Any = None
        self.summary: Optional[results.TrainingSummary] = None

    def cancel(self) -> None:
        """Ends the call."""
        self._cancelled = True
        self._drop()

    def _drop(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None

    async def __aenter__(self) -> TrainingRun:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.summary is None:
            self.cancel()

    def __aiter__(self) -> _Events:
        return _Events(self)

    async def _next(self) -> results.TrainingEvent:
        while self.summary is None:
            error: Error
            if self._call is None:
                if self._cancelled:
                    raise errors.Cancelled("the caller cancelled the call")
                if self._method == "WatchTraining":
                    self._request.from_sequence = max(self._first, self._seen + 1)
                self._call = self._client._stream(self._method, self._request,
                                                  self._attempts.left())
            try:
                response = await self._call.read()
                if response is grpc.aio.EOF:
                    self._drop()
                    raise errors.Unavailable("the stream ended without a summary")
            except asyncio.CancelledError:
                self._drop()
                if self._cancelled:
                    raise errors.Cancelled("the caller cancelled the call") from None
                raise
            except grpc.aio.AioRpcError as raw:
                error = errors.from_rpc(raw, self._cancelled)
            else:
                self._attempts.reset()
                message = response.event
                if self._method == "WatchTraining" and not self._request.run:
                    self._request.run = message.run
                if message.sequence <= self._seen:
                    continue
                self._seen = message.sequence
                event = results.TrainingEvent.of(message)
                if event.summary is not None:
                    self._end(event.summary)
                return event
            self._drop()
            await self._client._pause(self._attempts, error)
            self._reconnected = True
        raise StopAsyncIteration

    def _end(self, summary: results.TrainingSummary) -> None:
        if self._reconnected and self._ends_with_call and summary.stop_reason == "cancelled":
            self._drop()
            raise errors.Unavailable(
                f"the connection broke, which stopped the run after {summary.iterations} "
                "iterations; a detached run would have continued", reason="CONNECTION_BROKE")
        self.summary = summary
        self._drop()

    async def wait(self, on_event: Optional[OnEvent] = None) -> results.TrainingSummary:
        """Reads the run to its end. on_event that returns False, or raises, ends the call."""
        async for event in self:
            if on_event is not None:
                wanted = on_event(event)
                if inspect.isawaitable(wanted):
                    wanted = await wanted
                if wanted is False:
                    if event.summary is None:
                        raise errors.Cancelled("on_event ended the call")
                    break
        if self.summary is None:
            raise errors.Cancelled("the call was cancelled")
        return self.summary


class _Events:
    """The iterator of a loop: when the loop is left, it is freed and ends the call."""

    def __init__(self, run: TrainingRun) -> None:
        self._run = run

    def __aiter__(self) -> _Events:
        return self

    async def __anext__(self) -> results.TrainingEvent:
        return await self._run._next()

    def __del__(self) -> None:
        self._run._drop()


async def _write(call: Any, message: Any) -> bool:
    """Sends a message. Returns False if the call has ended; its status says why.

    call.write() itself would replace the status of the server by INTERNAL if the call ends while
    the message is sent, so this calls what is below it.
    """
    try:
        await call.wait_for_connection()
        inner = getattr(call, "_cython_call", None)
        if inner is None or not hasattr(inner, "send_serialized_message"):
            await call.write(message)
        else:
            await inner.send_serialized_message(message.SerializeToString())
    except (cygrpc.InternalError, asyncio.InvalidStateError, grpc.aio.AioRpcError):
        return False
    return True


async def _done_writing(call: Any) -> None:
    with contextlib.suppress(cygrpc.InternalError, asyncio.InvalidStateError):
        await call.done_writing()


async def _error_of(call: Any) -> Error:
    """The error of a stream that ended."""
    code, text, trailing = (await call.code(), await call.details(),
                            await call.trailing_metadata())
    if code is grpc.StatusCode.OK:
        return errors.Unavailable("the stream ended before its last response")
    return errors.from_rpc(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, text))


class Client:
    """A connection to a server for asyncio; see backprop.Client for addresses and options."""

    def __init__(self, address: Optional[str] = None, *, tls: Optional[Tls] = None,
                 token: Optional[str] = None, token_file: Optional[Path] = None,
                 allow_clear_text: bool = False, retry: Optional[Retry] = None,
                 keepalive: Optional[float] = 10.0, use_proxy: bool = True) -> None:
        self.address = address_of(address)
        self._retry = retry or Retry()
        self._credentials = Credentials(self.address, tls, token, token_file, allow_clear_text)
        self._options = channel_options(self.address, tls, keepalive, use_proxy)
        self._opened: Any = None
        self._calls: dict[tuple[str, str], Any] = {}

    @property
    def _channel(self) -> Any:
        if self._opened is None:  # a channel belongs to the loop in which it is made
            if self._credentials.channel is None:
                self._opened = grpc.aio.insecure_channel(self.address, self._options)
            else:
                self._opened = grpc.aio.secure_channel(self.address, self._credentials.channel,
                                                       self._options)
        return self._opened

    async def close(self) -> None:
        """Closes the connection; active calls end."""
        if self._opened is not None:
            await self._opened.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"aio.Client({self.address!r})"

    # How calls are made.

    def _callable(self, method: str, shape: str) -> Any:
        made = self._calls.get((method, shape))
        if made is None:
            about = METHODS[method]
            made = getattr(self._channel, shape)(about.path, about.serialize, about.parse)
            self._calls[method, shape] = made
        return made

    async def _pause(self, attempts: Attempts, error: Error) -> None:
        pause = attempts.pause(error)
        if pause is None:
            raise error from None
        await asyncio.sleep(pause)

    async def _unary(self, op: Op[T], timeout: Timeout) -> T:
        attempts = Attempts(self._retry, _seconds(timeout, UNARY_SECONDS))
        method = self._callable(op.method, "unary_unary")
        while True:
            try:
                return op.decode(await method(op.request, timeout=attempts.left(),
                                              metadata=self._credentials.metadata()))
            except grpc.aio.AioRpcError as raw:
                error = errors.from_rpc(raw)
            await self._pause(attempts, error)

    def _stream(self, method: str, request: Any, timeout: Optional[float]) -> Any:
        return self._callable(method, "unary_stream")(request, timeout=timeout,
                                                      metadata=self._credentials.metadata())

    async def _pages(self, op: Callable[[str], Op[tuple[list[T], str]]],
                     timeout: Timeout) -> AsyncIterator[T]:
        token = ""
        while True:
            page, token = await self._unary(op(token), timeout)
            for item in page:
                yield item
            if not token:
                return

    async def _send(self, method: str, messages: Iterator[Any], timeout: Optional[float]) -> Any:
        """A client stream; raises AioRpcError, or what messages raised."""
        call = self._callable(method, "stream_unary")(
            timeout=timeout, metadata=self._credentials.metadata())
        try:
            for message in messages:
                if not await _write(call, message):
                    break
            await _done_writing(call)
            return await call
        finally:
            call.cancel()

    # Models.

    async def create_model(self, spec: ModelSpec, model_id: Optional[str] = None, *,
                           labels: Optional[Mapping[str, str]] = None,
                           ttl: Union[float, timedelta, None] = None,
                           durability: Optional[str] = None,
                           initial_parameters: Union[
                               results.Parameters, Mapping[str, Any], None] = None,
                           request_id: Optional[str] = None,
                           timeout: Timeout = DEFAULT) -> results.Model:
        return await self._unary(_ops.create_model(
            spec, model_id, labels, ttl, durability, initial_parameters, request_id), timeout)

    async def get_model(self, model: ModelLike, *, timeout: Timeout = DEFAULT) -> results.Model:
        return await self._unary(_ops.get_model(model), timeout)

    def list_models(self, labels: Optional[Mapping[str, str]] = None, *, page_size: int = 0,
                    timeout: Timeout = DEFAULT) -> AsyncIterator[results.Model]:
        return self._pages(lambda token: _ops.list_models(labels, page_size, token), timeout)

    async def delete_model(self, model: ModelLike, *, request_id: Optional[str] = None,
                           timeout: Timeout = DEFAULT) -> None:
        await self._unary(_ops.delete_model(model, request_id), timeout)

    # Runs.

    def start_training(
        self, model: ModelLike, inputs: Any = None, labels: Any = None, *, targets: Any = None,
        sample_weights: Any = None, dataset: Optional[str] = None,
        iterations: Optional[int] = None, epochs: Optional[int] = None,
        batch_size: Optional[int] = None, shuffle: Optional[bool] = None,
        report_every: Optional[int] = None, report_interval: Union[float, timedelta, None] = None,
        validation: Any = None, validation_split: Optional[float] = None,
        validation_dataset: Optional[str] = None, stratify: Optional[bool] = None,
        redraw_validation_split: Optional[bool] = None,
        early_stopping: Union[EarlyStopping, bool, None] = None,
        checkpoints: Optional[Checkpoints] = None, continue_epoch: Optional[bool] = None,
        detach: bool = False, wait: bool = False, request_id: Optional[str] = None,
        timeout: Timeout = DEFAULT,
    ) -> TrainingRun:
        if early_stopping is True:
            early_stopping = EarlyStopping()
        config = {
            "iterations": iterations, "epochs": epochs, "batch_size": batch_size,
            "shuffle": shuffle, "report_every": report_every, "report_interval": report_interval,
            "validation_split": validation_split, "stratify": stratify,
            "redraw_validation_split": redraw_validation_split,
            "early_stopping": early_stopping or None, "checkpoints": checkpoints,
            "continue_epoch": continue_epoch,
        }
        data = None if inputs is None else batch_of(inputs, labels, targets, sample_weights)
        request = _ops.train(model, data, dataset,
                             None if validation is None else Batch.of(validation),
                             validation_dataset, config, detach, wait, request_id)
        return TrainingRun(self, "Train", request, not detach, 0, timeout)

    async def train(self, model: ModelLike, inputs: Any = None, labels: Any = None, *,
                    on_event: Optional[OnEvent] = None, progress: Union[bool, str] = False,
                    **options: Any) -> results.TrainingSummary:
        """Trains a model and returns the summary; takes the options of start_training()."""
        run = self.start_training(model, inputs, labels, **options)
        with show(progress) as display:
            async with run:
                async def see(event: results.TrainingEvent) -> Optional[bool]:
                    display(event)
                    wanted = None if on_event is None else on_event(event)
                    return await wanted if inspect.isawaitable(wanted) else wanted

                return await run.wait(see)

    def watch_training(self, model: ModelLike, *, run: str = "", from_sequence: int = 0,
                       timeout: Timeout = DEFAULT) -> TrainingRun:
        return TrainingRun(self, "WatchTraining", _ops.watch(model, run, from_sequence), False,
                           from_sequence, timeout)

    async def stop_training(self, model: ModelLike, *, run: str = "",
                            request_id: Optional[str] = None,
                            timeout: Timeout = DEFAULT) -> results.StoppedRun:
        return await self._unary(_ops.stop_training(model, run, request_id), timeout)

    # Steps and gradients.

    async def step(self, model: ModelLike, inputs: Any, labels: Any = None, *, targets: Any = None,
                   sample_weights: Any = None, expected_step: Optional[int] = None,
                   request_id: Optional[str] = None,
                   timeout: Timeout = DEFAULT) -> results.StepResult:
        batch = batch_of(inputs, labels, targets, sample_weights)
        return await self._unary(_ops.step(model, batch, expected_step, request_id), timeout)

    async def steps(self, model: ModelLike, batches: Iterable[Any], *, in_flight: int = 32,
                    timeout: Timeout = DEFAULT) -> AsyncIterator[results.StepResult]:
        """Pipelined steps; see backprop.Client.steps()."""
        check_in_flight(in_flight)
        attempts = Attempts(self._retry, _seconds(timeout, None))
        source = iter(batches)
        pending: deque[Any] = deque()
        more = True
        while True:
            call = self._callable("StepStream", "stream_stream")(
                timeout=attempts.left(), metadata=self._credentials.metadata())
            error: Error
            try:
                sending = True
                for request in list(pending):
                    sending = sending and await _write(call, request)
                while sending:
                    while more and len(pending) < in_flight:
                        request = step_message(model, source)
                        more = request is not None
                        if request is not None:
                            pending.append(request)
                            sending = sending and await _write(call, request)
                    if not pending:
                        await _done_writing(call)
                        return
                    response = await call.read()
                    if response is grpc.aio.EOF:
                        break
                    pending.popleft()
                    attempts.reset()
                    if response.HasField("error"):
                        raise errors.from_status(response.error)
                    yield results.StepResult.of(response.step)
                error = await _error_of(call)
            except grpc.aio.AioRpcError as raw:
                error = errors.from_rpc(raw)
            finally:
                call.cancel()
            await self._pause(attempts, error)

    async def compute_gradients(self, model: ModelLike, inputs: Any, labels: Any = None, *,
                                targets: Any = None, sample_weights: Any = None,
                                timeout: Timeout = DEFAULT) -> results.Gradients:
        batch = batch_of(inputs, labels, targets, sample_weights)
        return await self._unary(_ops.compute_gradients(model, batch), timeout)

    async def apply_gradients(self, model: ModelLike,
                              gradients: Union[results.Gradients, Mapping[str, Any]], *,
                              expected_step: Optional[int] = None,
                              request_id: Optional[str] = None,
                              timeout: Timeout = DEFAULT) -> results.AppliedGradients:
        return await self._unary(_ops.apply_gradients(model, gradients, expected_step, request_id),
                                 timeout)

    # Predictions and measures.

    async def predict(self, model: ModelLike, inputs: Any, *,
                      outputs: Union[str, Sequence[str]] = (),
                      timeout: Timeout = DEFAULT) -> results.Prediction:
        return await self._unary(_ops.predict(model, inputs, outputs), timeout)

    async def evaluate(self, model: ModelLike, inputs: Any = None, labels: Any = None, *,
                       targets: Any = None, sample_weights: Any = None,
                       dataset: Optional[str] = None, top_k: Optional[int] = None,
                       summary_only: bool = False,
                       timeout: Timeout = DEFAULT) -> results.Evaluation:
        data = None if inputs is None else batch_of(inputs, labels, targets, sample_weights)
        return await self._unary(_ops.evaluate(model, data, dataset, top_k, summary_only), timeout)

    async def grad_check(self, model: ModelLike, inputs: Any, labels: Any = None, *,
                         targets: Any = None, sample_weights: Any = None,
                         tolerance: Optional[float] = None,
                         kernel_tolerance: Optional[float] = None,
                         max_entries_per_tensor: Optional[int] = None, seed: Optional[int] = None,
                         timeout: Timeout = DEFAULT) -> results.GradCheck:
        batch = batch_of(inputs, labels, targets, sample_weights)
        return await self._unary(_ops.grad_check(
            model, batch, tolerance=tolerance, kernel_tolerance=kernel_tolerance,
            max_entries_per_tensor=max_entries_per_tensor, seed=seed), timeout)

    # Parameters and checkpoints.

    async def get_parameters(self, model: ModelLike, *, with_optimizer_state: bool = True,
                             timeout: Timeout = DEFAULT) -> results.Parameters:
        return await self._unary(_ops.get_parameters(model, with_optimizer_state), timeout)

    async def set_parameters(self, model: ModelLike,
                             parameters: Union[results.Parameters, Mapping[str, Any]], *,
                             expected_step: Optional[int] = None,
                             request_id: Optional[str] = None, timeout: Timeout = DEFAULT) -> int:
        return await self._unary(_ops.set_parameters(model, parameters, expected_step, request_id),
                                 timeout)

    async def create_checkpoint(self, model: ModelLike, checkpoint: str, *,
                                request_id: Optional[str] = None,
                                timeout: Timeout = DEFAULT) -> results.Checkpoint:
        return await self._unary(_ops.create_checkpoint(model, checkpoint, request_id), timeout)

    def list_checkpoints(self, model: ModelLike, *,
                         timeout: Timeout = DEFAULT) -> AsyncIterator[results.Checkpoint]:
        return self._pages(lambda token: _ops.list_checkpoints(model, token), timeout)

    async def restore_checkpoint(self, model: ModelLike,
                                 checkpoint: Union[str, results.Checkpoint], *,
                                 expected_step: Optional[int] = None,
                                 request_id: Optional[str] = None,
                                 timeout: Timeout = DEFAULT) -> int:
        return await self._unary(_ops.restore_checkpoint(model, checkpoint, expected_step,
                                                         request_id), timeout)

    async def delete_checkpoint(self, model: ModelLike,
                                checkpoint: Union[str, results.Checkpoint], *,
                                request_id: Optional[str] = None,
                                timeout: Timeout = DEFAULT) -> None:
        await self._unary(_ops.delete_checkpoint(model, checkpoint, request_id), timeout)

    # Datasets.

    async def upload_dataset(self, dataset: str, inputs: Union[Rows, Any], labels: Any = None, *,
                             targets: Any = None, sample_weights: Any = None,
                             data_type: Optional[str] = None,
                             dataset_labels: Optional[Mapping[str, str]] = None,
                             feature_names: Optional[Sequence[str]] = None,
                             chunk_rows: Optional[int] = None,
                             on_progress: Optional[Callable[[int], None]] = None,
                             request_id: Optional[str] = None,
                             timeout: Timeout = DEFAULT) -> results.Dataset:
        rows: Rows = inputs if callable(inputs) else batch_of(inputs, labels, targets,
                                                              sample_weights)
        upload = _ops.upload(dataset, rows, data_type, dataset_labels, feature_names, chunk_rows,
                             on_progress, request_id)
        attempts = Attempts(self._retry, _seconds(timeout, None))
        while True:
            try:
                response = await self._send("UploadDataset", upload.messages(), attempts.left())
                return results.Dataset.of(response.dataset)
            except grpc.aio.AioRpcError as raw:
                error = errors.from_rpc(raw)
            if error.reason == "ROWS_MISSING":
                upload.known = int(error.metadata["expected_row"])
                await self._pause(attempts, errors.Unavailable(error.message))
                continue
            await self._pause(attempts, error)
            left = attempts.left()
            try:
                known = (await self.get_dataset(
                    dataset, timeout=DEFAULT if left is None else left)).rows
            except (errors.NotFound, errors.Unavailable):
                known = 0
            if known > upload.known:
                attempts.reset()
            upload.known = known

    async def get_dataset(self, dataset: Union[str, results.Dataset], *,
                          timeout: Timeout = DEFAULT) -> results.Dataset:
        return await self._unary(_ops.get_dataset(dataset), timeout)

    def list_datasets(self, *, timeout: Timeout = DEFAULT) -> AsyncIterator[results.Dataset]:
        return self._pages(_ops.list_datasets, timeout)

    async def delete_dataset(self, dataset: Union[str, results.Dataset], *,
                             request_id: Optional[str] = None,
                             timeout: Timeout = DEFAULT) -> None:
        await self._unary(_ops.delete_dataset(dataset, request_id), timeout)

    # Files.

    async def _receive(self, method: str, request: Any, write: Callable[[bytes], object],
                       restart: Callable[[], object], timeout: Timeout) -> int:
        attempts = Attempts(self._retry, _seconds(timeout, None))
        while True:
            size = 0
            call = self._stream(method, request, attempts.left())
            try:
                async for response in call:
                    write(response.data)
                    size += len(response.data)
                return size
            except grpc.aio.AioRpcError as raw:
                error = errors.from_rpc(raw)
            finally:
                call.cancel()
            await self._pause(attempts, error)
            restart()

    async def export_model(self, model: ModelLike, path: Optional[Path] = None, *,
                           timeout: Timeout = DEFAULT) -> bytes:
        """Returns the bytes of the model, or writes them to a file and returns b""."""
        request = _ops.rpc.ExportModelRequest(model=_ops.model_name(model))
        if path is not None:
            with whole_file(path) as file:
                await self._receive("ExportModel", request, file.write,
                                    lambda: (file.seek(0), file.truncate()), timeout)
            return b""
        content = bytearray()
        await self._receive("ExportModel", request, content.extend, content.clear, timeout)
        return bytes(content)

    async def import_model(self, source: Union[bytes, Path, IO[bytes]],
                           model_id: Optional[str] = None, *, durability: Optional[str] = None,
                           request_id: Optional[str] = None,
                           timeout: Timeout = DEFAULT) -> results.Model:
        number = _ops.new_id() if request_id is None else request_id
        response = await self._upload_file(
            "ImportModel", source,
            lambda file: _ops.import_messages(file, model_id, durability, number), timeout)
        return results.Model.of(response.model)

    async def _upload_file(self, method: str, source: Any,
                           messages: Callable[[Any], Iterable[Any]], timeout: Timeout) -> Any:
        attempts = Attempts(self._retry, _seconds(timeout, None))
        with contextlib.ExitStack() as stack:
            rewind, source = rewindable(source, stack)
            while True:
                try:
                    return await self._send(method, iter(messages(source)), attempts.left())
                except grpc.aio.AioRpcError as raw:
                    error = errors.from_rpc(raw)
                if rewind is None:
                    raise error
                await self._pause(attempts, error)
                rewind()

    async def create_backup(self, path: Path, *, project: Optional[str] = None,
                            timeout: Timeout = DEFAULT) -> int:
        name = "" if project is None else _ops._named("projects/", project, "project")
        with whole_file(path) as file:
            return await self._receive(
                "CreateBackup", _ops.admin.CreateBackupRequest(project=name), file.write,
                lambda: (file.seek(0), file.truncate()), timeout)

    async def restore_backup(self, source: Union[bytes, Path, IO[bytes]], *,
                             timeout: Timeout = DEFAULT) -> tuple[int, int]:
        response = await self._upload_file("RestoreBackup", source, _ops.restore_messages, timeout)
        return response.models, response.runs

    # The server.

    async def health(self, service: str = "", *, timeout: Timeout = DEFAULT) -> bool:
        return await self._unary(_ops.health(service), timeout)

    async def server_status(self, *, full: bool = False,
                            timeout: Timeout = DEFAULT) -> results.ServerStatus:
        return await self._unary(_ops.server_status(full), timeout)

    async def get_project(self, project: str, *, timeout: Timeout = DEFAULT) -> results.Project:
        return await self._unary(_ops.get_project(project), timeout)

    def list_projects(self, *, timeout: Timeout = DEFAULT) -> AsyncIterator[results.Project]:
        return self._pages(_ops.list_projects, timeout)


@contextlib.asynccontextmanager
async def serve(data_dir: Union[str, os.PathLike[str], None] = None, *, flags: Sequence[str] = (),
                binary: Optional[str] = None, **options: Any) -> AsyncIterator[Client]:
    """Starts a server and yields a client of it; both end with the block."""
    loop = asyncio.get_running_loop()
    server = await loop.run_in_executor(
        None, lambda: Server(data_dir, flags=flags, binary=binary))
    try:
        options.setdefault("use_proxy", False)
        async with Client(server.address, **options) as client:
            yield client
    finally:
        await loop.run_in_executor(None, server.close)
