/* The memory bus against a model: random requests from three ports, handled one by one by both,
 * while the ports drain at their own pace. Every line that a port hears must be the one the model
 * foretold, at the same place. CRIER_TEST_SEED repeats a run.
 */
#include "bus_fixture.h"
#include "crier/rnd.h"

#include <stdio.h>

enum { CHANNELS = 5, KEPT_MAX = 100, CLIENTS_MAX = 40, QUEUE_MAX = 64, STEPS = 30000 };

static const char *const names[CHANNELS] = {"a", "few:b", "none:c", "chat:d", "few:e"};

struct model_message {
    uint64_t offset, at;
    char payload[16];
};

struct model_key {
    char key[4];
    char payload[16];
    uint64_t offset, at;
};

struct model_member {
    uint64_t client;
    unsigned joins;
};

struct model_channel {
    const struct ns_options *o;
    uint64_t head;
    struct model_message kept[KEPT_MAX + 1];
    unsigned n_kept;
    struct model_key keys[1024];
    unsigned n_keys;
    unsigned subscribers[PORTS];
    struct model_member members[CLIENTS_MAX];
    unsigned n_members;
};

enum request_kind { PUBLISH, JOIN, LEAVE, PAGE, HISTORY, CLEAR, INFO, PRESENCE };

struct request {
    enum request_kind kind;
    int port;
    unsigned channel;
    uint64_t client;
    bool reverse, has_key;
    char key[4], payload[16];
    struct catch_up cu;
};

struct listener {
    int port;
    unsigned channel;
    uint64_t client;
};

static struct model_channel model[CHANNELS];
static struct request queue[QUEUE_MAX]; /* submitted, not handled */
static unsigned n_queue;
static struct listener listeners[CLIENTS_MAX]; /* joins that were submitted and not left */
static unsigned n_listeners;
static struct buf want[PORTS];
static uint32_t epoch;
static uint64_t now;
static unsigned rnd_state;

static unsigned below(unsigned n)
{
    return (unsigned)rand_r(&rnd_state) / 7 % n;
}

/* ---- what the model says ---- */

static void forget_old(struct model_channel *c)
{
    while (c->n_kept && c->kept[0].at + c->o->history_ms <= now)
        memmove(c->kept, c->kept + 1, --c->n_kept * sizeof c->kept[0]);
    while (c->n_keys && c->keys[0].at + c->o->idempotency_ms <= now)
        memmove(c->keys, c->keys + 1, --c->n_keys * sizeof c->keys[0]);
}

static void tell_all(const struct model_channel *c, const char *line)
{
    for (int p = 0; p < PORTS; p++)
        if (c->subscribers[p])
            buf_append_str(&want[p], line);
}

static unsigned total(const struct model_channel *c)
{
    unsigned n = 0;
    for (int p = 0; p < PORTS; p++)
        n += c->subscribers[p];
    return n;
}

static void keep(struct model_channel *c, const char *payload)
{
    struct model_message m = {.offset = c->head, .at = now};
    if (c->o->history_messages == 0)
        return;
    strcpy(m.payload, payload);
    c->kept[c->n_kept++] = m;
    if (c->n_kept > c->o->history_messages)
        memmove(c->kept, c->kept + 1, --c->n_kept * sizeof c->kept[0]);
}

static void remember_key(struct model_channel *c, const struct request *r)
{
    struct model_key k = {.offset = c->head, .at = now};
    strcpy(k.key, r->key);
    strcpy(k.payload, r->payload);
    c->keys[c->n_keys++] = k;
    if (c->n_keys > c->o->idempotency_keys)
        memmove(c->keys, c->keys + 1, --c->n_keys * sizeof c->keys[0]);
}

