#include "coordinator/pipeline_ends.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"

namespace tandem::coordinator {
namespace {

// The first stage has just reported on another connection, so it is there; the cluster thread waits for this.
constexpr int kConnectTimeoutMs = 3000;

absl::Status Prefixed(const char* what, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat(what, ": ", status.message()));
}

}  // namespace

void GrpcPipelineEnds::Serve(uint64_t epoch) {
  service_.Serve(
      epoch, [this](std::unique_ptr<v1::StepFrame> frame) { dispatcher_.OnFrame(std::move(frame)); },
      [this, epoch](absl::Status why) { on_broken_(epoch, Prefixed("the link from the last stage broke", why)); });
}

absl::Status GrpcPipelineEnds::Attach(const PipelineSpec& spec, const std::string& first_address) {
  links::GrpcLinkOptions options;
  options.address = first_address;
  options.epoch = spec.epoch;
  options.connect_timeout_ms = kConnectTimeoutMs;
  options.on_broken = [this, epoch = spec.epoch](absl::Status why) {
    on_broken_(epoch, Prefixed("the link to the first stage broke", why));
  };
  absl::StatusOr<std::unique_ptr<links::StepLink>> link = links::DialGrpcLink(options);
  if (!link.ok()) return Prefixed("cannot reach the first stage", link.status());
  dispatcher_.AttachPipeline(spec, *std::move(link));
  attached_.insert(spec.epoch);
  on_serving_(true);
  return absl::OkStatus();
}

void GrpcPipelineEnds::Detach(uint64_t epoch, const absl::Status& why) {
  attached_.erase(epoch);
  if (attached_.empty()) on_serving_(false);
  dispatcher_.DetachPipeline(epoch, why);
  service_.StopServing(epoch);
}

}  // namespace tandem::coordinator
