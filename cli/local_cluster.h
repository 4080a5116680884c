// A whole cluster inside this process: dispatcher, N step loops and in-memory links between them. The same coordinator
// and worker code as on the network, without gRPC, placement and loading over the wire.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/text_model.h"
#include "coordinator/dispatcher.h"
#include "coordinator/draft/draft_model.h"
#include "coordinator/gateway/embedding.h"
#include "coordinator/gateway/generation.h"
#include "coordinator/served_model.h"
#include "links/step_loop.h"

namespace tandem::cli {

struct LocalClusterOptions {
  std::string model_path;
  std::vector<coordinator::AdapterPath> adapters;
  int workers = 1;  // 1 to the number of layers, which are shared out evenly
  int threads = 0;  // of each worker; 0: the cores shared out
  engine::Isa isa = engine::Isa::kScalar;
  engine::KvType kv_type = engine::KvType::kF16;
  engine::TensorType activations = engine::TensorType::kF32;  // between the workers
  int32_t context = 0;                                        // 0: the model's, at most coordinator::kDefaultContext
  int32_t sequences = 1;                                      // KV pages for this many full contexts
  int32_t max_step_tokens = 512;
  int32_t max_guessed_tokens = coordinator::kDefaultGuessedTokens;  // as in SchedulerConfig
  std::string draft_path;                                           // a model that guesses; empty: none
  int draft_threads = 0;
  bool show_progress = false;                           // a bar on standard error while loading, if that takes long
  coordinator::DispatcherObserver* observer = nullptr;  // may be null; outlives the cluster
};
// Errors: kInvalidArgument, kFailedPrecondition (an ISA that is unknown or not this machine's).
absl::StatusOr<LocalClusterOptions> LocalOptions(const TextModelFlags& flags);

// Thread-safe: several threads may Generate at once.
class LocalCluster : public TextModel {
 public:
  // Errors: those of ServedModel::Open and Stage::Load; kInvalidArgument (more workers than layers; a context beyond
  // the model's).
  static absl::StatusOr<std::unique_ptr<LocalCluster>> Create(const LocalClusterOptions& options);
  ~LocalCluster() override;

  absl::Status Generate(const v1::GenerateRequest& request, Interrupt& interrupt,
                        const std::function<void(const v1::GenerateResponse&)>& on_response) override;
  absl::StatusOr<v1::EmbedResponse> Embed(const v1::EmbedRequest& request, Interrupt& interrupt) override;
  // One pass over `ids`: calls `on_row` with the logits [vocabulary] of each position, in order, on the dispatch
  // thread.
  absl::Status Logits(std::vector<int32_t> ids, const std::function<void(std::span<const float>)>& on_row);

  const coordinator::ServedModel& model() const { return *model_; }
  coordinator::Dispatcher& dispatcher() { return *dispatcher_; }
  coordinator::Generator& generator() { return generator_; }
  coordinator::Embedder& embedder() { return embedder_; }

 private:
  // `drafter` may be null.
  LocalCluster(std::unique_ptr<coordinator::ServedModel> model, std::unique_ptr<coordinator::Drafter> drafter,
               const LocalClusterOptions& options);
  // Loads the stages and connects them.
  absl::Status Start(const LocalClusterOptions& options);
  absl::Status LoadStages(const LocalClusterOptions& options, int32_t context);

  const std::unique_ptr<coordinator::ServedModel> model_;
  const std::unique_ptr<coordinator::Dispatcher> dispatcher_;
  coordinator::Generator generator_;
  coordinator::Embedder embedder_;
  std::vector<std::unique_ptr<links::StepLoop>> loops_;
};

}  // namespace tandem::cli
