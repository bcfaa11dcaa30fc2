#!/usr/bin/env python3
"""Models with a neural memory in float64, from docs/formats.md and docs/maths.md 17 alone: the memory learns token by token,
by the gradient of its loss; gradients of all of it come from a tape of numpy operations. Reads and writes as tnl.py does.

  titans.py list | make DIR NAME f32|f64 | check DIR OUT f32|f64
"""
import json
import math
import sys

import numpy as np

import tnl
from tnl import EPS, ROPE_BASE, TYPES, st_read, st_write

# width, heads, ffn, vocab, pattern, window, B, T, the object "memory" of config.json, persistent rows, key/value heads
KEYS = "C H F V pattern window B T memory persistent Hk".split()
MODELS = {name: dict(zip(KEYS, row + (0, row[1])[len(row) - 9:])) for name, row in {
    "lmm": (24, 3, 20, 29, "MM", 8, 2, 37, {"chunk": 5, "hidden": 10}),
    "lmm-linear": (16, 2, 20, 29, "MM", 8, 2, 30, {"layers": 1, "chunk": 4, "theta_max": 0.3, "cap": 0}),
    "lmm-capped": (16, 2, 20, 29, "M", 8, 2, 30, {"layers": 1, "chunk": 4, "theta_max": 0.3, "cap": 4, "alpha_max": 0.1}),
    "lmm-plain": (16, 2, 12, 19, "M", 8, 1, 30, {"layers": 3, "chunk": 7, "hidden": 6, "net": "plain", "activation": "silu",
                                                 "read": "strict", "clip": 0.2, "damp": False, "init_std": 0.3}),
    "lmm-huber": (16, 2, 12, 19, "M", 8, 1, 30, {"chunk": 16, "loss": "huber", "huber": 0.3, "conv": 0, "eta_max": 0}),
    "lmm-hebbian": (16, 2, 12, 19, "M", 8, 1, 30, {"chunk": 16, "layers": 1, "loss": "hebbian", "conv": 2}),
    "mag": (24, 3, 12, 19, "GMG", 7, 2, 33, {"chunk": 6, "hidden": 10}, 3),
    "mag-grouped": (16, 4, 12, 19, "G", 9, 1, 20, {"chunk": 4, "layers": 1, "conv": 0}, 0, 2),
    "mal": (16, 2, 12, 19, "MW", 7, 2, 33, {"chunk": 6}),
}.items()}
# As `sterna config` lists them; the rest is written where the models above leave it out.
DEFAULTS = {"layers": 2, "hidden": 0, "chunk": 16, "init_std": 0.1, "activation": "gelu", "net": "auto", "loss": "squared",
            "huber": 1, "read": "inclusive", "conv": 4, "alpha_max": 1, "eta_max": 0.95, "theta_max": 0, "cap": 1.5, "damp": True,
            "clip": -1}


