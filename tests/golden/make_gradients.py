#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/data/gradients: two tiny decoders, and the loss and every gradient of a table of training cases.

usage: make_gradients.py [--check]     needs the packages numpy, torch, gguf and safetensors; --check compares instead

The method is written down here a second time, plainly, from docs/training.md, and differentiated by PyTorch in double
precision; nothing of the trainer is used. A case is a row of CASES. For each architecture there are
  ARCH.gguf          the model, random, f32
  ARCH.safetensors   in/GROUP/NAME   adapter parameters, shared by the cases (GROUP: gate kind, skip.RANK, lora)
                     CASE/NAME       the gradient of a parameter (adapter or GGUF name), rounded to f32
                     metadata: `cases`, JSON: the row, token ids, positions in the loss and their targets, thresholds, loss
"""
import argparse
import dataclasses
import json
import math
import pathlib
import sys
import tempfile

import gguf
import numpy
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file, save_file

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "data" / "gradients"
TEMPERATURE = 0.3
LENGTH, BATCH = 7, 2
BOUNDARIES = (3, 4)  # first position of each sequence's second document, where there are two
GATE_RANK, LORA_RANK, LORA_ALPHA = 3, 2, 4.0
LORA_TARGETS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
MARGIN = 1e-3  # no logit is nearer to its threshold: f32 decides as f64 does


@dataclasses.dataclass
class Case:
    name: str
    gate: str = "scalar"         # scalar, low_rank, vector, mlp; none: the ungated model
    shared: bool = False         # one set of gate matrices per kind of branch
    product: str = "none"        # output: g * Branch(h); input: Branch(g * h)
    scope: str = "branch"        # layer: the attention branch's gate decides for the MLP, too
    ungated: tuple = ()          # branches without a gate
    kv: str = "compute"          # compute, copy, drop
    skip_rank: int = -1          # -1: nothing, 0: bias, r: bias and a rank-r map
    lora: bool = False
    base: bool = False           # the base model's own parameters are trained, too
    rule: str = "threshold"      # quantile: of the sequence's own logits, branch by branch
    straight_through: bool = True
    documents: bool = False      # each sequence holds two documents that do not see each other
    always_run: int = 1
    kl: float = 1.0
    ce: float = 0.0
    gate_l2: float = 0.0         # penalties on open gates
    gate_l1: float = 0.0
    gate_kl: float = 0.0
    gate_target: float = 0.8
    penalty_layers: tuple = ()   # all if empty
    head: float = 0.0            # BCE of the distilled head of vector gates


CASES = (
    Case("Scalar"),
    Case("ScalarCe", kl=0.0, ce=1.0),
    Case("ScalarDrop", kv="drop", kl=0.75, ce=0.5, always_run=2),
    Case("ScalarCopy", kv="copy", ungated=(1,)),
    Case("ScalarOutputL2", product="output", gate_l2=0.5),
    Case("ScalarInputL1", product="input", gate_l1=0.5, skip_rank=2),
    Case("ScalarLayerTarget", scope="layer", gate_kl=0.5, gate_target=0.7, kv="drop"),
    Case("ScalarSkipBias", skip_rank=0, kv="drop"),
    Case("ScalarSkipLora", skip_rank=2, lora=True),
    Case("ScalarOutputSkipLoraCopy", product="output", skip_rank=2, lora=True, kv="copy", ce=0.5),
    Case("ScalarDocumentsDrop", documents=True, kv="drop", skip_rank=2),
    Case("ScalarQuantileOutputPaper", rule="quantile", product="output", straight_through=False, kv="copy", kl=0.0, ce=1.0,
         gate_l2=1.0),
    Case("LowRank", gate="low_rank", skip_rank=0),
    Case("LowRankQuantile", gate="low_rank", rule="quantile", skip_rank=2),
    Case("LowRankOutputCopyL2", gate="low_rank", product="output", kv="copy", gate_l2=0.5, penalty_layers=(0, 2)),
    Case("MlpInputDropL1", gate="mlp", product="input", kv="drop", gate_l1=0.25, penalty_layers=(1,)),
    Case("MlpSharedLayerSkip", gate="mlp", shared=True, scope="layer", skip_rank=2),
    Case("VectorDrop", gate="vector", kv="drop", head=1.0),
    Case("VectorOutputSkipL2", gate="vector", product="output", skip_rank=2, gate_l2=0.5, head=0.5),
    Case("VectorSharedInputTarget", gate="vector", shared=True, product="input", gate_kl=0.5, head=1.0, ungated=(0, 5)),
    Case("BaseUngated", gate="none", base=True, kl=0.0, ce=1.0),
    Case("BaseScalarSkipLora", base=True, skip_rank=2, lora=True, kl=0.5, ce=0.5, documents=True),
    Case("BaseVectorOutputDrop", base=True, gate="vector", product="output", kv="drop", ce=1.0, gate_l2=0.5, head=1.0),
    Case("BaseMlpInputCopy", base=True, gate="mlp", product="input", kv="copy", rule="quantile"),
)


@dataclasses.dataclass
class Arch:
    name: str
    layers: int
    d: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    window: int = 0  # of all layers but every sixth, Gemma 3's pattern
    eps: float = 1e-5

    @property
    def gemma(self):
        return self.name == "gemma3"

    def is_local(self, layer):
        return self.gemma and (layer + 1) % 6 != 0

    def copy_source(self, layer):
        below = [l for l in range(layer) if self.is_local(l) == self.is_local(layer)]
        return below[-1] if below else None


ARCHS = (Arch("llama", 3, 16, 4, 2, 4, 24, 24), Arch("gemma3", 7, 12, 3, 1, 4, 20, 20, window=3))


KINDS = ("attn", "mlp")


def prefix_of(b):
    return f"blk.{b // 2}.{KINDS[b % 2]}."


def normal(rng, shape, sigma):
    return (sigma * rng.standard_normal(shape)).astype(numpy.float32)


def make_base(arch, rng):
    d, q, kv = arch.d, arch.heads * arch.head_dim, arch.kv_heads * arch.head_dim
    weights = {"token_embd.weight": normal(rng, (arch.vocab, d), 0.5)}

    def norm(name, size):
        weights[name] = 1.0 + normal(rng, (size,), 0.1)

    def matrix(name, out, width, gain=1.0):
        weights[name] = normal(rng, (out, width), gain / math.sqrt(width))

    norm("output_norm.weight", d)
    for l in range(arch.layers):
        p = f"blk.{l}."
        norm(p + "attn_norm.weight", d)
        matrix(p + "attn_q.weight", q, d, 1.5)
        matrix(p + "attn_k.weight", kv, d, 1.5)
        matrix(p + "attn_v.weight", kv, d)
        matrix(p + "attn_output.weight", d, q)
        norm(p + "ffn_norm.weight", d)
        matrix(p + "ffn_gate.weight", arch.ffn, d)
        matrix(p + "ffn_up.weight", arch.ffn, d)
        matrix(p + "ffn_down.weight", d, arch.ffn)
        if arch.gemma:
            norm(p + "attn_q_norm.weight", arch.head_dim)
            norm(p + "attn_k_norm.weight", arch.head_dim)
            norm(p + "post_attention_norm.weight", d)
            norm(p + "post_ffw_norm.weight", d)
    return weights


def make_adapter(arch, base, rng):
    """Every group of parameters that a case may use."""
    d, inputs = arch.d, {}
    sigma = 1.0 / math.sqrt(d)

    def matrices(prefix):
        inputs["scalar/" + prefix + "gate.weight"] = normal(rng, (d,), sigma)
        for kind in ("low_rank/", "mlp/"):
            inputs[kind + prefix + "gate.down"] = normal(rng, (GATE_RANK, d), 2 * sigma)
            inputs[kind + prefix + "gate.up"] = normal(rng, (d, GATE_RANK), 1.0)
        inputs["vector/" + prefix + "gate.weight"] = normal(rng, (d, d), sigma)

    matrices("shared.attn.")
    matrices("shared.mlp.")
    for b in range(2 * arch.layers):
        p = prefix_of(b)
        matrices(p)
        inputs["scalar/" + p + "gate.bias"] = normal(rng, (1,), 0.3)
        for kind in ("low_rank/", "mlp/", "vector/"):
            inputs[kind + p + "gate.bias"] = normal(rng, (d,), 0.3)
        inputs["vector/" + p + "decision.weight"] = normal(rng, (d,), sigma)
        inputs["vector/" + p + "decision.bias"] = normal(rng, (1,), 0.3)
        inputs["skip.0/" + p + "skip.bias"] = normal(rng, (d,), 0.2)
        inputs["skip.2/" + p + "skip.bias"] = normal(rng, (d,), 0.2)
        inputs["skip.2/" + p + "skip.down"] = normal(rng, (2, d), 0.3)
        inputs["skip.2/" + p + "skip.up"] = normal(rng, (d, 2), 0.3)
    for l in range(arch.layers):
        for target in LORA_TARGETS:
            out, width = base[f"blk.{l}.{target}.weight"].shape
            inputs[f"lora/blk.{l}.{target}.lora_a"] = normal(rng, (LORA_RANK, width), 0.2)
            inputs[f"lora/blk.{l}.{target}.lora_b"] = normal(rng, (out, LORA_RANK), 0.2)
    return inputs


def write_gguf(arch, base, path):
    writer = gguf.GGUFWriter(path, arch.name)
    writer.add_name(f"gradients-{arch.name}")
    writer.add_block_count(arch.layers)
    writer.add_embedding_length(arch.d)
    writer.add_feed_forward_length(arch.ffn)
    writer.add_head_count(arch.heads)
    writer.add_head_count_kv(arch.kv_heads)
    writer.add_key_length(arch.head_dim)
    writer.add_value_length(arch.head_dim)
    writer.add_context_length(64)
    writer.add_layer_norm_rms_eps(arch.eps)
    if arch.gemma:
        writer.add_sliding_window(arch.window)
    for name, value in base.items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def rms_norm(x, weight, eps):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def rotate(x, arch, base_frequency):
    """x [batch, heads, length, head_dim]; Llama's GGUF pairs neighbours, Gemma's pairs halves."""
    half = arch.head_dim // 2
    inverse = (base_frequency ** (-2.0 * numpy.arange(half) / arch.head_dim)).astype(numpy.float32)
    angles = torch.outer(torch.arange(x.shape[2], dtype=x.dtype), torch.from_numpy(inverse).to(x.dtype))
    cos, sin = angles.cos(), angles.sin()
    if arch.gemma:
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)


def document_starts(case):
    """Of each position, the first one of its document."""
    start = torch.zeros(BATCH, LENGTH, dtype=torch.long)
    if case.documents:
        for sequence, boundary in enumerate(BOUNDARIES):
            start[sequence, boundary:] = boundary
    return start


class Model:
    """One forward pass. `p`: parameters by name; `thresholds` [batch], None = the ungated model without deltas."""

    def __init__(self, arch, case, p, thresholds):
        self.arch, self.case, self.p, self.thresholds = arch, case, p, thresholds
        self.start = document_starts(case)  # [batch, length]
        self.keys, self.values = {}, {}
        self.penalties, self.bce = [], []
        self.margin, self.decisions = math.inf, []

    def linear(self, x, layer, target):
        y = x @ self.p[f"blk.{layer}.{target}.weight"].T
        a = self.p.get(f"blk.{layer}.{target}.lora_a")
        if self.thresholds is None or a is None:
            return y
        return y + LORA_ALPHA / LORA_RANK * (x @ a.T) @ self.p[f"blk.{layer}.{target}.lora_b"].T

    def attention(self, h, layer, keep):
        arch, case, p = self.arch, self.case, self.p

        def heads(x):
            return x.view(BATCH, LENGTH, -1, arch.head_dim).transpose(1, 2)

        q, k, v = (heads(self.linear(h, layer, t)) for t in ("attn_q", "attn_k", "attn_v"))
        if arch.gemma:
            q = rms_norm(q, p[f"blk.{layer}.attn_q_norm.weight"], arch.eps)
            k = rms_norm(k, p[f"blk.{layer}.attn_k_norm.weight"], arch.eps)
        base_frequency = 1e6 if arch.gemma and not arch.is_local(layer) else 1e4
        q, k = rotate(q, arch, base_frequency), rotate(k, arch, base_frequency)
        source = arch.copy_source(layer)
        if case.kv == "copy" and keep is not None and source is not None:
            ran = keep.detach().view(BATCH, 1, LENGTH, 1) > 0.5
            k, v = torch.where(ran, k, self.keys[source]), torch.where(ran, v, self.values[source])
        self.keys[layer], self.values[layer] = k, v

        t = torch.arange(LENGTH)
        seen = t[None, :] <= t[:, None]
        if arch.is_local(layer):
            seen = seen & (t[None, :] > t[:, None] - arch.window)
        seen = (seen & (t >= self.start[:, :, None])).unsqueeze(1)
        if case.kv == "drop" and keep is not None:
            seen = seen & ((keep.detach() > 0.5)[:, None, None, :] | torch.eye(LENGTH, dtype=torch.bool))
        group = arch.heads // arch.kv_heads
        scores = q @ k.repeat_interleave(group, 1).transpose(2, 3) / math.sqrt(arch.head_dim)
        weights = torch.softmax(scores.masked_fill(~seen, -math.inf), -1)
        context = (weights @ v.repeat_interleave(group, 1)).transpose(1, 2).reshape(BATCH, LENGTH, -1)
        out = self.linear(context, layer, "attn_output")
        return rms_norm(out, p[f"blk.{layer}.post_attention_norm.weight"], arch.eps) if arch.gemma else out

    def mlp(self, h, layer):
        gate = self.linear(h, layer, "ffn_gate")
        gate = F.gelu(gate, approximate="tanh") if self.arch.gemma else F.silu(gate)
        out = self.linear(gate * self.linear(h, layer, "ffn_up"), layer, "ffn_down")
        return rms_norm(out, self.p[f"blk.{layer}.post_ffw_norm.weight"], self.arch.eps) if self.arch.gemma else out

    def gate(self, h, b):
        """The logit that decides, forward and backward, and the gate's value. The gate reads detach(h)."""
        h, p, prefix = h.detach(), self.p, prefix_of(b)
        matrix = f"shared.{KINDS[b % 2]}." if self.case.shared else prefix
        if self.case.gate == "scalar":
            z = h @ p[matrix + "gate.weight"] + p[prefix + "gate.bias"]
            g = torch.sigmoid(z).unsqueeze(-1)
            self.penalize(g, b // 2)
            return z, g
        if self.case.gate == "vector":
            logits = h @ p[matrix + "gate.weight"].T
        else:
            inner = h @ p[matrix + "gate.down"].T
            logits = (F.silu(inner) if self.case.gate == "mlp" else inner) @ p[matrix + "gate.up"].T
        g = torch.sigmoid(logits + p[prefix + "gate.bias"])
        self.penalize(g, b // 2)
        importance = g.mean(-1)
        z = torch.log(importance / (1 - importance))
        if self.case.gate == "vector":  # the head decides and learns by distillation; the derivative is the gate's
            head = h @ p[prefix + "decision.weight"] + p[prefix + "decision.bias"]
            self.bce.append(F.binary_cross_entropy_with_logits(head, importance.detach()))
            z = head.detach() + z - z.detach()
        return z, g

    def penalize(self, g, layer):
        case, rate = self.case, g.mean()
        if case.penalty_layers and layer not in case.penalty_layers:
            return
        divergence = 0.0
        if case.gate_kl:
            t = case.gate_target
            divergence = t * torch.log(t / rate) + (1 - t) * torch.log((1 - t) / (1 - rate))
        self.penalties.append(case.gate_l2 * (g * g).mean() + case.gate_l1 * rate + case.gate_kl * divergence)

    def decide(self, z):
        """[batch, length] 0 or 1, with the derivative of sigmoid((z - tau) / T) at fixed tau."""
        with torch.no_grad():
            free = torch.arange(LENGTH) - self.start >= self.case.always_run
            tau = torch.tensor(self.thresholds, dtype=z.dtype)[:, None]
            if self.case.rule == "quantile":  # thresholds are shares of the sequence, its first positions left out
                ascending = z[:, self.case.always_run:].sort(1).values
                last = torch.tensor([[int(share * ascending.shape[1]) - 1] for share in self.thresholds])
                tau = ascending.gather(1, last)
                distance = (z - tau).abs()
                distance = torch.where(distance == 0, math.inf, distance)
            else:
                distance = (z - tau).abs()
            self.margin = min(self.margin, distance[free].min().item())
            hard = torch.where(free, (z > tau).to(z.dtype), 1.0)
            self.decisions.append(hard)
        soft = torch.where(free, torch.sigmoid((z - tau) / TEMPERATURE), 0.0)
        return hard + (soft - soft.detach()) if self.case.straight_through else hard

    def branch(self, x, b, before):
        """-> the residual stream after the branch, and what was decided for its rows."""
        layer, prefix = b // 2, prefix_of(b)
        norm = ("attn_norm", "ffn_norm")[b % 2]
        h = rms_norm(x, self.p[f"blk.{layer}.{norm}.weight"], self.arch.eps)
        keep = g = None
        if self.thresholds is not None and b not in self.case.ungated:
            if self.case.scope == "layer" and b % 2:
                keep = before
            else:
                z, g = self.gate(h, b)
                keep = self.decide(z)
        inside = h
        if self.case.product == "input" and g is not None:
            inside = h * g
            if b % 2 == 0:  # the keys and values of a row that skips are those of h
                inside = torch.where(keep.detach().unsqueeze(-1) > 0.5, inside, h)
        out = self.mlp(inside, layer) if b % 2 else self.attention(inside, layer, keep)
        if keep is None:
            return x + out, None
        if self.case.product == "output" and g is not None:
            out = out * g
        skipped = 0.0
        if prefix + "skip.bias" in self.p:
            skipped = self.p[prefix + "skip.bias"]
        if prefix + "skip.down" in self.p:
            skipped = skipped + h @ self.p[prefix + "skip.down"].T @ self.p[prefix + "skip.up"].T
        return x + keep.unsqueeze(-1) * out + (1 - keep.unsqueeze(-1)) * skipped, keep

    def logits(self, tokens):
        x = self.p["token_embd.weight"][tokens]
        if self.arch.gemma:
            x = x * math.sqrt(self.arch.d)
        keep = None
        for b in range(2 * self.arch.layers):
            x, keep = self.branch(x, b, keep)
        x = rms_norm(x, self.p["output_norm.weight"], self.arch.eps)
        return (x @ self.p["token_embd.weight"].T).flatten(0, 1)


def is_used(case, name):
    """Whether the case has this adapter parameter; `name` begins with its group."""
    group, _, name = name.partition("/")
    if group == "lora":
        return case.lora
    matrix = name.endswith(("gate.weight", "gate.down", "gate.up"))
    if group != f"skip.{case.skip_rank}" and (group != case.gate or (matrix and case.shared != name.startswith("shared."))):
        return False
    if name.startswith("shared."):
        return name.startswith("shared.attn.") or case.scope == "branch"
    b = next(b for b in range(100) if name.startswith(prefix_of(b)))
    return b not in case.ungated and (b % 2 == 0 or case.scope == "branch" or group != case.gate)


def parameters_of(case, base, inputs, dtype):
    """All parameters by name, those of the trained set with gradients."""
    p = {n: torch.from_numpy(v).to(dtype).requires_grad_(case.base) for n, v in base.items()}
    for name, value in inputs.items():
        if is_used(case, name):
            p[name.partition("/")[2]] = torch.from_numpy(value).to(dtype).requires_grad_()
    return p


def next_tokens(case, tokens, rows):
    """Of each row, the next token of its document, or -1."""
    flat, start = tokens.flatten(), document_starts(case).flatten()
    follows = (rows + 1) % LENGTH != 0
    after = (rows + 1).clamp(max=flat.numel() - 1)
    return torch.where(follows & (start[after] == start[rows]), flat[after], -1)


def run(arch, case, base, inputs, tokens, rows, thresholds, dtype):
    p = parameters_of(case, base, inputs, dtype)
    model = Model(arch, case, p, None if case.gate == "none" else thresholds)
    log_q = torch.log_softmax(model.logits(tokens)[rows], -1)
    with torch.no_grad():
        log_p = torch.log_softmax(Model(arch, case, p, None).logits(tokens)[rows], -1)
    kl = (log_p.exp() * (log_p - log_q)).sum(-1)
    targets = next_tokens(case, tokens, rows)
    nll = torch.where(targets >= 0, -log_q.gather(1, targets.clamp(min=0)[:, None])[:, 0], 0.0)
    loss = (case.kl * kl + case.ce * nll).mean()
    if model.penalties:
        loss = loss + torch.stack([torch.as_tensor(x) for x in model.penalties]).mean()
    if case.head:
        loss = loss + case.head * torch.stack(model.bce).mean()
    loss.backward()
    return model, loss.item(), {n: v.grad for n, v in p.items() if v.requires_grad}


def kind_of(name):
    """Parameters of the same kind share a scale: blk.3.attn.gate.bias -> gate.bias, blk.3.attn_q.weight -> attn_q.weight."""
    return name.split(".", 2)[2].removeprefix("attn.").removeprefix("mlp.") if name.startswith("blk.") else name


def find_thresholds(arch, case, base, inputs, tokens, rows):
    """Thresholds that skip about a third of what may be skipped, no logit near them."""
    if case.gate == "none":
        return []
    if case.rule == "quantile":
        candidates = [[0.4, 0.2], [0.2, 0.4], [0.4, 0.6], [0.6, 0.4]]
    else:
        candidates = [[round(1.2 * (i * step % 1) - 0.8, 4) for step in (0.381966, 0.732051)] for i in range(1000)]
    for thresholds in candidates:
        model, _, _ = run(arch, case, base, inputs, tokens, rows, thresholds, torch.float64)
        skipped = 1 - torch.cat(model.decisions, 1).mean(1)
        if model.margin >= MARGIN and skipped.min() > 0.1 and skipped.max() < 0.5:
            return thresholds
    raise SystemExit(f"make_gradients.py: [{arch.name} {case.name}] thresholds: found none; change the seed")


def make(arch, folder):
    rng = numpy.random.default_rng(20251125)
    base = make_base(arch, rng)
    inputs = make_adapter(arch, base, rng)
    tokens = torch.from_numpy(rng.integers(0, arch.vocab, (BATCH, LENGTH)))
    # Half of the positions of each sequence; the first sequence's last one has no target.
    rows = torch.tensor([1, 3, 6, LENGTH, LENGTH + 2, LENGTH + 5])
    write_gguf(arch, base, folder / f"{arch.name}.gguf")
    tensors = {"in/" + name: value for name, value in inputs.items()}
    cases = []
    for case in CASES:
        thresholds = find_thresholds(arch, case, base, inputs, tokens, rows)
        _, loss, gradients = run(arch, case, base, inputs, tokens, rows, thresholds, torch.float64)
        _, _, single = run(arch, case, base, inputs, tokens, rows, thresholds, torch.float32)
        scale = {}
        for name, gradient in gradients.items():
            scale[kind_of(name)] = max(scale.get(kind_of(name), 0.0), gradient.abs().max().item())
            tensors[f"{case.name}/{name}"] = gradient.to(torch.float32).numpy()
        assert min(scale.values()) > 0, (case.name, scale)
        worst = max((single[n] - g).abs().max().item() / scale[kind_of(n)] for n, g in gradients.items())
        print(f"{arch.name} {case.name}: loss {loss:.6f}, PyTorch's own f32 error {worst:.1e}")
        cases.append(dataclasses.asdict(case) | {
            "gate_rank": GATE_RANK, "lora_rank": LORA_RANK, "lora_alpha": LORA_ALPHA, "temperature": TEMPERATURE,
            "tokens": tokens.tolist(), "starts": document_starts(case).tolist(), "rows": rows.tolist(),
            "targets": next_tokens(case, tokens, rows).tolist(), "thresholds": thresholds, "loss": loss})
    save_file(tensors, folder / f"{arch.name}.safetensors", metadata={"cases": json.dumps(cases)})
    (folder / f"{arch.name}.safetensors").chmod(0o644)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the files instead, within 1e-6")
    check = parser.parse_args().check
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary) if check else FOLDER
        for arch in ARCHS:
            make(arch, folder)
            if not check:
                continue
            if (folder / f"{arch.name}.gguf").read_bytes() != (FOLDER / f"{arch.name}.gguf").read_bytes():
                sys.exit(f"make_gradients.py: [{arch.name}.gguf] model: expected these bytes, found others")
            old = load_file(FOLDER / f"{arch.name}.safetensors")
            new = load_file(folder / f"{arch.name}.safetensors")
            for name in old.keys() | new.keys():
                if name not in old or name not in new or not numpy.allclose(old[name], new[name], rtol=1e-6, atol=1e-9):
                    sys.exit(f"make_gradients.py: [{arch.name}.safetensors] {name}: expected these numbers, found others")


if __name__ == "__main__":
    main()
