// The dispatcher's part that deals with pipelines: they come and go, and sequences are dealt out to them.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/dispatcher.h"
#include "coordinator/scheduler/pipeline_choice.h"

namespace tandem::coordinator {
namespace {

// Logits of a step must fit a message (proto_support::kMaxMessageBytes) with room to spare.
constexpr int64_t kMaxLogitBytes = int64_t{32} << 20;

}  // namespace

SchedulerConfig SchedulerConfigOf(const PipelineSpec& spec) {
  SchedulerConfig config;
  config.num_stages = spec.num_stages;
  // One step a stage and one on its way, but never more than a link takes before it is acknowledged.
  config.max_in_flight = std::min<int32_t>(spec.num_stages + 1, links::kMaxUnacknowledged);
  config.num_pages = spec.num_pages;
  config.page_tokens = spec.page_tokens;
  config.max_step_tokens = spec.max_step_tokens;
  config.context = spec.context;
  return config;
}

bool Dispatcher::serves() const {
  return std::any_of(lanes_.begin(), lanes_.end(), [](const auto& lane) { return lane->serves(); });
}

Dispatcher::Lane* Dispatcher::FindLane(uint64_t epoch) {
  const auto found = std::find_if(lanes_.begin(), lanes_.end(),
                                  [epoch](const auto& lane) { return lane->serves() && lane->spec.epoch == epoch; });
  return found == lanes_.end() ? nullptr : found->get();
}

Dispatcher::Lane* Dispatcher::FreeLane() {
  if (!serves()) return last_lane_;
  const auto free = std::find_if(lanes_.begin(), lanes_.end(), [](const auto& lane) { return !lane->serves(); });
  if (free != lanes_.end()) return free->get();
  lanes_.push_back(std::make_unique<Lane>(static_cast<int32_t>(lanes_.size()), options_.max_waiting));
  return lanes_.back().get();
}

void Dispatcher::Handle(Attach attach) {
  Lane* const lane = FreeLane();
  lane->spec = attach.spec;
  lane->link = std::move(attach.link);
  last_lane_ = lane;
  SchedulerConfig config = SchedulerConfigOf(lane->spec);
  config.max_guessed_tokens = options_.max_guessed_tokens;
  config.drafts = options_.drafter != nullptr;
  const int64_t row_bytes = int64_t{std::max(options_.vocab, 1)} * static_cast<int64_t>(sizeof(float));
  config.max_logit_rows = static_cast<int32_t>(std::max<int64_t>(1, kMaxLogitBytes / row_bytes));
  for (uint64_t id : lane->scheduler.Reset(config)) {
    End(id, absl::ResourceExhaustedError("the request does not fit the pipeline that replaced the one it began on"));
  }
  // Its share of what others have to do.
  std::vector<PipelineOffer> offers;
  const std::vector<Lane*> serving = ServingLanes(&offers);
  while (const std::optional<PipelineMove> move = FindShare(offers)) Move(move->sequence, serving[move->to]);
}

void Dispatcher::Handle(Detach detach) {
  if (Lane* const lane = FindLane(detach.epoch); lane != nullptr) return Close(lane, detach.why);
  MutexLock lock(&mu_);
  why_detached_ = absl::UnavailableError(detach.why.message());
}

std::vector<Dispatcher::Lane*> Dispatcher::ServingLanes(std::vector<PipelineOffer>* offers) const {
  std::vector<Lane*> serving;
  for (const auto& lane : lanes_) {
    if (!lane->serves()) continue;
    serving.push_back(lane.get());
    offers->push_back({&lane->scheduler, lane->spec.tokens_per_s});
  }
  return serving;
}

Dispatcher::Lane* Dispatcher::ChooseLane(const SequenceSpec& spec) {
  std::vector<PipelineOffer> offers;
  const std::vector<Lane*> serving = ServingLanes(&offers);
  return serving.empty() ? last_lane_ : serving[ChoosePipeline(offers, spec)];
}

void Dispatcher::Move(uint64_t id, Lane* to) {
  Lane*& lane = tasks_.at(id).lane;
  if (absl::Status fits = to->scheduler.CheckFits(lane->scheduler.Find(id)->spec); !fits.ok()) return End(id, fits);
  Sequence sequence = lane->scheduler.Release(id);
  lane = to;
  to->scheduler.Adopt(std::move(sequence));
}

void Dispatcher::Balance() {
  std::vector<PipelineOffer> offers;
  const std::vector<Lane*> serving = ServingLanes(&offers);
  while (const std::optional<PipelineMove> move = FindMove(offers, clock_.Now())) {
    Move(move->sequence, serving[move->to]);
  }
}

void Dispatcher::Break(Lane* lane, const absl::Status& why) {
  if (lane == nullptr || !lane->serves()) return;
  Close(lane, why);
  if (options_.on_pipeline_broken) options_.on_pipeline_broken(lane->spec.epoch, why);
}

void Dispatcher::Close(Lane* lane, const absl::Status& why) {
  if (!lane->serves()) return;
  detached_at_ = clock_.Now();  // before Close, by which others see that it has ended
  lane->link->Close();
  bytes_out_ += lane->link->stats().bytes;
  lane->link.reset();
  last_lane_ = lane;
  lane->scheduler.Halt(/*interruption=*/!absl::IsCancelled(why));
  EndInterrupted(*lane, why);
  for (auto it = tasks_.begin(); serves() && it != tasks_.end();) {
    const auto& [id, task] = *it++;  // it may end
    if (task.lane == lane) Move(id, ChooseLane(lane->scheduler.Find(id)->spec));
  }
  MutexLock lock(&mu_);
  why_detached_ = absl::UnavailableError(why.message());
}

void Dispatcher::EndInterrupted(const Lane& lane, const absl::Status& why) {
  std::vector<uint64_t> ended;
  for (const auto& [id, task] : tasks_) {
    if (task.lane != &lane) continue;
    const Sequence* sequence = lane.scheduler.Find(id);
    if (sequence != nullptr && sequence->interruptions >= kMaxInterruptions) ended.push_back(id);
  }
  for (uint64_t id : ended) {
    End(id, absl::UnavailableError(absl::StrCat("the pipeline broke ", kMaxInterruptions,
                                                " times during this request, at last: ", why.message())));
  }
}

void Dispatcher::ExpireWithoutPipeline() {
  if (serves() || clock_.Now() - detached_at_ < options_.pipeline_wait) return;
  absl::Status why;
  {
    MutexLock lock(&mu_);
    if (expired_) return;
    // An Attach may be queued already; it has cleared expired_ and will be handled next.
    for (const Input& input : inputs_) {
      if (std::holds_alternative<Attach>(input)) return;
    }
    expired_ = true;
    why = absl::UnavailableError(absl::StrCat("no pipeline is serving: ", why_detached_.message()));
  }
  EndAll(why);
}

}  // namespace tandem::coordinator
