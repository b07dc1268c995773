/* fake_dns.h - getaddrinfo as a test wants it: what is defined in the program goes before the C
 * library's. Literals are what they are; names are in the table or not at all; a name that hangs
 * does so while dns_hold says so.
 */
#ifndef CRIER_TESTS_FAKE_DNS_H
#define CRIER_TESTS_FAKE_DNS_H

#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define DNS_MAX 12

struct dns_name {
    const char *name;
    bool hangs;
    const char *address[DNS_MAX];
};

static const struct dns_name *dns_table; /* ends with a name of NULL; set before anything
                                          * is resolved */
static pthread_mutex_t dns_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t dns_changed = PTHREAD_COND_INITIALIZER;
static bool dns_holds; /* under dns_lock */

/* From now on names that hang do, or do not any more. */
static inline void dns_hold(bool holds)
{
    pthread_mutex_lock(&dns_lock);
    dns_holds = holds;
    pthread_cond_broadcast(&dns_changed);
    pthread_mutex_unlock(&dns_lock);
}

static inline void dns_hang(void)
{
    pthread_mutex_lock(&dns_lock);
    while (dns_holds)
        pthread_cond_wait(&dns_changed, &dns_lock);
    pthread_mutex_unlock(&dns_lock);
}

static inline struct addrinfo *dns_entry(const char *address, const char *port)
{
    struct {
        struct addrinfo info;
        struct sockaddr_in6 v6;
    } *e = calloc(1, sizeof *e);
    struct sockaddr_in *v4 = (struct sockaddr_in *)&e->v6;

    e->info.ai_addr = (struct sockaddr *)&e->v6;
    e->info.ai_socktype = SOCK_STREAM;
    if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
        e->info.ai_family = v4->sin_family = AF_INET;
        e->info.ai_addrlen = sizeof *v4;
    } else if (inet_pton(AF_INET6, address, &e->v6.sin6_addr) == 1) {
        e->info.ai_family = e->v6.sin6_family = AF_INET6;
        e->info.ai_addrlen = sizeof e->v6;
    } else {
        free(e);
        return NULL;
    }
    v4->sin_port = htons((uint16_t)atoi(port)); /* at the same place in sockaddr_in6 */
    return &e->info;
}

void freeaddrinfo(struct addrinfo *list)
{
    while (list) {
        struct addrinfo *next = list->ai_next;
        free(list);
        list = next;
    }
}

int getaddrinfo(const char *name, const char *port, const struct addrinfo *hints,
                struct addrinfo **out)
{
    const struct dns_name *found = dns_table;

    *out = dns_entry(name, port);
    if (*out)
        return 0;
    if (hints->ai_flags & AI_NUMERICHOST)
        return EAI_NONAME;
    while (found && found->name && strcmp(found->name, name) != 0)
        found++;
    if (!found || !found->name)
        return EAI_NONAME;
    if (found->hangs)
        dns_hang();
    struct addrinfo **last = out;
    for (size_t i = 0; i < DNS_MAX && found->address[i]; i++) {
        *last = dns_entry(found->address[i], port);
        last = &(*last)->ai_next;
    }
    return *out ? 0 : EAI_NONAME;
}

#endif
