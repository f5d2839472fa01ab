// SPDX-License-Identifier: Apache-2.0
// What a test of hostile input says: this code, these words, and the shape every message has
// (`[origin] subject: expected X, found Y; what to do`).
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "gateskip/error.h"

namespace gateskip::testing {

inline std::span<const std::byte> AsBytes(std::string_view text) {
  return std::as_bytes(std::span<const char>(text.data(), text.size()));
}

// Runs `action`, which must throw Error(code) with `words` in its message.
inline void ExpectError(const std::function<void()>& action, ErrorCode code, std::string_view words) {
  try {
    action();
  } catch (const Error& error) {
    const std::string_view message = error.what();
    EXPECT_EQ(ErrorCodeName(error.code()), ErrorCodeName(code)) << message;
    EXPECT_NE(message.find(words), message.npos) << "expected `" << words << "` in: " << message;
    EXPECT_TRUE(message.starts_with('[')) << message;
    EXPECT_NE(message.find("expected"), message.npos) << message;
    EXPECT_NE(message.find(';'), message.npos) << message;
    EXPECT_LT(message.size(), 8192U) << "a message is for people";
    return;
  }
  ADD_FAILURE() << "expected an error with `" << words << "`, found acceptance";
}

}  // namespace gateskip::testing
