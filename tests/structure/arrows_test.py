"""Dependencies point one way. ARCHITECTURE.md has the table of what each folder may include; this test reads it."""

import pathlib
import re
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]

# What the engine may not take from outside: threads, clocks, streams, files, and other libraries.
ENGINE_FORBIDDEN = re.compile(
    r"^(thread|mutex|shared_mutex|condition_variable|future|chrono|ctime|iostream|fstream|filesystem|"
    r"absl/.*|grpc.*|google/.*|spdlog/.*|rocksdb/.*|sys/.*|unistd\.h)$")
# Roots of includes that are no folder of the tree.
GENERATED = "generated code"
RECORDS = "generated records"
GRPC = "gRPC"


def table():
    """{folder: what it may include besides itself}, from the rows of "| `folder` | `a`, `b` | …" in ARCHITECTURE.md."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    section = text.split("\n## The arrows\n", 1)[1].split("\n## ", 1)[0]
    allowed = {}
    for row in re.findall(r"^\| `([^`]+)` \|([^|]*)\|", section, re.M):
        folder, targets = row
        allowed[folder] = set(re.findall(r"`([^`]+)`", targets))
        allowed[folder] |= {root for root in (GENERATED, RECORDS, GRPC) if root in targets}
    return allowed


ALLOWED = table()


def folder_of(header):
    """The part of the house that a header belongs to, or None for one of the system's or a library's."""
    if re.search(r"(^|/)records\.pb\.h$", header):
        return RECORDS
    if re.match(r"(backprop/v1|google/rpc|grpc/health|grpc/reflection)/.*\.pb\.h$", header):
        return GENERATED
    if header.startswith("google/protobuf/"):
        return GENERATED
    if re.match(r"grpc(pp)?/", header):
        return GRPC
    if re.match(r"backprop/\w+\.h$", header):
        return "client/backprop"
    for folder in sorted(ALLOWED, key=len, reverse=True):
        if header.startswith(folder + "/"):
            return folder
    return None


def includes(text):
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', text, re.M)


def without_comments_and_strings(text):
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', " ", text, flags=re.S)


# {namespace: folder}: the namespace of a folder's code is its name. A folder inside another one uses the namespace of
# the outer one.
NAMESPACES = {folder.split("/")[1]: folder for folder in ALLOWED if re.fullmatch(r"server/\w+", folder)}


def namespace_folder(folder):
    return "/".join(folder.split("/")[:2])


def used_namespaces(text):
    """Namespaces of other folders that the code names: session::Run, or a declaration in that namespace."""
    code = without_comments_and_strings(text)
    used = set(re.findall(r"\b(?:backprop::)?(\w+)::\w", code))
    used |= set(re.findall(r"\bnamespace\s+backprop::(\w+)\b", code))
    return {name for name in used if name in NAMESPACES}


def header_of(path):
    header = path.with_suffix(".h")
    return header if path.suffix == ".cc" and header.exists() else None


def violations(folder, path, text=None, header_text=None):
    name = path.relative_to(ROOT)
    text = path.read_text() if text is None else text
    bad = []
    included = set()
    for header in includes(text):
        target = folder_of(header)
        included.add(target)
        if target is not None and target != folder and target not in ALLOWED[folder]:
            bad.append(f"{name} includes {header}: {folder} must not know {target}")
        if folder == "server/engine" and ENGINE_FORBIDDEN.match(header):
            bad.append(f"{name} includes {header}: not for the engine")
    if header_text is None and header_of(path) is not None:
        header_text = header_of(path).read_text()
    if header_text is not None:
        included |= {folder_of(header) for header in includes(header_text)}
    included |= {namespace_folder(target) for target in included if target is not None and target.startswith("server/")}
    # A type may come by way of another header: its folder still has to be one that may be known, and the file, or its
    # own header, says so by an include.
    for namespace in sorted(used_namespaces(text)):
        target = NAMESPACES[namespace]
        if target == namespace_folder(folder) or folder == "server":
            continue
        if target not in {namespace_folder(known) for known in ALLOWED[folder]}:
            bad.append(f"{name} uses {namespace}::: {folder} must not know {target}")
        elif target not in included:
            bad.append(f"{name} uses {namespace}:: without an include of {target}")
    return bad


def sources():
    """Every source of server/ and client/, with the deepest folder of the table that holds it."""
    for top in ("server", "client"):
        for path in sorted((ROOT / top).rglob("*")):
            if path.suffix in (".h", ".cc"):
                folder = str(path.parent.relative_to(ROOT))
                while folder not in ALLOWED and "/" in folder:
                    folder = folder.rsplit("/", 1)[0]
                yield folder, path


def installed_headers():
    cmake = (ROOT / "client/backprop/CMakeLists.txt").read_text()
    names = re.search(r"install\(FILES ([^)]*\.h)\s+DESTINATION", cmake).group(1).split()
    return [ROOT / "client/backprop" / name for name in names]


class ArrowsTest(unittest.TestCase):
    def test_the_table_is_complete_and_has_no_cycle(self):
        self.assertIn("server/engine", ALLOWED)
        self.assertEqual(ALLOWED["server/engine"], set())
        folders = {folder for folder, _ in sources()}
        self.assertEqual(folders - set(ALLOWED), set(), "folders without a row")
        for folder in ALLOWED:
            self.assertTrue((ROOT / folder).is_dir(), folder)
        done, path = set(), []

        def visit(folder):
            self.assertNotIn(folder, path, "a cycle")
            if folder in done:
                return
            path.append(folder)
            for target in ALLOWED.get(folder, ()):
                visit(target)
            done.add(path.pop())

        for folder in ALLOWED:
            visit(folder)

    def test_includes_and_uses_point_one_way(self):
        found = list(sources())
        self.assertGreater(len(found), 250, "the check sees the sources")
        bad = [line for folder, path in found for line in violations(folder, path)]
        self.assertEqual(bad, [])

    def test_every_allowed_arrow_is_used(self):
        used = {folder: set() for folder in ALLOWED}
        for folder, path in sources():
            used[folder] |= {folder_of(header) for header in includes(path.read_text())}
        unused = {folder: ALLOWED[folder] - used[folder] for folder in ALLOWED if ALLOWED[folder] - used[folder]}
        self.assertEqual(unused, {})

    def test_installed_headers_stand_alone(self):
        installed = installed_headers()
        self.assertIn(ROOT / "client/backprop/resources.h", installed)
        for path in installed:
            for header in includes(path.read_text()):
                target = folder_of(header)
                self.assertNotIn(target, (GENERATED, GRPC), f"{path} includes {header}")
                if target == "client/backprop":
                    self.assertIn(ROOT / "client" / header, installed, f"{path} includes {header}")
                self.assertFalse(header.startswith(("client/", "server/")), f"{path} includes {header}")

    def test_broken_arrows_are_seen(self):
        session = ROOT / "server/session/session.cc"
        engine = ROOT / "server/engine/step.cc"
        ours = '#include "server/store/store.h"\n'
        for folder, path, text, seen in (
                ("server/session", session, '#include "server/rpc/status.h"\n', "must not know server/rpc"),
                ("server/session", session, "rpc::Context* context;\n", "must not know server/rpc"),
                ("server/session", session, "namespace backprop::rpc { class Context; }\n", "must not know server/rpc"),
                ("server/session", session, "store::Batch batch;\n", "without an include of server/store"),
                ("server/session", session, ours + "store::Batch batch;\n", None),
                ("server/session", session, "// rpc::Context has it\n" + 'auto s = "rpc::x";\n', None),
                ("server/rpc/call", ROOT / "server/rpc/call/calls.h", '#include "server/rpc/handlers.h"\n',
                 "must not know server/rpc"),
                ("server/rpc/call", ROOT / "server/rpc/call/calls.h", "namespace backprop::rpc { class Calls; }\n", None),
                ("server/engine", engine, "#include <thread>\n", "not for the engine"),
                ("server/store", ROOT / "server/store/memory_store.cc", '#include "server/engine/data.h"\n',
                 "must not know server/engine"),
        ):
            found = violations(folder, path, text, header_text="")
            self.assertEqual(any(seen in line for line in found), True) if seen else self.assertEqual(found, [])

    def test_headers_guard_themselves_by_their_path(self):
        for folder, path in sources():
            if path.suffix != ".h":
                continue
            name = str(path.relative_to(ROOT)).removeprefix("client/backprop/")
            prefix = "BACKPROP_CLIENT_" if folder == "client/backprop" else "BACKPROP_"
            guard = prefix + re.sub(r"[/.]", "_", name).upper() + "_"
            self.assertIn(f"#ifndef {guard}\n#define {guard}\n", path.read_text(), path)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + ["-v"])
