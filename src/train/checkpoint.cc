// SPDX-License-Identifier: Apache-2.0
#include "train/checkpoint.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string_view>

#include "base/check.h"
#include "base/sha256.h"
#include "io/atomic_write.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "tensor/dequantize.h"

namespace gateskip::train {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr const char* kTensorFile = "model.safetensors";
constexpr const char* kStateFile = "state.json";
constexpr const char* kManifestFile = "manifest.json";
constexpr std::string_view kPrefix = "step-";
constexpr std::string_view kTemporary = ".tmp-";  // as io/atomic_write.cc names them
constexpr uintmax_t kMaxStateBytes = 64U << 20;
constexpr uintmax_t kMaxTensorBytes = uintmax_t{64} << 30;

std::string ReadFile(const fs::path& path, uintmax_t limit) {
  std::error_code error;
  const uintmax_t size = fs::file_size(path, error);
  if (error || size > limit) {
    Fail(ErrorCode::kCorruptData, "[{}] checkpoint: expected a file of at most {} bytes, found {}; it is damaged",
         path.string(), limit, error ? error.message() : std::to_string(size));
  }
  std::ifstream in(path, std::ios::binary);
  std::ostringstream content;
  content << in.rdbuf();
  if (!in) Fail(ErrorCode::kIo, "[{}] checkpoint: expected to read it, found an error; try again", path.string());
  return content.str();
}

std::span<const std::byte> BytesOf(std::string_view text) {
  return std::as_bytes(std::span<const char>(text.data(), text.size()));
}

std::vector<std::byte> EncodeTensors(const std::map<std::string, CheckpointTensor>& tensors) {
  std::vector<SafetensorsEntry> entries;
  for (const auto& [name, tensor] : tensors) {
    const auto bytes = std::as_bytes(std::span<const float>(tensor.values));
    entries.push_back({name, DType::kF32, tensor.shape, {bytes.begin(), bytes.end()}});
  }
  return SerializeSafetensors(entries, {});
}

std::map<std::string, CheckpointTensor> DecodeTensors(const std::string& bytes, const std::string& origin) {
  std::map<std::string, CheckpointTensor> result;
  const auto file = SafetensorsFile::Parse(BytesOf(bytes), origin);
  for (const auto& [name, view] : file->tensors()) {
    CheckpointTensor tensor{view.shape, std::vector<float>(static_cast<size_t>(view.num_elements()))};
    Dequantize(view.dtype, view.data, tensor.values);
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

// Throws Error when anything does not verify.
Checkpoint ReadVerified(const fs::path& directory, int step) {
  const std::string origin = directory.string();
  const Json manifest = ParseJson(ReadFile(directory / kManifestFile, kMaxStateBytes), origin);
  if (GetInt(manifest, "step", origin) != step || !manifest.contains("files")) {
    Fail(ErrorCode::kCorruptData, "[{}] manifest: expected the files of step {}, found another content; it is damaged",
         origin, step);
  }
  std::map<std::string, std::string> contents;
  for (const char* name : {kTensorFile, kStateFile}) {
    const auto& files = manifest["files"];
    const Json entry = files.is_object() && files.contains(name) ? files[name] : Json::object();
    const auto size = static_cast<uintmax_t>(GetInt(entry, "bytes", origin));
    std::string bytes = ReadFile(directory / name, kMaxTensorBytes);
    if (bytes.size() != size) {
      Fail(ErrorCode::kCorruptData, "[{}] {}: expected {} bytes, found {}; it is truncated", origin, name, size,
           bytes.size());
    }
    if (Sha256Hex(BytesOf(bytes)) != GetString(entry, "sha256", origin)) {
      Fail(ErrorCode::kCorruptData, "[{}] {}: expected the SHA-256 of the manifest, found another; it is damaged",
           origin, name);
    }
    contents[name] = std::move(bytes);
  }
  return {step, contents[kStateFile], DecodeTensors(contents[kTensorFile], origin)};
}

}  // namespace

void WriteCheckpoint(const Checkpoint& checkpoint, const std::string& run_directory, int keep) {
  // A valid directory of the same step can exist only if this run resumed from it: it is replaced as a whole.
  WriteDirectoryAtomically(StepPath(run_directory, checkpoint.step).string(), [&](const std::string& directory) {
    Json manifest = {{"step", checkpoint.step}, {"files", Json::object()}};
    const auto write = [&](const char* name, std::span<const std::byte> bytes) {
      WriteFileAtomically((fs::path(directory) / name).string(), bytes);
      manifest["files"][name] = {{"bytes", bytes.size()}, {"sha256", Sha256Hex(bytes)}};
    };
    write(kTensorFile, EncodeTensors(checkpoint.tensors));
    write(kStateFile, BytesOf(checkpoint.state_json));
    WriteFileAtomically((fs::path(directory) / kManifestFile).string(), BytesOf(manifest.dump(1)));
  });
  int kept = 0;
  std::error_code ignored;  // an old checkpoint that cannot be removed does no harm
  for (const int step : Steps(run_directory)) {
    if (step > checkpoint.step) continue;  // damaged, or of another run: no reason to give up a good one
    if (++kept > keep) fs::remove_all(StepPath(run_directory, step), ignored);
  }
}

bool HasCheckpoints(const std::string& run_directory) {
  return fs::is_directory(run_directory) && !Steps(run_directory).empty();
}

std::optional<Checkpoint> ReadNewestCheckpoint(const std::string& run_directory,
                                               const std::function<void(const std::string&)>& skipped) {
  if (!fs::is_directory(run_directory)) return std::nullopt;
  for (const int step : Steps(run_directory)) {
    try {
      return ReadVerified(StepPath(run_directory, step), step);
    } catch (const Error& e) {
      skipped(fmt::format("checkpoint of step {} left out: {}", step, e.what()));
    }
  }
  return std::nullopt;
}

RunLock::RunLock(const std::string& run_directory) {
  std::error_code error;
  fs::create_directories(run_directory, error);
  const std::string path = (fs::path(run_directory) / "lock").string();
  fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd_ < 0) {
    Fail(ErrorCode::kIo,
         "[{}] run directory: expected to create a lock file in it, found: {}; check the path and its "
         "permissions",
         run_directory, std::strerror(errno));
  }
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    ::close(fd_);
    Fail(ErrorCode::kIo,
         "[{}] run directory: expected it to be free, found another trainer holding its lock; wait "
         "for it or choose another directory",
         run_directory);
  }
  // Left behind by a killed trainer; nobody else can be writing now.
  for (const auto& entry : fs::directory_iterator(run_directory)) {
    if (entry.path().filename().string().find(kTemporary) != std::string::npos) fs::remove_all(entry.path(), error);
  }
}

RunLock::~RunLock() { ::close(fd_); }

}  // namespace gateskip::train
