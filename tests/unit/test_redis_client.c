/* test_redis_client.c - the Redis client against servers that do what the test tells them to, in
 * the same thread: who is asked what and in which order, what a caller hears.
 *
 * What the client's handlers are told is written down in `told`, what a server was asked in its
 * story; both are compared as text. Waits are for conditions.
 */
#include "crier/clock.h"
#include "crier/log.h"
#include "crier/metrics.h"
#include "crier/redis.h"

#include "redis_fake.h"

#include <signal.h>

#define PATIENCE_MS 20000
#define SERVERS 3
#define COMMAND_TIMEOUT_MS 4000

static struct loop *loop;
static struct redis *redis;
static struct redis_target target;
static struct redis_endpoint endpoint[SERVERS];
static struct fake fake[SERVERS];
static struct redis_script script = {.text = "return 1"};
static struct redis_script *const scripts[] = {&script};
static struct buf told;
static void (*on_message)(struct redis_sub *s);
static void (*on_lost)(struct redis_sub *s);

/* Time is turns, and a turn waits for as long as it counts: a busy machine makes no timeout fire
 * that would not have fired. These stand in for src/base/clock.c, which is not linked then. */
static uint64_t turns_ms = 1000000;

uint64_t clock_mono_ms(void)
{
    return turns_ms;
}

uint64_t clock_wall_ms(void)
{
    return turns_ms;
}

void clock_fake_wall_ms(uint64_t wall_ms)
{
    (void)wall_ms;
}

void clock_iso8601(uint64_t wall_ms, char out[CLOCK_ISO8601_BYTES])
{
    snprintf(out, CLOCK_ISO8601_BYTES, "%llu", (unsigned long long)wall_ms);
}

static void turn(void)
{
    turns_ms++;
    loop_turn(loop, 1);
    for (size_t i = 0; i < SERVERS; i++)
        fake_pump(&fake[i]);
}

