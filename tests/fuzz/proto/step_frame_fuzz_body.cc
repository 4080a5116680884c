// What the step frame fuzzer and the unit tests do with the bytes of a frame: what a worker does. Any crash or
// sanitizer report is a finding. Declared by its two users: step_frame_fuzzer.cc,
// tests/worker/step_frame_robustness_test.cc.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/stage.h"
#include "links/frame_codec.h"
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

// What a receiving end makes of a message that came in pieces of `piece_bytes`; null if it refuses it. Must be what
// protobuf itself makes of it.
std::unique_ptr<v1::StepFrame> Receive(std::span<const uint8_t> bytes, size_t piece_bytes) {
  std::vector<absl::string_view> pieces;
  for (size_t at = 0; at < bytes.size(); at += piece_bytes) {
    pieces.emplace_back(reinterpret_cast<const char*>(bytes.data()) + at, std::min(piece_bytes, bytes.size() - at));
  }
  absl::StatusOr<links::ReceivedFrame> received = links::ReceivedFrame::Scan(pieces);
  if (!received.ok()) return nullptr;
  const uint64_t epoch = received->epoch(), step = received->step(), activations = received->activation_bytes();
  auto frame = (*std::move(received)).Take();
  if (!frame.ok()) return nullptr;
  v1::StepFrame whole;
  const bool same = whole.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) && epoch == whole.epoch() &&
                    step == whole.step() && activations == whole.activations().size() &&
                    (*frame)->SerializeAsString() == whole.SerializeAsString();
  if (!same) std::abort();
  return *std::move(frame);
}

}  // namespace

// The number of stages that executed the step.
int FuzzStepFrame(std::span<const uint8_t> bytes) {
  static Halves& halves = *new Halves;
  const std::unique_ptr<v1::StepFrame> received = Receive(bytes, 1 + bytes.size() % 97);
  if (received == nullptr) return 0;
  const v1::StepFrame& frame = *received;
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
