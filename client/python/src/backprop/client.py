"""The blocking client."""

from __future__ import annotations

import contextlib
import os
import queue
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import IO, Any, Callable, Optional, TypeVar, Union

import grpc

from backprop import _ops, errors, results
from backprop._calls import (
    DEFAULT,
    UNARY_SECONDS,
    Attempts,
    Cancellation,
    Credentials,
    Retry,
    Timeout,
    Tls,
    _Default,
    address_of,
    channel_options,
)
from backprop._ops import METHODS, Checkpoints, EarlyStopping, Op, Rows
from backprop.errors import Error
from backprop.progress import show
from backprop.spec import ModelSpec
from backprop.tensors import Batch

__all__ = ["Client", "TrainingRun"]

T = TypeVar("T")
ModelLike = Union[str, results.Model]
OnEvent = Callable[[results.TrainingEvent], Optional[bool]]
Path = Union[str, "os.PathLike[str]"]


def batch_of(inputs: Any, labels: Any, targets: Any, sample_weights: Any) -> Batch:
    if isinstance(inputs, Batch):
        return inputs
    return Batch(inputs, labels, targets, sample_weights)


def _seconds(timeout: Timeout, default: Optional[float]) -> Optional[float]:
    return default if isinstance(timeout, _Default) else timeout


def _ignore(state: grpc.ChannelConnectivity) -> None:
    pass


class _Scope:
    """While it is open, a cancellation cancels the call."""

    def __init__(self, cancellation: Optional[Cancellation], call: Any) -> None:
        self._cancellation = cancellation
        self._number = 0 if cancellation is None else cancellation._add(call.cancel)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        if self._cancellation is not None:
            self._cancellation._remove(self._number)


def _cancelled(cancellation: Optional[Cancellation]) -> bool:
    return cancellation is not None and cancellation.cancelled


class TrainingRun:
    """A run whose events are being read. Iterate over it; leaving the loop ends the call, which
    stops a run that is not detached. summary is the last event's, or None before.
    """

    def __init__(self, client: Client, method: str, request: Any, ends_with_call: bool,
                 first: int, timeout: Timeout, cancellation: Optional[Cancellation]) -> None:
        self._client = client
        self._method = method
        self._request = request
        self._ends_with_call = ends_with_call
        self._first = first
        self._seen = 0  # the sequence of the last event
        self._attempts = Attempts(client._retry, _seconds(timeout, None))
        self._cancellation = cancellation or Cancellation()
        self.summary: Optional[results.TrainingSummary] = None

    def cancel(self) -> None:
        """Ends the call, from any thread."""
        self._cancellation.cancel()

    def __enter__(self) -> TrainingRun:
        return self

    def __exit__(self, *_: object) -> None:
        if self.summary is None:
            self.cancel()

    def __iter__(self) -> Iterator[results.TrainingEvent]:
        reconnected = False
        while self.summary is None:
            if self._method == "WatchTraining":
                self._request.from_sequence = max(self._first, self._seen + 1)
            # A watch of the latest run stays with that run.
            call = self._client._stream(self._method, self._request, self._attempts.left())
            try:
                with _Scope(self._cancellation, call):
                    for response in call:
                        self._attempts.reset()
                        message = response.event
                        if self._method == "WatchTraining" and not self._request.run:
                            self._request.run = message.run
                        if message.sequence <= self._seen:
                            continue
                        self._seen = message.sequence
                        event = results.TrainingEvent.of(message)
                        if event.summary is not None:
                            self._end(event.summary, reconnected)
                        yield event
                if self.summary is None:
                    raise errors.Unavailable("the stream ended without a summary")
                return
            except grpc.RpcError as raw:
                error = errors.from_rpc(raw, self._cancellation.cancelled)
                if self.summary is not None:
                    return
                self._client._pause(self._attempts, error, self._cancellation)
                reconnected = True
            finally:
                call.cancel()

    def _end(self, summary: results.TrainingSummary, reconnected: bool) -> None:
        if reconnected and self._ends_with_call and summary.stop_reason == "cancelled":
            raise errors.Unavailable(
                f"the connection broke, which stopped the run after {summary.iterations} "
                "iterations; a detached run would have continued", reason="CONNECTION_BROKE")
        self.summary = summary

    def wait(self, on_event: Optional[OnEvent] = None) -> results.TrainingSummary:
        """Reads the run to its end. on_event that returns False, or raises, ends the call."""
        for event in self:
            if on_event is not None and on_event(event) is False:
                if event.summary is None:
                    raise errors.Cancelled("on_event ended the call")
                break
        if self.summary is None:
            raise errors.Cancelled("the call was cancelled")
        return self.summary


