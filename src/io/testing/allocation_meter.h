// SPDX-License-Identifier: Apache-2.0
// Heap use of a test program. Linking allocation_meter.cc replaces operator new and delete with counting ones.
#pragma once

#include <cstddef>

namespace gateskip::testing {

// Heap bytes at the highest point since construction, above those in use at construction.
class AllocationMeter {
 public:
  AllocationMeter();
  size_t PeakBytes() const;

 private:
  size_t start_;
};

}  // namespace gateskip::testing
