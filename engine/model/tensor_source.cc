#include "engine/model/tensor_source.h"

#include <new>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace tandem::engine {

absl::StatusOr<std::span<std::byte>> TensorBuffer::For(const GgufTensor& tensor) {
  if (tensor.bytes > size_) {
    bytes_.reset();
    size_ = 0;
    bytes_.reset(new (std::nothrow) std::byte[tensor.bytes]);
    if (bytes_ == nullptr) {
      return absl::ResourceExhaustedError(absl::StrCat("no memory for tensor ", tensor.name, ": ", tensor.bytes,
                                                       " bytes wanted; give this worker fewer layers"));
    }
    size_ = tensor.bytes;
  }
  return std::span(bytes_.get(), tensor.bytes);
}

absl::StatusOr<std::span<const std::byte>> FileTensorSource::Read(const GgufTensor& tensor) {
  TANDEM_ASSIGN_OR_RETURN(const std::span<std::byte> bytes, buffer_.For(tensor));
  TANDEM_RETURN_IF_ERROR(file_.Read(tensor, 0, bytes));
  return bytes;
}

}  // namespace tandem::engine
