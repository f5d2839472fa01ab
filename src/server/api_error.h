// SPDX-License-Identifier: Apache-2.0
// Errors as clients see them: an HTTP status and OpenAI's error object. One table (api_error.cc) maps ErrorCode to
// both.
#pragma once

#include <exception>
#include <string>

#include "gateskip/error.h"

namespace gateskip::server {

struct ApiError {
  int status = 500;
  std::string type = {};  // OpenAI's: "invalid_request_error", "server_error", ...
  std::string code = {};  // may be empty
  std::string message = {};
  std::string param = {};  // the field of the request, if it is one field's fault
  int retry_after = 0;     // seconds; 0: no such header
};

// An Error that knows more than its code: which field, or a status of HTTP's own.
class RequestError : public Error {
 public:
  explicit RequestError(ApiError error) : Error(ErrorCode::kInvalidArgument, error.message), error_(std::move(error)) {}
  const ApiError& error() const { return error_; }

 private:
  ApiError error_;
};

// Throws RequestError(400) that names the field. `message` reads `expected X, found Y; what to do`.
[[noreturn]] void FailField(const std::string& field, const std::string& message);

// By the table; what is no Error is a server_error that tells nothing of the inside.
ApiError ToApiError(const std::exception& error);
ApiError ToApiError(ErrorCode code, const std::string& message);

// Statuses that are HTTP's own business.
ApiError HttpError(int status, const std::string& message);
// 429 (a queue is full) or 503 (loading, draining, stalled), with Retry-After.
ApiError Overloaded(int status, const std::string& message, int retry_after);

// {"error": {"message", "type", "param", "code"}}
std::string ErrorBody(const ApiError& error);

}  // namespace gateskip::server
