// Tensors for the tests: heap blocks of exact size, stored as numbers of 16 bit too.
#pragma once

#include "core/storage.h"
#include "support.h"

namespace fastkan::test {

// A heap block of exactly `size` numbers, so that the address sanitizer sees every overrun; the first one
// lies `shift` numbers past an aligned address.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t size, int shift = 0) : storage_(size + shift), shift_(shift) {}
  T* data() { return storage_.data() + shift_; }
  const T* data() const { return storage_.data() + shift_; }
  int64_t size() const { return int64_t(storage_.size()) - shift_; }
  T& operator[](int64_t n) { return data()[n]; }
  const T& operator[](int64_t n) const { return data()[n]; }
  T* begin() { return data(); }
  T* end() { return data() + size(); }

 private:
  std::vector<T> storage_;
  int shift_ = 0;
};

template <class T>
constexpr Storage kComputed = sizeof(T) == 4 ? Storage::float32 : Storage::float64;

inline bool is_half(Storage storage) { return bytes_of(storage) == 2; }

inline float widened(uint16_t bits, Storage storage) {
  return storage == Storage::bfloat16 ? widen(Bfloat16{bits}) : widen(Float16{bits});
}

inline uint16_t narrowed(float value, Storage storage) {
  Bfloat16 bfloat16;
  Float16 float16;
  narrow(value, &bfloat16);
  narrow(value, &float16);
  return storage == Storage::bfloat16 ? bfloat16.bits : float16.bits;
}

// A NaN that no rounding to 16 bit makes
constexpr uint16_t kUnwritten = 0x7fde;

// What the core reads: numbers of T as they are stored. They are rounded to what the storage can hold, so
// that the definition sees the same ones.
template <class T>
class Input {
 public:
  Input(Buffer<T>& values, Storage storage, int shift) {
    source_ = {values.data(), storage};
    if (!is_half(storage)) return;
    packed_ = Buffer<uint16_t>(values.size(), shift);
    for (int64_t n = 0; n < values.size(); ++n) {
      packed_[n] = narrowed(float(values[n]), storage);
      values[n] = widened(packed_[n], storage);
    }
    source_.data = packed_.data();
  }
  Source source() const { return source_; }

 private:
  Source source_;
  Buffer<uint16_t> packed_;
};

// What the core writes; widened into `values` by finish().
template <class T>
class Output {
 public:
  Output(Buffer<T>& values, Storage storage, int shift) : values_(values), storage_(storage) {
    if (!is_half(storage)) return;
    packed_ = Buffer<uint16_t>(values.size(), shift);
    std::fill(packed_.begin(), packed_.end(), kUnwritten);
  }
  Target target() {
    return {is_half(storage_) ? static_cast<void*>(packed_.data()) : values_.data(), storage_};
  }
  void finish() {
    for (int64_t n = 0; n < packed_.size(); ++n)
      if (packed_[n] != kUnwritten) values_[n] = widened(packed_[n], storage_);
  }

 private:
  Buffer<T>& values_;
  Storage storage_;
  Buffer<uint16_t> packed_;
};

}  // namespace fastkan::test
