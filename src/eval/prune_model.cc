// SPDX-License-Identifier: Apache-2.0
#include "eval/prune_model.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "base/check.h"
#include "eval/activations.h"
#include "eval/policies.h"
#include "gate/layer_list.h"
#include "io/embedded_adapter.h"
#include "tensor/dequantize.h"

namespace gateskip {
namespace {

// Which of `scores.size()` parts go: the least important ones, or those of a list.
struct Parts {
  size_t going = 0;
  std::vector<bool> listed;  // if they are listed
};

Parts Count(const PruneAmount& amount, int there, const std::string& option) {
  Parts parts;
  if (amount.list) {
    parts.listed = ParseLayers(*amount.list, there, option);
    parts.going = static_cast<size_t>(std::ranges::count(parts.listed, true));
  } else {
    parts.going =
        amount.share ? static_cast<size_t>(std::lround(*amount.share * there)) : static_cast<size_t>(amount.count);
  }
  if (parts.going >= static_cast<size_t>(there)) {
    Fail(ErrorCode::kInvalidArgument, "[command line] {}: expected fewer than all {}, found {}; remove fewer", option,
         there, parts.going);
  }
  return parts;
}

// The parts that stay, ascending.
std::vector<size_t> Rest(const Parts& parts, const std::vector<double>& scores) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  if (parts.listed.empty()) {
    std::ranges::stable_sort(order, {}, [&](size_t i) { return scores[i]; });
    order.erase(order.begin(), order.begin() + static_cast<ptrdiff_t>(parts.going));
    std::ranges::sort(order);
  } else {
    std::erase_if(order, [&](size_t i) { return parts.listed[i]; });
  }
  return order;
}

// Per column of the matrix: its squared norm times the mean square of what it is multiplied by.
std::vector<double> ColumnScores(const TensorView& matrix, const std::vector<float>& squares) {
  std::vector<float> row(squares.size());
  std::vector<double> scores(squares.size());
  for (size_t r = 0; r < static_cast<size_t>(matrix.shape.front()); ++r) {
    DequantizeRow(matrix, r, row);
    for (size_t c = 0; c < row.size(); ++c) scores[c] += static_cast<double>(row[c]) * static_cast<double>(row[c]);
  }
  for (size_t c = 0; c < scores.size(); ++c) scores[c] *= static_cast<double>(squares[c]);
  return scores;
}

// Sums of `size` scores each.
std::vector<double> Sums(const std::vector<double>& scores, size_t size) {
  std::vector<double> sums(scores.size() / size);
  for (size_t i = 0; i < scores.size(); ++i) sums[i / size] += scores[i];
  return sums;
}

class Pruner {
 public:
  Pruner(const PruneModelOptions& options, const CalibrateProgress& progress)
      : options_(options), progress_(progress), source_(OpenModelSource(options.model_path)) {
    RequireGguf(source_);
    CheckOptions();
  }

  PruneReport Run();

 private:
  void CheckOptions();
  void CountParts();
  void ChooseLayers();
  void ChooseInLayers();
  std::vector<size_t> ChooseHeads(const std::vector<double>& head_scores, std::vector<size_t>* kv_heads) const;
  bool NeedsText() const;
  std::function<void(size_t, size_t)> Stage(const char* name) const {
    return [this, name](size_t done, size_t total) {
      if (progress_) progress_(name, done, total);
    };
  }

