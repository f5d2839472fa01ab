#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns a checkpoint of the paper's reference implementation (github.com/Thiggel/GateSkip) into a gateskip adapter.

usage: import_reference.py CHECKPOINT.pt --base MODEL -o ADAPTER (--tuned-model DIR | --frozen-backbone)
                           [--decision-only] [--gateskip BINARY]

CHECKPOINT.pt    the state dict that its training saves, with the keys of its Lightning module:
                   model.model.layers.{l}.{self_attn|mlp}.gate.gate.{weight|bias}     the gates: [d, d] or [1, d]
                   model.model.layers.{l}.{self_attn|mlp}.module.*                    the branches' own weights
--base           the model it was trained from: a Hugging Face style directory, or with --frozen-backbone a GGUF too
--tuned-model    training changed the backbone (the reference's default): its weights go here, as a directory like
                 --base, and the adapter is for this model
--frozen-backbone  the backbone is the base's own, bit for bit; the weights in the checkpoint are left alone
--decision-only  the gates were trained with actually_gate off: they decide, and do not multiply the branch's output
--gateskip       the binary, asked for the base's sizes and fingerprint (default: gateskip)

Needs torch and safetensors. torch.load runs with weights_only, so that a checkpoint cannot run code.

What cannot be read off a checkpoint is taken as the reference has it: the gate stands behind the branch, K and V of
skipped tokens are computed, no position is spared. One gate for all layers comes out as one copy per layer. Two-layer
gates (use_mlp_gate) and LoRA checkpoints are refused; gates before the branch look like others: do not import them.
In models with a norm behind each branch (Gemma) the reference multiplies in front of that norm and gateskip behind it:
only decisions can be imported there.

There are no thresholds yet, budget 0 alone works: run `gateskip calibrate`. The paper's gates are vectors, and gateskip
lets a scalar head decide for them, trained to predict their mean. Here it starts as the first-order expansion about
h = 0 of  m(h) = mean_i sigmoid(w_i . h + c_i):

    decision.bias = logit(m(0)),   decision.weight = mean_i sigmoid'(c_i) w_i / (m(0) (1 - m(0)))

which has the mean's value and slope there and nothing beyond. Train the heads on before trusting its decisions.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import save_file

GATE = re.compile(r"(?:^|\.)layers\.(\d+)\.(self_attn|mlp)\.gate\.gate\.(.+)$")
LAYER = re.compile(r"(?:^|\.)(layers\.\d+\..+)$")
TOP = re.compile(r"(?:^|\.)(embed_tokens\.weight|norm\.weight|lm_head\.weight)$")
BRANCHES = {"self_attn": "attn", "mlp": "mlp"}
HUB_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
             "special_tokens_map.json", "added_tokens.json", "tokenizer.model", "chat_template.jinja")


class ImportFailure(Exception):
    pass


def fail(origin, subject, expected, found, remedy):
    raise ImportFailure(f"[{origin}] {subject}: expected {expected}, found {found}; {remedy}")


def load_state(path):
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch has many kinds
        fail(path, "checkpoint", "a state dict of tensors", str(error).splitlines()[0], "save it with torch.save")
    state = state.get("state_dict", state) if isinstance(state, dict) else None
    if not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        fail(path, "checkpoint", "a state dict of tensors", "something else", "save the module's state_dict()")
    return state


def split_state(state, origin):
    """Gates by (layer, branch), and the backbone under the names of the hub."""
    gates, backbone = {}, {}
    for key, tensor in state.items():
        if "lora_" in key:
            fail(origin, key, "no LoRA matrices", "one", "merge them into the weights first")
        if match := GATE.search(key):
            layer, module, part = int(match[1]), match[2], match[3]
            if part not in ("weight", "bias"):
                fail(origin, key, "a gate of one linear layer", "more than one (use_mlp_gate)",
                     "gateskip cannot import two-layer gates yet")
            target, name = gates.setdefault((layer, BRANCHES[module]), {}), part
        elif match := LAYER.search(key):
            target, name = backbone, "model." + match[1].replace(".module.", ".", 1)
        elif match := TOP.search(key):
            target, name = backbone, match[1] if match[1].startswith("lm_head") else "model." + match[1]
        else:
            fail(origin, key, "the parts of a Llama or Gemma", "another", "gateskip does not know this architecture")
        if name in target:
            fail(origin, key, "every tensor once", "it twice under different prefixes", "remove one")
        if not torch.isfinite(tensor).all():
            fail(origin, key, "finite numbers", "NaN or infinity", "this run has diverged")
        target[name] = tensor
    if not gates:
        fail(origin, "gates", "keys like layers.0.self_attn.gate.gate.weight", "none",
             "was it trained with use_gating?")
    return gates, backbone


def describe_base(binary, base):
    result = subprocess.run([binary, "info", "-m", base, "--json"], capture_output=True, text=True)
    if result.returncode != 0:
        raise ImportFailure(result.stderr.strip().removeprefix("gateskip: error: "))
    return json.loads(result.stdout)["model"]


def decision_head(weight, bias):
    """The head's weight [d] and bias [1] from W [d, d] and c [d]; see above."""
    gate = torch.sigmoid(bias.double())
    mean = gate.mean()
    slope = (gate * (1 - gate))[:, None].mul(weight.double()).mean(dim=0)
    return (slope / (mean * (1 - mean))).float(), torch.logit(mean).float().reshape(1)


