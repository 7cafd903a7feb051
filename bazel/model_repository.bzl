"""The language model of the tests, as a repository of one file."""

def _model_repository_impl(repository_ctx):
    # The script keeps the file outside of Bazel's folders, for ./quickstart and every clone.
    for script in repository_ctx.attr._needed:
        repository_ctx.path(script)
    result = repository_ctx.execute([repository_ctx.path(repository_ctx.attr.script)], timeout = 1800)
    if result.return_code != 0:
        fail(result.stderr)
    repository_ctx.symlink(result.stdout.strip(), "model.gguf")
    repository_ctx.file("BUILD", """
filegroup(
    name = "model",
    srcs = ["model.gguf"],
    visibility = ["//visibility:public"],
)
""")

model_repository = repository_rule(
    implementation = _model_repository_impl,
    attrs = {
        "script": attr.label(
            mandatory = True,
            allow_single_file = True,
            doc = "Prints the path of the model file, getting it first if need be.",
        ),
        "_needed": attr.label_list(
            default = ["//tools:fetch-wheel", "//tools:lib.sh"],
            doc = "What the script runs; a change of any fetches again.",
        ),
    },
    environ = ["HOME", "XDG_CACHE_HOME"],
    local = True,
    doc = "A repository with a model as :model, model.gguf among the runfiles of its folder.",
)
