// SPDX-License-Identifier: Apache-2.0
#include "train/data.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/check.h"
#include "base/sha256.h"
#include "io/json.h"
#include "text/chat_template.h"
#include "train/random.h"

namespace gateskip::train {
namespace {

constexpr uintmax_t kMaxFileBytes = uintmax_t{4} << 30;
constexpr size_t kPieceBytes = 8192;  // of plain text, cut at the next line end

using Json = nlohmann::json;

const std::string* StringField(const Json& record, const char* name) {
  const auto found = record.find(name);
  return found != record.end() && found->is_string() ? found->get_ptr<const std::string*>() : nullptr;
}

// `origin` names the record in messages.
Document DocumentOf(const Json& record, const std::string& origin) {
  constexpr std::pair<const char*, const char*> kPairs[] = {
      {"question", "answer"}, {"prompt", "completion"}, {"instruction", "output"}};
  if (record.is_object()) {
    if (const std::string* text = StringField(record, "text")) return {*text, "", "", /*whole=*/true};
    for (const auto& [question, answer] : kPairs) {
      const std::string* q = StringField(record, question);
      const std::string* a = StringField(record, answer);
      if (q != nullptr && a != nullptr) return {"", *q, *a, /*whole=*/true};
    }
  }
  Fail(ErrorCode::kCorruptData,
       "{}: expected a string field `text`, or question+answer, prompt+completion or "
       "instruction+output, found none of them; convert the file",
       origin);
}

void CutText(const std::string& content, std::vector<Document>& documents) {
  size_t begin = 0;
  while (begin < content.size()) {
    size_t end = content.size();
    if (content.size() - begin > kPieceBytes) {
      // The search is bounded, or a file without line ends would take quadratic time. It is cut where it is: tokenisers
      // take bytes, never refuse them.
      const size_t newline = std::string_view(content).substr(begin + kPieceBytes, 3 * kPieceBytes + 1).find('\n');
      end = begin + kPieceBytes + (newline == std::string_view::npos ? 0 : newline + 1);
    }
    documents.push_back({content.substr(begin, end - begin), "", "", /*whole=*/false});
    begin = end;
  }
}

}  // namespace

std::vector<Document> ParseDocuments(const std::string& content, const std::string& path) {
  std::vector<Document> documents;
  const std::string extension = std::filesystem::path(path).extension().string();
  if (extension == ".json") {
    const Json array = ParseJson(content, path);
    if (!array.is_array()) {
      Fail(ErrorCode::kCorruptData,
           "[{}] top level: expected an array of records, found {}; use .jsonl for one record "
           "per line",
           path, array.type_name());
    }
    for (size_t i = 0; i < array.size(); ++i) {
      documents.push_back(DocumentOf(array[i], fmt::format("[{}] record {}", path, i + 1)));
    }
  } else if (extension == ".jsonl") {
    size_t line = 0;
    for (size_t begin = 0; begin < content.size();) {
      const size_t newline = std::min(content.find('\n', begin), content.size());
      const std::string_view text(content.data() + begin, newline - begin);
      ++line;
      begin = newline + 1;
      if (text.find_first_not_of(" \t\r") == std::string_view::npos) continue;
      const std::string origin = fmt::format("{}:{}", path, line);
      documents.push_back(DocumentOf(ParseJson(text, origin), fmt::format("[{}] record", origin)));
    }
  } else {
    CutText(content, documents);
  }
  return documents;
}

std::vector<Document> ReadDocuments(const std::string& path) {
  std::error_code error;
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error) {
    Fail(ErrorCode::kNotFound, "[{}] training text: expected a readable file, found: {}; check the path", path,
         error.message());
  }
  if (size > kMaxFileBytes) {
    Fail(ErrorCode::kLimitExceeded, "[{}] size: expected at most {} bytes, found {}; split the file", path,
         kMaxFileBytes, size);
  }
  std::ifstream in(path, std::ios::binary);
  std::ostringstream content;
  content << in.rdbuf();
  if (!in) Fail(ErrorCode::kIo, "[{}] training text: expected {} bytes, found a read error; try again", path, size);
  return ParseDocuments(content.str(), path);
}

std::vector<std::vector<int32_t>> TokenizeDocuments(const std::vector<Document>& documents,
                                                    const Tokenizer& tokenizer) {
  const bool chat = !tokenizer.chat_template().empty();
  const ChatTemplate chat_template(tokenizer.chat_template());
  const std::string eos = tokenizer.eos() ? tokenizer.TokenBytes(*tokenizer.eos(), true) : std::string();
  const std::string bos = tokenizer.bos() ? tokenizer.TokenBytes(*tokenizer.bos(), true) : std::string();
  std::vector<std::vector<int32_t>> result;
  size_t pairs = 0;
  for (const Document& document : documents) {
    std::vector<int32_t> ids;
    if (document.question.empty() && document.answer.empty()) {
      ids = tokenizer.Encode(document.text, false);
      if (document.whole && !ids.empty() && tokenizer.eos()) ids.push_back(*tokenizer.eos());
    } else if (chat && pairs++ % 2 == 0) {
      const std::string text =
          chat_template.Render({{"user", document.question}, {"assistant", document.answer}}, false, bos, eos);
      ids = tokenizer.Encode(text, true);
      if (tokenizer.add_bos() && !ids.empty() && ids.front() == tokenizer.bos()) ids.erase(ids.begin());
    } else {
      ids = tokenizer.Encode("Question: " + document.question + "\nAnswer: " + document.answer, false);
      if (tokenizer.eos()) ids.push_back(*tokenizer.eos());
    }
    if (!ids.empty()) result.push_back(std::move(ids));
  }
  return result;
}

