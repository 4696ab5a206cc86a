"""The conformance runner of the Python client: requests as lines of JSON on standard input, replies
on standard output. tests/conformance describes the protocol.

    runner.py [--aio]    with --aio through backprop.aio
"""

import asyncio
import base64
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import backprop
import backprop.aio

_out = threading.Lock()


def say(message):
    line = json.dumps(message)
    with _out:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def to_array(value, dtype=None):
    """An array of the protocol; numbers in a list as they are."""
    if value is None:
        return None
    if isinstance(value, list):
        return np.array(value)
    kind = np.dtype(value.get("dtype", "float32")).newbyteorder("<")
    if "file" in value:
        flat = np.fromfile(value["file"], kind)
    else:
        flat = np.frombuffer(base64.b64decode(value["base64"]), kind)
    try:
        return flat.reshape(value["shape"])
    except ValueError:  # for the client to refuse
        return flat


def from_array(array, file=None):
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    about = {"shape": list(array.shape), "dtype": array.dtype.name}
    if file is not None:
        array.tofile(file)
        return {**about, "file": file}
    return {**about, "base64": base64.b64encode(array.tobytes()).decode()}


def from_tensors(tensors, file=None):
    return {name: from_array(array, None if file is None else f"{file}.{i}")
            for i, (name, array) in enumerate(tensors.items())}


def error_of(error):
    return {"code": error.code, "message": error.message,
            "violations": [{"field": v.field, "description": v.description}
                           for v in error.violations],
            "reason": error.reason, "metadata": error.metadata}


def event_of(event):
    about = {"run": event.run, "sequence": event.sequence, "dropped": event.dropped}
    body = event.body
    if isinstance(body, backprop.Progress):
        return {**about, "kind": "progress", "iteration": body.iteration, "step": body.step,
                "loss": body.metrics.loss}
    if isinstance(body, backprop.RunStarted):
        return {**about, "kind": "started"}
    return {**about, "kind": "summary", **summary_of(body)}


def summary_of(summary):
    return {"stop_reason": summary.stop_reason.upper(), "iterations": summary.iterations,
            "step": summary.step, "message": summary.message,
            "loss": None if summary.metrics is None else summary.metrics.loss}


def rows_of(args):
    return {"inputs": to_array(args.get("inputs")), "labels": to_array(args.get("labels")),
            "targets": to_array(args.get("targets"))}


def timeout_of(args):
    return {"timeout": args["timeout_ms"] / 1000} if "timeout_ms" in args else {}


def given(args, *names):
    return {name: args[name] for name in names if args.get(name) is not None}


