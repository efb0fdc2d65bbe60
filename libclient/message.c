/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/message.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libclient/mirror.h"

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

static void destroy(struct xenmsg_message *message)
{
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
	return message->lent ? message->lent : message->data;
}

size_t xenmsg_message_size(const struct xenmsg_message *message)
{
	return message->size;
}

const char *xenmsg_message_endpoint(const struct xenmsg_message *message)
{
	return message->endpoint;
}

uint32_t xenmsg_message_sender_domid(const struct xenmsg_message *message)
{
	return message->sender.domid;
}

uint32_t xenmsg_message_sender_uid(const struct xenmsg_message *message)
{
	return message->sender.uid;
}

uint32_t xenmsg_message_sender_gid(const struct xenmsg_message *message)
{
	return message->sender.gid;
}

uint32_t xenmsg_message_sender_pid(const struct xenmsg_message *message)
{
	return message->sender.pid;
}

const char *xenmsg_message_sender_host(const struct xenmsg_message *message)
{
	return message->sender_host;
}

const char *xenmsg_message_sender_name(const struct xenmsg_message *message)
{
	return message->sender_name;
}
