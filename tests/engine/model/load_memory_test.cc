// What a load takes at its peak, as the operating system counts it.

#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "engine/stage.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace tandem::engine {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  // shadow memory and memory kept after it was freed count too
#else
constexpr bool kSanitized = false;
#endif

// A field of /proc/self/status in bytes; 0 if it is not there.
uint64_t StatusField(absl::string_view name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    absl::string_view text = line;
    uint64_t kilobytes = 0;
    if (!absl::ConsumePrefix(&text, name) || !absl::ConsumePrefix(&text, ":") || !absl::ConsumeSuffix(&text, " kB")) {
      continue;
    }
    return absl::SimpleAtoi(text, &kilobytes) ? kilobytes * 1024 : 0;
  }
  return 0;
}

// Makes VmHWM the present resident size.
bool ResetPeak() { return static_cast<bool>(std::ofstream("/proc/self/clear_refs") << 5 << std::flush); }

// One layer of which each matrix is a third: a load that held a whole tensor besides what it makes of it would show.
std::string WriteModel() {
  constexpr uint64_t kHidden = 256, kFfn = 16384;
  testing::TinyModel model = testing::MakeTinyModel({.layers = 1, .hidden = static_cast<int32_t>(kHidden)});
  model.metadata["llama.feed_forward_length"] = static_cast<uint32_t>(kFfn);
  const std::vector<float> values(kHidden * kFfn, 0.01f);
  for (const char* name : {"blk.0.ffn_gate.weight", "blk.0.ffn_up.weight"}) {
    model.SetTensor(name, TensorType::kF32, {kHidden, kFfn}, values);
  }
  model.SetTensor("blk.0.ffn_down.weight", TensorType::kF32, {kFfn, kHidden}, values);
  const std::string path = testing::TempFolder() + "/load_memory.gguf";
  EXPECT_TRUE(model.Write(path).ok());
  return path;
}

// Forwards to a file, as a source that can only be read in order.
class OrderedSource : public TensorSource {
 public:
  explicit OrderedSource(const GgufFile& file) : file_(file) {}
  absl::Status Read(const GgufTensor& tensor, uint64_t offset, std::span<std::byte> out) override {
    return file_.Read(tensor, offset, out);
  }
  bool concurrent() const override { return false; }

 private:
  const GgufFile& file_;
};

TEST(LoadMemoryTest, ThePeakIsWhatStaysAndFivePercent) {
  if (kSanitized) GTEST_SKIP() << "sanitizers take memory of their own";
  const std::string path = WriteModel();
  const auto file = GgufFile::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  const ModelSpec spec = *ReadModelSpec(**file);
  FileTensorSource at_once(**file);
  OrderedSource in_order(**file);
  for (TensorSource* source : {static_cast<TensorSource*>(&at_once), static_cast<TensorSource*>(&in_order)}) {
    if (!ResetPeak()) GTEST_SKIP() << "the peak cannot be reset here";
    const uint64_t before = StatusField("VmRSS");
    const auto stage = Stage::Load(
        spec, **file, *source, {.end_layer = 1, .num_pages = 4, .threads = 2, .pin_threads = false}, nullptr, nullptr);
    ASSERT_TRUE(stage.ok()) << stage.status();
    const uint64_t peak = StatusField("VmHWM") - before, held = (*stage)->memory().total();
    constexpr uint64_t kBesides = uint64_t{3} << 20;  // stacks, allocator, code touched for the first time
    ASSERT_GT(held, uint64_t{48} << 20);
    EXPECT_GT(peak, held / 2) << "nothing was measured";
    EXPECT_LE(peak, held + held / 20 + kBesides);
  }
}

}  // namespace
}  // namespace tandem::engine
