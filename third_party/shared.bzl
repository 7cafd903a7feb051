"""Link options for libraries that Debian has in shared form only."""

# The executable looks for them in lib/ beside itself first, which is where a bundle for machines
# without Debian's packages keeps them, and then where the system has them.
FIND_SHARED = ["-Wl,-rpath,$$ORIGIN/lib"]