#define TURN_UNTIL(cond)                                               \
    for (uint64_t give_up = clock_mono_ms() + PATIENCE_MS; !(cond);) { \
        if (clock_mono_ms() > give_up)                                 \
            fail_msg("waited in vain for %s", #cond);                  \
        turn();                                                        \
    }

/* Everything that was sent has been answered and read. */
static void settle(void)
{
    for (int i = 0; i < 30; i++)
        turn();
}

/* What is still on its way when the machine is busy is waited for. */
static void expect_told(const char *text)
{
    for (uint64_t give_up = clock_mono_ms() + PATIENCE_MS;
         told.len < strlen(text) && clock_mono_ms() < give_up;)
        turn();
    if (!slice_eq(buf_slice(&told), slice_str(text)))
        fail_msg("told: %.*s\nnot: %s", (int)told.len, told.data ? told.data : "", text);
    buf_clear(&told);
}

static void expect_story(struct fake *f, const char *text)
{
    if (!slice_eq(buf_slice(&f->story), slice_str(text)))
        fail_msg("asked: %.*s\nnot: %s", (int)f->story.len, f->story.data ? f->story.data : "",
                 text);
    buf_clear(&f->story);
}

static bool has_been_said(const struct buf *b, const char *text)
{
    return memmem(b->data, b->len, text, strlen(text)) != NULL;
}

static size_t times_said(const struct buf *b, const char *text)
{
    struct slice rest = buf_slice(b);
    const char *at;
    size_t n = 0;
    while (rest.len && (at = memmem(rest.ptr, rest.len, text, strlen(text))) != NULL) {
        size_t used = (size_t)(at - rest.ptr) + strlen(text);
        rest = slice_of(rest.ptr + used, rest.len - used);
        n++;
    }
    return n;
}

/* --- the client --- */

static void message(void *ctx, struct redis_sub *s, struct slice payload)
{
    assert_ptr_equal(ctx, &told);
    buf_printf(&told, "message %.*s %.*s;", (int)s->channel.len, s->channel.ptr, (int)payload.len,
               payload.ptr);
    if (on_message)
        on_message(s);
}

static void subscribed(void *ctx, struct redis_sub *s)
{
    (void)ctx;
    buf_printf(&told, "subscribed %.*s;", (int)s->channel.len, s->channel.ptr);
}

static void lost(void *ctx, struct redis_sub *s)
{
    (void)ctx;
    buf_printf(&told, "lost %.*s;", (int)s->channel.len, s->channel.ptr);
    if (on_lost)
        on_lost(s);
}

static void ready(void *ctx)
{
    (void)ctx;
    assert_int_equal(redis_ready(redis), redis_why_not(redis) == NULL);
    buf_append_str(&told, redis_ready(redis) ? "ready;" : "not ready;");
}

struct ask {
    struct redis_call call;
    struct slice arg[4];
    char name[8];
    bool done;
    enum err err;
    bool has_reply;
    void (*then)(struct ask *a);
};

static void ask_done(struct redis_call *c, enum err e, const struct reply *r)
{
    struct ask *a = container_of(c, struct ask, call);

    assert_false(a->done);
    a->done = true;
    a->err = e;
    a->has_reply = r != NULL;
    if (e == ERR_OK)
        assert_non_null(r);
    if (a->then)
        a->then(a);
}

/* Neither lies on the stack of a test: one that fails is left by a longjmp, and what it had on its
 * way is answered by the tear-down. */
static struct ask asks[128];
static struct redis_sub subs[4];
static size_t n_asks, n_subs;

static struct ask *new_ask(void)
{
    assert_true(n_asks < sizeof asks / sizeof *asks);
    asks[n_asks] = (struct ask){0};
    return &asks[n_asks++];
}

static struct redis_sub *new_sub(const char *channel)
{
    assert_true(n_subs < sizeof subs / sizeof *subs);
    subs[n_subs] = (struct redis_sub){.channel = slice_str(channel)};
    return &subs[n_subs++];
}

/* A script with one key, told apart by `name`. */
static void ask(struct ask *a, const char *key, const char *name)
{
    *a = (struct ask){.then = a->then};
    snprintf(a->name, sizeof a->name, "%s", name);
    a->arg[0] = slice_str(key);
    a->arg[1] = slice_str(a->name);
    a->call = (struct redis_call){.key = a->arg[0],
                                  .script = &script,
                                  .n_keys = 1,
                                  .n_args = 2,
                                  .arg = a->arg,
                                  .done = ask_done};
    redis_submit(redis, &a->call);
}

static void open_client(enum redis_mode mode, size_t n)
{
    for (size_t i = 0; i < n; i++)
        endpoint[i] = (struct redis_endpoint){.host = (char *)"127.0.0.1", .port = fake[i].port};
    target = (struct redis_target){
        .mode = mode, .n = n, .endpoint = endpoint, .master_name = (char *)"mymaster"};
    const struct redis_options o = {
        .target = &target,
        .connect_timeout_ms = 5000,
        .command_timeout_ms = COMMAND_TIMEOUT_MS,
        .max_reply_bytes = 1 << 20,
        .max_pending_bytes = 1 << 20,
        .scripts = scripts,
        .n_scripts = 1,
        .prefix = "t:",
        .on = {message, subscribed, lost, ready},
        .ctx = &told,
    };
    assert_int_equal(redis_new(&o, &redis), ERR_OK);
    assert_false(redis_ready(redis));
    assert_int_equal(redis_attach(redis, loop), ERR_OK);
}

static void open_ready(enum redis_mode mode, size_t n)
{
    open_client(mode, n);
    TURN_UNTIL(redis_ready(redis));
    settle();
    expect_told("ready;");
    for (size_t i = 0; i < SERVERS; i++)
        buf_clear(&fake[i].story);
}

static int set_up(void **state)
{
    (void)state;
    redis_script_init(&script);
    for (size_t i = 0; i < SERVERS; i++)
        fake_open(&fake[i]);
    buf_init(&told, 1 << 20);
    on_message = on_lost = NULL;
    redis = NULL;
    n_asks = n_subs = 0;
    return loop_new(&loop) == ERR_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    if (redis) {
        redis_detach(redis);
        redis_free(redis);
    }
    loop_turn(loop, 1);
    loop_free(loop);
    for (size_t i = 0; i < SERVERS; i++)
        fake_close(&fake[i]);
    buf_release(&told);
    return metrics_get(M_REDIS_UP) == 0 ? 0 : -1;
}

#define SHA "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"

/* --- one server --- */

static void test_ready_when_a_probe_has_come_back(void **state)
{
    (void)state;
    fake[0].keeps_quiet = true;
    open_client(REDIS_SHARDS, 1);
    TURN_UNTIL(fake[0].probes > 0);
    settle();
    assert_false(redis_ready(redis));
    assert_string_equal(redis_why_not(redis),
                        "what is published to a Redis server does not come back");
    fake[0].keeps_quiet = false;
    TURN_UNTIL(redis_ready(redis));
    settle();
    expect_told("ready;");
    assert_int_equal(metrics_get(M_REDIS_UP), 1);
}

static void test_what_depends_on_the_node_is_filled_in(void **state)
{
    struct ask *a = new_ask();

    (void)state;
    open_ready(REDIS_SHARDS, 1);
    a->arg[0] = SLICE("k");
    a->arg[1] = redis_arg_identity;
    a->arg[2] = redis_arg_publish;
    a->arg[3] = SLICE("identity"); /* the bytes alone do not count */
    a->call = (struct redis_call){.key = a->arg[0],
                                  .script = &script,
                                  .n_keys = 1,
                                  .n_args = 4,
                                  .arg = a->arg,
                                  .done = ask_done};
    redis_submit(redis, &a->call);
    TURN_UNTIL(a->done);
    assert_int_equal(a->err, ERR_OK);
    /* 0x1111… xor 0x2222… rotated by 7 */
    expect_story(&fake[0], "EVALSHA " SHA " 1 k 0000000000000000 PUBLISH identity;");
}

static void test_without_a_server_calls_fail_at_once(void **state)
{
    struct ask *a = new_ask();

    (void)state;
    fake_unlisten(&fake[0]);
    open_client(REDIS_SHARDS, 1);
    ask(a, "k", "a");
    assert_true(a->done);
    assert_int_equal(a->err, ERR_UNAVAILABLE);
    settle();
    ask(a, "k", "b");
    assert_true(a->done);
    assert_string_equal(redis_why_not(redis), "a Redis server is not connected");
    fake_listen(&fake[0]);
    TURN_UNTIL(redis_ready(redis));
    ask(a, "k", "c");
    TURN_UNTIL(a->done);
    assert_int_equal(a->err, ERR_OK);
    expect_story(&fake[0], "EVALSHA " SHA " 1 k c;"); /* nothing was kept */
}

static void test_a_stalled_server_gets_no_more_calls(void **state)
{
    struct ask *first = new_ask(), *more[40];
    size_t n = 0;

    (void)state;
    open_ready(REDIS_SHARDS, 1);
    fake[0].stalled = true;
    ask(first, "k", "first");
    do { /* taken, until the first has waited too long */
        assert_true(n < sizeof more / sizeof *more);
        uint64_t until = clock_mono_ms() + 50;
        TURN_UNTIL(clock_mono_ms() >= until);
        more[n] = new_ask();
        ask(more[n++], "k", "more");
    } while (!more[n - 1]->done);
    assert_int_equal(more[n - 1]->err, ERR_UNAVAILABLE);
    assert_true(n > 1 && !first->done); /* those may still be carried out */
    fake[0].stalled = false;
    for (size_t i = 0; i + 1 < n; i++) {
        TURN_UNTIL(more[i]->done);
        assert_int_equal(more[i]->err, ERR_OK);
    }
    ask(first, "k", "again");
    TURN_UNTIL(first->done);
    assert_int_equal(first->err, ERR_OK);
}

static void test_what_is_on_its_way_when_the_link_is_lost_is_answered(void **state)
{
    struct ask *a = new_ask();
    struct redis_sub *s = new_sub("c");

    (void)state;
    open_ready(REDIS_SHARDS, 1);
    redis_subscribe(redis, s);
    settle();
    expect_told("subscribed c;");
    fake[0].stalled = true;
    ask(a, "k", "a");
    settle();
    fake[0].stalled = false;
    fake_drop_all(&fake[0], false);
    TURN_UNTIL(a->done);
    assert_int_equal(a->err, ERR_UNAVAILABLE);
    TURN_UNTIL(redis_ready(redis));
    settle();
    expect_told("lost c;not ready;subscribed c;ready;");
}

static void test_noscript_is_answered_with_the_text_in_order(void **state)
{
    struct ask *a = new_ask(), *b = new_ask(), *c = new_ask();

    (void)state;
    open_ready(REDIS_SHARDS, 1);
    fake[0].no_scripts = true;
    ask(a, "k", "a");
    ask(b, "k", "b");
    TURN_UNTIL(a->done && b->done);
    assert_int_equal(a->err, ERR_OK);
    assert_int_equal(b->err, ERR_OK);
    ask(c, "k", "c");
    TURN_UNTIL(c->done);
    expect_story(&fake[0], "EVALSHA " SHA " 1 k a;EVALSHA " SHA " 1 k b;EVAL return 1 1 k a;"
                           "EVAL return 1 1 k b;EVALSHA " SHA " 1 k c;");
}

static struct ask late;

/* The first call is answered NOSCRIPT before the second; when it comes again with the text, `late`
 * is submitted, and only then the second is answered. */
static bool answer_the_second_late(struct fake_conn *c, const struct reply *command)
{
    struct slice name = fake_word(command, reply_count(command) - 1);
    bool eval = fake_is(command, "EVAL");

    if (late.call.done || (!eval && !fake_is(command, "EVALSHA")))
        return false;
    fake_note(c->fake, command);
    if (slice_eq(name, SLICE("b")))
        return true;
    if (eval)
        ask(&late, "k", "late");
    fake_say(c, "-NOSCRIPT No matching script.\r\n");
    if (eval)
        fake_say(c, ":1\r\n");
    return true;
}

static void test_nothing_overtakes_what_is_sent_again(void **state)
{
    struct ask *a = new_ask(), *b = new_ask();

    (void)state;
    open_ready(REDIS_SHARDS, 1);
    late = (struct ask){0};
    fake[0].special = answer_the_second_late;
    ask(a, "k", "a");
    ask(b, "k", "b");
    TURN_UNTIL(a->done && b->done && late.done);
    assert_int_equal(late.err, ERR_OK);
    expect_story(&fake[0], "EVALSHA " SHA " 1 k a;EVALSHA " SHA " 1 k b;EVAL return 1 1 k a;"
                           "EVAL return 1 1 k b;EVALSHA " SHA " 1 k late;");
}

static const char *answer_with;

static bool refuse_scripts(struct fake_conn *c, const struct reply *command)
{
    if (!fake_is(command, "EVALSHA"))
        return false;
    buf_printf(&c->out, "-%s\r\n", answer_with);
    return true;
}

static void test_refusals_are_told_apart(void **state)
{
    static const struct {
        const char *text;
        enum err err;
    } cases[] = {
        {"OOM command not allowed", ERR_UNAVAILABLE},
        {"LOADING Redis is loading the dataset in memory", ERR_UNAVAILABLE},
        {"BUSY Redis is busy running a script", ERR_UNAVAILABLE},
        {"MISCONF Errors writing to the AOF file", ERR_UNAVAILABLE},
        {"NOREPLICAS Not enough good replicas to write.", ERR_UNAVAILABLE},
        {"WRONGTYPE Operation against a key", ERR_IO},
        {"NOPERM this user has no permissions", ERR_IO},
        {"ERR unknown", ERR_IO},
    };
    int64_t before = metrics_get(M_REDIS_ERRORS);

    (void)state;
    open_ready(REDIS_SHARDS, 1);
    fake[0].special = refuse_scripts;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ask *a = new_ask();
        answer_with = cases[i].text;
        ask(a, "k", "a");
        TURN_UNTIL(a->done);
        if (a->err != cases[i].err || !a->has_reply)
            fail_msg("%s: %s", cases[i].text, err_str(a->err));
    }
    assert_int_equal(metrics_get(M_REDIS_ERRORS) - before, sizeof cases / sizeof *cases);
    assert_true(redis_ready(redis));
    expect_told("");
}

