#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The PyTorch side of train_step.py: one process, one model, one trainable set; prints seconds per step as JSON.

What a step does is `gateskip train`'s step (docs/training.md): hard decisions with a straight-through derivative, the gate
reading detach(h), KL from the ungated model (a second forward pass without gradients) or cross-entropy, gradient norm clip,
AdamW. Two implementations: `plain` (functions over tensors, below) and `hf` (transformers' own LlamaForCausalLM, gates by
forward hooks). How each knob was chosen is in README.md; `--survey` measures them again.
"""
import argparse
import itertools
import json
import math
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

TEMPERATURE = 0.3
LORA_RANK, LORA_ALPHA = 8, 16.0
LORA_TARGETS = ("attn_output", "ffn_down")
MATRICES = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


class Shape:
    def __init__(self, fields):
        def number(key):
            return fields[f"llama.{key}"].contents()
        if fields["general.architecture"].contents() != "llama":
            sys.exit("torch_step.py: [model] architecture: expected llama, found another; pass a Llama model")
        self.layers, self.d = number("block_count"), number("embedding_length")
        self.heads, self.kv_heads = number("attention.head_count"), number("attention.head_count_kv")
        self.head_dim, self.eps = self.d // self.heads, number("attention.layer_norm_rms_epsilon")
        self.rope_base = fields["llama.rope.freq_base"].contents()


def load_gguf(path):
    """Shape and f32 tensors; q and k rows in the half-split rotation order, which PyTorch code rotates faster."""
    import gguf
    reader = gguf.GGUFReader(path)
    shape = Shape(reader.fields)
    weights = {}
    for tensor in reader.tensors:
        value = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).copy())
        if tensor.name.endswith(("attn_q.weight", "attn_k.weight")):
            pairs = value.view(-1, shape.head_dim // 2, 2, shape.d)
            value = pairs.transpose(1, 2).reshape(-1, shape.d)
        weights[tensor.name.removesuffix(".weight")] = value
    return shape, weights


class Gates(nn.Module):
    """A scalar gate per branch. The forward decides hard; the derivative is sigmoid's, at the noise-free logit."""

    def __init__(self, branches, d):
        super().__init__()
        self.weight = nn.ParameterList(torch.zeros(d) for _ in range(branches))
        # Spread over the branches, as the prior leaves them.
        self.bias = nn.ParameterList(torch.full((), 4.0 * b / branches - 2.0) for b in range(branches))

    def draw(self, batch, length):
        """What a step's decisions depend on besides the logits: thresholds [batch], noise [branches, batch, length]."""
        u = torch.rand(len(self.bias), batch, length).clamp_(1e-6, 1 - 1e-6)
        return torch.linspace(-1.0, 0.0, batch)[:, None], TEMPERATURE * torch.logit(u)


def straight_through(h, weight, bias, threshold, noise):
    """h [batch, length, d] -> keep [batch, length, 1], 0 or 1."""
    z = (h.detach() @ weight.to(h.dtype)).float() + bias
    soft = torch.sigmoid((z - threshold) / TEMPERATURE)
    keep = (z + noise > threshold).float() + soft - soft.detach()
    return torch.cat([torch.ones_like(keep[:, :1]), keep[:, 1:]], 1).unsqueeze(-1)


def rms_norm(x, weight, eps):
    return F.rms_norm(x, (x.shape[-1],), weight, eps).to(torch.bfloat16)


