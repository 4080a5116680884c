// The known name that someone may have meant, for messages about an unknown one.
#pragma once

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace tandem::engine {

// Letters to add, drop or change to make `a` of `b`.
inline size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);  // distances of the letters of `a` so far to each start of `b`
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i + 1);
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t changed = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

// The element of `names` with the least distance, the first of equals; "" if there is none. Looks at the first 256
// bytes of `name`, which may come from a file.
inline absl::string_view NearestName(absl::string_view name, const std::vector<absl::string_view>& names) {
  constexpr size_t kMaxBytes = 256;
  absl::string_view nearest;
  size_t least = std::numeric_limits<size_t>::max();
  for (const absl::string_view candidate : names) {
    const size_t distance = EditDistance(name.substr(0, kMaxBytes), candidate);
    if (distance < least) {
      least = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

}  // namespace tandem::engine
