/* figures.c - see figures.h. A median, because a neighbour's build must not move the result. */
#include "figures.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void die(const char *fmt, ...)
{
    int saved = errno;
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    if (saved)
        fprintf(stderr, ": %s", strerror(saved));
    fputc('\n', stderr);
    exit(1);
}

void headline(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
    fflush(stdout);
}

void runs_add(struct runs *r, double value)
{
    if (r->n == FIGURES_MAX_RUNS)
        die("more than %d runs", FIGURES_MAX_RUNS);
    r->value[r->n++] = value;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void sorted(const struct runs *r, double out[FIGURES_MAX_RUNS])
{
    memcpy(out, r->value, r->n * sizeof(double));
    qsort(out, r->n, sizeof(double), compare);
}

double runs_median(const struct runs *r)
{
    double v[FIGURES_MAX_RUNS];
    if (r->n == 0)
        die("a figure without runs");
    sorted(r, v);
    return r->n % 2 ? v[r->n / 2] : (v[r->n / 2 - 1] + v[r->n / 2]) / 2;
}

void figure(const char *text, const struct runs *r, const char *unit)
{
    double v[FIGURES_MAX_RUNS];
    double median = runs_median(r);
    sorted(r, v);
    printf("  %-58s %10.*f %-10s (%.*f ... %.*f, %zu runs)\n", text, median < 100 ? 2 : 0, median,
           unit, median < 100 ? 2 : 0, v[0], median < 100 ? 2 : 0, v[r->n - 1], r->n);
    fflush(stdout);
}
