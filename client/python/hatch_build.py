"""Build hooks: the version, the protobuf code, and the server of a wheel that carries one.

backprop/v1 is generated from proto/backprop/v1. The messages of google.rpc and of the health
service are generated under the package backprop.rpc, so that they never collide with
googleapis-common-protos or grpcio-health-checking in the same process: their encoding is the same.

BACKPROP_SERVER_TREE names a directory with bin/ and lib/ that the wheel carries as
backprop/_server (scripts/wheel).
"""

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
    from hatchling.metadata.plugin.interface import MetadataHookInterface
except ImportError:  # run as a program, which generates code only
    BuildHookInterface = MetadataHookInterface = object


def source_of(root: Path, name: str) -> Path:
    """Returns a file of the repository: beside this file in an sdist, else two folders above."""
    for folder in (root, root.parents[1]):
        if (folder / name).exists():
            return folder / name
    raise FileNotFoundError(f"{name}: build from the repository or from an sdist")


class CustomMetadataHook(MetadataHookInterface):
    def update(self, metadata: dict) -> None:  # type: ignore[type-arg]
        text = source_of(Path(self.root), "CMakeLists.txt").read_text()
        found = re.search(r"^project\(backprop\w* VERSION ([0-9.]+)", text, re.M)
        if found is None:
            raise ValueError("CMakeLists.txt has no line project(backprop… VERSION …)")
        metadata["version"] = found[1]


def rpc_copy(text: str) -> str:
    """Moves google.rpc and grpc.health.v1 to the package backprop.rpc."""
    text = text.replace("google/rpc/", "backprop/rpc/").replace("google.rpc.", "backprop.rpc.")
    text = re.sub(r"^package (google\.rpc|grpc\.health\.v1);", "package backprop.rpc;", text,
                  flags=re.M)
    return re.sub(r"^option (?!cc_enable_arenas).*;\n", "", text, flags=re.M)


def generate(protos: Path, target: Path) -> None:
    """Generates backprop/v1 and backprop/rpc into target."""
    import grpc_tools
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for package, files in {
            "v1": sorted((protos / "backprop/v1").glob("*.proto")),
            "rpc": [protos / "google/rpc/status.proto", protos / "google/rpc/error_details.proto",
                    protos / "grpc/health/v1/health.proto"],
        }.items():
            (work / "backprop" / package).mkdir(parents=True)
            for file in files:
                text = file.read_text()
                if package == "rpc" or "google/rpc/" in text:
                    text = rpc_copy(text) if package == "rpc" else (
                        text.replace("google/rpc/", "backprop/rpc/")
                        .replace("google.rpc.", "backprop.rpc."))
                (work / "backprop" / package / file.name).write_text(text)
        out = work / "out"
        out.mkdir()
        include = Path(grpc_tools.__file__).parent / "_proto"
        names = sorted(str(f.relative_to(work)) for f in work.glob("backprop/*/*.proto"))
        services = [n for n in names
                    if n.startswith("backprop/v1") and n.endswith("_service.proto")]
        arguments = ["protoc", f"-I{work}", f"-I{include}"]
        for options in ([f"--python_out={out}", f"--pyi_out={out}", *names],
                        [f"--grpc_python_out={out}", *services]):
            if protoc.main(arguments + options) != 0:
                raise RuntimeError("protoc failed")
        for package in ("v1", "rpc"):
            shutil.rmtree(target / "backprop" / package, ignore_errors=True)
            shutil.copytree(out / "backprop" / package, target / "backprop" / package)
            (target / "backprop" / package / "__init__.py").write_text("")


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        license_file = root / "LICENSE"
        if not license_file.exists():
            shutil.copy(source_of(root, "LICENSE"), license_file)
        if self.target_name != "wheel":
            return
        generate(source_of(root, "proto"), root / "src")
        build_data["artifacts"] += ["src/backprop/v1/*", "src/backprop/rpc/*"]
        tree = os.environ.get("BACKPROP_SERVER_TREE")
        if tree and version != "editable":
            build_data["force_include"][tree] = "backprop/_server"
            build_data["pure_python"] = False
            build_data["tag"] = "py3-none-linux_" + os.uname().machine


if __name__ == "__main__":  # generates the code into src or another folder, without a build
    here = Path(__file__).resolve().parent
    generate(source_of(here, "proto"), Path(sys.argv[1]) if sys.argv[1:] else here / "src")
