#!/usr/bin/env python3
"""The losses and gradients of tests/train/two_models.c in float64, with the models of tnl.py.

  two_models.py RUN ROWS f32|f64

RUN: a run directory after one step in which nothing moves (schedule.lr=0, optim.beta1=0, train.clip=0): its weights are those
of the start, its first moments the gradients of the mean loss. ROWS: a line a token, row, position, token and target (-100: none).
"""
import json
import sys

import numpy as np

from tnl import Net, st_read

GAP_WEIGHT, ENTROPY_WEIGHT, TEMPERATURE = 0.3, -0.02, 1.3


def models(run, weights):
    c = json.load(open(f"{run}/model/config.json"))
    first = {"family": "tnl", "C": c["decoder_embed_dim"], "L": c["decoder_layers"], "H": c["decoder_attention_heads"],
             "Hk": c["kv_heads"], "F": c["glu_dim"], "V": c["vocab_size"], "pattern": c["layer_pattern"], "conv": 0,
             "lrpe": [i for i, on in enumerate(c["linear_use_lrpe_list"]) if on], "tied": c["tie_word_embeddings"],
             "scaled": not c["no_scale_embedding"], "pad": c["pad_token_id"], "window": c["window"]}
    second = dict(first, L=3, F=first["F"] // 2, pattern="WLN", lrpe=[])
    return Net(first, weights[0]), Net(second, weights[1]), Net(second, weights[1])


def documents(path):
    """(tokens, targets) of each document of each row."""
    rows, tokens, targets = np.loadtxt(path, dtype=np.int64), [], []
    for _, position, token, target in rows:
        if position == 0 and tokens:
            yield np.array(tokens), np.array(targets)
            tokens, targets = [], []
        tokens.append(token)
        targets.append(target)
    yield np.array(tokens), np.array(targets)


def log_softmax(z):
    top = z.max(-1, keepdims=True)
    return z - top - np.log(np.exp(z - top).sum(-1, keepdims=True))


def hot(targets, shape):
    out = np.zeros(shape)
    out[np.arange(len(targets)), targets] = 1
    return out


def document(nets, tokens, targets):
    """Adds to the gradients; returns the sums of cross-entropy, 1, gap^2 and entropy."""
    first, second, reference = nets
    valid = (targets >= 0).astype(float)
    safe = np.maximum(targets, 0)
    at = np.arange(len(tokens)), safe
    (za, back_a), (zb, back_b), (zr, _) = (net.logits(tokens) for net in (first, second, reference))
    la, lb, lr = log_softmax(za), log_softmax(zb / TEMPERATURE), log_softmax(zr)
    gap = valid * (lb[at] - (la[at] + lr[at]) / 2)
    entropy = -(np.exp(lb) * lb).sum(-1)

    dla = -valid - GAP_WEIGHT * gap
    dlb = 2 * GAP_WEIGHT * gap
    back_a(dla[:, None] * (hot(safe, za.shape) - np.exp(la)))
    dzb = dlb[:, None] * (hot(safe, zb.shape) - np.exp(lb))
    dzb -= ENTROPY_WEIGHT * valid[:, None] * np.exp(lb) * (lb + entropy[:, None])
    back_b(dzb / TEMPERATURE)
    return np.array([-(valid * la[at]).sum(), valid.sum(), (gap ** 2).sum(), (valid * entropy).sum()])


def main(run, rows, kind):
    step = f"{run}/ckpt/step_00000001/"
    names = "", "second."
    weights = [{k: x.astype(np.float64) for k, x in st_read(f"{step}{n}model.safetensors").items()} for n in names]
    nets = models(run, weights)
    loss, count, gap, entropy = sum(document(nets, *d) for d in documents(rows))
    limit, worst, bad = {"f32": 5e-5, "f64": 1e-9}[kind], 0.0, []

    def compare(name, got, wanted):
        nonlocal worst
        if np.shape(got) != np.shape(wanted):
            sys.exit(f"{run}: {name} has shape {np.shape(got)}, not {np.shape(wanted)}")
        error = np.max(np.abs(got - wanted)) / max(np.max(np.abs(wanted)), 1e-3)
        worst = max(worst, error)
        if not error <= limit:
            bad.append(f"{name} is off by {error:.2e}")

    line = json.loads(open(f"{run}/metrics.jsonl").readline())
    for net, n in zip(nets, names):
        moments = st_read(f"{step}{n}optimizer.safetensors")
        for key, g in net.g.items():
            compare(f"{n}{key}", moments[f"m.{key}"].astype(np.float64), g / count)
        compare(f"{n}gnorm", line[f"{n}gnorm"], np.sqrt(sum((g ** 2).sum() for g in net.g.values())) / count)
    compare("loss", line["loss"], loss / count)
    compare("gap", line["gap"], gap / count)
    compare("entropy", line["entropy"], entropy / count)
    if line["tokens"] != count:
        bad.append(f"{line['tokens']} tokens, not {count:g}")
    if bad:
        sys.exit(f"{run}: " + "; ".join(bad))
    print(f"{run}: two losses, {sum(len(n.g) for n in nets[:2])} gradients within {worst:.1e}")


if __name__ == "__main__":
    main(*sys.argv[1:])
