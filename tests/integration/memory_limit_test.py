"""--memory-limit limits the process: its size in /proc while models are created and read at full speed.

BACKPROP_MEMORY_MODELS sets how many models are made (default 4,000, more than three times what fits)."""

import asyncio
import contextlib
import os
import pathlib
import tempfile
import unittest

import grpc

from harness import Server
from stubs import model, service, service_grpc, tensor

LIMIT = 200 << 20
COUNT = int(os.environ.get("BACKPROP_MEMORY_MODELS", "4000"))
# 100 · 240 + 240 + 240 · 2 + 2 numbers: 98,888 bytes.
SPEC = model.ModelSpec(input_size=100, layers=[model.Layer(units=240), model.Layer(units=2)])


def resident(server, what="VmRSS"):
    for line in pathlib.Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) << 10
    raise AssertionError(what)


@contextlib.contextmanager
def cgroup(limit):
    """A cgroup with a memory limit; processes started inside belong to it. Skips if it cannot be created."""
    for base, name in ((pathlib.Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
                       (pathlib.Path("/sys/fs/cgroup"), "memory.max")):
        group = base / f"backprop-test-{os.getpid()}"
        try:
            home = base / own_group(base).lstrip("/")
            group.mkdir()
            (group / name).write_text(str(limit))
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        try:
            (group / "cgroup.procs").write_text(str(os.getpid()))
            yield
        finally:
            (home / "cgroup.procs").write_text(str(os.getpid()))
            group.rmdir()
        return
    raise unittest.SkipTest("no cgroup can be made here")


def own_group(base):
    """Returns the cgroup of this process in the hierarchy that is mounted there."""
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if base.name == (controllers or "cgroup"):
            return path
    raise FileNotFoundError(base)


async def in_flight(count, numbers, call):
    numbers = iter(numbers)

    async def work():
        for number in numbers:
            await call(number)

    await asyncio.gather(*[work() for _ in range(count)])


class MemoryLimitTest(unittest.TestCase):
    def test_models_above_the_limit_are_evicted(self):
        async def use(server):
            await self.fill(server, COUNT)
            created = resident(server, "VmHWM")
            async with grpc.aio.insecure_channel(server.address) as channel:
                stub = service_grpc.TrainingServiceStub(channel)
                await in_flight(16, range(0, COUNT, 3), lambda i: stub.GetParameters(
                    service.GetParametersRequest(model=f"models/m{i}", encoding=tensor.TENSOR_ENCODING_RAW)))
            return created

        with tempfile.TemporaryDirectory() as folder:
            with Server("--data-dir", folder + "/data", "--memory-limit", str(LIMIT)) as server:
                self.assertIn("memory limit: 200 MiB", server.log())
                created = asyncio.run(use(server))
                highest = resident(server, "VmHWM")
                print(f"{COUNT} models: {created >> 20} MiB after creation, {highest >> 20} MiB after reading; "
                      f"{resident(server) >> 20} MiB now")
                self.assertLessEqual(highest, 1.5 * LIMIT)
                # Not all were evicted: the limit is used.
                self.assertGreaterEqual(highest, 0.5 * LIMIT)

    def test_the_default_is_two_thirds_of_the_cgroup_and_is_respected(self):
        with cgroup(3 * LIMIT // 2), tempfile.TemporaryDirectory() as folder:
            with Server("--data-dir", folder + "/data") as server:
                self.assertIn("memory limit: 200 MiB", server.log())
                asyncio.run(self.fill(server, 2500))  # otherwise the kernel kills it
            with Server("--memory-limit", "0") as server:
                self.assertIn("memory limit: none", server.log())

    @staticmethod
    async def fill(server, count):
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = service_grpc.TrainingServiceStub(channel)
            await in_flight(64, range(count), lambda i: stub.CreateModel(service.CreateModelRequest(
                model_id=f"m{i}", spec=SPEC, durability=model.DURABILITY_NONE)))

    def test_without_a_directory_models_above_the_limit_are_rejected(self):
        with Server("--memory-limit", "96MB") as server:
            stub = service_grpc.TrainingServiceStub(grpc.insecure_channel(server.address))
            made = 0
            with self.assertRaises(grpc.RpcError) as caught:
                for made in range(2000):
                    stub.CreateModel(service.CreateModelRequest(model_id=f"m{made}", spec=SPEC), timeout=30)
            self.assertEqual(caught.exception.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
            self.assertIn("--memory-limit", caught.exception.details())
            self.assertGreater(made, 50)
            self.assertLessEqual(resident(server, "VmHWM"), 1.5 * (96 << 20))
            stub.DeleteModel(service.DeleteModelRequest(name="models/m0"), timeout=30)
            stub.CreateModel(service.CreateModelRequest(model_id="again", spec=SPEC), timeout=30)


if __name__ == "__main__":
    unittest.main()
