"""Kills a server at random moments and checks for changes lost or applied twice.

Workers drive models with steps, gradients, parameters, runs, checkpoints, datasets and deletions, each
change with a request id and repeated until it is answered, and write what was answered into a ledger. Some
steps are abandoned instead: they may have been made once, or not. The server is killed with SIGKILL, also
while it starts, and started again on the same directory. At the end the ledger is replayed in another server,
in memory, one change after the other: every answer and the final parameters of every model must be equal to
the last bit.

The server has an auth file and two projects. The workers of both use the same ids of models, datasets,
checkpoints and requests, for models of the same shape and with other numbers. A change that reaches the
other project is seen in the replay, and each project must have the models of its own workers and no others.

    crash.py [--kills N] [--seed S] [--workers W]
"""

import argparse
import array
import atexit
import collections
import json
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

import grpc

from auth_test import new_token
from harness import BIN
from stubs import AuthorizedStub, dataset, model, service, tensor, training

OF_ITS_OWN = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
PROJECTS = ("alpha", "beta")
# Status codes that a caller may see from a killed server; they say nothing about the change.
RETRIABLE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN,
             grpc.StatusCode.DEADLINE_EXCEEDED}


class Server:
    """A backpropd that can be killed and started again."""

    def __init__(self, folder, *flags):
        self.folder = pathlib.Path(folder)
        self.flags = flags
        self.socket = self.folder / "socket"
        self.address = f"unix:{self.socket}"
        self.starts = 0

    def launch(self):
        self.starts += 1
        self.ready = self.folder / f"ready-{self.starts}"
        self.log = open(self.folder / "log", "a")
        self.process = subprocess.Popen(
            [BIN / "backpropd", "--listen", "127.0.0.1:0", "--unix-socket", self.socket,
             "--port-file", self.ready, "--threads", "2", *self.flags], stdout=self.log, stderr=self.log)

    def wait_ready(self):
        deadline = time.monotonic() + 60
        while not self.ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the server did not start:\n{self.tail()}")
            time.sleep(0.002)
        self.ready.unlink()

    def kill(self, how=signal.SIGKILL):
        """Kills the server, and checks that it had not exited before."""
        self.process.send_signal(how)
        ended = self.process.wait()
        self.log.close()
        if self.ready.exists():
            self.ready.unlink()
        if ended != (0 if how == signal.SIGTERM else -how):
            raise AssertionError(f"the server ended by itself, with {ended}:\n{self.tail()}")

    def tail(self):
        return "\n".join((self.folder / "log").read_text().splitlines()[-20:])


def floats(rng, count):
    return array.array("f", (rng.uniform(-1, 1) for _ in range(count))).tobytes()


def float_tensor(rng, *shape):
    count = 1
    for size in shape:
        count *= size
    return tensor.Tensor(shape=shape, raw=floats(rng, count), data_type=tensor.DATA_TYPE_FLOAT32)


def batch(rng, rows, inputs, classes):
    labels = array.array("i", (rng.randrange(classes) for _ in range(rows))).tobytes()
    return tensor.Batch(inputs=float_tensor(rng, rows, inputs),
                        labels=tensor.Tensor(shape=[rows], raw=labels, data_type=tensor.DATA_TYPE_INT32))


