"""The builtin ProtoInfo under a second name: a .bzl file cannot export a builtin under its own."""

PROTO_INFO = ProtoInfo
