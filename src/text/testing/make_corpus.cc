// SPDX-License-Identifier: Apache-2.0
// Writes the seed corpora of the fuzz targets of this folder (tests/data/fuzz) from the goldens in tests/data:
// templates and tokenizers that are known to work, the small ones put together, the large ones cut to few tokens. Files
// there called found_ are what fuzzing broke something with, made small by hand.
//
// usage: gs_text_make_corpus TESTS_DATA      (the folder that holds chat_templates.json, hub_tokenizers.json and fuzz/)
#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "text/testing/small_tokenizers.h"

namespace gateskip::testing {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

void Write(const fs::path& path, std::string_view bytes) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

// Whole templates of models, each with a message; the small ones, which are one construct each, six to a file.
void WriteTemplates(const Json& goldens, const fs::path& folder) {
  constexpr size_t kSmallPerFile = 6;
  std::set<std::string> seen;
  std::vector<std::string> small;
  for (const Json& row : goldens) {
    const auto name = row["name"].get<std::string>();
    const auto source = row["template"].get<std::string>();
    if (!seen.insert(source).second) continue;
    if (!name.starts_with("small_")) {
      Write(folder / name, source + "\xFFWhat is 2 + 2?\n<think>\nsum\n</think>\n\n4");
    } else if (row.contains("expected")) {  // the others end where they stand
      small.push_back(source);
    }
  }
  for (size_t i = 0; i < small.size(); i += kSmallPerFile) {
    std::string joined;
    for (size_t k = i; k < std::min(i + kSmallPerFile, small.size()); ++k) joined += small[k] + "\n";
    Write(folder / fmt::format("small_{:02}", i / kSmallPerFile), joined);
  }
}

// A vocabulary of the special tokens, a few bytes, and what a few merges build.
Json CutVocabulary(const Json& tokenizer) {
  constexpr size_t kMerges = 6;
  Json cut = tokenizer;
  for (const char* key : {"version", "truncation", "padding", "decoder"}) cut.erase(key);
  const Json& vocab = tokenizer["model"]["vocab"];
  std::set<std::string> texts = {"<unk>", "<s>", "</s>", "a", " ", "1", "\u0120", "\u2581", "<0x20>", "<0xC3>"};
  Json merges = Json::array();
  for (const Json& rule : tokenizer["model"]["merges"]) {
    if (merges.size() == kMerges) break;
    merges.push_back(rule);
    const auto left = rule[0].get<std::string>();
    const auto right = rule[1].get<std::string>();
    texts.insert({left, right, left + right});
  }
  Json kept = Json::object();
  for (const std::string& text : texts) {
    if (vocab.contains(text)) kept[text] = static_cast<int>(kept.size());
  }
  auto next = static_cast<int>(kept.size());
  for (Json& token : cut["added_tokens"]) {
    const auto text = token["content"].get<std::string>();
    token["id"] = kept.contains(text) ? kept[text] : Json(next++);
  }
  cut["model"]["vocab"] = kept;
  cut["model"]["merges"] = merges;
  return cut;
}

void WriteTokenizers(const Json& goldens, const fs::path& folder) {
  const Json config = {{"bos_token", "<s>"}, {"eos_token", {{"content", "</s>"}}}};
  for (const auto& [name, golden] : goldens.items()) {
    const Json cut = CutVocabulary(golden["tokenizer"]);
    Write(folder / name, cut.dump());
    Write(folder / (name + "_config"), cut.dump() + std::string(1, '\0') + config.dump());
  }
  Json other = CutVocabulary(goldens["gpt2"]["tokenizer"]);
  other["model"]["merges"] = {"t h", "th e"};  // rules as lines of text
  other["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {other["pre_tokenizer"]}}};
  Json named = config;
  named["add_bos_token"] = true;
  named["chat_template"] = {{{"name", "default"}, {"template", "{{ messages }}"}}};
  Write(folder / "merges_as_lines", other.dump() + std::string(1, '\0') + named.dump());
}

void WriteTexts(const fs::path& folder) {
  constexpr std::string_view kTexts[] = {
      "hello he's  12345\n\n \u00e9\u4e2d\U0001f600 <keep></s><|x|>1 EOT EOTE <0x41>\u2581h\t'LL x",
      "\xE2\x96 \xE2\x96\x81\xC3\xA9\xC3 \xF0\x9F\x98 \xFF\x80\xED\xA0\x80 EOT <|x|></s><0x41  hello",
  };
  const auto& tokenizers = SmallTokenizers();
  for (size_t i = 0; i < tokenizers.size(); ++i) {
    for (size_t k = 0; k < std::size(kTexts); ++k) {
      Write(folder / fmt::format("{}_{}", tokenizers[i].name, k), static_cast<char>('0' + i) + std::string(kTexts[k]));
    }
  }
}

void WriteDocuments(const fs::path& folder) {
  const std::string rows =
      "{\"text\": \"a text\"}\n\n{\"prompt\": \"p\", \"completion\": \"c\"}\r\n"
      "{\"instruction\": \"i\", \"input\": \"n\", \"output\": \"o\"}\n{\"question\": \"q\", \"answer\": \"a\"}\n"
      "{\"messages\": [{\"role\": \"user\", \"content\": \"u\"}, {\"role\": \"assistant\", \"content\": "
      "\"<t>h</t>a\"}, "
      "{\"role\": \"user\", \"content\": \"v\"}, {\"role\": \"assistant\", \"content\": \"<t>i</t> b\"}]}\n"
      "{\"conversations\": [{\"from\": \"human\", \"value\": \"u\"}, {\"from\": \"gpt\", \"value\": \"a\"}]}\n";
  Write(folder / "rows", "l" + rows);
  Write(folder / "rows_in_json", "j" + rows);
  Write(folder / "bad_rows",
        "l{\"text\": 1}\n{\"txt\": \"a\"}\n[1]\n{\"text\": \"\xFF\"}\n{\n{\"messages\": [{}]}\n" + rows);
  Write(folder / "array", "j [{\"text\": \"a\"}, 7, {\"prompt\": \"p\", \"completion\": \"c\"}]");
  Write(folder / "text", "t\xEF\xBB\xBFsome lines\n\nof text \u00e9");
  Write(folder / "no_utf8", "tsome lines\nof \xE9 text");
}

Json Read(const fs::path& path) {
  std::ifstream file(path);
  return Json::parse(file);
}

}  // namespace
}  // namespace gateskip::testing

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: gs_text_make_corpus TESTS_DATA\n");
    return 2;
  }
  const std::filesystem::path data = argv[1];
  gateskip::testing::WriteTemplates(gateskip::testing::Read(data / "chat_templates.json"), data / "fuzz/chat_template");
  gateskip::testing::WriteTokenizers(gateskip::testing::Read(data / "hub_tokenizers.json"),
                                     data / "fuzz/tokenizer_hub");
  gateskip::testing::WriteTexts(data / "fuzz/tokenizer_text");
  gateskip::testing::WriteDocuments(data / "fuzz/documents");
  return 0;
}
