// GGUF bytes put together field by field, for what GgufWriter cannot write: every value type, old versions, and files
// that are wrong on purpose.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/quant/block_format.h"

namespace tandem::engine {

// Value types of the format.
enum RawType : uint32_t {
  kRawUint8 = 0,
  kRawInt8 = 1,
  kRawUint16 = 2,
  kRawInt16 = 3,
  kRawUint32 = 4,
  kRawInt32 = 5,
  kRawFloat32 = 6,
  kRawBool = 7,
  kRawString = 8,
  kRawArray = 9,
  kRawUint64 = 10,
  kRawInt64 = 11,
  kRawFloat64 = 12,
};

class RawGguf {
 public:
  RawGguf() = default;
  // Starts with magic, version and counts.
  RawGguf(uint32_t version, uint64_t tensors, uint64_t metadata) {
    Raw("GGUF").Number(version).Number(tensors).Number(metadata);
  }

  template <typename T>
  RawGguf& Number(T value) {
    static_assert(std::is_arithmetic_v<T>);
    const auto* first = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), first, first + sizeof(value));
    return *this;
  }
  RawGguf& Raw(absl::string_view text) {
    for (const char c : text) bytes_.push_back(static_cast<std::byte>(c));
    return *this;
  }
  RawGguf& String(absl::string_view text) { return Number<uint64_t>(text.size()).Raw(text); }

  // Key and value type; the value follows.
  RawGguf& Key(absl::string_view key, RawType type) { return String(key).Number<uint32_t>(type); }
  template <typename T>
  RawGguf& Scalar(absl::string_view key, RawType type, T value) {
    return Key(key, type).Number(value);
  }
  // Key, element type and length; the elements follow.
  RawGguf& ArrayKey(absl::string_view key, uint32_t type, uint64_t count) {
    return Key(key, kRawArray).Number<uint32_t>(type).Number(count);
  }
  template <typename T>
  RawGguf& Array(absl::string_view key, RawType type, std::initializer_list<T> values) {
    ArrayKey(key, type, values.size());
    for (const T value : values) Number(value);
    return *this;
  }

  RawGguf& Tensor(absl::string_view name, std::initializer_list<uint64_t> dims, uint32_t type, uint64_t offset) {
    String(name).Number(static_cast<uint32_t>(dims.size()));
    for (const uint64_t dim : dims) Number(dim);
    return Number(type).Number(offset);
  }

  RawGguf& Pad(size_t alignment) {
    bytes_.resize((bytes_.size() + alignment - 1) / alignment * alignment);
    return *this;
  }
  RawGguf& Zeros(size_t count) {
    bytes_.resize(bytes_.size() + count);
    return *this;
  }

  const std::vector<std::byte>& bytes() const { return bytes_; }
  uint64_t size() const { return bytes_.size(); }

 private:
  std::vector<std::byte> bytes_;
};

// A file that uses every value type, arrays of each, and two tensors: 'matrix' Q8_0 [2 rows, 32] and 'vector' F32 [3].
inline RawGguf EveryTypeGguf() {
  RawGguf raw(3, 2, 25);
  raw.Scalar<uint8_t>("u8", kRawUint8, 200).Scalar<int8_t>("i8", kRawInt8, -100);
  raw.Scalar<uint16_t>("u16", kRawUint16, 60000).Scalar<int16_t>("i16", kRawInt16, -30000);
  raw.Scalar<uint32_t>("u32", kRawUint32, 4000000000).Scalar<int32_t>("i32", kRawInt32, -2000000000);
  raw.Scalar<float>("f32", kRawFloat32, 1.5f).Scalar<uint8_t>("bool", kRawBool, 1);
  raw.Key("string", kRawString).String("text");
  raw.Scalar<uint64_t>("u64", kRawUint64, 18000000000000000000u)
      .Scalar<int64_t>("i64", kRawInt64, -9000000000000000000);
  raw.Scalar<double>("f64", kRawFloat64, 0.1);
  raw.Array<uint8_t>("u8s", kRawUint8, {0, 255}).Array<int8_t>("i8s", kRawInt8, {-128, 127});
  raw.Array<uint16_t>("u16s", kRawUint16, {1, 65535}).Array<int16_t>("i16s", kRawInt16, {-1, 2});
  raw.Array<uint32_t>("u32s", kRawUint32, {7, 4294967295}).Array<int32_t>("i32s", kRawInt32, {-7, 7, 8});
  raw.Array<float>("f32s", kRawFloat32, {0.5f, -2}).Array<uint8_t>("bools", kRawBool, {1, 0, 1});
  raw.ArrayKey("strings", kRawString, 3).String("a").String("").String("longer text");
  raw.Array<uint64_t>("u64s", kRawUint64, {1, 18446744073709551615u}).Array<int64_t>("i64s", kRawInt64, {-5});
  raw.Array<double>("f64s", kRawFloat64, {1e300}).Array<float>("empty", kRawFloat32, {});
  raw.Tensor("matrix", {32, 2}, static_cast<uint32_t>(TensorType::kQ8_0), 0);
  raw.Tensor("vector", {3}, static_cast<uint32_t>(TensorType::kF32), 96);
  raw.Pad(32);
  for (int i = 0; i < 68; ++i) raw.Number(static_cast<uint8_t>(i));
  raw.Pad(32).Number(1.0f).Number(2.0f).Number(3.0f);
  return raw;
}

}  // namespace tandem::engine
