#!/usr/bin/env python3
"""An independent TransNormerLLM and Llama in float64: forward and hand-written backward.

Written from the formulas (arXiv:2307.14995, arXiv:2401.04658): attention in its quadratic form,
one numpy line a formula, no block, no state, no tape. Reads and writes safetensors by itself.

  tnl.py list                      names of the models
  tnl.py make DIR NAME f32|f64     a random model directory and DIR/ids.safetensors
  tnl.py check DIR OUT f32|f64     compares what `sterna forward --grads` wrote to OUT
"""
import json
import struct
import sys

import numpy as np

# family, width, layers, heads, kv heads, ffn, vocab, pattern, lrpe layers, tied, scaled, pad, window, B, T, convolution
KEYS = "family C L H Hk F V pattern lrpe tied scaled pad window B T conv".split()
MODELS = {name: dict(zip(KEYS, row + (0,))) for name, row in {
    "tied": ("tnl", 24, 3, 2, 2, 40, 37, "LLL", [0], True, True, 0, 8, 3, 77),
    "untied": ("tnl", 24, 3, 2, 2, 40, 37, "LLL", [0], False, True, 0, 8, 2, 33),
    "three-heads": ("tnl", 36, 2, 3, 3, 20, 29, "LL", [0], True, True, None, 8, 3, 50),
    "twelve-heads": ("tnl", 48, 2, 12, 12, 20, 29, "LL", [], False, True, None, 8, 3, 21),
    "lrpe-everywhere": ("tnl", 24, 3, 3, 3, 20, 29, "LLL", [0, 1, 2], False, True, 5, 8, 1, 200),
    "hybrid": ("tnl", 32, 4, 4, 2, 24, 41, "LNLW", [0], False, True, 0, 7, 5, 45),
    "one-layer": ("tnl", 16, 1, 2, 2, 24, 19, "L", [0], True, True, 0, 8, 4, 130),
    "unscaled": ("tnl", 24, 2, 2, 2, 40, 37, "LL", [0], True, False, 0, 8, 3, 11),
    "conv": ("tnl", 24, 3, 3, 3, 20, 29, "LLW", [0], True, True, 0, 8, 3, 41, 4),
    "short": ("tnl", 8, 2, 1, 1, 3, 5, "LN", [0], False, True, None, 8, 3, 2),
    "llama": ("llama", 32, 3, 4, 2, 24, 41, "NNN", [], False, False, None, 8, 4, 90),
    "llama-tied": ("llama", 12, 1, 2, 2, 7, 13, "N", [], True, False, None, 8, 1, 5),
}.items()}
EPS, ROPE_BASE = 1e-6, 10000.0


# ---- files ---------------------------------------------------------------------------------------

TYPES = {"F32": np.float32, "F64": np.float64, "I64": np.int64}


def st_write(path, tensors):
    header, parts, at = {}, [], 0
    for name, x in tensors.items():
        kind = next(k for k, t in TYPES.items() if x.dtype == t)
        parts.append(np.ascontiguousarray(x).tobytes())
        header[name] = {"dtype": kind, "shape": list(x.shape), "data_offsets": [at, at + len(parts[-1])]}
        at += len(parts[-1])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(parts))


def st_read(path):
    data = open(path, "rb").read()
    n = struct.unpack("<Q", data[:8])[0]
    out = {}
    for name, t in json.loads(data[8:8 + n]).items():
        if name != "__metadata__":
            a, b = t["data_offsets"]
            out[name] = np.frombuffer(data[8 + n + a:8 + n + b], TYPES[t["dtype"]]).reshape(t["shape"])
    return out


def config(m):
    if m["family"] == "llama":
        return {"model_type": "llama", "vocab_size": m["V"], "hidden_size": m["C"], "num_hidden_layers": m["L"],
                "num_attention_heads": m["H"], "num_key_value_heads": m["Hk"], "intermediate_size": m["F"],
                "hidden_act": "silu", "rms_norm_eps": EPS, "rope_theta": ROPE_BASE,
                "tie_word_embeddings": m["tied"], "pad_token_id": m["pad"], "bos_token_id": 1, "eos_token_id": 2}
    return {"model_type": "transnormer", "vocab_size": m["V"], "decoder_embed_dim": m["C"], "decoder_layers": m["L"],
            "decoder_attention_heads": m["H"], "hidden_dim": m["C"], "glu_dim": m["F"],
            "linear_use_lrpe_list": [int(i in m["lrpe"]) for i in range(m["L"])], "linear_act_fun": "silu",
            "norm_type": "simplermsnorm", "no_scale_embedding": not m["scaled"], "bias": False,
            "tie_word_embeddings": m["tied"], "pad_token_id": m["pad"], "layer_pattern": m["pattern"],
            "window": m["window"], "kv_heads": m["Hk"], "conv": m["conv"]}


