// SPDX-License-Identifier: Apache-2.0
// A plain front for Train(): --key value pairs. The full command line is apps/'s `gateskip train`.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>

#include "gateskip/error.h"
#include "train/train.h"

namespace {

volatile std::sig_atomic_t g_stop = 0;

class PrintingObserver : public gateskip::TrainObserver {
 public:
  void OnMessage(const std::string& message) override {
    std::printf("%s\n", message.c_str());
    std::fflush(stdout);
  }
  void OnStep(const gateskip::TrainProgress& p) override {
    if (p.step % 10 != 0) return;
    std::printf("step %d/%d loss %.4f norm %.3f saving %.3f of %.3f %.0f tok/s\n", p.step, p.steps, p.loss,
                p.gradient_norm, p.realised_saving, p.requested_saving, p.tokens_per_second);
    std::fflush(stdout);
  }
  void OnEvaluation(const gateskip::TrainEvaluation& e) override {
    std::printf("eval step %d base %.4f", e.step, e.base_nll);
    for (size_t i = 0; i < e.nll.size(); ++i) std::printf(" | %.3f: %.4f (+%.4f)", e.net_saving[i], e.nll[i], e.nll[i] - e.base_nll);
    std::printf("\n");
    std::fflush(stdout);
  }
  bool Cancelled() override { return g_stop != 0; }
};

// path[=weight][@begin-end]
gateskip::TrainSource ParseSource(std::string text) {
  gateskip::TrainSource source;
  if (const size_t at = text.rfind('@'); at != std::string::npos) {
    const std::string part = text.substr(at + 1);
    const size_t dash = part.find('-');
    source.begin = std::strtod(part.substr(0, dash).c_str(), nullptr);
    source.end = std::strtod(part.substr(dash + 1).c_str(), nullptr);
    text.resize(at);
  }
  if (const size_t equals = text.rfind('='); equals != std::string::npos) {
    source.weight = std::strtod(text.substr(equals + 1).c_str(), nullptr);
    text.resize(equals);
  }
  source.path = text;
  return source;
}

}  // namespace

int main(int argc, char** argv) {
  gateskip::TrainOptions o;
  using Setter = std::function<void(const std::string&)>;
  const auto number = [](auto& field) -> Setter {
    return [&field](const std::string& v) { field = static_cast<std::decay_t<decltype(field)>>(std::strtod(v.c_str(), nullptr)); };
  };
  std::map<std::string, Setter> keys = {
      {"model", [&](const std::string& v) { o.model_path = v; }},
      {"source", [&](const std::string& v) { o.sources.push_back(ParseSource(v)); }},
      {"heldout", [&](const std::string& v) { o.heldout_sources.push_back(ParseSource(v)); }},
      {"run", [&](const std::string& v) { o.run_directory = v; }},
      {"adapter", [&](const std::string& v) { o.adapter_directory = v; }},
      {"resume", number(o.resume)}, {"seed", number(o.seed)}, {"threads", number(o.threads)},
      {"skip-rank", number(o.skip_rank)}, {"lora-rank", number(o.lora_rank)}, {"lora-alpha", number(o.lora_alpha)},
      {"lora-targets", [&](const std::string& v) {
         o.lora_targets.clear();
         for (size_t b = 0; b <= v.size();) { size_t e = std::min(v.find(',', b), v.size()); o.lora_targets.push_back(v.substr(b, e - b)); b = e + 1; } }},
      {"fit-sequences", number(o.fit_sequences)}, {"fit-ridge", number(o.fit_ridge)},
      {"prior-sequences", number(o.prior_sequences)}, {"prior-step", number(o.prior_step)},{"prior-candidates", number(o.prior_candidates)},
      {"prior-saving", number(o.prior_saving)}, {"essential-rise", number(o.essential_rise)},
      {"steps", number(o.steps)}, {"length", number(o.sequence_length)}, {"batch", number(o.batch_sequences)},
      {"accumulation", number(o.accumulation_steps)}, {"min-budget", number(o.min_budget)}, {"max-budget", number(o.max_budget)},
      {"dense-every", number(o.dense_every)}, {"temperature", number(o.temperature)}, {"noise-final", number(o.noise_final)},
      {"ce-weight", number(o.ce_weight)}, {"gate-lr", number(o.gate_learning_rate)},
      {"gate-bias-lr", number(o.gate_bias_learning_rate)}, {"skip-lr", number(o.skip_learning_rate)},
      {"lora-lr", number(o.lora_learning_rate)}, {"warmup", number(o.warmup_steps)},
      {"eval-every", number(o.eval_every)}, {"eval-sequences", number(o.eval_sequences)},
      {"checkpoint-every", number(o.checkpoint_every)}, {"loss-positions", number(o.loss_positions)},
      {"kv-rule", [&](const std::string& v) { o.kv_rule = static_cast<gateskip::KvRule>(std::atoi(v.c_str())); }}, {"gate-kind", [&](const std::string& v) { o.gate_kind = static_cast<gateskip::GateKind>(std::atoi(v.c_str())); }},
      {"float32", number(o.float32)}};
  for (int i = 1; i + 1 < argc; i += 2) {
    const auto found = keys.find(argv[i] + 2);
    if (found == keys.end()) { std::fprintf(stderr, "unknown %s\n", argv[i]); return 2; }
    found->second(argv[i + 1]);
  }
  std::signal(SIGTERM, [](int) { g_stop = 1; });
  std::signal(SIGINT, [](int) { g_stop = 1; });
  PrintingObserver observer;
  try {
    gateskip::Train(o, observer);
  } catch (const gateskip::Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
  return 0;
}
