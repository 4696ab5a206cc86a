"""Executes one scenario with one runner. README.md describes the language of scenarios."""

import base64
import hashlib
import pathlib
import tempfile
import threading
import time

from driver.link import Link, Spy
from driver.server import Server
from driver.values import MAX_INLINE_BYTES, Array, Mismatch, at, make_rows, match, shown

STEP_S = 90
UNTIL_S = 30
# RunStarted, Progress and TrainingSummary of a run, in order.
KINDS = ("started", "progress", "summary")


class NotOffered(Exception):
    """The client does not offer an operation that the scenario allows to be missing."""


class Scenario:
    """The state of one execution."""

    def __init__(self, script, book, runner, binary, made_rows):
        self.script, self.book, self.runner, self.made_rows = script, book, runner, made_rows
        self.saved, self.requests, self.links, self.spies = {}, {}, {}, {}
        self.refused = {}  # clients whose connect failed, as it may: the reply
        self.folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.folder.name)
        self.server = Server(binary, self.path, script.get("server", {}))

    def run(self):
        try:
            self.server.start()
            for number, step in enumerate(self.script["steps"], 1):
                try:
                    self._step(step)
                except Mismatch as error:
                    name = step.get("op") or step.get("do")
                    raise Mismatch(f"step {number} ({name}): {error}") from None
            self.runner.forget()
        finally:
            for link in self.links.values():
                link.close()
            self.server.close()
            self.folder.cleanup()

    # --- Arguments ---

    def rows(self, name):
        """The rows of a rule, by its name in the book or as an object."""
        rule = self.book["data"][name] if isinstance(name, str) else name
        key = repr(sorted(rule.items()))
        if key not in self.made_rows:
            self.made_rows[key] = make_rows(rule)
        return self.made_rows[key]

    def wire(self, value):
        """An array as the runner gets it."""
        form = {"shape": value.shape, "dtype": value.dtype}
        if len(value.raw) <= MAX_INLINE_BYTES:
            return {**form, "base64": base64.b64encode(value.raw).decode()}
        path = self.path / ("array-" + hashlib.sha256(value.raw).hexdigest()[:16])
        if not path.exists():
            path.write_bytes(value.raw)
        return {**form, "file": str(path)}

    def batches(self, rows, size, count):
        """`count` batches of `size` rows, from the first row on, again and again."""
        starts = [(i * size) % (rows.inputs.shape[0] - size + 1) for i in range(count)]
        return [{"inputs": part.inputs, "labels": part.labels}
                for part in (rows.slice(start, size) for start in starts)]

    def value(self, form):
        """Computes {"$…": …} in arguments."""
        if isinstance(form, list):
            return [self.value(item) for item in form]
        if not isinstance(form, dict):
            return form
        name = next((key for key in form if key.startswith("$")), None)
        if name is None:
            return {key: self.value(item) for key, item in form.items()}
        argument = form[name]
        if name in ("$inputs", "$labels", "$targets"):
            rows = self.rows(argument)
            if "count" in form:
                rows = rows.slice(form.get("first", 0), form["count"])
            return getattr(rows, name[1:])
        if name == "$batches":
            return self.value(self.batches(self.rows(argument), form["size"], form["count"]))
        if name == "$array":
            return Array.of(form["shape"], argument, form.get("dtype", "float32"))
        if name == "$spec":
            return {**self.book["specs"][argument], **form.get("with", {})}
        if name == "$saved":
            return at(self.saved[argument], form.get("at", ""))
        if name == "$path":
            return str(self.path / argument)
        if name == "$address":
            return self.server.address if argument == "server" else self.links[argument].address
        if name == "$id":  # of a request that runs in the background
            return self.requests[argument].number
        if name == "$token":
            return self.server.tokens[argument]
        if name == "$token_file":
            path = self.path / f"token-{argument}"
            path.write_text(self.server.tokens[argument] + "\n")
            return str(path)
        if name == "$tls":
            return str(self.server.files[argument])
        raise ValueError(f"unknown value {name}")

    def arguments(self, form):
        def encode(value):
            if isinstance(value, Array):
                return self.wire(value)
            if isinstance(value, list):
                return [encode(item) for item in value]
            if isinstance(value, dict):
                return {key: encode(item) for key, item in value.items()}
            return value
        return encode(self.value(form))

    # --- Steps ---

    def _step(self, step):
        if "op" not in step:
            getattr(self, "do_" + step["do"])(step)
            return
        args = self.arguments(step.get("args", {}))
        request = self.runner.send(step["op"], args, step.get("async", False))
        if step.get("async"):
            self.requests[step["as"]] = request
            return
        reply = self.runner.reply_of(request, step.get("timeout_s", STEP_S))
        # Some clients refuse wrong credentials when they connect, others at the first call.
        if step["op"] == "connect":
            self.refused.pop(args.get("as", "c"), None)
            if step.get("may_fail") and "error" in reply:
                self.refused[args.get("as", "c")] = reply
                return
        self._check(request, self.refused.get(args.get("client", "c"), reply), step)

    def _check_reply(self, request, step):
        self._check(request, self.runner.reply_of(request, step.get("timeout_s", STEP_S)), step)

    def _check(self, request, reply, step):
        if reply.get("unsupported"):
            if request.op in self.script.get("allow_unsupported", []):
                raise NotOffered(request.op)
            raise Mismatch(f"{request.op} is not offered, and this scenario requires it")
        if "error" in step:
            if "error" not in reply:
                raise Mismatch(f"a result {shown(reply['result'])} instead of the error {step['error']}")
            match(reply["error"], step["error"], self.saved, "error")
        else:
            if "error" in reply:
                raise Mismatch(f"the error {shown(reply['error'])}")
            match(reply["result"], step.get("expect", {}), self.saved)
            for name, path in step.get("save", {}).items():
                self.saved[name] = at(reply["result"], path)
        low, high = step.get("within_ms", (0, float("inf")))
        if not low <= request.took_ms <= high:
            raise Mismatch(f"the reply came after {request.took_ms:.0f} ms, not within {low} to {high} ms")
        if request.op in ("train", "watch"):
            self._check_events(request, reply)

    def _check_events(self, request, reply):
        """What holds for every stream of events: each once, in order, and reported as delivered."""
        sequences = [event["sequence"] for event in request.events]
        if any(a >= b for a, b in zip(sequences, sequences[1:])):
            raise Mismatch(f"events twice or out of order: {shown(sequences)}")
        order = [KINDS.index(event["kind"]) for event in request.events]
        if order != sorted(order) or order.count(0) > 1 or order.count(2) > 1:
            raise Mismatch(f"kinds of events out of order: {shown([e['kind'] for e in request.events])}")
        if "result" in reply and reply["result"].get("sequences") != sequences:
            raise Mismatch(f"sequences {shown(reply['result'].get('sequences'))}, but the events {shown(sequences)}")
        if len({event["run"] for event in request.events}) > 1:
            raise Mismatch("events of several runs")

    def do_wait_reply(self, step):
        self._check_reply(self.requests[step["of"]], step)

    def do_wait_event(self, step):
        """Waits for `count` events that match `where`."""
        request, where, count = self.requests[step["of"]], step.get("where", {}), step.get("count", 1)

        def matching():
            good = 0
            for event in request.events:
                try:
                    match(event, where, self.saved)
                    good += 1
                except Mismatch:
                    pass
            return good >= count or request.reply is not None
        self.runner.wait(matching, f"event {where}", step.get("timeout_s", STEP_S))
        if request.reply is not None and not step.get("or_reply"):
            raise Mismatch(f"the reply came before the events {where}: {shown(request.reply)}")

    def do_events(self, step):
        """Checks the list of all events of a request."""
        match(self.requests[step["of"]].events, step["expect"], self.saved, "events")

    def do_pending(self, step):
        """The request has no reply yet: what interrupts it now does so in its middle."""
        request = self.requests[step["of"]]
        time.sleep(step.get("ms", 0) / 1000)
        if request.reply is not None:
            raise Mismatch(f"{step['of']} has its reply already: {shown(request.reply)}")

    def do_kill(self, _):
        self.server.kill()

    def do_restart(self, step):
        if "flags" in step:
            self.server.flags += step["flags"]
        self.server.start()

    def do_terminate(self, _):
        self.server.terminate()

    def do_freeze(self, _):
        self.server.freeze()

    def do_thaw(self, _):
        self.server.thaw()

    def do_later(self, step):
        """Makes steps after a time, while the scenario goes on: for calls that wait for the server."""
        def work():
            for one in step["steps"]:
                self._step(one)
        threading.Timer(step["ms"] / 1000, work).start()

    def do_pause(self, step):
        time.sleep(step["ms"] / 1000)

    def do_link(self, step):
        self.links[step["name"]] = Link(self.server.port)

    def do_hold(self, step):
        self.links[step["link"]].hold(step["direction"], step.get("after_bytes", 0))

    def do_wait_held(self, step):
        link, deadline = self.links[step["link"]], time.monotonic() + step.get("timeout_s", UNTIL_S)
        while not link.held(step["direction"]):
            if time.monotonic() > deadline:
                raise Mismatch(f"the link held no {step['direction']}")
            time.sleep(0.005)

    def do_cut(self, step):
        self.links[step["link"]].cut(step.get("refuse", False))

    def do_silence(self, step):
        self.links[step["link"]].silence()

    def do_link_bytes(self, step):
        """Compares how many bytes passed a link."""
        match(self.links[step["link"]].bytes, step["expect"], self.saved, "bytes")

    def do_link_connections(self, step):
        match(self.links[step["link"]].accepted, step["expect"], self.saved, "connections")

    def do_same(self, step):
        names = step["values"]
        for name in names[1:]:
            if self.saved[name] != self.saved[names[0]]:
                raise Mismatch(f"{name} {shown(self.saved[name])} is not {names[0]} {shown(self.saved[names[0]])}")

    def do_different(self, step):
        first, second = (self.saved[name] for name in step["values"])
        if first == second:
            raise Mismatch(f"{step['values']} are equal: {shown(first)}")

    def do_set(self, step):
        self.saved[step["name"]] = self.value(step["value"])

    def do_slice(self, step):
        """Saves a part of a saved list."""
        self.saved[step["name"]] = self.saved[step["of"]][step.get("first", 0):step.get("end")]

    def do_damage(self, step):
        """Copies a file with one bit changed in its middle."""
        raw = bytearray((self.path / step["name"]).read_bytes())
        raw[len(raw) // 2] ^= 1
        (self.path / step["to"]).write_bytes(raw)

    def do_spy(self, step):
        """Listens on an address that is not of the loopback."""
        self.spies[step["name"]] = self.links[step["name"]] = Spy()

    def do_spied(self, step):
        seen = bytes(self.spies[step["spy"]].seen)
        if step["never"].encode() in seen:
            raise Mismatch(f"{step['never']} was sent in clear text")

    # --- The observer ---

    def do_observe(self, step):
        """Saves or checks what the command line sees: "step" or "parameters" of a model, "rows" of a dataset."""
        seen = self._see(step)
        if "expect" in step:
            match(seen, step["expect"], self.saved, step["what"])
        if "save" in step:
            self.saved[step["save"]] = seen

    def _see(self, step):
        what = step["what"]
        if what == "step":
            return self.server.step_of(step["model"])
        if what == "parameters":
            return self.server.parameters_of(step["model"], step.get("dtype", "float32"))
        if what == "rows":
            return self.server.rows_of(step["dataset"])
        if what == "probabilities":
            return self._observed_prediction(step)
        if what == "json":
            return self.server.ask(*(str(self.value(word)) for word in step["command"]))
        raise ValueError(what)

    def _observed_prediction(self, step):
        inputs = self.value(step["inputs"])
        path = self.path / "rows.npy"
        header = "{'descr': '%s', 'fortran_order': False, 'shape': (%d, %d), }" % (
            {"float32": "<f4", "float64": "<f8"}[inputs.dtype], *inputs.shape)
        header += " " * (63 - (len(header) + 10) % 64) + "\n"
        path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + inputs.raw)
        tensor = self.server.ask("predict", step["model"], "--data", str(path), "--probabilities")["probabilities"]
        return Array.of(tensor["shape"], tensor["values"], step.get("dtype", "float32"))

    def do_until(self, step):
        """Repeats an observation until it is as expected."""
        deadline = time.monotonic() + step.get("timeout_s", UNTIL_S)
        while True:
            try:
                match(self._see(step), step["expect"], self.saved, step["what"])
                return
            except Mismatch:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.02)
