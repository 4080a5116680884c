// Where a command gets its text from: a cluster over gRPC, or an embedded one in this process. Both speak v1 requests
// and responses.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/scheduler/scheduler.h"
#include "engine/base/interrupt.h"
#include "tandem/v1/generate.pb.h"

namespace tandem::cli {

// One answer at a time for each Interrupt; used by one thread.
class TextModel {
 public:
  virtual ~TextModel() = default;
  // Calls `on_response` for each response in order and returns when the answer has ended. Ctrl-C on `interrupt` cancels
  // it and gives kCancelled.
  virtual absl::Status Generate(const v1::GenerateRequest& request, Interrupt& interrupt,
                                const std::function<void(const v1::GenerateResponse&)>& on_response) = 0;
  // Returns when all inputs are done. Ctrl-C as above.
  virtual absl::StatusOr<v1::EmbedResponse> Embed(const v1::EmbedRequest& request, Interrupt& interrupt) = 0;
};

// The flags that choose between the two, shared by `generate`, `chat` and `embed`.
struct TextModelFlags {
  std::string server = "127.0.0.1:7070";
  std::string model;                  // a file with --local, else a name
  std::vector<std::string> adapters;  // NAME=FILE
  int local = 0;                      // workers of the embedded cluster; 0: use `server`
  int threads = 0;
  std::string cpu_isa = "auto";
  std::string kv = "f16";
  std::string activations = "f32";
  int context = 0;
  int speculate = coordinator::kDefaultGuessedTokens;
  std::string draft;  // a file; empty: none
  int draft_threads = 0;
};
void AddTextModelFlags(CLI::App& command, TextModelFlags* flags);
// The part of them that describes the embedded cluster, for commands that have no other; `local` (may be null) is the
// option they depend on.
void AddLocalClusterFlags(CLI::App& command, TextModelFlags* flags, CLI::Option* local);
// Text in messages is UTF-8. Errors: kInvalidArgument naming the byte; `what` names the text.
absl::Status CheckUtf8(const char* what, const std::string& text);
absl::StatusOr<std::unique_ptr<TextModel>> OpenTextModel(const TextModelFlags& flags);

}  // namespace tandem::cli
