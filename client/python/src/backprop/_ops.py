"""Requests and responses of the calls, shared by the blocking and the asynchronous client.

Each function checks what can be checked without the server, builds the request, and returns an Op:
the method, the request, and how to decode the response.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Callable, Generic, Optional, TypeVar, Union

import numpy as np
from google.protobuf import message_factory
from google.protobuf.duration_pb2 import Duration

from backprop import results, tensors
from backprop.errors import invalid
from backprop.rpc import health_pb2
from backprop.spec import InputStandardization, ModelSpec, enum_value, fill, to_spec
from backprop.tensors import Batch
from backprop.v1 import (
    admin_service_pb2,
    checkpoint_pb2,
    dataset_pb2,
    grad_check_pb2,
    model_pb2,
    tensor_pb2,
    training_pb2,
    training_service_pb2,
)

T = TypeVar("T")
rpc: Any = training_service_pb2
admin: Any = admin_service_pb2
_ = (checkpoint_pb2, dataset_pb2, grad_check_pb2)  # their messages are used by name

CHUNK_BYTES = 1 << 20  # of uploads
MAX_IN_FLIGHT = 64  # steps of a stream that the server reads before it applies back-pressure


@dataclass(frozen=True)
class Method:
    path: str
    serialize: Callable[[Any], bytes]
    parse: Callable[[bytes], Any]


def _methods() -> dict[str, Method]:
    found = {}
    for module in (training_service_pb2, admin_service_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                response = message_factory.GetMessageClass(method.output_type)
                request = message_factory.GetMessageClass(method.input_type)
                found[method.name] = Method(f"/{service.full_name}/{method.name}",
                                            request.SerializeToString, response.FromString)
    found["Check"] = Method("/grpc.health.v1.Health/Check",
                            health_pb2.HealthCheckRequest.SerializeToString,
                            health_pb2.HealthCheckResponse.FromString)
    return found


METHODS = _methods()


@dataclass(frozen=True)
class Op(Generic[T]):
    """A unary call."""

    method: str
    request: Any
    decode: Callable[[Any], T]


def new_id() -> str:
    return os.urandom(16).hex()


def _id(given: Optional[str]) -> str:
    if given is None:
        return new_id()
    if not given:
        raise invalid("request_id", "must not be empty")
    return given


def _named(prefix: str, value: str, field: str) -> str:
    if not isinstance(value, str):
        raise invalid(field, f"expected a string, got {type(value).__name__}")
    if value in ("", prefix):
        raise invalid(field, "must not be empty")
    return value if value.startswith(prefix) else prefix + value


def model_name(model: Union[str, results.Model], field: str = "model") -> str:
    return _named("models/", model.name if isinstance(model, results.Model) else model, field)


def dataset_name(dataset: Union[str, results.Dataset], field: str = "dataset") -> str:
    return _named("datasets/", dataset.name if isinstance(dataset, results.Dataset) else dataset,
                  field)


def checkpoint_name(model: Any, checkpoint: Union[str, results.Checkpoint]) -> str:
    name = checkpoint.name if isinstance(checkpoint, results.Checkpoint) else checkpoint
    if not name:
        raise invalid("checkpoint_id", "must not be empty")
    return name if name.startswith("models/") else f"{model_name(model)}/checkpoints/{name}"


def _duration(value: Union[float, timedelta], field: str) -> Duration:
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not np.isfinite(seconds):
        raise invalid(field, f"expected a finite number of seconds, got {seconds}")
    nanos = round(seconds * 1e9)
    return Duration(seconds=nanos // 10**9, nanos=nanos % 10**9)


def _durability(name: Optional[str]) -> int:
    if name is None:
        return 0
    return enum_value(model_pb2.Durability.DESCRIPTOR, name, "durability")


def _set(message: Any, path: str, **values: Any) -> None:
    """Sets the fields that are not None; a wrong type or range is an InvalidArgument."""
    for name, value in values.items():
        if value is None:
            continue
        try:
            if isinstance(value, np.generic):
                value = value.item()
            setattr(message, name, value)
        except (TypeError, ValueError, OverflowError) as error:
            raise invalid(f"{path}{name}", str(error)) from None


# Models.


def create_model(spec: ModelSpec, model_id: Optional[str], labels: Optional[Mapping[str, str]],
                 ttl: Union[float, timedelta, None], durability: Optional[str],
                 initial_parameters: Any, request_id: Optional[str]) -> Op[results.Model]:
    request = rpc.CreateModelRequest(
        model_id=_plain_id(model_id, "models/", "model_id"), spec=to_spec(spec),
        labels=labels, durability=_durability(durability), request_id=_id(request_id))
    if ttl is not None:
        request.ttl.CopyFrom(_duration(ttl, "ttl"))
    if initial_parameters is not None:
        _parameters(request.initial_parameters, initial_parameters, "initial_parameters")
    return Op("CreateModel", request, lambda r: results.Model.of(r.model))


def _plain_id(value: Optional[str], prefix: str, field: str) -> str:
    if value is None:
        return ""
    if not value or value == prefix:
        raise invalid(field, "must not be empty")
    return value[len(prefix):] if value.startswith(prefix) else value


def get_model(model: Any) -> Op[results.Model]:
    return Op("GetModel", rpc.GetModelRequest(name=model_name(model, "name")),
              lambda r: results.Model.of(r.model))


def list_models(labels: Optional[Mapping[str, str]], page_size: int,
                page_token: str) -> Op[tuple[list[results.Model], str]]:
    request = rpc.ListModelsRequest(page_token=page_token, labels=labels)
    _set(request, "", page_size=page_size)
    return Op("ListModels", request,
              lambda r: ([results.Model.of(m) for m in r.models], r.next_page_token))


def delete_model(model: Any, request_id: Optional[str]) -> Op[None]:
    return Op("DeleteModel", rpc.DeleteModelRequest(name=model_name(model, "name"),
                                                    request_id=_id(request_id)), lambda r: None)


# Runs.


def train(model: Any, data: Optional[Batch], dataset: Any, validation: Optional[Batch],
          validation_dataset: Any, config: Mapping[str, Any], detach: bool, wait: bool,
          request_id: Optional[str]) -> Any:
    request = rpc.TrainRequest(model=model_name(model), detach=detach, wait=wait,
                               request_id=_id(request_id))
    _config(request.config, config)
    if (data is None) == (dataset is None):
        raise invalid("data", "expected exactly one of inputs and dataset")
    if data is not None:
        data.fill(request.data)
    else:
        request.dataset = dataset_name(dataset)
    if validation is not None and validation_dataset is not None:
        raise invalid("validation", "at most one of validation and validation_dataset may be given")
    if validation is not None:
        validation.fill(request.validation)
    if validation_dataset is not None:
        request.validation_dataset = dataset_name(validation_dataset, "validation_dataset")
    return request


def _config(message: training_pb2.TrainingConfig, config: Mapping[str, Any]) -> None:
    if (config["iterations"] is None) == (config["epochs"] is None):
        raise invalid("config.iterations", "expected exactly one of iterations and epochs")
    plain = {k: v for k, v in config.items()
             if k not in ("early_stopping", "checkpoints", "report_interval")}
    _set(message, "config.", **plain)
    if config["early_stopping"] is not None:
        message.early_stopping.SetInParent()
        fill(message.early_stopping, config["early_stopping"], "config.early_stopping")
    if config["checkpoints"] is not None:
        message.checkpoints.SetInParent()
        fill(message.checkpoints, config["checkpoints"], "config.checkpoints")
    if config["report_interval"] is not None:
        message.report_interval.CopyFrom(
            _duration(config["report_interval"], "config.report_interval"))


@dataclass(frozen=True)
class EarlyStopping:
    """Ends a run that does not improve for patience epochs."""

    patience: Optional[int] = None
    min_delta: Optional[float] = None
    restore_best: Optional[bool] = None


@dataclass(frozen=True)
class Checkpoints:
    """Checkpoints that a run creates: every n iterations, of the best epoch, or both."""

    every_iterations: Optional[int] = None
    keep_last: Optional[int] = None
    keep_best: Optional[bool] = None


def watch(model: Any, run: str, from_sequence: int) -> Any:
    request = rpc.WatchTrainingRequest(model=model_name(model), run=run)
    _set(request, "", from_sequence=from_sequence)
    return request


def stop_training(model: Any, run: str, request_id: Optional[str]) -> Op[results.StoppedRun]:
    request = rpc.StopTrainingRequest(model=model_name(model), run=run, request_id=_id(request_id))
    return Op("StopTraining", request,
              lambda r: results.StoppedRun(r.run, results.TrainingSummary.of(r.summary)))


# Steps and gradients.


def step(model: Any, batch: Batch, expected_step: Optional[int],
         request_id: Optional[str]) -> Op[results.StepResult]:
    request = rpc.StepRequest(model=model_name(model), request_id=_id(request_id))
    batch.fill(request.batch)
    _set(request, "", expected_step=expected_step)
    return Op("Step", request, results.StepResult.of)


def compute_gradients(model: Any, batch: Batch) -> Op[results.Gradients]:
    request = rpc.ComputeGradientsRequest(model=model_name(model),
                                          encoding=tensor_pb2.TENSOR_ENCODING_RAW)
    batch.fill(request.batch)
    return Op("ComputeGradients", request, results.Gradients.of)


def apply_gradients(model: Any, gradients: Union[results.Gradients, Mapping[str, Any]],
                    expected_step: Optional[int],
                    request_id: Optional[str]) -> Op[results.AppliedGradients]:
    request = rpc.ApplyGradientsRequest(model=model_name(model), request_id=_id(request_id))
    named = gradients.tensors if isinstance(gradients, results.Gradients) else gradients
    for name, array in named.items():
        tensors.named_tensor(request.gradients, name, array)
    _set(request, "", expected_step=expected_step)
    return Op("ApplyGradients", request,
              lambda r: results.AppliedGradients(r.step, r.gradient_norm, r.learning_rate))


# Predictions and measures.


def predict(model: Any, inputs: Any, outputs: Sequence[str]) -> Op[results.Prediction]:
    request = rpc.PredictRequest(model=model_name(model))
    tensors.fill_tensor(request.inputs, tensors.matrix(inputs, "inputs")[0])
    enum = rpc.PredictOutput.DESCRIPTOR
    for i, name in enumerate([outputs] if isinstance(outputs, str) else outputs):
        request.outputs.append(enum_value(enum, name, f"outputs[{i}]"))
    return Op("Predict", request, results.Prediction.of)


def evaluate(model: Any, data: Optional[Batch], dataset: Any, top_k: Optional[int],
             summary_only: bool) -> Op[results.Evaluation]:
    request = rpc.EvaluateRequest(model=model_name(model), summary_only=summary_only)
    if (data is None) == (dataset is None):
        raise invalid("data", "expected exactly one of inputs and dataset")
    if data is not None:
        data.fill(request.data)
    else:
        request.dataset = dataset_name(dataset)
    _set(request, "", top_k=top_k)
    return Op("Evaluate", request, results.Evaluation.of)


def grad_check(model: Any, batch: Batch, **config: Any) -> Op[results.GradCheck]:
    request = rpc.GradCheckRequest(model=model_name(model))
    batch.fill(request.batch)
    _set(request.config, "config.", **config)
    return Op("GradCheck", request, results.GradCheck.of)


# Parameters.


def _parameters(message: Any, given: Union[results.Parameters, Mapping[str, Any]],
                field: str) -> None:
    if not isinstance(given, results.Parameters):
        given = results.Parameters(dict(given))
    for name, array in given.tensors.items():
        tensors.named_tensor(message.tensors, name, array)
    for name, array in given.optimizer_state.items():
        tensors.named_tensor(message.optimizer_state, name, array)
    _set(message, field + ".", step=given.step, optimizer_step=given.optimizer_step)
    standard: Optional[InputStandardization] = given.input_standardization
    if standard is not None:
        message.input_standardization.SetInParent()
        fill(message.input_standardization, standard, field + ".input_standardization")
    if given.plateau is not None:
        message.plateau.SetInParent()
        fill(message.plateau, given.plateau, field + ".plateau")


def get_parameters(model: Any, with_optimizer_state: bool) -> Op[results.Parameters]:
    request = rpc.GetParametersRequest(model=model_name(model),
                                       encoding=tensor_pb2.TENSOR_ENCODING_RAW,
                                       omit_optimizer_state=not with_optimizer_state)
    return Op("GetParameters", request, lambda r: results.Parameters.of(r.parameters))


def set_parameters(model: Any, parameters: Any, expected_step: Optional[int],
                   request_id: Optional[str]) -> Op[int]:
    request = rpc.SetParametersRequest(model=model_name(model), request_id=_id(request_id))
    _parameters(request.parameters, parameters, "parameters")
    _set(request, "", expected_step=expected_step)
    return Op("SetParameters", request, lambda r: int(r.step))


# Checkpoints.


def create_checkpoint(model: Any, checkpoint: str,
                      request_id: Optional[str]) -> Op[results.Checkpoint]:
    if not checkpoint:
        raise invalid("checkpoint_id", "must not be empty")
    request = rpc.CreateCheckpointRequest(model=model_name(model), checkpoint_id=checkpoint,
                                          request_id=_id(request_id))
    return Op("CreateCheckpoint", request, lambda r: results.Checkpoint.of(r.checkpoint))


def list_checkpoints(model: Any, page_token: str) -> Op[tuple[list[results.Checkpoint], str]]:
    request = rpc.ListCheckpointsRequest(model=model_name(model), page_token=page_token)
    return Op("ListCheckpoints", request,
              lambda r: ([results.Checkpoint.of(c) for c in r.checkpoints], r.next_page_token))


def restore_checkpoint(model: Any, checkpoint: Any, expected_step: Optional[int],
                       request_id: Optional[str]) -> Op[int]:
    request = rpc.RestoreCheckpointRequest(name=checkpoint_name(model, checkpoint),
                                           request_id=_id(request_id))
    _set(request, "", expected_step=expected_step)
    return Op("RestoreCheckpoint", request, lambda r: int(r.step))


def delete_checkpoint(model: Any, checkpoint: Any, request_id: Optional[str]) -> Op[None]:
    request = rpc.DeleteCheckpointRequest(name=checkpoint_name(model, checkpoint),
                                          request_id=_id(request_id))
    return Op("DeleteCheckpoint", request, lambda r: None)


# Datasets.

Rows = Union[Batch, Callable[[int], Optional[Batch]]]


@dataclass
class Upload:
    """The messages of an upload, from any row on. rows is a batch, or a function that returns the
    rows from an index on, a chunk at a time, and None after the last one.
    """

    rows: Rows
    header: Any
    data_type: str
    chunk_rows: Optional[int]
    on_progress: Optional[Callable[[int], None]]
    known: int = 0  # number of rows that the server has
    failure: Optional[BaseException] = None  # of the caller's code, in the thread that sends

    def messages(self) -> Iterator[Any]:
        try:
            yield self.header
            sent = self.known
            while True:
                chunk = self._chunk(sent)
                if chunk is None:
                    break
                request = rpc.UploadDatasetRequest()
                request.chunk.first_row = sent
                chunk.fill(request.chunk.rows)
                if chunk.label_names is None:  # the server assigns the indices of names
                    request.chunk.crc32 = self._checksum(chunk)
                sent += len(chunk)
                yield request
                if self.on_progress is not None:
                    self.on_progress(sent)
            commit = rpc.UploadDatasetRequest()
            commit.commit.rows = sent
            yield commit
        except GeneratorExit:
            raise
        except BaseException as error:
            self.failure = error
            raise

    def _chunk(self, first: int) -> Optional[Batch]:
        if not isinstance(self.rows, Batch):
            return self.rows(first)
        if first >= len(self.rows):
            return None
        targets = self.rows.targets
        row_bytes = 8 * (self.rows.inputs.shape[1] + 2 + (
            0 if targets is None else targets.shape[1]))
        at_once = self.chunk_rows or max(1, CHUNK_BYTES // row_bytes)
        return self.rows.rows(first, first + at_once)

    def _checksum(self, chunk: Batch) -> int:
        crc = zlib.crc32(tensors.stored(chunk.inputs, self.data_type))
        if chunk.labels is not None:
            crc = zlib.crc32(np.ascontiguousarray(chunk.labels, "<i4").data, crc)
        for part in (chunk.targets, chunk.sample_weights):
            if part is not None:
                crc = zlib.crc32(tensors.stored(part, self.data_type), crc)
        return crc


def upload(dataset: str, rows: Rows, data_type: Optional[str], labels: Optional[Mapping[str, str]],
           feature_names: Optional[Sequence[str]], chunk_rows: Optional[int],
           on_progress: Optional[Callable[[int], None]], request_id: Optional[str]) -> Upload:
    if chunk_rows is not None and chunk_rows < 1:
        raise invalid("chunk_rows", f"must be at least 1, got {chunk_rows}")
    data_type = data_type or "float32"
    if feature_names is None and isinstance(rows, Batch):
        feature_names = rows.feature_names
    header = rpc.UploadDatasetRequest()
    header.header.dataset_id = dataset_name(dataset, "header.dataset_id")[len("datasets/"):]
    header.header.data_type = enum_value(tensor_pb2.DataType.DESCRIPTOR, data_type,
                                         "header.data_type")
    header.header.labels.update(labels or {})
    header.header.feature_names.extend(feature_names or ())
    header.header.request_id = _id(request_id)
    return Upload(rows, header, data_type, chunk_rows, on_progress)


def get_dataset(dataset: Any) -> Op[results.Dataset]:
    return Op("GetDataset", rpc.GetDatasetRequest(name=dataset_name(dataset, "name")),
              lambda r: results.Dataset.of(r.dataset))


def list_datasets(page_token: str) -> Op[tuple[list[results.Dataset], str]]:
    return Op("ListDatasets", rpc.ListDatasetsRequest(page_token=page_token),
              lambda r: ([results.Dataset.of(d) for d in r.datasets], r.next_page_token))


def delete_dataset(dataset: Any, request_id: Optional[str]) -> Op[None]:
    return Op("DeleteDataset", rpc.DeleteDatasetRequest(name=dataset_name(dataset, "name"),
                                                        request_id=_id(request_id)),
              lambda r: None)


# Files.

PIECE_BYTES = 1 << 20


def pieces(source: Any) -> Iterator[bytes]:
    """The bytes of a buffer or an open file, a piece at a time."""
    if hasattr(source, "read"):
        while True:
            piece = source.read(PIECE_BYTES)
            if not piece:
                return
            yield piece
    view = memoryview(source)
    for at in range(0, len(view), PIECE_BYTES):
        yield bytes(view[at:at + PIECE_BYTES])


def import_messages(source: Any, model_id: Optional[str], durability: Optional[str],
                    request_id: str) -> Iterator[Any]:
    first = True
    for piece in pieces(source):
        request = rpc.ImportModelRequest(data=piece)
        if first:
            request.model_id = _plain_id(model_id, "models/", "model_id")
            request.durability = _durability(durability)
            request.request_id = request_id
            first = False
        yield request


def restore_messages(source: Any) -> Iterable[Any]:
    for piece in pieces(source):
        yield admin.RestoreBackupRequest(data=piece)


# The server.


def health(service: str) -> Op[bool]:
    serving = health_pb2.HealthCheckResponse.SERVING
    return Op("Check", health_pb2.HealthCheckRequest(service=service),
              lambda r: bool(r.status == serving))


def server_status(full: bool) -> Op[results.ServerStatus]:
    return Op("GetServerStatus", admin.GetServerStatusRequest(view=2 if full else 1),
              lambda r: results.ServerStatus.of(r.status))


def get_project(project: str) -> Op[results.Project]:
    return Op("GetProject", admin.GetProjectRequest(name=_named("projects/", project, "name")),
              lambda r: results.Project.of(r.project))


def list_projects(page_token: str) -> Op[tuple[list[results.Project], str]]:
    return Op("ListProjects", admin.ListProjectsRequest(page_token=page_token),
              lambda r: ([results.Project.of(p) for p in r.projects], r.next_page_token))

