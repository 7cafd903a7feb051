#include "monitoring/buckets.h"

namespace weir {

prometheus::Histogram::BucketBoundaries OverheadSecondsBuckets() {
  return {5e-6,   10e-6,  20e-6, 30e-6, 50e-6, 75e-6, 100e-6, 150e-6, 200e-6,
          300e-6, 500e-6, 1e-3,  2e-3,  5e-3,  10e-3, 20e-3,  50e-3};
}

prometheus::Histogram::BucketBoundaries StepSecondsBuckets() {
  return {500e-6, 1e-3, 2e-3, 3e-3, 5e-3, 7.5e-3, 10e-3, 15e-3, 20e-3, 30e-3, 50e-3,
          75e-3,  0.1,  0.15, 0.2,  0.3,  0.5,    0.75,  1,     2,     5,     10};
}

prometheus::Histogram::BucketBoundaries WaitSecondsBuckets() {
  return {1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 0.2, 0.3, 0.5, 0.75, 1,
          1.5,  2,    3,    5,     10,    20,    30,  60,  120, 300, 600};
}

prometheus::Histogram::BucketBoundaries CallSecondsBuckets() {
  return {1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 0.2, 0.5,  1,    2,
          5,    10,   20,   30,    60,    120,   300, 600, 1800, 3600, 21600};
}

}  // namespace weir
