// The executable's commands: what they print, how they end, what they say about wrong input.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "nlohmann/json.hpp"
#include "tests/integration/child.h"
#include "tests/integration/small_model.h"

namespace weir {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::vector<nlohmann::json> JsonLines(const std::string& output) {
  std::vector<nlohmann::json> lines;
  for (absl::string_view line : absl::StrSplit(output, '\n', absl::SkipEmpty())) {
    lines.push_back(nlohmann::json::parse(std::string(line)));
  }
  return lines;
}

std::string Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

std::string Write(const std::string& name, const std::string& content) {
  const std::string path = TestFile(name);
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

TEST(HelpTest, FitsAScreenAndHasAnExample) {
  for (const char* command :
       {"serve", "coordinator", "worker", "generate", "chat", "append", "score", "inspect",
        "session", "tokenize", "health", "bench", "version"}) {
    const Outcome help = RunWeir({command, "--help"});
    EXPECT_EQ(help.exit_code, 0) << command;
    EXPECT_THAT(help.output, HasSubstr(absl::StrCat("\nExample:\n  weir ", command))) << command;
    EXPECT_LE(std::count(help.output.begin(), help.output.end(), '\n'), 45) << command;
  }
  const std::string offline = RunWeir({"bench", "offline", "--help"}).output;
  EXPECT_LE(std::count(offline.begin(), offline.end(), '\n'), 45);
  EXPECT_EQ(RunWeir({"--help"}).exit_code, 0);
  EXPECT_THAT(RunWeir({"version"}).output, StartsWith("weir "));
}

TEST(UsageTest, WrongCommandLinesEndWithTwo) {
  EXPECT_EQ(RunWeir({}).exit_code, 2);
  EXPECT_EQ(RunWeir({"serve"}).exit_code, 2);
  EXPECT_EQ(RunWeir({"coordinator", "--tensor-parallel=-1"}).exit_code, 2);
  EXPECT_EQ(RunWeir({"serve", "--model=x", "--port=65536"}).exit_code, 2);
  EXPECT_EQ(RunWeir({"generate", "hi", "--top-logprobs=21"}).exit_code, 2);
  EXPECT_EQ(RunWeir({"generate", "hi", "--model=x", "--threads=0"}).exit_code, 2);
  const Outcome too_many = RunWeir({"generate", "hi", "--top-k=1025"});
  EXPECT_EQ(too_many.exit_code, 2);
  EXPECT_THAT(too_many.output, HasSubstr("--top-k: Value 1025 not in range 0 to 1024"));
  EXPECT_THAT(RunWeir({"generate", "--help"}).output, HasSubstr("at most 1024"));
  EXPECT_EQ(RunWeir({"generate", "hi", "--model=x", "--server=y"}).exit_code, 2);
  const Outcome wrong = RunWeir({"serve", "--tensor-paralel", "3"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_THAT(wrong.output, HasSubstr("did you mean --tensor-parallel?"));
}

// Runs `weir tokenize` with a model that cannot be read.
void ExpectRefused(const std::string& path, const std::string& words) {
  const Outcome refused = RunWeir({"tokenize", "--model=" + path, "hi"});
  EXPECT_EQ(refused.exit_code, 1) << words;
  EXPECT_THAT(refused.output, StartsWith("weir tokenize: "));
  EXPECT_THAT(refused.output, HasSubstr(words));
  EXPECT_EQ(std::count(refused.output.begin(), refused.output.end(), '\n'), 1) << refused.output;
}

TEST(ModelTest, WrongFilesAreRefusedInOneSentence) {
  ExpectRefused("/nonexistent/model", "No such file");
  ExpectRefused("/tmp", "/tmp is not a regular file");
  ExpectRefused(Write("text", "this is no model, whatever its name"), "is not a GGUF file");
  ExpectRefused(Write("empty", ""), "is truncated or corrupt");
  const std::string model = Read(SmallModelPath());
  for (size_t size : {size_t{10}, size_t{100}, model.size() / 2, model.size() - 1}) {
    ExpectRefused(Write("truncated", model.substr(0, size)), "truncated");
  }
  // Counts that no file can hold.
  for (size_t offset : {8, 16}) {
    std::string lying = model;
    lying.replace(offset, 8, "\xff\xff\xff\xff\xff\xff\xff\x0f");
    ExpectRefused(Write("lying", lying), "count is 1152921504606846975");
  }
}

TEST(ServeTest, RefusesWhatItCannotServe) {
  const auto serve = [](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"serve", "--model=" + SmallModelPath(), "--port=0",
                                          "--metrics-port=0"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = RunWeir(arguments);
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_THAT(outcome.output, StartsWith("weir serve: "));
    EXPECT_EQ(std::count(outcome.output.begin(), outcome.output.end(), '\n'), 1) << outcome.output;
    return outcome.output;
  };
  EXPECT_THAT(serve({"--tensor-parallel=2"}), HasSubstr("possible: 1, 3"));
  EXPECT_THAT(serve({"--slots=4000"}),
              HasSubstr("64 + 4000 + 256 = 4320; the model has 4096 positions"));
  EXPECT_THAT(serve({"--slots=1023"}), HasSubstr("slots is 1023; it must be a multiple of"));
  EXPECT_THAT(serve({"--beta=2"}), HasSubstr("beta is 2"));
  EXPECT_THAT(serve({"--host=nonsense.invalid"}), HasSubstr("nonsense.invalid"));
  // Whether there is no such GPU, no GPU, no driver or no code for one in this build.
  EXPECT_THAT(serve({"--device=cuda", "--gpu=1000"}),
              AnyOf(HasSubstr("--device=cpu"), HasSubstr("GPU 1000 is asked for")));
}

// A loopback port that somebody listens on.
class TakenPort {
 public:
  TakenPort() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(fd_, 1), 0);
    EXPECT_EQ(getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
  }
  ~TakenPort() { close(fd_); }
  int port() const { return port_; }

 private:
  const int fd_;
  int port_ = 0;
};

TEST(PortTest, TakenPortsAreNamed) {
  const TakenPort taken;
  const std::string model = "--model=" + SmallModelPath();
  const auto expect_taken = [&](std::vector<std::string> arguments, const std::string& flag) {
    arguments.push_back(absl::StrCat(flag, "=", taken.port()));
    const Outcome outcome = RunWeir(arguments);
    EXPECT_EQ(outcome.exit_code, 1);
    EXPECT_THAT(outcome.output, HasSubstr(absl::StrCat("cannot listen on 127.0.0.1:", taken.port(),
                                                       ": Address already in use\n")));
  };
  expect_taken({"serve", model, "--metrics-port=0"}, "--port");
  expect_taken({"serve", model, "--port=0"}, "--metrics-port");
  expect_taken({"coordinator", "--group-port=0", "--metrics-port=0"}, "--port");
  expect_taken({"coordinator", "--port=0", "--metrics-port=0"}, "--group-port");
  expect_taken({"coordinator", "--port=0", "--group-port=0"}, "--metrics-port");
  expect_taken({"worker", model, "--metrics-port=0"}, "--port");
  expect_taken({"worker", model, "--port=0"}, "--metrics-port");
}

TEST(ClientTest, SaysThatNobodyAnswers) {
  int free_port = 0;
  { free_port = TakenPort().port(); }
  const std::string address = absl::StrCat("127.0.0.1:", free_port);
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"generate", "hi"},
                                             {"score", "hi"},
                                             {"tokenize", "hi"},
                                             {"inspect"},
                                             {"health"},
                                             {"session", "create"}}) {
    std::vector<std::string> with_server = arguments;
    with_server.push_back("--server=" + address);
    const Outcome outcome = RunWeir(with_server);
    EXPECT_EQ(outcome.exit_code, 1) << arguments[0];
    EXPECT_THAT(outcome.output, HasSubstr("no Weir server answers at " + address));
  }
}

class CommandsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    std::vector<std::string> arguments = SmallServerFlags();
    arguments.insert(arguments.begin(), "serve");
    arguments.push_back("--port=0");
    arguments.push_back("--metrics-port=0");
    server_ = new Child(arguments);
    address_ = new std::string(server_->WaitFor("serving gRPC on "));
    ASSERT_FALSE(address_->empty()) << server_->output();
  }
  static void TearDownTestSuite() {
    delete server_;
    delete address_;
  }

  static Outcome Call(std::vector<std::string> arguments) {
    arguments.push_back("--server=" + *address_);
    return RunWeir(arguments);
  }
  static std::string NewSession() {
    const Outcome created = Call({"session", "create"});
    EXPECT_EQ(created.exit_code, 0) << created.output;
    return created.output.substr(0, created.output.find('\n'));
  }

  static Child* server_;
  static std::string* address_;
};

Child* CommandsTest::server_ = nullptr;
std::string* CommandsTest::address_ = nullptr;

TEST_F(CommandsTest, GenerateStreamsJson) {
  const Outcome answer =
      Call({"generate", "the hen", "--max-tokens=5", "--ignore-end", "--top-logprobs=2", "--json"});
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  const std::vector<nlohmann::json> lines = JsonLines(answer.output);
  size_t tokens = 0;
  for (const nlohmann::json& line : lines) {
    if (!line.contains("tokens")) continue;
    for (const nlohmann::json& token : line["tokens"]) {
      ++tokens;
      EXPECT_EQ(token["top"].size(), 2u);
    }
  }
  EXPECT_EQ(tokens, 5u);
  EXPECT_EQ(lines.back()["finish_reason"], "max_tokens");
  EXPECT_EQ(lines.back()["tokens_generated"], 5);
}

