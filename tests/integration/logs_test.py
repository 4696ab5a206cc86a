"""The log of a server with hostile callers."""

import json
import os
import pathlib
import re
import signal
import sys
import tempfile
import time
import unittest

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from harness import Server, cli
from metrics_test import Scrape, metrics_address
from stubs import model, service, service_grpc, tensor, training

GET = "/backprop.v1.TrainingService/GetModel"


def get(channel, name, metadata=()):
    """Calls GetModel with arbitrary bytes as the name. Returns the code and the message of the error."""
    return failed_get(channel, name, metadata)[:2]


def failed_get(channel, name, metadata):
    """The same, and the google.rpc.RequestInfo of the error."""
    size, length = len(name), b""
    while size >= 128:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    request = b"\x0a" + length + bytes([size]) + name
    call = channel.unary_unary(GET, request_serializer=None, response_deserializer=None)
    try:
        call(request, timeout=60, metadata=metadata)
    except grpc.RpcError as error:
        info = error_details_pb2.RequestInfo()
        for detail in rpc_status.from_call(error).details:
            detail.Unpack(info)
        return error.code(), error.details(), info
    raise AssertionError("there is no such model")


TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
HOSTILE = [b"a\nforged line", b"\x1b[31mred\x1b[2J", b"\xc3(", "\u202egnp.\u0085".encode(), b"x" * 20_000_000,
           ("\u00e9" * 200).encode(), b'quo"te\\']


