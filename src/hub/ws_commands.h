/* ws_commands.h - commands of JSON WebSocket clients. */
#ifndef CRIER_WS_COMMANDS_H
#define CRIER_WS_COMMANDS_H

#include "crier/hub.h"

/* One text message of the client (dialect->received). */
void command_received(struct session *s, bool binary, struct slice text);
/* Begins {"op":"ok","ref":…; the caller appends members and the closing brace. */
void command_reply_begin(struct buf *b, struct slice ref);
/* {"op":"error","ref":…,"code":"unavailable",… */
void command_unavailable(struct session *s, struct slice ref);

#endif
