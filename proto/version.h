#ifndef WEIR_PROTO_VERSION_H_
#define WEIR_PROTO_VERSION_H_

namespace weir {

// Version of Weir. Coordinator and workers of one deployment have the same.
inline constexpr char kVersion[] = "0.2.0";

}  // namespace weir

#endif  // WEIR_PROTO_VERSION_H_
