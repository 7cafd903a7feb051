#ifndef WEIR_TESTS_MONITORING_PROMTOOL_H_
#define WEIR_TESTS_MONITORING_PROMTOOL_H_

#include <string>

namespace weir {

// Exit status of `promtool check metrics` fed with a scrape: 0 when it finds nothing to criticise;
// what it says goes to standard error. -1 when it did not run.
int CheckWithPromtool(const std::string& scrape);

}  // namespace weir

#endif  // WEIR_TESTS_MONITORING_PROMTOOL_H_
