// Stage::Load and EstimateStageMemory: options, memory, progress, sources that fail.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/mutex.h"
#include "engine/stage.h"
#include "tests/support/tiny_model.h"

namespace tandem::engine {
namespace {

using ::testing::HasSubstr;
using testing::ParseTinyModel;
using testing::TinyFile;
using testing::TinyModelShape;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

StageOptions SomeOptions(int32_t first, int32_t end) {
  return {.first_layer = first,
          .end_layer = end,
          .kv_type = KvType::kF16,
          .page_tokens = 32,
          .num_pages = 5,
          .max_step_tokens = 24,
          .isa = Isa::kScalar,
          .threads = 2,
          .pin_threads = false};
}

struct Loaded {
  explicit Loaded(const TinyModelShape& shape) : tiny(ParseTinyModel(shape)), spec(*ReadModelSpec(*tiny.file)) {}
  TinyFile tiny;
  ModelSpec spec;
};

// Serves a file's tensors, counts what is read, checks the order, and fails where a test asks for it.
class TestSource : public TensorSource {
 public:
  explicit TestSource(const GgufFile& file, bool concurrent = false) : file_(file), concurrent_(concurrent) {}

  absl::Status Read(const GgufTensor& tensor, uint64_t offset, std::span<std::byte> out) override {
    {
      MutexLock lock(&mu_);
      uint64_t& bytes = read[tensor.name];
      EXPECT_TRUE(concurrent_ || offset == bytes) << tensor.name;
      bytes += out.size();
    }
    if (tensor.name == fails && offset + out.size() > fails_at) return absl::UnavailableError("the wire is cut");
    return file_.Read(tensor, offset, out);
  }
  bool concurrent() const override { return concurrent_; }

  std::map<std::string, uint64_t> read;  // bytes by tensor
  std::string fails;                     // the tensor of which bytes from fails_at on cannot be read
  uint64_t fails_at = 0;

