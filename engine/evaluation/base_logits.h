// A file with the logits of one model over a text, against which others are compared.
//
//   "TNDMBASE" | u32 version = 1 | u32 vocabulary | u64 rows | u64 identity of text and windows
//   float32 logits [rows, vocabulary]                                                     little-endian
#pragma once

#include <cstdint>
#include <fstream>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/evaluation/text_scoring.h"

namespace tandem::engine {

// The same for the same text, cut in the same way.
uint64_t ScoringIdentity(std::span<const int32_t> text, const ScoringOptions& options);

// Writes to a temporary file that Finish renames; destroyed before that, it leaves nothing. Thread-compatible.
class BaseLogitsWriter {
 public:
  // Errors: kUnavailable (the file cannot be made).
  static absl::StatusOr<std::unique_ptr<BaseLogitsWriter>> Create(const std::string& path, int32_t vocab,
                                                                  uint64_t identity);
  ~BaseLogitsWriter();
  // Rows of logits, [n, vocab]. Errors: kUnavailable.
  absl::Status Append(std::span<const float> logits);
  absl::Status Finish();

 private:
  BaseLogitsWriter(std::string path, int32_t vocab, uint64_t identity);
  absl::Status Check(const char* action);
  const std::string path_, temporary_;
  const uint32_t vocab_;
  const uint64_t identity_;
  uint64_t values_ = 0;
  std::ofstream file_;
};

// Thread-compatible.
class BaseLogitsReader {
 public:
  // Errors: kNotFound; kInvalidArgument (no such file, of another vocabulary, text or windows, or cut short: says
  // which).
  static absl::StatusOr<std::unique_ptr<BaseLogitsReader>> Open(const std::string& path, int32_t vocab,
                                                                uint64_t identity);
  // The next rows, as many as `logits` [n, vocab] holds. Errors: kDataLoss (there are no more).
  absl::Status Read(std::span<float> logits);

 private:
  explicit BaseLogitsReader(std::string path) : path_(std::move(path)) {}
  const std::string path_;
  std::ifstream file_;
};

}  // namespace tandem::engine