def shapes(m):
    C, F, V, H, d = m["C"], m["F"], m["V"], m["H"], m["C"] // m["H"]
    llama = m["family"] == "llama"
    out = {"model.embed_tokens.weight": (V, C)}
    for i, letter in enumerate(m["pattern"]):
        p = f"model.layers.{i}."
        mix = p + ("self_attn." if llama else "token_mixer.")
        if letter == "L":
            out[mix + "qkvu_proj.weight"], out[mix + "out_proj.weight"] = (4 * C, C), (C, C)
            if m["conv"]:
                out[mix + "conv.weight"] = (3 * C, m["conv"])
            if i in m["lrpe"]:
                out[mix + "lrpe.theta"] = (H, 1, d)
        else:
            for part, rows in (("q", C), ("k", m["Hk"] * d), ("v", m["Hk"] * d), ("o", C)):
                out[mix + part + "_proj.weight"] = (rows, C)
        up, down = (("gate_proj", "up_proj"), "down_proj") if llama else (("l1", "l2"), "l3")
        mlp = p + ("mlp." if llama else "channel_mixer.")
        out[mlp + up[0] + ".weight"] = out[mlp + up[1] + ".weight"] = (F, C)
        out[mlp + down + ".weight"] = (C, F)
        if llama:
            out[p + "input_layernorm.weight"] = out[p + "post_attention_layernorm.weight"] = (C,)
    if llama:
        out["model.norm.weight"] = (C,)
    if not m["tied"]:
        out["lm_head.weight"] = (V, C)
    return out


# Models whose rows hold several documents, some of a single token.
SEVERAL = ("hybrid", "conv", "llama", "lmm", "mag", "mal")


def inputs(name, m, rng):
    out = {"input_ids": rng.integers(0, m["V"], (m["B"], m["T"]))}
    if name in SEVERAL:
        out["document"] = np.cumsum(rng.random((m["B"], m["T"])) < 0.1, 1).astype(np.int64)
    return out


def documents(path):
    """Of each row its documents, lists of ids."""
    x = st_read(path)
    ids = x["input_ids"]
    number = x.get("document", np.zeros_like(ids))
    return [np.split(row, 1 + np.flatnonzero(np.diff(n))) for row, n in zip(ids, number)]


def make(directory, name, kind):
    m, rng = MODELS[name], np.random.default_rng(sum(map(ord, name)))
    w = {}
    for key, shape in shapes(m).items():
        w[key] = rng.normal(size=shape) / np.sqrt(shape[-1])
        if len(shape) == 1:
            w[key] = 1 + 0.3 * rng.normal(size=shape)
        if key.endswith("theta"):
            w[key] = rng.uniform(0, 1, shape) ** 3
    st_write(f"{directory}/model.safetensors", {k: x.astype(TYPES[kind.upper()]) for k, x in w.items()})
    st_write(f"{directory}/ids.safetensors", inputs(name, m, rng))
    json.dump(config(m), open(f"{directory}/config.json", "w"))
    open(f"{directory}/name", "w").write(name)


# ---- the model: every function returns its value and its backward ---------------------------------

def silu(z):
    s = 1 / (1 + np.exp(-z))
    return z * s, lambda dy: dy * s * (1 + z * (1 - s))


def srms(x):
    rho = 1 / np.sqrt(np.mean(x * x, -1, keepdims=True) + EPS)
    y = x * rho
    return y, lambda dy: rho * (dy - y * np.mean(y * dy, -1, keepdims=True))


