#include "engine/chat/json_value.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/chat/budget.h"
#include "engine/chat/operators.h"

namespace tandem::engine::jinja {
namespace {

using ::testing::HasSubstr;

std::string Printed(absl::string_view json) {
  const auto value = ValueFromJson(json);
  if (!value.ok()) return std::string(value.status().message());
  Budget budget;
  return TextOf(*value, &budget).value();
}

TEST(JsonValueTest, KeepsTypesAndTheOrderOfKeys) {
  EXPECT_EQ(Printed(R"({"b": [1, -2.5, true, null, "x"], "a": {}})"), "{'b': [1, -2.5, True, None, 'x'], 'a': {}}");
  EXPECT_EQ(Printed("9223372036854775807"), "9223372036854775807");
  EXPECT_EQ(Printed(R"("\u00e9\ud83d\ude00")"), "\xC3\xA9\xF0\x9F\x98\x80");
}

TEST(JsonValueTest, RefusesWhatIsNoJsonAndWhatIsTooMuch) {
  EXPECT_THAT(Printed("{\"a\": }"), HasSubstr("column 7"));
  EXPECT_THAT(Printed("\"\xFF\""), HasSubstr("not JSON"));
  EXPECT_THAT(Printed(""), HasSubstr("not JSON"));
  EXPECT_THAT(Printed("18446744073709551615"), HasSubstr("18446744073709551615 does not fit 64 bits"));
  EXPECT_THAT(Printed(std::string(100, '[') + std::string(100, ']')), HasSubstr("deeper than 64"));
  EXPECT_THAT(Printed(std::string(100000, '[') + std::string(100000, ']')), HasSubstr("deeper than 64"));
}

}  // namespace
}  // namespace tandem::engine::jinja
