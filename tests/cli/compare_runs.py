#!/usr/bin/python3
"""Largest relative differences of two runs' metrics: compare_runs.py RUN_A RUN_B LOSS_LIMIT GNORM_LIMIT; 1 when over a limit
or when a step took other tokens."""
import json
import sys


def rows(run, kind):
    return [row for row in map(json.loads, open(run + "/metrics.jsonl")) if row["kind"] == kind]


def worst(a, b, key):
    return max([abs(x[key] - y[key]) / abs(x[key]) for x, y in zip(a, b)], default=0)


def same(a, b, key):
    return [row[key] for row in a] == [row[key] for row in b]


a, b = rows(sys.argv[1], "step"), rows(sys.argv[2], "step")
evals = rows(sys.argv[1], "eval"), rows(sys.argv[2], "eval")
if not a or not same(a, b, "step") or not same(*evals, "step"):
    sys.exit("the runs have not the same steps")
for key in "data_hash", "tokens", "tokens_seen":
    if not same(a, b, key):
        sys.exit(f"{key} differs: the runs took other tokens")
loss, gnorm, held_out = worst(a, b, "loss"), worst(a, b, "gnorm"), worst(*evals, "nats_per_token")
print(f"{sys.argv[1]} {sys.argv[2]}: {len(a)} steps, loss {loss:.2g}, held-out {held_out:.2g}, gradient norm {gnorm:.2g}")
sys.exit(0 if max(loss, held_out) <= float(sys.argv[3]) and gnorm <= float(sys.argv[4]) else 1)
