// SPDX-License-Identifier: Apache-2.0
// Every completion is worked out again from its prompt by code that shares nothing with the generator.
#include "eval/synthetic.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <set>
#include <sstream>

#include "base/sha256.h"
#include "io/json.h"
#include "io/testing/expect_error.h"

namespace gateskip {
namespace {

constexpr int kExamples = 400;

std::vector<SyntheticExample> Draw(const SyntheticOptions& options, int count = kExamples) {
  SyntheticSource source(options);
  std::vector<SyntheticExample> examples;
  for (int i = 0; i < count; ++i) examples.push_back(source.Next());
  return examples;
}

std::string Sha256Of(const SyntheticOptions& options) {
  std::string text;
  for (const SyntheticExample& e : Draw(options)) text += SyntheticRecord(e) + "\n";
  return Sha256Hex(std::as_bytes(std::span<const char>(text)));
}

// What a person would write under two numbers, by school arithmetic on the strings.
std::string ColumnsOf(const std::string& a, const std::string& b) {
  std::string text;
  int carry = 0;
  for (size_t i = 1; i <= a.size(); ++i) {
    const char x = a[a.size() - i];
    const char y = b[b.size() - i];
    const int sum = (x - '0') + (y - '0') + carry;
    text += std::string(1, x) + "+" + y + "+" + std::to_string(carry) + "=" + (sum < 10 ? "0" : "") +
            std::to_string(sum) + ",";
    carry = sum / 10;
  }
  return text;
}

int64_t Number(const std::string& digits) {
  int64_t value = -1;
  std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return value;
}

struct Sum {
  std::string a, b;
  std::string total() const { return std::to_string(Number(a) + Number(b)); }
};

Sum SumOf(const std::string& text) {
  const size_t plus = text.find('+');
  return {text.substr(0, plus), text.substr(plus + 1)};
}

void CheckAddition(const SyntheticExample& e) {
  ASSERT_EQ(e.prompt.back(), ':');
  const Sum sum = SumOf(e.prompt.substr(0, e.prompt.size() - 1));
  EXPECT_EQ(e.completion, ColumnsOf(sum.a, sum.b) + "=" + sum.total());
  EXPECT_EQ(e.answer, sum.total());
}

std::string Words(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

void CheckSorting(const SyntheticExample& e) {
  std::istringstream prompt(e.prompt.substr(0, e.prompt.size() - 1));
  std::string word;
  prompt >> word;
  ASSERT_EQ(word, "sort");
  std::vector<std::string> left;
  while (prompt >> word) left.push_back(word);
  std::vector<std::string> sorted = left;  // of equal width, so letters sort as numbers
  std::sort(sorted.begin(), sorted.end());
  std::string expected;
  for (const std::string& smallest : sorted) {
    left.erase(std::find(left.begin(), left.end(), smallest));
    expected += smallest + "<" + Words(left) + ",";
  }
  EXPECT_EQ(e.completion, expected + "=" + Words(sorted));
  EXPECT_EQ(e.answer, Words(sorted));
}

void CheckLookup(const SyntheticExample& e) {
  const size_t end = e.prompt.find(';');
  std::map<char, char> arrow;
  for (size_t at = 0; at < end; at += 4) {
    EXPECT_EQ(e.prompt[at + 1], '>');
    EXPECT_TRUE(arrow.emplace(e.prompt[at], e.prompt[at + 2]).second) << "two arrows from one letter";
  }
  const size_t from = e.prompt.find(" from ", end);
  const int steps = static_cast<int>(Number(e.prompt.substr(end + 1, from - end - 1)));
  char at = e.prompt[from + 6];
  std::string expected;
  for (int i = 0; i < steps; ++i) {
    ASSERT_TRUE(arrow.contains(at));
    expected += std::string(1, at) + ">" + arrow[at] + ",";
    at = arrow[at];
  }
  ASSERT_TRUE(arrow.contains(at)) << "an end without an arrow gives the number of steps away";
  EXPECT_EQ(e.completion, expected + "=" + at);
  EXPECT_EQ(e.answer, std::string(1, at));
}

void CheckMixed(const SyntheticExample& e) {
  const size_t note_end = e.prompt.find(".\nsum: ");
  ASSERT_EQ(e.prompt.substr(0, 6), "note: ");
  const std::string note = e.prompt.substr(6, note_end - 6);
  const Sum sum = SumOf(e.prompt.substr(note_end + 7, e.prompt.size() - note_end - 8));
  EXPECT_EQ(e.completion,
            "The note says: " + note + ". The sum of the two is " + ColumnsOf(sum.a, sum.b) + " so =" + sum.total());
  EXPECT_EQ(e.answer, sum.total());
  const size_t at = e.completion.find(note);
  EXPECT_EQ(e.kinds.substr(at, note.size()), std::string(note.size(), kCopyKind));
}

struct TaskCase {
  SyntheticTask task;
  void (*check)(const SyntheticExample&);
  const char* sha256;  // of 400 training records of seed 1
};

const TaskCase kTasks[] = {
    {SyntheticTask::kAddition, CheckAddition, "45904bd63eade0eb40cc7689a4e3e34d6f08cbfaf2e0591a376a921a373d1984"},
    {SyntheticTask::kSorting, CheckSorting, "b136ec6c2342ecc0fd0ae4a0126b42c128dcfba67c1a8e40718e5f724df880ca"},
    {SyntheticTask::kLookup, CheckLookup, "6bf9fc03d5158c7be521851b4172c469227602facfcee38da2b119a48020e594"},
    {SyntheticTask::kMixed, CheckMixed, "ef6fe3c7e9e8f7dd98c2591909b5128e96b70e75fdb170ac75ab7973648a7415"},
};

class SyntheticTest : public ::testing::TestWithParam<TaskCase> {};

TEST_P(SyntheticTest, EveryCompletionIsRight) {
  const SyntheticTask task = GetParam().task;
  const SyntheticSizes sizes = SizesOf(task);
  for (const int size : {sizes.smallest + 1, 0, sizes.largest}) {
    for (const SyntheticExample& e : Draw({.task = task, .seed = 7, .size = size})) {
      SCOPED_TRACE(e.prompt + e.completion);
      GetParam().check(e);
      ASSERT_EQ(e.kinds.size(), e.completion.size());
      EXPECT_EQ(e.kinds.find_first_not_of("bcw"), std::string::npos);
      EXPECT_TRUE(e.completion.ends_with("=" + e.answer));
    }
  }
}

// The kinds tell what is always there from what depends on the problem.
TEST_P(SyntheticTest, BoilerplateIsTheSameInEveryCompletion) {
  std::string first;
  for (const SyntheticExample& e : Draw({.task = GetParam().task})) {
    std::string fixed;
    for (size_t i = 0; i < e.kinds.size(); ++i) {
      if (e.kinds[i] == kBoilerplateKind) fixed += e.completion[i];
    }
    if (first.empty()) first = fixed;
    EXPECT_EQ(fixed, first);
    EXPECT_NE(e.kinds.find(kWorkKind), std::string::npos);
  }
}

TEST_P(SyntheticTest, TheSameBytesEverywhere) {
  const SyntheticTask task = GetParam().task;
  EXPECT_EQ(Sha256Of({.task = task}), GetParam().sha256);
  EXPECT_NE(Sha256Of({.task = task, .seed = 2}), GetParam().sha256);
}

TEST_P(SyntheticTest, SplitsShareNoProblemWhateverTheSeed) {
  const SyntheticTask task = GetParam().task;
  // The sum alone counts for the mixed task, the sentence around it does not.
  const auto problem = [&](const SyntheticExample& e) {
    return task == SyntheticTask::kMixed ? e.prompt.substr(e.prompt.find("sum: ")) : e.prompt;
  };
  std::set<std::string> train;
  std::set<std::string> prompts;
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    prompts.clear();
    for (const SyntheticExample& e : Draw({.task = task, .seed = seed})) {
      train.insert(problem(e));
      EXPECT_TRUE(prompts.insert(e.prompt).second) << "twice: " << e.prompt;
    }
    for (const SyntheticExample& e : Draw({.task = task, .split = SyntheticSplit::kTest, .seed = seed})) {
      EXPECT_FALSE(train.contains(problem(e))) << e.prompt;
    }
  }
}

TEST_P(SyntheticTest, ARecordIsALineOfJson) {
  const SyntheticExample e = Draw({.task = GetParam().task}, 1).front();
  const std::string line = SyntheticRecord(e);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  const auto record = ParseJson(line, "record");
  EXPECT_EQ(record["prompt"], e.prompt);
  EXPECT_EQ(record["completion"], e.completion);
  EXPECT_EQ(record["answer"], e.answer);
  EXPECT_EQ(record["kinds"], e.kinds);
  EXPECT_EQ(record.size(), 4U);
}

TEST_P(SyntheticTest, SizesOutOfRangeAreRefused) {
  const SyntheticSizes sizes = SizesOf(GetParam().task);
  for (const int size : {sizes.smallest - 1, sizes.largest + 1, -1}) {
    if (size == 0) continue;
    testing::ExpectError([&] { SyntheticSource({.task = GetParam().task, .size = size}); }, ErrorCode::kInvalidArgument,
                         "size of");
  }
}

INSTANTIATE_TEST_SUITE_P(Tasks, SyntheticTest, ::testing::ValuesIn(kTasks),
                         [](const auto& test) { return SyntheticTaskNames()[static_cast<size_t>(test.param.task)]; });

TEST(SyntheticSourceTest, SaysWhenThereAreNoMoreProblems) {
  // Two numbers of one digit: 81 problems, of which about a tenth are for testing.
  SyntheticSource source({.task = SyntheticTask::kAddition, .split = SyntheticSplit::kTest, .size = 1});
  const auto all = [&] {
    for (int i = 0; i < 82; ++i) source.Next();
  };
  testing::ExpectError(all, ErrorCode::kLimitExceeded, "hardly any more");
}

}  // namespace
}  // namespace gateskip
