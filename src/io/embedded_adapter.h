// SPDX-License-Identifier: Apache-2.0
// An adapter inside a model's GGUF, as `gateskip export` writes it: its deltas are merged into the weights, the rest is
//
//   gateskip.adapter_config     string: the text of adapter_config.json, without deltas. Its base_fingerprint names the
//                               model the adapter was trained for, not this file
//   gateskip.merged_deltas      string: what was merged, for people
//   gateskip.requantized        bool: weights were rounded again when they were written, so that the self-test, made
//                               before, holds only as nearly as with 8-bit activations
//   tensors "gateskip." + NAME  every tensor of adapter_model.safetensors but the deltas, F32, or another type than
//   that
//                               for all but biases
//
// Readers that check the number of tensors, as llama.cpp does, refuse such a file; export --no-gates leaves all this
// out.
#pragma once

#include "io/adapter.h"
#include "io/gguf.h"

namespace gateskip {

struct EmbeddedAdapter {
  Adapter adapter;
  bool requantized = false;
  std::string merged_deltas;  // of earlier merges
};

bool HasEmbeddedAdapter(const GgufFile& file);
// Throws Error as ReadAdapter does, kCorruptData when there is none.
EmbeddedAdapter ReadEmbeddedAdapter(const GgufFile& file);
// Whether this metadata key or tensor belongs to an embedded adapter.
bool IsEmbeddedName(std::string_view name);

// The adapter's deltas are left out, since they are in the weights. `type` is that of the rest but for biases and for
// rows that are no whole blocks, which stay F32. Throws Error(kInvalidArgument) for values that it cannot hold.
void EmbedAdapter(const EmbeddedAdapter& embedded, DType type, GgufWriter* writer);

// What the adapter is once embedded in this type. Throws as EmbedAdapter.
void RoundGates(DType type, Adapter* adapter);

// Whether a tensor of an adapter is part of a delta: "blk.{l}.{matrix}.lora_a" or ".lora_b".
bool IsDelta(std::string_view name);
// Leaves the rest of the adapter, for weights that the deltas are in already.
void DropDeltas(Adapter* adapter);

}  // namespace gateskip
