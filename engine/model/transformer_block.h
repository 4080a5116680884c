// One transformer layer, applied to the tokens of a step. With n the norm that the architecture has at that place, or
// nothing:
//
//   sequential  x += n(attention(n(x)));  x += n(ffn(n(x)))
//   parallel    x += attention(n(x)) + ffn(n(x))
//
// What differs between architectures comes from their row of the table (architecture.h), from the file's
// hyperparameters, and from which weights there are.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "engine/cache/kv_pages.h"
#include "engine/cpu/kernel_table.h"
#include "engine/cpu/thread_pool.h"
#include "engine/model/adapter_products.h"
#include "engine/model/attention_layer.h"
#include "engine/model/block_context.h"
#include "engine/model/feed_forward.h"
#include "engine/model/layer_weights.h"
#include "engine/model/model_spec.h"
#include "engine/model/scratch.h"
#include "engine/stage.h"

namespace tandem::engine {

// Role: the computation of a layer; the weights come with each call. Every result is computed for its token alone, in
// an order that depends on nothing but the token's position: batch mates, chunks and threads change no bit. Ownership:
// borrows everything, which must outlive it. Threading: owned by the step thread, works on the pool.
class TransformerBlock {
 public:
  TransformerBlock(const ModelSpec& spec, const KernelTable& kernels, ThreadPool& pool, Scratch& scratch, KvPages& kv,
                   AdapterProducts& adapters);

  // Applies a layer to scratch.hidden[0, tokens), whose places and rotations are filled in; `spec` is its description,
  // `layer` its number in the stage. Stores the tokens' keys and values. Errors: kInternal (a value is not finite: the
  // weights are broken).
  absl::Status Forward(const LayerWeights& weights, const LayerSpec& spec, int32_t layer, const Step& step,
                       int64_t tokens);

  // The architecture's norm of one hidden state, in this thread. `bias` may be empty.
  void Norm(const Vector& weight, const Vector& bias, const float* x, float* out) const {
    context_.Norm(weight.data(), bias.empty() ? nullptr : bias.data(), x, context_.spec.hidden, out);
  }
  // As BlockContext::PrepareNormed.
  bool PrepareNormed(const InputForms& forms, const Vector& weight, const Vector& bias, const float* x,
                     int64_t row) const {
    return context_.PrepareNormed(forms, weight, bias, x, row);
  }

 private:
  BlockContext context_;
  AttentionLayer attention_;
  FeedForward feed_forward_;
};

}  // namespace tandem::engine
