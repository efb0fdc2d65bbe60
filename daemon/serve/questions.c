/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/serve/questions.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/event.h>

#include "base/clock.h"
#include "base/config.h"
#include "base/cost.h"
#include "base/image.h"
#include "base/quota.h"
#include "base/self.h"
#include "base/timer.h"
#include "daemon/registry/registry.h"
#include "daemon/serve/inquiries.h"
#include "daemon/serve/report.h"
#include "daemon/serve/status.h"
#include "daemon/switch/cancel.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/hop_image.h"
#include "daemon/switch/part.h"
#include "daemon/switch/inner.h"
#include "wire/bytes.h"
#include "wire/properties.h"
#include "wire/ut.h"

#define PIECE		  32768u /* bytes of an answer that are sent at once */
#define PIECE_LEAST	  4096u	 /* for which it waits until the asker has room, unless it is the last one */
#define PART_BLOCK	  16u	 /* bytes of a block with a part and nothing else */
#define OVERHEAD	  (MESSAGE_HEAD_SIZE + PART_BLOCK + 8 + MESSAGE_TRAILER_SIZE)
#define BEGIN_UNITS	  500u /* to read a question, or to answer it at once */
#define SEND_UNITS(bytes) ((bytes) / 16)
#define TURN_UNITS	  2048u /* of frames that are looked at in one turn */
#define LATE_MS		  2000	/* what waits is looked at so often */
#define LOOK_UNITS	  40u	/* at a question that isn't begun, or for one */
#define AHEAD_MAX	  64u	/* questions of a channel that are known; others lie in it */

enum question_state {
	NEW,
	HELD,
	ANSWERING,
	DONE,
	STANDS,
};

/* Where more of its answer comes from. */
enum question_source {
	IS_COMPLETE,
	MAKES_REPORT,
	PASSES_ON, /* what another daemon answers */
};

struct question {
	struct question *prev, *next;
	struct asker *asker;
	uint32_t number; /* of the call */
	uint32_t size;	 /* of the message's payload, with properties */
	/* bytes in the channel; of one that is DONE, with those behind it that are, too; 0: it was taken */
	uint32_t span;
	uint32_t part; /* so many were sent */
	int error;     /* with which it is answered, a positive errno */
	enum question_state state : 8;
	enum question_source source : 8;
	bool has_block, is_inherited;
	uint64_t since_ms; /* when it was asked, also of a daemon before this */
	union {		   /* from which `text` gets more */
		struct report *report;
		struct inquiry *inquiry;
	};
	struct evbuffer *text; /* that isn't sent yet; of one that stands, whole messages, or NULL */
	char stood
		[]; /* its text, if it stands, or has stood when the daemon before this handed over; else "" */
};

/* One channel from which questions come. */
struct asker {
	struct asker *prev, *next;
	struct questions *questions;
	struct channel_end *end;
	struct account *account; /* a reference; NULL: nobody pays */
	struct task task;
	struct question *first;	   /* utlist: all that aren't taken, in the order in which they came */
	struct question *standing; /* utlist */
	unsigned count;
	size_t parsed;	    /* bytes of end->queue that these have */
	size_t inherited;   /* bytes there that a daemon before this had got already */
	bool is_at_its_end; /* FIN has come */
};

/* A way to the daemon of another domain is sought. */
struct seek {
	struct seek *prev, *next;
	struct questions *questions;
	uint32_t domid;
	struct inquiry *inquiry;
};

struct questions {
	struct switchboard *board;
	const struct status_sources *sources;
	struct questions_callbacks callbacks;
	void *userdata;
	struct hop *hop;
	struct registry_sink sink;
	struct event *late; /* for those that have waited long enough, though nothing was told */
	uint64_t waited_ms; /* the longest that one had waited which a daemon before this has left */
	bool is_left;	    /* to the next daemon */
	struct asker *askers;
	unsigned asker_count;
	struct inquiries *inquiries;
	struct seek *seeks;
};

static struct line *line_of(const struct asker *asker)
{
	return asker->account ? account_line(asker->account) : NULL;
}

static void questions_spend(const struct asker *asker, uint64_t units)
{
	turns_spend(&asker->questions->board->turns, line_of(asker), units);
}

/* --- the life of a question ------------------------------------------------------------------------ */

/* No more of its answer comes. */
static void question_complete(struct question *question)
{
	if (question->source == MAKES_REPORT)
		report_free(question->report);
	else if (question->source == PASSES_ON)
		inquiry_free(question->inquiry);
	question->source = IS_COMPLETE;
}

