"""The Debian packages, tried in roots of their own: without systemd, and under a systemd of their own.

scripts/package-test runs this as root: --packages DIR --base TAR --work DIR.
"""

import argparse
import hashlib
import json
import os
import pathlib
import random
import re
import socket
import subprocess
import sys
import threading
import unittest

from booted import Booted
from root import ENVIRONMENT, Root, own_namespaces
from unit import Service, Unit

SOURCE = pathlib.Path(__file__).resolve().parents[2]
UNIT = "usr/lib/systemd/system/backpropd.service"
NOBODY = "nobody:nogroup"
LOOPBACK = {"0100007F", "00000000000000000000000001000000"}  # as in /proc/net/tcp and tcp6

options = argparse.Namespace()
plain = booted = None  # roots with the package: without systemd, and with it


def package(name):
    found = sorted(options.packages.glob(f"{name}_*.deb"))
    assert len(found) == 1, f"{options.packages} has {len(found)} packages {name}"
    return found[0]


def install(root, *debs, more=()):
    for deb in debs:
        subprocess.run(["cp", deb, root / "srv"], check=True)
    root.apt_install(*(f"/srv/{deb.name}" for deb in debs), *more, cache=options.work / "archives")


def write_rows(path):
    """Rows for a model whose products are computed by oneDNN."""
    numbers = random.Random(1)
    with open(path, "w") as file:
        file.write(",".join(f"x{i}" for i in range(64)) + ",y\n")
        for _ in range(512):
            file.write(",".join(f"{numbers.gauss(0, 1):.3f}" for _ in range(64)) + f",{numbers.randrange(10)}\n")


def setUpModule():
    global plain, booted
    plain = Root(options.work / "plain")
    plain.unpack(options.base)
    install(plain, package("backpropd"))
    write_rows(plain / "srv/rows.csv")
    booted = plain.copy_to(options.work / "booted")
    install(booted, more=("systemd",))
    own_namespaces()  # after the downloads


def listening():
    """Local addresses of TCP sockets that listen in this network."""
    found = set()
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        for line in pathlib.Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                found.add(fields[1].split(":")[0])
    return found


class Mounted:
    """/proc in a root, which the server reads."""

    def __init__(self, root):
        self.proc = root / "proc"

    def __enter__(self):
        subprocess.run(["mount", "--bind", "/proc", self.proc], check=True)

    def __exit__(self, *_):
        subprocess.run(["umount", self.proc], check=True)


class SbomTest(unittest.TestCase):
    def setUp(self):
        self.path = plain / "usr/share/doc/backpropd/backpropd.spdx.json"
        self.sbom = json.loads(self.path.read_text())
        self.names = {p["name"]: p for p in self.sbom["packages"]}

    def test_is_valid_spdx(self):
        validator = pathlib.Path(sys.executable).with_name("pyspdxtools")
        done = subprocess.run([validator, "--infile", self.path], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)

    def test_describes_this_package(self):
        version = plain.run("dpkg-query", "-W", "-f", "${Version}", "backpropd").stdout
        self.assertEqual(self.names["backpropd"]["versionInfo"] + "-1", version)
        with Mounted(plain):
            said = plain.run("/usr/bin/backpropd", "--version").stdout
        commit = re.search(r"\(commit (\w+),", said)[1]
        self.assertEqual(self.names["backpropd"]["sourceInfo"], f"built from git commit {commit}")

    def test_has_every_installed_file_with_its_checksum(self):
        listed = {f["fileName"][1:]: {c["algorithm"]: c["checksumValue"] for c in f["checksums"]}
                  for f in self.sbom["files"]}
        installed = {path for path in plain.run("dpkg", "-L", "backpropd").stdout.split()
                     if (plain / path).is_file()}
        self.assertEqual(set(listed) | {"/usr/share/doc/backpropd/backpropd.spdx.json"}, installed)
        for path, checksums in listed.items():
            content = (plain / path).read_bytes()
            self.assertEqual(checksums["SHA256"], hashlib.sha256(content).hexdigest(), path)
            self.assertEqual(checksums["SHA1"], hashlib.sha1(content).hexdigest(), path)

    def test_has_every_library_that_is_loaded(self):
        with Mounted(plain):
            loaded = {os.path.basename(path) for program in ("backpropd", "backprop")
                      for path in re.findall(r"(/\S+) \(0x", plain.run("ldd", f"/usr/bin/{program}").stdout)}
        loaded.discard("libbp_engine.so")
        self.assertGreater(len(loaded), 20)
        linked = {r["relatedSpdxElement"] for r in self.sbom["relationships"]
                  if r["relationshipType"] == "DYNAMIC_LINK"}
        packages = [name for name, p in self.names.items() if p["SPDXID"] in linked]
        files = set(plain.run("dpkg", "-L", *packages).stdout.split())
        self.assertEqual(loaded - {os.path.basename(f) for f in files}, set())

    def test_has_libraries_that_are_headers_only_and_the_compiler(self):
        kinds = {r["spdxElementId"]: r["relationshipType"] for r in self.sbom["relationships"]}
        self.assertEqual(kinds[self.names["libcli11-dev"]["SPDXID"]], "BUILD_DEPENDENCY_OF")
        self.assertEqual(kinds[self.names["libeigen3-dev"]["SPDXID"]], "BUILD_DEPENDENCY_OF")
        self.assertIn("BUILD_TOOL_OF", kinds.values())
        self.assertNotIn("librapidcheck-dev", self.names)  # of tests only


