// SPDX-License-Identifier: Apache-2.0
#include "server/api_error.h"

#include <gtest/gtest.h>

#include <new>
#include <nlohmann/json.hpp>

#include "base/check.h"

namespace gateskip::server {
namespace {

TEST(ApiError, EveryCodeHasAStatus) {
  for (const auto& [code, status] : {std::pair{ErrorCode::kInvalidArgument, 400},
                                     {ErrorCode::kNotFound, 404},
                                     {ErrorCode::kLimitExceeded, 400},
                                     {ErrorCode::kUnsupported, 400},
                                     {ErrorCode::kCorruptData, 400},
                                     {ErrorCode::kMismatch, 400},
                                     {ErrorCode::kIo, 500},
                                     {ErrorCode::kCancelled, 503},
                                     {ErrorCode::kInternal, 500}}) {
    const ApiError error = ToApiError(code, "[a] b: expected c, found d; e");
    EXPECT_EQ(error.status, status) << ErrorCodeName(code);
    EXPECT_EQ(error.type, status < 500 ? status == 404 ? "not_found_error" : "invalid_request_error" : "server_error");
  }
}

TEST(ApiError, WhatIsNoErrorOfOursTellsNothing) {
  const ApiError error = ToApiError(std::runtime_error("secret path"));
  EXPECT_EQ(error.status, 500);
  EXPECT_EQ(error.message.find("secret"), std::string::npos);
}

TEST(ApiError, NoMemoryIsForLater) {
  const ApiError error = ToApiError(std::bad_alloc());
  EXPECT_EQ(error.status, 503);
  EXPECT_GT(error.retry_after, 0);
}

TEST(ApiError, AFieldsErrorNamesIt) {
  try {
    FailField("top_p", "expected a number in [0, 1], found 2; correct it");
    FAIL() << "expected an error";
  } catch (const std::exception& caught) {
    const ApiError error = ToApiError(caught);
    EXPECT_EQ(error.status, 400);
    EXPECT_EQ(error.param, "top_p");
    EXPECT_EQ(error.message, "[request] top_p: expected a number in [0, 1], found 2; correct it");
  }
}

TEST(ApiError, TheBodyIsOpenAis) {
  ApiError error = HttpError(429, "busy \xFF \"now\"");
  const auto plain = nlohmann::json::parse(ErrorBody(error)).at("error");
  EXPECT_EQ(plain.at("message"), "busy \xEF\xBF\xBD \"now\"");
  EXPECT_EQ(plain.at("type"), "rate_limit_error");
  EXPECT_TRUE(plain.at("param").is_null());
  EXPECT_TRUE(plain.at("code").is_null());
  error.param = "n";
  error.code = "invalid_value";
  const auto named = nlohmann::json::parse(ErrorBody(error)).at("error");
  EXPECT_EQ(named.at("param"), "n");
  EXPECT_EQ(named.at("code"), "invalid_value");
}

TEST(ApiError, TypesOfStatuses) {
  EXPECT_EQ(HttpError(401, "").type, "authentication_error");
  EXPECT_EQ(HttpError(403, "").type, "permission_error");
  EXPECT_EQ(HttpError(404, "").type, "not_found_error");
  EXPECT_EQ(HttpError(413, "").type, "invalid_request_error");
  EXPECT_EQ(HttpError(500, "").type, "server_error");
  EXPECT_EQ(Overloaded(429, "", 3).code, "queue_full");
  EXPECT_EQ(Overloaded(503, "", 3).code, "unavailable");
  EXPECT_EQ(Overloaded(503, "", 3).retry_after, 3);
}

}  // namespace
}  // namespace gateskip::server
