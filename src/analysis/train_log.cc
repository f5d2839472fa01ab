// SPDX-License-Identifier: Apache-2.0
#include "analysis/train_log.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <memory>

#include "base/check.h"
#include "io/json.h"

namespace gateskip {
namespace {

using nlohmann::json;

constexpr size_t kMaxLineBytes = size_t{4} << 20;
constexpr int kMaxDepth = 8;
constexpr size_t kMaxItems = size_t{1} << 17;
constexpr size_t kMaxBranches = 2048;
constexpr size_t kMaxEvents = 4096;  // of each rarer kind
constexpr size_t kMaxSamples = 64;
constexpr size_t kMaxFiles = 1024;
constexpr size_t kMaxTextBytes = 4096;
constexpr int64_t kMaxStep = int64_t{1} << 53;
constexpr double kMaxSeconds = 1e12;
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Lines without their end; one longer than kMaxLineBytes comes out empty, whatever its length.
class LineReader {
 public:
  explicit LineReader(std::istream& in) : in_(in) {}

  bool Next(std::string& line) {
    line.clear();
    bool too_long = false;
    bool any = false;
    for (;;) {
      if (at_ == size_) {
        in_.read(buffer_, sizeof(buffer_));
        size_ = static_cast<size_t>(in_.gcount());
        at_ = 0;
        if (size_ == 0) break;
      }
      any = true;
      const char* const begin = buffer_ + at_;
      const char* const limit = buffer_ + size_;
      const char* end = std::find(begin, limit, '\n');
      too_long = too_long || line.size() + static_cast<size_t>(end - begin) > kMaxLineBytes;
      if (!too_long) line.append(begin, end);
      at_ = static_cast<size_t>(end - buffer_);
      if (at_ < size_) {
        ++at_;
        break;
      }
    }
    if (too_long) line.clear();
    return any;
  }

