#ifndef WEIR_CLI_JSON_OUTPUT_H_
#define WEIR_CLI_JSON_OUTPUT_H_

#include "nlohmann/json.hpp"
#include "weir/v1/generation.pb.h"
#include "weir/v1/session.pb.h"

namespace weir {

// The API's messages as the JSON that --json prints. Bytes that are no UTF-8 become U+FFFD; a
// log-probability that does not exist is null.
nlohmann::ordered_json ToJson(const v1::GenerateResponse& response);
nlohmann::ordered_json ToJson(const v1::TokenLogprob& token);
nlohmann::ordered_json ToJson(const v1::Session& session);
nlohmann::ordered_json ToJson(const v1::CascadeSettings& cascade);
nlohmann::ordered_json ToJson(const v1::InspectSessionResponse& layer);

}  // namespace weir

#endif  // WEIR_CLI_JSON_OUTPUT_H_
