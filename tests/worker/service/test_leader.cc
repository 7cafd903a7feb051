#include "tests/worker/service/test_leader.h"

#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <utility>

#include "tests/testing/byte_level_tokenizer.h"
#include "tests/testing/gguf_writer.h"
#include "worker/model/gguf.h"
#include "worker/service/sessions.h"

namespace weir {
namespace {

EngineOptions Options() {
  EngineOptions options;
  options.max_sessions = 2;
  options.cascade = {.sinks = 2, .slots = 16, .sub_caches = 2, .stride = 4};
  return options;
}

v1::Model TestModel() {
  v1::Model model;
  model.set_name("test-model");
  model.set_layers(5);
  model.set_tensor_parallel(3);
  return model;
}

std::unique_ptr<GgufFile> TokenizerFile() {
  GgufWriter writer;
  AddByteLevelTokenizer(writer);
  const char* folder = std::getenv("TEST_TMPDIR");
  std::string path = std::string(folder == nullptr ? "/tmp" : folder) + "/tokenizer.XXXXXX";
  close(mkstemp(path.data()));
  writer.WriteFile(path);
  absl::StatusOr<std::unique_ptr<GgufFile>> file = GgufFile::Open(path);
  unlink(path.c_str());
  if (!file.ok()) {
    std::cerr << file.status() << "\n";
    std::abort();
  }
  return *std::move(file);
}

}  // namespace

TestLeader::TestLeader()
    : tokenizer_([this] {
        const std::unique_ptr<GgufFile> file = TokenizerFile();
        absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::FromGguf(*file);
        if (!tokenizer.ok()) {
          std::cerr << tokenizer.status() << "\n";
          std::abort();
        }
        chat_template_ = ChatTemplate::FromGguf(*file, **tokenizer);
        return *std::move(tokenizer);
      }()),
      engine_(Options()),
      leader_{.engine = engine_,
              .tokenizer = *tokenizer_,
              .chat_template = chat_template_,
              .cascade = Options().cascade,
              .model = TestModel()} {}

void TestLeader::Open(const std::string& id) {
  const absl::StatusOr<v1::Session> opened = OpenSession(leader_, id, v1::CascadeSettings());
  if (!opened.ok()) {
    std::cerr << opened.status() << "\n";
    std::abort();
  }
}

std::vector<int32_t> TestLeader::Encode(const std::string& text) const {
  return tokenizer_->Encode(text).value();
}

std::string TestLeader::TextOf(const std::string& id) const {
  return tokenizer_->Decode(engine_.Get(id).Tokens()).value();
}

ScriptedAppendStream& ScriptedAppendStream::Add(int64_t offset, const std::string& text) {
  v1::AppendRequest message;
  if (messages_.empty()) message.set_session_id(session_id_);
  message.set_offset(offset);
  message.set_text(text);
  messages_.push_back(std::move(message));
  return *this;
}

bool ScriptedAppendStream::Read(v1::AppendRequest* request) {
  if (*cancelled_) return false;
  if (next_ < messages_.size()) {
    *request = messages_[next_++];
    request->set_end_of_text(end_ == End::kClosed && next_ == messages_.size());
    return true;
  }
  if (end_ == End::kBroken) *cancelled_ = true;
  return false;
}

}  // namespace weir
