// Storage for the keys and values of one stage's layers, in pages. Which sequence owns which page is the coordinator's
// business: a stage only stores what it is told to, where it is told to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "engine/cache/kv_format.h"
#include "engine/cpu/kernel_table.h"

namespace tandem::engine {

// What is stored; every count is positive, but for the values' length.
struct KvShape {
  int32_t num_pages = 0;
  int32_t layers = 0;  // of this stage
  int32_t kv_heads = 0;
  int32_t page_tokens = 0;  // a multiple of 16
  int32_t key_dim = 0;      // elements of a key, a multiple of 4 and of the type's blocks
  int32_t value_dim = 0;    // of a value, likewise; 0: a value is the beginning of its key and not stored
  KvType type = KvType::kF16;
};

// A fixed pool of pages; one page holds `page_tokens` consecutive tokens of one sequence for all layers of the stage.
// Layout:    [num_pages, layers], of each keys [kv_heads, page_tokens / 16, key_dim, 16 tokens], then values [kv_heads,
//            page_tokens, value_dim], so a page is contiguous. Blocks of Q8_0 and Q4_0:
//            engine/cpu/kernels/kernel_args.h.
// Memory:    reserved once in Create and never grown; the operating system backs it when it is first written, 2 MB at a
//            time where it has huge pages.
// Ownership: owns its memory; not movable, since kernels hold pointers into it.
// Threading: thread-compatible; calls of Write for different rows may run at the same time.
// Indices are the caller's to check.
class KvPages {
 public:
  // Bytes of the pool. Errors: kInvalidArgument (a count out of bounds or not of whole blocks, or more than 2^62
  // bytes).
  static absl::StatusOr<uint64_t> PoolBytes(const KvShape& shape);
  // `kernels` converts rows. Errors: those of PoolBytes; kResourceExhausted (no memory; gives the bytes wanted).
  static absl::StatusOr<std::unique_ptr<KvPages>> Create(const KvShape& shape, const KernelTable& kernels);
  ~KvPages();
  KvPages(const KvPages&) = delete;
  KvPages& operator=(const KvPages&) = delete;

  // Stores one token of one layer at row `slot` of `page`: `keys` are [kv_heads, key_dim], `values` [kv_heads,
  // value_dim], unread where none are stored. F16 and BF16 round to nearest even; Q8_0
  // is quantize_block32 with its scales rounded to F16, Q4_0 QuantizeToInt4.
  void Write(uint32_t page, int32_t layer, int32_t slot, const float* keys, const float* values);

  // Page `to` becomes equal to page `from`.
  void Copy(uint32_t from, uint32_t to);

  // Keys and values of one head of page 0, as AttentionArgs wants them; those of page n are n * page_bytes() further
  // on.
  const std::byte* keys(int32_t layer, int32_t kv_head) const { return At(0, layer) + kv_head * key_head_bytes_; }
  // Null where a value is the beginning of its key.
  const std::byte* values(int32_t layer, int32_t kv_head) const {
    if (shape_.value_dim == 0) return nullptr;
    return At(0, layer) + shape_.kv_heads * key_head_bytes_ + kv_head * value_head_bytes_;
  }
  uint64_t page_bytes() const { return shape_.layers * layer_bytes_; }

  const KvShape& shape() const { return shape_; }
  uint64_t bytes() const { return bytes_; }

 private:
  KvPages(const KvShape& shape, uint64_t bytes, std::byte* data, const KernelTable& kernels);
  std::byte* At(uint32_t page, int32_t layer) const {
    return data_ + (uint64_t{page} * shape_.layers + layer) * layer_bytes_;
  }
  void WriteKey(std::byte* page, int32_t slot, const float* key) const;
  void WriteValue(std::byte* page, int32_t slot, const float* value) const;
  // Q8_0 and Q4_0.
  void WriteBlocks(std::byte* page, int32_t slot, const float* row, int32_t dim, bool keys) const;
  // F16 and BF16.
  void Narrow(const float* x, int32_t count, uint16_t* out) const;

  const KvShape shape_;
  const KernelTable& kernels_;
  const uint64_t bytes_;
  const uint64_t key_head_bytes_;    // of the keys of a head, page and layer
  const uint64_t value_head_bytes_;  // of the values
  const uint64_t layer_bytes_;       // of both for all heads
  std::byte* const data_;            // mapped; released by the destructor
};

}  // namespace tandem::engine