static void test_a_master_that_became_a_replica_is_left_until_it_is_one(void **state)
{
    struct ask *a = new_ask();
    struct redis_sub *s = new_sub("c");

    (void)state;
    open_ready(REDIS_SHARDS, 1);
    redis_subscribe(redis, s);
    settle();
    expect_told("subscribed c;");
    fake[0].special = refuse_scripts;
    fake[0].role = "slave";
    answer_with = "READONLY You can't write against a read only replica.";
    ask(a, "k", "a");
    TURN_UNTIL(a->done);
    assert_int_equal(a->err, ERR_UNAVAILABLE);
    TURN_UNTIL(!redis_ready(redis) &&
               strcmp(redis_why_not(redis), "a Redis server is a replica") == 0);
    expect_told("lost c;not ready;");
    ask(a, "k", "b");
    assert_true(a->done);
    fake[0].special = NULL;
    fake[0].role = "master";
    TURN_UNTIL(redis_ready(redis));
    settle();
    expect_told("subscribed c;ready;");
}

static void test_another_history_breaks_the_links(void **state)
{
    struct redis_sub *s = new_sub("c");
    struct ask *a = new_ask();

    (void)state;
    open_ready(REDIS_SHARDS, 1);
    redis_subscribe(redis, s);
    settle();
    buf_clear(&told);
    fake[0].replid = "3333333333333333333333333333333333333333";
    TURN_UNTIL(told.len > 0); /* asked with the next tick */
    TURN_UNTIL(redis_ready(redis));
    settle();
    expect_told("lost c;not ready;subscribed c;ready;");
    a->arg[0] = redis_arg_identity;
    a->call = (struct redis_call){.script = &script, .n_args = 1, .arg = a->arg, .done = ask_done};
    buf_clear(&fake[0].story);
    redis_submit(redis, &a->call);
    TURN_UNTIL(a->done);
    assert_false(has_been_said(&fake[0].story, "0000000000000000"));
}

