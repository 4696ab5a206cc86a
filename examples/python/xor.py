"""XOR with code generated from the .proto files: creates a model, trains it, predicts and checks the
gradients.

python xor.py HOST:PORT
"""

import sys

import grpc
import numpy as np
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from backprop.v1 import model_pb2, tensor_pb2, training_pb2
from backprop.v1 import training_service_pb2 as service
from backprop.v1.training_service_pb2_grpc import TrainingServiceStub

TYPES = {"<f4": tensor_pb2.DATA_TYPE_FLOAT32, "<f8": tensor_pb2.DATA_TYPE_FLOAT64,
         "<i4": tensor_pb2.DATA_TYPE_INT32, "<i8": tensor_pb2.DATA_TYPE_INT64}


def tensor(array):
    """Returns an array as raw little-endian bytes, whatever its byte order."""
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return tensor_pb2.Tensor(shape=array.shape, raw=array.tobytes(), data_type=TYPES[array.dtype.str],
                             byte_order=tensor_pb2.BYTE_ORDER_LITTLE_ENDIAN)


def xor():
    """Returns 200 points of a grid; the label is 1 if their coordinates have the same sign."""
    x, y = np.meshgrid((np.arange(20) + 0.5) / 10 - 1, (np.arange(10) + 0.5) / 5 - 1)
    points = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
    return points, (points[:, 0] * points[:, 1] > 0).astype(np.int32)


def violations(error):
    """Returns the invalid fields of a request: google.rpc.BadRequest in the status details."""
    status = rpc_status.from_call(error)
    bad_request = error_details_pb2.BadRequest()
    for detail in status.details if status else []:
        if detail.Unpack(bad_request):
            return [(v.field, v.description) for v in bad_request.field_violations]
    return []


def main(address):
    # The default limit of a response is 4 MB; the parameters of a large model need more.
    options = [("grpc.max_receive_message_length", 256 << 20)]
    with grpc.insecure_channel(address, options) as channel:
        stub = TrainingServiceStub(channel)
        points, labels = xor()
        spec = model_pb2.ModelSpec(
            input_size=2, layers=[model_pb2.Layer(units=16), model_pb2.Layer(units=2)],
            optimizer=model_pb2.Optimizer(adam=model_pb2.Adam(learning_rate=0.01)), seed=1)
        model = stub.CreateModel(service.CreateModelRequest(spec=spec), timeout=10).model
        print(f"created {model.name} with {model.parameter_count} parameters")

        batch = tensor_pb2.Batch(inputs=tensor(points), labels=tensor(labels))
        run = stub.Train(service.TrainRequest(
            model=model.name, data=batch,
            config=training_pb2.TrainingConfig(iterations=2000, report_every=500)))
        try:
            for response in run:
                event = response.event
                if event.HasField("progress"):
                    progress = event.progress
                    print(f"iteration {progress.iteration:4d}: loss {progress.metrics.loss:.4f}, "
                          f"accuracy {progress.metrics.accuracy:.3f}")
                elif event.HasField("summary"):
                    summary = event.summary
        finally:
            run.cancel()  # if the loop ended early, the run would continue
        print(training_pb2.StopReason.Name(summary.stop_reason))

        corners = np.array([[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]], np.float32)
        answer = stub.Predict(service.PredictRequest(model=model.name, inputs=tensor(corners)), timeout=10)
        print("corners:", list(answer.classes))

        check = stub.GradCheck(service.GradCheckRequest(model=model.name, batch=batch), timeout=60).result
        print("gradients:", "PASSED" if check.passed else check.explanation or "not passed")

        wrong = model_pb2.ModelSpec(input_size=2, layers=[model_pb2.Layer(units=0)])
        fields = []
        try:
            stub.CreateModel(service.CreateModelRequest(spec=wrong), timeout=10)
        except grpc.RpcError as error:
            fields = violations(error)
            for field, description in fields:
                print(f"{error.code().name}: {field}: {description}")

        stub.DeleteModel(service.DeleteModelRequest(name=model.name), timeout=10)
        if summary.metrics.accuracy < 0.95 or list(answer.classes) != [1, 0, 0, 1] or not check.passed:
            sys.exit("the model did not learn XOR")
        if [field for field, _ in fields] != ["spec.layers[0].units"]:
            sys.exit("the error does not name its field")


if __name__ == "__main__":
    main(sys.argv[1])
