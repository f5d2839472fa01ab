// SPDX-License-Identifier: Apache-2.0
// Branch numbering: branch = 2 * layer + {0: attention, 1: mlp}.
#pragma once

namespace gateskip {

enum class BranchKind { kAttention = 0, kMlp = 1 };

constexpr int BranchIndex(int layer, BranchKind kind) { return 2 * layer + static_cast<int>(kind); }
constexpr int BranchLayer(int branch) { return branch / 2; }
constexpr BranchKind KindOfBranch(int branch) { return static_cast<BranchKind>(branch % 2); }

}  // namespace gateskip
