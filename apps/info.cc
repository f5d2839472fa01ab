// SPDX-License-Identifier: Apache-2.0
// `gateskip info`: what a model file and an adapter hold. Reads headers only: no weight is unpacked.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>

#include "base/check.h"
#include "command.h"
#include "flags.h"
#include "gate/cost_model.h"
#include "io/adapter.h"
#include "io/embedded_adapter.h"
#include "io/gguf.h"
#include "io/hub_directory.h"
#include "io/safetensors.h"
#include "model/config.h"
#include "report.h"
#include "terminal.h"

namespace gateskip::cli {
namespace {

constexpr size_t kMaxValueChars = 100;

struct InfoCommand {
  PathFlags paths;
  bool tensors = false;
  bool metadata = false;
  bool json = false;
};

// Cost of deciding every gated branch, as a share of the ungated layers.
double DecisionCost(const CostModel& cost) {
  double decision = 0;
  for (int b = 0; b < cost.num_branches(); ++b) decision += cost.branch(b).decision;
  return cost.dense_per_row() > 0 ? decision / cost.dense_per_row() : 0.0;
}

struct ThresholdSummary {
  float low = 0;
  float high = 0;
  size_t always = 0;  // gated or not, these branches always run at this budget
};

ThresholdSummary Summarise(const std::vector<float>& thresholds) {
  ThresholdSummary summary;
  bool any = false;
  for (const float t : thresholds) {
    if (t < 0) {
      ++summary.always;
      continue;
    }
    summary.low = any ? std::min(summary.low, t) : t;
    summary.high = any ? std::max(summary.high, t) : t;
    any = true;
  }
  return summary;
}

// What a model says about itself, whatever its format. The tensors point into the open files.
struct ModelHeader {
  ModelConfig config;
  std::string fingerprint;
  std::vector<TensorView> tensors;
  std::map<std::string, std::string> metadata;
  std::optional<Adapter> adapter;  // inside the model file
  std::vector<std::shared_ptr<const void>> files;
};

ModelHeader ReadGgufHeader(const std::string& path) {
  ModelHeader header;
  const std::shared_ptr<const GgufFile> file = GgufFile::Open(path);
  header.config = ReadConfig(*file);
  header.fingerprint = file->Fingerprint();
  header.tensors.assign(file->tensors().begin(), file->tensors().end());
  for (const std::string_view key : file->Keys()) {
    header.metadata[std::string(key)] = file->DescribeValue(key, kMaxValueChars);
  }
  if (HasEmbeddedAdapter(*file)) header.adapter = ReadEmbeddedAdapter(*file).adapter;
  header.files.push_back(file);
  return header;
}

ModelHeader ReadDirectoryHeader(const std::string& path) {
  ModelHeader header;
  const std::shared_ptr<const HubDirectory> directory = HubDirectory::Open(path);
  header.config = ReadConfig(*directory);
  header.fingerprint = directory->Fingerprint();
  for (const auto& [key, value] : directory->config().items()) {
    header.metadata[key] =
        value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).substr(0, kMaxValueChars);
  }
  std::vector<std::string> shards;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
    if (entry.path().extension() == ".safetensors") shards.push_back(entry.path().string());
  }
  std::sort(shards.begin(), shards.end());
  for (const std::string& shard : shards) {
    const std::shared_ptr<const SafetensorsFile> file = SafetensorsFile::Open(shard);
    for (const auto& [name, tensor] : file->tensors()) header.tensors.push_back(tensor);
    header.files.push_back(file);
  }
  return header;
}

