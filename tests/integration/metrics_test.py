"""/metrics and /healthz of a real server under load."""

import http.client
import os
import pathlib
import re
import socket
import subprocess
import tempfile
import time
import unittest

import grpc

from harness import ROOT, Server, cli
from stubs import model, service, service_grpc, tensor, training

PAGE = (ROOT / "docs/metrics.md").read_text()
SAMPLE = re.compile(r'([a-z_]+)(?:{(.*)})? (\S+)')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


def metrics_address(server):
    """The address is logged after the port file is written."""
    deadline = time.monotonic() + 30
    while not (line := re.search(r"metrics are served on http://(\S+)/metrics", server.log())):
        if time.monotonic() > deadline:
            raise AssertionError(server.log())
        time.sleep(0.01)
    return line[1]


def get(address, path):
    """Returns (status, content type, body) of an HTTP GET."""
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type"), response.read().decode()
    finally:
        connection.close()


class Scrape:
    """The parsed page."""

    def __init__(self, address):
        status, self.content_type, self.text = get(address, "/metrics")
        assert status == 200, status
        self.types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", self.text, re.M))
        self.samples = {}  # (name, sorted labels): value
        for line in self.text.splitlines():
            if line.startswith("#"):
                continue
            name, labels, value = SAMPLE.fullmatch(line).groups()
            key = (name, tuple(sorted(LABEL.findall(labels or ""))))
            assert key not in self.samples, f"twice: {line}"
            self.samples[key] = float(value)

    def get(self, name, **labels):
        return self.samples.get((name, tuple(sorted(labels.items()))), 0)

    def sum(self, name):
        return sum(value for (other, _), value in self.samples.items() if other == name)

    def labels(self):
        """{family: names of its labels}, without the bounds of buckets."""
        found = {}
        for name, labels in self.samples:
            family = name if name in self.types else re.sub(r"_(bucket|sum|count)$", "", name)
            found.setdefault(family, set()).update(label for label, _ in labels if label != "le")
        return found


def documented():
    """{name: (type, labels)} of the table in docs/metrics.md."""
    rows = re.findall(r"^\| `([a-z_]+)` \| (\w+) \|([^|]*)\|", PAGE, re.M)
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def batch(rows):
    return tensor.Batch(inputs=tensor.Tensor(shape=[rows, 2], values=[0.5] * (2 * rows)),
                          labels=tensor.Tensor(values=[i % 2 for i in range(rows)]))


class MetricsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.server = Server("--metrics-listen", "127.0.0.1:0", "--data-dir", f"{cls.folder.name}/data",
                            "--max-layers", "3")
        cls.server.__enter__()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.addClassCleanup(cls.server.__exit__, None, None, None)
        cls.address = metrics_address(cls.server)
        cls.channel = grpc.insecure_channel(cls.server.address)
        cls.addClassCleanup(cls.channel.close)
        cls.stub = service_grpc.TrainingServiceStub(cls.channel)
        cls.create("m")

    @classmethod
    def create(cls, name, units=8):
        cls.stub.CreateModel(service.CreateModelRequest(model_id=name, spec=model.ModelSpec(
            input_size=2, layers=[model.Layer(units=units), model.Layer(units=2)])))

    def scrape(self):
        return Scrape(self.address)

    def moved(self, work):
        """Returns a function that says by how much a sample grew while `work` ran."""
        before = self.scrape()
        work()
        after = self.scrape()
        return lambda name, **labels: round(after.get(name, **labels) - before.get(name, **labels), 9)

    def test_steps_move_what_they_should(self):
        def work():
            for _ in range(20):
                self.stub.Step(service.StepRequest(model="models/m", batch=batch(6)))
            for _ in range(3):
                with self.assertRaises(grpc.RpcError):
                    self.stub.Step(service.StepRequest(model="models/m", batch=batch(6), expected_step=9999))

        moved = self.moved(work)
        self.assertEqual(moved("backprop_requests_total", method="Step", project="default", code="OK"), 20)
        self.assertEqual(moved("backprop_requests_total", method="Step", project="default", code="ABORTED"), 3)
        self.assertEqual(moved("backprop_request_duration_seconds_count", method="Step"), 23)
        self.assertEqual(moved("backprop_request_duration_seconds_bucket", method="Step", le="+Inf"), 23)
        self.assertGreater(moved("backprop_request_duration_seconds_sum", method="Step"), 23 * 10e-6)
        self.assertEqual(moved("backprop_refusals_total", reason="STEP_MISMATCH"), 3)
        self.assertEqual(moved("backprop_steps_total", source="call"), 20)
        self.assertEqual(moved("backprop_rows_total", use="step"), 120)
        self.assertEqual(moved("backprop_steps_total", source="run"), 0)
        self.assertEqual(moved("backprop_store_commit_seconds_count"), 20)
        self.assertEqual(moved("backprop_store_group_changes_sum"), 20)
        self.assertEqual(moved("backprop_store_group_changes_count"), 20)
        self.assertGreaterEqual(moved("backprop_store_sync_seconds_count"), 20)
        self.assertGreater(moved("backprop_store_sync_seconds_sum"), 0)
        self.assertGreater(moved("backprop_store_written_bytes_total"), 20 * 50)

    def test_a_stream_counts_once_and_its_steps_one_by_one(self):
        requests = [service.StepStreamRequest(step=service.StepRequest(model="models/m", batch=batch(4)))] * 7
        requests.append(service.StepStreamRequest(
            step=service.StepRequest(model="models/m", batch=batch(4), expected_step=9999)))
        moved = self.moved(lambda: list(self.stub.StepStream(iter(requests))))
        self.assertEqual(moved("backprop_requests_total", method="StepStream", project="default", code="OK"), 1)
        self.assertEqual(moved("backprop_steps_total", source="call"), 7)
        self.assertEqual(moved("backprop_rows_total", use="step"), 28)
        self.assertEqual(moved("backprop_refusals_total", reason="STEP_MISMATCH"), 1)

    def test_predictions(self):
        rows = tensor.Tensor(shape=[11, 2], values=[1] * 22)
        moved = self.moved(lambda: self.stub.Predict(service.PredictRequest(model="models/m", inputs=rows)))
        self.assertEqual(moved("backprop_rows_total", use="predict"), 11)
        self.assertEqual(moved("backprop_requests_total", method="Predict", project="default", code="OK"), 1)
        self.assertEqual(moved("backprop_store_commit_seconds_count"), 0)

    def test_a_run_is_active_and_then_ended(self):
        self.create("runs")
        request = service.TrainRequest(model="models/runs", data=batch(10), config=training.TrainingConfig(
            iterations=100_000_000, batch_size=5))
        before = self.scrape()
        events = self.stub.Train(request)
        next(events)
        next(events)
        during = self.scrape()
        self.assertEqual(during.get("backprop_runs_active"), 1)
        self.assertEqual(during.get("backprop_requests_in_flight", method="Train"), 1)
        self.stub.StopTraining(service.StopTrainingRequest(model="models/runs"))
        summary = list(events)[-1].event.summary
        after = self.scrape()
        grew = lambda name, **labels: after.get(name, **labels) - before.get(name, **labels)  # noqa: E731
        self.assertEqual(after.get("backprop_runs_active"), 0)
        self.assertEqual(after.get("backprop_requests_in_flight", method="Train"), 0)
        self.assertEqual(grew("backprop_runs_ended_total", reason="stopped"), 1)
        self.assertEqual(grew("backprop_steps_total", source="run"), summary.iterations)
        self.assertEqual(grew("backprop_rows_total", use="run"), 5 * summary.iterations)
        self.assertGreater(grew("backprop_pool_busy_seconds_total", **{"class": "background"}), 0)
        self.assertGreater(grew("backprop_pool_wait_seconds_count", **{"class": "background"}), 0)

    def test_models_and_datasets(self):
        def work():
            self.create("a")
            self.create("b")
            self.stub.DeleteModel(service.DeleteModelRequest(name="models/b"))
            csv = pathlib.Path(self.folder.name) / "rows.csv"
            csv.write_text("".join(f"{i},{i % 3},{i % 2}\n" for i in range(50)))
            done = cli("dataset", "upload", "d", "--data", csv, server=self.server.address)
            self.assertEqual(done.returncode, 0, done.stderr)

        moved = self.moved(work)
        self.assertEqual(moved("backprop_models"), 1)
        self.assertEqual(moved("backprop_models_resident"), 1)
        self.assertEqual(moved("backprop_datasets"), 1)
        self.assertEqual(moved("backprop_uploads_active"), 0)
        self.assertEqual(moved("backprop_uploaded_rows_total"), 50)
        self.assertGreater(moved("backprop_uploaded_bytes_total"), 50 * 3)

    def wait_for_connections(self, count):
        deadline = time.monotonic() + 30
        while (page := self.scrape()).get("backprop_connections_open") != count:
            self.assertLess(time.monotonic(), deadline, page.get("backprop_connections_open"))
            time.sleep(0.05)
        return page

    def test_connections(self):
        before = self.wait_for_connections(1)  # that of the class
        with socket.create_connection(self.server.address.rsplit(":", 1)):
            during = self.wait_for_connections(2)
        self.assertEqual(during.get("backprop_connections_accepted_total"),
                         before.get("backprop_connections_accepted_total") + 1)
        self.assertEqual(during.get("backprop_connections_refused_total"), 0)
        self.wait_for_connections(1)

    def test_the_documented_metrics_are_those_of_the_page(self):
        self.stub.Step(service.StepRequest(model="models/m", batch=batch(1)))
        with self.assertRaises(grpc.RpcError):
            self.stub.GetModel(service.GetModelRequest(name="models/nowhere"))
        page = self.scrape()
        found = {name: (page.types[name], labels) for name, labels in page.labels().items()}
        self.assertEqual(found, documented())
        self.assertEqual(page.content_type, "text/plain; version=0.0.4; charset=utf-8")

    def test_promtool_accepts_the_page(self):
        with self.assertRaises(grpc.RpcError):
            self.stub.GetModel(service.GetModelRequest(name="models/nowhere"))
        checked = subprocess.run(["promtool", "check", "metrics"], input=self.scrape().text, text=True,
                                 capture_output=True)
        self.assertEqual((checked.returncode, checked.stdout, checked.stderr), (0, "", ""))

    def test_names_of_callers_are_no_labels(self):
        name = "secret-name"
        with self.assertRaises(grpc.RpcError):
            self.stub.GetModel(service.GetModelRequest(name=f"models/{name}"))
        self.create(name)
        self.assertNotIn(name, self.scrape().text)

    def test_process_and_build(self):
        page = self.scrape()
        version = subprocess.run([os.environ["BACKPROP_BIN"] + "/backpropd", "--version"], capture_output=True,
                                 text=True, check=True).stdout
        found = re.fullmatch(r"backpropd (\S+) \(commit (.*), (\S+)\)\n", version)
        self.assertEqual(page.get("backprop_build_info", version=found[1], commit=found[2],
                                  instruction_set=found[3]), 1)
        statm = pathlib.Path(f"/proc/{self.server.process.pid}/statm").read_text().split()
        resident = int(statm[1]) * os.sysconf("SC_PAGESIZE")
        self.assertLess(abs(page.get("process_resident_memory_bytes") - resident), 64 << 20)
        self.assertGreater(page.get("process_cpu_seconds_total"), 0)
        self.assertGreater(page.get("process_open_fds"), 10)

    def test_health_and_unknown_pages(self):
        self.assertEqual(get(self.address, "/healthz")[::2], (200, "SERVING\n"))
        self.assertEqual(get(self.address, "/")[0], 404)
        self.assertEqual(get(self.address, "/metrics/")[0], 404)


