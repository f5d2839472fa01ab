// SPDX-License-Identifier: Apache-2.0
// The C++ API: load a model with or without an adapter, generate and score text at a compute budget chosen per
// call. All functions throw gateskip::Error. An Engine is used from one thread at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gateskip/error.h"

namespace gateskip {

enum class ComputeType {
  kFast,  // stored weight blocks, 8-bit activations, integer dot products
  kF32,   // weights dequantised, everything in f32: the reference
};

// The output head, read whole for every token: on a small model with a large vocabulary a third of a token's bytes.
enum class HeadFormat {
  kStored,  // as in the file
  kQ4,      // 4-bit blocks with an offset each (ggml's Q4_1): fewer bytes, other logits (docs/performance.md)
};

// How keys and values are kept between steps.
enum class KvCacheFormat {
  kF16,
  kQ8_0,  // 8-bit blocks of 32 elements of a head: 56 % of the bytes, other logits (docs/performance.md)
};

struct EngineOptions {
  std::string model_path;    // a GGUF file or a hub-style directory
  std::string adapter_path;  // an adapter directory; empty: the one inside the model file, if any, else the plain model
  int threads = 0;           // 0: one per core this process may use
  std::vector<int> cpus = {};  // thread t stays on cpus[t % size]; empty: where the system puts it
  ComputeType compute = ComputeType::kFast;
  HeadFormat head = HeadFormat::kStored;
  KvCacheFormat kv_cache = KvCacheFormat::kF16;  // with ComputeType::kF32: f32, and kQ8_0 is refused
  int context_length = 0;   // 0: the model's own, at most 8192. KV memory is taken page by page as it fills
  int prefill_chunk = 512;  // rows of one forward step
  bool self_test = true;    // run the adapter's self-test when loading it
};

enum class Policy {
  kGates,   // the adapter's gates; without an adapter only budget 0 is possible
  kRandom,  // random decisions at the same net saving: the control
};

struct BudgetOptions {
  double prefill = 0;  // net share of the ungated layer cost to save, in [0, 0.95]
  double decode = 0;
  Policy policy = Policy::kGates;
  uint64_t policy_seed = 0;
  // false: run the plain base model, no gates and no deltas, even if an adapter is loaded.
  bool use_adapter = true;
};

struct SamplingOptions {
  float temperature = 0.0F;     // 0: greedy. [0, 100]
  int top_k = 40;               // 0: off
  float top_p = 0.95F;          // (0, 1], 1: off
  float min_p = 0.0F;           // [0, 1), 0: off
  float repeat_penalty = 1.0F;  // > 0, 1: off (arXiv 1909.05858); over the last `repeat_window` tokens
  int repeat_window = 64;
  uint64_t seed = 0;
  // OpenAI's: a token that was drawn c > 0 times before loses presence_penalty + c * frequency_penalty of its logit.
  // [-2, 2], 0: off. The prompt does not count.
  float presence_penalty = 0.0F;
  float frequency_penalty = 0.0F;
  std::vector<std::pair<int32_t, float>> logit_bias = {};  // (token id, added to its logit), each in [-100, 100]
};

enum class DraftKind {
  kNone,
  kGates,      // the model itself with the adapter's gates at a higher budget
  kEarlyExit,  // the model's first layers and its head (arXiv 2309.08168, 2404.16710)
  kNgram,      // what followed the same tokens earlier in the text (arXiv 2304.04487)
};

// Speculative decoding: tokens are drafted, then verified in one step. The text is that of plain decoding, token for
// token; only the time differs.
struct SpeculationOptions {
  DraftKind draft = DraftKind::kNone;
  double budget = 0.5;   // of drafted tokens, in (0, 0.95]; kEarlyExit: the share of the layers left out
  int max_tokens = 8;    // drafted before they are verified, [1, 32]
  bool adaptive = true;  // fewer, or none, where they are not likely enough to be accepted
};

struct GenerateOptions {
  int max_tokens = 128;           // -1: up to the context length
  std::vector<std::string> stop;  // generation ends before the first of these strings; it is not returned
  bool ignore_eos = false;
  SamplingOptions sampling;
  BudgetOptions budget;
  SpeculationOptions speculation = {};
};

// What was asked for and what was really saved. Nominal counts branch applications; net counts weights really
// multiplied, gates, deltas and K/V of skipped rows included, against the ungated layers.
struct SavingReport {
  double requested = 0;
  double nominal = 0;
  double net = 0;
  uint64_t rows = 0;
  uint64_t branches_run = 0;
  uint64_t branches_skipped = 0;
};

struct SpeculationReport {
  uint64_t drafted = 0;   // tokens that were drafted and verified
  uint64_t accepted = 0;  // of those
  uint64_t steps = 0;     // of the target, drafts verified in them or not; without a draft, one for each token
  SavingReport draft_saving;
};

enum class FinishReason { kLength, kEndOfText, kStopString, kCancelled, kContextFull, kDeadline };

struct GenerateResult {
  std::string text;
  std::vector<int32_t> token_ids;
  FinishReason finish_reason = FinishReason::kLength;
  size_t prompt_tokens = 0;
  size_t reused_tokens = 0;    // of the prompt, already in the KV cache from the call before
  double prefill_seconds = 0;  // prompt, up to the first token
  double decode_seconds = 0;   // the tokens after the first
  SavingReport prefill_saving;
  SavingReport decode_saving;  // of the rows that the text comes from; drafts and refused rows are in `speculation`
  SpeculationReport speculation;
};

struct ScoreResult {
  std::vector<float> log_probs;    // [n - 1]: log p(ids[i + 1] | ids[..i]), natural log
  std::vector<uint8_t> is_greedy;  // [n - 1]: whether ids[i + 1] is the argmax
  double seconds = 0;
  SavingReport saving;
};

struct ModelInfo {
  std::string architecture;
  std::string name;
  int num_layers = 0;
  int hidden_size = 0;
  int num_heads = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int ffn_size = 0;
  int vocab_size = 0;
  int context_length = 0;  // of this engine
  uint64_t file_bytes = 0;
  uint64_t weight_bytes = 0;        // packed, resident
  double skippable_share = 0;       // f: share of a decoded token's weight bytes that lies in branches
  double decision_cost = 0;         // gate decisions as a share of the dense layer cost
  std::string kv_cache;             // "f16", "f32", "q8_0"
  uint64_t kv_bytes_per_token = 0;  // of keys and values, all layers; pages hold 64 tokens
  std::string base_fingerprint;
  std::string cpu_target;
  int threads = 0;
  bool has_adapter = false;
  double max_budget = 0;  // largest calibrated budget, 0 without an adapter
};

struct ChatTurn {
  std::string role;
  std::string content;
};

class Engine {
 public:
  static std::unique_ptr<Engine> Load(const EngineOptions& options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const ModelInfo& info() const;

  std::vector<int32_t> Encode(std::string_view text, bool add_bos, bool parse_special) const;
  std::string Decode(std::span<const int32_t> ids, bool special) const;
  bool adds_bos() const;  // whether prompts of this model start with BOS
  // The model's own chat template with the assistant's turn opened. Error(kUnsupported) if it has none.
  std::string ApplyChatTemplate(const std::vector<ChatTurn>& turns, bool add_generation_prompt) const;
  // The same as token ids, with BOS where the model wants one. Special tokens of the template are special, what a turn
  // spells like one is text: encode this way what others have written.
  std::vector<int32_t> EncodeChat(const std::vector<ChatTurn>& turns, bool add_generation_prompt) const;

  // Called with each piece of text as it is complete (never half a UTF-8 character); return false to stop.
  using TextCallback = std::function<bool(std::string_view piece)>;
  // Called during prefill with rows done and rows in all.
  using ProgressCallback = std::function<void(size_t done, size_t total)>;

  // Continues `prompt` (token ids). The KV cache of the call before is reused for the longest common prefix at
  // the same budgets. Error(kLimitExceeded) when the prompt does not fit the context, kInvalidArgument for
  // options out of range; nothing is kept of a failed call.
  GenerateResult Generate(std::span<const int32_t> prompt, const GenerateOptions& options,
                          const TextCallback& on_text = nullptr, const ProgressCallback& on_progress = nullptr);

  // Log-probabilities of a text under the model, in one pass. ids.size() in [1, context_length].
  ScoreResult Score(std::span<const int32_t> ids, const BudgetOptions& budget,
                    const ProgressCallback& on_progress = nullptr);

  // The raw measurements behind `gateskip bench`.
  struct BenchOptions {
    int depth = 0;                // the first so many tokens of each prompt are in the cache before the clock starts
    int decode_tokens = 0;        // of each sequence, greedily
    bool evaluate_gates = false;  // every one, also where the budget asks for none: what deciding costs
    BudgetOptions budget = {};
  };
  struct BenchResult {
    double prefill_seconds = 0;          // of all prompts, one after the other, from their depth on
    std::vector<double> decode_seconds;  // of each step: a token of every sequence
    SavingReport prefill_saving;
    SavingReport decode_saving;
    uint64_t prefill_operations = 0;   // multiplications and additions of matrix products in the measured part
    uint64_t weight_bytes_decode = 0;  // weight bytes read while decoding
    uint32_t logits_hash = 0;          // of the last step's, or without one of the last prompt's
  };
  // One sequence for each prompt, all of one length, which is above the depth; they decode together. Throws as
  // Generate.
  BenchResult Bench(std::span<const std::vector<int32_t>> prompts, const BenchOptions& options);

  // Ends the running call soon, from any thread or a signal handler.
  void Cancel() noexcept;

 private:
  struct Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

std::string_view Version();  // "0.1.0"

}  // namespace gateskip
