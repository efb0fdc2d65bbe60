/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/local/streams_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/switch/channel.h"
#include "daemon/switch/program_socket.h"
#include "base/cost.h"
#include "base/quota.h"
#include "base/timer.h"
#include "daemon/local/session.h"
#include "wire/ut.h"

/* Streams that wait for one program, like a backlog of listen(2): what tells it of them must not be too much
 * to leave unread. It is divided in shares, so that one peer's streams can't keep out another's: a single
 * peer or user gets half of it. */
#define WAITING_MAX 2048

#define PASSED_AT_ONCE 32u
#define REST_BYTES     4096u /* the guard byte, and what a program sends behind it at once */

#define TIDY_MS	      5000  /* between looks which of them are idle */
#define TIDY_MORE_MS  500   /* the same once some were */
#define TIDY_AT_ONCE  64u   /* whose memory is given back in a look, */
#define TIDY_LOOKS_AT 1024u /* and of so many */

/* Each stream that has become idle gives back its rings' memory. Nothing tells of that moment: a timer for
 * each would cost whenever something moves. */
static void streams_on_tidy(int fd, short what, void *userdata)
{
	struct streams *streams = userdata;
	struct stream_entry *entry = streams->next_tidied ? streams->next_tidied : streams->list;
	unsigned tidied = 0;

	for (unsigned i = 0; i < TIDY_LOOKS_AT && entry && tidied < TIDY_AT_ONCE; i++) {
		tidied += stream_tidy(entry->stream);
		entry = entry->all.next;
	}
	streams->next_tidied = entry;
	if (streams->list)
		timer_set(streams->tidy, entry || tidied ? TIDY_MORE_MS : TIDY_MS);
}

void streams_start_tidying(struct streams *streams)
{
	timer_start(streams->tidy, TIDY_MS);
}

struct streams *streams_new(struct switchboard *board,
			    int (*route)(void *userdata, struct channel *channel,
					 const struct frame_open *open),
			    void *userdata)
{
	struct streams *streams = calloc(1, sizeof(*streams));

	if (!streams)
		return NULL;
	streams->board = board;
	streams->route = route;
	streams->userdata = userdata;
	streams->tidy = evtimer_new(board->base, streams_on_tidy, streams);
	if (!streams->tidy) {
		free(streams);
		return NULL;
	}
	return streams;
}

/* --- what waits for a program ----------------------------------------------------------------- */

static struct stream_listener *find_listener(const struct streams *streams, const struct hop *program)
{
	struct stream_listener *listener;

	HASH_FIND_PTR(streams->listeners, &program, listener);
	return listener;
}

static struct share *find_share(const struct stream_listener *listener, const struct account *account)
{
	struct share *share;

	HASH_FIND_PTR(listener->shares, &account, share);
	return share;
}

static void free_if_empty(struct streams *streams, struct stream_listener *listener, struct share *share)
{
	if (share && share->waiting == 0) {
		HASH_DEL(listener->shares, share);
		free(share);
	}
	if (listener && listener->count == 0) {
		HASH_DEL(streams->listeners, listener);
		free(listener);
	}
}

static struct stream_listener *listener_of(struct streams *streams, struct hop *program)
{
	struct stream_listener *listener = find_listener(streams, program);

	if (listener)
		return listener;
	listener = calloc(1, sizeof(*listener));
	if (!listener)
		return NULL;
	listener->hop = program;
	HASH_ADD_PTR(streams->listeners, hop, listener);
	if (!HASH_ADDED(listener)) {
		free(listener);
		return NULL;
	}
	return listener;
}

static struct share *share_of(struct stream_listener *listener, const struct account *account)
{
	struct share *share = find_share(listener, account);

	if (share)
		return share;
	share = calloc(1, sizeof(*share));
	if (!share)
		return NULL;
	share->account = account;
	HASH_ADD_PTR(listener->shares, account, share);
	if (!HASH_ADDED(share)) {
		free(share);
		return NULL;
	}
	return share;
}