/* Lets it need nothing any more. Its request is taken in its turn. */
static void question_end(struct question *question)
{
	struct questions *questions = question->asker->questions;

	if (question->state == HELD || question->state == STANDS)
		questions->callbacks.forget(questions->userdata, question);
	question_complete(question);
	if (question->text)
		evbuffer_free(question->text);
	question->text = NULL;
	*question->stood = '\0';
	question->state = DONE;
}

/* Returns where its request begins in what waits in the channel. */
static size_t place_of(const struct question *question)
{
	const struct question *before;
	size_t at = 0;

	DL_FOREACH(question->asker->first, before) {
		if (before == question)
			break;
		at += before->span;
	}
	return at;
}

/* It was answered, or isn't wanted any more: who finds its request there, as the next daemon may, answers
 * nothing. */
static void question_settle(struct question *question)
{
	struct channel_end *end = question->asker->end;

	question_end(question);
	if (question->span)
		channel_cancel_queued(end,
				      end->sent + place_of(question) + question->span - MESSAGE_TRAILER_SIZE);
}

static void question_remove(struct question *question)
{
	struct asker *asker = question->asker;

	question_end(question);
	DL_DELETE(asker->first, question);
	asker->count--;
	free(question);
}

void question_drop(struct question *question)
{
	DL_DELETE(question->asker->standing, question);
	question_end(question);
	free(question);
}

static void forget_asker(struct asker *asker)
{
	struct questions *questions = asker->questions;

	while (asker->first)
		question_remove(asker->first);
	while (asker->standing)
		question_drop(asker->standing);
	questions->callbacks.gone(questions->userdata, asker);
	task_cancel(&asker->task);
	account_unref(asker->account);
	asker->end->participant = NULL;
	DL_DELETE(questions->askers, asker);
	questions->asker_count--;
	free(asker);
}

static void end_asker(struct asker *asker, int error)
{
	struct channel_end *end = asker->end;

	forget_asker(asker);
	inner_reset(end, error);
}

const struct channel *question_channel(const struct question *question)
{
	return question->asker->end->channel;
}

struct hop *question_program(const struct question *question)
{
	struct hop *from = question_channel(question)->opener.hop;

	return from && hop_is_session(from) && hop_owner(from) ? from : NULL;
}

struct account *question_account(const struct question *question)
{
	return question->asker->account;
}

const void *question_asker(const struct question *question)
{
	return question->asker;
}

void question_hang_up(const struct question *question, int error)
{
	end_asker(question->asker, error);
}

bool question_is_inherited(const struct question *question)
{
	return question->is_inherited;
}

bool question_has_stood(const struct question *question)
{
	return question->is_inherited && *question->stood;
}

/* --- reading --------------------------------------------------------------------------------------- */

static bool copy_out(struct evbuffer *queue, size_t at, void *to, size_t size)
{
	struct evbuffer_ptr place;

	return evbuffer_ptr_set(queue, &place, at, EVBUFFER_PTR_SET) == 0 &&
	       evbuffer_copyout_from(queue, &place, to, size) == (ev_ssize_t)size;
}

static struct question *question_new(struct asker *asker, uint32_t number, const char *stood)
{
	size_t size = strlen(stood) + 1;
	struct question *question = calloc(1, sizeof(*question) + size);

	if (!question)
		return NULL;
	question->asker = asker;
	question->number = number;
	memcpy(question->stood, stood, size);
	return question;
}

static struct question *question_add(struct asker *asker, const uint8_t *head, uint32_t number)
{
	struct question *question = question_new(asker, number, "");

	if (!question)
		return NULL;
	question->size = get_u32(head);
	question->span = (uint32_t)message_span(question->size);
	question->has_block = head[4] & MESSAGE_PROPERTIES;
	question->is_inherited = asker->parsed < asker->inherited;
	question->since_ms = clock_ms() - (question->is_inherited ? asker->questions->waited_ms : 0);
	DL_APPEND(asker->first, question);
	asker->count++;
	return question;
}

/* Reads the next request in the channel. 1; 0: there is none yet; -EPROTO, -EMSGSIZE, -ENOMEM. */
static int read_request(struct asker *asker)
{
	struct evbuffer *queue = asker->end->queue;
	uint8_t head[MESSAGE_HEAD_SIZE], trailer[MESSAGE_TRAILER_SIZE];
	size_t span;

	if (asker->count >= AHEAD_MAX || channel_queued(asker->end) <= asker->parsed)
		return 0;
	if (!copy_out(queue, asker->parsed, head, sizeof(head)) ||
	    (head[4] & (uint8_t)~MESSAGE_PROPERTIES) != MESSAGE_REQUEST)
		return -EPROTO;
	if (get_u32(head) > QUESTION_MAX + PROPERTIES_MAX)
		return -EMSGSIZE;
	span = (size_t)message_span(get_u32(head));
	if (channel_queued(asker->end) - asker->parsed < span)
		return 0;
	if (!copy_out(queue, asker->parsed + span - sizeof(trailer), trailer, sizeof(trailer)))
		return -EPROTO;
	if (!question_add(asker, head, get_u32(trailer + 4)))
		return -ENOMEM;
	asker->parsed += span;
	return 1;
}

