/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The programs of tests/fuzz/soak: frames by chance, most of them legal, so that sessions live and get
 * somewhere. What they do follows from the seed and from what the daemon says. ADDRESS is
 * SEED:DOMAIN,DOMAIN...: whom they write to. Every fourth session is a stream. They count what they cover,
 * and report it as a line of JSON when they are asked to.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/integration/hostile_random.h"

#define ILLEGAL	  100 /* one in so many steps isn't legal, with most seeds far fewer */
#define OWN	  48  /* numbers of channels that a session uses */
#define PIECE_MAX 4096u

static const char *const state_names[STATES] = {"free",	      "opened",	  "fin-sent",
						"reset-sent", "accepted", "fin-came"};

struct channel {
	uint8_t state, kind;
	uint64_t sent, limit, received, taken;
	uint32_t left; /* bytes of the message that is on its way */
};

struct memory {
	struct channel own[OWN], theirs[OWN];
	uint32_t requests;
};

struct coverage coverage;
struct tokens tokens;

static uint64_t random_state;
static uint32_t illegal_in;
static struct memory *memories;

uint32_t dice(uint32_t bound) /* splitmix64 */
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (uint32_t)((z ^ (z >> 31)) % bound);
}

void count_errno(uint64_t *counts, uint32_t error)
{
	counts[error < ERRNOS ? error : ERRNOS - 1]++;
}

static void set_state(struct channel *channel, enum channel_state state)
{
	channel->state = (uint8_t)state;
	coverage.states[state]++;
}

static struct channel *find(struct memory *memory, uint32_t number)
{
	if (number / 2 >= OWN)
		return NULL;
	return number & 1 ? &memory->theirs[number / 2] : &memory->own[number / 2];
}

/* --- what the daemon says --------------------------------------------------------------------- */

static void on_request_answered(struct memory *memory, const struct frame_header *header,
				const uint8_t *payload)
{
	struct frame_reply reply;

	memory->requests -= memory->requests > 0;
	if (frame_reply_decode(payload, header->length, &reply) == 0)
		count_errno(coverage.replies, reply.error);
}

static void on_channel_frame(struct attacker *attacker, struct session *session, struct channel *channel,
			     const struct frame_header *header, const uint8_t *payload)
{
	struct frame_cancelled cancelled;
	struct frame_open open;
	struct frame_reset reset;

	switch (header->type) {
	case FRAME_OPEN:
		*channel = (struct channel){0};
		if (frame_open_decode(payload, header->length, &open) == 0)
			channel->kind = open.kind;
		set_state(channel, OPENED_BY_THEM);
		break;
	case FRAME_OPENED:
	case FRAME_CREDIT:
		channel->limit = session_limit_told(header, payload, channel->limit);
		break;
	case FRAME_CANCELLED:
		if (frame_cancelled_decode(payload, header->length, &cancelled) == 0)
			count_errno(coverage.cancelled, cancelled.result);
		break;
	case FRAME_CANCEL: /* only without shared memory: it was taken */
		if (channel->state != RESET_SENT) {
			uint8_t answer[FRAME_SMALL_MAX];

			cancelled = (struct frame_cancelled){.offset = get_u64(payload)};
			session_put(attacker, session, FRAME_CANCELLED, header->channel, answer,
				    frame_cancelled_encode(&cancelled, answer));
		}
		break;
	case FRAME_DATA:
		channel->received += header->length;
		break;
	case FRAME_FIN:
		if (channel->state == OPENED_BY_THEM)
			set_state(channel, FIN_CAME);
		else if (channel->state == FIN_SENT && !session->is_mux)
			set_state(channel, FREE);
		break;
	case FRAME_RESET:
		if (frame_reset_decode(payload, header->length, &reset) == 0)
			count_errno(coverage.resets, reset.error);
		if (channel->state != RESET_SENT)
			session_put_reset(attacker, session, header->channel, ECONNRESET, channel->taken);
		set_state(channel, FREE);
		break;
	default:
		break;
	}
}

