// SPDX-License-Identifier: Apache-2.0
// Which files a data path stands for.
#include <algorithm>
#include <filesystem>

#include "base/check.h"
#include "eval/data_reader.h"
#include "text/utf8.h"

namespace gateskip {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxNamed = 8;

bool IsDirectory(const std::string& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}
bool IsFile(const std::string& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

std::string Joined(const std::string& directory, const std::string& name) {
  return directory.empty() || directory.ends_with('/') ? directory + name : directory + "/" + name;
}

// A pattern with a `*` in its last part: "test/*_test.csv" is directory "test", start "" and end "_test.csv".
struct Pattern {
  std::string directory;
  std::string start;
  std::string end;
  bool has_star = false;

  explicit Pattern(const std::string& text) {
    const size_t slash = text.rfind('/');
    directory = slash == std::string::npos ? "" : text.substr(0, slash);
    start = slash == std::string::npos ? text : text.substr(slash + 1);
    const size_t star = start.find('*');
    has_star = star != std::string::npos;
    if (!has_star) return;
    end = start.substr(star + 1);
    start.resize(star);
  }

  std::string Name(const std::string& subset) const { return Joined(directory, start + subset + end); }
  // What the `*` stands for in a file's name; "" when it does not match.
  std::string Match(const std::string& name) const {
    const bool fits =
        has_star && name.size() > start.size() + end.size() && name.starts_with(start) && name.ends_with(end);
    return fits ? name.substr(start.size(), name.size() - start.size() - end.size()) : std::string();
  }
};

std::string NameOf(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// Names in a directory, in their order; none when it cannot be read.
std::vector<std::string> NamesIn(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool Wanted(const DataSpec& spec, const std::string& subset) {
  return spec.subsets.empty() || std::find(spec.subsets.begin(), spec.subsets.end(), subset) != spec.subsets.end();
}

std::vector<DataFile> Below(const DataSpec& spec, const std::vector<std::string>& patterns, const std::string& root) {
  std::vector<DataFile> files;
  for (const std::string& text : patterns) {
    const Pattern pattern(text);
    if (!pattern.has_star && IsFile(Joined(root, text))) return {{Joined(root, text)}};
    if (!pattern.has_star) continue;
    const std::string directory = Joined(root, pattern.directory);
    for (const std::string& name : NamesIn(directory)) {
      const std::string subset = pattern.Match(name);
      if (!subset.empty() && Wanted(spec, subset)) files.push_back({Joined(directory, name), subset});
    }
    if (!files.empty()) break;
  }
  return files;
}

[[noreturn]] void FailNoFile(const std::string& root, const char* what, const std::vector<std::string>& patterns) {
  std::vector<std::string> names = NamesIn(root);
  const bool more = names.size() > kMaxNamed;
  if (more) names.resize(kMaxNamed);
  Fail(ErrorCode::kNotFound, "[{}] {}: expected {}, found {}{}; name the file itself, or the directory it is in", root,
       what, fmt::join(patterns, " or "),
       names.empty() ? std::string("nothing") : ReadableText(fmt::format("{}", fmt::join(names, ", ")), 400),
       more ? ", ..." : "");
}

// The directory that the patterns are relative to, of a file that one of them matches.
std::string RootOf(const DataSpec& spec, const std::string& file) {
  fs::path root = fs::path(file).parent_path();
  for (const std::string& text : spec.files) {
    const Pattern pattern(text);
    const std::string name = NameOf(file);
    if (pattern.has_star ? pattern.Match(name).empty() : pattern.start != name) continue;
    const bool below = pattern.directory.empty() || root.filename() == fs::path(pattern.directory).filename();
    if (!pattern.directory.empty() && below) root = root.parent_path();
    break;
  }
  return root.empty() ? "." : root.string();
}

}  // namespace

std::vector<DataFile> FindDataFiles(const DataSpec& spec, const std::string& data_path) {
  if (data_path.empty() || data_path.find('\0') != std::string::npos) {
    Fail(ErrorCode::kInvalidArgument, "[data] path: expected a file or a directory, found {}; name one",
         data_path.empty() ? "nothing" : "a NUL byte");
  }
  if (IsDirectory(data_path)) {
    if (spec.files.empty()) {
      Fail(ErrorCode::kInvalidArgument,
           "[{}] data: expected a file, since the task names none, found a directory; "
           "name the file itself",
           data_path);
    }
    std::vector<DataFile> files = Below(spec, spec.files, data_path);
    if (files.empty()) FailNoFile(data_path, "data files", spec.files);
    return files;
  }
  DataFile file = {data_path};
  for (const std::string& text : spec.files) {
    if (file.subset = Pattern(text).Match(NameOf(data_path)); !file.subset.empty()) break;
  }
  return {file};
}

DataFile FindFewshotFile(const DataSpec& spec, const std::string& data_path, const DataFile& data_file,
                         const std::string& fewshot_path) {
  if (!fewshot_path.empty() && !IsDirectory(fewshot_path)) return {fewshot_path, data_file.subset};
  const std::string root = !fewshot_path.empty()    ? fewshot_path
                           : IsDirectory(data_path) ? data_path
                                                    : RootOf(spec, data_path);
  for (const std::string& text : spec.fewshot_files) {
    const Pattern pattern(text);
    const std::string path = Joined(root, pattern.has_star ? pattern.Name(data_file.subset) : text);
    if (IsFile(path)) return {path, data_file.subset};
  }
  FailNoFile(root, "few-shot files", spec.fewshot_files);
}

}  // namespace gateskip
