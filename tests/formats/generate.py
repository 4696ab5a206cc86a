"""Creates the fixture of the current format: the data of a killed server, a backup and an export, and a
description of their contents. scripts/format-fixture runs it for a release; formats_test.py reads it."""

import json
import pathlib
import sys
import tarfile
import tempfile
import time

from auth_test import new_token
from contents import OTHER_PROJECT, auth_file, contents, parameters, step, steps_of_run, stub_of
from harness import Server, cli

HERE = pathlib.Path(__file__).resolve().parent


def ok(server, *arguments):
    result = cli(*arguments, server=server.address)
    assert result.returncode == 0, result.stderr


def at_rest(server):
    """Data that a graceful stop writes to tables."""
    for model_id, optimizer in (("a", "adam"), ("b", "sgd")):
        ok(server, "create", model_id, "--inputs", 2, "--layers", "8,2", "--optimizer", optimizer,
           "--learning-rate", 0.01, "--label", f"kind={optimizer}")
        ok(server, "train", model_id, "--data", "xor", "--iterations", 40)
        ok(server, "checkpoint", "create", model_id, "at-40")
    ok(server, "dataset", "upload", "d", "--data", "spirals", "--n", 3000)
    ok(server, "create", "gone", "--inputs", 2, "--layers", "2")
    ok(server, "delete", "gone")


def in_the_log(server):
    """Data that a kill leaves in the log: states, steps to repeat, an active run."""
    ok(server, "train", "a", "--data", "xor", "--iterations", 10)
    ok(server, "create", "steps", "--inputs", 2, "--layers", "48:tanh,2", "--momentum", 0.9)
    for i in range(7):
        step(stub_of(server), "models/steps", f"r{i}")
    ok(server, "create", "running", "--inputs", 2, "--layers", "8,2")
    ok(server, "train", "running", "--dataset", "d", "--iterations", 10**12, "--batch-size", 16,
       "--validation-split", 0.2, "--report-every", 1000, "--checkpoint-every", 100000, "--detach")


def in_another_project(server, token):
    """The same ids as those of the project `default`, and other contents."""
    env = {"BACKPROP_TOKEN": token}
    for arguments in (("create", "a", "--inputs", 2, "--layers", "5,2", "--optimizer", "adam"),
                      ("train", "a", "--data", "xor", "--iterations", 30),
                      ("checkpoint", "create", "a", "at-40"),
                      ("dataset", "upload", "d", "--data", "xor", "--n", 50)):
        result = cli(*arguments, server=server.address, env=env)
        assert result.returncode == 0, result.stderr


def main():
    store_format = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / store_format
        out.mkdir()
        data = ["--data-dir", str(out / "data"), "--mark-interval", "0.1"]
        with Server(*data) as server:
            at_rest(server)
            expected = {"at-40": parameters(stub_of(server), "models/a")}
            step(stub_of(server), "models/a")
            expected["at-41"] = parameters(stub_of(server), "models/a")
        token = auth_file(pathlib.Path(folder) / "auth.json", new_token)
        with Server(*data, "--auth-file", str(pathlib.Path(folder) / "auth.json")) as server:
            in_another_project(server, token)
            expected[OTHER_PROJECT] = contents(stub_of(server, token))
        with Server(*data, expect_exit=-9) as server:
            in_the_log(server)
            time.sleep(0.5)
            expected["steps_of_run"] = steps_of_run(stub_of(server))
            time.sleep(0.5)  # several marks later
            ok(server, "backup", out / "all.backup")
            ok(server, "export", "a", out / "a.model")
            expected |= contents(stub_of(server))
            server.process.kill()
            server.process.wait()
        (out / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")
        with tarfile.open(HERE / f"{store_format}.tar.gz", "w:gz") as tar:
            tar.add(out, store_format)


if __name__ == "__main__":
    main()
