/* info.c - "field:value" lines; what is not known is passed over. */
#include "info.h"

static void parse_version(struct slice text, struct server_info *out)
{
    struct slice rest = text, part;
    uint64_t major = 0, minor = 0;

    out->version_text = text;
    if (!slice_split(&rest, '.', &part) || slice_to_u64(part, 999, &major) != ERR_OK)
        return;
    if (!slice_split(&rest, '.', &part) || slice_to_u64(part, 999, &minor) != ERR_OK)
        return;
    out->version = (uint32_t)INFO_VERSION(major, minor);
}

static bool is_one(struct slice value)
{
    return slice_eq(value, SLICE("1"));
}

static void take_field(struct slice name, struct slice value, struct server_info *out)
{
    if (slice_eq(name, SLICE("redis_version"))) {
        parse_version(value, out);
    } else if (slice_eq(name, SLICE("run_id"))) {
        out->run_id = value;
    } else if (slice_eq(name, SLICE("master_replid"))) {
        out->replid = value;
    } else if (slice_eq(name, SLICE("role"))) {
        out->has_role = true;
        out->is_master = slice_eq(value, SLICE("master"));
    } else if (slice_eq(name, SLICE("loading"))) {
        out->loading = is_one(value);
    } else if (slice_eq(name, SLICE("cluster_enabled"))) {
        out->cluster = is_one(value);
    } else if (slice_eq(name, SLICE("maxmemory"))) {
        out->has_maxmemory = slice_to_u64(value, UINT64_MAX, &out->maxmemory) == ERR_OK;
    } else if (slice_eq(name, SLICE("maxmemory_policy"))) {
        out->policy = value;
    } else if (slice_eq(name, SLICE("aof_enabled"))) {
        out->has_aof = true;
        out->aof = is_one(value);
    }
}

void info_parse(struct slice text, struct server_info *out)
{
    struct slice line, name;

    *out = (struct server_info){0};
    while (slice_split(&text, '\n', &line)) {
        if (line.len && line.ptr[line.len - 1] == '\r')
            line.len--;
        struct slice value = line;
        if (line.len == 0 || line.ptr[0] == '#' || !slice_split(&value, ':', &name) || !value.ptr)
            continue;
        take_field(name, value, out);
    }
}

static uint64_t hex_prefix(struct slice s)
{
    uint64_t v = 0;

    for (size_t i = 0; i < s.len && i < INFO_IDENTITY_BYTES; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        /* the low four bits of a letter are 1 to 6 */
        v = v << 4 | (c >= '0' && c <= '9' ? c & 15u : ((c & 15u) + 9) & 15u);
    }
    return v;
}

/* Both are random, so a part of them is as good as a digest. The rotation keeps two ids that happen
 * to be the same from cancelling each other. */
void info_identity(const struct server_info *i, char out[INFO_IDENTITY_BYTES])
{
    uint64_t replid = hex_prefix(i->replid);
    uint64_t v = hex_prefix(i->run_id) ^ (replid << 7 | replid >> 57);

    for (size_t at = INFO_IDENTITY_BYTES; at-- > 0; v >>= 4)
        out[at] = "0123456789abcdef"[v & 15];
}