class Worker:
    """A sequence of models with one name in one project, and the ledger of acknowledged changes. The workers of
    both projects with the same number use the same ids."""

    # (inputs, units of the layers, optimiser): states smaller and larger than their batches.
    KINDS = [(2, [8, 2], model.Optimizer(sgd=model.Sgd(learning_rate=0.05))),
             (6, [64, 64, 3], model.Optimizer(adam=model.Adam(learning_rate=0.001))),
             (3, [16, 4], model.Optimizer(rmsprop=model.RmsProp(learning_rate=0.001, momentum=0.5)))]

    def __init__(self, number, project, token, seed):
        self.number = number
        self.project = project
        self.token = token
        self.rng = random.Random(f"{seed}-{project}-{number}")
        self.inputs, self.units, self.optimizer = self.KINDS[number % len(self.KINDS)]
        self.name = f"models/w{number}"
        self.ledger = []  # (method, request, answer)
        self.step = None  # None: no model
        self.checkpoints = {}  # name: step
        self.dataset = None
        self.changes = 0
        self.retries = 0
        self.abandoned = 0

    def request_id(self):
        self.changes += 1
        return f"w{self.number}-{self.changes}"

    def next_change(self):
        """Returns the method and the request of the next change."""
        if self.step is None:
            layers = [model.Layer(units=u) for u in self.units]
            spec = model.ModelSpec(input_size=self.inputs, layers=layers, optimizer=self.optimizer,
                                   seed=self.rng.randrange(1000))
            return "CreateModel", service.CreateModelRequest(
                model_id=f"w{self.number}", spec=spec, request_id=self.request_id())
        kind = self.rng.random()
        if kind < 0.74:
            request = self.a_step()
            if self.rng.random() < 0.5:
                request.expected_step = self.step
            return "Step", request
        if kind < 0.78:
            if self.rng.random() < 0.5 or len(self.checkpoints) > 20:
                return "ListCheckpoints", service.ListCheckpointsRequest(model=self.name, page_size=1000)
            return "CreateCheckpoint", service.CreateCheckpointRequest(
                model=self.name, checkpoint_id=f"c{self.changes}", request_id=self.request_id())
        if kind < 0.82 and self.checkpoints:
            name = self.rng.choice(sorted(self.checkpoints))
            if self.rng.random() < 0.4:
                return "DeleteCheckpoint", service.DeleteCheckpointRequest(
                    name=name, request_id=self.request_id())
            return "RestoreCheckpoint", service.RestoreCheckpointRequest(
                name=name, expected_step=self.step, request_id=self.request_id())
        if kind < 0.85:
            return self.about_a_dataset()
        if kind < 0.93:
            gradients, inputs = [], self.inputs
            for i, units in enumerate(self.units):
                gradients.append(tensor.NamedTensor(name=f"layers[{i}].weights",
                                                    tensor=float_tensor(self.rng, inputs, units)))
                gradients.append(tensor.NamedTensor(name=f"layers[{i}].bias",
                                                    tensor=float_tensor(self.rng, units)))
                inputs = units
            return "ApplyGradients", service.ApplyGradientsRequest(
                model=self.name, gradients=gradients, request_id=self.request_id())
        if kind < 0.96:
            bias = tensor.NamedTensor(name="layers[0].bias", tensor=float_tensor(self.rng, self.units[0]))
            return "SetParameters", service.SetParametersRequest(
                model=self.name, parameters=model.Parameters(tensors=[bias]), request_id=self.request_id())
        if kind < 0.99:
            config = training.TrainingConfig(iterations=self.rng.choice([50, 2000, 60000]), batch_size=8)
            if self.rng.random() < 0.5:
                config.validation_split = 0.25
                config.early_stopping.patience = 1000000
            if self.rng.random() < 0.5:
                config.checkpoints.every_iterations = self.rng.choice([20, 500])
                config.checkpoints.keep_last = 2
                config.checkpoints.keep_best = len(self.checkpoints) < 50
            request = service.TrainRequest(model=self.name, config=config, detach=True,
                                           request_id=self.request_id())
            if self.dataset is not None:
                request.dataset = self.dataset
            else:
                request.data.CopyFrom(batch(self.rng, 40, self.inputs, self.units[-1]))
            return "Train", request
        return "DeleteModel", service.DeleteModelRequest(name=self.name, request_id=self.request_id())

    def a_step(self):
        rows = self.rng.choice([1, 5, 16])
        return service.StepRequest(model=self.name, request_id=self.request_id(),
                                   batch=batch(self.rng, rows, self.inputs, self.units[-1]))

    def about_a_dataset(self):
        if self.dataset is not None:
            return "DeleteDataset", service.DeleteDatasetRequest(name=self.dataset,
                                                                 request_id=self.request_id())
        header = dataset.DatasetHeader(dataset_id=f"w{self.number}", request_id=self.request_id())
        messages = [service.UploadDatasetRequest(header=header)]
        rows = 0
        for _ in range(self.rng.choice([1, 4, 9])):
            chunk = dataset.DatasetChunk(first_row=rows, rows=batch(self.rng, 20, self.inputs, self.units[-1]))
            messages.append(service.UploadDatasetRequest(chunk=chunk))
            rows += 20
        messages.append(service.UploadDatasetRequest(commit=dataset.DatasetCommit(rows=rows)))
        return "UploadDataset", messages

    def expect(self, method, request, answer):
        """Returns the step count that the response must contain, and updates the state for the next change."""
        if method == "CreateModel":
            self.step = 0
            return answer.model.step
        if method == "DeleteModel":
            self.step = None
            self.checkpoints = {}
            return None
        if method == "CreateCheckpoint":
            self.checkpoints[answer.checkpoint.name] = answer.checkpoint.step
            return answer.checkpoint.step
        if method == "ListCheckpoints":
            for checkpoint in answer.checkpoints:
                known = self.checkpoints.get(checkpoint.name, checkpoint.step)
                if known != checkpoint.step:
                    raise AssertionError(f"{checkpoint.name} is of step {checkpoint.step}, was of {known}")
            missing = self.checkpoints.keys() - {checkpoint.name for checkpoint in answer.checkpoints}
            if any("/run-" not in name for name in missing):
                raise AssertionError(f"{self.name} has lost {missing}")
            self.checkpoints = {checkpoint.name: checkpoint.step for checkpoint in answer.checkpoints}
            return self.step
        if method == "RestoreCheckpoint":
            self.step = self.checkpoints[request.name]
            return answer.step
        if method == "DeleteCheckpoint":
            del self.checkpoints[request.name]
            return self.step
        if method == "UploadDataset":
            self.dataset = answer.dataset.name
            return self.step
        if method == "DeleteDataset":
            self.dataset = None
            return self.step
        if method in ("Step", "ApplyGradients"):
            self.step += 1
        if method == "Train":
            self.step += request.config.iterations
            # Which periodic checkpoints are left is seen when they are listed.
            self.checkpoints = {n: s for n, s in self.checkpoints.items() if "/run-" not in n}
        return answer.step

    def run(self, address, stop):
        self.address = address
        self.connect()
        while not stop.is_set():
            if self.step is not None and self.rng.random() < 0.05:
                self.abandon_a_step()
                continue
            method, request = self.next_change()
            answer = self.until_answered(method, request)
            told = self.expect(method, request, answer)
            if told != self.step:
                raise AssertionError(f"{self.name}: {method} {id_of(request)} answered step {told}, "
                                     f"the ledger is at {self.step}")
            self.ledger.append((method, request, comparable(method, answer)))
            time.sleep(self.rng.random() * 0.01)

    def abandon_a_step(self):
        """Sends a step without waiting for the response. The next one shows whether it was made."""
        request = self.a_step()
        lost = self.stub.Step.future(request, timeout=60)
        time.sleep(self.rng.random() * 0.002)
        lost.cancel()
        self.abandoned += 1
        time.sleep(0.02)
        probe = self.a_step()
        probe.expected_step = self.step
        try:
            answer = self.until_answered("Step", probe, {grpc.StatusCode.ABORTED})
        except grpc.RpcError:  # the step was made: the model's step count increased
            self.ledger.append(("Step", request, None))
            self.step += 1
            return
        self.step += 1
        if answer.step != self.step:
            raise AssertionError(f"{self.name}: step {answer.step} after an abandoned one, expected {self.step}")
        self.ledger.append(("Step", probe, comparable("Step", answer)))

    def connect(self):
        self.channel = grpc.insecure_channel(self.address, options=OF_ITS_OWN)
        self.stub = AuthorizedStub(self.channel, self.token)

    def until_answered(self, method, request, expected=()):
        while True:
            try:
                return call(self.stub, method, request)
            except grpc.RpcError as error:
                if error.code() in expected:
                    raise
                if error.code() not in RETRIABLE:
                    raise AssertionError(f"{self.name}: {method} {id_of(request)}: {error}") from None
                self.retries += 1
                time.sleep(0.01)
                self.channel.close()  # a new channel connects at once; an old one waits longer after each failure
                self.connect()


