"""Disks that are full, read-only, out of inodes or removed, from the view of a server and a user.

The disks are real: tmpfs, mounted by the tests. Where mounting is not permitted they fail.
"""

import array
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

import grpc
from google.rpc import error_details_pb2, status_pb2

from harness import BIN, Server, cli
from stubs import dataset, model, service, service_grpc, tensor

FULL = grpc.StatusCode.RESOURCE_EXHAUSTED
WRITES = "backprop.v1.TrainingService.writes"
ROWS, INPUTS = 5000, 50  # a chunk of 1 MB


def create(stub, model_id, units=(8, 2)):
    spec = model.ModelSpec(input_size=2, layers=[model.Layer(units=u) for u in units])
    return stub.CreateModel(service.CreateModelRequest(model_id=model_id, spec=spec), timeout=30).model


def step(stub, model_id, request_id=""):
    batch = tensor.Batch(inputs=tensor.Tensor(values=[0, 0, 0, 1, 1, 0, 1, 1]),
                         labels=tensor.Tensor(values=[0, 1, 1, 0]))
    return stub.Step(service.StepRequest(model=f"models/{model_id}", batch=batch, request_id=request_id),
                     timeout=30)


def parameters(stub, model_id):
    request = service.GetParametersRequest(model=f"models/{model_id}", encoding=tensor.TENSOR_ENCODING_RAW)
    return stub.GetParameters(request, timeout=30).parameters


def predict(stub, model_id):
    stub.Predict(service.PredictRequest(model=f"models/{model_id}", inputs=tensor.Tensor(values=[0, 1])), timeout=30)


def upload(stub, name, chunks, commit=True):
    inputs = array.array("f", (i % 997 / 997 for i in range(ROWS * INPUTS))).tobytes()
    labels = tensor.Tensor(shape=[ROWS], data_type=tensor.DATA_TYPE_INT32, raw=bytes(4 * ROWS))

    def messages():
        yield service.UploadDatasetRequest(header=dataset.DatasetHeader(
            dataset_id=name, request_id=name, data_type=tensor.DATA_TYPE_FLOAT32))
        for i in range(chunks):
            rows = tensor.Batch(labels=labels, inputs=tensor.Tensor(
                shape=[ROWS, INPUTS], data_type=tensor.DATA_TYPE_FLOAT32, raw=inputs))
            yield service.UploadDatasetRequest(chunk=dataset.DatasetChunk(first_row=i * ROWS, rows=rows))
        if commit:
            yield service.UploadDatasetRequest(commit=dataset.DatasetCommit(rows=chunks * ROWS))

    return stub.UploadDataset(messages(), timeout=120)


def delete(stub, name):
    if name.startswith("datasets/"):
        stub.DeleteDataset(service.DeleteDatasetRequest(name=name), timeout=30)
    else:
        stub.DeleteModel(service.DeleteModelRequest(name=name), timeout=30)


def health(server, name=""):
    """1: SERVING, 2: NOT_SERVING."""
    with grpc.insecure_channel(server.address) as channel:
        answer = channel.unary_unary("/grpc.health.v1.Health/Check")(
            b"\x0a" + bytes([len(name)]) + name.encode(), timeout=30)
    return answer[1]


def reason(error):
    """Returns the reason in the ErrorInfo of an error."""
    details = dict(error.trailing_metadata()).get("grpc-status-details-bin", b"")
    for any_detail in status_pb2.Status.FromString(details).details:
        info = error_details_pb2.ErrorInfo()
        if any_detail.Unpack(info):
            return info.reason
    return ""


def fill(path):
    """Writes until not one more byte fits. Returns the number of bytes written."""
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as file:
        for size in (1 << 20, 4096):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return path.stat().st_size


def used(path):
    disk = os.statvfs(path)
    return (disk.f_blocks - disk.f_bfree) * disk.f_frsize


def within(seconds, condition, what):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.01)


class DiskTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name)
        self.disk = self.path / "disk"
        self.data = self.disk / "data"
        self.filler = self.disk / "filler"

    def mount(self, options, at=None):
        at = at or self.disk
        at.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", at], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", at])

    def server(self, *flags, **kwargs):
        return Server("--data-dir", str(self.data), *flags, **kwargs)

    def stub(self, server):
        channel = grpc.insecure_channel(server.address)
        self.addCleanup(channel.close)
        return service_grpc.TrainingServiceStub(channel)

    def refused(self, call, code, *texts):
        with self.assertRaises(grpc.RpcError) as raised:
            call()
        error = raised.exception
        self.assertEqual(error.code(), code, error.details())
        for text in texts:
            self.assertIn(text, error.details())
        return error

    def step_until_refused(self, stub, model_id):
        """Makes steps until one is rejected, after RocksDB's preallocated space is used up. Returns the last
        acknowledged parameters."""
        for _ in range(20000):
            before = parameters(stub, model_id)
            try:
                step(stub, model_id)
            except grpc.RpcError as error:
                self.assertEqual(error.code(), FULL, error)
                self.assertIn("not stored", error.details())
                return before
        self.fail("every step was stored")

    def step_again(self, server, stub, model_id):
        """The server recovers without a restart."""
        def stored():
            try:
                return step(stub, model_id)
            except grpc.RpcError as error:
                self.assertIn("not stored", error.details())
                return None
        within(20, stored, "a step is stored again")
        self.assertIn("changes are stored again", server.log())
        self.assertEqual(health(server, WRITES), 1)

    def crash(self, steps=3):
        """A server that was killed, with models m and n."""
        server = self.server(expect_exit=-9)
        with server:
            stub = self.stub(server)
            create(stub, "m")
            create(stub, "n")
            for _ in range(steps):
                step(stub, "m")
            before = parameters(stub, "m")
            server.process.kill()
            server.process.wait()
        return before

    def test_after_a_crash_the_server_starts_on_a_full_disk(self):
        self.mount("size=64m")
        before = self.crash()
        fill(self.filler)
        for _ in range(2):  # a restart does not use the space that the first start needed
            with self.server() as server:
                self.assertIn("the disk is full", server.log())
                stub = self.stub(server)
                self.assertEqual(parameters(stub, "m"), before)
                predict(stub, "m")
                self.assertEqual((health(server), health(server, WRITES)), (1, 2))
                error = self.refused(lambda: step(stub, "m"), FULL, "not stored", "disk is full")
                self.assertEqual(reason(error), "NOT_STORED")
                self.refused(lambda: create(stub, "new"), FULL, "not stored")
        with self.server() as server:
            stub = self.stub(server)
            delete(stub, "models/n")  # deleting works because of the reserve
            self.filler.unlink()
            self.step_again(server, stub, "m")
            after = parameters(stub, "m")
            self.assertEqual(after.step, before.step + 1)
        with self.server() as server:
            self.assertEqual(parameters(self.stub(server), "m"), after)
            self.refused(lambda: predict(self.stub(server), "n"), grpc.StatusCode.NOT_FOUND)

    def test_without_a_reserve_models_on_a_full_disk_can_be_read(self):
        self.mount("size=64m")
        before = self.crash()
        for file in self.data.glob("reserve.*"):
            file.unlink()
        fill(self.filler)
        with self.server() as server:
            stub = self.stub(server)
            self.assertEqual(parameters(stub, "m"), before)
            self.refused(lambda: step(stub, "m"), FULL, "not stored")
            second = self.start()
            self.assertEqual(second.returncode, 1, "a server that only reads holds the lock")
            self.assertIn("is in use by another server", second.stderr)
            self.filler.unlink()
            self.step_again(server, stub, "m")
            within(5, lambda: len(list(self.data.glob("reserve.*"))) == 8, "the reserve is filled again")

    def start(self, *flags):
        """A server that does not start."""
        return subprocess.run([BIN / "backpropd", "--listen", "127.0.0.1:0", "--data-dir", self.data, *flags],
                              capture_output=True, text=True, timeout=30)

    def test_uploads_leave_the_minimum_free_and_deletions_free_the_disk(self):
        self.mount("size=150m")
        with self.server() as server:
            stub = self.stub(server)
            create(stub, "m")
            upload(stub, "kept", 24)
            before = used(self.disk)
            error = self.refused(lambda: upload(stub, "large", 200), FULL, "bytes of the disk are free",
                                 "--min-free-bytes")
            self.assertEqual(reason(error), "LOW_DISK_SPACE")
            self.refused(lambda: stub.GetDataset(service.GetDatasetRequest(name="datasets/large"), timeout=30),
                         grpc.StatusCode.NOT_FOUND)
            # Nothing else was affected.
            self.assertEqual(health(server, WRITES), 1)
            create(stub, "new")
            step(stub, "m")
            delete(stub, "models/new")
            within(60, lambda: used(self.disk) < before + (12 << 20), "the rows of the rejected upload are freed")
            delete(stub, "datasets/kept")
            within(60, lambda: used(self.disk) < 48 << 20, "the space of the deleted dataset is freed")
            upload(stub, "again", 24)
        with self.server() as server:
            self.assertEqual(self.stub(server).GetDataset(service.GetDatasetRequest(
                name="datasets/again"), timeout=30).dataset.rows, 24 * ROWS)

    def test_an_expired_upload_frees_its_space(self):
        self.mount("size=150m")
        with self.server("--min-free-bytes", "90MB") as server:
            stub = self.stub(server)
            empty = used(self.disk)
            upload(stub, "left", 5, commit=False)  # ends without a commit, so that it can be resumed
            fill_to = os.statvfs(self.disk).f_bavail * 4096 - (80 << 20)
            with open(self.filler, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, fill_to)
            within(60, lambda: "unfinished uploads expired" in server.log(), "the upload expires if there is no space")
            within(60, lambda: used(self.disk) < empty + fill_to + (6 << 20), "its rows are freed")

    def test_on_a_full_disk_deletions_work_and_the_server_recovers(self):
        self.mount("size=150m")
        with self.server() as server:
            stub = self.stub(server)
            create(stub, "m")
            create(stub, "n")
            upload(stub, "d", 40)
            fill(self.filler)
            before = self.step_until_refused(stub, "m")
            self.refused(lambda: step(stub, "n"), FULL, "not stored")
            self.assertEqual(health(server, WRITES), 2)
            predict(stub, "n")
            delete(stub, "models/n")  # a step of it was rejected
            self.refused(lambda: predict(stub, "n"), grpc.StatusCode.NOT_FOUND)
            delete(stub, "datasets/d")
            self.step_again(server, stub, "m")
            after = parameters(stub, "m")
            self.assertGreater(after.step, before.step)
        with self.server() as server:
            stub = self.stub(server)
            self.assertEqual(parameters(stub, "m"), after)
            self.refused(lambda: predict(stub, "n"), grpc.StatusCode.NOT_FOUND)
            self.refused(lambda: stub.GetDataset(service.GetDatasetRequest(name="datasets/d"), timeout=30),
                         grpc.StatusCode.NOT_FOUND)

    def test_imports_and_restores_leave_the_minimum_free(self):
        self.mount("size=64m")
        with self.server() as server:
            create(self.stub(server), "m")
            for command in (["export", "m", self.path / "m.bpm"], ["backup", self.path / "all"]):
                self.assertEqual(cli(*command, server=server.address).returncode, 0)
        shutil.rmtree(self.data)
        with self.server("--min-free-bytes", "60MB") as server:
            for command in (["import", self.path / "m.bpm"], ["restore", self.path / "all"]):
                result = cli(*command, server=server.address)
                self.assertEqual(result.returncode, 1, result)
                self.assertIn("--min-free-bytes", result.stderr)
        with self.server("--min-free-bytes", "1MB") as server:
            self.assertEqual(cli("restore", self.path / "all", server=server.address).returncode, 0)
            predict(self.stub(server), "m")

    def test_a_disk_without_inodes_is_full(self):
        self.mount("size=64m,nr_inodes=64")
        before = self.crash()
        fillers = self.disk / "fillers"
        fillers.mkdir()
        with contextlib.suppress(OSError):
            for i in range(1000):
                (fillers / str(i)).touch()
        with self.server() as server:
            stub = self.stub(server)
            self.assertEqual(parameters(stub, "m"), before)
            self.refused(lambda: upload(stub, "d", 1), FULL, "more files")
        # Now also without the files of the reserve.
        for file in self.data.glob("reserve.*"):
            file.unlink()
        with contextlib.suppress(OSError):
            for i in range(1000, 2000):
                (fillers / str(i)).touch()
        with self.server() as server:
            stub = self.stub(server)
            self.assertEqual(parameters(stub, "m"), before)
            self.refused(lambda: step(stub, "m"), FULL, "not stored")
            shutil.rmtree(fillers)
            self.step_again(server, stub, "m")

    def test_models_on_a_read_only_disk_can_be_read_and_the_server_recovers(self):
        self.mount("size=64m")
        before = self.crash()
        subprocess.run(["mount", "-o", "remount,ro", self.disk], check=True)
        with self.server() as server:
            stub = self.stub(server)
            self.assertEqual(parameters(stub, "m"), before)
            self.refused(lambda: step(stub, "m"), grpc.StatusCode.UNAVAILABLE, "Read-only file system")
            subprocess.run(["mount", "-o", "remount,rw", self.disk], check=True)
            self.step_again(server, stub, "m")

    def test_a_full_disk_cannot_hold_a_new_store(self):
        self.mount("size=2m")
        fill(self.filler)
        for _ in range(2):
            result = self.start()
            self.assertEqual(result.returncode, 1)
            self.assertEqual(len(result.stderr.strip().splitlines()), 1, result.stderr)
            self.assertIn("the disk is full", result.stderr)
        self.filler.unlink()
        with self.server() as server:
            create(self.stub(server), "m")

    # After `action` nothing is acknowledged, and within a second health reports it.
    def gone(self, server, action, text, repair=None):
        stub = self.stub(server)
        create(stub, "m")
        create(stub, "n")
        step(stub, "m")
        before = parameters(stub, "n")
        action()
        error = self.refused(lambda: step(stub, "m"), grpc.StatusCode.UNAVAILABLE, "not stored", text)
        self.assertEqual(reason(error), "DATA_DIRECTORY_GONE")
        within(1, lambda: (health(server), health(server, WRITES)) == (2, 2), "health")
        self.assertIn(text, server.log())
        self.refused(lambda: create(stub, "o"), grpc.StatusCode.UNAVAILABLE, text)
        self.assertEqual(parameters(stub, "n"), before, "models in memory can be read")
        if repair is None:
            return
        repair()
        self.step_again(server, stub, "n")
        self.assertEqual(health(server), 1)
        after = parameters(stub, "n")
        server.terminate_and_wait()
        with self.server() as second:
            self.assertEqual(parameters(self.stub(second), "n"), after)

    def test_nothing_is_acknowledged_after_the_directory_was_removed(self):
        self.disk.mkdir()
        with self.server() as server:
            self.gone(server, lambda: shutil.rmtree(self.data), "was removed")
            self.assertFalse(self.data.exists(), "it is not created again by a server with other models")

    def test_a_directory_that_was_moved_away_and_back(self):
        self.disk.mkdir()
        away = self.disk / "away"
        with self.server() as server:
            self.gone(server, lambda: self.data.rename(away), "was moved or removed", lambda: away.rename(self.data))

    def test_a_directory_that_was_replaced(self):
        self.disk.mkdir()
        away = self.disk / "away"

        def replace():
            self.data.rename(away)
            shutil.copytree(away, self.data)

        def bring_back():
            self.assertEqual(list(self.data.glob("reserve.*")), [], "nothing is written to the other directory")
            shutil.rmtree(self.data)
            away.rename(self.data)

        with self.server() as server:
            def replace_and_keep():
                replace()
                for file in self.data.glob("reserve.*"):
                    file.unlink()
            self.gone(server, replace_and_keep, "another directory", bring_back)

    def test_a_disk_that_was_mounted_over_it(self):
        self.disk.mkdir()
        with self.server() as server:
            self.gone(server, lambda: self.mount("size=8m", self.data), "another directory",
                      lambda: subprocess.run(["umount", self.data], check=True))

    def test_the_log_was_removed(self):
        self.disk.mkdir()
        with self.server() as server:
            self.gone(server, lambda: [file.unlink() for file in self.data.glob("*.log")], "log")

    def test_any_other_file_was_removed(self):
        self.disk.mkdir()
        with self.server() as server:
            stub = self.stub(server)
            create(stub, "m")
            away = self.disk / "CURRENT"
            (self.data / "CURRENT").rename(away)
            within(1, lambda: health(server) == 2, "health")
            self.refused(lambda: step(stub, "m"), grpc.StatusCode.UNAVAILABLE, "CURRENT")
            away.rename(self.data / "CURRENT")
            within(5, lambda: health(server) == 1, "health")
            step(stub, "m")

    def test_other_files_in_the_directory_do_not_change(self):
        self.data.mkdir(parents=True)
        (self.data / "lost+found").mkdir()
        (self.data / "notes.txt").write_text("mine")
        with self.server() as server:
            create(self.stub(server), "m")
        with self.server() as server:
            predict(self.stub(server), "m")
        self.assertEqual((self.data / "notes.txt").read_text(), "mine")

    def test_a_log_and_a_port_file_on_a_full_disk(self):
        self.mount("size=1m")
        fill(self.filler)
        port_file = self.disk / "port"
        result = subprocess.run([BIN / "backpropd", "--listen", "127.0.0.1:0", "--port-file", port_file],
                                capture_output=True, text=True, timeout=30)
        self.assertEqual(result.returncode, 1)
        self.assertIn("No space left on device", result.stderr.splitlines()[-1])
        self.assertEqual([file.name for file in self.disk.iterdir()], ["filler"])
        with open("/dev/full", "w") as full:
            there = self.path / "port"
            server = subprocess.Popen([BIN / "backpropd", "--listen", "127.0.0.1:0", "--port-file", there,
                                       "--log-level", "debug"], stderr=full)
            try:
                within(30, there.exists, "the server starts although its log is full")
                listed = cli("list", server=there.read_text().strip())
                self.assertEqual(listed.returncode, 0, listed.stderr)
            finally:
                server.terminate()
                self.assertEqual(server.wait(timeout=60), 0)

    def test_files_of_the_command_line_on_a_full_disk(self):
        self.mount("size=1m")
        fill(self.filler)
        with Server("--data-dir", str(self.path / "data")) as server:
            create(self.stub(server), "m", units=(2000, 2))
            for command in (["export", "m"], ["backup"]):
                result = cli(*command, self.disk / "file", server=server.address)
                self.assertNotEqual(result.returncode, 0)
                self.assertIn("No space left on device", result.stderr)
                with open("/dev/full", "w") as full:
                    out = subprocess.run([BIN / "backprop", *command, "-"], stdout=full, stderr=subprocess.PIPE,
                                         text=True, timeout=60, env={**os.environ, "BACKPROP_SERVER": server.address})
                self.assertNotEqual(out.returncode, 0)
                self.assertIn("No space left on device", out.stderr)
            self.assertEqual([file.name for file in self.disk.iterdir()], ["filler"])


if __name__ == "__main__":
    unittest.main(argv=[*sys.argv[:1], "-v", *sys.argv[1:]])
