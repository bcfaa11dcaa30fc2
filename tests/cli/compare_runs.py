#!/usr/bin/python3
"""Largest relative differences of two runs' metrics: compare_runs.py RUN_A RUN_B LOSS_LIMIT GNORM_LIMIT; 1 when over a limit."""
import json
import sys


def steps(run):
    return [row for row in map(json.loads, open(run + "/metrics.jsonl")) if row["kind"] == "step"]


def worst(a, b, key):
    return max(abs(x[key] - y[key]) / abs(x[key]) for x, y in zip(a, b))


a, b = steps(sys.argv[1]), steps(sys.argv[2])
if not a or [row["step"] for row in a] != [row["step"] for row in b]:
    sys.exit("the runs have not the same steps")
loss, gnorm = worst(a, b, "loss"), worst(a, b, "gnorm")
print(f"{sys.argv[1]} {sys.argv[2]}: {len(a)} steps, loss {loss:.2g}, gradient norm {gnorm:.2g}")
sys.exit(0 if loss <= float(sys.argv[3]) and gnorm <= float(sys.argv[4]) else 1)
