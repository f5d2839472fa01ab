// SPDX-License-Identifier: Apache-2.0
// Task files with a few documents: the file parses or is refused by name; a task that loads gives every instance its
// requests, and scores any answer. An input is a task file, a NUL, and a data file.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "eval/data_reader.h"
#include "eval/doc_renderer.h"
#include "eval/process_docs.h"
#include "text/testing/laws.h"

namespace gateskip::testing {
namespace {

void Check(const std::string& input) {
  const size_t nul = input.find('\0');
  const TaskSpec spec = ParseTask(input.substr(0, nul), "fuzz.toml");
  Require(!spec.name.empty() && !spec.metrics.empty() && !spec.filters.empty(), "a task is whole");
  if (nul == std::string::npos) return;
  const DocRenderer renderer(spec);
  for (const Doc& doc : ProcessRecords(spec.process_docs, ParseDocs(spec.data, input.substr(nul + 1), "fuzz"))) {
    const DocVariables variables(doc);
    const RenderedDoc rendered = renderer.Render(variables);
    if (spec.output_type != OutputType::kMultipleChoice) continue;
    for (const size_t right : renderer.RightChoices(rendered, doc.origin)) {
      Require(right < rendered.choices.size(), "a right choice is one of the choices");
    }
    renderer.Example(rendered, doc.origin);
  }
}

}  // namespace
}  // namespace gateskip::testing

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    gateskip::testing::Check(std::string(reinterpret_cast<const char*>(data), size));
  } catch (const gateskip::Error& error) {
    gateskip::testing::CheckError(error);
  }
  return 0;
}
