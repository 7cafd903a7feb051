"""C++ libraries whose sources are compiled by nvcc.

On a machine without a CUDA toolkit such targets are incompatible: `bazel build //...` skips them.
"""

load("@cuda//:cuda.bzl", "AVAILABLE", "HOME", "NCCL_AVAILABLE")
load("//bazel:flags.bzl", "SettingInfo")

# For target_compatible_with of anything that needs a CUDA toolkit, or NCCL as well.
NEEDS_CUDA = [] if AVAILABLE else ["//bazel:no_cuda_toolkit"]
NEEDS_NCCL = [] if NCCL_AVAILABLE else ["//bazel:no_cuda_toolkit"]

_FLAGS = [
    "-std=c++20",
    "-ccbin=/usr/bin/g++",
    "-O3",
    "-lineinfo",
    "--expt-relaxed-constexpr",
    "--extended-lambda",
    # Sandboxes share /tmp and number their processes alike, and so does nvcc its files there. This and
    # TMPDIR below keep all of them out of it.
    "--objdir-as-tempdir",
    "-Xcompiler=-fPIC,-Wall",
]

# How a library of the toolkit is linked. libcudart is static; cuBLAS is shared, and for benchmarks only.
# What the executable needs besides, it loads when it is first needed (dlopen), so that it starts where
# there is none.
_LIBRARIES = {
    "cublas": ["-lcublas"],
    "cudart": ["-l:libcudart_static.a", "-ldl", "-lrt", "-pthread"],
}

def _gencode_flags(ctx):
    built = ctx.attr._architectures[SettingInfo].value.split(",")
    chosen = [name for name in built if not ctx.attr.architectures or name in ctx.attr.architectures]

    # A library for one kind of card is compiled for that one even where the flag leaves it out: its
    # callers link against it and choose at run time.
    return [
        "-gencode=arch=compute_{0},code=sm_{0}".format(name)
        for name in chosen or ctx.attr.architectures
    ]

def _cuda_objects_impl(ctx):
    compilation = cc_common.merge_cc_infos(
        cc_infos = [dep[CcInfo] for dep in ctx.attr.deps],
    ).compilation_context
    headers = [file for file in ctx.files.srcs if file.extension not in ["cu", "cc"]]
    inputs = depset(
        ctx.files.hdrs + headers + [ctx.file._toolkit],
        transitive = [compilation.headers],
    )
    roots = [".", ctx.bin_dir.path]
    objects = []
    for source in ctx.files.srcs:
        if source in headers:
            continue
        object = ctx.actions.declare_file("_nvcc/{}/{}.o".format(ctx.label.name, source.basename))
        args = ctx.actions.args()
        args.add_all(_FLAGS)
        if ctx.var["COMPILATION_MODE"] == "opt":
            args.add("-DNDEBUG")
        args.add_all(_gencode_flags(ctx))
        args.add_all(compilation.defines, format_each = "-D%s")
        args.add_all(roots, format_each = "-I%s")
        args.add_all(compilation.quote_includes, format_each = "-I%s")
        args.add_all(compilation.includes, format_each = "-I%s")
        args.add_all(compilation.system_includes, format_each = "-isystem=%s")
        args.add_all(ctx.attr.copts)
        args.add("-x=cu")
        args.add("-c", source)
        args.add("-o", object)
        ctx.actions.run(
            executable = HOME + "/bin/nvcc",
            arguments = [args],
            inputs = depset([source], transitive = [inputs]),
            outputs = [object],
            env = {"PATH": "/usr/bin:/bin", "TMPDIR": object.dirname},
            mnemonic = "CudaCompile",
            progress_message = "Compiling " + source.short_path + " with nvcc",
        )
        objects.append(object)
    return [DefaultInfo(files = depset(objects))]

_cuda_objects = rule(
    implementation = _cuda_objects_impl,
    attrs = {
        "architectures": attr.string_list(),
        "copts": attr.string_list(),
        "deps": attr.label_list(providers = [CcInfo]),
        "hdrs": attr.label_list(allow_files = True),
        "srcs": attr.label_list(allow_files = [".cu", ".cc", ".cuh", ".h"]),
        "_architectures": attr.label(default = "//bazel:cuda_architectures"),
        "_toolkit": attr.label(default = "@cuda//:version.txt", allow_single_file = True),
    },
)

def cuda_library(
        name,
        srcs = [],
        hdrs = [],
        deps = [],
        architectures = [],
        copts = [],
        libraries = [],
        alwayslink = False,
        target_compatible_with = NEEDS_CUDA,
        testonly = False,
        visibility = None):
    """A cc_library whose sources nvcc compiles, .cc files too: they may include CUDA's headers.

    Args:
      name: of the library.
      srcs: .cu and .cc files, and private headers.
      hdrs: public headers. Those that other C++ code includes must not include CUDA's.
      deps: cc_library or cuda_library targets.
      architectures: for code that only some GPUs run, their names ("90a"); by default the code is
          compiled for every one in --//bazel:cuda_architectures.
      copts: more flags for nvcc.
      libraries: of the toolkit, besides cudart: "cublas".
      alwayslink: as of cc_library; for tests, which nothing refers to by name.
      target_compatible_with: NEEDS_NCCL for code that includes nccl.h.
      testonly: as of any rule.
      visibility: as of any rule.
    """
    _cuda_objects(
        name = name + "_objects",
        srcs = srcs,
        hdrs = hdrs,
        architectures = architectures,
        copts = copts,
        target_compatible_with = target_compatible_with,
        testonly = testonly,
        visibility = ["//visibility:private"],
        deps = deps,
    )
    linkopts = ["-L{}/lib64".format(HOME), "-Wl,-rpath,{}/lib64".format(HOME)]
    for library in libraries + ["cudart"]:
        linkopts += [option.format(home = HOME) for option in _LIBRARIES[library]]
    native.cc_library(
        name = name,
        srcs = [name + "_objects"],
        hdrs = hdrs,
        linkopts = linkopts,
        alwayslink = alwayslink,
        target_compatible_with = target_compatible_with,
        testonly = testonly,
        visibility = visibility,
        deps = deps,
    )