/* Copies the question's text, which ends with a zero. 0; -ECANCELED: nobody wants an answer; -EPROTO: it is
 * malformed; -EINVAL: it is no text, or too long. */
static int copy_text(const struct question *question, char text[QUESTION_MAX + 1])
{
	uint8_t message[QUESTION_MAX + PROPERTIES_MAX + 32];
	size_t span = question->span, size = question->size;
	struct properties properties;
	int block = 0;

	if (*question->stood) {
		snprintf(text, QUESTION_MAX + 1, "%s", question->stood);
		return 0;
	}
	if (!copy_out(question->asker->end->queue, place_of(question), message, span))
		return -EPROTO;
	if (get_u32(message + span - MESSAGE_TRAILER_SIZE) != MESSAGE_SENT)
		return -ECANCELED;
	if (question->has_block) {
		block = properties_read(message + MESSAGE_HEAD_SIZE, size, &properties);
		if (block < 0)
			return block;
		size -= (size_t)block;
	}
	if (size > QUESTION_MAX || memchr(message + MESSAGE_HEAD_SIZE + block, '\0', size))
		return -EINVAL;
	memcpy(text, message + MESSAGE_HEAD_SIZE + block, size);
	text[size] = '\0';
	return 0;
}

/* Takes the requests at the front that need nothing any more. Those behind one that waits count as one. */
static void take_done(struct asker *asker)
{
	struct question *question;

	DL_FOREACH(asker->first, question)
		while (question->state == DONE && question->next && question->next->state == DONE) {
			question->span += question->next->span;
			question_remove(question->next);
		}
	while (asker->first && asker->first->state == DONE) {
		size_t span = asker->first->span;

		question_remove(asker->first);
		asker->parsed -= span;
		asker->inherited -= asker->inherited < span ? asker->inherited : span;
		if (!span)
			continue;
		evbuffer_drain(asker->end->queue, span);
		inner_taken(asker->end, span);
	}
}

/* --- answering ------------------------------------------------------------------------------------- */

static void make_due(const struct question *question)
{
	task_due(&question->asker->task);
}

void question_report(struct question *question, struct report *report)
{
	question->state = ANSWERING;
	question->source = MAKES_REPORT;
	question->report = report;
	make_due(question);
}

/* A part of what is passed on has come. */
static void on_passed(void *userdata)
{
	struct question *question = userdata;

	question->state = ANSWERING;
	make_due(question);
}

void question_pass_on(struct question *question, struct inquiry *inquiry)
{
	question->source = PASSES_ON;
	question->inquiry = inquiry;
	inquiry_listen(inquiry, on_passed, question);
}

/* Without memory for its text it is answered with an error alone. */
static void question_say(struct question *question, int error, const void *text, size_t size)
{
	question->state = ANSWERING;
	question->error = error;
	if (question->text) /* of what was told before the error */
		evbuffer_free(question->text);
	question->text = evbuffer_new();
	if (!question->text || evbuffer_add(question->text, text, size) < 0)
		question->error = error ? error : ENOMEM;
	make_due(question);
}

void question_answer(struct question *question, const void *text, size_t size)
{
	question_say(question, 0, text, size);
}

void question_refuse(struct question *question, int error, const char *why)
{
	question_say(question, error, why, strlen(why));
}

static void begin_answer(struct question *question)
{
	struct questions *questions = question->asker->questions;
	char text[QUESTION_MAX + 1];
	struct channel_end *end = question->asker->end;
	int r = copy_text(question, text);
	struct report *report;
	uint64_t upto;

	questions_spend(question->asker, BEGIN_UNITS);
	if (r == -ECANCELED) {
		question_end(question);
	} else if (r == -EPROTO) {
		end_asker(question->asker, EPROTO);
	} else if (r < 0) {
		question_refuse(question, -r, "a question is a text of at most 512 bytes");
	} else {
		upto = end->sent + place_of(question) + question->span;
		if (end->begun < upto)
			end->begun = upto;
		question->state = HELD;
		report = questions->callbacks.begin(questions->userdata, question, text);
		if (report)
			question_report(question, report);
	}
}

