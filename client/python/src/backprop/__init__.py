"""Client of backpropd: small neural networks as live models, trained over gRPC.

    import backprop

    with backprop.serve() as client:
        client.create_model(backprop.ModelSpec.for_data(x, y, optimizer="adam"), "xor")
        client.train("xor", x, y, iterations=2000, progress=True)
        print(client.predict("xor", x).classes)
"""

from backprop._calls import Cancellation, Retry, Tls
from backprop._ops import Checkpoints, EarlyStopping
from backprop.client import Client, TrainingRun
from backprop.errors import (
    Aborted,
    AlreadyExists,
    Cancelled,
    DataLoss,
    DeadlineExceeded,
    Error,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    StepMismatch,
    Unauthenticated,
    Unavailable,
    Violation,
)
from backprop.results import (
    AppliedGradients,
    Checkpoint,
    Dataset,
    Evaluation,
    GradCheck,
    Gradients,
    Metrics,
    Model,
    Parameters,
    PlateauState,
    Prediction,
    Progress,
    RunStarted,
    StepResult,
    StoppedRun,
    TrainingEvent,
    TrainingSummary,
)
from backprop.server import Server, serve
from backprop.spec import (
    Adagrad,
    Adam,
    AdamW,
    BinaryCrossEntropy,
    CosineSchedule,
    ExponentialSchedule,
    Huber,
    InputStandardization,
    Layer,
    MeanAbsoluteError,
    MeanSquaredError,
    ModelSpec,
    ReduceOnPlateauSchedule,
    RmsProp,
    Sgd,
    SoftmaxCrossEntropy,
    StepSchedule,
)
from backprop.tensors import Batch


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("backprop")
    except PackageNotFoundError:  # the source tree without an installation
        return "0+unknown"


__version__ = _version()
__all__ = [
    "Aborted", "Adagrad", "Adam", "AdamW", "AlreadyExists", "AppliedGradients", "Batch",
    "BinaryCrossEntropy", "Cancellation", "Cancelled", "Checkpoint", "Checkpoints", "Client",
    "CosineSchedule", "DataLoss", "Dataset", "DeadlineExceeded", "EarlyStopping", "Error",
    "Evaluation", "ExponentialSchedule", "FailedPrecondition", "GradCheck", "Gradients", "Huber",
    "InputStandardization", "InvalidArgument", "Layer", "MeanAbsoluteError", "MeanSquaredError",
    "Metrics", "Model", "ModelSpec", "NotFound", "Parameters", "PermissionDenied", "PlateauState",
    "Prediction", "Progress", "ReduceOnPlateauSchedule", "ResourceExhausted", "Retry", "RmsProp",
    "RunStarted", "Server", "Sgd", "SoftmaxCrossEntropy", "StepMismatch", "StepResult",
    "StepSchedule", "StoppedRun", "Tls", "TrainingEvent", "TrainingRun", "TrainingSummary",
    "Unauthenticated", "Unavailable", "Violation", "__version__", "serve",
]
