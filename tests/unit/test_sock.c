/* test_sock.c - sockets on the loopback: flags, sharing, what is taken, names and texts. */
#include "crier/sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#define PATIENCE_MS 20000

static struct sock_addr address(const char *text, uint16_t port)
{
    struct sock_addr a;
    size_t n;

    assert_int_equal(sock_resolve(text, port, &a, 1, &n), ERR_OK);
    assert_int_equal(n, 1);
    return a;
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;

    assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

static void assert_flags(int fd)
{
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

static int open_client(const struct sock_addr *to)
{
    int fd = socket(to->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, &to->any, to->len), 0);
    return fd;
}

static void wait_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
}

static bool has_ipv6(void)
{
    struct sock_addr a = address("::1", 0);
    int fd;

    if (sock_listen(&a, 1, &fd) != ERR_OK)
        return false;
    close(fd);
    return true;
}

static void test_listen_on_a_port_of_the_kernels_choice(void **state)
{
    struct sock_addr a = address("127.0.0.1", 0);
    int fd;

    (void)state;
    assert_int_equal(sock_listen(&a, 16, &fd), ERR_OK);
    assert_int_not_equal(ntohs(a.v4.sin_port), 0);
    assert_int_equal(a.len, sizeof a.v4);
    assert_flags(fd);
    assert_int_equal(option(fd, SOL_SOCKET, SO_ACCEPTCONN), 1);
    assert_int_equal(option(fd, SOL_SOCKET, SO_REUSEPORT), 1);
    assert_int_equal(option(fd, SOL_SOCKET, SO_REUSEADDR), 1);
    close(fd);
}

static void test_workers_share_a_port(void **state)
{
    struct sock_addr a = address("127.0.0.1", 0), same;
    int first, second;

    (void)state;
    assert_int_equal(sock_listen(&a, 16, &first), ERR_OK);
    same = a;
    assert_int_equal(sock_listen(&same, 16, &second), ERR_OK);
    assert_int_equal(same.v4.sin_port, a.v4.sin_port);
    close(first);
    close(second);
}

static void test_a_port_that_is_not_shared_is_someone_elses(void **state)
{
    struct sock_addr a = address("127.0.0.1", 0);
    int other = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd = -7;

    (void)state;
    assert_int_equal(bind(other, &a.any, a.len), 0);
    assert_int_equal(listen(other, 1), 0);
    assert_int_equal(getsockname(other, &a.any, &a.len), 0);
    assert_int_equal(sock_listen(&a, 16, &fd), ERR_EXISTS);
    assert_int_equal(fd, -7);
    close(other);
    assert_int_equal(sock_listen(&a, 16, &fd), ERR_OK);
    close(fd);
}

static void test_an_address_that_is_not_ours(void **state)
{
    struct sock_addr a = address("192.0.2.1", 0); /* RFC 5737: nobody's */
    int fd;

    (void)state;
    errno = 0;
    assert_int_equal(sock_listen(&a, 16, &fd), ERR_IO);
    assert_int_equal(errno, EADDRNOTAVAIL);
    assert_false(sock_is_taken(&a));
}

static void test_taken_while_someone_listens(void **state)
{
    struct sock_addr a = address("127.0.0.1", 0), any = address("0.0.0.0", 0);
    int fd;

    (void)state;
    assert_false(sock_is_taken(&a));
    assert_int_equal(sock_listen(&a, 16, &fd), ERR_OK);
    assert_true(sock_is_taken(&a));
    any.v4.sin_port = a.v4.sin_port;
    assert_true(sock_is_taken(&any));
    close(fd);
    assert_false(sock_is_taken(&a));
}

