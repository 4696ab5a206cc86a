"""The runner of a client: a process that executes operations with the public API of its package."""

import json
import os
import subprocess
import threading
import time

from driver.values import Mismatch, from_wire


class RunnerDied(RuntimeError):
    """The runner ended, or wrote something else than the protocol allows."""


class Request:
    """A request that was sent: its events, and its reply when it has one."""

    def __init__(self, number, op):
        self.number, self.op = number, op
        self.sent = time.monotonic()
        self.events = []
        self.reply = None
        self.took_ms = None


class Runner:
    """Replies and events are collected by a thread. `changed` is notified for each."""

    def __init__(self, command, environment=None):
        own = ("BACKPROP_SERVER", "BACKPROP_CONTEXT", "BACKPROP_TOKEN")
        env = {k: v for k, v in os.environ.items() if k not in own}
        env.update(environment or {})
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        self.changed = threading.Condition()
        self.requests = {}
        self.next = 1
        self.fault = None
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            for line in self.process.stdout:
                message = json.loads(line)
                with self.changed:
                    request = self.requests[message["id"]]
                    if "event" in message:
                        request.events.append(message["event"])
                        if request.reply is not None:
                            raise ValueError("an event after the reply")
                    elif request.reply is not None:
                        raise ValueError("a second reply")
                    else:
                        request.took_ms = (time.monotonic() - request.sent) * 1000
                        request.reply = message
                    self.changed.notify_all()
            fault = "its standard output ended"
        except (ValueError, KeyError) as error:
            fault = f"it wrote {line[:200]!r}: {error!r}"
        with self.changed:
            self.fault = fault
            self.changed.notify_all()

    def send(self, op, args, run_async=False):
        with self.changed:
            request = Request(self.next, op)
            self.requests[self.next] = request
            self.next += 1
        line = json.dumps({"id": request.number, "op": op, "args": args, "async": run_async})
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise RunnerDied(f"the runner takes no requests: {error}") from error
        return request

    def wait(self, good, what, timeout_s):
        """Waits until `good()`, which sees replies and events."""
        with self.changed:
            if self.changed.wait_for(lambda: good() or self.fault is not None, timeout_s) and good():
                return
            if self.fault is not None:
                raise RunnerDied(f"the runner ended ({self.process.poll()}): {self.fault}")
        raise Mismatch(f"no {what} within {timeout_s} s")

    def reply_of(self, request, timeout_s):
        self.wait(lambda: request.reply is not None, f"reply to {request.op}", timeout_s)
        return {key: from_wire(value) if key == "result" else value for key, value in request.reply.items()}

    def forget(self):
        """After a scenario: all requests must have been answered."""
        with self.changed:
            open_ones = [one.op for one in self.requests.values() if one.reply is None]
        if open_ones:
            raise Mismatch(f"requests without a reply at the end: {open_ones}")

    def close(self):
        """Ends the input; a runner then exits with 0."""
        try:
            self.process.stdin.close()
        except OSError:
            pass
        try:
            return self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None