class Net:
    def __init__(self, m, w):
        self.m, self.w = m, w
        self.g = {k: np.zeros_like(x) for k, x in w.items()}

    def linear(self, x, name):
        def back(dy):
            self.g[name] += dy.T @ x
            return dy @ self.w[name]
        return x @ self.w[name].T, back

    def norm(self, x, name):
        y, back_y = srms(x)
        if self.m["family"] != "llama":
            return y, back_y
        gain = self.w[name]

        def back(dz):
            self.g[name] += np.sum(dz * y, 0)
            return back_y(dz * gain)
        return y * gain, back

    # Slopes by the recursion of ALiBi, times a factor that falls from 1 to 1e-5 over the depth.
    def decay(self, layer):
        def slopes(n):
            p = 2 ** int(np.log2(n))
            if p == n:
                return [2 ** (-8 * (h + 1) / n) for h in range(n)]
            return slopes(p) + slopes(2 * p)[0::2][:n - p]
        L = self.m["L"]
        return np.array(slopes(self.m["H"])) * (1 - (layer / (L - 1) if L > 1 else 0) + 1e-5)

    def heads(self, x, H):  # (T, H*d) -> (H, T, d)
        return x.reshape(len(x), H, -1).transpose(1, 0, 2)

    def merge(self, x):
        return x.transpose(1, 0, 2).reshape(x.shape[1], -1)

    # [ z cos(n theta) | z sin(n theta) ] of each head.
    def lrpe(self, z, name):
        theta, n = self.w[name], np.arange(z.shape[1])[:, None]
        c, s, d = np.cos(n * theta), np.sin(n * theta), z.shape[2]

        def back(dy):
            a, b = dy[..., :d], dy[..., d:]
            self.g[name] += np.sum(n * z * (b * c - a * s), 1, keepdims=True)
            return a * c + b * s
        return np.concatenate([z * c, z * s], -1), back

    # Row t: what stands in column j of the weight times row t - j.
    def conv(self, x, name):
        w, T = self.w[name], len(x)
        shifted = [np.vstack([np.zeros((min(j, T), x.shape[1])), x[:T - j] if j < T else x[:0]]) for j in range(w.shape[1])]

        def back(dy):
            self.g[name] += np.stack([np.sum(dy * s, 0) for s in shifted], 1)
            later = [np.vstack([dy[j:], np.zeros((min(j, T), x.shape[1]))]) for j in range(w.shape[1])]
            return sum(w[:, j] * d for j, d in enumerate(later))
        return sum(w[:, j] * s for j, s in enumerate(shifted)), back

    def lightning(self, x, layer):
        C, H, pre = self.m["C"], self.m["H"], f"model.layers.{layer}.token_mixer."
        z, back_z = self.linear(x, pre + "qkvu_proj.weight")
        qkv, back_conv = z[:, :3 * C], lambda d: d
        if self.m["conv"]:
            qkv, back_conv = self.conv(qkv, pre + "conv.weight")
        (q, back_q), (k, back_k) = silu(qkv[:, :C]), silu(qkv[:, C:2 * C])
        v, u = qkv[:, 2 * C:], z[:, 3 * C:]
        Q, K, Vh = self.heads(q, H), self.heads(k, H), self.heads(v, H)
        coded = layer in self.m["lrpe"]
        if coded:
            (Q, back_Q), (K, back_K) = self.lrpe(Q, pre + "lrpe.theta"), self.lrpe(K, pre + "lrpe.theta")
        gap = np.subtract.outer(np.arange(len(x)), np.arange(len(x)))
        D = np.where(gap >= 0, np.exp(-self.decay(layer)[:, None, None] * np.maximum(gap, 0)), 0)
        A = (Q @ K.transpose(0, 2, 1)) * D
        y, back_y = srms(self.merge(A @ Vh))
        out, back_out = self.linear(u * y, pre + "out_proj.weight")

        def back(dout):
            dgated = back_out(dout)
            dO = self.heads(back_y(dgated * u), H)
            dA = (dO @ Vh.transpose(0, 2, 1)) * D
            dQ, dK, dV = dA @ K, dA.transpose(0, 2, 1) @ Q, A.transpose(0, 2, 1) @ dO
            if coded:
                dQ, dK = back_Q(dQ), back_K(dK)
            dqkv = np.concatenate([back_q(self.merge(dQ)), back_k(self.merge(dK)), self.merge(dV)], 1)
            return back_z(np.concatenate([back_conv(dqkv), dgated * y], 1))
        return out, back

    # Pairs (c, c + d/2) turn by n * base^(-2c/d).
    def rope(self, x, sign=1.0):
        half = x.shape[2] // 2
        angle = sign * np.arange(x.shape[1])[:, None] * ROPE_BASE ** (-np.arange(half) / half)
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], -1)

    def softmax(self, x, layer, window):
        H, Hk = self.m["H"], self.m["Hk"]
        pre = f"model.layers.{layer}." + ("self_attn." if self.m["family"] == "llama" else "token_mixer.")
        (q, back_q), (k, back_k), (v, back_v) = (self.linear(x, f"{pre}{p}_proj.weight") for p in "qkv")
        share = H // Hk
        Q = self.rope(self.heads(q, H))
        K, Vh = np.repeat(self.rope(self.heads(k, Hk)), share, 0), np.repeat(self.heads(v, Hk), share, 0)
        gap = np.subtract.outer(np.arange(len(x)), np.arange(len(x)))
        seen = (gap >= 0) & (gap < window)
        scale = 1 / np.sqrt(Q.shape[2])
        S = np.where(seen, scale * Q @ K.transpose(0, 2, 1), -np.inf)
        P = np.exp(S - S.max(-1, keepdims=True))
        P /= P.sum(-1, keepdims=True)
        out, back_out = self.linear(self.merge(P @ Vh), pre + "o_proj.weight")

        def back(dout):
            dO = self.heads(back_out(dout), H)
            dP = dO @ Vh.transpose(0, 2, 1)
            dS = scale * P * (dP - np.sum(dP * P, -1, keepdims=True))

            def grouped(d):
                return d.reshape(Hk, share, *d.shape[1:]).sum(1)
            dk = self.rope(grouped(dS.transpose(0, 2, 1) @ Q), -1.0)
            dv = grouped(P.transpose(0, 2, 1) @ dO)
            return back_q(self.merge(self.rope(dS @ K, -1.0))) + back_k(self.merge(dk)) + back_v(self.merge(dv))
        return out, back

    def mixer(self, x, layer):
        letter = self.m["pattern"][layer]
        if letter == "L":
            return self.lightning(x, layer)
        return self.softmax(x, layer, self.m["window"] if letter == "W" else len(x))

    def mlp(self, x, layer):
        llama = self.m["family"] == "llama"
        pre = f"model.layers.{layer}." + ("mlp." if llama else "channel_mixer.")
        names = ("gate_proj", "up_proj", "down_proj") if llama else ("l1", "l2", "l3")
        (a, back_a), (b, back_b) = (self.linear(x, f"{pre}{n}.weight") for n in names[:2])
        f, back_f = silu(a) if llama else (a, lambda d: d)
        out, back_out = self.linear(f * b, f"{pre}{names[2]}.weight")

        def back(dout):
            dh = back_out(dout)
            return back_a(back_f(dh * b)) + back_b(dh * f)
        return out, back

    # One row of ids, a document of its own. Its backward adds to the gradients.
    def logits(self, ids):
        m, E = self.m, "model.embed_tokens.weight"
        scale = np.sqrt(m["C"]) if m["scaled"] else 1.0
        x, backs = scale * self.w[E][ids], []
        for i in range(m["L"]):
            for norm, branch in (("input_layernorm", self.mixer), ("post_attention_layernorm", self.mlp)):
                n, back_n = self.norm(x, f"model.layers.{i}.{norm}.weight")
                y, back_y = branch(n, i)
                x = x + y
                backs.append((back_n, back_y))
        n, back_n = self.norm(x, "model.norm.weight")
        logits, back_head = self.linear(n, E if m["tied"] else "lm_head.weight")

        def back(dlogits):
            dx = back_n(back_head(dlogits))
            for back_norm, back_branch in reversed(backs):
                dx = dx + back_norm(back_branch(dx))
            looked = ids != (-1 if m["pad"] is None else m["pad"])
            np.add.at(self.g[E], ids[looked], scale * dx[looked])
        return logits, back

    # Adds to the gradients of the sum of losses.
    def row(self, ids):
        logits, back = self.logits(ids)
        top = logits.max(-1, keepdims=True)
        lse = top + np.log(np.exp(logits - top).sum(-1, keepdims=True))
        at = (np.arange(len(ids) - 1), ids[1:])
        loss = np.sum(lse[:-1, 0] - logits[at])

        dlogits = np.exp(logits - lse)
        dlogits[at] -= 1
        dlogits[-1] = 0
        back(dlogits)
        return logits, loss


