"""The contents of a server of any version, as the fixtures of tests/formats describe them."""

import base64
import json
import struct

import grpc

from stubs import AuthorizedStub, service as pb, service_grpc, tensor

RUNNING = "running"  # its run was active when the server was killed


OTHER_PROJECT = "other"  # has a model and a dataset with ids that the project `default` uses too


def stub_of(server, token=None):
    if token is not None:
        return AuthorizedStub(grpc.insecure_channel(server.address), token)
    return service_grpc.TrainingServiceStub(grpc.insecure_channel(server.address))


def auth_file(path, new_token):
    """Writes an auth file with a principal of the other project. Returns its token."""
    token, principal = new_token("p", "writer", OTHER_PROJECT)
    path.write_text(json.dumps({"principals": [principal]}))
    return token


def parameters(stub, name):
    """Returns all tensors as little-endian float32 in base64."""
    request = pb.GetParametersRequest(model=name, encoding=tensor.TENSOR_ENCODING_RAW)
    tensors = stub.GetParameters(request, timeout=30).parameters.tensors
    return base64.b64encode(b"".join(t.tensor.raw for t in tensors)).decode()


def step(stub, name, request_id=""):
    batch = tensor.Batch(inputs=tensor.Tensor(values=[0.5, -0.5]), labels=tensor.Tensor(values=[1]))
    stub.Step(pb.StepRequest(model=name, batch=batch, request_id=request_id), timeout=30)


def steps_of_run(stub):
    """Returns the step count of the model with the active run."""
    return stub.GetModel(pb.GetModelRequest(name=f"models/{RUNNING}"), timeout=30).model.step


def floats(text):
    raw = base64.b64decode(text)
    return struct.unpack(f"<{len(raw) // 4}f", raw)


def contents(stub):
    """Returns models with parameters and checkpoints, datasets, and evaluations."""
    models = {}
    for model in stub.ListModels(pb.ListModelsRequest(page_size=100), timeout=30).models:
        if model.name == f"models/{RUNNING}":
            continue
        kept = stub.ListCheckpoints(pb.ListCheckpointsRequest(model=model.name), timeout=30).checkpoints
        loss = stub.Evaluate(pb.EvaluateRequest(model=model.name, dataset="datasets/d"), timeout=30).metrics.loss
        models[model.name] = {
            "step": model.step, "labels": dict(model.labels), "loss": loss,
            "optimizer": model.spec.optimizer.WhichOneof("kind"),
            "layers": [[layer.activation, layer.initializer, layer.bias_initializer]
                       for layer in model.spec.layers],
            "checkpoints": {c.name: c.step for c in kept}, "parameters": parameters(stub, model.name)}
    datasets = stub.ListDatasets(pb.ListDatasetsRequest(), timeout=30).datasets
    return {"models": models,
            "datasets": {d.name: {"rows": d.rows, "classes": list(d.class_names)} for d in datasets}}
