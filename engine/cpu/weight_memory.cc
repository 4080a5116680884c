#include "engine/cpu/weight_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

namespace tandem::engine {
namespace {

constexpr uint64_t kHugePage = uint64_t{2} << 20;
constexpr uint64_t kCacheLine = 64;

uint64_t RoundUp(uint64_t bytes, uint64_t unit) { return (bytes + unit - 1) / unit * unit; }

std::shared_ptr<std::byte[]> AllocateBlock(uint64_t bytes) {
  const uint64_t alignment = bytes >= kHugePage ? kHugePage : kCacheLine;
  const uint64_t allocated = RoundUp(bytes, alignment);
  void* memory = std::aligned_alloc(alignment, allocated);
  if (memory == nullptr) return nullptr;
  // A hint: a kernel without huge pages refuses it, which changes nothing.
  if (alignment == kHugePage) (void)madvise(memory, allocated, MADV_HUGEPAGE);
  return {static_cast<std::byte*>(memory), std::free};
}

}  // namespace

std::shared_ptr<std::byte[]> WeightMemory::Allocate(uint64_t bytes) {
  if (block_ == nullptr && bytes <= bytes_) {
    block_ = AllocateBlock(bytes_);
    if (block_ == nullptr) bytes_ = 0;
  }
  if (bytes > bytes_ - used_) return AllocateBlock(bytes);
  std::shared_ptr<std::byte[]> piece(block_, block_.get() + used_);
  used_ = std::min(bytes_, used_ + RoundUp(bytes, kCacheLine));
  return piece;
}

}  // namespace tandem::engine
