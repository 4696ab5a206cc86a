"""Python code of the API, generated from the .proto files, as for a client in another language.

google.rpc comes from googleapis-common-protos, as everywhere in Python: a second copy would hide it.
"""

import subprocess
import sys
import tempfile

from harness import ROOT

_GENERATED = tempfile.TemporaryDirectory()
_PROTOS = sorted(str(p.relative_to(ROOT / "proto")) for p in (ROOT / "proto/backprop").rglob("*.proto"))
subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "-I", ROOT / "proto",
                f"--python_out={_GENERATED.name}", f"--grpc_python_out={_GENERATED.name}", *_PROTOS],
               check=True, cwd=ROOT / "proto")
sys.path.insert(0, _GENERATED.name)

from backprop.v1 import admin_service_pb2 as admin  # noqa: E402, F401
from backprop.v1 import admin_service_pb2_grpc as admin_grpc  # noqa: E402, F401
from backprop.v1 import dataset_pb2 as dataset  # noqa: E402, F401
from backprop.v1 import model_pb2 as model  # noqa: E402, F401
from backprop.v1 import tensor_pb2 as tensor  # noqa: E402, F401
from backprop.v1 import training_pb2 as training  # noqa: E402, F401
from backprop.v1 import training_service_pb2 as service  # noqa: E402, F401
from backprop.v1 import training_service_pb2_grpc as service_grpc  # noqa: E402, F401


class Rpc:
    """A method with the credentials of its caller."""

    def __init__(self, method, metadata):
        self.method = method
        self.metadata = metadata

    def __call__(self, request, **options):
        return self.method(request, metadata=self.metadata, **options)

    def future(self, request, **options):
        return self.method.future(request, metadata=self.metadata, **options)


class AuthorizedStub:
    """The methods of TrainingService, called by the principal with a token."""

    def __init__(self, channel, token):
        self.stub = service_grpc.TrainingServiceStub(channel)
        self.metadata = [("authorization", f"Bearer {token}")]

    def __getattr__(self, method):
        return Rpc(getattr(self.stub, method), self.metadata)
