#ifndef WEIR_TESTS_TESTING_SMALL_CONFIG_H_
#define WEIR_TESTS_TESTING_SMALL_CONFIG_H_

#include <string>

#include "nlohmann/json.hpp"

namespace weir {

// The config.json of a Hugging Face Llama that 1 or 2 ranks can share: 3 layers, hidden 64, 4 query
// and 2 KV heads of 32, feed-forward 96, 300 tokens, 4096 positions, untied, no rope scaling.
nlohmann::ordered_json SmallConfig();

// Writes it to a file, or ends the test program with a message.
void WriteConfig(const std::string& path, const nlohmann::ordered_json& config = SmallConfig());

}  // namespace weir

#endif  // WEIR_TESTS_TESTING_SMALL_CONFIG_H_
