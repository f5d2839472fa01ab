// SPDX-License-Identifier: Apache-2.0
#include "output_path.h"

#include <filesystem>

#include "base/check.h"

namespace gateskip::cli {

namespace fs = std::filesystem;

void RequireReplaceable(const std::string& path, OutputKind kind, bool force) {
  std::error_code error;
  if (!fs::exists(fs::symlink_status(path, error))) return;
  if (!force) {
    Fail(ErrorCode::kInvalidArgument, "[{}] output: expected a new name, found it there; pass --force to replace it",
         path);
  }
  const bool ours =
      fs::exists(fs::path(path) / "config.json", error) || fs::exists(fs::path(path) / "adapter_config.json", error);
  const bool replaceable = kind == OutputKind::kFile
                               ? fs::is_regular_file(path, error)
                               : fs::is_directory(path, error) && (ours || fs::is_empty(path, error));
  if (!replaceable) {
    Fail(ErrorCode::kInvalidArgument, "[{}] output: expected {} to replace, found something else; name another place",
         path, kind == OutputKind::kFile ? "a file" : "the directory of a model or an adapter");
  }
}

}  // namespace gateskip::cli
