"""The writes of durable steps in other stores: durable_step_N with SQLite and PostgreSQL.

Each write replaces the state of one of 64 models of XOR size by its key and is on disk when it is answered.
PostgreSQL has N connections, each with one write at a time (pgbench, prepared). SQLite writes one transaction
at a time, so that N writers at once are best served by one that writes N rows in a transaction: that is what
is measured.
"""

import argparse
import json
import os
import pathlib
import pwd
import re
import shutil
import sqlite3
import subprocess
import tempfile
import time

STATE_BYTES = 300  # size of the record of a model of XOR size
MODELS = 64
IN_FLIGHT = (1, 8, 64, 512)


def figure(name, by, value):
    print(json.dumps({"name": name, "by": by, "value": value, "unit": "/s"}), flush=True)


def sqlite_rate(folder, in_flight, seconds):
    database = sqlite3.connect(folder / f"{in_flight}.sqlite", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")  # a commit is synced
    database.execute("CREATE TABLE states (model INTEGER PRIMARY KEY, state BLOB)")
    state, writes = os.urandom(STATE_BYTES), 0
    begin = time.monotonic()
    while (elapsed := time.monotonic() - begin) < seconds:
        database.execute("BEGIN")
        database.executemany("INSERT OR REPLACE INTO states VALUES (?, ?)",
                             [((writes + i) % MODELS, state) for i in range(in_flight)])
        database.execute("COMMIT")
        writes += in_flight
    database.close()
    return writes / elapsed


class Postgres:
    """A separate server on a Unix socket, with default settings except connections and memory."""

    def __init__(self, folder):
        versions = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))
        self.bin = versions[-1]
        self.folder = folder
        # PostgreSQL refuses to run as root.
        self.prefix = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
            self.prefix = ["runuser", "-u", "postgres", "--"]
        self.data = folder / "pg"
        self.run("initdb", "-D", self.data, "--auth", "trust", "-E", "UTF8", "--locale", "C")
        self.run("pg_ctl", "-D", self.data, "-w", "-l", folder / "log", "-o",
                 f"-c listen_addresses='' -c unix_socket_directories={folder} -c max_connections=600 "
                 "-c shared_buffers=256MB", "start")
        self.sql("CREATE TABLE states (model int PRIMARY KEY, state bytea)")
        self.script = folder / "write.sql"
        self.script.write_text(
            f"\\set model random(0, {MODELS - 1})\n"
            f"INSERT INTO states VALUES (:model, decode(repeat('ab', {STATE_BYTES}), 'hex')) "
            "ON CONFLICT (model) DO UPDATE SET state = EXCLUDED.state;\n")
        self.script.chmod(0o644)

    def run(self, program, *arguments):
        command = [self.bin / program, *arguments]
        return subprocess.run([*self.prefix, *map(str, command)], check=True,
                              capture_output=True, text=True, cwd=self.folder).stdout

    def sql(self, text):
        return self.run("psql", "-h", self.folder, "-d", "postgres", "-c", text)

    def rate(self, in_flight, seconds):
        # A short run would end before the last connection is open.
        length = ["-T", round(seconds)] if seconds >= 1 else ["-t", 5]
        output = self.run("pgbench", "-h", self.folder, "-n", "-M", "prepared", "-c", in_flight, "-j",
                          min(2, in_flight), *length, "-f", self.script, "postgres")
        return float(re.search(r"tps = ([0-9.]+)", output).group(1))

    def stop(self):
        self.run("pg_ctl", "-D", self.data, "-w", "-m", "fast", "stop")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("names", nargs="*")
    options = arguments.parse_args()
    wanted = [n for n in IN_FLIGHT
              if not options.names or any(part in f"durable_step_{n}" for part in options.names)]
    if not wanted:
        return
    seconds = 0.1 if options.quick else 3
    folder = pathlib.Path(tempfile.mkdtemp(prefix="backprop_databases_"))
    folder.chmod(0o755)
    try:
        for n in wanted:
            figure(f"durable_step_{n}", "SQLite", sqlite_rate(folder, n, seconds))
        postgres = Postgres(folder)
        try:
            for n in wanted:
                figure(f"durable_step_{n}", "PostgreSQL", postgres.rate(n, seconds))
        finally:
            postgres.stop()
    finally:
        shutil.rmtree(folder)


main()
