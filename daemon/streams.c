/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/streams.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utlist.h>

#include "daemon/channel.h"
#include "daemon/program_socket.h"
#include "daemon/quota.h"
#include "daemon/session.h"
#include "daemon/stream.h"
#include "wire/address.h"

/* For one program, as a backlog of listen(2). It goes in shares, so that one peer's streams can't keep out another's: with
 * one peer or user only, half of it. */
#define WAITING_MAX 256

#define REST_BYTES  4096u /* the guard, and what a program sends behind it at once */

struct entry {
	struct stream *stream;
	struct session *session; /* that is to fetch it, else NULL */
	struct entry *prev, *next;
};

struct streams {
	struct relay *relay;
	int (*route)(void *userdata, struct channel *channel, const struct frame_open *open);
	void *userdata;
	struct entry *list;
	unsigned count;
};

struct streams *streams_new(struct relay *relay,
			    int (*route)(void *userdata, struct channel *channel, const struct frame_open *open),
			    void *userdata)
{
	struct streams *streams = calloc(1, sizeof(*streams));

	if (!streams)
		return NULL;
	streams->relay = relay;
	streams->route = route;
	streams->userdata = userdata;
	return streams;
}

static void remove_entry(struct streams *streams, struct entry *entry)
{
	DL_DELETE(streams->list, entry);
	streams->count--;
	stream_free(entry->stream);
	free(entry);
}

void streams_free(struct streams *streams)
{
	if (!streams)
		return;
	while (streams->list)
		remove_entry(streams, streams->list);
	free(streams);
}

static struct entry *add_entry(struct streams *streams, struct session *session)
{
	struct entry *entry = calloc(1, sizeof(*entry));

	if (!entry)
		return NULL;
	entry->session = session;
	DL_APPEND(streams->list, entry);
	streams->count++;
	return entry;
}

static void drop_entry(struct streams *streams, struct entry *entry)
{
	DL_DELETE(streams->list, entry);
	streams->count--;
	free(entry);
}

static int on_open(void *userdata, struct stream *stream, struct channel *channel, const struct frame_open *open)
{
	struct streams *streams = userdata;

	(void)stream;
	return streams->route(streams->userdata, channel, open);
}

static void on_gone(void *userdata, struct stream *stream)
{
	struct streams *streams = userdata;
	struct entry *entry;

	DL_SEARCH_SCALAR(streams->list, entry, stream, stream);
	if (entry)
		remove_entry(streams, entry);
}

static const struct stream_ops ops = {
	.open = on_open,
	.gone = on_gone,
};

/* An answer to a connection that doesn't become a stream. What lies there unread would reset it before the answer is read; who writes on
 * all the same has nobody else to blame. */
static void refuse(struct streams *streams, int fd, int error, const char *why)
{
	struct frame_reply reply = {.error = (uint32_t)error, .body = {why, strlen(why)}};
	uint8_t frame[FRAME_HEADER_SIZE + 256] = {0}, rest[REST_BYTES];
	struct frame_header header = {.type = FRAME_REPLY};
	struct iovec piece = {rest, sizeof(rest)};

	header.length = frame_reply_encode(&reply, frame + FRAME_HEADER_SIZE);
	frame_header_encode(&header, frame);
	send(fd, frame, frame_size(header.length), MSG_NOSIGNAL | MSG_DONTWAIT);
	program_socket_read(fd, &piece, 1);
	program_socket_close(streams->relay, fd, NULL);
}

static void refuse_unpaid(struct streams *streams, int fd, struct charge *charge, enum quota_resource resource, uint64_t amount)
{
	char why[160];

	account_explain(charge->account, resource, amount, why, sizeof(why));
	charge_end(charge);
	refuse(streams, fd, ENOBUFS, why);
}

