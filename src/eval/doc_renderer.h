// SPDX-License-Identifier: Apache-2.0
// A document by the templates of its task, and prompts put together from documents, as the harness's
// ConfigurableTask.fewshot_context and build_qa_turn do it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "eval/doc_template.h"
#include "eval/python_random.h"
#include "eval/task_spec.h"

namespace gateskip {

// One document, rendered.
struct RenderedDoc {
  std::string text;                   // doc_to_text
  std::optional<int64_t> right_text;  // doc_to_text gave a number: the choices are the texts, this one is right
  std::vector<std::string> choices;   // doc_to_choice
  nlohmann::json target;              // doc_to_target: a text, the index of a choice, or a list of either
};

class DocRenderer {
 public:
  explicit DocRenderer(const TaskSpec& spec);

  // Throws Error(kInvalidArgument): a template that fails, a label that is none of the choices.
  RenderedDoc Render(const DocVariables& variables) const;
  std::string Description(const DocVariables& variables) const;
  std::vector<std::string> References(const DocVariables& variables) const;  // doc_to_references, or the targets
  std::string Counted(const DocVariables& variables) const;                  // doc_to_counted, or the target

  // Indices of the right choices; of multiple_choice and of generate_until with choices.
  std::vector<size_t> RightChoices(const RenderedDoc& doc, const std::string& origin) const;
  // The right answers as texts; the first is shown in few-shot examples.
  std::vector<std::string> Targets(const RenderedDoc& doc, const std::string& origin) const;
  // question + target_delimiter + answer + fewshot_delimiter
  std::string Example(const RenderedDoc& doc, const std::string& origin) const;

 private:
  std::optional<DocTemplate> Compile(const char* key, const std::string& source, DocTemplate::Kind kind) const;
  size_t ChoiceIndex(const nlohmann::json& target, const RenderedDoc& doc, const std::string& origin) const;

  const TaskSpec spec_;
  std::optional<DocTemplate> description_;
  std::optional<DocTemplate> text_;
  std::optional<DocTemplate> target_;
  std::optional<DocTemplate> choice_;
  std::optional<DocTemplate> references_;
  std::optional<DocTemplate> counted_;
};

// Draws the few-shot examples of one file's documents, which are to be asked for in their order.
class FewshotSource {
 public:
  // `docs` are the candidates. With exclude_document, one more is drawn and the document itself taken out.
  // Throws Error(kInvalidArgument): fewer documents than are to be drawn.
  FewshotSource(const DocRenderer& renderer, std::vector<Doc> docs, FewshotSampler sampler, bool exclude_document,
                int count, uint64_t seed);

  std::string Examples(const Doc& doc);

 private:
  std::vector<size_t> Draw(const Doc& doc);
  const std::string& Example(size_t i);
  [[noreturn]] void FailTooFew(size_t found) const;

  const DocRenderer& renderer_;
  std::vector<Doc> docs_;
  std::vector<std::optional<std::string>> examples_;  // rendered when first drawn
  FewshotSampler sampler_;
  bool exclude_document_;
  size_t count_;
  PythonRandom random_;
};

}  // namespace gateskip
