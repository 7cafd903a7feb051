"""Finds a CUDA toolkit, if this machine has one.

The toolkit is looked for in $CUDA_HOME (default /usr/local/cuda). Without one the repository still
exists, `AVAILABLE` is False, and everything that needs CUDA is skipped by `bazel build //...`.
"""

_BUILD = """
package(default_visibility = ["//visibility:public"])

exports_files(["version.txt"])
"""

def _cuda_repository_impl(repository_ctx):
    home = repository_ctx.os.environ.get("CUDA_HOME", "/usr/local/cuda")
    nvcc = repository_ctx.path(home + "/bin/nvcc")
    nccl = repository_ctx.path(home + "/include/nccl.h")
    version = "none"
    if nvcc.exists:
        result = repository_ctx.execute([nvcc, "--version"])
        if result.return_code != 0:
            fail("{} does not run: {}".format(nvcc, result.stderr))
        version = result.stdout
    repository_ctx.file("BUILD", _BUILD)
    repository_ctx.file("version.txt", version)
    repository_ctx.file("cuda.bzl", "\n".join([
        '"""What the repository rule found on this machine."""',
        "",
        "AVAILABLE = {}".format(nvcc.exists),
        "NCCL_AVAILABLE = {}".format(nvcc.exists and nccl.exists),
        "HOME = {}".format(repr(str(repository_ctx.path(home).realpath) if nvcc.exists else "")),
        "",
    ]))

cuda_repository = repository_rule(
    implementation = _cuda_repository_impl,
    environ = ["CUDA_HOME"],
    local = True,
    doc = "A repository that tells whether and where there is a CUDA toolkit.",
)