/* Returns whether another stream that this account pays for may wait for the program. */
static bool streams_has_room(const struct streams *streams, const struct hop *program,
			     const struct account *account)
{
	const struct stream_listener *listener = find_listener(streams, program);
	const struct share *share = listener ? find_share(listener, account) : NULL;
	unsigned waiting = listener ? listener->count : 0,
		 accounts = listener ? HASH_COUNT(listener->shares) : 0;

	return waiting < WAITING_MAX &&
	       quota_share(WAITING_MAX - waiting, accounts + (share == NULL), share ? share->waiting : 0) > 0;
}

int streams_wait_for(struct stream_entry *entry, struct hop *program)
{
	struct streams *streams = entry->streams;
	struct stream_listener *listener = listener_of(streams, program);
	struct share *share = listener ? share_of(listener, stream_account(entry->stream)) : NULL;

	if (share) {
		entry->token = stream_token(entry->stream);
		HASH_ADD(hh, streams->waiting, token, sizeof(entry->token), entry);
	}
	if (!share || !HASH_ADDED(entry)) {
		free_if_empty(streams, listener, share);
		return -ENOMEM;
	}
	entry->listener = listener;
	entry->share = share;
	DL_APPEND2(listener->waiting, entry, waiting_prev, waiting_next);
	listener->count++;
	share->waiting++;
	return 0;
}

static void wait_no_more(struct stream_entry *entry)
{
	struct stream_listener *listener = entry->listener;

	if (!listener)
		return;
	DL_DELETE2(listener->waiting, entry, waiting_prev, waiting_next);
	HASH_DEL(entry->streams->waiting, entry);
	listener->count--;
	entry->share->waiting--;
	entry->listener = NULL;
	free_if_empty(entry->streams, listener, entry->share);
}

/* --- all of them ------------------------------------------------------------------------------ */

void streams_remove(struct stream_entry *entry)
{
	struct streams *streams = entry->streams;

	wait_no_more(entry);
	if (streams->next_tidied == entry)
		streams->next_tidied = entry->all.next;
	HASH_DELETE(all, streams->list, entry);
	stream_free(entry->stream);
	free(entry);
}

void streams_leave(struct streams *streams)
{
	while (streams->list)
		streams_remove(streams->list);
}

void streams_free(struct streams *streams)
{
	if (!streams)
		return;
	streams_leave(streams);
	event_free(streams->tidy);
	free(streams);
}

static struct stream_entry *add_entry(struct streams *streams)
{
	struct stream_entry *entry = calloc(1, sizeof(*entry));

	if (!entry)
		return NULL;
	entry->streams = streams;
	entry->number = ++streams->board->last_stream;
	HASH_ADD(all, streams->list, number, sizeof(entry->number), entry);
	if (!HASH_ADDED_BY(all, entry)) {
		free(entry);
		return NULL;
	}
	streams_start_tidying(streams);
	return entry;
}

static int streams_on_open(void *userdata, struct stream *stream, struct channel *channel,
			   const struct frame_open *open)
{
	struct streams *streams = ((struct stream_entry *)userdata)->streams;

	return streams->route(streams->userdata, channel, open);
}

static void streams_on_gone(void *userdata, struct stream *stream)
{
	streams_remove(userdata);
}

const struct stream_callbacks streams_callbacks = {
	.open = streams_on_open,
	.gone = streams_on_gone,
};

/* Answers a connection that doesn't become a stream. Reads what lies there before the close: left unread, it
 * would reset the connection before the program reads the answer. A program that writes on all the same may
 * lose it. */
static void streams_refuse(struct streams *streams, int fd, int error, const char *why)
{
	uint8_t rest[REST_BYTES];
	struct iovec piece = {rest, sizeof(rest)};

	program_socket_reply(fd, error, frame_text_of(why), -1);
	program_socket_read(fd, &piece, 1);
	program_socket_close(streams->board, fd, NULL);
}

static void refuse_unpaid(struct streams *streams, int fd, struct charge *charge,
			  enum quota_resource resource, uint64_t amount)
{
	char why[160];

	account_explain(charge->account, resource, amount, why, sizeof(why));
	charge_end(charge);
	streams_refuse(streams, fd, ENOBUFS, why);
}