def id_of(request):
    return request[0].header.request_id if isinstance(request, list) else getattr(request, "request_id", "")


def call(stub, method, request):
    """Returns the response; for a run its summary."""
    if method == "UploadDataset":
        return stub.UploadDataset(iter(request), timeout=60)
    if method != "Train":
        return getattr(stub, method)(request, timeout=60)
    sequence, summary = 0, None
    for response in stub.Train(request, timeout=120):
        event = response.event
        if event.sequence != sequence + event.dropped + 1:
            raise AssertionError(f"{event.run}: event {event.sequence} after {sequence}, {event.dropped} dropped")
        sequence = event.sequence
        if event.HasField("summary"):
            summary = event.summary
    if summary is None:
        raise AssertionError("a run without a summary")
    return summary


def comparable(method, answer):
    """Returns the parts of a response that must be the same in the replay."""
    if method == "CreateModel":
        return answer.model.spec.SerializeToString(deterministic=True)
    if method == "Train":
        answer.ClearField("elapsed")
    if method == "CreateCheckpoint":
        answer.checkpoint.ClearField("create_time")
    if method == "ListCheckpoints":
        for checkpoint in answer.checkpoints:
            checkpoint.ClearField("create_time")
    if method == "UploadDataset":
        answer.dataset.ClearField("create_time")
    return answer.SerializeToString(deterministic=True)