/* Adds a piece of the report to the text. */
static void add_piece(struct question *question)
{
	struct questions *questions = question->asker->questions;
	uint64_t units = 0;
	int r = -ENOMEM;

	if (!question->text)
		question->text = evbuffer_new();
	if (question->text)
		r = report_more(question->report, questions->sources, question->text, &units);
	questions_spend(question->asker, units);
	if (r > 0)
		return;
	question_complete(question);
	if (r < 0) {
		question->error = -r;
		if (question->text)
			evbuffer_drain(question->text, evbuffer_get_length(question->text));
	}
}

/* Returns 0, or -EMSGSIZE: the other daemon tells without end; -ENOMEM. */
static int add_passed(struct question *question, const struct inquiry_part *part)
{
	if (part->is_first && question->text)
		evbuffer_drain(question->text, evbuffer_get_length(question->text));
	if (part->is_first)
		question->part = 0;
	if (!question->text)
		question->text = evbuffer_new();
	if (part->before + part->size > question->asker->end->channel->max_message)
		return -EMSGSIZE;
	return !question->text || evbuffer_add(question->text, part->text, part->size) < 0 ? -ENOMEM : 0;
}

/* Takes the next part of what is passed on. False: it hasn't come. */
static bool take_passed(struct question *question)
{
	struct inquiry *inquiry = question->inquiry;
	struct inquiry_part part = {.is_last = true};
	int r = inquiry_next(inquiry, &part);

	if (r > 0)
		r = add_passed(question, &part);
	else if (r == 0)
		return false;
	if (r >= 0 && !part.is_last)
		return true;
	if (r < 0)
		question_refuse(question, -r, inquiry_why(inquiry));
	question_complete(question);
	return true;
}

/* Begins the next message of the answer. Returns where its text belongs. */
static uint8_t *begin_message(const struct question *question, uint8_t *message, bool is_last)
{
	const struct properties properties = {.is_part = true, .part = question->part, .has_more = !is_last};
	bool is_whole = is_last && question->part == 0;

	memset(message, 0, MESSAGE_HEAD_SIZE);
	message[4] = question->error ? MESSAGE_ERROR : MESSAGE_REPLY;
	put_u16(message + 6, (uint16_t)question->error);
	if (is_whole || question->error)
		return message + MESSAGE_HEAD_SIZE;
	message[4] |= MESSAGE_PROPERTIES;
	return message + MESSAGE_HEAD_SIZE + properties_encode(&properties, message + MESSAGE_HEAD_SIZE);
}

/* Ends it behind its text. Returns its size. */
static size_t end_message(struct question *question, uint8_t *message, uint8_t *at)
{
	put_u32(message, (uint32_t)(at - message - MESSAGE_HEAD_SIZE));
	while ((at - message) % 8)
		*at++ = 0;
	put_u32(at, MESSAGE_SENT);
	put_u32(at + 4, question->number);
	question->part++;
	return (size_t)(at - message) + MESSAGE_TRAILER_SIZE;
}

/* Returns 0, or as hop_push(). */
static int push_bytes(const struct asker *asker, void *message, size_t size)
{
	struct iovec piece = {.iov_base = message, .iov_len = size};

	questions_spend(asker, SEND_UNITS(size));
	return hop_push(asker->end, &piece, 1, (uint32_t)size, 1);
}

/* Writes the next message of the answer. Returns as hop_push(). */
static int push_message(struct question *question, uint32_t size, bool is_last)
{
	uint8_t message[OVERHEAD + PROPERTIES_WRITE + PIECE], *at = begin_message(question, message, is_last);

	if (size)
		evbuffer_remove(question->text, at, size);
	return push_bytes(question->asker, message, end_message(question, message, at + size));
}

/* Sends what is there of the answer, as far as the asker has room. False: it hasn't, or has gone. */
static bool send_piece(struct question *question)
{
	size_t size = question->text ? evbuffer_get_length(question->text) : 0;
	uint64_t room = inner_room(question->asker->end) & ~(uint64_t)7;
	size_t least = size < PIECE_LEAST ? size : PIECE_LEAST;
	bool is_last;
	int r;

	if (room < least + OVERHEAD)
		return false;
	if (size > PIECE)
		size = PIECE;
	if (size > question->asker->end->channel->max_message)
		size = (size_t)question->asker->end->channel->max_message;
	if (size > room - OVERHEAD)
		size = (size_t)(room - OVERHEAD);
	if (question->error && question->text) /* of which there are no parts */
		evbuffer_drain(question->text, evbuffer_get_length(question->text) - size);
	is_last = question->source == IS_COMPLETE &&
		  (!question->text || size == evbuffer_get_length(question->text));
	r = push_message(question, (uint32_t)size, is_last);
	if (r == -ENOMEM) { /* the stream has a hole, of which the program can't be told */
		end_asker(question->asker, ENOBUFS);
		return false;
	}
	if (r < 0) /* a RESET is on its way */
		return false;
	if (is_last)
		question_settle(question);
	return true;
}

