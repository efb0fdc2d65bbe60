/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Plain NATS, through a server: requests for what is answered, publish and subscribe for what isn't, with a
 * call for each message.
 *
 * 	bench-nats server URL SUBJECT
 * 	bench-nats client URL SUBJECT MODE SIZE SECONDS    prints what engine.h says
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nats/nats.h>

#include "bench/engine.h"

#define TIMEOUT_MS 30000

struct bench {
	natsConnection *connection;
	natsSubscription *subscription;
	const char *subject;
	natsMsg *last; /* the server's request, or the client's reply */
};

static void check(const char *what, natsStatus status)
{
	if (status == NATS_OK)
		return;
	fprintf(stderr, "%s: %s\n", what, natsStatus_GetText(status));
	exit(1);
}

/* ---- the server ------------------------------------------------------------------------------ */

static const void *next_message(void *userdata, size_t size)
{
	struct bench *bench = userdata;
	natsStatus status;

	natsMsg_Destroy(bench->last);
	do
		status = natsSubscription_NextMsg(&bench->last, bench->subscription, TIMEOUT_MS);
	while (status == NATS_TIMEOUT);
	check("receive", status);
	return natsMsg_GetData(bench->last);
}

static void answer(void *userdata, const void *data, size_t size)
{
	struct bench *bench = userdata;

	check("answer",
	      natsConnection_Publish(bench->connection, natsMsg_GetReply(bench->last), data, (int)size));
}

static void serve(struct bench *bench)
{
	const struct end end = {.userdata = bench, .send = answer, .receive = next_message};

	check("subscribe",
	      natsConnection_SubscribeSync(&bench->subscription, bench->connection, bench->subject));
	/* Otherwise it drops what comes too quickly. */
	check("subscribe", natsSubscription_SetPendingLimits(bench->subscription, -1, -1));
	check("subscribe", natsConnection_Flush(bench->connection));
	engine_ready();
	engine_serve(&end, 0); /* until it is killed */
}

/* ---- the client ------------------------------------------------------------------------------ */

static void ask_or_publish(void *userdata, const void *data, size_t size)
{
	struct bench *bench = userdata;

	if (((const char *)data)[0] == ANSWER_NONE) {
		check("publish", natsConnection_Publish(bench->connection, bench->subject, data, (int)size));
		return;
	}
	check("request", natsConnection_Request(&bench->last, bench->connection, bench->subject, data,
						(int)size, TIMEOUT_MS));
}

/* The reply has come already. */
static const void *take_reply(void *userdata, size_t size)
{
	struct bench *bench = userdata;

	natsMsg_Destroy(bench->last);
	bench->last = NULL;
	return "";
}

int main(int argc, char **argv)
{
	struct bench bench = {0};
	const struct end end = {.userdata = &bench, .send = ask_or_publish, .receive = take_reply};
	int server = argc == 4 && strcmp(argv[1], "server") == 0;
	natsOptions *options = NULL;

	if (!server && !(argc == 7 && strcmp(argv[1], "client") == 0)) {
		fprintf(stderr,
			"usage: bench-nats server URL SUBJECT | client URL SUBJECT MODE SIZE SECONDS\n");
		return 2;
	}
	check("options", natsOptions_Create(&options));
	check("options", natsOptions_SetURL(options, argv[2]));
	/* A program that asks or answers sends at once: otherwise libnats waits for a millisecond, in case
	 * more comes. */
	check("options", natsOptions_SetSendAsap(options, server || strcmp(argv[4], "stream") != 0));
	check(argv[2], natsConnection_Connect(&bench.connection, options));
	natsOptions_Destroy(options);
	bench.subject = argv[3];
	if (server)
		serve(&bench);
	else
		engine_measure(&end, argv[4], (size_t)atol(argv[5]), atof(argv[6]));
	natsConnection_Destroy(bench.connection);
	return 0;
}
