// SPDX-License-Identifier: Apache-2.0
#include "eval/process_docs.h"

#include <re2/re2.h>

#include <algorithm>
#include <functional>

#include "base/check.h"

namespace gateskip {
namespace {

using Json = nlohmann::json;

struct Place {
  const std::string& origin;
  size_t document;
};

[[noreturn]] void Refuse(const Place& at, std::string_view expected, std::string_view found) {
  Fail(ErrorCode::kCorruptData, "[{}] document {}: expected {}, found {}; use the data set's own files", at.origin,
       at.document, expected, found);
}

const Json& Member(const Json& object, const char* key, const Place& at) {
  if (!object.is_object() || !object.contains(key)) Refuse(at, fmt::format("a column '{}'", key), "none");
  return object[key];
}

std::string Text(const Json& object, const char* key, const Place& at) {
  const Json& value = Member(object, key, at);
  if (value.is_number_integer()) return fmt::format("{}", value.get<int64_t>());
  if (!value.is_string()) Refuse(at, fmt::format("a text in '{}'", key), value.type_name());
  return value.get<std::string>();
}

std::string ReplaceAll(std::string text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
  return text;
}

std::string Strip(const std::string& text) {
  constexpr std::string_view kSpace = " \t\n\r\v\f";
  const size_t first = text.find_first_not_of(kSpace);
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

// The index of a label among labels.
int64_t IndexOf(const std::vector<std::string>& labels, const std::string& label, const Place& at) {
  const auto found = std::ranges::find(labels, Strip(label));
  if (found == labels.end()) {
    Refuse(at, fmt::format("an answer among {}", fmt::join(labels, ", ")), fmt::format("'{}'", label));
  }
  return found - labels.begin();
}

// "Please choose ...: <stem>\n\nAnswer1: <a> Answer2: <b> ...\n\nAnswer format: ...", with answer "answer2".
Json FromInstruction(const Json& document, const Place& at) {
  const std::string text = Text(document, "instruction", at);
  const size_t colon = text.find(": ");
  const size_t choices = text.find("\n\nAnswer1: ");
  const size_t end = text.rfind("\n\nAnswer format:");
  if (colon == std::string::npos || choices == std::string::npos || end == std::string::npos || colon > choices ||
      end < choices) {
    Refuse(at, "a question, 'Answer1: ...' and 'Answer format: ...' in 'instruction'", "something else");
  }
  Json list = Json::array();
  std::vector<std::string> labels;
  size_t begin = choices + 2;
  for (int n = 1;; ++n) {
    const std::string head = fmt::format("Answer{}: ", n);
    const std::string next = fmt::format(" Answer{}: ", n + 1);
    const size_t stop = std::min(text.find(next, begin), end);
    list.push_back(text.substr(begin + head.size(), stop - begin - head.size()));
    labels.push_back(fmt::format("answer{}", n));
    if (stop == end) break;
    begin = stop + 1;
  }
  return {{"question", text.substr(colon + 2, choices - colon - 2)},
          {"choices", std::move(list)},
          {"answer", IndexOf(labels, Text(document, "answer", at), at)}};
}

Json Arc(const Json& document, const Place& at) {
  if (document.contains("instruction")) return FromInstruction(document, at);
  // As published: {"question": {"stem", "choices": [{"label", "text"}]}, "answerKey"}; on the hub: {"question" or
  // "question_stem", "choices": {"label": [], "text": []}, "answerKey"}.
  const bool published = document.contains("question") && document["question"].is_object();
  const Json& holder = published ? document["question"] : document;
  const Json& choices = Member(holder, "choices", at);
  Json texts = Json::array();
  std::vector<std::string> labels;
  if (choices.is_array()) {
    for (const Json& choice : choices) {
      texts.push_back(Text(choice, "text", at));
      labels.push_back(Text(choice, "label", at));
    }
  } else {
    texts = Member(choices, "text", at);
    for (const Json& label : Member(choices, "label", at))
      labels.push_back(label.is_string() ? label.get<std::string>() : "");
  }
  const char* stem = published ? "stem" : document.contains("question_stem") ? "question_stem" : "question";
  return {{"question", Text(holder, stem, at)},
          {"choices", std::move(texts)},
          {"answer", IndexOf(labels, Text(document, "answerKey", at), at)}};
}

// Brackets are leftovers of WikiHow.
std::string CleanHellaSwag(const std::string& text) {
  static const RE2 kBrackets(R"(\[.*?\])");
  std::string clean = ReplaceAll(Strip(text), " [title]", ". ");
  RE2::GlobalReplace(&clean, kBrackets, "");
  return ReplaceAll(clean, "  ", " ");
}

// Python's str.capitalize for ASCII: the first letter in upper case, the others in lower case.
std::string Capitalize(std::string text) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (i == 0 && text[i] >= 'a' && text[i] <= 'z') text[i] = static_cast<char>(text[i] - 'a' + 'A');
    if (i > 0 && text[i] >= 'A' && text[i] <= 'Z') text[i] = static_cast<char>(text[i] - 'A' + 'a');
  }
  return text;
}

Json HellaSwag(const Json& document, const Place& at) {
  std::string query;
  std::vector<std::string> endings;
  std::string label;
  if (document.contains("lines")) {
    const Json& lines = document["lines"];
    if (!lines.is_array() || lines.size() != 6) Refuse(at, "six lines", "others");
    query = lines[0].get<std::string>();
    label = lines[1].get<std::string>();
    for (size_t i = 2; i < 6; ++i) endings.push_back(lines[i].get<std::string>());
  } else {
    query = fmt::format("{}: {} {}", Text(document, "activity_label", at), Text(document, "ctx_a", at),
                        Capitalize(Text(document, "ctx_b", at)));
    label = Text(document, "label", at);
    for (const Json& ending : Member(document, "endings", at)) {
      endings.push_back(ending.is_string() ? ending.get<std::string>() : "");
    }
  }
  Json choices = Json::array();
  for (const std::string& ending : endings) choices.push_back(CleanHellaSwag(ending));
  return {{"query", CleanHellaSwag(query)},
          {"choices", std::move(choices)},
          {"label", IndexOf({"0", "1", "2", "3"}, label, at)}};
}

Json WinoGrande(const Json& document, const Place& at) {
  const std::string sentence = Text(document, "sentence", at);
  const size_t blank = sentence.find('_');
  if (blank == std::string::npos) Refuse(at, "a '_' in 'sentence'", "none");
  const std::string before = sentence.substr(0, blank);
  return {{"contexts", {before + Text(document, "option1", at), before + Text(document, "option2", at)}},
          {"continuation", Strip(sentence.substr(blank + 1))},
          {"answer", IndexOf({"1", "2"}, Text(document, "answer", at), at)}};
}

Json Mmlu(const Json& document, const Place& at) {
  Json choices = Json::array();
  if (document.contains("choices")) {
    choices = document["choices"];
  } else {
    for (const char* column : {"choice0", "choice1", "choice2", "choice3"})
      choices.push_back(Text(document, column, at));
  }
  const std::string answer = Text(document, "answer", at);
  const bool letter = answer.size() == 1 && answer[0] >= 'A' && answer[0] <= 'D';
  return {{"question", Text(document, "question", at)},
          {"choices", std::move(choices)},
          {"answer",
           IndexOf(letter ? std::vector<std::string>{"A", "B", "C", "D"} : std::vector<std::string>{"0", "1", "2", "3"},
                   answer, at)},
          {"subject", document.value("file", "")}};
}

// SQuAD's articles with paragraphs with questions, or flat records.
void Squad(const Json& document, const Place& at, std::vector<Json>* out) {
  const auto answers_of = [&](const Json& record) {
    Json answers = Json::array();
    const Json& given = Member(record, "answers", at);
    const Json& list = given.is_object() && given.contains("text") ? given["text"] : given;
    for (const Json& answer : list)
      answers.push_back(answer.is_object() ? answer.value("text", "") : answer.get<std::string>());
    return answers;
  };
  if (!document.contains("paragraphs")) {
    out->push_back({{"id", Text(document, "id", at)},
                    {"title", document.value("title", "")},
                    {"context", Text(document, "context", at)},
                    {"question", Text(document, "question", at)},
                    {"answers", answers_of(document)}});
    return;
  }
  for (const Json& paragraph : document["paragraphs"]) {
    for (const Json& question : Member(paragraph, "qas", at)) {
      out->push_back({{"id", Text(question, "id", at)},
                      {"title", document.value("title", "")},
                      {"context", Text(paragraph, "context", at)},
                      {"question", Text(question, "question", at)},
                      {"answers", answers_of(question)}});
    }
  }
}

std::string Detokenize(std::string text) {
  struct Plain {
    const char* from;
    const char* to;
  };
  const auto replace = [&](std::initializer_list<Plain> list) {
    for (const Plain& r : list) text = ReplaceAll(text, r.from, r.to);
  };
  const auto regex = [&](const char* pattern, const char* to) { RE2::GlobalReplace(&text, RE2(pattern), to); };
  replace({{"s '", "s'"}});
  regex(R"(/' [0-9]/)", "/'[0-9]/");
  replace({{" @-@ ", "-"},
           {" @,@ ", ","},
           {" @.@ ", "."},
           {" : ", ": "},
           {" ; ", "; "},
           {" . ", ". "},
           {" ! ", "! "},
           {" ? ", "? "},
           {" , ", ", "}});
  regex(R"(\(\s*([^\)]*?)\s*\))", R"((\1))");
  regex(R"(\[\s*([^\]]*?)\s*\])", R"([\1])");
  regex(R"(\{\s*([^}]*?)\s*\})", R"({\1})");
  regex(R"("\s*([^"]*?)\s*")", R"("\1")");
  regex(R"('\s*([^']*?)\s*')", R"('\1')");
  replace({{"= = = =", "===="},
           {"= = =", "==="},
           {"= =", "=="},
           {" \u00b0 ", "\u00b0"},
           {" \n", "\n"},
           {"\n ", "\n"},
           {" N ", " 1 "},
           {" 's", "'s"}});
  return text;
}

// " = Title = " begins an article; " = = Section = = " does not.
bool IsTitle(std::string_view line) {
  return line.starts_with(" = ") && !line.starts_with(" = =") && line.ends_with(" = ");
}

void WikiText(const Json& document, const Place& at, std::vector<Json>* out) {
  const std::string text = Text(document, document.contains("page") ? "page" : "text", at);
  std::string page;
  const auto end_page = [&] {
    if (!Strip(page).empty()) out->push_back({{"page", page}, {"text", Detokenize(page)}});
    page.clear();
  };
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    if (IsTitle(line)) end_page();
    page.append(line);
    if (end < text.size()) page += '\n';
    begin = end + 1;
  }
  end_page();
}

struct Process {
  const char* name;
  std::function<void(const Json&, const Place&, std::vector<Json>*)> run;
};

const std::vector<Process>& Processes() {
  const auto one = [](Json (*convert)(const Json&, const Place&)) {
    return [convert](const Json& document, const Place& at, std::vector<Json>* out) {
      out->push_back(convert(document, at));
    };
  };
  static const std::vector<Process> kProcesses = {
      {"arc", one(Arc)}, {"hellaswag", one(HellaSwag)}, {"winogrande", one(WinoGrande)},
      {"squad", Squad},  {"mmlu", one(Mmlu)},           {"wikitext", WikiText}};
  return kProcesses;
}

}  // namespace

std::vector<std::string> ProcessNames() {
  std::vector<std::string> names;
  for (const Process& process : Processes()) names.emplace_back(process.name);
  return names;
}

std::vector<Json> ProcessDocuments(std::string_view name, std::vector<Json> documents, const std::string& origin) {
  const auto process = std::ranges::find_if(Processes(), [&](const Process& p) { return p.name == name; });
  GS_CHECK(process != Processes().end());
  std::vector<Json> processed;
  for (size_t i = 0; i < documents.size(); ++i) {
    try {
      process->run(documents[i], {origin, i}, &processed);
    } catch (const Json::exception& error) {
      Refuse({origin, i}, "the columns of its data set", error.what());
    }
  }
  return processed;
}

}  // namespace gateskip
