/* scout.c - one question, several servers.
 *
 * The timer means what the state says: patience while opening or asked, the next question while
 * resting, the next round while paused. The link's own reconnecting is never used: who was lost is
 * not asked next.
 */
#include "scout.h"

#include "crier/rnd.h"
#include "endpoint.h"

#define PAUSE_MIN_MS 100u
#define PAUSE_MAX_MS 2000u

static void begin(struct scout *s);

static void set_timer(struct scout *s, uint64_t delay_ms)
{
    timer_set(loop_timers(s->r->loop), &s->timer, delay_ms);
}

static void close_link(struct scout *s)
{
    struct link *l = s->link;

    s->link = NULL;
    if (l)
        link_close(l);
    endpoint_release(&s->place);
}

static void pause_round(struct scout *s)
{
    uint32_t most = PAUSE_MIN_MS << (s->rounds < 5 ? s->rounds : 5);

    s->rounds++;
    s->failed = 0;
    s->state = SCOUT_PAUSED;
    set_timer(s, PAUSE_MIN_MS + rnd_below(most < PAUSE_MAX_MS ? most : PAUSE_MAX_MS));
}

static void go_on(struct scout *s)
{
    close_link(s);
    s->failed++;
    if (s->failed >= s->ops->places(s->r))
        pause_round(s);
    else
        begin(s);
}

static void rest(struct scout *s)
{
    uint64_t since = client_now_ms(s->r) - s->asked_ms;
    uint64_t wait = s->again ? SCOUT_LEAST_MS : s->period_ms;

    s->state = SCOUT_RESTING;
    s->again = false;
    set_timer(s, since < wait ? wait - since : 0);
}

static void answered(struct link_request *q, enum err e, const struct reply *reply)
{
    struct scout *s = container_of(q, struct scout, q);
    struct redis *r = s->r;

    if (e || s->state != SCOUT_ASKED)
        return; /* the link is lost, and says so next; or it is ours that closes it */
    client_enter(r);
    bool useful = s->ops->answer(r, &s->place, reply);
    if (s->state == SCOUT_ASKED) { /* neither stopped nor sent elsewhere */
        if (useful) {
            s->failed = s->rounds = 0;
            rest(s);
        } else {
            go_on(s);
        }
    }
    client_leave(r);
}

static void ask(struct scout *s)
{
    s->asked_ms = client_now_ms(s->r);
    s->state = SCOUT_ASKED;
    s->q.done = answered;
    if (link_send(s->link, &s->q, s->question, s->n_words) != ERR_OK)
        go_on(s);
    else
        set_timer(s, SCOUT_PATIENCE_MS);
}

static void link_up(struct link *l)
{
    struct scout *s = link_ctx(l);

    client_enter(s->r);
    ask(s);
    client_leave(s->r);
}

static void link_down(struct link *l, const char *why)
{
    struct scout *s = link_ctx(l);

    (void)why; /* the link has logged it */
    client_enter(s->r);
    go_on(s);
    client_leave(s->r);
}

static void begin(struct scout *s)
{
    static const struct link_ops ops = {.up = link_up, .down = link_down};
    size_t places = s->ops->places(s->r);

    if (places == 0) {
        pause_round(s);
        return;
    }
    s->ops->place(s->r, s->next++ % places, &s->place);
    const struct link_options o = {
        .kind = LINK_COMMANDS,
        .endpoint = &s->place,
        .redis = &s->options,
        .ops = &ops,
        .ctx = s,
    };
    if (link_new(s->r->loop, &o, &s->link) != ERR_OK) {
        endpoint_release(&s->place);
        pause_round(s);
        return;
    }
    s->state = SCOUT_OPENING;
    set_timer(s, SCOUT_PATIENCE_MS);
    link_open(s->link);
}

static void fired(struct timer *t)
{
    struct scout *s = container_of(t, struct scout, timer);

    client_enter(s->r);
    if (s->state == SCOUT_RESTING)
        ask(s);
    else if (s->state == SCOUT_PAUSED)
        begin(s);
    else
        go_on(s);
    client_leave(s->r);
}

void scout_init(struct scout *s, struct redis *r, const struct scout_ops *ops,
                const struct slice *question, size_t n_words, uint64_t period_ms)
{
    *s = (struct scout){
        .r = r,
        .ops = ops,
        .question = question,
        .n_words = n_words,
        .period_ms = period_ms,
        .options = r->o,
    };
    s->options.n_scripts = 0;
    timer_init(&s->timer, fired);
}

void scout_start(struct scout *s)
{
    BUG_ON(s->state != SCOUT_STOPPED);
    s->next = s->failed = s->rounds = 0;
    s->again = false;
    begin(s);
}

void scout_stop(struct scout *s)
{
    if (s->state == SCOUT_STOPPED)
        return;
    s->state = SCOUT_STOPPED;
    timer_cancel(loop_timers(s->r->loop), &s->timer);
    close_link(s);
}

void scout_hurry(struct scout *s)
{
    if (s->state == SCOUT_ASKED) {
        s->again = true;
    } else if (s->state == SCOUT_RESTING) {
        s->again = true;
        rest(s);
    }
}
