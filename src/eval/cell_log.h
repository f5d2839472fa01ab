// SPDX-License-Identifier: Apache-2.0
// The samples log of one cell of a sweep (an arm, a task, a budget), a JSON line per instance: what the model answered,
// how it was scored, what it cost. It is also what an interrupted sweep, or one shared by several machines, goes on
// from.
#pragma once

#include <cstdint>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "eval/task_runner.h"

namespace gateskip {

class CellLog {
 public:
  // Reads what `path` and the logs of its other parts (`stem+part.jsonl`, written by other shards) hold, and opens
  // `path` for more. `identity` says what was run; a log of something else is refused with Error(kMismatch), a broken
  // one with kCorruptData. A last line cut short by a crash is dropped.
  CellLog(std::string directory, std::string stem, std::string part, nlohmann::json identity);

  const std::map<size_t, InstanceResult>& results() const { return results_; }
  // Seconds of all sessions, and rows run in them.
  double seconds() const { return seconds_; }

  // `sample` is Task::SampleRecord. Throws Error(kIo) when it cannot be written.
  void Append(InstanceResult result, nlohmann::json sample);
  // Ends a session: notes how long it took.
  void AppendTime(double seconds);

 private:
  void Read(const std::string& path);
  void WriteLine(const nlohmann::json& line);

  std::string path_;
  nlohmann::json identity_;
  std::map<size_t, InstanceResult> results_;
  double seconds_ = 0;
  std::ofstream out_;
};

}  // namespace gateskip
