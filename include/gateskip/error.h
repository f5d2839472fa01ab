// SPDX-License-Identifier: Apache-2.0
// The one error type of gateskip.
//
// Nothing a file, a flag or a request holds may abort, assert or hang: it ends in an Error. Messages read
// `[origin] subject: expected X, found Y; what to do`. One table (ExitCode) maps codes to process exit codes.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace gateskip {

enum class ErrorCode {
  kInvalidArgument,  // a flag, option or request field is malformed or out of range
  kNotFound,         // a file, tensor or name that was asked for does not exist
  kCorruptData,      // bytes that break their own format: truncated, overlapping, non-finite, bad UTF-8
  kUnsupported,      // well-formed, but a type, version or architecture this build cannot run
  kMismatch,         // two parts that do not belong together: adapter and base, config and tensor shapes
  kLimitExceeded,    // longer, larger or deeper than a stated limit (context length, file header, recursion)
  kIo,               // the operating system refused to open, read, map, write or rename
  kCancelled,        // stopped on request
  kInternal,         // a bug in gateskip
};

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

// Short stable name, as printed by `--json` and tests: "invalid_argument", "not_found", ...
std::string_view ErrorCodeName(ErrorCode code) noexcept;

// Process exit status of the command-line tools: 0 is success, 1 is kInternal, 2 is a usage error
// (kInvalidArgument), 3.. name the rest in the order of the enum (see docs/errors.md).
int ExitCode(ErrorCode code) noexcept;

}  // namespace gateskip
