"""Models and whole servers as files, with the command line and real servers."""

import pathlib
import sys
import tempfile
import threading
import time
import unittest

import grpc

from harness import Server, cli
from stubs import service, service_grpc, tensor


def parameters(server, model_id):
    with grpc.insecure_channel(server.address, options=[("grpc.max_receive_message_length", -1)]) as channel:
        request = service.GetParametersRequest(model=f"models/{model_id}", encoding=tensor.TENSOR_ENCODING_RAW)
        answer = service_grpc.TrainingServiceStub(channel).GetParameters(request, timeout=30)
        return answer.parameters.SerializeToString(deterministic=True)


class BackupTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.folder.name)
        self.servers = 0

    def tearDown(self):
        self.folder.cleanup()

    def server(self, name, *flags, **kwargs):
        return Server("--data-dir", str(self.path / name), *flags, **kwargs)

    def ok(self, server, *arguments):
        result = cli(*arguments, server=server.address, cwd=self.path)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def fails(self, server, *arguments):
        result = cli(*arguments, server=server.address, cwd=self.path)
        self.assertEqual(result.returncode, 1, result.stdout)
        return result.stderr

    def fill(self, server):
        for name in ("a", "b"):
            self.ok(server, "create", name, "--inputs", 2, "--layers", "32,2", "--optimizer", "adam")
            self.ok(server, "train", name, "--data", "xor", "--iterations", 50)
            self.ok(server, "checkpoint", "create", name, "c")
            self.ok(server, "train", name, "--data", "xor", "--iterations", 5)
        self.ok(server, "dataset", "upload", "d", "--data", "spirals", "--n", 3000)

    def test_an_exported_model_trains_on_another_server_with_the_same_bits(self):
        with self.server("one") as one, Server() as other:
            self.fill(one)
            self.ok(one, "export", "a", "a.model")
            self.assertEqual([p.name for p in self.path.glob("*.partial")], [])
            self.ok(other, "import", "a.model", "a")
            for server in (one, other):
                self.ok(server, "train", "a", "--data", "xor", "--iterations", 20)
            self.assertEqual(parameters(one, "a"), parameters(other, "a"))
            intact = (self.path / "a.model").read_bytes()
            (self.path / "cut.model").write_bytes(intact[:-5])
            self.assertIn("the file is truncated", self.fails(other, "import", "cut.model", "b"))
            (self.path / "bad.model").write_bytes(intact[:200] + bytes([intact[200] ^ 1]) + intact[201:])
            self.assertIn("checksum", self.fails(other, "import", "bad.model", "b"))
            self.assertIn("no such model", self.fails(one, "export", "none", "none.model"))
            self.assertFalse((self.path / "none.model").exists())

    def test_a_backup_of_a_busy_server_is_consistent(self):
        """Two models make the same steps, the second after the first: never ahead, and late by one step at most."""
        with self.server("one") as server:
            self.fill(server)
            stop = threading.Event()

            def work():
                with grpc.insecure_channel(server.address) as channel:
                    stub = service_grpc.TrainingServiceStub(channel)
                    batch = tensor.Batch(inputs=tensor.Tensor(values=[0, 1]), labels=tensor.Tensor(values=[1]))
                    while not stop.is_set():
                        for name in ("a", "b"):
                            stub.Step(service.StepRequest(model=f"models/{name}", batch=batch), timeout=30)

            thread = threading.Thread(target=work)
            thread.start()
            try:
                for i in range(5):
                    self.ok(server, "backup", f"{i}.backup")
            finally:
                stop.set()
                thread.join()
        for i in range(5):
            with self.server(f"restored{i}") as restored:
                self.assertIn("restored 2 models", self.ok(restored, "restore", f"{i}.backup"))
                steps = [self.step_of(restored, name) for name in ("a", "b")]
                self.assertIn(steps[0] - steps[1], (0, 1), steps)
                self.ok(restored, "checkpoint", "restore", "a", "c")
                self.assertEqual(self.step_of(restored, "a"), 50)
                self.ok(restored, "train", "b", "--dataset", "d", "--epochs", 1)
            with self.server(f"restored{i}") as again:
                self.assertEqual(self.step_of(again, "a"), 50)

    def step_of(self, server, name):
        with grpc.insecure_channel(server.address) as channel:
            request = service.GetModelRequest(name=f"models/{name}")
            return service_grpc.TrainingServiceStub(channel).GetModel(request, timeout=30).model.step

    def test_an_active_run_resumes_on_the_restored_server(self):
        with self.server("one", "--mark-interval", "0.05") as server:
            self.ok(server, "create", "m", "--inputs", 2, "--layers", "8,2")
            self.ok(server, "train", "m", "--data", "xor", "--iterations", 300000, "--detach")
            self.ok(server, "backup", "m.backup")
            expected = self.ok(server, "watch", "m")
            before = parameters(server, "m")
        self.assertIn("completed after 300000", expected)
        with self.server("two") as server:
            self.assertIn("1 runs resume", self.ok(server, "restore", "m.backup"))
            self.assertIn("completed after 300000", self.ok(server, "watch", "m"))
            self.assertEqual(parameters(server, "m"), before)

    def test_a_damaged_backup_leaves_the_server_empty_and_an_intact_one_can_follow(self):
        with self.server("one") as server:
            self.fill(server)
            self.ok(server, "backup", "all.backup")
            self.assertIn("already holds models or datasets", self.fails(server, "restore", "all.backup"))
            expected = parameters(server, "a")
        intact = (self.path / "all.backup").read_bytes()
        (self.path / "cut.backup").write_bytes(intact[:len(intact) // 2])
        (self.path / "bad.backup").write_bytes(intact[:-40] + bytes([intact[-40] ^ 1]) + intact[-39:])
        with self.server("two") as server:
            self.assertIn("the file is truncated", self.fails(server, "restore", "cut.backup"))
            self.assertIn("checksum", self.fails(server, "restore", "bad.backup"))
            self.assertEqual(self.ok(server, "list"), "")
            self.ok(server, "restore", "all.backup")
            self.assertEqual(parameters(server, "a"), expected)
        with Server() as server:
            for command in ("backup", "restore"):
                self.assertIn("server with --data-dir", self.fails(server, command, "all.backup"))

    def test_a_server_killed_during_a_restore_starts_empty(self):
        with self.server("one") as server:
            self.ok(server, "create", "large", "--inputs", 784, "--layers", "1024,1024,10", "--optimizer", "adam")
            self.ok(server, "backup", "all.backup")
        killed = self.server("two", expect_exit=-9)
        with killed:
            with grpc.insecure_channel(killed.address) as channel:
                from backprop.v1 import admin_service_pb2, admin_service_pb2_grpc
                intact = (self.path / "all.backup").read_bytes()
                arrived = threading.Event()

                def most_of_the_file():
                    for at in range(0, len(intact) - (2 << 20), 1 << 20):
                        yield admin_service_pb2.RestoreBackupRequest(data=intact[at:at + (1 << 20)])
                    arrived.wait(5)  # the server has received these bytes

                call = admin_service_pb2_grpc.AdminServiceStub(channel).RestoreBackup.future(most_of_the_file())
                stub = service_grpc.TrainingServiceStub(channel)
                code = None
                for _ in range(500):
                    try:
                        stub.GetModel(service.GetModelRequest(name="models/large"), timeout=30)
                    except grpc.RpcError as error:
                        code = error.code()
                    if code == grpc.StatusCode.UNAVAILABLE:
                        break
                    time.sleep(0.01)
                self.assertEqual(code, grpc.StatusCode.UNAVAILABLE)
                time.sleep(0.5)  # a part is stored
                killed.process.kill()
                killed.process.wait()
                arrived.set()
                call.cancel()
        with self.server("two") as server:
            self.assertIn("a restore was interrupted", server.log())
            self.assertEqual(self.ok(server, "list"), "")
            self.ok(server, "restore", "all.backup")
            self.assertIn("models/large", self.ok(server, "list"))


if __name__ == "__main__":
    unittest.main(argv=[*sys.argv[:1], "-v", *sys.argv[1:]])
