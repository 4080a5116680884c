#include "coordinator/server.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <spdlog/spdlog.h>

#include "absl/strings/str_cat.h"
#include "coordinator/cluster_manager.h"
#include "coordinator/dispatcher.h"
#include "coordinator/draft/draft_model.h"
#include "coordinator/gateway/cluster_service.h"
#include "coordinator/gateway/generate_service.h"
#include "coordinator/metrics.h"
#include "coordinator/pipeline_ends.h"
#include "coordinator/serial_executor.h"
#include "coordinator/served_model.h"
#include "coordinator/step_feed.h"
#include "engine/base/format_bytes.h"
#include "engine/base/mutex.h"
#include "engine/base/status_macros.h"
#include "links/grpc_link.h"
#include "proto/support/advertise.h"
#include "proto/support/channel.h"

namespace tandem::coordinator {
namespace {

using SystemClock = std::chrono::system_clock;

// Calls that do not end by themselves are cancelled after this.
constexpr std::chrono::milliseconds kShutdownGrace{1000};

// "" is the process, and serves as long as it is up; this is the service for clients.
constexpr char kHealthName[] = "tandem.v1.Tandem";

ClusterOptions ClusterOptionsOf(const CoordinatorConfig& config) {
  ClusterOptions options;
  options.min_workers = std::max(1, config.min_workers);
  options.plan.max_pipelines = config.max_pipelines;
  options.plan.context = config.context;
  options.plan.kv_type = config.kv_type;
  options.plan.prompt_share = config.prompt_share;
  options.plan.activations = config.activations;
  options.plan.max_sequences = config.max_sequences;
  options.plan.max_step_tokens = config.max_step_tokens;
  options.first_epoch = static_cast<uint64_t>(SystemClock::to_time_t(SystemClock::now()));
  return options;
}

absl::Status CheckConfig(const CoordinatorConfig& config) {
  if (config.model_path.empty()) return absl::InvalidArgumentError("no model file given");
  if (config.min_workers < 0) {
    return absl::InvalidArgumentError(absl::StrCat("min_workers is ", config.min_workers, ", must not be negative"));
  }
  if (config.max_guessed_tokens < 0 || config.max_guessed_tokens > kMaxGuessedTokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("speculate is ", config.max_guessed_tokens, ", expected 0 to ", kMaxGuessedTokens));
  }
  if (!config.draft_path.empty() && config.max_guessed_tokens == 0) {
    return absl::InvalidArgumentError("a draft model is of no use with speculate 0");
  }
  if (config.max_waiting < 1) {
    return absl::InvalidArgumentError(absl::StrCat("max_waiting is ", config.max_waiting, ", must be at least 1"));
  }
  TANDEM_RETURN_IF_ERROR(proto_support::CheckListenAddress(config.listen, config.insecure));
  if (config.metrics_listen.empty()) return absl::OkStatus();
  return proto_support::CheckListenAddress(config.metrics_listen, config.insecure);
}

void WarnIfOpen(const std::string& listen) {
  if (proto_support::CheckListenAddress(listen, /*insecure=*/false).ok()) return;
  spdlog::warn("listening on {} without encryption or authentication (--insecure): whoever reaches it can use it",
               listen);
}

DraftPlacing PlacingOf(const DraftModel* draft, PipelineEnds* ends) {
  if (draft == nullptr) return {};
  return {.model = &draft->model(), .ends = ends, .plan = draft->plan_options()};
}

// Passes on what the dispatcher tells. Borrows both.
class Observers : public DispatcherObserver {
 public:
  Observers(CoordinatorMetrics& metrics, StepFeed& steps) : metrics_(metrics), steps_(steps) {}
  void OnStep(const StepReport& report) override {
    metrics_.OnStep(report);
    steps_.OnStep(report);
  }
  void OnFirstToken(double seconds_since_arrival) override { metrics_.OnFirstToken(seconds_since_arrival); }
  void OnFinished(absl::StatusCode code, const GenerationResult& result) override { metrics_.OnFinished(code, result); }

 private:
  CoordinatorMetrics& metrics_;
  StepFeed& steps_;
};

}  // namespace

