// SPDX-License-Identifier: Apache-2.0
// Reasoning tasks made by the project: short, exactly checkable, learned by a small model in minutes. They show what
// skipping does to long-form generation, where one wrong token spoils the answer, without outside data.
//
//   addition  473+289=        3+9=12,1;7+8+1=16,1;4+2+1=7,0;762          columns from the right: sum, carry
//   sorting   sort 5291=      1|529;2|59;5|9;9|;1259                     the least, and what is left
//   lookup    a>d b>f ... : c 3=   c>a;a>d;d>b;b                         follow the arrows so many steps
//   mixed     a report: fixed words, words to copy, and two sums         tokens of very different difficulty
//
// The same seed gives the same bytes everywhere. A problem belongs to the training or the test split by a hash of its
// text, so the two never share one.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <string_view>

namespace gateskip {

struct SyntheticExample {
  std::string prompt;
  std::string completion;
  std::string answer;  // the end of the completion
  // One letter per byte of the completion: 'b' words that are always there, 'c' copied from the prompt, 'w' work.
  std::string kinds;
};

struct SyntheticTask {
  std::string_view name;
  std::string_view description;
};

std::span<const SyntheticTask> SyntheticTasks();

enum class SyntheticSplit { kTrain, kTest };

class SyntheticGenerator {
 public:
  // `size` is what makes it harder: digits of the numbers, length of the list, steps to follow; 0: the task's own.
  // Throws Error(kInvalidArgument) for an unknown task or a size out of range.
  SyntheticGenerator(std::string_view task, int size, SyntheticSplit split, uint64_t seed);

  SyntheticExample Next();

 private:
  uint64_t Below(uint64_t n);  // uniform in [0, n)
  SyntheticExample Draw();
  SyntheticExample Addition();
  SyntheticExample Sorting();
  SyntheticExample Lookup();
  SyntheticExample Mixed();

  std::string task_;
  int size_;
  SyntheticSplit split_;
  std::mt19937_64 random_;
};

}  // namespace gateskip
