"""A TCP link on the loopback between a client and the server that a scenario holds and cuts."""

import socket
import struct
import threading

PIECE_BYTES = 1 << 14
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing resets the connection


class Link:
    """Forwards connections to 127.0.0.1:`port`. Bytes are counted in each direction: requests go to the
    server, responses to the client."""

    def __init__(self, port):
        self.port = port
        self.lock = threading.Condition()
        self.connections = set()  # pairs of sockets
        self.silent = set()       # those that stay open and forward nothing
        self.bytes = {"requests": 0, "responses": 0}
        # How many more bytes pass in each direction. None: no limit.
        self.budget = {"requests": None, "responses": None}
        self.refusing = False
        self.accepted = 0
        self.closed = False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self, direction, after_bytes=0):
        """After so many more bytes nothing passes in a direction. Held responses are lost; held requests stay
        with the client. End it with cut()."""
        with self.lock:
            self.budget[direction] = after_bytes

    def held(self, direction):
        """Whether something is held."""
        with self.lock:
            return self.budget[direction] is not None and self.budget[direction] < 0

    def cut(self, refuse=False):
        """Resets all connections. New ones are forwarded without limits or, with `refuse`, reset."""
        with self.lock:
            self.refusing = refuse
            self.budget = {"requests": None, "responses": None}
            pairs, self.connections = self.connections, set()
            self.silent = set()
            self.lock.notify_all()
        for pair in pairs:
            self._reset(pair)

    def silence(self):
        """Connections stay open and forward nothing more, as if the peer had lost its power; new ones work."""
        with self.lock:
            self.silent |= self.connections

    def close(self):
        self.closed = True
        self.cut(refuse=True)
        self.listener.close()

    @staticmethod
    def _reset(pair):
        for end in pair:
            try:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    def _accept(self):
        while not self.closed:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.accepted += 1
                refusing = self.refusing
            try:
                if refusing:
                    raise ConnectionRefusedError
                server = socket.create_connection(("127.0.0.1", self.port), timeout=5)
                server.settimeout(None)
            except OSError:
                self._reset((client,))
                continue
            pair = (client, server)
            for end in pair:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.connections.add(pair)
            threading.Thread(target=self._pump, args=(pair, client, server, "requests"), daemon=True).start()
            threading.Thread(target=self._pump, args=(pair, server, client, "responses"), daemon=True).start()

    def _admit(self, pair, direction, size):
        """How many of `size` bytes pass now; None if the connection was cut."""
        with self.lock:
            if pair not in self.connections:
                return None
            budget = 0 if pair in self.silent else self.budget[direction]
            passing = size if budget is None else max(0, min(size, budget))
            if pair not in self.silent and budget is not None:
                # Negative: something is held.
                self.budget[direction] = budget - passing if passing == size else -1
            self.bytes[direction] += passing
            return passing

    def _pump(self, pair, source, target, direction):
        try:
            while piece := source.recv(PIECE_BYTES):
                passing = self._admit(pair, direction, len(piece))
                if passing is None:
                    return
                target.sendall(piece[:passing])
                if passing < len(piece) and direction == "requests":
                    with self.lock:  # reads no more, so that the client is held back
                        self.lock.wait_for(lambda: pair not in self.connections)
                    return
        except OSError:
            pass
        finally:
            with self.lock:
                known = pair in self.connections
                self.connections.discard(pair)
            if known:
                self._reset(pair)


class Spy:
    """Listens on the address of this machine in its network and remembers what is sent to it. Without a network
    it is 0.0.0.0, which also reaches this machine and is not of the loopback."""

    def __init__(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1", 9))  # chooses a route and sends nothing
                host = probe.getsockname()[0]
            except OSError:
                host = "0.0.0.0"
        self.listener = socket.create_server((host, 0))
        self.address = "%s:%d" % (host, self.listener.getsockname()[1])
        self.seen = bytearray()
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self):
        self.listener.close()

    def _listen(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._remember, args=(connection,), daemon=True).start()

    def _remember(self, connection):
        try:
            # An empty SETTINGS frame: a client of HTTP/2 then makes its call.
            connection.sendall(b"\0\0\0\x04\0\0\0\0\0")
            while piece := connection.recv(PIECE_BYTES):
                self.seen += piece
        except OSError:
            pass
        finally:
            connection.close()
