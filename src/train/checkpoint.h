// SPDX-License-Identifier: Apache-2.0
// Checkpoints of a training run: step-N/{model.safetensors, state.json, manifest.json}. A directory counts only if
// its manifest verifies (size and SHA-256 of every file); it is written under another name, synced and renamed, so
// a kill at any moment leaves the previous one whole.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace gateskip::train {

struct CheckpointTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;
};

struct Checkpoint {
  int step = 0;
  std::string state_json;  // everything that is not a tensor
  std::map<std::string, CheckpointTensor> tensors;
};

// Throws Error(kIo). Afterwards, of the directories up to this step, all but the newest `keep` are removed.
void WriteCheckpoint(const Checkpoint& checkpoint, const std::string& run_directory, int keep);

bool HasCheckpoints(const std::string& run_directory);  // valid or not

// The newest valid checkpoint, nullopt when there is none. `skipped` is told about each newer one that does not
// verify, and why.
std::optional<Checkpoint> ReadNewestCheckpoint(const std::string& run_directory,
                                               const std::function<void(const std::string&)>& skipped);

// An exclusive lock on the run directory, created if absent; throws Error(kIo) when another trainer holds it.
class RunLock {
 public:
  explicit RunLock(const std::string& run_directory);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  int fd_;
};

}  // namespace gateskip::train
