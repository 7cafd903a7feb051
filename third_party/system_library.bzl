"""Libraries of the Debian system as Bazel repositories.

Headers come from the compiler's own /usr/include and archives from its own library path, so such a
repository is a BUILD file of link options. The rule adds one thing: where a library is not
installed, the build ends with the name of the Debian package instead of a compiler error.
"""

def _system_library_impl(repository_ctx):
    for file in repository_ctx.attr.requires:
        if not repository_ctx.path(file).exists:
            fail("{} is missing. Install it with: sudo apt-get install {}".format(
                file,
                repository_ctx.attr.debian_package,
            ))
    for link, target in repository_ctx.attr.links.items():
        repository_ctx.symlink(target, link)
    repository_ctx.symlink(repository_ctx.attr.build_file, "BUILD")

system_library = repository_rule(
    implementation = _system_library_impl,
    attrs = {
        "build_file": attr.label(
            mandatory = True,
            allow_single_file = True,
            doc = "The BUILD file of the repository.",
        ),
        "debian_package": attr.string(
            mandatory = True,
            doc = "The package to name when a required file is missing.",
        ),
        "links": attr.string_dict(
            doc = "Path inside the repository -> absolute path of the system folder it shows.",
        ),
        "requires": attr.string_list(
            mandatory = True,
            doc = "Absolute paths that must exist.",
        ),
    },
    local = True,
    doc = "A repository for a library that is installed in the system.",
)
