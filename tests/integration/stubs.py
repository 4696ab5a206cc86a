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
