#include "tests/support/oracle/model_file.h"

#include <cstdio>
#include <cstdlib>

#include "absl/status/statusor.h"
#include "engine/quant/block_format.h"

namespace tandem::testing::oracle {
namespace {

template <typename T>
T Require(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "oracle: %s\n", value.status().ToString().c_str());
  std::abort();
}

}  // namespace

ModelFile::ModelFile(const engine::GgufFile& file)
    : file_(file), architecture_(std::string(Require(file.GetString("general.architecture")))) {}

int ModelFile::Int(const std::string& name) const { return static_cast<int>(Require(file_.GetInt(Key(name)))); }
int ModelFile::Int(const std::string& name, int otherwise) const {
  return file_.Has(Key(name)) ? Int(name) : otherwise;
}
double ModelFile::Float(const std::string& name) const { return Require(file_.GetFloat(Key(name))); }
double ModelFile::Float(const std::string& name, double otherwise) const {
  return file_.Has(Key(name)) ? Float(name) : otherwise;
}
bool ModelFile::Bool(const std::string& name, bool otherwise) const {
  return file_.Has(Key(name)) ? Require(file_.GetBool(Key(name))) : otherwise;
}
std::string ModelFile::String(const std::string& name, const std::string& otherwise) const {
  return file_.Has(Key(name)) ? std::string(Require(file_.GetString(Key(name)))) : otherwise;
}

Tensor ModelFile::Load(const std::string& name) const {
  const engine::GgufTensor* info = file_.FindTensor(name);
  if (info == nullptr) Require(absl::StatusOr<int>(absl::NotFoundError("no tensor " + name)));
  Tensor tensor;
  tensor.cols = info->dims[0];
  if (info->dims.size() > 1) tensor.rows = info->dims[1];
  for (size_t axis = 2; axis < info->dims.size(); ++axis) tensor.slices *= info->dims[axis];
  std::vector<float> values(tensor.cols * tensor.rows * tensor.slices);
  const std::vector<std::byte> bytes = Require(file_.ReadAll(*info));
  engine::FindBlockFormat(info->type)->dequantize(bytes.data(), values.data(), values.size());
  tensor.values.assign(values.begin(), values.end());
  return tensor;
}

}  // namespace tandem::testing::oracle
