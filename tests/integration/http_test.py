"""RPCs over HTTP, as clients see them: Connect and gRPC-Web by hand, identity, TLS, pages, shutdown."""

import base64
import contextlib
import gzip
import http.client
import json
import pathlib
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.parse

import grpc
from google.rpc import error_details_pb2

from certificates import Certificate, put
from harness import BIN, Server, cli
from stubs import service, service_grpc

SERVICE = "/backprop.v1.TrainingService/"
XOR = {"modelId": "xor", "spec": {"inputSize": 2, "layers": [{"units": 8}, {"units": 2}]}}
ROWS = {"inputs": {"values": [0, 0, 0, 1, 1, 0, 1, 1]}, "labels": {"values": [0, 1, 1, 0]}}


def envelope(message, flags=0):
    return struct.pack(">BI", flags, len(message)) + message


def envelopes(body):
    """[(flags, message)]"""
    found = []
    while body:
        flags, length = struct.unpack(">BI", body[:5])
        assert len(body) >= 5 + length, body
        found.append((flags, body[5:5 + length]))
        body = body[5 + length:]
    return found


def trailers_of(message):
    return dict(line.split(": ", 1) for line in message.decode().splitlines())


class Answer:
    def __init__(self, response):
        self.status, self.body = response.status, response.read()
        self.headers = {name.lower(): value for name, value in response.getheaders()}

    @property
    def json(self):
        return json.loads(self.body)


@contextlib.contextmanager
def http_server(*flags, http="127.0.0.1:0", **kwargs):
    with tempfile.TemporaryDirectory() as folder:
        port_file = pathlib.Path(folder) / "http"
        with Server("--http", http, "--http-port-file", str(port_file), *map(str, flags), **kwargs) as server:
            server.http = port_file.read_text().strip()
            yield server


class Client:
    """One connection, which is kept alive."""

    def __init__(self, address, token=None, tls=None):
        self.headers = {"authorization": f"Bearer {token}"} if token else {}
        self.connection = (http.client.HTTPSConnection(address, context=tls, timeout=30) if tls else
                           http.client.HTTPConnection(address, timeout=30))

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.connection.close()

    def request(self, verb, path, body=None, headers=()):
        self.connection.request(verb, path, body, {**self.headers, **dict(headers)})
        return Answer(self.connection.getresponse())

    def call(self, method, request, headers=()):
        """A unary call with JSON."""
        return self.request("POST", SERVICE + method, json.dumps(request),
                            {"content-type": "application/json", **dict(headers)})

    def stream(self, method, messages, headers=(), codec="json", path=SERVICE):
        """A call with streams; (messages, end)"""
        encode = (lambda m: json.dumps(m).encode()) if codec == "json" else (lambda m: m.SerializeToString())
        body = b"".join(envelope(encode(message)) for message in messages)
        answer = self.request("POST", path + method, body,
                              {"content-type": f"application/connect+{codec}", **dict(headers)})
        assert answer.status == 200, answer.body
        *received, (flags, end) = envelopes(answer.body)
        assert flags == 2, flags
        assert all(flags == 0 for flags, _ in received), received
        return [message for _, message in received], json.loads(end)


class HttpTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = contextlib.ExitStack()
        cls.server = cls.stack.enter_context(http_server())
        with Client(cls.server.http) as client:
            assert client.call("CreateModel", XOR).status == 200

    @classmethod
    def tearDownClass(cls):
        cls.stack.close()

    def setUp(self):
        self.client = self.enterContext(Client(self.server.http)) if hasattr(self, "enterContext") else \
            Client(self.server.http)
        self.addCleanup(self.client.connection.close)

    # Connect, unary.

    def test_json_is_what_grpc_says(self):
        got = self.client.call("GetModel", {"name": "models/xor"})
        self.assertEqual(got.status, 200)
        self.assertEqual(got.headers["content-type"], "application/json")
        with grpc.insecure_channel(self.server.address) as channel:
            model = service_grpc.TrainingServiceStub(channel).GetModel(service.GetModelRequest(name="models/xor")).model
        self.assertEqual(got.json["model"]["name"], model.name)
        self.assertEqual(int(got.json["model"]["parameterCount"]), model.parameter_count)

    def test_binary_is_what_grpc_says(self):
        request = service.GetParametersRequest(model="models/xor")
        got = self.client.request("POST", SERVICE + "GetParameters", request.SerializeToString(),
                                  {"content-type": "application/proto"})
        self.assertEqual((got.status, got.headers["content-type"]), (200, "application/proto"))
        with grpc.insecure_channel(self.server.address) as channel:
            expected = service_grpc.TrainingServiceStub(channel).GetParameters(request)
        self.assertEqual(service.GetParametersResponse.FromString(got.body), expected)

    def test_errors_have_code_fields_and_reason(self):
        wrong = self.client.call("CreateModel", {"modelId": "y", "spec": {"layers": [{"units": -1}]}})
        self.assertEqual((wrong.status, wrong.json["code"]), (400, "invalid_argument"))
        details = {detail["type"]: detail for detail in wrong.json["details"]}
        bad = error_details_pb2.BadRequest.FromString(
            base64.b64decode(details["google.rpc.BadRequest"]["value"] + "=="))
        self.assertIn("spec.layers[0].units", [violation.field for violation in bad.field_violations])
        self.assertEqual(details["google.rpc.BadRequest"]["debug"]["fieldViolations"][0]["field"],
                         bad.field_violations[0].field)
        missing = self.client.call("GetModel", {"name": "models/none"}, {"x-request-id": "mine"})
        self.assertEqual((missing.status, missing.json["code"]), (404, "not_found"))
        details = {detail["type"]: detail.get("debug") for detail in missing.json["details"]}
        self.assertEqual(details["google.rpc.ErrorInfo"]["reason"], "MODEL_NOT_FOUND")
        self.assertEqual(details["google.rpc.RequestInfo"]["requestId"], "mine")
        for body in ("", "[]", '{"nme": "models/xor"}', '{"name": 1'):
            answer = self.client.request("POST", SERVICE + "GetModel", body, {"content-type": "application/json"})
            self.assertEqual((answer.status, answer.json["code"]), (400, "invalid_argument"), body)
        form = self.client.request("POST", SERVICE + "GetModel", "{}",
                                   {"content-type": "application/x-www-form-urlencoded"})
        self.assertEqual(form.status, 415)
        self.assertIn("application/json", form.json["message"])

    def test_get_calls_what_changes_nothing(self):
        def get(method, **parameters):
            return self.client.request("GET", SERVICE + method + "?" + urllib.parse.urlencode(parameters))
        by_json = get("GetModel", connect="v1", encoding="json", message='{"name":"models/xor"}')
        self.assertEqual((by_json.status, by_json.json["model"]["name"]), (200, "models/xor"))
        request = service.GetModelRequest(name="models/xor").SerializeToString()
        by_proto = get("GetModel", encoding="proto", base64="1", compression="gzip",
                       message=base64.urlsafe_b64encode(gzip.compress(request)).decode().rstrip("="))
        self.assertEqual(service.GetModelResponse.FromString(by_proto.body).model.name, "models/xor")
        self.assertEqual(get("DeleteModel", encoding="json", message='{"name":"models/xor"}').status, 405)

    def test_gzip_in_both_directions(self):
        body = gzip.compress(json.dumps({"model": "models/xor"}).encode())
        answer = self.client.request("POST", SERVICE + "GetParameters", body, {
            "content-type": "application/json", "content-encoding": "gzip", "accept-encoding": "gzip"})
        self.assertEqual(answer.headers.get("content-encoding"), "gzip")
        parameters = json.loads(gzip.decompress(answer.body))["parameters"]
        self.assertEqual(len(parameters["tensors"]), 4)

    def test_a_timeout_ends_the_call(self):
        # A step that takes longer than a millisecond to compute.
        large = {"modelId": "large", "spec": {"inputSize": 500, "layers": [{"units": 2000}, {"units": 2000}, {"units": 2}]}}
        self.assertEqual(self.client.call("CreateModel", large).status, 200)
        rows = {"inputs": {"values": [0.5] * 500 * 200}, "labels": {"values": [0, 1] * 100}}
        begin = time.monotonic()
        late = self.client.call("Predict", {"model": "models/large", "inputs": rows["inputs"]},
                                {"connect-timeout-ms": "1"})
        self.assertEqual((late.status, late.json["code"]), (504, "deadline_exceeded"))
        self.assertLess(time.monotonic() - begin, 10)

    def test_a_retry_with_a_request_id_gets_the_first_answer(self):
        step = {"model": "models/xor", "batch": ROWS, "requestId": "http-1"}
        first, again = self.client.call("Step", step), self.client.call("Step", step)
        self.assertEqual((first.status, again.status), (200, 200))
        self.assertEqual(first.json, again.json)

    # Connect, streams.

    def test_train_streams_its_events(self):
        config = {"iterations": "50", "reportEvery": "10"}
        events, end = self.client.stream("Train", [{"model": "models/xor", "data": ROWS, "config": config}])
        self.assertEqual(end, {})
        events = [json.loads(event)["event"] for event in events]
        self.assertIn("started", events[0])
        self.assertIn("summary", events[-1])
        self.assertGreaterEqual(len(events), 5)
        failed, end = self.client.stream("Train", [{"model": "models/none", "data": ROWS, "config": config}])
        self.assertEqual((failed, end["error"]["code"]), ([], "not_found"))
        for messages in ([], [{"model": "models/xor"}] * 2):
            self.assertEqual(self.client.stream("Train", messages)[1]["error"]["code"], "unimplemented")

    def test_a_step_stream_answers_in_both_codecs(self):
        step = {"step": {"model": "models/xor", "batch": ROWS}}
        for count in (1, 100):
            answers, end = self.client.stream("StepStream", [step] * count)
            self.assertEqual((len(answers), end), (count, {}))
        request = service.StepStreamRequest()
        request.step.model = "models/xor"
        request.step.batch.inputs.values.extend(ROWS["inputs"]["values"])
        request.step.batch.labels.values.extend(ROWS["labels"]["values"])
        answers, end = self.client.stream("StepStream", [request] * 3, codec="proto")
        steps = [service.StepStreamResponse.FromString(answer).step.step for answer in answers]
        self.assertEqual(steps, list(range(steps[0], steps[0] + 3)))

    def test_files_go_out_and_in(self):
        chunks, end = self.client.stream("ExportModel", [{"model": "models/xor"}])
        self.assertEqual(end, {})
        data = [json.loads(chunk)["data"] for chunk in chunks]
        messages = [{"modelId": "copy", "data": data[0]}] + [{"data": part} for part in data[1:]]
        imported, end = self.client.stream("ImportModel", messages)
        self.assertEqual(end, {}, end)
        self.assertEqual(json.loads(imported[0])["model"]["name"], "models/copy")
        # A body that ends in a message is an error, and nothing is imported.
        body = envelope(json.dumps({"modelId": "half", "data": data[0]}).encode()) + b"\0\0\0\0\x09{"
        answer = self.client.request("POST", SERVICE + "ImportModel", body,
                                     {"content-type": "application/connect+json"})
        self.assertEqual(json.loads(envelopes(answer.body)[-1][1])["error"]["code"], "invalid_argument")
        self.assertEqual(self.client.call("GetModel", {"name": "models/half"}).status, 404)

    def test_compressed_messages_of_a_stream(self):
        body = envelope(gzip.compress(json.dumps({"model": "models/xor", "data": ROWS,
                                                  "config": {"iterations": "1"}}).encode()), 1)
        headers = {"content-type": "application/connect+json", "connect-content-encoding": "gzip"}
        answer = self.client.request("POST", SERVICE + "Train", body, headers)
        self.assertEqual(json.loads(envelopes(answer.body)[-1][1]), {})
        del headers["connect-content-encoding"]
        answer = self.client.request("POST", SERVICE + "Train", body, headers)
        self.assertEqual(json.loads(envelopes(answer.body)[-1][1])["error"]["code"], "internal")

    # gRPC-Web.

    def test_grpc_web(self):
        request = service.GetModelRequest(name="models/xor").SerializeToString()
        for text in (False, True):
            encode, decode = (base64.b64encode, self.decode_parts) if text else (bytes, bytes)
            kind = "application/grpc-web-text" if text else "application/grpc-web+proto"

            def call(method, message):
                answer = self.client.request("POST", SERVICE + method, encode(envelope(message)),
                                             {"content-type": kind, "x-grpc-web": "1"})
                self.assertEqual(answer.status, 200)
                self.assertTrue(answer.headers["content-type"].startswith(kind))
                *messages, (flags, trailers) = envelopes(decode(answer.body))
                self.assertEqual(flags, 0x80)
                return [message for _, message in messages], trailers_of(trailers)
            (message,), trailers = call("GetModel", request)
            self.assertEqual(service.GetModelResponse.FromString(message).model.name, "models/xor")
            self.assertEqual(trailers, {"grpc-status": "0"})
            none, trailers = call("GetModel", service.GetModelRequest(name="models/none").SerializeToString())
            self.assertEqual((none, trailers["grpc-status"]), ([], "5"))
            self.assertIn("models/none", urllib.parse.unquote(trailers["grpc-message"]))
            self.assertTrue(trailers["grpc-status-details-bin"])

    @staticmethod
    def decode_parts(text):
        """Decodes base64 in parts, each with its padding."""
        return b"".join(base64.b64decode(text[at:at + 4]) for at in range(0, len(text), 4))

    # Pages.

    def test_pages(self):
        for path in ("/healthz", "/readyz"):
            answer = self.client.request("GET", path)
            self.assertEqual((answer.status, answer.body), (200, b"SERVING\n"))
        metrics = self.client.request("GET", "/metrics")
        self.assertEqual(metrics.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
        self.assertIn(b"backprop_", metrics.body)
        self.assertEqual(self.client.request("GET", "/").status, 404)
        self.assertEqual(self.client.request("HEAD", SERVICE + "GetModel").status, 405)
        health = self.client.request("POST", "/grpc.health.v1.Health/Check", "{}",
                                     {"content-type": "application/json"})
        self.assertEqual(health.json, {"status": "SERVING"})

    def test_other_names_of_the_machine_are_refused(self):
        answer = self.client.request("GET", "/healthz", headers={"Host": "rebound.example"})
        self.assertEqual(answer.status, 421)
        self.assertIn("rebound.example", answer.json["message"])

    def test_curl_sends_a_large_body(self):
        rows = 20_000
        body = {"model": "models/xor", "inputs": {"values": [0.25, 0.75] * rows}}
        sent = subprocess.run(["curl", "-sS", "--fail-with-body", "-H", "content-type: application/json",
                               "--data-binary", "@-", f"http://{self.server.http}{SERVICE}Predict"],
                              input=json.dumps(body), capture_output=True, text=True, timeout=60)
        self.assertEqual(sent.returncode, 0, sent.stdout + sent.stderr)
        self.assertEqual(len(json.loads(sent.stdout)["classes"]), rows)


class IdentityTest(unittest.TestCase):
    """The same principals, limits and logs as over gRPC."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name)
        self.auth = self.path / "auth.json"
        self.tokens = {}
        self.principals = []
        for role in ("reader", "writer", "operator"):
            made = json.loads(cli("token", "create", "--name", role, "--role", role, "--project", "default",
                                  "--json").stdout)
            self.tokens[role] = made["token"]
            self.principals.append(made["principal"])

    def serve(self, *flags, **kwargs):
        self.auth.write_text(json.dumps({"principals": self.principals}))
        return http_server("--auth-file", self.auth, *flags, **kwargs)

    def test_tokens_and_roles(self):
        with self.serve() as server:
            def code(token, method="ListModels", request=None):
                with Client(server.http, token) as client:
                    answer = client.call(method, request or {})
                    return answer.status, answer.json.get("code")
            self.assertEqual(code(None), (401, "unauthenticated"))
            self.assertEqual(code("bpt_" + "x" * 43), (401, "unauthenticated"))
            self.assertEqual(code(self.tokens["reader"]), (200, None))
            self.assertEqual(code(self.tokens["reader"], "CreateModel", XOR), (403, "permission_denied"))
            self.assertEqual(code(self.tokens["writer"], "CreateModel", XOR), (200, None))
            with Client(server.http) as client:
                self.assertEqual(client.request("GET", "/metrics").status, 401)
                self.assertEqual(client.request("GET", "/healthz").status, 200)
                _, end = client.stream("Train", [{"model": "models/xor"}])
                self.assertEqual(end["error"]["code"], "unauthenticated")
            with Client(server.http, self.tokens["operator"]) as client:
                self.assertEqual(client.request("GET", "/metrics").status, 200)

    def test_the_audit_log_has_the_peer_of_http(self):
        audit = self.path / "audit"
        with self.serve("--audit-log", audit) as server:
            with Client(server.http, self.tokens["writer"]) as client:
                port = None
                self.assertEqual(client.call("CreateModel", XOR, {"x-request-id": "r1"}).status, 200)
                port = client.connection.sock.getsockname()[1]
            line = json.loads(audit.read_text().splitlines()[0])
        self.assertEqual((line["principal"], line["method"], line["request_id"]), ("writer", "CreateModel", "r1"))
        self.assertEqual(line["peer"], f"ipv4:127.0.0.1:{port}")

    def test_a_peer_cannot_claim_to_be_another(self):
        """Neither by the header of HTTP nor by the metadata of gRPC that carry the identity inside the server."""
        uri = "spiffe://example.com/admin"
        self.principals.append({"name": "by-certificate", "project": "default", "role": "OPERATOR",
                                "certificate_uris": [uri]})
        texts = [b"ipv4:1.2.3.4:5", uri.encode()]
        claim = b"".join(struct.pack("<I", len(text)) + text for text in texts)
        key = "bp-forwarded-peer-bin"
        with self.serve() as server:
            for secret in (b"", b"\0" * 32, b"x" * 32):
                value = secret + claim
                with Client(server.http) as client:
                    answer = client.call("ListModels", {}, {key: base64.b64encode(value).decode()})
                    self.assertEqual(answer.status, 401, answer.body)
                with grpc.insecure_channel(server.address) as channel, self.assertRaises(grpc.RpcError) as refused:
                    service_grpc.TrainingServiceStub(channel).ListModels(service.ListModelsRequest(),
                                                                         metadata=[(key, value)], timeout=30)
                self.assertEqual(refused.exception.code(), grpc.StatusCode.UNAUTHENTICATED)
            log = server.log()
        self.assertIn("127.0.0.1: ListModels: NO_CREDENTIALS", log)
        self.assertNotIn("1.2.3.4", log)

    def test_certificates_of_clients(self):
        authority = Certificate(self.path, "authority", authority=True)
        own = Certificate(self.path, "server", authority)
        uri = "spiffe://example.com/trainer"
        known = Certificate(self.path, "known", authority, san=f"URI:{uri}")
        unknown = Certificate(self.path, "unknown", authority, san="URI:spiffe://example.com/other")
        stranger = Certificate(self.path, "stranger", Certificate(self.path, "stranger-ca", authority=True),
                               san=f"URI:{uri}")
        self.principals.append({"name": "trainer", "project": "default", "role": "WRITER", "certificate_uris": [uri]})
        used = [self.path / name for name in ("cert", "key")]
        put(own.pem, used[0])
        put(own.key, used[1])
        with self.serve("--tls-cert", used[0], "--tls-key", used[1], "--tls-client-ca", authority.pem,
                        "--tls-client-auth", "optional") as server:
            def status(certificate, token=None, trusted=authority):
                context = ssl.create_default_context(cafile=trusted.pem)
                if certificate is not None:
                    context.load_cert_chain(certificate.pem, certificate.key)
                with Client(server.http, token, tls=context) as client:
                    return client.call("CreateModel", {**XOR, "modelId": f"m{time.monotonic_ns()}"}).status
            self.assertEqual(status(known), 200)
            self.assertEqual(status(unknown), 401)
            self.assertEqual(status(None), 401)
            self.assertEqual(status(None, self.tokens["writer"]), 200)
            self.assertEqual(status(known, self.tokens["writer"]), 401)  # two principals
            with self.assertRaises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
                status(stranger)
            # Clear text is refused, and so is HTTP/2.
            with Client(server.http) as client, self.assertRaises((ConnectionError, http.client.HTTPException)):
                client.call("ListModels", {})
            context = ssl.create_default_context(cafile=authority.pem)
            context.set_alpn_protocols(["h2"])
            host, port = server.http.rsplit(":", 1)
            with socket.create_connection((host, int(port)), timeout=20) as plain, self.assertRaises(ssl.SSLError):
                context.wrap_socket(plain, server_hostname=host)
            # New files, new connections.
            other = Certificate(self.path, "other-authority", authority=True)
            renewed = Certificate(self.path, "renewed", other)
            put(renewed.pem, used[0])
            put(renewed.key, used[1])
            deadline = time.monotonic() + 20
            while "CN=renewed, expires" not in server.log():
                self.assertLess(time.monotonic(), deadline, server.log())
                time.sleep(0.05)
            self.assertEqual(status(known, trusted=other), 200)


class ProcessTest(unittest.TestCase):
    def test_an_address_that_is_not_local_needs_authentication(self):
        def refusal(*flags):
            run = subprocess.run([BIN / "backpropd", "--listen", "127.0.0.1:0", *flags], capture_output=True, text=True,
                                 timeout=30)
            return run.returncode, run.stderr
        code, text = refusal("--http", "0.0.0.0:0")
        self.assertEqual(code, 1)
        self.assertIn("--http 0.0.0.0:0: without authentication", text)
        code, text = refusal("--http-port-file", "/tmp/none")
        self.assertEqual(code, 1)
        self.assertIn("--http-port-file: needs --http", text)
        code, text = refusal("--http-allow-origin", "https://example.org/path")
        self.assertEqual(code, 2)
        self.assertIn("without a path", text)
        with http_server("--allow-anonymous", http="0.0.0.0:0") as server:
            with Client(server.http.replace("0.0.0.0", "127.0.0.1")) as client:
                answer = client.request("GET", "/healthz", headers={"Host": "any.example"})
                self.assertEqual(answer.status, 200)

    def test_a_unix_socket(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "http.sock"
            with http_server(http=f"unix:{path}") as server:
                self.assertEqual(server.http, f"unix:{path}")
                listed = subprocess.run(
                    ["curl", "-sS", "--unix-socket", path, "-H", "content-type: application/json", "-d", "{}",
                     f"http://localhost{SERVICE}ListModels"], capture_output=True, text=True, timeout=30)
                self.assertEqual(listed.stdout, "{}", listed.stderr)
                self.assertEqual(server.terminate_and_wait(), 0)
            self.assertFalse(path.exists())

    def test_a_stop_ends_streams_with_unavailable(self):
        with http_server("--grace", "10") as server, Client(server.http) as client, Client(server.http) as other:
            self.assertEqual(client.call("CreateModel", XOR).status, 200)
            run = {"model": "models/xor", "data": ROWS,
                   "config": {"iterations": "1000000000000", "reportEvery": "100000"}}
            ended = []
            thread = threading.Thread(target=lambda: ended.append(client.stream("Train", [run])))
            thread.start()
            deadline = time.monotonic() + 20
            while "activeRun" not in other.call("GetModel", {"name": "models/xor"}).json["model"]:
                self.assertLess(time.monotonic(), deadline)
            begin = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            thread.join(30)
            self.assertEqual(ended[0][1]["error"]["code"], "unavailable")
            self.assertEqual(server.process.wait(30), 0)
            self.assertLess(time.monotonic() - begin, 15)

    def test_readiness_ends_before_the_server(self):
        with http_server("--drain-delay", "2") as server, Client(server.http) as client:
            server.process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + 10
            while client.request("GET", "/readyz").status != 503:
                self.assertLess(time.monotonic(), deadline)
            self.assertEqual(client.call("ListModels", {}).status, 200)  # calls are still served


if __name__ == "__main__":
    unittest.main()
