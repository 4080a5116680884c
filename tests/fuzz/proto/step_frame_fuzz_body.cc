// What the step frame fuzzer and the unit tests do with the bytes of a frame: what a worker does. Any crash or
// sanitizer report is a finding. Declared by its two users: step_frame_fuzzer.cc,
// tests/worker/step_frame_robustness_test.cc.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "engine/stage.h"
#include "proto/support/engine_convert.h"
#include "tests/support/tiny_model.h"

namespace tandem::worker {
namespace {

// The two halves of a tiny model: the one that takes tokens, and the one that takes activations.
struct Halves {
  Halves() : tiny(tandem::testing::ParseTinyModel(tandem::testing::TinyModelShape{.hidden = 32, .ffn = 32})) {
    spec = *engine::ReadModelSpec(*tiny.file);
    engine::FileTensorSource source(*tiny.file);
    for (int i = 0; i < 2; ++i) {
      engine::StageOptions options;
      options.first_layer = i;
      options.end_layer = i + 1;
      options.page_tokens = 16;
      options.num_pages = 4;
      options.max_step_tokens = 16;
      options.threads = 1;
      options.pin_threads = false;
      stages[i] = *engine::Stage::Load(spec, *tiny.file, source, options, nullptr, nullptr);
    }
  }
  tandem::testing::TinyFile tiny;
  engine::ModelSpec spec;
  std::unique_ptr<engine::Stage> stages[2];
};

}  // namespace

// The number of stages that executed the step.
int FuzzStepFrame(std::span<const uint8_t> bytes) {
  static Halves& halves = *new Halves;
  v1::StepFrame frame;
  if (!frame.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return 0;
  int executed = 0;
  for (int i = 0; i < 2; ++i) {
    proto_support::StepStorage storage;
    const auto step = proto_support::StepFromFrame(frame, halves.spec, i == 0, &storage);
    engine::StepResult result;
    if (step.ok() && halves.stages[i]->Run(*step, &result).ok()) ++executed;
  }
  return executed;
}

}  // namespace tandem::worker
