/* err.h - the one set of results.
 *
 * A function that can fail returns `enum err`; 0 (ERR_OK) is success, results come back through
 * out-parameters, which are written only on success unless the contract says otherwise.
 *
 * Three classes are never mixed: the peer's fault (answered and counted), the environment (warned
 * about with a rate limit, retried or shed) and our own bug (BUG_ON, always compiled in).
 */
#ifndef CRIER_ERR_H
#define CRIER_ERR_H

enum err {
    ERR_OK = 0,
    ERR_NOMEM,  /* memory or descriptors are used up */
    ERR_LIMIT,  /* larger, longer, deeper or more than is allowed */
    ERR_SYNTAX, /* not of the form that was expected */
    ERR_RANGE,  /* of the right form, value out of range */
    ERR_UTF8,   /* text that is not UTF-8 */
    ERR_NOT_FOUND,
    ERR_EXISTS,
    ERR_CONFLICT,    /* contradicts an earlier request (idempotency key reused) */
    ERR_AGAIN,       /* nothing now; ask again when told */
    ERR_CLOSED,      /* the other side is gone, or we are stopping */
    ERR_IO,          /* the kernel said no; errno tells */
    ERR_UNAVAILABLE, /* a backend is away; worth retrying */
};

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

/* A constant name such as "limit"; never NULL. Any thread. */
const char *err_str(enum err e);

/* Says where and aborts. Not for anything a peer or the machine can cause. */
_Noreturn void bug_at(const char *file, int line, const char *what);
#define BUG_ON(cond)                           \
    do {                                       \
        if (__builtin_expect(!!(cond), 0))     \
            bug_at(__FILE__, __LINE__, #cond); \
    } while (0)

#endif
