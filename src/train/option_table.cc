// SPDX-License-Identifier: Apache-2.0
#include "train/option_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace gateskip {
namespace {

constexpr double kMaxBudget = 0.6;  // of training: beyond it nothing is left to learn from

template <typename... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};
// Clang 14 does not deduce an aggregate's arguments by itself (P1816).
template <typename... Cases>
Overloaded(Cases...) -> Overloaded<Cases...>;

template <typename T>
std::optional<T> ParseWhole(const std::string& text) {
  T value{};
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stopped != end || text.empty()) return std::nullopt;
  return value;
}

[[noreturn]] void FailValue(const std::string& origin, const std::string& name, const std::string& expected,
                            const std::string& found) {
  Fail(ErrorCode::kInvalidArgument, "[{}] {}: expected {}, found '{}'; correct the value", origin, name, expected,
       found.substr(0, 64));
}

double ParseNumber(const std::string& text, double low, double high, const std::string& origin,
                   const std::string& name) {
  const std::optional<double> value = ParseWhole<double>(text);
  if (!value || !(*value >= low && *value <= high)) {
    FailValue(origin, name, fmt::format("a number in [{}, {}]", low, high), text);
  }
  return *value;
}

template <typename T>
T ParseInteger(const std::string& text, double low, double high, const std::string& origin, const std::string& name) {
  const std::optional<T> value = ParseWhole<T>(text);
  if (!value || static_cast<double>(*value) < low || static_cast<double>(*value) > high) {
    FailValue(origin, name, fmt::format("an integer in [{:.0f}, {:.0f}]", low, high), text);
  }
  return *value;
}

template <typename Enum>
ChoiceField Choice(Enum* value, std::vector<std::string> names) {
  return {std::move(names), [value] { return static_cast<size_t>(*value); },
          [value](size_t i) { *value = static_cast<Enum>(i); }};
}

// The names of an enum's table in io/adapter.h, which lists the values in their order.
template <typename Enum, size_t n>
std::vector<std::string> NamesOf(const std::pair<Enum, const char*> (&table)[n]) {
  std::vector<std::string> names;
  for (size_t i = 0; i < n; ++i) {
    GS_CHECK(static_cast<size_t>(table[i].first) == i);
    names.emplace_back(table[i].second);
  }
  return names;
}

// Collects rows; `Section` names what follows.
class TableBuilder {
 public:
  std::vector<TrainOption> rows;

  void Section(std::string name) { section_ = std::move(name); }
  void Number(const char* name, OptionField field, double low, double high, const char* help,
              OptionEffect effect = OptionEffect::kResult) {
    rows.push_back({section_, name, std::move(field), help, effect, low, high, ""});
  }
  void Value(const char* name, OptionField field, const char* help, const char* type = "",
             OptionEffect effect = OptionEffect::kResult) {
    rows.push_back({section_, name, std::move(field), help, effect, 0, 0, type});
  }

 private:
  std::string section_;
};

