// SPDX-License-Identifier: Apache-2.0
// What the HTTP side hands to whoever answers a request: one answer, whole or streamed. All calls come from the thread
// of the HTTP side.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "server/http_message.h"

namespace gateskip::server {

class Reply {
 public:
  virtual ~Reply() = default;

  // The whole answer.
  virtual void Send(HttpResponse response) = 0;

  // Or: header first, then pieces, then the end. Pieces a slow reader does not take are kept up to a limit; beyond it
  // the stream is cut and the client counts as gone.
  virtual void StartStream(HttpResponse header) = 0;
  virtual void Push(std::string_view piece) = 0;
  virtual void EndStream() = 0;

  // Called once if the client goes away before its answer is complete; nothing may be sent any more then.
  virtual void OnGone(std::function<void()> callback) = 0;
};

// Answers requests.
class Handler {
 public:
  virtual ~Handler() = default;

  // With the header alone, before any body is read: nullopt to go on, or the refusal.
  virtual std::optional<HttpResponse> Refuse(const HttpRequest& request) = 0;
  virtual void Handle(HttpRequest request, std::shared_ptr<Reply> reply) = 0;
  // Headers of every answer to this request.
  virtual std::vector<std::pair<std::string, std::string>> CommonHeaders(const HttpRequest& request) const = 0;
  // Every answer, also to what never became a request; its path is empty then.
  virtual void CountAnswer(const HttpRequest& request, int status) = 0;
  virtual void CountSlowReader() = 0;
  virtual bool draining() const = 0;
};

}  // namespace gateskip::server
