"""Every build of the engine that this machine supports: each reports its instruction set, and a run of
the same model gives the same result within rounding. BACKPROP_ENGINES lists "set=directory" pairs."""

import json
import os
import unittest

from harness import Server, cli

ENGINES = dict(pair.split("=", 1) for pair in os.environ["BACKPROP_ENGINES"].split(","))
ITERATIONS = 3000


def train(name, folder):
    """Returns (version, parameters after the XOR run) of a server with the engine in a directory."""
    with Server(env={"LD_LIBRARY_PATH": folder}) as server:
        def run(*arguments):
            result = cli(*arguments, server=server.address)
            assert result.returncode == 0, result.stderr
            return result.stdout
        run("create", "m", "--inputs", "2", "--layers", "8:relu,2", "--learning-rate", "0.5", "--seed", "149")
        run("train", "m", "--data", "xor", "--data-seed", "149", "--iterations", str(ITERATIONS))
        state = json.loads(run("parameters", "get", "m"))
        return server.log(), numbers(state)


def numbers(value):
    if isinstance(value, dict):
        return [x for key in sorted(value) for x in numbers(value[key])]
    if isinstance(value, list):
        return [x for item in value for x in numbers(item)]
    return [value] if isinstance(value, float) else []


class InstructionSetsTest(unittest.TestCase):
    def test_runs_agree_within_rounding(self):
        self.assertGreaterEqual(len(ENGINES), 1)
        results = {}
        for name, folder in ENGINES.items():
            log, results[name] = train(name, folder)
            self.assertIn(name, log, "the log says which build is running")
            self.assertEqual(train(name, folder)[1], results[name], "the same bits again")
        first, *others = results
        for other in others:
            pairs = list(zip(results[first], results[other], strict=True))
            self.assertGreater(len(pairs), 40)
            worst = max(abs(a - b) / max(1, abs(a)) for a, b in pairs)
            print(f"{first} and {other}: largest difference after {ITERATIONS} iterations {worst:.1e}")
            self.assertLessEqual(worst, 1e-4)


if __name__ == "__main__":
    unittest.main()
