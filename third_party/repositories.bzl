"""All external repositories of Weir, in one place."""

load("//third_party:system_library.bzl", "system_library")

_LIB = "/usr/lib/x86_64-linux-gnu/"

def rule_set_shims():
    """Local stand-ins for the rule sets that Bazel would otherwise download at start."""
    for name in ["rules_cc", "rules_java", "rules_proto", "remote_coverage_tools"]:
        native.local_repository(name = name, path = "third_party/rules/" + name)

def system_libraries():
    """The C++ libraries of Debian 12 that Weir is built on."""
    system_library(
        name = "absl",
        build_file = "//third_party:absl.BUILD",
        debian_package = "libabsl-dev",
        requires = ["/usr/include/absl/status/status.h", _LIB + "libabsl_status.a"],
    )
    system_library(
        name = "benchmark",
        build_file = "//third_party:benchmark.BUILD",
        debian_package = "libbenchmark-dev",
        requires = ["/usr/include/benchmark/benchmark.h"],
    )
    system_library(
        name = "cli11",
        build_file = "//third_party:cli11.BUILD",
        debian_package = "libcli11-dev",
        requires = ["/usr/include/CLI/CLI.hpp"],
    )
    system_library(
        name = "com_google_protobuf",
        build_file = "//third_party:protobuf.BUILD",
        debian_package = "libprotobuf-dev protobuf-compiler",
        links = {"include/google": "/usr/include/google"},
        requires = ["/usr/include/google/protobuf/message.h", _LIB + "libprotobuf.a", "/usr/bin/protoc"],
    )
    system_library(
        name = "gloo",
        build_file = "//third_party:gloo.BUILD",
        debian_package = "libgloo-dev",
        requires = ["/usr/include/gloo/context.h", "/usr/lib/libgloo.so"],
    )
    system_library(
        name = "googletest",
        build_file = "//third_party:googletest.BUILD",
        debian_package = "libgtest-dev libgmock-dev",
        requires = ["/usr/include/gtest/gtest.h", "/usr/include/gmock/gmock.h"],
    )
    system_library(
        name = "grpc",
        build_file = "//third_party:grpc.BUILD",
        debian_package = "libgrpc++-dev protobuf-compiler-grpc",
        requires = ["/usr/include/grpcpp/grpcpp.h", _LIB + "libgrpc++.a", "/usr/bin/grpc_cpp_plugin"],
    )
    system_library(
        name = "highway",
        build_file = "//third_party:highway.BUILD",
        debian_package = "libhwy-dev",
        requires = ["/usr/include/hwy/highway.h"],
    )
    system_library(
        name = "libedit",
        build_file = "//third_party:libedit.BUILD",
        debian_package = "libedit-dev",
        requires = ["/usr/include/histedit.h", _LIB + "libedit.a"],
    )
    system_library(
        name = "nlohmann_json",
        build_file = "//third_party:nlohmann_json.BUILD",
        debian_package = "nlohmann-json3-dev",
        requires = ["/usr/include/nlohmann/json.hpp"],
    )
    system_library(
        name = "prometheus_cpp",
        build_file = "//third_party:prometheus_cpp.BUILD",
        debian_package = "prometheus-cpp-dev",
        requires = ["/usr/include/prometheus/exposer.h"],
    )
