"""The shipped edges, docker/edge, with the real Envoy and the real nginx: every kind of call works
through them, and what they do when there is no server."""

import sys
import tempfile
import threading
import time
import unittest

import grpc

from edge import FOLDER, Edge
from harness import Server
from stubs import model, service, service_grpc, tensor, training


def create(stub, model_id="m"):
    spec = model.ModelSpec(input_size=2, layers=[model.Layer(units=8), model.Layer(units=2)])
    return stub.CreateModel(service.CreateModelRequest(model_id=model_id, spec=spec)).model.name


def rows(count=4):
    return tensor.Batch(inputs=tensor.Tensor(shape=[count, 2], values=[0.5] * 2 * count),
                        labels=tensor.Tensor(values=[i % 2 for i in range(count)]))


class Calls:
    """The tests of one edge."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = f"{folder.name}/backpropd.sock"
        self.server = self.enterContext(Server(listen=f"unix:{self.path}"))
        self.edge = self.enterContext(Edge(self.kind, self.path))
        self.channel = self.enterContext(self.connect())
        self.stub = service_grpc.TrainingServiceStub(self.channel)

    def connect(self):
        credentials = grpc.ssl_channel_credentials(self.edge.certificate())
        return grpc.secure_channel(self.edge.address, credentials, options=[
            ("grpc.ssl_target_name_override", "localhost"), ("grpc.max_receive_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1)])

    def test_unary_calls_and_their_errors(self):
        create(self.stub)
        self.assertEqual(self.stub.Step(service.StepRequest(model="models/m", batch=rows())).step, 1)
        with self.assertRaises(grpc.RpcError) as failed:
            self.stub.GetModel(service.GetModelRequest(name="models/none"))
        self.assertEqual(failed.exception.code(), grpc.StatusCode.NOT_FOUND)
        trailers = dict(failed.exception.trailing_metadata())
        self.assertIn("grpc-status-details-bin", trailers, "the details of errors pass")
        with self.assertRaises(grpc.RpcError) as failed:
            self.channel.unary_unary("/no.such.Service/Call")(b"")
        self.assertEqual(failed.exception.code(), grpc.StatusCode.UNIMPLEMENTED)

    def test_large_messages(self):
        spec = model.ModelSpec(input_size=2, layers=[model.Layer(units=1000), model.Layer(units=3000),
                                                     model.Layer(units=2)])
        self.stub.CreateModel(service.CreateModelRequest(model_id="large", spec=spec))
        read = self.stub.GetParameters(service.GetParametersRequest(
            model="models/large", encoding=tensor.TENSOR_ENCODING_RAW))
        self.assertGreater(read.ByteSize(), 10 << 20)
        self.stub.SetParameters(service.SetParametersRequest(
            model="models/large", parameters=read.parameters))

    def test_a_run_streams_while_it_goes_on(self):
        create(self.stub)
        begin = time.monotonic()
        run = self.stub.Train(service.TrainRequest(model="models/m", data=rows(), config=training.TrainingConfig(
            iterations=10**12, report_every=10**12)))
        self.assertTrue(next(run).event.HasField("started"))
        self.assertTrue(next(run).event.HasField("progress"))
        self.assertLess(time.monotonic() - begin, 5, "events are not held back")
        run.cancel()
        deadline = time.monotonic() + 10
        while "models/m/runs/1 cancelled after" not in self.server.log():
            self.assertLess(time.monotonic(), deadline, "a cancellation passes")
            time.sleep(0.05)

    def test_a_deadline_passes(self):
        create(self.stub)
        begin = time.monotonic()
        with self.assertRaises(grpc.RpcError) as failed:
            list(self.stub.Train(service.TrainRequest(model="models/m", data=rows(), config=training.TrainingConfig(
                iterations=10**12, report_every=10**12)), timeout=1))
        self.assertEqual(failed.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        self.assertLess(time.monotonic() - begin, 5)

    def test_a_step_stream_answers_each_step(self):
        create(self.stub)
        answered = threading.Semaphore(1)

        def steps():
            for _ in range(200):
                self.assertTrue(answered.acquire(timeout=20), "a response is held back")
                yield service.StepStreamRequest(step=service.StepRequest(model="models/m", batch=rows()))
        numbers = []
        for response in self.stub.StepStream(steps()):
            numbers.append(response.step.step)
            answered.release()
        self.assertEqual(numbers, list(range(1, 201)))

    def test_an_upload_and_a_download(self):
        create(self.stub)
        file = b"".join(part.data for part in self.stub.ExportModel(
            service.ExportModelRequest(model="models/m")))
        pieces = (service.ImportModelRequest(model_id="n" if at == 0 else "", data=file[at:at + 16])
                  for at in range(0, len(file), 16))
        self.assertEqual(self.stub.ImportModel(pieces).model.name, "models/n")

    def test_more_calls_than_one_connection_to_the_server_may_have(self):
        create(self.stub)
        channels = [self.enterContext(self.connect()) for _ in range(3)]
        runs = []
        for i in range(150):
            create(self.stub, f"m{i}")
            runs.append(service_grpc.TrainingServiceStub(channels[i % 3]).Train(service.TrainRequest(
                model=f"models/m{i}", data=rows(),
                config=training.TrainingConfig(iterations=10**12, report_every=10**12))))
        for run in runs:
            self.assertTrue(next(run).event.HasField("started"))
        self.stub.GetModel(service.GetModelRequest(name="models/m"), timeout=10)
        for run in runs:
            run.cancel()

    def test_without_the_server_calls_are_unavailable_and_then_work_again(self):
        create(self.stub)
        self.server.terminate_and_wait()
        with self.assertRaises(grpc.RpcError) as failed:
            self.stub.GetModel(service.GetModelRequest(name="models/m"), timeout=10)
        self.assertEqual(failed.exception.code(), grpc.StatusCode.UNAVAILABLE)
        with Server(listen=f"unix:{self.path}"):
            deadline = time.monotonic() + 30
            while True:
                try:
                    create(self.stub)
                    break
                except grpc.RpcError as error:
                    self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE)
                    self.assertLess(time.monotonic(), deadline, error)
                    time.sleep(0.2)

    def test_clear_text_is_refused(self):
        with grpc.insecure_channel(self.edge.address) as channel:
            with self.assertRaises(grpc.RpcError) as failed:
                service_grpc.TrainingServiceStub(channel).ListModels(service.ListModelsRequest(), timeout=5)
            self.assertEqual(failed.exception.code(), grpc.StatusCode.UNAVAILABLE)


class EnvoyTest(Calls, unittest.TestCase):
    kind = "envoy"

    def test_the_configuration_has_no_warning(self):
        self.assertEqual([line for line in self.edge.log().splitlines() if "[warning]" in line], [])


class NginxTest(Calls, unittest.TestCase):
    kind = "nginx"


class ComposeTest(unittest.TestCase):
    def test_the_paths_of_the_files_agree(self):
        compose = (FOLDER / "compose.yaml").read_text()
        envoy = (FOLDER / "envoy.yaml").read_text()
        for path in ("/run/backprop/backpropd.sock", "/etc/edge/tls.crt", "/etc/edge/tls.key"):
            self.assertIn(path, compose)
            self.assertIn(path, envoy)
        self.assertIn("port_value: 8443", envoy)
        self.assertIn('"8443:8443"', compose)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + ["-v"])
