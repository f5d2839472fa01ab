// SPDX-License-Identifier: Apache-2.0
#include "eval/text_source.h"

#include <filesystem>
#include <fstream>
#include <string_view>

#include "base/check.h"
#include "io/json.h"

namespace gateskip {
namespace {

constexpr uintmax_t kMaxBytes = uintmax_t{1} << 30;

std::string ReadWholeFile(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    Fail(ErrorCode::kNotFound, "[{}] text: expected a file, found nothing there; check the path", path);
  }
  if (!std::filesystem::is_regular_file(status)) {
    Fail(ErrorCode::kInvalidArgument, "[{}] text: expected a regular file, found something else; name a file", path);
  }
  const uintmax_t bytes = std::filesystem::file_size(path, error);
  if (error || bytes > kMaxBytes) {
    Fail(ErrorCode::kLimitExceeded, "[{}] text: expected at most {} bytes, found {}; split it", path, kMaxBytes, bytes);
  }
  std::string text(static_cast<size_t>(bytes), '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file)
    Fail(ErrorCode::kIo, "[{}] text: expected to read {} bytes, found an error; check permissions", path, bytes);
  return text;
}

void AppendJsonLines(const std::string& path, std::string_view lines, std::string* text) {
  size_t number = 0;
  while (!lines.empty()) {
    const size_t end = std::min(lines.find('\n'), lines.size());
    const std::string_view line = lines.substr(0, end);
    lines.remove_prefix(std::min(end + 1, lines.size()));
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const nlohmann::json row = ParseJson(line, fmt::format("{}:{}", path, number));
    if (!row.is_object()) {
      Fail(ErrorCode::kCorruptData, "[{}:{}] row: expected a JSON object, found {}; one object per line", path, number,
           row.type_name());
    }
    for (const auto& [key, value] : row.items()) {
      if (value.is_string()) *text += value.get_ref<const std::string&>() + "\n";
    }
    *text += "\n";
  }
}

}  // namespace

std::string ReadTexts(const std::vector<std::string>& paths) {
  std::string text;
  for (const std::string& path : paths) {
    const std::string file = ReadWholeFile(path);
    if (std::filesystem::path(path).extension() == ".jsonl") {
      AppendJsonLines(path, file, &text);
    } else {
      text += file + "\n\n";
    }
  }
  return text;
}

}  // namespace gateskip
