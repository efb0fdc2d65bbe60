/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/serve/queries.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/event.h>

#include "base/clock.h"
#include "base/image.h"
#include "base/timer.h"
#include "daemon/registry/registry.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/hop_image.h"
#include "daemon/serve/report.h"
#include "daemon/serve/status.h"
#include "daemon/local/session.h"
#include "wire/ut.h"

#define PIECE		  32768u /* bytes that are sent at once; less than hop_send() keeps for nothing */
#define BEGIN_UNITS	  500u	 /* to read a question, or to answer it at once */
#define SEND_UNITS(bytes) ((bytes) / 16)
#define LATE_MS		  2000 /* what waits is looked at so often */

struct query {
	struct query *prev, *next;
	uint32_t request;
	uint64_t since_ms;     /* when it was asked, also of a daemon before this */
	struct report *report; /* the answer, or NULL: it isn't begun */
	bool is_void;	       /* a daemon before this has begun it, and what was sent is part of no answer */
	uint32_t size;
	char text[];
};

/* A program that has asked questions. */
struct asker {
	struct queries *queries;
	struct session *session;
	struct task task;
	struct query *waiting; /* the first one is next, or is being answered */
	struct evbuffer *text; /* of the report, not yet sent */
	bool is_complete;      /* the report has ended: nothing will be added to the text */
	UT_hash_handle hh;
};

struct queries {
	struct switchboard *board;
	const struct status_sources *sources;
	queries_ready_fn ready;
	queries_begin_fn begin;
	void *userdata;
	struct registry_sink sink;
	struct event *late;   /* for those that have waited long enough, though nothing was told */
	struct asker *askers; /* by session */
};

static struct line *line_of(const struct asker *asker)
{
	return account_line(hop_account(session_hop(asker->session)));
}

static struct asker *queries_find(struct queries *queries, struct session *session)
{
	struct asker *asker;

	HASH_FIND_PTR(queries->askers, &session, asker);
	return asker;
}

/* --- answering -------------------------------------------------------------------------------- */

static void end_query(struct asker *asker)
{
	struct query *query = asker->waiting;

	DL_DELETE(asker->waiting, query);
	report_free(query->report);
	free(query);
	asker->is_complete = false;
	evbuffer_drain(asker->text, evbuffer_get_length(asker->text));
}

static void forget_asker(struct asker *asker)
{
	while (asker->waiting)
		end_query(asker);
	task_cancel(&asker->task);
	HASH_DEL(asker->queries->askers, asker);
	evbuffer_free(asker->text);
	free(asker);
}

static bool is_ready(const struct asker *asker)
{
	const struct query *query = asker->waiting;
	struct frame_text text = {.data = query->text, .size = query->size};

	return query->report || query->is_void ||
	       asker->queries->ready(asker->queries->userdata, text, clock_ms() - query->since_ms);
}

static void begin_answer(struct asker *asker)
{
	struct queries *queries = asker->queries;
	struct query *query = asker->waiting;
	struct frame_text text = {.data = query->text, .size = query->size};

	turns_spend(&queries->board->turns, line_of(asker), BEGIN_UNITS);
	if (query->is_void)
		session_reply_error(asker->session, query->request, EAGAIN, "");
	else
		query->report = queries->begin(queries->userdata, asker->session, query->request, text);
	if (!query->report)
		end_query(asker);
}

static int add_to_text(struct asker *asker)
{
	struct queries *queries = asker->queries;
	uint64_t units = 0;
	int r;

	r = report_more(asker->waiting->report, queries->sources, asker->text, &units);
	turns_spend(&queries->board->turns, line_of(asker), units);
	asker->is_complete = r == 0;
	return r;
}

static void send_text(struct asker *asker)
{
	uint32_t request = asker->waiting->request;
	uint8_t piece[PIECE];
	int size = evbuffer_remove(asker->text, piece, sizeof(piece));
	bool last = asker->is_complete && evbuffer_get_length(asker->text) == 0;

	turns_spend(&asker->queries->board->turns, line_of(asker), SEND_UNITS((uint64_t)size));
	/* If that fails, the session ends. */
	if (!last) {
		session_reply_more(asker->session, request, piece, (size_t)size);
		return;
	}
	session_reply(asker->session, request, 0, piece, (size_t)size);
	end_query(asker);
}

static void queries_answer(struct asker *asker)
{
	if (!asker->is_complete && add_to_text(asker) < 0) {
		session_reply_error(asker->session, asker->waiting->request, ENOMEM, "");
		end_query(asker);
	} else if (asker->is_complete || evbuffer_get_length(asker->text) >= PIECE) {
		send_text(asker);
	}
}

static void queries_on_turn(struct task *task)
{
	struct asker *asker = (struct asker *)((char *)task - offsetof(struct asker, task));

	if (session_has_unread(asker->session))
		return; /* until queries_go_on() */
	if (!is_ready(asker)) {
		timer_start(asker->queries->late, LATE_MS);
		return; /* until REGISTRY_ALL, or then */
	}
	if (asker->waiting->report)
		queries_answer(asker);
	else
		begin_answer(asker);
	if (asker->waiting)
		task_due(task);
	else
		forget_asker(asker);
}

void queries_go_on(struct queries *queries, struct session *session)
{
	struct asker *asker = queries_find(queries, session);

	if (asker)
		task_due(&asker->task);
}

/* Goes on with questions that couldn't be answered. */
static void look_again(struct queries *queries)
{
	for (struct asker *asker = queries->askers; asker; asker = asker->hh.next)
		task_due(&asker->task);
}