void streams_connect(struct streams *streams, int fd, bool takes_socket,
		     const struct frame_identity *identity, const uint8_t *payload, uint32_t length)
{
	char address[ADDRESS_MAX + 1];
	struct account *account;
	struct charge charge;
	struct frame_open open;
	struct stream_entry *entry;

	if (frame_open_decode(payload, length, &open) < 0 || open.kind != CHANNEL_STREAM) {
		streams_refuse(streams, fd, EPROTO, "");
		return;
	}
	if (open.name.size >= sizeof(address) || memchr(open.name.data, '\0', open.name.size)) {
		streams_refuse(streams, fd, EINVAL, "");
		return;
	}
	memcpy(address, open.name.data, open.name.size);
	address[open.name.size] = '\0';
	account =
		streams->board->quota ? quota_account(streams->board->quota, QUOTA_UID, identity->uid) : NULL;
	charge_init(&charge, account);
	account_unref(account);
	if (charge_add(&charge, QUOTA_DESCRIPTORS, 1) < 0) {
		refuse_unpaid(streams, fd, &charge, QUOTA_DESCRIPTORS, 1);
		return;
	}
	if (charge_add(&charge, QUOTA_MEMORY, STREAM_MEMORY) < 0) {
		refuse_unpaid(streams, fd, &charge, QUOTA_MEMORY, STREAM_MEMORY);
		return;
	}
	entry = add_entry(streams);
	if (!entry) {
		charge_end(&charge);
		streams_refuse(streams, fd, ENOBUFS, "the daemon has no memory left");
		return;
	}
	entry->uid = identity->uid;
	entry->pid = identity->pid;
	program_name((pid_t)identity->pid, entry->program);
	snprintf(entry->name, sizeof(entry->name), "%s", address);
	if (stream_connect(&entry->stream, streams->board, fd, takes_socket, identity, &charge, address,
			   &streams_callbacks, entry) < 0)
		streams_remove(entry);
}

void streams_fetch(struct streams *streams, int fd, bool takes_socket, const uint8_t *payload,
		   uint32_t length)
{
	struct stream_entry *entry;
	uint64_t token;

	if (frame_u64_decode(payload, length, &token) < 0) {
		streams_refuse(streams, fd, EPROTO, "");
		return;
	}
	HASH_FIND(hh, streams->waiting, &token, sizeof(token), entry);
	if (!entry || !stream_is_waiting(entry->stream)) {
		streams_refuse(streams, fd, ENOENT, ""); /* the stream has ended meanwhile */
		return;
	}
	if (stream_take_socket(entry->stream, fd, takes_socket) != -ECONNRESET)
		wait_no_more(entry);
}

/* Notes whose it is, for status. */
static void streams_describe(struct stream_entry *entry, struct hop *program, const struct channel *channel,
			     const char *endpoint)
{
	const struct frame_identity *who = &hop_program(program)->identity;

	entry->uid = who->uid;
	entry->pid = (uint32_t)who->pid;
	snprintf(entry->program, sizeof(entry->program), "%s", hop_program(program)->comm);
	snprintf(entry->name, sizeof(entry->name), "%s", endpoint);
	entry->incoming = true;
	entry->from = channel->identity.domid;
	if (channel_from_host(channel))
		snprintf(entry->host, sizeof(entry->host), "%s", channel_from_host(channel));
}

/* Tells the program of a stream that waits for it. Returns 0 or a negative errno. */
static int announce(const struct stream_entry *entry, struct hop *program, const struct channel *channel)
{
	struct frame_incoming incoming = {
		.token = entry->token,
		.identity = channel->identity,
		.endpoint = frame_text_of(entry->name),
		.domain_name = frame_text_of(channel_from_domain(channel)),
		.host = frame_text_of(channel_from_host(channel)),
		.serial = channel->serial,
	};
	uint8_t payload[FRAME_PAYLOAD_MAX];

	return hop_send(program, FRAME_INCOMING, 0, 0, payload, frame_incoming_encode(&incoming, payload));
}

int streams_incoming(struct streams *streams, struct channel *channel, const char *endpoint,
		     struct hop *program)
{
	struct stream_entry *entry;
	int r;

