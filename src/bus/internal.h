/* internal.h - what the files of the bus proper (bus, port, interest, presence, listing) share.
 *
 * All of it belongs to the bus's thread, except that bus_submit reads port->bus. Backends do not
 * include this: they see backend.h only.
 */
#ifndef CRIER_BUS_INTERNAL_H
#define CRIER_BUS_INTERNAL_H

#include "backend.h"
#include "crier/list.h"
#include "crier/map.h"
#include "crier/timer.h"

#define BUS_PORTS_MAX 64

struct bus {
    const struct ns_table *ns; /* borrowed */
    struct backend *be;        /* owned */
    struct mailbox inbox;      /* struct bus_op */
    struct loop *loop;         /* borrowed; NULL without one */
    struct timer_wheel *timers;
    struct timer_wheel own_timers; /* until a loop lends its own */
    unsigned n_ports;
    struct bus_port *port[BUS_PORTS_MAX]; /* owned by the callers; NULL once freed */
    struct map interests;                 /* struct interest by channel */
    struct map members;                   /* struct member by (interest, client) */
    uint64_t next_serial;
    _Atomic(const char *) why_not; /* constant text; NULL = ready */
};

struct bus_port {
    struct bus *bus; /* borrowed */
    unsigned id;
    struct mailbox mailbox; /* answered ops and events */
    void (*deliver)(void *ctx, const struct bus_event *ev);
    void *ctx; /* borrowed */
};

/* What a letter's mail_kind says. */
enum letter_kind { LETTER_OP, LETTER_MESSAGE, LETTER_NOTICE };

void port_answer(struct bus_op *op);
void port_post_message(struct bus_port *p, struct msg *m);
/* JOIN or LEAVE; everything in *ev is copied. */
void port_post_notice(struct bus_port *p, const struct bus_event *ev);

/* Who listens to one channel; exists while somebody does. */
struct interest {
    struct map_node node;
    struct slice channel;             /* owned, behind the counts */
    const struct ns_options *options; /* borrowed */
    uint64_t ports;                   /* bit per port with a count > 0 */
    uint32_t subscribers;             /* sum of the counts */
    uint32_t n_members;
    struct list members; /* struct member that joined, oldest first */
    uint32_t count[];    /* per port */
};

void interest_init(struct bus *b);
/* Frees what is left of ports that were freed without leaving. */
void interest_release(struct bus *b);
/* NULL when nobody listens. */
struct interest *interest_get(const struct bus *b, struct slice channel, uint64_t hash);
/* One more listener of that port. Tells the backend of the first. */
struct interest *interest_add(struct bus *b, struct slice channel, unsigned port);
/* One less; after the last the interest is freed, the backend told, and the answer is false. */
bool interest_drop(struct bus *b, struct interest *i, unsigned port);
void interest_post_message(struct bus *b, const struct interest *i, struct msg *m);
void interest_post_notice(struct bus *b, const struct interest *i, const struct bus_event *ev);

void presence_init(struct bus *b);
void presence_release(struct bus *b);
/* A join was submitted: its member is known from here on, but seen only after presence_join. */
void presence_expect(struct bus *b, struct interest *i, struct bus_join *op);
/* The member that this answered join brings, or NULL (no presence here, or it left meanwhile).
 * Sets op->member.since_ms. Ask before the op is posted back, join after. */
struct member *presence_expected(struct bus *b, struct bus_join *op);
void presence_join(struct bus *b, struct member *m);
/* Takes the member out; it comes back when its leaving is to be told, else NULL. Free it with
 * presence_free (NULL is fine). */
struct member *presence_leave(struct bus *b, struct interest *i, uint64_t client);
void presence_tell_leave(struct bus *b, const struct interest *i, const struct member *m);
void presence_free(struct member *m);
/* ERR_NOT_FOUND when the namespace keeps no presence. */
enum err presence_list(struct bus *b, struct bus_presence *op);

/* Fills names and subscribers of the wanted channels. */
void listing_fill(struct bus *b, struct bus_channels *op);

#endif
