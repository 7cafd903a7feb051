#ifndef WEIR_TESTS_TESTING_RESIDENT_MEMORY_H_
#define WEIR_TESTS_TESTING_RESIDENT_MEMORY_H_

#include <cstdint>

namespace weir {

// Bytes of this process that are in memory now. Ends the program if the system does not tell.
int64_t ResidentBytes();

}  // namespace weir

#endif  // WEIR_TESTS_TESTING_RESIDENT_MEMORY_H_