void AddRun(TableBuilder& t, TrainOptions& o) {
  constexpr auto kConduct = OptionEffect::kConduct;
  t.Section("Model");
  t.Value("model", &o.model_path, "The base model: a GGUF file or a Hugging Face style directory", "PATH", kConduct);
  t.Value("adapter", &o.adapter_directory, "Where the adapter is written at the end", "DIR", kConduct);
  t.Value("trained-model", &o.trained_model_path,
          "Where the model is written if --train-base changed it: FILE.gguf or a directory", "PATH", kConduct);
  t.Value("trained-model-type", Choice(&o.trained_model_type, {"bf16", "f16", "f32"}), "Of its matrices", "", kConduct);
  t.Number("threads", &o.threads, 1, 256, "Threads", kConduct);
  t.Number("rank-time-out", &o.rank_time_out, 1, 3600, "Seconds of silence after which a rank counts as dead",
           kConduct);
  t.Number("rank-work-time-out", &o.rank_work_time_out, 1, 86400,
           "Seconds that ranks wait for one that answers but works", kConduct);
  t.Number("rank-join-time-out", &o.rank_join_time_out, 1, 86400, "Seconds that the start waits for all ranks",
           kConduct);
  t.Value("device", &o.device, "cpu, cuda or cuda:N", "NAME");
  t.Value("f32", &o.float32, "Compute in f32 instead of bf16");
  t.Value("activation-checkpointing", &o.activation_checkpointing,
          "Keep each layer's input only and run it again for its gradient: less memory, a third more time");

  t.Section("Data");
  t.Value("data", &o.sources, "Training text, PATH[@WEIGHT[@BEGIN-END]]: .txt, .md, .jsonl or .json; may be repeated",
          "SOURCE", kConduct);
  t.Value("heldout", &o.heldout_sources, "The same for evaluation; never trained on", "SOURCE", kConduct);
  t.Value(
      "columns", &o.columns,
      "Names of the columns of records where they are others: text=, prompt=, completion=, messages=", "KIND=NAME,...");
  t.Value("packing", Choice(&o.packing, {"masked", "joined", "none"}),
          "Documents back to back but apart, as one stream, or one per sequence");
  t.Value("pair-format", Choice(&o.pair_format, kPairFormatNames),
          "Prompts with completions: as chats and plainly in turn, as chats, or as they are");
  t.Value("loss-on-prompts", &o.loss_on_prompts, "Prompts and the turns of others are in the loss, too");
  t.Value("strict-data", &o.strict_data, "A bad row ends the run instead of being counted, named and left out");
  t.Number("max-row-bytes", &o.max_row_bytes, 1024, 0x1p32, "Longest line of records");

  t.Section("Run");
  t.Value("run", &o.run_directory, "Checkpoints, caches and log.jsonl", "DIR", kConduct);
  t.Value("resume", &o.resume, "Go on from the newest checkpoint of --run", "", kConduct);
  t.Value("seed", &o.seed, "Seed of everything random");
  t.Number("checkpoint-every", &o.checkpoint_every, 1, 1e9, "Steps between checkpoints", kConduct);
  t.Number("keep-checkpoints", &o.keep_checkpoints, 1, 1e6, "How many stay, the best one aside", kConduct);
  t.Value("on-save-error", Choice(&o.on_save_error, {"stop", "go_on"}),
          "What a checkpoint that cannot be written does to the run", "", kConduct);
  t.Number("eval-every", &o.eval_every, 0, 1e9, "Steps between evaluations; 0: only at the end", kConduct);
  t.Number("eval-sequences", &o.eval_sequences, 1, 1e6, "Sequences of an evaluation", kConduct);
  t.Number("eval-budgets", &o.eval_budgets, 1e-6, kMaxBudget, "Budgets of an evaluation", kConduct);
  t.Number("early-stop", &o.early_stop, 0, 1e6,
           "End after so many evaluations without a better mean NLL over the budgets; 0: never", kConduct);
  t.Value("tensorboard", &o.tensorboard, "Write TensorBoard's event files into --run", "", kConduct);
  t.Value("sample-prompt", &o.sample_prompts, "Continued greedily at every evaluation; may be repeated", "TEXT",
          kConduct);
  t.Number("sample-tokens", &o.sample_tokens, 1, 4096, "Tokens of such a sample", kConduct);
  t.Number("sample-budget", &o.sample_budget, 0, kMaxBudget, "Budget of such a sample", kConduct);
}

