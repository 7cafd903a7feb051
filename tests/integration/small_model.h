#ifndef WEIR_TESTS_INTEGRATION_SMALL_MODEL_H_
#define WEIR_TESTS_INTEGRATION_SMALL_MODEL_H_

#include <string>
#include <vector>

namespace weir {

// A complete model file with random weights, written once a process: 2 layers, 6 heads, 3 KV heads,
// 4096 positions, the tokens of AddByteLevelTokenizer. 1 or 3 ranks can share it.
const std::string& SmallModelPath();

// --sinks=4 --slots=64 --sub-caches=2 --stride=16 --max-sessions=2 --threads=1
std::vector<std::string> SmallServerFlags();

}  // namespace weir

#endif  // WEIR_TESTS_INTEGRATION_SMALL_MODEL_H_