	if (!streams_has_room(streams, program, channel->charge.account))
		return -ENOBUFS;
	entry = add_entry(streams);
	if (!entry)
		return -ENOMEM;
	streams_describe(entry, program, channel, endpoint);
	r = stream_wait(&entry->stream, streams->board, channel, endpoint, hop_account(program),
			&streams_callbacks, entry);
	if (r == 0)
		r = streams_wait_for(entry, program);
	if (r == 0)
		r = announce(entry, program, channel);
	if (r < 0)
		streams_remove(entry);
	return r;
}

/* Returns whether the stream, which has ended if not, waits for the other program now. */
static bool pass_on(struct stream_entry *entry, struct hop *program)
{
	uint32_t number = 0;
	const struct channel_end *end = hop_next_channel(stream_hop(entry->stream), &number);
	char endpoint[sizeof(entry->name)];

	if (!end || !streams_has_room(entry->streams, program, stream_account(entry->stream)))
		return false;
	snprintf(endpoint, sizeof(endpoint), "%s", entry->name);
	wait_no_more(entry);
	if (streams_wait_for(entry, program) < 0)
		return false;
	streams_describe(entry, program, end->channel, endpoint);
	return announce(entry, program, end->channel) == 0;
}

static bool is_at(const struct stream_entry *entry, const struct frame_text *name)
{
	return !name || (strlen(entry->name) == name->size && !memcmp(entry->name, name->data, name->size));
}

bool streams_pass_on(struct streams *streams, struct hop *program, const struct frame_text *name,
		     struct hop *(*to)(void *userdata, const struct hop *from, const char *name),
		     void *userdata)
{
	struct stream_listener *listener = find_listener(streams, program);
	struct stream_entry *entry, *next;
	unsigned count = 0;

	/* Removing the last one frees the listener. */
	for (entry = listener ? listener->waiting : NULL; entry; entry = next) {
		struct hop *other = NULL;

		next = entry->waiting_next;
		if (is_at(entry, name) && stream_is_waiting(entry->stream))
			other = to(userdata, program, entry->name);
		if (!other)
			continue;
		hop_spend(program, COST_OPEN);
		if (!pass_on(entry, other))
			streams_remove(entry);
		if (++count >= PASSED_AT_ONCE)
			return true;
	}
	return false;
}

void streams_forget_session(struct streams *streams, struct hop *program)
{
	struct stream_listener *listener = find_listener(streams, program);
	struct stream_entry *entry, *next;

	/* Removing the last one frees the listener. */
	for (entry = listener ? listener->waiting : NULL; entry; entry = next) {
		next = entry->waiting_next;
		streams_remove(entry);
	}
}

bool streams_each_waiting(struct streams *streams, const struct hop *program,
			  bool (*each)(void *userdata, struct stream *stream), void *userdata)
{
	struct stream_listener *listener = find_listener(streams, program);
	struct stream_entry *entry;

	if (listener)
		DL_FOREACH2(listener->waiting, entry, waiting_next)
			if (each(userdata, entry->stream))
				return true;
	return false;
}

/* The domain that has opened it may have been restored since. */
static uint32_t from_now(const struct stream_entry *entry)
{
	uint32_t number = 0;
	const struct channel_end *end = hop_next_channel(stream_hop(entry->stream), &number);

	return end && entry->incoming ? end->channel->identity.domid : entry->from;
}

bool streams_next(struct streams *streams, struct stream_info *info)
{
	struct stream_traffic traffic;
	struct stream_entry *entry;

	HASH_FIND(all, streams->list, &info->number, sizeof(info->number), entry);
	if (entry)
		entry = entry->all.next;
	else /* it has gone meanwhile */
		for (entry = streams->list; entry && entry->number <= info->number; entry = entry->all.next)
			;
	if (!entry)
		return false;
	traffic = stream_traffic(entry->stream);
	*info = (struct stream_info){
		.number = entry->number,
		.uid = entry->uid,
		.pid = entry->pid,
		.program = entry->program,
		.incoming = entry->incoming,
		.from = from_now(entry),
		.host = entry->host,
		.name = entry->name,
		.state = stream_state(entry->stream),
		.bytes_in = traffic.in,
		.bytes_out = traffic.out,
		.hop = stream_hop(entry->stream),
	};
	return true;
}
