// SPDX-License-Identifier: Apache-2.0
#include "train/activation_checkpoint.h"

namespace gateskip::train {
namespace {

using Run = std::function<TensorList(const TensorList&)>;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

struct RunHolder : torch::CustomClassHolder {
  Run run;
};

struct CheckpointFn : Function<CheckpointFn> {
  // Autograd is off in here, so nothing inside is kept.
  static variable_list forward(AutogradContext* ctx, const variable_list& inputs,
                               const c10::intrusive_ptr<RunHolder>& holder) {
    ctx->save_for_backward(inputs);
    ctx->saved_data["run"] = c10::IValue::make_capsule(holder);
    return holder->run({inputs.begin(), inputs.end() - 1});
  }
  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    auto holder = c10::static_intrusive_pointer_cast<RunHolder>(ctx->saved_data["run"].toCapsule());
    TensorList inputs;
    for (size_t i = 0; i + 1 < saved.size(); ++i) {
      inputs.push_back(saved[i].detach().set_requires_grad(saved[i].requires_grad()));
    }
    {
      const at::AutoGradMode with_gradients(true);
      variable_list outputs;
      variable_list output_grads;
      const TensorList results = holder->run(inputs);
      for (size_t i = 0; i < results.size(); ++i) {
        if (!results[i].requires_grad() || !grads[i].defined()) continue;
        outputs.push_back(results[i]);
        output_grads.push_back(grads[i]);
      }
      torch::autograd::backward(outputs, output_grads);
    }
    variable_list result;
    for (const at::Tensor& input : inputs) result.push_back(input.grad());
    result.emplace_back();  // the marker's
    result.emplace_back();  // the holder's
    return result;
  }
};

}  // namespace

TensorList Checkpointed(Run run, const TensorList& inputs) {
  if (!at::GradMode::is_enabled()) return run(inputs);
  auto holder = c10::make_intrusive<RunHolder>();
  holder->run = std::move(run);
  // The marker makes the outputs differentiable even if no input is: the parameters inside may be.
  variable_list marked(inputs.begin(), inputs.end());
  marked.push_back(at::zeros({1}, inputs[0].options().dtype(at::kFloat)).set_requires_grad(true));
  return CheckpointFn::apply(marked, holder);
}

}  // namespace gateskip::train
