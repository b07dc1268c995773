/* port.c - where a worker and the bus meet: one FIFO of answers and events.
 *
 * Three kinds of letters share the mailbox: ops on their way back, live messages, and joins and
 * leaves. They are told apart by the byte behind the mail, which all of them have at the same
 * place. That they share one queue is the point: their order is the order in which things were.
 */
#include "internal.h"

#include <stdlib.h>

#define INBOX_LETTERS_AT_ONCE 1024

struct message_letter {
    struct mail mail;
    uint8_t mail_kind;
    struct msg *msg; /* counted */
};

struct notice_letter {
    struct mail mail;
    uint8_t mail_kind;
    struct bus_event event; /* its strings lie behind it */
    char bytes[];
};

#define KIND_AT offsetof(struct bus_op, mail_kind)
_Static_assert(offsetof(struct message_letter, mail_kind) == KIND_AT, "kind has one place");
_Static_assert(offsetof(struct notice_letter, mail_kind) == KIND_AT, "kind has one place");
_Static_assert(offsetof(struct bus_op, mail) == 0, "an op is its letter");

static void deliver_message(struct bus_port *p, struct message_letter *l)
{
    const struct bus_event ev = {.kind = BUS_EVENT_MESSAGE, .msg = l->msg};
    if (p->deliver)
        p->deliver(p->ctx, &ev);
    msg_unref(l->msg);
    free(l);
}

static void deliver_notice(struct bus_port *p, struct notice_letter *l)
{
    if (p->deliver)
        p->deliver(p->ctx, &l->event);
    free(l);
}

static void port_deliver(struct mailbox *mb, struct mail *m)
{
    struct bus_port *p = mb->owner;
    struct bus_op *op = container_of(m, struct bus_op, mail);
    switch ((enum letter_kind) * ((const uint8_t *)m + KIND_AT)) {
    case LETTER_OP:
        /* Also while the port ends: whoever asked owns what ctx names. */
        op->done(op);
        break;
    case LETTER_MESSAGE:
        deliver_message(p, container_of(m, struct message_letter, mail));
        break;
    case LETTER_NOTICE:
        deliver_notice(p, container_of(m, struct notice_letter, mail));
        break;
    }
}

enum err bus_port_new(struct bus *b, void (*deliver)(void *ctx, const struct bus_event *ev),
                      void *ctx, struct bus_port **out)
{
    /* an interest has one count per port that existed when it was made */
    BUG_ON(b->interests.count > 0);
    if (b->n_ports == BUS_PORTS_MAX)
        return ERR_LIMIT;
    struct bus_port *p = calloc(1, sizeof *p);
    if (!p)
        return ERR_NOMEM;
    p->bus = b;
    p->id = b->n_ports++;
    p->deliver = deliver;
    p->ctx = ctx;
    mailbox_init(&p->mailbox, port_deliver, p);
    b->port[p->id] = p;
    *out = p;
    return ERR_OK;
}

struct mailbox *bus_port_mailbox(struct bus_port *p)
{
    return &p->mailbox;
}

void bus_port_free(struct bus_port *p)
{
    /* What the port has submitted still names it: let the bus answer that first. */
    while (mailbox_drain(&p->bus->inbox, INBOX_LETTERS_AT_ONCE))
        ;
    p->bus->port[p->id] = NULL;
    p->deliver = NULL;
    while (mailbox_drain(&p->mailbox, INBOX_LETTERS_AT_ONCE))
        ;
    mailbox_release(&p->mailbox);
    free(p);
}

void bus_submit(struct bus_port *p, struct bus_op *op)
{
    op->port = p;
    op->mail_kind = LETTER_OP;
    mailbox_post(&p->bus->inbox, &op->mail);
}

void port_answer(struct bus_op *op)
{
    mailbox_post(&op->port->mailbox, &op->mail);
}

void port_post_message(struct bus_port *p, struct msg *m)
{
    struct message_letter *l = bus_alloc(sizeof *l);
    l->mail_kind = LETTER_MESSAGE;
    l->msg = msg_ref(m);
    mailbox_post(&p->mailbox, &l->mail);
}

void port_post_notice(struct bus_port *p, const struct bus_event *ev)
{
    const struct slice user = slice_str(ev->member.user);
    struct notice_letter *l = bus_alloc(sizeof *l + ev->channel.len + user.len + 1);
    l->mail_kind = LETTER_NOTICE;
    l->event = *ev;
    memcpy(l->bytes, ev->channel.ptr, ev->channel.len);
    l->event.channel.ptr = l->bytes;
    if (user.ptr) {
        l->event.member.user = l->bytes + ev->channel.len;
        memcpy(l->event.member.user, user.ptr, user.len);
    }
    mailbox_post(&p->mailbox, &l->mail);
}