class Runner:
    """The operations, each a coroutine over calls that are made by `do` and loops over `each`, so
    that both clients run the same code.
    """

    def __init__(self, asynchronous):
        self.asynchronous = asynchronous
        self.module = backprop.aio if asynchronous else backprop
        self.clients = {}
        self.active = {}  # id -> what cancels the request
        self.pool = ThreadPoolExecutor(32)

    def client(self, args):
        return self.clients[args.get("client", "c")]

    # Blocking calls run in threads, where a Cancellation cancels them; coroutines are awaited.
    async def do(self, number, method, *args, **options):
        if self.asynchronous:
            return await method(*args, **options)
        options["cancellation"] = self.cancellation(number)
        return await asyncio.get_running_loop().run_in_executor(
            self.pool, lambda: method(*args, **options))

    def cancellation(self, number):
        return self.active.setdefault(number, backprop.Cancellation())

    async def collect(self, number, iterator, see):
        """Passes items to see until it returns False."""
        if self.asynchronous:
            async for item in iterator:
                if see(item) is False:
                    break
            return

        def loop():
            for item in iterator:
                if see(item) is False:
                    break
        await asyncio.get_running_loop().run_in_executor(self.pool, loop)

    def started(self, number, method, *args, **options):
        """Starts a call that returns an iterator."""
        if not self.asynchronous:
            options["cancellation"] = self.cancellation(number)
        return method(*args, **options)

    async def op_connect(self, number, a):
        retry = {}
        for name, value in a.get("retry", {}).items():
            retry[name.replace("_ms", "")] = value / 1000 if name.endswith("_ms") else value
        if "first_pause" in retry or "last_pause" in retry:
            retry.setdefault("last_pause", max(1.0, retry.get("first_pause", 0)))
            retry.setdefault("first_pause", min(0.05, retry["last_pause"]))
        tls = None
        if "ca" in a or "cert" in a:
            tls = backprop.Tls(ca=a.get("ca"), certificate=a.get("cert"), key=a.get("key"))
        self.clients[a.get("as", "c")] = self.module.Client(
            a["address"], tls=tls, retry=backprop.Retry(**retry),
            **given(a, "token", "token_file"))
        return {}

    async def op_create_model(self, number, a):
        model = await self.do(number, self.client(a).create_model,
                              backprop.ModelSpec.from_json(a["spec"]),
                              **given(a, "model_id", "labels", "request_id"))
        return {"name": model.name, "step": model.step, "parameter_count": model.parameter_count}

    async def op_get_model(self, number, a):
        model = await self.do(number, self.client(a).get_model, a["model"])
        return {"name": model.name, "step": model.step, "spec": model.spec.to_json()}

    async def op_delete_model(self, number, a):
        await self.do(number, self.client(a).delete_model, a["model"], **given(a, "request_id"))
        return {}

    async def op_list_models(self, number, a):
        names = []
        await self.collect(number, self.started(
            number, self.client(a).list_models, **given(a, "labels", "page_size")),
            lambda model: names.append(model.name))
        return {"names": names}

    async def follow(self, number, run, leave_after=None):
        sequences = []

        def see(event):
            sequences.append(event.sequence)
            say({"id": number, "event": event_of(event)})
            return None if leave_after is None else len(sequences) < leave_after

        await self.collect(number, run, see)
        last = {} if run.summary is None else summary_of(run.summary)
        return {**last, "sequences": sequences}

    async def op_train(self, number, a):
        run = self.started(number, self.client(a).start_training, a["model"], **rows_of(a),
                           **given(a, "dataset", "iterations", "epochs", "batch_size",
                                   "report_every", "detach", "request_id"), **timeout_of(a))
        return await self.follow(number, run, a.get("cancel_after_events"))

    async def op_watch(self, number, a):
        run = self.started(number, self.client(a).watch_training, a["model"],
                           **given(a, "run", "from_sequence"), **timeout_of(a))
        return await self.follow(number, run)

    async def op_stop_training(self, number, a):
        stopped = await self.do(number, self.client(a).stop_training, a["model"])
        return {"run": stopped.run, "iterations": stopped.summary.iterations}

    async def op_step(self, number, a):
        made = await self.do(number, self.client(a).step, a["model"], **rows_of(a),
                             **given(a, "expected_step", "request_id"), **timeout_of(a))
        return {"step": made.step, "loss": made.loss}

    async def op_steps(self, number, a):
        made = []
        batches = ((to_array(b["inputs"]), to_array(b["labels"])) for b in a["batches"])
        await self.collect(number, self.started(
            number, self.client(a).steps, a["model"], batches, **given(a, "in_flight")),
            made.append)
        return {"steps": [m.step for m in made], "losses": [m.loss for m in made]}

    async def op_predict(self, number, a):
        found = await self.do(number, self.client(a).predict, a["model"], to_array(a["inputs"]),
                              **timeout_of(a))
        result = {"step": found.step}
        for name in ("probabilities", "logits"):
            if getattr(found, name) is not None:
                result[name] = from_array(getattr(found, name), a.get("to_file"))
        if found.classes is not None:
            result["classes"] = found.classes.tolist()
        return result

    async def op_evaluate(self, number, a):
        found = await self.do(number, self.client(a).evaluate, a["model"], **rows_of(a))
        accuracy = found.metrics.accuracy
        return {"loss": found.metrics.loss, **({} if accuracy is None else {"accuracy": accuracy})}

    async def op_grad_check(self, number, a):
        found = await self.do(number, self.client(a).grad_check, a["model"], **rows_of(a))
        return {"verdict": found.verdict.upper(), "max_relative_error": found.max_relative_error}

    async def op_compute_gradients(self, number, a):
        found = await self.do(number, self.client(a).compute_gradients, a["model"], **rows_of(a))
        return {"tensors": from_tensors(found.tensors), "weight": found.weight}

    async def op_apply_gradients(self, number, a):
        named = {name: to_array(value) for name, value in a["tensors"].items()}
        made = await self.do(number, self.client(a).apply_gradients, a["model"], named,
                             **given(a, "expected_step"))
        return {"step": made.step}

    async def op_get_parameters(self, number, a):
        found = await self.do(number, self.client(a).get_parameters, a["model"])
        return {"tensors": from_tensors(found.tensors, a.get("to_file")), "step": found.step}

    async def op_set_parameters(self, number, a):
        named = {name: to_array(value) for name, value in a["tensors"].items()}
        return {"step": await self.do(number, self.client(a).set_parameters, a["model"], named)}

    async def op_create_checkpoint(self, number, a):
        made = await self.do(number, self.client(a).create_checkpoint, a["model"], a["checkpoint"],
                             **given(a, "request_id"))
        return {"name": made.name}

    async def op_restore_checkpoint(self, number, a):
        return {"step": await self.do(number, self.client(a).restore_checkpoint, a["model"],
                                      a["checkpoint"], **given(a, "request_id"))}

    async def op_delete_checkpoint(self, number, a):
        await self.do(number, self.client(a).delete_checkpoint, a["model"], a["checkpoint"])
        return {}

    async def op_list_checkpoints(self, number, a):
        names = []
        await self.collect(number, self.started(
            number, self.client(a).list_checkpoints, a["model"]),
            lambda checkpoint: names.append(checkpoint.name))
        return {"names": names}

    async def op_upload_dataset(self, number, a):
        made = await self.do(
            number, self.client(a).upload_dataset, a["dataset"], **rows_of(a),
            on_progress=lambda rows: say({"id": number, "event": {"rows": rows}}),
            **given(a, "chunk_rows", "request_id"))
        return {"name": made.name, "rows": made.rows}

    async def op_get_dataset(self, number, a):
        found = await self.do(number, self.client(a).get_dataset, a["dataset"])
        return {"name": found.name, "rows": found.rows, "ready": found.ready}

    async def op_list_datasets(self, number, a):
        names = []
        await self.collect(number, self.started(number, self.client(a).list_datasets),
                           lambda dataset: names.append(dataset.name))
        return {"names": names}

    async def op_delete_dataset(self, number, a):
        await self.do(number, self.client(a).delete_dataset, a["dataset"])
        return {}

    async def op_export_model(self, number, a):
        import os

        await self.do(number, self.client(a).export_model, a["model"], a["path"])
        return {"bytes": os.path.getsize(a["path"])}

    async def op_import_model(self, number, a):
        made = await self.do(number, self.client(a).import_model, a["path"], a.get("model_id"),
                             **given(a, "request_id"))
        return {"name": made.name, "step": made.step}

    async def op_health(self, number, a):
        return {"serving": await self.do(number, self.client(a).health)}

    async def op_cancel(self, number, a):
        cancel = self.active.get(a["target"])
        if cancel is not None:
            cancel.cancel()
        return {}

    async def run(self, request):
        number = request["id"]
        operation = getattr(self, "op_" + request["op"], None)
        if operation is None:
            say({"id": number, "unsupported": True})
            return
        try:
            say({"id": number, "result": await operation(number, request.get("args", {}))})
        except backprop.Error as error:
            say({"id": number, "error": error_of(error)})
        except asyncio.CancelledError:
            say({"id": number, "error": {"code": "CANCELLED", "message": "the task was cancelled",
                                         "violations": [], "reason": "", "metadata": {}}})
        except Exception as error:
            say({"id": number, "error": {
                "code": "RUNNER", "message": f"{type(error).__name__}: {error}", "violations": [],
                "reason": "", "metadata": {}}})
        finally:
            self.active.pop(number, None)

    async def main(self):
        loop = asyncio.get_running_loop()
        background = set()
        reader = ThreadPoolExecutor(1)
        while True:
            line = await loop.run_in_executor(reader, sys.stdin.readline)
            if not line:
                break
            request = json.loads(line)
            task = loop.create_task(self.run(request))
            if self.asynchronous:
                self.active[request["id"]] = task
            if request.get("async"):
                background.add(task)
                task.add_done_callback(background.discard)
            else:
                await task
        for task in background:
            task.cancel()
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(Runner("--aio" in sys.argv[1:]).main())
    import os

    os._exit(0)  # blocking calls may still be under way in threads
