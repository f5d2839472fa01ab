// SPDX-License-Identifier: Apache-2.0
#include "flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <limits>

#include "base/check.h"
#include "io/embedded_adapter.h"
#include "runtime/draft.h"
#include "terminal.h"

namespace gateskip::cli {
namespace {

constexpr int64_t kMaxTokens = 1 << 30;
constexpr int64_t kMaxCpu = 1023;

// In the order of DraftKind.
const std::vector<std::string> kDraftNames = {"none", "gates", "exit", "ngram"};

// "--budget" of "-b,--budget": the last spelling is the long one.
std::string LongName(const std::string& names) {
  const size_t comma = names.rfind(',');
  return comma == std::string::npos ? names : names.substr(comma + 1);
}

template <typename T>
std::optional<T> ParseWhole(const std::string& text) {
  T value{};
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stopped != end || text.empty()) return std::nullopt;
  return value;
}

[[noreturn]] void FailValue(const std::string& name, const std::string& expected, const std::string& found) {
  Fail(ErrorCode::kInvalidArgument, "[command line] {}: expected {}, found '{}'", name, expected,
       Printable(found.substr(0, 64)));
}

int64_t ParseInt(const std::string& name, const std::string& text, int64_t low, int64_t high) {
  const std::optional<int64_t> value = ParseWhole<int64_t>(text);
  if (!value || *value < low || *value > high) {
    FailValue(name, fmt::format("an integer in [{}, {}]", low, high), text);
  }
  return *value;
}

std::vector<std::string> SplitList(const std::string& text) {
  std::vector<std::string> parts;
  size_t begin = 0;
  while (true) {
    const size_t comma = text.find(',', begin);
    parts.push_back(text.substr(begin, comma - begin));
    if (comma == std::string::npos) return parts;
    begin = comma + 1;
  }
}

// "0-3,8": numbers and ranges of them.
std::vector<int> ParseCpus(const std::string& name, const std::string& text) {
  std::vector<int> cpus;
  for (const std::string& part : SplitList(text)) {
    const size_t dash = part.find('-');
    const auto first = ParseInt(name, part.substr(0, dash), 0, kMaxCpu);
    const auto last = dash == std::string::npos ? first : ParseInt(name, part.substr(dash + 1), first, kMaxCpu);
    for (int64_t cpu = first; cpu <= last; ++cpu) cpus.push_back(static_cast<int>(cpu));
  }
  return cpus;
}

// Every option takes one word and keeps the last one given; `parse` throws Error.
CLI::Option* AddParsed(CLI::App& app, const std::string& names, const std::function<void(const std::string&)>& parse,
                       const std::string& help, const std::string& type, const std::string& initial) {
  CLI::Option* option = app.add_option_function<std::string>(names, parse, help);
  option->type_name(type)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  if (!initial.empty()) option->default_str(initial);
  return option;
}

template <typename T>
std::string JoinNumbers(const std::vector<T>& values) {
  return fmt::format("{}", fmt::join(values, ","));
}

}  // namespace

double ParseDouble(const std::string& name, const std::string& text, double low, double high) {
  const std::optional<double> value = ParseWhole<double>(text);
  if (!value || !std::isfinite(*value) || *value < low || *value > high) {
    FailValue(name, fmt::format("a number in [{}, {}]", low, high), text);
  }
  return *value;
}

CLI::Option* AddDouble(CLI::App& app, const std::string& names, double* value, double low, double high,
                       const std::string& help) {
  const std::string name = LongName(names);
  return AddParsed(
      app, names, [=](const std::string& text) { *value = ParseDouble(name, text, low, high); }, help, "X",
      fmt::format("{}", *value));
}

CLI::Option* AddFloat(CLI::App& app, const std::string& names, float* value, double low, double high,
                      const std::string& help) {
  const std::string name = LongName(names);
  return AddParsed(
      app, names, [=](const std::string& text) { *value = static_cast<float>(ParseDouble(name, text, low, high)); },
      help, "X", fmt::format("{}", *value));
}

CLI::Option* AddInt(CLI::App& app, const std::string& names, int* value, int64_t low, int64_t high,
                    const std::string& help) {
  const std::string name = LongName(names);
  return AddParsed(
      app, names, [=](const std::string& text) { *value = static_cast<int>(ParseInt(name, text, low, high)); }, help,
      "N", fmt::format("{}", *value));
}

CLI::Option* AddInt64(CLI::App& app, const std::string& names, int64_t* value, int64_t low, int64_t high,
                      const std::string& help) {
  const std::string name = LongName(names);
  return AddParsed(
      app, names, [=](const std::string& text) { *value = ParseInt(name, text, low, high); }, help, "N",
      fmt::format("{}", *value));
}

