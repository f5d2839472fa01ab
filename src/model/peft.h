// SPDX-License-Identifier: Apache-2.0
// An adapter's LoRA deltas as the directory that the package peft reads (adapter_config.json,
// adapter_model.safetensors), under hub names and in the hub's row order; its gates, skip paths and thresholds beside
// them in gateskip_gates.safetensors, under gateskip's names, the config in __metadata__ as "adapter_config".
#pragma once

#include <string>

#include "io/adapter.h"
#include "model/model_source.h"

namespace gateskip {

// `base_name` is what peft will load the base model by; without `with_gates` the second file is left out. Replaces the
// directory `path` in one step. Returns the bytes written. Throws Error: kIo; kInvalidArgument for an adapter without
// deltas.
uint64_t WritePeft(const Adapter& adapter, const ModelSource& source, const std::string& base_name, bool with_gates,
                   const std::string& path);

}  // namespace gateskip
