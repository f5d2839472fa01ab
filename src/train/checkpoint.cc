// SPDX-License-Identifier: Apache-2.0
#include "train/checkpoint.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>
#include <string_view>

#include "base/check.h"
#include "base/sha256.h"
#include "io/atomic_write.h"
#include "io/json.h"
#include "io/kill_point.h"
#include "io/safetensors.h"
#include "train/checkpoint_manifest.h"

namespace gateskip::train {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLatestHint = "LATEST";
constexpr const char* kBestHint = "BEST";
constexpr std::string_view kPrefix = "step-";
constexpr size_t kMaxStepDigits = 9;
constexpr uint64_t kMaxManifestBytes = 1U << 16;
constexpr uint64_t kMaxStateBytes = 64U << 20;
constexpr size_t kPieceBytes = 1U << 20;  // hashed while it is in the cache, then written

std::span<const std::byte> BytesOf(std::string_view text) {
  return std::as_bytes(std::span<const char>(text.data(), text.size()));
}

// A file of the checkpoint that is being written.
class HashedFile {
 public:
  explicit HashedFile(const fs::path& path) : file_(path.string()) {}

  void Write(std::span<const std::byte> bytes) {
    bytes_ += bytes.size();
    for (; !bytes.empty(); bytes = bytes.subspan(std::min(bytes.size(), kPieceBytes))) {
      const auto piece = bytes.first(std::min(bytes.size(), kPieceBytes));
      hash_.Update(piece);
      file_.Write(piece);
    }
  }
  ManifestEntry Finish() {
    file_.SyncAndClose();
    return {bytes_, hash_.HexDigest()};
  }

