/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/serve/inquiries.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/event.h>

#include "base/cost.h"
#include "base/timer.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/inner.h"
#include "wire/bytes.h"
#include "wire/properties.h"
#include "wire/text.h"
#include "wire/ut.h"

#define NUMBER	 1u /* of the only call of the channel */
#define WHY_SIZE 240u
/* An answer is late after so many looks, which don't take place while this daemon stands still. */
#define LOOKS 4u

struct inquiry {
	struct inquiry *prev, *next;
	struct inquiries *inquiries;
	struct channel_end *end; /* NULL: it is over */
	inquiry_fn come;
	void *userdata;
	inquiry_why_fn why_not;
	unsigned looks; /* since when nothing has come at all */
	bool is_answered, is_at_its_end;
	/* Of a message that hasn't come whole: a RESET waits behind what isn't taken. */
	struct evbuffer *begun;
	uint32_t next_part;
	uint64_t told; /* bytes of the answer */
	int error;     /* with which it is over, negative */
	char why[WHY_SIZE];
};

struct inquiries {
	struct switchboard *board;
	struct hop *hop;
	inquiries_open_fn open;
	void *userdata;
	struct event *late;
	uint32_t look_ms;
	struct inquiry *list;
	uint8_t *message; /* that was taken last; NULL: nothing was asked yet */
};

/* The largest one. */
#define MESSAGE_MOST (MESSAGE_HEAD_SIZE + INQUIRY_PART_MAX + PROPERTIES_MAX + 8 + MESSAGE_TRAILER_SIZE)

static void inquiry_over(struct inquiry *inquiry, int error)
{
	struct channel_end *end = inquiry->end;

	inquiry->end = NULL;
	inquiry->error = error;
	if (!end)
		return;
	end->participant = NULL;
	inner_reset(end, ECANCELED);
}

static void inquiry_tell(struct inquiry *inquiry)
{
	if (inquiry->come)
		inquiry->come(inquiry->userdata);
}

/* --- what comes --------------------------------------------------------------------------------- */

/* Notes what the other daemon says. It is a stranger's text. */
static void note_why(struct inquiry *inquiry, const uint8_t *text, size_t size)
{
	if (size < sizeof(inquiry->why) && text_is_ascii((const char *)text, size, ' '))
		memcpy(inquiry->why, text, size);
}

/* Reads the message that was taken. 1, or the negative errno with which it is over. */
static int read_message(struct inquiry *inquiry, const uint8_t *message, struct inquiry_part *part)
{
	const uint8_t *text = message + MESSAGE_HEAD_SIZE;
	size_t size = get_u32(message);
	const uint8_t *trailer = message + message_span(size) - MESSAGE_TRAILER_SIZE;
	struct properties properties = {.is_part = false};
	int block = 0;

	if (message[4] & MESSAGE_PROPERTIES)
		block = properties_read(text, size, &properties);
	if (block < 0 || get_u32(trailer) != MESSAGE_SENT || get_u32(trailer + 4) != NUMBER)
		return -EPROTO;
	text += block;
	size -= (size_t)block;
	if ((message[4] & (uint8_t)~MESSAGE_PROPERTIES) == MESSAGE_ERROR) {
		note_why(inquiry, text, size);
		return frame_error(get_u16(message + 6), -EPROTO);
	}
	if (properties.part && properties.part != inquiry->next_part)
		return -EPROTO;
	inquiry->next_part = properties.part + 1;
	inquiry->is_answered = true;
	if (!properties.part)
		inquiry->told = 0;
	*part = (struct inquiry_part){.text = text,
				      .size = size,
				      .before = inquiry->told,
				      .is_first = !properties.part,
				      .is_last = !properties.has_more};
	inquiry->told += size;
	return 1;
}

/* Takes so many bytes of the next message out of the channel. 1; 0: they haven't come; or a negative
 * errno. */
static int gather(struct inquiry *inquiry, size_t size)
{
	struct channel_end *end = inquiry->end;
	size_t had = evbuffer_get_length(inquiry->begun), queued = channel_queued(end), more = 0;

	if (had < size)
		more = queued < size - had ? queued : size - had;
	if (more && evbuffer_remove_buffer(end->queue, inquiry->begun, more) != (int)more)
		return -ENOMEM;
	if (more)
		inner_taken(end, more);
	if (had + more >= size)
		return 1;
	return inquiry->is_at_its_end ? -ECONNRESET : 0;
}

