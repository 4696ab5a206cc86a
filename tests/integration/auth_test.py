"""Authentication, from outside: tokens of the command line, the auth file and its changes, and what the server refuses
to start with."""

import base64
import contextlib
import hashlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

import grpc
from grpc_status import rpc_status
from google.rpc import error_details_pb2

from harness import BIN, ROOT, Server, cli
from stubs import service, service_grpc

AUTH_HEALTH = "backprop.v1.AuthFile"


def new_token(name, role, project="default"):
    """(token, principal for the auth file)"""
    made = json.loads(cli("token", "create", "--name", name, "--role", role, "--project", project, "--json").stdout)
    return made["token"], made["principal"]


def reason(error):
    """The reason of an error, from its details."""
    for detail in rpc_status.from_call(error).details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason
    return None


def eventually(check, what, timeout=20):
    deadline = time.monotonic() + timeout
    while not check():
        if time.monotonic() > deadline:
            raise AssertionError(f"never: {what}")
        time.sleep(0.02)


class AuthTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.file = pathlib.Path(self.folder.name) / "auth.json"

    def write(self, *principals, **more):
        """Replaces the auth file, as an editor or a tool does."""
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({"principals": principals, **more}))
        new.rename(self.file)

    @contextlib.contextmanager
    def serving(self, *flags, **kwargs):
        with Server("--auth-file", str(self.file), *flags, **kwargs) as server, \
                grpc.insecure_channel(server.address) as channel:
            self.server, self.stub = server, service_grpc.TrainingServiceStub(channel)
            self.channel = channel
            yield server

    def list_models(self, token=None):
        """The outcome of a call: OK, or (code, reason)."""
        metadata = [("authorization", f"Bearer {token}")] if token else []
        try:
            self.stub.ListModels(service.ListModelsRequest(), metadata=metadata, timeout=30)
            return "OK"
        except grpc.RpcError as error:
            return error.code().name, reason(error)

    def health_of_the_file(self):
        return cli("health", "--service", AUTH_HEALTH, server=self.server.address).stdout.strip()

    # Tokens.

    def test_tokens_have_the_documented_form_and_are_all_different(self):
        tokens = {new_token("a", "reader")[0] for _ in range(20)}
        self.assertEqual(len(tokens), 20)
        for token in tokens:
            self.assertRegex(token, r"^bpt_[A-Za-z0-9_-]{49}$")
            self.assertEqual(len(base64.urlsafe_b64decode(token[4:47] + "=")), 32)
            checksum = base64.urlsafe_b64encode(hashlib.sha256(token[:47].encode()).digest()).decode()[:6]
            self.assertEqual(token[47:], checksum)
        token, principal = new_token("a", "Writer", "p")
        self.assertEqual(principal, {"name": "a", "project": "p", "role": "WRITER",
                                     "token_sha256": [hashlib.sha256(token.encode()).hexdigest()]})

    def test_a_token_in_a_file_is_readable_by_its_owner_only_and_replaces_nothing(self):
        path = pathlib.Path(self.folder.name) / "token"
        made = cli("token", "create", "--name", "a", "--role", "reader", "--output", path)
        self.assertEqual(made.returncode, 0, made.stderr)
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        token = path.read_text().strip()
        self.assertRegex(token, r"^bpt_[A-Za-z0-9_-]{49}$")
        self.assertNotIn(token, made.stdout + made.stderr)
        self.write(json.loads(made.stdout))
        with self.serving():
            self.assertEqual(self.list_models(token), "OK")
        again = cli("token", "create", "--name", "a", "--role", "reader", "--output", path)
        self.assertEqual((again.returncode, again.stdout), (1, ""))
        self.assertIn("cannot be created: File exists", again.stderr)
        self.assertEqual(path.read_text().strip(), token)

    def test_wrong_usage_of_token_create(self):
        for arguments in (("--role", "reader"), ("--name", "a"), ("--name", "a", "--role", "owner")):
            self.assertEqual(cli("token", "create", *arguments).returncode, 2, arguments)

    # Callers.

    def test_only_principals_with_a_sufficient_role_may_call(self):
        (reader, a), (writer, b) = new_token("a", "reader"), new_token("b", "writer")
        self.write(a, b)
        with self.serving("--log-level", "debug") as server:
            self.assertEqual(self.list_models(), ("UNAUTHENTICATED", "NO_CREDENTIALS"))
            self.assertEqual(self.list_models(reader), "OK")
            self.assertEqual(self.list_models(writer), "OK")
            self.assertEqual(self.list_models(reader + "x"), ("UNAUTHENTICATED", "INVALID_TOKEN"))
            with self.assertRaises(grpc.RpcError) as denied:
                self.stub.DeleteModel(service.DeleteModelRequest(name="models/m"),
                                      metadata=[("authorization", f"Bearer {reader}")])
            self.assertEqual((denied.exception.code().name, reason(denied.exception)),
                             ("PERMISSION_DENIED", "ROLE_TOO_LOW"))
            self.assertEqual(denied.exception.details(),
                             "backprop.v1.TrainingService/DeleteModel needs the role WRITER; the caller's role is READER")
            self.assertEqual(cli("health", server=server.address).stdout, "SERVING\n")
            server.terminate_and_wait()
            log = server.log()
            self.assertIn("2 principals, 0 projects", log)
            self.assertIn(f"callers are those of {self.file}", log)
            self.assertIn("authentication: 127.0.0.1: ListModels: NO_CREDENTIALS", log)
            self.assertIn("authentication: 127.0.0.1: ListModels: INVALID_TOKEN", log)
            for token in (reader, writer):
                self.assertNotIn(token[4:20], log)

    def test_channelz_and_reflection_are_for_operators(self):
        (admin, a), (operator, b) = new_token("a", "admin"), new_token("b", "operator")
        self.write(a, b)
        raw = {"request_serializer": None, "response_deserializer": None}

        def codes(token):
            metadata = [("authorization", f"Bearer {token}")]
            outcome = []
            for path in ("/grpc.channelz.v1.Channelz/GetServers", "/grpc.channelz.v1.Channelz/GetTopChannels"):
                try:
                    self.channel.unary_unary(path, **raw)(b"", metadata=metadata, timeout=30)
                    outcome.append("OK")
                except grpc.RpcError as error:
                    outcome.append(error.code().name)
            for version in ("v1", "v1alpha"):
                path = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
                try:
                    list(self.channel.stream_stream(path, **raw)(iter([b"\x3a\x00"]), metadata=metadata, timeout=30))
                    outcome.append("OK")
                except grpc.RpcError as error:
                    outcome.append(error.code().name)
            return outcome

        with self.serving():
            self.assertEqual(codes(admin), ["PERMISSION_DENIED"] * 4)
            self.assertEqual(codes(operator), ["OK"] * 4)
        with self.serving("--reflection", "public"):
            self.assertEqual(codes("none"), ["UNAUTHENTICATED"] * 2 + ["OK"] * 2)

    # Changes of the file.

    def test_a_change_applies_to_the_next_call(self):
        (old, a), (new, b) = new_token("a", "reader"), new_token("b", "reader")
        self.write(a)
        with self.serving():
            self.assertEqual((self.list_models(old), self.list_models(new)), ("OK", ("UNAUTHENTICATED", "INVALID_TOKEN")))
            # A token is replaced without an interruption.
            self.write({**a, "token_sha256": a["token_sha256"] + b["token_sha256"]})
            eventually(lambda: self.list_models(new) == "OK", "the new token")
            self.assertEqual(self.list_models(old), "OK")
            self.write({**a, "token_sha256": b["token_sha256"]})
            eventually(lambda: self.list_models(old) != "OK", "the old token is gone")
            self.assertEqual(self.list_models(new), "OK")
            self.assertEqual(self.health_of_the_file(), "SERVING")

    def test_a_broken_file_keeps_the_old_one_and_is_visible(self):
        token, a = new_token("a", "reader")
        other, b = new_token("b", "reader")
        self.write(a)
        with self.serving() as server:
            for text in ("{", "", json.dumps({"principals": []}), json.dumps({"principals": [{**b, "role": "OWNER"}]}),
                         json.dumps({"principals": [{**b, "token_sha256": [other]}]})):
                self.file.write_text(text)
                eventually(lambda: self.health_of_the_file() == "NOT_SERVING", f"{text} is noticed")
                self.assertEqual(self.list_models(token), "OK", text)
                self.assertNotEqual(self.list_models(other), "OK", text)
                self.write(a)
                eventually(lambda: self.health_of_the_file() == "SERVING", "the good file is noticed")
            self.file.unlink()
            eventually(lambda: self.health_of_the_file() == "NOT_SERVING", "the file is gone")
            self.assertEqual(self.list_models(token), "OK")
            self.assertEqual(cli("health", server=server.address).stdout, "SERVING\n", "the server as a whole")
            log = server.log()
            self.assertIn(f"--auth-file: {self.file}: is empty", log)
            self.assertIn("principals[0].token_sha256[0]: expected the SHA-256 of a token, got a token", log)
            self.assertIn("No such file or directory; the callers of the last good file are still accepted", log)
            self.assertNotIn(other[4:20], log)
            # An error is logged once, not each second.
            time.sleep(2.2)
            self.assertEqual(server.log().count("No such file or directory"), 1)

    def test_sighup_reads_the_file_at_once_and_says_so(self):
        token, a = new_token("a", "reader")
        self.write(a)
        with self.serving() as server:
            server.process.send_signal(signal.SIGHUP)
            eventually(lambda: server.log().count("1 principals, 0 projects") == 2, "the reload")
            self.assertIn("Hangup: reloading", server.log())
            self.assertEqual(self.list_models(token), "OK")

    def test_a_stream_keeps_its_caller_when_the_token_is_revoked(self):
        token, a = new_token("a", "writer")
        _, b = new_token("b", "writer")
        self.write(a)
        bearer = [("authorization", f"Bearer {token}")]
        with self.serving():
            made = service.CreateModelRequest(model_id="m")
            made.spec.input_size = 2
            made.spec.layers.add().units = 2
            self.stub.CreateModel(made, metadata=bearer)
            request = service.StepStreamRequest()
            request.step.model = "models/m"
            request.step.batch.inputs.values.extend([0, 1, 1, 0])
            request.step.batch.labels.values.extend([0, 1])
            sent = [request]

            def requests():
                while True:
                    while not sent:
                        time.sleep(0.01)
                    one = sent.pop()
                    if one is None:
                        return
                    yield one

            stream = self.stub.StepStream(requests(), metadata=bearer, timeout=60)
            self.assertEqual(next(stream).step.step, 1)
            self.write(b)
            eventually(lambda: self.list_models(token) == ("UNAUTHENTICATED", "INVALID_TOKEN"), "the revocation")
            sent.append(request)
            self.assertEqual(next(stream).step.step, 2)
            sent.append(None)
            self.assertEqual(list(stream), [])

    # Starting.

    def refused(self, *flags, env=None):
        ended = subprocess.run([BIN / "backpropd", *map(str, flags)], capture_output=True, text=True, timeout=30,
                               env={**os.environ, **(env or {})})
        self.assertNotEqual(ended.returncode, 0, flags)
        self.assertNotIn("compute threads", ended.stderr)  # the line of a server that has started
        return ended.stderr

    def test_no_way_of_starting_ends_in_an_open_server_by_accident(self):
        _, a = new_token("a", "reader")
        self.write(a)
        any_port = ("--listen", "127.0.0.1:0")
        for flags, said in (
                (("--listen", "0.0.0.0:0"), "--listen 0.0.0.0:0: without authentication"),
                (("--listen", "[::]:0"), "--allow-anonymous"),
                (("--listen", "127.0.0.1:0", "--listen", "0.0.0.0:0"), "--auth-file"),
                (("--listen", "0.0.0.0:0", "--auth-file", self.file), "tokens would travel in clear text"),
                (("--auth-file", self.file, "--allow-anonymous", *any_port), "contradict each other"),
                (("--auth-file", "", *any_port), "--auth-file"),
                (("--auth-file", "/no/such/file", *any_port), "/no/such/file: No such file or directory"),
                (("--auth-file", self.folder.name, *any_port), "is not a regular file"),
                (("--auth-file", "/dev/null", *any_port), "is not a regular file")):
            with self.subTest(flags):
                self.assertIn(said, self.refused(*flags))
        self.assertIn("--auth-file: must not be empty", self.refused(*any_port, env={"BACKPROPD_AUTH_FILE": ""}))
        reachable = {"BACKPROPD_LISTEN": "0.0.0.0:0"}
        self.assertIn("--allow-anonymous", self.refused(env=reachable))
        self.assertIn("--allow-anonymous", self.refused(env={**reachable, "BACKPROPD_ALLOW_ANONYMOUS": ""}))
        self.assertIn("--allow-anonymous", self.refused(env={**reachable, "BACKPROPD_ALLOW_ANONYMOUS": "false"}))
        config = pathlib.Path(self.folder.name) / "config.toml"
        config.write_text('listen = ["0.0.0.0:0"]\n')
        self.assertIn("--allow-anonymous", self.refused("--config", config))
        for text, said in (("", "is empty"), ("{}", "principals: is required"), ("[]", "cannot be parsed"),
                           ('{"principals": [{"nmae": "a"}]}', "nmae")):
            with self.subTest(text):
                self.file.write_text(text)
                self.assertIn(said, self.refused("--auth-file", self.file, *any_port))
        if os.geteuid() != 0:
            self.file.chmod(0)
            self.assertIn("Permission denied", self.refused("--auth-file", self.file, *any_port))

    def test_the_log_says_who_may_call(self):
        with Server() as server:
            self.assertRegex(server.log(), r"warning.*anonymous callers are allowed: every process of this machine")
        with Server("--allow-anonymous", listen="0.0.0.0:0") as server:
            self.assertRegex(server.log(), r"warning.*anonymous callers are allowed on 0\.0\.0\.0:0: everyone")
        _, a = new_token("a", "reader")
        self.write(a)
        with self.serving("--allow-cleartext", listen="0.0.0.0:0"):
            self.assertEqual(self.list_models(), ("UNAUTHENTICATED", "NO_CREDENTIALS"))

    def test_the_table_of_the_documentation_is_that_of_the_code(self):
        page = subprocess.run([ROOT / "scripts/permissions-table", "--print"], capture_output=True, text=True,
                              check=True).stdout
        self.assertEqual((ROOT / "docs/security.md").read_text(), page, "run scripts/permissions-table")
        self.assertTrue(re.search(r"\| `backprop.v1.TrainingService/Step` \|  \|  \| yes \| yes \| yes \|", page))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + ["-v"])