 private:
  FileWriter file_;
  Sha256 hash_;
  uint64_t bytes_ = 0;
};

ManifestEntry WriteText(const fs::path& path, std::string_view text) {
  HashedFile file(path);
  file.Write(BytesOf(text));
  return file.Finish();
}

std::vector<SafetensorsInfo> Infos(const std::vector<CheckpointTensor>& tensors) {
  std::vector<SafetensorsInfo> infos;
  infos.reserve(tensors.size());
  for (const CheckpointTensor& tensor : tensors) infos.push_back({tensor.name, DType::kF32, tensor.shape});
  return infos;
}

uint64_t NumElements(const std::vector<int64_t>& shape) {
  uint64_t elements = 1;
  for (const int64_t dim : shape) elements *= static_cast<uint64_t>(dim);
  return elements;
}

ManifestEntry WriteTensors(const fs::path& path, std::span<const std::byte> header,
                           const std::vector<CheckpointTensor>& tensors) {
  HashedFile file(path);
  file.Write(header);
  GS_KILL_POINT(kTensorsBegun);
  for (const CheckpointTensor& tensor : tensors) {
    const std::span<const float> values = tensor.values();
    GS_CHECK(values.size() == NumElements(tensor.shape));
    file.Write(std::as_bytes(values));
  }
  return file.Finish();
}

// The step a directory's name says, -1 for other names.
int StepOf(std::string_view name) {
  if (!name.starts_with(kPrefix) || name.size() > kPrefix.size() + kMaxStepDigits) return -1;
  int step = 0;
  for (const char c : name.substr(kPrefix.size())) {
    if (c < '0' || c > '9') return -1;
    step = step * 10 + (c - '0');
  }
  return name.size() > kPrefix.size() ? step : -1;
}

std::string StepName(int step) { return fmt::format("{}{}", kPrefix, step); }

std::string StepPath(const std::string& run_directory, int step) {
  return (fs::path(run_directory) / StepName(step)).string();
}

// Steps with a directory, newest first.
std::set<int, std::greater<>> Steps(const std::string& run_directory) {
  std::set<int, std::greater<>> steps;
  std::error_code error;
  for (fs::directory_iterator it(run_directory, error), end; !error && it != end; it.increment(error)) {
    const int step = StepOf(it->path().filename().string());
    std::error_code no_directory;
    if (step >= 0 && it->path().filename() == StepName(step) && it->is_directory(no_directory)) steps.insert(step);
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    Fail(ErrorCode::kIo, "[{}] run directory: expected to list it, found: {}; check the path and its permissions",
         run_directory, error.message());
  }
  return steps;
}

std::string ReadText(const std::string& path, uint64_t limit) {
  const InputFile file(path);
  if (file.size() > limit) {
    Fail(ErrorCode::kCorruptData, "[{}] file: expected at most {} bytes, found {}; it is damaged", path, limit,
         file.size());
  }
  std::string text(file.size(), '\0');
  file.ReadAt(0, std::as_writable_bytes(std::span<char>(text)));
  return text;
}

Manifest ReadManifest(const std::string& directory, int step) {
  Manifest manifest =
      ParseManifest(ReadText((fs::path(directory) / kManifestFile).string(), kMaxManifestBytes), directory);
  if (manifest.step != step) {
    Fail(ErrorCode::kCorruptData, "[{}] manifest: expected step {}, found {}; the directory was renamed", directory,
         step, manifest.step);
  }
  return manifest;
}

void RequireSize(const std::string& origin, const char* name, const ManifestEntry& entry, uint64_t found) {
  if (found == entry.bytes) return;
  Fail(ErrorCode::kCorruptData, "[{}] {}: expected {} bytes, found {}; it is truncated or of another checkpoint",
       origin, name, entry.bytes, found);
}

void RequireHash(const std::string& origin, const char* name, const ManifestEntry& entry, const std::string& found) {
  if (found == entry.sha256) return;
  Fail(ErrorCode::kCorruptData, "[{}] {}: expected the SHA-256 of the manifest, found another; it is damaged", origin,
       name);
}

// As much as can be known without reading the tensors.
bool LooksWhole(const std::string& run_directory, int step) {
  try {
    const std::string directory = StepPath(run_directory, step);
    const Manifest manifest = ReadManifest(directory, step);
    std::error_code error;
    return fs::file_size(fs::path(directory) / kTensorFile, error) == manifest.tensors.bytes &&
           fs::file_size(fs::path(directory) / kStateFile, error) == manifest.state.bytes;
  } catch (const Error&) {
    return false;
  }
}

void WriteHint(const std::string& run_directory, const char* name, int step) {
  try {
    WriteFileAtomically((fs::path(run_directory) / name).string(), BytesOf(StepName(step) + "\n"));
  } catch (const Error&) {  // the checkpoint is there all the same, and the hint is no more than a hint
  }
}

// A damaged checkpoint does not count as kept, or `keep` of them would leave no good one.
void Prune(const std::string& run_directory, int newest, const Retention& retention) {
  int kept = 0;
  for (const int step : Steps(run_directory)) {
    if (step > newest) continue;  // damaged, or of another run: no reason to give up a good one
    const std::string directory = StepPath(run_directory, step);
    std::error_code error;
    if (!fs::exists(fs::path(directory) / kManifestFile, error)) continue;  // not ours
    if (kept < retention.keep) {
      kept += LooksWhole(run_directory, step) ? 1 : 0;
    } else if (step != retention.best_step) {
      RemoveDirectory(directory);
    }
  }
}

}  // namespace

void WriteCheckpoint(const Checkpoint& checkpoint, const std::string& run_directory, const Retention& retention) {
  GS_CHECK(checkpoint.step >= 0 && StepOf(StepName(checkpoint.step)) == checkpoint.step && retention.keep >= 1);
  GS_CHECK(checkpoint.state_json.size() <= kMaxStateBytes);
  ParseJson(checkpoint.state_json, "checkpoint state");  // or nobody could read it again
  const std::vector<std::byte> header = SafetensorsHeader(Infos(checkpoint.tensors), {});
  uint64_t bytes = header.size() + checkpoint.state_json.size() + kMaxManifestBytes;
  for (const CheckpointTensor& tensor : checkpoint.tensors) bytes += sizeof(float) * NumElements(tensor.shape);
  RequireFreeSpace(run_directory, bytes + bytes / 5);
  // A valid directory of the same step can exist only if this run resumed from it: it is replaced as a whole.
  WriteDirectoryAtomically(StepPath(run_directory, checkpoint.step), [&](const std::string& directory) {
    const fs::path root = directory;
    Manifest manifest;
    manifest.step = checkpoint.step;
    manifest.tensors = WriteTensors(root / kTensorFile, header, checkpoint.tensors);
    GS_KILL_POINT(kTensorsWritten);
    manifest.state = WriteText(root / kStateFile, checkpoint.state_json);
    GS_KILL_POINT(kStateWritten);
    WriteText(root / kManifestFile, SerializeManifest(manifest));
    GS_KILL_POINT(kManifestWritten);
  });
  GS_KILL_POINT(kDirectoryDurable);
  WriteHint(run_directory, kLatestHint, checkpoint.step);
  if (retention.best_step >= 0 && HintedBestStep(run_directory) != retention.best_step) {
    WriteHint(run_directory, kBestHint, retention.best_step);
  }
  GS_KILL_POINT(kHintsWritten);
  Prune(run_directory, checkpoint.step, retention);
  GS_KILL_POINT(kPruned);
}

