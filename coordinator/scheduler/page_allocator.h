// Which KV pages of the pipeline are free. A page has the same number on every stage.
#pragma once

#include <cstdint>
#include <vector>

namespace tandem::coordinator {

// A free list over pages 0..num_pages-1. Owned by the scheduler; not thread-safe. O(1) a page.
//
// A page may be given to a new owner while a step of the former one is still in flight: stages execute steps in order,
// so the former owner's last write precedes the new owner's first, and attention reads only positions that the new
// owner has written.
class PageAllocator {
 public:
  explicit PageAllocator(int32_t num_pages);

  // Appends `count` pages to `pages`, or changes nothing and returns false if fewer are free.
  bool Allocate(int32_t count, std::vector<uint32_t>* pages);
  // Takes all of `pages` back and empties it.
  void Release(std::vector<uint32_t>* pages);

  int32_t total() const { return total_; }
  int32_t free() const { return static_cast<int32_t>(free_.size()); }

 private:
  int32_t total_;
  std::vector<uint32_t> free_;  // the last one is given next
};

}  // namespace tandem::coordinator