TEST_F(CommandsTest, ScoreGivesEveryToken) {
  const Outcome score = Call({"score", "the hen", "--json"});
  ASSERT_EQ(score.exit_code, 0) << score.output;
  const std::vector<nlohmann::json> tokens = JsonLines(score.output);
  ASSERT_GE(tokens.size(), 2u);
  EXPECT_TRUE(tokens[0]["logprob"].is_null());
  EXPECT_LT(tokens[1]["logprob"], 0);
  std::string text;
  for (const nlohmann::json& token : tokens) text += token["text"].get<std::string>();
  EXPECT_EQ(text, "the hen");
  EXPECT_THAT(Call({"score", "the hen"}).output, HasSubstr("perplexity"));
}

TEST_F(CommandsTest, TokenizeIsTheSameOnAServerAndInProcess) {
  const Outcome remote = Call({"tokenize", "the hen \u20ac"});
  EXPECT_EQ(remote.exit_code, 0);
  EXPECT_THAT(remote.output, HasSubstr("\"he\""));
  const Outcome local = RunWeir({"tokenize", "--model=" + SmallModelPath(), "the hen \u20ac"});
  EXPECT_EQ(local.exit_code, 0);
  EXPECT_EQ(local.output, remote.output);
}

TEST_F(CommandsTest, SessionReadsAndIsInspected) {
  const std::string id = NewSession();
  ASSERT_EQ(id.size(), 32u);
  std::string text;
  for (int i = 0; i < 200; ++i) absl::StrAppend(&text, "the hen ", i, " and ");
  const Outcome read = Call({"append", id, Write("book", text), "--json"});
  ASSERT_EQ(read.exit_code, 0) << read.output;
  const nlohmann::json session = nlohmann::json::parse(read.output);
  EXPECT_EQ(session["appended_bytes"], text.size());
  EXPECT_EQ(session["tokens_cached"], 68);
  EXPECT_THAT(Call({"inspect"}).output, HasSubstr(id));

  const std::string svg = TestFile("memory.svg");
  const Outcome picture = Call({"inspect", id, "--svg", svg});
  EXPECT_EQ(picture.exit_code, 0);
  EXPECT_THAT(picture.output, HasSubstr("layer   1 |"));
  EXPECT_THAT(Read(svg), StartsWith("<svg "));
  EXPECT_EQ(JsonLines(Call({"inspect", id, "--json"}).output).size(), 2u);
  const Outcome no_layer = Call({"inspect", id, "--layer=9"});
  EXPECT_EQ(no_layer.exit_code, 1);
  EXPECT_THAT(no_layer.output, HasSubstr("layers 0 to 1"));

  EXPECT_EQ(Call({"session", "delete", id}).exit_code, 0);
  const Outcome gone = Call({"session", "delete", id});
  EXPECT_EQ(gone.exit_code, 1);
  EXPECT_EQ(gone.output, "weir session delete: there is no session " + id + "\n");
}

TEST_F(CommandsTest, WrongInputIsOneSentence) {
  const auto expect_refused = [](const std::vector<std::string>& arguments,
                                 const std::string& words) {
    const Outcome refused = Call(arguments);
    EXPECT_EQ(refused.exit_code, 1) << words;
    EXPECT_THAT(refused.output, HasSubstr(words));
    EXPECT_EQ(std::count(refused.output.begin(), refused.output.end(), '\n'), 1) << refused.output;
  };
  expect_refused({"generate", "a\xff"}, "not valid UTF-8");
  expect_refused({"score", "a\xff"}, "not valid UTF-8");
  expect_refused({"tokenize", "a\xff"}, "not valid UTF-8");
  expect_refused({"generate", ""}, "neither text nor chat");
  expect_refused({"score", ""}, "text is empty");
  expect_refused({"generate", "hi", "--temperature=nan"}, "temperature is nan");
  expect_refused({"generate", "hi", "--max-tokens=-5"}, "max_tokens is -5");
  expect_refused({"generate", "hi", "--slots=66"}, "at most 68");
  expect_refused({"generate", "hi", "--session=nonsense"}, "32 hexadecimal digits");
  expect_refused({"append", std::string(32, '0'), "/nonexistent/book"}, "No such file");
}

TEST_F(CommandsTest, InterruptEndsAGenerationAndKeepsTheSession) {
  const std::string id = NewSession();
  {
    Child running({"generate", "the hen", "--session=" + id, "--max-tokens=0", "--ignore-end",
                   "--json", "--server=" + *address_});
    ASSERT_FALSE(running.WaitFor("tokens").empty());
    running.Signal(SIGINT);
    EXPECT_EQ(running.Wait(), 130);
  }
  EXPECT_THAT(Call({"inspect"}).output, HasSubstr(id));
  EXPECT_EQ(Call({"session", "delete", id}).exit_code, 0);
}

TEST_F(CommandsTest, HealthTellsWhatIsServed) {
  const Outcome health = Call({"health"});
  EXPECT_EQ(health.exit_code, 0);
  EXPECT_THAT(health.output, HasSubstr("of 2 sessions open"));
}

}  // namespace
}  // namespace weir