def final_parameters(channel, worker):
    """Returns None if there is no such model."""
    stub = AuthorizedStub(channel, worker.token)
    request = service.GetParametersRequest(model=worker.name, encoding=tensor.TENSOR_ENCODING_RAW)
    while True:
        try:
            parameters = stub.GetParameters(request, timeout=60, wait_for_ready=True).parameters
            return parameters.SerializeToString(deterministic=True)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND and worker.step is None:
                return None
            if error.code() not in RETRIABLE:
                raise AssertionError(f"{worker.name}: {error}") from None


def check_models_of_projects(channel, workers):
    """Each project has the models of its workers, and no others."""
    for project in PROJECTS:
        own = [worker for worker in workers if worker.project == project]
        if not own:
            continue
        stub = AuthorizedStub(channel, own[0].token)
        listed = stub.ListModels(service.ListModelsRequest(page_size=1000), timeout=60).models
        expected = {worker.name for worker in own if worker.step is not None}
        if {found.name for found in listed} != expected:
            raise AssertionError(f"{project} has {sorted(found.name for found in listed)}, not {sorted(expected)}")


def replay(workers, finals, folder, *flags):
    """Repeats all changes in order in another process."""
    server = Server(folder, *flags)
    server.launch()
    atexit.register(lambda: server.process.poll() is None and server.process.kill())
    server.wait_ready()
    with grpc.insecure_channel(server.address, options=OF_ITS_OWN) as channel:
        for worker, final in zip(workers, finals):
            stub = AuthorizedStub(channel, worker.token)
            for method, request, answer in worker.ledger:
                again = comparable(method, call(stub, method, request))
                if answer is not None and again != answer:
                    raise AssertionError(f"{worker.project} {worker.name}: {method} {id_of(request)} was answered "
                                         "otherwise than in the replay")
            if final_parameters(channel, worker) != final:
                raise AssertionError(f"{worker.project} {worker.name}: the final parameters differ from the replay's")
    server.kill(signal.SIGTERM)


