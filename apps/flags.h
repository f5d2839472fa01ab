// SPDX-License-Identifier: Apache-2.0
// Every option that more than one subcommand has, declared once. Values are validated while the command line
// is read, before any file is opened.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "gateskip/engine.h"
#include "text/document_encoder.h"
#include "text_input.h"

namespace gateskip::cli {

// Numbers: the whole word must be one finite number in [low, high], else Error(kInvalidArgument).
CLI::Option* AddDouble(CLI::App& app, const std::string& names, double* value, double low, double high,
                       const std::string& help);
CLI::Option* AddFloat(CLI::App& app, const std::string& names, float* value, double low, double high,
                      const std::string& help);
CLI::Option* AddInt(CLI::App& app, const std::string& names, int* value, int64_t low, int64_t high,
                    const std::string& help);
CLI::Option* AddInt64(CLI::App& app, const std::string& names, int64_t* value, int64_t low, int64_t high,
                      const std::string& help);
CLI::Option* AddUint64(CLI::App& app, const std::string& names, uint64_t* value, const std::string& help);
// Comma-separated lists; an empty list is refused.
CLI::Option* AddDoubles(CLI::App& app, const std::string& names, std::vector<double>* values, double low, double high,
                        const std::string& help);
CLI::Option* AddInts(CLI::App& app, const std::string& names, std::vector<int>* values, int64_t low, int64_t high,
                     const std::string& help);
// One word of `choices`.
CLI::Option* AddChoice(CLI::App& app, const std::string& names, std::string* value,
                       const std::vector<std::string>& choices, const std::string& help);

// Where `value` is in the choices of such an option.
size_t ChoiceIndex(const std::vector<std::string>& choices, const std::string& value);

// Free text, given any number of times.
CLI::Option* AddTexts(CLI::App& app, const std::string& names, std::vector<std::string>* values,
                      const std::string& type, const std::string& help);

// For values that do not come from an option (the chat's commands).
double ParseDouble(const std::string& name, const std::string& text, double low, double high);

inline constexpr double kLowestBudget = 0.0;
inline constexpr double kHighestBudget = 0.95;

// -m and --adapter alone.
struct PathFlags {
  std::string model;
  std::string adapter;
};
void AddModelPath(CLI::App& app, PathFlags* flags);
void AddAdapterPath(CLI::App& app, PathFlags* flags, const std::string& help);
// Whether gates come with these paths: an adapter, or a model file with one inside. A file that cannot be read brings
// none; loading it says why.
bool BringGates(const PathFlags& flags);
// Throws Error(kInvalidArgument) that says how to get a model.
void RequireModel(const PathFlags& flags);

void AddThreads(CLI::App& app, int* threads);

// What Engine::Load needs.
struct EngineFlags {
  PathFlags paths;
  int threads = 0;
  std::vector<int> cpus;
  int context_length = 0;
  bool f32 = false;
  std::string head = "stored";
  std::string kv_cache = "f16";
  bool no_adapter = false;
  bool adapter_drafts = false;  // it is loaded in any case
};
void AddEngineFlags(CLI::App& app, EngineFlags* flags, bool with_threads = true);
void AddContextLength(CLI::App& app, EngineFlags* flags);
EngineOptions MakeEngineOptions(const EngineFlags& flags);
// RequireModel, then loads.
std::unique_ptr<Engine> LoadEngine(const EngineFlags& flags);

struct PolicyFlags {
  std::string policy = "gates";
  uint64_t seed = 0;
};
void AddPolicyFlags(CLI::App& app, PolicyFlags* flags);

// --budget, --budget-prefill, --budget-decode and the policy.
struct BudgetFlags {
  double budget = 0;
  std::optional<double> prefill;
  std::optional<double> decode;
  PolicyFlags policy;
};
void AddBudgetFlags(CLI::App& app, BudgetFlags* flags);
void AddBudgetList(CLI::App& app, std::vector<double>* budgets);
BudgetOptions MakeBudget(double prefill, double decode, const PolicyFlags& policy, const EngineFlags& engine);
BudgetOptions MakeBudget(const BudgetFlags& flags, const EngineFlags& engine);
// A budget above 0 needs gates. Throws Error(kInvalidArgument), before the model is loaded.
void RequireAdapterFor(double budget, const PolicyFlags& policy, const EngineFlags& engine);

void AddSamplingFlags(CLI::App& app, SamplingOptions* sampling);

// --speculative and how it drafts.
struct SpeculationFlags {
  std::string draft = "none";
  SpeculationOptions options;
};
void AddSpeculationFlags(CLI::App& app, SpeculationFlags* flags);
// Also has the adapter loaded if it drafts. Throws Error(kInvalidArgument) where there are no gates to draft with.
SpeculationOptions MakeSpeculation(const SpeculationFlags& flags, EngineFlags* engine);

struct GenerationFlags {
  GenerateOptions options;
  SpeculationFlags speculation;
  std::string system;
};
void AddGenerationFlags(CLI::App& app, GenerationFlags* flags);

void AddPromptFlags(CLI::App& app, TextSource* source, const std::string& what);

// How a text becomes windows to run (eval/token_windows.h).
struct WindowFlags {
  std::string windows = "joined";
  std::string pair_format = "mixed";

  bool PerDocument() const { return windows == "documents"; }
  PairFormat Pairs() const { return static_cast<PairFormat>(ChoiceIndex(kPairFormatNames, pair_format)); }
};
void AddWindowFlags(CLI::App& app, WindowFlags* flags);

void AddJson(CLI::App& app, bool* json);

}  // namespace gateskip::cli
