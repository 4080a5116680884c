#include "cli/local_cluster.h"

#include <algorithm>
#include <chrono>
#include <latch>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cli/progress_bar.h"
#include "coordinator/placement/cost_model.h"
#include "engine/base/status_macros.h"
#include "engine/cache/kv_format.h"
#include "engine/cpu/thread_pool.h"
#include "engine/quant/activation_format.h"
#include "links/step_link.h"

namespace tandem::cli {
namespace {

constexpr uint64_t kEpoch = 1;  // an embedded cluster is placed once
constexpr int32_t kPageTokens = 32;

coordinator::Dispatcher::Options DispatcherOptions(const coordinator::ServedModel& model,
                                                   std::unique_ptr<coordinator::Drafter> drafter,
                                                   const LocalClusterOptions& options) {
  coordinator::Dispatcher::Options result;
  result.drafter = std::move(drafter);
  result.vocab = model.spec().vocab;
  result.hidden = model.spec().hidden;
  result.max_guessed_tokens = options.max_guessed_tokens;
  result.observer = options.observer;
  result.pipeline_wait = std::chrono::milliseconds(0);  // placed once: what broke stays broken
  return result;
}

absl::StatusOr<int32_t> ChooseContext(const engine::ModelSpec& spec, int32_t wanted) {
  if (wanted > spec.context) {
    return absl::InvalidArgumentError(
        absl::StrCat("a context of ", wanted, " tokens is more than the model's ", spec.context));
  }
  return wanted > 0 ? wanted : std::min(spec.context, coordinator::kDefaultContext);
}

int32_t PagesFor(int32_t context, int32_t sequences) { return (context + kPageTokens - 1) / kPageTokens * sequences; }

// Null if there is to be none.
absl::StatusOr<std::unique_ptr<coordinator::Drafter>> LoadDrafter(const coordinator::ServedModel& model,
                                                                  const LocalClusterOptions& options) {
  if (options.draft_path.empty()) return nullptr;
  ProgressBar bar("loading the draft model", options.show_progress);
  coordinator::DraftModelOptions draft;
  draft.path = options.draft_path;
  draft.threads = options.draft_threads;
  draft.isa = options.isa;
  TANDEM_ASSIGN_OR_RETURN(draft.context, ChooseContext(model.spec(), options.context));
  draft.progress = [&bar](uint64_t done, uint64_t total) {
    bar.Update(static_cast<double>(done) / static_cast<double>(std::max<uint64_t>(total, 1)));
  };
  return coordinator::DraftModel::Load(model.tokenizer(), draft);
}

// Returns what the dispatcher reports when a generation has ended.
class LogitsListener : public coordinator::GenerationListener {
 public:
  explicit LogitsListener(const std::function<void(std::span<const float>)>& on_row) : on_row_(on_row) {}
  void OnLogits(int32_t, std::span<const float> logits) override { on_row_(logits); }
  void OnFinished(const absl::Status& status, const coordinator::GenerationResult&) override {
    status_ = status;
    done_.count_down();
  }
  absl::Status Wait() {
    done_.wait();
    return status_;
  }

 private:
  const std::function<void(std::span<const float>)>& on_row_;
  absl::Status status_;
  std::latch done_{1};
};

}  // namespace

absl::StatusOr<LocalClusterOptions> LocalOptions(const TextModelFlags& flags) {
  LocalClusterOptions options;
  options.model_path = flags.model;
  TANDEM_ASSIGN_OR_RETURN(options.adapters, coordinator::ParseAdapterPaths(flags.adapters));
  options.workers = flags.local;
  options.threads = flags.threads;
  TANDEM_ASSIGN_OR_RETURN(options.isa, engine::ParseIsa(flags.cpu_isa));
  TANDEM_ASSIGN_OR_RETURN(options.kv_type, engine::ParseKvType(flags.kv));
  TANDEM_ASSIGN_OR_RETURN(options.activations, engine::ParseActivationType(flags.activations));
  options.context = flags.context;
  options.max_guessed_tokens = flags.speculate;
  options.draft_path = flags.draft;
  options.draft_threads = flags.draft_threads;
  options.show_progress = true;
  return options;
}

LocalCluster::LocalCluster(std::unique_ptr<coordinator::ServedModel> model,
                           std::unique_ptr<coordinator::Drafter> drafter, const LocalClusterOptions& options)
    : model_(std::move(model)),
      dispatcher_(std::make_unique<coordinator::Dispatcher>(DispatcherOptions(*model_, std::move(drafter), options))),
      generator_(*model_, *dispatcher_),
      embedder_(*model_, *dispatcher_) {}

LocalCluster::~LocalCluster() {
  // The dispatcher sends to the first loop, each loop to the next one: stop in that order.
  dispatcher_->Stop();
  for (auto& loop : loops_) loop->Stop();
}

absl::StatusOr<std::unique_ptr<LocalCluster>> LocalCluster::Create(const LocalClusterOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<coordinator::ServedModel> model,
                          coordinator::ServedModel::Open(options.model_path, options.adapters));
  const int32_t layers = model->spec().num_layers;
  if (options.workers < 1 || options.workers > layers) {
    return absl::InvalidArgumentError(absl::StrCat("cannot split over ", options.workers, " workers: ",
                                                   options.model_path, " has ", layers, " layers, so 1 to ", layers));
  }
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<coordinator::Drafter> drafter, LoadDrafter(*model, options));
  std::unique_ptr<LocalCluster> cluster(new LocalCluster(std::move(model), std::move(drafter), options));
  TANDEM_RETURN_IF_ERROR(cluster->Start(options));
  return cluster;
}

