// SPDX-License-Identifier: Apache-2.0
#include "eval/synthetic.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>

#include "base/check.h"
#include "io/json.h"
#include "train/random.h"

namespace gateskip {
namespace {

using train::Random;

constexpr int kMaxMisses = 1000;     // draws in a row that were of the other split or there already
constexpr uint64_t kTestEvery = 10;  // one problem in so many is for testing
constexpr size_t kExtraKeys = 3;     // of a look-up's table, beside those on the path

constexpr std::array kAdjectives = {"old",  "red",  "small", "quiet", "young", "green", "cold", "bright",
                                    "tall", "dark", "soft",  "happy", "slow",  "blue",  "warm", "wild"};
constexpr std::array kNouns = {"fox",   "boat", "tree", "river", "house",  "bird", "stone", "girl",
                               "horse", "door", "king", "cat",   "garden", "ship", "road",  "teacher"};
constexpr std::array kVerbs = {"sees", "finds", "follows", "likes", "hears", "leaves", "paints", "remembers"};
constexpr std::array kPlaces = {"near the lake", "in the city",   "before the winter", "after the rain",
                                "on the hill",   "at the market", "behind the wall",   "under the moon"};

// A problem that is drawn but not yet written down.
struct Draft {
  SyntheticExample example;
  std::string problem;  // what decides the split
};

int Between(Random& random, int low, int high) {
  return low + static_cast<int>(random.Below(static_cast<uint64_t>(high - low) + 1));
}

template <typename Words>
const char* Pick(Random& random, const Words& words) {
  return words[random.Below(words.size())];
}

void Write(SyntheticExample& e, std::string_view text, char kind) {
  e.completion += text;
  e.kinds.append(text.size(), kind);
}

// A number of so many digits, the first of them not 0.
int NumberOf(Random& random, int digits) {
  int low = 1;
  for (int i = 1; i < digits; ++i) low *= 10;
  return Between(random, low, 10 * low - 1);
}

// "7+5+0=12,4+8+1=13,": the digits of each column, the carry, and the sum in two digits.
void WriteColumns(SyntheticExample& e, int a, int b, int digits) {
  int carry = 0;
  for (int i = 0; i < digits; ++i, a /= 10, b /= 10) {
    const int sum = a % 10 + b % 10 + carry;
    Write(e, fmt::format("{}", a % 10), kCopyKind);
    Write(e, "+", kBoilerplateKind);
    Write(e, fmt::format("{}", b % 10), kCopyKind);
    Write(e, "+", kBoilerplateKind);
    Write(e, fmt::format("{}", carry), kCopyKind);
    Write(e, "=", kBoilerplateKind);
    Write(e, fmt::format("{:02}", sum), kWorkKind);
    Write(e, ",", kBoilerplateKind);
    carry = sum / 10;
  }
}

Draft Addition(Random& random, int digits) {
  const int a = NumberOf(random, digits);
  const int b = NumberOf(random, digits);
  Draft d;
  d.problem = fmt::format("{}+{}", a, b);
  d.example.prompt = d.problem + ":";
  d.example.answer = fmt::format("{}", a + b);
  WriteColumns(d.example, a, b, digits);
  Write(d.example, "=", kBoilerplateKind);
  Write(d.example, d.example.answer, kWorkKind);
  return d;
}

std::string Join(std::span<const int> numbers) {
  std::string text;
  for (const int n : numbers) text += fmt::format("{}{:02}", text.empty() ? "" : " ", n);
  return text;
}

// "sort 37 12 05:" -> "05<37 12,12<37,37<,=05 12 37": the smallest, and what is left of the list.
Draft Sorting(Random& random, int count) {
  std::vector<int> left(static_cast<size_t>(count));
  for (int& n : left) n = Between(random, 0, 99);
  Draft d;
  d.problem = "sort " + Join(left);
  d.example.prompt = d.problem + ":";
  std::vector<int> sorted;
  while (!left.empty()) {
    const auto smallest = std::min_element(left.begin(), left.end());
    sorted.push_back(*smallest);
    Write(d.example, fmt::format("{:02}", *smallest), kWorkKind);
    left.erase(smallest);
    Write(d.example, "<", kBoilerplateKind);
    Write(d.example, Join(left), kCopyKind);
    Write(d.example, ",", kBoilerplateKind);
  }
  d.example.answer = Join(sorted);
  Write(d.example, "=", kBoilerplateKind);
  Write(d.example, d.example.answer, kCopyKind);
  return d;
}

// "Q>K,M>A,K>M;2 from Q:" -> "Q>K,K>M,=M": a path of different letters, the other arrows lead anywhere.
Draft Lookup(Random& random, int steps) {
  std::vector<char> letters;
  for (char c = 'A'; c <= 'Z'; ++c) letters.push_back(c);
  for (size_t i = letters.size() - 1; i > 0; --i) std::swap(letters[i], letters[random.Below(i + 1)]);
  const auto path = std::span(letters).first(static_cast<size_t>(steps) + 1);
  const size_t num_keys = path.size() + kExtraKeys;
  std::vector<std::string> arrows;
  for (size_t i = 0; i < num_keys; ++i) {
    const char to = i + 1 < path.size() ? path[i + 1] : letters[random.Below(num_keys)];
    arrows.push_back(fmt::format("{}>{}", letters[i], to));
  }
  for (size_t i = arrows.size() - 1; i > 0; --i) std::swap(arrows[i], arrows[random.Below(i + 1)]);
  Draft d;
  d.problem = fmt::format("{};{} from {}", fmt::join(arrows, ","), steps, path.front());
  d.example.prompt = d.problem + ":";
  for (size_t i = 0; i + 1 < path.size(); ++i) {
    Write(d.example, std::string(1, path[i]), kCopyKind);
    Write(d.example, ">", kBoilerplateKind);
    Write(d.example, std::string(1, path[i + 1]), kWorkKind);
    Write(d.example, ",", kBoilerplateKind);
  }
  d.example.answer = std::string(1, path.back());
  Write(d.example, "=", kBoilerplateKind);
  Write(d.example, d.example.answer, kCopyKind);
  return d;
}

Draft Mixed(Random& random, int digits) {
  const int a = NumberOf(random, digits);
  const int b = NumberOf(random, digits);
  // Each draw is a statement: the order in which a call's arguments are evaluated is the compiler's.
  std::string note = "the";
  const auto add = [&](const char* word) { note += std::string(" ") + word; };
  add(Pick(random, kAdjectives));
  add(Pick(random, kNouns));
  add(Pick(random, kVerbs));
  add("the");
  add(Pick(random, kAdjectives));
  add(Pick(random, kNouns));
  add(Pick(random, kPlaces));
  Draft d;
  d.problem = fmt::format("{}+{}", a, b);
  d.example.prompt = fmt::format("note: {}.\nsum: {}\n", note, d.problem);
  d.example.answer = fmt::format("{}", a + b);
  Write(d.example, "The note says: ", kBoilerplateKind);
  Write(d.example, note, kCopyKind);
  Write(d.example, ". The sum of the two is ", kBoilerplateKind);
  WriteColumns(d.example, a, b, digits);
  Write(d.example, " so =", kBoilerplateKind);
  Write(d.example, d.example.answer, kWorkKind);
  return d;
}

Draft Draw(SyntheticTask task, int size, Random& random) {
  switch (task) {
    case SyntheticTask::kAddition:
      return Addition(random, size);
    case SyntheticTask::kSorting:
      return Sorting(random, size);
    case SyntheticTask::kLookup:
      return Lookup(random, size);
    case SyntheticTask::kMixed:
      return Mixed(random, size);
  }
  GS_CHECK(false);
}

// FNV-1a, its bits then mixed: FNV's low bits alone follow the last characters too closely.
SyntheticSplit SplitOf(std::string_view problem) {
  uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : problem) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return train::Mix64(hash) % kTestEvery == 0 ? SyntheticSplit::kTest : SyntheticSplit::kTrain;
}

}  // namespace