/* Takes the next message. Returns as gather(). */
static int take_message(struct inquiry *inquiry, uint8_t *message)
{
	uint8_t head[MESSAGE_HEAD_SIZE], kind;
	int r = gather(inquiry, sizeof(head));

	if (r <= 0)
		return r;
	evbuffer_copyout(inquiry->begun, head, sizeof(head));
	kind = head[4] & (uint8_t)~MESSAGE_PROPERTIES;
	if (kind != MESSAGE_REPLY && kind != MESSAGE_ERROR)
		return -EPROTO;
	if (get_u32(head) > INQUIRY_PART_MAX + PROPERTIES_MAX)
		return -EMSGSIZE;
	r = gather(inquiry, (size_t)message_span(get_u32(head)));
	if (r > 0)
		evbuffer_remove(inquiry->begun, message, (size_t)message_span(get_u32(head)));
	return r;
}

int inquiry_next(struct inquiry *inquiry, struct inquiry_part *part)
{
	uint8_t *message = inquiry->inquiries->message;
	int r;

	if (!inquiry->end)
		return inquiry->error;
	r = take_message(inquiry, message);
	if (r > 0)
		r = read_message(inquiry, message, part);
	if (r < 0 || (r > 0 && part->is_last))
		inquiry_over(inquiry, r < 0 ? r : -ENODATA);
	return r;
}

const char *inquiry_why(const struct inquiry *inquiry)
{
	const char *why = inquiry->why_not ? inquiry->why_not(-inquiry->error) : "";

	return *why ? why : inquiry->why;
}

/* The channel has ended. */
static void take_reset(struct inquiry *inquiry, struct channel_end *end, const struct channel_frame *frame)
{
	struct frame_reset reset;
	int r = frame_reset_decode(frame->payload, frame->header.length, &reset);

	end->participant = NULL;
	inner_reset(end, r < 0 ? EPROTO : (int)reset.error);
	if (!inquiry)
		return;
	inquiry->end = NULL;
	inquiry->error = frame_error(r < 0 ? EPROTO : reset.error, -ECONNRESET);
	inquiry_tell(inquiry);
}

void inquiries_take_frame(struct channel_end *end, const struct channel_frame *frame)
{
	struct inquiry *inquiry = end->participant;

	if (frame->header.type == FRAME_RESET) {
		take_reset(inquiry, end, frame);
	} else if (frame->header.type == FRAME_FIN && inquiry) {
		inquiry->is_at_its_end = true;
		inquiry_tell(inquiry);
	} else if (frame->header.type == FRAME_FIN) {
		inner_fin(end);
	}
}

void inquiries_take_data(struct channel_end *end)
{
	size_t length = channel_queued(end);

	inner_wait_for_data(end);
	if (end->participant) {
		inquiry_tell(end->participant);
		return;
	}
	evbuffer_drain(end->queue, length);
	inner_taken(end, length);
}

/* Whether nobody was asked yet, as this daemon knows. */
static bool has_no_link(const struct channel *channel)
{
	return channel_is_waiting(channel) || channel_is_away(channel);
}

/* Ends what a daemon that lives doesn't answer. One without a link has its time when that is there. */
static void inquiries_on_late(evutil_socket_t fd, short what, void *userdata)
{
	struct inquiries *inquiries = userdata;
	struct inquiry *inquiry, *next;
	bool is_wanted = false;

	DL_FOREACH_SAFE(inquiries->list, inquiry, next) {
		if (inquiry->is_answered || !inquiry->end)
			continue;
		/* Its owner takes it, and may find no whole part. */
		if (has_no_link(inquiry->end->channel))
			inquiry->looks = 0;
		else
			inquiry->looks += !channel_queued(inquiry->end);
		is_wanted = is_wanted || inquiry->looks <= LOOKS;
		if (inquiry->looks <= LOOKS)
			continue;
		inquiry_over(inquiry, -ETIMEDOUT);
		inquiry_tell(inquiry);
	}
	if (is_wanted)
		timer_start(inquiries->late, inquiries->look_ms);
}

/* --- asking ------------------------------------------------------------------------------------- */

/* Most daemons ask nothing. */
static bool has_room_for_message(struct inquiries *inquiries)
{
	if (!inquiries->message)
		inquiries->message = malloc(MESSAGE_MOST);
	return inquiries->message;
}

