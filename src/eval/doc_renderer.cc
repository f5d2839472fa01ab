// SPDX-License-Identifier: Apache-2.0
#include "eval/doc_renderer.h"

#include <algorithm>
#include <charconv>

#include "base/check.h"
#include "text/utf8.h"

namespace gateskip {
namespace {

using nlohmann::json;

// A rendered "3" is the number 3 where there are choices to count; what a column holds stays as it is.
std::optional<int64_t> Digits(const std::string& text) {
  int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool whole = error == std::errc() && end == text.data() + text.size() && !text.empty() && text[0] != '-';
  return whole ? std::optional(number) : std::nullopt;
}

std::string PlainText(const json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "True" : "False";
  return value.dump();
}

}  // namespace

DocRenderer::DocRenderer(const TaskSpec& spec)
    : spec_(spec),
      description_(Compile("description", spec.description, DocTemplate::Kind::kText)),
      text_(Compile("doc_to_text", spec.doc_to_text, DocTemplate::Kind::kText)),
      target_(Compile("doc_to_target", spec.doc_to_target, DocTemplate::Kind::kText)),
      choice_(Compile("doc_to_choice", spec.doc_to_choice, DocTemplate::Kind::kList)),
      references_(Compile("doc_to_references", spec.doc_to_references, DocTemplate::Kind::kList)),
      counted_(Compile("doc_to_counted", spec.doc_to_counted, DocTemplate::Kind::kText)) {}

std::optional<DocTemplate> DocRenderer::Compile(const char* key, const std::string& source,
                                                DocTemplate::Kind kind) const {
  if (source.empty()) return std::nullopt;
  return DocTemplate(source, kind, spec_.origin, key);
}

RenderedDoc DocRenderer::Render(const DocVariables& variables) const {
  RenderedDoc doc;
  doc.choices = choice_ ? choice_->EvaluateTexts(variables) : spec_.choices;
  const bool has_choices = choice_.has_value() || !spec_.choices.empty();
  if (text_) {
    doc.text = text_->EvaluateText(variables);
    if (has_choices && !text_->IsColumn(variables)) doc.right_text = Digits(doc.text);
  }
  doc.target = target_->Evaluate(variables);
  if (has_choices && !target_->IsColumn(variables) && doc.target.is_string()) {
    if (const auto number = Digits(doc.target.get_ref<const std::string&>())) doc.target = *number;
  }
  return doc;
}

std::string DocRenderer::Description(const DocVariables& variables) const {
  return description_ ? description_->EvaluateText(variables) : std::string();
}
std::vector<std::string> DocRenderer::References(const DocVariables& variables) const {
  if (references_) return references_->EvaluateTexts(variables);
  return Targets(Render(variables), variables.doc().origin);
}
std::string DocRenderer::Counted(const DocVariables& variables) const {
  return (counted_ ? *counted_ : *target_).EvaluateText(variables);
}

size_t DocRenderer::ChoiceIndex(const json& target, const RenderedDoc& doc, const std::string& origin) const {
  if (target.is_string()) {
    const auto found = std::find(doc.choices.begin(), doc.choices.end(), target.get_ref<const std::string&>());
    if (found != doc.choices.end()) return static_cast<size_t>(found - doc.choices.begin());
  } else if (target.is_boolean()) {
    if (static_cast<size_t>(target.get<bool>()) < doc.choices.size()) return target.get<bool>() ? 1 : 0;
  } else if (target.is_number_integer()) {
    const auto index = target.get<int64_t>();
    if (index >= 0 && static_cast<size_t>(index) < doc.choices.size()) return static_cast<size_t>(index);
  }
  Fail(ErrorCode::kInvalidArgument,
       "[{}] doc_to_target: expected one of the {} choices or its index, found {}; change the task or the data", origin,
       doc.choices.size(), ReadableText(target.dump(-1, ' ', false, json::error_handler_t::replace), 64));
}

std::vector<size_t> DocRenderer::RightChoices(const RenderedDoc& doc, const std::string& origin) const {
  if (doc.right_text) return {ChoiceIndex(*doc.right_text, doc, origin)};
  if (!doc.target.is_array()) return {ChoiceIndex(doc.target, doc, origin)};
  std::vector<size_t> right;
  for (const json& target : doc.target) right.push_back(ChoiceIndex(target, doc, origin));
  if (right.empty()) ChoiceIndex(doc.target, doc, origin);  // throws
  return right;
}

std::vector<std::string> DocRenderer::Targets(const RenderedDoc& doc, const std::string& origin) const {
  const bool picks = !doc.choices.empty() && !doc.right_text;
  const auto text_of = [&](const json& target) {
    const bool index = picks && (target.is_number_integer() || target.is_boolean());
    return index ? doc.choices[ChoiceIndex(target, doc, origin)] : PlainText(target);
  };
  if (!doc.target.is_array()) return {text_of(doc.target)};
  std::vector<std::string> texts;
  for (const json& target : doc.target) texts.push_back(text_of(target));
  if (!texts.empty()) return texts;
  Fail(ErrorCode::kInvalidArgument,
       "[{}] doc_to_target: expected one answer or more, found an empty list; change the "
       "task or the data",
       origin);
}

std::string DocRenderer::Example(const RenderedDoc& doc, const std::string& origin) const {
  const std::string& question = doc.right_text ? doc.choices[ChoiceIndex(*doc.right_text, doc, origin)] : doc.text;
  const std::string answer = Targets(doc, origin).front();
  if (answer.empty()) return question;
  return question + spec_.target_delimiter + answer + spec_.fewshot_delimiter;
}

FewshotSource::FewshotSource(const DocRenderer& renderer, std::vector<Doc> docs, FewshotSampler sampler,
                             bool exclude_document, int count, uint64_t seed)
    : renderer_(renderer),
      docs_(std::move(docs)),
      examples_(docs_.size()),
      sampler_(sampler),
      exclude_document_(exclude_document),
      count_(static_cast<size_t>(count)),
      random_(seed) {
  if (docs_.size() < count_) FailTooFew(docs_.size());
}

void FewshotSource::FailTooFew(size_t found) const {
  Fail(ErrorCode::kInvalidArgument,
       "[{}] few-shot documents: expected {} or more, found {}; lower num_fewshot or name another file",
       docs_.empty() ? std::string("data") : docs_[0].origin, count_ + (exclude_document_ ? 1 : 0), found);
}

std::vector<size_t> FewshotSource::Draw(const Doc& doc) {
  const auto others = [&](const std::vector<size_t>& drawn) {
    std::vector<size_t> kept;
    for (const size_t i : drawn) {
      if (docs_[i].record != doc.record) kept.push_back(i);
    }
    return kept;
  };
  std::vector<size_t> all(docs_.size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = i;
  if (sampler_ == FewshotSampler::kFirstN) {
    if (exclude_document_) all = others(all);
    if (all.size() < count_) FailTooFew(all.size());
    all.resize(count_);
    return all;
  }
  if (!exclude_document_) return random_.Sample(docs_.size(), count_);
  if (docs_.size() < count_ + 1) FailTooFew(docs_.size());
  std::vector<size_t> drawn = others(random_.Sample(docs_.size(), count_ + 1));
  if (drawn.size() < count_) {  // the document is there more than once
    const std::vector<size_t> pool = others(all);
    if (pool.size() < count_) FailTooFew(pool.size());
    drawn.clear();
    for (const size_t i : random_.Sample(pool.size(), count_)) drawn.push_back(pool[i]);
  }
  drawn.resize(count_);
  return drawn;
}

const std::string& FewshotSource::Example(size_t i) {
  if (!examples_[i]) examples_[i] = renderer_.Example(renderer_.Render(DocVariables(docs_[i])), docs_[i].origin);
  return *examples_[i];
}

std::string FewshotSource::Examples(const Doc& doc) {
  std::string text;
  for (const size_t i : Draw(doc)) text += Example(i);
  return text;
}

}  // namespace gateskip
