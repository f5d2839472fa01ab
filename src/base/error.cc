// SPDX-License-Identifier: Apache-2.0
// The error table: code -> name, exit status.
#include "gateskip/error.h"

#include "base/check.h"

namespace gateskip {
namespace {

struct ErrorRow {
  ErrorCode code;
  std::string_view name;
  int exit_code;
};

constexpr ErrorRow kErrorTable[] = {
    {ErrorCode::kInvalidArgument, "invalid_argument", 2},
    {ErrorCode::kNotFound, "not_found", 3},
    {ErrorCode::kCorruptData, "corrupt_data", 4},
    {ErrorCode::kUnsupported, "unsupported", 5},
    {ErrorCode::kMismatch, "mismatch", 6},
    {ErrorCode::kLimitExceeded, "limit_exceeded", 7},
    {ErrorCode::kIo, "io", 8},
    {ErrorCode::kCancelled, "cancelled", 130},
    {ErrorCode::kInternal, "internal", 1},
};

const ErrorRow& Row(ErrorCode code) noexcept {
  for (const ErrorRow& row : kErrorTable) {
    if (row.code == code) return row;
  }
  return kErrorTable[std::size(kErrorTable) - 1];
}

}  // namespace

std::string_view ErrorCodeName(ErrorCode code) noexcept { return Row(code).name; }
int ExitCode(ErrorCode code) noexcept { return Row(code).exit_code; }

void FailCheck(const char* condition, const char* file, int line) {
  Fail(ErrorCode::kInternal, "[check] {}:{}: expected {}, found it false; please report this as a bug", file, line,
       condition);
}

}  // namespace gateskip