class Client:
    """A connection to a server. Connects with the first call. Thread-safe.

    address: "host:port" or "unix:path". Default: $BACKPROP_ADDRESS, or localhost:50051.
    tls: encryption; without it clear text. token or token_file: a bearer token, by default
    $BACKPROP_TOKEN; it is sent over clear text to this machine only, unless allow_clear_text.

    Models, datasets and checkpoints are named by their id or their full name. Every call takes
    timeout (seconds for the call with its retries; default 60, for streams none), and cancellation.
    Calls that change something take request_id, which makes a repetition return the first response;
    by default a random one, for the retries of the call. A call that fails raises backprop.Error.
    """

    def __init__(self, address: Optional[str] = None, *, tls: Optional[Tls] = None,
                 token: Optional[str] = None, token_file: Optional[Path] = None,
                 allow_clear_text: bool = False, retry: Optional[Retry] = None,
                 keepalive: Optional[float] = 10.0, use_proxy: bool = True) -> None:
        self.address = address_of(address)
        self._retry = retry or Retry()
        self._credentials = Credentials(self.address, tls, token, token_file, allow_clear_text)
        options = channel_options(self.address, tls, keepalive, use_proxy)
        if self._credentials.channel is None:
            self._channel = grpc.insecure_channel(self.address, options)
        else:
            self._channel = grpc.secure_channel(self.address, self._credentials.channel, options)
        self._calls: dict[tuple[str, str], Any] = {}

    def close(self) -> None:
        """Closes the connection; active calls end."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.address!r})"

    # How calls are made.

    def _callable(self, method: str, shape: str) -> Any:
        made = self._calls.get((method, shape))
        if made is None:
            about = METHODS[method]
            made = getattr(self._channel, shape)(about.path, about.serialize, about.parse)
            self._calls[method, shape] = made
        return made

    def _pause(self, attempts: Attempts, error: Error,
               cancellation: Optional[Cancellation]) -> None:
        """Sleeps before another attempt, or raises the error."""
        pause = attempts.pause(error)
        if pause is None:
            raise error from None
        # A channel without a call or a subscriber is not polled: the next attempt to connect would
        # begin, but not end, in each call. The subscription connects during the pause.
        self._channel.subscribe(_ignore, try_to_connect=True)
        try:
            if cancellation is None:
                time.sleep(pause)
            elif cancellation.wait(pause):
                raise errors.Cancelled("the caller cancelled the call") from None
        finally:
            self._channel.unsubscribe(_ignore)

    def _unary(self, op: Op[T], timeout: Timeout,
               cancellation: Optional[Cancellation] = None) -> T:
        attempts = Attempts(self._retry, _seconds(timeout, UNARY_SECONDS))
        method = self._callable(op.method, "unary_unary")
        while True:
            try:
                metadata = self._credentials.metadata()
                if cancellation is None:
                    return op.decode(method(op.request, attempts.left(), metadata))
                call = method.future(op.request, attempts.left(), metadata)
                with _Scope(cancellation, call):
                    return op.decode(call.result())
            except grpc.FutureCancelledError:
                raise errors.Cancelled("the caller cancelled the call") from None
            except grpc.RpcError as raw:
                error = errors.from_rpc(raw, _cancelled(cancellation))
            self._pause(attempts, error, cancellation)

    def _stream(self, method: str, request: Any, timeout: Optional[float]) -> Any:
        return self._callable(method, "unary_stream")(request, timeout,
                                                      self._credentials.metadata())

    def _pages(self, op: Callable[[str], Op[tuple[list[T], str]]], timeout: Timeout,
               cancellation: Optional[Cancellation]) -> Iterator[T]:
        token = ""
        while True:
            page, token = self._unary(op(token), timeout, cancellation)
            yield from page
            if not token:
                return

    def _send(self, method: str, messages: Iterator[Any], timeout: Optional[float],
              cancellation: Optional[Cancellation]) -> Any:
        """A client stream; raises grpc.RpcError, or what messages raised."""
        failures: list[BaseException] = []

        def watched() -> Iterator[Any]:  # gRPC runs it in a thread of its own
            try:
                yield from messages
            except Exception as error:
                failures.append(error)
                raise

        call = self._callable(method, "stream_unary").future(
            watched(), timeout, self._credentials.metadata())
        try:
            with _Scope(cancellation, call):
                return call.result()
        except (grpc.RpcError, grpc.FutureCancelledError):
            if failures:
                raise failures[0] from None
            raise
        finally:
            call.cancel()

    # Models.

    def create_model(self, spec: ModelSpec, model_id: Optional[str] = None, *,
                     labels: Optional[Mapping[str, str]] = None,
                     ttl: Union[float, timedelta, None] = None, durability: Optional[str] = None,
                     initial_parameters: Union[results.Parameters, Mapping[str, Any], None] = None,
                     request_id: Optional[str] = None, timeout: Timeout = DEFAULT,
                     cancellation: Optional[Cancellation] = None) -> results.Model:
        """Creates a model. Without model_id the server draws an id.

        ttl: seconds without use after which it is deleted. durability: sync, every_second, none.
        """
        return self._unary(_ops.create_model(spec, model_id, labels, ttl, durability,
                                             initial_parameters, request_id), timeout, cancellation)

    def get_model(self, model: ModelLike, *, timeout: Timeout = DEFAULT,
                  cancellation: Optional[Cancellation] = None) -> results.Model:
        return self._unary(_ops.get_model(model), timeout, cancellation)

    def list_models(self, labels: Optional[Mapping[str, str]] = None, *, page_size: int = 0,
                    timeout: Timeout = DEFAULT,
                    cancellation: Optional[Cancellation] = None) -> Iterator[results.Model]:
        """All models that have these labels, by name; pages are read as they are needed."""
        return self._pages(lambda token: _ops.list_models(labels, page_size, token), timeout,
                           cancellation)

    def delete_model(self, model: ModelLike, *, request_id: Optional[str] = None,
                     timeout: Timeout = DEFAULT,
                     cancellation: Optional[Cancellation] = None) -> None:
        self._unary(_ops.delete_model(model, request_id), timeout, cancellation)

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
        timeout: Timeout = DEFAULT, cancellation: Optional[Cancellation] = None,
    ) -> TrainingRun:
        """Starts a run with the first event that is read:

            for event in client.start_training("xor", x, y, iterations=1000):
                if event.progress: print(event.progress.metrics.loss)

        Exactly one of iterations and epochs, and of inputs and dataset, must be given. validation
        is a Batch or a tuple (inputs, labels). If the connection breaks, the call attaches to the
        run again, also after a restart of the server, and no event is delivered twice. A run that
        is not detached stops when the loop is left.
        """
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
        return TrainingRun(self, "Train", request, not detach, 0, timeout, cancellation)

    def train(self, model: ModelLike, inputs: Any = None, labels: Any = None, *,
              on_event: Optional[OnEvent] = None, progress: Union[bool, str] = False,
              **options: Any) -> results.TrainingSummary:
        """Trains a model and returns the summary; takes the options of start_training().

        on_event is called with every event; returning False, or an exception, stops the run.
        progress=True shows a bar (rich or tqdm if installed) or, in a notebook, a live loss curve;
        "bar", "rich", "tqdm", "text" and "notebook" choose one.
        """
        run = self.start_training(model, inputs, labels, **options)
        with show(progress) as display, run:
            def see(event: results.TrainingEvent) -> Optional[bool]:
                display(event)
                return None if on_event is None else on_event(event)

            return run.wait(see)

    def watch_training(self, model: ModelLike, *, run: str = "", from_sequence: int = 0,
                       timeout: Timeout = DEFAULT,
                       cancellation: Optional[Cancellation] = None) -> TrainingRun:
        """Follows the events of a run (default: the active one, or the latest) to its end.

        If the connection breaks, it continues after the last event. Leaving the loop does not stop
        the run.
        """
        return TrainingRun(self, "WatchTraining", _ops.watch(model, run, from_sequence), False,
                           from_sequence, timeout, cancellation)

    def stop_training(self, model: ModelLike, *, run: str = "", request_id: Optional[str] = None,
                      timeout: Timeout = DEFAULT,
                      cancellation: Optional[Cancellation] = None) -> results.StoppedRun:
        """Stops the active run after its current step, and returns when it has ended."""
        return self._unary(_ops.stop_training(model, run, request_id), timeout, cancellation)

    # Steps and gradients.

    def step(self, model: ModelLike, inputs: Any, labels: Any = None, *, targets: Any = None,
             sample_weights: Any = None, expected_step: Optional[int] = None,
             request_id: Optional[str] = None, timeout: Timeout = DEFAULT,
             cancellation: Optional[Cancellation] = None) -> results.StepResult:
        """Makes one step. StepMismatch: the model is not at expected_step."""
        batch = batch_of(inputs, labels, targets, sample_weights)
        return self._unary(_ops.step(model, batch, expected_step, request_id), timeout,
                           cancellation)

    def steps(self, model: ModelLike, batches: Iterable[Any], *, in_flight: int = 32,
              timeout: Timeout = DEFAULT,
              cancellation: Optional[Cancellation] = None) -> Iterator[results.StepResult]:
        """Makes steps in order, with up to in_flight of them sent ahead of their responses.

        batches: Batch objects or tuples (inputs, labels). After a broken connection the unanswered
        steps are sent again with the same request ids. A rejected step raises its error; steps that
        were sent after it may have been made.
        """
        check_in_flight(in_flight)
        attempts = Attempts(self._retry, _seconds(timeout, None))
        source: Iterator[Any] = iter(batches)
        pending: deque[Any] = deque()
        more = True
        while True:
            outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
            for request in pending:
                outgoing.put(request)
            call = self._callable("StepStream", "stream_stream")(
                iter(outgoing.get, None), attempts.left(), self._credentials.metadata())
            scope = _Scope(cancellation, call)
            try:
                while True:
                    while more and len(pending) < in_flight:
                        request = step_message(model, source)
                        more = request is not None
                        if request is not None:
                            pending.append(request)
                            outgoing.put(request)
                    if not pending:
                        outgoing.put(None)
                        for _ in call:  # the final status
                            pass
                        return
                    response = next(call, None)
                    if response is None:
                        raise errors.Unavailable("the stream ended before its last response")
                    pending.popleft()
                    attempts.reset()
                    if response.HasField("error"):
                        raise errors.from_status(response.error)
                    yield results.StepResult.of(response.step)
            except grpc.RpcError as raw:
                error = errors.from_rpc(raw, _cancelled(cancellation))
                if not pending and not more:
                    return
                self._pause(attempts, error, cancellation)
            finally:
                scope.__exit__()
                outgoing.put(None)  # ends the thread that reads it
                call.cancel()

    def compute_gradients(self, model: ModelLike, inputs: Any, labels: Any = None, *,
                          targets: Any = None, sample_weights: Any = None,
                          timeout: Timeout = DEFAULT,
                          cancellation: Optional[Cancellation] = None) -> results.Gradients:
        """The first half of a step: the gradient of the mean loss on a batch."""
        batch = batch_of(inputs, labels, targets, sample_weights)
        return self._unary(_ops.compute_gradients(model, batch), timeout, cancellation)

    def apply_gradients(self, model: ModelLike,
                        gradients: Union[results.Gradients, Mapping[str, Any]], *,
                        expected_step: Optional[int] = None, request_id: Optional[str] = None,
                        timeout: Timeout = DEFAULT,
                        cancellation: Optional[Cancellation] = None) -> results.AppliedGradients:
        """The second half of a step."""
        return self._unary(_ops.apply_gradients(model, gradients, expected_step, request_id),
                           timeout, cancellation)

    # Predictions and measures.

    def predict(self, model: ModelLike, inputs: Any, *, outputs: Union[str, Sequence[str]] = (),
                timeout: Timeout = DEFAULT,
                cancellation: Optional[Cancellation] = None) -> results.Prediction:
        """outputs: logits, probabilities, classes. Default: those that the loss defines."""
        return self._unary(_ops.predict(model, inputs, outputs), timeout, cancellation)

    def evaluate(self, model: ModelLike, inputs: Any = None, labels: Any = None, *,
                 targets: Any = None, sample_weights: Any = None, dataset: Optional[str] = None,
                 top_k: Optional[int] = None, summary_only: bool = False,
                 timeout: Timeout = DEFAULT,
                 cancellation: Optional[Cancellation] = None) -> results.Evaluation:
        data = None if inputs is None else batch_of(inputs, labels, targets, sample_weights)
        return self._unary(_ops.evaluate(model, data, dataset, top_k, summary_only), timeout,
                           cancellation)

    def grad_check(self, model: ModelLike, inputs: Any, labels: Any = None, *, targets: Any = None,
                   sample_weights: Any = None, tolerance: Optional[float] = None,
                   kernel_tolerance: Optional[float] = None,
                   max_entries_per_tensor: Optional[int] = None, seed: Optional[int] = None,
                   timeout: Timeout = DEFAULT,
                   cancellation: Optional[Cancellation] = None) -> results.GradCheck:
        """Checks the gradients on a batch by finite differences."""
        batch = batch_of(inputs, labels, targets, sample_weights)
        return self._unary(_ops.grad_check(
            model, batch, tolerance=tolerance, kernel_tolerance=kernel_tolerance,
            max_entries_per_tensor=max_entries_per_tensor, seed=seed), timeout, cancellation)

    # Parameters and checkpoints.

    def get_parameters(self, model: ModelLike, *, with_optimizer_state: bool = True,
                       timeout: Timeout = DEFAULT,
                       cancellation: Optional[Cancellation] = None) -> results.Parameters:
        return self._unary(_ops.get_parameters(model, with_optimizer_state), timeout, cancellation)

    def set_parameters(self, model: ModelLike,
                       parameters: Union[results.Parameters, Mapping[str, Any]], *,
                       expected_step: Optional[int] = None, request_id: Optional[str] = None,
                       timeout: Timeout = DEFAULT,
                       cancellation: Optional[Cancellation] = None) -> int:
        """Replaces tensors, by name. Returns the model's step count."""
        return self._unary(_ops.set_parameters(model, parameters, expected_step, request_id),
                           timeout, cancellation)

    def create_checkpoint(self, model: ModelLike, checkpoint: str, *,
                          request_id: Optional[str] = None, timeout: Timeout = DEFAULT,
                          cancellation: Optional[Cancellation] = None) -> results.Checkpoint:
        return self._unary(_ops.create_checkpoint(model, checkpoint, request_id), timeout,
                           cancellation)

    def list_checkpoints(self, model: ModelLike, *, timeout: Timeout = DEFAULT,
                         cancellation: Optional[Cancellation] = None
                         ) -> Iterator[results.Checkpoint]:
        return self._pages(lambda token: _ops.list_checkpoints(model, token), timeout,
                           cancellation)

    def restore_checkpoint(self, model: ModelLike, checkpoint: Union[str, results.Checkpoint], *,
                           expected_step: Optional[int] = None, request_id: Optional[str] = None,
                           timeout: Timeout = DEFAULT,
                           cancellation: Optional[Cancellation] = None) -> int:
        """Returns the model's step count."""
        return self._unary(_ops.restore_checkpoint(model, checkpoint, expected_step, request_id),
                           timeout, cancellation)

    def delete_checkpoint(self, model: ModelLike, checkpoint: Union[str, results.Checkpoint], *,
                          request_id: Optional[str] = None, timeout: Timeout = DEFAULT,
                          cancellation: Optional[Cancellation] = None) -> None:
        self._unary(_ops.delete_checkpoint(model, checkpoint, request_id), timeout, cancellation)

    # Datasets.

    def upload_dataset(self, dataset: str, inputs: Union[Rows, Any], labels: Any = None, *,
                       targets: Any = None, sample_weights: Any = None,
                       data_type: Optional[str] = None,
                       dataset_labels: Optional[Mapping[str, str]] = None,
                       feature_names: Optional[Sequence[str]] = None,
                       chunk_rows: Optional[int] = None,
                       on_progress: Optional[Callable[[int], None]] = None,
                       request_id: Optional[str] = None, timeout: Timeout = DEFAULT,
                       cancellation: Optional[Cancellation] = None) -> results.Dataset:
        """Uploads rows in chunks with checksums; after a broken connection it continues from the
        row that the server has.

        inputs: rows, a Batch, or a function that returns the Batch of the rows from an index on,
        and None after the last row. on_progress(rows) is called after each chunk, in a thread of
        the call. feature_names are by default the columns of a data frame.
        """
        rows: Rows = inputs if callable(inputs) else batch_of(inputs, labels, targets,
                                                              sample_weights)
        upload = _ops.upload(dataset, rows, data_type, dataset_labels, feature_names, chunk_rows,
                             on_progress, request_id)
        attempts = Attempts(self._retry, _seconds(timeout, None))
        while True:
            try:
                response = self._send("UploadDataset", upload.messages(), attempts.left(),
                                      cancellation)
                return results.Dataset.of(response.dataset)
            except grpc.FutureCancelledError:
                raise errors.Cancelled("the caller cancelled the call") from None
            except grpc.RpcError as raw:
                error = errors.from_rpc(raw, _cancelled(cancellation))
            if error.reason == "ROWS_MISSING":
                upload.known = int(error.metadata["expected_row"])
                error = errors.Unavailable(error.message)
                self._pause(attempts, error, cancellation)
                continue
            self._pause(attempts, error, cancellation)
            known = self._rows_there(dataset, attempts, cancellation)
            if known > upload.known:
                attempts.reset()
            upload.known = known

    def _rows_there(self, dataset: str, attempts: Attempts,
                    cancellation: Optional[Cancellation]) -> int:
        left = attempts.left()
        try:
            return self.get_dataset(dataset, timeout=DEFAULT if left is None else left,
                                    cancellation=cancellation).rows
        except (errors.NotFound, errors.Unavailable):
            return 0

    def get_dataset(self, dataset: Union[str, results.Dataset], *, timeout: Timeout = DEFAULT,
                    cancellation: Optional[Cancellation] = None) -> results.Dataset:
        return self._unary(_ops.get_dataset(dataset), timeout, cancellation)

    def list_datasets(self, *, timeout: Timeout = DEFAULT,
                      cancellation: Optional[Cancellation] = None) -> Iterator[results.Dataset]:
        return self._pages(_ops.list_datasets, timeout, cancellation)

    def delete_dataset(self, dataset: Union[str, results.Dataset], *,
                       request_id: Optional[str] = None, timeout: Timeout = DEFAULT,
                       cancellation: Optional[Cancellation] = None) -> None:
        self._unary(_ops.delete_dataset(dataset, request_id), timeout, cancellation)

    # Files.

    def _receive(self, method: str, request: Any, write: Callable[[bytes], object],
                 restart: Callable[[], object], timeout: Timeout,
                 cancellation: Optional[Cancellation]) -> int:
        """Reads a stream of bytes; a broken one is read again from the start."""
        attempts = Attempts(self._retry, _seconds(timeout, None))
        while True:
            size = 0
            call = self._stream(method, request, attempts.left())
            try:
                with _Scope(cancellation, call):
                    for response in call:
                        write(response.data)
                        size += len(response.data)
                return size
            except grpc.RpcError as raw:
                error = errors.from_rpc(raw, _cancelled(cancellation))
            finally:
                call.cancel()
            self._pause(attempts, error, cancellation)
            restart()

    def _receive_file(self, method: str, request: Any, path: Path, timeout: Timeout,
                      cancellation: Optional[Cancellation]) -> int:
        """The same into a file, which appears when it is complete."""
        with whole_file(path) as file:
            return self._receive(method, request, file.write,
                                 lambda: (file.seek(0), file.truncate()), timeout, cancellation)

    def export_model(self, model: ModelLike, path: Optional[Path] = None, *,
                     timeout: Timeout = DEFAULT,
                     cancellation: Optional[Cancellation] = None) -> bytes:
        """Returns the bytes of the model, or writes them to a file and returns b""."""
        request = _ops.rpc.ExportModelRequest(model=_ops.model_name(model))
        if path is not None:
            self._receive_file("ExportModel", request, path, timeout, cancellation)
            return b""
        content = bytearray()
        self._receive("ExportModel", request, content.extend, content.clear, timeout, cancellation)
        return bytes(content)

    def import_model(self, source: Union[bytes, Path, IO[bytes]], model_id: Optional[str] = None,
                     *, durability: Optional[str] = None, request_id: Optional[str] = None,
                     timeout: Timeout = DEFAULT,
                     cancellation: Optional[Cancellation] = None) -> results.Model:
        """Creates a model from a file of export_model(): bytes, a path, or an open binary file.

        It is retried if the source can be read again: not with a file that cannot seek.
        """
        number = _ops.new_id() if request_id is None else request_id
        response = self._upload_file(
            "ImportModel", source,
            lambda file: _ops.import_messages(file, model_id, durability, number), timeout,
            cancellation)
        return results.Model.of(response.model)

    def _upload_file(self, method: str, source: Any, messages: Callable[[Any], Iterable[Any]],
                     timeout: Timeout, cancellation: Optional[Cancellation]) -> Any:
        attempts = Attempts(self._retry, _seconds(timeout, None))
        with contextlib.ExitStack() as stack:
            rewind, source = rewindable(source, stack)
            while True:
                try:
                    return self._send(method, iter(messages(source)), attempts.left(),
                                      cancellation)
                except grpc.FutureCancelledError:
                    raise errors.Cancelled("the caller cancelled the call") from None
                except grpc.RpcError as raw:
                    error = errors.from_rpc(raw, _cancelled(cancellation))
                if rewind is None:
                    raise error
                self._pause(attempts, error, cancellation)
                rewind()

    def create_backup(self, path: Path, *, project: Optional[str] = None,
                      timeout: Timeout = DEFAULT,
                      cancellation: Optional[Cancellation] = None) -> int:
        """Writes what the server stores, or one project, to a file. Returns its size."""
        name = "" if project is None else _ops._named("projects/", project, "project")
        return self._receive_file("CreateBackup", _ops.admin.CreateBackupRequest(project=name),
                                  path, timeout, cancellation)

    def restore_backup(self, source: Union[bytes, Path, IO[bytes]], *, timeout: Timeout = DEFAULT,
                       cancellation: Optional[Cancellation] = None) -> tuple[int, int]:
        """Restores a backup into an empty server. Returns the numbers of models and runs."""
        response = self._upload_file("RestoreBackup", source, _ops.restore_messages, timeout,
                                     cancellation)
        return response.models, response.runs

    # The server.

    def health(self, service: str = "", *, timeout: Timeout = DEFAULT,
               cancellation: Optional[Cancellation] = None) -> bool:
        """Whether a service is serving; empty: the server as a whole."""
        return self._unary(_ops.health(service), timeout, cancellation)

    def server_status(self, *, full: bool = False, timeout: Timeout = DEFAULT,
                      cancellation: Optional[Cancellation] = None) -> results.ServerStatus:
        return self._unary(_ops.server_status(full), timeout, cancellation)

    def get_project(self, project: str, *, timeout: Timeout = DEFAULT,
                    cancellation: Optional[Cancellation] = None) -> results.Project:
        return self._unary(_ops.get_project(project), timeout, cancellation)

    def list_projects(self, *, timeout: Timeout = DEFAULT,
                      cancellation: Optional[Cancellation] = None) -> Iterator[results.Project]:
        return self._pages(_ops.list_projects, timeout, cancellation)


