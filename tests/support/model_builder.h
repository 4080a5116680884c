// Puts together small models of any architecture with random weights: hyperparameters and tensors by their names in
// model files. What an architecture consists of: architecture_models.h.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/random.h"
#include "tests/support/tiny_model.h"

namespace tandem::testing {

// Sizes that most architectures share.
struct BuilderShape {
  int layers = 3;
  int hidden = 64;
  int ffn = 96;
  int heads = 4;
  int kv_heads = 2;
  int head_dim = 16;
  int vocab = 96;
  int context = 128;
};

// Weights are scaled to keep the size of what goes through them; norms, biases and sinks are of a size that shows when
// they are left out. The same calls give the same bytes.
class ModelBuilder {
 public:
  // Sets context_length, embedding_length, block_count, feed_forward_length and head_count; further keys one by one.
  ModelBuilder(const std::string& architecture, const BuilderShape& shape, uint64_t seed);

  const BuilderShape& shape() const { return shape_; }
  // Hyperparameter "<architecture>.<name>".
  ModelBuilder& Set(const std::string& name, TinyModel::Value value);
  ModelBuilder& SetCount(const std::string& name, int value) { return Set(name, static_cast<uint32_t>(value)); }

  void Matrix(const std::string& name, int rows, int cols, int slices = 0);  // "<name>.weight", slices 0: no such axis
  void Norm(const std::string& name, int width, int rows = 0);               // "<name>.weight" about 1
  void Bias(const std::string& name, int width, int rows = 0);               // "<name>.bias" about 0
  void Vector(const std::string& name, const std::vector<float>& values);    // a tensor of just that name

  // token_embd, output_norm (with a bias?), output unless the embedding is the head.
  void Ends(bool tied, bool norm_bias = false);
  // The rest are parts of layer `layer`: attn_q, attn_k, attn_v, attn_output of the shape.
  void Attention(int layer, bool bias = false, bool output_bias = false);
  void FusedAttention(int layer, bool bias = false);                    // attn_qkv, attn_output
  void GatedFfn(int layer, int width, const std::string& suffix = "");  // ffn_{gate,up,down}<suffix>
  void FusedFfn(int layer);                                             // ffn_up of twice the width, ffn_down
  void PlainFfn(int layer, bool bias);                                  // ffn_up, ffn_down
  void Experts(int layer, int count, int width);                        // ffn_gate_inp, ffn_{gate,up,down}_exps
  static std::string Name(int layer, const std::string& name) { return "blk." + std::to_string(layer) + "." + name; }

  TinyModel Take() { return std::move(model_); }

 private:
  const std::string architecture_;
  const BuilderShape shape_;
  Random random_;
  TinyModel model_;
};

}  // namespace tandem::testing