def make_auth_file(folder):
    """Returns its flags, and the token of a writer in each project."""
    made = {project: new_token(f"writer-of-{project}", "writer", project) for project in PROJECTS}
    path = pathlib.Path(folder) / "auth.json"
    path.write_text(json.dumps({"principals": [principal for _, principal in made.values()],
                                "projects": [{"name": project} for project in PROJECTS]}))
    return ("--auth-file", path), {project: token for project, (token, _) in made.items()}


def progress(text, end="\r"):
    if sys.stderr.isatty() or end == "\n":
        print(text, end=end, file=sys.stderr, flush=True)


def main():
    arguments = argparse.ArgumentParser(prog="scripts/crash", description=__doc__.split("\n")[0])
    arguments.add_argument("--kills", type=int, default=30)
    arguments.add_argument("--seed", type=int, default=None, help="default: a new one, which is printed")
    arguments.add_argument("--workers", type=int, default=6)
    options = arguments.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}, {options.kills} kills", flush=True)
    rng = random.Random(seed)
    folder = tempfile.mkdtemp(prefix="backprop_crash_")
    auth, tokens = make_auth_file(folder)
    server = Server(folder, "--data-dir", str(pathlib.Path(folder) / "data"), "--mark-interval", "0.05", *auth)
    # The server is stopped however this program ends.
    atexit.register(lambda: server.process.poll() is None and server.process.kill())
    workers = []
    for i in range(options.workers):
        project = PROJECTS[i % len(PROJECTS)]
        workers.append(Worker(i // len(PROJECTS), project, tokens[project], seed))
    stop, failures, while_starting = threading.Event(), [], 0
    server.launch()
    server.wait_ready()

    def work(worker):
        try:
            worker.run(server.address, stop)
        except BaseException as error:  # reported by the main thread
            failures.append(error)
            stop.set()

    threads = [threading.Thread(target=work, args=(worker,), daemon=True) for worker in workers]
    for thread in threads:
        thread.start()
    for kill in range(options.kills):
        if failures:
            break
        time.sleep(rng.choice([0.01, 0.1, 0.5, 1.0]) * rng.random())
        try:
            server.kill()
            server.launch()
            if rng.random() < 0.25:  # during the start
                time.sleep(rng.random() * 0.15)
                while_starting += 1
                server.kill()
                server.launch()
            server.wait_ready()
        except AssertionError as error:
            failures.append(error)
            stop.set()
            break
        progress(f"{kill + 1} of {options.kills} kills, {sum(len(w.ledger) for w in workers)} changes answered")
    stop.set()
    for thread in threads:
        if failures:  # no server would answer them
            break
        thread.join(timeout=180)
        if thread.is_alive():
            failures.append(AssertionError("a worker is never answered"))
    changes = sum(len(w.ledger) for w in workers)
    if not failures:
        try:
            # Again after loading from disk.
            server.kill()
            server.launch()
            server.wait_ready()
            with grpc.insecure_channel(server.address, options=OF_ITS_OWN) as channel:
                finals = [final_parameters(channel, worker) for worker in workers]
                check_models_of_projects(channel, workers)
            server.kill(signal.SIGTERM)
            progress(f"replaying {changes} changes", end="\n")
            replay(workers, finals, tempfile.mkdtemp(dir=folder), *auth)
        except AssertionError as error:
            failures.append(error)
    if failures:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        print(server.tail())
        sys.exit(f"FAILED with seed {seed}; everything is in {folder}\n" +
                 "\n".join(str(failure) for failure in failures[:3]))
    of = collections.Counter(method for w in workers for method, _, _ in w.ledger)
    print(f"{len(PROJECTS)} projects with the same ids, {options.kills} kills and {while_starting} more while starting, "
          f"{changes} changes answered "
          f"({of['Train']} runs, {of['CreateCheckpoint']} checkpoints, {of['RestoreCheckpoint']} restored, "
          f"{of['UploadDataset']} datasets), {sum(w.retries for w in workers)} calls cut off and repeated, "
          f"{sum(w.abandoned for w in workers)} steps abandoned: "
          "nothing lost, nothing twice, every bit equal to the replay")
    shutil.rmtree(folder)


main()