CLI::Option* AddUint64(CLI::App& app, const std::string& names, uint64_t* value, const std::string& help) {
  const std::string name = LongName(names);
  return AddParsed(
      app, names,
      [=](const std::string& text) {
        const std::optional<uint64_t> parsed = ParseWhole<uint64_t>(text);
        if (!parsed) FailValue(name, "an integer in [0, 2^64)", text);
        *value = *parsed;
      },
      help, "N", fmt::format("{}", *value));
}

CLI::Option* AddDoubles(CLI::App& app, const std::string& names, std::vector<double>* values, double low, double high,
                        const std::string& help) {
  const std::string name = LongName(names);
  return AddParsed(
      app, names,
      [=](const std::string& text) {
        values->clear();
        for (const std::string& part : SplitList(text)) values->push_back(ParseDouble(name, part, low, high));
      },
      help, "X,X,...", JoinNumbers(*values));
}

CLI::Option* AddInts(CLI::App& app, const std::string& names, std::vector<int>* values, int64_t low, int64_t high,
                     const std::string& help) {
  const std::string name = LongName(names);
  return AddParsed(
      app, names,
      [=](const std::string& text) {
        values->clear();
        for (const std::string& part : SplitList(text)) {
          values->push_back(static_cast<int>(ParseInt(name, part, low, high)));
        }
      },
      help, "N,N,...", JoinNumbers(*values));
}

CLI::Option* AddChoice(CLI::App& app, const std::string& names, std::string* value,
                       const std::vector<std::string>& choices, const std::string& help) {
  const std::string name = LongName(names);
  return AddParsed(
      app, names,
      [=](const std::string& text) {
        if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
          FailValue(name, fmt::format("one of {}", fmt::join(choices, ", ")), text);
        }
        *value = text;
      },
      help, fmt::format("{}", fmt::join(choices, "|")), *value);
}

size_t ChoiceIndex(const std::vector<std::string>& choices, const std::string& value) {
  return static_cast<size_t>(std::find(choices.begin(), choices.end(), value) - choices.begin());
}

CLI::Option* AddTexts(CLI::App& app, const std::string& names, std::vector<std::string>* values,
                      const std::string& type, const std::string& help) {
  // One value per occurrence: a list that ate every following word would hide a forgotten dash.
  return app.add_option(names, *values, help)->type_name(type)->allow_extra_args(false);
}

void AddModelPath(CLI::App& app, PathFlags* flags) {
  app.add_option("-m,--model", flags->model, "The model: a GGUF file or a Hugging Face style directory")
      ->envname("GATESKIP_MODEL")
      ->type_name("PATH")
      ->group("Model");
}

void AddAdapterPath(CLI::App& app, PathFlags* flags, const std::string& help) {
  app.add_option("--adapter", flags->adapter, help)->envname("GATESKIP_ADAPTER")->type_name("DIR")->group("Model");
}

bool BringGates(const PathFlags& flags) {
  if (!flags.adapter.empty()) return true;
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(flags.model, ignored)) return false;
  try {
    return HasEmbeddedAdapter(*GgufFile::Open(flags.model));
  } catch (const Error&) {
    return false;
  }
}

void RequireModel(const PathFlags& flags) {
  if (!flags.model.empty()) return;
  Fail(ErrorCode::kInvalidArgument,
       "[command line] -m: expected the path of a model, found none; get one with scripts/fetch_model.sh, then pass "
       "-m FILE or set GATESKIP_MODEL");
}

void AddThreads(CLI::App& app, int* threads) {
  AddInt(app, "-t,--threads", threads, 0, 256, "Threads; 0: one per core this process may use")
      ->envname("GATESKIP_THREADS")
      ->group("Model");
}

void AddEngineFlags(CLI::App& app, EngineFlags* flags, bool with_threads) {
  AddModelPath(app, &flags->paths);
  AddAdapterPath(app, &flags->paths, "Adapter directory with gates, thresholds and deltas");
  app.add_flag("--no-adapter", flags->no_adapter,
               "Run the plain base model, whatever --adapter says; drafts may still use it")
      ->group("Model");
  if (with_threads) AddThreads(app, &flags->threads);
  AddParsed(
      app, "--cpu-affinity", [=](const std::string& text) { flags->cpus = ParseCpus("--cpu-affinity", text); },
      "CPUs the threads stay on, one each, in turn if there are more; as in 0-3,8", "N-N,N,...", "")
      ->group("Model");
  app.add_flag("--f32", flags->f32, "Compute in f32 on dequantised weights: the slow reference")->group("Model");
  AddChoice(app, "--head", &flags->head, {"stored", "q4"},
            "Format of the output head: as in the file, or 4 bits, which is faster and less exact")
      ->group("Model");
  AddChoice(app, "--kv-cache", &flags->kv_cache, {"f16", "q8_0"},
            "How keys and values are kept: q8_0 takes 56 % of the memory and is less exact")
      ->group("Model");
}

