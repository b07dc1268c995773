/* greeting.c - AUTH, SELECT, CLIENT SETNAME, SCRIPT LOAD.
 *
 * AUTH and SELECT are sent only where the endpoint says so, and must succeed. The name is for
 * people who read CLIENT LIST, so a server that refuses to take it (an old one, an ACL, a proxy) is
 * as good as any; but it is the first command for whoever needs no AUTH, so what a server says to a
 * client that it does not want comes as its answer and does count.
 *
 * An error text of the server goes into logs. A server that does not know AUTH repeats the
 * arguments, of which it cuts long ones: such a text ends before them.
 */
#include "greeting.h"

#include <stdio.h>

enum step { STEP_NONE, STEP_AUTH, STEP_SELECT, STEP_NAME, STEP_SCRIPTS, STEP_DONE };

static const char *const step_names[] = {
    [STEP_AUTH] = "AUTH",
    [STEP_SELECT] = "SELECT",
    [STEP_NAME] = "CLIENT SETNAME",
    [STEP_SCRIPTS] = "SCRIPT LOAD",
};

void greeting_begin(struct greeting *g)
{
    g->step = STEP_NONE;
    g->script = 0;
}

static bool is_wanted(const struct greeting *g, unsigned step)
{
    const struct redis_endpoint *e = g->endpoint;

    switch (step) {
    case STEP_AUTH:
        return e->user || e->password;
    case STEP_SELECT:
        return e->db != 0;
    case STEP_SCRIPTS:
        return g->n_scripts > 0;
    default:
        return true;
    }
}

static void append_auth(const struct redis_endpoint *e, struct buf *out)
{
    struct slice arg[3];
    size_t n = 0;

    arg[n++] = SLICE("AUTH");
    if (e->user)
        arg[n++] = slice_str(e->user);
    arg[n++] = slice_str(e->password); /* empty: a user with "nopass" */
    command_append(out, arg, n);
}

static void append_select(uint32_t db, struct buf *out)
{
    char text[16];
    int n = snprintf(text, sizeof text, "%u", (unsigned)db);

    command_append(out, (struct slice[]){SLICE("SELECT"), slice_of(text, (size_t)n)}, 2);
}

static void append_step(const struct greeting *g, struct buf *out)
{
    switch (g->step) {
    case STEP_AUTH:
        append_auth(g->endpoint, out);
        break;
    case STEP_SELECT:
        append_select(g->endpoint->db, out);
        break;
    case STEP_NAME:
        command_append(out, (struct slice[]){SLICE("CLIENT"), SLICE("SETNAME"), slice_str(g->name)},
                       3);
        break;
    default:
        command_append(out,
                       (struct slice[]){SLICE("SCRIPT"), SLICE("LOAD"),
                                        slice_str(g->scripts[g->script]->text)},
                       3);
    }
}

bool greeting_next(struct greeting *g, struct buf *out)
{
    if (g->step == STEP_SCRIPTS && ++g->script < g->n_scripts) {
        append_step(g, out);
        return true;
    }
    do {
        g->step++;
    } while (g->step < STEP_DONE && !is_wanted(g, g->step));
    if (g->step == STEP_DONE)
        return false;
    append_step(g, out);
    return true;
}

static struct slice without_arguments(struct slice text)
{
    const char *args = memmem(text.ptr, text.len, ", with args", strlen(", with args"));

    return args ? slice_of(text.ptr, (size_t)(args - text.ptr)) : text;
}

static bool repeats(struct slice text, const char *secret)
{
    return secret && memmem(text.ptr, text.len, secret, strlen(secret));
}

static bool refused(const struct greeting *g, const struct reply *r, char why[REDIS_WHY_BYTES])
{
    struct slice text = SLICE("an answer that is none");

    if (reply_kind(r) == REPLY_ERROR)
        text = without_arguments(reply_text(r));
    if (repeats(text, g->endpoint->password))
        text = SLICE("an error that repeats the password");
    if (text.len > REDIS_WHY_BYTES / 2)
        text.len = REDIS_WHY_BYTES / 2;
    snprintf(why, REDIS_WHY_BYTES, "%s: %.*s", step_names[g->step], (int)text.len, text.ptr);
    return false;
}

static bool only_the_name_was_refused(const struct reply *r)
{
    static const char full[] = "ERR max number of clients reached";

    return reply_is_error(r, "NOPERM") ||
           (reply_is_error(r, "ERR") && !slice_starts_with(reply_text(r), SLICE(full)));
}

bool greeting_answered(struct greeting *g, const struct reply *r, char why[REDIS_WHY_BYTES])
{
    bool ok = reply_kind(r) == (g->step == STEP_SCRIPTS ? REPLY_STRING : REPLY_STATUS);

    if (ok || (g->step == STEP_NAME && only_the_name_was_refused(r)))
        return true;
    return refused(g, r, why);
}
