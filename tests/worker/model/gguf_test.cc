#include "worker/model/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/testing/byte_level_tokenizer.h"
#include "tests/testing/gguf_writer.h"

namespace weir {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::string TemporaryPath() {
  return absl::StrCat(testing::TempDir(), "/gguf_test_", getpid(), ".gguf");
}

absl::StatusOr<std::unique_ptr<GgufFile>> OpenBytes(absl::string_view bytes) {
  unlink(TemporaryPath().c_str());  // Writing a new file is much faster than replacing one.
  WriteFileOrDie(TemporaryPath(), bytes);
  return GgufFile::Open(TemporaryPath());
}

absl::StatusOr<std::unique_ptr<GgufFile>> OpenWritten(const GgufWriter& writer) {
  return OpenBytes(writer.Serialize());
}

std::string Message(const GgufWriter& writer) {
  const auto file = OpenWritten(writer);
  return file.ok() ? "opened" : std::string(file.status().message());
}

GgufWriter SmallFile(uint32_t version = 3) {
  GgufWriter writer(version);
  writer.AddString("general.architecture", "llama");
  writer.AddUint32("a.uint32", 7);
  writer.AddUint64("a.uint64", uint64_t{1} << 40);
  writer.AddInt32("a.negative", -3);
  writer.AddFloat32("a.float32", 0.5f);
  writer.AddFloat64("a.float64", 0.1);
  writer.AddBool("a.true", true);
  writer.AddBool("a.false", false);
  writer.AddStringArray("a.strings", {"one", "", "three"});
  writer.AddInt32Array("a.integers", {1, -2, 3});
  const std::string nested("\x09\0\0\0\x01\0\0\0\0\0\0\0\x00\0\0\0\x02\0\0\0\0\0\0\0\x05\x06", 26);
  writer.AddRaw("a.nested", 9, nested);
  std::vector<float> values(64 * 3);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  writer.AddTensor("matrix", WeightType::kF32, {64, 3}, values);
  writer.AddTensor("vector", WeightType::kF16, {5}, {1, 2, 3, 4, 5});
  writer.AddTensor("blocks", WeightType::kQ4_1, {32, 2}, absl::MakeSpan(values).subspan(0, 64));
  return writer;
}

class VersionTest : public testing::TestWithParam<uint32_t> {};

TEST_P(VersionTest, ReadsMetadataAndTensors) {
  const auto opened = OpenWritten(SmallFile(GetParam()));
  ASSERT_TRUE(opened.ok()) << opened.status();
  const GgufFile& file = **opened;
  EXPECT_EQ(file.version(), GetParam());
  EXPECT_EQ(file.path(), TemporaryPath());

  EXPECT_EQ(*file.GetString("general.architecture"), "llama");
  EXPECT_EQ(*file.GetUint("a.uint32"), 7u);
  EXPECT_EQ(*file.GetUint("a.uint64"), uint64_t{1} << 40);
  EXPECT_EQ(*file.GetFloat("a.float32"), 0.5);
  EXPECT_EQ(*file.GetFloat("a.float64"), 0.1);
  EXPECT_TRUE(*file.GetBool("a.true"));
  EXPECT_FALSE(*file.GetBool("a.false"));
  EXPECT_THAT(*file.GetStringArray("a.strings"), ElementsAre("one", "", "three"));
  EXPECT_THAT(*file.GetIntArray("a.integers"), ElementsAre(1, -2, 3));
  EXPECT_TRUE(file.Has("a.nested"));
  EXPECT_FALSE(file.Has("a.missing"));
  EXPECT_EQ(*file.GetUintOr("a.missing", 9), 9u);
  EXPECT_EQ(*file.GetUintOr("a.uint32", 9), 7u);
  EXPECT_EQ(*file.GetStringOr("a.missing", "x"), "x");
  EXPECT_EQ(*file.GetFloatOr("a.missing", 2.5), 2.5);
  EXPECT_TRUE(*file.GetBoolOr("a.missing", true));

  ASSERT_EQ(file.tensors().size(), 3u);
  EXPECT_EQ(file.tensors()[0].name, "matrix");
  const GgufTensor* matrix = file.Find("matrix");
  ASSERT_NE(matrix, nullptr);
  EXPECT_THAT(matrix->dims, ElementsAre(64, 3));
  EXPECT_EQ(matrix->type, WeightType::kF32);
  EXPECT_EQ(matrix->size, 64 * 3 * 4);
  float last;
  std::memcpy(&last, matrix->data + matrix->size - sizeof(last), sizeof(last));
  EXPECT_EQ(last, 64 * 3 - 1);
  EXPECT_EQ(file.Find("vector")->size, 10);
  EXPECT_EQ(file.Find("blocks")->size, 40);
  EXPECT_EQ(file.Find("nothing"), nullptr);
}

INSTANTIATE_TEST_SUITE_P(Versions, VersionTest, testing::Values(2, 3));

TEST(GgufTest, SaysWhichValueIsMissingOrOfAnotherType) {
  const auto opened = OpenWritten(SmallFile());
  ASSERT_TRUE(opened.ok()) << opened.status();
  const GgufFile& file = **opened;
  const absl::Status missing = file.GetUint("a.missing").status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.message()),
              AllOf(HasSubstr("a.missing"), HasSubstr(file.path())));
  for (const absl::Status& status :
       {file.GetUint("a.float32").status(), file.GetUint("a.negative").status(),
        file.GetFloat("a.uint32").status(), file.GetBool("a.uint32").status(),
        file.GetString("a.uint32").status(), file.GetStringArray("a.integers").status(),
        file.GetIntArray("a.strings").status(), file.GetIntArray("a.uint32").status(),
        file.GetStringOr("a.true", "").status(), file.GetUint("a.nested").status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("'a."), HasSubstr(file.path())));
  }
  EXPECT_THAT(std::string(file.GetUint("a.negative").status().message()), HasSubstr("-3"));
}

