// SPDX-License-Identifier: Apache-2.0
#include "train/step_exchange.h"

#include "base/check.h"

namespace gateskip::train {
namespace {

using Values = std::vector<double>;

void Put(Values& out, const Values& values) {
  out.push_back(static_cast<double>(values.size()));
  out.insert(out.end(), values.begin(), values.end());
}

// Reads back what Put wrote.
class Reader {
 public:
  explicit Reader(const Values& values) : values_(values) {}
  double Next() {
    GS_CHECK(at_ < values_.size());
    return values_[at_++];
  }
  Values NextList() {
    Values list(static_cast<size_t>(Next()));
    for (double& v : list) v = Next();
    return list;
  }

 private:
  const Values& values_;
  size_t at_ = 0;
};

Values Encode(const std::vector<MicroStepResult>& results) {
  Values out;
  for (const MicroStepResult& r : results) {
    out.insert(out.end(), {r.loss, r.kl, r.nll, r.requested, r.realised});
    Values thresholds;
    for (const auto& [budget, exact] : r.thresholds) thresholds.insert(thresholds.end(), {budget, exact});
    Put(out, thresholds);
    Put(out, r.run_share);
    Put(out, r.gate_mean);
  }
  return out;
}

MicroStepResult Decode(Reader& in) {
  MicroStepResult r;
  for (double* value : {&r.loss, &r.kl, &r.nll, &r.requested, &r.realised}) *value = in.Next();
  const Values thresholds = in.NextList();
  for (size_t i = 0; i + 1 < thresholds.size(); i += 2) r.thresholds.emplace_back(thresholds[i], thresholds[i + 1]);
  r.run_share = in.NextList();
  r.gate_mean = in.NextList();
  return r;
}

}  // namespace

std::vector<MicroStepResult> GatherResults(ProcessGroup& group, const std::vector<MicroStepResult>& own,
                                           int micro_steps) {
  if (group.size() == 1) return own;
  const std::vector<Values> all = group.AllGather("the results of a step", Encode(own));
  std::vector<Reader> readers(all.begin(), all.end());
  std::vector<MicroStepResult> results;
  for (int m = 0; m < micro_steps; ++m) results.push_back(Decode(readers[static_cast<size_t>(m % group.size())]));
  return results;
}

void SumGradients(ProcessGroup& group, std::vector<Parameter>& parameters) {
  if (group.size() == 1) return;
  Values defined;
  for (const Parameter& p : parameters) defined.push_back(p.value.grad().defined() ? 1.0 : 0.0);
  const std::vector<Values> all = group.AllGather("which gradients there are", defined);
  std::vector<Tensor> gradients;
  for (size_t i = 0; i < parameters.size(); ++i) {
    bool anywhere = false;
    for (const Values& of_rank : all) anywhere = anywhere || of_rank.at(i) != 0.0;
    if (!anywhere) continue;
    Tensor& gradient = parameters[i].value.mutable_grad();
    gradient = gradient.defined() ? gradient.contiguous() : at::zeros_like(parameters[i].value.detach());
    gradients.push_back(gradient);
  }
  if (!gradients.empty()) group.AllReduceSum(gradients);
}

std::string ShareText(ProcessGroup& group, const std::string& what, const std::string& text) {
  if (group.size() == 1) return text;
  Values bytes;
  if (group.rank() == 0) {
    for (const char c : text) bytes.push_back(static_cast<double>(static_cast<unsigned char>(c)));
  }
  std::string shared;
  const std::vector<Values> all = group.AllGather(what, bytes);
  for (const double byte : all[0]) shared += static_cast<char>(static_cast<unsigned char>(byte));
  return shared;
}

void ShareParameters(ProcessGroup& group, std::vector<Parameter>& parameters) {
  if (group.size() == 1) return;
  std::vector<Tensor> values;
  for (const Parameter& p : parameters) values.push_back(p.value.detach());
  group.Broadcast(values, 0);
}

}  // namespace gateskip::train
