/* web.h - the pages of web/, linked into the binary.
 *
 * The table is made at build time by tests/tools/embed_web: every file under web/, sorted by path.
 * Constant; any thread.
 */
#ifndef CRIER_WEB_H
#define CRIER_WEB_H

#include <stddef.h>

struct web_asset {
    const char *path; /* "/index.html": where it lies under web/ */
    const char *content_type;
    const unsigned char *bytes;
    size_t len;
};

extern const struct web_asset web_assets[];
extern const size_t web_assets_count;

#endif
