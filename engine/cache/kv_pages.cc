#include "engine/cache/kv_pages.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"
#include "engine/cache/int4_block.h"
#include "engine/quant/block_format.h"

namespace tandem::engine {

absl::StatusOr<uint64_t> KvPages::PoolBytes(const KvShape& shape) {
  if (shape.page_tokens % kKeyTile != 0 || shape.key_dim % 4 != 0 || shape.value_dim % 4 != 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "KV pages: page_tokens %d must be a multiple of 16, keys of %d and values of %d elements multiples of 4",
        shape.page_tokens, shape.key_dim, shape.value_dim));
  }
  const KvFormat& format = FindKvFormat(shape.type);
  if (shape.key_dim % format.block_elements != 0 || shape.value_dim % format.block_elements != 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "a KV cache of type %s takes keys and values in blocks of %d elements, and the model's have %d and %d: choose "
        "another type",
        format.name, format.block_elements, shape.key_dim, shape.value_dim));
  }
  const int64_t blocks = (int64_t{shape.key_dim} + shape.value_dim) / format.block_elements;
  uint64_t bytes = format.block_bytes;
  for (int64_t count :
       {int64_t{shape.num_pages}, int64_t{shape.layers}, int64_t{shape.kv_heads}, int64_t{shape.page_tokens}, blocks}) {
    if (count <= 0 || shape.key_dim <= 0 || shape.value_dim < 0 ||
        __builtin_mul_overflow(bytes, static_cast<uint64_t>(count), &bytes) || bytes > uint64_t{1} << 62) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "KV pages: %d pages of %d tokens for %d layers of %d heads of %d + %d elements is not a possible size",
          shape.num_pages, shape.page_tokens, shape.layers, shape.kv_heads, shape.key_dim, shape.value_dim));
    }
  }
  return bytes;
}

absl::StatusOr<std::unique_ptr<KvPages>> KvPages::Create(const KvShape& shape, const KernelTable& kernels) {
  TANDEM_ASSIGN_OR_RETURN(const uint64_t bytes, PoolBytes(shape));
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("cannot reserve %d bytes for %d KV pages (%s): give the stage fewer pages or fewer layers",
                        bytes, shape.num_pages, std::strerror(errno)));
  }
  // Attention reads some kilobytes here and there in each page, which in small pages of the system would each take an
  // address translation. A hint: a kernel without huge pages refuses it, which changes nothing.
  (void)madvise(data, bytes, MADV_HUGEPAGE);
  return std::unique_ptr<KvPages>(new KvPages(shape, bytes, static_cast<std::byte*>(data), kernels));
}

KvPages::KvPages(const KvShape& shape, uint64_t bytes, std::byte* data, const KernelTable& kernels)
    : shape_(shape),
      kernels_(kernels),
      bytes_(bytes),
      key_head_bytes_(KvBytes(shape.type, shape.key_dim) * shape.page_tokens),
      value_head_bytes_(KvBytes(shape.type, shape.value_dim) * shape.page_tokens),
      layer_bytes_((key_head_bytes_ + value_head_bytes_) * shape.kv_heads),
      data_(data) {}

KvPages::~KvPages() { munmap(data_, bytes_); }

void KvPages::Copy(uint32_t from, uint32_t to) {
  if (from != to) std::memcpy(At(to, 0), At(from, 0), page_bytes());
}

void KvPages::Write(uint32_t page, int32_t layer, int32_t slot, const float* keys, const float* values) {
  std::byte* to = At(page, layer);
  for (int32_t head = 0; head < shape_.kv_heads; ++head, to += key_head_bytes_) {
    WriteKey(to, slot, keys + int64_t{head} * shape_.key_dim);
  }
  if (shape_.value_dim == 0) return;
  for (int32_t head = 0; head < shape_.kv_heads; ++head, to += value_head_bytes_) {
    WriteValue(to, slot, values + int64_t{head} * shape_.value_dim);
  }
}

void KvPages::WriteKey(std::byte* page, int32_t slot, const float* key) const {
  if (FindKvFormat(shape_.type).block_elements > 1) return WriteBlocks(page, slot, key, shape_.key_dim, true);
  const int64_t first = int64_t{slot / kKeyTile} * kKeyTile * shape_.key_dim + slot % kKeyTile;
  if (shape_.type == KvType::kF32) {
    float* to = reinterpret_cast<float*>(page) + first;
    for (int32_t d = 0; d < shape_.key_dim; ++d) to[int64_t{d} * kKeyTile] = key[d];
    return;
  }
  uint16_t* to = reinterpret_cast<uint16_t*>(page) + first;
  constexpr int32_t kAtOnce = 64;
  uint16_t narrow[kAtOnce];
  for (int32_t begin = 0; begin < shape_.key_dim; begin += kAtOnce) {
    const int32_t count = std::min(kAtOnce, shape_.key_dim - begin);
    Narrow(key + begin, count, narrow);
    for (int32_t d = 0; d < count; ++d) to[int64_t{begin + d} * kKeyTile] = narrow[d];
  }
}

void KvPages::WriteValue(std::byte* page, int32_t slot, const float* value) const {
  if (FindKvFormat(shape_.type).block_elements > 1) return WriteBlocks(page, slot, value, shape_.value_dim, false);
  const int64_t first = int64_t{slot} * shape_.value_dim;
  if (shape_.type == KvType::kF32) {
    std::copy_n(value, shape_.value_dim, reinterpret_cast<float*>(page) + first);
  } else {
    Narrow(value, shape_.value_dim, reinterpret_cast<uint16_t*>(page) + first);
  }
}

void KvPages::WriteBlocks(std::byte* page, int32_t slot, const float* row, int32_t dim, bool keys) const {
  const int32_t block_bytes = FindKvFormat(shape_.type).block_bytes, row_bytes = block_bytes - 2;
  const int32_t unit = keys ? 4 : row_bytes;  // bytes that lie together, before those of the tile's 15 other tokens
  const int32_t lane = slot % kKeyTile;
  std::byte* block = page + int64_t{slot / kKeyTile} * (dim / kKvBlock) * kKeyTile * block_bytes;
  for (int32_t begin = 0; begin < dim; begin += kKvBlock, block += kKeyTile * block_bytes) {
    int8_t q[kKvBlock];
    uint16_t half;
    if (shape_.type == KvType::kQ8_0) {
      float scale;
      int32_t sum16[kKvBlock / 16];
      kernels_.quantize_block32(row + begin, kKvBlock, q, &scale, sum16);
      half = FloatToHalf(scale);
    } else {
      half = QuantizeToInt4(row + begin, q);
      JoinNibbles(keys ? 4 : kKvBlock / 2, q);
    }
    std::memcpy(block + 2 * lane, &half, sizeof(half));
    for (int32_t i = 0; i < row_bytes; i += unit) {
      std::memcpy(block + 2 * kKeyTile + i * kKeyTile + lane * unit, q + i, unit);
    }
  }
}

void KvPages::Narrow(const float* x, int32_t count, uint16_t* out) const {
  if (shape_.type == KvType::kF16) {
    kernels_.f32_to_f16(x, count, out);
  } else {
    FindBlockFormat(TensorType::kBF16)->quantize(x, nullptr, reinterpret_cast<std::byte*>(out), count);
  }
}

}  // namespace tandem::engine
