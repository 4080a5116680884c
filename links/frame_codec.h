// The bytes of a step frame, without copying what is large more often than must be: they are those of the protobuf
// message, so a peer may use the generated classes, but the activations are written and read apart from the rest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "tandem/v1/pipeline.pb.h"

namespace tandem::links {

// What comes before the activations: all other fields of `frame`, which has no activations itself, then the tag and the
// length of `activation_bytes` of them. With 0 bytes it is the whole message.
std::string SerializeHead(const v1::StepFrame& frame, size_t activation_bytes);

// A frame as it came off the wire. Nothing is copied, and no length believed, before Take.
class ReceivedFrame {
 public:
  // Reads through the message in `pieces`, which must outlive this. Errors: kInvalidArgument (not a message: a field
  // that ends beyond it, a wire type that the protocol does not use, activations twice).
  static absl::StatusOr<ReceivedFrame> Scan(std::span<const absl::string_view> pieces);

  uint64_t epoch() const { return epoch_; }
  uint64_t step() const { return step_; }
  uint64_t activation_bytes() const { return activations_.bytes; }

  // The message; activations are copied once, to where the step reads them. Call once. Errors: kInvalidArgument (a
  // field's content is not what its type says).
  absl::StatusOr<std::unique_ptr<v1::StepFrame>> Take() &&;

 private:
  // A place in the pieces.
  struct Place {
    size_t piece = 0, offset = 0;
  };
  struct Range {
    Place begin;
    uint64_t bytes = 0;
  };
  class Reader;

  explicit ReceivedFrame(std::span<const absl::string_view> pieces) : pieces_(pieces) {}
  void Append(const Range& range, std::string* to) const;

  std::span<const absl::string_view> pieces_;
  uint64_t epoch_ = 0, step_ = 0;
  Range activations_;
  std::vector<Range> others_;  // what comes before the activations, and behind them
};

}  // namespace tandem::links