absl::Status LocalCluster::LoadStages(const LocalClusterOptions& options, int32_t context) {
  const engine::ModelSpec& spec = model_->spec();
  TANDEM_RETURN_IF_ERROR(engine::CheckActivationType(options.activations, spec.hidden));
  engine::FileTensorSource source(model_->file());
  std::vector<engine::AdapterSource> adapters = model_->adapter_files();
  std::vector<std::unique_ptr<engine::FileTensorSource>> adapter_sources;
  for (engine::AdapterSource& adapter : adapters) {
    adapter_sources.push_back(std::make_unique<engine::FileTensorSource>(*adapter.file));
    adapter.source = adapter_sources.back().get();
  }
  ProgressBar bar(absl::StrCat("loading ", model_->name()), options.show_progress);
  for (int index = 0; index < options.workers; ++index) {
    engine::StageOptions stage;
    stage.first_layer = index * spec.num_layers / options.workers;
    stage.end_layer = (index + 1) * spec.num_layers / options.workers;
    stage.kv_type = options.kv_type;
    stage.page_tokens = kPageTokens;
    stage.num_pages = PagesFor(context, options.sequences);
    stage.max_step_tokens = options.max_step_tokens;
    stage.isa = options.isa;
    stage.threads =
        options.threads > 0 ? options.threads : std::max(1, engine::ThreadPool::PhysicalCores() / options.workers);
    stage.pin_threads = false;  // several stages share the cores
    const auto progress = [&](uint64_t done, uint64_t total) {
      bar.Update((index + static_cast<double>(done) / std::max<uint64_t>(total, 1)) / options.workers);
    };
    TANDEM_ASSIGN_OR_RETURN(
        std::unique_ptr<engine::Stage> loaded,
        engine::Stage::Load(spec, model_->file(), source, stage, progress, /*cancelled=*/nullptr, adapters));
    links::StepLoopOptions loop;
    loop.activations = options.activations;
    loops_.push_back(std::make_unique<links::StepLoop>(std::move(loaded), spec, index, std::move(loop)));
  }
  return absl::OkStatus();
}

absl::Status LocalCluster::Start(const LocalClusterOptions& options) {
  TANDEM_ASSIGN_OR_RETURN(const int32_t context, ChooseContext(model_->spec(), options.context));
  TANDEM_RETURN_IF_ERROR(LoadStages(options, context));
  for (size_t i = loops_.size(); i-- > 0;) {
    if (i + 1 < loops_.size()) {
      loops_[i]->Start(
          links::MakeInMemoryLink([next = loops_[i + 1].get()](auto frame) { next->Post(std::move(frame)); }));
    } else {
      loops_[i]->Start(links::MakeInMemoryLink([this](auto frame) { dispatcher_->OnFrame(std::move(frame)); }));
    }
  }
  coordinator::PipelineSpec pipeline;
  pipeline.epoch = kEpoch;
  pipeline.num_stages = options.workers;
  pipeline.num_pages = PagesFor(context, options.sequences);
  pipeline.page_tokens = kPageTokens;
  pipeline.max_step_tokens = options.max_step_tokens;
  pipeline.context = context;
  dispatcher_->AttachPipeline(
      pipeline, links::MakeInMemoryLink([first = loops_[0].get()](auto frame) { first->Post(std::move(frame)); }));
  return absl::OkStatus();
}

absl::Status LocalCluster::Generate(const v1::GenerateRequest& request, Interrupt& interrupt,
                                    const std::function<void(const v1::GenerateResponse&)>& on_response) {
  std::latch done(1);
  absl::Status ended;
  const auto on_each = [&](const v1::GenerateResponse& response, bool last, const absl::Status& status) {
    if (!last || status.ok()) on_response(response);
    if (!last) return;
    ended = status;
    done.count_down();
  };
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<coordinator::Generation> generation,
                          generator_.Start(request, on_each));
  interrupt.OnInterrupt([&generation] { generation->Cancel(); });
  done.wait();
  interrupt.OnInterrupt({});
  return ended;
}

absl::StatusOr<v1::EmbedResponse> LocalCluster::Embed(const v1::EmbedRequest& request, Interrupt& interrupt) {
  std::latch done(1);
  absl::StatusOr<v1::EmbedResponse> result = absl::UnknownError("");
  TANDEM_ASSIGN_OR_RETURN(const std::unique_ptr<coordinator::EmbedBatch> batch,
                          embedder_.Start(request, [&](absl::StatusOr<v1::EmbedResponse> response) {
                            result = std::move(response);
                            done.count_down();
                          }));
  interrupt.OnInterrupt([&batch] { batch->Cancel(); });
  done.wait();
  interrupt.OnInterrupt({});
  return result;
}

absl::Status LocalCluster::Logits(std::vector<int32_t> ids, const std::function<void(std::span<const float>)>& on_row) {
  coordinator::GenerationTask task;
  task.prompt = std::move(ids);
  task.output = engine::SliceOutput::kLogits;
  LogitsListener listener(on_row);
  TANDEM_RETURN_IF_ERROR(dispatcher_->Submit(std::move(task), &listener).status());
  return listener.Wait();
}

}  // namespace tandem::cli
