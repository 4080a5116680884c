#include "proto/support/status_convert.h"

#include <gtest/gtest.h>

namespace tandem::proto_support {
namespace {

TEST(StatusConvertTest, EveryCodeSurvivesBothWays) {
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "what went wrong");
    const grpc::Status converted = ToGrpc(status);
    EXPECT_EQ(static_cast<int>(converted.error_code()), code);
    EXPECT_EQ(converted.error_message(), "what went wrong");
    EXPECT_EQ(FromGrpc(converted), status);
  }
  EXPECT_TRUE(ToGrpc(absl::OkStatus()).ok());
  EXPECT_TRUE(FromGrpc(grpc::Status::OK).ok());
}

TEST(StatusConvertTest, UnknownCodeBecomesUnknown) {
  for (const int code : {17, 31, -1}) {
    const absl::Status status = FromGrpc(grpc::Status(static_cast<grpc::StatusCode>(code), "new"));
    EXPECT_EQ(status.code(), absl::StatusCode::kUnknown);
    EXPECT_EQ(status.message(), "new");
  }
}

TEST(StatusConvertTest, LongMessageIsCutToFitTheTrailers) {
  const grpc::Status status = ToGrpc(absl::InternalError(std::string(100000, 'x')));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_EQ(status.error_message(), std::string(2048, 'x'));
}

}  // namespace
}  // namespace tandem::proto_support