def check_in_flight(in_flight: int) -> None:
    if not 1 <= in_flight <= _ops.MAX_IN_FLIGHT:
        raise errors.invalid("in_flight", f"must be 1 to {_ops.MAX_IN_FLIGHT}, got {in_flight}")


def step_message(model: ModelLike, source: Iterator[Any]) -> Any:
    """The message of the next step, or None."""
    batch = next(source, None)
    if batch is None:
        return None
    op = _ops.step(model, Batch.of(batch), None, None)
    return _ops.rpc.StepStreamRequest(step=op.request)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file beside path that takes its place when it was written without an error."""
    folder = os.path.dirname(os.path.abspath(path))
    with tempfile.NamedTemporaryFile("w+b", dir=folder, prefix=".backprop-", delete=False) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def rewindable(source: Any, stack: contextlib.ExitStack) -> tuple[Optional[Callable[[], Any]], Any]:
    """(how to read the source again from its start, or None; the source)."""
    if isinstance(source, (str, os.PathLike)):
        source = stack.enter_context(open(source, "rb"))  # noqa: SIM115
    if not hasattr(source, "read"):
        return (lambda: None), source
    try:
        start = source.tell()
        source.seek(start)
    except (AttributeError, OSError, ValueError):
        return None, source
    return (lambda: source.seek(start)), source
