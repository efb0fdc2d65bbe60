/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/message.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "libclient/deadline.h"
#include "wire/ut.h"

#define KEEP_MESSAGES 64	 /* in the pool */
#define KEEP_CAPACITY (1u << 20) /* larger buffers go back to the system */
#define MIN_CAPACITY  512u

struct message_pool *message_pool_new(struct xenmsg *conn, message_abandon abandon,
				      message_give_back give_back)
{
	struct message_pool *pool = calloc(1, sizeof(*pool));

	if (pool)
		*pool = (struct message_pool){.conn = conn, .abandon = abandon, .give_back = give_back};
	return pool;
}

int message_set_properties(struct xenmsg_message *message, const struct properties *properties)
{
	struct message_properties *kept = message->properties ? message->properties : malloc(sizeof(*kept));

	if (!kept)
		return -ENOMEM;
	kept->deadline = -1;
	if (properties->has_deadline && properties->deadline_ms <= INT_MAX)
		kept->deadline = deadline_in((int)properties->deadline_ms);
	if (properties->trace.size)
		memcpy(kept->trace, properties->trace.data, properties->trace.size);
	kept->trace[properties->trace.size] = '\0';
	if (properties->key.size)
		memcpy(kept->key, properties->key.data, properties->key.size);
	kept->key[properties->key.size] = '\0';
	kept->notice = (struct xenmsg_notice){
		.kind = (enum xenmsg_notice_kind)properties->notice.kind,
		.error = properties->notice.kind != NOTICE_ENDED ? 0
			 : properties->notice.error < 4096	 ? -(int)properties->notice.error
								 : -EPROTO,
		.count = properties->notice.count,
		.unknown = (properties->notice.flags & NOTICE_UNKNOWN) != 0,
	};
	kept->is_part = properties->is_part;
	kept->has_more = properties->has_more;
	kept->part = properties->part;
	message->properties = kept;
	message->has_properties = true;
	return 0;
}

int message_append(struct xenmsg_message *message, const struct xenmsg_message *more)
{
	size_t size = message->skipped + message->size;
	int r;

	message->size = size;						       /* which is kept */
	r = message_grow(message, size + more->size, 2 * (size + more->size)); /* others follow */
	if (r == 0) {
		memcpy(message->data + size, more->data + more->skipped, more->size);
		message->size += more->size;
	}
	message->size -= message->skipped;
	return r;
}

int message_take_block(struct xenmsg_message *message)
{
	struct properties properties;
	int block = properties_read(message->data, message->size, &properties);
	int r = block < 0 ? block : 0;

	if (r == 0 && properties.notice.kind && message->size > (size_t)block)
		r = -EPROTO; /* a notice has no payload */
	if (r == 0)
		r = message_set_properties(message, &properties);
	if (r < 0)
		return r;
	message->skipped = (size_t)block;
	message->size -= (size_t)block;
	return 0;
}

static void forget_withdrawn(struct xenmsg_message *message)
{
	if (message->is_due)
		DL_DELETE2(message->pool->withdrawn, message, due_prev, due_next);
	message->is_due = false;
	message->withdrawn = NULL;
}

void message_note_lost(struct xenmsg_message *message)
{
	if (!message->withdrawn)
		return;
	message->is_due = true;
	DL_APPEND2(message->pool->withdrawn, message, due_prev, due_next);
}

int message_tell_withdrawn(struct message_pool *pool, int budget, const bool *stop)
{
	int count = 0;

	while (pool->withdrawn && count < budget && !*stop) {
		struct xenmsg_message *message = pool->withdrawn;
		xenmsg_withdrawn withdrawn = message->withdrawn;

		forget_withdrawn(message);
		withdrawn(message->withdrawn_userdata, message);
		count++;
	}
	return count;
}

static void destroy(struct xenmsg_message *message)
{
	free(message->properties);
	free(message->data);
	free(message);
}

void message_pool_close(struct message_pool *pool)
{
	if (!pool)
		return;
	while (pool->unused) {
		struct xenmsg_message *message = pool->unused;

		pool->unused = message->next;
		destroy(message);
	}
	pool->unused_count = 0;
	pool->conn = NULL;
	if (pool->out == 0)
		free(pool);
}

struct xenmsg_message *message_make(struct message_pool *pool, size_t capacity)
{
	struct xenmsg_message *message = pool->unused;

	if (message) {
		pool->unused = message->next;
		pool->unused_count--;
	} else {
		message = calloc(1, sizeof(*message));
		if (!message)
			return NULL;
		message->pool = pool;
	}
	message->size = 0;
	message->reply = REPLY_NONE;
	if ((!message->data || message->capacity < capacity) &&
	    message_enlarge(message, capacity, capacity) < 0) {
		destroy(message);
		return NULL;
	}
	pool->out++;
	return message;
}

