// SPDX-License-Identifier: Apache-2.0
// `gateskip tokenize`: text to token ids and back. Reads the vocabulary only, never the weights.
#include <fmt/format.h>

#include <charconv>
#include <filesystem>
#include <memory>

#include "base/check.h"
#include "command.h"
#include "flags.h"
#include "io/gguf.h"
#include "report.h"
#include "terminal.h"
#include "text/tokenizer.h"

namespace gateskip::cli {
namespace {

struct TokenizeCommand {
  PathFlags paths;
  TextSource text;
  std::string ids;
  bool no_bos = false;
  bool no_special = false;
  bool count = false;
  bool json = false;
};

// Ids between commas or spaces, brackets around them allowed: the output of --json can be pasted back.
std::vector<int32_t> ParseIds(const std::string& text, int32_t vocab_size) {
  std::vector<int32_t> ids;
  size_t at = 0;
  const auto is_separator = [](char c) { return c == ',' || c == ' ' || c == '\n' || c == '[' || c == ']'; };
  while (at < text.size()) {
    if (is_separator(text[at])) {
      ++at;
      continue;
    }
    size_t end = at;
    while (end < text.size() && !is_separator(text[end])) ++end;
    int32_t id = -1;
    const auto [stopped, error] = std::from_chars(text.data() + at, text.data() + end, id);
    if (error != std::errc() || stopped != text.data() + end || id < 0 || id >= vocab_size) {
      Fail(ErrorCode::kInvalidArgument, "[command line] --ids: expected token ids in [0, {}), found '{}'", vocab_size,
           Printable(text.substr(at, std::min<size_t>(end - at, 64))));
    }
    ids.push_back(id);
    at = end;
  }
  return ids;
}

std::shared_ptr<const Tokenizer> OpenTokenizer(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return Tokenizer::FromHubDirectory(path);
  return Tokenizer::FromGguf(*GgufFile::Open(path));
}

int Run(const TokenizeCommand& flags) {
  RequireModel(flags.paths);
  std::string text;
  if (flags.ids.empty()) text = ReadText(flags.text, kMaxPromptBytes);
  const std::shared_ptr<const Tokenizer> tokenizer = OpenTokenizer(flags.paths.model);

  std::vector<int32_t> ids;
  if (!flags.ids.empty()) {
    ids = ParseIds(flags.ids, tokenizer->vocab_size());
    if (!flags.json && !flags.count) {
      WriteStdout(tokenizer->Decode(ids, /*special=*/true) + "\n");
      return 0;
    }
  } else {
    if (!flags.no_bos && tokenizer->add_bos() && tokenizer->bos()) ids.push_back(*tokenizer->bos());
    const std::vector<int32_t> encoded = tokenizer->Encode(text, /*parse_special=*/!flags.no_special);
    ids.insert(ids.end(), encoded.begin(), encoded.end());
  }

  if (flags.json) {
    Json pieces = Json::array();
    for (const int32_t id : ids) pieces.push_back(tokenizer->TokenBytes(id, /*special=*/true));
    PrintJson({{"count", ids.size()}, {"ids", ids}, {"pieces", pieces}, {"text", tokenizer->Decode(ids, true)}});
  } else if (flags.count) {
    WriteStdout(fmt::format("{}\n", ids.size()));
  } else {
    for (const int32_t id : ids) {
      if (!WriteStdout(fmt::format("{:>8}  '{}'\n", id, Printable(tokenizer->TokenBytes(id, /*special=*/true))))) break;
    }
  }
  return 0;
}

}  // namespace

void AddTokenize(CLI::App& app, Command& command) {
  const auto flags = std::make_shared<TokenizeCommand>();
  CLI::App* sub = app.add_subcommand("tokenize", "Text to token ids and back");
  AddModelPath(*sub, &flags->paths);
  AddPromptFlags(*sub, &flags->text, "The text; without -p, -f and --ids it is read from stdin");
  sub->add_option("--ids", flags->ids, "The other way: token ids between commas or spaces, to text")
      ->type_name("N,N,...")
      ->group("Input");
  sub->add_flag("--no-bos", flags->no_bos, "No begin-of-text token in front, even if the model wants it")
      ->group("Input");
  sub->add_flag("--no-special", flags->no_special, "Take '<|im_start|>' and the like as plain text")->group("Input");
  sub->add_flag("--count", flags->count, "Print only how many tokens there are")->group("Output");
  AddJson(*sub, &flags->json);
  sub->footer(
      "Examples:\n"
      "  gateskip tokenize -m model.gguf -p 'Hello world'\n"
      "  gateskip tokenize -m model.gguf --ids 19556,905");
  sub->callback([flags, &command] { command.run = [flags] { return Run(*flags); }; });
}

}  // namespace gateskip::cli
