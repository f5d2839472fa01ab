// SPDX-License-Identifier: Apache-2.0
#include "server/listener.h"

#include <boost/asio/ip/address.hpp>
#include <utility>
#include <vector>

#include "base/check.h"

namespace gateskip::server {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

// An ordinary client sends its request at once; what takes longer may be closed when room is needed.
constexpr std::chrono::milliseconds kPatience{1000};
constexpr std::chrono::milliseconds kRetryAccept{20};

tcp::endpoint EndpointOf(const ServeOptions& options) {
  error_code error;
  const std::string host = options.host == "localhost" ? "127.0.0.1" : options.host;
  const asio::ip::address address = asio::ip::make_address(host, error);
  if (error) {
    Fail(ErrorCode::kInvalidArgument, "[command line] --host: expected an IP address, found '{}'; try 127.0.0.1",
         options.host);
  }
  return {address, static_cast<uint16_t>(options.port)};
}

}  // namespace

Listener::Listener(asio::io_context& io, const ServeOptions& options, Handler& handler)
    : acceptor_(io), retry_(io), handler_(handler), limits_(options.limits) {
  const tcp::endpoint endpoint = EndpointOf(options);
  error_code error;
  acceptor_.open(endpoint.protocol(), error);
  if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor_.bind(endpoint, error);
  if (!error) acceptor_.listen(4096, error);
  if (error) {
    Fail(ErrorCode::kIo, "[{}:{}] listen: expected a free address, found '{}'; choose another --host or --port",
         options.host, options.port, error.message());
  }
  port_ = acceptor_.local_endpoint().port();
}

void Listener::Start() { Accept(); }

void Listener::Accept() {
  acceptor_.async_accept([this](error_code error, tcp::socket socket) {
    if (!acceptor_.is_open()) return;
    if (!error) {
      Admit(std::move(socket));
      return Accept();
    }
    // Out of file descriptors, usually: room has to be made before it makes sense to go on.
    MakeRoom();
    retry_.expires_after(kRetryAccept);
    retry_.async_wait([this](error_code cancelled) {
      if (!cancelled) Accept();
    });
  });
}

Listener::Place Listener::FindPlace(const std::string& address, bool is_loopback) {
  if (!is_loopback) {
    const auto found = per_address_.find(address);
    if (found != per_address_.end() && found->second >= limits_.per_address) return Place::kNone;
  }
  if (connections_.size() + limits_.reserved < limits_.connections || MakeRoom()) return Place::kOrdinary;
  return connections_.size() < limits_.connections ? Place::kReserved : Place::kNone;
}

void Listener::Admit(tcp::socket socket) {
  error_code error;
  const tcp::endpoint peer = socket.remote_endpoint(error);
  if (error) return;
  std::string address = peer.address().to_string();
  const Place place = FindPlace(address, peer.address().is_loopback());
  if (place == Place::kNone) {
    // A new socket's buffer takes these few bytes at once.
    const HttpResponse answer = ErrorResponse(Overloaded(503,
                                                         "[http] connections: expected fewer, found the most "
                                                         "there may be; close some and try again",
                                                         1));
    const std::string text = HeaderText(answer, BodyFraming::kLength, /*keep_alive=*/false) + answer.body;
    socket.non_blocking(true, error);
    socket.write_some(asio::buffer(text), error);
    handler_.CountAnswer({}, 503);
    return;
  }
  const auto connection = std::make_shared<Connection>(std::move(socket), address, handler_, limits_,
                                                       place == Place::kReserved, [this](Connection& c) { Forget(c); });
  ++per_address_[address];
  connections_.emplace(connection.get(), connection);
  connection->Start();
}

bool Listener::MakeRoom() {
  const auto now = std::chrono::steady_clock::now();
  Connection* oldest = nullptr;
  for (const auto& [key, connection] : connections_) {
    if (!connection->receiving() || now - connection->since() < kPatience) continue;
    if (oldest == nullptr || connection->since() < oldest->since()) oldest = key;
  }
  if (oldest != nullptr) oldest->Close();
  return oldest != nullptr;
}

void Listener::Forget(Connection& connection) {
  const auto address = per_address_.find(connection.address());
  if (--address->second == 0) per_address_.erase(address);
  connections_.erase(&connection);
}

bool Listener::answering() const {
  for (const auto& [key, connection] : connections_) {
    if (key->answering()) return true;
  }
  return false;
}

void Listener::CloseIdle() {
  std::vector<std::shared_ptr<Connection>> idle;
  for (const auto& [key, connection] : connections_) {
    if (key->idle()) idle.push_back(connection);
  }
  for (const auto& connection : idle) connection->Close();
}

void Listener::CloseAll() {
  error_code ignored;
  acceptor_.close(ignored);
  retry_.cancel(ignored);
  const auto all = std::exchange(connections_, {});
  for (const auto& [key, connection] : all) connection->Close();
}

}  // namespace gateskip::server
