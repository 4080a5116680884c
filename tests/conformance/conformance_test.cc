// docs/MODELS.md says what was measured: its tables are this test's, and all of them pass.
#include "tests/conformance/conformance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "tests/support/reference.h"

namespace tandem::testing {
namespace {

constexpr char kPage[] = TANDEM_SOURCE_DIR "/docs/MODELS.md";

TEST(ConformanceTest, EveryReferencePassesAndThePageSaysSo) {
  if (ReferenceFolder().empty()) GTEST_SKIP() << kNoReference;
  std::string tables;
  for (const ConformanceSection& section : {BlockFormatSection(), QuantisedSection(), ReferenceSection(),
                                            RestatementSection(), TokenizerSection(), ChatTemplateSection()}) {
    EXPECT_THAT(section.failures, ::testing::IsEmpty());
    tables += "\n" + section.markdown;
  }
  std::ifstream in(kPage);
  std::string page(std::istreambuf_iterator<char>(in), {});
  const size_t mark = page.find(kGeneratedMark);
  ASSERT_NE(mark, std::string::npos) << kPage << " has no line " << kGeneratedMark;
  const size_t begin = mark + sizeof(kGeneratedMark) - 1;
  if (std::getenv("TANDEM_UPDATE_DOCS") != nullptr) {
    std::ofstream(kPage) << page.substr(0, begin) << tables;
  } else {
    EXPECT_EQ(page.substr(begin), tables) << "run this test with TANDEM_UPDATE_DOCS=1";
  }
}

}  // namespace
}  // namespace tandem::testing
