// SPDX-License-Identifier: Apache-2.0
// Activation checkpointing (arXiv 1604.06174): a piece of a forward pass keeps its inputs only, and runs a second time
// when its gradient is wanted. Gradients are the same bits as without.
#pragma once

#include <torch/torch.h>

#include <functional>
#include <vector>

namespace gateskip::train {

using TensorList = std::vector<at::Tensor>;

// `run` maps up to three inputs to outputs and must compute the same both times; all tensors are defined. Parameters
// that it uses besides its inputs receive their gradients in the second run. Without gradient mode it is simply run.
TensorList Checkpointed(std::function<TensorList(const TensorList&)> run, const TensorList& inputs);

}  // namespace gateskip::train
