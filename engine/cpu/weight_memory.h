// Memory that packed matrices lie in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace tandem::engine {

// Hands out pieces of one block, which is aligned to huge pages and asks for them: a product reads its weights once
// from end to end, and with 4 KiB pages waits for address translation. Matrices that share a block lie in huge pages
// even if they are smaller than one, as a single expert's are, and waste none at their ends. The block goes with the
// last piece. Thread-compatible.
class WeightMemory {
 public:
  // A block of `bytes`, allocated when the first piece is asked for; no page of it is touched here.
  explicit WeightMemory(uint64_t bytes) : bytes_(bytes) {}

  // `bytes` bytes with any contents, aligned to a cache line; outside the block if that is used up or cannot be had.
  // Null if there is no memory.
  std::shared_ptr<std::byte[]> Allocate(uint64_t bytes);

 private:
  uint64_t bytes_, used_ = 0;
  std::shared_ptr<std::byte[]> block_;
};

}  // namespace tandem::engine