void streams_connect(struct streams *streams, int fd, const struct frame_identity *identity, const uint8_t *payload,
		     uint32_t length)
{
	char address[DOMAIN_NAME_MAX + 1 + ENDPOINT_NAME_MAX + 1];
	struct account *account;
	struct charge charge;
	struct frame_open open;
	struct entry *entry;

	if (frame_open_decode(payload, length, &open) < 0 || open.kind != CHANNEL_STREAM) {
		refuse(streams, fd, EPROTO, "");
		return;
	}
	if (open.name.size >= sizeof(address) || memchr(open.name.data, '\0', open.name.size)) {
		refuse(streams, fd, EINVAL, "");
		return;
	}
	memcpy(address, open.name.data, open.name.size);
	address[open.name.size] = '\0';
	account = streams->relay->quota ? quota_account(streams->relay->quota, QUOTA_UID, identity->uid) : NULL;
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
	entry = add_entry(streams, NULL);
	if (!entry) {
		charge_end(&charge);
		refuse(streams, fd, ENOBUFS, "the daemon has no memory left");
		return;
	}
	if (stream_connect(&entry->stream, streams->relay, fd, identity, &charge, address, &ops, streams) < 0)
		drop_entry(streams, entry);
}

void streams_fetch(struct streams *streams, int fd, const uint8_t *payload, uint32_t length)
{
	struct entry *entry;
	uint64_t token;

	if (frame_u64_decode(payload, length, &token) < 0) {
		refuse(streams, fd, EPROTO, "");
		return;
	}
	DL_FOREACH(streams->list, entry)
		if (entry->session && stream_is_waiting(entry->stream) && stream_token(entry->stream) == token)
			break;
	if (!entry) {
		refuse(streams, fd, ENOENT, ""); /* it has ended meanwhile */
		return;
	}
	entry->session = NULL;
	stream_take_socket(entry->stream, fd);
}

/* May another stream that this account pays for wait for the program? */
static bool has_room(struct streams *streams, struct session *session, const struct account *account)
{
	const struct account *seen[WAITING_MAX];
	unsigned waiting = 0, own = 0, accounts = 1; /* `account` */
	struct entry *entry;

	DL_FOREACH(streams->list, entry) {
		const struct account *other;
		unsigned i = 1;

		if (entry->session != session)
			continue;
		waiting++;
		other = stream_account(entry->stream);
		own += other == account;
		while (i < accounts && seen[i] != other)
			i++;
		if (i == accounts && other != account && accounts < WAITING_MAX)
			seen[accounts++] = other;
	}
	return waiting < WAITING_MAX && quota_share(WAITING_MAX - waiting, accounts, own) > 0;
}

int streams_incoming(struct streams *streams, struct channel *channel, const char *endpoint, struct session *session)
{
	struct frame_incoming incoming = {.identity = channel->identity, .endpoint = {endpoint, strlen(endpoint)}};
	uint8_t payload[FRAME_PAYLOAD_MAX];
	struct entry *entry;
	int r;

	if (!has_room(streams, session, channel->charge.account))
		return -ENOBUFS;
	entry = add_entry(streams, session);
	if (!entry)
		return -ENOMEM;
	r = stream_wait(&entry->stream, streams->relay, channel, endpoint, &ops, streams);
	if (r < 0) {
		drop_entry(streams, entry);
		return r;
	}
	incoming.token = stream_token(entry->stream);
	if (channel->domain_name)
		incoming.domain_name = (struct frame_text){channel->domain_name, strlen(channel->domain_name)};
	r = hop_send(session_hop(session), FRAME_INCOMING, 0, 0, payload, frame_incoming_encode(&incoming, payload));
	if (r < 0)
		remove_entry(streams, entry);
	return r;
}

void streams_forget_session(struct streams *streams, struct session *session)
{
	struct entry *entry, *next;

	DL_FOREACH_SAFE(streams->list, entry, next) {
		if (entry->session == session)
			remove_entry(streams, entry);
	}
}

void streams_each(struct streams *streams, void (*each)(void *userdata, struct stream *stream), void *userdata)
{
	struct entry *entry;

	DL_FOREACH(streams->list, entry)
		each(userdata, entry->stream);
}

unsigned streams_count(const struct streams *streams)
{
	return streams->count;
}
