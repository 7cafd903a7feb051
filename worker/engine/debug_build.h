#ifndef WEIR_WORKER_ENGINE_DEBUG_BUILD_H_
#define WEIR_WORKER_ENGINE_DEBUG_BUILD_H_

#include <cassert>

namespace weir {

constexpr bool AssertionsAreChecked() {
  bool checked = false;
  assert((checked = true));
  return checked;
}

// A build for finding faults, in which checks may cost time: one with assertions.
inline constexpr bool kDebugBuild = AssertionsAreChecked();

}  // namespace weir

#endif  // WEIR_WORKER_ENGINE_DEBUG_BUILD_H_