def memory(m):
    o = {**DEFAULTS, **m["memory"]}
    deep, budget = o["layers"] > 1, o["cap"] * (1 - o["eta_max"])
    o["hidden"] = o["hidden"] or 4 * (m["C"] // m["H"])
    o["net"] = {"auto": "residual" if deep else "plain"}.get(o["net"], o["net"])
    o["clip"] = (1 if deep else 0) if o["clip"] < 0 else o["clip"]
    o["theta_max"] = o["theta_max"] or (budget or 2) / o["chunk"]
    return o | {"budget": budget}


# ---- a tape ----------------------------------------------------------------------------------------

def fit(g, shape):  # the gradient of what was broadcast
    while g.ndim > len(shape):
        g = g.sum(0)
    for axis, n in enumerate(shape):
        if n == 1 and g.shape[axis] != 1:
            g = g.sum(axis, keepdims=True)
    return g


class Var:
    tape = []

    def __init__(self, value, *inputs):  # inputs: (Var, gradient of it from that of this)
        self.value, self.inputs, self.grad = np.asarray(value, np.float64), inputs, None
        Var.tape.append(self)

    def __add__(a, b):
        b = var(b)
        return Var(a.value + b.value, (a, lambda g: fit(g, a.value.shape)), (b, lambda g: fit(g, b.value.shape)))

    def __mul__(a, b):
        b = var(b)
        return Var(a.value * b.value, (a, lambda g: fit(g * b.value, a.value.shape)),
                   (b, lambda g: fit(g * a.value, b.value.shape)))

    def __matmul__(a, b):
        def left(g):
            return fit(g @ b.value.swapaxes(-1, -2), a.value.shape)

        def right(g):
            return fit(a.value.swapaxes(-1, -2) @ g, b.value.shape)
        return Var(a.value @ b.value, (a, left), (b, right))

    def __neg__(a):
        return a * -1.0

    def __sub__(a, b):
        return a + -var(b)

    def __getitem__(a, at):
        def back(g):
            out = np.zeros_like(a.value)
            np.add.at(out, at, g)
            return out
        return Var(a.value[at], (a, back))

    def map(a, value, slope):
        return Var(value, (a, lambda g: g * slope))

    def power(a, n):
        return a.map(a.value ** n, n * a.value ** (n - 1))

    def exp(a):
        return a.map(np.exp(a.value), np.exp(a.value))

    def log(a):
        return a.map(np.log(a.value), 1 / a.value)

    def sum(a):
        return Var(a.value.sum(-1, keepdims=True), (a, lambda g: np.broadcast_to(g, a.value.shape)))

    def mean(a):
        return a.sum() * (1 / a.value.shape[-1])

    def turn(a, *axes):
        return Var(a.value.transpose(axes), (a, lambda g: g.transpose(np.argsort(axes))))

    def shape(a, *shape):
        return Var(a.value.reshape(shape), (a, lambda g: g.reshape(a.value.shape)))

    T = property(lambda a: Var(a.value.swapaxes(-1, -2), (a, lambda g: g.swapaxes(-1, -2))))


def var(x):
    return x if isinstance(x, Var) else Var(x)


def stack(xs):
    return Var(np.stack([x.value for x in xs]), *[(x, lambda g, i=i: g[i]) for i, x in enumerate(xs)])


def join(a, b):  # (H, M, D), (H, T, D)
    M = a.value.shape[1]
    return Var(np.concatenate([a.value, b.value], 1), (a, lambda g: g[:, :M]), (b, lambda g: g[:, M:]))


def backward(root):
    root.grad = np.ones_like(root.value)
    for v in reversed(Var.tape):
        for x, back in v.inputs if v.grad is not None else ():
            x.grad = back(v.grad) if x.grad is None else x.grad + back(v.grad)


def sigmoid(x):
    s = 1 / (1 + np.exp(-x.value))
    return x.map(s, s * (1 - s))


def silu(x):
    return x * sigmoid(x)


def silu_slope(x):
    s = sigmoid(x)
    return s + x * s * (var(1.0) - s)


def normal_below(x):
    return x.map(np.vectorize(lambda v: 0.5 * math.erfc(-v / math.sqrt(2)))(x.value), np.exp(-x.value ** 2 / 2) / math.sqrt(2 * math.pi))


def gelu(x):
    return x * normal_below(x)


def gelu_slope(x):
    return normal_below(x) + x * (x * x * -0.5).exp() * (1 / math.sqrt(2 * math.pi))


def rms(x):
    return x * ((x * x).mean() + EPS).power(-0.5)


# ---- the memory: (H, 1, D) a token -----------------------------------------------------------------

def layernorm(o):
    centred = o - o.mean()
    scale = ((centred * centred).mean() + 1e-6).power(0.5)
    return centred * scale.power(-1), scale


def network(o, W, x, gain, shift):
    """f(x; W): what enters each layer, what leaves it, and f."""
    act = {"gelu": gelu, "silu": silu}[o["activation"]]
    enter, leave = [x], []
    for i, w in enumerate(W):
        leave.append(enter[-1] @ w)
        if i + 1 < len(W):
            enter.append(act(leave[-1]))
    if o["net"] == "plain":
        return enter, leave, leave[-1]
    return enter, leave, x + gain * layernorm(leave[-1])[0] + shift


def inner_gradients(o, W, k, v, gain, shift):
    """Of each layer x and err, the token's gradient being x^T err."""
    enter, leave, f = network(o, W, k, gain, shift)
    diff = -v if o["loss"] == "hebbian" else f - v
    if o["loss"] == "huber":
        inside = np.abs(diff.value) < o["huber"]
        diff = diff.map(np.clip(diff.value, -o["huber"], o["huber"]), inside)
    err = diff
    if o["net"] != "plain":
        hat, scale = layernorm(leave[-1])
        g = diff * gain
        err = (g - g.mean() - hat * (g * hat).mean()) * scale.power(-1)
    errs = [err]
    slope = {"gelu": gelu_slope, "silu": silu_slope}[o["activation"]]
    for i in range(len(W) - 1, 0, -1):
        errs.insert(0, errs[0] @ W[i].T * slope(leave[i - 1]))
    keep = np.ones((k.value.shape[0], 1, 1))  # constants to gradients
    squares = [(x.value ** 2).sum(-1, keepdims=True) * (e.value ** 2).sum(-1, keepdims=True) for x, e in zip(enter, errs)]
    if o["damp"]:
        keep = 1 / np.maximum(1, sum(squares) / (diff.value ** 2).sum(-1, keepdims=True))
    out = []
    for x, e, s in zip(enter, errs, squares):
        norm = keep * np.sqrt(s)
        out.append((x, e * (keep * np.minimum(1, o["clip"] / norm) if o["clip"] > 0 else keep)))
    return out


def recurrence(o, q, k, v, gates, W, gain, shift):
    """q, k, v: lists of (H,1,D); gates[kind][layer]: lists of (H,1,1)."""
    S, y = [w * 0.0 for w in W], []
    for t in range(len(q)):
        if t % o["chunk"] == 0:
            start, spent = W, [np.zeros((q[0].value.shape[0], 1, 1)) for _ in W]
        before = W
        grads = inner_gradients(o, start, k[t], v[t], gain, shift)
        W, S = list(W), list(S)
        for i, (x, e) in enumerate(grads):
            alpha, eta, theta = (gates[kind][i][t] for kind in range(3))
            if o["budget"] > 0:
                part = np.clip((o["budget"] - spent[i]) / theta.value, 0, 1)
                spent[i] = spent[i] + part * theta.value
                theta = theta * part
            S[i] = S[i] * eta - x.T @ e * theta
            W[i] = W[i] * (var(1.0) - alpha) + S[i]
        y.append(network(o, before if o["read"] == "strict" else W, q[t], gain, shift)[2])
    return y


class Net:
    def __init__(self, m, w):
        self.m, self.w, self.o = m, {k: Var(x) for k, x in w.items()}, memory(m)

    def linear(self, x, name):
        return x @ self.w[name].T

    def heads(self, x, H=None):  # (T, H*D) -> (H, T, D)
        return x.shape(x.value.shape[0], H or self.m["H"], -1).turn(1, 0, 2)

    def tokens(self, x):  # (H, T, D) -> T times (H, 1, D)
        return [x[:, t:t + 1] for t in range(x.value.shape[1])]

    def conv(self, x, name):
        w, T = self.w[name], x.value.shape[0]
        out = 0.0
        for j in range(w.value.shape[1]):
            shifted = np.eye(T, k=-j)  # row t takes row t - j
            out = var(shifted) @ x * w[:, j] + out
        return out

    def memory_part(self, x, pre):
        o, H, C = self.o, self.m["H"], self.m["C"]
        z = self.linear(x, pre + "qkv_proj.weight")
        if o["conv"] > 0:
            z = self.conv(z, pre + "conv.weight")
        z = silu(z)
        q, k, v = (self.heads(z[:, i * C:(i + 1) * C]) for i in range(3))
        q, k = (a * ((a * a).sum() + 1e-6).power(-0.5) for a in (q, k))
        g = sigmoid(self.linear(x, pre + "gates.weight") + self.w[pre + "gates.bias"])
        most, gates = (o["alpha_max"], o["eta_max"], o["theta_max"]), []
        for kind in range(3):
            gates.append([])
            for i in range(o["layers"]):
                first = (kind * o["layers"] + i) * H
                part = (g[:, first:first + H] * most[kind]).T.shape(H, -1, 1)
                gates[kind].append(self.tokens(part))
        D, m, W, at = C // H, o["hidden"], [], 0
        for i in range(o["layers"]):
            p, n = (D if i == 0 else m), (D if i == o["layers"] - 1 else m)
            W.append(self.w[pre + "init"][:, at:at + p * n].shape(H, p, n))
            at += p * n
        gain = shift = None
        if o["net"] != "plain":
            gain, shift = (self.w[pre + f"inner_norm.{n}"].shape(H, 1, D) for n in ("weight", "bias"))
        y = recurrence(o, self.tokens(q), self.tokens(k), self.tokens(v), gates, W, gain, shift)
        return stack(y).shape(len(y), H, D)  # (T, H, D)

    def lmm(self, x, pre):
        H, D = self.m["H"], self.m["C"] // self.m["H"]
        y = rms(self.memory_part(x, pre)) * self.w[pre + "out_norm.weight"].shape(H, D)
        gate = silu(self.linear(x, pre + "gate_proj.weight"))
        return self.linear(gate * y.shape(x.value.shape[0], H * D), pre + "out_proj.weight")

    def rope(self, x):
        half = x.value.shape[2] // 2
        angle = np.arange(x.value.shape[1])[:, None] * ROPE_BASE ** (-np.arange(half) / half)
        cos, sin = (np.concatenate([f, f], 1) for f in (np.cos(angle), np.sin(angle)))
        swap = np.zeros((2 * half, 2 * half))
        swap[np.arange(half) + half, np.arange(half)] = -1
        swap[np.arange(half), np.arange(half) + half] = 1
        return x * cos + x @ var(swap) * sin

    def window(self, x, pre):
        share = self.m["H"] // self.m["Hk"]
        q, k, v = (self.linear(x, f"{pre}{n}_proj.weight") for n in "qkv")
        q, k, v = self.heads(q), self.heads(k, self.m["Hk"]), self.heads(v, self.m["Hk"])
        q, k = self.rope(q), self.rope(k)
        gap = np.subtract.outer(*[np.arange(x.value.shape[0])] * 2)
        seen = (gap >= 0) & (gap < self.m["window"])
        if pre + "persistent_k" in self.w:
            more = (self.heads(self.w[f"{pre}persistent_{n}"], self.m["Hk"]) for n in "kv")
            k, v = (join(m, x) for m, x in zip(more, (k, v)))
            seen = np.concatenate([np.ones((len(seen), self.m["persistent"]), bool), seen], 1)
        k, v = (y[np.repeat(np.arange(self.m["Hk"]), share)] for y in (k, v))
        scores = q @ k.T * (1 / math.sqrt(q.value.shape[2]))
        e = (scores - scores.value.max(-1, keepdims=True)).exp() * seen
        o = (e * e.sum().power(-1)) @ v
        return o.turn(1, 0, 2)  # (T, H, D)

    def swa(self, x, pre):
        o = self.window(x, pre).shape(*x.value.shape)
        return self.linear(o, pre + "o_proj.weight")

    def mag(self, x, attn, mem):
        H, D = self.m["H"], self.m["C"] // self.m["H"]
        seen = rms(self.window(x, attn)) * self.w[attn + "out_norm.weight"].shape(H, D)
        known = rms(self.memory_part(x, mem)) * self.w[mem + "out_norm.weight"].shape(H, D)
        return self.linear((seen * sigmoid(known)).shape(*x.value.shape), attn + "o_proj.weight")

    def mixer(self, letter, x, pre):
        if letter == "M":
            return self.lmm(x, pre + "memory.")
        if letter == "G":
            return self.mag(x, pre + "self_attn.", pre + "memory.")
        return self.swa(x, pre + "self_attn.")

    def loss(self, ids):
        x = self.w["model.embed_tokens.weight"][ids]
        for i, letter in enumerate(self.m["pattern"]):
            pre = f"model.layers.{i}."
            n = rms(x) * self.w[pre + "input_layernorm.weight"]
            x = x + self.mixer(letter, n, pre)
            n = rms(x) * self.w[pre + "post_attention_layernorm.weight"]
            up = silu(self.linear(n, pre + "mlp.gate_proj.weight")) * self.linear(n, pre + "mlp.up_proj.weight")
            x = x + self.linear(up, pre + "mlp.down_proj.weight")
        logits = self.linear(rms(x) * self.w["model.norm.weight"], "lm_head.weight")
        shifted = logits - logits.value.max(-1, keepdims=True)
        logp = shifted - shifted.exp().sum().log()
        at = (np.arange(len(ids) - 1), ids[1:])
        return logits.value, -logp[at].sum()


# ---- files -----------------------------------------------------------------------------------------

def config(m):
    return {"model_type": "sterna-llama", "vocab_size": m["V"], "hidden_size": m["C"], "num_hidden_layers": len(m["pattern"]),
            "num_attention_heads": m["H"], "num_key_value_heads": m["Hk"], "persistent": m["persistent"], "intermediate_size": m["F"], "hidden_act": "silu", "rms_norm_eps": EPS,
            "rope_theta": ROPE_BASE, "tie_word_embeddings": False, "layer_pattern": m["pattern"], "window": m["window"],
            "linear_use_lrpe_list": [0] * len(m["pattern"]), "memory": m["memory"], "pad_token_id": None, "bos_token_id": 1,
            "eos_token_id": 2}


def shapes(m):
    C, F, V, H, o = m["C"], m["F"], m["V"], m["H"], memory(m)
    D, gates = C // H, 3 * o["layers"] * H
    out = {"model.embed_tokens.weight": (V, C), "model.norm.weight": (C,), "lm_head.weight": (V, C)}
    for i, letter in enumerate(m["pattern"]):
        pre = f"model.layers.{i}."
        kv, part = m["Hk"] * D, {}
        if letter != "M":
            part = {f"self_attn.{n}_proj.weight": (kv if n in "kv" else C, C) for n in "qkvo"}
        if letter == "M":
            part = {"memory.gate_proj.weight": (C, C), "memory.out_proj.weight": (C, C)}
        if letter == "G":
            part["self_attn.out_norm.weight"] = (C,)
            if m["persistent"] > 0:
                part |= {"self_attn.persistent_k": (m["persistent"], kv), "self_attn.persistent_v": (m["persistent"], kv)}
        if letter in "GM":
            weights = D * D if o["layers"] == 1 else o["hidden"] * (2 * D + (o["layers"] - 2) * o["hidden"])
            part |= {"memory.qkv_proj.weight": (3 * C, C), "memory.gates.weight": (gates, C), "memory.gates.bias": (gates,),
                     "memory.init": (H, weights), "memory.out_norm.weight": (C,)}
            if o["conv"] > 0:
                part["memory.conv.weight"] = (3 * C, o["conv"])
            if o["net"] != "plain":
                part |= {"memory.inner_norm.weight": (H, D), "memory.inner_norm.bias": (H, D)}
        part |= {"mlp.gate_proj.weight": (F, C), "mlp.up_proj.weight": (F, C), "mlp.down_proj.weight": (C, F),
                 "input_layernorm.weight": (C,), "post_attention_layernorm.weight": (C,)}
        out |= {pre + name: shape for name, shape in part.items()}
    return out


def make(directory, name, kind):
    m, rng = MODELS[name], np.random.default_rng(sum(map(ord, name)))
    w = {}
    for key, shape in shapes(m).items():
        w[key] = rng.normal(size=shape) / np.sqrt(shape[-1])
        if "norm.weight" in key:
            w[key] = 1 + 0.3 * rng.normal(size=shape)
        if key.endswith("memory.init"):
            w[key] = 0.4 * rng.normal(size=shape)
    st_write(f"{directory}/model.safetensors", {k: x.astype(TYPES[kind.upper()]) for k, x in w.items()})
    st_write(f"{directory}/ids.safetensors", tnl.inputs(name, m, rng))
    json.dump(config(m), open(f"{directory}/config.json", "w"))
    open(f"{directory}/name", "w").write(name)


def check(directory, path, kind):
    m = MODELS[open(f"{directory}/name").read()]
    net = Net(m, {k: x.astype(np.float64) for k, x in st_read(f"{directory}/model.safetensors").items()})
    rows = tnl.documents(f"{directory}/ids.safetensors")
    done = [[net.loss(d) for d in row] for row in rows]
    targets, total = sum(len(d) - 1 for row in rows for d in row), var(0.0)
    for row in done:
        for _, loss in row:
            total = total + loss
    backward(total * (1 / targets))
    wanted = {k: np.zeros_like(x.value) if x.grad is None else x.grad for k, x in net.w.items()}
    wanted["logits"] = np.stack([np.concatenate([d[0] for d in row]) for row in done])
    wanted["loss"] = total.value.reshape(1) / targets
    tnl.compare(path, wanted, kind)


if __name__ == "__main__":
    if sys.argv[1] == "list":
        print("\n".join(MODELS))
    else:
        {"make": make, "check": check}[sys.argv[1]](*sys.argv[2:])