static void test_without_info_a_server_serves_without_identity(void **state)
{
    struct ask *a = new_ask();

    (void)state;
    fake[0].info_error = "NOPERM this user has no permissions to run the 'info' command";
    open_ready(REDIS_SHARDS, 1);
    a->arg[0] = redis_arg_identity;
    a->call = (struct redis_call){.script = &script, .n_args = 1, .arg = a->arg, .done = ask_done};
    redis_submit(redis, &a->call);
    TURN_UNTIL(a->done);
    expect_story(&fake[0], "EVALSHA " SHA " 0 0000000000000000;");
    assert_int_equal(fake[0].infos, 1);
}

static void test_a_server_that_loads_is_waited_for(void **state)
{
    (void)state;
    fake[0].info_error = "LOADING Redis is loading the dataset in memory";
    open_client(REDIS_SHARDS, 1);
    TURN_UNTIL(strcmp(redis_why_not(redis), "a Redis server cannot serve now") == 0);
    fake[0].info_error = NULL;
    TURN_UNTIL(redis_ready(redis));
}

static void test_a_deaf_subscribe_link_is_broken(void **state)
{
    struct redis_sub *s = new_sub("c");

    (void)state;
    open_ready(REDIS_SHARDS, 1);
    redis_subscribe(redis, s);
    settle();
    expect_told("subscribed c;");
    fake[0].keeps_quiet = true;
    unsigned greeted = fake[0].greeted;
    TURN_UNTIL(!redis_ready(redis));
    settle();
    expect_told("not ready;");
    TURN_UNTIL(fake[0].greeted == greeted + 1);
    fake[0].keeps_quiet = false;
    TURN_UNTIL(redis_ready(redis));
    settle();
    expect_told("lost c;subscribed c;ready;");
}

/* --- subscriptions --- */

static void test_messages_come_to_who_subscribed(void **state)
{
    struct redis_sub *a = new_sub("a"), *b = new_sub("b");

    (void)state;
    open_ready(REDIS_SHARDS, 1);
    redis_subscribe(redis, a);
    redis_subscribe(redis, b);
    expect_told("");
    settle();
    expect_told("subscribed a;subscribed b;");
    expect_story(&fake[0], "SUBSCRIBE a b;");
    fake_publish(&fake[0], false, SLICE("b"), SLICE("1"));
    fake_publish(&fake[0], false, SLICE("a"), SLICE("2"));
    settle();
    expect_told("message b 1;message a 2;");
    redis_unsubscribe(redis, b);
    fake_publish(&fake[0], false, SLICE("b"), SLICE("3")); /* it does not know yet */
    settle();
    expect_told("");
    expect_story(&fake[0], "UNSUBSCRIBE b;");
    redis_unsubscribe(redis, b); /* fine */
    redis_unsubscribe(redis, a);
}

static void test_the_first_confirmation_does_not_count_for_the_second(void **state)
{
    struct redis_sub *a = new_sub("a");

    (void)state;
    open_ready(REDIS_SHARDS, 1);
    fake[0].stalled = true;
    redis_subscribe(redis, a);
    settle(); /* sent */
    redis_unsubscribe(redis, a);
    redis_subscribe(redis, a);
    settle();
    fake[0].stalled = false;
    settle();
    expect_story(&fake[0], "SUBSCRIBE a;UNSUBSCRIBE a;SUBSCRIBE a;");
    expect_told("subscribed a;");
    fake_publish(&fake[0], false, SLICE("a"), SLICE("1"));
    settle();
    expect_told("message a 1;");
}

static void test_who_was_not_subscribed_loses_nothing(void **state)
{
    struct redis_sub *a = new_sub("a");

    (void)state;
    open_ready(REDIS_SHARDS, 1);
    fake[0].stalled = true;
    redis_subscribe(redis, a);
    settle();
    fake_drop_all(&fake[0], false);
    fake[0].stalled = false;
    TURN_UNTIL(!redis_ready(redis));
    TURN_UNTIL(redis_ready(redis));
    settle();
    expect_told("not ready;subscribed a;ready;");
}

static void test_a_refused_subscription_is_tried_again(void **state)
{
    struct redis_sub *a = new_sub("a"), *b = new_sub("b");

    (void)state;
    open_ready(REDIS_SHARDS, 1);
    fake[0].subscribe_error = "NOPERM No permissions to access a channel";
    redis_subscribe(redis, a);
    redis_subscribe(redis, b);
    settle();
    expect_story(&fake[0], "SUBSCRIBE a b;"); /* not again and again */
    expect_told("");
    fake[0].subscribe_error = NULL;
    TURN_UNTIL(fake[0].story.len > 0);
    settle();
    expect_told("subscribed a;subscribed b;");
}

#define MANY 20000

