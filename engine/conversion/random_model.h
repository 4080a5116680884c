// Model files with random weights: as large and as fast as real ones of the same shape, for benchmarks and for trials
// of what fits. Their text is nonsense.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/conversion/file_type.h"
#include "engine/conversion/piece_runner.h"
#include "engine/cpu/thread_pool.h"

namespace tandem::engine {

struct ModelShape {
  std::string name;          // general.name, and what FindModelShape takes
  std::string architecture;  // llama (with experts too), qwen2, qwen3, qwen3moe or deepseek2
  int32_t layers = 0, hidden = 0, ffn = 0, heads = 0, kv_heads = 0, head_dim = 0;
  int32_t vocab = 0;    // at least kMinVocab
  int32_t context = 0;  // the model's
  float rope_base = 10000.0f;
  int32_t experts = 0, experts_used = 0;  // 0: no mixture; ffn is that of one expert
  bool tied_head = false;

  // What only deepseek2 has: attention through low ranks, layers without experts at the front, experts for every token.
  struct DeepSeek {
    int32_t q_rank = 0, kv_rank = 0;
    int32_t rope_dim = 0;   // of head_dim, the elements that rotate
    int32_t value_dim = 0;  // of a head
    int32_t dense_layers = 0, dense_ffn = 0;
    int32_t shared_experts = 0;
  } deepseek;
};

// Bytes and control tokens.
inline constexpr int32_t kMinVocab = 259;

// The shapes of well-known models.
std::span<const ModelShape> AllModelShapes();
const ModelShape* FindModelShape(absl::string_view name);  // any case; null if unknown

// Writes a model to `path`: random weights of the spread that keeps activations in range, norms of 1, biases of 0, and
// a vocabulary of bytes, padded with unused tokens. The same shape, type and seed give the same file. Errors:
// kInvalidArgument (a size that is impossible; names it), kUnimplemented (a type whose weights cannot be drawn; an
// unknown architecture), kCancelled, those of GgufOutput.
absl::Status WriteRandomModel(const ModelShape& shape, const FileType& type, uint64_t seed, const std::string& path,
                              ThreadPool& pool, const PieceProgress& progress, const std::function<bool()>& cancelled);

}  // namespace tandem::engine
