// SPDX-License-Identifier: Apache-2.0
#include "train/activation_checkpoint.h"

#include "base/check.h"

namespace gateskip::train {
namespace {

using Run = std::function<TensorList(const TensorList&)>;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

constexpr size_t kMaxInputs = 3;

struct RunHolder : torch::CustomClassHolder {
  Run run;
};

using MaybeTensor = c10::optional<at::Tensor>;

struct CheckpointFn : Function<CheckpointFn> {
  // Autograd is off in here, so nothing inside is kept. The marker requires a gradient, which makes the outputs
  // differentiable even if no input is: the parameters inside may be. (Function sees no tensors inside of lists.)
  static variable_list forward(AutogradContext* ctx, const at::Tensor& /*marker*/, const MaybeTensor& a,
                               const MaybeTensor& b, const MaybeTensor& c,
                               const c10::intrusive_ptr<RunHolder>& holder) {
    TensorList inputs;
    for (const MaybeTensor* input : {&a, &b, &c}) {
      if (input->has_value()) inputs.push_back(**input);
    }
    ctx->save_for_backward({inputs.begin(), inputs.end()});
    ctx->saved_data["run"] = c10::IValue::make_capsule(holder);
    return holder->run(inputs);
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto holder = c10::static_intrusive_pointer_cast<RunHolder>(ctx->saved_data["run"].toCapsule());
    TensorList inputs;
    for (const at::Tensor& input : ctx->get_saved_variables()) {
      inputs.push_back(input.detach().set_requires_grad(input.requires_grad()));
    }
    {
      const at::AutoGradMode with_gradients(true);
      const TensorList results = holder->run(inputs);
      variable_list outputs;
      variable_list output_grads;
      for (size_t i = 0; i < results.size(); ++i) {
        if (!results[i].requires_grad() || !grads[i].defined()) continue;
        outputs.push_back(results[i]);
        output_grads.push_back(grads[i]);
      }
      torch::autograd::backward(outputs, output_grads);
    }
    variable_list result = {at::Tensor()};  // the marker's
    for (const at::Tensor& input : inputs) result.push_back(input.grad());
    result.resize(kMaxInputs + 2);  // absent inputs, the holder
    return result;
  }
};

}  // namespace

TensorList Checkpointed(Run run, const TensorList& inputs) {
  if (!at::GradMode::is_enabled()) return run(inputs);
  auto holder = c10::make_intrusive<RunHolder>();
  holder->run = std::move(run);
  GS_CHECK(!inputs.empty() && inputs.size() <= kMaxInputs);
  const at::Tensor marker = at::zeros({1}, inputs[0].options().dtype(at::kFloat)).set_requires_grad(true);
  const auto input = [&](size_t i) { return i < inputs.size() ? MaybeTensor(inputs[i]) : MaybeTensor(); };
  return CheckpointFn::apply(marker, input(0), input(1), input(2), holder);
}

}  // namespace gateskip::train
