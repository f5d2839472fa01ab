// SPDX-License-Identifier: Apache-2.0
// Reads all of what an accepted file offers, so that a hole in its validation shows (under sanitizers, as a crash).
#pragma once

#include "io/gguf.h"
#include "io/safetensors.h"

namespace gateskip::testing {

// Every key through every getter, every tensor to f32, the fingerprint. Errors of type Error are part of the
// contract and swallowed; nothing else is. The result keeps the reads from being optimised away.
double DeepRead(const GgufFile& file);
double DeepRead(const SafetensorsFile& file);

}  // namespace gateskip::testing
