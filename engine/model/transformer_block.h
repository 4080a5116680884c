// One layer of the llama family, applied to the tokens of a step:
//
//   x += Wo attention(rope(Wq n), rope(Wk n), Wv n)    n = rms_norm(x, attn_norm)
//   x += Wdown (silu(Wgate n) * (Wup n))               n = rms_norm(x, ffn_norm)
#pragma once

#include <atomic>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "engine/cache/kv_pages.h"
#include "engine/cpu/kernel_table.h"
#include "engine/cpu/thread_pool.h"
#include "engine/model/linear.h"
#include "engine/model/model_spec.h"
#include "engine/model/scratch.h"
#include "engine/model/weights.h"
#include "engine/stage.h"

namespace tandem::engine {

// Role: the computation of a layer; the weights come with each call. Every result is computed for its token alone, in
// an order that depends on nothing but the token's position: batch mates, chunks and threads change no bit. Ownership:
// borrows everything, which must outlive it. Threading: owned by the step thread, works on the pool.
class TransformerBlock {
 public:
  TransformerBlock(const ModelSpec& spec, const KernelTable& kernels, ThreadPool& pool, Scratch& scratch, KvPages& kv);

  // Applies layer `layer` of the stage (counted from its first) to scratch.hidden[0, tokens), whose places and
  // rotations are filled in. Stores the tokens' keys and values. Errors: kInternal (a value is not finite: the weights
  // are broken).
  absl::Status Forward(const LayerWeights& weights, int32_t layer, const Step& step, int64_t tokens);

 private:
  // The steps, in order. Each is one fork and join of the pool.
  void NormRows(const std::vector<float>& norm, const InputForms& forms);
  void ProjectQkv(const LayerWeights& weights);
  void RotateAndStore(int32_t layer);
  void Attend(int32_t layer, const Step& step);
  void PrepareRows(const InputForms& forms, const float* input, int64_t cols);
  void ProjectAndAdd(const PackedMatrix& weights, const float* input);
  void GateAndUp(const LayerWeights& weights);

  // Calls fn(token) for every token, on all threads.
  void ForTokens(absl::FunctionRef<void(int64_t token)> fn);
  class PageTable;
  void AttendHead(int64_t token, int64_t head, const PageTable& pages);

  const ModelSpec& spec_;
  const KernelTable& kernels_;
  ThreadPool& pool_;
  Scratch& scratch_;
  KvPages& kv_;
  const Linear linear_;
  const float attention_scale_;  // 1 / sqrt(head_dim)
  int64_t tokens_ = 0;           // of the step in progress
  std::atomic<bool> not_finite_{false};
};

}  // namespace tandem::engine
