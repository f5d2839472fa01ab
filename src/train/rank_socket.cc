// SPDX-License-Identifier: Apache-2.0
#include "train/rank_socket.h"

#include <fcntl.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>

#include "base/check.h"

namespace gateskip::train {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kBacklog = 128;
using AddressList = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

AddressList Resolve(const std::string& host, uint16_t port, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (error != 0) {
    Fail(ErrorCode::kInvalidArgument,
         "[ranks] {}: expected the name or address of a host, found: {}; check MASTER_ADDR", host, gai_strerror(error));
  }
  return {found, freeaddrinfo};
}

std::string Numeric(const sockaddr* address, socklen_t length) {
  std::array<char, NI_MAXHOST> host{};
  if (getnameinfo(address, length, host.data(), host.size(), nullptr, 0, NI_NUMERICHOST) != 0) return "?";
  return host.data();
}

bool IsUnspecified(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    return reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr == htonl(INADDR_ANY);
  }
  return address->sa_family == AF_INET6 &&
         IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr);
}

FileDescriptor NewSocket(int family) {
  return FileDescriptor(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
}

void NoDelay(const FileDescriptor& socket) {
  const int on = 1;
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

sockaddr_storage LocalName(const FileDescriptor& socket, socklen_t& length) {
  sockaddr_storage address{};
  length = sizeof address;
  if (::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    Fail(ErrorCode::kIo, "[ranks] socket: expected its own address, found: {}; start the run again",
         std::strerror(errno));
  }
  return address;
}

// One attempt; an errno value, 0 on success.
int TryConnect(const addrinfo& to, Clock::time_point until, FileDescriptor& socket) {
  socket = NewSocket(to.ai_family);
  if (!socket.open()) return errno;
  if (::connect(socket.get(), to.ai_addr, to.ai_addrlen) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  pollfd waiting{socket.get(), POLLOUT, 0};
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count();
  if (::poll(&waiting, 1, static_cast<int>(std::max<int64_t>(left, 0))) <= 0) return ETIMEDOUT;
  int error = 0;
  socklen_t length = sizeof error;
  ::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  return error;
}

}  // namespace

void FileDescriptor::Close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

FileDescriptor ListenAt(const std::string& host, uint16_t port) {
  const AddressList addresses = Resolve(AddressOfInterface(host), port, AI_PASSIVE);
  if (IsUnspecified(addresses->ai_addr)) {
    Fail(ErrorCode::kInvalidArgument,
         "[ranks] {}: expected one address of this host, found all of them; the ranks' traffic is not encrypted: name "
         "the interface of a trusted network",
         host);
  }
  FileDescriptor socket = NewSocket(addresses->ai_family);
  const int on = 1;
  if (!socket.open() || ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      ::bind(socket.get(), addresses->ai_addr, addresses->ai_addrlen) != 0 || ::listen(socket.get(), kBacklog) != 0) {
    const int error = errno;
    Fail(
        error == EADDRNOTAVAIL ? ErrorCode::kInvalidArgument : ErrorCode::kIo,
        "[ranks] {} port {}: expected to listen there as rank 0, found: {}; check MASTER_ADDR and MASTER_PORT, or name "
        "the interface in GLOO_SOCKET_IFNAME",
        host, port, std::strerror(error));
  }
  return socket;
}

FileDescriptor AdoptListener(int fd) {
  int listening = 0;
  socklen_t length = sizeof listening;
  if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) != 0 || listening == 0) {
    Fail(ErrorCode::kInvalidArgument,
         "[ranks] descriptor {}: expected the listening socket that the launcher opened, found something else; unset "
         "GATESKIP_RANK_LISTENER",
         fd);
  }
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  return FileDescriptor(fd);
}

FileDescriptor ConnectTo(const std::string& host, uint16_t port, Clock::time_point until) {
  constexpr std::chrono::milliseconds kRetry(100);
  const AddressList addresses = Resolve(host, port, 0);
  for (;;) {
    int error = 0;
    for (const addrinfo* to = addresses.get(); to != nullptr; to = to->ai_next) {
      FileDescriptor socket;
      error = TryConnect(*to, until, socket);
      if (error != 0) continue;
      NoDelay(socket);
      return socket;
    }
    if (Clock::now() + kRetry >= until) {
      Fail(ErrorCode::kIo,
           "[ranks] {} port {}: expected rank 0 to answer, found: {}; start rank 0 there, and let the port through",
           host, port, std::strerror(error));
    }
    std::this_thread::sleep_for(kRetry);
  }
}

FileDescriptor Accept(const FileDescriptor& listener) {
  FileDescriptor socket(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (socket.open()) NoDelay(socket);
  return socket;
}

std::string LocalAddress(const FileDescriptor& socket) {
  socklen_t length = 0;
  const sockaddr_storage address = LocalName(socket, length);
  return Numeric(reinterpret_cast<const sockaddr*>(&address), length);
}

uint16_t LocalPort(const FileDescriptor& socket) {
  socklen_t length = 0;
  const sockaddr_storage address = LocalName(socket, length);
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6*>(&address)->sin6_port
                                             : reinterpret_cast<const sockaddr_in*>(&address)->sin_port);
}

std::string AddressOfInterface(const std::string& host) {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return host;
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(list, freeifaddrs);
  for (const int family : {AF_INET, AF_INET6}) {
    for (const ifaddrs* i = list; i != nullptr; i = i->ifa_next) {
      if (i->ifa_addr == nullptr || i->ifa_addr->sa_family != family || host != i->ifa_name) continue;
      return Numeric(i->ifa_addr, family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    }
  }
  return host;
}

bool IsLoopback(const std::string& numeric_address) {
  return numeric_address.starts_with("127.") || numeric_address == "::1";
}

}  // namespace gateskip::train