class LifeTest(unittest.TestCase):
    def test_a_server_without_its_data_directory_is_not_healthy(self):
        with tempfile.TemporaryDirectory() as folder:
            data = pathlib.Path(folder, "data")
            with Server("--metrics-listen", "127.0.0.1:0", "--data-dir", data) as server:
                address = metrics_address(server)
                self.assertEqual(get(address, "/healthz")[::2], (200, "SERVING\n"))
                self.assertEqual(Scrape(address).get("backprop_serving"), 1)
                self.assertEqual(Scrape(address).get("backprop_store_healthy"), 1)
                data.rename(data.with_name("elsewhere"))
                deadline = time.monotonic() + 30
                while get(address, "/healthz")[::2] != (503, "NOT_SERVING\n"):
                    self.assertLess(time.monotonic(), deadline)
                    time.sleep(0.01)
                self.assertEqual(Scrape(address).get("backprop_serving"), 0)
                self.assertEqual(Scrape(address).get("backprop_store_healthy"), 0)

    def test_without_a_data_directory_there_are_no_metrics_of_the_store(self):
        with Server("--metrics-listen", "127.0.0.1:0") as server:
            page = Scrape(metrics_address(server))
            self.assertEqual({name for name in page.types if name.startswith("backprop_store")}, set())
            self.assertEqual(set(page.types) - set(documented()), set())

    def test_on_a_unix_socket(self):
        with tempfile.TemporaryDirectory() as folder, Server("--metrics-listen", f"unix:{folder}/m") as server:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(f"{folder}/m")
                client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                self.assertTrue(client.makefile("rb").read().endswith(b"SERVING\n"))
            self.assertEqual(server.terminate_and_wait(), 0)
            self.assertFalse(os.path.exists(f"{folder}/m"))

    def test_an_address_that_others_can_reach_is_refused(self):
        for address in ("0.0.0.0:0", "[::]:0"):
            with self.assertRaisesRegex(RuntimeError, "--metrics-listen .*no authentication"):
                Server("--metrics-listen", address).__enter__()

    def test_an_address_that_is_in_use_refuses_the_start(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            with self.assertRaisesRegex(RuntimeError, "cannot listen"):
                Server("--metrics-listen", "127.0.0.1:%d" % taken.getsockname()[1]).__enter__()

    def test_off_by_default(self):
        with Server() as server:
            self.assertNotIn("metrics", server.log())


if __name__ == "__main__":
    unittest.main()