PackedSource::PackedSource(std::vector<std::vector<int32_t>> documents, int64_t sequence_length, uint64_t seed,
                           uint64_t source, std::optional<int32_t> bos)
    : documents_(std::move(documents)), length_(sequence_length), seed_(seed), source_(source), bos_(bos) {
  int64_t total = 0;
  for (const auto& document : documents_) total += static_cast<int64_t>(document.size());
  per_epoch_ = total / (length_ - (bos_ ? 1 : 0));
}

void PackedSource::BuildEpoch(int64_t epoch) {
  const auto order = Permutation(static_cast<int64_t>(documents_.size()),
                                 Random(seed_, Stream::kShuffle, source_ * 1'000'003 + static_cast<uint64_t>(epoch)));
  stream_.clear();
  for (const int64_t i : order) {
    const auto& document = documents_[static_cast<size_t>(i)];
    stream_.insert(stream_.end(), document.begin(), document.end());
  }
  epoch_ = epoch;
}

std::vector<int32_t> PackedSource::Sequence(int64_t n) {
  GS_CHECK(per_epoch_ > 0);
  if (n / per_epoch_ != epoch_) BuildEpoch(n / per_epoch_);
  std::vector<int32_t> sequence(static_cast<size_t>(length_));
  const int64_t prefix = bos_ ? 1 : 0;
  if (bos_) sequence[0] = *bos_;
  const int64_t take = length_ - prefix;
  std::copy_n(stream_.begin() + n % per_epoch_ * take, take, sequence.begin() + prefix);
  return sequence;
}

TrainData::TrainData(const std::vector<TrainSource>& sources, const Tokenizer& tokenizer, int64_t sequence_length,
                     uint64_t seed)
    : seed_(seed), taken_(sources.size()) {
  Sha256 hash;
  double total = 0;
  for (size_t s = 0; s < sources.size(); ++s) {
    std::vector<Document> documents = ReadDocuments(sources[s].path);
    const auto count = static_cast<double>(documents.size());
    const auto begin = static_cast<int64_t>(sources[s].begin * count);
    const auto end = static_cast<int64_t>(sources[s].end * count);
    documents = {documents.begin() + begin, documents.begin() + end};
    auto tokens = TokenizeDocuments(documents, tokenizer);
    for (const auto& ids : tokens) hash.Update(std::as_bytes(std::span<const int32_t>(ids)));
    sources_.emplace_back(std::move(tokens), sequence_length, seed, s,
                          tokenizer.add_bos() ? tokenizer.bos() : std::nullopt);
    if (sources_.back().sequences_per_epoch() == 0) {
      Fail(ErrorCode::kInvalidArgument,
           "[{}] training text: expected at least {} tokens, found fewer; use a longer "
           "file or a shorter sequence length",
           sources[s].path, sequence_length);
    }
    total += sources[s].weight;
    cumulative_.push_back(total);
  }
  sha256_ = hash.HexDigest();
}

size_t TrainData::Pick(int64_t n) const {
  const double u = Random(seed_, Stream::kSource, static_cast<uint64_t>(n)).Uniform() * cumulative_.back();
  const auto at =
      static_cast<size_t>(std::upper_bound(cumulative_.begin(), cumulative_.end(), u) - cumulative_.begin());
  return std::min(at, cumulative_.size() - 1);
}

std::vector<int32_t> TrainData::Sequence(int64_t n) {
  if (n < drawn_) {
    drawn_ = 0;
    std::fill(taken_.begin(), taken_.end(), 0);
  }
  for (; drawn_ < n; ++drawn_) ++taken_[Pick(drawn_)];
  const size_t source = Pick(n);
  return sources_[source].Sequence(taken_[source]);
}

std::vector<std::vector<int32_t>> TrainData::InTurn(int64_t count) {
  std::vector<std::vector<int32_t>> result;
  for (int64_t i = 0; i < count; ++i) {
    const auto s = static_cast<size_t>(i) % sources_.size();
    result.push_back(sources_[s].Sequence(i / static_cast<int64_t>(sources_.size())));
  }
  return result;
}

int64_t TrainData::sequences_per_epoch() const {
  int64_t total = 0;
  for (const PackedSource& source : sources_) total += source.sequences_per_epoch();
  return total;
}

}  // namespace gateskip::train
