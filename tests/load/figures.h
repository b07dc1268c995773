/* figures.h - the end of a measurement: medians, one line per figure, and giving up. */
#ifndef LOAD_FIGURES_H
#define LOAD_FIGURES_H

#include <stddef.h>

#define FIGURES_MAX_RUNS 64

/* The runs of one figure. */
struct runs {
    double value[FIGURES_MAX_RUNS];
    size_t n;
};

void runs_add(struct runs *r, double value);
double runs_median(const struct runs *r);
/* "text   median unit   (lowest ... highest of n runs)" */
void figure(const char *text, const struct runs *r, const char *unit);
void headline(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Says what went wrong, with errno when it is set, and ends the program. Children end too. */
_Noreturn void die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
