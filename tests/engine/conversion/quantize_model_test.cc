// Whole files quantised: what becomes of each tensor, how good it is, and what is refused.
#include "engine/conversion/quantize_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/gguf/gguf_split.h"
#include "engine/gguf/gguf_writer.h"
#include "engine/model/model_spec.h"
#include "tests/support/reference.h"
#include "tests/support/tiny_model.h"

namespace tandem::engine {
namespace {

using ::testing::HasSubstr;

std::vector<float> Values(const GgufFile& file, const std::string& name) {
  const GgufTensor& tensor = *file.FindTensor(name);
  std::vector<float> values(tensor.cols() * tensor.rows());
  FindBlockFormat(tensor.type)->dequantize(file.ReadAll(tensor)->data(), values.data(), values.size());
  return values;
}

class QuantizeModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "quantize_XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string out() const { return folder_ + "/out.gguf"; }

  static testing::TinyModel Model() {
    return testing::MakeTinyModel(
        {.layers = 2, .hidden = 256, .ffn = 512, .heads = 4, .head_dim = 64, .vocab_size = 300});
  }
  absl::Status Quantize(const GgufFile& file, const QuantizeOptions& options, int threads = 2) {
    const auto plan = PlanQuantization(file, options);
    if (!plan.ok()) return plan.status();
    ThreadPool pool(threads, /*pin=*/false);
    return QuantizeModel(file, options, *plan, out(), pool, nullptr, nullptr);
  }
  std::string OutBytes() const {
    std::ifstream file(out(), std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }
  std::string folder_;
};

TEST_F(QuantizeModelTest, KeepsTheModelAndItsMetadata) {
  const testing::TinyFile tiny = testing::ParseTinyModel(Model());
  ASSERT_TRUE(Quantize(*tiny.file, {.type = FindFileType("Q4_K_M")}).ok());
  const auto file = GgufFile::Open(out());
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(ReadModelSpec(**file).ok()) << ReadModelSpec(**file).status();
  for (const auto& [key, value] : tiny.file->metadata()) {
    ASSERT_TRUE((*file)->Has(key)) << key;
    EXPECT_TRUE(*(*file)->Find(key) == value) << key;
  }
  EXPECT_EQ(*(*file)->GetUint("general.file_type"), 15u);
  EXPECT_EQ(*(*file)->GetUint("general.quantization_version"), 2u);
  EXPECT_EQ((*file)->FindTensor("blk.1.ffn_down.weight")->type, TensorType::kQ6_K);
  EXPECT_EQ((*file)->FindTensor("blk.1.attn_q.weight")->type, TensorType::kQ4_K);
  EXPECT_EQ(*(*file)->ReadAll(*(*file)->FindTensor("blk.0.attn_norm.weight")),
            *tiny.file->ReadAll(*tiny.file->FindTensor("blk.0.attn_norm.weight")));
}

TEST_F(QuantizeModelTest, AnyNumberOfThreadsGivesTheSameFile) {
  const testing::TinyFile tiny = testing::ParseTinyModel(Model());
  ASSERT_TRUE(Quantize(*tiny.file, {.type = FindFileType("Q3_K_M")}, 1).ok());
  const std::string one = OutBytes();
  ASSERT_TRUE(Quantize(*tiny.file, {.type = FindFileType("Q3_K_M")}, 5).ok());
  EXPECT_EQ(OutBytes(), one);
}

TEST_F(QuantizeModelTest, PartsGiveTheSameFileAsTheWhole) {
  const testing::TinyModel model = Model();
  const testing::TinyFile tiny = testing::ParseTinyModel(model);
  ASSERT_TRUE(Quantize(*tiny.file, {.type = FindFileType("Q8_0")}).ok());
  const std::string whole = OutBytes();
  const SplitName name{.prefix = folder_ + "/model", .part = 1, .count = 3};
  uint32_t part = 0;
  for (const std::vector<std::byte>& bytes : model.SerializeParts(3)) {
    std::ofstream(name.PathOf(++part), std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  const auto file = GgufFile::Open(name.PathOf(1));
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_TRUE(Quantize(**file, {.type = FindFileType("Q8_0")}).ok());
  EXPECT_EQ(OutBytes(), whole);
}

TEST_F(QuantizeModelTest, EmbeddingAndHeadCanBeChosen) {
  const testing::TinyFile tiny = testing::ParseTinyModel(Model());
  ASSERT_TRUE(
      Quantize(*tiny.file, {.type = FindFileType("Q4_0"), .embedding = TensorType::kQ8_0, .head = TensorType::kF16})
          .ok());
  const auto file = GgufFile::Open(out());
  EXPECT_EQ((*file)->FindTensor("token_embd.weight")->type, TensorType::kQ8_0);
  EXPECT_EQ((*file)->FindTensor("output.weight")->type, TensorType::kF16);
  EXPECT_EQ((*file)->FindTensor("blk.0.attn_q.weight")->type, TensorType::kQ4_0);
}

TEST_F(QuantizeModelTest, QuantisingAgainMustBeAskedFor) {
  const testing::TinyFile tiny = testing::ParseTinyModel(Model());
  ASSERT_TRUE(Quantize(*tiny.file, {.type = FindFileType("Q8_0")}).ok());
  const auto once = GgufFile::Open(out());
  ASSERT_TRUE(once.ok());
  const absl::Status refused = Quantize(**once, {.type = FindFileType("Q4_0")});
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("is Q8_0 already"));
  const QuantizeOptions allowed{.type = FindFileType("Q4_0"), .allow_requantize = true};
  const auto plan = PlanQuantization(**once, allowed);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_TRUE(std::any_of(plan->begin(), plan->end(), [](const TensorChange& change) { return change.requantized; }));
  EXPECT_TRUE(Quantize(**once, allowed).ok());
  // Nothing is quantised again where nothing changes.
  EXPECT_TRUE(Quantize(**once, {.type = FindFileType("Q8_0")}).ok());
}

TEST_F(QuantizeModelTest, TypesThatNeedMoreAreRefusedByName) {
  const testing::TinyFile tiny = testing::ParseTinyModel(Model());
  EXPECT_THAT(std::string(Quantize(*tiny.file, {.type = FindFileType("Q2_K_S")}).message()),
              HasSubstr("importance matrix"));
  const absl::Status codebook = Quantize(*tiny.file, {.type = FindFileType("IQ3_S")});
  EXPECT_EQ(codebook.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(codebook.message()), HasSubstr("IQ3_S"));
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(QuantizeModelTest, RowsThatDoNotFitFallBack) {
  const testing::TinyFile tiny = testing::ParseTinyModel(testing::TinyModelShape{});  // hidden 64, FFN 96
  const QuantizeOptions options{.type = FindFileType("Q4_K_S")};
  const auto plan = PlanQuantization(*tiny.file, options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  for (size_t i = 0; i < plan->size(); ++i) {
    EXPECT_EQ((*plan)[i].fell_back, IsQuantized(tiny.file->tensors()[i])) << tiny.file->tensors()[i].name;
  }
  ASSERT_TRUE(Quantize(*tiny.file, options).ok());
  EXPECT_EQ((*GgufFile::Open(out()))->FindTensor("blk.0.attn_q.weight")->type, TensorType::kQ5_0);
}

TEST_F(QuantizeModelTest, ImportantColumnsGetLessError) {
  const testing::TinyFile tiny = testing::ParseTinyModel(Model());
  const std::string name = "blk.0.attn_q.weight";
  std::vector<float> sums(256, 1e-3f);
  for (int i = 0; i < 256; i += 8) sums[i] = 100;
  const std::vector<float> count = {1};
  const auto save = [&](std::span<const float> values) {
    GgufWriter writer;
    const uint64_t dims[] = {values.size()}, one[] = {1};
    EXPECT_TRUE(writer.AddTensor(name + ".in_sum2", TensorType::kF32, dims, std::as_bytes(values)).ok());
    EXPECT_TRUE(writer.AddTensor(name + ".counts", TensorType::kF32, one, std::as_bytes(std::span(count))).ok());
    EXPECT_TRUE(writer.Write(folder_ + "/imatrix.gguf").ok());
    return ImportanceMatrix::Load(folder_ + "/imatrix.gguf");
  };
  const auto matrix = save(sums);
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  const std::vector<float> original = Values(*tiny.file, name);
  const auto error = [&](const ImportanceMatrix* importance) {
    EXPECT_TRUE(Quantize(*tiny.file, {.type = FindFileType("Q4_0"), .importance = importance}).ok());
    const std::vector<float> values = Values(**GgufFile::Open(out()), name);
    double sum = 0;
    for (size_t i = 0; i < values.size(); i += 8) sum += std::pow(values[i] - original[i], 2);
    return std::sqrt(sum);
  };
  EXPECT_LT(error(&*matrix), 0.8 * error(nullptr));
  const auto other = save(std::span(sums).first(100));
  const absl::Status refused = Quantize(*tiny.file, {.type = FindFileType("Q4_0"), .importance = &*other});
  EXPECT_THAT(std::string(refused.message()), HasSubstr("100 values for tensor blk.0.attn_q.weight"));
}

TEST_F(QuantizeModelTest, CancellingLeavesNothing) {
  const testing::TinyFile tiny = testing::ParseTinyModel(Model());
  const QuantizeOptions options{.type = FindFileType("Q4_0")};
  ThreadPool pool(2, /*pin=*/false);
  EXPECT_EQ(QuantizeModel(*tiny.file, options, *PlanQuantization(*tiny.file, options), out(), pool, nullptr,
                          [] { return true; })
                .code(),
            absl::StatusCode::kCancelled);
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

double RelativeError(const std::vector<float>& values, const std::vector<float>& original) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    error += std::pow(double{values[i]} - original[i], 2);
    norm += std::pow(double{original[i]}, 2);
  }
  return std::sqrt(error / norm);
}

// The F16 model in every file type that another quantiser made of it: our weights are as near to the original.
TEST_F(QuantizeModelTest, WeightsAreAsGoodAsTheReferenceFiles) {
  const std::string folder = testing::ReferenceFolder();
  if (folder.empty()) GTEST_SKIP() << testing::kNoReference;
  const auto original = GgufFile::Open(folder + "/quant/f16.gguf");
  ASSERT_TRUE(original.ok()) << original.status();
  int files = 0;
  for (const char* type : {"q2_k", "q3_k_s", "q3_k_m", "q3_k_l", "q4_0", "q4_1", "q4_k_s", "q4_k_m", "q5_0", "q5_1",
                           "q5_k_s", "q5_k_m", "q6_k", "q8_0", "iq4_nl", "iq4_xs", "bf16"}) {
    const auto reference = GgufFile::Open(absl::StrCat(folder, "/quant/", type, ".gguf"));
    ASSERT_TRUE(reference.ok()) << reference.status();
    ASSERT_TRUE(Quantize(**original, {.type = FindFileType(type)}).ok());
    const auto ours = GgufFile::Open(out());
    for (const GgufTensor& tensor : (*original)->tensors()) {
      ASSERT_EQ((*ours)->FindTensor(tensor.name)->type, (*reference)->FindTensor(tensor.name)->type) << tensor.name;
      const std::vector<float> wanted = Values(**original, tensor.name);
      const double error = RelativeError(Values(**ours, tensor.name), wanted);
      EXPECT_LE(error, 1.02 * RelativeError(Values(**reference, tensor.name), wanted)) << type << " " << tensor.name;
    }
    ++files;
  }
  EXPECT_EQ(files, 17);
}

}  // namespace
}  // namespace tandem::engine
