"""TLS of a real server: who is admitted, reload, refusals at start, handshakes that do not end; Unix sockets."""

import grp
import os
import pathlib
import pwd
import socket
import ssl
import stat
import subprocess
import tempfile
import time
import unittest

import grpc

from certificates import Certificate, put
from harness import BIN, ROOT, Server
from stubs import model, service, service_grpc, tensor, training


def run(*flags, env=None, umask=-1):
    return subprocess.run([BIN / "backpropd", "--listen", "127.0.0.1:0", *map(str, flags)], capture_output=True,
                          text=True, timeout=30, env={**os.environ, **(env or {})}, umask=umask)


def wait_for(text, server, seconds=20):
    deadline = time.monotonic() + seconds
    while text not in server.log():
        if time.monotonic() > deadline:
            raise AssertionError(f"{text!r} is not in the log:\n{server.log()}")
        time.sleep(0.05)


def connect(server, root, own=None, version=None):
    """Makes a TLS connection and returns the server's certificate, the version and the protocol."""
    context = ssl.create_default_context(cafile=root.pem)
    context.set_alpn_protocols(["h2"])
    if version:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
    if own:
        context.load_cert_chain(own.pem, own.key)
    host, port = server.address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=20) as plain:
        with context.wrap_socket(plain, server_hostname=host) as encrypted:
            # In TLS 1.3 a client learns that its certificate is refused when it reads.
            encrypted.recv(1)
            return encrypted.getpeercert(binary_form=True), encrypted.version(), encrypted.selected_alpn_protocol()


def der(certificate):
    return ssl.PEM_cert_to_DER_cert(certificate.pem.read_text())


class TlsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.path = pathlib.Path(cls.folder.name)
        cls.authority = Certificate(cls.path, "authority", authority=True)
        cls.server_certificate = Certificate(cls.path, "server", cls.authority)
        cls.client = Certificate(cls.path, "client", cls.authority, san="URI:spiffe://example.com/trainer")
        cls.stranger_authority = Certificate(cls.path, "stranger-authority", authority=True)
        cls.stranger = Certificate(cls.path, "stranger", cls.stranger_authority)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def setUp(self):
        """Files that a test may replace."""
        self.cert, self.key, self.ca = (self.path / f"used-{kind}" for kind in ("cert", "key", "ca"))
        put(self.server_certificate.pem, self.cert)
        put(self.server_certificate.key, self.key)
        put(self.authority.pem, self.ca)
        self.tls = ("--tls-cert", str(self.cert), "--tls-key", str(self.key))
        self.mutual = (*self.tls, "--tls-client-ca", str(self.ca))

    def channel(self, server, root, own=None):
        credentials = grpc.ssl_channel_credentials(root.pem.read_bytes(), own and own.key.read_bytes(),
                                                   own and own.pem.read_bytes())
        channel = grpc.secure_channel(server.address, credentials, (("grpc.use_local_subchannel_pool", 1),))
        self.addCleanup(channel.close)
        return channel

    def code(self, server, root, own=None):
        """The code of a call on a new connection; None for success."""
        try:
            service_grpc.TrainingServiceStub(self.channel(server, root, own)).ListModels(
                service.ListModelsRequest(), timeout=20)
            return None
        except grpc.RpcError as error:
            return error.code()

    # Who is admitted.

    def test_clients_are_asked_for_a_certificate_as_configured(self):
        unavailable = grpc.StatusCode.UNAVAILABLE
        for flags, without, strangers in (((), None, None),
                                          (("--tls-client-ca", self.ca), unavailable, unavailable),
                                          (("--tls-client-ca", self.ca, "--tls-client-auth", "require"), unavailable,
                                           unavailable),
                                          (("--tls-client-ca", self.ca, "--tls-client-auth", "optional"), None,
                                           unavailable),
                                          (("--tls-client-ca", self.ca, "--tls-client-auth", "none"), None, None)):
            with self.subTest(flags), Server(*self.tls, *map(str, flags)) as server:
                self.assertEqual(self.code(server, self.authority), without)
                self.assertEqual(self.code(server, self.authority, self.client), None)
                self.assertEqual(self.code(server, self.authority, self.stranger), strangers)
                self.assertEqual(self.code(server, self.stranger_authority, self.client), unavailable)

    def test_grpcurl_uses_it(self):
        with Server(*self.mutual) as server:
            listed = subprocess.run([ROOT / "build/tools/bin/grpcurl", "-cacert", self.authority.pem, "-cert",
                                     self.client.pem, "-key", self.client.key, server.address, "list"],
                                    capture_output=True, text=True, timeout=60)
            self.assertIn("backprop.v1.TrainingService", listed.stdout, listed.stderr)

    def test_the_oldest_version_is_1_2(self):
        with Server(*self.tls) as server:
            for version, name in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
                self.assertEqual(connect(server, self.authority, version=version)[1:], (name, "h2"))
            with self.assertRaises(ssl.SSLError) as refused:
                connect(server, self.authority, version=ssl.TLSVersion.TLSv1_1)
            # The server's doing: gRPC closes without an alert.
            self.assertIn(refused.exception.reason, ("UNEXPECTED_EOF_WHILE_READING", "TLSV1_ALERT_PROTOCOL_VERSION"))

    def test_clear_text_is_refused(self):
        with Server(*self.tls) as server, grpc.insecure_channel(server.address) as channel:
            with self.assertRaises(grpc.RpcError) as refused:
                service_grpc.TrainingServiceStub(channel).ListModels(service.ListModelsRequest(), timeout=20)
            self.assertEqual(refused.exception.code(), grpc.StatusCode.UNAVAILABLE)

    # Reload.

    def test_a_running_stream_survives_new_certificates(self):
        with Server(*self.mutual) as server:
            stub = service_grpc.TrainingServiceStub(self.channel(server, self.authority, self.client))
            spec = model.ModelSpec(input_size=2, layers=[model.Layer(units=2)])
            stub.CreateModel(service.CreateModelRequest(model_id="m", spec=spec))
            data = tensor.Batch(inputs=tensor.Tensor(shape=[2, 2], values=[0, 1, 1, 0]),
                                labels=tensor.Tensor(values=[0, 1]))
            config = training.TrainingConfig(iterations=10**12, report_every=10**4)
            events = stub.Train(service.TrainRequest(model="models/m", data=data, config=config))
            first = next(events).event.sequence
            self.assertEqual(connect(server, self.authority, self.client)[0], der(self.server_certificate))

            for source, target in ((self.stranger.pem, self.cert), (self.stranger.key, self.key),
                                   (self.stranger_authority.pem, self.ca)):
                put(source, target)
            wait_for("CN=stranger, expires", server)

            self.assertEqual(connect(server, self.stranger_authority, self.stranger)[0], der(self.stranger))
            self.assertEqual(self.code(server, self.stranger_authority, self.stranger), None)
            self.assertEqual(self.code(server, self.stranger_authority, self.client), grpc.StatusCode.UNAVAILABLE)
            for _ in range(100):
                last = next(events).event.sequence
            self.assertGreaterEqual(last, first + 100)
            stub.GetModel(service.GetModelRequest(name="models/m"))
            events.cancel()
            self.assertNotIn("cannot be used", server.log())

    def test_files_that_cannot_be_used_change_nothing(self):
        with Server(*self.mutual) as server:
            put(self.stranger.pem, self.cert)  # its key is missing
            wait_for("the previous ones stay in use: --tls-key", server)
            self.assertEqual(connect(server, self.authority, self.client)[0], der(self.server_certificate))
            self.cert.write_text("half")
            wait_for(f"--tls-cert {self.cert}: holds no certificate", server)
            self.assertEqual(self.code(server, self.authority, self.client), None)
            put(self.stranger.pem, self.cert)
            put(self.stranger.key, self.key)
            wait_for("CN=stranger, expires", server)
            self.assertEqual(connect(server, self.stranger_authority, self.client)[0], der(self.stranger))

    # Start.

    def test_files_that_cannot_be_used_prevent_the_start(self):
        missing, empty = self.path / "missing", self.path / "empty"
        empty.write_text("")
        locked = self.path / "locked.key"
        subprocess.run(["openssl", "pkey", "-in", self.server_certificate.key, "-aes128", "-passout", "pass:secret", "-out",
                        locked], check=True)
        own = self.server_certificate
        for flags, message in ((("--tls-cert", missing, "--tls-key", own.key),
                                f"--tls-cert {missing}: cannot be read: No such file or directory"),
                               (("--tls-cert", own.pem, "--tls-key", empty), f"--tls-key {empty}: is empty"),
                               (("--tls-cert", own.pem, "--tls-key", locked), f"--tls-key {locked}: is encrypted"),
                               (("--tls-cert", own.pem, "--tls-key", self.client.key),
                                f"--tls-key {self.client.key}: is not the key of"),
                               (("--tls-cert", own.pem, "--tls-key", own.key, "--tls-client-ca", missing),
                                f"--tls-client-ca {missing}: cannot be read")):
            with self.subTest(message):
                refused = run(*flags)
                self.assertEqual(refused.returncode, 1, refused.stderr)
                self.assertIn(message, refused.stderr)
                self.assertEqual(len(refused.stderr.splitlines()), 1, refused.stderr)

    def test_incomplete_flags_are_wrong_usage(self):
        own = self.server_certificate
        pair = ("--tls-cert", own.pem, "--tls-key", own.key)
        for flags, message in ((("--tls-cert", own.pem), "--tls-cert requires --tls-key"),
                               (("--tls-key", own.key), "--tls-key requires --tls-cert"),
                               (("--tls-client-ca", own.pem), "--tls-client-ca requires --tls-cert"),
                               (("--tls-client-auth", "none"), "--tls-client-auth requires --tls-cert"),
                               ((*pair, "--tls-client-auth", "require"), "requires --tls-client-ca"),
                               ((*pair, "--tls-client-auth", "optional"), "requires --tls-client-ca"),
                               ((*pair, "--tls-client-auth", "maybe"), "--tls-client-auth"),
                               (("--unix-socket-mode", "rw"), "permissions in octal"),
                               (("--unix-socket-mode", "1777"), "permissions in octal")):
            with self.subTest(flags):
                refused = run(*flags)
                self.assertEqual(refused.returncode, 2, refused.stderr)
                self.assertIn(message, refused.stderr)
        # A variable that happens to be empty must not turn encryption off.
        empty = run(env={"BACKPROPD_TLS_CERT": "", "BACKPROPD_TLS_KEY": ""})
        self.assertEqual(empty.returncode, 2, empty.stderr)

    def test_the_log_says_what_the_operator_should_know(self):
        short = Certificate(self.path, "short", self.authority, days=3)
        os.chmod(short.key, 0o644)
        with Server("--tls-cert", str(short.pem), "--tls-key", str(short.key)) as server:
            wait_for("tls: ", server)
            log = server.log()
            self.assertRegex(log, r"CN=short, expires \d{4}-\d\d-\d\d \d\d:\d\d UTC")
            self.assertIn("expires soon", log)
            self.assertIn(f"--tls-key {short.key}: every user of this machine can access the private key", log)
            self.assertNotIn("PRIVATE KEY", log)

    # Handshakes.

    def test_handshakes_that_do_not_end_are_closed(self):
        client_hello = ssl.MemoryBIO()
        half_tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), client_hello, server_hostname="localhost")
        with self.assertRaises(ssl.SSLWantReadError):
            half_tls.do_handshake()
        hello = client_hello.read()
        for flags, sent in ((self.tls, b""), (self.tls, hello[:100]), (self.tls, hello), ((), b""), ((), b"PRI * HT")):
            with self.subTest(tls=bool(flags), sent=len(sent)), \
                    Server(*flags, "--handshake-timeout", "1") as server:
                host, port = server.address.rsplit(":", 1)
                with socket.create_connection((host, int(port)), timeout=20) as peer:
                    begin = time.monotonic()
                    peer.sendall(sent)
                    try:
                        while peer.recv(4096):
                            pass
                    except ConnectionResetError:
                        pass
                    took = time.monotonic() - begin
                self.assertGreater(took, 0.5)
                self.assertLess(took, 10)

    # The health check.

    def test_the_health_check_uses_tls(self):
        for flags in (self.tls, self.mutual):
            with self.subTest(flags), Server(*flags) as server:
                port_file = ("--port-file", server.path / "address")
                self.assertEqual(run("--health-check", *port_file, *flags).stdout, "SERVING\n")
                self.assertEqual(run("--health-check", server.address, *flags).stdout, "SERVING\n")
                self.assertEqual(run("--health-check", *port_file).returncode, 1)

    # Unix sockets.

    def test_unix_sockets_are_clear_text_and_belong_to_the_server(self):
        path = self.path / "s.sock"
        with Server("--unix-socket", str(path), *self.mutual) as server:
            self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
            with grpc.insecure_channel(f"unix:{path}") as channel:
                service_grpc.TrainingServiceStub(channel).ListModels(service.ListModelsRequest(), timeout=20)
            self.assertEqual(run("--health-check", f"unix:{path}", *self.mutual).stdout, "SERVING\n")
            self.assertEqual(server.terminate_and_wait(), 0)

    def test_mode_and_owner_of_unix_sockets(self):
        path = self.path / "s.sock"
        root = os.geteuid() == 0
        user = pwd.getpwnam("nobody") if root else pwd.getpwuid(os.geteuid())
        group = grp.getgrgid(user.pw_gid)
        for owner in (user.pw_name, f"{user.pw_name}:{group.gr_name}", f":{group.gr_name}", f"{user.pw_uid}:{group.gr_gid}"):
            with self.subTest(owner), Server("--listen", f"unix:{path}", "--unix-socket-mode", "0660",
                                             "--unix-socket-owner", owner, wrapper=("sh", "-c", 'umask 077; exec "$@"', "sh")):
                file = path.stat()
                self.assertEqual(stat.S_IMODE(file.st_mode), 0o660)
                self.assertEqual(file.st_uid, os.geteuid() if owner.startswith(":") else user.pw_uid)
                self.assertEqual(file.st_gid, os.getegid() if ":" not in owner else group.gr_gid)
        for owner, message in (("no-such-user", 'there is no user "no-such-user"'), (":no-such", 'there is no group "no-such"')):
            refused = run("--unix-socket", path, "--unix-socket-owner", owner)
            self.assertEqual(refused.returncode, 1)
            self.assertIn(message, refused.stderr)
            self.assertFalse(path.exists())

    @unittest.skipUnless(os.geteuid() == 0, "needs another user")
    def test_the_mode_decides_who_connects(self):
        os.chmod(self.path, 0o755)
        path = self.path / "s.sock"
        connect_to = f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})"
        for mode, admitted in (("0600", False), ("0666", True)):
            with self.subTest(mode), Server("--unix-socket", str(path), "--unix-socket-mode", mode):
                nobody = subprocess.run(["/usr/bin/python3", "-c", connect_to], capture_output=True, text=True, user="nobody",
                                        cwd="/")
                self.assertEqual(nobody.returncode == 0, admitted, nobody.stderr)
                self.assertEqual("PermissionError" in nobody.stderr, not admitted)


if __name__ == "__main__":
    unittest.main()