 private:
  const GgufFile& file_;
  const bool concurrent_;
  Mutex mu_;
};

TEST(StageLoadTest, MemoryIsWhatWasEstimated) {
  for (TensorType type :
       {TensorType::kF32, TensorType::kF16, TensorType::kQ8_0, TensorType::kQ4_K, TensorType::kQ6_K}) {
    for (bool tied : {false, true}) {
      const Loaded model(
          {.layers = 3, .hidden = 256, .ffn = 256, .heads = 16, .vocab_size = 301, .type = type, .tied_head = tied});
      uint64_t weights = 0;
      for (const auto& [first, end] : {std::pair(0, 1), std::pair(1, 2), std::pair(2, 3), std::pair(0, 3)}) {
        const StageOptions options = SomeOptions(first, end);
        const auto estimate = EstimateStageMemory(model.spec, *model.tiny.file, options);
        ASSERT_TRUE(estimate.ok()) << estimate.status();
        TestSource source(*model.tiny.file);
        const auto stage = Stage::Load(model.spec, *model.tiny.file, source, options, nullptr, nullptr);
        ASSERT_TRUE(stage.ok()) << stage.status();
        const StageMemory held = (*stage)->memory();
        EXPECT_EQ(held.weights, estimate->weights);
        EXPECT_EQ(held.kv, estimate->kv);
        EXPECT_EQ(held.scratch, estimate->scratch);
        EXPECT_EQ(held.kv, 5u * (end - first) * 2 * 2 * 32 * 16 * 2);
        EXPECT_EQ(held.total(), held.weights + held.kv + held.scratch);
        EXPECT_EQ((*stage)->is_first(), first == 0);
        EXPECT_EQ((*stage)->is_last(), end == 3);
        if (end - first == 1) weights += held.weights;
      }
      const ModelCost cost = ComputeModelCost(model.spec, *model.tiny.file);
      // The stages apart hold a tied embedding twice, the whole model once.
      EXPECT_EQ(cost.tied_bytes, tied ? cost.embedding.weight_bytes : 0);
      EXPECT_EQ(cost.EndBytes(true, true), cost.EndBytes(true, false) + cost.EndBytes(false, true) - cost.tied_bytes);
      uint64_t expected = cost.embedding.weight_bytes + cost.head.weight_bytes;
      for (const PartCost& layer : cost.layers) expected += layer.weight_bytes;
      EXPECT_EQ(weights, expected);
    }
  }
}

TEST(StageLoadTest, EachTensorIsReadOnceAndReported) {
  for (bool tied : {false, true}) {
    const Loaded model({.layers = 3, .tied_head = tied});
    TestSource source(*model.tiny.file);
    std::vector<uint64_t> done;
    uint64_t total = 0;
    const auto stage = Stage::Load(
        model.spec, *model.tiny.file, source, SomeOptions(0, 3),
        [&](uint64_t bytes_done, uint64_t bytes_total) {
          done.push_back(bytes_done);
          total = bytes_total;
        },
        nullptr);
    ASSERT_TRUE(stage.ok()) << stage.status();
    uint64_t bytes = 0;
    for (const GgufTensor& tensor : model.tiny.file->tensors()) {
      EXPECT_EQ(source.read[tensor.name], tensor.bytes) << tensor.name;
      bytes += tensor.bytes;
    }
    EXPECT_EQ(total, bytes);
    ASSERT_EQ(done.size(), model.tiny.file->tensors().size());
    EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
    EXPECT_EQ(done.back(), total);
  }
}

TEST(StageLoadTest, AMiddleStageReadsOnlyItsLayers) {
  const Loaded model({.layers = 3});
  TestSource source(*model.tiny.file);
  ASSERT_TRUE(Stage::Load(model.spec, *model.tiny.file, source, SomeOptions(1, 2), nullptr, nullptr).ok());
  EXPECT_EQ(source.read.size(), 9u);
  for (const auto& [name, bytes] : source.read) EXPECT_THAT(name, HasSubstr("blk.1."));
}

TEST(StageLoadTest, CancelledLoadReturnsCancelled) {
  const Loaded model(TinyModelShape{});
  TestSource source(*model.tiny.file);
  int asked = 0;
  const auto stage =
      Stage::Load(model.spec, *model.tiny.file, source, SomeOptions(0, 2), nullptr, [&] { return ++asked == 4; });
  EXPECT_EQ(stage.status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(source.read.size(), 3u);
}

TEST(StageLoadTest, ErrorOfTheSourceIsReturned) {
  const Loaded model({.hidden = 256, .ffn = 1024, .heads = 16});
  for (const bool concurrent : {false, true}) {
    for (const char* name : {"token_embd.weight", "blk.0.attn_norm.weight", "blk.1.ffn_up.weight"}) {
      const uint64_t bytes = model.tiny.file->FindTensor(name)->bytes;
      for (const uint64_t at : {uint64_t{0}, bytes / 2, bytes - 1}) {
        TestSource source(*model.tiny.file, concurrent);
        source.fails = name;
        source.fails_at = at;
        const auto stage = Stage::Load(model.spec, *model.tiny.file, source, SomeOptions(0, 2), nullptr, nullptr);
        EXPECT_EQ(stage.status().code(), absl::StatusCode::kUnavailable) << name << " " << at;
        EXPECT_THAT(std::string(stage.status().message()), HasSubstr("the wire is cut"));
      }
    }
  }
}

TEST(StageLoadTest, BrokenRopeFactorsReturnInvalidArgument) {
  testing::TinyModel model = testing::MakeTinyModel({});
  model.SetTensor("rope_freqs.weight", TensorType::kF32, {8}, {1, 1, 1, 0, 1, 1, 1, 1});
  const TinyFile tiny = ParseTinyModel(model);
  FileTensorSource source(*tiny.file);
  const ModelSpec spec = *ReadModelSpec(*tiny.file);
  const auto stage = Stage::Load(spec, *tiny.file, source, SomeOptions(0, 2), nullptr, nullptr);
  EXPECT_EQ(stage.status().code(), kInvalid);
  EXPECT_THAT(std::string(stage.status().message()), HasSubstr("rope_freqs.weight"));
}

TEST(StageLoadTest, OptionsOutOfBoundsReturnInvalidArgument) {
  const Loaded model(TinyModelShape{});
  const auto expect = [&](absl::string_view names, auto change) {
    StageOptions options = SomeOptions(0, 2);
    change(options);
    const auto estimate = EstimateStageMemory(model.spec, *model.tiny.file, options);
    EXPECT_EQ(estimate.status().code(), kInvalid) << names;
    EXPECT_THAT(std::string(estimate.status().message()), HasSubstr(std::string(names)));
    TestSource source(*model.tiny.file);
    const auto stage = Stage::Load(model.spec, *model.tiny.file, source, options, nullptr, nullptr);
    EXPECT_EQ(stage.status().code(), kInvalid) << names;
    EXPECT_TRUE(source.read.empty());
  };
  expect("first_layer is -1", [](StageOptions& o) { o.first_layer = -1; });
  expect("first_layer is 2", [](StageOptions& o) { o.first_layer = 2; });
  expect("end_layer is 3, expected 1 to 2", [](StageOptions& o) { o.end_layer = 3; });
  expect("end_layer is 0", [](StageOptions& o) { o.end_layer = 0; });
  expect("kv_type is 5", [](StageOptions& o) { o.kv_type = static_cast<KvType>(5); });
  expect("page_tokens is 0", [](StageOptions& o) { o.page_tokens = 0; });
  expect("page_tokens is 24, expected a multiple of 16", [](StageOptions& o) { o.page_tokens = 24; });
  expect("num_pages is 0", [](StageOptions& o) { o.num_pages = 0; });
  expect("num_pages is 2147483647", [](StageOptions& o) { o.num_pages = 2147483647; });
  expect("max_step_tokens is 0", [](StageOptions& o) { o.max_step_tokens = 0; });
  expect("max_step_tokens is 100000", [](StageOptions& o) { o.max_step_tokens = 100000; });
  expect("isa is 9", [](StageOptions& o) { o.isa = static_cast<Isa>(9); });
  expect("threads is -1", [](StageOptions& o) { o.threads = -1; });
}

TEST(StageLoadTest, PagesBeyondMemoryReturnResourceExhausted) {
  const Loaded model({.layers = 1, .hidden = 1024, .heads = 64, .kv_heads = 64});
  StageOptions options = SomeOptions(0, 1);
  options.num_pages = 1 << 24;
  options.page_tokens = 4096;  // 2^36 tokens of 4 KiB: more than an address space
  TestSource source(*model.tiny.file);
  const auto stage = Stage::Load(model.spec, *model.tiny.file, source, options, nullptr, nullptr);
  EXPECT_EQ(stage.status().code(), absl::StatusCode::kResourceExhausted) << stage.status();
  EXPECT_THAT(std::string(stage.status().message()), HasSubstr("281474976710656 bytes"));
  EXPECT_TRUE(source.read.empty()) << "nothing is read for a stage that does not fit";
}

}  // namespace
}  // namespace tandem::engine