int message_enlarge(struct xenmsg_message *message, size_t size, size_t most)
{
	size_t capacity = message->capacity * 2;
	uint8_t *data;

	if (capacity > most)
		capacity = most;
	if (capacity < size)
		capacity = size;
	if (capacity < MIN_CAPACITY)
		capacity = MIN_CAPACITY;
	data = malloc(capacity);
	if (!data)
		return -ENOMEM;
	if (message->size)
		memcpy(data, message->data, message->size);
	free(message->data);
	message->data = data;
	message->capacity = capacity;
	return 0;
}

static void give_back(struct xenmsg_message *message)
{
	if (message->holds)
		message->pool->give_back(message->pool->conn, message);
	mirror_release(message->mirror);
	message->lent = NULL;
	message->mirror = NULL;
}

/* Ends the pool if it was waiting for this message. */
static void leave_pool(struct message_pool *pool)
{
	pool->out--;
	if (!pool->conn && pool->out == 0)
		free(pool);
}

int message_detach(struct xenmsg_message *message)
{
	uint8_t *copy;

	if (!message->pool)
		return 0;
	if (message->reply == REPLY_OWED)
		return -EBUSY;
	if (message->lent) {
		copy = malloc(message->size);
		if (!copy)
			return -ENOMEM;
		memcpy(copy, message->lent, message->size);
		give_back(message);
		free(message->data);
		message->data = copy;
		message->capacity = message->size;
	}
	forget_withdrawn(message);
	leave_pool(message->pool);
	message->pool = NULL;
	return 0;
}

void xenmsg_message_free(struct xenmsg_message *message)
{
	struct message_pool *pool;

	if (!message)
		return;
	pool = message->pool;
	if (!pool) {
		destroy(message);
		return;
	}
	if (message->reply == REPLY_OWED)
		pool->abandon(pool->conn, message);
	if (message->lent)
		give_back(message);
	if (message->has_properties) {
		message->has_properties = false;
		message->skipped = 0;
	}
	if (message->withdrawn)
		forget_withdrawn(message);
	if (pool->conn && pool->unused_count < KEEP_MESSAGES && message->capacity <= KEEP_CAPACITY) {
		message->next = pool->unused;
		pool->unused = message;
		pool->unused_count++;
	} else {
		destroy(message);
	}
	leave_pool(pool);
}

void *xenmsg_message_data(struct xenmsg_message *message)
{
	return message->lent ? message->lent : message->data + message->skipped;
}

size_t xenmsg_message_size(const struct xenmsg_message *message)
{
	return message->size;
}

int xenmsg_message_time_left(const struct xenmsg_message *message)
{
	return message->has_properties ? deadline_left(message->properties->deadline) : -1;
}

const char *xenmsg_message_trace(const struct xenmsg_message *message)
{
	return message->has_properties ? message->properties->trace : "";
}

int xenmsg_message_name(const struct xenmsg_message *message, char *name, size_t size)
{
	int r = xenmsg_peer_channel(&message->sender, name, size);
	size_t length = r < 0 ? 0 : strlen(name);

	if (r < 0)
		return r;
	return (size_t)snprintf(name + length, size - length, "@%llu",
				(unsigned long long)message->offset + MESSAGE_TRAILER_SIZE) < size - length
		       ? 0
		       : -ENOBUFS;
}

const char *xenmsg_message_key(const struct xenmsg_message *message)
{
	return message->has_properties ? message->properties->key : "";
}

const struct xenmsg_notice *xenmsg_message_notice(const struct xenmsg_message *message)
{
	/* Only of a topic is it a daemon's word. */
	return message->has_properties && message->properties->notice.kind &&
			       address_is_meant(message->sender.endpoint, strlen(message->sender.endpoint))
		       ? &message->properties->notice
		       : NULL;
}

const char *xenmsg_message_endpoint(const struct xenmsg_message *message)
{
	return message->sender.endpoint;
}

const struct xenmsg_peer *xenmsg_message_sender(const struct xenmsg_message *message)
{
	return &message->sender;
}

/* ---- who has sent it ---------------------------------------------------------------------- */

void peer_rename(struct xenmsg_peer *peer, uint32_t domid, struct frame_text domain_name)
{
	peer->identity.domid = domid;
	memset(peer->domain_name, 0, sizeof(peer->domain_name));
	if (domain_name_is_valid(domain_name.data, domain_name.size))
		memcpy(peer->domain_name, domain_name.data, domain_name.size);
}

int peer_set(struct xenmsg_peer *peer, const struct frame_identity *identity, struct frame_text endpoint,
	     struct frame_text domain_name, struct frame_text host)
{
	size_t size = strnlen(endpoint.data, endpoint.size);

	if (!endpoint_name_is_valid(endpoint.data, size))
		return -EPROTO;
	*peer = (struct xenmsg_peer){.identity = *identity};
	memcpy(peer->endpoint, endpoint.data, size);
	peer_rename(peer, identity->domid, domain_name);
	if (host_name_is_valid(host.data, host.size))
		memcpy(peer->host, host.data, host.size);
	return 0;
}

