// SPDX-License-Identifier: Apache-2.0
// Task files and data sets: what is read, what is asked of a model, what is refused and how. The documents are made up
// in the schema of each data set.
#include "eval/task.h"

#include <gtest/gtest.h>

#include <cmath>

#include "eval/dataset.h"
#include "eval/process_docs.h"
#include "gateskip/error.h"
#include "io/testing/temp_directory.h"

namespace gateskip {
namespace {

using testing::TempDirectory;

std::unique_ptr<Task> LoadTask(const std::string& name, const std::string& path, TaskOptions options = {}) {
  options.data_path = path;
  return Task::Load(BuiltinTask(name), options);
}

template <typename F>
std::string MessageOf(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

bool Has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(BuiltinTasksTest, AllParse) {
  EXPECT_GE(BuiltinTaskNames().size(), 17U);
  for (const std::string& name : BuiltinTaskNames()) EXPECT_EQ(BuiltinTask(name).name, name);
  EXPECT_TRUE(Has(MessageOf([] { BuiltinTask("pica"); }), "did you mean 'piqa'"));
}

TEST(BuiltinTasksTest, AskWhatTheHarnessAsks) {
  const TempDirectory dir;
  dir.Write("valid.jsonl", R"({"goal":"Dry a cup","sol1":"use a towel","sol2":"use a fish"})"
                           "\n");
  dir.Write("valid-labels.lst", "0\n");
  auto task = LoadTask("piqa", dir.path());
  ASSERT_EQ(task->size(), 1U);
  EXPECT_EQ(task->instance(0).requests[1].context, "Question: Dry a cup\nAnswer:");
  EXPECT_EQ(task->instance(0).requests[1].continuation, " use a fish");
  // acc: -3 > -5. acc_norm: -3 / 11 < -2.5 / 10 = -0.25.
  const auto scores = task->Score(0, {{-3.0, -2.5}, {0, 0}, ""});
  EXPECT_EQ(scores[0].value, 0);
  EXPECT_EQ(scores[1].value, 0);
  EXPECT_EQ(task->Score(0, {{-2.6, -2.5}, {0, 0}, ""})[1].value, 1) << "by length the first is better";
  EXPECT_NEAR(*task->Aggregate({})[0].chance, 0.5, 1e-12);

  dir.Write("dev.jsonl",
            R"({"sentence":"Ann thanked Bea because _ had helped.","option1":"Ann","option2":"Bea","answer":"2"})");
  task = LoadTask("winogrande", dir / "dev.jsonl");
  EXPECT_EQ(task->instance(0).requests[1].context, "Ann thanked Bea because Bea");
  EXPECT_EQ(task->instance(0).requests[1].continuation, " had helped.");
  EXPECT_EQ(task->Score(0, {{-2, -1}, {0, 0}, ""})[0].value, 1);

  dir.Write("l.jsonl", R"({"text":"He took his hat and left the house"})");
  task = LoadTask("lambada_openai", dir / "l.jsonl");
  EXPECT_EQ(task->instance(0).requests[0].context, "He took his hat and left the");
  EXPECT_EQ(task->instance(0).requests[0].continuation, " house");

  dir.Write("h.txt", "Tea: [header] Pour water [title] in. He\n2\nsits.\nruns [x].\ndrinks  it.\nflies.\n");
  task = LoadTask("hellaswag_lines", dir / "h.txt");
  EXPECT_EQ(task->instance(0).requests[2].context, "Tea: Pour water. in. He")
      << "brackets go, double spaces become one";
  EXPECT_EQ(task->instance(0).requests[2].continuation, " drinks it.");
}

TEST(BuiltinTasksTest, ReadEveryFormOfAData) {
  const TempDirectory dir;
  const std::string published =
      R"({"question":{"stem":"Which is hot?","choices":[{"label":"A","text":"ice"},{"label":"B","text":"fire"}]},"answerKey":"B"})";
  const std::string hub =
      R"({"question":"Which is hot?","choices":{"label":["A","B"],"text":["ice","fire"]},"answerKey":"B"})";
  const std::string instruction =
      R"([{"instruction":"Please choose the correct answer to the question: Which is hot?\n\nAnswer1: ice Answer2: fire\n\nAnswer format: answer1/answer2","answer":"answer2"}])";
  for (const std::string& text : {published, hub, instruction}) {
    const auto task = LoadTask("arc_easy", dir.Write("a", text));
    EXPECT_EQ(task->instance(0).requests[1].context, "Question: Which is hot?\nAnswer:") << text;
    EXPECT_EQ(task->instance(0).requests[1].continuation, " fire");
    EXPECT_EQ(task->Score(0, {{-2, -1}, {0, 0}, ""})[0].value, 1);
  }
  for (const char* text : {"\"What, \"\"now\"\"?\",1,2,3,4,C\n",
                           "question,choice0,choice1,choice2,choice3,answer\n\"What, "
                           "\"\"now\"\"?\",1,2,3,4,2\n"}) {
    const auto task = LoadTask("mmlu_stem", dir.Write("x.csv", text));
    EXPECT_EQ(task->instance(0).requests[0].context, "What, \"now\"?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:");
    EXPECT_EQ(task->Score(0, {{-2, -2, -1, -3}, {0, 0, 0, 0}, ""})[0].value, 1);
  }
  dir.Write("queries.json", R"({"queries":[{"id":"q","context":"The cat sat.","question":"Who sat?"}]})");
  dir.Write("ground_truth.json", R"({"q":{"answers":["The cat","cat"],"is_impossible":false}})");
  const auto flat = LoadTask("squadv2", dir.path());
  const std::string squad =
      R"({"data":[{"title":"T","paragraphs":[{"context":"The cat sat.","qas":[{"id":"q","question":"Who sat?","answers":[{"text":"The cat"}]}]}]}]})";
  const auto nested = LoadTask("squadv2", dir.Write("dev.json", squad));
  for (const Task* task : {flat.get(), nested.get()}) {
    EXPECT_TRUE(
        Has(task->instance(0).requests[0].context, "Background: The cat sat.\n\nQuestion: Who sat?\n\nAnswer:"));
    EXPECT_EQ(task->Score(0, {{}, {}, " a cat"})[0].value, 100);
  }
}

TEST(BuiltinTasksTest, WikiTextIsCutIntoArticlesAndCountedAsPublished) {
  const TempDirectory dir;
  const auto task =
      LoadTask("wikitext", dir.Write("w.txt", " = One = \n \n A b , c . \n = = Part = = \n d\n = Two = \n e\n"));
  ASSERT_EQ(task->size(), 2U);
  EXPECT_EQ(task->instance(0).requests[0].continuation, " = One =\n\nA b, c.\n== Part ==\nd\n");
  // Split at white space, as Python does: "", =, One, =, A, b, ",", c, ., =, =, Part, =, =, d, "".
  const auto scores = task->Score(0, {{-32}, {0}, ""});
  EXPECT_EQ(scores[0].weight, 16);
}

TEST(TaskTest, ExamplesInFrontNeverHoldTheQuestionItself) {
  const TempDirectory dir;
  std::string lines;
  for (int i = 0; i < 6; ++i)
    lines += R"({"question":"q)" + std::to_string(i) + R"(","answer":"#### )" + std::to_string(i) + "\"}\n";
  dir.Write("test.jsonl", lines);
  dir.Write("train.jsonl", lines);
  TaskOptions options;
  options.num_fewshot = 3;
  options.limit = 4;
  const auto task = LoadTask("gsm8k", dir.path(), options);
  ASSERT_EQ(task->size(), 4U);
  EXPECT_EQ(task->num_fewshot(), 3);
  for (size_t i = 0; i < task->size(); ++i) {
    const std::string& context = task->instance(i).requests[0].context;
    const std::string own = "Question: q" + std::to_string(i) + "\nAnswer:";
    EXPECT_TRUE(context.ends_with("\n\n" + own)) << context;
    EXPECT_EQ(context.find(own), context.size() - own.size());
    size_t examples = 0;
    for (size_t at = context.find("#### "); at != std::string::npos; at = context.find("#### ", at + 1)) ++examples;
    EXPECT_EQ(examples, 3U);
  }
  EXPECT_EQ(task->instance(0).requests[0].context,
            LoadTask("gsm8k", dir.path(), options)->instance(0).requests[0].context);
}

TEST(TaskTest, BadDataIsNamed) {
  const TempDirectory dir;
  const auto message = [&](const std::string& task, const std::string& path) {
    return MessageOf([&] { LoadTask(task, path); });
  };
  EXPECT_TRUE(Has(message("piqa", dir / "absent"), "found nothing"));
  EXPECT_TRUE(Has(message("piqa", dir.path()), "valid.jsonl"));
  EXPECT_TRUE(
      Has(message("lambada_openai", dir.Write("a", "{\"texts\":\"x\"}\n")), "expected a column 'text', found texts"));
  EXPECT_TRUE(Has(message("lambada_openai", dir.Write("a", "{\"text\":\"x y\"}\n{\"text\":\n")), "a:2]"));
  EXPECT_TRUE(Has(message("lambada_openai", dir.Write("a", "\n\n")), "at least one document"));
  EXPECT_TRUE(Has(message("lambada_openai", dir.Write("a", "{\"text\":\"\xff y\"}\n")), "UTF-8"));
  EXPECT_TRUE(Has(message("lambada_openai", dir.Write("a", "[1]")), "object"));
  EXPECT_TRUE(Has(message("hellaswag_lines", dir.Write("a", "a\nb\n")), "multiple of 6"));
  EXPECT_TRUE(Has(message("mmlu_stem", dir.Write("a", "\"open,1\n")), "closing quote"));
  EXPECT_TRUE(Has(message("mmlu_stem", dir.Write("a", "q,1,2\n")), "6 columns"));
  EXPECT_TRUE(Has(message("mmlu_stem", dir.Write("a", "q,1,2,3,4,E\n")), "expected an answer among"));
  EXPECT_TRUE(
      Has(message("winogrande", dir.Write("a", R"({"sentence":"no blank","option1":"a","option2":"b","answer":"1"})")),
          "'_'"));
  EXPECT_TRUE(Has(message("arc_easy", dir.Write("a", R"({"question":{"stem":3}})")), "choices"));
  EXPECT_TRUE(Has(message("squadv2", dir.Write("a", R"([{"id":"1","context":"c","question":"q","answers":7}])")),
                  "document 0"));
  dir.Write("valid.jsonl", R"({"goal":"g","sol1":"a","sol2":"b"})");
  dir.Write("valid-labels.lst", "0\n1\n");
  EXPECT_TRUE(Has(message("piqa", dir.path()), "expected 1 lines"));
  dir.Write("valid-labels.lst", "7\n");
  EXPECT_TRUE(Has(message("piqa", dir.path()), "right choice"));
}

TEST(TaskSpecTest, BadTaskFilesAreNamed) {
  const std::string good =
      "task = \"t\"\noutput_type = \"generate_until\"\ndoc_to_target = \"{{a}}\"\nmetric_list = [{metric = "
      "\"exact_match\"}]\n";
  EXPECT_EQ(ParseTask(good, "f").name, "t");
  const auto message = [](const std::string& text) { return MessageOf([&] { ParseTask(text, "f"); }); };
  EXPECT_TRUE(Has(message("task = "), "f:1]"));
  EXPECT_TRUE(Has(message(good + "\u03C3 = 1"), "f:5] syntax"));
  EXPECT_TRUE(Has(message(good + "doc_to_txt = \"x\"\n"), "did you mean 'doc_to_text'"));
  EXPECT_TRUE(Has(message("task = \"t\"\noutput_type = \"multiple_choise\"\n"), "did you mean 'multiple_choice'"));
  EXPECT_TRUE(Has(message(good + "num_fewshot = \"3\"\n"), "whole number"));
  EXPECT_TRUE(Has(message(good + "num_fewshot = -1\n"), "[0, 100]"));
  EXPECT_TRUE(Has(message(good + "[data]\nprocess = \"no\"\n"), "one of arc"));
  EXPECT_TRUE(Has(message(good + "[[filter_list]]\nname = \"f\"\nfilter = [{function = \"regexp\"}]\n"),
                  "did you mean 'regex'"));
  EXPECT_TRUE(
      Has(message("task = \"t\"\noutput_type = \"generate_until\"\ndoc_to_target = \"x\"\nmetric_list = [{metric = "
                  "\"acc\"}]\n"),
          "one of exact_match"));
  EXPECT_TRUE(Has(message("task = \"../t\"\noutput_type = \"generate_until\"\n"), "without slashes"));
  // A template that fails does so when the documents are rendered.
  const TempDirectory dir;
  TaskSpec spec = ParseTask(good, "f");
  spec.doc_to_text = "{{ a + }}";
  EXPECT_NE(MessageOf([&] { Task::Load(spec, {.data_path = dir.Write("d", "{\"a\":\"x\"}"), .num_fewshot = {}}); }),
            "accepted");
}

}  // namespace
}  // namespace gateskip
