// SPDX-License-Identifier: Apache-2.0
// Who may ask: keys, the Host header, the Origin header.
#include "server/access.h"

#include <gtest/gtest.h>

#include <string>

namespace gateskip::server {
namespace {

HttpRequest Get(std::string path) {
  HttpRequest request;
  request.method = "GET";
  request.path = std::move(path);
  request.host = "localhost:8080";
  request.address = "10.0.0.7";
  return request;
}

int StatusOf(const Access& access, const HttpRequest& request) {
  const std::optional<ApiError> error = access.Check(request);
  return error ? error->status : 200;
}

HttpRequest WithKey(std::string authorization) {
  HttpRequest request = Get("/props");
  request.authorization = std::move(authorization);
  return request;
}

ServeOptions WithKeys() {
  ServeOptions options;
  options.api_keys = {"first-key", "second-key", "third-key"};
  return options;
}

TEST(Access, EveryKeyOfTheListAndNoOther) {
  const Access access(WithKeys());
  for (const char* good : {"Bearer first-key", "Bearer second-key", "bearer third-key", "BEARER first-key"}) {
    EXPECT_EQ(StatusOf(access, WithKey(good)), 200) << good;
  }
  for (const char* bad :
       {"", "Bearer", "Bearer ", "Bearer first", "Bearer first-key2", "Bearer first-key ", "first-key",
        "Basic first-key", "Bearer  first-key", "Bearer FIRST-KEY", "Bearer first-key,second-key"}) {
    EXPECT_EQ(StatusOf(access, WithKey(bad)), 401) << bad;
  }
  EXPECT_EQ(access.Check(WithKey("x"))->code, "invalid_api_key");
}

TEST(Access, FairnessKnowsKeysApartAndFallsBackToAddresses) {
  const Access access(WithKeys());
  EXPECT_EQ(access.Identity(WithKey("Bearer first-key")), "key 1");
  EXPECT_EQ(access.Identity(WithKey("Bearer third-key")), "key 3");
  EXPECT_EQ(access.Identity(WithKey("Bearer wrong")), "10.0.0.7");
}

TEST(Access, WhatNeedsNoKey) {
  const Access access(WithKeys());
  for (const char* path : {"/", "/health"}) EXPECT_EQ(StatusOf(access, Get(path)), 200) << path;
  for (const char* path : {"/props", "/metrics", "/v1/models", "//health", "/health/", "/Health", "/health%00", "/."}) {
    EXPECT_EQ(StatusOf(access, Get(path)), 401) << path;
  }
  HttpRequest post = Get("/health");
  post.method = "POST";
  EXPECT_EQ(StatusOf(access, post), 401);
}

TEST(Access, HostsThatAreNotThisServer) {
  const Access access{ServeOptions{}};
  for (const char* host : {"localhost", "LOCALHOST:1", "127.0.0.1:8080", "[::1]:8080", "[::1]", ""}) {
    HttpRequest request = Get("/props");
    request.host = host;
    EXPECT_EQ(StatusOf(access, request), 200) << host;
  }
  for (const char* host :
       {"evil.example", "localhost.evil.example", "127.0.0.1.evil", "127.0.0.2", "[::1", "[", ":80"}) {
    HttpRequest request = Get("/props");
    request.host = host;
    EXPECT_EQ(StatusOf(access, request), 403) << host;
  }
}

TEST(Access, AHostListHoldsForThoseWithAKeyToo) {
  ServeOptions options = WithKeys();
  HttpRequest request = WithKey("Bearer first-key");
  request.host = "api.example";
  EXPECT_EQ(StatusOf(Access(options), request), 200);  // a key is proof enough
  options.allowed_hosts = {"Other.example"};
  EXPECT_EQ(StatusOf(Access(options), request), 403);
  request.host = "other.EXAMPLE:443";
  EXPECT_EQ(StatusOf(Access(options), request), 200);
}

TEST(Access, OriginsOfForeignPages) {
  ServeOptions options;
  options.cors_origin = "https://app.example";
  const Access access(options);
  HttpRequest request = Get("/props");
  for (const char* good : {"", "http://localhost:8080", "https://LOCALHOST:8080", "https://app.example"}) {
    request.origin = good;
    EXPECT_EQ(StatusOf(access, request), 200) << good;
  }
  for (const char* bad : {"null", "http://localhost:9", "http://evil.example", "https://app.example.evil", "://",
                          "http://app.example", "localhost:8080"}) {
    request.origin = bad;
    EXPECT_EQ(StatusOf(access, request), 403) << bad;
    EXPECT_TRUE(access.CorsHeaders(request).empty()) << bad;
  }
  request.origin = "https://app.example";
  EXPECT_EQ(access.CorsHeaders(request).front().second, "https://app.example");
  request.method = "OPTIONS";
  EXPECT_TRUE(access.IsPreflight(request));
  request.origin = "https://other.example";
  EXPECT_FALSE(access.IsPreflight(request));
}

}  // namespace
}  // namespace gateskip::server
