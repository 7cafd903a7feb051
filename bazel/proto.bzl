"""C++ code from protos: messages and gRPC services, with Debian's protoc and grpc_cpp_plugin."""

def _generate_impl(ctx):
    proto = ctx.attr.proto[ProtoInfo]
    outputs = []
    for source in proto.direct_sources:
        stem = source.basename[:-len(".proto")]
        for suffix in [".pb.h", ".pb.cc", ".grpc.pb.h", ".grpc.pb.cc"]:
            outputs.append(ctx.actions.declare_file(stem + suffix))

    # //proto is the import root: proto/weir/v1/session.proto is imported as weir/v1/session.proto.
    out = ctx.bin_dir.path + "/proto"
    args = ctx.actions.args()
    args.add("--cpp_out=" + out)
    args.add("--grpc_out=" + out)
    args.add("--plugin=protoc-gen-grpc=/usr/bin/grpc_cpp_plugin")
    args.add_all(proto.transitive_proto_path, format_each = "--proto_path=%s")
    args.add_all([
        source.path[len(proto.proto_source_root) + 1:]
        for source in proto.direct_sources
    ])
    ctx.actions.run(
        executable = "/usr/bin/protoc",
        arguments = [args],
        inputs = proto.transitive_sources,
        outputs = outputs,
        mnemonic = "GenerateGrpc",
        progress_message = "Generating C++ from %{label}",
    )
    return [
        DefaultInfo(files = depset(outputs)),
        OutputGroupInfo(
            headers = depset([file for file in outputs if file.extension == "h"]),
            sources = depset([file for file in outputs if file.extension == "cc"]),
        ),
    ]

_generate = rule(
    implementation = _generate_impl,
    attrs = {"proto": attr.label(mandatory = True, providers = [ProtoInfo])},
)

def weir_grpc_library(name, proto, deps = [], visibility = None):
    """The C++ library of a proto_library below //proto: messages and gRPC services.

    A file //proto/weir/v1/session.proto is included as "weir/v1/session.pb.h" and, for its services,
    "weir/v1/session.grpc.pb.h".

    Args:
      name: of the cc_library.
      proto: the proto_library, with strip_import_prefix = "/proto".
      deps: the weir_grpc_library targets of the protos that this one imports.
      visibility: as of any rule.
    """
    _generate(name = name + "_generated", proto = proto, visibility = ["//visibility:private"])
    native.filegroup(
        name = name + "_headers",
        srcs = [name + "_generated"],
        output_group = "headers",
        visibility = ["//visibility:private"],
    )
    native.filegroup(
        name = name + "_sources",
        srcs = [name + "_generated"],
        output_group = "sources",
        visibility = ["//visibility:private"],
    )
    native.cc_library(
        name = name,
        srcs = [name + "_sources"],
        hdrs = [name + "_headers"],
        copts = ["-w"],
        strip_include_prefix = "/proto",
        visibility = visibility,
        deps = deps + [
            "@com_google_protobuf//:protobuf",
            "@grpc//:grpc++",
        ],
    )
