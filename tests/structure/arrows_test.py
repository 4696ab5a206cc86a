"""Includes point one way: rpc -> session -> {engine, store}; main -> all; engine -> nothing of ours."""

import pathlib
import re
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Directory -> other directories and generated roots whose headers it may include.
ALLOWED = {
    "proto": set(),
    "server/engine": set(),
    "server/store": {"server/engine"},
    "server/session": {"server/engine", "server/store"},
    "server/rpc": {"server/session", "server/engine", "generated", "grpc"},
    "server/ops": {"server/rpc", "server/session"},
    "server": {"server/ops", "server/rpc", "server/session", "server/store", "server/engine",
               "generated", "grpc"},
    "client/backprop": {"generated", "grpc"},
    "client/cli": {"client/backprop", "generated", "grpc"},
}
# Headers that a user of the client sees.
PUBLIC = {"call_options.h", "client.h", "datasets.h", "model.h", "status.h", "tensor.h", "training.h"}
# Allowed for the engine: the standard library, without threads, clocks and streams.
ENGINE_FORBIDDEN = re.compile(
    r"^(thread|mutex|shared_mutex|condition_variable|future|chrono|ctime|iostream|fstream|filesystem|"
    r"absl/.*|grpc.*|google/.*|spdlog/.*|rocksdb/.*|sys/.*|unistd\.h)$")


def folder_of(header):
    """The part of the house that a header belongs to, or None for a system header."""
    if re.match(r"(backprop/v1|google/rpc|grpc/health|grpc/reflection)/.*\.pb\.h$", header):
        return "generated"
    if header.startswith("google/protobuf/"):
        return "generated"
    if re.match(r"grpc(pp)?/", header):
        return "grpc"
    if re.match(r"backprop/\w+\.h$", header):
        return "client/backprop"
    for folder in sorted(ALLOWED, key=len, reverse=True):
        if header.startswith(folder + "/"):
            return folder
    return None


def includes(path):
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), re.M)


def violations(folder, path):
    bad = []
    for header in includes(path):
        target = folder_of(header)
        if target is not None and target != folder and target not in ALLOWED[folder]:
            bad.append(f"{path.relative_to(ROOT)} includes {header}: {folder} must not know {target}")
        if folder == "server/engine" and ENGINE_FORBIDDEN.match(header):
            bad.append(f"{path.relative_to(ROOT)} includes {header}: not for the engine")
        if folder == "client/backprop" and path.name in PUBLIC and target in ("generated", "grpc"):
            bad.append(f"{path.relative_to(ROOT)} includes {header}: not in a public header")
    return bad


def sources():
    for folder in ALLOWED:
        for path in sorted((ROOT / folder).glob("*")):
            if path.suffix in (".h", ".cc"):
                yield folder, path


class ArrowsTest(unittest.TestCase):
    def test_includes_point_one_way(self):
        found = list(sources())
        self.assertGreater(len(found), 50, "the check sees the sources")
        bad = [line for folder, path in found for line in violations(folder, path)]
        self.assertEqual(bad, [])

    def test_every_source_is_in_a_known_folder(self):
        known = {path for _, path in sources()}
        for top in ("server", "client"):
            for path in (ROOT / top).rglob("*"):
                if path.suffix in (".h", ".cc"):
                    self.assertIn(path, known)

    def test_a_broken_arrow_is_seen(self):
        self.assertEqual(folder_of("server/rpc/status.h"), "server/rpc")
        self.assertNotIn("server/rpc", ALLOWED["server/session"])
        self.assertTrue(ENGINE_FORBIDDEN.match("thread"))
        self.assertEqual(folder_of("backprop/v1/model.pb.h"), "generated")

    def test_headers_guard_themselves_by_their_path(self):
        for folder, path in sources():
            if path.suffix != ".h":
                continue
            root = "client/" if folder == "client/backprop" else ""
            name = str(path.relative_to(ROOT))
            guard = "BACKPROP_" + re.sub(r"[/.]", "_", name.removeprefix("client/backprop/") if root else name).upper() + "_"
            if root:
                guard = "BACKPROP_CLIENT_" + guard.removeprefix("BACKPROP_")
            self.assertIn(f"#ifndef {guard}\n#define {guard}\n", path.read_text(), path)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + ["-v"])
