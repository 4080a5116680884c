#include "links/step_loop.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/quant/activation_format.h"

namespace tandem::links {
namespace {

int64_t NowUs() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(now).count();
}

uint32_t ClampUs(int64_t us) {
  return static_cast<uint32_t>(std::clamp<int64_t>(us, 0, std::numeric_limits<uint32_t>::max()));
}

int64_t CountTokens(const v1::StepFrame& frame) {
  int64_t tokens = 0;
  for (const v1::Slice& slice : frame.slices()) tokens += slice.tokens_size();
  return tokens;
}

// Numbers as the wire has them: this machine is little-endian, as the format (GgufFile refuses to build elsewhere).
template <typename T>
void CopyNumbers(const std::vector<T>& from, std::string* to) {
  to->assign(reinterpret_cast<const char*>(from.data()), from.size() * sizeof(T));
}

void PutDraw(const engine::SampledToken& sampled, const v1::Sampling& sampling, v1::Draw* draw) {
  draw->set_token(static_cast<uint32_t>(sampled.token));
  if (sampling.mirostat() != 0) draw->set_mirostat_mu(sampled.mirostat_mu);
  if (!sampling.has_top_logprobs()) return;
  draw->set_logprob(sampled.logprob);
  for (const engine::TokenLogprob& top : sampled.top) {
    v1::TokenLogprob* entry = draw->add_top();
    entry->set_token(static_cast<uint32_t>(top.token));
    entry->set_logprob(top.logprob);
  }
}

}  // namespace

StepLoop::StepLoop(std::unique_ptr<engine::Stage> stage, const engine::ModelSpec& spec, uint32_t index,
                   StepLoopOptions options)
    : stage_(std::move(stage)),
      spec_(spec),
      index_(index),
      options_(std::move(options)),
      memory_(stage_->memory()),
      activations_(options_.activations) {}

StepLoop::~StepLoop() { Stop(); }

void StepLoop::Start(std::unique_ptr<links::StepLink> next) {
  next_ = std::move(next);
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "tandem-step");
    Loop();
  });
}

void StepLoop::Post(std::unique_ptr<v1::StepFrame> frame) {
  const uint64_t step = frame->step(), bytes = frame->ByteSizeLong();
  size_t waiting = 0;
  bool fits = false;
  {
    MutexLock lock(&mu_);
    if (stopping_) return;
    waiting = queue_.size();
    fits = waiting < options_.capacity && (waiting == 0 || queued_bytes_ + bytes <= options_.capacity_bytes);
    if (fits) {
      queue_.push_back({std::move(frame), bytes, NowUs()});
      queued_bytes_ += bytes;
    }
  }
  // Without the lock: on a core that both threads share, the woken one would run into it.
  if (fits) return changed_.NotifyOne();
  Fail(absl::ResourceExhaustedError(absl::StrCat("stage ", index_, " dropped step ", step, " of ", bytes,
                                                 " bytes: ", waiting, " steps are waiting")));
}

absl::Status StepLoop::SendAs(engine::TensorType type) {
  TANDEM_RETURN_IF_ERROR(engine::CheckActivationType(type, spec_.hidden));
  activations_ = type;
  return absl::OkStatus();
}

void StepLoop::Stop() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
    changed_.NotifyOne();
  }
  if (thread_.joinable()) thread_.join();
  if (next_ != nullptr) next_->Close();
}

void StepLoop::Loop() {
  for (;;) {
    Waiting waiting;
    {
      MutexLock lock(&mu_);
      while (queue_.empty() && !stopping_) changed_.Wait(&mu_);
      if (stopping_) return;
      waiting = std::move(queue_.front());
      queue_.pop_front();
      queued_bytes_ -= waiting.bytes;
    }
    const uint64_t step = waiting.frame->step();
    std::optional<StepCost> cost;
    if (!waiting.frame->has_failure()) cost = RunTimed(waiting);
    const absl::Status sent = next_->Send(std::move(waiting.frame));
    if (!sent.ok()) {
      Fail(absl::Status(sent.code(), absl::StrCat("stage ", index_, " lost step ", step, ": ", sent.message())));
    }
    if (cost && options_.observer) options_.observer(*cost);  // behind Send: the next stage need not wait for it
  }
}

StepCost StepLoop::RunTimed(const Waiting& waiting) {
  v1::StepFrame& frame = *waiting.frame;
  StepCost cost;
  cost.tokens = CountTokens(frame);
  cost.bytes_in = waiting.bytes;
  const int64_t begin_us = NowUs();
  Execute(frame);
  const int64_t end_us = NowUs();
  v1::StageTiming* timing = frame.add_timings();
  timing->set_stage(index_);
  timing->set_queue_us(ClampUs(begin_us - waiting.arrived_us));
  timing->set_compute_us(ClampUs(end_us - begin_us));
  timing->set_wire_us(ClampUs(static_cast<int64_t>(next_->stats().last_wire_s * 1e6)));
  cost.queue_s = timing->queue_us() * 1e-6;
  cost.compute_s = timing->compute_us() * 1e-6;
  cost.bytes_out = frame.ByteSizeLong();
  return cost;
}

void StepLoop::Execute(v1::StepFrame& frame) {
  const absl::Status status = Run(frame);
  if (!status.ok()) {
    v1::StepFailure* failure = frame.mutable_failure();
    failure->set_stage(index_);
    failure->set_code(status.raw_code());
    failure->set_message(std::string(status.message()));
    frame.clear_activations();
  }
  if (stage_->is_last()) {
    frame.clear_slices();
    frame.clear_copies();
  }
}

absl::Status StepLoop::Run(v1::StepFrame& frame) {
  TANDEM_ASSIGN_OR_RETURN(const engine::Step step,
                          proto_support::StepFromFrame(frame, spec_, stage_->is_first(), &storage_));
  TANDEM_RETURN_IF_ERROR(stage_->Run(step, &result_));
  if (stage_->is_last()) {
    TakeResults(frame);
  } else {
    const engine::TensorType type = activations_;
    std::string* bytes = frame.mutable_activations();
    if (type == engine::TensorType::kF32) {
      CopyNumbers(result_.hidden, bytes);
    } else {
      bytes->resize(engine::ActivationBytes(type, result_.hidden.size()));
      engine::PackActivations(type, result_.hidden, reinterpret_cast<std::byte*>(bytes->data()));
    }
    frame.set_activation_type(proto_support::ActivationTypeToProto(type));
  }
  return absl::OkStatus();
}

void StepLoop::TakeResults(v1::StepFrame& frame) {
  frame.clear_activations();
  frame.clear_activation_type();
  frame.clear_results();
  for (const engine::SliceResult& from : result_.results) {
    const v1::Slice& slice = frame.slices(from.slice);
    v1::SliceResult* to = frame.add_results();
    to->set_sequence(slice.sequence());
    if (slice.output() != v1::SLICE_OUTPUT_SAMPLE) {
      if (!from.logits.empty()) CopyNumbers(from.logits, to->mutable_logits());
      if (!from.state.empty()) CopyNumbers(from.state, to->mutable_state());
      if (!from.state_sum.empty()) CopyNumbers(from.state_sum, to->mutable_state_sum());
      continue;
    }
    for (const engine::SampledToken& sampled : from.sampled) PutDraw(sampled, slice.sampling(), to->add_draws());
  }
}

void StepLoop::Fail(const absl::Status& status) {
  {
    MutexLock lock(&mu_);
    if (failed_) return;
    failed_ = true;
  }
  if (options_.on_failure) options_.on_failure(status);
}

}  // namespace tandem::links