 private:
  std::istream& in_;
  char buffer_[size_t{1} << 16];
  size_t at_ = 0;
  size_t size_ = 0;
};

const json* Find(const json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

double Number(const json& object, const char* key) {
  const json* value = Find(object, key);
  return value != nullptr && value->is_number() ? value->get<double>() : kNaN;
}

float ToFloat(double value) {
  return std::abs(value) <= static_cast<double>(std::numeric_limits<float>::max()) ? static_cast<float>(value)
                                                                                   : std::nanf("");
}

float Float(const json& object, const char* key) { return ToFloat(Number(object, key)); }

// -1 for what is no count.
int64_t Count(const json& object, const char* key) {
  const double value = Number(object, key);
  return value >= 0 && value <= static_cast<double>(kMaxStep) ? static_cast<int64_t>(value) : -1;
}

std::string CutText(std::string text) {
  if (text.size() <= kMaxTextBytes) return text;
  size_t end = kMaxTextBytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // between characters
  return text.substr(0, end) + "…";
}

std::string Text(const json& object, const char* key) {
  const json* value = Find(object, key);
  return value != nullptr && value->is_string() ? CutText(value->get<std::string>()) : "";
}

std::vector<double> Numbers(const json& object, const char* key) {
  std::vector<double> numbers;
  const json* value = Find(object, key);
  if (value == nullptr || !value->is_array()) return numbers;
  for (size_t i = 0; i < value->size() && i < kMaxBranches; ++i) {
    const json& item = (*value)[i];
    numbers.push_back(item.is_number() ? item.get<double>() : kNaN);
  }
  return numbers;
}

std::vector<float> Floats(const json& object, const char* key) {
  std::vector<float> floats;
  for (const double value : Numbers(object, key)) floats.push_back(ToFloat(value));
  return floats;
}

// Sorted, the later of equal steps kept, every second dropped while there are too many; the last one stays.
void Compact(std::vector<LoggedStep>& steps) {
  std::reverse(steps.begin(), steps.end());
  std::stable_sort(steps.begin(), steps.end(), [](const auto& a, const auto& b) { return a.step < b.step; });
  const auto same = [](const auto& a, const auto& b) { return a.step == b.step; };
  steps.erase(std::unique(steps.begin(), steps.end(), same), steps.end());
  while (steps.size() > kMaxLoggedSteps) {
    size_t kept = 0;
    for (size_t i = (steps.size() - 1) % 2; i < steps.size(); i += 2) steps[kept++] = steps[i];
    steps.resize(kept);
  }
}

template <typename Event>
void Insert(std::map<int64_t, Event>& events, int64_t step, Event event) {
  events.insert_or_assign(step, std::move(event));
  if (events.size() <= kMaxEvents) return;
  for (auto it = events.begin(); it != events.end() && std::next(it) != events.end();) it = std::next(events.erase(it));
}

class Reader {
 public:
  void Line(const std::string& line) {
    try {
      const json event = ParseJson(line, "log", kMaxDepth, kMaxItems);
      if (!event.is_object()) {
        ++log_.damaged_lines;
      } else {
        Event(event);
      }
    } catch (const Error&) {
      ++log_.damaged_lines;
    }
  }

  TrainLog Finish() {
    Compact(log_.steps);
    log_.seconds += process_seconds_;
    return std::move(log_);
  }

  bool any_event() const { return any_event_; }

 private:
  void Event(const json& event) {
    const std::string kind = Text(event, "event");
    const int64_t step = Count(event, "step");
    any_event_ = any_event_ || kind == "start" || ((kind == "step" || kind == "eval") && step >= 0);
    if (kind == "start") {
      Start(event);
    } else if (kind == "data") {
      Data(event);
    } else if (step < 0) {
      return;
    } else if (kind == "step") {
      Step(step, event);
    } else if (kind == "eval") {
      Evaluation(step, event);
    } else if (kind == "branches") {
      Insert(log_.branches, step, {Floats(event, "run_share"), Floats(event, "gate_mean")});
    } else if (kind == "bad_step") {
      Insert(log_.bad_steps, step, {Text(event, "reason"), Number(event, "loss")});
    } else if (kind == "sample") {
      Sample(step, event);
    }
  }

  void Start(const json& event) {
    TrainLog fresh;
    fresh.damaged_lines = log_.damaged_lines;
    fresh.files = std::move(log_.files);  // the text is read, and said to be, before the run begins
    fresh.data_tokens = log_.data_tokens;
    log_ = std::move(fresh);
    process_seconds_ = 0;
    last_step_ = 0;
    log_.model = Text(event, "model");
    const json* options = Find(event, "options");
    log_.options = options != nullptr && options->is_object() ? *options : json::object();
    if (const json* changed = Find(event, "changed"); changed != nullptr && changed->is_array()) {
      log_.says_changed = true;
      for (const json& name : *changed) {
        if (name.is_string()) log_.changed.push_back(CutText(name.get<std::string>()));
      }
    }
    if (const json* gated = Find(event, "gated"); gated != nullptr && gated->is_array()) {
      for (size_t i = 0; i < gated->size() && i < kMaxBranches; ++i) log_.gated.push_back((*gated)[i] != json(false));
    }
  }

  void Data(const json& event) {
    log_.data_tokens = std::max<int64_t>(0, Count(event, "tokens"));
    log_.files.clear();
    const json* files = Find(event, "files");
    if (files == nullptr || !files->is_array()) return;
    for (size_t i = 0; i < files->size() && i < kMaxFiles; ++i) {
      const json& file = (*files)[i];
      if (!file.is_object()) continue;
      log_.files.push_back({Text(file, "path"), std::max<int64_t>(0, Count(file, "rows")),
                            std::max<int64_t>(0, Count(file, "used")), std::max<int64_t>(0, Count(file, "skipped"))});
    }
  }

  void Step(int64_t step, const json& event) {
    const double logged = Number(event, "seconds");
    const double seconds = logged >= 0 && logged <= kMaxSeconds ? logged : kNaN;
    // Seconds count from the start of a process.
    if (!log_.steps.empty() && (step <= last_step_ || seconds < process_seconds_)) {
      log_.seconds += process_seconds_;
      process_seconds_ = 0;
      if (log_.resumed_after.size() < kMaxEvents) log_.resumed_after.push_back(step - 1);
    }
    last_step_ = step;
    if (!std::isnan(seconds)) process_seconds_ = seconds;
    log_.steps.push_back({.step = step,
                          .tokens = std::max<int64_t>(0, Count(event, "tokens")),
                          .loss = Float(event, "loss"),
                          .rate = Float(event, "rate"),
                          .gradient_norm = Float(event, "gradient_norm"),
                          .requested_saving = Float(event, "requested_saving"),
                          .realised_saving = Float(event, "realised_saving"),
                          .tokens_per_second = Float(event, "tokens_per_second")});
    if (log_.steps.size() >= 2 * kMaxLoggedSteps) Compact(log_.steps);
  }

  void Evaluation(int64_t step, const json& event) {
    LoggedEvaluation e;
    e.base_nll = Number(event, "base_nll");
    e.budgets = Numbers(event, "budgets");
    e.nll = Numbers(event, "nll");
    e.net_saving = Numbers(event, "net_saving");
    const size_t n = std::min(e.budgets.size(), e.nll.size());
    e.budgets.resize(n);
    e.nll.resize(n);
    e.net_saving.resize(n, kNaN);
    Insert(log_.evaluations, step, std::move(e));
  }

  void Sample(int64_t step, const json& event) {
    LoggedSample sample{step, Number(event, "budget"), Text(event, "prompt"), Text(event, "text")};
    for (LoggedSample& old : log_.samples) {
      if (old.step == sample.step && old.budget == sample.budget && old.prompt == sample.prompt) {
        old = std::move(sample);
        return;
      }
    }
    log_.samples.push_back(std::move(sample));
    if (log_.samples.size() > kMaxSamples) log_.samples.erase(log_.samples.begin());
  }

  TrainLog log_;
  int64_t last_step_ = 0;
  double process_seconds_ = 0;
  bool any_event_ = false;
};

TrainLog Read(std::istream& in, bool& any_event) {
  const auto lines = std::make_unique<LineReader>(in);
  Reader reader;
  std::string line;
  while (lines->Next(line)) reader.Line(line);
  any_event = reader.any_event();
  return reader.Finish();
}

}  // namespace

TrainLog ReadTrainLog(std::istream& in) {
  bool any_event = false;
  return Read(in, any_event);
}

TrainLog ReadTrainLogFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    Fail(ErrorCode::kNotFound,
         "[{}] log: expected the log.jsonl of a training run, found no file that can be read; name the directory "
         "that train's --run names",
         path);
  }
  bool any_event = false;
  TrainLog log = Read(in, any_event);
  if (!any_event) {
    Fail(ErrorCode::kCorruptData,
         "[{}] log: expected the events of a training run, found none; name the directory that train's --run names",
         path);
  }
  return log;
}

}  // namespace gateskip
