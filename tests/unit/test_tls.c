/* test_tls.c - sessions over a socketpair with a server that is OpenSSL itself: whom we believe,
 * how bytes go through, how sessions end.
 */
#include "crier/clock.h"
#include "crier/tls.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "tls_fixture.h"

#define PATIENCE_MS 20000

static struct tls_ctx *ctx; /* trusts the fixture's authority */
static SSL_CTX *server_ctx;
static struct tls *us;
static SSL *them;
static int our_fd, their_fd;

static struct tls_ctx *client(const char *ca, const char *cert, const char *key)
{
    struct tls_client_options o = {.ca_file = ca, .cert_file = cert, .key_file = key};
    struct tls_ctx *c = NULL;
    char why[TLS_WHY_BYTES] = "";

    if (tls_client_new(&o, &c, why) != ERR_OK)
        fail_msg("%s", why);
    return c;
}

static int make_certificates(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    tls_fixture_open();
    tls_make("good", "DNS:redis.test,DNS:*.cluster.test,IP:127.0.0.1,IP:::1", -TLS_DAY_S,
             TLS_DAY_S);
    tls_make("expired", "DNS:redis.test", -2 * TLS_DAY_S, -TLS_DAY_S);
    tls_make("future", "DNS:redis.test", TLS_DAY_S, 2 * TLS_DAY_S);
    tls_make("client", "DNS:client.test", -TLS_DAY_S, TLS_DAY_S);
    ctx = client(tls_path("ca.pem"), NULL, NULL);
    return 0;
}

static int drop_certificates(void **state)
{
    (void)state;
    tls_ctx_free(ctx);
    tls_fixture_close();
    return 0;
}

static int make_sockets(void **state)
{
    int fds[2];

    (void)state;
    us = NULL;
    them = NULL;
    server_ctx = NULL;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0)
        return -1;
    our_fd = fds[0];
    their_fd = fds[1];
    return 0;
}

static void close_them(void)
{
    SSL_free(them);
    them = NULL;
    if (their_fd >= 0)
        close(their_fd);
    their_fd = -1;
}

static int drop_sockets(void **state)
{
    (void)state;
    if (us)
        tls_close(us);
    assert_true(fcntl(our_fd, F_GETFD) >= 0); /* it is not the session's */
    close(our_fd);
    close_them();
    SSL_CTX_free(server_ctx);
    return 0;
}

static void open_session(const char *certificate, const char *name)
{
    server_ctx = tls_server_ctx(certificate);
    them = tls_server(server_ctx, their_fd);
    assert_int_equal(tls_open(ctx, our_fd, name, &us), ERR_OK);
}

/* Both sides, until ours knows. */
static enum err shake_hands(void)
{
    enum err e;

    for (uint64_t give_up = clock_mono_ms() + PATIENCE_MS; (e = tls_handshake(us)) == ERR_AGAIN;) {
        assert_true(clock_mono_ms() < give_up);
        assert_false(tls_wants_write(us));
        if (them)
            (void)SSL_do_handshake(them);
    }
    if (e == ERR_OK && them)
        assert_int_equal(SSL_do_handshake(them), 1);
    return e;
}

static enum err read_until(char *out, size_t max, size_t *n)
{
    enum err e;

    for (uint64_t give_up = clock_mono_ms() + PATIENCE_MS;
         (e = tls_read(us, out, max, n)) == ERR_AGAIN;) {
        assert_true(clock_mono_ms() < give_up);
        if (them)
            (void)SSL_do_handshake(them);
    }
    return e;
}

static void assert_trusted(const char *certificate, const char *name)
{
    open_session(certificate, name);
    if (shake_hands() != ERR_OK)
        fail_msg("%s as %s: %s", certificate, name, tls_why(us));
}

