// SPDX-License-Identifier: Apache-2.0
#include "server/api_error.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace gateskip::server {
namespace {

struct ErrorRow {
  ErrorCode code;
  int status;
  const char* type;
};

// A request can be at fault for the first six; the rest is the server's.
constexpr ErrorRow kErrorTable[] = {
    {ErrorCode::kInvalidArgument, 400, "invalid_request_error"},
    {ErrorCode::kNotFound, 404, "not_found_error"},
    {ErrorCode::kCorruptData, 400, "invalid_request_error"},
    {ErrorCode::kUnsupported, 400, "invalid_request_error"},
    {ErrorCode::kMismatch, 400, "invalid_request_error"},
    {ErrorCode::kLimitExceeded, 400, "invalid_request_error"},
    {ErrorCode::kIo, 500, "server_error"},
    {ErrorCode::kCancelled, 503, "server_error"},
    {ErrorCode::kInternal, 500, "server_error"},
};

const char* TypeOfStatus(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    default:
      return status < 500 ? "invalid_request_error" : "server_error";
  }
}

}  // namespace

void FailField(const std::string& field, const std::string& message) {
  throw RequestError({.status = 400,
                      .type = "invalid_request_error",
                      .code = "invalid_value",
                      .message = fmt::format("[request] {}: {}", field, message),
                      .param = field});
}

ApiError ToApiError(ErrorCode code, const std::string& message) {
  ApiError error{.code = std::string(ErrorCodeName(code)), .message = message};
  for (const ErrorRow& row : kErrorTable) {
    if (row.code != code) continue;
    error.status = row.status;
    error.type = row.type;
  }
  return error;
}

ApiError ToApiError(const std::exception& error) {
  if (const auto* request = dynamic_cast<const RequestError*>(&error)) return request->error();
  if (const auto* ours = dynamic_cast<const Error*>(&error)) return ToApiError(ours->code(), ours->what());
  if (dynamic_cast<const std::bad_alloc*>(&error) != nullptr) {
    return Overloaded(503, "[server] memory: expected enough for this request, found too little; try a smaller one", 5);
  }
  return ToApiError(ErrorCode::kInternal,
                    "[server] request: expected no internal error, found one; please report it as a bug");
}

ApiError HttpError(int status, const std::string& message) {
  return {.status = status, .type = TypeOfStatus(status), .message = message};
}

ApiError Overloaded(int status, const std::string& message, int retry_after) {
  ApiError error = HttpError(status, message);
  error.code = status == 429 ? "queue_full" : "unavailable";
  error.retry_after = retry_after;
  return error;
}

std::string ErrorBody(const ApiError& error) {
  using nlohmann::ordered_json;
  const auto text_or_null = [](const std::string& text) { return text.empty() ? ordered_json() : ordered_json(text); };
  const ordered_json body = {{"error",
                              {{"message", error.message},
                               {"type", error.type},
                               {"param", text_or_null(error.param)},
                               {"code", text_or_null(error.code)}}}};
  return body.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace gateskip::server