static void test_many_subscriptions_come_in_windows(void **state)
{
    struct redis_sub *s = calloc(MANY, sizeof *s);
    char(*name)[16] = calloc(MANY, sizeof *name);

    (void)state;
    open_ready(REDIS_SHARDS, 1);
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(name[i], sizeof name[i], "channel-%u", i);
        s[i].channel = slice_str(name[i]);
        redis_subscribe(redis, &s[i]);
    }
    size_t before = fake[0].subscribes;
    TURN_UNTIL(times_said(&told, "subscribed channel-") == MANY);
    assert_int_equal(fake[0].subscribes - before, MANY);
    buf_clear(&told);
    fake_drop_all(&fake[0], true);
    before = fake[0].subscribes;
    TURN_UNTIL(times_said(&told, "subscribed channel-") == MANY);
    assert_int_equal(fake[0].subscribes - before, MANY + 1); /* the probe */
    fake_publish(&fake[0], false, SLICE("channel-19999"), SLICE("1"));
    buf_clear(&told);
    settle();
    expect_told("message channel-19999 1;");
    assert_in_range(fake[0].most_at_once, 256, 4096);
    for (unsigned i = 0; i < MANY; i++)
        redis_unsubscribe(redis, &s[i]);
    TURN_UNTIL(fake[0].conn[0].n_channels + fake[0].conn[1].n_channels == 1); /* the probe */
    free(s);
    free(name);
}

/* --- going away --- */

static struct ask pending;

static void detach_and_free(struct redis_sub *s)
{
    (void)s;
    redis_detach(redis);
    redis_free(redis);
    redis = NULL;
}

static void test_the_client_may_be_freed_within_a_handler(void **state)
{
    struct redis_sub *a = new_sub("a"), *b = new_sub("b");

    (void)state;
    open_ready(REDIS_SHARDS, 1);
    redis_subscribe(redis, a);
    redis_subscribe(redis, b);
    settle();
    buf_clear(&told);
    pending = (struct ask){0};
    fake[0].stalled = true;
    ask(&pending, "k", "a");
    fake[0].stalled = false;
    on_message = detach_and_free;
    fake_publish(&fake[0], false, SLICE("a"), SLICE("1"));
    fake_publish(&fake[0], false, SLICE("b"), SLICE("2"));
    TURN_UNTIL(redis == NULL);
    settle();
    expect_told("message a 1;"); /* and nothing after it */
    assert_true(pending.done);
    assert_true(pending.err == ERR_CLOSED || pending.err == ERR_OK);
}

static void test_the_client_may_be_freed_while_it_tells_of_losses(void **state)
{
    struct redis_sub *a = new_sub("a"), *b = new_sub("b");

    (void)state;
    open_ready(REDIS_SHARDS, 1);
    redis_subscribe(redis, a);
    redis_subscribe(redis, b);
    settle();
    buf_clear(&told);
    on_lost = detach_and_free;
    fake_drop_all(&fake[0], false);
    TURN_UNTIL(redis == NULL);
    settle();
    /* Which of the two links is found lost first decides whether readiness is told before. */
    assert_int_equal(times_said(&told, "lost a;"), 1);
    assert_int_equal(times_said(&told, "lost b;"), 0);
    buf_clear(&told);
}

static void submit_again(struct ask *a)
{
    a->then = NULL;
    a->done = false;
    ask(a, "k", "again");
}

static void test_detaching_answers_everything(void **state)
{
    struct ask *a = new_ask(), *b = new_ask();

    (void)state;
    open_ready(REDIS_SHARDS, 1);
    fake[0].stalled = true;
    ask(a, "k", "a");
    b->then = submit_again;
    ask(b, "k", "b");
    settle();
    redis_detach(redis);
    assert_true(a->done && b->done);
    assert_int_equal(a->err, ERR_CLOSED);
    assert_int_equal(b->err, ERR_CLOSED);
    ask(a, "k", "c");
    assert_true(a->done);
    assert_int_equal(a->err, ERR_CLOSED);
    assert_false(redis_ready(redis));
    fake[0].stalled = false;
    assert_int_equal(redis_attach(redis, loop), ERR_OK); /* and back */
    TURN_UNTIL(redis_ready(redis));
}

static void test_subscriptions_may_come_before_the_loop(void **state)
{
    struct redis_sub *a = new_sub("a");

    (void)state;
    open_ready(REDIS_SHARDS, 1);
    redis_detach(redis);
    redis_subscribe(redis, a);
    assert_int_equal(redis_attach(redis, loop), ERR_OK);
    TURN_UNTIL(told.len > 0);
    expect_told("subscribed a;");
}

/* --- several servers --- */

static void test_shards_are_ready_when_all_are(void **state)
{
    (void)state;
    fake_unlisten(&fake[2]);
    open_client(REDIS_SHARDS, 3);
    TURN_UNTIL(metrics_get(M_REDIS_UP) == 2);
    assert_false(redis_ready(redis));
    fake_listen(&fake[2]);
    TURN_UNTIL(redis_ready(redis));
    for (unsigned i = 0; i < 100; i++) {
        char key[16];
        struct ask *a = new_ask();
        snprintf(key, sizeof key, "k%u", i);
        ask(a, key, "a");
        TURN_UNTIL(a->done);
        assert_int_equal(a->err, ERR_OK);
    }
    for (size_t i = 0; i < 3; i++)
        assert_true(fake[i].story.len > 0);
}

static void name_master(size_t i)
{
    for (size_t f = 0; f < SERVERS; f++) {
        fake[f].master_host = "127.0.0.1";
        fake[f].master_port = fake[i].port;
    }
}

