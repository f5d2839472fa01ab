// SPDX-License-Identifier: Apache-2.0
// Attention over the paged cache on every CPU target: values against double precision with windows, copied and dropped
// entries, every cache type; and independence of rows, in bits.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/packed_layout.h"
#include "kernels/test_weights.h"

namespace gateskip::kernels {
namespace {

constexpr size_t kLayers = 3;

// `count` floats as the cache's 8-bit blocks give them back: codes of amax / 127.
void RoundToCodes(float* x, size_t count) {
  for (size_t begin = 0; begin < count; begin += kBlock) {
    const size_t end = std::min(count, begin + kBlock);
    float largest = 0;
    for (size_t i = begin; i < end; ++i) largest = std::max(largest, std::fabs(x[i]));
    for (size_t i = begin; i < end; ++i) x[i] = std::nearbyint(x[i] * (127.0F / largest)) * (largest / 127.0F);
  }
}

// A cache of one sequence filled with random keys and values, and a copy of what was stored.
class Cache {
 public:
  Cache(const KvShape& shape, size_t positions) : shape_(shape), width_(shape.num_kv_heads * shape.head_dim) {
    const size_t pages = (positions + kKvPagePositions - 1) / kKvPagePositions;
    for (size_t p = 0; p < pages; ++p) storage_.emplace_back(kLayers * KvLayerBytes(shape));
    for (const auto& page : storage_) pointers_.push_back(page.data());
    for (size_t layer = 0; layer < kLayers; ++layer) {
      keys_.push_back(RandomFloats(positions * width_, static_cast<uint32_t>(100 + layer)));
      values_.push_back(RandomFloats(positions * width_, static_cast<uint32_t>(200 + layer)));
      for (size_t p = 0; p < positions; ++p) {
        StoreKv(shape, storage_[p / kKvPagePositions].data() + layer * KvLayerBytes(shape), p % kKvPagePositions,
                keys_[layer].data() + p * width_, values_[layer].data() + p * width_);
      }
    }
    for (auto* rows : {&keys_, &values_}) {
      for (auto& row : *rows) {
        for (size_t at = 0; at < row.size() && shape.type == KvType::kQ8; at += shape.head_dim) {
          RoundToCodes(&row[at], shape.head_dim);
        }
        for (float& v : row) v = shape.type == KvType::kF16 ? HalfToFloat(FloatToHalf(v)) : v;
      }
    }
  }

  const std::byte* const* pages() const { return pointers_.data(); }
  const float* key(size_t layer, size_t p) const { return keys_[layer].data() + p * width_; }
  const float* value(size_t layer, size_t p) const { return values_[layer].data() + p * width_; }

 private:
  KvShape shape_;
  size_t width_;
  std::vector<AlignedBuffer<std::byte>> storage_;
  std::vector<const std::byte*> pointers_;
  std::vector<std::vector<float>> keys_, values_;
};

std::vector<double> Expected(const AttentionShape& shape, const Cache& cache, size_t layer, const AttentionRow& row) {
  const size_t d = shape.kv.head_dim;
  std::vector<double> out(shape.num_heads * d);
  for (size_t h = 0; h < shape.num_heads; ++h) {
    const size_t kv = h / (shape.num_heads / shape.kv.num_kv_heads);
    std::vector<double> score;
    std::vector<const float*> value;
    for (int32_t p = row.first; p <= row.last; ++p) {
      const size_t source = row.source == nullptr ? layer : row.source[p];
      if (source == kKvDropped) continue;
      double s = 0;
      for (size_t i = 0; i < d; ++i) {
        s += static_cast<double>(row.query[h * d + i]) * cache.key(source, static_cast<size_t>(p))[kv * d + i];
      }
      score.push_back(s * shape.scale);
      value.push_back(cache.value(source, static_cast<size_t>(p)) + kv * d);
    }
    if (score.empty()) continue;
    const double largest = *std::max_element(score.begin(), score.end());
    double sum = 0;
    for (double& s : score) sum += s = std::exp(s - largest);
    for (size_t j = 0; j < score.size(); ++j) {
      for (size_t i = 0; i < d; ++i) out[h * d + i] += score[j] / sum * value[j][i];
    }
  }
  return out;
}

class AttentionTest : public ::testing::TestWithParam<CpuTarget> {
 protected:
  void SetUp() override {
    before_ = ActiveCpuTarget();
    ForceCpuTarget(GetParam());
  }
  void TearDown() override { ForceCpuTarget(before_); }
  CpuTarget before_ = CpuTarget::kScalar;
};

// Rows at many positions with every kind of source map.
struct Rows {
  std::vector<float> queries, out;
  std::vector<std::vector<uint16_t>> sources;
  std::vector<AttentionRow> rows;

