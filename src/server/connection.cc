// SPDX-License-Identifier: Apache-2.0
#include "server/connection.h"

#include <fmt/format.h>

#include <boost/asio/buffer.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/error.hpp>
#include <utility>

namespace gateskip::server {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;

constexpr std::chrono::milliseconds kLingerTime{1000};
constexpr std::chrono::milliseconds kRestrictedHeaderTime{1000};
constexpr int kBodyLooks = 6;
constexpr size_t kLingerBytes = 16u << 20;

std::string Text(boost::beast::string_view text) { return {text.data(), text.size()}; }

}  // namespace

Connection::Connection(asio::ip::tcp::socket socket, std::string address, Handler& handler,
                       const ConnectionLimits& limits, bool restricted, OnClosed on_closed)
    : socket_(std::move(socket)),
      deadline_(socket_.get_executor()),
      address_(std::move(address)),
      handler_(handler),
      limits_(limits),
      restricted_(restricted),
      on_closed_(std::move(on_closed)) {}

void Connection::Start() {
  error_code ignored;
  socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
  Enter(State::kHeader);
  // A connection that says nothing has the time of a header, not of a pause between requests.
  SetDeadline(restricted_ ? kRestrictedHeaderTime : limits_.header);
  Read();
}

void Connection::Enter(State state) {
  state_ = state;
  since_ = std::chrono::steady_clock::now();
}

void Connection::Close() {
  if (state_ == State::kClosed) return;
  const auto self = shared_from_this();  // the listener lets go of it below
  const bool was_answering = answering();
  Enter(State::kClosed);
  error_code ignored;
  deadline_.cancel(ignored);
  socket_.close(ignored);
  if (was_answering) Gone();
  on_gone_ = nullptr;
  on_closed_(*this);
}

void Connection::Gone() {
  if (auto on_gone = std::exchange(on_gone_, nullptr)) on_gone();
}

void Connection::SetDeadline(std::chrono::milliseconds time) {
  deadline_.expires_after(time);
  deadline_.async_wait([self = shared_from_this(), number = ++deadline_number_](error_code error) {
    if (!error && number == self->deadline_number_) self->OnDeadline();
  });
}

// A body is looked at on its way: one that trickles in is cut long before its time is up.
void Connection::SetBodyDeadline() { SetDeadline(limits_.body / kBodyLooks); }

bool Connection::BodyIsOnTime() const {
  const auto spent = std::chrono::steady_clock::now() - since_;
  const double wanted = static_cast<double>(limits_.min_body_rate) * std::chrono::duration<double>(spent).count();
  return spent < limits_.body && static_cast<double>(parser_->get().body().size()) >= wanted;
}

void Connection::OnDeadline() {
  switch (state_) {
    case State::kHeader:
      if (in_.empty()) return Close();
      return Refuse(HttpError(408, "[http] header: expected it whole in time, found it unfinished; send it faster"));
    case State::kBody:
      if (BodyIsOnTime()) return SetBodyDeadline();
      return Refuse(HttpError(408, "[http] body: expected it whole in time, found it unfinished; send it faster"));
    case State::kAnswering:  // only while writing
      handler_.CountSlowReader();
      return Close();
    case State::kLingering:
    case State::kClosed:
      return Close();
  }
}

void Connection::Read() {
  if (reading_ || state_ == State::kClosed) return;
  reading_ = true;
  socket_.async_read_some(asio::buffer(block_), [self = shared_from_this()](error_code error, size_t count) {
    self->reading_ = false;
    self->OnRead(error, count);
  });
}

void Connection::OnRead(error_code error, size_t count) {
  if (state_ == State::kClosed) return;
  if (error) return Close();
  if (state_ == State::kLingering) {
    lingered_ += count;
    return lingered_ > kLingerBytes ? Close() : Read();
  }
  const bool first = in_.empty() && state_ == State::kHeader;
  in_.append(block_.data(), count);
  if (state_ == State::kAnswering) {
    // A next request ahead of its time is kept, within bounds; beyond them the connection is watched no more.
    if (in_.size() < limits_.header_bytes) Read();
    return;
  }
  if (first && !restricted_) SetDeadline(limits_.header);
  Advance();
}

void Connection::Advance() {
  if (state_ == State::kHeader) ParseHeader();
  if (state_ == State::kBody) ParseBody();
  if (receiving()) Read();
}

HttpRequest Connection::TakeHeader() const {
  const auto& message = parser_->get();
  HttpRequest request;
  request.method = Text(message.method_string());
  request.path = Text(message.target().substr(0, message.target().find('?')));
  request.host = Text(message[http::field::host]);
  request.origin = Text(message[http::field::origin]);
  request.authorization = Text(message[http::field::authorization]);
  request.address = address_;
  return request;
}

