// SPDX-License-Identifier: Apache-2.0
#include "eval/process_docs.h"

#include <re2/re2.h>

#include "base/check.h"
#include "io/json.h"
#include "text/template_interpreter.h"

namespace gateskip {
namespace {

using nlohmann::json;

[[noreturn]] void FailRecord(const Doc& doc, std::string_view expected) {
  Fail(ErrorCode::kInvalidArgument, "[{}] record: expected {}, found the columns {}; name another file", doc.origin,
       expected, ColumnNames(doc.record));
}

const json* Member(const json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}
const std::string* Text(const json& object, const char* key) {
  const json* found = Member(object, key);
  return found != nullptr && found->is_string() ? &found->get_ref<const std::string&>() : nullptr;
}

std::string Replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  size_t pos = 0;
  for (size_t at = 0; (at = text.find(from, pos)) != std::string_view::npos; pos = at + from.size()) {
    out += text.substr(pos, at - pos);
    out += to;
  }
  return out += text.substr(pos);
}

// ---- ARC, OpenBookQA, CommonsenseQA ----

constexpr std::string_view kArcColumns =
    "question with stem and choices, or question and choices, or instruction and answer";

// {"question": {"stem", "choices": [{"label", "text"}]}}: the publishers' form.
void FromStem(Doc* doc) {
  const json question = doc->record["question"];
  const std::string* stem = Text(question, "stem");
  const json* choices = Member(question, "choices");
  if (stem == nullptr || choices == nullptr || !choices->is_array()) FailRecord(*doc, kArcColumns);
  json labels = json::array();
  json texts = json::array();
  for (const json& choice : *choices) {
    const std::string* label = Text(choice, "label");
    const std::string* text = Text(choice, "text");
    if (label == nullptr || text == nullptr) FailRecord(*doc, "choices with label and text");
    labels.push_back(*label);
    texts.push_back(*text);
  }
  doc->record["question"] = *stem;
  doc->record["choices"] = {{"label", labels}, {"text", texts}};
}

// {"instruction": "Please choose the correct answer to the question: STEM\n\nAnswer1: A Answer2: B\n\nAnswer format:
// ...", "answer": "answer2"}: the form of LLM-Adapters (Hu et al., 2023).
void FromInstruction(Doc* doc) {
  constexpr std::string_view kStart = "Please choose the correct answer to the question: ";
  constexpr std::string_view kFirst = "\n\nAnswer1: ";
  constexpr std::string_view kEnd = "\n\nAnswer format:";
  const std::string* instruction = Text(doc->record, "instruction");
  const std::string* answer = Text(doc->record, "answer");
  if (instruction == nullptr || answer == nullptr) FailRecord(*doc, kArcColumns);
  std::string_view text = *instruction;
  const size_t end = text.rfind(kEnd);
  const size_t first = text.find(kFirst);
  const bool fits = text.starts_with(kStart) && first != std::string_view::npos && end != std::string_view::npos &&
                    first + kFirst.size() <= end && answer->starts_with("answer");
  if (!fits) FailRecord(*doc, "an instruction 'Please choose the correct answer to the question: ... Answer1: ...'");
  const std::string stem(text.substr(kStart.size(), first - kStart.size()));
  text = text.substr(first + kFirst.size(), end - first - kFirst.size());
  json labels = json::array();
  json texts = json::array();
  for (int number = 1; number == 1 || !text.empty(); ++number) {
    const std::string next = fmt::format(" Answer{}: ", number + 1);
    const size_t cut = text.find(next);
    labels.push_back(std::to_string(number));
    texts.push_back(text.substr(0, cut));
    text = cut == std::string_view::npos ? std::string_view() : text.substr(cut + next.size());
  }
  json record = {{"question", stem}, {"choices", {{"label", labels}, {"text", texts}}}};
  record["answerKey"] = answer->substr(std::string_view("answer").size());
  doc->record = std::move(record);
}

void Arc(Doc* doc) {
  if (doc->record.contains("instruction")) {
    FromInstruction(doc);
  } else if (const json* question = Member(doc->record, "question"); question != nullptr && question->is_object()) {
    FromStem(doc);
  }
  json& record = doc->record;
  if (!record.contains("question") && record.contains("question_stem")) record["question"] = record["question_stem"];
  const json* choices = Member(record, "choices");
  const json* texts = choices != nullptr ? Member(*choices, "text") : nullptr;
  const json* labels = choices != nullptr ? Member(*choices, "label") : nullptr;
  const bool fits = Text(record, "question") != nullptr && texts != nullptr && texts->is_array() && labels != nullptr &&
                    labels->is_array();
  if (!fits) FailRecord(*doc, kArcColumns);
}

// ---- HellaSwag ----

void Hellaswag(Doc* doc) {
  const json& record = doc->record;
  json endings = json::array();
  if (const std::string* query = Text(record, "query"); query != nullptr) {  // lines: put together by their authors
    for (const char* name : {"ending0", "ending1", "ending2", "ending3"}) {
      const std::string* ending = Text(record, name);
      if (ending == nullptr) FailRecord(*doc, "query and ending0 to ending3");
      endings.push_back(CleanHellaswag(*ending));
    }
    doc->record["query"] = CleanHellaswag(*query);
    doc->record["choices"] = std::move(endings);
    return;
  }
  const std::string* activity = Text(record, "activity_label");
  const std::string* start = Text(record, "ctx_a");
  const std::string* rest = Text(record, "ctx_b");
  const json* given = Member(record, "endings");
  if (activity == nullptr || start == nullptr || rest == nullptr || given == nullptr || !given->is_array()) {
    FailRecord(*doc, "activity_label, ctx_a, ctx_b and endings");
  }
  jinja::Budget budget(INT64_MAX, SIZE_MAX, 1);
  const std::string capitalized = jinja::CallMethod(jinja::Value::Of(*rest), "capitalize", {}, &budget).AsString();
  for (const json& ending : *given) {
    if (!ending.is_string()) FailRecord(*doc, "endings that are texts");
    endings.push_back(CleanHellaswag(ending.get_ref<const std::string&>()));
  }
  doc->record["query"] = CleanHellaswag(*activity + ": " + *start + " " + capitalized);
  doc->record["choices"] = std::move(endings);
}

// ---- SQuAD ----

json SquadAnswers(const json& answers, const Doc& doc) {
  json texts = json::array();
  if (!answers.is_array()) FailRecord(doc, "answers that are a list");
  for (const json& answer : answers) {
    const std::string* text = answer.is_string() ? &answer.get_ref<const std::string&>() : Text(answer, "text");
    if (text == nullptr) FailRecord(doc, "answers with a text");
    if (!text->empty()) texts.push_back(*text);  // some say "no answer" with an empty one
  }
  return {{"text", texts}};
}

// One article of {"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question", "answers"}]}]}]}.
void SquadArticle(const Doc& doc, std::vector<Doc>* out) {
  const std::string* title = Text(doc.record, "title");
  const json* paragraphs = Member(doc.record, "paragraphs");
  if (!paragraphs->is_array()) FailRecord(doc, "paragraphs that are a list");
  for (const json& paragraph : *paragraphs) {
    const std::string* context = Text(paragraph, "context");
    const json* questions = Member(paragraph, "qas");
    if (context == nullptr || questions == nullptr || !questions->is_array()) {
      FailRecord(doc, "paragraphs with context and qas");
    }
    for (const json& question : *questions) {
      const std::string* text = Text(question, "question");
      const std::string* id = Text(question, "id");
      const json* answers = Member(question, "answers");
      if (text == nullptr || id == nullptr || answers == nullptr) FailRecord(doc, "qas with id, question and answers");
      Doc one = {json::object(), fmt::format("{} question {}", doc.origin, *id), doc.subset};
      one.record["id"] = *id;
      one.record["title"] = title != nullptr ? *title : std::string();
      one.record["context"] = *context;
      one.record["question"] = *text;
      one.record["answers"] = SquadAnswers(*answers, doc);
      out->push_back(std::move(one));
    }
  }
}

// One question with answers of its own, or with a label {"answers": [...]} joined from another file.
void SquadQuestion(Doc doc, std::vector<Doc>* out) {
  const bool fits = Text(doc.record, "context") != nullptr && Text(doc.record, "question") != nullptr;
  if (!fits) FailRecord(doc, "paragraphs, or id, context, question and answers");
  if (!doc.record.contains("title")) doc.record["title"] = "";
  if (const json* label = Member(doc.record, "label"); label != nullptr) {
    const json* answers = Member(*label, "answers");
    if (answers == nullptr) FailRecord(doc, "labels with answers");
    doc.record["answers"] = SquadAnswers(*answers, doc);
  } else if (const json* answers = Member(doc.record, "answers"); answers == nullptr) {
    FailRecord(doc, "answers, or a label that has them (in ground_truth.json beside the file)");
  } else if (!answers->is_object()) {
    doc.record["answers"] = SquadAnswers(*answers, doc);
  }
  out->push_back(std::move(doc));
}

void Wikitext(const Doc& doc, std::vector<Doc>* out) {
  std::vector<std::string> pages;
  if (const std::string* page = Text(doc.record, "page"); page != nullptr) {
    pages.push_back(*page);
  } else if (const std::string* text = Text(doc.record, "text"); text != nullptr) {
    pages = SplitWikitext(*text);
  } else {
    FailRecord(doc, "page, or text");
  }
  for (std::string& page : pages) {
    Doc one = {json::object(), fmt::format("{} page {}", doc.origin, out->size()), doc.subset};
    one.record["detokenized"] = DetokenizeWikitext(page);
    one.record["page"] = std::move(page);
    out->push_back(std::move(one));
  }
}

// Python's \s, which knows Unicode's white space.
constexpr const char* kSpaces =
    R"([\t-\r\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]*)";

}  // namespace