SavedCheckpoint::SavedCheckpoint(const std::string& run_directory, int step)
    : step_(step), directory_(StepPath(run_directory, step)) {
  const Manifest manifest = ReadManifest(directory_, step);
  state_json_ = ReadText((fs::path(directory_) / kStateFile).string(), kMaxStateBytes);
  RequireSize(directory_, kStateFile, manifest.state, state_json_.size());
  RequireHash(directory_, kStateFile, manifest.state, Sha256Hex(BytesOf(state_json_)));
  ParseJson(state_json_, directory_ + ": " + kStateFile);
  tensors_ = std::make_unique<InputFile>((fs::path(directory_) / kTensorFile).string());
  RequireSize(directory_, kTensorFile, manifest.tensors, tensors_->size());
  RequireHash(directory_, kTensorFile, manifest.tensors, tensors_->Sha256Hex());
  std::array<std::byte, 8> start;
  tensors_->ReadAt(0, start);
  const uint64_t data = SafetensorsDataOffset(start, tensors_->size(), tensors_->path());
  std::vector<std::byte> header(data - start.size());
  tensors_->ReadAt(start.size(), header);
  const SafetensorsLayout layout = ParseSafetensorsHeader(header, tensors_->size() - data, tensors_->path());
  for (const auto& [name, slice] : layout.tensors) {
    if (slice.dtype != DType::kF32) continue;
    shapes_[name] = slice.shape;
    offsets_[name] = data + slice.begin;
  }
}

void SavedCheckpoint::Read(const std::string& name, const std::vector<int64_t>& shape, std::span<float> values) const {
  const auto found = shapes_.find(name);
  if (found == shapes_.end() || found->second != shape) {
    Fail(ErrorCode::kMismatch,
         "[{}] tensor {}: expected shape [{}], found {}; resume with the options the run was started with", directory_,
         name, fmt::join(shape, ", "),
         found == shapes_.end() ? "none of this name" : fmt::format("[{}]", fmt::join(found->second, ", ")));
  }
  GS_CHECK(values.size() == NumElements(shape));
  tensors_->ReadAt(offsets_.at(name), std::as_writable_bytes(values));
}

bool HasCheckpoints(const std::string& run_directory) { return !Steps(run_directory).empty(); }

std::unique_ptr<SavedCheckpoint> OpenNewestCheckpoint(const std::string& run_directory,
                                                      const std::function<void(const std::string&)>& skipped) {
  for (const int step : Steps(run_directory)) {
    try {
      return std::make_unique<SavedCheckpoint>(run_directory, step);
    } catch (const Error& e) {
      skipped(fmt::format("checkpoint of step {} left out: {}", step, e.what()));
    }
  }
  return nullptr;
}

std::optional<int> HintedBestStep(const std::string& run_directory) {
  try {
    const std::string text = ReadText((fs::path(run_directory) / kBestHint).string(), 64);
    const int step = StepOf(std::string_view(text).substr(0, text.find('\n')));
    if (step >= 0 && Steps(run_directory).contains(step)) return step;
  } catch (const Error&) {
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
    const int reason = errno;
    ::close(fd_);
    Fail(ErrorCode::kIo,
         "[{}] run directory: expected it to be free, found {}; wait for it or choose another directory", run_directory,
         reason == EWOULDBLOCK ? "another trainer holding its lock" : std::string("no lock: ") + std::strerror(reason));
  }
  SweepTemporaries(run_directory);  // nobody else can be writing now
}

RunLock::~RunLock() { ::close(fd_); }

}  // namespace gateskip::train
