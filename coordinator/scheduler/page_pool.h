// Who uses which KV pages of the pipeline. A page has the same number on every stage.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace tandem::coordinator {

// Counts the users of pages 0..num_pages-1. A page is free, used (by one sequence or, read only, by several), or idle:
// nobody uses it, but the prefix index keeps it for what it holds. Owned by the scheduler; not thread-safe. O(1) a
// page.
//
// A page may be given to a new owner while a step of the former one is still in flight: stages execute steps in order,
// so the former owner's last write precedes the new owner's first, and attention reads only positions that the new
// owner has written or that lay there complete when it took them.
class PagePool {
 public:
  explicit PagePool(int32_t num_pages);

  // A free page, with one user. None if none is free, idle or not.
  std::optional<uint32_t> Take();
  // One more, one less user of a used or idle page.
  void Use(uint32_t page);
  void Drop(uint32_t page);
  // The prefix index keeps the used page when it has no user any more; forgets the idle or used page.
  void Keep(uint32_t page);
  void Forget(uint32_t page);

  int32_t users(uint32_t page) const { return pages_[page].users; }
  int32_t total() const { return static_cast<int32_t>(pages_.size()); }
  int32_t free() const { return static_cast<int32_t>(free_.size()); }
  int32_t idle() const { return idle_; }
  int32_t used() const { return total() - free() - idle(); }

 private:
  struct Page {
    int32_t users = 0;
    bool kept = false;
  };

  std::vector<Page> pages_;
  std::vector<uint32_t> free_;  // the last one is given next
  int32_t idle_ = 0;
};

}  // namespace tandem::coordinator