std::string DetokenizeWikitext(const std::string& page) {
  static const auto bracketed = [](const std::string& open, const std::string& inside, const std::string& close) {
    return std::make_shared<const RE2>(open + kSpaces + "(" + inside + "*?)" + kSpaces + close);
  };
  static const std::shared_ptr<const RE2> round = bracketed(R"(\()", R"([^\)])", R"(\))");
  static const std::shared_ptr<const RE2> square = bracketed(R"(\[)", R"([^\]])", R"(\])");
  static const std::shared_ptr<const RE2> curly = bracketed(R"(\{)", "[^}]", R"(\})");
  static const std::shared_ptr<const RE2> quotes = bracketed("\"", "[^\"]", "\"");
  static const std::shared_ptr<const RE2> ticks = bracketed("'", "[^']", "'");
  static const RE2 slashed_year("/' [0-9]/");
  const auto all = [](std::string text, std::initializer_list<std::pair<const char*, const char*>> pairs) {
    for (const auto& [from, to] : pairs) text = Replaced(text, from, to);
    return text;
  };
  std::string text = Replaced(page, "s '", "s'");
  RE2::GlobalReplace(&text, slashed_year, "/'[0-9]/");
  text = all(std::move(text), {{" @-@ ", "-"}, {" @,@ ", ","}, {" @.@ ", "."}});
  text =
      all(std::move(text), {{" : ", ": "}, {" ; ", "; "}, {" . ", ". "}, {" ! ", "! "}, {" ? ", "? "}, {" , ", ", "}});
  RE2::GlobalReplace(&text, *round, R"((\1))");
  RE2::GlobalReplace(&text, *square, R"([\1])");
  RE2::GlobalReplace(&text, *curly, R"({\1})");
  RE2::GlobalReplace(&text, *quotes, R"("\1")");
  RE2::GlobalReplace(&text, *ticks, R"('\1')");
  return all(std::move(text), {{"= = = =", "===="},
                               {"= = =", "==="},
                               {"= =", "=="},
                               {" \u00B0 ", "\u00B0"},
                               {" \n", "\n"},
                               {"\n ", "\n"},
                               {" N ", " 1 "},
                               {" 's", "'s"}});
}

