#include "engine/base/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include <latch>

#include <gtest/gtest.h>

namespace tandem {
namespace {

TEST(InterruptTest, SignalEndsTheWaitAndRunsTheCallbackOnce) {
  Interrupt interrupt;
  EXPECT_FALSE(interrupt.requested());
  std::latch called(1);
  interrupt.OnInterrupt([&called] { called.count_down(); });
  kill(getpid(), SIGTERM);
  interrupt.Wait();
  called.wait();
  EXPECT_TRUE(interrupt.requested());
}

TEST(InterruptTest, CallbackSetAfterTheSignalRunsAtOnce) {
  Interrupt interrupt;
  kill(getpid(), SIGINT);
  interrupt.Wait();
  bool called = false;
  interrupt.OnInterrupt([&called] { called = true; });
  EXPECT_TRUE(called);
}

TEST(InterruptTest, AfterAResetTheNextSignalIsTheFirst) {
  Interrupt interrupt;
  kill(getpid(), SIGINT);
  interrupt.Wait();
  interrupt.Reset();
  EXPECT_FALSE(interrupt.requested());
  std::latch called(1);
  interrupt.OnInterrupt([&called] { called.count_down(); });
  kill(getpid(), SIGINT);
  called.wait();
  EXPECT_TRUE(interrupt.requested());
}

TEST(InterruptTest, EndsWithoutASignal) {
  Interrupt interrupt;
  interrupt.OnInterrupt([] { FAIL() << "no signal was sent"; });
  EXPECT_FALSE(interrupt.requested());
}

}  // namespace
}  // namespace tandem