// In the order of construction, which is that of dependence; destroyed in reverse. Nothing runs before Listen.
struct Coordinator::Parts {
  Parts(const CoordinatorConfig& config, std::unique_ptr<ServedModel> served, std::unique_ptr<DraftModel> drafter)
      : model(std::move(served)),
        draft(drafter.get()),
        dispatcher(DispatcherOptions(config, std::move(drafter))),
        pipeline(links::MakePipelineService()),
        ends(dispatcher, *pipeline, on_broken,
             [this](bool serving) { server->GetHealthCheckService()->SetServingStatus(kHealthName, serving); }),
        draft_ends(draft != nullptr ? std::make_unique<GrpcPipelineEnds>(draft->dispatcher(), *pipeline, on_broken,
                                                                         /*on_serving=*/[](bool) {})
                                    : nullptr),
        manager(*model, ClusterOptionsOf(config), ends, PlacingOf(draft, draft_ends.get())),
        generate(*model, dispatcher, [this](absl::StatusCode code) { metrics.OnFinished(code, {}); }),
        cluster(*model, draft != nullptr ? &draft->model() : nullptr, manager, file_reader, steps,
                [this](v1::ClusterState* state) { Complete(state); }) {
    if (draft != nullptr) draft->set_on_pipeline_broken(on_broken);
  }

  Dispatcher::Options DispatcherOptions(const CoordinatorConfig& config, std::unique_ptr<DraftModel> draft) {
    Dispatcher::Options options;
    options.vocab = model->spec().vocab;
    options.hidden = model->spec().hidden;
    options.max_waiting = config.max_waiting;
    options.max_guessed_tokens = config.max_guessed_tokens;
    options.drafter = std::move(draft);
    options.observer = &observers;
    options.on_pipeline_broken = on_broken;
    return options;
  }

  absl::Status Listen(const CoordinatorConfig& config);
  void Complete(v1::ClusterState* state) const;
  void Stop();

  const Time started = SteadyClock().Now();
  // Of the model that is served, or of the draft model.
  const std::function<void(uint64_t, absl::Status)> on_broken = [this](uint64_t epoch, absl::Status why) {
    manager.OnPipelineBroken(epoch, std::move(why));
  };
  const std::unique_ptr<ServedModel> model;
  DraftModel* const draft;  // the dispatcher's; may be null
  CoordinatorMetrics metrics;
  StepFeed steps;
  Observers observers{metrics, steps};
  Dispatcher dispatcher;
  const std::unique_ptr<links::PipelineService> pipeline;
  GrpcPipelineEnds ends;
  const std::unique_ptr<GrpcPipelineEnds> draft_ends;  // null without a draft model
  ClusterManager manager;
  SerialExecutor file_reader;
  GenerateService generate;
  ClusterService cluster;
  std::unique_ptr<grpc::Server> server;
  int port = 0;
  std::string address;

  Mutex stop_mu;
  bool stopped ABSL_GUARDED_BY(stop_mu) = false;
};

absl::Status Coordinator::Parts::Listen(const CoordinatorConfig& config) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  proto_support::ConfigureServer(builder);
  builder.AddListeningPort(config.listen, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&generate);
  builder.RegisterService(&cluster);
  builder.RegisterService(pipeline->service());
  server = builder.BuildAndStart();
  if (server == nullptr || port == 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", config.listen, ": the port is in use, or the address is not this machine's"));
  }
  server->GetHealthCheckService()->SetServingStatus(kHealthName, false);
  TANDEM_ASSIGN_OR_RETURN(address, proto_support::AdvertisedAddress(config.advertise, config.listen, port,
                                                                    proto_support::kBeyondDefaultRoute));
  if (!config.metrics_listen.empty()) {
    TANDEM_RETURN_IF_ERROR(metrics.Serve(config.metrics_listen, [this] { return dispatcher.stats(); }));
  }
  manager.Start(address);
  return absl::OkStatus();
}

// Each step ends what the next one relies on not being used: memberships and pipeline, then generations (their streams
// close), then calls that are left, then what calls use.
void Coordinator::Parts::Stop() {
  MutexLock lock(&stop_mu);
  if (stopped) return;
  stopped = true;
  manager.Stop();
  dispatcher.Stop();
  pipeline->StopServing();
  steps.Close();
  if (server != nullptr) {
    server->GetHealthCheckService()->Shutdown();
    server->Shutdown(SystemClock::now() + kShutdownGrace);
  }
  file_reader.Stop();
  metrics.StopServing();
}