static void model_publish(struct model_channel *c, const struct request *r)
{
    char line[300];
    for (unsigned i = 0; r->has_key && i < c->n_keys; i++) {
        if (strcmp(c->keys[i].key, r->key) != 0)
            continue;
        if (strcmp(c->keys[i].payload, r->payload) != 0)
            buf_append_str(&want[r->port], "published conflict\n");
        else
            buf_printf(&want[r->port], "repeated %" PRIu64 "\n", c->keys[i].offset);
        return;
    }
    c->head++;
    keep(c, r->payload);
    if (r->has_key)
        remember_key(c, r);
    snprintf(line, sizeof line, "message %s %" PRIu64 " %s\n", names[r->channel], c->head,
             r->payload);
    tell_all(c, line);
    buf_printf(&want[r->port], "published %" PRIu64 "\n", c->head);
}

/* The messages a reader has not had, oldest first, and the gap before them if any. */
static unsigned first_unread(const struct model_channel *c, const struct catch_up *cu,
                             const char **gap)
{
    unsigned i = 0;
    *gap = NULL;
    if (cu->from == FROM_NOW)
        return c->n_kept;
    if (cu->from == FROM_LAST_N)
        return c->n_kept > cu->last_n ? c->n_kept - cu->last_n : 0;
    if (cu->since.epoch != epoch)
        *gap = "epoch";
    else if (cu->since.offset > c->head)
        *gap = "ahead";
    else if (cu->since.offset + c->n_kept < c->head)
        *gap = "expired";
    /* Who is ahead in the same order has had all there is. */
    bool skips = !*gap || strcmp(*gap, "ahead") == 0;
    while (skips && i < c->n_kept && c->kept[i].offset <= cu->since.offset)
        i++;
    return i;
}

static void model_catch_up(const struct model_channel *c, const char *what, const struct request *r)
{
    const char *gap;
    size_t bytes = 0;
    struct buf *b = &want[r->port];
    unsigned n = 0, i = first_unread(c, &r->cu, &gap);
    buf_printf(b, "%s %" PRIu64 "..%" PRIu64, what, i < c->n_kept ? c->kept[i].offset - 1 : c->head,
               c->head);
    if (gap)
        buf_printf(b, " gap %s", gap);
    buf_append_str(b, " [");
    for (; i < c->n_kept && n < r->cu.max_messages; i++, n++) {
        bytes += strlen(c->kept[i].payload);
        if (n > 0 && bytes > r->cu.max_bytes)
            break;
        buf_printf(b, n ? " %" PRIu64 : "%" PRIu64, c->kept[i].offset);
    }
    buf_append_str(b, i == c->n_kept ? "]\n" : "] more\n");
}

/* Newest first, below the given offset; only positions of this epoch are asked for. */
static void model_reverse(const struct model_channel *c, const struct request *r)
{
    struct buf *b = &want[r->port];
    uint64_t end = r->cu.from == FROM_POSITION ? r->cu.since.offset : c->head + 1;
    unsigned n = 0, i = c->n_kept;
    buf_printf(b, "history %" PRIu64 "..%" PRIu64 " [", end, c->head);
    while (i > 0 && c->kept[i - 1].offset >= end)
        i--;
    unsigned limit = r->cu.from == FROM_LAST_N && r->cu.last_n < i ? r->cu.last_n : i;
    while (n < limit && n < r->cu.max_messages) {
        buf_printf(b, n ? " %" PRIu64 : "%" PRIu64, c->kept[--i].offset);
        n++;
    }
    buf_append_str(b, n == limit ? "]\n" : "] more\n");
}

static struct model_member *find_member(struct model_channel *c, uint64_t client)
{
    for (unsigned i = 0; i < c->n_members; i++)
        if (c->members[i].client == client)
            return &c->members[i];
    return NULL;
}

static void model_notice(const struct model_channel *c, const struct request *r, const char *what)
{
    char line[300];
    snprintf(line, sizeof line, "%s %s c%" PRIu64 " - ws now %u\n", what, names[r->channel],
             r->client, total(c));
    tell_all(c, line);
}

static void model_join(struct model_channel *c, const struct request *r)
{
    c->subscribers[r->port]++;
    model_catch_up(c, "joined", r);
    if (!c->o->presence)
        return;
    struct model_member *m = find_member(c, r->client);
    if (m) {
        m->joins++;
        return;
    }
    c->members[c->n_members++] = (struct model_member){.client = r->client, .joins = 1};
    model_notice(c, r, "join");
}