void AddParameters(TableBuilder& t, TrainOptions& o) {
  t.Section("Adapter");
  t.Value("gate", Choice(&o.gate_kind, NamesOf(kGateKinds)), "Gate per branch");
  t.Number("gate-rank", &o.gate_rank, 1, 1024, "Rank of low_rank and mlp gates");
  t.Value("gate-shared", &o.gate_shared, "One set of gate matrices for all attention branches and one for all MLPs");
  t.Value("gate-product", Choice(&o.gate_product, NamesOf(kGateProducts)),
          "What the gate multiplies: nothing (it only decides), the branch's output as in the paper, or its input");
  t.Value("gate-scope", Choice(&o.gate_scope, NamesOf(kGateScopes)), "A gate decides for its branch or for its layer");
  t.Value("gated-branches", &o.gated_branches, "Branches that get gates; the others always run", "all|attn|mlp");
  t.Value("gated-layers", &o.gated_layers, "Layers that get gates: slices and numbers, \"1::2\", \"0,3,5:9\"",
          "LAYERS");
  t.Value("always-run-layers", &o.always_run_layers, "Layers that get none, whatever --gated-layers says", "LAYERS");
  t.Value("kv-rule", Choice(&o.kv_rule, NamesOf(kKvRules)), "K/V of a token that skips attention");
  t.Number("skip-rank", &o.skip_rank, -1, 1024,
           "What a skipped row adds instead: rank of a linear map; 0: a bias; -1: nothing");
  t.Number("lora-rank", &o.lora_rank, 0, 1024, "Rank of the LoRA deltas; 0: none");
  t.Number("lora-alpha", &o.lora_alpha, 1e-3, 1e4, "Their scale: delta = alpha / rank * B A");
  t.Value("lora-targets", &o.lora_targets, "Matrices with a delta", "NAME,...");
  t.Number("always-run", &o.always_run_positions, 0, 1 << 20, "First positions of a sequence that never skip");
  t.Value("train-base", &o.train_base,
          "Base parameters that are trained too: all, or a regular expression (RE2) for whole GGUF tensor names",
          "all|REGEX");

  t.Section("Start");
  t.Number("fit-sequences", &o.fit_sequences, 1, 4096, "Sequences the skip paths are fitted on");
  t.Number("fit-ridge", &o.fit_ridge, 1e-9, 1e3, "Ridge, relative to the mean diagonal");
  t.Value("prior", &o.prior, "Start the gates' biases at a leave-one-out prior; otherwise all gates start open");
  t.Number("prior-sequences", &o.prior_sequences, 1, 4096, "Sequences of the leave-one-out prior");
  t.Number("prior-step", &o.prior_step, 1e-4, 0.95, "Net saving by which the pruned model grows between its rounds");
  t.Number("prior-saving", &o.prior_saving, 0, 0.95,
           "... and where it stops; 0: leave-one-out from the dense model only");
  t.Number("prior-candidates", &o.prior_candidates, 1, 4096, "Branches measured again in each round");
  t.Number("essential-rise", &o.essential_rise, 0, 1e9, "Branches whose loss alone costs more nats are never gated");
}