/* Server 0 is the sentinel, 1 and 2 are the servers. */
static void test_the_master_is_where_the_sentinel_says(void **state)
{
    struct redis_sub *s = new_sub("c");
    struct ask *a = new_ask();

    (void)state;
    name_master(1);
    fake[2].role = "slave";
    open_ready(REDIS_SENTINEL, 1);
    redis_subscribe(redis, s);
    settle();
    expect_told("subscribed c;");
    ask(a, "k", "a");
    TURN_UNTIL(a->done);
    expect_story(&fake[1], "SUBSCRIBE c;EVALSHA " SHA " 1 k a;");
    expect_story(&fake[2], "");

    fake[1].stalled = true; /* alone and not knowing */
    ask(a, "k", "b");
    fake[2].role = "master";
    name_master(2);
    TURN_UNTIL(a->done);
    assert_int_equal(a->err, ERR_UNAVAILABLE);
    TURN_UNTIL(redis_ready(redis));
    settle();
    expect_told("lost c;not ready;subscribed c;ready;");
    ask(a, "k", "c");
    TURN_UNTIL(a->done);
    assert_int_equal(a->err, ERR_OK);
    expect_story(&fake[2], "SUBSCRIBE c;EVALSHA " SHA " 1 k c;");
}

static void test_who_the_sentinel_names_must_be_a_master(void **state)
{
    (void)state;
    name_master(1);
    fake[1].role = "slave";
    open_client(REDIS_SENTINEL, 1);
    TURN_UNTIL(strcmp(redis_why_not(redis), "a Redis server is a replica") == 0);
    fake[1].role = "master";
    TURN_UNTIL(redis_ready(redis));
}

static void test_sentinels_are_asked_in_turn(void **state)
{
    (void)state;
    name_master(2);
    fake[0].master_host = NULL; /* does not know the name */
    fake[1].role = "slave";
    open_client(REDIS_SENTINEL, 2);
    TURN_UNTIL(redis_ready(redis));
    fake_close(&fake[1]);
    fake_open(&fake[1]); /* elsewhere: nobody knows the way */
    fake[0].master_host = "127.0.0.1";
    unsigned greeted = fake[0].greeted;
    TURN_UNTIL(fake[0].greeted > greeted);
    settle();
    assert_true(redis_ready(redis));
}

/* --- a cluster --- */

static char table[512];

/* The slots up to `last` are server 0's, the rest server 1's. */
static void divide_slots(unsigned last)
{
    snprintf(table, sizeof table,
             "*2\r\n*3\r\n:0\r\n:%u\r\n*2\r\n$9\r\n127.0.0.1\r\n:%u\r\n"
             "*3\r\n:%u\r\n:16383\r\n*2\r\n$0\r\n\r\n:%u\r\n",
             last, (unsigned)fake[0].port, last + 1, (unsigned)fake[1].port);
    for (size_t i = 0; i < SERVERS; i++)
        fake[i].cluster_slots = table;
}

/* "hello" has slot 866, "foo" 12182. */
static void open_cluster(void)
{
    divide_slots(8191);
    open_ready(REDIS_CLUSTER, 1);
}

static void test_keys_go_to_the_owner_of_their_slot(void **state)
{
    struct ask *a = new_ask(), *b = new_ask();
    struct redis_sub *s = new_sub("foo"), *t = new_sub("hello");

    (void)state;
    open_cluster();
    ask(a, "foo", "a");
    ask(b, "hello", "b");
    redis_subscribe(redis, s);
    redis_subscribe(redis, t);
    TURN_UNTIL(a->done && b->done);
    settle();
    expect_story(&fake[0], "EVALSHA " SHA " 1 hello b;SSUBSCRIBE hello;");
    expect_story(&fake[1], "EVALSHA " SHA " 1 foo a;SSUBSCRIBE foo;");
    fake_publish(&fake[1], true, SLICE("foo"), SLICE("1"));
    settle();
    assert_true(has_been_said(&told, "message foo 1;"));
    assert_int_equal(metrics_get(M_REDIS_UP), 2);
}

static void test_before_version_7_pubsub_is_classic(void **state)
{
    struct redis_sub *s = new_sub("foo");
    struct ask *a = new_ask();

    (void)state;
    fake[0].version = fake[1].version = "6.2.14";
    open_cluster();
    redis_subscribe(redis, s);
    a->arg[0] = redis_arg_publish;
    a->call = (struct redis_call){
        .key = SLICE("foo"), .script = &script, .n_args = 1, .arg = a->arg, .done = ask_done};
    redis_submit(redis, &a->call);
    TURN_UNTIL(a->done);
    settle();
    expect_told("subscribed foo;");
    expect_story(&fake[1], "EVALSHA " SHA " 0 PUBLISH;SUBSCRIBE foo;");
}

static char redirect_text[64];

static bool redirect_scripts(struct fake_conn *c, const struct reply *command)
{
    if (!fake_is(command, "EVALSHA"))
        return false;
    fake_note(c->fake, command);
    fake_say(c, redirect_text);
    return true;
}

static void test_moved_is_followed_and_remembered(void **state)
{
    struct ask *a = new_ask(), *b = new_ask(), *c = new_ask();
    int64_t before = metrics_get(M_REDIS_REDIRECTS);

    (void)state;
    open_cluster();
    snprintf(redirect_text, sizeof redirect_text, "-MOVED 12182 :%u\r\n", (unsigned)fake[0].port);
    fake[1].special = redirect_scripts;
    ask(a, "foo", "a");
    ask(b, "foo", "b");
    TURN_UNTIL(a->done && b->done);
    assert_int_equal(a->err, ERR_OK);
    divide_slots(16000);
    ask(c, "foo", "c");
    TURN_UNTIL(c->done);
    expect_story(&fake[1], "EVALSHA " SHA " 1 foo a;EVALSHA " SHA " 1 foo b;");
    expect_story(&fake[0],
                 "EVALSHA " SHA " 1 foo a;EVALSHA " SHA " 1 foo b;EVALSHA " SHA " 1 foo c;");
    assert_int_equal(metrics_get(M_REDIS_REDIRECTS) - before, 2);
}