static void model_leave(struct model_channel *c, const struct request *r)
{
    struct model_member *m = find_member(c, r->client);
    c->subscribers[r->port]--;
    if (m && --m->joins == 0) {
        size_t after = (size_t)(c->members + c->n_members - (m + 1));
        memmove(m, m + 1, after * sizeof *m);
        c->n_members--;
        model_notice(c, r, "leave");
    }
    buf_append_str(&want[r->port], "left\n");
}

static void model_info(const struct model_channel *c, const struct request *r)
{
    if (total(c) == 0 && c->n_kept == 0)
        buf_append_str(&want[r->port], "channel not_found\n");
    else
        buf_printf(&want[r->port], "channel %s(%u,%u,%" PRIu64 ")\n", names[r->channel], total(c),
                   c->n_kept, c->head);
}

static void model_presence(const struct model_channel *c, const struct request *r)
{
    struct buf *b = &want[r->port];
    if (!c->o->presence) {
        buf_append_str(b, "presence not_found\n");
        return;
    }
    buf_printf(b, "presence %u of %u", c->n_members, c->n_members);
    for (unsigned i = 0; i < c->n_members; i++)
        buf_printf(b, " c%" PRIu64 "/-/ws", c->members[i].client);
    buf_append_char(b, '\n');
}

static void model_handle(const struct request *r)
{
    struct model_channel *c = &model[r->channel];
    forget_old(c);
    switch (r->kind) {
    case PUBLISH:
        model_publish(c, r);
        break;
    case JOIN:
        model_join(c, r);
        break;
    case LEAVE:
        model_leave(c, r);
        break;
    case PAGE:
        model_catch_up(c, "page", r);
        break;
    case HISTORY:
        if (r->reverse)
            model_reverse(c, r);
        else
            model_catch_up(c, "history", r);
        break;
    case CLEAR:
        buf_printf(&want[r->port], "cleared %u\n", c->n_kept);
        c->n_kept = 0;
        break;
    case INFO:
        model_info(c, r);
        break;
    case PRESENCE:
        model_presence(c, r);
        break;
    }
}

/* ---- what is asked ---- */

static struct catch_up random_catch_up(const struct model_channel *c, bool reverse)
{
    struct catch_up cu = from_now();
    unsigned dice = below(10);
    if (dice < 3) {
        cu = from_last(below(8));
    } else if (dice < 9) {
        uint64_t back = below(8), offset = c->head + (reverse ? 1 : 2);
        cu = from_offset(epoch, offset > back ? offset - back : 0);
    }
    if (!reverse && below(30) == 0)
        cu.since.epoch ^= 1;
    cu.max_messages = 1 + below(6);
    cu.max_bytes = reverse || below(2) ? 1000 : below(60);
    return cu;
}

static void submit(const struct request *r)
{
    const char *name = names[r->channel];
    switch (r->kind) {
    case PUBLISH:
        publish_key(r->port, name, r->payload, r->has_key ? r->key : NULL);
        break;
    case JOIN:
        join_as(r->port, name, r->client, NULL, r->cu);
        break;
    case LEAVE:
        leave_as(r->port, name, r->client);
        break;
    case PAGE:
        ask_page(r->port, name, r->cu);
        break;
    case HISTORY:
        ask_history(r->port, name, r->reverse, r->cu);
        break;
    case CLEAR:
        clear(r->port, name);
        break;
    case INFO:
        ask_channel(r->port, name);
        break;
    case PRESENCE:
        ask_presence(r->port, name, 100);
        break;
    }
    queue[n_queue++] = *r;
}

static enum request_kind random_kind(void)
{
    static const enum request_kind often[] = {PUBLISH, PUBLISH, PUBLISH, PUBLISH,
                                              PUBLISH, JOIN,    JOIN,    LEAVE,
                                              PAGE,    HISTORY, INFO,    PRESENCE};
    if (below(60) == 0)
        return CLEAR;
    return often[below(sizeof often / sizeof often[0])];
}

