"""The real server of a scenario: its process, files of TLS and authentication, and an observer."""

import base64
import hashlib
import json
import os
import pathlib
import secrets
import signal
import socket
import subprocess
import sys
import time

from driver.values import Array, Mismatch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "integration"))
from certificates import Certificate  # noqa: E402

START_S = 30
STOP_S = 60


def free_port():
    """A port below those that the system gives to connections: a client that connects to the port of a dead
    server could otherwise get the same port at its own end, and so connect to itself."""
    while True:
        port = secrets.randbelow(10_000) + 20_000
        try:
            socket.create_server(("127.0.0.1", port)).close()
            return port
        except OSError:
            pass


def new_token():
    """A token as docs/security.md describes it."""
    body = "bpt_" + base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    return body + base64.urlsafe_b64encode(hashlib.sha256(body.encode()).digest()).decode()[:6]


class Server:
    """A backpropd on a fixed port of the loopback, so that it comes back on the same address."""

    def __init__(self, binary, folder, options):
        self.binary, self.folder = pathlib.Path(binary), pathlib.Path(folder)
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.process = None
        self.files = {}   # of TLS, by name
        self.tokens = {}  # by principal
        self.flags = ["--threads", "2", *options.get("flags", [])]
        if options.get("data_dir", True):
            self.flags += ["--data-dir", str(self.folder / "data")]
        self._prepare_tls(options.get("tls"))
        if "principals" in options:
            self._prepare_auth(options)

    def _prepare_tls(self, kind):
        if kind is None:
            return
        ca = Certificate(self.folder, "ca", authority=True)
        server = Certificate(self.folder, "server", issuer=ca)
        client = Certificate(self.folder, "client", issuer=ca, san="URI:spiffe://example.org/client")
        stranger = Certificate(self.folder, "stranger", authority=True)
        self.files = {"ca": ca.pem, "cert": client.pem, "key": client.key, "other_ca": stranger.pem}
        self.flags += ["--tls-cert", str(server.pem), "--tls-key", str(server.key)]
        if kind == "mutual":
            self.flags += ["--tls-client-ca", str(ca.pem)]

    def _prepare_auth(self, options):
        principals = []
        for name, (role, project) in options["principals"].items():
            self.tokens[name] = new_token()
            principals.append({"name": name, "role": role, "project": project,
                               "token_sha256": [hashlib.sha256(self.tokens[name].encode()).hexdigest()]})
        auth = {"principals": principals}
        if "projects" in options:
            auth["projects"] = options["projects"]
        path = self.folder / "auth.json"
        path.write_text(json.dumps(auth))
        path.chmod(0o600)
        self.flags += ["--auth-file", str(path)]

    def start(self):
        ready = self.folder / "address"
        ready.unlink(missing_ok=True)
        with open(self.folder / "server.log", "a") as log:
            self.process = subprocess.Popen(
                [self.binary, "--listen", self.address, "--port-file", ready, *self.flags],
                stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start: {self.log()}")
            time.sleep(0.01)

    def log(self):
        return (self.folder / "server.log").read_text()[-4000:]

    def signal(self, number):
        self.process.send_signal(number)

    def freeze(self):
        """Stops the process; its sockets stay open."""
        self.process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 10
        while pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
            if time.monotonic() > deadline:
                raise RuntimeError("the server does not stop on SIGSTOP")
            time.sleep(0.001)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def terminate(self):
        self.process.terminate()
        code = self.process.wait(timeout=STOP_S)
        if code != 0:
            raise RuntimeError(f"the server ended with {code}: {self.log()}")

    def close(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    # --- The observer: the command line, which shares no code with most clients ---

    def ask(self, *command):
        """The JSON document of a command of the command line."""
        environment = {k: v for k, v in os.environ.items()
                       if k not in ("BACKPROP_SERVER", "BACKPROP_CONTEXT", "BACKPROP_TOKEN")}
        environment["XDG_CONFIG_HOME"] = "/nonexistent"
        done = subprocess.run([self.binary.with_name("backprop"), "--json", "--server", self.address, *command],
                              capture_output=True, text=True, env=environment, timeout=60)
        if done.returncode != 0:
            raise Mismatch(f"backprop {' '.join(command)}: {done.stderr.strip()}")
        return [json.loads(line) for line in done.stdout.splitlines()][-1]

    def step_of(self, model):
        answer = self.ask("get", model)
        return int(answer.get("model", answer).get("step", 0))

    def parameters_of(self, model, dtype="float32"):
        answer = self.ask("parameters", "get", model, "--weights-only")
        tensors = answer.get("parameters", answer)["tensors"]
        return {one["name"]: Array.of(one["tensor"]["shape"], one["tensor"]["values"], dtype) for one in tensors}

    def rows_of(self, dataset):
        """Rows of a dataset that the server has; 0 if there is none."""
        every = self.ask("dataset", "list").get("datasets", [])
        return next((int(one.get("rows", 0)) for one in every if one["name"] == f"datasets/{dataset}"), 0)