TEST(GgufTest, MissingFilesAndOtherThings) {
  EXPECT_EQ(GgufFile::Open("/nonexistent/model.gguf").status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(GgufFile::Open(testing::TempDir()).status().message()),
              HasSubstr("not a regular file"));
  EXPECT_THAT(std::string(OpenBytes("").status().message()), HasSubstr("truncated"));
  EXPECT_THAT(std::string(OpenBytes("PK\x03\x04 something else").status().message()),
              HasSubstr("not a GGUF file"));
}

TEST(GgufTest, RefusesOtherVersions) {
  EXPECT_THAT(Message(SmallFile(1)), HasSubstr("version 1"));
  EXPECT_THAT(Message(SmallFile(4)), HasSubstr("version 4"));
  EXPECT_THAT(Message(SmallFile(0x03000000)), HasSubstr("big-endian"));
}

TEST(GgufTest, RefusesTypesThatItDoesNotRead) {
  GgufWriter writer;
  writer.AddRawTensor("blk.0.attn_q.weight", 14, {256, 2}, std::string(420, 'x'));
  EXPECT_THAT(Message(writer), AllOf(HasSubstr("blk.0.attn_q.weight"), HasSubstr("Q6_K")));
  GgufWriter unknown;
  unknown.AddRawTensor("t", 999, {4}, std::string(16, 'x'));
  EXPECT_THAT(Message(unknown), HasSubstr("number 999"));
}

TEST(GgufTest, RefusesNamesThatAppearTwice) {
  GgufWriter keys = SmallFile();
  keys.AddUint32("a.uint32", 8);
  EXPECT_THAT(Message(keys), HasSubstr("two metadata values named 'a.uint32'"));
  GgufWriter tensors = SmallFile();
  tensors.AddTensor("vector", WeightType::kF32, {1}, {1});
  EXPECT_THAT(Message(tensors), HasSubstr("two tensors named 'vector'"));
}