class WithoutSystemdTest(unittest.TestCase):
    def test_the_package_makes_user_and_directories(self):
        self.assertFalse((plain / "lib/systemd/systemd").exists())
        user = plain.run("getent", "passwd", "backpropd").stdout.strip().split(":")
        self.assertEqual(user[5:], ["/var/lib/backpropd", "/usr/sbin/nologin"])
        self.assertLess(int(user[2]), 1000)
        self.assertEqual(plain.mode("/var/lib/backpropd"), "0700 backpropd:backpropd")
        self.assertEqual(plain.mode("/var/log/backpropd"), "0750 backpropd:backpropd")
        self.assertEqual(plain.mode("/etc/backpropd"), "0750 root:backpropd")
        self.assertIn("/etc/backpropd/backpropd.toml",
                      plain.run("dpkg-query", "-W", "-f", "${Conffiles}", "backpropd").stdout)

    def test_the_command_of_the_unit_trains_xor_and_stops_in_time(self):
        unit = Unit(plain / UNIT)
        run = lambda *command: plain.run("backprop", *command, user=NOBODY, env={"HOME": "/nonexistent"}).stdout
        with Mounted(plain):
            with Service(plain, unit) as service:
                self.assertLessEqual(listening(), LOOPBACK)
                self.assertRegex(run("demo"), r"(?s)completed.*PASSED")
                run("create", "kept", "--inputs", "2", "--layers", "8,2", "--seed", "67")
                self.assertIn("completed", run("train", "kept", "--data", "xor", "--iterations", "300"))
                before = run("parameters", "get", "kept")
                status, seconds = service.stop()
                self.assertEqual(status, 0, service.log())
                self.assertLess(seconds, 10)
            written = plain.run("find", "/var/lib/backpropd", "-printf", "%U:%G %m %y\n").stdout.split("\n")
            user = plain.run("id", "-u", "backpropd").stdout.strip()
            self.assertGreater(len(written), 5)
            self.assertEqual([w for w in written if w and not re.match(rf"{user}:{user} [67]00 ", w)], [])
            with Service(plain, unit) as service:
                self.assertEqual(run("parameters", "get", "kept"), before)
                self.assertEqual(service.stop()[0], 0, service.log())

    def test_other_users_cannot_read_models_and_secrets(self):
        (plain / "etc/backpropd/auth.json").write_text("{}")
        for path in ("/var/lib/backpropd", "/etc/backpropd/auth.json"):
            self.assertIn("Permission denied", plain.run("ls", path, user=NOBODY, check=False).stdout)
        (plain / "etc/backpropd/auth.json").unlink()

    def test_the_unit_waits_for_longer_than_the_server_takes_to_stop(self):
        with Mounted(plain):
            text = plain.run("backpropd", "--help").stdout
        defaults = re.findall(r"^ *--(?:grace|drain-delay) .*=([\d.]+) ", text, re.M)
        self.assertGreater(len(defaults), 0)
        self.assertGreaterEqual(float(Unit(plain / UNIT)["TimeoutStopSec"]), sum(map(float, defaults)) + 10)

    def test_a_removal_keeps_models_and_a_purge_deletes_them(self):
        root = plain.copy_to(options.work / "purged")
        (root / "var/lib/backpropd/model").write_text("m")
        root.run("dpkg", "--remove", "backpropd")
        self.assertFalse((root / "usr/bin/backpropd").exists())
        self.assertTrue((root / "var/lib/backpropd/model").exists())
        self.assertTrue((root / "etc/backpropd/backpropd.toml").exists())
        root.run("dpkg", "--purge", "backpropd")
        for gone in ("var/lib/backpropd", "var/log/backpropd", "etc/backpropd", "usr/lib/backpropd",
                     "usr/share/doc/backpropd", UNIT):
            self.assertFalse((root / gone).exists(), gone)
        self.assertIn("backpropd", root.run("getent", "passwd", "backpropd").stdout)
        self.assertEqual(root.run("find", "/etc/systemd", "-name", "backpropd*").stdout, "")
        root.remove()

    def test_an_upgrade_keeps_what_the_administrator_has_changed(self):
        root = plain.copy_to(options.work / "upgraded")
        with open(root / "etc/backpropd/backpropd.toml", "a") as file:
            file.write('threads = 1\n')
        root.run("chmod", "0755", "/etc/backpropd")
        root.run("dpkg", "--install", "--force-confold", f"/srv/{package('backpropd').name}")
        self.assertIn("threads = 1", (root / "etc/backpropd/backpropd.toml").read_text())
        self.assertEqual(root.mode("/etc/backpropd"), "0755 root:backpropd")
        root.remove()


class WithSystemdTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.enterClassContext(Mounted(booted))
        verified = booted.run("systemd-analyze", "verify", f"/{UNIT}", check=False)
        rated = booted.run("systemd-analyze", "security", "--offline=true", "--no-pager", f"/{UNIT}", check=False)
        cls.verified, cls.rated = verified, rated
        cls.doClassCleanups()
        cls.system = cls.enterClassContext(Booted(booted))

    def backprop(self, *command):
        return self.system.run("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
                               "env", "HOME=/nonexistent", "backprop", *command).stdout

    def test_the_unit_has_no_errors_and_little_exposure(self):
        self.assertEqual((self.verified.returncode, self.verified.stdout), (0, ""))
        exposure = re.search(r"Overall exposure level for backpropd.service: ([\d.]+)", self.rated.stdout)
        self.assertLessEqual(float(exposure[1]), 2.0, self.rated.stdout)

    def test_starts_at_boot_and_trains_xor(self):
        self.assertEqual(self.system.run("systemctl", "is-enabled", "backpropd").stdout.strip(), "enabled")
        self.assertEqual(self.system.show("ActiveState"), "active", self.system.journal())
        self.assertLessEqual(listening(), LOOPBACK)
        self.assertRegex(self.backprop("demo"), r"(?s)completed.*PASSED")

    def test_compiles_kernels_for_large_products(self):
        self.backprop("create", "wide", "--inputs", "64", "--layers", "128,10")
        self.assertIn("completed", self.backprop("train", "wide", "--data", "/srv/rows.csv", "--iterations", "3"))

    def test_the_process_has_no_privileges(self):
        status = self.system.run("cat", f"/proc/{self.system.show('MainPID')}/status").stdout
        fields = dict(re.findall(r"^(\w+):\s+(\S+)", status, re.M))
        self.assertEqual(fields["NoNewPrivs"], "1")
        self.assertEqual(fields["Seccomp"], "2")
        self.assertEqual({int(fields[c], 16) for c in ("CapEff", "CapPrm", "CapBnd", "CapAmb")}, {0})
        self.assertNotEqual(fields["Uid"], "0")
        self.assertEqual(int(fields["Uid"]), int(self.system.run("id", "-u", "backpropd").stdout))

    def test_the_process_may_write_to_its_directories_only(self):
        touch = lambda path: self.system.run("nsenter", "--target", self.system.show("MainPID"), "--mount", "--root",
                                             "touch", path, check=False)
        for path in ("/usr/x", "/etc/x", "/etc/backpropd/x", "/var/x", "/var/lib/x", "/root/x", "/home/x", "/srv/x"):
            self.assertRegex(touch(path).stdout, "Read-only file system|Permission denied", path)
        for path in ("/var/lib/backpropd/x", "/run/backpropd/x", "/var/log/backpropd/x"):
            self.assertEqual(touch(path).returncode, 0, path)
        touch("/tmp/private")
        self.assertFalse("private" in self.system.run("ls", "/tmp").stdout.split())

    def test_a_reload_keeps_the_process_and_a_restart_keeps_models(self):
        process = self.system.show("MainPID")
        self.system.run("systemctl", "reload", "backpropd")
        self.assertEqual(self.system.show("MainPID"), process)
        self.backprop("create", "kept", "--inputs", "2", "--layers", "8,2", "--seed", "67")
        before = self.backprop("parameters", "get", "kept")
        self.system.run("systemctl", "restart", "backpropd")
        self.assertNotEqual(self.system.show("MainPID"), process)
        self.assertEqual(self.backprop("parameters", "get", "kept"), before)  # ready when systemctl returns
        self.assertIn("Hangup: ", self.system.journal())

    def test_serves_without_executable_memory(self):
        folder = booted / "etc/systemd/system/backpropd.service.d"
        folder.mkdir()
        try:
            (folder / "test.conf").write_text("[Service]\nMemoryDenyWriteExecute=yes\nRestart=no\n")
            self.system.run("systemctl", "daemon-reload")
            self.system.run("systemctl", "restart", "backpropd")
            self.assertIn("denies executable memory", self.system.journal())
        finally:
            (folder / "test.conf").unlink()
            folder.rmdir()
            self.system.run("systemctl", "daemon-reload")
            self.system.run("systemctl", "restart", "backpropd")

    def test_with_the_socket_unit_connections_wait_for_a_restart(self):
        units = ("backpropd.socket", "backpropd.service")
        self.system.run("systemctl", "stop", "backpropd")
        self.system.run("systemctl", "enable", "--now", "backpropd.socket")
        try:
            self.assertEqual(self.backprop("health"), "SERVING\n", "a connection starts the service")
            process = self.system.show("MainPID")
            ended, refused, connections = threading.Event(), [], 0

            def connect():
                nonlocal connections
                while not ended.is_set():
                    try:
                        socket.create_connection(("127.0.0.1", 50051), timeout=10).close()
                        connections += 1
                    except OSError as error:
                        refused.append(error)
            peer = threading.Thread(target=connect)
            peer.start()
            try:
                for _ in range(3):
                    self.system.run("systemctl", "restart", "backpropd")
            finally:
                ended.set()
                peer.join()
            self.assertEqual(refused, [])
            self.assertGreater(connections, 100)
            self.assertNotEqual(self.system.show("MainPID"), process)
            self.assertIn("sockets were inherited", self.system.journal())
        finally:
            self.system.run("systemctl", "disable", "--now", *units)
            self.system.run("systemctl", "enable", "--now", "backpropd.service")

    def test_wrong_configuration_is_one_failed_start(self):
        path = booted / "etc/backpropd/backpropd.toml"
        text = path.read_text()
        try:
            path.write_text(text + "\nthread = 1\n")
            done = self.system.run("systemctl", "restart", "backpropd", check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertEqual(self.system.show("ActiveState"), "failed")
            self.assertEqual(self.system.show("NRestarts"), "0")
            self.assertIn("thread", self.system.journal())
        finally:
            path.write_text(text)
            self.system.run("systemctl", "reset-failed", "backpropd")
            self.system.run("systemctl", "start", "backpropd")


class SystemdUpgradeTest(unittest.TestCase):
    def test_an_upgrade_restarts_the_server_and_a_purge_stops_it(self):
        root = booted.copy_to(options.work / "removed")
        with Booted(root) as system:
            process = system.show("MainPID")
            system.run("dpkg", "--install", f"/srv/{package('backpropd').name}")
            self.assertEqual(system.show("ActiveState"), "active", system.journal())
            self.assertNotEqual(system.show("MainPID"), process)
            system.run("dpkg", "--remove", "backpropd")
            self.assertEqual(listening(), set())
            system.run("dpkg", "--purge", "backpropd")
            self.assertFalse((root / "var/lib/backpropd").exists())
            self.assertFalse((root / "etc/backpropd").exists())
        root.remove()


class DevelopmentTest(unittest.TestCase):
    def setUp(self):
        self.files = options.work / "devel"
        subprocess.run(["rm", "-rf", self.files], check=True)
        subprocess.run(["dpkg-deb", "-x", package("libbackprop-dev"), self.files], check=True)

    def test_the_example_is_built_with_the_package_and_calls_the_server(self):
        build = options.work / "devel-build"
        subprocess.run(["rm", "-rf", build], check=True)
        configure = ["cmake", "-S", SOURCE / "examples/cpp", "-B", build, "-G", "Ninja",
                     "-DCMAKE_BUILD_TYPE=Release", f"-DCMAKE_PREFIX_PATH={self.files / 'usr'}"]
        for command in (configure, ["cmake", "--build", build]):
            done = subprocess.run(command, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        with Mounted(plain), Service(plain, Unit(plain / UNIT)) as service:
            done = subprocess.run([build / "quickstart", "127.0.0.1:50051"], capture_output=True, text=True,
                                  timeout=120)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr + service.log())

    def test_the_contract_compiles(self):
        folder = self.files / "usr/share/backprop/proto"
        files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*.proto"))
        self.assertEqual(files, sorted(str(p.relative_to(SOURCE / "proto")) for p in (SOURCE / "proto").rglob("*.proto")))
        done = subprocess.run(["protoc", "-I", folder, "--descriptor_set_out=/dev/null", *files],
                              capture_output=True, text=True, env=os.environ | ENVIRONMENT)
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for option in ("--packages", "--base", "--work"):
        parser.add_argument(option, required=True, type=lambda path: pathlib.Path(path).resolve())
    options, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], "-v", *rest])
