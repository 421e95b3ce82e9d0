/* Durations, kept one by one: percentiles are those of all of them. */
#include "load.h"

#include <stdlib.h>
#include <time.h>

int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

void add_sample(struct samples *to, int64_t ns) {
  if (to->count == to->capacity) {
    to->capacity = to->capacity ? 2 * to->capacity : 4096;
    to->ns = realloc(to->ns, to->capacity * sizeof *to->ns);
  }
  to->ns[to->count++] = ns;
}

static int compare(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

void sort_samples(struct samples *samples) {
  if (samples->count) qsort(samples->ns, samples->count, sizeof *samples->ns, compare);
}

double percentile_us(const struct samples *sorted, double share) {
  return sorted->count ? sorted->ns[(size_t)(share * (sorted->count - 1))] / 1e3 : 0;
}
