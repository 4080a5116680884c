#include "cli/bench/prompt_source.h"

#include <numeric>
#include <span>
#include <unordered_set>

#include "absl/status/status.h"
#include "cli/bench/random.h"
#include "engine/base/status_macros.h"

namespace tandem::cli {
namespace {

constexpr size_t kBatch = 64;

// Adds those of `ids` that are no control tokens. Most batches have none, so halving finds the few quickly.
absl::Status AddPlain(std::span<const uint32_t> ids, const Detokenizer& detokenize, std::vector<uint32_t>* plain) {
  const std::vector<uint32_t> batch(ids.begin(), ids.end());
  TANDEM_ASSIGN_OR_RETURN(const std::string hidden, detokenize(batch, /*render_special=*/false));
  TANDEM_ASSIGN_OR_RETURN(const std::string spelled, detokenize(batch, /*render_special=*/true));
  if (hidden == spelled) {
    plain->insert(plain->end(), ids.begin(), ids.end());
    return absl::OkStatus();
  }
  if (ids.size() == 1) return absl::OkStatus();
  TANDEM_RETURN_IF_ERROR(AddPlain(ids.first(ids.size() / 2), detokenize, plain));
  return AddPlain(ids.subspan(ids.size() / 2), detokenize, plain);
}

// Distinct, in random order.
std::vector<uint32_t> DrawIds(uint32_t vocabulary, uint64_t seed) {
  Random random(seed, 4);
  std::vector<uint32_t> ids;
  if (vocabulary <= 2 * kPromptTokens) {
    ids.resize(vocabulary);
    std::iota(ids.begin(), ids.end(), 0u);
    for (size_t i = ids.size(); i > 1; --i) std::swap(ids[i - 1], ids[random.Below(i)]);
    if (ids.size() > kPromptTokens) ids.resize(kPromptTokens);
    return ids;
  }
  std::unordered_set<uint32_t> drawn;
  while (ids.size() < kPromptTokens) {
    const auto id = static_cast<uint32_t>(random.Below(vocabulary));
    if (drawn.insert(id).second) ids.push_back(id);
  }
  return ids;
}

}  // namespace

absl::StatusOr<std::vector<uint32_t>> RandomPromptTokens(uint32_t vocabulary, uint64_t seed,
                                                         const Detokenizer& detokenize) {
  if (vocabulary == 0) return absl::InvalidArgumentError("the server did not say how large its vocabulary is");
  const std::vector<uint32_t> ids = DrawIds(vocabulary, seed);
  std::vector<uint32_t> plain;
  for (size_t first = 0; first < ids.size(); first += kBatch) {
    const size_t count = std::min(kBatch, ids.size() - first);
    TANDEM_RETURN_IF_ERROR(AddPlain(std::span(ids).subspan(first, count), detokenize, &plain));
  }
  if (plain.empty()) {
    return absl::InvalidArgumentError("every token that was looked at is a control token: use --text FILE");
  }
  return plain;
}

}  // namespace tandem::cli
