"""System limits with which a server cannot start: one line on standard error, and exit status 1."""

import os
import subprocess
import sys
import tempfile
import unittest

from harness import BIN, Server, cli


def start(*prlimit, command=()):
    """Starts a server with limits, for a moment."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        server = subprocess.Popen(
            ["prlimit", *prlimit, *command, BIN / "backpropd", "--listen", "127.0.0.1:0", "--threads",
             "4", "--port-file", f"{folder}/address"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            _, err = server.communicate(timeout=20)
        finally:
            server.kill()
        return server.returncode, err


class SystemLimitsTest(unittest.TestCase):
    def expect_one_line(self, result, *words):
        status, err = result
        self.assertEqual(status, 1, err)
        self.assertEqual(len(err.strip().splitlines()), 1, err)
        self.assertTrue(err.startswith("backpropd: "), err)
        for word in words:
            self.assertIn(word, err)

    def test_few_open_files(self):
        for allowed in (8, 20, 47):
            with self.subTest(allowed):
                self.expect_one_line(start(f"--nofile={allowed}:{allowed}"),
                                     f"the limit of open files is {allowed}, but the server needs at "
                                     "least 48", "ulimit -n")
        with Server(wrapper=("prlimit", "--nofile=48:48")) as server:
            made = cli("create", "--inputs", 1, "--layers", "2", server=server.address)
            self.assertEqual(made.returncode, 0, made.stderr)

    def test_few_open_files_and_a_data_directory(self):
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(2):
                with Server("--data-dir", folder, wrapper=("prlimit", "--nofile=64:64")) as server:
                    made = cli("create", "--inputs", 1, "--layers", "2", server=server.address)
                    self.assertEqual(made.returncode, 0, made.stderr)

    @unittest.skipIf(os.geteuid() != 0, "the limit of processes does not bind root, and only root can be another user")
    def test_few_processes(self):
        # A separate user, so that processes of other users do not count.
        user = ("setpriv", "--reuid=54321", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all")
        if subprocess.run([*user, BIN / "backpropd", "--version"], capture_output=True).returncode != 0:
            self.skipTest("another user cannot run the binary where it is")
        for allowed in (1, 3, 10, 20):
            with self.subTest(allowed):
                self.expect_one_line(start(f"--nproc={allowed}:{allowed}", command=user),
                                     "more threads", "ulimit -u")

    def test_no_executable_memory(self):
        # prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN) and exec, which keeps it; since Linux 6.3.
        deny = ("import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0 or sys.exit(77); "
                "os.execvp(sys.argv[1], sys.argv[1:])")
        command = (sys.executable, "-c", deny)
        if subprocess.run([*command, "true"]).returncode == 77:
            self.skipTest("this kernel cannot deny executable memory")
        with Server(wrapper=command) as server:
            made = cli("create", "--inputs", 1, "--layers", "2", server=server.address)
            self.assertEqual(made.returncode, 0, made.stderr)
            self.assertIn("denies executable memory", server.log())

    def test_little_address_space(self):
        for megabytes in (300, 600, 1000):
            with self.subTest(megabytes):
                size = megabytes << 20
                self.expect_one_line(start(f"--as={size}:{size}"), "address space", "ulimit -v")
        with Server(wrapper=("prlimit", f"--as={1 << 30}:{1 << 30}")) as server:
            self.assertEqual(cli("health", server=server.address).stdout, "SERVING\n")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + ["-v"])
