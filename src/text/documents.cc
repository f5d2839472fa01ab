// SPDX-License-Identifier: Apache-2.0
#include "text/documents.h"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <optional>
#include <utility>

#include "base/check.h"
#include "base/thread_pool.h"
#include "io/json.h"
#include "text/text_reader.h"
#include "text/utf8.h"

namespace gateskip {
namespace {

using Json = nlohmann::json;

constexpr size_t kMaxArrayBytes = size_t{4} << 30;
constexpr size_t kMaxRowItems = 1'000'000;  // keys and values of one record
constexpr size_t kPieceBytes = 8192;        // of plain text
constexpr size_t kMaxExamples = 5;
// Rows are encoded in batches that the threads share: enough of them to keep all busy.
constexpr size_t kBatchRows = 256;
constexpr size_t kBatchBytes = size_t{1} << 20;

enum class Format { kLines, kArray, kText };

// A row on its way; after encoding it has either a document or an error.
struct Row {
  TextPart part;  // kLines, kText
  Json record;    // kArray
  uint64_t index = 0;
  std::string origin;
  EncodedDocument document;
  std::optional<Error> error;
};

Format FormatOf(const std::string& path, TextReader& reader) {
  std::string extension = std::filesystem::path(path).extension().string();
  for (char& c : extension) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  if (extension == ".jsonl" || extension == ".ndjson") return Format::kLines;
  if (extension == ".json") return reader.FirstByte() == '[' ? Format::kArray : Format::kLines;
  return Format::kText;
}

// The error of one row, which the others do not share.
bool IsRowError(ErrorCode code) {
  return code == ErrorCode::kCorruptData || code == ErrorCode::kInvalidArgument || code == ErrorCode::kLimitExceeded;
}

class Reading {
 public:
  Reading(std::istream& in, const std::string& path, const Tokenizer& tokenizer, const DocumentOptions& options,
          const DocumentSink& sink)
      : path_(path),
        options_(options),
        sink_(sink),
        encoder_(tokenizer, options.encode),
        pool_(options.threads),
        reader_(in, path),
        format_(FormatOf(path, reader_)) {
    report_.path = path;
  }

  DocumentReport Run() {
    if (format_ == Format::kArray) ReadArray();
    while (!stopped_ && NextRow()) {
    }
    EncodeBatch();
    if (!stopped_ && report_.used == 0) FailUnused();
    return std::move(report_);
  }

 private:
  void ReadArray() { array_ = ParseJson(reader_.Rest(kMaxArrayBytes), path_); }

  // Puts the next row that is not blank into the batch. False at the end of the file.
  bool NextRow() {
    Row row;
    if (format_ == Format::kArray) {
      if (next_ == array_.size()) return false;
      row.record = std::move(array_[next_++]);
      row.origin = fmt::format("{} record {}", path_, next_);
    } else if (format_ == Format::kLines) {
      if (!reader_.NextLine(options_.max_row_bytes, &row.part)) return false;
      if (row.part.text.find_first_not_of(" \t\r") == std::string::npos && row.part.bytes == row.part.text.size()) {
        return true;
      }
    } else if (!reader_.NextPiece(kPieceBytes, &row.part)) {
      return false;
    }
    if (format_ != Format::kArray) row.origin = fmt::format("{}:{}", path_, row.part.line);
    row.index = report_.rows++;
    batch_bytes_ += row.part.text.size();
    batch_.push_back(std::move(row));
    if (batch_.size() >= kBatchRows || batch_bytes_ >= kBatchBytes) EncodeBatch();
    return true;
  }

  Document DocumentOf(const Row& row) const {
    if (format_ == Format::kArray) return ParseRecord(row.record, options_.fields, row.origin);
    if (format_ == Format::kLines) {
      if (row.part.bytes > row.part.text.size()) {
        Fail(ErrorCode::kLimitExceeded, "[{}] line: expected at most {} bytes, found {}; split the row", row.origin,
             options_.max_row_bytes, row.part.bytes);
      }
      return ParseRecord(ParseJson(row.part.text, row.origin, 64, kMaxRowItems), options_.fields, row.origin);
    }
    const std::string& text = row.part.text;
    if (const size_t bad = FindInvalidUtf8(text); bad != std::string::npos) {
      const auto lines = std::count(text.begin(), text.begin() + static_cast<ptrdiff_t>(bad), '\n');
      Fail(ErrorCode::kCorruptData, "[{}:{}] text: expected UTF-8, found the byte 0x{:02X}; convert the file", path_,
           row.part.line + static_cast<uint64_t>(lines), static_cast<uint8_t>(text[bad]));
    }
    Document document;
    document.text = text;
    document.whole = false;
    return document;
  }

  void EncodeBatch() {
    std::atomic<size_t> next{0};
    pool_.Run([&](int) {
      for (size_t i = next++; i < batch_.size(); i = next++) {
        Row& row = batch_[i];
        try {
          row.document = encoder_.Encode(DocumentOf(row), row.index, row.origin);
        } catch (const Error& error) {
          row.error = error;
        }
      }
    });
    for (Row& row : batch_) {
      if (stopped_) break;
      if (row.error) {
        Skip(*row.error);
      } else {
        ++report_.used;
        report_.turns_left_out += static_cast<uint64_t>(row.document.turns_left_out);
        stopped_ = !sink_(std::move(row.document));
      }
    }
    if (stopped_) report_.rows = report_.used + report_.skipped;
    batch_.clear();
    batch_bytes_ = 0;
  }

  void Skip(const Error& error) {
    if (options_.strict || !IsRowError(error.code())) throw Error(error);
    ++report_.skipped;
    if (report_.examples.size() < kMaxExamples) report_.examples.emplace_back(error.what());
  }

  [[noreturn]] void FailUnused() const {
    if (report_.rows == 0) {
      Fail(ErrorCode::kInvalidArgument, "[{}] text: expected at least one row, found none; name another file", path_);
    }
    Fail(ErrorCode::kCorruptData, "[{}] rows: expected one that can be used, found {} that cannot; the first: {}",
         path_, report_.rows, report_.examples.front());
  }

  const std::string& path_;
  const DocumentOptions& options_;
  const DocumentSink& sink_;
  const DocumentEncoder encoder_;
  ThreadPool pool_;
  TextReader reader_;
  const Format format_;
  Json array_;
  size_t next_ = 0;  // of array_
  std::vector<Row> batch_;
  size_t batch_bytes_ = 0;
  bool stopped_ = false;
  DocumentReport report_;
};

}  // namespace

DocumentReport ReadDocuments(std::istream& in, const std::string& path, const Tokenizer& tokenizer,
                             const DocumentOptions& options, const DocumentSink& sink) {
  ValidateRecordFields(options.fields);
  return Reading(in, path, tokenizer, options, sink).Run();
}

DocumentReport ReadDocuments(const std::string& path, const Tokenizer& tokenizer, const DocumentOptions& options,
                             const DocumentSink& sink) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (!std::filesystem::is_regular_file(status)) {  // a pipe may never end, nor come twice for a resumed run
    Fail(ErrorCode::kNotFound, "[{}] text: expected a readable file, found {}; check the path", path,
         error                                   ? error.message()
         : std::filesystem::is_directory(status) ? "a directory"
                                                 : "something else");
  }
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    Fail(ErrorCode::kIo, "[{}] text: expected a readable file, found that it cannot be opened; check its permissions",
         path);
  }
  return ReadDocuments(in, path, tokenizer, options, sink);
}

}  // namespace gateskip
