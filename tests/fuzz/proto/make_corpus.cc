// Writes the seeds of the step frame fuzzer: step_frame_make_corpus FOLDER. Run it after a change of pipeline.proto and
// commit the files.
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "engine/quant/activation_format.h"
#include "proto/support/engine_convert.h"
#include "tandem/v1/pipeline.pb.h"

namespace tandem {
namespace {

constexpr int kHidden = 32;  // of the model in step_frame_fuzz_body.cc

v1::Slice* AddSlice(v1::StepFrame& frame, uint32_t position, int tokens, v1::SliceOutput output) {
  v1::Slice* slice = frame.add_slices();
  slice->set_sequence(frame.slices_size());
  slice->set_position(position);
  for (int i = 0; i < tokens; ++i) slice->add_tokens(i + 5);
  slice->add_pages(frame.slices_size() - 1);
  slice->set_output(output);
  return slice;
}

// A prefill, a draw with every sampling field, logits, and states.
v1::StepFrame EverySlice() {
  v1::StepFrame frame;
  frame.set_epoch(1);
  frame.set_step(1);
  AddSlice(frame, 0, 3, v1::SLICE_OUTPUT_NONE);
  v1::Slice* slice = AddSlice(frame, 2, 1, v1::SLICE_OUTPUT_SAMPLE);
  slice->add_recent(5);
  slice->add_recent(6);
  v1::Sampling* sampling = slice->mutable_sampling();
  sampling->set_temperature(0.8f);
  sampling->set_top_k(40);
  sampling->set_top_p(0.9f);
  sampling->set_min_p(0.05f);
  sampling->set_repetition_penalty(1.1f);
  sampling->set_presence_penalty(0.1f);
  sampling->set_frequency_penalty(0.1f);
  sampling->set_penalty_window(32);
  sampling->set_seed(7);
  sampling->set_top_logprobs(3);
  sampling->add_logit_bias()->set_token(9);
  sampling->mutable_logit_bias(0)->set_bias(2);
  sampling->set_typical_p(0.95f);
  sampling->set_top_n_sigma(3);
  sampling->set_xtc_probability(0.5f);
  sampling->set_xtc_threshold(0.2f);
  sampling->set_mirostat(2);
  sampling->set_mirostat_tau(4);
  sampling->set_mirostat_eta(0.2f);
  for (int filter = v1::Filter_MAX; filter > 0; --filter) sampling->add_filters(static_cast<v1::Filter>(filter));
  slice->set_mirostat_mu(8);
  slice->set_dropped(300);
  v1::DryPenalty* dry = slice->add_dry();
  dry->set_token(5);
  dry->set_penalty(1.5f);
  for (const uint32_t token : {5u, 6u, 9u}) slice->mutable_allowed()->mutable_only()->add_ids(token);
  AddSlice(frame, 0, 2, v1::SLICE_OUTPUT_LOGITS);
  AddSlice(frame, 0, 2, v1::SLICE_OUTPUT_STATE_SUM);
  return frame;
}

v1::StepFrame Greedy() {
  v1::StepFrame frame;
  AddSlice(frame, 4, 3, v1::SLICE_OUTPUT_SAMPLE)->set_guesses(2);
  v1::PageCopy* copy = frame.add_copies();
  copy->set_from(1);
  copy->set_to(2);
  v1::Slice* slice = AddSlice(frame, 0, 1, v1::SLICE_OUTPUT_SAMPLE);
  slice->mutable_allowed()->mutable_all_but()->add_ids(7);
  return frame;
}

v1::StepFrame WithActivations(v1::StepFrame frame, engine::TensorType type = engine::TensorType::kF32) {
  int tokens = 0;
  for (const v1::Slice& slice : frame.slices()) tokens += slice.tokens_size();
  const std::vector<float> hidden(tokens * kHidden, 0.5f);
  std::string bytes(engine::ActivationBytes(type, hidden.size()), '\0');
  engine::PackActivations(type, hidden, reinterpret_cast<std::byte*>(bytes.data()));
  frame.set_activations(bytes);
  frame.set_activation_type(proto_support::ActivationTypeToProto(type));
  return frame;
}

}  // namespace
}  // namespace tandem

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: step_frame_make_corpus FOLDER\n";
    return 2;
  }
  const auto write = [&](const char* name, const tandem::v1::StepFrame& frame) {
    std::ofstream(std::string(argv[1]) + "/" + name, std::ios::binary) << frame.SerializeAsString();
  };
  write("first_stage.bin", tandem::EverySlice());
  write("last_stage.bin", tandem::WithActivations(tandem::EverySlice()));
  write("greedy_first.bin", tandem::Greedy());
  for (const auto type : tandem::engine::ActivationTypes()) {
    const std::string name = "greedy_" + tandem::engine::ActivationTypeName(type) + ".bin";
    write(name.c_str(), tandem::WithActivations(tandem::Greedy(), type));
  }
  return 0;
}
