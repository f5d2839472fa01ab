// SPDX-License-Identifier: Apache-2.0
// The read bandwidth of this machine, the ceiling of decoding: measured, because data sheets lie about shared
// machines.
#pragma once

namespace gateskip::cli {

// Bytes per second that `threads` threads read from a 256 MB buffer, the best of a few passes.
double MeasureReadBandwidth(int threads);

}  // namespace gateskip::cli
