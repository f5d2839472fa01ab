// SPDX-License-Identifier: Apache-2.0
// Checkpoints of a training run: RUN/step-N/{model.safetensors, state.json, manifest.json}. A directory counts only if
// its manifest verifies (size and SHA-256 of every file); it is written under another name, synced and renamed, so a
// kill or a power cut at any moment leaves the ones before it whole. Tensors stream: neither writing nor reading holds
// more of them than one piece. RUN/LATEST and RUN/BEST name a step for people and scripts; they are hints, and nothing
// here trusts them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "io/input_file.h"

namespace gateskip::train {

struct CheckpointTensor {
  std::string name;
  std::vector<int64_t> shape;
  // Asked for once, when its turn has come. The view must last until the next tensor is asked for, so that a tensor
  // that lives on another device needs one buffer.
  std::function<std::span<const float>()> values;
};

struct Checkpoint {
  int step = 0;            // 0 .. 999999999
  std::string state_json;  // everything that is not a tensor
  std::vector<CheckpointTensor> tensors;
};

// Of the checkpoints up to the one just written, the newest `keep` stay, and the one of `best_step` wherever it is.
struct Retention {
  int keep = 1;
  int best_step = -1;  // by the held-out loss; -1: none yet
};

// Throws Error(kIo): no space (1.2 times the size is asked for beforehand), or a call that failed. The run directory is
// then what it was, and writing the same or a later step again is fine. Only directories with a manifest are ever
// removed.
void WriteCheckpoint(const Checkpoint& checkpoint, const std::string& run_directory, const Retention& retention);

// A checkpoint on the disk, every byte of which was verified when it was opened.
class SavedCheckpoint {
 public:
  // Throws Error when anything does not verify.
  SavedCheckpoint(const std::string& run_directory, int step);

  int step() const { return step_; }
  const std::string& state_json() const { return state_json_; }  // valid JSON
  const std::map<std::string, std::vector<int64_t>>& shapes() const { return shapes_; }
  // Fills `values` with the tensor `name`, bit for bit. Throws Error: kMismatch when there is none of this shape; kIo.
  void Read(const std::string& name, const std::vector<int64_t>& shape, std::span<float> values) const;

 private:
  int step_;
  std::string directory_;
  std::unique_ptr<InputFile> tensors_;
  std::string state_json_;
  std::map<std::string, std::vector<int64_t>> shapes_;
  std::map<std::string, uint64_t> offsets_;  // in the file
};

bool HasCheckpoints(const std::string& run_directory);  // valid or not

// The newest valid checkpoint, nullptr when there is none. `skipped` is told about each newer one that does not
// verify, and why.
std::unique_ptr<SavedCheckpoint> OpenNewestCheckpoint(const std::string& run_directory,
                                                      const std::function<void(const std::string&)>& skipped);

// What RUN/BEST says, if a directory of that step is there. Which step is best is for the state to say.
std::optional<int> HintedBestStep(const std::string& run_directory);

// An exclusive lock on the run directory, created if absent; clears it of what killed trainers left. Throws
// Error(kIo) when another trainer holds it. Processes forked later share it: take it after.
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
