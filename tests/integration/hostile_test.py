"""A short version of scripts/hostile: small attacks, each with a limit on what they may cost."""

import sys
import unittest

from attacks import Scale
from hostile import measure

QUICK = ("--keepalive-time", "1", "--keepalive-timeout", "1", "--max-connection-idle", "1",
         "--stream-idle-timeout", "2")


class HostilePeersTest(unittest.TestCase):
    def attack(self, name, through="bare", amount=0.05, growth_mb=100, closed=None, errors=0, hold_s=1.0,
               flags=(), stop_s=4):
        """Fails if the attack costs more than `growth_mb`, disturbs the honest client in more than `errors`
        calls, leaves fewer than `closed` of the attacker's connections closed, or the server does not recover."""
        result = measure(name, through, Scale(amount=amount, seconds=15, hold_s=hold_s), flags, settle_s=10,
                         settle_mb=growth_mb)
        shown = "\n" + result.HEAD + "\n" + result.row() + "\n" + "\n".join(sorted(set(result.honest_errors))[:5])
        self.assertTrue(result.alive, shown)
        self.assertLess(result.growth_mb, growth_mb, shown)
        self.assertGreater(result.honest_calls, 10, shown)
        self.assertLessEqual(len(result.honest_errors), errors, shown)
        self.assertLess(result.honest_p99_ms, 1500, shown)
        # An edge keeps a few connections to the server for later calls.
        self.assertLessEqual(result.left_fds, 0 if through == "bare" else 2, shown)
        self.assertLess(result.stop_s, stop_s, shown)
        if closed is not None:
            self.assertGreaterEqual(result.outcome.closed, closed * result.outcome.connections, shown)
        return result


class BareTest(HostilePeersTest):
    """What the server bounds without an edge."""

    def test_half_sent_messages(self):
        # 15 × 31 MB are held. The honest client may lose its connection once, and is told so.
        result = self.attack("half_messages", amount=0.3, growth_mb=250, errors=5,
                             flags=("--max-in-flight-bytes", "64MB"))
        self.assertGreater(result.outcome.sent_bytes, 100e6)

    def test_half_headers_are_closed(self):
        self.attack("half_headers", closed=1, hold_s=6, flags=QUICK)

    def test_silent_connections_are_closed(self):
        self.attack("silence", closed=1, hold_s=6, flags=QUICK)

    def test_step_streams_that_are_not_read(self):
        self.attack("deaf_step_stream", closed=1, growth_mb=400, hold_s=8, flags=QUICK)

    def test_backups_that_are_not_read(self):
        self.attack("unread_backups", amount=0.5, growth_mb=200, flags=("--max-in-flight-bytes", "64MB"))

    def test_responses_that_are_not_read(self):
        # 5 × 20 × 16 MB are asked for.
        self.attack("slow_reader", amount=0.1, growth_mb=400, flags=("--max-in-flight-bytes", "64MB"))

    def test_ping_flood(self):
        self.attack("ping_flood", closed=1)

    def test_settings_flood(self):
        self.attack("settings_flood")

    def test_window_flood(self):
        self.attack("window_flood")

    def test_priority_flood(self):
        self.attack("priority_flood")

    def test_huge_metadata(self):
        self.attack("huge_metadata")


class EdgeTest(HostilePeersTest):
    """What gRPC 1.51 does not bound, and the edges do. The memory is that of edge and server together."""

    def test_envoy(self):
        # On a busy machine Envoy does not always close a connection with many streams; it bounds them.
        for name, closed in (("continuation", None), ("streams", None), ("rapid_reset", 1), ("ping_flood", 1),
                             ("settings_flood", 1), ("window_flood", 1), ("huge_metadata", 1),
                             ("priority_flood", 1)):
            with self.subTest(name):
                self.attack(name, "envoy", closed=closed)

    def test_nginx(self):
        for name, closed in (("continuation", 1), ("streams", 1), ("rapid_reset", None), ("ping_flood", None),
                             ("settings_flood", None), ("window_flood", None), ("huge_metadata", 1),
                             ("priority_flood", None)):
            with self.subTest(name):
                self.attack(name, "nginx", closed=closed)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + ["-v"])
