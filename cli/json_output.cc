#include "cli/json_output.h"

#include <string>

namespace weir {
namespace {

using Json = nlohmann::ordered_json;

const char* Name(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_MAX_TOKENS:
      return "max_tokens";
    case v1::FINISH_REASON_END_TOKEN:
      return "end_token";
    case v1::FINISH_REASON_STOP_TEXT:
      return "stop_text";
    default:
      return "unspecified";
  }
}

// The JSON library refuses bytes that are no UTF-8; its own dump with replacement mends them.
std::string Utf8(const std::string& bytes) {
  const std::string quoted =
      Json(bytes).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return Json::parse(quoted).get<std::string>();
}

}  // namespace

Json ToJson(const v1::TokenLogprob& token) {
  Json json = {{"token", token.token()}, {"text", Utf8(token.token_bytes())}};
  json["logprob"] = token.has_logprob() ? Json(token.logprob()) : Json(nullptr);
  return json;
}

Json ToJson(const v1::GenerateResponse& response) {
  Json json = {{"text", response.text()}};
  for (const v1::GeneratedToken& token : response.tokens()) {
    Json entry = token.token().has_logprob() ? ToJson(token.token())
                                             : Json{{"token", token.token().token()},
                                                    {"text", Utf8(token.token().token_bytes())}};
    for (const v1::TokenLogprob& top : token.top()) entry["top"].push_back(ToJson(top));
    json["tokens"].push_back(std::move(entry));
  }
  if (response.input_tokens_read() > 0) json["input_tokens_read"] = response.input_tokens_read();
  if (response.input_tokens() > 0) json["input_tokens"] = response.input_tokens();
  if (response.finish_reason() != v1::FINISH_REASON_UNSPECIFIED) {
    json["finish_reason"] = Name(response.finish_reason());
    json["tokens_generated"] = response.tokens_generated();
  }
  return json;
}

Json ToJson(const v1::CascadeSettings& cascade) {
  return {{"sinks", cascade.sinks()},
          {"slots", cascade.slots()},
          {"sub_caches", cascade.sub_caches()},
          {"stride", cascade.stride()},
          {"beta", cascade.beta()},
          {"head_reduction", cascade.head_reduction() == v1::HEAD_REDUCTION_MEAN ? "mean" : "max"}};
}

Json ToJson(const v1::Session& session) {
  return {{"id", session.id()},
          {"model", session.model()},
          {"cascade", ToJson(session.cascade())},
          {"tokens_seen", session.tokens_seen()},
          {"tokens_cached", session.tokens_cached()},
          {"cache_bytes", session.cache_bytes()},
          {"appended_bytes", session.appended_bytes()},
          {"append_open", session.append_open()},
          {"running", session.running()}};
}

Json ToJson(const v1::InspectSessionResponse& layer) {
  Json heads = Json::array();
  for (const v1::HeadMemory& head : layer.heads()) {
    heads.push_back({{"kv_head", head.kv_head()},
                     {"tokens", head.tokens()},
                     {"scores", head.scores()},
                     {"sub_caches", head.sub_caches()}});
  }
  return {{"layer", layer.layer()}, {"heads", std::move(heads)}};
}

}  // namespace weir