static void on_random_frame(struct attacker *attacker, struct session *session,
			    const struct frame_header *header, const uint8_t *payload)
{
	struct memory *memory = &memories[session - attacker->sessions];
	struct channel *channel = find(memory, header->channel);
	struct frame_goodbye goodbye;
	struct frame_incoming incoming;

	coverage.got[header->type]++;
	if (header->type == FRAME_REPLY) {
		on_request_answered(memory, header, payload);
	} else if (header->type == FRAME_GOODBYE) {
		if (frame_goodbye_decode(payload, header->length, &goodbye) == 0)
			count_errno(coverage.goodbyes, goodbye.error);
	} else if (header->type == FRAME_INCOMING) {
		if (frame_incoming_decode(payload, header->length, &incoming) == 0)
			tokens.list[(tokens.first + (tokens.count < TOKENS ? tokens.count++ : 0)) % TOKENS] =
				incoming.token;
	} else if (header->type >= FRAME_OPEN && header->type <= FRAME_CANCELLED) {
		if (channel)
			on_channel_frame(attacker, session, channel, header, payload);
		else if (header->type == FRAME_RESET)
			session_put_reset(attacker, session, header->channel, ECONNRESET, 0);
	}
}

/* --- what is legal ---------------------------------------------------------------------------- */

/* Mostly one that is there. */
int choose_address(const struct attacker *attacker, char *text, size_t size)
{
	static const char *const odd[] = {"nobody",   "1:",	 ":",	    "work:x", "99999:n1",
					  "65000:n0", "2:../n0", "dom1:n1", "2:n0 "};
	const char *domains = strchr(attacker->address, ':') + 1;
	unsigned commas = 0, which;

	if (dice(12) == 0)
		return snprintf(text, size, "%s", odd[dice(sizeof(odd) / sizeof(odd[0]))]);
	for (const char *c = domains; *c; c++)
		commas += *c == ',';
	which = dice(commas + 1);
	while (which--)
		domains = strchr(domains, ',') + 1;
	return snprintf(text, size, "%.*s:n%u", (int)strcspn(domains, ","), domains, dice(40));
}

static bool open_channel(struct attacker *attacker, struct session *session, struct memory *memory)
{
	char address[80];
	const uint8_t kind = session->is_mux ? CHANNEL_STREAM : (uint8_t)(1 + dice(2));
	struct frame_open open = {
		.kind = kind, .name = {address, (size_t)choose_address(attacker, address, sizeof(address))}};
	uint32_t number = dice(OWN);
	uint8_t payload[FRAME_SMALL_MAX];

	if (memory->own[number].state != FREE || !session_put(attacker, session, FRAME_OPEN, 2 * number,
							      payload, frame_open_encode(&open, payload)))
		return false;
	memory->own[number] = (struct channel){.kind = kind, .limit = CHANNEL_INITIAL_LIMIT};
	set_state(&memory->own[number], OPENED_BY_US);
	return true;
}

/* A message in as many frames as it happens; only its head means anything. */
static bool send_data(struct attacker *attacker, struct session *session, struct channel *channel,
		      uint32_t number)
{
	uint8_t bytes[PIECE_MAX] = {0};
	uint32_t size = 8 * (1 + dice(PIECE_MAX / 8));

	if (channel->state != OPENED_BY_US && channel->state != OPENED_BY_THEM && channel->state != FIN_CAME)
		return false;
	if (!channel->left) {
		uint32_t length = dice(4) ? 8 * dice(8) : 8 * dice(8192);

		channel->left = MESSAGE_HEAD_SIZE + length + MESSAGE_TRAILER_SIZE;
		put_u32(bytes, length);
		bytes[4] = (uint8_t)(channel->kind == 1 ? 0 : number & 1 ? 2 + dice(2) : dice(2) ? 1 : 4);
	}
	if (size > channel->left)
		size = channel->left;
	/* frames of nothing, which the daemon takes by its shorter way, too */
	for (unsigned i = dice(16) ? 0 : 2; i > 0; i--)
		if (!session_put(attacker, session, FRAME_DATA, number, bytes, 0))
			return false;
	if (channel->sent + size > channel->limit ||
	    !session_put(attacker, session, FRAME_DATA, number, bytes, size))
		return false;
	channel->sent += size;
	channel->left -= size;
	return true;
}

