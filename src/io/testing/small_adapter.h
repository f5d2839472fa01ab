// SPDX-License-Identifier: Apache-2.0
// A complete adapter for a model of 2 layers and hidden size 4, of any kind, that the reader accepts.
#pragma once

#include "io/adapter.h"

namespace gateskip::testing {

struct SmallAdapterOptions {
  GateKind kind = GateKind::kScalar;
  KvRule kv_rule = KvRule::kCompute;
  int skip_rank = -1;
  int lora_rank = 0;
  GateProduct product = GateProduct::kNone;
  bool shared = false;
  GateScope scope = GateScope::kBranch;
};

// Branch 3 is not gated; nor is branch 2, if a gate decides for the layer. Every tensor holds small distinct numbers
// that f16 holds exactly.
Adapter SmallAdapter(const SmallAdapterOptions& options);

}  // namespace gateskip::testing
