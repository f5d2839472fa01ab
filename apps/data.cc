// SPDX-License-Identifier: Apache-2.0
// `gateskip data`: training text written by the model itself, for self-distillation. An instruct model asks and
// answers (Magpie, arXiv 2406.08464: the user's turn is opened and the model fills it in); `--prompts` takes the
// questions from a file. `--synthetic` writes the project's own tasks instead.
#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>

#include "base/check.h"
#include "command.h"
#include "flags.h"
#include "interrupt.h"
#include "io/json.h"
#include "prompt.h"
#include "report.h"
#include "runtime/sampler.h"
#include "synthetic_data.h"
#include "terminal.h"

namespace gateskip::cli {
namespace {

constexpr int kMaxQuestionTokens = 160;
constexpr size_t kMinQuestionBytes = 8;               // shorter ones are greetings and slips
constexpr int kMaxMisses = 200;                       // records in a row that came out unusable
constexpr uint64_t kSeedStride = 0x9E3779B97F4A7C15;  // odd: seeds do not share draws
constexpr std::string_view kRecordStart = "{\"prompt\":";
constexpr const char* kMarker = "@@gateskip-turn@@";

struct DataCommand {
  EngineFlags engine;
  SamplingOptions sampling;
  SyntheticFlags synthetic;
  std::string out;
  std::string prompts;
  int64_t tokens = 100'000;
  int answer_tokens = 384;
  bool resume = false;
};

struct Record {
  Json json;
  size_t tokens = 0;
};

std::string Trim(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

std::vector<std::string> Lines(const std::string& content) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < content.size();) {
    const size_t end = std::min(content.find('\n', begin), content.size());
    const std::string line = Trim(content.substr(begin, end - begin));
    if (!line.empty()) lines.push_back(line);
    begin = end + 1;
  }
  return lines;
}

// What the chat template writes before and after a user's first message.
struct OpenTurn {
  std::vector<int32_t> prefix;  // ids up to where the message begins
  std::string stop;             // what ends the message, if it is text; a special token ends it by itself
};

OpenTurn OpenUserTurn(const Engine& engine) {
  const std::string text = engine.ApplyChatTemplate({{"user", kMarker}}, /*add_generation_prompt=*/false);
  const size_t at = text.find(kMarker);
  if (at == std::string::npos) {
    Fail(ErrorCode::kUnsupported, "[chat] template: expected the user's text in its output, found none; use --prompts");
  }
  return {EncodePlain(engine, std::string_view(text).substr(0, at)),
          Trim(text.substr(at + std::string_view(kMarker).size()))};
}

class Writer {
 public:
  Writer(Engine& engine, const DataCommand& flags) : engine_(engine), flags_(flags) {
    if (flags.prompts.empty()) turn_ = OpenUserTurn(engine);
    if (!flags.prompts.empty()) prompts_ = Lines(ReadTextFile(flags.prompts, kMaxTextBytes));
    if (!flags.prompts.empty() && prompts_.empty()) {
      Fail(ErrorCode::kInvalidArgument, "[{}] prompts: expected one per line, found none; name another file",
           flags.prompts);
    }
  }

  // How many records there are to write; 0: no end.
  size_t limit() const { return prompts_.size(); }

  // The record of this index, which alone decides its random numbers. Null when the model wrote nothing usable.
  std::optional<Record> Write(size_t index) {
    index_ = index;
    draws_ = 0;
    const std::string question = prompts_.empty() ? Ask() : prompts_[index];
    if (question.size() < kMinQuestionBytes && prompts_.empty()) return std::nullopt;
    const std::vector<int32_t> ids = EncodeChat(engine_, {{"user", question}});
    // Refused by name if it came from the file; the model's own is thrown away.
    if (prompts_.empty() && ids.size() > static_cast<size_t>(engine_.info().context_length)) return std::nullopt;
    const GenerateResult answer = Sample(ids, flags_.answer_tokens, "");
    if (answer.text.empty()) return std::nullopt;
    return Record{{{"prompt", question}, {"completion", answer.text}}, answer.prompt_tokens + answer.token_ids.size()};
  }

 private:
  std::string Ask() {
    const GenerateResult question = Sample(turn_.prefix, kMaxQuestionTokens, turn_.stop);
    // A question that was cut off is no question.
    return question.finish_reason == FinishReason::kLength ? "" : Trim(question.text);
  }

  GenerateResult Sample(const std::vector<int32_t>& ids, int max_tokens, const std::string& stop) {
    GenerateOptions options;
    options.max_tokens = max_tokens;
    if (!stop.empty()) options.stop.push_back(stop);
    options.sampling = flags_.sampling;
    // The record's index alone decides its draws, so that a resumed file equals an uninterrupted one.
    options.sampling.seed = flags_.sampling.seed * kSeedStride + 2 * index_ + draws_++;
    options.budget.use_adapter = false;
    GenerateResult result = GenerateStreaming(engine_, ids, options, /*stream=*/false);
    ThrowIfInterrupted();
    return result;
  }

