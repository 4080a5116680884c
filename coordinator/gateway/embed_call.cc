#include "coordinator/gateway/embed_call.h"

#include <memory>
#include <utility>

#include "engine/base/mutex.h"
#include "proto/support/status_convert.h"

namespace tandem::coordinator {
namespace {

// Alive until gRPC is done with it and the batch has ended: self_ and the callback hold it.
class EmbedCall : public grpc::ServerUnaryReactor, public std::enable_shared_from_this<EmbedCall> {
 public:
  // Begins. On error nothing was started.
  absl::Status Start(Embedder& embedder, const v1::EmbedRequest& request, v1::EmbedResponse* response) {
    {
      MutexLock lock(&mu_);
      self_ = shared_from_this();
    }
    absl::StatusOr<std::unique_ptr<EmbedBatch>> batch =
        embedder.Start(request, [self = shared_from_this(), response](absl::StatusOr<v1::EmbedResponse> result) {
          if (result.ok()) *response = *std::move(result);
          self->Finish(proto_support::ToGrpc(result.status()));
        });
    if (!batch.ok()) return batch.status();
    MutexLock lock(&mu_);
    batch_ = *std::move(batch);
    return absl::OkStatus();
  }

  void OnCancel() override {
    MutexLock lock(&mu_);
    if (batch_ != nullptr) batch_->Cancel();
  }
  void OnDone() override {
    std::shared_ptr<EmbedCall> self;  // perhaps the last: released after the lock
    MutexLock lock(&mu_);
    self = std::move(self_);
  }

 private:
  Mutex mu_;
  std::unique_ptr<EmbedBatch> batch_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<EmbedCall> self_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

grpc::ServerUnaryReactor* ServeEmbed(Embedder& embedder, const v1::EmbedRequest& request, v1::EmbedResponse* response,
                                     const std::function<void(absl::StatusCode)>& on_refused) {
  auto call = std::make_shared<EmbedCall>();
  if (absl::Status started = call->Start(embedder, request, response); !started.ok()) {
    on_refused(started.code());
    call->Finish(proto_support::ToGrpc(started));
  }
  return call.get();
}

}  // namespace tandem::coordinator