Json ModelJson(const ModelHeader& header) {
  const ModelConfig& c = header.config;
  uint64_t bytes = 0;
  int64_t parameters = 0;
  std::map<std::string, uint64_t> by_type;
  for (const TensorView& t : header.tensors) {
    bytes += t.data.size();
    parameters += t.num_elements();
    by_type[std::string(GetDTypeInfo(t.dtype).name)] += t.data.size();
  }
  return {{"name", c.name},
          {"architecture", c.architecture},
          {"parameters", parameters},
          {"tensor_bytes", bytes},
          {"bytes_by_type", by_type},
          {"layers", c.num_layers},
          {"hidden_size", c.hidden_size},
          {"heads", c.num_heads},
          {"kv_heads", c.num_kv_heads},
          {"head_dim", c.head_dim},
          {"ffn_size", c.ffn_size},
          {"vocab_size", c.vocab_size},
          {"context_length", c.context_length},
          {"norm_eps", c.norm_eps},
          {"sliding_window_layers",
           std::count_if(c.layers.begin(), c.layers.end(), [](const LayerAttention& l) { return l.window > 0; })},
          {"fingerprint", header.fingerprint}};
}

Json AdapterJson(const Adapter& adapter) {
  const AdapterConfig& a = adapter.config;
  int64_t parameters = 0;
  for (const auto& [name, tensor] : adapter.tensors) parameters += static_cast<int64_t>(tensor.values.size());
  Json budgets = Json::array();
  for (size_t i = 0; i < a.budgets.size(); ++i) {
    Json row = {{"budget", a.budgets[i]}};
    if (i < a.thresholds.size()) {
      const ThresholdSummary s = Summarise(a.thresholds[i]);
      row["threshold_low"] = s.low;
      row["threshold_high"] = s.high;
      row["branches_always_run"] = s.always;
    }
    if (i < a.realised_net_saving.size()) row["realised_net_saving"] = a.realised_net_saving[i];
    budgets.push_back(row);
  }
  Json training = Json::parse(a.training_json, nullptr, /*allow_exceptions=*/false);
  if (training.is_discarded()) training = a.training_json;
  return {{"base_model", a.base_model_name},
          {"base_fingerprint", a.base_fingerprint},
          {"gate_kind", NameIn(kGateKinds, a.gate_kind)},
          {"gate_rank", a.gate_rank},
          {"gate_shared", a.gate_shared},
          {"gate_product", NameIn(kGateProducts, a.gate_product)},
          {"gate_scope", NameIn(kGateScopes, a.gate_scope)},
          {"kv_rule", NameIn(kKvRules, a.kv_rule)},
          {"gated_branches", std::count(a.gated.begin(), a.gated.end(), true)},
          {"branches", a.gated.size()},
          {"always_run_positions", a.always_run_positions},
          {"skip_rank", a.skip_rank},
          {"lora_rank", a.lora_rank},
          {"lora_targets", a.lora_targets},
          {"parameters", parameters},
          {"calibration_tokens", a.calibration_tokens},
          {"calibration_sha256", a.calibration_sha256},
          {"budgets", budgets},
          {"self_test_tokens", a.self_test.token_ids.size()},
          {"training", training}};
}

