"""Link options for libraries that Debian has in shared form only."""

# The executable looks for them in lib/ beside itself first, which is where a bundle for machines
# without Debian's packages keeps them, and then where the system has them. An RPATH rather than a
# RUNPATH, since it holds for the libraries that those libraries need, too.
FIND_SHARED = [
    "-Wl,--disable-new-dtags",
    "-Wl,-rpath,$$ORIGIN/lib",
]