TEST(GgufTest, RefusesLiesAboutTensors) {
  const auto with_tensor = [](std::vector<int64_t> dims, std::string bytes, uint64_t offset) {
    GgufWriter writer = SmallFile();
    writer.AddMisplacedTensor("lie", 0, std::move(dims), std::move(bytes), offset);
    return Message(writer);
  };
  const std::string data(64, 'x');
  EXPECT_EQ(with_tensor({16}, data, 864), "opened");
  EXPECT_THAT(with_tensor({16}, data, 868), HasSubstr("alignment"));
  EXPECT_THAT(with_tensor({16}, data, 0), HasSubstr("overlap"));
  EXPECT_THAT(with_tensor({16}, data, 896), HasSubstr("truncated"));
  EXPECT_THAT(with_tensor({16}, data, ~uint64_t{31}), HasSubstr("truncated"));
  EXPECT_THAT(with_tensor({32}, data, 864), HasSubstr("truncated"));
  EXPECT_THAT(with_tensor({}, data, 864), HasSubstr("dimensions"));
  EXPECT_THAT(with_tensor({2, 2, 2, 2, 1}, data, 864), HasSubstr("dimensions"));
  EXPECT_THAT(with_tensor({0}, data, 864), HasSubstr("dimension of 0"));
  EXPECT_THAT(with_tensor({16, int64_t{1} << 60}, data, 864), HasSubstr("cannot hold"));
  EXPECT_THAT(with_tensor({int64_t{1} << 32, int64_t{1} << 32}, data, 864),
              HasSubstr("cannot hold"));
  EXPECT_THAT(with_tensor({-1}, data, 864), HasSubstr("cannot hold"));

  GgufWriter block = SmallFile();
  block.AddRawTensor("lie", 3, {33}, data);
  EXPECT_THAT(Message(block), HasSubstr("not a multiple of the 32"));
}

TEST(GgufTest, RefusesLiesAboutMetadata) {
  const auto with_value = [](uint32_t type, const std::string& bytes) {
    GgufWriter writer;
    writer.AddRaw("lie", type, bytes);
    return Message(writer);
  };
  const std::string huge(8, '\xff');
  const std::string uint8_type(4, '\0');
  const std::string string_type("\x08\0\0\0", 4);
  const std::string array_type("\x09\0\0\0", 4);
  EXPECT_THAT(with_value(8, huge), HasSubstr("'lie'"));
  EXPECT_THAT(with_value(9, uint8_type + huge), HasSubstr("'lie'"));
  EXPECT_THAT(with_value(9, string_type + huge), HasSubstr("'lie'"));
  EXPECT_THAT(with_value(13, "x"), HasSubstr("type number 13"));
  EXPECT_THAT(with_value(9, std::string("\x63\0\0\0", 4) + huge), HasSubstr("type number 99"));
  // 2^62 elements of 8 bytes: the product wraps around to 0.
  EXPECT_THAT(with_value(9, std::string("\x0a\0\0\0\0\0\0\0\0\0\0\x40", 12)),
              HasSubstr("can hold"));

  std::string deep;
  for (int i = 0; i < 1000; ++i) deep += array_type + std::string("\x01\0\0\0\0\0\0\0", 8);
  EXPECT_THAT(with_value(9, deep + std::string(16, '\0')), HasSubstr("nests deeper"));

  GgufWriter alignment = SmallFile();
  alignment.AddUint32("general.alignment", 48);
  EXPECT_THAT(Message(alignment), HasSubstr("general.alignment is 48"));
}

TEST(GgufTest, HonoursTheFilesAlignment) {
  GgufWriter writer;
  writer.AddUint32("general.alignment", 256);
  writer.set_alignment(256);
  writer.AddTensor("a", WeightType::kF32, {1}, {1});
  writer.AddTensor("b", WeightType::kF32, {2}, {2, 3});
  const auto file = OpenWritten(writer);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->Find("b")->data - (*file)->Find("a")->data, 256);
  float value;
  std::memcpy(&value, (*file)->Find("b")->data, sizeof(value));
  EXPECT_EQ(value, 2);
}