static bool use_channel(struct attacker *attacker, struct session *session, struct memory *memory)
{
	uint32_t number = dice(2 * OWN);
	struct channel *channel = find(memory, number);
	const struct frame_credit credit = {.consumed = channel->received};
	uint8_t payload[FRAME_SMALL_MAX];
	bool is_open = channel->state == OPENED_BY_US || channel->state == OPENED_BY_THEM ||
		       channel->state == FIN_CAME;

	if (session->is_mux && channel->state == FIN_SENT && dice(8) == 0) {
		set_state(channel, RESET_SENT); /* it may have ended: nobody has counted what was taken */
		return session_put_reset(attacker, session, number, 1 + dice(130), channel->taken);
	}
	if (!is_open)
		return !session->is_mux && channel->state == FIN_SENT && !(number & 1) &&
		       channel->sent >= 8 &&
		       session_put_number(attacker, session, FRAME_CANCEL, number,
					  8 * dice((uint32_t)(channel->sent / 8)));
	switch (dice(12)) {
	default:
		return (!(number & 1) || channel->kind != CHANNEL_MESSAGE) &&
		       send_data(attacker, session, channel, number);
	case 0: /* what an honest program would call a state, or in the middle of something */
		return !session->is_mux && !(number & 1) && channel->sent >= 8 &&
		       session_put_number(attacker, session, FRAME_CANCEL, number,
					  8 * dice((uint32_t)(channel->sent / 8)));
	case 1:
		if (channel->left && dice(4))
			return false;
		if (!session->is_mux && number & 1 && channel->state != FIN_CAME)
			return false;
		if (!session_put_number(attacker, session, FRAME_FIN, number, channel->sent))
			return false;
		set_state(channel, number & 1 && !session->is_mux ? FREE : FIN_SENT);
		return true;
	case 2:
		if (dice(4) || !session_put_reset(attacker, session, number, 1 + dice(130), channel->taken))
			return false;
		set_state(channel, RESET_SENT);
		return true;
	case 3:
		if (!session->is_mux && (session->is_shared || !(number & 1)))
			return false;
		channel->taken = channel->received;
		return session_put(attacker, session, FRAME_CREDIT, number, payload,
				   frame_credit_encode(&credit, payload));
	}
}

static bool request(struct attacker *attacker, struct session *session, struct memory *memory)
{
	static const char *const domains[] = {"1", "2", "0", "77", "dom1", "x:y", "self"};
	struct frame_bind bind = {.kinds = session->is_mux && dice(8) ? BIND_STREAMS : dice(8)};
	uint8_t payload[FRAME_SMALL_MAX], type;
	uint32_t number = 1000 + session->next, length;
	char name[16];
	const char *text;

	if (memory->requests >= REQUESTS_MAX / 2)
		return false;
	switch (dice(8)) {
	case 0:
	case 1:
		type = FRAME_UNBIND;
		text = domains[dice(7)];
		break;
	case 2:
	case 3:
		type = dice(4) ? FRAME_UNBIND : FRAME_DRAIN;
		snprintf(name, sizeof(name), "n%u", dice(40));
		text = name;
		break;
	default:
		type = FRAME_BIND;
		snprintf(name, sizeof(name), dice(20) ? "n%u" : "-%u!", dice(40));
		text = name;
		break;
	}
	if (type == FRAME_BIND) {
		bind.endpoint = (struct frame_text){text, strlen(text)};
		length = frame_bind_encode(&bind, payload);
	} else {
		length = (uint32_t)strlen(text);
		memcpy(payload, text, length);
	}
	if (!session_put(attacker, session, type, number, payload, length))
		return false;
	session->next++;
	memory->requests++;
	return true;
}