static void queries_on_known(void *userdata, enum registry_what what, uint32_t domid)
{
	if (what == REGISTRY_ALL)
		look_again(userdata);
}

static void queries_on_late(evutil_socket_t fd, short what, void *userdata)
{
	look_again(userdata);
}

/* --- asking ----------------------------------------------------------------------------------- */

struct queries *queries_new(struct switchboard *board, const struct status_sources *sources,
			    queries_ready_fn ready, queries_begin_fn begin, void *userdata)
{
	struct queries *queries = calloc(1, sizeof(*queries));

	if (!queries)
		return NULL;
	queries->board = board;
	queries->sources = sources;
	queries->ready = ready;
	queries->begin = begin;
	queries->userdata = userdata;
	queries->late = evtimer_new(board->base, queries_on_late, queries);
	if (!queries->late) {
		free(queries);
		return NULL;
	}
	registry_listen(sources->registry, &queries->sink, queries_on_known, queries);
	return queries;
}

void queries_free(struct queries *queries)
{
	if (!queries)
		return;
	while (queries->askers)
		forget_asker(queries->askers);
	registry_leave(queries->sources->registry, &queries->sink);
	event_free(queries->late);
	free(queries);
}

static struct asker *asker_of(struct queries *queries, struct session *session)
{
	struct asker *asker = queries_find(queries, session);

	if (asker)
		return asker;
	asker = calloc(1, sizeof(*asker));
	if (!asker)
		return NULL;
	asker->queries = queries;
	asker->session = session;
	asker->text = evbuffer_new();
	if (!asker->text) {
		free(asker);
		return NULL;
	}
	HASH_ADD_PTR(queries->askers, session, asker);
	if (!HASH_ADDED(asker)) {
		evbuffer_free(asker->text);
		free(asker);
		return NULL;
	}
	task_init(&asker->task, &queries->board->turns, line_of(asker), queries_on_turn);
	return asker;
}

/* Queues a question with room for a text of this size. NULL: no memory. */
static struct query *add_query(struct queries *queries, struct session *session, uint32_t request,
			       size_t size)
{
	struct query *query = calloc(1, sizeof(*query) + size);
	struct asker *asker = query ? asker_of(queries, session) : NULL;

	if (!asker) {
		free(query);
		return NULL;
	}
	query->request = request;
	query->since_ms = clock_ms();
	query->size = (uint32_t)size;
	DL_APPEND(asker->waiting, query);
	task_due(&asker->task);
	return query;
}

/* Adds one that has waited for so long already. */
static int queries_add_text(struct queries *queries, struct session *session, uint32_t request,
			    struct frame_text text, uint64_t waited_ms, bool is_void)
{
	struct query *query;

	if (session_unanswered(session) > REQUESTS_MAX)
		return -ENOBUFS;
	query = add_query(queries, session, request, text.size);
	if (!query)
		return -ENOMEM;
	memcpy(query->text, text.data, text.size);
	query->since_ms -= waited_ms;
	query->is_void = is_void;
	return 0;
}

int queries_add(struct queries *queries, struct session *session, uint32_t request, struct frame_text text)
{
	return queries_add_text(queries, session, request, text, 0, false);
}

int queries_add_report(struct queries *queries, struct session *session, uint32_t request,
		       struct report *report)
{
	struct query *query = add_query(queries, session, request, 0);

	if (!query) {
		report_free(report);
		return -ENOMEM;
	}
	query->report = report;
	return 0;
}

void queries_forget_session(struct queries *queries, struct session *session)
{
	struct asker *asker = queries_find(queries, session);

	if (asker)
		forget_asker(asker);
}

/* --- handing over ----------------------------------------------------------------------------- */

unsigned queries_in_image(struct queries *queries, struct session *session)
{
	const struct asker *asker = queries_find(queries, session);
	const struct query *query;
	unsigned count = 0;

	if (asker)
		DL_COUNT(asker->waiting, query, count);
	return count;
}

static void query_image(struct image *image, uint32_t *request, uint64_t *waited_ms, bool *is_void,
			struct image_bytes *text)
{
	image_u32(image, request);
	image_u64(image, waited_ms);
	image_bool(image, is_void);
	image_bytes(image, text, FRAME_PAYLOAD_MAX);
}

void query_write_image(struct image *image, struct session *session, uint32_t request, uint64_t waited_ms,
		       bool is_void, struct frame_text text)
{
	uint32_t number = hop_number_in_image(session_hop(session));
	struct image_bytes bytes = {(const uint8_t *)text.data, (uint32_t)text.size};

	image_section(image, IMAGE_QUERY);
	image_u32(image, &number);
	query_image(image, &request, &waited_ms, &is_void, &bytes);
}

void queries_write_image(const struct queries *queries, struct image *image)
{
	const struct asker *asker;
	struct query *query;

	for (asker = queries->askers; asker; asker = asker->hh.next)
		DL_FOREACH(asker->waiting, query)
			query_write_image(image, asker->session, query->request, clock_ms() - query->since_ms,
					  query->report || query->is_void,
					  (struct frame_text){query->text, query->size});
}

void queries_read_image(struct queries *queries, struct image *image, const struct image_hops *hops)
{
	struct hop *hop = image_program(image, hops, &(uint32_t){0});
	struct image_bytes text;
	uint64_t waited_ms;
	uint32_t request;
	bool is_void;
	int r;

	query_image(image, &request, &waited_ms, &is_void, &text);
	if (image->error)
		return;
	session_ask_again(hop_owner(hop));
	r = queries_add_text(queries, hop_owner(hop), request,
			     (struct frame_text){(const char *)text.data, text.size}, waited_ms, is_void);
	if (r < 0)
		image_fail(image, r);
}