std::string ShapeText(const std::vector<int64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

// Nested values on one line; strings come from files, so control characters are made visible.
std::string ValueText(const Json& value) {
  if (value.is_string()) return Printable(value.get<std::string>());
  return Printable(value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

std::string SectionText(const std::string& title, const Json& section) {
  std::string text = fmt::format("{}{}{}\n", Paint(stdout, Style::kBold), title, Paint(stdout, Style::kReset));
  size_t width = 22;
  for (const auto& [key, value] : section.items()) width = std::max(width, Printable(key).size());
  for (const auto& [key, value] : section.items()) {
    if (value.is_array() && !value.empty() && value.front().is_object()) continue;  // shown as a table
    text += fmt::format("  {:<{}}  {}\n", Printable(key), width, ValueText(value));
  }
  return text;
}

std::string BudgetTable(const AdapterConfig& a) {
  if (a.budgets.empty()) return "  not calibrated: run 'gateskip calibrate'\n";
  std::vector<std::vector<std::string>> rows = {{"  budget", "realised net", "thresholds", "branches that can skip"}};
  for (size_t i = 0; i < a.budgets.size(); ++i) {
    const bool has = i < a.thresholds.size();
    const ThresholdSummary s = has ? Summarise(a.thresholds[i]) : ThresholdSummary();
    const size_t skipping = has ? a.thresholds[i].size() - s.always : 0;
    rows.push_back({fmt::format("  {:.1f} %", a.budgets[i] * 100),
                    i < a.realised_net_saving.size() ? fmt::format("{:.1f} %", a.realised_net_saving[i] * 100) : "-",
                    skipping > 0 ? fmt::format("{:.5f} .. {:.5f}", s.low, s.high) : "-", fmt::format("{}", skipping)});
  }
  return FormatTable(rows, /*markdown=*/false);
}

std::string TensorTable(const std::vector<TensorView>& tensors) {
  std::vector<std::vector<std::string>> rows = {{"tensor", "type", "shape", "bytes"}};
  for (const TensorView& t : tensors) {
    rows.push_back({Printable(t.name), std::string(GetDTypeInfo(t.dtype).name), ShapeText(t.shape),
                    fmt::format("{}", t.data.size())});
  }
  return FormatTable(rows, /*markdown=*/false);
}

int Run(const InfoCommand& flags) {
  RequireModel(flags.paths);
  std::error_code ignored;
  const ModelHeader header = std::filesystem::is_directory(flags.paths.model, ignored)
                                 ? ReadDirectoryHeader(flags.paths.model)
                                 : ReadGgufHeader(flags.paths.model);
  Json body = {{"model", ModelJson(header)}};
  std::optional<Adapter> adapter = header.adapter;
  const bool inside = flags.paths.adapter.empty();
  if (!inside) adapter = ReadAdapter(flags.paths.adapter);
  if (adapter) {
    body["adapter"] = AdapterJson(*adapter);
    const bool fits = inside || adapter->config.base_fingerprint == body["model"]["fingerprint"];
    body["adapter"]["inside_the_model"] = inside;
    body["adapter"]["fits_this_model"] = fits;
    if (fits) body["adapter"]["decision_cost"] = DecisionCost(CostModel(DimsOf(header.config), adapter->config));
  }
  if (flags.metadata) body["metadata"] = header.metadata;
  if (flags.json) {
    if (flags.tensors) {
      body["tensors"] = Json::array();
      for (const TensorView& t : header.tensors) {
        body["tensors"].push_back(
            {{"name", t.name}, {"type", GetDTypeInfo(t.dtype).name}, {"shape", t.shape}, {"bytes", t.data.size()}});
      }
    }
    PrintJson(body);
    return 0;
  }
  std::string text = SectionText("model", body["model"]);
  if (adapter) {
    text += "\n" + SectionText("adapter", body["adapter"]) + "\n" + BudgetTable(adapter->config);
  }
  if (flags.metadata) text += "\n" + SectionText("metadata", body["metadata"]);
  if (flags.tensors) text += "\n" + TensorTable(header.tensors);
  WriteStdout(text);
  return 0;
}

}  // namespace

void AddInfo(CLI::App& app, Command& command) {
  const auto flags = std::make_shared<InfoCommand>();
  CLI::App* sub = app.add_subcommand("info", "What a model file and an adapter hold");
  AddModelPath(*sub, &flags->paths);
  AddAdapterPath(*sub, &flags->paths, "Adapter directory to describe as well");
  sub->add_flag("--tensors", flags->tensors, "List every tensor")->group("Output");
  sub->add_flag("--metadata", flags->metadata, "List every metadata key")->group("Output");
  AddJson(*sub, &flags->json);
  sub->footer("Example:\n  gateskip info -m model.gguf --adapter DIR --tensors");
  sub->callback([flags, &command] { command.run = [flags] { return Run(*flags); }; });
}

}  // namespace gateskip::cli
