#ifndef WEIR_MONITORING_BUCKETS_H_
#define WEIR_MONITORING_BUCKETS_H_

#include <prometheus/histogram.h>

namespace weir {

// Upper bounds of histogram buckets, in seconds, ascending: 1, 2, 5 of each power of ten, a little
// finer where a service-level objective would sit. One function for each kind of time, so that the
// same kind has the same buckets on coordinator and workers and can be added up.

// A piece of work of ours inside a call: 5 us to 50 ms. Also the time of one all-reduce.
prometheus::Histogram::BucketBoundaries OverheadSecondsBuckets();

// One step of the engine, and the time between two tokens: 500 us to 10 s.
prometheus::Histogram::BucketBoundaries StepSecondsBuckets();

// The time that a caller waits for the first token, or in a queue: 1 ms to 10 minutes.
prometheus::Histogram::BucketBoundaries WaitSecondsBuckets();

// A whole call: 1 ms to 6 hours, because a prompt may be millions of tokens long.
prometheus::Histogram::BucketBoundaries CallSecondsBuckets();

}  // namespace weir

#endif  // WEIR_MONITORING_BUCKETS_H_