def attend_sdpa(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def attend_bmm(q, k, v):
    batch, heads, length, dim = q.shape
    k, v = k.reshape(-1, length, dim), v.reshape(-1, length, dim)
    q = (q / math.sqrt(dim)).reshape(len(k), -1, dim)  # the queries of one key head side by side
    scores = torch.bmm(q, k.transpose(1, 2)).view(-1, length, length)
    scores += torch.full((length, length), -math.inf, dtype=q.dtype).triu(1)
    p = torch.softmax(scores, -1).view(len(k), -1, length)
    return torch.bmm(p, v).view(batch, heads, length, dim)


ATTENTION = {"bmm": attend_bmm, "sdpa": attend_sdpa}


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


class Plain(nn.Module):
    """bf16 matrices, f32 residual stream, f32 masters of whatever is trained."""

    def __init__(self, path, train, attention, compiled):
        super().__init__()
        self.shape, weights = load_gguf(path)
        self.full = train == "full"
        self.attend = ATTENTION[attention]
        self.base = nn.ParameterDict()
        for name in list(weights):
            value = weights.pop(name)
            keep_f32 = self.full or value.dim() == 1
            self.base[name.replace(".", "/")] = nn.Parameter(value if keep_f32 else value.bfloat16(), self.full)
        self.gates = Gates(2 * self.shape.layers, self.shape.d)
        self.lora = nn.ParameterDict()
        for layer, target in itertools.product(range(self.shape.layers), LORA_TARGETS if train == "lora" else ()):
            out, width = self.base[f"blk/{layer}/{target}"].shape
            self.lora[f"{layer}/{target}/a"] = nn.Parameter(torch.randn(LORA_RANK, width) / math.sqrt(width))
            self.lora[f"{layer}/{target}/b"] = nn.Parameter(torch.zeros(out, LORA_RANK))
        self.layer = torch.compile(self.plain_layer) if compiled else self.plain_layer
        self.compute = None

    def refresh(self):
        """bf16 copies of what is trained, once per step (what autocast's cache does)."""
        self.compute = {n: p.bfloat16() if p.dim() == 2 else p for n, p in self.base.items()}

    def tables(self, length):
        half = self.shape.head_dim // 2
        inverse = self.shape.rope_base ** (-torch.arange(half, dtype=torch.float64) / half)
        angles = torch.outer(torch.arange(length, dtype=torch.float64), inverse).float().repeat(1, 2)
        return angles.cos().bfloat16(), angles.sin().bfloat16()

    def plain_layer(self, x, w, lora, gates, tables):
        s = self.shape
        batch, length, _ = x.shape

        def linear(y, name):
            out = F.linear(y, w[name])
            if name not in lora:
                return out
            a, b = lora[name]
            return out + F.linear(F.linear(y, a.bfloat16()), (b * (LORA_ALPHA / LORA_RANK)).bfloat16())

        def heads(y, count):
            return y.view(batch, length, count, s.head_dim).transpose(1, 2)

        h = rms_norm(x, w["attn_norm"], s.eps)
        q = rotate(heads(linear(h, "attn_q"), s.heads), *tables)
        k = rotate(heads(linear(h, "attn_k"), s.kv_heads), *tables)
        context = self.attend(q, k, heads(linear(h, "attn_v"), s.kv_heads))
        out = linear(context.transpose(1, 2).reshape(batch, length, -1), "attn_output")
        x = x + (out * straight_through(h, *gates[0]) if gates else out)
        h = rms_norm(x, w["ffn_norm"], s.eps)
        out = linear(F.silu(linear(h, "ffn_gate")) * linear(h, "ffn_up"), "ffn_down")
        return x + (out * straight_through(h, *gates[1]) if gates else out)

    def hidden(self, tokens, draw):
        """draw None = the ungated model without deltas."""
        s = self.shape
        tables = self.tables(tokens.shape[1])
        x = F.embedding(tokens, self.base["token_embd"]).float()
        for i in range(s.layers):
            w = {n: self.compute[f"blk/{i}/{n}"] for n in (*MATRICES, "attn_norm", "ffn_norm")}
            gates, lora = (), {}
            if draw is not None:
                gates = [(self.gates.weight[b], self.gates.bias[b], draw[0], draw[1][b]) for b in (2 * i, 2 * i + 1)]
                lora = {t: (self.lora[f"{i}/{t}/a"], self.lora[f"{i}/{t}/b"]) for t in LORA_TARGETS
                        if f"{i}/{t}/a" in self.lora}
            x = self.layer(x, w, lora, gates, tables)
        return rms_norm(x, self.compute["output_norm"], s.eps)

    def logits(self, hidden):
        return F.linear(hidden, self.compute["token_embd"])


class LoraLinear(nn.Module):
    def __init__(self, linear):
        super().__init__()
        self.linear = linear
        self.a = nn.Parameter(torch.randn(LORA_RANK, linear.in_features) / math.sqrt(linear.in_features))
        self.b = nn.Parameter(torch.zeros(linear.out_features, LORA_RANK))
        self.enabled = True

    def forward(self, x):
        y = self.linear(x)
        if not self.enabled:
            return y
        return y + F.linear(F.linear(x, self.a.to(x.dtype)), self.b.to(x.dtype)) * (LORA_ALPHA / LORA_RANK)


def llama_for_causal_lm(path, dtype, attention):
    """transformers' model with the GGUF's weights (its own GGUF reader keeps them packed, for inference)."""
    from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM

    def attend(_module, q, k, v, _mask, **_kwargs):
        return ATTENTION[attention](q, k, v).transpose(1, 2).contiguous(), None

    AttentionInterface.register("peer", attend)
    shape, weights = load_gguf(path)
    config = LlamaConfig(
        vocab_size=len(weights["token_embd"]), hidden_size=shape.d, intermediate_size=len(weights["blk.0.ffn_gate"]),
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        rms_norm_eps=shape.eps, rope_theta=shape.rope_base, tie_word_embeddings=True, attn_implementation="peer")
    names = {"token_embd": "embed_tokens", "output_norm": "norm", "attn_norm": "input_layernorm",
             "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
             "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj",
             "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    state = {}
    for name in list(weights):
        prefix, _, last = name.rpartition(".")
        state[f"{prefix.replace('blk', 'model.layers') or 'model'}.{names[last]}.weight"] = weights.pop(name).to(dtype)
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, assign=True)
    model.tie_weights()
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    return model


class HuggingFace(nn.Module):
    """transformers' own model; bf16 weights where frozen, f32 weights under autocast where trained."""

    def __init__(self, path, train, attention, compiled):
        super().__init__()
        self.full = train == "full"
        self.model = llama_for_causal_lm(path, torch.float32 if self.full else torch.bfloat16, attention)
        self.model.requires_grad_(self.full).train()
        self.gates = Gates(2 * self.model.config.num_hidden_layers, self.model.config.hidden_size)
        self.draw = None
        self.loras = []
        for i, layer in enumerate(self.model.model.layers):
            layer.self_attn.register_forward_hook(self.hook(2 * i), with_kwargs=True)
            layer.mlp.register_forward_hook(self.hook(2 * i + 1), with_kwargs=True)
            if train == "lora":
                layer.self_attn.o_proj = LoraLinear(layer.self_attn.o_proj)
                layer.mlp.down_proj = LoraLinear(layer.mlp.down_proj)
                self.loras += [layer.self_attn.o_proj, layer.mlp.down_proj]
            if compiled:
                layer.compile()

    def hook(self, branch):
        def gate(_module, args, kwargs, output):
            if self.draw is None:
                return None
            h = args[0] if args else kwargs["hidden_states"]
            keep = straight_through(h, self.gates.weight[branch], self.gates.bias[branch], self.draw[0],
                                    self.draw[1][branch])
            if isinstance(output, tuple):
                return (output[0] * keep.to(output[0].dtype), *output[1:])
            return output * keep.to(output.dtype)
        return gate

    def refresh(self):
        """Autocast casts by itself."""

    def hidden(self, tokens, draw):
        self.draw = draw
        for lora in self.loras:
            lora.enabled = draw is not None
        with torch.autocast("cpu", torch.bfloat16, enabled=self.full):
            return self.model.model(input_ids=tokens, use_cache=False).last_hidden_state

    def logits(self, hidden):
        with torch.autocast("cpu", torch.bfloat16, enabled=self.full):
            return self.model.lm_head(hidden)


def kl_loss(student, teacher, chunk):
    """Mean KL(teacher || student) of logits [rows, vocab]; in pieces, so that the f32 copies stay small."""
    total = 0.0
    for s, t in zip(student.split(chunk), teacher.split(chunk)):
        total = total + F.kl_div(F.log_softmax(s, -1, dtype=torch.float32), F.log_softmax(t, -1, dtype=torch.float32),
                                 log_target=True, reduction="sum")
    return total / len(student)


def ce_loss(logits, targets, chunk):
    total = 0.0
    for s, t in zip(logits.split(chunk), targets.split(chunk)):
        total = total + F.cross_entropy(s.float(), t, reduction="sum")
    return total / len(targets)


class Stepper:
    def __init__(self, args):
        torch.manual_seed(args.seed)
        self.args = args
        self.kl = args.train != "full" or args.full_loss == "kl"
        kind = {"plain": Plain, "hf": HuggingFace}[args.peer]
        self.model = kind(args.model, args.train, args.attention, args.compile)
        # The teacher of a full fine-tune is the model before it.
        self.teacher = None
        if self.kl:
            self.teacher = kind(args.model, "gates", args.attention, args.compile) if args.train == "full" else self.model
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.trained, lr=args.lr, betas=(0.9, 0.95), weight_decay=0.001, fused=True)
        self.loss_kernel = torch.compile(kl_loss if self.kl else ce_loss) if args.compile else (
            kl_loss if self.kl else ce_loss)

    def rows(self, batch, length):
        """Half of the positions of every sequence for KL, all that have a next token for cross-entropy."""
        if self.kl:
            picked = torch.stack([torch.randperm(length)[:length // 2].sort().values for _ in range(batch)])
        else:
            picked = torch.arange(length - 1).repeat(batch, 1)
        return (picked + length * torch.arange(batch)[:, None]).flatten()

    def step(self, tokens):
        batch, length = tokens.shape
        rows = self.rows(batch, length)
        self.model.refresh()
        if self.kl:
            with torch.no_grad():
                if self.teacher is not self.model:
                    self.teacher.refresh()
                teacher = self.teacher.logits(self.teacher.hidden(tokens, None).flatten(0, 1)[rows])
        hidden = self.model.hidden(tokens, self.model.gates.draw(batch, length)).flatten(0, 1)
        logits = self.model.logits(hidden[rows])
        target = teacher if self.kl else tokens.flatten()[rows + 1]
        loss = self.loss_kernel(logits, target, self.args.chunk)
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained, 1.0, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    @torch.no_grad()
    def nll(self, ids):
        self.model.refresh()
        tokens = torch.tensor([ids])
        logits = self.model.logits(self.model.hidden(tokens, None)[0, :-1])
        return F.cross_entropy(logits.float(), tokens[0, 1:]).item()


def peak_mib():
    with open("/proc/self/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))


def measure(args, ids):
    stepper = Stepper(args)
    sequences = torch.tensor(ids).unfold(0, args.length, args.length)
    # The peak is to be the steps', not the file reader's.
    with open("/proc/self/clear_refs", "w", encoding="utf-8") as refs:
        refs.write("5")
    seconds, cpu_seconds, losses = [], [], []
    for step in range(args.warmup + args.steps):
        picked = torch.arange(step * args.batch, (step + 1) * args.batch) % len(sequences)
        start, cpu = time.perf_counter(), time.process_time()
        losses.append(stepper.step(sequences[picked]))
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu)
    return {"seconds": seconds[args.warmup:], "cpu_seconds": cpu_seconds[args.warmup:], "loss": losses,
            "peak_mib": peak_mib(), "settings": settings(args)}


def settings(args):
    words = [f"torch {torch.__version__}"]
    if args.peer == "hf":
        import transformers
        words.append(f"transformers {transformers.__version__}")
    trained = "f32 weights under bf16 autocast" if args.peer == "hf" else "f32 masters cast to bf16 once per step"
    words += [f"frozen matrices bf16, trained {trained}", f"attention {args.attention}", "fused AdamW", "foreach clip",
              f"loss in pieces of {args.chunk} rows", "torch.compile" if args.compile else "eager"]
    return ", ".join(words)


def survey(args, ids):
    """Every combination of the knobs, each in this process; the fastest step of each."""
    rows = []
    for attention, chunk, compiled in itertools.product(ATTENTION, (64, 1 << 20), (False, True)):
        args.attention, args.chunk, args.compile = attention, chunk, compiled
        result = measure(args, ids)
        rows.append({"attention": attention, "chunk": chunk, "compile": compiled, "seconds": min(result["seconds"]),
                     "cpu_seconds": min(result["cpu_seconds"])})
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--peer", choices=["plain", "hf"], default="plain")
    parser.add_argument("--train", choices=["gates", "lora", "full"], default="gates")
    parser.add_argument("--full-loss", choices=["ce", "kl"], default="ce")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--attention", choices=list(ATTENTION), default="bmm")
    parser.add_argument("--chunk", type=int, default=64, help="rows of logits per piece of the loss")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--survey", action="store_true")
    parser.add_argument("--nll", action="store_true", help="of the token ids, by the ungated model; nothing is trained")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    ids = json.load(sys.stdin)
    if args.nll:
        print(json.dumps({"nll": Stepper(args).nll(ids), "tokens": len(ids) - 1}))
    else:
        print(json.dumps(survey(args, ids) if args.survey else measure(args, ids)))


if __name__ == "__main__":
    main()
