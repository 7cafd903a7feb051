"""Bazel's native proto rules under the names of the rule set, so that nothing is downloaded."""

load(":proto_info.bzl", _ProtoInfo = "PROTO_INFO")

proto_lang_toolchain = native.proto_lang_toolchain
proto_library = native.proto_library
ProtoInfo = _ProtoInfo
