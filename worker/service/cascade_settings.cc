#include "worker/service/cascade_settings.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace weir {

absl::StatusOr<CascadeConfig> CascadeFromProto(const v1::CascadeSettings& settings,
                                               const CascadeConfig& defaults) {
  CascadeConfig cascade = defaults;
  if (settings.has_sinks()) cascade.sinks = settings.sinks();
  if (settings.has_slots()) cascade.slots = settings.slots();
  if (settings.has_sub_caches()) cascade.sub_caches = settings.sub_caches();
  if (settings.has_stride()) cascade.stride = settings.stride();
  if (settings.has_beta()) cascade.beta = settings.beta();
  switch (settings.head_reduction()) {
    case v1::HEAD_REDUCTION_UNSPECIFIED:
      break;
    case v1::HEAD_REDUCTION_MAX:
      cascade.head_reduction = HeadReduction::kMax;
      break;
    case v1::HEAD_REDUCTION_MEAN:
      cascade.head_reduction = HeadReduction::kMean;
      break;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("head_reduction is ", static_cast<int>(settings.head_reduction()),
                       "; it must be HEAD_REDUCTION_MAX (1), HEAD_REDUCTION_MEAN (2) or not set"));
  }
  return cascade;
}

v1::CascadeSettings CascadeToProto(const CascadeConfig& cascade) {
  v1::CascadeSettings settings;
  settings.set_sinks(cascade.sinks);
  settings.set_slots(cascade.slots);
  settings.set_sub_caches(cascade.sub_caches);
  settings.set_stride(cascade.stride);
  settings.set_beta(cascade.beta);
  settings.set_head_reduction(cascade.head_reduction == HeadReduction::kMax
                                  ? v1::HEAD_REDUCTION_MAX
                                  : v1::HEAD_REDUCTION_MEAN);
  return settings;
}

}  // namespace weir