  Engine& engine_;
  const DataCommand& flags_;
  OpenTurn turn_;
  std::vector<std::string> prompts_;
  size_t index_ = 0;
  size_t draws_ = 0;
};

// What an earlier run left: whole lines only, a half one at the end is cut off.
struct Earlier {
  size_t next_index = 0;
  size_t tokens = 0;
};

Earlier ContinueFile(const std::string& path) {
  const std::string content = ReadTextFile(path, kMaxTextBytes);
  Earlier earlier;
  size_t begin = 0;
  size_t line = 1;
  const auto refuse = [&] {
    Fail(ErrorCode::kCorruptData,
         "[{}:{}] line: expected a record of `gateskip data`, found another; write to a new file", path, line);
  };
  for (size_t end = content.find('\n'); end != std::string::npos; end = content.find('\n', begin), ++line) {
    const auto record =
        ParseJson(std::string_view(content).substr(begin, end - begin), fmt::format("{}:{}", path, line));
    const auto field = [&](const char* name) -> size_t {
      if (!record.is_object() || !record.contains(name) || !record[name].is_number_unsigned()) refuse();
      return record[name].template get<size_t>();
    };
    earlier.next_index = field("index") + 1;
    earlier.tokens += field("tokens");
    begin = end + 1;
  }
  // Only what a killed run leaves is cut off: somebody's text without a line end is no half record.
  const std::string_view rest = std::string_view(content).substr(begin);
  const size_t common = std::min(rest.size(), kRecordStart.size());
  if (rest.substr(0, common) != kRecordStart.substr(0, common)) refuse();
  std::error_code error;
  std::filesystem::resize_file(path, begin, error);
  if (error) {
    Fail(ErrorCode::kIo, "[{}] file: expected to continue it, found: {}; check its permissions", path, error.message());
  }
  return earlier;
}

int Run(const CLI::App& app, const DataCommand& flags) {
  const bool synthetic = !flags.synthetic.task.empty();
  RequireOneKindOfData(app, flags.synthetic);
  if (!synthetic) RequireModel(flags.engine.paths);
  ValidateSamplingOptions(flags.sampling);
  if (flags.out.empty()) {
    Fail(ErrorCode::kInvalidArgument, "[command line] --out: expected a file to write, found none; pass -o FILE");
  }
  std::error_code ignored;
  const bool exists = std::filesystem::exists(flags.out, ignored);
  if (exists && !flags.resume) {
    Fail(ErrorCode::kInvalidArgument, "[{}] file: expected a new one, found it there; {}", flags.out,
         synthetic ? "remove it or name another" : "pass --resume to continue it");
  }
  if (synthetic) return WriteSyntheticData(flags.synthetic, flags.sampling.seed, flags.out);
  InstallInterruptHandler();
  const std::unique_ptr<Engine> engine = LoadEngine(flags.engine);
  Writer writer(*engine, flags);
  const Earlier earlier = exists ? ContinueFile(flags.out) : Earlier();
  std::ofstream out(flags.out, std::ios::app | std::ios::binary);
  if (!out) {
    Fail(ErrorCode::kIo, "[{}] file: expected to open it for writing, found: {}; check the folder and its permissions",
         flags.out, std::strerror(errno));
  }
  ProgressBar bar("writing");
  const auto goal = static_cast<size_t>(flags.tokens);
  size_t tokens = earlier.tokens;
  size_t written = 0;
  int misses = 0;
  for (size_t i = earlier.next_index; tokens < goal && (writer.limit() == 0 || i < writer.limit()); ++i) {
    std::optional<Record> record = writer.Write(i);
    if (!record) {
      if (++misses >= kMaxMisses) {
        Fail(ErrorCode::kUnsupported,
             "[data] model: expected it to write by itself, found {} empty records in a row; "
             "use --prompts",
             misses);
      }
      continue;
    }
    misses = 0;
    record->json["tokens"] = record->tokens;
    record->json["index"] = i;
    out << record->json.dump(-1, ' ', false, Json::error_handler_t::replace) << '\n' << std::flush;
    if (!out) {
      Fail(ErrorCode::kIo, "[{}] file: expected to write a record, found an error; make room and pass --resume",
           flags.out);
    }
    tokens += record->tokens;
    ++written;
    bar.Update(std::min(tokens, goal), goal, "tok");
  }
  bar.Clear();
  fmt::print(stderr, "{} records, {} tokens in {}\n", written, tokens, Printable(flags.out));
  return 0;
}

}  // namespace

void AddData(CLI::App& app, Command& command) {
  const auto flags = std::make_shared<DataCommand>();
  flags->sampling.temperature = 1.0F;
  flags->sampling.top_k = 0;
  CLI::App* sub =
      app.add_subcommand("data", "Training text as JSON lines: written by the model, or the synthetic tasks");
  AddEngineFlags(*sub, &flags->engine);
  AddContextLength(*sub, &flags->engine);
  sub->add_option("-o,--out", flags->out, "Where the records go")->type_name("FILE")->group("Output");
  sub->add_flag("--resume", flags->resume, "Continue a file that is there; the result is that of one run")
      ->group("Output");
  AddInt64(*sub, "--tokens", &flags->tokens, 1, int64_t{1} << 40, "Stop after about this many")->group("Output");
  AddInt(*sub, "-n,--answer-tokens", &flags->answer_tokens, 1, 1 << 20, "Longest answer or text")->group("Output");
  sub->add_option("--prompts", flags->prompts, "Questions, one per line; without it the model asks, too")
      ->type_name("FILE")
      ->group("Input");
  AddSamplingFlags(*sub, &flags->sampling);
  AddSyntheticFlags(*sub, &flags->synthetic);
  sub->footer(
      "Examples:\n"
      "  gateskip data -m model.gguf -o self.jsonl --tokens 200000 --seed 1\n"
      "  gateskip train -m model.gguf -f self.jsonl --run runs/a --adapter adapters/a\n"
      "  gateskip data --synthetic addition --examples 10000 --split train -o addition.jsonl");
  sub->callback([sub, flags, &command] { command.run = [sub, flags] { return Run(*sub, *flags); }; });
}

}  // namespace gateskip::cli
