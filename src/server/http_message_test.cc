// SPDX-License-Identifier: Apache-2.0
// Headers cut at every byte, and the bytes of answers. What smugglers send is in tests/server/hostile_test.py.
#include "server/http_message.h"

#include <gtest/gtest.h>

#include <string>

namespace gateskip::server {
namespace {

int StatusOf(std::string_view bytes, const ConnectionLimits& limits = {}) {
  const HeaderCheck check = CheckHeader(bytes, limits);
  return check.error ? check.error->status : check.header_size > 0 ? 200 : 0;
}

TEST(HttpMessage, AHeaderIsWholeAtItsEmptyLineOnly) {
  const std::string header = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
  for (size_t size = 1; size < header.size(); ++size) EXPECT_EQ(StatusOf(header.substr(0, size)), 0) << size;
  EXPECT_EQ(CheckHeader(header + "abc", {}).header_size, header.size());
}

TEST(HttpMessage, Limits) {
  const ConnectionLimits limits = {.header_bytes = 64, .header_lines = 3};
  EXPECT_EQ(StatusOf("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\r\n", limits), 200);
  EXPECT_EQ(StatusOf("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\nY: c\r\nZ: d\r\n\r\n", limits), 431);
  EXPECT_EQ(StatusOf("GET /" + std::string(64, 'a'), limits), 431);
}

TEST(HttpMessage, StatusesOfBadHeaders) {
  const std::string head = "POST / HTTP/1.1\r\nHost: a\r\n";
  EXPECT_EQ(StatusOf(head + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
  EXPECT_EQ(StatusOf(head + "Content-Length: 1, 1\r\n\r\n"), 400);
  EXPECT_EQ(StatusOf(head + "Content-Encoding: gzip\r\n\r\n"), 415);
  EXPECT_EQ(StatusOf(head + "Host: b\r\n\r\n"), 400);
  EXPECT_EQ(StatusOf("POST / HTTP/1.1\r\n\r\n"), 400);
  EXPECT_EQ(StatusOf("POST / HTTP/1.0\r\n\r\n"), 200);
  EXPECT_EQ(StatusOf("\x16\x03\x01"), 400);
}

TEST(HttpMessage, AnswersOfErrors) {
  ApiError error = HttpError(401, "x");
  error.retry_after = 7;
  const std::string text = HeaderText(ErrorResponse(error), BodyFraming::kLength, true);
  EXPECT_TRUE(text.starts_with("HTTP/1.1 401 Unauthorized\r\n"));
  EXPECT_NE(text.find("\r\nRetry-After: 7\r\n"), std::string::npos);
  EXPECT_NE(text.find("\r\nWWW-Authenticate: Bearer\r\n"), std::string::npos);
  EXPECT_NE(text.find("\r\nConnection: keep-alive\r\n\r\n"), std::string::npos);
}

TEST(HttpMessage, Framing) {
  const HttpResponse response{.body = "abc"};
  EXPECT_NE(HeaderText(response, BodyFraming::kLength, true).find("Content-Length: 3\r\n"), std::string::npos);
  const std::string chunked = HeaderText(response, BodyFraming::kChunked, true);
  EXPECT_NE(chunked.find("Transfer-Encoding: chunked\r\n"), std::string::npos);
  EXPECT_EQ(chunked.find("Content-Length"), std::string::npos);
  EXPECT_NE(HeaderText(response, BodyFraming::kToClose, false).find("Connection: close\r\n"), std::string::npos);
  EXPECT_EQ(ChunkText(std::string(26, 'x')), "1a\r\n" + std::string(26, 'x') + "\r\n");
}

}  // namespace
}  // namespace gateskip::server
