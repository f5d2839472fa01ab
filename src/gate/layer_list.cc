// SPDX-License-Identifier: Apache-2.0
#include "gate/layer_list.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/check.h"

namespace gateskip {
namespace {

constexpr size_t kShownChars = 60;

class Parser {
 public:
  Parser(int num_layers, const std::string& option) : n_(num_layers), option_(option) {}

  void Item(std::string_view item, std::vector<bool>* picked) const {
    const size_t colon = item.find(':');
    if (colon == std::string_view::npos) {
      const int layer = FromEnd(Number(item, item).value_or(n_));
      if (layer < 0 || layer >= n_) {
        FailItem(fmt::format("a layer from 0 to {} (or -1 to {} from the end)", n_ - 1, -n_), item);
      }
      (*picked)[static_cast<size_t>(layer)] = true;
      return;
    }
    const size_t second = std::min(item.find(':', colon + 1), item.size());
    const auto begin = Number(item.substr(0, colon), item);
    const auto end = Number(item.substr(colon + 1, second - colon - 1), item);
    const auto step = Number(item.substr(std::min(second + 1, item.size())), item);
    if (step.value_or(1) < 1) FailItem("a slice with a step of at least 1", item);
    const int first = std::clamp(FromEnd(begin.value_or(0)), 0, n_);
    const int last = std::clamp(FromEnd(end.value_or(n_)), 0, n_);
    for (int layer = first; layer < last; layer += std::min(step.value_or(1), n_)) {
      (*picked)[static_cast<size_t>(layer)] = true;
    }
  }

 private:
  int FromEnd(int number) const { return number < 0 ? number + n_ : number; }

  std::optional<int> Number(std::string_view text, std::string_view item) const {
    if (text.empty()) return std::nullopt;
    int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) FailItem("an index or a slice", item);
    return value;
  }

  [[noreturn]] void FailItem(const std::string& expected, std::string_view found) const {
    std::string shown(found.substr(0, kShownChars));
    std::ranges::replace_if(
        shown, [](char c) { return c < ' ' || c > '~'; }, '?');
    Fail(ErrorCode::kInvalidArgument, "[{}] layers: expected {}, found '{}'{}; write them like 0,3,5:9 or ::2", option_,
         expected, shown, found.size() > kShownChars ? " and more" : "");
  }

  int n_;
  const std::string& option_;
};

}  // namespace

std::vector<bool> ParseLayers(std::string_view text, int num_layers, const std::string& option) {
  std::vector<bool> picked(static_cast<size_t>(num_layers));
  if (text.empty()) return picked;
  const Parser parser(num_layers, option);
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    parser.Item(text.substr(begin, end - begin), &picked);
    begin = end + 1;
  }
  return picked;
}

}  // namespace gateskip
