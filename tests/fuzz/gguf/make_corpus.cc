// Writes the seeds of the GGUF fuzzer: make_corpus FOLDER. Run it after a change of the format's coverage and commit
// the files, which stay below 4 KiB each.
#include <fstream>
#include <iostream>
#include <span>
#include <string>
#include <vector>

#include "engine/gguf/gguf_writer.h"
#include "tests/engine/gguf/raw_gguf.h"

namespace tandem::engine {
namespace {

// The metadata and tensors of a very small model, in a float and two block formats.
std::vector<std::byte> TinyModel() {
  const std::vector<std::string> tokens = {"<s>", "</s>", "a", "b"};
  const std::vector<float> scores = {0, 0, -1, -2};
  const std::vector<int32_t> types = {3, 3, 1, 1};
  const std::vector<std::byte> zeros(1024);
  GgufWriter writer;
  writer.SetString("general.architecture", "llama");
  writer.SetUint32("llama.block_count", 1);
  writer.SetUint32("llama.embedding_length", 256);
  writer.SetFloat32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  writer.SetBool("tokenizer.ggml.add_bos_token", true);
  writer.SetStrings("tokenizer.ggml.tokens", tokens);
  writer.SetFloats("tokenizer.ggml.scores", scores);
  writer.SetInt32s("tokenizer.ggml.token_type", types);
  const auto add = [&](const char* name, TensorType type, std::vector<uint64_t> dims) {
    const uint64_t bytes = TensorBytes(type, dims).value();
    const absl::Status status = writer.AddTensor(name, type, dims, std::span(zeros).first(bytes));
    if (!status.ok()) std::cerr << status << "\n";
  };
  add("output_norm.weight", TensorType::kF32, {16});
  add("blk.0.attn_q.weight", TensorType::kQ8_0, {32, 4});
  add("blk.0.ffn_up.weight", TensorType::kQ4_K, {256, 2});
  add("blk.0.ffn_gate_exps.weight", TensorType::kQ6_K, {256, 1, 2});
  return writer.Serialize();
}

std::vector<std::byte> FirstBytes(std::vector<std::byte> bytes, size_t size) {
  bytes.resize(size);
  return bytes;
}

bool Save(const std::string& path, const std::vector<std::byte>& bytes) {
  std::ofstream stream(path, std::ios::binary);
  stream.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return stream.good();
}

bool SaveAll(const std::string& folder) {
  const RawGguf version2 = RawGguf(2, 0, 1).Key("tokenizer.chat_template", kRawString).String("{{ messages }}");
  RawGguf aligned(3, 1, 1);
  aligned.Scalar<uint32_t>("general.alignment", kRawUint32, 64).Tensor("t", {2, 2, 2, 2}, 1, 64).Pad(64).Zeros(96);
  const RawGguf nested = RawGguf(3, 0, 1).ArrayKey("k", kRawArray, 1).Number<uint32_t>(0).Number<uint64_t>(0);
  return Save(folder + "/every_type.gguf", EveryTypeGguf().bytes()) && Save(folder + "/tiny_model.gguf", TinyModel()) &&
         Save(folder + "/version2.gguf", version2.bytes()) && Save(folder + "/aligned.gguf", aligned.bytes()) &&
         Save(folder + "/empty.gguf", RawGguf(3, 0, 0).bytes()) &&
         Save(folder + "/truncated.gguf", FirstBytes(TinyModel(), 400)) &&
         Save(folder + "/nested.gguf", nested.bytes()) &&
         Save(folder + "/big_endian.gguf", RawGguf(0x03000000, 0, 0).bytes());
}

}  // namespace
}  // namespace tandem::engine

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: make_corpus FOLDER\n";
    return 2;
  }
  if (!tandem::engine::SaveAll(argv[1])) {
    std::cerr << "cannot write to " << argv[1] << "\n";
    return 1;
  }
  return 0;
}