static void assert_refused(const char *certificate, const char *name, const char *why)
{
    open_session(certificate, name);
    assert_int_equal(shake_hands(), ERR_IO);
    if (!strstr(tls_why(us), why))
        fail_msg("%s as %s: %s", certificate, name, tls_why(us));
    /* It stays so. */
    assert_int_equal(tls_handshake(us), ERR_IO);
    size_t n;
    char c;
    assert_int_equal(tls_read(us, &c, 1, &n), ERR_IO);
    assert_int_equal(tls_write(us, "x", 1, &n), ERR_IO);
    assert_non_null(strstr(tls_why(us), why));
}

static void again(void)
{
    drop_sockets(NULL);
    make_sockets(NULL);
}

/* --- whom we believe -------------------------------------------------------------------------- */

static void test_names_that_are_in_the_certificate(void **state)
{
    static const char *const names[] = {"redis.test",     "REDIS.test", "redis.test.",
                                        "a.cluster.test", "127.0.0.1",  "::1",
                                        "0:0:0:0:0:0:0:1"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_trusted("good", names[i]);
        again();
    }
}

static void test_names_that_are_not(void **state)
{
    static const char *const names[] = {"other.test", "a.b.cluster.test", "cluster.test", "good"};
    static const char *const addresses[] = {"127.0.0.2", "::2"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_refused("good", names[i], "ostname mismatch");
        again();
    }
    for (size_t i = 0; i < sizeof addresses / sizeof *addresses; i++) {
        assert_refused("good", addresses[i], "IP address mismatch");
        again();
    }
}

