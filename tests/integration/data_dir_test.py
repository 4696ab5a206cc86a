"""--data-dir from a user's view: restarts, a second server, a full disk."""

import array
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import time
import unittest

import grpc

from harness import BIN, Server, cli
from stubs import model, service, service_grpc, tensor, training


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


def reason(error):
    return error.code(), error.details()


class DataDirTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.data = pathlib.Path(self.folder.name) / "data"

    def tearDown(self):
        self.folder.cleanup()

    def server(self, *flags, **kwargs):
        return Server("--data-dir", str(self.data), *flags, **kwargs)

    def stub(self, server):
        return service_grpc.TrainingServiceStub(grpc.insecure_channel(server.address))

    def test_models_survive_a_restart(self):
        with self.server() as server:
            self.assertIn(f"models are stored in {self.data}", server.log())
            stub = self.stub(server)
            self.assertEqual(create(stub, "m").durability, model.DURABILITY_SYNC)
            for i in range(5):
                answer = step(stub, "m", f"r{i}")
            before = parameters(stub, "m")
        with self.server() as server:
            self.assertIn("holds 1 models", server.log())
            stub = self.stub(server)
            self.assertEqual(parameters(stub, "m"), before)
            self.assertEqual(step(stub, "m", "r4"), answer, "a retry gets the first answer")
            self.assertEqual(step(stub, "m").step, 6)
            self.assertEqual(cli("get", "m", server=server.address).returncode, 0)

    def test_calls_right_after_a_cancelled_train_are_accepted(self):
        rows = tensor.Batch(inputs=tensor.Tensor(values=[0, 0, 0, 1, 1, 0, 1, 1]),
                            labels=tensor.Tensor(values=[0, 1, 1, 0]))

        def train(stub, iterations):
            return stub.Train(service.TrainRequest(model="models/m", data=rows,
                                                   config=training.TrainingConfig(iterations=iterations)),
                              timeout=60)

        with self.server() as server:
            stub, other = self.stub(server), self.stub(server)
            create(stub, "m")
            for i in range(100):
                run = train(stub, 10**12)
                next(run)
                run.cancel()
                after = (stub, other)[i % 2]  # over the same connection, and over another
                if i % 4 < 2:
                    self.assertEqual([r.event.summary.iterations for r in train(after, 1)][-1], 1)
                else:
                    self.assertGreater(step(after, "m").step, 0)

    def test_a_server_without_a_directory_says_so(self):
        with Server() as server:
            self.assertIn("models are kept in memory and are lost when the process ends", server.log())

    def test_acknowledged_changes_survive_a_kill(self):
        server = self.server(expect_exit=-9)
        with server:
            stub = self.stub(server)
            create(stub, "m")
            for _ in range(50):
                step(stub, "m")
            before = parameters(stub, "m")
            server.process.kill()
            server.process.wait()
        with self.server() as server:
            self.assertEqual(parameters(self.stub(server), "m"), before)

    def test_a_second_server_does_not_start(self):
        with self.server():
            second = subprocess.run([BIN / "backpropd", "--listen", "127.0.0.1:0", "--data-dir", self.data],
                                    capture_output=True, text=True, timeout=30)
            self.assertEqual(second.returncode, 1)
            self.assertIn("is in use by another server", second.stderr)
            self.assertEqual(len(second.stderr.strip().splitlines()), 1, second.stderr)

    def test_a_server_with_an_unusable_directory_does_not_start(self):
        file = pathlib.Path(self.folder.name) / "file"
        file.write_text("")
        result = subprocess.run([BIN / "backpropd", "--listen", "127.0.0.1:0", "--data-dir", file],
                                capture_output=True, text=True, timeout=30)
        self.assertEqual(result.returncode, 1)
        self.assertIn(str(file), result.stderr)

    def test_a_detached_run_resumes_after_a_kill(self):
        server = self.server("--mark-interval", "0.02", expect_exit=-9)
        with server:
            address = server.address
            create(self.stub(server), "m")
            started = cli("train", "m", "--data", "xor", "--iterations", 400000, "--detach", server=address)
            self.assertEqual(started.returncode, 0, started.stderr)
            watch = subprocess.Popen([BIN / "backprop", "watch", "m"], stdout=subprocess.PIPE, text=True,
                                     env={**os.environ, "BACKPROP_SERVER": address})
            for line in watch.stdout:
                if line.strip().startswith("4000"):
                    break
            server.process.kill()
            server.process.wait()
            watch.kill()
            watch.wait()
            watch.stdout.close()
        with self.server() as server:
            self.assertIn("1 runs resume", server.log())
            watched = cli("watch", "m", server=server.address)
            self.assertEqual(watched.returncode, 0, watched.stderr)
            self.assertIn("completed after 400000 iterations", watched.stdout)

    def test_an_upload_resumes_after_a_kill(self):
        rows, inputs = 300000, 50
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {inputs}), }}".ljust(117) + "\n"
        labels = f"{{'descr': '<i4', 'fortran_order': False, 'shape': ({rows},), }}".ljust(117) + "\n"
        numbers = array.array("f", ((i * 7919 % 1000) / 500 - 1 for i in range(1000 * inputs)))
        classes = array.array("i", (i % 2 for i in range(1000)))
        folder = pathlib.Path(self.folder.name)
        for name, head, values in (("x", header, numbers), ("y", labels, classes)):
            with open(folder / f"{name}.npy", "wb") as file:
                file.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode())
                for _ in range(rows // 1000):
                    file.write(values.tobytes())
        killed = self.server(expect_exit=-9)
        with killed:
            address = killed.address
            upload = subprocess.Popen([BIN / "backprop", "--server", address, "dataset", "upload", "d", "--data",
                                       folder / "x.npy", "--labels", folder / "y.npy"],
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            stub, there = self.stub(killed), 0
            while there < rows // 10:
                try:
                    there = stub.GetDataset(service.GetDatasetRequest(name="datasets/d"), timeout=30).dataset.rows
                except grpc.RpcError as error:
                    self.assertEqual(error.code(), grpc.StatusCode.NOT_FOUND)
            killed.process.kill()
            killed.process.wait()
        self.assertLess(there, rows, "it was killed in the middle")
        with self.server(listen=address) as server:
            out, err = upload.communicate(timeout=60)
            self.assertEqual(upload.returncode, 0, err)
            self.assertIn(f"{rows} rows of {inputs} inputs", out)
            # The rows of the first server followed by those of the second are the rows that were
            # sent.
            spec = model.ModelSpec(input_size=inputs, layers=[model.Layer(units=2)])
            self.stub(server).CreateModel(service.CreateModelRequest(model_id="m", spec=spec), timeout=30)
            evaluated = [self.stub(server).Evaluate(request, timeout=60).metrics.loss for request in (
                service.EvaluateRequest(model="models/m", dataset="datasets/d", summary_only=True),
                service.EvaluateRequest(model="models/m", summary_only=True, data=tensor.Batch(
                    inputs=tensor.Tensor(shape=[1000, inputs], raw=numbers.tobytes(),
                                         data_type=tensor.DATA_TYPE_FLOAT32),
                    labels=tensor.Tensor(values=list(classes)))))]
            self.assertAlmostEqual(*evaluated, places=6)

    def test_a_full_disk_rejects_changes_until_it_has_space(self):
        self.data.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", self.data], check=True)
        try:
            with self.server() as server:
                stub = self.stub(server)
                create(stub, "m")
                step(stub, "m")
                before = parameters(stub, "m")
                filler = self.data / "filler"
                with self.assertRaises(OSError), open(filler, "wb", buffering=0) as file:
                    while True:
                        file.write(b"x" * 65536)
                refused = 0
                for i in range(3000):  # until the space that RocksDB had preallocated is used up
                    try:
                        step(stub, "m", f"full{i}")
                    except grpc.RpcError as error:
                        self.assertIn(error.code(), (grpc.StatusCode.RESOURCE_EXHAUSTED,
                                                     grpc.StatusCode.UNAVAILABLE), error)
                        self.assertIn("not stored", error.details())
                        refused = i
                        break
                    before = parameters(stub, "m")
                self.assertGreater(refused, 0)
                # Reading still works, and health distinguishes the two.
                inputs = tensor.Tensor(values=[0, 1])
                stub.Predict(service.PredictRequest(model="models/m", inputs=inputs), timeout=30)
                self.assertEqual(cli("health", server=server.address).stdout, "SERVING\n")
                filler.unlink()
                answer, deadline = None, time.monotonic() + 20
                while answer is None:
                    try:
                        answer = step(stub, "m", f"full{refused}")
                    except grpc.RpcError as error:
                        self.assertIn("not stored", error.details())
                        self.assertLess(time.monotonic(), deadline, "it recovers without a restart")
                self.assertEqual(answer.step, before.step + 1, "once, although it was tried several times")
                self.assertIn("changes are stored again", server.log())
                after = parameters(stub, "m")
            with self.server() as server:
                self.assertEqual(parameters(self.stub(server), "m"), after)
        finally:
            subprocess.run(["umount", self.data], check=True)


if __name__ == "__main__":
    unittest.main(argv=[*sys.argv[:1], "-v", *sys.argv[1:]])
