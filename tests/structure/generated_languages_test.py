"""The commands of docs/clients.md for C#, Ruby and PHP make code with our namespaces and a method for each RPC."""

import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def commands():
    section = (ROOT / "docs/clients.md").read_text().split("\n## Generated code\n")[1].split("\n## ")[0]
    return re.search(r"^```sh\n(.*?)^```$", section, re.M | re.S).group(1)


def rpcs(service):
    text = (ROOT / f"proto/backprop/v1/{service}.proto").read_text()
    return re.findall(r"^  rpc (\w+)\(", text, re.M)


class GeneratedLanguagesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.work = pathlib.Path(cls.folder.name)
        shutil.copytree(ROOT / "proto", cls.work / "proto")
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", commands()], cwd=cls.work, capture_output=True,
                              text=True, timeout=120)
        if done.returncode != 0:
            raise AssertionError(done.stderr)

    def read(self, name):
        return (self.work / "gen" / name).read_text()

    def test_csharp_has_the_messages(self):
        for file in ("TrainingService", "Tensor", "Model", "Training", "Dataset"):
            self.assertIn("namespace Backprop.V1 {", self.read(f"csharp/Backprop/V1/{file}.cs"))
        self.assertIn("public sealed partial class TrainRequest", self.read("csharp/Backprop/V1/TrainingService.cs"))

    def test_ruby_has_a_method_for_each_rpc(self):
        text = self.read("ruby/backprop/v1/training_service_services_pb.rb")
        self.assertRegex(text, r"module Backprop\n  module V1\n    module TrainingService")
        self.assertEqual(re.findall(r"rpc :(\w+),", text), rpcs("training_service"))
        self.assertGreater(len(rpcs("training_service")), 20)
        for message in ("TrainRequest", "StepStreamResponse"):
            self.assertIn(f"    {message} = ", self.read("ruby/backprop/v1/training_service_pb.rb"))

    def test_php_has_a_method_for_each_rpc(self):
        text = self.read("php/Backprop/V1/TrainingServiceClient.php")
        self.assertIn("namespace Backprop\\V1;", text)
        self.assertEqual(re.findall(r"public function (\w+)\(", text)[1:], rpcs("training_service"))
        self.assertIn("namespace Backprop\\V1;", self.read("php/Backprop/V1/TrainRequest.php"))


if __name__ == "__main__":
    unittest.main()
