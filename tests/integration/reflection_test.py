"""Reflection, v1 beside v1alpha. The messages of both have the same fields."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from harness import ROOT, Server

# Generated code would be in the package `grpc`, which is gRPC's own. Therefore the messages are
# made from descriptors.
with tempfile.TemporaryDirectory() as folder:
    described = pathlib.Path(folder) / "set"
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "-I", ROOT / "proto",
                    f"--descriptor_set_out={described}", "grpc/reflection/v1/reflection.proto"],
                   check=True)
    FILES = descriptor_pb2.FileDescriptorSet.FromString(described.read_bytes())
MESSAGES = message_factory.GetMessages(FILES.file, pool=descriptor_pool.DescriptorPool())
Request = MESSAGES["grpc.reflection.v1.ServerReflectionRequest"]
Response = MESSAGES["grpc.reflection.v1.ServerReflectionResponse"]


class ReflectionTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.server.__enter__()
        cls.channel = grpc.insecure_channel(cls.server.address)

    @classmethod
    def tearDownClass(cls):
        cls.channel.close()
        cls.server.__exit__(None, None, None)

    def ask(self, version, *requests, serializer=Request.SerializeToString):
        call = self.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=serializer, response_deserializer=Response.FromString)
        return list(call(iter(requests), timeout=30))

    def both(self, *requests):
        """Returns the answers of v1, after a check that those of v1alpha are the same."""
        v1, v1alpha = self.ask("v1", *requests), self.ask("v1alpha", *requests)
        self.assertEqual(len(v1), len(requests))
        self.assertEqual([r.WhichOneof("message_response") for r in v1],
                         [r.WhichOneof("message_response") for r in v1alpha])
        for one, other, request in zip(v1, v1alpha, requests):
            self.assertEqual(one.original_request, request)
            self.assertEqual(sorted(s.name for s in one.list_services_response.service),
                             sorted(s.name for s in other.list_services_response.service))
            self.assertEqual(sorted(one.file_descriptor_response.file_descriptor_proto),
                             sorted(other.file_descriptor_response.file_descriptor_proto))
            self.assertEqual(one.error_response.error_code, other.error_response.error_code)
        return v1

    def test_v1_lists_every_service(self):
        [answer] = self.both(Request(list_services=""))
        names = [s.name for s in answer.list_services_response.service]
        for name in ("backprop.v1.TrainingService", "backprop.v1.AdminService",
                     "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"):
            self.assertIn(name, names)

    def test_the_contract_can_be_built_from_the_answers_of_v1(self):
        for request in (Request(file_containing_symbol="backprop.v1.TrainingService.Step"),
                        Request(file_containing_symbol="backprop.v1.Tensor"),
                        Request(file_by_filename="backprop/v1/admin_service.proto"),
                        Request(file_containing_symbol="grpc.health.v1.Health")):
            [answer] = self.both(request)
            files = {}
            for raw in answer.file_descriptor_response.file_descriptor_proto:
                file = descriptor_pb2.FileDescriptorProto.FromString(raw)
                files[file.name] = file
            pool = descriptor_pool.DescriptorPool()

            def add(name):
                if name in files:
                    file = files.pop(name)
                    for needed in file.dependency:
                        add(needed)
                    pool.Add(file)

            for name in list(files):
                add(name)
            if request.file_containing_symbol.endswith("Step"):
                step = pool.FindServiceByName("backprop.v1.TrainingService").FindMethodByName("Step")
                self.assertEqual(step.input_type.full_name, "backprop.v1.StepRequest")

    def test_unknown_names_are_not_found(self):
        extension = MESSAGES["grpc.reflection.v1.ExtensionRequest"]
        answers = self.both(
            Request(file_containing_symbol="no.Such"), Request(file_by_filename="no/such.proto"),
            Request(all_extension_numbers_of_type="no.Such"),
            Request(file_containing_extension=extension(containing_type="backprop.v1.Tensor",
                                                        extension_number=7)))
        self.assertEqual({a.error_response.error_code for a in answers}, {5})

    def test_a_stream_answers_in_order_and_continues_after_an_error(self):
        answers = self.ask("v1", Request(file_containing_symbol="no.Such"), Request(),
                           *[Request(file_containing_symbol="backprop.v1.Tensor")] * 3)
        self.assertEqual([a.error_response.error_code for a in answers], [5, 3, 0, 0, 0])
        self.assertTrue(all(a.file_descriptor_response.file_descriptor_proto for a in answers[2:]))

    def test_a_request_that_cannot_be_parsed_is_an_error(self):
        with self.assertRaises(grpc.RpcError) as failed:
            self.ask("v1", b"\xff\xff\xff", serializer=lambda raw: raw)
        self.assertEqual(failed.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + ["-v"])