void Coordinator::Parts::Complete(v1::ClusterState* state) const {
  const DispatcherStats stats = dispatcher.stats();
  state->set_running(stats.running);
  state->set_waiting(stats.waiting);
  state->set_kv_pages_used(stats.kv_pages_used);
  state->set_kv_pages_total(stats.kv_pages_total);
  state->set_uptime_s(static_cast<uint64_t>(SecondsBetween(started, SteadyClock().Now())));
}

// The activations of a full step travel in one message, with a quarter left for everything else.
absl::Status CheckStepFitsMessage(const CoordinatorConfig& config, const engine::ModelSpec& spec) {
  const int64_t most = int64_t{proto_support::kMaxMessageBytes} / 4 * 3 / (int64_t{spec.hidden} * sizeof(float));
  if (config.max_step_tokens <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("max_step_tokens is ", config.max_step_tokens,
                                                 "; with hidden states of ", spec.hidden,
                                                 " values a message has room for ", most, " tokens"));
}

absl::StatusOr<std::unique_ptr<ServedModel>> OpenModel(const CoordinatorConfig& config) {
  TANDEM_ASSIGN_OR_RETURN(const std::vector<AdapterPath> adapters, ParseAdapterPaths(config.adapters));
  return ServedModel::Open(config.model_path, adapters);
}

// Null if none is configured.
absl::StatusOr<std::unique_ptr<DraftModel>> LoadDraftModel(const CoordinatorConfig& config, const ServedModel& served) {
  if (config.draft_path.empty()) return nullptr;
  DraftModelOptions options;
  options.path = config.draft_path;
  options.threads = config.draft_threads;
  options.isa = engine::DetectIsa();
  options.context = config.context;
  const Time begin = SteadyClock().Now();
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<DraftModel> draft, DraftModel::Load(served.tokenizer(), options));
  spdlog::info("draft model {} loaded in {:.1f} s, {}", draft->model().name(),
               SecondsBetween(begin, SteadyClock().Now()), FormatBytes(draft->memory().total()));
  return draft;
}

absl::StatusOr<std::unique_ptr<Coordinator>> Coordinator::Start(const CoordinatorConfig& config) {
  TANDEM_RETURN_IF_ERROR(CheckConfig(config));
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<ServedModel> model, OpenModel(config));
  // Settings that only the planner understands are refused now, not when the first worker comes.
  TANDEM_RETURN_IF_ERROR(
      MakePlanInput(model->file(), model->spec(), ClusterOptionsOf(config).plan, {}, model->adapter_files()).status());
  TANDEM_RETURN_IF_ERROR(CheckStepFitsMessage(config, model->spec()));
  if (!model->chat_status().ok()) spdlog::warn("{}", std::string(model->chat_status().message()));
  TANDEM_ASSIGN_OR_RETURN(std::unique_ptr<DraftModel> draft, LoadDraftModel(config, *model));
  auto coordinator = std::unique_ptr<Coordinator>(
      new Coordinator(std::make_unique<Parts>(config, std::move(model), std::move(draft))));
  WarnIfOpen(config.listen);
  if (!config.metrics_listen.empty()) WarnIfOpen(config.metrics_listen);
  TANDEM_RETURN_IF_ERROR(coordinator->parts_->Listen(config));
  spdlog::info("listening on {}, workers join at {}; model {}", config.listen, coordinator->address(),
               config.model_path);
  return coordinator;
}

Coordinator::Coordinator(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
Coordinator::~Coordinator() { Stop(); }

void Coordinator::Stop() { parts_->Stop(); }
int Coordinator::port() const { return parts_->port; }
int Coordinator::metrics_port() const { return parts_->metrics.port(); }
const std::string& Coordinator::address() const { return parts_->address; }

v1::ClusterState Coordinator::state() const {
  v1::ClusterState state = parts_->manager.state();
  parts_->Complete(&state);
  return state;
}

}  // namespace tandem::coordinator
