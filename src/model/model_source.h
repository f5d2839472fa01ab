// SPDX-License-Identifier: Apache-2.0
// A model that others are written from: a GGUF or a hub-style directory, opened but not packed.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/gguf.h"
#include "io/hub_directory.h"
#include "model/architecture.h"
#include "model/config.h"
#include "model/weights.h"

namespace gateskip {

struct ModelSource {
  std::shared_ptr<const GgufFile> gguf;     // exactly one of these two
  std::shared_ptr<const HubDirectory> hub;  //
  ModelConfig config;
  const Architecture* architecture = nullptr;
  std::shared_ptr<const WeightSource> weights;
  std::string fingerprint;

  const std::string& origin() const { return gguf ? gguf->origin() : hub->origin(); }
};

// Throws Error as GgufFile::Open, HubDirectory::Open and ReadConfig do.
ModelSource OpenModelSource(const std::string& path);
ModelSource MakeModelSource(std::shared_ptr<const GgufFile> file);
ModelSource MakeModelSource(std::shared_ptr<const HubDirectory> directory);

// Throws Error(kUnsupported), with a way out, unless the source is a GGUF.
void RequireGguf(const ModelSource& source);

struct CanonicalTensor {
  std::string name;
  std::vector<int64_t> shape;  // that the config calls for
};
// All tensors of the model, in the order of the layers.
std::vector<CanonicalTensor> CanonicalTensors(const ModelSource& source);

// Llama's rotation takes a head's elements in halves in hub checkpoints and in pairs in GGUF, whose rows of attn_q and
// attn_k are in another order therefore. The size of a head where a hub checkpoint made of the source needs its rows
// permuted, else 0. `matrix`: "blk.3.attn_q".
size_t PermutedHead(const ModelSource& source, std::string_view matrix);
// The row of the GGUF that is row r of the hub checkpoint: element i of half h of a head is at 2 i + h.
size_t GgufRowOfHubRow(size_t r, size_t head);

}  // namespace gateskip
