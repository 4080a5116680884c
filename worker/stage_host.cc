#include "worker/stage_host.h"

#include <pthread.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include <spdlog/spdlog.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "engine/quant/activation_format.h"
#include "links/link_probe.h"
#include "proto/support/channel.h"
#include "proto/support/engine_convert.h"
#include "worker/load_progress.h"

namespace tandem::worker {
namespace {

constexpr int kDialTimeoutMs = 2000;  // of one attempt
constexpr absl::Duration kMinPause = absl::Milliseconds(20);
constexpr absl::Duration kMaxPause = absl::Milliseconds(500);
constexpr absl::Duration kProbeLimit = absl::Seconds(5);  // for measuring the hop; a slower one stays unmeasured

std::string LayersOf(const v1::Place& place) {
  return absl::StrCat("layers ", place.first_layer(), " to ", static_cast<int64_t>(place.end_layer()) - 1);
}

}  // namespace

StageHost::StageHost(StageHostOptions options, v1::Cluster::StubInterface& coordinator,
                     links::PipelineService& pipeline, WorkerMetrics& metrics, SendMessage send)
    : options_(std::move(options)),
      coordinator_(coordinator),
      pipeline_(pipeline),
      metrics_(metrics),
      send_(std::move(send)) {
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "tandem-host");
    Loop();
  });
}

void StageHost::Place(const v1::Place& place) { Post({place, "a new placement"}); }

void StageHost::Unload(uint64_t epoch) {
  {
    absl::MutexLock lock(&mu_);
    if (epoch != epoch_) return;
  }
  Post({std::nullopt, "the coordinator unloads it"});
}

void StageHost::SendAs(const v1::SendAs& send_as) {
  absl::MutexLock lock(&mu_);
  if (send_as.epoch() != epoch_ || serving_ == nullptr) return;
  absl::StatusOr<engine::TensorType> type = proto_support::ActivationTypeFromProto(send_as.activation_type());
  absl::Status changed = type.ok() ? serving_->SendAs(*type) : type.status();
  if (changed.ok()) {
    spdlog::info("epoch {}: activations go to the next stage as {}", epoch_, engine::ActivationTypeName(*type));
  } else {
    spdlog::warn("epoch {}: the coordinator asks for an impossible type: {}", epoch_, changed.ToString());
  }
}

void StageHost::Drop(const std::string& reason) { Post({std::nullopt, reason}); }

v1::Heartbeat StageHost::heartbeat() {
  v1::Heartbeat heartbeat;
  absl::MutexLock lock(&mu_);
  heartbeat.set_epoch(epoch_);
  heartbeat.set_memory_used(memory_used_);
  return heartbeat;
}

void StageHost::Stop() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    if (cancel_ != nullptr) cancel_->Cancel();
  }
  if (thread_.joinable()) thread_.join();
}

void StageHost::Post(Command command) {
  absl::MutexLock lock(&mu_);
  epoch_ = command.place ? command.place->epoch() : 0;
  broken_ = absl::OkStatus();
  command_ = std::move(command);
  if (cancel_ != nullptr) cancel_->Cancel();
}

void StageHost::OnBroken(uint64_t epoch, const absl::Status& why) {
  absl::MutexLock lock(&mu_);
  if (epoch != epoch_ || !broken_.ok()) return;
  broken_ = why;
  if (cancel_ != nullptr) cancel_->Cancel();
}

void StageHost::Loop() {
  for (;;) {
    Command command;
    auto cancel = std::make_shared<LoadCancel>();
    {
      absl::MutexLock lock(&mu_);
      const auto ready = [this]() ABSL_SHARED_LOCKS_REQUIRED(mu_) {
        return stopping_ || command_.has_value() || !broken_.ok();
      };
      mu_.Await(absl::Condition(&ready));
      if (stopping_) break;
      if (command_) {
        command = *std::move(command_);
        command_.reset();
        cancel_ = cancel;
      } else {
        command.reason = std::string(broken_.message());
        epoch_ = 0;
      }
      broken_ = absl::OkStatus();
    }
    DropStage(command.reason);
    if (command.place) Execute(*command.place, *cancel);
    absl::MutexLock lock(&mu_);
    cancel_ = nullptr;
  }
  DropStage("the worker stops");
}

void StageHost::Execute(const v1::Place& place, LoadCancel& cancel) {
  v1::WorkerMessage message;
  v1::LoadDone* done = message.mutable_done();
  done->set_epoch(place.epoch());
  absl::Status status = LoadAndServe(place, cancel, done);
  if (cancel.cancelled()) {
    absl::MutexLock lock(&mu_);
    // Cancelled by a command: nobody waits for this placement any more, and the command drops its stage.
    if (stopping_ || command_ || broken_.ok()) return;
    status = broken_;
    broken_ = absl::OkStatus();
    epoch_ = 0;
  }
  if (status.ok()) {
    spdlog::info("epoch {}: serving {} of {}", place.epoch(), LayersOf(place), place.model().name());
  } else {
    spdlog::error("epoch {}: {}: {}", place.epoch(), LayersOf(place), status.ToString());
    DropStage("it could not be served");
    done->set_code(status.raw_code());
    done->set_message(std::string(status.message()));
  }
  send_(std::move(message));
}