/* Does a piece of an answer. False: the asker has no room, or has gone. */
static bool answer(struct question *question)
{
	if (question->source == PASSES_ON &&
	    (!question->text || evbuffer_get_length(question->text) < PIECE)) {
		if (take_passed(question))
			return true;
		if (!question->text || !evbuffer_get_length(question->text)) {
			question->state = HELD; /* until more comes, and others may go on */
			return true;
		}
	}
	if (question->source != MAKES_REPORT ||
	    (question->text && evbuffer_get_length(question->text) >= PIECE))
		return send_piece(question);
	add_piece(question);
	return true;
}

/* --- those that stand ------------------------------------------------------------------------------ */

struct question *question_stand(struct question *question)
{
	struct question *standing = NULL;
	char text[QUESTION_MAX + 1];

	if (copy_text(question, text) == 0)
		standing = question_new(question->asker, question->number, text);
	if (!standing)
		return NULL;
	standing->state = STANDS;
	standing->is_inherited = question_has_stood(question);
	DL_APPEND(question->asker->standing, standing);
	if (question_tell(standing, "", 0) < 0) {
		standing->state = DONE;
		question_drop(standing);
		return NULL;
	}
	question->state = DONE; /* its holder has the other one */
	question_settle(question);
	return standing;
}

int question_tell(struct question *question, const void *text, size_t size)
{
	uint8_t message[OVERHEAD + PROPERTIES_WRITE + QUESTION_TOLD_MAX];
	uint8_t *at = begin_message(question, message, false);

	if (!question->text)
		question->text = evbuffer_new();
	if (!question->text)
		return -ENOMEM;
	memcpy(at, text, size);
	size = end_message(question, message, at + size);
	make_due(question);
	return evbuffer_add(question->text, message, size) < 0 ? -ENOMEM : 0;
}

static bool has_unsent(const struct question *question)
{
	return question->text;
}

bool question_is_behind(const struct question *question)
{
	return question->asker->questions->is_left || has_unsent(question);
}

/* Sends the next thing that was told. Returns how many bytes, 0: the asker has no room; or as hop_push(). */
static int send_told(struct question *question)
{
	uint8_t message[OVERHEAD + PROPERTIES_WRITE + QUESTION_TOLD_MAX];
	size_t size;
	int r;

	evbuffer_copyout(question->text, message, MESSAGE_HEAD_SIZE);
	size = (size_t)message_span(get_u32(message));
	if (inner_room(question->asker->end) < size)
		return 0;
	evbuffer_remove(question->text, message, size);
	if (evbuffer_get_length(question->text) == 0) {
		evbuffer_free(question->text);
		question->text = NULL;
	}
	r = push_bytes(question->asker, message, size);
	return r < 0 ? r : (int)size;
}

/* Sends a piece of what was told. The teller continues when all is sent. False: the channel has ended. */
static bool send_all_told(struct asker *asker)
{
	struct question *question;
	int sent = 0, r = 0;

	DL_FOREACH(asker->standing, question)
		while (has_unsent(question) && sent < (int)PIECE && (r = send_told(question)) > 0)
			sent += r;
	if (r == -ENOMEM) { /* as an answer's */
		end_asker(asker, ENOBUFS);
		return false;
	}
	DL_FOREACH(asker->standing, question)
		if (has_unsent(question))
			break;
	if (sent && question)
		task_due(&asker->task);
	else if (sent)
		asker->questions->callbacks.heard(asker->questions->userdata, asker);
	return true;
}

static bool is_ready(const struct question *question)
{
	const struct questions *questions = question->asker->questions;
	char text[QUESTION_MAX + 1];

	return copy_text(question, text) < 0 ||
	       questions->callbacks.ready(questions->userdata, text, clock_ms() - question->since_ms);
}

/* Returns what is to be done next: an answer that is begun is brought to its end first. NULL: nothing now. */
static struct question *next_question(struct asker *asker)
{
	struct question *question;

	DL_FOREACH(asker->first, question)
		if (question->state == ANSWERING && question->part)
			return question;
	DL_FOREACH(asker->first, question) {
		questions_spend(asker, LOOK_UNITS);
		if (asker->questions->is_left && question->state == NEW)
			continue;
		if (question->state == ANSWERING || (question->state == NEW && is_ready(question)))
			return question;
		if (question->state == NEW)
			timer_start(asker->questions->late, LATE_MS);
	}
	return NULL;
}