class LogsTest(unittest.TestCase):
    def talk(self, *flags):
        with Server(*flags) as server:
            with grpc.insecure_channel(server.address) as channel:
                for name in HOSTILE:
                    code, message = get(channel, name)
                    self.assertEqual(code, grpc.StatusCode.INVALID_ARGUMENT)
                    if name == b"\xc3(":
                        self.assertIn("backprop.v1.GetModelRequest.name is not valid UTF-8", message)
            self.assertEqual(server.terminate_and_wait(), 0)
            return (server.path / "log").read_bytes()

    def check_lines(self, log, begins):
        text = log.decode()  # must be UTF-8
        lines = text.splitlines()
        calls = [line for line in lines if "GetModel" in line]
        self.assertGreaterEqual(len(calls), len(HOSTILE))
        for line in lines:
            self.assertRegex(line, begins)
            self.assertLess(len(line.encode()), 1000)
            self.assertNotRegex(line, "[\x00-\x1f\x7f-\x9f\u202e]")
        self.assertNotIn("libprotobuf", text)
        return calls

    def test_as_text(self):
        calls = self.check_lines(self.talk("--log-level", "debug"),
                                 r"^\d{4}-\d\d-\d\dT\S+ (debug|info|warning) \S")
        self.assertTrue(any(r"GetModel a\nforged\x20line INVALID_ARGUMENT" in line for line in calls), calls)
        self.assertTrue(any(r"\x1b[31mred\x1b[2J" in line for line in calls), calls)
        self.assertTrue(any("GetModel " + "x" * 128 + "\u2026 " in line for line in calls))

    def test_as_json(self):
        calls = self.check_lines(self.talk("--log-level", "debug", "--log-format", "json"), r"^{.*}$")
        messages = [json.loads(line)["message"] for line in calls]
        self.assertTrue(any(r"GetModel a\nforged\x20line" in message for message in messages), messages)

    def test_off_is_silent(self):
        self.assertEqual(self.talk("--log-level", "off"), b"")

    def test_level_info_logs_no_input_of_callers(self):
        log = self.talk("--log-level", "info").decode()
        self.assertNotIn("GetModel", log)
        self.assertNotIn("UTF-8", log)

    def test_repeated_lines_are_limited(self):
        with Server("--log-level", "debug") as server:
            with grpc.insecure_channel(server.address) as channel:
                for _ in range(2000):
                    get(channel, b"nonsense")
            self.assertEqual(server.terminate_and_wait(), 0)
            log = server.log()
        logged = len(re.findall(r"debug GetModel nonsense INVALID_ARGUMENT", log))
        left_out = [int(n) for n in re.findall(r"debug omitted (\d+) similar lines, such as: GetModel nonsense", log)]
        self.assertEqual(logged + sum(left_out), 2000)
        self.assertTrue(left_out)
        self.assertLess(logged, 2000)

    def test_a_call_is_found_by_its_request_id_and_trace(self):
        with Server("--log-level", "debug") as server, grpc.insecure_channel(server.address) as channel:
            given = [("x-request-id", "req-1/a:b"), ("traceparent", TRACEPARENT)]
            info = failed_get(channel, b"models/nowhere", given)[2]
            self.assertEqual((info.request_id, info.serving_data), ("req-1/a:b", TRACEPARENT))
            made = failed_get(channel, b"models/nowhere", [])[2]
            self.assertRegex(made.request_id, "^[0-9a-f]{32}$")
            self.assertEqual(made.serving_data, "")
            self.assertEqual(server.terminate_and_wait(), 0)
            log = server.log()
        self.assertRegex(log, r"debug GetModel models/nowhere NOT_FOUND \d+us request_id=req-1/a:b "
                              rf"traceparent={TRACEPARENT}: ")
        self.assertRegex(log, rf"debug GetModel models/nowhere NOT_FOUND \d+us request_id={made.request_id}: ")

    def test_ids_that_could_forge_a_line_are_replaced(self):
        with Server("--log-level", "debug") as server, grpc.insecure_channel(server.address) as channel:
            for value in ("a b", "x" * 129, "", "a request_id=b"):
                given = [("x-request-id", value), ("traceparent", value or "00-zz")]
                info = failed_get(channel, b"models/nowhere OK 1us request_id=forged", given)[2]
                self.assertRegex(info.request_id, "^[0-9a-f]{32}$")
                self.assertEqual(info.serving_data, "")
            self.assertEqual(server.terminate_and_wait(), 0)
            calls = [line for line in server.log().splitlines() if "GetModel" in line]
        self.assertEqual(len(calls), 4)
        for line in calls:
            self.assertRegex(line, r"^\S+ debug GetModel models/nowhere\\x20OK\\x201us\\x20request_id=forged "
                                   r"INVALID_ARGUMENT \d+us request_id=[0-9a-f]{32}: ")

    def test_slow_requests_say_where_the_time_went(self):
        with Server("--slow-request", "0.000001") as server, grpc.insecure_channel(server.address) as channel:
            stub = service_grpc.TrainingServiceStub(channel)
            change_something(stub)
            stub.Predict(service.PredictRequest(model="models/m", inputs=tensor.Tensor(shape=[1, 2], values=[1, 2])),
                         metadata=[("x-request-id", "slow-1")])
            self.assertEqual(server.terminate_and_wait(), 0)
            log = server.log()
        stages = r"decode \d+us, queue \d+us, compute \d+us, store \d+us, encode \d+us, other -?\d+us"
        self.assertRegex(log, rf"warning slow request: Step models/m OK \d+us request_id=step-1: {stages}")
        self.assertRegex(log, r"warning slow request: CreateModel models/m OK .* encode 0us, other [1-9]")
        found = re.search(rf"slow request: Predict models/m OK (\d+)us request_id=slow-1: {stages}", log)
        parts = [int(part) for part in re.findall(r"(-?\d+)us", found[0])]
        self.assertLess(abs(parts[0] - sum(parts[1:])), 10)
        self.assertGreater(sum(parts[1:6]), 0)

    def test_no_request_is_slow_by_default(self):
        with Server() as server, grpc.insecure_channel(server.address) as channel:
            change_something(service_grpc.TrainingServiceStub(channel))
            self.assertEqual(server.terminate_and_wait(), 0)
            self.assertNotIn("slow", server.log())

    def test_runs_are_logged_with_their_names(self):
        with Server() as server:
            cli("create", "m", "--inputs", 2, "--layers", "2", server=server.address)
            cli("train", "m", "--data", "xor", "--iterations", 5, server=server.address)
            self.assertEqual(server.terminate_and_wait(), 0)
            self.assertIn("info models/m/runs/1 completed after 5 iterations", server.log())


def change_something(stub):
    """Creates models/m and makes a step."""
    spec = model.ModelSpec(input_size=2, layers=[model.Layer(units=2)])
    stub.CreateModel(service.CreateModelRequest(model_id="m", spec=spec))
    batch = tensor.Batch(inputs=tensor.Tensor(shape=[1, 2], values=[1, 2]), labels=tensor.Tensor(values=[1]))
    stub.Step(service.StepRequest(model="models/m", batch=batch), metadata=[("x-request-id", "step-1")])


class AuditTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name, "audit")

    def lines(self, path=None):
        return [json.loads(line) for line in (path or self.path).read_text().splitlines()]

    def test_each_change_has_a_line_in_order(self):
        with Server("--audit-log", self.path) as server, grpc.insecure_channel(server.address) as channel:
            stub = service_grpc.TrainingServiceStub(channel)
            change_something(stub)
            stub.GetModel(service.GetModelRequest(name="models/m"))
            stub.CreateModel(service.CreateModelRequest(spec=model.ModelSpec(
                input_size=1, layers=[model.Layer(units=2)])))
            with self.assertRaises(grpc.RpcError):
                stub.DeleteModel(service.DeleteModelRequest(name='models/x","code":"OK'))
            list(stub.Train(service.TrainRequest(
                model="models/m", config=training.TrainingConfig(iterations=1), data=tensor.Batch(
                    inputs=tensor.Tensor(shape=[1, 2], values=[1, 2]), labels=tensor.Tensor(values=[1])))))
            list(stub.StepStream(iter([service.StepStreamRequest(step=service.StepRequest(model="models/m"))])))
            rows = pathlib.Path(server.path, "rows.csv")
            rows.write_text("1,2,0\n3,4,1\n")
            cli("dataset", "upload", "d", "--data", rows, server=server.address)
            exported = pathlib.Path(server.path, "m.model")
            cli("export", "m", exported, server=server.address)
            cli("import", exported, "copy", server=server.address)
            lines = self.lines()
        self.assertEqual([(line["method"], line["code"]) for line in lines[:6]],
                         [("CreateModel", "OK"), ("Step", "OK"), ("CreateModel", "OK"),
                          ("DeleteModel", "INVALID_ARGUMENT"), ("Train", "OK"), ("StepStream", "OK")])
        self.assertEqual(lines[0]["resource"], "models/m")
        self.assertEqual(lines[1], {**lines[1], "request_id": "step-1", "principal": "", "project": "default",
                                    "method": "Step", "resource": "models/m", "code": "OK"})
        self.assertRegex(lines[2]["resource"], "^models/.{8,}$")
        self.assertEqual(lines[3]["resource"], 'models/x","code":"OK')
        self.assertEqual(lines[4]["resource"], "models/m")
        self.assertEqual(lines[5]["resource"], "models/m")
        later = [(line["method"], line["resource"], line["code"]) for line in lines[6:]]
        self.assertIn(("UploadDataset", "datasets/d", "OK"), later)
        self.assertIn(("ImportModel", "models/copy", "OK"), later)
        self.assertNotIn("GetModel", [line["method"] for line in lines])
        self.assertNotIn("ExportModel", [line["method"] for line in lines])
        self.assertEqual([line["time"] for line in lines], sorted(line["time"] for line in lines))
        for line in lines:
            self.assertRegex(line["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
            self.assertRegex(line["peer"], r"127\.0\.0\.1")

    def test_sighup_leaves_a_file_that_was_renamed(self):
        with Server("--audit-log", self.path) as server, grpc.insecure_channel(server.address) as channel:
            stub = service_grpc.TrainingServiceStub(channel)
            change_something(stub)
            old = self.path.with_name("audit.1")
            self.path.rename(old)
            server.process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + 30
            while not self.path.exists():
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.01)
            stub.DeleteModel(service.DeleteModelRequest(name="models/m"))
            self.assertEqual([line["method"] for line in self.lines(old)], ["CreateModel", "Step"])
            self.assertEqual([line["method"] for line in self.lines()], ["DeleteModel"])

    def test_on_standard_error(self):
        with Server("--audit-log", "stderr", "--log-format", "json") as server, \
                grpc.insecure_channel(server.address) as channel:
            change_something(service_grpc.TrainingServiceStub(channel))
            self.assertEqual(server.terminate_and_wait(), 0)
            lines = [json.loads(line) for line in server.log().splitlines()]
        self.assertEqual([line["method"] for line in lines if "method" in line], ["CreateModel", "Step"])

    def test_a_file_that_cannot_be_opened_refuses_the_start(self):
        with self.assertRaisesRegex(RuntimeError, "--audit-log /nowhere/audit: No such file or directory"):
            Server("--audit-log", "/nowhere/audit").__enter__()

    @unittest.skipUnless(os.path.exists("/dev/full"), "needs /dev/full")
    def test_a_full_disk_stops_no_call(self):
        with Server("--audit-log", "/dev/full", "--metrics-listen", "127.0.0.1:0") as server, \
                grpc.insecure_channel(server.address) as channel:
            change_something(service_grpc.TrainingServiceStub(channel))
            page = Scrape(metrics_address(server))
            self.assertEqual(page.get("backprop_audit_lines_total", result="lost"), 2)
            self.assertEqual(page.get("backprop_audit_lines_total", result="written"), 0)
            self.assertEqual(server.terminate_and_wait(), 0)
            self.assertEqual(server.log().count("No space left on device; lines are lost"), 1)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + ["-v"])
