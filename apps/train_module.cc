// SPDX-License-Identifier: Apache-2.0
#include "train_module.h"

#include <dlfcn.h>

#include <filesystem>

#include "base/check.h"
#include "gateskip/engine.h"

namespace gateskip::cli {
namespace {

constexpr const char* kFile = "libgateskip_train.so";

std::filesystem::path FindModule() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  for (const std::filesystem::path& folder : {program, program.parent_path() / "lib" / "gateskip"}) {
    if (std::filesystem::exists(folder / kFile, error)) return folder / kFile;
  }
  Fail(ErrorCode::kUnsupported,
       "[train] {}: expected the trainer beside the program, found none; build with -DGATESKIP_TRAIN=ON (needs "
       "LibTorch)",
       kFile);
}

template <typename Function>
Function* Symbol(void* module, const char* name, const std::string& path) {
  void* symbol = dlsym(module, name);
  if (symbol == nullptr) {
    Fail(ErrorCode::kUnsupported, "[train] {}: expected the function {}, found none; rebuild both together", path,
         name);
  }
  return reinterpret_cast<Function*>(symbol);
}

}  // namespace

TrainOutcome RunTrainModule(const TrainOptions& options, TrainObserver& observer) {
  const std::string path = FindModule().string();
  // Stays open until the process ends: LibTorch's threads do not survive being unloaded.
  void* module = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (module == nullptr) {
    const char* reason = dlerror();
    Fail(ErrorCode::kUnsupported, "[train] {}: expected a loadable module, found: {}; install LibTorch", path,
         reason == nullptr ? "no reason given" : reason);
  }
  const std::string_view version = Symbol<const char*()>(module, "GateskipTrainVersion", path)();
  if (version != Version()) {
    Fail(ErrorCode::kUnsupported, "[train] {}: expected version {}, found {}; rebuild both together", path, Version(),
         version);
  }
  TrainOutcome outcome = TrainOutcome::kCancelled;
  Symbol<void(const TrainOptions*, TrainObserver*, TrainOutcome*)>(module, "GateskipTrain", path)(&options, &observer,
                                                                                                  &outcome);
  return outcome;
}

}  // namespace gateskip::cli
