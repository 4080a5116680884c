#include "coordinator/gateway/generate_service.h"

#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "coordinator/gateway/embed_call.h"
#include "coordinator/gateway/generation_request.h"
#include "coordinator/scheduler/retry_hint.h"
#include "engine/base/mutex.h"
#include "engine/base/status_macros.h"
#include "engine/tokenizer/utf8.h"
#include "proto/support/status_convert.h"

namespace tandem::coordinator {
namespace {

// Beyond any context, as kMaxTextBytes.
constexpr int kMaxDetokenizeIds = 1 << 20;

using GenerateReactor = grpc::ServerWriteReactor<v1::GenerateResponse>;

// Adds a response to one that waits.
void Merge(const v1::GenerateResponse& response, v1::GenerateResponse* pending) {
  // MergeFrom appends repeated fields but replaces strings.
  std::string text = pending->text() + response.text();
  pending->MergeFrom(response);
  pending->set_text(std::move(text));
}

void AddRetryHint(grpc::CallbackServerContext* context, const absl::Status& status) {
  const std::optional<int64_t> milliseconds = RetryMilliseconds(status);
  if (milliseconds) context->AddTrailingMetadata(kRetryPushbackMetadata, absl::StrCat(*milliseconds));
}

// Ends the call at once. Deletes itself.
class Refusal : public GenerateReactor {
 public:
  Refusal(grpc::CallbackServerContext* context, const absl::Status& status) {
    AddRetryHint(context, status);
    Finish(proto_support::ToGrpc(status));
  }
  void OnDone() override { delete this; }
};

// One Generate call. Alive until gRPC is done with it and the generation has ended: self_ and the callback hold it.
class GenerateStream : public GenerateReactor, public std::enable_shared_from_this<GenerateStream> {
 public:
  // `context` is the call's.
  explicit GenerateStream(grpc::CallbackServerContext* context) : context_(context) {}
  // Begins. On error nothing was started, and the caller refuses the call.
  absl::Status Start(Generator& generator, const v1::GenerateRequest& request) {
    auto generation = generator.Start(
        request, [self = shared_from_this()](v1::GenerateResponse response, bool last, absl::Status status) {
          self->OnResponse(std::move(response), last, std::move(status));
        });
    if (!generation.ok()) return generation.status();
    MutexLock lock(&mu_);
    generation_ = *std::move(generation);
    return absl::OkStatus();
  }
  // From now on gRPC calls back. Responses that came before are written now.
  GenerateReactor* Serve() {
    {
      MutexLock lock(&mu_);
      self_ = shared_from_this();
      serving_ = true;
    }
    Continue();
    return this;
  }

  void OnWriteDone(bool ok) override {
    {
      MutexLock lock(&mu_);
      writing_ = false;
    }
    if (!ok) CancelGeneration();
    Continue();
  }
  // The client went away, or the deadline has passed.
  void OnCancel() override { CancelGeneration(); }
  void OnDone() override {
    std::shared_ptr<GenerateStream> self;  // perhaps the last: released after the lock
    MutexLock lock(&mu_);
    self = std::move(self_);
  }

 private:
  // On the dispatch thread.
  void OnResponse(v1::GenerateResponse response, bool last, absl::Status status) {
    bool overflow = false;
    {
      MutexLock lock(&mu_);
      Merge(response, &pending_);
      has_pending_ = true;
      if (last) {
        ended_ = true;
        if (status_.ok()) status_ = std::move(status);
      }
      if (pending_.ids_size() > GenerateService::kMaxPendingTokens && status_.ok()) {
        overflow = true;
        status_ = absl::ResourceExhaustedError(
            absl::StrCat("the client left ", pending_.ids_size(), " tokens unread: read faster"));
      }
    }
    if (overflow) CancelGeneration();
    Continue();
  }

  void CancelGeneration() {
    MutexLock lock(&mu_);
    if (generation_ != nullptr) generation_->Cancel();
  }

  // Does the next thing that can be done: write what waits, or finish.
  void Continue() {
    const v1::GenerateResponse* write = nullptr;
    bool finish = false;
    absl::Status status;
    {
      MutexLock lock(&mu_);
      if (!serving_ || writing_ || finished_) return;
      if (has_pending_) {
        writing_ = true;
        has_pending_ = false;
        current_ = std::exchange(pending_, v1::GenerateResponse());
        write = &current_;
      } else if (ended_) {
        finish = finished_ = true;
        status = status_;
      }
    }
    if (write != nullptr) StartWrite(write);
    if (!finish) return;
    AddRetryHint(context_, status);
    Finish(proto_support::ToGrpc(status));
  }

