#include "engine/model/transformer_block.h"

namespace tandem::engine {

TransformerBlock::TransformerBlock(const ModelSpec& spec, const KernelTable& kernels, ThreadPool& pool,
                                   Scratch& scratch, KvPages& kv, AdapterProducts& adapters)
    : context_(spec, kernels, pool, scratch, adapters), attention_(context_, kv), feed_forward_(context_) {}

absl::Status TransformerBlock::Forward(const LayerWeights& weights, const LayerSpec& spec, int32_t layer,
                                       const Step& step, int64_t tokens) {
  context_.tokens = tokens;
  context_.not_finite.store(false, std::memory_order_relaxed);
  const Scratch& scratch = context_.scratch;
  const bool parallel = context_.spec.parallel;

  InputForms attention_input = AttentionLayer::Wants(weights), ffn_input = FeedForward::Wants(weights);
  // Adapters take the plain values, and so does the FFN of a parallel layer, for which they are prepared once attention
  // is done with the int8 buffers.
  if (context_.adapters.active() || parallel) attention_input.Add(ActivationKind::kF32);
  if (context_.adapters.active()) ffn_input.Add(ActivationKind::kF32);

  context_.NormHidden(weights.attn_norm, weights.attn_norm_bias, attention_input);
  attention_.ProjectAndStore(weights, spec, layer);
  // The FFN of a parallel layer takes its input before attention changes the residual stream.
  if (parallel && !weights.ffn_norm.empty()) context_.NormHidden(weights.ffn_norm, weights.ffn_norm_bias, {});
  const float* attended = attention_.Attend(weights, spec, layer, step);
  context_.ProjectAndAdd(weights.output, weights.output_bias, weights.attn_post_norm, attended);

  if (parallel) {
    context_.PrepareRows(ffn_input, scratch.normed, tokens, context_.spec.hidden);
  } else {
    context_.NormHidden(weights.ffn_norm, weights.ffn_norm_bias, ffn_input);
  }
  feed_forward_.Run(weights);

  if (context_.not_finite.load(std::memory_order_relaxed)) {
    return absl::InternalError("a value inside the layer is infinite or not a number: the weights are broken");
  }
  return absl::OkStatus();
}

}  // namespace tandem::engine
