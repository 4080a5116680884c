// Stage::Load and EstimateStageMemory: options, memory, progress, sources that fail.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/status_macros.h"
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

// Serves a file's tensors, counts the reads, and spoils what a test asks for.
class TestSource : public TensorSource {
 public:
  explicit TestSource(const GgufFile& file) : file_(file) {}
  absl::StatusOr<std::span<const std::byte>> Read(const GgufTensor& tensor) override {
    ++reads[tensor.name];
    if (tensor.name == fails) return absl::UnavailableError("the wire is cut");
    TANDEM_ASSIGN_OR_RETURN(bytes_, file_.ReadAll(tensor));
    return std::span(bytes_).first(bytes_.size() - (tensor.name == is_short ? 4 : 0));
  }
  std::map<std::string, int> reads;
  std::string fails, is_short;

 private:
  const GgufFile& file_;
  std::vector<std::byte> bytes_;
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
      EXPECT_EQ(source.reads[tensor.name], 1) << tensor.name;
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
  EXPECT_EQ(source.reads.size(), 9u);
  for (const auto& [name, count] : source.reads) EXPECT_THAT(name, HasSubstr("blk.1."));
}

TEST(StageLoadTest, CancelledLoadReturnsCancelled) {
  const Loaded model(TinyModelShape{});
  TestSource source(*model.tiny.file);
  int asked = 0;
  const auto stage =
      Stage::Load(model.spec, *model.tiny.file, source, SomeOptions(0, 2), nullptr, [&] { return ++asked == 4; });
  EXPECT_EQ(stage.status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(source.reads.size(), 3u);
}

TEST(StageLoadTest, ErrorOfTheSourceIsReturned) {
  const Loaded model(TinyModelShape{});
  TestSource source(*model.tiny.file);
  source.fails = "blk.1.ffn_up.weight";
  const auto stage = Stage::Load(model.spec, *model.tiny.file, source, SomeOptions(0, 2), nullptr, nullptr);
  EXPECT_EQ(stage.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(stage.status().message()), HasSubstr("the wire is cut"));
}

TEST(StageLoadTest, ShortTensorReturnsInvalidArgument) {
  const Loaded model(TinyModelShape{});
  for (const char* name : {"token_embd.weight", "blk.0.attn_norm.weight", "blk.1.ffn_down.weight"}) {
    TestSource source(*model.tiny.file);
    source.is_short = name;
    const auto stage = Stage::Load(model.spec, *model.tiny.file, source, SomeOptions(0, 2), nullptr, nullptr);
    EXPECT_EQ(stage.status().code(), kInvalid);
    EXPECT_THAT(std::string(stage.status().message()), HasSubstr(name));
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
    EXPECT_TRUE(source.reads.empty());
  };
  expect("first_layer is -1", [](StageOptions& o) { o.first_layer = -1; });
  expect("first_layer is 2", [](StageOptions& o) { o.first_layer = 2; });
  expect("end_layer is 3, expected 1 to 2", [](StageOptions& o) { o.end_layer = 3; });
  expect("end_layer is 0", [](StageOptions& o) { o.end_layer = 0; });
  expect("kv_type is 2", [](StageOptions& o) { o.kv_type = static_cast<KvType>(2); });
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
  EXPECT_TRUE(source.reads.empty()) << "nothing is read for a stage that does not fit";
}

}  // namespace
}  // namespace tandem::engine
