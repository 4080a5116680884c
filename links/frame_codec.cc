#include "links/frame_codec.h"

#include <algorithm>
#include <utility>

#include <google/protobuf/io/coded_stream.h>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace tandem::links {
namespace {

using google::protobuf::io::CodedOutputStream;

// Source of tags, varints and wire types: the Protocol Buffers encoding.
enum WireType : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };
constexpr uint32_t kActivationsTag = v1::StepFrame::kActivationsFieldNumber << 3 | kBytes;
constexpr uint32_t kEpochTag = v1::StepFrame::kEpochFieldNumber << 3 | kVarint;
constexpr uint32_t kStepTag = v1::StepFrame::kStepFieldNumber << 3 | kVarint;
// Most bytes of a varint, and of a tag or length. As protobuf's own parser has it, so that both read the same message.
constexpr int kMaxVarintBytes = 10, kMaxSizeBytes = 5;

absl::Status Malformed(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("a step frame is malformed: ", what));
}

}  // namespace

std::string SerializeHead(const v1::StepFrame& frame, size_t activation_bytes) {
  const size_t other_bytes = frame.ByteSizeLong();
  std::string head;
  head.resize(other_bytes + 2 * kMaxVarintBytes);
  uint8_t* const begin = reinterpret_cast<uint8_t*>(head.data());
  uint8_t* end = frame.SerializeWithCachedSizesToArray(begin);
  if (activation_bytes > 0) {
    end = CodedOutputStream::WriteTagToArray(kActivationsTag, end);
    end = CodedOutputStream::WriteVarint64ToArray(activation_bytes, end);
  }
  head.resize(end - begin);
  return head;
}

// Goes through the pieces byte by byte or in leaps.
class ReceivedFrame::Reader {
 public:
  explicit Reader(std::span<const absl::string_view> pieces) : pieces_(pieces) {
    for (absl::string_view piece : pieces) left_ += piece.size();
    StepOverEnds();
  }

  bool at_end() const { return left_ == 0; }
  uint64_t left() const { return left_; }
  Place place() const { return place_; }

  bool ReadVarint(int max_bytes, uint64_t* value) {
    *value = 0;
    for (int i = 0; i < max_bytes && !at_end(); ++i) {
      const uint8_t byte = static_cast<uint8_t>(pieces_[place_.piece][place_.offset]);
      Skip(1);
      *value |= static_cast<uint64_t>(byte & 0x7f) << (7 * i);
      if (byte < 0x80) return true;
    }
    return false;
  }

  // bytes <= left().
  void Skip(uint64_t bytes) {
    left_ -= bytes;
    while (bytes > 0) {
      const uint64_t here = std::min<uint64_t>(bytes, pieces_[place_.piece].size() - place_.offset);
      place_.offset += here;
      bytes -= here;
      StepOverEnds();
    }
  }

 private:
  void StepOverEnds() {
    while (place_.piece < pieces_.size() && place_.offset == pieces_[place_.piece].size())
      place_ = {place_.piece + 1, 0};
  }

  const std::span<const absl::string_view> pieces_;
  Place place_;
  uint64_t left_ = 0;
};

absl::StatusOr<ReceivedFrame> ReceivedFrame::Scan(std::span<const absl::string_view> pieces) {
  ReceivedFrame frame(pieces);
  Reader reader(pieces);
  bool has_activations = false, begins_range = true;  // the latter: the next field, of a range of others_
  while (!reader.at_end()) {
    const Place field = reader.place();
    const uint64_t left_before = reader.left();
    uint64_t value = 0;
    if (!reader.ReadVarint(kMaxSizeBytes, &value)) return Malformed("it ends within a tag");
    const uint32_t tag = static_cast<uint32_t>(value);
    switch (tag & 7) {
      case kVarint:
        if (!reader.ReadVarint(kMaxVarintBytes, &value)) return Malformed("it ends within a number");
        if (tag == kEpochTag) frame.epoch_ = value;
        if (tag == kStepTag) frame.step_ = value;
        break;
      case kFixed64:
      case kFixed32:
        value = (tag & 7) == kFixed64 ? 8 : 4;
        if (value > reader.left()) return Malformed("it ends within a number");
        reader.Skip(value);
        break;
      case kBytes: {
        if (!reader.ReadVarint(kMaxSizeBytes, &value)) return Malformed("it ends within a length");
        if (value > reader.left()) {
          return Malformed(absl::StrCat("field ", tag >> 3, " has ", value, " bytes, ", reader.left(), " are left"));
        }
        const Place content = reader.place();
        reader.Skip(value);
        if (tag != kActivationsTag) break;
        if (std::exchange(has_activations, true)) return Malformed("it has activations twice");
        frame.activations_ = {content, value};
        begins_range = true;
        continue;
      }
      default:
        return Malformed(absl::StrCat("wire type ", tag & 7));
    }
    if (std::exchange(begins_range, false)) frame.others_.push_back({field, 0});
    frame.others_.back().bytes += left_before - reader.left();
  }
  return frame;
}

void ReceivedFrame::Append(const Range& range, std::string* to) const {
  uint64_t left = range.bytes;
  size_t offset = range.begin.offset;
  for (size_t piece = range.begin.piece; left > 0; ++piece, offset = 0) {
    const absl::string_view part = pieces_[piece].substr(offset, left);
    to->append(part.data(), part.size());
    left -= part.size();
  }
}

absl::StatusOr<std::unique_ptr<v1::StepFrame>> ReceivedFrame::Take() && {
  std::string others;
  for (const Range& range : others_) Append(range, &others);
  auto frame = std::make_unique<v1::StepFrame>();
  if (!frame->ParseFromString(others)) return Malformed("a field is not what its type says");
  if (activations_.bytes > 0) {
    std::string* activations = frame->mutable_activations();
    activations->reserve(activations_.bytes);
    Append(activations_, activations);
  }
  return frame;
}

}  // namespace tandem::links
