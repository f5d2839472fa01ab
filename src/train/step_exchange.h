// SPDX-License-Identifier: Apache-2.0
// What the ranks of a run tell each other in a step: gradients are summed, results of micro-steps put in their order.
#pragma once

#include <vector>

#include "train/micro_step.h"
#include "train/parameter.h"
#include "train/process_group.h"

namespace gateskip::train {

// Micro-step m of a step is done by rank m % size. `own` are this rank's, ascending; returns all of the step's.
std::vector<MicroStepResult> GatherResults(ProcessGroup& group, const std::vector<MicroStepResult>& own,
                                           int micro_steps);

// Sums the gradients of all ranks. A parameter that has one on some rank has one on every rank afterwards.
void SumGradients(ProcessGroup& group, std::vector<Parameter>& parameters);

// Rank 0's text and tensors on every rank.
std::string ShareText(ProcessGroup& group, const std::string& what, const std::string& text);
void ShareParameters(ProcessGroup& group, std::vector<Parameter>& parameters);

}  // namespace gateskip::train