const std::vector<std::string>& SyntheticTaskNames() {
  static const std::vector<std::string> kNames = {"addition", "sorting", "lookup", "mixed"};
  return kNames;
}

const std::vector<std::string>& SyntheticSplitNames() {
  static const std::vector<std::string> kNames = {"train", "test"};
  return kNames;
}

SyntheticSizes SizesOf(SyntheticTask task) {
  switch (task) {
    case SyntheticTask::kAddition:
      return {1, 3, 9};  // sums of nine digits fit an int
    case SyntheticTask::kSorting:
      return {2, 4, 16};
    case SyntheticTask::kLookup:
      return {1, 4, 22};  // the path and the extra keys are letters of the alphabet
    case SyntheticTask::kMixed:
      return {1, 2, 9};
  }
  GS_CHECK(false);
}

SyntheticSource::SyntheticSource(const SyntheticOptions& options) : options_(options) {
  const SyntheticSizes sizes = SizesOf(options.task);
  if (options_.size == 0) options_.size = sizes.usual;
  if (options_.size < sizes.smallest || options_.size > sizes.largest) {
    Fail(ErrorCode::kInvalidArgument, "[synthetic] size of {}: expected {} to {}, found {}; correct it",
         SyntheticTaskNames()[static_cast<size_t>(options_.task)], sizes.smallest, sizes.largest, options_.size);
  }
}

SyntheticExample SyntheticSource::Next() {
  for (int misses = 0; misses < kMaxMisses; ++misses) {
    Random random(options_.seed, train::Stream::kSynthetic, draws_++);
    Draft draft = Draw(options_.task, options_.size, random);
    if (SplitOf(draft.problem) != options_.split || !seen_.insert(draft.example.prompt).second) continue;
    return std::move(draft.example);
  }
  Fail(ErrorCode::kLimitExceeded,
       "[synthetic] {}: expected another problem of size {}, found {} and hardly any more; ask for fewer examples or a "
       "larger size",
       SyntheticTaskNames()[static_cast<size_t>(options_.task)], options_.size, seen_.size());
}

std::string SyntheticRecord(const SyntheticExample& example) {
  nlohmann::ordered_json record;
  record["prompt"] = example.prompt;
  record["completion"] = example.completion;
  record["answer"] = example.answer;
  record["kinds"] = example.kinds;
  return record.dump();
}

}  // namespace gateskip