def adapter_tensors(gates, hidden, origin):
    """Tensors under gateskip's names, and the kind of the gates."""
    tensors, kinds = {}, set()
    for (layer, branch), gate in sorted(gates.items()):
        prefix = f"blk.{layer}.{branch}."
        if set(gate) != {"weight", "bias"}:
            fail(origin, prefix + "gate", "a weight and a bias", " and ".join(gate), "the checkpoint is incomplete")
        weight, bias = gate["weight"].float().contiguous(), gate["bias"].float().contiguous()
        rows = weight.shape[0] if weight.dim() == 2 else 0
        if weight.shape != (rows, hidden) or rows not in (1, hidden) or bias.shape != (rows,):
            fail(origin, prefix + "gate", f"[{hidden}, {hidden}] or [1, {hidden}]", list(weight.shape),
                 "is this the base it was trained from?")
        if rows == 1:
            kinds.add("scalar")
            tensors[prefix + "gate.weight"] = weight.reshape(-1)
        else:
            kinds.add("vector")
            tensors[prefix + "gate.weight"] = weight
            tensors[prefix + "decision.weight"], tensors[prefix + "decision.bias"] = decision_head(weight, bias)
        tensors[prefix + "gate.bias"] = bias
    if len(kinds) > 1:
        fail(origin, "gates", "all scalars or all vectors", "both", "the checkpoint is of two runs")
    return {name: tensor.clone() for name, tensor in tensors.items()}, kinds.pop()


def adapter_config(base, gates, kind, decision_only, checkpoint):
    branches = 2 * base["layers"]
    return {
        "format_version": 1,
        "base_model_name": base["name"],
        "base_fingerprint": base["fingerprint"],
        "architecture": base["architecture"],
        "num_layers": base["layers"],
        "hidden_size": base["hidden_size"],
        "gate_kind": kind,
        "gate_rank": 0,
        "multiply_output": not decision_only,
        "kv_rule": "compute",
        "gated": [(b // 2, "attn" if b % 2 == 0 else "mlp") in gates for b in range(branches)],
        "always_run_positions": 0,
        "skip_rank": -1,
        "lora_rank": 0,
        "lora_alpha": 0.0,
        "lora_targets": [],
        "budgets": [0.0],
        "thresholds": [[-1.0] * branches],
        "realised_net_saving": [0.0],
        "calibration_sha256": "",
        "calibration_tokens": 0,
        "training": {"imported_from": os.path.basename(checkpoint), "by": "scripts/import_reference.py"},
        "self_test": {"token_ids": [], "budget": 0.0, "expected_mask": [], "top_ids": [], "top_logits": []},
    }


def write_directory(target, fill):
    """Calls fill(directory) and renames it to `target`, which must be new."""
    target = pathlib.Path(target)
    if target.exists():
        fail(target, "output", "a new name", "it there", "remove it or choose another")
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=f".{target.name}.tmp-", dir=target.parent))
    try:
        fill(temporary)
        temporary.chmod(0o755)
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_tuned_model(target, base, backbone):
    if not (pathlib.Path(base) / "config.json").is_file():
        fail(base, "base", "a Hugging Face style directory for --tuned-model", "none", "name the directory of the base")
    config = json.loads((pathlib.Path(base) / "config.json").read_text())
    if config.get("tie_word_embeddings", False):
        backbone = {name: tensor for name, tensor in backbone.items() if name != "lm_head.weight"}

    def fill(directory):
        for name in HUB_FILES:
            if (pathlib.Path(base) / name).is_file():
                shutil.copyfile(pathlib.Path(base) / name, directory / name)
        save_file({name: tensor.contiguous().clone() for name, tensor in backbone.items()},
                  directory / "model.safetensors", metadata={"format": "pt"})

    write_directory(target, fill)


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     usage=argparse.SUPPRESS)
    parser.add_argument("checkpoint")
    parser.add_argument("--base", required=True)
    parser.add_argument("-o", "--out", required=True)
    backbone_choice = parser.add_mutually_exclusive_group(required=True)
    backbone_choice.add_argument("--tuned-model")
    backbone_choice.add_argument("--frozen-backbone", action="store_true")
    parser.add_argument("--decision-only", action="store_true")
    parser.add_argument("--gateskip", default="gateskip")
    options = parser.parse_args(arguments)
    try:
        gates, backbone = split_state(load_state(options.checkpoint), options.checkpoint)
        base = describe_base(options.gateskip, options.base)
        layers = 1 + max(layer for layer, _ in gates)
        if layers > base["layers"]:
            fail(options.checkpoint, "layers", f"at most {base['layers']} (the base)", layers,
                 "name the base it was trained from")
        if base["architecture"] != "llama" and not options.decision_only:
            fail(options.checkpoint, "gates", "products behind all of the branch",
                 f"them in front of its last norm, where the reference has them in {base['architecture']}",
                 "pass --decision-only to import the decisions alone")
        tensors, kind = adapter_tensors(gates, base["hidden_size"], options.checkpoint)
        if options.tuned_model:
            write_tuned_model(options.tuned_model, options.base, backbone)
            base = describe_base(options.gateskip, options.tuned_model)
        config = adapter_config(base, gates, kind, options.decision_only, options.checkpoint)

        def fill(directory):
            (directory / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")
            save_file(tensors, directory / "adapter_model.safetensors", metadata={"format": "gateskip"})

        write_directory(options.out, fill)
    except ImportFailure as error:
        print(f"import_reference: error: {error}", file=sys.stderr)
        return 1
    print(f"{len(gates)} {kind} gates in {options.out}; next: gateskip calibrate -m "
          f"{options.tuned_model or options.base} --adapter {options.out} -f TEXT", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