void AddContextLength(CLI::App& app, EngineFlags* flags) {
  AddInt(app, "-c,--context", &flags->context_length, 0, 1 << 24,
         "Context length in tokens; 0: the model's own, at most 8192")
      ->group("Model");
}

EngineOptions MakeEngineOptions(const EngineFlags& flags) {
  EngineOptions options;
  options.model_path = flags.paths.model;
  if (!flags.no_adapter || flags.adapter_drafts) options.adapter_path = flags.paths.adapter;
  options.threads = flags.threads;
  options.cpus = flags.cpus;
  options.context_length = flags.context_length;
  options.compute = flags.f32 ? ComputeType::kF32 : ComputeType::kFast;
  options.head = flags.head == "q4" ? HeadFormat::kQ4 : HeadFormat::kStored;
  options.kv_cache = flags.kv_cache == "q8_0" ? KvCacheFormat::kQ8_0 : KvCacheFormat::kF16;
  return options;
}

std::unique_ptr<Engine> LoadEngine(const EngineFlags& flags) {
  RequireModel(flags.paths);
  return Engine::Load(MakeEngineOptions(flags));
}

void AddPolicyFlags(CLI::App& app, PolicyFlags* flags) {
  AddChoice(app, "--policy", &flags->policy, {"gates", "random"},
            "What decides: the adapter's gates, or chance at the same net saving (a control)")
      ->group("Budget");
  AddUint64(app, "--policy-seed", &flags->seed, "Seed of the random policy")->group("Budget");
}

void AddBudgetFlags(CLI::App& app, BudgetFlags* flags) {
  AddDouble(app, "--budget", &flags->budget, kLowestBudget, kHighestBudget,
            "Share of the layer cost to save, net of the gates, in [0, 0.95]")
      ->envname("GATESKIP_BUDGET")
      ->group("Budget");
  const auto add_phase = [&](const std::string& name, std::optional<double>* value, const std::string& help) {
    AddParsed(
        app, name, [=](const std::string& text) { *value = ParseDouble(name, text, kLowestBudget, kHighestBudget); },
        help, "X", "")
        ->group("Budget");
  };
  add_phase("--budget-prefill", &flags->prefill, "The same for the prompt only");
  add_phase("--budget-decode", &flags->decode, "The same for generated tokens only");
  AddPolicyFlags(app, &flags->policy);
}

void AddBudgetList(CLI::App& app, std::vector<double>* budgets) {
  AddDoubles(app, "--budget,--budgets", budgets, kLowestBudget, kHighestBudget,
             "Budgets to run, each in [0, 0.95]: net share of the layer cost to save")
      ->envname("GATESKIP_BUDGET")
      ->group("Budget");
}

void RequireAdapterFor(double budget, const PolicyFlags& policy, const EngineFlags& engine) {
  if (budget == 0 || policy.policy == "random" || (!engine.no_adapter && BringGates(engine.paths))) return;
  Fail(ErrorCode::kInvalidArgument,
       "[command line] --budget {}: expected an adapter, found none; pass --adapter DIR or use --policy random",
       budget);
}

BudgetOptions MakeBudget(double prefill, double decode, const PolicyFlags& policy, const EngineFlags& engine) {
  RequireAdapterFor(std::max(prefill, decode), policy, engine);
  BudgetOptions options;
  options.prefill = prefill;
  options.decode = decode;
  options.policy = policy.policy == "random" ? Policy::kRandom : Policy::kGates;
  options.policy_seed = policy.seed;
  options.use_adapter = !engine.no_adapter;
  return options;
}

BudgetOptions MakeBudget(const BudgetFlags& flags, const EngineFlags& engine) {
  return MakeBudget(flags.prefill.value_or(flags.budget), flags.decode.value_or(flags.budget), flags.policy, engine);
}