void AddTraining(TableBuilder& t, TrainOptions& o) {
  t.Section("Steps");
  t.Number("steps", &o.steps, 0, 1e9, "Optimizer steps");
  t.Number("sequence-length", &o.sequence_length, 2, 1 << 20, "Tokens per sequence");
  t.Number("batch", &o.batch_sequences, 1, 4096, "Sequences per micro-step");
  t.Number("accumulation", &o.accumulation_steps, 1, 4096, "Micro-steps per optimizer step, of each rank");
  t.Value("decision", Choice(&o.decision_rule, {"threshold", "quantile", "exit"}),
          "One running threshold per budget (as the runtime decides), the paper's quantile per branch and batch, or no "
          "gates and a last layer drawn for each sequence");
  t.Value("budget-schedule", Choice(&o.budget_schedule, {"sample", "linear"}),
          "Each sequence draws its budget, or it rises from the first step to the last");
  t.Number("min-budget", &o.min_budget, 0, kMaxBudget, "Smallest, or first, budget of training");
  t.Number("max-budget", &o.max_budget, 0, kMaxBudget, "... and the largest, or last");
  t.Number("dense-every", &o.dense_every, 0, 1e9, "Every n-th step skips nothing; 0: never");
  t.Value("straight-through", &o.straight_through, "Gradients pass through the hard decisions");
  t.Number("temperature", &o.temperature, 1e-3, 100, "Of the straight-through decision and its noise");
  t.Number("noise", &o.noise, 0, 100, "Logistic noise on the decision, in temperatures; 0: none");
  t.Number("noise-final", &o.noise_final, 0, 1, "Share of the noise left at the last step");
  t.Number("threshold-rate", &o.threshold_rate, 0, 1, "How fast the running thresholds follow");

  t.Section("Loss");
  t.Number("kl-weight", &o.kl_weight, 0, 1e6, "Distillation: KL(ungated || gated)");
  t.Number("ce-weight", &o.ce_weight, 0, 1e6, "Cross-entropy");
  t.Number("gate-l2", &o.gate_l2, 0, 1e6, "Mean squared gate, the paper's sparsity loss");
  t.Number("gate-l1", &o.gate_l1, 0, 1e6, "Mean gate");
  t.Number("gate-kl", &o.gate_kl, 0, 1e6, "KL of a branch's mean gate from --gate-target");
  t.Number("gate-target", &o.gate_target, 1e-3, 0.999, "The target rate of --gate-kl");
  t.Value("penalty-layers", &o.penalty_layers,
          "Layers whose gates are penalised: slices and numbers, \"4:20\", \"0,8::2\"", "LAYERS");
  t.Number("head-weight", &o.head_weight, 0, 1e6, "Distilled decision head of vector gates");
  t.Number("loss-positions", &o.loss_positions, 1e-3, 1, "Share of the positions in the loss");

  t.Section("Optimizer");
  t.Number("gate-lr", &o.gate_learning_rate, 0, 10, "Peak learning rate of the gates");
  t.Number("gate-bias-lr", &o.gate_bias_learning_rate, 0, 10, "... of their biases");
  t.Number("skip-lr", &o.skip_learning_rate, 0, 10, "... of the skip paths");
  t.Number("lora-lr", &o.lora_learning_rate, 0, 10, "... of the LoRA deltas");
  t.Number("base-lr", &o.base_learning_rate, 0, 10, "... of the base parameters that --train-base names");
  t.Number("beta1", &o.beta1, 0, 0.99999, "AdamW");
  t.Number("beta2", &o.beta2, 0, 0.99999, "AdamW");
  t.Number("epsilon", &o.epsilon, 1e-12, 1, "AdamW");
  t.Number("weight-decay", &o.weight_decay, 0, 1, "AdamW; of matrices only");
  t.Number("clip-norm", &o.clip_norm, 1e-9, 1e9, "Largest gradient norm");
  t.Value("lr-schedule", Choice(&o.schedule, {"cosine", "linear", "constant"}), "After the warm-up");
  t.Number("warmup", &o.warmup_steps, 0, 1e9, "Steps to the peak rates");
  t.Number("final-lr", &o.final_learning_rate, 0, 1, "Share of the peak at the last step");
  t.Number("loss-spike", &o.loss_spike, 0, 1e9,
           "Skip a step whose loss is above so many times the largest of the last 50; 0: never");
  t.Number("max-bad-steps", &o.max_bad_steps, 1, 1e6, "Skipped steps in a row before giving up",
           OptionEffect::kConduct);
}

}  // namespace

std::string TrainOption::key() const {
  std::string result = name;
  std::replace(result.begin(), result.end(), '-', '_');
  return result;
}

std::string TrainOption::type_name() const {
  if (!type.empty()) return type;
  return std::visit(Overloaded{[](bool*) { return std::string(); }, [](int*) { return std::string("N"); },
                               [](int64_t*) { return std::string("N"); }, [](uint64_t*) { return std::string("N"); },
                               [](float*) { return std::string("X"); }, [](double*) { return std::string("X"); },
                               [](std::vector<double>*) { return std::string("X,X,..."); },
                               [](const ChoiceField& c) { return fmt::format("{}", fmt::join(c.names, "|")); },
                               [](auto*) { return std::string("TEXT"); }},
                    field);
}

bool TrainOption::is_list() const {
  return std::holds_alternative<std::vector<std::string>*>(field) ||
         std::holds_alternative<std::vector<double>*>(field) ||
         std::holds_alternative<std::vector<TrainSource>*>(field);
}

bool TrainOption::is_repeated() const { return is_list() && (type == "TEXT" || type == "SOURCE"); }

std::vector<std::string> TrainOption::words() const {
  using Words = std::vector<std::string>;
  return std::visit(Overloaded{[](bool* v) { return Words{*v ? "true" : "false"}; },
                               [](std::string* v) { return Words{*v}; }, [](Words* v) { return *v; },
                               [](std::vector<double>* v) {
                                 Words words;
                                 for (const double x : *v) words.push_back(fmt::format("{}", x));
                                 return words;
                               },
                               [](std::vector<TrainSource>* v) {
                                 Words words;
                                 for (const TrainSource& s : *v) words.push_back(s.path);
                                 return words;
                               },
                               [](const ChoiceField& c) { return Words{c.names[c.get()]}; },
                               [](auto* v) { return Words{fmt::format("{}", *v)}; }},
                    field);
}

