#ifndef WEIR_TESTS_WORKER_ENGINE_SMALL_ENGINE_H_
#define WEIR_TESTS_WORKER_ENGINE_SMALL_ENGINE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/cascade_config.h"
#include "tests/testing/llama_gguf.h"
#include "worker/engine/engine.h"
#include "worker/engine/rank.h"

namespace weir {

// The small model, settings and texts that the engine's tests share.

inline constexpr CascadeConfig kSmallCascade = {
    .sinks = 4, .slots = 24, .sub_caches = 3, .stride = 8};

// A file of 2 layers with 6 KV heads that 2, 3 and 6 ranks can share, in the test's own folder.
// With quantised weights 2 ranks cut through blocks of the attention's output projection, 3 do not.
std::string SmallModelPath(WeightType type);

// Of the model in float32, with room for 4 sessions and 3 runs.
RankOptions SmallOptions(int tensor_parallel = 1);

// `count` random tokens of the model.
std::vector<int32_t> SmallText(int count, uint64_t seed);

// Opens a session with kSmallCascade; the test fails if it cannot.
void OpenSmall(Engine& engine, const std::string& id);

}  // namespace weir

#endif  // WEIR_TESTS_WORKER_ENGINE_SMALL_ENGINE_H_