  Rows(const AttentionShape& shape, const Cache& cache, size_t positions, uint16_t layer) {
    const size_t width = shape.num_heads * shape.kv.head_dim;
    const std::vector<int32_t> last = {0, 1, 15, 16, 63, 64, 100, static_cast<int32_t>(positions) - 1};
    queries = RandomFloats(4 * last.size() * width, 300);
    out.assign(queries.size(), -1.0F);
    std::vector<uint16_t> copied(positions), dropped(positions), none(positions, kKvDropped);
    for (size_t p = 0; p < positions; ++p) {
      copied[p] = static_cast<uint16_t>(p % 5 == 0 ? 0 : p % 3 == 0 ? 1 : layer);
      dropped[p] = p % 4 == 1 ? kKvDropped : p % 7 == 2 ? uint16_t{0} : layer;
    }
    sources = {copied, dropped, none};
    for (size_t i = 0; i < 4 * last.size(); ++i) {
      // One source map after the other, so that rows share tiles: next to each other, far apart, windows apart.
      const size_t map = i / last.size();
      const uint16_t* source = map == 0 ? nullptr : sources[map - 1].data();
      const int32_t end = last[i % last.size()];
      rows.push_back({.query = queries.data() + i * width,
                      .out = out.data() + i * width,
                      .pages = cache.pages(),
                      .source = source,
                      .first = i % 3 == 2 ? std::max(0, end - 37) : 0,
                      .last = end});
    }
  }
};

TEST_P(AttentionTest, EqualsDoublePrecisionAndIgnoresCompany) {
  constexpr size_t kPositions = 150;
  constexpr uint16_t kLayer = 2;
  struct ShapeCase {
    size_t kv_heads, heads, head_dim;
  };
  for (const ShapeCase& c : {ShapeCase{1, 4, 256}, {2, 4, 64}, {3, 9, 64}, {2, 2, 20}, {1, 7, 80}, {2, 4, 16}}) {
    for (const KvType type : {KvType::kF16, KvType::kF32, KvType::kQ8}) {
      const AttentionShape shape = {
          {c.kv_heads, c.head_dim, type}, c.heads, 1.0F / std::sqrt(static_cast<float>(c.head_dim))};
      const Cache cache(shape.kv, kPositions);
      Rows all(shape, cache, kPositions, kLayer);
      ThreadPool pool(3);
      Attend(shape, kLayer, all.rows, pool);
      const size_t width = c.heads * c.head_dim;
      for (size_t r = 0; r < all.rows.size(); ++r) {
        const std::vector<double> expected = Expected(shape, cache, kLayer, all.rows[r]);
        // A score is a sum of head_dim products of size about 1 (error sqrt(head_dim) 2^-24 times their scale), which
        // exp turns into a relative error of the weights; sums over positions add their own.
        const double tolerance = 8 * std::sqrt(static_cast<double>(c.head_dim + kPositions)) * 0x1p-24 * 4;
        for (size_t i = 0; i < width; ++i) {
          ASSERT_NEAR(all.rows[r].out[i], expected[i], tolerance)
              << "heads " << c.heads << " dim " << c.head_dim << " row " << r << " element " << i;
        }
      }
      // Alone, in another order, on one thread: the same bits.
      const std::vector<float> together = all.out;
      ThreadPool one(1);
      for (size_t r = all.rows.size(); r-- > 0;) Attend(shape, kLayer, {&all.rows[r], 1}, one);
      EXPECT_EQ(all.out, together);
    }
  }
}

// Every number of positions up to two pages and one, every width of a head up to two vectors and one, from an address
// that is aligned for nothing but floats.
TEST_P(AttentionTest, EveryLengthAndEveryWidth) {
  constexpr size_t kLongest = 2 * kKvPagePositions + 1;
  const auto check = [&](size_t head_dim, size_t last, KvType type, const Cache& cache) {
    const AttentionShape shape = {{1, head_dim, type}, 2, 0.3F};
    const std::vector<float> query = RandomFloats(1 + 2 * head_dim, 400);
    std::vector<float> out(2 + 2 * head_dim, -1.0F);
    const auto first = static_cast<int32_t>(last / 3);
    const AttentionRow row = {.query = query.data() + 1,
                              .out = out.data() + 1,
                              .pages = cache.pages(),
                              .source = nullptr,
                              .first = first,
                              .last = static_cast<int32_t>(last)};
    ThreadPool one(1);
    Attend(shape, 1, {&row, 1}, one);
    const std::vector<double> expected = Expected(shape, cache, 1, row);
    const double tolerance = 8 * std::sqrt(static_cast<double>(head_dim + last)) * 0x1p-24 * 4;  // as above
    for (size_t i = 0; i < 2 * head_dim; ++i) {
      ASSERT_NEAR(out[1 + i], expected[i], tolerance) << "dim " << head_dim << " last " << last << " element " << i;
    }
    ASSERT_EQ(out.front(), -1.0F);
    ASSERT_EQ(out.back(), -1.0F);
  };
  for (const KvType type : {KvType::kF16, KvType::kF32, KvType::kQ8}) {
    const Cache cache({1, 48, type}, kLongest + 1);
    for (size_t last = 0; last <= kLongest; ++last) check(48, last, type, cache);
    for (size_t head_dim = 1; head_dim <= 33; ++head_dim) check(head_dim, 70, type, Cache({1, head_dim, type}, 71));
  }
}

std::string TargetName(const ::testing::TestParamInfo<CpuTarget>& info) {
  return std::string(CpuTargetName(info.param));
}
INSTANTIATE_TEST_SUITE_P(Targets, AttentionTest, ::testing::ValuesIn(SupportedCpuTargets()), TargetName);

}  // namespace
}  // namespace gateskip::kernels