uint32_t xenmsg_peer_domid(const struct xenmsg_peer *peer)
{
	return peer->identity.domid;
}

uint32_t xenmsg_peer_uid(const struct xenmsg_peer *peer)
{
	return peer->identity.uid;
}

uint32_t xenmsg_peer_gid(const struct xenmsg_peer *peer)
{
	return peer->identity.gid;
}

uint32_t xenmsg_peer_pid(const struct xenmsg_peer *peer)
{
	return peer->identity.pid;
}

const char *xenmsg_peer_domain_name(const struct xenmsg_peer *peer)
{
	return peer->domain_name;
}

const char *xenmsg_peer_host(const struct xenmsg_peer *peer)
{
	return peer->host;
}

const char *xenmsg_peer_endpoint(const struct xenmsg_peer *peer)
{
	return peer->endpoint;
}

int xenmsg_peer_channel(const struct xenmsg_peer *peer, char *name, size_t size)
{
	const struct frame_identity *from = &peer->identity;

	if (!peer->serial)
		return -ENODATA;
	return (size_t)snprintf(name, size, "%s%s%u.%u.%u", peer->host, *peer->host ? "/" : "", from->domid,
				from->pid, peer->serial) < size
		       ? 0
		       : -ENOBUFS;
}

/* ---- assembly ----------------------------------------------------------------------------- */

void assembly_skip(struct assembly *assembly)
{
	assembly->at = MESSAGE_HEAD_SIZE;
	assembly->trailer_at = message_span(assembly_size(assembly)) - MESSAGE_TRAILER_SIZE;
}

int assembly_begin(struct assembly *assembly, struct message_pool *pool, uint32_t here)
{
	uint32_t size = assembly_size(assembly);

	assembly->message = message_new(pool, here < size ? here : size);
	if (!assembly->message)
		return -ENOMEM;
	assembly_skip(assembly);
	return 0;
}

int assembly_add(struct assembly *assembly, const void *data, uint32_t size)
{
	struct xenmsg_message *message = assembly->message;

	if (message) {
		uint32_t payload = assembly_size(assembly), left = payload - (uint32_t)message->size;

		if (left > size)
			left = size; /* the rest is padding */
		if (message_grow(message, message->size + left, payload) < 0)
			return -ENOMEM;
		memcpy(message->data + message->size, data, left);
		message->size += left;
	}
	assembly->at += size;
	return 0;
}

void assembly_drop(struct assembly *assembly)
{
	xenmsg_message_free(assembly_take(assembly));
}

/* ---- where one lies in the ring ----------------------------------------------------------- */

static uintptr_t page_size(void)
{
	return (uintptr_t)sysconf(_SC_PAGESIZE);
}

struct mirror *mirror_new(const struct ring_view *ring)
{
	struct mirror *mirror;
	uint8_t *base;

	if (ring->size < LEND_RING_MIN || ring->size % page_size() || (uintptr_t)ring->data % page_size())
		return NULL;
	mirror = malloc(sizeof(*mirror));
	if (!mirror)
		return NULL;
	base = mmap(NULL, 2 * (size_t)ring->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		    0);
	if (base == MAP_FAILED) {
		free(mirror);
		return NULL;
	}
	*mirror = (struct mirror){.base = base, .size = ring->size, .users = 1, .pid = getpid()};
	/* An old size of 0 maps the same shared pages once more, and leaves the first mapping. */
	for (unsigned i = 0; i < 2; i++)
		if (mremap(ring->data, 0, ring->size, MREMAP_MAYMOVE | MREMAP_FIXED,
			   base + (size_t)i * ring->size) == MAP_FAILED) {
			mirror_release(mirror);
			return NULL;
		}
	madvise(base, 2 * (size_t)ring->size, MADV_DONTFORK);
	return mirror;
}

void mirror_use(struct mirror *mirror)
{
	mirror->users++;
}

void mirror_release(struct mirror *mirror)
{
	if (!mirror || --mirror->users)
		return;
	/* A child has nothing there, or something of its own. */
	if (mirror->pid == getpid())
		munmap(mirror->base, 2 * (size_t)mirror->size);
	free(mirror);
}

int mirror_keep(struct mirror *mirror, const uint8_t *at, uint32_t size)
{
	size_t mask = page_size() - 1, from = (size_t)(at - mirror->base) & ~mask,
	       length = (((size_t)(at - mirror->base) + size + mask) & ~mask) - from;
	void *pages = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED)
		return -ENOMEM;
	madvise(pages, length, MADV_DONTFORK);
	memcpy(pages, mirror->base + from, length);
	/* In one step, so that the program finds the bytes there at any time. */
	if (mremap(pages, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, mirror->base + from) == MAP_FAILED) {
		munmap(pages, length);
		return -ENOMEM;
	}
	return 0;
}