  grpc::CallbackServerContext* const context_;  // valid until OnDone
  Mutex mu_;
  std::unique_ptr<Generation> generation_ ABSL_GUARDED_BY(mu_);
  v1::GenerateResponse pending_ ABSL_GUARDED_BY(mu_);  // merged; to be written next
  v1::GenerateResponse current_;                       // being written
  bool has_pending_ ABSL_GUARDED_BY(mu_) = false;
  bool serving_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;  // the last response is in pending_ or written
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<GenerateStream> self_ ABSL_GUARDED_BY(mu_);
};

// `bytes` with U+FFFD for what is no UTF-8, which a protobuf string must be.
std::string WholeCharacters(absl::string_view bytes) {
  std::string text;
  while (!bytes.empty()) {
    const size_t valid = engine::ValidUtf8Prefix(bytes);
    absl::StrAppend(&text, bytes.substr(0, valid));
    bytes.remove_prefix(valid);
    if (bytes.empty()) break;
    absl::StrAppend(&text, engine::kReplacementCharacter);
    bytes.remove_prefix(engine::NextUtf8(bytes).bytes);
  }
  return text;
}

// Of a peer as gRPC names it, "ipv4:192.0.2.1:4711": all but the port.
std::string HostOf(const std::string& peer) { return peer.substr(0, peer.rfind(':')); }

grpc::ServerUnaryReactor* Reply(grpc::CallbackServerContext* context, const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(proto_support::ToGrpc(status));
  return reactor;
}

}  // namespace

grpc::ServerWriteReactor<v1::GenerateResponse>* GenerateService::Generate(grpc::CallbackServerContext* context,
                                                                          const v1::GenerateRequest* request) {
  auto stream = std::make_shared<GenerateStream>(context);
  v1::GenerateRequest named = *request;
  if (named.client().empty()) named.set_client(HostOf(context->peer()));
  if (absl::Status started = stream->Start(generator_, named); !started.ok()) {
    on_refused_(started.code());
    return new Refusal(context, started);
  }
  return stream->Serve();
}

grpc::ServerUnaryReactor* GenerateService::Embed(grpc::CallbackServerContext* context, const v1::EmbedRequest* request,
                                                 v1::EmbedResponse* response) {
  return ServeEmbed(embedder_, *request, response, on_refused_);
}

grpc::ServerUnaryReactor* GenerateService::Tokenize(grpc::CallbackServerContext* context,
                                                    const v1::TokenizeRequest* request,
                                                    v1::TokenizeResponse* response) {
  return Reply(context, DoTokenize(*request, response));
}

absl::Status GenerateService::DoTokenize(const v1::TokenizeRequest& request, v1::TokenizeResponse* response) const {
  TANDEM_RETURN_IF_ERROR(CheckModelName(request.model(), model_));
  TANDEM_RETURN_IF_ERROR(CheckTextSize("text", request.text()));
  engine::EncodeOptions options;
  options.add_special = request.add_special();
  options.parse_special = request.parse_special();
  for (engine::TokenId id : model_.tokenizer().Encode(request.text(), options)) response->add_ids(id);
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* GenerateService::Detokenize(grpc::CallbackServerContext* context,
                                                      const v1::DetokenizeRequest* request,
                                                      v1::DetokenizeResponse* response) {
  return Reply(context, DoDetokenize(*request, response));
}

absl::Status GenerateService::DoDetokenize(const v1::DetokenizeRequest& request,
                                           v1::DetokenizeResponse* response) const {
  TANDEM_RETURN_IF_ERROR(CheckModelName(request.model(), model_));
  const engine::Tokenizer& tokenizer = model_.tokenizer();
  if (request.ids_size() > kMaxDetokenizeIds) {
    return absl::InvalidArgumentError(
        absl::StrCat("ids has ", request.ids_size(), " entries; the limit is ", kMaxDetokenizeIds));
  }
  std::vector<engine::TokenId> ids;
  ids.reserve(request.ids_size());
  for (uint32_t id : request.ids()) {
    if (id >= static_cast<uint32_t>(tokenizer.vocab_size())) {
      return absl::InvalidArgumentError(
          absl::StrCat("ids: ", id, " is outside the vocabulary of ", tokenizer.vocab_size(), " tokens"));
    }
    ids.push_back(static_cast<engine::TokenId>(id));
  }
  response->set_text(WholeCharacters(tokenizer.Decode(ids, request.render_special())));
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* GenerateService::ListModels(grpc::CallbackServerContext* context,
                                                      const v1::ListModelsRequest* request,
                                                      v1::ListModelsResponse* response) {
  v1::Model* model = response->add_models();
  model->set_name(model_.name());
  model->set_architecture(model_.spec().architecture);
  model->set_file_bytes(model_.file().file_bytes());
  const int32_t context_tokens = dispatcher_.context();
  model->set_context(context_tokens > 0 ? context_tokens : model_.spec().context);
  model->set_vocabulary(model_.spec().vocab);
  model->set_ready(dispatcher_.stats().epoch != 0);
  model->set_has_chat_template(model_.chat_template() != nullptr);
  for (const ServedAdapter& adapter : model_.adapters()) model->add_adapters(adapter.name);
  return Reply(context, absl::OkStatus());
}

}  // namespace tandem::coordinator