/* All was answered, and nothing more comes. */
static bool is_over(const struct asker *asker)
{
	return asker->is_at_its_end && !asker->first && !channel_has_backlog(asker->end);
}

/* Whether the program, or the link with its daemon, has gone, of which a RESET is about to tell. */
static bool has_gone(const struct asker *asker)
{
	const struct hop *hop = asker->end->channel->opener.hop;

	return channel_is_reset(asker->end) || !hop || hop_is_retired(hop) || !hop_owner(hop);
}

static void asker_on_turn(struct task *task)
{
	struct asker *asker = (struct asker *)((char *)task - offsetof(struct asker, task));
	struct channel_end *end = asker->end;
	struct question *question;
	bool more = true;
	int r;

	if (has_gone(asker))
		return;
	questions_spend(asker, LOOK_UNITS);
	while ((r = read_request(asker)) > 0)
		;
	if (r < 0) {
		end_asker(asker, r == -ENOMEM ? ENOBUFS : -r);
		return;
	}
	if (!send_all_told(asker))
		return;
	question = next_question(asker);
	if (question && question->state == NEW)
		begin_answer(question);
	else if (question)
		more = answer(question);
	if (!end->participant)
		return;
	take_done(asker);
	if (is_over(asker)) {
		forget_asker(asker);
		inner_fin(end);
	} else if (question && more) {
		task_due(task);
	}
}

static void questions_look_again(struct questions *questions)
{
	struct asker *asker;

	DL_FOREACH(questions->askers, asker)
		task_due(&asker->task);
}

static void questions_on_known(void *userdata, enum registry_what what, uint32_t domid)
{
	if (what == REGISTRY_ALL)
		questions_look_again(userdata);
}

static void questions_on_late(evutil_socket_t fd, short what, void *userdata)
{
	questions_look_again(userdata);
}

/* --- what comes at the hop ------------------------------------------------------------------------- */

static void withdraw(struct asker *asker, uint32_t number)
{
	struct question *question;

	DL_SEARCH_SCALAR(asker->first, question, number, number);
	if (question && question->state != DONE) {
		question_settle(question);
	} else {
		DL_SEARCH_SCALAR(asker->standing, question, number, number);
		if (question)
			question_drop(question);
	}
	task_due(&asker->task);
}

static void questions_take_frame(struct channel_end *end, const struct channel_frame *frame)
{
	struct asker *asker = end->participant;
	struct frame_reset reset;
	uint32_t number;

	switch (frame->header.type) {
	case FRAME_CREDIT:
		if (asker)
			task_due(&asker->task);
		break;
	case FRAME_WITHDRAW:
		if (asker && frame_u32_decode(frame->payload, frame->header.length, &number) == 0)
			withdraw(asker, number);
		break;
	case FRAME_FIN:
		if (asker) {
			asker->is_at_its_end = true;
			task_due(&asker->task);
		} else {
			inner_fin(end);
		}
		break;
	case FRAME_RESET:
		if (asker)
			forget_asker(asker);
		if (frame_reset_decode(frame->payload, frame->header.length, &reset) == 0)
			inner_reset(end, (int)reset.error);
		break;
	default:
		break;
	}
}

/* Takes the next thing that has come. False: nothing has. */
static bool questions_take(struct questions *questions)
{
	struct channel_frame frame;
	struct channel_end *end;
	struct asker *asker;
	size_t length;

	if (inner_next_frame(questions->hop, &end, &frame)) {
		if (end->is_opener)
			inquiries_take_frame(end, &frame);
		else
			questions_take_frame(end, &frame);
		return true;
	}
	end = inner_next_data(questions->hop);
	if (!end)
		return false;
	if (end->is_opener) {
		inquiries_take_data(end);
		return true;
	}
	asker = end->participant;
	length = channel_queued(end);
	inner_wait_for_data(end);
	if (asker) {
		task_due(&asker->task);
	} else {
		evbuffer_drain(end->queue, length);
		inner_taken(end, length);
	}
	return true;
}

static void questions_on_turn(void *owner)
{
	struct questions *questions = owner;
	uint64_t from = hop_spent_by_all(questions->hop);
	bool more = true;

	while (more && hop_spent_by_all(questions->hop) - from < TURN_UNITS)
		more = questions_take(questions);
	if (more)
		inner_due(questions->hop);
}

static const struct hop_callbacks questions_hop_callbacks = {.turn = questions_on_turn};

/* --- askers ---------------------------------------------------------------------------------------- */

