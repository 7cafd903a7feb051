#ifndef WEIR_KERNELS_HOST_BOOT_H_
#define WEIR_KERNELS_HOST_BOOT_H_

#include <fstream>
#include <string>

namespace weir {

// Tells this host from all others, and this start of it from those before: a random number that
// its kernel draws. Containers of one host have the same. Empty where there is none.
inline std::string HostBootId() {
  std::string id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> id;
  return id;
}

}  // namespace weir

#endif  // WEIR_KERNELS_HOST_BOOT_H_
