// SPDX-License-Identifier: Apache-2.0
// The files a user names as training or calibration text, as a stream of encoded documents: records (.jsonl and
// .ndjson, or .json with an array or with one record per line) and plain text (.txt, .md and any other name). Read in
// bounded parts, so a file may be larger than memory; only arrays are read whole.
//
// A bad row (not JSON, invalid UTF-8, columns missing or of a wrong type, no text, too long, refused by the chat
// template) is counted, the first few are named, and the file goes on without it.
#pragma once

#include <cstdint>
#include <functional>
#include <istream>
#include <string>
#include <vector>

#include "text/document_encoder.h"

namespace gateskip {

struct DocumentOptions {
  RecordFields fields = {};
  EncodeOptions encode = {};
  bool strict = false;                      // a bad row is an error
  size_t max_row_bytes = size_t{64} << 20;  // of a line of records
  int threads = 1;                          // the result does not depend on it
};

// What was read of one file. A row is a record, or a piece of plain text; blank lines are none.
struct DocumentReport {
  std::string path;
  uint64_t rows = 0;
  uint64_t used = 0;
  uint64_t skipped = 0;               // rows = used + skipped
  std::vector<std::string> examples;  // why, of the first skipped rows: `[file:line] subject: expected X, found Y; ...`
  uint64_t turns_left_out = 0;        // EncodedDocument::turns_left_out
};

// Takes the documents in file order; false ends the reading.
using DocumentSink = std::function<bool(EncodedDocument&&)>;

// Plain text comes in pieces of some kilobytes, cut at line ends. Throws Error: kNotFound, kIo, kInvalidArgument (an
// empty file), kCorruptData (no usable row; a broken array), kLimitExceeded (an array over 4 GiB), kUnsupported (a chat
// for a model without a chat template); the error of the first bad row when strict.
DocumentReport ReadDocuments(const std::string& path, const Tokenizer& tokenizer, const DocumentOptions& options,
                             const DocumentSink& sink);
// The same of an open stream; `path` names it and tells its format.
DocumentReport ReadDocuments(std::istream& in, const std::string& path, const Tokenizer& tokenizer,
                             const DocumentOptions& options, const DocumentSink& sink);

}  // namespace gateskip