std::vector<std::string> SplitWikitext(std::string_view text) {
  std::vector<std::string> pages;
  std::string page;
  bool first_line = true;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    // Headings of sections have more marks: " = = Section = = ".
    const std::string merged = Replaced(Replaced(line, "= = =", "==="), "= =", "==");
    const std::string heading = jinja::StripText(merged, nullptr, true, true);
    if (heading.starts_with("= ") && heading.ends_with(" =")) {
      if (!jinja::StripText(page, nullptr, true, true).empty()) pages.push_back(page);
      page.clear();
      first_line = true;
    }
    if (!first_line) page += '\n';
    page += line;
    first_line = false;
    begin = end + 1;
  }
  pages.push_back(page);
  return pages;
}

std::string CleanHellaswag(std::string_view text) {
  static const RE2 brackets(R"(\[.*?\])");
  std::string out = Replaced(jinja::StripText(text, nullptr, true, true), " [title]", ". ");
  RE2::GlobalReplace(&out, brackets, "");
  return Replaced(out, "  ", " ");
}

std::vector<Doc> ProcessRecords(ProcessDocs process, std::vector<Doc> records) {
  std::vector<Doc> docs;
  for (Doc& record : records) {
    switch (process) {
      case ProcessDocs::kNone:
        break;
      case ProcessDocs::kArc:
        Arc(&record);
        break;
      case ProcessDocs::kHellaswag:
        Hellaswag(&record);
        break;
      case ProcessDocs::kSquad:
        if (record.record.contains("paragraphs")) {
          SquadArticle(record, &docs);
        } else {
          SquadQuestion(std::move(record), &docs);
        }
        continue;
      case ProcessDocs::kWikitext:
        Wikitext(record, &docs);
        continue;
    }
    docs.push_back(std::move(record));
  }
  for (size_t i = 0; i < docs.size(); ++i) docs[i].index = static_cast<int64_t>(i);
  return docs;
}

}  // namespace gateskip
