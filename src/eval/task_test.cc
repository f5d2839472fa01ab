// SPDX-License-Identifier: Apache-2.0
// Data sets that are not as they should be, formats, templates, and the parts of Task the golden test does not reach.
#include "eval/task.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/sha256.h"
#include "eval/data_reader.h"
#include "eval/metrics.h"
#include "eval/process_docs.h"
#include "eval/text_match.h"
#include "io/testing/expect_error.h"
#include "io/testing/temp_directory.h"

namespace gateskip {
namespace {

using ::testing::ElementsAre;
using testing::ExpectError;
using ::testing::HasSubstr;
using testing::TempDirectory;

constexpr ErrorCode kBad = ErrorCode::kInvalidArgument;

std::unique_ptr<Task> LoadText(const std::string& task, const std::string& name, const std::string& text) {
  const TempDirectory directory;
  return Task::Load(BuiltinTask(task), {.data_path = directory.Write(name, text)});
}

TaskSpec Choice(const std::string& extra = "") {
  return ParseTask(
      "task = \"t\"\noutput_type = \"multiple_choice\"\ndoc_to_text = \"q\"\ndoc_to_target = \"{{ a }}\"\n"
      "doc_to_choice = \"c\"\n" +
          extra +
          "[[metric_list]]\nmetric = \"acc\"\n[[metric_list]]\nmetric = \"acc_norm\"\n[[metric_list]]\n"
          "metric = \"acc_bytes\"\n[data]\nformat = \"jsonl\"\nfiles = \"x.jsonl\"\n",
      "t.toml");
}
std::unique_ptr<Task> LoadChoice(const std::string& rows, const std::string& extra = "") {
  const TempDirectory directory;
  return Task::Load(Choice(extra), {.data_path = directory.Write("x.jsonl", rows)});
}

TEST(Task, NormalisesByCharactersAndByBytes) {
  // -6/1 against -9/2 by characters, and by bytes -6/2 (one character of two bytes) against -9/2.
  const auto task = LoadChoice(R"({"q": "?", "a": 1, "c": ["\u00e9", "ab"]})");
  const auto values = task->Score(0, {.log_likelihoods = {-6, -9}, .is_greedy = {0, 0}});
  ASSERT_EQ(values.size(), 3u);
  EXPECT_EQ(values[0].value, 0);  // acc
  EXPECT_EQ(values[1].value, 1);  // acc_norm
  EXPECT_EQ(values[2].value, 0);  // acc_bytes
}

TEST(Task, ChanceIsTheMeanOverInstances) {
  const auto task = LoadChoice(
      "{\"q\": \"?\", \"a\": 0, \"c\": [\"x\", \"y\"]}\n"
      "{\"q\": \"?\", \"a\": 0, \"c\": [\"x\", \"y\", \"z\", \"w\"]}\n");
  const std::vector<std::vector<MetricValue>> scored = {
      task->Score(0, {.log_likelihoods = {-1, -2}, .is_greedy = {0, 0}}),
      task->Score(1, {.log_likelihoods = {-2, -1, -3, -3}, .is_greedy = {0, 0, 0, 0}})};
  const auto results = task->Aggregate(scored);
  EXPECT_EQ(results[0].metric, "acc");
  EXPECT_EQ(results[0].value, 0.5);
  EXPECT_EQ(results[0].chance, (0.5 + 0.25) / 2);
  EXPECT_EQ(results[0].standard_error, 0.5);  // deviation sqrt(1/2), over sqrt(2)
  EXPECT_TRUE(task->Aggregate({}).empty());
  EXPECT_FALSE(task->Aggregate({scored.data(), 1})[0].standard_error.has_value());
}

TEST(Task, BadDataIsNamed) {
  const std::tuple<const char*, const char*, std::string, ErrorCode, const char*> cases[] = {
      {"piqa", "x.jsonl", "", kBad, "data set: expected one record or more, found none"},
      {"piqa", "x.jsonl", "\n \n", kBad, "data set: expected one record or more"},
      {"piqa", "x.jsonl", "{\"goal\": \"g\"", ErrorCode::kCorruptData, "x.jsonl:1] JSON"},
      {"piqa", "x.jsonl", "{\"label\": 0}\n[1]\n", kBad, "x.jsonl:2] record: expected a JSON object, found array"},
      {"piqa", "x.jsonl", "{\"label\": 0, \"sol1\": \"a\", \"sol2\": \"b\"}", kBad, "found none called goal"},
      {"piqa", "x.jsonl", "{\"label\": 0, \"goal\": \"g\", \"sol2\": \"b\"}", kBad,
       "x.jsonl:1] doc_to_choice: expected a document that the template takes, found one with the columns goal, label, "
       "sol2"},
      {"piqa", "x.jsonl", "{\"label\": 2, \"goal\": \"g\", \"sol1\": \"a\", \"sol2\": \"b\"}", kBad,
       "x.jsonl:1] doc_to_target: expected one of the 2 choices or its index, found 2"},
      {"piqa", "x.jsonl", "{\"goal\": \"g\", \"sol1\": \"a\", \"sol2\": \"b\"}", ErrorCode::kNotFound, "x-labels.lst"},
      {"piqa", "x.jsonl", "{\"label\": 0, \"goal\": \"\xff\", \"sol1\": \"a\", \"sol2\": \"b\"}",
       ErrorCode::kCorruptData, "x.jsonl:1]"},
      {"piqa", "x.jsonl", std::string("{\"label\": 0}\n") + std::string(kMaxRecordBytes + 1, ' '),
       ErrorCode::kLimitExceeded, "x.jsonl:2] line"},
      {"commonsense_qa", "x.jsonl", "{\"question\": \"q\"}", kBad, "found the columns question"},
      {"commonsense_qa", "x.jsonl", "{\"question\": {\"stem\": \"q\", \"choices\": [{\"label\": \"A\"}]}}", kBad,
       "choices with label and text"},
      {"arc_easy", "x.json", "[{\"instruction\": \"What?\", \"answer\": \"answer1\"}]", kBad,
       "x.json record 0] record: expected an instruction"},
      {"arc_easy", "x.json", "[]", kBad, "data set: expected one record"},
      {"arc_easy", "x.json",
       "[{\"question\": \"q\", \"choices\": {\"text\": [\"a\"], \"label\": [\"A\"]}, "
       "\"answerKey\": \"B\"}]",
       kBad, "doc_to_target"},
      {"squadv2", "x.json", "{\"version\": \"1\"}", kBad,
       "an object with data or queries, found an object with version"},
      {"squadv2", "x.json", "{\"data\": 3}", kBad, "expected an array of records, found number"},
      {"squadv2", "x.json", "{\"data\": [{\"title\": \"t\", \"paragraphs\": [{}]}]}", kBad, "paragraphs with context"},
      {"squadv2", "x.json", "[{\"id\": \"1\", \"context\": \"c\", \"question\": \"q\"}]", kBad,
       "ground_truth.json beside"},
      {"squadv2", "x.json", "[{\"id\": \"1\", \"context\": \"c\", \"question\": \"q\", \"answers\": 7}]", kBad,
       "x.json record 0] record: expected answers that are a list"},
      {"hellaswag_lines", "x.txt", "act: he\n0\na\nb\nc\n", ErrorCode::kCorruptData,
       "x.txt:1] record: expected 6 lines"},
      {"hellaswag_lines", "x.txt", "act: he\n7\na\nb\nc\nd\n", kBad, "doc_to_target: expected one of the 4 choices"},
      {"hellaswag_lines", "x.txt", "act\n0\na\n\xff\nc\nd\n", ErrorCode::kCorruptData, "x.txt:4] text: expected UTF-8"},
      {"hellaswag", "x.jsonl", "{\"ctx\": \"a\"}", kBad, "activity_label, ctx_a, ctx_b and endings"},
      {"winogrande", "x.jsonl",
       "{\"sentence\": \"no blank\", \"option1\": \"a\", \"option2\": \"b\", \"answer\": \"1\"}", kBad,
       "doc_to_target"},
      {"winogrande", "x.jsonl", "{\"sentence\": \"a _ b\", \"option1\": \"a\", \"option2\": \"b\", \"answer\": \"\"}",
       kBad, "x.jsonl:1] doc_to_"},
      {"mmlu_stem", "a_test.csv", "q,a,b,c,A\n", kBad, "a_test.csv:1] CSV record: expected the 6 columns"},
      {"mmlu_stem", "a_test.csv", "q,a,b,c,d,E\n", kBad, "doc_to_target: expected one of the 4 choices"},
      {"mmlu_stem", "a_test.csv", "q,a,b,c,d,A\n\"q,a\n", ErrorCode::kCorruptData,
       "a_test.csv:2] CSV record: expected a "
       "closing quote"},
      {"mmlu_stem", "a_test.csv", "q,a,b,c,d,A\n\xff,a,b,c,d,A\n", ErrorCode::kCorruptData, "a_test.csv:2] text"},
      {"mmlu_stem", "a_test.csv", "question,choice0,choice1,choice2,choice3,answer\n", kBad, "expected one record"},
      {"wikitext", "x.txt", "a\xff", ErrorCode::kCorruptData, "expected UTF-8"},
      {"wikitext", "x.txt", "", kBad, "expected one record"},
      {"lambada_openai", "x.jsonl", "{\"text\": 3}", kBad, "doc_to_"},
      {"gsm8k", "test.jsonl", "{\"question\": \"q\", \"answer\": \"1\"}", ErrorCode::kNotFound, "few-shot files"},
  };
  for (const auto& [task, name, text, code, words] : cases) {
    SCOPED_TRACE(std::string(task) + ": " + text.substr(0, 200));
    const std::string own_task = task;
    const std::string own_name = name;
    ExpectError(
        [&, text = text] {
          const TempDirectory directory;
          TaskSpec spec = BuiltinTask(own_task);
          Task::Load(spec, {.data_path = directory.Write(own_name, text)});
        },
        code, words);
  }
}

TEST(Task, BadOptionsAndPathsAreNamed) {
  const TempDirectory directory;
  directory.Write("other.txt", "x");
  const std::string row = "{\"label\": 0, \"goal\": \"g\", \"sol1\": \"a\", \"sol2\": \"b\"}\n";
  const std::string file = directory.Write("x.jsonl", row + row);
  const auto load = [&](TaskOptions options) { Task::Load(BuiltinTask("piqa"), options); };
  ExpectError([&] { load({.data_path = ""}); }, kBad, "path: expected a file or a directory");
  ExpectError([&] { load({.data_path = directory.path() + "/none"}); }, ErrorCode::kNotFound, "none");
  ExpectError([&] { load({.data_path = directory.path()}); }, ErrorCode::kNotFound,
              "expected valid.jsonl or dev.jsonl, found other.txt, x.jsonl");
  ExpectError([&] { load({.data_path = file, .limit = -1}); }, kBad, "limit");
  ExpectError([&] { load({.data_path = file, .num_fewshot = -1}); }, kBad, "num_fewshot");
  ExpectError([&] { load({.data_path = file, .num_fewshot = 3, .fewshot_path = file}); }, kBad,
              "few-shot documents: expected 4 or more, found 2");
  ExpectError([&] { load({.data_path = file, .num_fewshot = 1, .fewshot_path = file}); }, kBad,
              "few-shot documents");  // both are the document itself
  ExpectError([&] { Task::Load(BuiltinTask("wikitext"), {.data_path = file, .num_fewshot = 1}); }, kBad, "rolling");
  directory.Write("x-labels.lst", "1\n");
  directory.Write("x.jsonl", "{\"goal\": \"g\"}\n{\"goal\": \"g\"}\n");
  ExpectError([&] { load({.data_path = file}); }, ErrorCode::kCorruptData, "labels: expected 2 lines");
}

TEST(Task, TemplatesThatFailAreNamed) {
  const std::pair<const char*, const char*> cases[] = {
      {"{\"q\": \"?\", \"a\": 0, \"c\": \"xy\"}", "doc_to_choice: expected a list of texts, found \"xy\""},
      {"{\"q\": \"?\", \"a\": 0, \"c\": [\"x\", 1]}", "doc_to_choice: expected a list of texts"},
      {"{\"q\": [1], \"a\": 0, \"c\": [\"x\", \"y\"]}", "doc_to_text: expected a text, found [1]"},
      {"{\"q\": \"?\", \"a\": 0, \"c\": []}", "expected one of the 0 choices"},
      {"{\"q\": \"?\", \"a\": 99999999999999999999999, \"c\": [\"x\"]}", "doc_to_target"},
      {"{\"a\": 0, \"c\": [\"x\"]}", "doc_to_text: expected a column q, found the columns a, c"},
  };
  for (const auto& [row, words] : cases) {
    SCOPED_TRACE(row);
    ExpectError([row = row] { LoadChoice(row); }, kBad, words);
  }
  ExpectError(
      [] {
        LoadChoice("{\"q\": \"?\", \"a\": 0, \"c\": [\"x\"]}",
                   "description = \"{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}"
                   "{% endfor %}\"\n");
      },
      ErrorCode::kLimitExceeded, "description");
}

TEST(DocTemplate, KeepsSpacingAndRefusesMissingNames) {
  const Doc doc = {{{"a", "A"}, {"d", {{"k", 1}}}}, "x:1"};
  const DocVariables variables(doc);
  const auto render = [&](const std::string& source) {
    return DocTemplate(source, DocTemplate::Kind::kText, "t", "doc_to_text").EvaluateText(variables);
  };
  EXPECT_EQ(render(" {% if a %}\n {{a}}{% endif %}\n"), " \n A\n");
  EXPECT_EQ(render("{{ b | default('B') }}{% if b is defined %}C{% endif %}"), "B");
  EXPECT_EQ(render("a"), "A");  // the column
  for (const char* source :
       {"{{ b }}", "{{ d.b }}", "{{ d['b'] }}", "{% if b %}{% endif %}", "{{ 'x' if b else 'y' }}", "{{ b ~ 'x' }}",
        "{{ [b] }}", "{{ b | upper }}", "{{ 'x'.replace('x', b) }}", "{{ not b }}", "{{ b == 1 }}", "{{ b or 1 }}",
        "{% for x in b %}{% endfor %}", "{{ b.c }}", "{{ b[0] }}"}) {
    SCOPED_TRACE(source);
    ExpectError([&] { render(source); }, kBad, "found none called b");
  }
}

TEST(Task, SeveralTargets) {
  const auto task = LoadChoice(R"({"q": "?", "a": [0, 2], "c": ["x", "y", "z"]})");
  EXPECT_EQ(task->Score(0, {.log_likelihoods = {-3, -2, -1}, .is_greedy = {0, 0, 0}})[0].value, 1);
  EXPECT_EQ(task->Score(0, {.log_likelihoods = {-3, -1, -2}, .is_greedy = {0, 0, 0}})[0].value, 0);
}

TEST(Task, IdentityIsOfTheFilesRead) {
  const std::string row = "{\"text\": \"a b\"}\n";
  const auto hash = [](const char* name, const std::string& text) {
    return LoadText("lambada_openai", name, text)->DataSha256();
  };
  EXPECT_EQ(hash("a.jsonl", row), hash("a.jsonl", row));
  EXPECT_NE(hash("a.jsonl", row), hash("a.jsonl", row + row));
  EXPECT_EQ(hash("a.jsonl", row), Sha256Hex(std::as_bytes(std::span(row))));  // as results in docs/results have it
  EXPECT_EQ(hash("a.jsonl", row), hash("b.jsonl", row));
}

TEST(Task, ExamplesOfTheSameFileLeaveTheDocumentOut) {
  const TempDirectory directory;
  const std::string path =
      directory.Write("x.jsonl", "{\"text\": \"a b\"}\n{\"text\": \"c d\"}\n{\"text\": \"a b\"}\n");
  const auto task = Task::Load(BuiltinTask("lambada_openai"), {.data_path = path, .num_fewshot = 1});
  EXPECT_EQ(task->instance(0).requests[0].context, "c  d\n\na");
  EXPECT_EQ(task->instance(1).requests[0].context, "a  b\n\nc");
  EXPECT_EQ(task->instance(2).requests[0].context, "c  d\n\na");
}

TEST(Task, SubsetsComeFromTheNamesOfFiles) {
  const TempDirectory directory;
  for (const char* name : {"test", "dev"}) std::filesystem::create_directory(directory / name);
  const std::string file = directory.Write("test/astronomy_test.csv", "q?,a,b,c,d,B\n");
  directory.Write("dev/astronomy_dev.csv", "few,1,2,3,4,C\n");
  for (const std::string& path : {directory.path(), file}) {
    const auto task = Task::Load(BuiltinTask("mmlu_stem"), {.data_path = path, .num_fewshot = 1});
    EXPECT_EQ(task->instance(0).subset, "astronomy");
    EXPECT_EQ(task->instance(0).requests[1].context,
              "The following are multiple choice questions (with answers) about astronomy.\n\n"
              "few\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer: C\n\nq?\nA. a\nB. b\nC. c\nD. d\nAnswer:");
    EXPECT_EQ(task->instance(0).requests[1].continuation, " B");
  }
}

// A log of samples is told by an instance's number, whatever the limit.
TEST(Task, ASmallerLimitIsTheBeginningOfALargerOne) {
  const TempDirectory directory;
  directory.Write("astronomy_test.csv", "q0?,a,b,c,d,B\nq1?,a,b,c,d,B\nq2?,a,b,c,d,B\n");
  directory.Write("anatomy_test.csv", "q0?,a,b,c,d,B\n");
  directory.Write("machine_learning_test.csv", "q0?,a,b,c,d,B\nq1?,a,b,c,d,B\n");
  const auto load = [&](int64_t limit) {
    return Task::Load(BuiltinTask("mmlu_stem"), {.data_path = directory.path(), .limit = limit});
  };
  const auto all = load(0);
  ASSERT_EQ(all->size(), 6u);
  for (const auto& [limit, size] : {std::pair<int64_t, size_t>{1, 3}, {2, 5}, {3, 6}, {9, 6}}) {
    const auto part = load(limit);
    ASSERT_EQ(part->size(), size);
    for (size_t i = 0; i < size; ++i) {
      EXPECT_EQ(part->instance(i).subset, all->instance(i).subset);
      EXPECT_EQ(part->instance(i).document, all->instance(i).document);
    }
  }
}

TEST(Task, AResponseOfAnotherTaskIsRefused) {
  const auto task = LoadChoice(R"({"q": "?", "a": 0, "c": ["x", "y"]})");
  const EvalResponse bad[] = {{.log_likelihoods = {-1}, .is_greedy = {0}},
                              {.log_likelihoods = {-1, -2, -3}, .is_greedy = {0, 0, 0}},
                              {.log_likelihoods = {-1, -2}, .is_greedy = {0}},
                              {}};
  for (const EvalResponse& response : bad) {
    ExpectError([&] { task->Score(0, response); }, ErrorCode::kCorruptData, "expected scores of 2 requests");
  }
}

TEST(Task, NoAnswerIsScoredWhereAMetricAsks) {
  const std::string rows = "[{\"id\": \"1\", \"context\": \"c\", \"question\": \"q\", \"answers\": []}]";
  const auto task = LoadText("squadv2", "x.json", rows);
  ASSERT_EQ(task->instance(0).requests.size(), 2u);
  EXPECT_EQ(task->instance(0).requests[1].context, task->instance(0).requests[0].context);
  EXPECT_EQ(task->instance(0).requests[1].continuation, " unanswerable");
  ExpectError([&] { task->Score(0, {.text = "x"}); }, ErrorCode::kCorruptData, "expected scores of 1 requests");
  const EvalResponse response = {.log_likelihoods = {-1}, .is_greedy = {0}, .text = "the"};
  EXPECT_EQ(task->SampleRecord(0, response)["log_likelihoods"], nlohmann::json({-1.0}));
  for (const MetricValue& value : task->Score(0, response)) {
    // "the" is nothing once normalised, but the script's threshold takes any text for an answer.
    EXPECT_EQ(value.value, value.metric.starts_with("best_") ? 0 : 100) << value.metric;
  }
}

TEST(Metrics, TheBestThresholdIsTheScripts) {
  const auto best = [](std::vector<MetricValue> values) { return AggregateValues("best_threshold", values); };
  const MetricValue right = {.value = 100, .weight = 0.5};
  const MetricValue wrong = {.value = 0, .weight = 0.25, .otherwise = 100};
  EXPECT_EQ(best({right}), 100);
  EXPECT_EQ(best({wrong}), 100);
  EXPECT_EQ(best({right, wrong}), 50) << "the wrong answer is the surer one";
  EXPECT_EQ(best({right, {.value = 0, .weight = 0.75, .otherwise = 100}}), 100);
  // Of equals one by one, in their order: 100, 200, then 100.
  EXPECT_EQ(best({right, {.value = 0, .weight = 0.5, .otherwise = 100}}), 100);
}

TEST(Task, HellaswagLinesAreCleaned) {
  const auto task = LoadText("hellaswag_lines", "x.txt",
                             "Tea: [header] Pour water [title] in. he\n2\nsits.\nruns [x].\ndrinks  it.\nflies.\n");
  EXPECT_EQ(task->instance(0).requests[2].context, "Tea: Pour water. in. he");
  EXPECT_EQ(task->instance(0).requests[2].continuation, " drinks it.");
  EXPECT_EQ(task->Score(0, {.log_likelihoods = {-9, -9, -1, -9}, .is_greedy = {0, 0, 0, 0}})[0].metric, "acc_norm");
}

TEST(Task, SyntheticProblemsCountEveryCharacter) {
  for (const std::string name : {"addition", "lookup", "mixed", "sorting"}) {
    const TempDirectory directory;
    directory.Write(name + "_test.jsonl", "{\"prompt\": \"1 + 2\\n\", \"completion\": \"[3]\"}\n");
    const auto task = Task::Load(BuiltinTask("synthetic_" + name), {.data_path = directory.path()});
    EXPECT_EQ(task->instance(0).requests[0].context, "1 + 2\n");
    EXPECT_EQ(task->Score(0, {.text = "[3]"})[0].value, 1);
    EXPECT_EQ(task->Score(0, {.text = "[3] "})[0].value, 0);
  }
}

TEST(Task, WithoutADataSectionItReadsJsonLinesFromAFile) {
  const TaskSpec spec = ParseTask(
      "task = \"t\"\noutput_type = \"multiple_choice\"\ndoc_to_text = \"q\"\ndoc_to_target = \"a\"\n"
      "doc_to_choice = \"c\"\nmetric_list = [{metric = \"acc\"}]\n",
      "t.toml");
  const TempDirectory directory;
  const std::string file = directory.Write("any.name", R"({"q": "?", "a": 0, "c": ["x", "y"]})");
  EXPECT_EQ(Task::Load(spec, {.data_path = file})->size(), 1u);
  ExpectError([&] { Task::Load(spec, {.data_path = directory.path()}); }, kBad, "the task names none");
}

TEST(Task, GenerativeFormsAskForTheLetter) {
  const auto task =
      LoadText("piqa_gen", "x.jsonl", "{\"label\": 1, \"goal\": \"g\", \"sol1\": \"a\", \"sol2\": \"b\"}");
  EXPECT_EQ(task->instance(0).requests[0].context,
            "Question: g\nA. a\nB. b\nLet's think step by step, and end with \"The answer is\" and a letter.\nAnswer:");
  const std::tuple<const char*, double, double> answers[] = {{" B", 0, 1},
                                                             {" A is wrong.\nThe answer is B.", 1, 1},
                                                             {" the answer is: (B)", 1, 1},
                                                             {" The answer is Bad", 0, 0},
                                                             {" A", 0, 0},
                                                             {"\xff", 0, 0},
                                                             {"", 0, 0}};
  for (const auto& [text, strict, flexible] : answers) {
    const auto values = task->Score(0, {.text = text});
    ASSERT_EQ(values.size(), 2u);
    EXPECT_EQ(values[0].metric, "exact_match,strict-match");
    EXPECT_EQ(values[0].value, strict) << text;
    EXPECT_EQ(values[1].metric, "exact_match,flexible-extract");
    EXPECT_EQ(values[1].value, flexible) << text;
  }
  const nlohmann::json record = task->SampleRecord(0, {.text = "B\xff"});
  EXPECT_EQ(record["response"], "B\xEF\xBF\xBD");
  EXPECT_EQ(record["filtered"]["flexible-extract"], "B");
  EXPECT_EQ(record["metrics"]["exact_match,strict-match"], 0.0);
  EXPECT_EQ(record["target"], "B");
  EXPECT_NO_THROW(record.dump());
}

TEST(DataReader, Csv) {
  DataSpec spec;
  spec.formats = {DataSpec::Format::kCsv};
  spec.columns = {"a", "b"};
  const auto rows = [&](const char* text) {
    std::vector<std::string> out;
    for (const Doc& doc : ParseDocs(spec, text, "x.csv")) {
      out.push_back(doc.origin + "|" + doc.record["a"].get<std::string>() + "|" + doc.record["b"].get<std::string>());
    }
    return out;
  };
  EXPECT_THAT(rows("1,2\r\n\"x,\"\"y\"\"\nz\",\n\nlast,\"\""),
              ElementsAre("x.csv:1|1|2", "x.csv:2|x,\"y\"\nz|", "x.csv:5|last|"));
  EXPECT_THAT(rows("\xEF\xBB\xBF"
                   "b,a\n1,2\n"),
              ElementsAre("x.csv:2|2|1"));
  EXPECT_THAT(rows("5\" nail,b \"c\"\n"), ElementsAre("x.csv:1|5\" nail|b \"c\""));
}

TEST(ProcessDocs, WikitextPages) {
  EXPECT_THAT(SplitWikitext(" \n = A = \n \n text \n = = B = = \n = C = \n x"),
              ElementsAre(" = A = \n \n text \n = = B = = ", " = C = \n x"));
  EXPECT_THAT(SplitWikitext("no heading"), ElementsAre("no heading"));
}

TEST(TextMatch, SquadNormalisation) {
  EXPECT_EQ(NormalizeAnswer(" The  caf\u00e9, an A-team; theatre"), "caf\u00e9 ateam theatre");
  EXPECT_EQ(NormalizeAnswer("a\u00e9 the"), "a\u00e9");  // no word ends between a letter and a letter with an accent
  EXPECT_EQ(ScoreSquad("", {}).exact, 1);
  EXPECT_EQ(ScoreSquad("unanswerable", {}).f1, 0);
  EXPECT_EQ(ScoreSquad("b c", {"a b d", "x"}).f1, 0.5);
}

}  // namespace
}  // namespace gateskip
