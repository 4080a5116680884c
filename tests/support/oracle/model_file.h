// A model file as the oracle reads it: hyperparameters by name, tensors as doubles. What a definition needs and the
// file lacks ends the test with a message: a mistake in the test, not a case to handle.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "engine/gguf/gguf_file.h"

namespace tandem::testing::oracle {

// [slices, rows, cols], row by row. A vector is one row, a matrix one slice; experts and heads are slices.
struct Tensor {
  size_t slices = 1;
  size_t rows = 1;
  size_t cols = 0;
  std::vector<double> values;

  const double* row(size_t index, size_t slice = 0) const { return &values[(slice * rows + index) * cols]; }
};

// Ownership: borrows the file.
class ModelFile {
 public:
  explicit ModelFile(const engine::GgufFile& file);

  const std::string& architecture() const { return architecture_; }

  // Hyperparameters; `name` is the key without the architecture before it. With a second argument a missing key gives
  // that, without one it is a mistake.
  int Int(const std::string& name) const;
  int Int(const std::string& name, int otherwise) const;
  double Float(const std::string& name) const;
  double Float(const std::string& name, double otherwise) const;
  bool Bool(const std::string& name, bool otherwise) const;
  std::string String(const std::string& name, const std::string& otherwise) const;

  bool HasTensor(const std::string& name) const { return file_.FindTensor(name) != nullptr; }
  Tensor Load(const std::string& name) const;  // dequantised

 private:
  std::string Key(const std::string& name) const { return architecture_ + "." + name; }

  const engine::GgufFile& file_;
  std::string architecture_;
};

// The tensors of one layer: "blk.<index>.<name>.weight".
class Layer {
 public:
  Layer(const ModelFile& file, int index) : file_(file), prefix_("blk." + std::to_string(index) + ".") {}

  bool Has(const std::string& name) const { return file_.HasTensor(prefix_ + name + ".weight"); }
  bool HasBias(const std::string& name) const { return file_.HasTensor(prefix_ + name + ".bias"); }
  Tensor Weight(const std::string& name) const { return file_.Load(prefix_ + name + ".weight"); }
  Tensor Bias(const std::string& name) const { return file_.Load(prefix_ + name + ".bias"); }

 private:
  const ModelFile& file_;
  const std::string prefix_;
};

}  // namespace tandem::testing::oracle
