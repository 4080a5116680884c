#include "coordinator/draft/draft_model.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "coordinator/placement/cost_model.h"
#include "engine/base/status_macros.h"
#include "links/step_link.h"

namespace tandem::coordinator {
namespace {

constexpr uint64_t kEpoch = 1;  // it is placed once
PlanOptions PlanOptionsFor(const engine::ModelSpec& spec, int32_t context) {
  PlanOptions options;
  options.context = std::min(spec.context, context > 0 ? context : kDefaultContext);
  options.max_sequences = 4;  // hardly more are guessed at a time (GuessesEach)
  options.page_tokens = 16;   // small, since of the last page of a sequence nothing is found again
  return options;
}

// Of this process, beside a worker: so slow that it is never chosen. The coordinator's cores, which often are a
// worker's too, are better left alone.
constexpr double kTokensPerSecond = 1e-9;

}  // namespace

absl::Status CheckSameTokenizer(const engine::Tokenizer& served, const engine::Tokenizer& draft) {
  const int32_t common = std::min(served.vocab_size(), draft.vocab_size());
  for (int32_t token = 0; token < common; ++token) {
    if (served.Spelling(token) == draft.Spelling(token)) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "the draft model has another tokenizer: token ", token, " is \"", absl::Utf8SafeCEscape(draft.Spelling(token)),
        "\", and \"", absl::Utf8SafeCEscape(served.Spelling(token)), "\" in the model that is served"));
  }
  return absl::OkStatus();
}

// Answers and deletes itself when its generation has ended.
class DraftModel::Request : public GenerationListener {
 public:
  Request(DraftModel& model, uint64_t sequence, Done done)
      : model_(model), sequence_(sequence), done_(std::move(done)) {}

  void set_id(uint64_t id) { id_ = id; }
  bool OnToken(const engine::SampledToken& token) override {
    tokens_.push_back(token.token);
    return true;
  }
  void OnFinished(const absl::Status&, const GenerationResult&) override {
    const std::unique_ptr<Request> self(this);
    {
      MutexLock lock(&model_.mu_);
      const auto latest = model_.generations_.find(sequence_);
      if (latest != model_.generations_.end() && latest->second == id_) model_.generations_.erase(latest);
    }
    done_(std::move(tokens_));
  }

 private:
  DraftModel& model_;
  const uint64_t sequence_;
  const Done done_;
  uint64_t id_ = 0;
  std::vector<int32_t> tokens_;
};

DraftModel::DraftModel(std::unique_ptr<ServedModel> model)
    : model_(std::move(model)), dispatcher_(DispatcherOptions()) {}

DraftModel::~DraftModel() { Stop(); }

Dispatcher::Options DraftModel::DispatcherOptions() {
  Dispatcher::Options options;
  options.vocab = model_->spec().vocab;
  options.hidden = model_->spec().hidden;
  options.pipeline_wait = std::chrono::milliseconds(0);  // what broke here stays broken
  options.on_pipeline_broken = [this](uint64_t epoch, absl::Status why) {
    MutexLock lock(&callback_mu_);
    if (on_pipeline_broken_) on_pipeline_broken_(epoch, std::move(why));
  };
  return options;
}

void DraftModel::set_on_pipeline_broken(std::function<void(uint64_t epoch, absl::Status why)> callback) {
  MutexLock lock(&callback_mu_);
  on_pipeline_broken_ = std::move(callback);
}

absl::StatusOr<std::unique_ptr<DraftModel>> DraftModel::Load(const engine::Tokenizer& served,
                                                             const DraftModelOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<ServedModel> model, ServedModel::Open(options.path));
  if (absl::Status same = CheckSameTokenizer(served, model->tokenizer()); !same.ok()) {
    return absl::Status(same.code(), absl::StrCat(options.path, ": ", same.message()));
  }
  std::unique_ptr<DraftModel> draft(new DraftModel(std::move(model)));
  TANDEM_RETURN_IF_ERROR(draft->Start(options));
  return draft;
}

absl::Status DraftModel::Start(const DraftModelOptions& options) {
  const engine::ModelSpec& spec = model_->spec();
  plan_ = PlanOptionsFor(spec, options.context);
  PipelineSpec pipeline;
  pipeline.epoch = kEpoch;
  pipeline.page_tokens = plan_.page_tokens;
  pipeline.max_step_tokens = plan_.max_step_tokens;
  pipeline.context = plan_.context;
  pipeline.num_pages = (plan_.context + plan_.page_tokens - 1) / plan_.page_tokens * plan_.max_sequences;
  pipeline.tokens_per_s = kTokensPerSecond;
  engine::StageOptions stage;
  stage.end_layer = spec.num_layers;
  stage.page_tokens = pipeline.page_tokens;
  stage.num_pages = pipeline.num_pages;
  stage.max_step_tokens = pipeline.max_step_tokens;
  stage.isa = options.isa;
  stage.threads = options.threads;
  stage.pin_threads = false;  // a worker may share the cores
  engine::FileTensorSource source(model_->file());
  TANDEM_ASSIGN_OR_RETURN(
      std::unique_ptr<engine::Stage> loaded,
      engine::Stage::Load(spec, model_->file(), source, stage, options.progress, /*cancelled=*/nullptr));
  loop_ = std::make_unique<links::StepLoop>(std::move(loaded), spec, /*index=*/0, links::StepLoopOptions());
  loop_->Start(links::MakeInMemoryLink([this](auto frame) { dispatcher_.OnFrame(std::move(frame)); }));
  dispatcher_.AttachPipeline(pipeline, links::MakeInMemoryLink([this](auto frame) { loop_->Post(std::move(frame)); }));
  return absl::OkStatus();
}

void DraftModel::Draft(DraftTask task, Done done) {
  GenerationTask generation;
  generation.prompt = std::move(task.tokens);
  generation.left_out = task.left_out;
  generation.sampling = std::move(task.sampling);
  generation.sampling.clear_top_logprobs();
  generation.penalty_window = task.penalty_window;
  generation.max_tokens = task.count;
  auto request = std::make_unique<Request>(*this, task.sequence, done);
  {
    MutexLock lock(&mu_);  // which its end waits for
    const absl::StatusOr<uint64_t> id = dispatcher_.Submit(std::move(generation), request.get());
    if (id.ok()) {
      request.release()->set_id(*id);
      uint64_t& latest = generations_[task.sequence];
      if (latest != 0) dispatcher_.Cancel(latest);
      latest = *id;
      return;
    }
  }
  done({});
}

void DraftModel::Stop() {
  // The dispatcher sends to the loop, so it stops first.
  dispatcher_.Stop();
  if (loop_ != nullptr) loop_->Stop();
}

}  // namespace tandem::coordinator
