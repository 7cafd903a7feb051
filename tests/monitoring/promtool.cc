#include "tests/monitoring/promtool.h"

#include <stdio.h>
#include <sys/wait.h>

namespace weir {

int CheckWithPromtool(const std::string& scrape) {
  FILE* promtool = popen("promtool check metrics", "w");
  if (promtool == nullptr) return -1;
  const bool written = fwrite(scrape.data(), 1, scrape.size(), promtool) == scrape.size();
  const int status = pclose(promtool);
  return written && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace weir
