/* SPDX-License-Identifier: LGPL-2.1-or-later */
#define _GNU_SOURCE
#include "daemon/queries.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <event2/event.h>
#include <utlist.h>

#include "daemon/hop.h"
#include "daemon/session.h"
#include "daemon/timer.h"

#define SKIPS	  64 /* of a user in one turn: questions of programs that haven't read their last answer */
#define UNREAD_MS 10 /* when nobody could be answered, this is when we look again */

struct query {
	struct session *session;
	struct query *prev, *next;
	uint32_t request;
	uint32_t size;
	char text[];
};

/* A user who has asked something. */
struct asker {
	uint32_t uid;
	struct query *waiting;
	struct asker *prev, *next;
};

struct queries {
	struct relay *relay;
	struct event *timer; /* pending while somebody waits */
	struct asker *askers; /* the first one's turn is next */
	queries_answer answer;
	void *userdata;
};

static void call_again(struct queries *queries, uint32_t ms)
{
	if (queries->askers)
		timer_start(queries->timer, ms);
}

static void forget_asker(struct queries *queries, struct asker *asker)
{
	DL_DELETE(queries->askers, asker);
	free(asker);
}

/* Takes a question out whose program has room for the answer; NULL: none of the first ones has. */
static struct query *take(struct asker *asker)
{
	for (unsigned i = 0; i < SKIPS; i++) {
		struct query *query = asker->waiting;

		DL_DELETE(asker->waiting, query);
		if (!session_has_unread(query->session))
			return query;
		DL_APPEND(asker->waiting, query);
	}
	return NULL;
}

/* Of the first user who can be answered; then it is the others' turn. */
static struct query *take_next(struct queries *queries)
{
	struct asker *asker, *next;
	unsigned count = 0;

	DL_COUNT(queries->askers, asker, count);
	for (asker = queries->askers; count--; asker = next) {
		struct query *query = take(asker);

		next = asker->next;
		DL_DELETE(queries->askers, asker);
		DL_APPEND(queries->askers, asker);
		if (!asker->waiting)
			forget_asker(queries, asker);
		if (query)
			return query;
	}
	return NULL;
}

static void on_turn(int fd, short what, void *userdata)
{
	struct queries *queries = userdata;
	struct query *query = take_next(queries);

	(void)fd;
	(void)what;
	if (query) {
		struct frame_text text = {.data = query->text, .size = query->size};

		queries->answer(queries->userdata, query->session, query->request, text);
	}
	call_again(queries, query ? 0 : UNREAD_MS);
	free(query);
}

int queries_new(struct queries **out, struct relay *relay, queries_answer answer, void *userdata)
{
	struct queries *queries = calloc(1, sizeof(*queries));

	if (!queries)
		return -ENOMEM;
	queries->relay = relay;
	queries->answer = answer;
	queries->userdata = userdata;
	queries->timer = evtimer_new(relay->base, on_turn, queries);
	if (!queries->timer) {
		free(queries);
		return -ENOMEM;
	}
	*out = queries;
	return 0;
}

void queries_free(struct queries *queries)
{
	if (!queries)
		return;
	while (queries->askers) {
		struct asker *asker = queries->askers;
		struct query *query, *next;

		DL_FOREACH_SAFE(asker->waiting, query, next)
			free(query);
		forget_asker(queries, asker);
	}
	event_free(queries->timer);
	free(queries);
}

static struct asker *asker_of(struct queries *queries, uint32_t uid)
{
	struct asker *asker;

	DL_SEARCH_SCALAR(queries->askers, asker, uid, uid);
	if (asker)
		return asker;
	asker = calloc(1, sizeof(*asker));
	if (!asker)
		return NULL;
	asker->uid = uid;
	DL_APPEND(queries->askers, asker);
	return asker;
}

int queries_add(struct queries *queries, struct session *session, uint32_t request, struct frame_text text)
{
	struct query *query;
	struct asker *asker;

	if (session_unanswered(session) > REQUESTS_MAX)
		return -ENOBUFS;
	query = malloc(sizeof(*query) + text.size);
	if (!query)
		return -ENOMEM;
	asker = asker_of(queries, session_credentials(session)->uid);
	if (!asker) {
		free(query);
		return -ENOMEM;
	}
	query->session = session;
	query->request = request;
	query->size = (uint32_t)text.size;
	memcpy(query->text, text.data, text.size);
	DL_APPEND(asker->waiting, query);
	call_again(queries, 0);
	return 0;
}

void queries_forget_session(struct queries *queries, struct session *session)
{
	struct asker *asker, *next_asker;

	DL_FOREACH_SAFE(queries->askers, asker, next_asker) {
		struct query *query, *next;

		if (asker->uid != session_credentials(session)->uid)
			continue;
		DL_FOREACH_SAFE(asker->waiting, query, next) {
			if (query->session != session)
				continue;
			DL_DELETE(asker->waiting, query);
			free(query);
		}
		if (!asker->waiting)
			forget_asker(queries, asker);
	}
}