TEST(GgufTest, EscapesNamesInMessages) {
  GgufWriter writer;
  writer.AddRawTensor("bad\xff\nname" + std::string(200, 'y'), 77, {4}, std::string(16, 'x'));
  const std::string message = Message(writer);
  EXPECT_THAT(message, HasSubstr("bad\xef\xbf\xbd\\nname"));
  EXPECT_LT(message.size(), 400u);
}

// A file cut short anywhere is refused in one sentence, or, where the cut takes only padding, fine.
TEST(GgufTest, RefusesEveryTruncation) {
  GgufWriter writer = SmallFile();
  AddByteLevelTokenizer(writer);
  const std::string bytes = writer.Serialize();
  for (size_t size = 0; size < bytes.size(); ++size) {
    const auto file = OpenBytes(absl::string_view(bytes).substr(0, size));
    ASSERT_FALSE(file.ok()) << size;
    EXPECT_THAT(std::string(file.status().message()),
                AllOf(HasSubstr(TemporaryPath()), HasSubstr("truncated")))
        << size;
  }
}

// Walks over everything that a file offers.
size_t ReadAll(const GgufFile& file) {
  size_t sum = file.Fingerprint() & 1;
  for (const absl::string_view key :
       {"general.architecture", "a.uint32", "a.strings", "a.integers", "tokenizer.ggml.tokens",
        "tokenizer.ggml.merges", "tokenizer.ggml.token_type"}) {
    sum += file.GetUint(key).ok() + file.GetFloat(key).ok() + file.GetBool(key).ok();
    if (const auto text = file.GetString(key); text.ok()) sum += text->size();
    if (const auto strings = file.GetStringArray(key); strings.ok()) {
      for (const absl::string_view text : *strings) sum += text.size();
    }
    if (const auto integers = file.GetIntArray(key); integers.ok()) sum += integers->size();
  }
  for (const GgufTensor& tensor : file.tensors()) {
    for (int64_t i = 0; i < tensor.size; ++i) sum += std::to_integer<size_t>(tensor.data[i]);
  }
  return sum;
}

// Whatever is done to a file, it is refused with a message or safe to read.
TEST(GgufTest, SurvivesCorruption) {
  GgufWriter writer = SmallFile();
  AddByteLevelTokenizer(writer);
  const std::string bytes = writer.Serialize();
  std::mt19937 random(3);
  int refused = 0;
  for (int trial = 0; trial < 3000; ++trial) {
    std::string corrupt = bytes;
    const int changes = 1 + static_cast<int>(random() % 4);
    for (int i = 0; i < changes; ++i) {
      // Half of the changes hit the beginning, where counts and lengths are dense.
      const size_t place = random() % (random() % 2 == 0 ? 600 : corrupt.size());
      static constexpr char kNasty[] = {'\x00', '\x01', '\x7f', '\x80', '\xff'};
      corrupt[place] = random() % 2 == 0 ? kNasty[random() % 5] : static_cast<char>(random());
    }
    const auto file = OpenBytes(corrupt);
    if (file.ok()) {
      EXPECT_GT(ReadAll(**file), 0u);
    } else {
      ++refused;
      EXPECT_THAT(std::string(file.status().message()), HasSubstr(TemporaryPath()));
    }
  }
  EXPECT_GT(refused, 300);
}

TEST(GgufTest, FingerprintTellsFilesApart) {
  const auto fingerprint = [](absl::string_view bytes) {
    const auto file = OpenBytes(bytes);
    EXPECT_TRUE(file.ok()) << file.status();
    return (*file)->Fingerprint();
  };
  std::string bytes = SmallFile().Serialize();
  const uint64_t original = fingerprint(bytes);
  EXPECT_EQ(fingerprint(bytes), original);
  std::string metadata = bytes;
  metadata[metadata.find("llama")] = 'L';
  EXPECT_NE(fingerprint(metadata), original);
  std::string data = bytes;
  data.back() ^= 1;
  EXPECT_NE(fingerprint(data), original);
  EXPECT_NE(fingerprint(bytes + "x"), original);
}

}  // namespace
}  // namespace weir
