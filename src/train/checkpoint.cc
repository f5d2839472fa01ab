// SPDX-License-Identifier: Apache-2.0
#include "train/checkpoint.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <system_error>

#include "base/check.h"
#include "base/sha256.h"

namespace gateskip::train {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr const char* kTensorFile = "model.safetensors";
constexpr const char* kStateFile = "state.json";
constexpr const char* kManifestFile = "manifest.json";
constexpr std::string_view kPrefix = "step-";
constexpr std::string_view kTemporary = ".tmp-";
constexpr uintmax_t kMaxStateBytes = 64U << 20;

[[noreturn]] void FailSystem(const std::string& path, const char* action) {
  Fail(ErrorCode::kIo, "[{}] checkpoint: expected to {}, found: {}; free space or check permissions", path, action,
       std::generic_category().message(errno));
}

void SyncPath(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC);
  if (fd < 0) FailSystem(path, "open it for syncing");
  const int result = ::fsync(fd);
  const int saved = errno;
  ::close(fd);
  errno = saved;
  if (result != 0) FailSystem(path, "sync it");
}

void WriteSynced(const std::string& path, std::string_view bytes) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) FailSystem(path, "create it");
  bool good = true;
  for (size_t done = 0; good && done < bytes.size();) {
    const ssize_t n = ::write(fd, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    good = n > 0;
    if (good) done += static_cast<size_t>(n);
  }
  // A failed fsync is final: the kernel may have dropped the pages, a second one would lie.
  good = good && ::fsync(fd) == 0;
  const int saved = errno;
  ::close(fd);
  errno = saved;
  if (!good) FailSystem(path, "write and sync it");
}

std::string ReadFile(const fs::path& path, uintmax_t limit) {
  if (fs::file_size(path) > limit) throw std::runtime_error(path.filename().string() + " is too large");
  std::ifstream in(path, std::ios::binary);
  std::ostringstream content;
  content << in.rdbuf();
  if (!in) throw std::runtime_error("cannot read " + path.filename().string());
  return content.str();
}

std::string HashOf(std::string_view bytes) { return Sha256Hex(std::as_bytes(std::span<const char>(bytes))); }

