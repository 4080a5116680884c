// From a client's request to a task for the pipeline: every field checked, text turned into tokens.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "coordinator/dispatcher.h"
#include "coordinator/served_model.h"
#include "tandem/v1/generate.pb.h"

namespace tandem::coordinator {

struct PreparedRequest {
  GenerationTask task;
  std::vector<std::string> stop_strings;
  uint64_t seed = 0;           // the client's, or one picked at random
  bool at_text_start = false;  // the answer begins a text of its own (chat), rather than continuing the prompt
};

// Errors: kNotFound (a model that is not served; names the one that is), kInvalidArgument (no input, empty prompt,
// token id or sampling out of range, banned text that is no token, a grammar or schema that does not compile,
// max_tokens 0, or none where the context does not end the answer, stop strings out of bounds, no chat template,
// unknown role; the message has field, value and limit), those of ChatTemplate::Render. Whether the prompt fits the
// context is checked by Dispatcher::Submit.
absl::StatusOr<PreparedRequest> PrepareRequest(const v1::GenerateRequest& request, const ServedModel& model);

// Bounds of GenerateRequest.client and .priority.
inline constexpr size_t kMaxClientBytes = 256;
inline constexpr int32_t kMaxPriority = 100;

// Longest text that is tokenised, bytes: beyond any context, and quick enough for a gRPC thread.
inline constexpr size_t kMaxTextBytes = 4 << 20;
// `field` names the text in the error. Errors: kInvalidArgument (longer than kMaxTextBytes; has both numbers).
absl::Status CheckTextSize(absl::string_view field, absl::string_view text);

// A client's input as tokens: text with the model's BOS and EOS rules, ids as they are. Errors: kInvalidArgument
// (empty, too long, an id outside the vocabulary; `field` names the text).
absl::StatusOr<std::vector<int32_t>> TokensOfText(absl::string_view field, const std::string& text, bool parse_special,
                                                  const ServedModel& model);
absl::StatusOr<std::vector<int32_t>> TokensOfIds(const v1::TokenIds& ids, const ServedModel& model);

// The adapters that a request names. Errors: kNotFound (one that is not loaded; names those that are), kInvalidArgument
// (too many, one twice, a scale out of range; with value and limit).
absl::StatusOr<std::vector<engine::AdapterUse>> AdaptersOf(const google::protobuf::RepeatedPtrField<v1::Lora>& lora,
                                                           const ServedModel& model);

// OK if `name` is empty or the model's. Errors: kNotFound.
absl::Status CheckModelName(const std::string& name, const ServedModel& model);

}  // namespace tandem::coordinator