static int add_asker(struct questions *questions, struct channel_end *end)
{
	struct asker *asker = calloc(1, sizeof(*asker));

	if (!asker)
		return -ENOMEM;
	asker->questions = questions;
	asker->end = end;
	asker->account = account_ref(end->channel->charge.account);
	task_init(&asker->task, &questions->board->turns, line_of(asker), asker_on_turn);
	DL_APPEND(questions->askers, asker);
	questions->asker_count++;
	end->participant = asker;
	inner_has(end);
	return 0;
}

int questions_accept(struct questions *questions, struct channel *channel)
{
	int r;

	if (channel->kind != CHANNEL_CALL)
		return -EPROTOTYPE;
	r = channel_accept(channel, questions->hop, DAEMON_ENDPOINT);
	if (r == 0 && add_asker(questions, &channel->acceptor) < 0)
		inner_reset(&channel->acceptor, ENOBUFS);
	return r;
}

static void seek_free(struct seek *seek)
{
	inquiry_free(seek->inquiry);
	DL_DELETE(seek->questions->seeks, seek);
	free(seek);
}

/* All that is sought is whether something leads there. */
static void on_sought(void *userdata)
{
	struct seek *seek = userdata;
	struct questions *questions = seek->questions;
	struct inquiry_part part;
	int r = inquiry_next(seek->inquiry, &part);

	if (r == -EHOSTDOWN || r == -EACCES)
		questions->callbacks.found_none(questions->userdata, seek->domid);
	if (r)
		seek_free(seek);
}

void questions_seek(struct questions *questions, uint32_t domid)
{
	const struct frame_identity identity = {.domid = questions->sources->self->domid};
	struct seek *seek = calloc(1, sizeof(*seek));

	if (!seek || inquiry_new(questions->inquiries, &identity, NULL, NULL, &seek->inquiry) < 0) {
		free(seek);
		return;
	}
	seek->questions = questions;
	seek->domid = domid;
	DL_APPEND(questions->seeks, seek);
	inquiry_listen(seek->inquiry, on_sought, seek);
	questions->callbacks.seek(questions->userdata, inquiry_channel(seek->inquiry), domid);
	inquiry_ask(seek->inquiry, NULL, "ping");
}

struct inquiries *questions_inquiries(struct questions *questions)
{
	return questions->inquiries;
}

struct questions *questions_new(struct switchboard *board, const struct status_sources *sources,
				const struct questions_callbacks *callbacks, void *userdata)
{
	struct questions *questions = calloc(1, sizeof(*questions));

	if (!questions)
		return NULL;
	questions->board = board;
	questions->sources = sources;
	questions->callbacks = *callbacks;
	questions->userdata = userdata;
	questions->late = evtimer_new(board->base, questions_on_late, questions);
	questions->hop =
		hop_new(board, HOP_DAEMON, &questions_hop_callbacks, questions, 1, CHANNEL_NUMBERS / 2);
	if (questions->hop)
		questions->inquiries = inquiries_new(board, questions->hop, sources->config->dead_after_ms,
						     callbacks->open, userdata);
	if (!questions->late || !questions->inquiries) {
		free_event(questions->late);
		if (questions->hop)
			hop_retire(questions->hop, ENOENT);
		free(questions);
		return NULL;
	}
	hop_set_image_number(questions->hop, 0); /* it is in every image */
	registry_listen(sources->registry, &questions->sink, questions_on_known, questions);
	return questions;
}

void questions_free(struct questions *questions)
{
	if (!questions)
		return;
	while (questions->askers)
		forget_asker(questions->askers);
	while (questions->seeks)
		seek_free(questions->seeks);
	inquiries_free(questions->inquiries);
	registry_leave(questions->sources->registry, &questions->sink);
	hop_note_goodbye(questions->hop, 0);
	hop_retire(questions->hop, ENOENT);
	event_free(questions->late);
	free(questions);
}

/* --- handing over ---------------------------------------------------------------------------------- */

static void questions_leave(void *self)
{
	struct questions *questions = self;

	questions->is_left = true;
}

static void questions_stay(void *self)
{
	struct questions *questions = self;
	const struct asker *asker;

	questions->is_left = false;
	questions_look_again(questions);
	DL_FOREACH(questions->askers, asker)
		questions->callbacks.heard(questions->userdata, asker);
}

static uint32_t questions_number(void *self, uint32_t first)
{
	const struct questions *questions = self;

	hop_set_image_number(questions->hop, first);
	return first + 1;
}

/* How long the one has waited that is asked for the longest time. */
static uint64_t longest_wait(const struct questions *questions)
{
	uint64_t since = clock_ms(), now = since;
	const struct question *question;
	const struct asker *asker;

	DL_FOREACH(questions->askers, asker)
		DL_FOREACH(asker->first, question)
			if (question->state == NEW && question->since_ms < since)
				since = question->since_ms;
	return now - since;
}