/* Sets who joins, or who of those that joined leaves; false when there is nobody. */
static bool choose_client(struct request *r)
{
    static uint64_t next_client;
    if (r->kind == JOIN) {
        if (n_listeners == CLIENTS_MAX)
            return false;
        bool again = n_listeners > 0 && below(5) == 0;
        struct listener l = {r->port, r->channel, ++next_client};
        if (again)
            l = listeners[below(n_listeners)];
        listeners[n_listeners++] = l;
        r->port = l.port;
        r->channel = l.channel;
        r->client = l.client;
    } else if (r->kind == LEAVE) {
        if (n_listeners == 0)
            return false;
        unsigned i = below(n_listeners);
        r->port = listeners[i].port;
        r->channel = listeners[i].channel;
        r->client = listeners[i].client;
        listeners[i] = listeners[--n_listeners];
    }
    return true;
}

static void ask_something(void)
{
    struct request r = {
        .kind = random_kind(), .port = (int)below(PORTS), .channel = below(CHANNELS)};
    if (n_queue == QUEUE_MAX || !choose_client(&r))
        return;
    r.reverse = below(2);
    r.has_key = below(3) == 0;
    snprintf(r.key, sizeof r.key, "k%u", below(5));
    snprintf(r.payload, sizeof r.payload, "%0*u", (int)(1 + below(14)), below(3));
    r.cu = random_catch_up(&model[r.channel], r.kind == HISTORY && r.reverse);
    if (r.kind == HISTORY && r.reverse && r.cu.from == FROM_POSITION)
        r.cu.since.offset =
            r.cu.since.offset > model[r.channel].head ? model[r.channel].head : r.cu.since.offset;
    submit(&r);
}

static void handle_one(void)
{
    if (n_queue == 0)
        return;
    (void)mailbox_drain(bus_inbox(fx->bus), 1);
    struct request r = queue[0];
    memmove(queue, queue + 1, --n_queue * sizeof queue[0]);
    model_handle(&r);
}

static void pass_time(void)
{
    now += TIMER_TICK_MS * (1 + below(30));
    timer_wheel_advance(bus_timers(fx->bus), now);
}

static void compare(void)
{
    while (n_queue)
        handle_one();
    for (int p = 0; p < PORTS; p++) {
        drain(bus_port_mailbox(fx->port[p]));
        struct buf *heard = &fx->heard[p];
        assert_false(heard->failed || want[p].failed);
        buf_append_char(&want[p], '\0');
        buf_append_char(heard, '\0');
        assert_string_equal(heard->data, want[p].data);
        buf_clear(&want[p]);
        buf_clear(heard);
    }
}

static void begin_model(void)
{
    for (unsigned i = 0; i < CHANNELS; i++)
        model[i] = (struct model_channel){.o = ns_lookup(&fx->ns, slice_str(names[i]))};
    for (int p = 0; p < PORTS; p++)
        buf_init(&want[p], 1 << 20);
    publish(0, "a", "first");
    run();
    epoch = fx->last.epoch;
    buf_clear(&fx->heard[0]);
    model[0].head = 1;
    keep(&model[0], "first");
}

static void test_the_bus_does_what_the_model_says(void **state)
{
    (void)state;
    const char *seed = getenv("CRIER_TEST_SEED");
    rnd_state = seed ? (unsigned)atoi(seed) : rnd_below(1000000000);
    print_message("CRIER_TEST_SEED=%u\n", rnd_state);
    begin_model();
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned dice = below(100);
        if (dice < 45)
            ask_something();
        else if (dice < 90)
            handle_one();
        else if (dice < 96)
            (void)mailbox_drain(bus_port_mailbox(fx->port[below(PORTS)]), 1 + below(9));
        else if (dice < 98)
            pass_time();
        else
            compare();
    }
    compare();
    for (int p = 0; p < PORTS; p++)
        buf_release(&want[p]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_bus_does_what_the_model_says, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
