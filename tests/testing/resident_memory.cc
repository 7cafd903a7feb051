#include "tests/testing/resident_memory.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

namespace weir {

int64_t ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t all_pages = 0;
  int64_t resident_pages = 0;
  statm >> all_pages >> resident_pages;
  if (!statm) {
    std::fprintf(stderr, "ResidentBytes: /proc/self/statm cannot be read\n");
    std::abort();
  }
  return resident_pages * sysconf(_SC_PAGESIZE);
}

}  // namespace weir
