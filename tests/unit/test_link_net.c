/* test_link_net.c - links over TCP and TLS: every address of a name, names that hang or move,
 * networks that swallow packets, servers that are not who they should be.
 */
#include "link_fixture.h"

#include "fake_dns.h"
#include "tls_fixture.h"

#include <netinet/tcp.h>
#include <sys/resource.h>

#define SHARE_MS 150 /* of the time to connect, for each of two addresses */

static const struct dns_name names[] = {
    {.name = "one.test", .address = {"127.0.0.1"}},
    {.name = "second.test", .address = {"127.0.0.2", "127.0.0.1"}},
    {.name = "nobody.test", .address = {"127.0.0.2", "127.0.0.3"}},
    {.name = "moves.test", .address = {"127.0.0.2"}},
    {.name = "hangs.test", .hangs = true, .address = {"127.0.0.1"}},
    {.name = NULL},
};
static const struct dns_name names_later[] = {
    {.name = "moves.test", .address = {"127.0.0.1"}},
    {.name = NULL},
};

static struct sock_addr address(const char *host, uint16_t port)
{
    struct sock_addr a;
    size_t n;

    assert_int_equal(sock_resolve(host, port, &a, 1, &n), ERR_OK);
    return a;
}

/* The server listens on 127.0.0.1 and the link is told `host`. */
static void listen_tcp(const char *host)
{
    static char copy[64];
    struct sock_addr a = address("127.0.0.1", 0);

    stop_listening();
    assert_int_equal(sock_listen(&a, 10, &listener), ERR_OK);
    snprintf(copy, sizeof copy, "%s", host);
    endpoint = (struct redis_endpoint){.host = copy, .port = ntohs(a.v4.sin_port)};
}

static void talk(void)
{
    struct request m = {.then = NULL};

    come_up();
    assert_int_equal(ask(&m, 0, "x"), ERR_OK);
    hear(ECHO_("x"));
    say("+x\r\n");
    TURN_UNTIL(m.answered);
    tells("up;0 ok x;");
}

/* --- TCP -------------------------------------------------------------------------------------- */

static void test_an_address(void **state)
{
    (void)state;
    listen_tcp("127.0.0.1");
    talk();
    server_close();
    TURN_UNTIL(downs);
    tells("down closed the connection;");
    talk();
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;

    assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

/* The other end of the server's connection. */
static int find_our_socket(void)
{
    struct sock_addr theirs = {.len = sizeof theirs.v6}, ours;

    assert_int_equal(getpeername(server, &theirs.any, &theirs.len), 0);
    for (int fd = 0; fd < 1024; fd++) {
        ours.len = sizeof ours.v6;
        if (getsockname(fd, &ours.any, &ours.len) == 0 && ours.len == theirs.len &&
            memcmp(&ours.any, &theirs.any, ours.len) == 0)
            return fd;
    }
    fail_msg("no such socket");
    return -1;
}

static void test_small_commands_do_not_wait_and_dead_peers_are_noticed(void **state)
{
    (void)state;
    listen_tcp("127.0.0.1");
    come_up();
    int fd = find_our_socket();
    assert_int_equal(option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    assert_int_equal(option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
    assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 15);
    assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPINTVL), 5);
    assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPCNT), 3);
}

