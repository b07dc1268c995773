/* metrics.h - counters and gauges, sharded per thread, rendered for Prometheus and as JSON parts.
 *
 * Any thread adds to its own shard without contention; a reader sums all shards (relaxed: a scrape
 * may be some events behind, never wrong for ever). A thread's shard outlives the thread.
 */
#ifndef CRIER_METRICS_H
#define CRIER_METRICS_H

#include "crier/buf.h"

/* X(id, prometheus name, labels or "", type, help). Rows of one name stand together. */
#define METRICS(X)                                                                                 \
    X(M_CLIENTS_SSE, "crier_clients", "transport=\"sse\"", "gauge", "Clients connected now.")      \
    X(M_CLIENTS_WS, "crier_clients", "transport=\"ws\"", "gauge", "")                              \
    X(M_CLIENTS_POLL, "crier_clients", "transport=\"poll\"", "gauge", "")                          \
    X(M_CONNECTIONS, "crier_connections", "", "gauge", "Sockets open now.")                        \
    X(M_H2_CONNECTIONS, "crier_http2_connections", "", "gauge",                                    \
      "Of those, the ones that speak HTTP/2.")                                                     \
    X(M_H2_STREAMS, "crier_http2_streams", "", "gauge", "Streams open on them.")                   \
    X(M_CONNECTIONS_TOTAL, "crier_connections_total", "", "counter", "Sockets accepted.")          \
    X(M_ACCEPT_FAILED, "crier_accept_failures_total", "", "counter",                               \
      "Connections that could not be accepted (descriptors or memory used up).")                   \
    X(M_REQUESTS, "crier_http_requests_total", "", "counter", "HTTP requests answered.")           \
    X(M_PUBLISHED, "crier_published_messages_total", "", "counter", "Messages ordered.")           \
    X(M_PUBLISHED_BYTES, "crier_published_bytes_total", "", "counter", "Payload bytes ordered.")   \
    X(M_PUBLISH_REPEATED, "crier_publish_repeated_total", "", "counter",                           \
      "Publishes answered from an idempotency key.")                                               \
    X(M_DELIVERED_SSE, "crier_delivered_messages_total", "transport=\"sse\"", "counter",           \
      "Messages handed to the kernel for a client.")                                               \
    X(M_DELIVERED_WS, "crier_delivered_messages_total", "transport=\"ws\"", "counter", "")         \
    X(M_DELIVERED_POLL, "crier_delivered_messages_total", "transport=\"poll\"", "counter", "")     \
    X(M_SENT_BYTES, "crier_sent_bytes_total", "", "counter", "Bytes written to streams.")          \
    X(M_RESUMED, "crier_resumes_total", "outcome=\"complete\"", "counter",                         \
      "Subscriptions that came with a cursor.")                                                    \
    X(M_RESUMED_GAP, "crier_resumes_total", "outcome=\"gap\"", "counter", "")                      \
    X(M_GAPS, "crier_gaps_total", "", "counter",                                                   \
      "Gaps told to clients that were listening (a resume with a gap is counted above).")          \
    X(M_SLOW_CLOSED, "crier_slow_clients_closed_total", "", "counter",                             \
      "Clients closed because their outbox was full.")                                             \
    X(M_DEAD_CLOSED, "crier_dead_clients_closed_total", "", "counter",                             \
      "Clients closed because they showed no sign of life.")                                       \
    X(M_BAD_REQUEST, "crier_refused_total", "reason=\"bad_request\"", "counter",                   \
      "Requests and commands refused.")                                                            \
    X(M_BAD_AMBIGUOUS, "crier_refused_total", "reason=\"ambiguous_http\"", "counter", "")          \
    X(M_BAD_ORIGIN, "crier_refused_total", "reason=\"origin\"", "counter", "")                     \
    X(M_BAD_TOO_LARGE, "crier_refused_total", "reason=\"too_large\"", "counter", "")               \
    X(M_BAD_COMMAND, "crier_refused_total", "reason=\"command\"", "counter", "")                   \
    X(M_BAD_WS, "crier_refused_total", "reason=\"websocket_protocol\"", "counter", "")             \
    X(M_WS_TOO_BIG, "crier_refused_total", "reason=\"websocket_message_size\"", "counter", "")     \
    X(M_WS_FRAGMENTS, "crier_refused_total", "reason=\"websocket_fragments\"", "counter", "")      \
    X(M_WS_CONTROL_RATE, "crier_refused_total", "reason=\"websocket_control_rate\"", "counter",    \
      "")                                                                                          \
    X(M_WS_TOO_SLOW, "crier_refused_total", "reason=\"websocket_slow_message\"", "counter", "")    \
    X(M_BAD_FLOOD, "crier_refused_total", "reason=\"http2_flood\"", "counter", "")                 \
    X(M_BAD_OVERLOAD, "crier_refused_total", "reason=\"overload\"", "counter", "")                 \
    X(M_TLS13_AES256, "crier_tls_connections_total",                                               \
      "protocol=\"TLSv1.3\",cipher=\"TLS_AES_256_GCM_SHA384\"", "counter", "TLS handshakes done.") \
    X(M_TLS13_AES128, "crier_tls_connections_total",                                               \
      "protocol=\"TLSv1.3\",cipher=\"TLS_AES_128_GCM_SHA256\"", "counter", "")                     \
    X(M_TLS13_CHACHA, "crier_tls_connections_total",                                               \
      "protocol=\"TLSv1.3\",cipher=\"TLS_CHACHA20_POLY1305_SHA256\"", "counter", "")               \
    X(M_TLS12_ECDSA_AES256, "crier_tls_connections_total",                                         \
      "protocol=\"TLSv1.2\",cipher=\"ECDHE-ECDSA-AES256-GCM-SHA384\"", "counter", "")              \
    X(M_TLS12_ECDSA_AES128, "crier_tls_connections_total",                                         \
      "protocol=\"TLSv1.2\",cipher=\"ECDHE-ECDSA-AES128-GCM-SHA256\"", "counter", "")              \
    X(M_TLS12_ECDSA_CHACHA, "crier_tls_connections_total",                                         \
      "protocol=\"TLSv1.2\",cipher=\"ECDHE-ECDSA-CHACHA20-POLY1305\"", "counter", "")              \
    X(M_TLS12_RSA_AES256, "crier_tls_connections_total",                                           \
      "protocol=\"TLSv1.2\",cipher=\"ECDHE-RSA-AES256-GCM-SHA384\"", "counter", "")                \
    X(M_TLS12_RSA_AES128, "crier_tls_connections_total",                                           \
      "protocol=\"TLSv1.2\",cipher=\"ECDHE-RSA-AES128-GCM-SHA256\"", "counter", "")                \
    X(M_TLS12_RSA_CHACHA, "crier_tls_connections_total",                                           \
      "protocol=\"TLSv1.2\",cipher=\"ECDHE-RSA-CHACHA20-POLY1305\"", "counter", "")                \
    X(M_TLS_OTHER, "crier_tls_connections_total", "protocol=\"other\",cipher=\"other\"",           \
      "counter", "")                                                                               \
    X(M_TLS_CLIENT_CERTIFICATES, "crier_tls_client_certificates_total", "", "counter",             \
      "TLS handshakes in which the client has shown a certificate.")                               \
    X(M_TLS_FAIL_CLOSED, "crier_tls_handshake_failures_total", "reason=\"closed\"", "counter",     \
      "TLS handshakes that failed.")                                                               \
    X(M_TLS_FAIL_TIMEOUT, "crier_tls_handshake_failures_total", "reason=\"timeout\"", "counter",   \
      "")                                                                                          \
    X(M_TLS_FAIL_NOT_TLS, "crier_tls_handshake_failures_total", "reason=\"not_tls\"", "counter",   \
      "")                                                                                          \
    X(M_TLS_FAIL_VERSION, "crier_tls_handshake_failures_total", "reason=\"version\"", "counter",   \
      "")                                                                                          \
    X(M_TLS_FAIL_NEGOTIATION, "crier_tls_handshake_failures_total", "reason=\"negotiation\"",      \
      "counter", "")                                                                               \
    X(M_TLS_FAIL_CERTIFICATE, "crier_tls_handshake_failures_total",                                \
      "reason=\"client_certificate\"", "counter", "")                                              \
    X(M_TLS_FAIL_REFUSED, "crier_tls_handshake_failures_total", "reason=\"refused_by_client\"",    \
      "counter", "")                                                                               \
    X(M_TLS_FAIL_OTHER, "crier_tls_handshake_failures_total", "reason=\"other\"", "counter", "")   \
    X(M_TLS_SHAKING, "crier_tls_handshakes", "state=\"running\"", "gauge", "TLS handshakes now.")  \
    X(M_TLS_WAITING, "crier_tls_handshakes", "state=\"waiting\"", "gauge", "")                     \
    X(M_TLS_RELOADS, "crier_tls_reloads_total", "outcome=\"done\"", "counter",                     \
      "Times the certificates were read again.")                                                   \
    X(M_TLS_RELOADS_FAILED, "crier_tls_reloads_total", "outcome=\"failed\"", "counter", "")        \
    X(M_REDIS_UP, "crier_redis_up", "", "gauge",                                                   \
      "Redis servers that deliver: what is published there comes back.")                           \
    X(M_REDIS_RTT, "crier_redis_probe_rtt_ms", "", "gauge",                                        \
      "Round trip of the last probe through publish and subscribe, of the slowest server.")        \
    X(M_REDIS_RECONNECTS, "crier_redis_reconnects_total", "", "counter",                           \
      "Links to Redis that were lost and are back.")                                               \
    X(M_REDIS_ERRORS, "crier_redis_errors_total", "", "counter", "Error replies of Redis.")        \
    X(M_REDIS_RANGE_READS, "crier_redis_range_reads_total", "", "counter",                         \
      "Runs of history read from Redis.")                                                          \
    X(M_REDIS_REPAIRS, "crier_redis_repairs_total", "", "counter",                                 \
      "Times a channel was read again because something may have been missed.")                    \
    X(M_REDIS_BAD_RECORDS, "crier_redis_bad_records_total", "", "counter",                         \
      "Entries or messages in Redis that are not crier's.")                                        \
    X(M_REDIS_REDIRECTS, "crier_redis_redirects_total", "", "counter",                             \
      "Commands and subscriptions that a Redis Cluster sent to another node.")

enum metric {
#define METRICS_ENUM(id, name, labels, type, help) id,
    METRICS(METRICS_ENUM)
#undef METRICS_ENUM
        METRIC_COUNT,
};

void metrics_add(enum metric m, int64_t n);
static inline void metrics_inc(enum metric m)
{
    metrics_add(m, 1);
}
static inline void metrics_dec(enum metric m)
{
    metrics_add(m, -1);
}
int64_t metrics_get(enum metric m); /* sum over all threads */
/* Prometheus text format 0.0.4. */
void metrics_render(struct buf *b);

#endif
