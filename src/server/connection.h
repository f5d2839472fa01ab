// SPDX-License-Identifier: Apache-2.0
// One TCP connection: reads a request under deadlines and limits, has it answered, writes the answer, goes on or
// closes. While an answer is under way it keeps reading, to see the client go away. All of it on the one thread of the
// HTTP side.
//
//   kHeader --> kBody --> kAnswering --> kHeader (keep-alive)  or  kLingering --> kClosed
#pragma once

#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "server/reply.h"

namespace gateskip::server {

class Connection final : public Reply, public std::enable_shared_from_this<Connection> {
 public:
  using OnClosed = std::function<void(Connection&)>;

  // `restricted`: it came when all ordinary places were taken, and may ask for /health and /metrics only.
  Connection(boost::asio::ip::tcp::socket socket, std::string address, Handler& handler, const ConnectionLimits& limits,
             bool restricted, OnClosed on_closed);

  void Start();
  // At once, whatever it does.
  void Close();

  // Waiting for a request or in the middle of receiving one, and since when: what may be closed to make room.
  bool receiving() const { return state_ == State::kHeader || state_ == State::kBody; }
  bool idle() const { return state_ == State::kHeader && in_.empty(); }
  bool answering() const { return state_ == State::kAnswering; }
  std::chrono::steady_clock::time_point since() const { return since_; }
  const std::string& address() const { return address_; }

  void Send(HttpResponse response) override;
  void StartStream(HttpResponse header) override;
  void Push(std::string_view piece) override;
  void EndStream() override;
  void OnGone(std::function<void()> callback) override { on_gone_ = std::move(callback); }

 private:
  enum class State { kHeader, kBody, kAnswering, kLingering, kClosed };
  using Parser = boost::beast::http::request_parser<boost::beast::http::string_body>;

  void Enter(State state);
  void SetDeadline(std::chrono::milliseconds time);
  void SetBodyDeadline();
  bool BodyIsOnTime() const;
  void OnDeadline();
  void Read();
  void OnRead(boost::system::error_code error, size_t count);
  void Advance();
  void ParseHeader();
  void ParseBody();
  void Dispatch();
  HttpRequest TakeHeader() const;
  void Refuse(const ApiError& error);
  void Write();
  void OnWrite(boost::system::error_code error, size_t count);
  void EndAnswer();
  void Linger();
  void Gone();

  boost::asio::ip::tcp::socket socket_;
  boost::asio::steady_timer deadline_;
  const std::string address_;
  Handler& handler_;
  const ConnectionLimits& limits_;
  const bool restricted_;
  OnClosed on_closed_;

  State state_ = State::kHeader;
  std::chrono::steady_clock::time_point since_;
  uint64_t deadline_number_ = 0;  // of the last one set: earlier ones that fire late mean nothing

  std::array<char, 8192> block_;
  bool reading_ = false;
  std::string in_;       // received and not parsed
  size_t scanned_ = 0;   // bytes of in_ that ParseHeader has seen
  size_t lingered_ = 0;  // bytes thrown away
  std::optional<Parser> parser_;
  HttpRequest request_;  // without its body
  std::vector<std::pair<std::string, std::string>> common_headers_;
  bool keep_alive_ = false;
  bool chunked_ = false;   // the answer's framing
  bool complete_ = false;  // the answer is all in out_

  std::string out_;      // to be written next
  std::string writing_;  // being written
  size_t written_ = 0;   // of it
  std::function<void()> on_gone_;
};

}  // namespace gateskip::server
