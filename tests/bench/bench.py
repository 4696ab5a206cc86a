"""Runs the benchmarks, ours and the peers' in turn on the same core, and prints them side by side.

Writes build/bench/results.json: a list of {name, ours, peer, peer_name, unit, ratio, target, ok};
ratio > 1 means that we are ahead, ok that it reaches the target (null: there is none).
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = ROOT / "build/release/bin"
PYTHON = ROOT / "build/peers/venv/bin/python"
EAGER = "PyTorch eager"
# (name, peer) -> the ratio to reach. docs/BENCHMARKS.md says where they come from.
TARGETS = {("xor_step_200", EAGER): 80}
TARGETS.update({(f"mlp_{n}_{o}", EAGER): 1.2 for n in (32, 128, 1024) for o in ("sgd", "adam")})

arguments = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.split("\n")[0])
arguments.add_argument("--quick", action="store_true", help="one short repetition: does it work?")
arguments.add_argument("--repeat", type=int, default=3, help="how often all is run; medians are kept")
arguments.add_argument("names", nargs="*", help="parts of the names of rows; default: all")
OPTIONS = arguments.parse_args()


def run(*command):
    """The lines of JSON that a benchmark prints, pinned to one core."""
    flags = (["--quick"] if OPTIONS.quick else []) + OPTIONS.names
    print(f"  {pathlib.Path(command[-1]).name} …", file=sys.stderr, flush=True)
    result = subprocess.run(["taskset", "-c", "0", *map(str, command), *flags], stdout=subprocess.PIPE,
                            text=True, check=True)
    return [json.loads(line) for line in result.stdout.splitlines()]


def main():
    ours, theirs, units = {}, {}, {}
    repeat = 1 if OPTIONS.quick else OPTIONS.repeat
    for turn in range(repeat):
        print(f"Turn {turn + 1} of {repeat}", file=sys.stderr)
        for figure in run(BIN / "bp_bench_engine"):
            ours.setdefault(figure["name"], []).append(figure["value"])
            units[figure["name"]] = figure["unit"]
        for figure in run(PYTHON, ROOT / "tests/bench/peers.py"):
            theirs.setdefault((figure["name"], figure["peer"]), []).append(figure["value"])
    ours = {name: statistics.median(values) for name, values in ours.items()}
    rows = []
    for (name, peer), values in theirs.items():
        if name in ours:
            value = statistics.median(values)
            target = TARGETS.get((name, peer))
            ratio = value / ours[name]
            rows.append({"name": name, "ours": ours[name], "peer": value, "peer_name": peer,
                         "unit": units[name], "ratio": ratio, "target": target,
                         "ok": None if target is None else ratio >= target})
    if "fma_peak" in ours:
        for name, value in ours.items():
            if name.endswith("_gflops"):
                target = 0.8 if name == "mlp_1024_sgd_gflops" else None
                ratio = value / ours["fma_peak"]
                rows.append({"name": name, "ours": value, "peer": ours["fma_peak"],
                             "peer_name": "FMA peak of the core", "unit": "GFLOP/s", "ratio": ratio,
                             "target": target, "ok": None if target is None else ratio >= target})
    two = "two_cores_mlp_1024_sgd"
    if two in ours:
        ratio = ours[f"{two}_alone"] / ours[two]
        rows.append({"name": two, "ours": ours[two], "peer": ours[f"{two}_alone"],
                     "peer_name": "the same on one core", "unit": "us", "ratio": ratio, "target": 1.7,
                     "ok": ratio >= 1.7})
    rows.sort(key=lambda row: (row["name"], row["peer_name"]))
    out = ROOT / "build/bench/results.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(rows, indent=1) + "\n")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, pinned to one\n")
    print("| row | ours | peer | | ratio | target | |\n|---|---|---|---|---|---|---|")
    for row in rows:
        target = "" if row["target"] is None else f"{row['target']:g}"
        verdict = {None: "", True: "reached", False: "missed"}[row["ok"]]
        print(f"| {row['name']} | {row['ours']:.4g} {row['unit']} | {row['peer_name']} | "
              f"{row['peer']:.4g} {row['unit']} | {row['ratio']:.2f} | {target} | {verdict} |")
    if not rows:
        sys.exit("No row has such a name.")


main()
