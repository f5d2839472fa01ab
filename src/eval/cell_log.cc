// SPDX-License-Identifier: Apache-2.0
#include "eval/cell_log.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <utility>
#include <vector>

#include "base/check.h"
#include "io/json.h"

namespace gateskip {
namespace {

using Json = nlohmann::json;

Json WorkJson(const Work& work) {
  return {{"rows", work.rows},
          {"executed", work.executed},
          {"branches_run", work.branches_run},
          {"branches_skipped", work.branches_skipped}};
}

Work ReadWork(const Json& parent, const char* key, const std::string& origin) {
  if (!parent.contains(key) || !parent[key].is_object()) {
    Fail(ErrorCode::kCorruptData, "[{}] {}: expected an object, found none; remove the file to run it again", origin,
         key);
  }
  const Json& object = parent[key];
  Work work;
  work.rows = static_cast<uint64_t>(std::max<int64_t>(0, GetInt(object, "rows", origin)));
  work.executed = GetNumber(object, "executed", origin);
  work.branches_run = static_cast<uint64_t>(std::max<int64_t>(0, GetInt(object, "branches_run", origin)));
  work.branches_skipped = static_cast<uint64_t>(std::max<int64_t>(0, GetInt(object, "branches_skipped", origin)));
  return work;
}

InstanceResult ReadResult(const Json& line, const std::string& origin) {
  InstanceResult result;
  const int64_t instance = GetInt(line, "instance", origin);
  const Json* response = line.contains("response") && line["response"].is_object() ? &line["response"] : nullptr;
  const auto is_list = [&](const char* key) { return response->contains(key) && (*response)[key].is_array(); };
  if (instance < 0 || response == nullptr || !is_list("log_likelihoods") || !is_list("is_greedy")) {
    Fail(ErrorCode::kCorruptData,
         "[{}] sample: expected an instance and its response, found something else; remove the "
         "file to run it again",
         origin);
  }
  result.instance = static_cast<size_t>(instance);
  for (const Json& value : (*response)["log_likelihoods"]) {
    result.response.log_likelihoods.push_back(value.is_number() ? value.get<double>() : -INFINITY);
  }
  for (const Json& value : (*response)["is_greedy"]) {
    result.response.is_greedy.push_back(value.is_boolean() && value.get<bool>() ? 1 : 0);
  }
  result.response.text = GetString(*response, "text", origin, "");
  result.prefill = ReadWork(line, "prefill", origin);
  result.decode = ReadWork(line, "decode", origin);
  return result;
}

}  // namespace

CellLog::CellLog(std::string directory, std::string stem, std::string part, Json identity)
    : path_((std::filesystem::path(directory) / (stem + (part.empty() ? "" : "+" + part) + ".jsonl")).string()),
      identity_(std::move(identity)) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) {
    Fail(ErrorCode::kIo, "[{}] directory: expected to make it, found: {}; choose another --output", directory,
         error.message());
  }
  std::vector<std::string> others;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename().string();
    const bool of_this_cell = name == stem + ".jsonl" || (name.starts_with(stem + "+") && name.ends_with(".jsonl"));
    if (of_this_cell && entry.path().string() != path_) {
      others.push_back(entry.path().string());
    }
  }
  std::ranges::sort(others);
  for (const std::string& other : others) Read(other);
  const bool exists = std::filesystem::exists(path_, error);
  if (exists) Read(path_);
  out_.open(path_, std::ios::binary | std::ios::app);
  if (!exists || std::filesystem::file_size(path_, error) == 0) WriteLine({{"cell", identity_}});
}

void CellLog::Read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string line;
  uint64_t whole = 0;  // bytes of complete lines
  size_t number = 0;
  bool cut = false;
  while (std::getline(in, line)) {
    ++number;
    if (in.eof()) {  // no line end: a crash fell into it
      cut = true;
      break;
    }
    whole += line.size() + 1;
    const std::string origin = fmt::format("{}:{}", path, number);
    const Json object = ParseJson(line, origin);
    if (!object.is_object()) {
      Fail(ErrorCode::kCorruptData,
           "[{}] line: expected an object, found something else; remove the file to run it "
           "again",
           origin);
    }
    if (number == 1) {
      if (!object.contains("cell") || object["cell"] != identity_) {
        Fail(ErrorCode::kMismatch,
             "[{}] samples: expected those of this model, data and policy, found others; choose another --output or "
             "remove the file",
             path);
      }
      continue;
    }
    if (object.contains("seconds")) {
      seconds_ += std::max(0.0, GetNumber(object, "seconds", origin));
      continue;
    }
    InstanceResult result = ReadResult(object, origin);
    const size_t instance = result.instance;
    results_.insert_or_assign(instance, std::move(result));
  }
  in.close();
  if (cut && path == path_) std::filesystem::resize_file(path, whole);
}

void CellLog::WriteLine(const Json& line) {
  out_ << line.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n';
  out_.flush();
  if (!out_) {
    Fail(ErrorCode::kIo,
         "[{}] samples: expected to write them, found the file refused it; free some space and run the "
         "same command again",
         path_);
  }
}

void CellLog::Append(InstanceResult result, Json sample) {
  Json line = {{"instance", result.instance}};
  Json greedy = Json::array();
  for (const uint8_t g : result.response.is_greedy) greedy.push_back(g != 0);
  line["response"] = {{"log_likelihoods", result.response.log_likelihoods}, {"is_greedy", std::move(greedy)}};
  if (!result.response.text.empty()) line["response"]["text"] = result.response.text;
  line["prefill"] = WorkJson(result.prefill);
  line["decode"] = WorkJson(result.decode);
  line["sample"] = std::move(sample);
  WriteLine(line);
  const size_t instance = result.instance;
  results_.insert_or_assign(instance, std::move(result));
}

void CellLog::AppendTime(double seconds) {
  seconds_ += seconds;
  WriteLine({{"seconds", seconds}});
}

}  // namespace gateskip
