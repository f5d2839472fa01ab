// SPDX-License-Identifier: Apache-2.0
// What this machine gives at most, the ceilings of decoding (reading) and of prefill (8-bit dot products): measured in
// the same run, because data sheets lie about shared machines.
#pragma once

namespace gateskip::cli {

struct MachinePeaks {
  double read_bytes = 0;      // a second, of a 256 MB buffer
  double dot_operations = 0;  // multiplications and additions a second, of the dot products the kernels are made of
};

// The best of a few passes of `threads` threads. Takes about half a second.
MachinePeaks MeasurePeaks(int threads);

}  // namespace gateskip::cli
