"""A real server that gets more work than it can do: what it refuses, what it answers, and that both end.

scripts/overload measures the same with figures.
"""

import pathlib
import subprocess
import tempfile
import threading
import time
import unittest

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from harness import BIN, Server
from metrics_test import Scrape, metrics_address
from stubs import model, service, service_grpc, tensor

ROWS = 128
CHANNELS = 8


def heavy_step(name):
    """A step that takes milliseconds although its request is small."""
    return service.StepRequest(model=f"models/{name}", batch=tensor.Batch(
        inputs=tensor.Tensor(shape=[ROWS, 8], values=[0.5] * (8 * ROWS)),
        labels=tensor.Tensor(values=[i % 2 for i in range(ROWS)])))


def cheap_step(name):
    return service.StepRequest(model=f"models/{name}", batch=tensor.Batch(
        inputs=tensor.Tensor(shape=[1, 8], values=[0.5] * 8), labels=tensor.Tensor(values=[1])))


def details(error):
    """(ErrorInfo, RetryInfo) of an error."""
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in rpc_status.from_call(error).details:
        detail.Unpack(info)
        detail.Unpack(retry)
    return info, retry


class OverloadTest(unittest.TestCase):
    def setUp(self):
        self.server = self.enterContext(Server(
            "--threads", "1", "--queue-delay-target", "0.005", "--metrics-listen", "127.0.0.1:0",
            "--max-active-calls", "500"))
        self.metrics = metrics_address(self.server)
        self.channels = [grpc.insecure_channel(self.server.address, [("grpc.use_local_subchannel_pool", 1)])
                         for _ in range(CHANNELS)]
        for channel in self.channels:
            self.addCleanup(channel.close)
        self.stubs = [service_grpc.TrainingServiceStub(channel) for channel in self.channels]
        for name, units in (("heavy", 512), ("cheap", 8)):
            self.stubs[0].CreateModel(service.CreateModelRequest(model_id=name, spec=model.ModelSpec(
                input_size=8, layers=[model.Layer(units=units), model.Layer(units=units), model.Layer(units=2)])))

    def flood(self, seconds):
        """Sends heavy steps at a steady rate, far more than one thread can do. Returns the calls."""
        step, calls = heavy_step("heavy"), []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            calls.append(self.stubs[len(calls) % CHANNELS].Step.future(step, timeout=60))
            time.sleep(0.0005)
        return calls

    def outcomes(self, calls):
        """(answered, errors) of calls, when all have ended."""
        answered, errors = [], []
        for call in calls:
            error = call.exception()
            (errors if error else answered).append(error or call.result())
        return answered, errors

    def test_sheds_at_overload_and_stops_afterwards(self):
        calls = self.flood(seconds=2)
        answered, errors = self.outcomes(calls)
        self.assertGreater(len(answered), 20)
        self.assertGreater(len(errors), 20, f"{len(calls)} calls were sent, none was refused")
        for error in errors:
            self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE, error.details())
            info, retry = details(error)
            self.assertEqual(info.reason, "OVERLOADED")
            self.assertIn(info.metadata["queue"], ("model", "receiving", "calls"))
            self.assertGreaterEqual(retry.retry_delay.ToMilliseconds(), 50)
            pushback = dict(error.trailing_metadata())["grpc-retry-pushback-ms"]
            self.assertGreaterEqual(int(pushback), 50)
        # What was refused changed nothing, and is counted.
        stored = self.stubs[0].GetModel(service.GetModelRequest(name="models/heavy")).model
        self.assertEqual(stored.step, len(answered))
        page = Scrape(self.metrics)
        self.assertEqual(page.get("backprop_refusals_total", reason="OVERLOADED"), len(errors))
        self.assertEqual(page.sum("backprop_overload_refusals_total"), len(errors))
        self.assertEqual(page.get("backprop_requests_total", method="Step", project="default", code="UNAVAILABLE"),
                         len(errors))
        self.assertEqual(page.get("backprop_active_calls"), 0)
        # Afterwards callers that wait for each response see no error.
        for _ in range(30):
            self.stubs[0].Step(heavy_step("heavy"), timeout=60)

    def test_cheap_steps_and_open_streams_are_not_shed(self):
        go_on = threading.Event()

        def steps():
            for number in range(40):
                yield service.StepStreamRequest(step=heavy_step("heavy"))
                if number == 3:
                    go_on.wait(30)

        answers = self.stubs[0].StepStream(steps(), timeout=120)
        first = [next(answers) for _ in range(3)]
        calls = self.flood(seconds=1)
        go_on.set()
        cheap, times = cheap_step("cheap"), []
        for _ in range(50):
            begin = time.monotonic()
            self.stubs[1].Step(cheap, timeout=60)
            times.append(time.monotonic() - begin)
        rest = list(answers)
        self.assertEqual([answer.sequence for answer in first + rest], list(range(1, 41)))
        self.assertTrue(all(answer.HasField("step") for answer in first + rest))
        self.assertLess(sorted(times)[len(times) // 2], 1)
        _, errors = self.outcomes(calls)
        self.assertGreater(len(errors), 0)


class TwoProjectsTest(unittest.TestCase):
    def test_a_project_that_floods_leaves_room_for_the_other(self):
        with tempfile.TemporaryDirectory() as folder:
            principals, tokens = [], {}
            for project in ("red", "blue"):
                path = pathlib.Path(folder) / project
                made = subprocess.run([BIN / "backprop", "token", "create", "--name", project, "--project", project,
                                       "--role", "writer", "--output", path], capture_output=True, text=True, check=True)
                principals.append(made.stdout.strip())
                tokens[project] = [("authorization", f"Bearer {path.read_text().strip()}")]
            auth = pathlib.Path(folder) / "auth.json"
            auth.write_text('{"principals":[%s]}' % ",".join(principals))
            auth.chmod(0o600)
            with Server("--threads", "1", "--auth-file", str(auth), "--max-active-calls", "40",
                        "--queue-delay-target", "0") as server, \
                    grpc.insecure_channel(server.address) as channel:
                stub = service_grpc.TrainingServiceStub(channel)
                for project in tokens:
                    stub.CreateModel(service.CreateModelRequest(model_id="m", spec=model.ModelSpec(
                        input_size=8, layers=[model.Layer(units=512), model.Layer(units=512), model.Layer(units=2)])),
                        metadata=tokens[project])
                flood = [stub.Step.future(heavy_step("m"), metadata=tokens["red"], timeout=60) for _ in range(90)]
                for _ in range(10):
                    stub.Step(heavy_step("m"), metadata=tokens["blue"], timeout=60)
                refused = [call.exception() for call in flood if call.exception()]
                self.assertGreater(len(refused), 0)
                for error in refused:
                    self.assertEqual(error.code(), grpc.StatusCode.UNAVAILABLE, error.details())
                    self.assertEqual(details(error)[0].metadata["queue"], "project_calls")


if __name__ == "__main__":
    unittest.main()