void Connection::ParseHeader() {
  // A byte at a time must not cost a look at all bytes each time.
  const bool nothing_new = scanned_ > 0 && in_.find('\n', scanned_) == in_.npos && in_.size() < limits_.header_bytes;
  scanned_ = in_.size();
  if (nothing_new) return;
  const HeaderCheck check = CheckHeader(in_, limits_);
  if (check.error) return Refuse(*check.error);
  if (check.header_size == 0) return;
  parser_.emplace();
  parser_->eager(true);
  parser_->header_limit(static_cast<uint32_t>(limits_.header_bytes) + 1);
  parser_->body_limit(limits_.body_bytes);
  scanned_ = 0;
  error_code error;
  in_.erase(0, parser_->put(asio::buffer(in_.data(), check.header_size), error));
  if (error == http::error::body_limit) {
    return Refuse(HttpError(
        413, fmt::format("[http] body: expected at most {} bytes, found more; send less", limits_.body_bytes)));
  }
  if (!parser_->is_header_done()) {
    return Refuse(
        HttpError(400, fmt::format("[http] request: expected valid HTTP/1.1, found: {}; correct it", error.message())));
  }
  keep_alive_ = parser_->keep_alive() && !restricted_;
  chunked_ = parser_->get().version() == 11;
  request_ = TakeHeader();
  common_headers_ = handler_.CommonHeaders(request_);
  if (restricted_ && request_.path != "/health" && request_.path != "/metrics") {
    return Refuse(Overloaded(503, "[http] connections: expected a free one, found all taken; try again", 1));
  }
  Enter(State::kBody);
  if (std::optional<HttpResponse> refusal = handler_.Refuse(request_)) {
    keep_alive_ = keep_alive_ && parser_->is_done();
    Enter(State::kAnswering);
    return Send(std::move(*refusal));
  }
  if (parser_->is_done()) return;
  SetBodyDeadline();
  if (boost::beast::iequals(parser_->get()[http::field::expect], "100-continue")) {
    out_ += "HTTP/1.1 100 Continue\r\n\r\n";
    Write();
  }
}

void Connection::ParseBody() {
  while (!parser_->is_done() && !in_.empty()) {
    error_code error;
    const size_t taken = parser_->put(asio::buffer(in_), error);
    in_.erase(0, taken);
    if (error == http::error::body_limit) {
      return Refuse(HttpError(
          413, fmt::format("[http] body: expected at most {} bytes, found more; send less", limits_.body_bytes)));
    }
    if (error && error != http::error::need_more) {
      return Refuse(
          HttpError(400, fmt::format("[http] body: expected valid chunks, found: {}; correct them", error.message())));
    }
    if (taken > 0 && !error) continue;
    // The size line of a chunk, or the trailer, is not whole yet.
    if (in_.size() > limits_.header_bytes) {
      return Refuse(HttpError(431, "[http] chunk: expected a short size line and trailer, found long ones; send less"));
    }
    return;
  }
  if (parser_->is_done()) Dispatch();
}

void Connection::Dispatch() {
  HttpRequest request = request_;  // what stays is for the answer: method, path
  request.body = std::move(parser_->get().body());
  ++deadline_number_;
  error_code ignored;
  deadline_.cancel(ignored);
  Enter(State::kAnswering);
  Read();
  handler_.Handle(std::move(request), shared_from_this());
}

void Connection::Refuse(const ApiError& error) {
  keep_alive_ = false;
  Enter(State::kAnswering);
  Send(ErrorResponse(error));
}

void Connection::Send(HttpResponse response) {
  if (!answering()) return;
  handler_.CountAnswer(request_, response.status);
  keep_alive_ = keep_alive_ && !handler_.draining();
  response.headers.insert(response.headers.end(), common_headers_.begin(), common_headers_.end());
  out_ += HeaderText(response, BodyFraming::kLength, keep_alive_);
  if (request_.method != "HEAD") out_ += response.body;
  complete_ = true;
  Write();
}

void Connection::StartStream(HttpResponse header) {
  if (!answering()) return;
  handler_.CountAnswer(request_, header.status);
  keep_alive_ = keep_alive_ && chunked_ && !handler_.draining();
  header.headers.insert(header.headers.end(), common_headers_.begin(), common_headers_.end());
  out_ += HeaderText(header, chunked_ ? BodyFraming::kChunked : BodyFraming::kToClose, keep_alive_);
  Write();
}

void Connection::Push(std::string_view piece) {
  if (!answering() || piece.empty()) return;
  out_ += chunked_ ? ChunkText(piece) : std::string(piece);
  if (out_.size() > limits_.stream_bytes) {
    handler_.CountSlowReader();
    return Close();
  }
  Write();
}

void Connection::EndStream() {
  if (!answering()) return;
  if (chunked_) out_ += kLastChunk;
  complete_ = true;
  Write();
}

void Connection::Write() {
  if (state_ == State::kClosed || !writing_.empty() || out_.empty()) return;
  writing_ = std::exchange(out_, {});
  written_ = 0;
  OnWrite({}, 0);
}

void Connection::OnWrite(error_code error, size_t count) {
  if (state_ == State::kClosed) return;
  if (error) return Close();
  written_ += count;
  if (written_ == writing_.size()) {
    writing_.clear();
    if (!out_.empty()) return Write();
    if (answering()) {
      ++deadline_number_;
      if (complete_) EndAnswer();
    }
    return;
  }
  // Not for the interim answer to "Expect": the body's deadline goes on.
  if (answering()) SetDeadline(limits_.write);
  socket_.async_write_some(asio::buffer(writing_) + written_,
                           [self = shared_from_this()](error_code e, size_t n) { self->OnWrite(e, n); });
}

void Connection::EndAnswer() {
  complete_ = false;
  on_gone_ = nullptr;
  if (!keep_alive_ || handler_.draining()) return Linger();
  parser_.reset();
  request_ = {};
  common_headers_.clear();
  Enter(State::kHeader);
  SetDeadline(in_.empty() ? limits_.idle : limits_.header);
  Advance();
}

// Closing with unread bytes would reset the connection, and the client might lose the answer: what still comes is
// thrown away for a while.
void Connection::Linger() {
  Enter(State::kLingering);
  error_code ignored;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  in_.clear();
  SetDeadline(kLingerTime);
  Read();
}

}  // namespace gateskip::server
