/* inquiry.h - who is a server, and is it still? Loop's thread only. */
#ifndef CRIER_REDIS_INQUIRY_H
#define CRIER_REDIS_INQUIRY_H

#include "node.h"

/* The command link is up, or the server was unfit when it was asked last. Ends with the node
 * serving, unfit or away. */
void inquiry_begin(struct redis_node *n);
void inquiry_tick(struct redis_node *n); /* of a node that serves */

#endif
