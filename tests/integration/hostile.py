"""Runs attacks on a server beside an honest client, and measures both. scripts/hostile runs it;
hostile_test.py uses its parts."""

import argparse
import contextlib
import dataclasses
import multiprocessing
import os
import pathlib
import re
import sys
import tempfile
import threading
import time

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import grpc  # noqa: E402

import attacks
from edge import Edge
from harness import Server
from stubs import model, service, service_grpc, tensor, training

MEMORY_LIMIT = "1GB"
HONEST_PERIOD_S = 0.02
HONEST_DEADLINE_S = 2.0


def resident_mb(pids):
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, AttributeError):
            status = pathlib.Path(f"/proc/{pid}/status").read_text()
            total += int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024
    return total


def with_children(pid):
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def descriptors(pid):
    with contextlib.suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/fd"))
    return 0


class Watch:
    """Samples the resident memory and the descriptors of processes, the first of which is the server's."""

    def __init__(self, pids):
        self.pids = pids
        self.start_mb, self.start_fds = resident_mb(pids), descriptors(pids[0])
        self.peak_mb, self.peak_fds = self.start_mb, self.start_fds
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._sample)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.ended.set()
        self.thread.join()

    def _sample(self):
        while not self.ended.wait(0.02):
            self.peak_mb = max(self.peak_mb, resident_mb(self.pids))
            self.peak_fds = max(self.peak_fds, descriptors(self.pids[0]))

    @property
    def growth_mb(self):
        return self.peak_mb - self.start_mb


class Honest:
    """A client that makes a Step every 20 ms; a context manager."""

    BATCH = tensor.Batch(inputs=tensor.Tensor(shape=[4, 2], values=[0, 0, 0, 1, 1, 0, 1, 1]),
                         labels=tensor.Tensor(values=[0, 1, 1, 0]))

    def __init__(self, channel, name):
        self.stub = service_grpc.TrainingServiceStub(channel)
        self.request = service.StepRequest(model=name, batch=self.BATCH)
        self.times_ms, self.errors = [], []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._work)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.ended.set()
        self.thread.join()

    def _work(self):
        due = time.monotonic()
        while not self.ended.wait(max(0.0, due - time.monotonic())):
            begin = time.monotonic()
            due = max(due, begin - 1) + HONEST_PERIOD_S
            try:
                self.stub.Step(self.request, timeout=HONEST_DEADLINE_S, wait_for_ready=True)
                self.times_ms.append((time.monotonic() - begin) * 1e3)
            except grpc.RpcError as error:
                self.errors.append(f"{error.code().name}: {error.details()}")

    def p99_ms(self):
        times = sorted(self.times_ms)
        return times[min(len(times) - 1, int(len(times) * 0.99))] if times else float("inf")


@dataclasses.dataclass
class Result:
    attack: str
    through: str
    outcome: attacks.Outcome
    growth_mb: float
    after_mb: float         # above the start, when the attacker has gone
    peak_fds: int
    left_fds: int           # more than at the start, when the attacker has gone
    alone_p99_ms: float
    honest_calls: int
    honest_p99_ms: float
    honest_errors: list
    alive: bool
    stop_s: float

    HEAD = ("| attack | through | sent | connections closed by it | peak memory | memory after | "
            "descriptors at the peak / left | honest calls | honest p99 (alone) | honest errors | "
            "SIGTERM |\n" + "|---" * 11 + "|")

    def row(self):
        out = self.outcome
        sent = f"{out.sent_bytes / 1e6:.1f} MB" + (f", {out.note}" if out.note else "")
        return (f"| {self.attack} | {self.through} | {sent} | {out.closed} of {out.connections} | "
                f"+{self.growth_mb:.0f} MB | +{self.after_mb:.0f} MB | {self.peak_fds} / {self.left_fds} | "
                f"{self.honest_calls} | {self.honest_p99_ms:.1f} ms ({self.alone_p99_ms:.1f} ms) | "
                f"{len(self.honest_errors)} | "
                + (f"{self.stop_s:.1f} s |" if self.alive else "the server had ended |"))


def attack_process(name, address, scale, certificate, results):
    tls = None
    if certificate is not None:
        import ssl
        tls = ssl.create_default_context(cadata=certificate)
        tls.check_hostname = False
        tls.set_alpn_protocols(["h2"])
    scale.__post_init__()
    results.put(attacks.ATTACKS[name](address, scale, tls))


