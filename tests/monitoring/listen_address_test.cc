#include "monitoring/listen_address.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace weir {
namespace {

using ::testing::HasSubstr;

TEST(ListenAddressTest, FreePortsAreFine) {
  EXPECT_TRUE(CheckListenAddress("127.0.0.1:0").ok());
  EXPECT_TRUE(CheckListenAddress("0.0.0.0:0").ok());
  EXPECT_TRUE(CheckListenAddress("localhost:0").ok());
}

TEST(ListenAddressTest, AListenerIsFoundEvenIfItSharesItsPort) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
  sockaddr_in bound = {};
  bound.sin_family = AF_INET;
  bound.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&bound), sizeof(bound)), 0);
  ASSERT_EQ(listen(fd, 1), 0);
  socklen_t size = sizeof(bound);
  ASSERT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &size), 0);
  const std::string port = absl::StrCat(ntohs(bound.sin_port));

  for (const std::string host : {"127.0.0.1:", "0.0.0.0:", "localhost:"}) {
    const absl::Status status = CheckListenAddress(host + port);
    EXPECT_EQ(status.code(), absl::StatusCode::kAlreadyExists) << host;
    EXPECT_EQ(status.message(),
              absl::StrCat("cannot listen on ", host, port, ": Address already in use"));
  }
  close(fd);
  EXPECT_TRUE(CheckListenAddress("127.0.0.1:" + port).ok());
}

TEST(ListenAddressTest, WhatIsNoAddressIsToldSo) {
  for (const std::string address :
       {"", "8080", ":8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:-1",
        "127.0.0.1:65536", "::1:8080", "300.0.0.1:80"}) {
    const absl::Status status = CheckListenAddress(address);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << address;
    EXPECT_THAT(std::string(status.message()), HasSubstr("\"" + address + "\"")) << address;
  }
}

TEST(ListenAddressTest, AnotherMachinesAddressIsRefused) {
  // 192.0.2.0/24 is kept for documentation: no machine has it.
  EXPECT_EQ(CheckListenAddress("192.0.2.1:0").code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace weir
