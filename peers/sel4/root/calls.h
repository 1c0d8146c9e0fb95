/* Clients and servers that rows on one CPU and rows across CPUs share. */
#pragma once

#include "root.h"

/* What client and server say to each other: only the server knows its label. */
#define ASK 0x11
#define ANSWER 0x22
#define WORD_A 0x1111
#define WORD_B 0x2222
#define WORD_C 0x3333
#define WORD_D 0x4444

void call_0_client(void);
void call_4_client(void);
void call_10_client(void);
void call_64_client(void);
void echo_0_server(void);
void echo_4_server(void);
void echo_10_server(void);
void echo_64_server(void);

/* The client signals and waits; the server waits and signals back. */
void ping_client(void);
void pong_server(void);