def run_attack(name, address, scale, certificate=None):
    """In a process of its own, which is ended if it does not end by itself."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=attack_process, args=(name, address, scale, certificate, results))
    process.start()
    try:
        return results.get(timeout=scale.seconds + scale.hold_s + 60)
    finally:
        process.join(timeout=10)
        if process.is_alive():
            process.kill()
            process.join()


@contextlib.contextmanager
def target(through, *flags):
    """A server with a model, and what leads to it. Yields (server, edge or None, address, channel)."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/backpropd.sock"
        with Server("--unix-socket", path, "--data-dir", f"{folder}/data", "--memory-limit", MEMORY_LIMIT,
                    "--grace", "5", *flags, listen="127.0.0.1:0") as server, \
                contextlib.ExitStack() as stack:
            edge = stack.enter_context(Edge(through, path)) if through != "bare" else None
            address = edge.address if edge else server.address
            credentials = grpc.ssl_channel_credentials(edge.certificate()) if edge else None
            options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1)]
            channel = stack.enter_context(
                grpc.secure_channel(address, credentials, options=options) if edge
                else grpc.insecure_channel(address, options=options))
            make_models(channel)
            yield server, edge, address, channel


def make_models(channel):
    stub = service_grpc.TrainingServiceStub(channel)
    small = model.ModelSpec(input_size=2, layers=[model.Layer(units=8), model.Layer(units=2)])
    stub.CreateModel(service.CreateModelRequest(model_id="honest", spec=small), timeout=10)
    # 4 MB of parameters: a response of it, or a backup, is worth holding.
    large = model.ModelSpec(input_size=2, layers=[model.Layer(units=1000), model.Layer(units=1000),
                                                  model.Layer(units=2)])
    stub.CreateModel(service.CreateModelRequest(model_id="m", spec=large), timeout=10)


def train_once(channel):
    """The error of a short run of the honest client, in a list; or nothing."""
    stub = service_grpc.TrainingServiceStub(channel)
    try:
        list(stub.Train(service.TrainRequest(
            model="models/honest", data=Honest.BATCH, config=training.TrainingConfig(iterations=10)), timeout=10))
        return []
    except grpc.RpcError as error:
        return [f"Train: {error.code().name}: {error.details()}"]


def settle(watch, limit_s, limit_mb):
    """Waits until memory and descriptors are back; returns what is left then, or after `limit_s`."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        left_mb = resident_mb(watch.pids) - watch.start_mb
        left_fds = descriptors(watch.pids[0]) - watch.start_fds
        if left_mb < limit_mb and left_fds <= 0:
            break
        time.sleep(0.1)
    return left_mb, left_fds


def measure(name, through, scale, flags=(), settle_s=15.0, settle_mb=30.0):
    with target(through, *flags) as (server, edge, address, channel):
        pids = [server.process.pid] + (with_children(edge.process.pid) if edge else [])
        with Honest(channel, "models/honest") as alone:
            time.sleep(1.0)
        with Watch(pids) as watch:
            with Honest(channel, "models/honest") as honest:
                certificate = edge.certificate().decode() if edge else None
                outcome = run_attack(name, address, scale, certificate)
            left_mb, left_fds = settle(watch, settle_s, settle_mb)
            honest.errors += train_once(channel)
        alive = server.process.poll() is None
        begin = time.monotonic()
        if alive:
            server.terminate_and_wait()
        else:
            server.expect_exit = server.process.returncode
        return Result(name, through, outcome, watch.growth_mb, left_mb, watch.peak_fds, left_fds,
                      alone.p99_ms(), len(honest.times_ms), honest.p99_ms(), honest.errors, alive,
                      time.monotonic() - begin)


def main():
    parser = argparse.ArgumentParser(description="Attacks a server and measures what it costs.")
    parser.add_argument("--through", action="append", choices=("bare", "envoy", "nginx"))
    parser.add_argument("--attack", action="append", choices=sorted(attacks.ATTACKS))
    parser.add_argument("--amount", type=float, default=1.0, help="fraction of the full attack")
    parser.add_argument("--output", help="also write the table to this file")
    parser.add_argument("flags", nargs="*", help="flags of the server, after --")
    options = parser.parse_args()
    lines = [Result.HEAD]
    print(Result.HEAD, flush=True)
    for name in options.attack or attacks.ATTACKS:
        for through in options.through or ("bare", "envoy", "nginx"):
            result = measure(name, through, attacks.Scale(amount=options.amount), options.flags)
            lines.append(result.row())
            print(lines[-1], flush=True)
            for error in sorted(set(result.honest_errors))[:3]:
                print(f"  honest: {error}", file=sys.stderr)
    if options.output:
        pathlib.Path(options.output).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