std::vector<TrainOption> OptionTable(TrainOptions& options) {
  TableBuilder table;
  AddRun(table, options);
  AddParameters(table, options);
  AddTraining(table, options);
  return std::move(table.rows);
}

void SetOption(const TrainOption& option, const std::vector<std::string>& words, const std::string& origin,
               const std::string& name) {
  if (!option.is_list() && words.size() != 1) {
    FailValue(origin, name, "one value", fmt::format("{}", fmt::join(words, ",")));
  }
  std::visit(
      Overloaded{
          [&](bool* v) {
            if (words[0] != "true" && words[0] != "false") FailValue(origin, name, "true or false", words[0]);
            *v = words[0] == "true";
          },
          [&](int* v) { *v = ParseInteger<int>(words[0], option.low, option.high, origin, name); },
          [&](int64_t* v) { *v = ParseInteger<int64_t>(words[0], option.low, option.high, origin, name); },
          [&](uint64_t* v) {
            const auto value = ParseWhole<uint64_t>(words[0]);
            if (!value) FailValue(origin, name, "an integer in [0, 2^64)", words[0]);
            *v = *value;
          },
          [&](float* v) { *v = static_cast<float>(ParseNumber(words[0], option.low, option.high, origin, name)); },
          [&](double* v) { *v = ParseNumber(words[0], option.low, option.high, origin, name); },
          [&](std::string* v) { *v = words[0]; }, [&](std::vector<std::string>* v) { *v = words; },
          [&](std::vector<double>* v) {
            std::vector<double> values;
            for (const std::string& w : words) {
              values.push_back(ParseNumber(w, option.low, option.high, origin, name));
            }
            *v = values;
          },
          [&](std::vector<TrainSource>* v) {
            std::vector<TrainSource> sources;
            for (const std::string& w : words) sources.push_back(ParseTrainSource(w, origin, name));
            *v = sources;
          },
          [&](const ChoiceField& c) {
            const auto found = std::find(c.names.begin(), c.names.end(), words[0]);
            if (found == c.names.end()) {
              FailValue(origin, name, fmt::format("one of {}", fmt::join(c.names, ", ")), words[0]);
            }
            c.set(static_cast<size_t>(found - c.names.begin()));
          }},
      option.field);
}

nlohmann::json ResultOptionsJson(const TrainOptions& options) {
  TrainOptions copy = options;
  nlohmann::json json = nlohmann::json::object();
  for (const TrainOption& option : OptionTable(copy)) {
    if (option.effect != OptionEffect::kResult) continue;
    json[option.key()] = std::visit(Overloaded{[](const ChoiceField& c) { return nlohmann::json(c.names[c.get()]); },
                                               [](std::vector<TrainSource>*) { return nlohmann::json(); },
                                               [](auto* v) { return nlohmann::json(*v); }},
                                    option.field);
  }
  return json;
}

TrainSource ParseTrainSource(const std::string& text, const std::string& origin, const std::string& name) {
  TrainSource source;
  const size_t at = text.find('@');
  source.path = text.substr(0, at);
  if (source.path.empty()) FailValue(origin, name, "PATH[@WEIGHT[@BEGIN-END]]", text);
  if (at == std::string::npos) return source;
  const size_t second = text.find('@', at + 1);
  source.weight = ParseNumber(text.substr(at + 1, second == std::string::npos ? second : second - at - 1), 1e-6, 1e6,
                              origin, name + " weight");
  if (second == std::string::npos) return source;
  const std::string range = text.substr(second + 1);
  const size_t dash = range.find('-');
  source.begin = ParseNumber(range.substr(0, dash), 0, 1, origin, name + " begin");
  source.end =
      ParseNumber(dash == std::string::npos ? "" : range.substr(dash + 1), source.begin, 1, origin, name + " end");
  return source;
}

}  // namespace gateskip