/* --- what isn't ------------------------------------------------------------------------------- */

static void do_wrong(struct attacker *attacker, struct session *session)
{
	uint8_t bytes[FRAME_SMALL_MAX];

	coverage.illegal++;
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(dice(4) ? dice(256) : 0);
	switch (dice(session->is_shared ? 8 : 5)) {
	default: /* a frame of any type about anything */
		session_put(attacker, session, (uint8_t)(1 + dice(FRAME_POLICY + 2)),
			    dice(4) ? dice(2 * OWN) : dice(UINT32_MAX), bytes, dice(200));
		break;
	case 1: /* a type of its own, cut off */
		session_put(attacker, session, (uint8_t)(FRAME_OPEN + dice(FRAME_POLICY + 1 - FRAME_OPEN)),
			    dice(2 * OWN), bytes, dice(20));
		break;
	case 2:
		session_put(attacker, session, FRAME_DATA, 2 * dice(OWN), bytes, 8 * dice(25));
		break;
	case 3:
		session_put(attacker, session, FRAME_HELLO, 0, bytes, 8);
		break;
	case 4: /* bytes on a socket that has nothing to say, or in the middle of a frame */
		send(session->fd, bytes, dice(sizeof(bytes)), MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	case 5: /* impossible indices */
		*session->out.ring.producer += dice(2) ? 8 * dice(1 << 20) : dice(UINT32_MAX);
		session->is_noted = true;
		break;
	case 6:
		*(dice(2) ? session->in.ring.consumer : session->deliveries.ring.consumer) +=
			dice(UINT32_MAX);
		break;
	case 7: /* an incomplete frame, and one that lies about its length */
		put_u32(bytes, dice(2) ? UINT32_MAX : dice(70000));
		if (ring_writer_space(&session->out, 64) >= 64) {
			ring_writer_put(&session->out, bytes, 8 * (1 + dice(8)));
			session->is_noted |= ring_writer_publish(&session->out) | 1;
		}
		break;
	}
}

/* --- turns ------------------------------------------------------------------------------------ */

static void step(struct attacker *attacker, struct session *session, struct memory *memory)
{
	switch (dice(16)) {
	case 0:
	case 1:
		open_channel(attacker, session, memory);
		break;
	case 2:
		request(attacker, session, memory);
		break;
	case 3:
		session_release_deliveries(session);
		break;
	case 4:
		if (dice(60) == 0)
			session_put(attacker, session, (uint8_t)(FRAME_OPTIONAL + dice(128)), dice(100),
				    "later", 5);
		break;
	default:
		use_channel(attacker, session, memory);
		break;
	}
}

static void count_end(struct attacker *attacker, struct session *session)
{
	coverage.cut_off++;
	attacker->cut_off++;
	session_close(session);
}

static void take(struct attacker *attacker, struct session *session)
{
	static uint8_t payload[FRAME_PAYLOAD_MAX];
	struct frame_header header;
	int r = 0;

	for (unsigned i = 0;
	     i < BURST && session_has_room(session) && (r = session_take(session, &header, payload)) > 0;
	     i++) {
		attacker->answers++;
		on_random_frame(attacker, session, &header, payload);
		if (header.type == FRAME_GOODBYE)
			r = -ECONNRESET;
		if (r < 0)
			break;
	}
	if (r < 0)
		count_end(attacker, session);
}

/* With shared memory the reason comes over the socket. */
static void take_goodbye(struct session *session)
{
	uint8_t bytes[FRAME_HEADER_SIZE + FRAME_SMALL_MAX];
	struct frame_header header;
	struct frame_goodbye goodbye;
	ssize_t size =
		session->is_shared ? recv(session->fd, bytes, sizeof(bytes), MSG_DONTWAIT | MSG_PEEK) : -1;

	if (size < (ssize_t)FRAME_HEADER_SIZE || frame_header_decode(bytes, &header) < 0 ||
	    size < (ssize_t)frame_size(header.length))
		return;
	coverage.got[header.type]++;
	if (header.type == FRAME_GOODBYE &&
	    frame_goodbye_decode(bytes + FRAME_HEADER_SIZE, header.length, &goodbye) == 0)
		count_errno(coverage.goodbyes, goodbye.error);
}

static unsigned turn_random(struct attacker *attacker, struct session *session)
{
	unsigned index = (unsigned)(session - attacker->sessions);
	struct memory *memory;

	if (!memories) {
		memories = calloc(attacker->count, sizeof(*memories));
		random_state = strtoull(attacker->address, NULL, 10);
		illegal_in = ILLEGAL << (2 * dice(4));
	}
	if (!memories)
		return 0;
	if (index % 4 == 3)
		return random_stream_turn(attacker, session);
	memory = &memories[index];
	if (session->fd < 0) {
		if (dice(50) || session_open(attacker, session, dice(3) > 0, dice(4) == 0) < 0)
			return 0;
		memset(memory, 0, sizeof(*memory));
		coverage.came++;
		coverage.got[FRAME_WELCOME]++;
	}
	take(attacker, session);
	for (unsigned i = dice(BURST); i > 0 && session->fd >= 0; i--) {
		if (dice(illegal_in) == 0)
			do_wrong(attacker, session);
		else
			step(attacker, session, memory);
	}
	if (session->fd < 0)
		return 1;
	take_goodbye(session);
	if (session_notify(attacker, session) < 0) {
		count_end(attacker, session);
	} else if (dice(2000) == 0) {
		const struct frame_goodbye goodbye = {0};
		uint8_t payload[FRAME_SMALL_MAX];

		if (dice(2))
			session_put(attacker, session, FRAME_GOODBYE, 0, payload,
				    frame_goodbye_encode(&goodbye, payload));
		session_notify(attacker, session);
		session_close(session);
		coverage.left++;
	}
	return 1;
}

/* --- the report ------------------------------------------------------------------------------- */

static void print_counts(const char *name, const uint64_t *counts, unsigned size)
{
	const char *comma = "";

	printf(", \"%s\": {", name);
	for (unsigned i = 0; i < size; i++) {
		if (!counts[i])
			continue;
		printf("%s\"%u\": %llu", comma, i, (unsigned long long)counts[i]);
		comma = ", ";
	}
	printf("}");
}

void random_report(const struct attacker *attacker)
{
	printf("{\"sessions\": {\"came\": %llu, \"left\": %llu, \"cut-off\": %llu}, \"illegal\": %llu, "
	       "\"stream_bytes\": %llu, \"states\": {",
	       (unsigned long long)coverage.came, (unsigned long long)coverage.left,
	       (unsigned long long)coverage.cut_off, (unsigned long long)coverage.illegal,
	       (unsigned long long)coverage.stream_bytes);
	for (unsigned i = 0; i < STATES; i++)
		printf("%s\"%s\": %llu", i ? ", " : "", state_names[i],
		       (unsigned long long)coverage.states[i]);
	printf("}");
	print_counts("sent", attacker->sent, 256);
	print_counts("got", coverage.got, 256);
	print_counts("goodbyes", coverage.goodbyes, ERRNOS);
	print_counts("resets", coverage.resets, ERRNOS);
	print_counts("replies", coverage.replies, ERRNOS);
	print_counts("cancelled", coverage.cancelled, ERRNOS);
	print_counts("stream_answers", coverage.stream_answers, ERRNOS);
	print_counts("stream_ends", coverage.stream_ends, ERRNOS);
	printf("}\n");
	fflush(stdout);
}

const struct attack random_attacks[] = {
	{"random", NO_SESSION, .turn = turn_random},
	{0},
};