absl::Status StageHost::LoadAndServe(const v1::Place& place, LoadCancel& cancel, v1::LoadDone* done) {
  const uint64_t epoch = place.epoch();
  TANDEM_ASSIGN_OR_RETURN(LoadedShard shard, Load(place, cancel));
  const engine::StageMemory memory = shard.stage->memory();
  links::StepLoopOptions options;
  if (!shard.stage->is_last()) {
    TANDEM_ASSIGN_OR_RETURN(options.activations, proto_support::ActivationTypeFromProto(place.activation_type()));
    TANDEM_RETURN_IF_ERROR(engine::CheckActivationType(options.activations, shard.spec.hidden));
  }
  options.observer = [this](const links::StepCost& cost) { metrics_.ObserveStep(cost); };
  options.on_failure = [this, epoch](const absl::Status& why) { OnBroken(epoch, why); };
  loop_ = std::make_unique<links::StepLoop>(std::move(shard.stage), shard.spec, place.stage(), std::move(options));
  {
    absl::MutexLock lock(&mu_);
    memory_used_ = memory.total();
  }
  metrics_.SetStage(epoch, memory, place.kv().num_pages());
  pipeline_.Serve(
      epoch, [loop = loop_.get()](std::unique_ptr<v1::StepFrame> frame) { loop->Post(std::move(frame)); },
      [this, epoch](const absl::Status& why) {
        OnBroken(epoch, absl::Status(why.code(), absl::StrCat("link from the stage before: ", why.message())));
      });
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<links::StepLink> next, DialNext(place, cancel));
  MeasureNext(place, done);
  loop_->Start(std::move(next));
  {
    absl::MutexLock lock(&mu_);
    serving_ = loop_.get();
  }
  done->set_weight_bytes(memory.weights);
  done->set_kv_bytes(memory.kv);
  done->set_scratch_bytes(memory.scratch);
  done->set_from_local_file(shard.from_local_file);
  return absl::OkStatus();
}

absl::StatusOr<LoadedShard> StageHost::Load(const v1::Place& place, LoadCancel& cancel) {
  spdlog::info("epoch {}: loading {} of {}, stage {} of {}", place.epoch(), LayersOf(place), place.model().name(),
               place.stage() + 1, place.num_stages());
  const auto report = [&](uint64_t done, uint64_t total) {
    v1::WorkerMessage message;
    v1::LoadProgress* progress = message.mutable_progress();
    progress->set_epoch(place.epoch());
    progress->set_bytes_done(done);
    progress->set_bytes_total(total);
    send_(std::move(message));
  };
  const auto show = [this](const std::string& line) {
    if (options_.terminal) {
      std::fputs(line.c_str(), stderr);
    } else {
      spdlog::info("{}", line);
    }
  };
  LoadProgressMeter meter(LayersOf(place), options_.terminal, report, show);
  uint64_t loaded = 0;
  absl::StatusOr<LoadedShard> shard = LoadShard(
      options_.loader, place, coordinator_,
      [&](uint64_t done, uint64_t total) {
        loaded = done;
        meter.Update(done, total, absl::Now());
      },
      cancel);
  if (shard.ok()) metrics_.CountLoad(shard->from_local_file, loaded);
  return shard;
}

absl::StatusOr<std::unique_ptr<links::StepLink>> StageHost::DialNext(const v1::Place& place, LoadCancel& cancel) {
  const uint64_t epoch = place.epoch();
  std::string host;
  int port = 0;
  TANDEM_RETURN_IF_ERROR(proto_support::ParseAddress(place.next_address(), &host, &port));
  links::GrpcLinkOptions options;
  options.address = place.next_address();
  options.epoch = epoch;
  options.connect_timeout_ms = kDialTimeoutMs;
  options.on_broken = [this, epoch](const absl::Status& why) { OnBroken(epoch, why); };
  options.on_ack = [this](double wire_s) { metrics_.ObserveWire(wire_s); };
  absl::Time last_answer = absl::Now();
  absl::Duration pause = kMinPause;
  for (;;) {
    absl::StatusOr<std::unique_ptr<links::StepLink>> link = links::DialGrpcLink(options);
    if (link.ok() || cancel.cancelled()) return link;
    // The next stage answers, but does not serve this epoch yet.
    if (link.status().code() == absl::StatusCode::kFailedPrecondition) last_answer = absl::Now();
    if (absl::Now() - last_answer > options_.unreachable_limit) return link;
    if (cancel.WaitFor(pause)) return absl::CancelledError("the placement was withdrawn");
    pause = std::min(2 * pause, kMaxPause);
  }
}

void StageHost::MeasureNext(const v1::Place& place, v1::LoadDone* done) {
  const absl::StatusOr<links::LinkSpeed> speed = links::MeasureLink(place.next_address(), kProbeLimit);
  if (!speed.ok()) {
    spdlog::warn("epoch {}: the hop to {} was not measured: {}", place.epoch(), place.next_address(),
                 speed.status().ToString());
    return;
  }
  spdlog::info("epoch {}: hop to {}: round trip {:.3f} ms, {:.0f} Mbit/s", place.epoch(), place.next_address(),
               speed->round_trip_s * 1e3, speed->bytes_per_s * 8e-6);
  done->set_link_round_trip_s(speed->round_trip_s);
  done->set_link_bytes_per_s(speed->bytes_per_s);
}

void StageHost::DropStage(const std::string& reason) {
  if (loop_ == nullptr) return;
  {
    absl::MutexLock lock(&mu_);
    serving_ = nullptr;
  }
  pipeline_.StopServing();  // no frame is posted from here on
  loop_->Stop();
  loop_ = nullptr;
  metrics_.SetStage(0, {}, 0);
  spdlog::info("dropped the stage: {}", reason);
  absl::MutexLock lock(&mu_);
  memory_used_ = 0;
}

}  // namespace tandem::worker