// The safetensors layout (github.com/huggingface/safetensors): length, JSON header, data.
std::string EncodeTensors(const std::map<std::string, CheckpointTensor>& tensors) {
  Json header = Json::object();
  size_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    const size_t bytes = tensor.values.size() * sizeof(float);
    header[name] = {{"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  std::string out(sizeof(uint64_t), '\0');
  const uint64_t length = text.size();
  std::memcpy(out.data(), &length, sizeof(length));
  out.reserve(out.size() + text.size() + offset);
  out += text;
  for (const auto& [name, tensor] : tensors) {
    out.append(reinterpret_cast<const char*>(tensor.values.data()), tensor.values.size() * sizeof(float));
  }
  return out;
}

std::map<std::string, CheckpointTensor> DecodeTensors(const std::string& bytes) {
  uint64_t length = 0;
  if (bytes.size() < sizeof(length)) throw std::runtime_error("tensor file is shorter than its header");
  std::memcpy(&length, bytes.data(), sizeof(length));
  if (length > bytes.size() - sizeof(length)) throw std::runtime_error("tensor header is longer than the file");
  const std::string_view data = std::string_view(bytes).substr(sizeof(length) + length);
  std::map<std::string, CheckpointTensor> result;
  const Json header = Json::parse(bytes.begin() + sizeof(length), bytes.begin() + sizeof(length) + static_cast<ptrdiff_t>(length));
  for (const auto& [name, entry] : header.items()) {
    CheckpointTensor tensor;
    tensor.shape = entry.at("shape").get<std::vector<int64_t>>();
    const auto begin = entry.at("data_offsets").at(0).get<uint64_t>();
    const auto end = entry.at("data_offsets").at(1).get<uint64_t>();
    if (begin > end || end > data.size() || (end - begin) % sizeof(float) != 0) {
      throw std::runtime_error("tensor " + name + " lies outside the file");
    }
    tensor.values.resize((end - begin) / sizeof(float));
    std::memcpy(tensor.values.data(), data.data() + begin, end - begin);
    result.emplace(name, std::move(tensor));
  }
  return result;
}

// Step of a checkpoint directory's name, -1 for anything else.
int StepOf(const fs::path& path) {
  const std::string name = path.filename().string();
  if (!name.starts_with(kPrefix) || name.size() > kPrefix.size() + 9) return -1;
  int step = 0;
  for (size_t i = kPrefix.size(); i < name.size(); ++i) {
    if (name[i] < '0' || name[i] > '9') return -1;
    step = step * 10 + (name[i] - '0');
  }
  return name.size() > kPrefix.size() ? step : -1;
}

// Steps with a directory, newest first.
std::set<int, std::greater<>> Steps(const std::string& run_directory) {
  std::set<int, std::greater<>> steps;
  for (const auto& entry : fs::directory_iterator(run_directory)) {
    const int step = StepOf(entry.path());
    if (step >= 0 && entry.is_directory()) steps.insert(step);
  }
  return steps;
}

fs::path StepPath(const std::string& run_directory, int step) {
  return fs::path(run_directory) / fmt::format("{}{}", kPrefix, step);
}

// Throws std::exception when anything does not verify.
Checkpoint ReadVerified(const fs::path& directory, int step) {
  const Json manifest = Json::parse(ReadFile(directory / kManifestFile, kMaxStateBytes));
  std::map<std::string, std::string> contents;
  for (const char* name : {kTensorFile, kStateFile}) {
    const Json& entry = manifest.at("files").at(name);
    const auto size = entry.at("bytes").get<uintmax_t>();
    std::string bytes = ReadFile(directory / name, size);
    if (bytes.size() != size) {
      throw std::runtime_error(fmt::format("{} is truncated: have {} of {} bytes", name, bytes.size(), size));
    }
    if (HashOf(bytes) != entry.at("sha256").get<std::string>()) {
      throw std::runtime_error(fmt::format("{} does not match its SHA-256", name));
    }
    contents[name] = std::move(bytes);
  }
  if (manifest.at("step").get<int>() != step) throw std::runtime_error("the manifest is of another step");
  return {step, contents[kStateFile], DecodeTensors(contents[kTensorFile])};
}

}  // namespace

void WriteCheckpoint(const Checkpoint& checkpoint, const std::string& run_directory, int keep) {
  const fs::path final_path = StepPath(run_directory, checkpoint.step);
  const fs::path temporary = final_path.string() + std::string(kTemporary) + std::to_string(::getpid());
  try {
    fs::create_directories(temporary);
    Json manifest = {{"step", checkpoint.step}, {"files", Json::object()}};
    const auto write = [&](const char* name, std::string_view bytes) {
      WriteSynced((temporary / name).string(), bytes);
      manifest["files"][name] = {{"bytes", bytes.size()}, {"sha256", HashOf(bytes)}};
    };
    write(kTensorFile, EncodeTensors(checkpoint.tensors));
    write(kStateFile, checkpoint.state_json);
    WriteSynced((temporary / kManifestFile).string(), manifest.dump(1));
    SyncPath(temporary.string(), O_RDONLY | O_DIRECTORY);
    fs::remove_all(final_path);  // only ever a damaged one of the same step: valid ones are resumed from
    fs::rename(temporary, final_path);
    SyncPath(run_directory, O_RDONLY | O_DIRECTORY);
    int kept = 0;
    for (const int step : Steps(run_directory)) {
      if (++kept > keep) fs::remove_all(StepPath(run_directory, step));
    }
  } catch (const fs::filesystem_error& e) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    Fail(ErrorCode::kIo, "[{}] checkpoint: expected to write it, found: {}; free space or check permissions",
         final_path.string(), e.what());
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    throw;
  }
}

std::optional<Checkpoint> ReadNewestCheckpoint(const std::string& run_directory,
                                               const std::function<void(const std::string&)>& skipped) {
  if (!fs::is_directory(run_directory)) return std::nullopt;
  for (const int step : Steps(run_directory)) {
    try {
      return ReadVerified(StepPath(run_directory, step), step);
    } catch (const std::exception& e) {
      skipped(fmt::format("checkpoint {} left out: {}", StepPath(run_directory, step).string(), e.what()));
    }
  }
  return std::nullopt;
}

RunLock::RunLock(const std::string& run_directory) {
  std::error_code error;
  fs::create_directories(run_directory, error);
  const std::string path = (fs::path(run_directory) / "lock").string();
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd_ < 0) FailSystem(path, "create the lock file");
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    ::close(fd_);
    Fail(ErrorCode::kIo, "[{}] run directory: expected it to be free, found another trainer holding its lock; wait "
         "for it or choose another directory", run_directory);
  }
  // Left behind by a killed trainer; nobody else can be writing now.
  for (const auto& entry : fs::directory_iterator(run_directory)) {
    if (entry.path().filename().string().find(kTemporary) != std::string::npos) fs::remove_all(entry.path(), error);
  }
}

RunLock::~RunLock() { ::close(fd_); }

}  // namespace gateskip::train
