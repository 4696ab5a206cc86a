"""A TCP proxy on the loopback that can stop forwarding, slow down, and count what it forwards."""

import selectors
import socket
import threading
import time


class Proxy:
    """Forwards to `target` ("host:port"); a context manager. `delay_s` delays all
    bytes in each direction."""

    def __init__(self, target, delay_s=0.0):
        host, port = target.rsplit(":", 1)
        self.target = (host, int(port))
        self.delay_s = delay_s
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.forwarding = threading.Event()
        self.forwarding.set()
        self.frozen_up_to = 0
        self.last_cut = 0
        self.ended = threading.Event()
        self.connections = 0
        self.sockets = []
        self.threads = []

    def __enter__(self):
        self._start(self._accept)
        return self

    def __exit__(self, *exc):
        self.ended.set()
        self.forwarding.set()
        self.listener.close()
        for end in self.sockets:
            end.close()
        for thread in self.threads:
            thread.join(timeout=10)

    def freeze(self):
        """Stops forwarding; connections stay open, and new ones are accepted."""
        self.forwarding.clear()

    def thaw(self, after=0):
        """Forwards again, except on the first `after` connections."""
        self.frozen_up_to = after
        self.forwarding.set()

    def cut(self, connections):
        """Closes both ends of the first `connections` connections, also while frozen."""
        self.last_cut = connections

    def _start(self, work, *arguments):
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self.threads.append(thread)
        thread.start()

    def _over(self, number):
        return self.ended.is_set() or number <= self.last_cut

    def _frozen(self, number):
        """Whether a connection is frozen; waits briefly for it to thaw."""
        if number <= self.frozen_up_to:
            time.sleep(0.05)
            return True
        return not self.forwarding.wait(0.05)

    def _accept(self):
        self.listener.settimeout(0.05)
        while not self.ended.is_set():
            try:
                client, _ = self.listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            self.connections += 1
            try:
                server = socket.create_connection(self.target)
            except OSError:
                client.close()
                continue
            self.sockets += [client, server]
            self._start(self._forward, client, server, self.connections)

    def _forward(self, client, server, number):
        other = {client: server, server: client}
        with selectors.DefaultSelector() as selector:
            for end in other:
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(end, selectors.EVENT_READ)
            try:
                while not self._over(number):
                    if self._frozen(number):
                        continue
                    for key, _ in selector.select(0.05):
                        piece = key.fileobj.recv(1 << 16)
                        if not piece:
                            return
                        time.sleep(self.delay_s)
                        # Bytes read before the link froze are not forwarded.
                        while self._frozen(number):
                            if self._over(number):
                                return
                        other[key.fileobj].sendall(piece)
            except OSError:
                pass
            finally:
                client.close()
                server.close()
