#include "engine/cache/kv_pages.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "engine/base/status_macros.h"

namespace tandem::engine {

absl::StatusOr<uint64_t> KvPages::PoolBytes(const KvShape& shape) {
  if (shape.page_tokens % 16 != 0 || shape.key_dim % 4 != 0 || shape.value_dim % 4 != 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "KV pages: page_tokens %d must be a multiple of 16, keys of %d and values of %d elements multiples of 4",
        shape.page_tokens, shape.key_dim, shape.value_dim));
  }
  uint64_t bytes = KvTypeBytes(shape.type);
  const int64_t row = int64_t{shape.key_dim} + shape.value_dim;
  for (int64_t count :
       {int64_t{shape.num_pages}, int64_t{shape.layers}, int64_t{shape.kv_heads}, int64_t{shape.page_tokens}, row}) {
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
  return std::unique_ptr<KvPages>(new KvPages(shape, bytes, static_cast<std::byte*>(data), kernels));
}

KvPages::KvPages(const KvShape& shape, uint64_t bytes, std::byte* data, const KernelTable& kernels)
    : shape_(shape),
      kernels_(kernels),
      bytes_(bytes),
      key_head_bytes_(KvTypeBytes(shape.type) * shape.page_tokens * shape.key_dim),
      value_head_bytes_(KvTypeBytes(shape.type) * shape.page_tokens * shape.value_dim),
      layer_bytes_((key_head_bytes_ + value_head_bytes_) * shape.kv_heads),
      data_(data) {}

KvPages::~KvPages() { munmap(data_, bytes_); }

void KvPages::Write(uint32_t page, int32_t layer, int32_t slot, const float* keys, const float* values) {
  std::byte* to = At(page, layer);
  WriteHeads(to, shape_.key_dim, slot, keys);
  if (shape_.value_dim > 0) WriteHeads(to + shape_.kv_heads * key_head_bytes_, shape_.value_dim, slot, values);
}

void KvPages::WriteHeads(std::byte* to, int32_t dim, int32_t slot, const float* rows) {
  const uint64_t row_bytes = KvTypeBytes(shape_.type) * dim;
  to += slot * row_bytes;
  for (int32_t head = 0; head < shape_.kv_heads; ++head, rows += dim, to += row_bytes * shape_.page_tokens) {
    if (shape_.type == KvType::kF16) {
      kernels_.f32_to_f16(rows, dim, reinterpret_cast<uint16_t*>(to));
    } else {
      std::memcpy(to, rows, row_bytes);
    }
  }
}

}  // namespace tandem::engine
