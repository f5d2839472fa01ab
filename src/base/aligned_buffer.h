// SPDX-License-Identifier: Apache-2.0
// Owning, 64-byte aligned, uninitialised memory for weights, activations and KV pages.
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <utility>

namespace gateskip {

inline constexpr size_t kCacheLineBytes = 64;

template <typename T>
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  // Throws std::bad_alloc, also for counts whose bytes do not fit size_t.
  explicit AlignedBuffer(size_t count) : data_(count == 0 ? nullptr : Allocate(count)), count_(count) {}

  // Grows to at least `count` elements; contents are not kept when it has to grow.
  void ReserveDiscarding(size_t count) {
    if (count > count_) *this = AlignedBuffer(count);
  }

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  size_t size() const { return count_; }
  size_t bytes() const { return count_ * sizeof(T); }
  T& operator[](size_t i) { return data_.get()[i]; }
  const T& operator[](size_t i) const { return data_.get()[i]; }

  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::move(other.data_)), count_(std::exchange(other.count_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    data_ = std::move(other.data_);
    count_ = std::exchange(other.count_, 0);
    return *this;
  }

 private:
  static T* Allocate(size_t count) {
    size_t bytes = 0;
    if (__builtin_mul_overflow(count, sizeof(T), &bytes)) throw std::bad_array_new_length();
    return static_cast<T*>(::operator new (bytes, std::align_val_t{kCacheLineBytes}));
  }

  struct Delete {
    void operator()(T* p) const { ::operator delete (p, std::align_val_t{kCacheLineBytes}); }
  };
  std::unique_ptr<T, Delete> data_;
  size_t count_ = 0;
};

}  // namespace gateskip