static void submit_behind(struct ask *a)
{
    (void)a;
    ask(&late, "foo", "late");
}

/* Server 0 is stuck with what it was sent again: what comes later waits for it. */
static void test_a_call_does_not_overtake_one_that_is_redirected(void **state)
{
    struct ask *a = new_ask(), *other = new_ask();

    (void)state;
    open_cluster();
    late = (struct ask){0};
    snprintf(redirect_text, sizeof redirect_text, "-MOVED 12182 127.0.0.1:%u\r\n",
             (unsigned)fake[0].port);
    fake[1].special = redirect_scripts;
    fake[0].stalled = true;
    ask(a, "foo", "a");
    TURN_UNTIL(metrics_get(M_REDIS_REDIRECTS) > 0 && fake[1].story.len > 0);
    settle();
    submit_behind(a);
    ask(other, "hello", "other"); /* of another slot */
    fake[0].stalled = false;
    TURN_UNTIL(a->done && late.done && other->done);
    assert_int_equal(late.err, ERR_OK);
    expect_story(&fake[0], "EVALSHA " SHA " 1 foo a;EVALSHA " SHA " 1 hello other;EVALSHA " SHA
                           " 1 foo late;");
}

static void test_ask_is_followed_once(void **state)
{
    struct ask *a = new_ask(), *b = new_ask();

    (void)state;
    open_cluster();
    snprintf(redirect_text, sizeof redirect_text, "-ASK 12182 127.0.0.1:%u\r\n",
             (unsigned)fake[0].port);
    fake[1].special = redirect_scripts;
    ask(a, "foo", "a");
    TURN_UNTIL(a->done);
    assert_int_equal(a->err, ERR_OK);
    fake[1].special = NULL;
    ask(b, "foo", "b");
    TURN_UNTIL(b->done);
    expect_story(&fake[0], "ASKING;EVALSHA " SHA " 1 foo a;");
    expect_story(&fake[1], "EVALSHA " SHA " 1 foo a;EVALSHA " SHA " 1 foo b;");
}

static void test_a_node_that_is_new_is_connected_first(void **state)
{
    struct ask *a = new_ask();

    (void)state;
    open_cluster();
    snprintf(redirect_text, sizeof redirect_text, "-MOVED 12182 127.0.0.1:%u\r\n",
             (unsigned)fake[2].port);
    fake[1].special = redirect_scripts;
    ask(a, "foo", "a");
    TURN_UNTIL(a->done);
    assert_int_equal(a->err, ERR_OK);
    expect_story(&fake[2], "EVALSHA " SHA " 1 foo a;");
}

static unsigned times;

static bool try_again_later(struct fake_conn *c, const struct reply *command)
{
    if (!fake_is(command, "EVALSHA") || times == 0)
        return false;
    times--;
    fake_note(c->fake, command);
    fake_say(c, "-TRYAGAIN Multiple keys request during rehashing of slot\r\n");
    return true;
}

static void test_tryagain_is_tried_again_and_not_for_ever(void **state)
{
    struct ask *a = new_ask(), *b = new_ask();

    (void)state;
    open_cluster();
    times = 2;
    fake[1].special = try_again_later;
    ask(a, "foo", "a");
    settle();
    ask(b, "foo", "b");
    TURN_UNTIL(a->done && b->done);
    assert_int_equal(a->err, ERR_OK);
    assert_int_equal(b->err, ERR_OK);
    expect_story(&fake[1], "EVALSHA " SHA " 1 foo a;EVALSHA " SHA " 1 foo a;EVALSHA " SHA
                           " 1 foo a;EVALSHA " SHA " 1 foo b;");
    times = 1000;
    ask(a, "foo", "c");
    TURN_UNTIL(a->done);
    assert_int_equal(a->err, ERR_UNAVAILABLE);
    assert_int_equal(times, 1000 - 6);
}

static void test_detaching_answers_what_waits_for_a_slot(void **state)
{
    struct ask *a = new_ask(), *b = new_ask(), *c = new_ask();

    (void)state;
    open_cluster();
    times = 1000;
    fake[1].special = try_again_later;
    ask(a, "foo", "a");
    TURN_UNTIL(times < 1000);
    settle();
    ask(b, "foo", "b");
    c->then = submit_again;
    ask(c, "foo", "c");
    assert_false(b->done || c->done);
    redis_detach(redis);
    assert_true(a->done && b->done && c->done);
    assert_int_equal(a->err, ERR_CLOSED);
    assert_int_equal(b->err, ERR_CLOSED);
    assert_int_equal(c->err, ERR_CLOSED);
}

static void test_a_subscription_follows_its_slot(void **state)
{
    struct redis_sub *s = new_sub("foo"), *t = new_sub("{foo}2");

    (void)state;
    open_cluster();
    redis_subscribe(redis, s);
    redis_subscribe(redis, t);
    settle();
    expect_told("subscribed foo;subscribed {foo}2;");
    divide_slots(16000);
    fake_take_away(&fake[1], SLICE("foo"));
    fake_take_away(&fake[1], SLICE("{foo}2"));
    TURN_UNTIL(fake[0].story.len > 0);
    settle();
    expect_told("lost foo;lost {foo}2;subscribed foo;subscribed {foo}2;");
    expect_story(&fake[0], "SSUBSCRIBE foo;SSUBSCRIBE {foo}2;");
    fake_publish(&fake[0], true, SLICE("foo"), SLICE("1"));
    settle();
    expect_told("message foo 1;");
}

static bool ssubscribe_moved(struct fake_conn *c, const struct reply *command)
{
    if (!fake_is(command, "SSUBSCRIBE") || !slice_eq(fake_word(command, 1), SLICE("foo")))
        return false;
    fake_note(c->fake, command);
    fake_say(c, redirect_text);
    return true;
}

