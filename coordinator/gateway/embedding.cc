#include "coordinator/gateway/embedding.h"

#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "coordinator/gateway/generation_request.h"
#include "engine/base/mutex.h"
#include "engine/base/status_macros.h"

namespace tandem::coordinator {
namespace {

// A response must fit a message (proto_support::kMaxMessageBytes) with room to spare.
constexpr int64_t kMaxResponseBytes = int64_t{32} << 20;

engine::SliceOutput OutputFor(v1::Pooling pooling) {
  switch (pooling) {
    case v1::POOLING_LAST:
      return engine::SliceOutput::kLastState;
    case v1::POOLING_CLS:
      return engine::SliceOutput::kFirstState;
    default:
      return engine::SliceOutput::kStateSum;
  }
}

absl::Status OfInput(int index, const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat("inputs[", index, "]: ", status.message()));
}

absl::StatusOr<std::vector<int32_t>> TokensOf(const v1::EmbedInput& input, bool parse_special,
                                              const ServedModel& model) {
  switch (input.input_case()) {
    case v1::EmbedInput::kText:
      return TokensOfText("text", input.text(), parse_special, model);
    case v1::EmbedInput::kIds:
      return TokensOfIds(input.ids(), model);
    case v1::EmbedInput::INPUT_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("it is empty: set one of text and ids");
}

// Scales to length 1. The sum of squares runs in ascending order, in double, so the result is the same everywhere. A
// vector of zeros stays.
void Normalize(std::vector<double>* values) {
  double squares = 0;
  for (double value : *values) squares += value * value;
  if (squares == 0) return;
  const double length = std::sqrt(squares);
  for (double& value : *values) value /= length;
}

class Batch;

// Gathers what the steps give for one input. Lives from Submit to OnFinished, which deletes it: the dispatcher borrows
// it for just that long. On the dispatch thread.
class InputListener : public GenerationListener {
 public:
  InputListener(std::shared_ptr<Batch> batch, int index) : batch_(std::move(batch)), index_(index) {}

  void OnState(std::span<const float> state) override { state_.assign(state.begin(), state.end()); }
  void OnStateSum(int32_t position, std::span<const int64_t> sum) override {
    if (position == 0) sum_.assign(sum.size(), 0);
    for (size_t i = 0; i < sum.size(); ++i) sum_[i] += sum[i];
  }
  void OnFinished(const absl::Status& status, const GenerationResult& result) override;

 private:
  // The pooled vector of an input of `tokens`.
  std::vector<double> Pool(int32_t tokens) const {
    std::vector<double> values(state_.begin(), state_.end());
    for (int64_t sum : sum_) {
      values.push_back(std::ldexp(static_cast<double>(sum), -engine::kStateSumBits) / tokens);
    }
    return values;
  }

  const std::shared_ptr<Batch> batch_;
  const int index_;
  std::vector<float> state_;  // last and first
  std::vector<int64_t> sum_;  // mean
};

// Held by its handle and by its listeners. Thread-safe.
class Batch {
 public:
  Batch(Dispatcher& dispatcher, int inputs, v1::Pooling pooling, bool normalize, EmbedCallback on_done)
      : dispatcher_(dispatcher), normalize_(normalize), left_(inputs), on_done_(std::move(on_done)) {
    response_.set_pooling(pooling);
    for (int i = 0; i < inputs; ++i) response_.add_embeddings();
  }

  // An input was submitted as `id`.
  void Add(uint64_t id) {
    bool failed = false;
    {
      MutexLock lock(&mu_);
      ids_.push_back(id);
      failed = !status_.ok();
    }
    if (failed) dispatcher_.Cancel(id);
  }

  void Cancel() {
    std::vector<uint64_t> ids;
    {
      MutexLock lock(&mu_);
      ids = ids_;
    }
    for (uint64_t id : ids) dispatcher_.Cancel(id);
  }

  // Cancels what was submitted, and calls nobody back.
  void Abandon() {
    {
      MutexLock lock(&mu_);
      on_done_ = nullptr;
    }
    Cancel();
  }

  void Finish(int index, const absl::Status& status, std::vector<double> values, int32_t tokens) {
    if (normalize_) Normalize(&values);
    EmbedCallback done;
    absl::StatusOr<v1::EmbedResponse> result = absl::UnknownError("");
    bool first_failure = false;
    {
      MutexLock lock(&mu_);
      v1::Embedding* embedding = response_.mutable_embeddings(index);
      for (double value : values) embedding->add_values(static_cast<float>(value));
      embedding->set_tokens(tokens);
      first_failure = !status.ok() && status_.ok();
      if (first_failure) status_ = absl::IsCancelled(status) ? status : OfInput(index, status);
      if (--left_ == 0) {
        done = std::exchange(on_done_, nullptr);
        if (status_.ok()) {
          result = std::move(response_);
        } else {
          result = status_;
        }
      }
    }
    if (first_failure) Cancel();
    if (done) done(std::move(result));
  }

 private:
  Dispatcher& dispatcher_;
  const bool normalize_;
  Mutex mu_;
  int left_ ABSL_GUARDED_BY(mu_);  // inputs that have not ended
  std::vector<uint64_t> ids_ ABSL_GUARDED_BY(mu_);
  v1::EmbedResponse response_ ABSL_GUARDED_BY(mu_);
  absl::Status status_ ABSL_GUARDED_BY(mu_);    // of the input that failed first
  EmbedCallback on_done_ ABSL_GUARDED_BY(mu_);  // null: called, or abandoned
};

void InputListener::OnFinished(const absl::Status& status, const GenerationResult& result) {
  batch_->Finish(index_, status, status.ok() ? Pool(result.prompt_tokens) : std::vector<double>(),
                 result.prompt_tokens);
  delete this;
}

class BatchHandle : public EmbedBatch {
 public:
  explicit BatchHandle(std::shared_ptr<Batch> batch) : batch_(std::move(batch)) {}
  ~BatchHandle() override { batch_->Cancel(); }
  void Cancel() override { batch_->Cancel(); }

 private:
  const std::shared_ptr<Batch> batch_;
};

absl::Status CheckCount(const v1::EmbedRequest& request, const ServedModel& model) {
  const int count = request.inputs_size();
  if (count < 1 || count > Embedder::kMaxInputs) {
    return absl::InvalidArgumentError(
        absl::StrCat("inputs has ", count, " entries, expected 1 to ", Embedder::kMaxInputs));
  }
  const int64_t row_bytes = int64_t{model.spec().hidden} * static_cast<int64_t>(sizeof(float));
  if (count <= kMaxResponseBytes / row_bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("inputs has ", count, " entries; a response has room for ",
                                                 kMaxResponseBytes / row_bytes, " vectors of ", model.spec().hidden));
}

}  // namespace

absl::StatusOr<v1::Pooling> ChoosePooling(v1::Pooling asked, const ServedModel& model) {
  switch (asked) {
    case v1::POOLING_MEAN:
    case v1::POOLING_LAST:
    case v1::POOLING_CLS:
      return asked;
    case v1::POOLING_UNSPECIFIED:
      break;
    default:
      return absl::InvalidArgumentError(absl::StrCat("pooling is ", static_cast<int>(asked), ", expected 0 to 3"));
  }
  const std::string key = absl::StrCat(model.spec().architecture, ".pooling_type");
  if (!model.file().Has(key)) return v1::POOLING_MEAN;
  TANDEM_ASSIGN_OR_RETURN(const uint64_t type, model.file().GetUint(key));
  switch (type) {  // numbers of the GGUF convention
    case 0:
    case 1:
      return v1::POOLING_MEAN;
    case 2:
      return v1::POOLING_CLS;
    case 3:
      return v1::POOLING_LAST;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("the model's ", key, " is ", type, ", which Tandem does not have: ask for a pooling by name"));
  }
}

