// SPDX-License-Identifier: Apache-2.0
// What a template cannot do: the data sets' original records to plain columns. The formulas are those of
// lm-evaluation-harness 0.4 (its tasks/<name>/utils.py); tests/golden/make_task_golden.py compares.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace gateskip {

//   arc             question, choices, answer (index): of ARC, OpenBookQA and CommonsenseQA as published, of the hub's
//                   columns, and of the `instruction` form "... Answer1: a Answer2: b ..."
//   hellaswag       query, choices, label: of the published records, and of six lines (context, label, four endings)
//   winogrande      contexts, continuation, answer: partial evaluation, the options stand in the context
//   squad           id, title, context, question, answers: flattened
//   mmlu            question, choices, answer (index), subject
//   wikitext        page (as published), text (detokenised): a document per article
std::vector<std::string> ProcessNames();

// Throws Error(kCorruptData) naming the document and what it lacks.
std::vector<nlohmann::json> ProcessDocuments(std::string_view name, std::vector<nlohmann::json> documents,
                                             const std::string& origin);

}  // namespace gateskip
