// OpenBLAS 0.3.21 knows processors by their model number and falls back to SSE3 kernels on those
// that are newer than itself: a fifth of the speed on an Emerald Rapids. It can be told by
// environment variable, but reads that in a static constructor. So this constructor, which runs
// before all that have no priority, chooses by the instructions the processor offers. A user's own
// setting stays.

#include <cstdlib>

namespace {

const char* CoreType() {
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    return "SkylakeX";
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "Haswell";
  return nullptr;
}

[[gnu::constructor(101)]] void ChooseOpenBlasCoreType() {
  __builtin_cpu_init();
  constexpr int kKeepExisting = 0;
  if (const char* core_type = CoreType()) setenv("OPENBLAS_CORETYPE", core_type, kKeepExisting);
}

}  // namespace
