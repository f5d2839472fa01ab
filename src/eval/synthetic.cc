// SPDX-License-Identifier: Apache-2.0
#include "eval/synthetic.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/nearest_name.h"

namespace gateskip {
namespace {

constexpr SyntheticTask kTasks[] = {
    {"addition", "two numbers, column by column, with the carry written out"},
    {"sorting", "digits, the least one first, step by step"},
    {"lookup", "arrows between letters, followed so many steps"},
    {"mixed", "a report of fixed words, copied words and two sums"},
};
struct SizeRange {
  int usual, low, high;
};
constexpr SizeRange kSizes[] = {{3, 1, 9}, {4, 2, 9}, {3, 1, 9}, {6, 1, 20}};

constexpr uint64_t kTestShare = 8;  // one problem in so many is a test problem

constexpr const char* kWords[] = {"amber",  "birch",  "cedar",  "delta", "ember", "fern",   "glass",  "harbor",
                                  "iron",   "jasper", "kettle", "lemon", "maple", "north",  "ocean",  "paper",
                                  "quartz", "river",  "stone",  "tulip", "umber", "velvet", "willow", "yellow"};

// FNV-1a.
uint64_t Hash(std::string_view text) {
  uint64_t hash = 14695981039346656037ULL;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  return hash ^ (hash >> 29);
}

// A completion that grows in parts of one kind.
class Parts {
 public:
  void Add(char kind, std::string_view text) {
    example.completion += text;
    example.kinds.append(text.size(), kind);
  }
  SyntheticExample example;
};

}  // namespace

std::span<const SyntheticTask> SyntheticTasks() { return kTasks; }

SyntheticGenerator::SyntheticGenerator(std::string_view task, int size, SyntheticSplit split, uint64_t seed)
    : task_(task), size_(size), split_(split), random_(seed) {
  std::vector<std::string> names;
  for (size_t i = 0; i < std::size(kTasks); ++i) {
    names.emplace_back(kTasks[i].name);
    if (kTasks[i].name != task) continue;
    const SizeRange& range = kSizes[i];
    if (size_ == 0) size_ = range.usual;
    if (size_ < range.low || size_ > range.high) {
      Fail(ErrorCode::kInvalidArgument, "[synthetic] size of {}: expected {} to {}, found {}; 0 is its own", task,
           range.low, range.high, size);
    }
    return;
  }
  const std::string nearest = NearestName(names, task);
  Fail(ErrorCode::kInvalidArgument, "[synthetic] task: expected one of {}, found '{}'{}", fmt::join(names, ", "), task,
       nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest));
}

// Rejection keeps it uniform; std::uniform_int_distribution is not the same everywhere.
uint64_t SyntheticGenerator::Below(uint64_t n) {
  const uint64_t limit = UINT64_MAX - UINT64_MAX % n;
  for (;;) {
    const uint64_t draw = random_();
    if (draw < limit) return draw % n;
  }
}

SyntheticExample SyntheticGenerator::Next() {
  for (;;) {
    SyntheticExample example = Draw();
    const bool is_test = Hash(example.prompt) % kTestShare == 0;
    if (is_test == (split_ == SyntheticSplit::kTest)) return example;
  }
}

SyntheticExample SyntheticGenerator::Draw() {
  if (task_ == "addition") return Addition();
  if (task_ == "sorting") return Sorting();
  if (task_ == "lookup") return Lookup();
  return Mixed();
}

SyntheticExample SyntheticGenerator::Addition() {
  uint64_t low = 1;
  for (int i = 1; i < size_; ++i) low *= 10;
  const uint64_t a = low + Below(9 * low);
  const uint64_t b = low + Below(9 * low);
  Parts parts;
  parts.example.prompt = fmt::format("{}+{}=", a, b);
  uint64_t carry = 0;
  uint64_t x = a;
  uint64_t y = b;
  for (int column = 0; column < size_; ++column, x /= 10, y /= 10) {
    const uint64_t sum = x % 10 + y % 10 + carry;
    parts.Add('c', column == 0 ? fmt::format("{}+{}", x % 10, y % 10) : fmt::format("{}+{}+{}", x % 10, y % 10, carry));
    carry = sum / 10;
    parts.Add('b', "=");
    parts.Add('w', fmt::format("{}", sum));
    parts.Add('b', ",");
    parts.Add('w', fmt::format("{}", carry));
    parts.Add('b', ";");
  }
  parts.example.answer = fmt::format("{}", a + b);
  parts.Add('c', parts.example.answer);
  return std::move(parts.example);
}

SyntheticExample SyntheticGenerator::Sorting() {
  std::string digits = "0123456789";
  for (size_t i = digits.size(); i > 1; --i) std::swap(digits[i - 1], digits[Below(i)]);
  digits.resize(static_cast<size_t>(size_));
  Parts parts;
  parts.example.prompt = fmt::format("sort {}=", digits);
  std::string sorted;
  while (!digits.empty()) {
    const size_t least = static_cast<size_t>(std::ranges::min_element(digits) - digits.begin());
    sorted += digits[least];
    parts.Add('w', digits.substr(least, 1));
    parts.Add('b', "|");
    digits.erase(least, 1);
    parts.Add('c', digits);
    parts.Add('b', ";");
  }
  parts.example.answer = sorted;
  parts.Add('c', sorted);
  return std::move(parts.example);
}

SyntheticExample SyntheticGenerator::Lookup() {
  constexpr size_t kLetters = 8;
  std::string targets = "abcdefgh";
  for (size_t i = kLetters; i > 1; --i) std::swap(targets[i - 1], targets[Below(i)]);
  Parts parts;
  for (size_t i = 0; i < kLetters; ++i) {
    parts.example.prompt += fmt::format("{}>{} ", static_cast<char>('a' + static_cast<char>(i)), targets[i]);
  }
  char at = static_cast<char>('a' + static_cast<char>(Below(kLetters)));
  parts.example.prompt += fmt::format(": {} {}=", at, size_);
  for (int step = 0; step < size_; ++step) {
    const char next = targets[static_cast<size_t>(at - 'a')];
    parts.Add('c', std::string(1, at));
    parts.Add('b', ">");
    parts.Add('w', std::string(1, next));
    parts.Add('b', ";");
    at = next;
  }
  parts.example.answer = std::string(1, at);
  parts.Add('c', parts.example.answer);
  return std::move(parts.example);
}

SyntheticExample SyntheticGenerator::Mixed() {
  std::string words;
  for (int i = 0; i < size_; ++i) words += fmt::format(" {}", kWords[Below(std::size(kWords))]);
  const uint64_t a = 10 + Below(90);
  const uint64_t b = 10 + Below(90);
  const uint64_t c = 1 + Below(9);
  Parts parts;
  parts.example.prompt = fmt::format("List:{}. Sum: {}+{}, then +{}. Report:", words, a, b, c);
  parts.Add('b', " The list was received in full and reads:");
  parts.Add('c', words);
  parts.Add('b', fmt::format(". The first sum is "));
  parts.Add('w', fmt::format("{}", a + b));
  parts.Add('b', " and the second one, after the last number, is ");
  parts.example.answer = fmt::format("{}", a + b + c);
  parts.Add('w', parts.example.answer);
  parts.Add('b', ". This is the end of the report.");
  return std::move(parts.example);
}

}  // namespace gateskip