def compare(path, wanted, kind):
    got, limit, bad, worst = st_read(path), {"f32": 5e-5, "f64": 1e-9}[kind], [], 0.0
    if sorted(got) != sorted(wanted):
        sys.exit(f"{path}: tensors {sorted(set(got) ^ set(wanted))} are on one side only")
    for name, x in wanted.items():
        if got[name].shape != x.shape:
            sys.exit(f"{path}: {name} has shape {got[name].shape}, not {x.shape}")
        # A gradient of zeros (queries that see one key) is compared on an absolute scale.
        error = np.max(np.abs(got[name] - x)) / max(np.max(np.abs(x)), 1e-3)
        worst = max(worst, error)
        if not error <= (1e-5 if name == "loss" and kind == "f32" else limit):
            bad.append(f"{name} is off by {error:.2e} of its maximum")
    if bad:
        sys.exit(f"{path}: " + "; ".join(bad))
    print(f"{path}: {len(wanted)} tensors within {worst:.1e}")


def check(directory, path, kind):
    m = MODELS[open(f"{directory}/name").read()]
    weights = {k: x.astype(np.float64) for k, x in st_read(f"{directory}/model.safetensors").items()}
    rows = documents(f"{directory}/ids.safetensors")
    net = Net(m, weights)
    done = [[net.row(d) for d in row] for row in rows]
    targets = sum(len(d) - 1 for row in rows for d in row)
    wanted = {k: g / targets for k, g in net.g.items()}
    wanted["logits"] = np.stack([np.concatenate([d[0] for d in row]) for row in done])
    wanted["loss"] = np.array([sum(d[1] for row in done for d in row) / targets])
    compare(path, wanted, kind)


if __name__ == "__main__":
    if sys.argv[1] == "list":
        print("\n".join(MODELS))
    else:
        {"make": make, "check": check}[sys.argv[1]](*sys.argv[2:])