void AddSamplingFlags(CLI::App& app, SamplingOptions* sampling) {
  const std::string group = "Sampling";
  AddFloat(app, "--temp", &sampling->temperature, 0, 100, "Temperature; 0: always the likeliest token")->group(group);
  AddInt(app, "--top-k", &sampling->top_k, 0, kMaxTokens, "Draw from the K likeliest tokens; 0: off")->group(group);
  AddFloat(app, "--top-p", &sampling->top_p, std::numeric_limits<float>::min(), 1,
           "Draw from the likeliest tokens that hold this share, in (0, 1]; 1: off")
      ->group(group);
  AddFloat(app, "--min-p", &sampling->min_p, 0, 1,
           "Drop tokens below this share of the likeliest one, in [0, 1); 0: off")
      ->group(group);
  AddFloat(app, "--repeat-penalty", &sampling->repeat_penalty, std::numeric_limits<float>::min(), 1e6,
           "Make tokens seen lately less likely; 1: off")
      ->group(group);
  AddInt(app, "--repeat-window", &sampling->repeat_window, 0, kMaxTokens, "How many tokens back 'lately' reaches")
      ->group(group);
  AddFloat(app, "--presence-penalty", &sampling->presence_penalty, -2, 2,
           "Taken from the logit of every token drawn before, in [-2, 2]; 0: off")
      ->group(group);
  AddFloat(app, "--frequency-penalty", &sampling->frequency_penalty, -2, 2,
           "Taken as often as it was drawn, in [-2, 2]; 0: off")
      ->group(group);
  AddUint64(app, "--seed", &sampling->seed, "Seed of the draws; the same seed gives the same text")->group(group);
}

void AddGenerationFlags(CLI::App& app, GenerationFlags* flags) {
  GenerateOptions& options = flags->options;
  const std::string generation = "Generation";
  AddInt(app, "-n,--max-tokens", &options.max_tokens, -1, kMaxTokens,
         "Tokens to generate at most; -1: until the context is full")
      ->group(generation);
  AddTexts(app, "--stop", &options.stop, "TEXT", "End before this text; may be repeated")->group(generation);
  app.add_flag("--ignore-eos", options.ignore_eos, "Go on after the model's end-of-text token")->group(generation);
  app.add_option("--system", flags->system, "System message of the chat template")
      ->type_name("TEXT")
      ->group(generation);

  AddSamplingFlags(app, &options.sampling);
  AddSpeculationFlags(app, &flags->speculation);
}

void AddSpeculationFlags(CLI::App& app, SpeculationFlags* flags) {
  const std::string group = "Speculative decoding";
  AddChoice(app, "--speculative", &flags->draft, kDraftNames,
            "Draft tokens and verify several in one step; the text stays the same. By the gates at a higher budget, by "
            "the first layers alone, or by what followed the same tokens before")
      ->group(group);
  AddDouble(app, "--draft-budget", &flags->options.budget, 0.01, kHighestBudget,
            "What drafted tokens save; with exit: the share of the layers left out")
      ->group(group);
  AddInt(app, "--draft-tokens", &flags->options.max_tokens, 1, kMaxDraftTokens,
         "Tokens to draft at most before they are verified")
      ->group(group);
}

SpeculationOptions MakeSpeculation(const SpeculationFlags& flags, EngineFlags* engine) {
  SpeculationOptions options = flags.options;
  options.draft = static_cast<DraftKind>(ChoiceIndex(kDraftNames, flags.draft));
  engine->adapter_drafts = options.draft == DraftKind::kGates;
  if (engine->adapter_drafts && !BringGates(engine->paths)) {
    Fail(ErrorCode::kInvalidArgument,
         "[command line] --speculative gates: expected gates, found no adapter; pass --adapter, or draft with ngram or "
         "exit");
  }
  return options;
}

void AddPromptFlags(CLI::App& app, TextSource* source, const std::string& what) {
  CLI::Option* text = app.add_option_function<std::string>(
      "-p,--prompt", [source](const std::string& value) { source->text = value; }, what);
  text->type_name("TEXT")->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)->group("Input");
  app.add_option("-f,--file", source->file, "The same from a file; '-' is stdin")
      ->type_name("FILE")
      ->excludes(text)
      ->group("Input");
}

void AddWindowFlags(CLI::App& app, WindowFlags* flags) {
  AddChoice(app, "--windows", &flags->windows, {"joined", "documents"},
            "What is in a window: a piece of the documents laid end to end, or one document, cut to its length")
      ->group("Input");
  AddChoice(app, "--pair-format", &flags->pair_format, kPairFormatNames,
            "Prompts with completions: as chats and plainly in turn, as chats, or as they are")
      ->group("Input");
}

void AddJson(CLI::App& app, bool* json) {
  app.add_flag("--json", *json, "Print one JSON object on stdout and nothing else")->group("Output");
}

}  // namespace gateskip::cli
