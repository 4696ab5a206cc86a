"""Every query of the Grafana board, asked of a real Prometheus that scrapes a real server under load."""

import contextlib
import json
import math
import pathlib
import re
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.parse
import urllib.request

import grpc

from harness import ROOT, Server, cli
from metrics_test import batch, get, metrics_address
from stubs import model, service, service_grpc, tensor, training

BOARD = json.loads((ROOT / "docker/grafana/backpropd.json").read_text())
LOAD_SECONDS = 15
MODELS = 150


def targets():
    """(title of the panel, query) of every query of the board."""
    for panel in BOARD["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def filled(query):
    """The query as Grafana asks it, with all variables at "All"."""
    query = query.replace("$__rate_interval", "10s")
    return re.sub(r"\$(instance|project|method)", ".*", query)


class Prometheus:
    def __init__(self, target):
        self.target = target

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        path = pathlib.Path(self.folder.name)
        shipped = (ROOT / "docker/prometheus/prometheus.yml").read_text()
        assert "127.0.0.1:9100" in shipped and "scrape_interval: 5s" in shipped
        (path / "prometheus.yml").write_text(
            shipped.replace("127.0.0.1:9100", self.target).replace("scrape_interval: 5s", "scrape_interval: 1s"))
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self.log = open(path / "log", "w")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={path}/prometheus.yml", f"--storage.tsdb.path={path}/data",
             f"--web.listen-address=127.0.0.1:{port}"], stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(self.address + "/-/ready", timeout=5).close()
                return self
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((path / "log").read_text())
            time.sleep(0.05)

    def __exit__(self, *exc):
        self.process.terminate()
        self.process.wait(timeout=60)
        self.log.close()
        self.folder.cleanup()

    def ask(self, query):
        """The values of the result of a query, now."""
        parameters = urllib.parse.urlencode({"query": query})
        with urllib.request.urlopen(f"{self.address}/api/v1/query?{parameters}", timeout=30) as response:
            result = json.load(response)["data"]["result"]
        return [float(series["value"][1]) for series in result]


class Load:
    """Callers of all kinds, until the end of the block."""

    def __init__(self, server):
        self.server = server
        self.stop = threading.Event()
        self.failed = []

    def __enter__(self):
        self.channel = grpc.insecure_channel(self.server.address)
        self.stub = service_grpc.TrainingServiceStub(self.channel)
        work = (self.steps, self.predictions, self.runs, self.errors, self.uploads, self.other_models)
        self.threads = [threading.Thread(target=self.repeat, args=(one,)) for one in work]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self.stop.set()
        for thread in self.threads:
            thread.join()
        self.channel.close()

    def repeat(self, work):
        number = 0
        while not self.stop.wait(0.02):
            try:
                work(number)
            except Exception as error:  # noqa: BLE001: reported by the test
                self.failed.append(error)
                return
            number += 1

    def steps(self, _):
        self.stub.Step(service.StepRequest(model="models/m0", batch=batch(8)))

    def predictions(self, _):
        rows = tensor.Tensor(shape=[5, 2], values=[1] * 10)
        self.stub.Predict(service.PredictRequest(model="models/m0", inputs=rows))

    def runs(self, _):
        config = training.TrainingConfig(iterations=500, batch_size=4)
        list(self.stub.Train(service.TrainRequest(model="models/m1", data=batch(64), config=config)))

    def errors(self, _):
        with contextlib.suppress(grpc.RpcError):
            self.stub.Step(service.StepRequest(model="models/m0", batch=batch(1), expected_step=1_000_000_000))

    def uploads(self, number):
        path = pathlib.Path(self.server.path, "rows.csv")
        path.write_text("1,2,0\n3,4,1\n")
        done = cli("dataset", "upload", f"d{number}", "--data", path, server=self.server.address)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        self.stop.wait(1)

    def other_models(self, number):
        if number < MODELS:  # each is loaded at its first use
            self.stub.GetModel(service.GetModelRequest(name=f"models/m{number}"))
        self.stop.wait(0.1)


class BoardTest(unittest.TestCase):
    def test_every_query_has_data(self):
        with tempfile.TemporaryDirectory() as folder:
            data = f"{folder}/data"
            with Server("--data-dir", data) as server, grpc.insecure_channel(server.address) as channel:
                stub = service_grpc.TrainingServiceStub(channel)
                spec = model.ModelSpec(input_size=2, layers=[model.Layer(units=8), model.Layer(units=2)])
                for number in range(MODELS):
                    stub.CreateModel(service.CreateModelRequest(model_id=f"m{number}", spec=spec))
            with Server("--data-dir", data, "--metrics-listen", "127.0.0.1:0", "--memory-limit", "1gb") as server, \
                    Prometheus(metrics_address(server)) as prometheus, Load(server) as load:
                time.sleep(LOAD_SECONDS)  # the load is what is measured
                self.assertEqual(load.failed, [])
                self.assertEqual(prometheus.ask("up"), [1])
                asked = 0
                for title, query in targets():
                    values = prometheus.ask(filled(query))
                    self.assertTrue(any(math.isfinite(value) for value in values), f"{title}: {query}: {values}")
                    asked += 1
                self.assertGreater(asked, 40)
                for query in ("sum(rate(backprop_steps_total[10s]))", "sum(rate(backprop_rows_total[10s]))",
                              'sum(rate(backprop_requests_total{code!="OK"}[10s]))',
                              'sum(rate(backprop_model_load_seconds_count[10s]))',
                              "sum(rate(backprop_uploaded_rows_total[10s]))",
                              "sum(rate(backprop_store_group_changes_sum[10s]))"):
                    self.assertGreater(prometheus.ask(query)[0], 0, query)
                self.assertEqual(get(metrics_address(server), "/healthz")[0], 200)

    def test_the_board_asks_only_for_metrics_that_exist(self):
        known = set(re.findall(r"^\| `([a-z_]+)` \|", (ROOT / "docs/metrics.md").read_text(), re.M))
        for variable in BOARD["templating"]["list"]:
            if variable["type"] == "query":
                self.assertIn(re.match(r"label_values\((\w+),", variable["query"]["query"])[1], known)
        for title, query in targets():
            for name in re.findall(r"\b(?:backprop|process)_\w+", query):
                self.assertIn(re.sub(r"_(bucket|sum|count)$", "", name), known | {name} & known, f"{title}: {query}")

    def test_panels_have_places_of_their_own(self):
        places, numbers = set(), set()
        for panel in BOARD["panels"]:
            at = panel["gridPos"]
            self.assertLessEqual(at["x"] + at["w"], 24, panel["title"])
            for x in range(at["x"], at["x"] + at["w"]):
                for y in range(at["y"], at["y"] + at["h"]):
                    self.assertNotIn((x, y), places, panel["title"])
                    places.add((x, y))
            numbers.add(panel["id"])
        self.assertEqual(len(numbers), len(BOARD["panels"]))

    def test_compose_provisions_the_board(self):
        compose = (ROOT / "docker/compose.yaml").read_text()
        for path in ("grafana/backpropd.json", "grafana/provisioning", "prometheus/prometheus.yml"):
            self.assertIn(f"./{path}:", compose)
            self.assertTrue((ROOT / "docker" / path).exists(), path)


if __name__ == "__main__":
    unittest.main()
