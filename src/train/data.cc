// SPDX-License-Identifier: Apache-2.0
#include "train/data.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "base/check.h"
#include "base/sha256.h"

namespace gateskip::train {
namespace {

// Running text is shuffled in documents of so many sequences: long enough that most sequences are of one document,
// short enough that a book's sequences begin elsewhere in every epoch.
constexpr int64_t kSequencesPerText = 8;

// A file's documents as it gave them; running text still in the reader's pieces.
struct FileTokens {
  TokenStore store;
  std::vector<bool> whole;  // per document
};

FileTokens ReadFile(const TrainSource& source, const Tokenizer& tokenizer, const DataOptions& options,
                    DocumentReport* report) {
  DocumentOptions documents;
  documents.fields = source.fields;
  documents.encode.pairs = options.pairs;
  documents.encode.loss_on_prompts = options.loss_on_prompts;
  documents.strict = options.strict;
  documents.max_row_bytes = static_cast<size_t>(options.max_row_bytes);
  documents.threads = options.threads;
  FileTokens file;
  *report = ReadDocuments(source.path, tokenizer, documents, [&](EncodedDocument&& document) {
    file.store.Append(document.ids, document.in_loss);
    file.whole.push_back(document.whole);
    return true;
  });
  return file;
}

// Keeps documents [begin, end) of a file, running text joined to documents of about `text_tokens` tokens; `exact`: of
// just so many (Packing::kNone, which would cut off what is longer).
TokenStore TakePart(FileTokens file, size_t begin, size_t end, int64_t text_tokens, bool exact) {
  std::vector<int64_t> begins = {file.store.Begin(begin)};
  for (size_t d = begin; d < end; ++d) {
    const int64_t stop = file.store.Begin(d + 1);
    if (file.whole[d]) {
      begins.push_back(stop);
      continue;
    }
    while (stop - begins.back() >= text_tokens) begins.push_back(exact ? begins.back() + text_tokens : stop);
  }
  const int64_t stop = file.store.Begin(end);
  if (begins.back() < stop) begins.push_back(stop);
  file.store.Keep(std::move(begins));
  return std::move(file.store);
}

void HashDocuments(const TokenStore& store, Sha256* hash) {
  for (size_t d = 0; d < store.size(); ++d) {
    const std::span<const uint32_t> words = store.Words(d);
    const uint64_t length = words.size();  // where documents end is part of it
    hash->Update(std::as_bytes(std::span(&length, 1)));
    hash->Update(std::as_bytes(words));
  }
}

std::vector<double> Weights(const std::vector<TrainSource>& sources) {
  std::vector<double> weights;
  for (const TrainSource& source : sources) weights.push_back(source.weight);
  return weights;
}

}  // namespace

DataOptions DataOptionsOf(const TrainOptions& options) {
  return {.sequence_length = options.sequence_length,
          .seed = options.seed,
          .packing = options.packing,
          .pairs = options.pair_format,
          .loss_on_prompts = options.loss_on_prompts,
          .strict = options.strict_data,
          .max_row_bytes = options.max_row_bytes,
          .threads = options.threads};
}

std::vector<std::string> SourceReport::Lines() const {
  std::string line = fmt::format("{}: {} rows", rows.path, rows.rows);
  if (rows.skipped > 0) line += fmt::format(", {} skipped", rows.skipped);
  line += fmt::format("; {} documents of {} tokens, {} of them in the loss", documents, tokens, targets);
  if (cut > 0) line += fmt::format("; {} cut to a sequence", cut);
  if (targetless > 0) line += fmt::format("; {} left out, nothing to learn in their first sequence", targetless);
  if (rows.turns_left_out > 0) {
    line += fmt::format("; {} turns not in the loss, the chat template rewrites them later", rows.turns_left_out);
  }
  std::vector<std::string> lines = {line};
  lines.insert(lines.end(), rows.examples.begin(), rows.examples.end());
  if (rows.skipped > rows.examples.size()) {
    lines.push_back(fmt::format("{}: and {} more rows skipped", rows.path, rows.skipped - rows.examples.size()));
  }
  return lines;
}

TrainData::TrainData(const std::vector<TrainSource>& sources, const Tokenizer& tokenizer, const DataOptions& options)
    : schedule_(Weights(sources), options.seed) {
  PackOptions pack;
  pack.packing = options.packing;
  pack.length = options.sequence_length;
  if (tokenizer.add_bos()) pack.bos = tokenizer.bos();
  pack.pad = tokenizer.eos().value_or(0);
  const bool none = options.packing == Packing::kNone;
  const int64_t text_tokens =
      none ? options.sequence_length - (pack.bos ? 1 : 0) : kSequencesPerText * options.sequence_length;
  Sha256 hash;
  for (size_t s = 0; s < sources.size(); ++s) {
    const TrainSource& source = sources[s];
    SourceReport report;
    TokenStore part;
    {
      FileTokens file = ReadFile(source, tokenizer, options, &report.rows);
      const auto count = static_cast<double>(file.store.size());
      const auto begin = static_cast<size_t>(source.begin * count);
      const auto end = static_cast<size_t>(source.end * count);
      if (begin >= end) {
        Fail(ErrorCode::kInvalidArgument, "[{}] part {} to {}: expected documents, found none of {} there; widen it",
             source.path, source.begin, source.end, file.store.size());
      }
      part = TakePart(std::move(file), begin, end, text_tokens, none);
    }
    HashDocuments(part, &hash);
    report.documents = static_cast<int64_t>(part.size());
    for (size_t d = 0; d < part.size(); ++d) report.tokens += part.Length(d);
    PackedSource& packed = sources_.emplace_back(std::move(part), pack, options.seed, s);
    report.targets = packed.targets();
    report.cut = packed.cut();
    report.targetless = packed.targetless();
    if (report.targets == 0) {
      Fail(ErrorCode::kInvalidArgument,
           "[{}] loss: expected tokens to learn, found none in {} documents; use longer ones, or longer sequences",
           source.path, report.documents);
    }
    if (packed.sequences_per_epoch() == 0) {
      Fail(ErrorCode::kInvalidArgument,
           "[{}] training text: expected at least {} tokens, found {}; use a longer file or a shorter sequence length",
           source.path, options.sequence_length - (pack.bos ? 1 : 0), report.tokens);
    }
    reports_.push_back(std::move(report));
  }
  sha256_ = hash.HexDigest();
}

TrainSequence TrainData::Sequence(int64_t n) {
  const SourceSchedule::Draw draw = schedule_.At(n);
  return sources_[draw.source].Sequence(draw.index);
}

std::vector<TrainSequence> TrainData::InTurn(int64_t count) {
  std::vector<TrainSequence> result;
  for (int64_t i = 0; i < count; ++i) {
    const auto s = static_cast<size_t>(i) % sources_.size();
    result.push_back(sources_[s].Sequence(i / static_cast<int64_t>(sources_.size())));
  }
  return result;
}

int64_t TrainData::sequences_per_epoch() const {
  return std::accumulate(sources_.begin(), sources_.end(), int64_t{0},
                         [](int64_t sum, const PackedSource& s) { return sum + s.sequences_per_epoch(); });
}

}  // namespace gateskip::train
