// SPDX-License-Identifier: Apache-2.0
// Every completion is checked by working the problem out again from its prompt alone.
#include "eval/synthetic.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "base/sha256.h"
#include "gateskip/error.h"

namespace gateskip {
namespace {

std::string SolveAddition(const std::string& prompt) {
  const size_t plus = prompt.find('+');
  std::string a = prompt.substr(0, plus);
  std::string b = prompt.substr(plus + 1, prompt.size() - plus - 2);
  std::string steps;
  int carry = 0;
  for (size_t i = a.size(); i-- > 0;) {
    const int x = a[i] - '0';
    const int y = b[i] - '0';
    steps += std::to_string(x) + "+" + std::to_string(y) + (i + 1 == a.size() ? "" : "+" + std::to_string(carry));
    const int sum = x + y + carry;
    carry = sum >= 10 ? 1 : 0;
    steps += "=" + std::to_string(sum) + "," + std::to_string(carry) + ";";
  }
  return steps + std::to_string(std::stoll(a) + std::stoll(b));
}

std::string SolveSorting(const std::string& prompt) {
  std::string left = prompt.substr(5, prompt.size() - 6);
  std::string sorted = left;
  std::ranges::sort(sorted);
  std::string steps;
  for (const char digit : sorted) {
    left.erase(left.find(digit), 1);
    steps += std::string(1, digit) + "|" + left + ";";
  }
  return steps + sorted;
}

std::string SolveLookup(const std::string& prompt) {
  const size_t colon = prompt.find(": ");
  char at = prompt[colon + 2];
  std::string steps;
  for (int left = prompt[colon + 4] - '0'; left > 0; --left) {
    const char next = prompt[prompt.find(std::string(1, at) + ">") + 2];
    steps += std::string(1, at) + ">" + next + ";";
    at = next;
  }
  return steps + at;
}

std::string SolveMixed(const std::string& prompt) {
  const size_t sum = prompt.find(". Sum: ");
  std::istringstream numbers(prompt.substr(sum + 7));
  int a = 0, b = 0, c = 0;
  char plus = 0;
  std::string then;
  numbers >> a >> plus >> b >> plus >> then >> plus >> c;
  return " The list was received in full and reads:" + prompt.substr(5, sum - 5) + ". The first sum is " +
         std::to_string(a + b) + " and the second one, after the last number, is " + std::to_string(a + b + c) +
         ". This is the end of the report.";
}

TEST(SyntheticTest, EveryAnswerIsRightAndItsKindsCoverIt) {
  const std::pair<const char*, std::string (*)(const std::string&)> solvers[] = {
      {"addition", SolveAddition}, {"sorting", SolveSorting}, {"lookup", SolveLookup}, {"mixed", SolveMixed}};
  for (const auto& [task, solve] : solvers) {
    for (const int size : {0, 2, 7}) {
      SyntheticGenerator generator(task, size, SyntheticSplit::kTrain, 5);
      for (int i = 0; i < 300; ++i) {
        const SyntheticExample example = generator.Next();
        ASSERT_EQ(example.completion, solve(example.prompt)) << example.prompt;
        ASSERT_EQ(example.kinds.size(), example.completion.size());
        ASSERT_EQ(example.kinds.find_first_not_of("bcw"), std::string::npos);
        ASSERT_NE(example.kinds.find('w'), std::string::npos);
        ASSERT_NE(example.completion.find(example.answer), std::string::npos);
      }
    }
  }
}

TEST(SyntheticTest, TrainingAndTestShareNoProblem) {
  for (const SyntheticTask& task : SyntheticTasks()) {
    SyntheticGenerator train(task.name, 0, SyntheticSplit::kTrain, 1);
    SyntheticGenerator test(task.name, 0, SyntheticSplit::kTest, 1);
    std::set<std::string> seen;
    for (int i = 0; i < 3000; ++i) seen.insert(train.Next().prompt);
    for (int i = 0; i < 300; ++i) EXPECT_FALSE(seen.contains(test.Next().prompt)) << task.name;
  }
}

TEST(SyntheticTest, TheSameSeedGivesTheSameBytesEverywhere) {
  const std::pair<const char*, const char*> hashes[] = {
      {"addition", ""}, {"sorting", ""}, {"lookup", ""}, {"mixed", ""}};
  for (const auto& [task, expected] : hashes) {
    std::string all;
    SyntheticGenerator generator(task, 0, SyntheticSplit::kTest, 7);
    for (int i = 0; i < 50; ++i) {
      const SyntheticExample example = generator.Next();
      all += example.prompt + example.completion + "\n";
    }
    EXPECT_EQ(Sha256Hex(std::as_bytes(std::span<const char>(all))).substr(0, 16), expected) << task;
  }
}

TEST(SyntheticTest, BadOptionsAreNamed) {
  const auto make = [](const char* task, int size) { SyntheticGenerator(task, size, SyntheticSplit::kTrain, 1); };
  EXPECT_THROW(make("adition", 0), Error);
  EXPECT_THROW(make("addition", 10), Error);
  EXPECT_THROW(make("sorting", 1), Error);
}

}  // namespace
}  // namespace gateskip
