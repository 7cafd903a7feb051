#include "cli/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "cli/flags.h"
#include "cli/terminal.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

TEST(NearestTest, FindsWhatWasMeant) {
  const std::vector<std::string> flags = {"--slots", "--sinks", "--sub-caches", "--stride"};
  EXPECT_EQ(Nearest("--slot", flags), "--slots");
  EXPECT_EQ(Nearest("--subcaches", flags), "--sub-caches");
  EXPECT_EQ(Nearest("--stirde", flags), "--stride");
  EXPECT_EQ(Nearest("--sinks", flags), "--sinks");
}

TEST(NearestTest, SuggestsNothingFarAway) {
  EXPECT_EQ(Nearest("--temperature", {"--slots", "--sinks"}), "");
  EXPECT_EQ(Nearest("generate", {}), "");
  EXPECT_EQ(Nearest("", {"serve"}), "");
}

// Runs a command line and returns its exit code and standard error.
struct Result {
  int exit_code = 0;
  std::string error;
};
Result Parse(CommandLine& line, std::vector<std::string> words) {
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  ::testing::internal::CaptureStderr();
  Result result;
  result.exit_code = line.Run(static_cast<int>(argv.size()), argv.data());
  result.error = ::testing::internal::GetCapturedStderr();
  return result;
}

class CommandLineTest : public ::testing::Test {
 protected:
  CommandLineTest() {
    CLI::App* read = line_.Add("read", "Reads.", "weir read", [this] { return status_; });
    cascade_.AddTo(*read);
    generation_.AddTo(*read);
    CLI::App* parent = line_.Add("thing", "Does.", "weir thing make",
                                 [] { return absl::InternalError("the parent ran"); });
    parent->require_subcommand(1);
    line_.AddTo(parent, "make", "Makes.", [this] { return status_; })
        ->add_option("--colour", colour_, "of the thing");
  }

  CommandLine line_;
  absl::Status status_;
  CascadeFlags cascade_;
  GenerationFlags generation_;
  std::string colour_;
};

TEST_F(CommandLineTest, TellsHowItEndedByItsExitCode) {
  EXPECT_EQ(Parse(line_, {"weir", "read"}).exit_code, 0);
  status_ = absl::NotFoundError("no such book");
  const Result failed = Parse(line_, {"weir", "read"});
  EXPECT_EQ(failed.exit_code, 1);
  EXPECT_EQ(failed.error, "weir read: no such book\n");
  status_ = absl::CancelledError("");
  EXPECT_EQ(Parse(line_, {"weir", "read"}).exit_code, 130);
}

TEST_F(CommandLineTest, NamesNestedCommandsWhole) {
  status_ = absl::NotFoundError("no clay");
  const Result failed = Parse(line_, {"weir", "thing", "make"});
  EXPECT_EQ(failed.exit_code, 1);
  EXPECT_EQ(failed.error, "weir thing make: no clay\n");
}

TEST_F(CommandLineTest, SuggestsFlagsAndCommands) {
  Result wrong = Parse(line_, {"weir", "read", "--slot", "3"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_THAT(wrong.error, HasSubstr("unknown flag --slot; did you mean --slots?"));
  wrong = Parse(line_, {"weir", "reed"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_THAT(wrong.error, HasSubstr("unknown command reed; did you mean read?"));
  wrong = Parse(line_, {"weir", "thing", "makes"});
  EXPECT_THAT(wrong.error, HasSubstr("unknown command makes; did you mean make?"));
  wrong = Parse(line_, {"weir", "thing", "make", "--color=red"});
  EXPECT_THAT(wrong.error, HasSubstr("unknown flag --color; did you mean --colour?"));
  EXPECT_THAT(wrong.error, HasSubstr("`weir thing make --help`"));
}

TEST_F(CommandLineTest, CascadeFlagsReachServerAndSession) {
  ASSERT_EQ(Parse(line_, {"weir", "read", "--sinks=1", "--slots=20", "--sub-caches=5", "--stride=7",
                          "--beta=0.5", "--head-reduction=mean"})
                .exit_code,
            0);
  const CascadeConfig config = cascade_.ToConfig();
  EXPECT_EQ(config.sinks, 1);
  EXPECT_EQ(config.slots, 20);
  EXPECT_EQ(config.sub_caches, 5);
  EXPECT_EQ(config.stride, 7);
  EXPECT_EQ(config.beta, 0.5);
  EXPECT_EQ(config.head_reduction, HeadReduction::kMean);
  const v1::CascadeSettings settings = cascade_.ToProto();
  EXPECT_EQ(settings.sinks(), 1);
  EXPECT_EQ(settings.slots(), 20);
  EXPECT_EQ(settings.sub_caches(), 5);
  EXPECT_EQ(settings.stride(), 7);
  EXPECT_EQ(settings.beta(), 0.5);
  EXPECT_EQ(settings.head_reduction(), v1::HEAD_REDUCTION_MEAN);
}

TEST_F(CommandLineTest, FlagsThatWereNotGivenAreNotSet) {
  ASSERT_EQ(Parse(line_, {"weir", "read", "--slots=512"}).exit_code, 0);
  const v1::CascadeSettings settings = cascade_.ToProto();
  EXPECT_TRUE(settings.has_slots());
  EXPECT_FALSE(settings.has_sinks());
  EXPECT_FALSE(settings.has_beta());
  EXPECT_EQ(settings.head_reduction(), v1::HEAD_REDUCTION_UNSPECIFIED);
  EXPECT_EQ(cascade_.ToConfig().sinks, CascadeConfig().sinks);
}

TEST_F(CommandLineTest, GenerationFlagsReachTheRequest) {
  ASSERT_EQ(Parse(line_, {"weir", "read", "--max-tokens=7", "--temperature=0.5", "--top-k=3",
                          "--top-p=0.25", "--seed=18446744073709551615"})
                .exit_code,
            0);
  v1::GenerateRequest request;
  generation_.ApplyTo(request);
  EXPECT_EQ(request.max_tokens(), 7);
  EXPECT_EQ(request.sampling().temperature(), 0.5);
  EXPECT_EQ(request.sampling().top_k(), 3);
  EXPECT_EQ(request.sampling().top_p(), 0.25);
  EXPECT_EQ(request.sampling().seed(), 18446744073709551615u);
}

TEST_F(CommandLineTest, RefusesValuesThatAreNone) {
  for (const char* flag : {"--slots=many", "--beta=x", "--head-reduction=sum", "--seed=-1"}) {
    EXPECT_EQ(Parse(line_, {"weir", "read", flag}).exit_code, 2) << flag;
  }
}

TEST(TerminalTest, WritesNumbersForPeople) {
  EXPECT_EQ(WithCommas(0), "0");
  EXPECT_EQ(WithCommas(999), "999");
  EXPECT_EQ(WithCommas(1000), "1,000");
  EXPECT_EQ(WithCommas(1234567), "1,234,567");
  EXPECT_EQ(WithCommas(-123456), "-123,456");
  EXPECT_EQ(Bytes(1023), "1023 bytes");
  EXPECT_EQ(Bytes(50331648), "48.0 MiB");
  EXPECT_EQ(Bytes(int64_t{3} << 29), "1.5 GiB");
}

}  // namespace
}  // namespace weir