  const PruneModelOptions& options_;
  const CalibrateProgress& progress_;
  const ModelSource source_;
  Parts layers_, kv_groups_, heads_, neurons_;
  std::unique_ptr<LoadedModel> model_;
  TokenWindows windows_;
  PruneReport report_;
};

bool Measured(const PruneAmount& amount) { return !amount.IsNone() && !amount.list; }

bool Pruner::NeedsText() const {
  return Measured(options_.layers) || Measured(options_.kv_groups) || Measured(options_.heads) ||
         Measured(options_.neurons);
}

void Pruner::CheckOptions() {
  std::error_code ignored;
  if (std::filesystem::equivalent(options_.model_path, options_.out, ignored)) {
    Fail(ErrorCode::kInvalidArgument, "[{}] output: expected another file than the model, found the same; name another",
         options_.out);
  }
  if (options_.layers.IsNone() && options_.kv_groups.IsNone() && options_.heads.IsNone() && options_.neurons.IsNone()) {
    Fail(ErrorCode::kInvalidArgument,
         "[command line] what to prune: expected --layers, --kv-groups, --heads or --neurons, found none of them");
  }
  if (NeedsText() && options_.texts.empty()) {
    Fail(ErrorCode::kInvalidArgument,
         "[command line] --file: expected a text to measure on what matters least, found none; pass one, or lists of "
         "what is to go");
  }
  if (HasEmbeddedAdapter(*source_.gguf) && !options_.without_gates) {
    Fail(ErrorCode::kInvalidArgument,
         "[{}] gates: expected a model without gates inside, found some, which are for its branches as they are; "
         "pass --no-gates to leave them out",
         options_.model_path);
  }
  const ModelConfig& c = source_.config;
  layers_ = Count(options_.layers, c.num_layers, "--layers");
  kv_groups_ = Count(options_.kv_groups, c.num_kv_heads, "--kv-groups");
  heads_ = Count(options_.heads, c.num_heads / c.num_kv_heads, "--heads");
  neurons_ = Count(options_.neurons, c.ffn_size, "--neurons");
  constexpr size_t kBlock = 32;
  const auto ffn = static_cast<size_t>(c.ffn_size);
  if (options_.neurons.share && ffn % kBlock == 0) {
    neurons_.going = ffn - (ffn - neurons_.going + kBlock - 1) / kBlock * kBlock;
  }
}

void Pruner::ChooseLayers() {
  const auto layers = static_cast<size_t>(source_.config.num_layers);
  std::vector<double> scores(layers);
  if (Measured(options_.layers)) {
    PolicyMaker maker(*model_, {.use_adapter = false, .windows = windows_, .note = [&](const std::string& what) {
                                  if (progress_) progress_(what, 0, 1);
                                }});
    scores =
        options_.layer_measure == LayerMeasure::kBlockInfluence ? maker.BlockInfluence() : maker.LeaveOneLayerOut();
    report_.layer_scores = scores;
  }
  report_.kept.layers = Rest(layers_, scores);
}

std::vector<size_t> Pruner::ChooseHeads(const std::vector<double>& head_scores, std::vector<size_t>* kv_heads) const {
  const ModelConfig& c = source_.config;
  const auto group = static_cast<size_t>(c.num_heads / c.num_kv_heads);
  *kv_heads = Rest(kv_groups_, Sums(head_scores, group));
  std::vector<size_t> heads;
  for (const size_t kv : *kv_heads) {
    const auto begin = head_scores.begin() + static_cast<ptrdiff_t>(kv * group);
    for (const size_t h : Rest(heads_, std::vector(begin, begin + static_cast<ptrdiff_t>(group)))) {
      heads.push_back(kv * group + h);
    }
  }
  return heads;
}

void Pruner::ChooseInLayers() {
  const ModelConfig& c = source_.config;
  std::optional<ActivationSquares> squares;
  if (Measured(options_.kv_groups) || Measured(options_.heads) || Measured(options_.neurons)) {
    std::vector<uint8_t> runs(static_cast<size_t>(c.num_branches()), 0);
    for (const size_t l : report_.kept.layers) runs[2 * l] = runs[2 * l + 1] = 1;
    squares = MeasureActivations(*model_, windows_, *StaticPlan(std::move(runs), 0), Stage("activations"));
  }
  for (const size_t l : report_.kept.layers) {
    const std::string p = fmt::format("blk.{}.", l);
    std::vector<double> head_scores(static_cast<size_t>(c.num_heads));
    std::vector<double> neuron_scores(static_cast<size_t>(c.ffn_size));
    if (squares) {
      const ActivationSquares::Layer& layer = squares->layers[l];
      head_scores = Sums(ColumnScores(*source_.weights->Find(p + "attn_output.weight"), layer.attended),
                         static_cast<size_t>(c.head_dim));
      neuron_scores = ColumnScores(*source_.weights->Find(p + "ffn_down.weight"), layer.activated);
    }
    report_.kept.heads[l] = ChooseHeads(head_scores, &report_.kept.kv_heads[l]);
    report_.kept.neurons[l] = Rest(neurons_, neuron_scores);
  }
}

PruneReport Pruner::Run() {
  EngineOptions engine;
  engine.model_path = options_.model_path;
  engine.threads = options_.threads;
  const auto windows = [&](const LoadedModel& model, const std::vector<std::string>& texts, int64_t tokens) {
    return ReadWindows(*model.tokenizer, texts,
                       {.max_tokens = tokens, .window = options_.window, .threads = options_.threads});
  };
  if (NeedsText()) {
    model_ = LoadModel(engine);
    windows_ = windows(*model_, options_.texts, options_.tokens);
  }
  report_.kept = WholeModel(source_.config);
  ChooseLayers();
  ChooseInLayers();
  model_.reset();
  CheckSelection(source_, report_.kept);

  std::unique_ptr<LoadedModel> reference;
  TokenWindows comparison;
  engine.compute = ComputeType::kF32;
  if (!options_.comparison_texts.empty()) {
    reference = LoadModel(engine);
    comparison = windows(*reference, options_.comparison_texts, options_.comparison_tokens);
  }
  WriteModelOptions writer;
  writer.dtype = options_.dtype;
  writer.on_progress = [&](uint64_t done, uint64_t total) { Stage("writing")(done, total); };
  writer.check = [&](const std::string& path, const WrittenModel& written) {
    report_.bytes = written.bytes;
    if (!reference) return;
    engine.model_path = path;
    report_.difference = CompareModels(*reference, *LoadModel(engine), comparison, Stage("comparison"));
  };
  for (const TensorView& tensor : source_.gguf->tensors()) {
    if (!IsEmbeddedName(tensor.name)) report_.source_bytes += tensor.data.size();
  }
  WriteModel(source_, nullptr, PruneOptions(source_, report_.kept, std::move(writer)), options_.out);
  return std::move(report_);
}

}  // namespace

PruneReport PruneModel(const PruneModelOptions& options, const CalibrateProgress& progress) {
  return Pruner(options, progress).Run();
}

}  // namespace gateskip