static uint64_t questions_queued(const void *self)
{
	const struct questions *questions = self;

	return hop_queued(questions->hop);
}

static void questions_write(void *self, struct image *image)
{
	struct questions *questions = self;
	uint64_t waited_ms = longest_wait(questions);

	image_section(image, IMAGE_QUESTIONS);
	hop_inner_image(image, questions->hop);
	image_u64(image, &waited_ms);
}

static void questions_write_channels(void *self, struct image *image)
{
	const struct questions *questions = self;

	hop_write_channels(image, questions->hop);
}

static void read_questions(void *self, struct image *image, struct image_hops *hops)
{
	struct questions *questions = self;

	hop_inner_image(image, questions->hop);
	image_u64(image, &questions->waited_ms);
	if (image->error)
		hop_set_parity(questions->hop, 1); /* the next number anew */
	if (image_hops_add(hops, questions->hop) < 0)
		image_fail(image, -ENOMEM);
}

static void standing_image(struct image *image, uint32_t *owner, uint32_t *channel, uint32_t *number,
			   char text[QUESTION_MAX + 1])
{
	image_u32(image, owner);
	image_owner(image, 0, image->error ? IMAGE_NOBODY : *owner);
	image_u32(image, channel);
	image_u32(image, number);
	image_text(image, text, QUESTION_MAX + 1);
}

static void write_standing(struct image *image, struct question *question)
{
	struct channel_end *end = question->asker->end;
	uint32_t owner = hop_number_in_image(end->channel->opener.hop), channel = end->number,
		 number = question->number;

	image_section(image, IMAGE_STANDING);
	standing_image(image, &owner, &channel, &number, question->stood);
}

static void questions_write_standing(void *self, struct image *image)
{
	const struct questions *questions = self;
	const struct asker *asker;
	struct question *question;

	DL_FOREACH(questions->askers, asker) {
		if (has_gone(asker))
			continue;
		DL_FOREACH(asker->standing, question)
			write_standing(image, question);
		DL_FOREACH(asker->first, question)
			if (*question->stood)
				write_standing(image, question);
	}
}

/* Begins it anew, in its turn, as if it were asked before all that waits in its channel. */
static int add_stood(struct asker *asker, uint32_t number, const char *text)
{
	struct question *question = question_new(asker, number, text);

	if (!question)
		return -ENOMEM;
	question->is_inherited = true;
	question->since_ms = clock_ms();
	DL_APPEND(asker->first, question);
	asker->count++;
	return 0;
}

static void read_standing(void *self, struct image *image, struct image_hops *hops)
{
	struct questions *questions = self;
	uint32_t owner = 0, channel = 0, number = 0;
	char text[QUESTION_MAX + 1] = "";
	struct channel_end *end;

	standing_image(image, &owner, &channel, &number, text);
	end = image->error ? NULL : hop_find_channel(questions->hop, channel);
	image_expect(image, *text && image_hops_has(hops, owner) && end && !end->is_opener &&
				    end->channel->kind == CHANNEL_CALL && end->in != IN_RESET);
	if (!image->error && ((!end->participant && add_asker(questions, end) < 0) ||
			      add_stood(end->participant, number, text) < 0))
		image_fail(image, -ENOMEM);
}

static int take_up(struct questions *questions, bool is_last)
{
	struct channel_end *end;
	struct asker *asker;
	uint32_t number = 0;
	int r;

	while ((end = hop_next_channel(questions->hop, &number))) {
		asker = end->is_opener ? NULL : end->participant;
		if ((end->participant && (!asker || asker->inherited)) || end->in == IN_RESET)
			continue;
		r = end->is_opener || end->channel->kind != CHANNEL_CALL ? -EPROTO
		    : asker						 ? 0
									 : add_asker(questions, end);
		if (r == -ENOMEM && !is_last)
			return r;
		if (r < 0) {
			inner_reset(end, ENOBUFS);
			continue;
		}
		asker = end->participant;
		asker->inherited = channel_queued(end);
		asker->is_at_its_end = end->out == OUT_FIN && !(end->owed & OWED_FIN);
		task_due(&asker->task);
	}
	return 0;
}

int questions_take_up(struct questions *questions)
{
	return take_up(questions, false);
}

static void questions_go_on(void *self)
{
	take_up(self, true);
}

const struct part questions_part = {
	.queued = questions_queued,
	.leave = questions_leave,
	.number = questions_number,
	.write = questions_write,
	.write_channels = questions_write_channels,
	.write_rest = questions_write_standing,
	.stay = questions_stay,
	.sections = {{IMAGE_QUESTIONS, read_questions}, {IMAGE_STANDING, read_standing}},
	.go_on = questions_go_on,
};
