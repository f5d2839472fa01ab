// SPDX-License-Identifier: Apache-2.0
// What templates cannot do: records of a data set's original files as the documents that the harness's tasks see. The
// columns each one gives are listed in docs/eval_tasks.md.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "eval/doc_template.h"
#include "eval/task_spec.h"

namespace gateskip {

// In the records' order; a record may become several documents. Indices are those of the documents, from 0.
// Throws Error(kInvalidArgument): a record without the columns that are needed.
std::vector<Doc> ProcessRecords(ProcessDocs process, std::vector<Doc> records);

// Wikitext's tokenisation undone, as the harness does it (" @-@ ", " , ", spaces inside brackets and quotes, ...).
std::string DetokenizeWikitext(const std::string& page);
// A whole file's articles: each from its line " = Title = " to the next one's.
std::vector<std::string> SplitWikitext(std::string_view text);
// WikiHow's marks out of a HellaSwag text: " [title]" is ". ", other brackets go with what they hold.
std::string CleanHellaswag(std::string_view text);

}  // namespace gateskip