int inquiry_new(struct inquiries *inquiries, const struct frame_identity *from, struct account *account,
		inquiry_why_fn why, struct inquiry **out)
{
	struct inquiry *inquiry = calloc(1, sizeof(*inquiry));
	struct evbuffer *begun = evbuffer_new();
	struct channel *channel = NULL;
	bool has_memory = inquiry && begun && has_room_for_message(inquiries);
	int r = has_memory ? inner_open(inquiries->hop, CHANNEL_CALL, from, &channel) : -ENOMEM;

	if (r < 0) {
		if (begun)
			evbuffer_free(begun);
		free(inquiry);
		return r;
	}
	inquiry->begun = begun;
	switch_spend(inquiries->board, account, COST_OPEN + COST_CHANNEL_END);
	if (account)
		channel_charge_to(channel, account);
	inquiry->inquiries = inquiries;
	inquiry->why_not = why;
	inquiry->end = &channel->opener;
	inquiry->end->participant = inquiry;
	DL_APPEND(inquiries->list, inquiry);
	timer_start(inquiries->late, inquiries->look_ms);
	*out = inquiry;
	return 0;
}

void inquiry_listen(struct inquiry *inquiry, inquiry_fn come, void *userdata)
{
	inquiry->come = come;
	inquiry->userdata = userdata;
}

struct channel *inquiry_channel(const struct inquiry *inquiry)
{
	return inquiry->end->channel;
}

/* Writes the request. */
static void push_request(struct channel_end *end, const char *text)
{
	uint8_t message[MESSAGE_HEAD_SIZE + FRAME_SMALL_MAX + 8 + MESSAGE_TRAILER_SIZE] = {0};
	size_t size = strlen(text), span = (size_t)message_span(size);
	struct iovec piece = {.iov_base = message, .iov_len = span};

	put_u32(message, (uint32_t)size);
	message[4] = MESSAGE_REQUEST;
	memcpy(message + MESSAGE_HEAD_SIZE, text, size);
	put_u32(message + span - MESSAGE_TRAILER_SIZE, MESSAGE_SENT);
	put_u32(message + span - 4, NUMBER);
	if (hop_push(end, &piece, 1, (uint32_t)span, 1) == -ENOMEM)
		inner_reset(end, ENOBUFS);
}

void inquiry_ask(struct inquiry *inquiry, const char *address, const char *text)
{
	struct inquiries *inquiries = inquiry->inquiries;
	struct channel_end *end = inquiry->end;

	if (address)
		inquiries->open(inquiries->userdata, end->channel, frame_text_of(address));
	push_request(end, text);
	inner_due(inquiries->hop); /* if it was refused, a RESET tells */
}

void inquiry_free(struct inquiry *inquiry)
{
	if (!inquiry)
		return;
	inquiry_over(inquiry, 0);
	DL_DELETE(inquiry->inquiries->list, inquiry);
	evbuffer_free(inquiry->begun);
	free(inquiry);
}

/* --- in words ---------------------------------------------------------------------------------- */

const char *inquiries_why_not_there(int error)
{
	switch (error) {
	case EINVAL:
		return "that can't be a domain of another host";
	case EACCES:
		return "denied by policy, or nothing leads there: in domain 0 an [out] has to let it leave, and 'xenmsg "
		       "hosts' has to list that host";
	case EHOSTDOWN:
		return "no such host or domain, or no xenmsgd runs there; 'xenmsg hosts' lists the hosts";
	case EHOSTUNREACH:
		return "nothing leads to that host, or to that domain there: domain 0 needs name under [hosts] in "
		       "xenmsgd.conf(5), and a gateway; 'xenmsg hosts' in domain 0 says what is missing";
	case ETIMEDOUT:
		return "xenmsgd there, or on the way, runs and doesn't answer";
	case ENOBUFS:
		return "this user, this domain or its host asks more than it may there";
	default: /* the library's words */
		return "";
	}
}

/* --- life --------------------------------------------------------------------------------------- */

struct inquiries *inquiries_new(struct switchboard *board, struct hop *hop, uint32_t answer_ms,
				inquiries_open_fn open, void *userdata)
{
	struct inquiries *inquiries = calloc(1, sizeof(*inquiries));

	if (!inquiries)
		return NULL;
	*inquiries = (struct inquiries){.board = board,
					.hop = hop,
					.open = open,
					.userdata = userdata,
					.look_ms = answer_ms / LOOKS + 1};
	inquiries->late = evtimer_new(board->base, inquiries_on_late, inquiries);
	if (!inquiries->late) {
		free(inquiries);
		return NULL;
	}
	return inquiries;
}

void inquiries_free(struct inquiries *inquiries)
{
	if (!inquiries)
		return;
	while (inquiries->list)
		inquiry_free(inquiries->list);
	event_free(inquiries->late);
	free(inquiries->message);
	free(inquiries);
}
