/* ws_codes.h - numbers of the WebSocket protocol (RFC 6455 5.2, 7.4) that more than the transport
 * needs: a frame is an encoding like any other. */
#ifndef CRIER_WS_CODES_H
#define CRIER_WS_CODES_H

enum ws_opcode { WS_CONT = 0, WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

/* Close codes of the protocol (protocol.md). */
enum ws_code {
    WS_CODE_DONE = 1000,
    WS_CODE_GOING_AWAY = 1001,
    WS_CODE_PROTOCOL = 1002,
    WS_CODE_NOT_ACCEPTED = 1003,
    WS_CODE_NO_STATUS = 1005, /* never on the wire: the peer's Close had no code */
    WS_CODE_NOT_UTF8 = 1007,
    WS_CODE_POLICY = 1008,
    WS_CODE_TOO_BIG = 1009,
    WS_CODE_OUR_FAULT = 1011,
    WS_CODE_TRY_LATER = 1013,
    WS_CODE_TOO_SLOW = 4001,
    WS_CODE_DISCONNECTED = 4002,
    WS_CODE_GAP = 4003, /* format=raw: a cursor that cannot be honoured */
};

#endif
