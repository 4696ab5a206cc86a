"""Runs the benchmarks of backpropd and of its peers alternately on this machine, and prints a comparison.

Writes build/bench/results.json: a list of {name, ours, peer, peer_name, unit, ratio, target, ok};
ratio > 1 means that we are ahead, ok that it reaches the target (null: there is none).
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = ROOT / "build/release/bin"
PEERS = [ROOT / "build/peers/venv/bin/python", ROOT / "tests/bench/peers.py"]
ONE_CORE = ["taskset", "-c", "0"]
PROGRAMS = [[*ONE_CORE, BIN / "bp_bench_engine"], [*ONE_CORE, *PEERS],
            [*PEERS, "--threads", "2"], [BIN / "bp_bench_rpc"],
            [sys.executable, ROOT / "tests/bench/databases.py"],
            [sys.executable, ROOT / "tests/bench/python_estimators.py"],
            [ROOT / "build/tools/venv/bin/python", ROOT / "tests/bench/http.py"]]

EAGER, ECHO, LIMIT = "PyTorch eager", "echo on the same server", "the limit"
# (pattern of names, peer, ratio to reach); the first match applies. docs/BENCHMARKS.md gives the
# reasons.
TARGETS = [
    (r"xor_step_200", EAGER, 80),
    (r"train_xor_3000", EAGER, 50),
    (r"mlp_\d+_(sgd|adam)", EAGER, 1.2),
    (r"mlp_1024_sgd_gflops", "FMA peak of the core", 0.8),
    (r"mlp_1024_sgd_two_cores", "the same on one core", 1.7),
    (r"step_rpc_.*_p50", ECHO, 1 / 1.1),
    (r"step_stream_.*", ECHO, 0.7),
    (r"cost_(tls|token|tls_token)_.*_p50", "clear text, anonymous", 1 / 1.1),
    (r"cost_counting_1_rate", "calls are not counted", 0.99),
    (r"two_models_two_cores", "one model alone", 1.9),
    (r"durable_step_64", "in memory", 0.5),
    (r"dataset_mapped_.*", "in memory", 0.8),
    (r"sklearn_fit_.*", "scikit-learn", 1),
    (r"http_.*", "Envoy", 1),
    (r".*", LIMIT, 1),
]
HIGHER_IS_BETTER = {"/s", "GFLOP/s", "k steps/s"}


def parse():
    arguments = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.split("\n")[0])
    arguments.add_argument("--quick", action="store_true",
                           help="one short repetition: does every benchmark work?")
    arguments.add_argument("--repeat", type=int, default=3, help="how often all is run; medians are kept")
    arguments.add_argument("names", nargs="*", help="parts of the names of rows; default: all")
    return arguments.parse_args()


def run(options, command):
    """Returns the figures that a benchmark prints, one JSON object per line."""
    flags = (["--quick"] if options.quick else []) + options.names
    print(f"  {' '.join(pathlib.Path(str(part)).name for part in command)} …", file=sys.stderr, flush=True)
    result = subprocess.run([*map(str, command), *flags], stdout=subprocess.PIPE, text=True)
    if result.returncode != 0:
        sys.exit(f"{command} ended with {result.returncode}")
    return [json.loads(line) for line in result.stdout.splitlines()]


def measure(options):
    """(name, by) -> median, and name -> unit."""
    values, units = {}, {}
    repeat = 1 if options.quick else options.repeat
    for turn in range(repeat):
        print(f"Turn {turn + 1} of {repeat}", file=sys.stderr)
        for program in PROGRAMS:
            for figure in run(options, program):
                values.setdefault((figure["name"], figure["by"]), []).append(figure["value"])
                units[figure["name"]] = figure["unit"]
    return {key: statistics.median(seen) for key, seen in values.items()}, units


def rows_of(values, units):
    rows = []
    for (name, by), peer in values.items():
        ours = values.get((name, ""))
        alone = by == "" and not any(n == name and b for n, b in values)
        if ours is None or (by == "" and not alone):
            continue
        row = {"name": name, "ours": ours, "peer": None, "peer_name": None, "unit": units[name],
               "ratio": None, "target": None, "ok": None}
        if not alone:
            ratio = ours / peer if units[name] in HIGHER_IS_BETTER else peer / ours
            target = next((t for pattern, p, t in TARGETS if p == by and re.fullmatch(pattern, name)), None)
            row.update(peer=peer, peer_name=by, ratio=ratio, target=target,
                       ok=None if target is None else ratio >= target)
        rows.append(row)
    return sorted(rows, key=lambda row: (row["name"], row["peer_name"] or ""))


def print_table(rows):
    print("| row | ours | peer | | ratio | target | |\n|---|---|---|---|---|---|---|")
    for row in rows:
        unit = row["unit"]
        if row["peer"] is None:
            print(f"| {row['name']} | {row['ours']:.4g} {unit} | | | | | |")
            continue
        target = "" if row["target"] is None else f"{row['target']:.3g}"
        verdict = {None: "", True: "reached", False: "missed"}[row["ok"]]
        print(f"| {row['name']} | {row['ours']:.4g} {unit} | {row['peer_name']} | {row['peer']:.4g} {unit} | "
              f"{row['ratio']:.2f} | {target} | {verdict} |")


def main():
    options = parse()
    values, units = measure(options)
    rows = rows_of(values, units)
    if not rows:
        sys.exit("No row has such a name.")
    out = ROOT / "build/bench/results.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(rows, indent=1) + "\n")
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    print(f"{cpu.group(1) if cpu else 'unknown processor'}, {os.cpu_count()} cores\n")
    print_table(rows)


main()