absl::StatusOr<std::unique_ptr<EmbedBatch>> Embedder::Start(const v1::EmbedRequest& request, EmbedCallback on_done) {
  TANDEM_RETURN_IF_ERROR(CheckModelName(request.model(), model_));
  TANDEM_RETURN_IF_ERROR(CheckCount(request, model_));
  TANDEM_ASSIGN_OR_RETURN(const v1::Pooling pooling, ChoosePooling(request.pooling(), model_));
  TANDEM_ASSIGN_OR_RETURN(const std::vector<engine::AdapterUse> adapters, AdaptersOf(request.lora(), model_));
  std::vector<GenerationTask> tasks;
  for (int i = 0; i < request.inputs_size(); ++i) {
    absl::StatusOr<std::vector<int32_t>> tokens = TokensOf(request.inputs(i), request.parse_special(), model_);
    if (!tokens.ok()) return OfInput(i, tokens.status());
    GenerationTask& task = tasks.emplace_back();
    task.prompt = *std::move(tokens);
    task.output = OutputFor(pooling);
    task.adapters = adapters;
  }
  auto batch = std::make_shared<Batch>(dispatcher_, request.inputs_size(), pooling,
                                       !request.has_normalize() || request.normalize(), std::move(on_done));
  for (size_t i = 0; i < tasks.size(); ++i) {
    auto listener = std::make_unique<InputListener>(batch, static_cast<int>(i));
    absl::StatusOr<uint64_t> id = dispatcher_.Submit(std::move(tasks[i]), listener.get());
    if (!id.ok()) {
      batch->Abandon();
      return OfInput(static_cast<int>(i), id.status());
    }
    listener.release();  // OnFinished will delete it
    batch->Add(*id);
  }
  return std::make_unique<BatchHandle>(std::move(batch));
}

}  // namespace tandem::coordinator
