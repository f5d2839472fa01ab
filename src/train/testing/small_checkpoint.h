// SPDX-License-Identifier: Apache-2.0
// Checkpoints that own their few values, for tests of what comes back.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "train/checkpoint.h"

namespace gateskip::train::testing {

struct SmallTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;
};

struct SmallCheckpoint {
  int step = 0;
  std::string state_json;
  std::map<std::string, SmallTensor> tensors;

  // Valid while this lives unchanged.
  Checkpoint View() const {
    Checkpoint view{step, state_json, {}};
    for (const auto& [name, tensor] : tensors) {
      view.tensors.push_back({name, tensor.shape, [&tensor = tensor] { return std::span(tensor.values); }});
    }
    return view;
  }
};

// Different for every step, in every file.
inline SmallCheckpoint Sample(int step) {
  SmallCheckpoint checkpoint;
  checkpoint.step = step;
  checkpoint.state_json = fmt::format("{{\"step\": {}}}", step);
  checkpoint.tensors["blk.0.attn.gate.bias"] = {{1}, {static_cast<float>(step)}};
  checkpoint.tensors["adam_m.blk.0.attn.gate.weight"] = {{2, 3}, {1, -2, 3, -4, 5, 0.1F}};
  return checkpoint;
}

inline SmallCheckpoint Load(const SavedCheckpoint& saved) {
  SmallCheckpoint checkpoint{saved.step(), saved.state_json(), {}};
  for (const auto& [name, shape] : saved.shapes()) {
    size_t elements = 1;
    for (const int64_t dim : shape) elements *= static_cast<size_t>(dim);
    SmallTensor& tensor = checkpoint.tensors[name];
    tensor = {shape, std::vector<float>(elements, -7.0F)};
    saved.Read(name, shape, tensor.values);
  }
  return checkpoint;
}

// Bit for bit: -0 is not 0, and a NaN equals itself.
inline bool operator==(const SmallTensor& a, const SmallTensor& b) {
  return a.shape == b.shape && a.values.size() == b.values.size() &&
         (a.values.empty() || std::memcmp(a.values.data(), b.values.data(), sizeof(float) * a.values.size()) == 0);
}
inline bool operator==(const SmallCheckpoint& a, const SmallCheckpoint& b) {
  return a.step == b.step && a.state_json == b.state_json && a.tensors == b.tensors;
}
inline void PrintTo(const SmallCheckpoint& checkpoint, std::ostream* out) {
  *out << "step " << checkpoint.step << ", state " << checkpoint.state_json << ", " << checkpoint.tensors.size()
       << " tensors";
}

struct Newest {
  std::vector<std::string> messages;  // filled while the next member is made
  std::unique_ptr<SavedCheckpoint> checkpoint;

  explicit Newest(const std::string& run_directory)
      : checkpoint(OpenNewestCheckpoint(run_directory, [this](const std::string& m) { messages.push_back(m); })) {}
  int step() const { return checkpoint ? checkpoint->step() : -1; }
};

}  // namespace gateskip::train::testing