/* A restart must not have to wait for the connections that were closed last. */
static void test_connections_in_time_wait_do_not_take_the_port(void **state)
{
    struct sock_addr a = address("127.0.0.1", 0), peer;
    int listener, fd;

    (void)state;
    assert_int_equal(sock_listen(&a, 16, &listener), ERR_OK);
    int client = open_client(&a);
    wait_readable(listener);
    assert_int_equal(sock_accept(listener, &fd, &peer), ERR_OK);
    close(fd); /* the server closes first and keeps the TIME_WAIT */
    char c;
    assert_int_equal(read(client, &c, 1), 0);
    close(client);
    close(listener);
    assert_false(sock_is_taken(&a));
    assert_int_equal(sock_listen(&a, 16, &listener), ERR_OK);
    close(listener);
}

static void test_accept(void **state)
{
    struct sock_addr a = address("127.0.0.1", 0), peer,
                     client_addr = {.len = sizeof client_addr.v6};
    int listener, fd = -7;

    (void)state;
    assert_int_equal(sock_listen(&a, 16, &listener), ERR_OK);
    assert_int_equal(sock_accept(listener, &fd, &peer), ERR_AGAIN);
    assert_int_equal(fd, -7);
    int client = open_client(&a);
    wait_readable(listener);
    assert_int_equal(sock_accept(listener, &fd, &peer), ERR_OK);
    assert_flags(fd);
    assert_int_equal(option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    assert_int_equal(getsockname(client, &client_addr.any, &client_addr.len), 0);
    assert_int_equal(peer.len, client_addr.len);
    assert_memory_equal(&peer.v4, &client_addr.v4, sizeof peer.v4);
    assert_int_equal(sock_accept(listener, &fd, &peer), ERR_AGAIN);
    close(client);
    close(fd);
    close(listener);
}

/* With the limit at the lowest free number there is none left; the connection stays in the queue.
 */
static void test_accept_without_descriptors(void **state)
{
    struct sock_addr a = address("127.0.0.1", 0), peer;
    struct rlimit before, low;
    int listener, fd;

    (void)state;
    assert_int_equal(sock_listen(&a, 16, &listener), ERR_OK);
    int client = open_client(&a);
    wait_readable(listener);
    int lowest = dup(client);
    close(lowest);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = before;
    low.rlim_cur = (rlim_t)lowest;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    enum err e = sock_accept(listener, &fd, &peer);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(e, ERR_NOMEM);
    assert_int_equal(sock_accept(listener, &fd, &peer), ERR_OK);
    close(fd);
    close(client);
    close(listener);
}

static void test_ipv6_leaves_the_ipv4_port_alone(void **state)
{
    bool alone = false;

    (void)state;
    if (!has_ipv6())
        skip();
    /* Somebody else on the machine may have the IPv4 port that goes with ours: not every time. */
    for (int i = 0; i < 50 && !alone; i++) {
        struct sock_addr six = address("::", 0), four = address("0.0.0.0", 0);
        int fd6, fd4;
        assert_int_equal(sock_listen(&six, 16, &fd6), ERR_OK);
        assert_int_equal(option(fd6, IPPROTO_IPV6, IPV6_V6ONLY), 1);
        assert_true(sock_is_taken(&six));
        four.v4.sin_port = six.v6.sin6_port;
        alone = !sock_is_taken(&four) && sock_listen(&four, 16, &fd4) == ERR_OK;
        if (alone)
            close(fd4);
        close(fd6);
    }
    assert_true(alone);
}

static void assert_text(const char *host, uint16_t port, const char *expected)
{
    struct sock_addr a = address(host, port);
    char text[SOCK_ADDR_TEXT_BYTES];

    sock_addr_text(&a, text);
    assert_string_equal(text, expected);
}

static void test_texts(void **state)
{
    struct sock_addr none = {.len = 0};
    char text[SOCK_ADDR_TEXT_BYTES];

    (void)state;
    assert_text("127.0.0.1", 8080, "127.0.0.1:8080");
    assert_text("255.255.255.255", 65535, "255.255.255.255:65535");
    assert_text("::1", 1, "[::1]:1");
    assert_text("[2001:db8::1]", 65535, "[2001:db8::1]:65535");
    assert_text("1111:2222:3333:4444:5555:6666:255.255.255.255", 65535,
                "[1111:2222:3333:4444:5555:6666:ffff:ffff]:65535");
    sock_addr_text(&none, text);
    assert_string_equal(text, "unknown");
}

static void assert_loopback(const char *host, bool expected)
{
    struct sock_addr a = address(host, 80);

    assert_int_equal(sock_addr_is_loopback(&a), expected);
}

static void test_loopback(void **state)
{
    struct sock_addr none = {.len = 0};

    (void)state;
    assert_loopback("127.0.0.1", true);
    assert_loopback("127.255.0.3", true);
    assert_loopback("::1", true);
    assert_loopback("::ffff:127.0.0.1", true);
    assert_loopback("0.0.0.0", false);
    assert_loopback("126.255.255.255", false);
    assert_loopback("128.0.0.1", false);
    assert_loopback("::", false);
    assert_loopback("::ffff:10.0.0.1", false);
    assert_loopback("fe80::1", false);
    assert_false(sock_addr_is_loopback(&none));
}

static void test_localhost_gives_loopback_addresses_that_work(void **state)
{
    struct sock_addr all[8];
    bool four = false;
    size_t n = 0;
    int fd;

    (void)state;
    assert_int_equal(sock_resolve("localhost", 0, all, 8, &n), ERR_OK);
    for (size_t i = 0; i < n; i++) {
        assert_true(sock_addr_is_loopback(&all[i]));
        four |= all[i].any.sa_family == AF_INET;
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(&all[i].v6, &all[j].v6, sizeof all[i].v6);
        assert_int_equal(sock_listen(&all[i], 1, &fd), ERR_OK);
        close(fd);
    }
    assert_true(four);
    assert_int_equal(sock_resolve("localhost", 0, all, 1, &n), ERR_OK);
    assert_int_equal(n, 1);
}

static void test_names_that_lead_nowhere(void **state)
{
    char long_name[400];
    struct sock_addr a;
    size_t n;

    (void)state;
    memset(long_name, 'a', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    assert_int_equal(sock_resolve("", 80, &a, 1, &n), ERR_NOT_FOUND);
    assert_int_equal(sock_resolve("[]", 80, &a, 1, &n), ERR_NOT_FOUND);
    assert_int_equal(sock_resolve(long_name, 80, &a, 1, &n), ERR_NOT_FOUND);
    /* an empty label: refused without asking a name server */
    assert_int_equal(sock_resolve("a..b", 80, &a, 1, &n), ERR_NOT_FOUND);
}

static void test_the_descriptor_limit_goes_up_to_the_hard_one(void **state)
{
    struct rlimit before, after;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit low = {.rlim_cur = 64, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    assert_true(sock_raise_descriptor_limit() == before.rlim_max);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &after), 0);
    assert_true(after.rlim_cur == before.rlim_max);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_listen_on_a_port_of_the_kernels_choice),
        cmocka_unit_test(test_workers_share_a_port),
        cmocka_unit_test(test_a_port_that_is_not_shared_is_someone_elses),
        cmocka_unit_test(test_an_address_that_is_not_ours),
        cmocka_unit_test(test_taken_while_someone_listens),
        cmocka_unit_test(test_connections_in_time_wait_do_not_take_the_port),
        cmocka_unit_test(test_accept),
        cmocka_unit_test(test_accept_without_descriptors),
        cmocka_unit_test(test_ipv6_leaves_the_ipv4_port_alone),
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_loopback),
        cmocka_unit_test(test_localhost_gives_loopback_addresses_that_work),
        cmocka_unit_test(test_names_that_lead_nowhere),
        cmocka_unit_test(test_the_descriptor_limit_goes_up_to_the_hard_one),
    };
    return cmocka_run_group_tests_name("sock", tests, NULL, NULL);
}