static void test_a_name_that_cannot_be(void **state)
{
    char name[400];

    (void)state;
    memset(name, 'a', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_int_equal(tls_open(ctx, our_fd, name, &us), ERR_NOMEM);
    assert_int_equal(tls_open(ctx, our_fd, "", &us), ERR_NOMEM);
    us = NULL;
}

static void test_only_while_it_is_valid(void **state)
{
    (void)state;
    assert_refused("expired", "redis.test", "certificate has expired");
    again();
    assert_refused("future", "redis.test", "certificate is not yet valid");
}

/* Whoever has the system's trust and not this file. */
static void test_an_authority_nobody_knows(void **state)
{
    struct tls_ctx *ours = ctx;

    (void)state;
    ctx = client(NULL, NULL, NULL);
    assert_refused("good", "redis.test", "unable to get local issuer certificate");
    tls_ctx_free(ctx);
    ctx = ours;
}

static void test_the_name_is_told_but_no_address(void **state)
{
    (void)state;
    assert_trusted("good", "redis.test.");
    assert_string_equal(SSL_get_servername(them, TLSEXT_NAMETYPE_host_name), "redis.test");
    again();
    assert_trusted("good", "127.0.0.1");
    assert_null(SSL_get_servername(them, TLSEXT_NAMETYPE_host_name));
}

static void test_old_versions(void **state)
{
    (void)state;
    open_session("good", "redis.test");
    SSL_set_max_proto_version(them, TLS1_2_VERSION);
    assert_int_equal(shake_hands(), ERR_OK);
    assert_int_equal(SSL_version(them), TLS1_2_VERSION);
    again();
    open_session("good", "redis.test");
    SSL_set_security_level(them, 0);
    SSL_set_min_proto_version(them, TLS1_VERSION);
    SSL_set_max_proto_version(them, TLS1_1_VERSION);
    assert_int_equal(shake_hands(), ERR_IO);
    assert_non_null(strstr(tls_why(us), "version"));
}

static void require_client_certificate(void)
{
    assert_int_equal(SSL_CTX_load_verify_locations(server_ctx, tls_path("ca.pem"), NULL), 1);
    SSL_set_verify(them, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
}

static void test_a_certificate_of_our_own(void **state)
{
    struct tls_ctx *without = ctx;
    char c;
    size_t n;

    (void)state;
    ctx = client(tls_path("ca.pem"), tls_path("client.pem"), tls_path("client.key"));
    open_session("good", "redis.test");
    require_client_certificate();
    assert_int_equal(shake_hands(), ERR_OK);
    X509 *shown = SSL_get1_peer_certificate(them);
    assert_non_null(shown);
    X509_free(shown);
    tls_ctx_free(ctx);
    ctx = without;
    again();
    open_session("good", "redis.test");
    require_client_certificate();
    /* In TLS 1.3 our side is done before the server has seen that there is none. */
    while (tls_handshake(us) == ERR_AGAIN)
        (void)SSL_do_handshake(them);
    assert_int_equal(read_until(&c, 1, &n), ERR_IO);
    assert_non_null(strstr(tls_why(us), "certificate required"));
}

/* --- contexts --------------------------------------------------------------------------------- */

static void refuse_context(const char *ca, const char *cert, const char *key, enum err expected,
                           const char *words)
{
    struct tls_client_options o = {.ca_file = ca, .cert_file = cert, .key_file = key};
    struct tls_ctx *c = NULL;
    char why[TLS_WHY_BYTES] = "";

    assert_int_equal(tls_client_new(&o, &c, why), expected);
    assert_null(c);
    if (!strstr(why, words))
        fail_msg("%s", why);
}

static void test_files_that_are_no_good(void **state)
{
    const char *nothing = "/nonexistent.pem";
    FILE *f = fopen(tls_path("junk.pem"), "w");

    (void)state;
    assert_non_null(f);
    fputs("junk\n", f);
    fclose(f);
    tls_write_key("secret.key", tls_ca_key, "sesame");
    refuse_context(nothing, NULL, NULL, ERR_NOT_FOUND,
                   "CA file /nonexistent.pem: No such file or directory");
    refuse_context(tls_path("junk.pem"), NULL, NULL, ERR_SYNTAX, "CA file");
    refuse_context(tls_path("client.key"), NULL, NULL, ERR_SYNTAX, "CA file");
    refuse_context(NULL, tls_path("client.pem"), NULL, ERR_SYNTAX, "the key is missing");
    refuse_context(NULL, NULL, tls_path("client.key"), ERR_SYNTAX, "the certificate is missing");
    refuse_context(NULL, nothing, tls_path("client.key"), ERR_NOT_FOUND, "certificate /non");
    refuse_context(NULL, tls_path("client.pem"), nothing, ERR_NOT_FOUND, "key /non");
    refuse_context(NULL, tls_path("junk.pem"), tls_path("client.key"), ERR_SYNTAX, "certificate");
    refuse_context(NULL, tls_path("client.pem"), tls_path("junk.pem"), ERR_SYNTAX, "key");
    refuse_context(NULL, tls_path("client.pem"), tls_path("good.key"), ERR_SYNTAX,
                   "key values mismatch");
    /* And nobody is asked for the passphrase. */
    refuse_context(NULL, tls_path("ca.pem"), tls_path("secret.key"), ERR_SYNTAX, "key");
}

static void test_a_session_outlives_its_context(void **state)
{
    struct tls_ctx *ours = ctx;

    (void)state;
    ctx = client(tls_path("ca.pem"), NULL, NULL);
    open_session("good", "redis.test");
    tls_ctx_free(ctx);
    tls_ctx_free(NULL);
    ctx = ours;
    assert_int_equal(shake_hands(), ERR_OK);
}

/* --- bytes ------------------------------------------------------------------------------------ */

static void test_bytes_both_ways(void **state)
{
    char bytes[64];
    size_t n;

    (void)state;
    assert_trusted("good", "redis.test");
    assert_int_equal(tls_read(us, bytes, sizeof bytes, &n), ERR_AGAIN);
    assert_false(tls_wants_write(us));
    assert_int_equal(tls_write(us, "PING", 4, &n), ERR_OK);
    assert_int_equal(n, 4);
    assert_int_equal(SSL_read(them, bytes, sizeof bytes), 4);
    assert_memory_equal(bytes, "PING", 4);
    assert_int_equal(SSL_write(them, "+PONG", 5), 5);
    assert_int_equal(read_until(bytes, sizeof bytes, &n), ERR_OK);
    assert_int_equal(n, 5);
    assert_memory_equal(bytes, "+PONG", 5);
    assert_int_equal(tls_read(us, bytes, sizeof bytes, &n), ERR_AGAIN);
}

static char pattern(size_t at)
{
    return (char)(at * 31 + at / 251);
}

/* The socket fills up, so writes go through in part, and the rest is offered again from another
 * place and with more behind it. */
static void test_much_more_than_a_socket_takes(void **state)
{
    enum { ALL = 4 << 20, ROOM = 700000 };
    size_t sent = 0, got = 0, blocked = 0, n;
    char in[16384];

    (void)state;
    assert_trusted("good", "redis.test");
    for (size_t round = 0; got < ALL; round++) {
        size_t len = ALL - sent < ROOM ? ALL - sent : ROOM - round % 2 * 1000;
        if (sent + len > ALL)
            len = ALL - sent;
        char *out = malloc(len + 1);
        for (size_t i = 0; i < len; i++)
            out[i] = pattern(sent + i);
        for (size_t at = 0; at < len;) {
            enum err e = tls_write(us, out + at, len - at, &n);
            if (e == ERR_AGAIN) {
                assert_true(tls_wants_write(us));
                blocked++;
                break;
            }
            assert_int_equal(e, ERR_OK);
            assert_true(n > 0 && n <= len - at);
            at += n;
            sent += n;
        }
        free(out);
        for (int r; (r = SSL_read(them, in, sizeof in)) > 0;)
            for (int i = 0; i < r; i++, got++)
                if (in[i] != pattern(got))
                    fail_msg("byte %zu", got);
    }
    assert_int_equal(got, ALL);
    assert_true(blocked > 1);
}

/* A buffer of a record's size leaves nothing in the session that the descriptor would not tell. */
static void test_a_read_takes_a_record_whole(void **state)
{
    static char record[16384], in[16384];
    size_t n;

    (void)state;
    assert_trusted("good", "redis.test");
    while (tls_read(us, in, sizeof in, &n) != ERR_AGAIN) /* session tickets */
        continue;
    for (int i = 0; i < 3; i++)
        assert_int_equal(SSL_write(them, record, sizeof record), sizeof record);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(recv(our_fd, in, 1, MSG_PEEK), 1);
        assert_int_equal(tls_read(us, in, sizeof in, &n), ERR_OK);
        assert_int_equal(n, sizeof record);
    }
    assert_int_equal(recv(our_fd, in, 1, MSG_PEEK), -1);
}

/* --- ends ------------------------------------------------------------------------------------- */

static void assert_ended(const char *why)
{
    char c;
    size_t n;

    assert_int_equal(read_until(&c, 1, &n), ERR_CLOSED);
    assert_string_equal(tls_why(us), why);
}

static void test_an_end_that_is_said(void **state)
{
    (void)state;
    assert_trusted("good", "redis.test");
    assert_int_equal(SSL_write(them, "x", 1), 1);
    SSL_shutdown(them);
    char c;
    size_t n;
    assert_int_equal(read_until(&c, 1, &n), ERR_OK);
    assert_ended("closed the connection");
    assert_ended("closed the connection");
    tls_close(us);
    us = NULL;
    assert_int_equal(SSL_shutdown(them), 1); /* ours came back */
}

static void test_an_end_that_is_not_said(void **state)
{
    size_t n;

    (void)state;
    assert_trusted("good", "redis.test");
    close_them();
    assert_ended("closed the connection");
    assert_int_equal(tls_write(us, "x", 1, &n), ERR_IO);
}

static void test_writing_to_who_is_gone(void **state)
{
    size_t n;

    (void)state;
    assert_trusted("good", "redis.test");
    close_them();
    assert_int_equal(tls_write(us, "x", 1, &n), ERR_IO);
    assert_string_equal(tls_why(us), "Broken pipe");
}

static void test_gone_in_the_middle_of_the_handshake(void **state)
{
    (void)state;
    open_session("good", "redis.test");
    assert_int_equal(tls_handshake(us), ERR_AGAIN);
    shutdown(their_fd, SHUT_WR);
    SSL_free(them);
    them = NULL;
    assert_int_equal(shake_hands(), ERR_CLOSED);
    assert_string_equal(tls_why(us), "closed the connection during the TLS handshake");
}

static void test_someone_who_does_not_speak_tls(void **state)
{
    static const char answer[] = "-ERR Protocol error: unauthenticated multibulk length\r\n";

    (void)state;
    open_session("good", "redis.test");
    SSL_free(them);
    them = NULL;
    assert_int_equal(tls_handshake(us), ERR_AGAIN);
    assert_int_equal(write(their_fd, answer, sizeof answer - 1), sizeof answer - 1);
    assert_int_equal(shake_hands(), ERR_IO);
    assert_string_equal(tls_why(us), "does not speak TLS (wrong version number)");
}

static void test_bytes_that_were_tampered_with(void **state)
{
    char c;
    size_t n;

    (void)state;
    assert_trusted("good", "redis.test");
    static const char record[] = "\x17\x03\x03\0\x20"
                                 "some bytes that were never sealed";
    assert_int_equal(write(their_fd, record, 5 + 32), 5 + 32);
    assert_int_equal(read_until(&c, 1, &n), ERR_IO);
    assert_true(tls_why(us)[0]);
}

static void test_our_end_is_said(void **state)
{
    char c;

    (void)state;
    assert_trusted("good", "redis.test");
    tls_close(us);
    us = NULL;
    assert_int_equal(SSL_read(them, &c, 1), 0);
    assert_int_equal(SSL_get_error(them, 0), SSL_ERROR_ZERO_RETURN);
}

static void test_closed_before_anything(void **state)
{
    (void)state;
    open_session("good", "redis.test");
    tls_close(us);
    us = NULL;
    char c;
    assert_int_equal(recv(their_fd, &c, 1, 0), -1);
}

/* --- the server's side ------------------------------------------------------------------------ */

static struct tls_ctx *ours; /* a server's context */

static struct tls_ctx *server(struct tls_server_options o)
{
    struct tls_ctx *c = NULL;
    char why[TLS_WHY_BYTES] = "";

    if (tls_server_new(&o, &c, why) != ERR_OK)
        fail_msg("%s", why);
    return c;
}

/* `us` accepts, `them` connects by OpenSSL. */
static void accept_session(struct tls_ctx *c, SSL_SESSION *ticket)
{
    static const unsigned char alpn[] = "\2h2\10http/1.1";

    ours = c;
    assert_int_equal(tls_accept(c, our_fd, &us), ERR_OK);
    server_ctx = SSL_CTX_new(TLS_client_method());
    them = SSL_new(server_ctx);
    assert_int_equal(SSL_set_fd(them, their_fd), 1);
    SSL_set_connect_state(them);
    assert_int_equal(SSL_set_alpn_protos(them, alpn, sizeof alpn - 1), 0);
    if (ticket)
        assert_int_equal(SSL_set_session(them, ticket), 1);
}

static enum err shake_as_server(void)
{
    enum err e = ERR_AGAIN;

    for (int i = 0; i < 10 && (e == ERR_AGAIN || !SSL_is_init_finished(them)); i++) {
        (void)SSL_do_handshake(them);
        if (e == ERR_AGAIN)
            e = tls_handshake(us);
    }
    return e;
}

static const struct tls_server_options *pair_options(void)
{
    static char path[4][128];
    static struct tls_pair pair[2];
    static struct tls_server_options o = {.pair = pair, .n_pairs = 2, .alpn = "h2,http/1.1"};
    static const char *const file[] = {"good.pem", "good.key", "client.pem", "client.key"};

    for (int i = 0; i < 4; i++)
        snprintf(path[i], sizeof path[i], "%s", tls_path(file[i]));
    pair[0] = (struct tls_pair){path[0], path[1]};
    pair[1] = (struct tls_pair){path[2], path[3]};
    return &o;
}

static void refuse_dates(const char *name, const char *what)
{
    char why[TLS_WHY_BYTES] = "", file[2][32];
    struct tls_ctx *c = NULL;

    snprintf(file[0], sizeof file[0], "%s.pem", name);
    snprintf(file[1], sizeof file[1], "%s.key", name);
    const struct tls_pair pair = {tls_path(file[0]), tls_path(file[1])};
    const struct tls_server_options o = {.pair = &pair, .n_pairs = 1};
    assert_int_equal(tls_server_new(&o, &c, why), ERR_SYNTAX);
    assert_non_null(strstr(why, file[0]));
    assert_non_null(strstr(why, what));
    assert_null(c);
}

static void test_servers_need_a_certificate_that_is_valid_now(void **state)
{
    (void)state;
    refuse_dates("expired", ": expired on 20");
    refuse_dates("future", ": is not valid before 20");
}

static void expect_certificate(const char *asked, const char *cn)
{
    char name[64] = "";

    accept_session(server(*pair_options()), NULL);
    if (asked)
        SSL_set_tlsext_host_name(them, asked);
    assert_int_equal(shake_as_server(), ERR_OK);
    X509_NAME_get_text_by_NID(X509_get_subject_name(SSL_get0_peer_certificate(them)),
                              NID_commonName, name, sizeof name);
    assert_string_equal(name, cn);
    assert_true(slice_eq(tls_alpn(us), SLICE("h2")));
    tls_ctx_free(ours); /* the session keeps what it needs */
}

static void test_the_certificate_for_the_name(void **state)
{
    (void)state;
    expect_certificate(NULL, "good");
    again();
    expect_certificate("client.test", "client");
    again();
    expect_certificate("x.cluster.test", "good");
    again();
    expect_certificate("nobody.test", "good");
}

static void test_tickets_are_good_for_their_context_alone(void **state)
{
    struct tls_ctx *first = server(*pair_options()), *second = server(*pair_options());
    char c;

    (void)state;
    accept_session(first, NULL);
    assert_int_equal(shake_as_server(), ERR_OK);
    assert_false(tls_is_resumed(us));
    assert_int_equal(SSL_read(them, &c, 1), -1); /* tickets come behind the handshake */
    SSL_SESSION *ticket = SSL_get1_session(them);
    SSL_set_shutdown(them, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* or it is not reused */
    again();
    accept_session(first, ticket);
    assert_int_equal(shake_as_server(), ERR_OK);
    assert_true(tls_is_resumed(us));
    SSL_set_shutdown(them, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    again();
    accept_session(second, ticket);
    assert_int_equal(shake_as_server(), ERR_OK);
    assert_false(tls_is_resumed(us));
    SSL_SESSION_free(ticket);
    tls_ctx_free(first);
    tls_ctx_free(second);
}

/* What is sealed cannot be taken back: it goes first, whatever is written next. */
static void fill_and_commit(size_t record_bytes)
{
    static char a[16384], in[16384];
    size_t n, sealed, sent = 0, got = 0;

    memset(a, 'a', sizeof a);
    while (tls_write(us, a, sizeof a, &n) == ERR_OK) {
        assert_true(n <= record_bytes);
        sent += n;
    }
    sealed = tls_commit(us);
    assert_true(sealed > 0 && sealed <= record_bytes);
    assert_int_equal(tls_commit(us), 0);
    assert_int_equal(tls_write(us, "b", 1, &n), ERR_AGAIN);
    assert_int_equal(tls_commit(us), 0);
    for (int r; (r = SSL_read(them, in, sizeof in)) > 0;)
        got += (size_t)r;
    assert_int_equal(tls_write(us, NULL, 0, &n), ERR_OK);
    assert_int_equal(tls_write(us, "b", 1, &n), ERR_OK);
    assert_int_equal(n, 1);
    for (int r; (r = SSL_read(them, in, sizeof in)) > 0;) {
        got += (size_t)r;
        n = (size_t)r;
    }
    assert_int_equal(got, sent + sealed + 1);
    assert_int_equal(in[n - 1], 'b');
}

static void test_what_is_sealed_goes_first(void **state)
{
    (void)state;
    accept_session(server(*pair_options()), NULL);
    assert_int_equal(shake_as_server(), ERR_OK);
    fill_and_commit(16384);
    tls_ctx_free(ours);
    again();
    accept_session(server(*pair_options()), NULL);
    SSL_set_tlsext_max_fragment_length(them, TLSEXT_max_fragment_length_512);
    assert_int_equal(shake_as_server(), ERR_OK);
    fill_and_commit(512);
    tls_ctx_free(ours);
}

static void test_certificates_of_clients(void **state)
{
    struct tls_server_options o = *pair_options();
    char subject[TLS_SUBJECT_BYTES];

    (void)state;
    o.client_ca = tls_path("ca.pem");
    o.client_auth = TLS_CLIENT_REQUIRED;
    accept_session(server(o), NULL);
    assert_int_equal(shake_as_server(), ERR_IO);
    assert_int_equal(tls_failure(us), TLS_FAIL_CERTIFICATE);
    tls_ctx_free(ours);
    again();
    accept_session(server(o), NULL);
    assert_int_equal(SSL_use_certificate_file(them, tls_path("client.pem"), SSL_FILETYPE_PEM), 1);
    assert_int_equal(SSL_use_PrivateKey_file(them, tls_path("client.key"), SSL_FILETYPE_PEM), 1);
    assert_int_equal(shake_as_server(), ERR_OK);
    tls_client_subject(us, subject);
    assert_string_equal(subject, "CN=client");
    assert_string_equal(tls_version(us), "TLSv1.3");
    tls_ctx_free(ours);
}

#define tls_test(f) cmocka_unit_test_setup_teardown(f, make_sockets, drop_sockets)

int main(void)
{
    const struct CMUnitTest tests[] = {
        tls_test(test_names_that_are_in_the_certificate),
        tls_test(test_names_that_are_not),
        tls_test(test_a_name_that_cannot_be),
        tls_test(test_only_while_it_is_valid),
        tls_test(test_an_authority_nobody_knows),
        tls_test(test_the_name_is_told_but_no_address),
        tls_test(test_old_versions),
        tls_test(test_a_certificate_of_our_own),
        tls_test(test_files_that_are_no_good),
        tls_test(test_a_session_outlives_its_context),
        tls_test(test_bytes_both_ways),
        tls_test(test_much_more_than_a_socket_takes),
        tls_test(test_a_read_takes_a_record_whole),
        tls_test(test_an_end_that_is_said),
        tls_test(test_an_end_that_is_not_said),
        tls_test(test_writing_to_who_is_gone),
        tls_test(test_gone_in_the_middle_of_the_handshake),
        tls_test(test_someone_who_does_not_speak_tls),
        tls_test(test_bytes_that_were_tampered_with),
        tls_test(test_our_end_is_said),
        tls_test(test_closed_before_anything),
        tls_test(test_servers_need_a_certificate_that_is_valid_now),
        tls_test(test_the_certificate_for_the_name),
        tls_test(test_tickets_are_good_for_their_context_alone),
        tls_test(test_what_is_sealed_goes_first),
        tls_test(test_certificates_of_clients),
    };

    return cmocka_run_group_tests(tests, make_certificates, drop_certificates);
}
