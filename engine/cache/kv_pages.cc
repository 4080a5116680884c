#include "engine/cache/kv_pages.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"

namespace tandem::engine {

absl::StatusOr<uint64_t> KvPages::PoolBytes(const KvShape& shape) {
  if (shape.page_tokens % 16 != 0 || shape.head_dim % 4 != 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("KV pages: page_tokens %d must be a multiple of 16 and head_dim %d a multiple of 4",
                        shape.page_tokens, shape.head_dim));
  }
  uint64_t bytes = 2 * KvTypeBytes(shape.type);
  for (int32_t count : {shape.num_pages, shape.layers, shape.kv_heads, shape.page_tokens, shape.head_dim}) {
    if (count <= 0 || __builtin_mul_overflow(bytes, static_cast<uint64_t>(count), &bytes) ||
        bytes > uint64_t{1} << 62) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "KV pages: %d pages of %d tokens for %d layers of %d heads of %d elements is not a possible size",
          shape.num_pages, shape.page_tokens, shape.layers, shape.kv_heads, shape.head_dim));
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
  return std::unique_ptr<KvPages>(new KvPages(shape, bytes, static_cast<std::byte*>(data), kernels));
}

KvPages::KvPages(const KvShape& shape, uint64_t bytes, std::byte* data, const KernelTable& kernels)
    : shape_(shape),
      kernels_(kernels),
      bytes_(bytes),
      head_bytes_(KvTypeBytes(shape.type) * shape.page_tokens * shape.head_dim),
      layer_bytes_(head_bytes_ * shape.kv_heads),
      data_(data) {}

KvPages::~KvPages() { munmap(data_, bytes_); }

void KvPages::Write(uint32_t page, int32_t layer, int32_t slot, const float* keys, const float* values) {
  WriteHeads(page, layer, 0, slot, keys);
  WriteHeads(page, layer, 1, slot, values);
}

void KvPages::WriteHeads(uint32_t page, int32_t layer, int32_t value, int32_t slot, const float* rows) {
  const uint64_t row_bytes = KvTypeBytes(shape_.type) * shape_.head_dim;
  for (int32_t head = 0; head < shape_.kv_heads; ++head) {
    std::byte* to = At(page, layer, value, head) + slot * row_bytes;
    const float* from = rows + int64_t{head} * shape_.head_dim;
    if (shape_.type == KvType::kF16) {
      kernels_.f32_to_f16(from, shape_.head_dim, reinterpret_cast<uint16_t*>(to));
    } else {
      std::memcpy(to, from, row_bytes);
    }
  }
}

}  // namespace tandem::engine
