#include "monitoring/metrics_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "monitoring/buckets.h"
#include "monitoring/metrics.h"
#include "tests/monitoring/promtool.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

// Sends a GET request to 127.0.0.1 and returns the whole answer, headers included.
std::string HttpGet(int port, const std::string& path) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  const std::string request =
      absl::StrCat("GET ", path, " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(send(fd, request.data(), request.size(), 0), static_cast<ssize_t>(request.size()));
  std::string answer;
  char buffer[4096];
  for (ssize_t n; (n = recv(fd, buffer, sizeof(buffer), 0)) > 0;) answer.append(buffer, n);
  close(fd);
  return answer;
}

// The metrics that a scrape of `server` returns.
std::string Scrape(const MetricsServer& server) {
  const std::string answer = HttpGet(server.port(), "/metrics");
  EXPECT_THAT(answer, HasSubstr("200 OK"));
  const size_t body = answer.find("\r\n\r\n");
  EXPECT_NE(body, std::string::npos);
  return answer.substr(body + 4);
}

// The value of the line that starts with `name` and a space; -1 when there is none.
double Value(const std::string& text, const std::string& name) {
  const size_t line = ("\n" + text).find("\n" + name + " ");
  double value = -1;
  if (line == std::string::npos) return value;
  const size_t start = line + name.size() + 1;
  EXPECT_TRUE(absl::SimpleAtod(text.substr(start, text.find('\n', start) - start), &value));
  return value;
}

// One server for all tests: its library takes two seconds to stop.
class MetricsServerTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    metrics_ = new Metrics("1.2.3");
    auto server = MetricsServer::Start(*metrics_, "127.0.0.1:0");
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = server->release();
  }
  static void TearDownTestSuite() {
    delete server_;
    delete metrics_;
  }

  static Metrics* metrics_;
  static MetricsServer* server_;
};

Metrics* MetricsServerTest::metrics_ = nullptr;
MetricsServer* MetricsServerTest::server_ = nullptr;

TEST_F(MetricsServerTest, CountsAreScraped) {
  metrics_->AddCounter("weir_things_total", "Things that were done.").Increment(3);
  metrics_->AddGauge("weir_places", "Places that are free.", {{"kind", "wet"}}).Set(7);
  prometheus::Histogram& histogram =
      metrics_->AddHistogram("weir_thing_seconds", "Time of a thing.", StepSecondsBuckets());
  histogram.Observe(0.0125);
  histogram.Observe(11);

  const std::string text = Scrape(*server_);
  EXPECT_EQ(Value(text, "weir_things_total"), 3);
  EXPECT_EQ(Value(text, "weir_places{kind=\"wet\"}"), 7);
  EXPECT_EQ(Value(text, "weir_thing_seconds_bucket{le=\"0.01\"}"), 0);
  EXPECT_EQ(Value(text, "weir_thing_seconds_bucket{le=\"0.015\"}"), 1);
  EXPECT_EQ(Value(text, "weir_thing_seconds_bucket{le=\"10\"}"), 1);
  EXPECT_EQ(Value(text, "weir_thing_seconds_bucket{le=\"+Inf\"}"), 2);
  EXPECT_EQ(Value(text, "weir_thing_seconds_sum"), 11.0125);
  EXPECT_EQ(Value(text, "weir_build_info{version=\"1.2.3\"}"), 1);
}

TEST(MetricsTest, AMetricAddedAgainGoesOnCounting) {
  Metrics metrics("1.2.3");
  metrics.AddCounter("weir_things_total", "Things that were done.").Increment();
  metrics.AddCounter("weir_things_total", "Things that were done.").Increment();
  EXPECT_EQ(Value(metrics.Serialize(), "weir_things_total"), 2);
}

TEST_F(MetricsServerTest, ProcessMetricsAreTrue) {
  const std::string text = Scrape(*server_);
  double pages = 0;
  double resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  const double resident_bytes = resident * static_cast<double>(sysconf(_SC_PAGESIZE));
  EXPECT_GT(Value(text, "process_resident_memory_bytes"), 0.5 * resident_bytes);
  EXPECT_LT(Value(text, "process_resident_memory_bytes"), 2 * resident_bytes);
  EXPECT_GE(Value(text, "process_virtual_memory_bytes"), resident_bytes);
  EXPECT_GT(Value(text, "process_cpu_seconds_total"), 0);
  EXPECT_GE(Value(text, "process_open_fds"), 4);
  EXPECT_GE(Value(text, "process_max_fds"), Value(text, "process_open_fds"));
  const double now = static_cast<double>(time(nullptr));
  EXPECT_GT(Value(text, "process_start_time_seconds"), now - 3600);
  EXPECT_LT(Value(text, "process_start_time_seconds"), now + 2);
}

TEST_F(MetricsServerTest, PromtoolFindsNothingToCriticise) {
  metrics_->AddCounter("weir_good_things_total", "Things that were done well.").Increment();
  metrics_->AddHistogram("weir_call_seconds", "Time of a call.", CallSecondsBuckets()).Observe(1);
  EXPECT_EQ(CheckWithPromtool(Scrape(*server_)), 0);
}

TEST(MetricsTest, PromtoolWouldCriticise) {
  Metrics metrics("1.2.3");
  metrics.AddCounter("weir_things", "A counter without `_total`.").Increment();
  EXPECT_NE(CheckWithPromtool(metrics.Serialize()), 0);
}

TEST_F(MetricsServerTest, AnAddressInUseIsNamed) {
  const std::string address = absl::StrCat("127.0.0.1:", server_->port());
  const auto second = MetricsServer::Start(*metrics_, address);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(address));
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("in use"));
}

TEST_F(MetricsServerTest, OnlyMetricsAreServed) {
  EXPECT_THAT(HttpGet(server_->port(), "/etc/passwd"), HasSubstr("404"));
}

TEST(BucketsTest, BoundsAscend) {
  for (const auto& buckets : {OverheadSecondsBuckets(), StepSecondsBuckets(), WaitSecondsBuckets(),
                              CallSecondsBuckets()}) {
    for (size_t i = 1; i < buckets.size(); ++i) EXPECT_LT(buckets[i - 1], buckets[i]);
  }
}

}  // namespace
}  // namespace weir
