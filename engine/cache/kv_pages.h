// Storage for the keys and values of one stage's layers, in pages. Which sequence owns which page is the coordinator's
// business: a stage only stores what it is told to, where it is told to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "engine/cache/kv_type.h"
#include "engine/cpu/kernel_table.h"

namespace tandem::engine {

// What is stored; every count is positive.
struct KvShape {
  int32_t num_pages = 0;
  int32_t layers = 0;  // of this stage
  int32_t kv_heads = 0;
  int32_t page_tokens = 0;  // a multiple of 16
  int32_t head_dim = 0;     // a multiple of 4
  KvType type = KvType::kF16;
};

// A fixed pool of pages; one page holds `page_tokens` consecutive tokens of one sequence for all layers of the stage.
// Layout:    [num_pages, layers, K and V, kv_heads, page_tokens, head_dim], so a page is contiguous.
// Memory:    reserved once in Create and never grown; the operating system backs a page when it is first written.
// Ownership: owns its memory; not movable, since kernels hold pointers into it.
// Threading: thread-compatible; calls of Write for different rows may run at the same time.
// Indices are the caller's to check.
class KvPages {
 public:
  // Bytes of the pool. Errors: kInvalidArgument (a count out of bounds, or more than 2^62 bytes).
  static absl::StatusOr<uint64_t> PoolBytes(const KvShape& shape);
  // `kernels` converts to F16. Errors: those of PoolBytes; kResourceExhausted (no memory; gives the bytes wanted).
  static absl::StatusOr<std::unique_ptr<KvPages>> Create(const KvShape& shape, const KernelTable& kernels);
  ~KvPages();
  KvPages(const KvPages&) = delete;
  KvPages& operator=(const KvPages&) = delete;

  // Stores one token of one layer at row `slot` of `page`: keys and values are [kv_heads, head_dim]. F16 rounds to
  // nearest even.
  void Write(uint32_t page, int32_t layer, int32_t slot, const float* keys, const float* values);

  // [page_tokens, head_dim] of shape().type.
  const std::byte* keys(uint32_t page, int32_t layer, int32_t kv_head) const { return At(page, layer, 0, kv_head); }
  const std::byte* values(uint32_t page, int32_t layer, int32_t kv_head) const { return At(page, layer, 1, kv_head); }

  const KvShape& shape() const { return shape_; }
  uint64_t bytes() const { return bytes_; }

 private:
  KvPages(const KvShape& shape, uint64_t bytes, std::byte* data, const KernelTable& kernels);
  std::byte* At(uint32_t page, int32_t layer, int32_t value, int32_t kv_head) const {
    return data_ + ((uint64_t{page} * shape_.layers + layer) * 2 + value) * layer_bytes_ + kv_head * head_bytes_;
  }
  void WriteHeads(uint32_t page, int32_t layer, int32_t value, int32_t slot, const float* rows);

  const KvShape shape_;
  const KernelTable& kernels_;
  const uint64_t bytes_;
  const uint64_t head_bytes_;   // of [page_tokens, head_dim]
  const uint64_t layer_bytes_;  // of [kv_heads, page_tokens, head_dim]
  std::byte* const data_;       // mapped; released by the destructor
};

}  // namespace tandem::engine
