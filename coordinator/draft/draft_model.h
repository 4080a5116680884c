// A small model with the tokenizer of the one that is served: it guesses, the served one checks.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/dispatcher.h"
#include "coordinator/draft/drafter.h"
#include "coordinator/placement/cost_model.h"
#include "coordinator/served_model.h"
#include "engine/base/mutex.h"
#include "engine/stage.h"
#include "engine/tokenizer/tokenizer.h"
#include "links/step_loop.h"

namespace tandem::coordinator {

inline constexpr char kDraftHelp[] =
    "A small model (GGUF) with the same tokenizer, which guesses ahead while few requests are served; the model checks "
    "its guesses, so answers stay the same. It runs here, or on a worker that is to spare";
inline constexpr char kDraftThreadsHelp[] = "Threads of the draft model here; 0: one per physical core";

struct DraftModelOptions {
  std::string path;
  int32_t threads = 0;  // 0: one per physical core
  engine::Isa isa = engine::Isa::kScalar;
  int32_t context = 0;            // of the served model's sequences, as far as the draft model goes
  engine::LoadProgress progress;  // may be null
};

// Errors: kInvalidArgument naming the first token that differs. Either vocabulary may have more tokens at its end, as
// those that are padded do.
absl::Status CheckSameTokenizer(const engine::Tokenizer& served, const engine::Tokenizer& draft);

// Role: the whole model in this process, behind a dispatcher of its own: a draft is a short request to it, whose
// beginning it finds in its prefix index. A worker may run the model too, as a pipeline attached to that dispatcher;
// then drafts are made there, and here only while there is none. Owns model and threads. Thread-safe.
class DraftModel : public Drafter {
 public:
  // Errors: those of ServedModel::Open, CheckSameTokenizer and Stage::Load.
  static absl::StatusOr<std::unique_ptr<DraftModel>> Load(const engine::Tokenizer& served,
                                                          const DraftModelOptions& options);
  ~DraftModel() override;

  void Draft(DraftTask task, Done done) override;
  void Stop() override;

  engine::StageMemory memory() const { return loop_->memory(); }
  const ServedModel& model() const { return *model_; }
  // What a pipeline of it is to be like.
  const PlanOptions& plan_options() const { return plan_; }
  // For pipelines on workers. Their epochs are not kEpoch.
  Dispatcher& dispatcher() { return dispatcher_; }
  // As Dispatcher::Options::on_pipeline_broken. Before the first of them is attached.
  void set_on_pipeline_broken(std::function<void(uint64_t epoch, absl::Status why)> callback);

 private:
  class Request;

  explicit DraftModel(std::unique_ptr<ServedModel> model);
  absl::Status Start(const DraftModelOptions& options);

  Dispatcher::Options DispatcherOptions();

  const std::unique_ptr<ServedModel> model_;
  PlanOptions plan_;  // constant once loaded
  Mutex callback_mu_;
  std::function<void(uint64_t, absl::Status)> on_pipeline_broken_ ABSL_GUARDED_BY(callback_mu_);
  Dispatcher dispatcher_;
  std::unique_ptr<links::StepLoop> loop_;

  Mutex mu_;
  std::map<uint64_t, uint64_t> generations_ ABSL_GUARDED_BY(mu_);  // the latest one by sequence
};

}  // namespace tandem::coordinator
