// SPDX-License-Identifier: Apache-2.0
// Accepts connections and knows all that are open: caps in all and per address, room made by closing those that have
// been sending a request for longest, a reserve for /health and /metrics.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>

#include "server/connection.h"

namespace gateskip::server {

class Listener {
 public:
  // Binds. Throws Error(kIo): the address is in use, or not this machine's; kInvalidArgument: it is none.
  Listener(boost::asio::io_context& io, const ServeOptions& options, Handler& handler);

  void Start();
  // Closes connections that wait for a request.
  void CloseIdle();
  // Closes the acceptor and every connection.
  void CloseAll();

  int port() const { return port_; }
  size_t num_connections() const { return connections_.size(); }
  bool answering() const;  // whether any connection has an answer under way

 private:
  enum class Place { kOrdinary, kReserved, kNone };

  void Accept();
  void Admit(boost::asio::ip::tcp::socket socket);
  Place FindPlace(const std::string& address, bool is_loopback);
  // Closes the connection that has been at its request for longest, if that is long.
  bool MakeRoom();
  void Forget(Connection& connection);

  boost::asio::ip::tcp::acceptor acceptor_;
  boost::asio::steady_timer retry_;
  Handler& handler_;
  const ConnectionLimits& limits_;
  int port_ = 0;
  std::unordered_map<Connection*, std::shared_ptr<Connection>> connections_;
  std::map<std::string, size_t> per_address_;
};

}  // namespace gateskip::server
