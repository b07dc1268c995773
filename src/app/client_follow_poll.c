/* client_follow_poll.c - long polls, one after the other, until one fails.
 *
 * The cursor of an answer is taken only when all of its messages were printed: an answer that was
 * lost, or printed in part, is asked for again.
 */
#include "client_follow.h"
#include "client_problem.h"
#include "crier/json.h"

#include <stdio.h>
#include <stdlib.h>

#define HOLD_SECONDS "25"
#define SILENCE_MS 45000 /* the hold, and time for a slow network */

static bool take_body(void *ctx, const struct http_answer *a, struct slice bytes)
{
    struct buf *body = ctx;
    (void)a;
    buf_append(body, bytes);
    return !body->failed;
}

/* False when that was enough. */
static bool take_answer(struct follow *f, struct slice body)
{
    struct slice list, item;
    size_t pos = 0;
    if (json_member(body, "gaps", &list))
        while (json_element(list, &pos, &item))
            follow_gap(item);
    pos = 0;
    if (json_member(body, "messages", &list))
        while (json_element(list, &pos, &item))
            if (!follow_message(f, item))
                return false;
    char *cursor = client_json_string(body, "cursor");
    follow_set_cursor(f, slice_str(cursor));
    free(cursor);
    return true;
}

static enum follow_end how_it_failed(struct follow *f, enum err e, const struct http_answer *a,
                                     const struct buf *body)
{
    if (e == ERR_OK)
        return follow_answered(f, a, buf_slice(body));
    if (e == ERR_CLOSED && !body->failed)
        return FOLLOW_DONE;
    fprintf(stderr, "crier: subscribe: %s\n", e == ERR_IO ? a->error : "the answer never ends");
    return FOLLOW_LOST;
}

static enum err poll_once(struct follow *f, struct http_answer *answer, struct buf *body)
{
    char *url = follow_url(f, "/poll", "timeout", HOLD_SECONDS);
    struct http_request request = {
        .url = url, .silence_ms = SILENCE_MS, .on_body = take_body, .ctx = body};
    enum err e = http_perform(f->http, &request, answer);
    free(url);
    return e;
}

enum follow_end follow_poll(struct follow *f)
{
    enum follow_end end;
    struct buf body;
    buf_init(&body, FOLLOW_EVENT_MAX_BYTES);
    for (;;) {
        struct http_answer answer;
        buf_clear(&body);
        enum err e = poll_once(f, &answer, &body);
        if (e != ERR_OK || answer.status != 200 ||
            json_check(buf_slice(&body), false, NULL) != ERR_OK) {
            end = how_it_failed(f, e, &answer, &body);
            break;
        }
        f->was_ready = true;
        if (!take_answer(f, buf_slice(&body))) {
            end = FOLLOW_DONE;
            break;
        }
    }
    buf_release(&body);
    return end;
}