static void test_a_reset(void **state)
{
    struct linger at_once = {.l_onoff = 1};

    (void)state;
    listen_tcp("127.0.0.1");
    come_up();
    setsockopt(server, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    server_close();
    TURN_UNTIL(downs);
    tells("up;down Connection reset by peer;");
}

static void test_nobody_listens(void **state)
{
    (void)state;
    listen_tcp("nobody.test");
    open_link(LINK_COMMANDS);
    TURN_UNTIL(downs);
    tells("down connect: Connection refused;");
}

/* A listener whose queue is full: packets are swallowed, as by a firewall. */
struct black_hole {
    int fd, queued[8];
};

static void hole_open(struct black_hole *h, const char *host, uint16_t *port)
{
    struct sock_addr a = address(host, *port);

    assert_int_equal(sock_listen(&a, 0, &h->fd), ERR_OK);
    *port = ntohs(a.v4.sin_port);
    for (int i = 0; i < 8; i++) {
        h->queued[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)!connect(h->queued[i], &a.any, a.len);
    }
}

static void hole_close(struct black_hole *h)
{
    for (int i = 0; i < 8; i++)
        close(h->queued[i]);
    close(h->fd);
}

static void test_connecting_takes_too_long(void **state)
{
    struct black_hole hole;

    (void)state;
    listen_tcp("127.0.0.2");
    hole_open(&hole, "127.0.0.2", &endpoint.port);
    options.connect_timeout_ms = STALL_MS;
    open_link(LINK_COMMANDS);
    TURN_UNTIL(downs);
    tells("down connecting: timed out after 60 ms;");
    hole_close(&hole);
}

/* Every descriptor is taken: the link says so, and comes up when there are some again. */
static void test_no_descriptors(void **state)
{
    struct rlimit limit, none;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 0;
    listen_tcp("127.0.0.1");
    make_link(LINK_COMMANDS);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    link_open(lnk);
    TURN_UNTIL(downs);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    tells("down resolving the name: no thread or descriptor could be had;");
    talk();
    server_close();
    link_close(lnk);
    stop_listening();
    listen_on_path();
    endpoint = (struct redis_endpoint){.path = path};
    make_link(LINK_COMMANDS);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    link_open(lnk);
    TURN_UNTIL(downs == 2);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    tells("down connect: Too many open files;");
    talk();
}

/* --- names ------------------------------------------------------------------------------------ */

static void test_a_name(void **state)
{
    (void)state;
    listen_tcp("one.test");
    talk();
}

static void test_the_second_address_of_a_name(void **state)
{
    (void)state;
    listen_tcp("second.test");
    talk();
}

/* The first address must not eat the time of the second. */
static void test_a_first_address_that_swallows_packets(void **state)
{
    struct black_hole hole;

    (void)state;
    listen_tcp("second.test");
    hole_open(&hole, "127.0.0.2", &endpoint.port);
    options.connect_timeout_ms = 2 * SHARE_MS;
    open_link(LINK_COMMANDS);
    TURN_UNTIL(heard.len > 0);
    options.connect_timeout_ms = PATIENCE_MS;
    assert_int_equal(downs, 0);
    hole_close(&hole);
}

static void move(void)
{
    dns_table = names_later; /* nothing is being resolved now */
}

static void test_a_name_is_asked_for_anew(void **state)
{
    (void)state;
    listen_tcp("moves.test");
    on_down = move;
    open_link(LINK_COMMANDS);
    TURN_UNTIL(downs);
    tells("down connect: Connection refused;");
    talk();
    link_close(lnk);
    dns_table = names;
}

static void test_a_name_without_address(void **state)
{
    (void)state;
    listen_tcp("none.test");
    open_link(LINK_COMMANDS);
    TURN_UNTIL(downs);
    tells("down the name has no address;");
}

static void test_a_name_that_hangs(void **state)
{
    (void)state;
    listen_tcp("hangs.test");
    options.connect_timeout_ms = STALL_MS;
    open_link(LINK_COMMANDS);
    TURN_UNTIL(downs);
    tells("down resolving the name: timed out after 60 ms;");
    link_close(lnk);
}

static void test_closed_while_a_name_hangs(void **state)
{
    (void)state;
    listen_tcp("hangs.test");
    open_link(LINK_COMMANDS);
    turn_a_while();
    link_close(lnk);
    lnk = NULL;
    dns_hold(false);
    turn_a_while();
    tells("");
    dns_hold(true);
}

/* --- TLS -------------------------------------------------------------------------------------- */

static SSL_CTX *server_ctx;
static SSL *session; /* of the server */
static struct tls_ctx *trust;

static ssize_t sealed_read(void *out, size_t max)
{
    if (!session)
        session = tls_server(server_ctx, server);
    return SSL_read(session, out, (int)max);
}

static ssize_t sealed_write(const void *data, size_t n)
{
    return SSL_write(session, data, (int)n);
}

static void close_session(void)
{
    SSL_free(session);
    session = NULL;
    server_close();
}

static void trust_this(const char *ca)
{
    struct tls_client_options o = {.ca_file = ca};
    char why[TLS_WHY_BYTES];

    tls_ctx_free(trust);
    assert_int_equal(tls_client_new(&o, &trust, why), ERR_OK);
    options.tls = trust;
}

static void listen_tls(const char *host, const char *certificate)
{
    listen_tcp(host);
    endpoint.tls = true;
    trust_this(tls_path("ca.pem"));
    server_ctx = tls_server_ctx(certificate);
    server_reads = sealed_read;
    server_writes = sealed_write;
}

static int tls_teardown(void **state)
{
    if (lnk)
        link_close(lnk);
    close_session();
    SSL_CTX_free(server_ctx);
    server_ctx = NULL;
    server_reads = plain_read;
    server_writes = plain_write;
    tls_ctx_free(trust);
    trust = NULL;
    return teardown(state);
}

static void test_a_sealed_link(void **state)
{
    (void)state;
    listen_tls("one.test", "server");
    talk();
    SSL_shutdown(session);
    TURN_UNTIL(downs);
    tells("down closed the connection;");
    close_session();
    talk();
}

static void test_a_sealed_link_to_an_address(void **state)
{
    (void)state;
    listen_tls("127.0.0.1", "server");
    talk();
}

static void test_a_sealed_link_is_cut(void **state)
{
    struct request m = {.then = NULL};

    (void)state;
    listen_tls("one.test", "server");
    come_up();
    assert_int_equal(ask(&m, 0, "x"), ERR_OK);
    hear(ECHO_("x"));
    say("$10\r\nabc");
    close_session();
    TURN_UNTIL(downs);
    tells("up;0 unavailable;down closed the connection in the middle of a reply;");
}

static void test_a_sealed_link_is_tampered_with(void **state)
{
    (void)state;
    listen_tls("one.test", "server");
    come_up();
    assert_int_equal(plain_write("+OK\r\n+OK\r\n+OK\r\n", 15), 15);
    TURN_UNTIL(downs);
    buf_append_char(&story, '\0');
    assert_non_null(strstr(story.data, "up;down TLS: "));
}

static void test_another_name(void **state)
{
    (void)state;
    listen_tls("second.test", "server");
    open_link(LINK_COMMANDS);
    TURN_UNTIL(downs);
    assert_int_equal(heard.len, 0); /* least of all a password */
    buf_append_char(&story, '\0');
    assert_non_null(strstr(story.data, "down TLS: "));
    assert_non_null(strstr(story.data, "ostname mismatch"));
}

static void test_an_authority_we_do_not_know(void **state)
{
    (void)state;
    listen_tls("one.test", "server");
    trust_this(NULL);
    open_link(LINK_COMMANDS);
    TURN_UNTIL(downs);
    assert_int_equal(heard.len, 0);
    tells("down TLS: unable to get local issuer certificate;");
}

static void test_a_server_without_tls(void **state)
{
    static const char answer[] = "-ERR Protocol error\r\n";

    (void)state;
    listen_tls("one.test", "server");
    server_reads = plain_read;
    server_writes = plain_write;
    open_link(LINK_COMMANDS);
    TURN_UNTIL(heard.len > 0);
    say(answer);
    TURN_UNTIL(downs);
    tells("down TLS: does not speak TLS (wrong version number);");
}

static void test_a_handshake_that_does_not_go_on(void **state)
{
    (void)state;
    listen_tls("one.test", "server");
    server_reads = plain_read;
    options.connect_timeout_ms = STALL_MS;
    open_link(LINK_COMMANDS);
    TURN_UNTIL(downs);
    tells("down TLS handshake: timed out after 60 ms;");
}

/* Both sides have more to say than a socket takes; every byte passes, in order. */
static void test_a_sealed_link_with_much_to_say(void **state)
{
    enum { N = 40, BYTES = 100000 };
    static struct request m[N];
    static char text[BYTES + 1];
    struct buf sent, answers;
    size_t story_at = 0;

    (void)state;
    options.max_pending_bytes = (size_t)16 << 20;
    options.max_reply_bytes = (size_t)1 << 20;
    listen_tls("one.test", "server");
    come_up();
    buf_init(&sent, (size_t)16 << 20);
    buf_init(&answers, (size_t)16 << 20);
    for (int i = 0; i < N; i++) {
        memset(text, 'a' + i % 26, BYTES);
        assert_int_equal(ask(&m[i], i, text), ERR_OK);
        command_append(&sent, (struct slice[]){SLICE("ECHO"), slice_str(text)}, 2);
        buf_printf(&answers, "$%d\r\n%s\r\n", BYTES, text);
        if (i % 7 == 0)
            loop_turn(loop, 0); /* full soon: the server does not listen here */
    }
    TURN_UNTIL(heard.len >= sent.len);
    assert_true(slice_eq(buf_slice(&heard), buf_slice(&sent)));
    for (size_t at = 0; at < answers.len; loop_turn(loop, 0)) {
        ssize_t n = sealed_write(answers.data + at, answers.len - at);
        at += n > 0 ? (size_t)n : 0;
    }
    TURN_UNTIL(m[N - 1].answered);
    assert_int_equal(downs, 0);
    for (int i = 0; i < N; i++) {
        memset(text, 'a' + i % 26, BYTES);
        char expected[32];
        size_t len = (size_t)snprintf(expected, sizeof expected, "%s%d ok ", i ? "" : "up;", i);
        assert_memory_equal(story.data + story_at, expected, len);
        assert_memory_equal(story.data + story_at + len, text, BYTES);
        story_at += len + BYTES + 1;
    }
    buf_release(&sent);
    buf_release(&answers);
}

static int make_certificates(void **state)
{
    (void)state;
    tls_fixture_open();
    tls_make("server", "DNS:one.test,IP:127.0.0.1", -TLS_DAY_S, TLS_DAY_S);
    dns_table = names;
    dns_hold(true);
    return 0;
}

static int drop_certificates(void **state)
{
    (void)state;
    dns_hold(false);
    tls_fixture_close();
    return 0;
}

#define tls_test(f) cmocka_unit_test_setup_teardown(f, setup, tls_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        link_test(test_an_address),
        link_test(test_small_commands_do_not_wait_and_dead_peers_are_noticed),
        link_test(test_a_reset),
        link_test(test_nobody_listens),
        link_test(test_connecting_takes_too_long),
        link_test(test_no_descriptors),
        link_test(test_a_name),
        link_test(test_the_second_address_of_a_name),
        link_test(test_a_first_address_that_swallows_packets),
        link_test(test_a_name_is_asked_for_anew),
        link_test(test_a_name_without_address),
        link_test(test_a_name_that_hangs),
        link_test(test_closed_while_a_name_hangs),
        tls_test(test_a_sealed_link),
        tls_test(test_a_sealed_link_to_an_address),
        tls_test(test_a_sealed_link_is_cut),
        tls_test(test_a_sealed_link_is_tampered_with),
        tls_test(test_another_name),
        tls_test(test_an_authority_we_do_not_know),
        tls_test(test_a_server_without_tls),
        tls_test(test_a_handshake_that_does_not_go_on),
        tls_test(test_a_sealed_link_with_much_to_say),
    };

    return cmocka_run_group_tests(tests, make_certificates, drop_certificates);
}
