#ifndef WEIR_KERNELS_CUDA_DECODE_DECODE_KEY_TILES_CUH_
#define WEIR_KERNELS_CUDA_DECODE_DECODE_KEY_TILES_CUH_

#include "kernels/cuda/decode/decode_attention.h"

namespace weir {

// In keys: of one product; and of one softmax, whose results the block puts together with others'.
constexpr int kDecodeTile = 16;
constexpr int kDecodeShare = 64;

// Up to kDecodeTile keys of a sequence, in neighbouring slots of one segment and of one share.
struct KeyTile {
  int first_slot;  // also where the first one's logit goes
  int count;       // 0: there is no such tile
  int rotation;    // of the query for these keys; -1: as for the tile before
  bool own;        // this is the token's own key, which is not in the cache
  bool ends_share;
};

// The keys [begin, end) of a sequence, tile by tile. They are counted through its segments; the
// token's own is the last. Shares lie between multiples of kDecodeShare.
class KeyTiles {
 public:
  __device__ KeyTiles(const DecodeSequence& sequence, int begin, int end)
      : sequence_(sequence), key_(begin), end_(end) {}

  __device__ KeyTile Next() {
    if (key_ >= end_) return {};
    int rotation = -1;
    while (key_ >= segment_end_) rotation = EnterNextSegment();
    const int share_end = min((key_ / kDecodeShare + 1) * kDecodeShare, end_);
    const int count = min(min(segment_end_, share_end) - key_, kDecodeTile);
    const KeyTile tile = {.first_slot = key_ + slot_of_key_,
                          .count = count,
                          .rotation = rotation,
                          .own = key_ == sequence_.cached,
                          .ends_share = key_ + count == share_end};
    key_ += count;
    return tile;
  }

 private:
  // Returns the rotation of the query for its keys.
  __device__ int EnterNextSegment() {
    if (segment_ == sequence_.segment_count) {
      slot_of_key_ = 0;
      ++segment_end_;
      return 0;
    }
    const KeySegment& segment = sequence_.segments[segment_++];
    slot_of_key_ = segment.first_slot - segment_end_;
    segment_end_ += segment.slot_count;
    return segment.query_rotation;
  }

  const DecodeSequence& sequence_;
  int key_;
  const int end_;
  int segment_ = 0;  // the next
  int segment_end_ = 0;
  int slot_of_key_ = 0;  // first_slot - key
};

}  // namespace weir

#endif  // WEIR_KERNELS_CUDA_DECODE_DECODE_KEY_TILES_CUH_
