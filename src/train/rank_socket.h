// SPDX-License-Identifier: Apache-2.0
// TCP sockets for the ranks of a run: never bound to all interfaces, never blocking.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>

namespace gateskip::train {

class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() { Close(); }
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }

  int get() const { return fd_; }
  bool open() const { return fd_ >= 0; }
  void Close();

 private:
  int fd_ = -1;
};

// A socket that listens at `host` (a name, a numeric address or the name of an interface of this host) and `port`; 0
// lets the system choose one. Throws Error(kInvalidArgument): `host` is no address of this host, or stands for all of
// them; Error(kIo).
FileDescriptor ListenAt(const std::string& host, uint16_t port);
// Takes over a socket that is bound and listening already. Throws Error(kInvalidArgument) if it is not.
FileDescriptor AdoptListener(int fd);
// Connects, trying again until `until`: rank 0 may start later. Throws Error(kIo).
FileDescriptor ConnectTo(const std::string& host, uint16_t port, std::chrono::steady_clock::time_point until);
// The next connection, or a closed descriptor when none waits.
FileDescriptor Accept(const FileDescriptor& listener);

// This end's numeric address and port.
std::string LocalAddress(const FileDescriptor& socket);
uint16_t LocalPort(const FileDescriptor& socket);
// The numeric address of an interface of this host, or `host` itself if no interface is called that.
std::string AddressOfInterface(const std::string& host);
bool IsLoopback(const std::string& numeric_address);

}  // namespace gateskip::train