static void test_a_subscription_that_is_answered_moved_goes_there(void **state)
{
    struct redis_sub *s = new_sub("foo"), *t = new_sub("{x}foo");

    (void)state;
    open_cluster();
    snprintf(redirect_text, sizeof redirect_text, "-MOVED 12182 127.0.0.1:%u\r\n",
             (unsigned)fake[0].port);
    fake[1].special = ssubscribe_moved;
    redis_subscribe(redis, s);
    redis_subscribe(redis, t); /* slot 16287: still server 1's */
    TURN_UNTIL(fake[0].story.len > 0);
    divide_slots(16000);
    settle();
    expect_story(&fake[1], "SSUBSCRIBE foo;SSUBSCRIBE {x}foo;");
    expect_story(&fake[0], "SSUBSCRIBE foo;");
    expect_told("subscribed {x}foo;subscribed foo;");
}

static void test_a_cluster_that_is_down_is_not_ready(void **state)
{
    (void)state;
    open_cluster();
    fake[0].cluster_state = "fail";
    TURN_UNTIL(!redis_ready(redis));
    assert_string_equal(redis_why_not(redis), "the Redis Cluster says that it is down");
    fake[0].cluster_state = "ok";
    TURN_UNTIL(redis_ready(redis));
}

static void test_a_cluster_with_holes_is_not_ready(void **state)
{
    struct ask *a = new_ask();

    (void)state;
    snprintf(table, sizeof table, "*1\r\n*3\r\n:0\r\n:8191\r\n*2\r\n$9\r\n127.0.0.1\r\n:%u\r\n",
             (unsigned)fake[0].port);
    fake[0].cluster_slots = table;
    open_client(REDIS_CLUSTER, 1);
    assert_string_equal(redis_why_not(redis), "no node of the Redis Cluster has answered");
    TURN_UNTIL(metrics_get(M_REDIS_UP) == 1);
    assert_string_equal(redis_why_not(redis), "slots of the Redis Cluster have no server");
    ask(a, "foo", "a");
    assert_true(a->done);
    assert_int_equal(a->err, ERR_UNAVAILABLE);
    divide_slots(8191);
    TURN_UNTIL(redis_ready(redis));
}

static void test_a_node_that_lost_all_goes_elsewhere(void **state)
{
    struct redis_sub *s = new_sub("foo");
    struct ask *a = new_ask();

    (void)state;
    open_cluster();
    redis_subscribe(redis, s);
    settle();
    buf_clear(&told);
    snprintf(table, sizeof table, "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%u\r\n",
             (unsigned)fake[0].port);
    fake_drop_all(&fake[1], false);
    fake_unlisten(&fake[1]);
    TURN_UNTIL(fake[0].story.len > 0);
    TURN_UNTIL(redis_ready(redis));
    settle();
    assert_true(has_been_said(&told, "lost foo;"));
    assert_true(has_been_said(&told, "subscribed foo;"));
    ask(a, "foo", "a");
    TURN_UNTIL(a->done);
    assert_int_equal(a->err, ERR_OK);
}

#define client_test(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        client_test(test_ready_when_a_probe_has_come_back),
        client_test(test_what_depends_on_the_node_is_filled_in),
        client_test(test_without_a_server_calls_fail_at_once),
        client_test(test_a_stalled_server_gets_no_more_calls),
        client_test(test_what_is_on_its_way_when_the_link_is_lost_is_answered),
        client_test(test_noscript_is_answered_with_the_text_in_order),
        client_test(test_nothing_overtakes_what_is_sent_again),
        client_test(test_refusals_are_told_apart),
        client_test(test_a_master_that_became_a_replica_is_left_until_it_is_one),
        client_test(test_another_history_breaks_the_links),
        client_test(test_without_info_a_server_serves_without_identity),
        client_test(test_a_server_that_loads_is_waited_for),
        client_test(test_a_deaf_subscribe_link_is_broken),
        client_test(test_messages_come_to_who_subscribed),
        client_test(test_the_first_confirmation_does_not_count_for_the_second),
        client_test(test_who_was_not_subscribed_loses_nothing),
        client_test(test_a_refused_subscription_is_tried_again),
        client_test(test_many_subscriptions_come_in_windows),
        client_test(test_the_client_may_be_freed_within_a_handler),
        client_test(test_the_client_may_be_freed_while_it_tells_of_losses),
        client_test(test_detaching_answers_everything),
        client_test(test_subscriptions_may_come_before_the_loop),
        client_test(test_shards_are_ready_when_all_are),
        client_test(test_the_master_is_where_the_sentinel_says),
        client_test(test_who_the_sentinel_names_must_be_a_master),
        client_test(test_sentinels_are_asked_in_turn),
        client_test(test_keys_go_to_the_owner_of_their_slot),
        client_test(test_before_version_7_pubsub_is_classic),
        client_test(test_moved_is_followed_and_remembered),
        client_test(test_a_call_does_not_overtake_one_that_is_redirected),
        client_test(test_ask_is_followed_once),
        client_test(test_a_node_that_is_new_is_connected_first),
        client_test(test_tryagain_is_tried_again_and_not_for_ever),
        client_test(test_detaching_answers_what_waits_for_a_slot),
        client_test(test_a_subscription_follows_its_slot),
        client_test(test_a_subscription_that_is_answered_moved_goes_there),
        client_test(test_a_cluster_that_is_down_is_not_ready),
        client_test(test_a_cluster_with_holes_is_not_ready),
        client_test(test_a_node_that_lost_all_goes_elsewhere),
    };
    signal(SIGPIPE, SIG_IGN);
    alarm(300); /* what hangs is a failure */
    log_set_level(LOG_ERROR);
    return cmocka_run_group_tests_name("redis_client", tests, NULL, NULL);
}
