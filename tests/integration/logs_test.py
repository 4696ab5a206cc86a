"""The log of a server with hostile callers."""

import json
import re
import sys
import unittest

import grpc

from harness import Server, cli

GET = "/backprop.v1.TrainingService/GetModel"


def get(channel, name):
    """Calls GetModel with arbitrary bytes as the name. Returns the code and the message of the error."""
    size, length = len(name), b""
    while size >= 128:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    request = b"\x0a" + length + bytes([size]) + name
    call = channel.unary_unary(GET, request_serializer=None, response_deserializer=None)
    try:
        call(request, timeout=60)
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError("there is no such model")


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
        self.assertTrue(any(r"GetModel a\nforged line INVALID_ARGUMENT" in line for line in calls), calls)
        self.assertTrue(any(r"\x1b[31mred\x1b[2J" in line for line in calls), calls)
        self.assertTrue(any("GetModel " + "x" * 128 + "\u2026 " in line for line in calls))

    def test_as_json(self):
        calls = self.check_lines(self.talk("--log-level", "debug", "--log-format", "json"), r"^{.*}$")
        messages = [json.loads(line)["message"] for line in calls]
        self.assertTrue(any(r"GetModel a\nforged line" in message for message in messages), messages)

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

    def test_runs_are_logged_with_their_names(self):
        with Server() as server:
            cli("create", "m", "--inputs", 2, "--layers", "2", server=server.address)
            cli("train", "m", "--data", "xor", "--iterations", 5, server=server.address)
            self.assertEqual(server.terminate_and_wait(), 0)
            self.assertIn("info models/m/runs/1 completed after 5 iterations", server.log())


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + ["-v"])
