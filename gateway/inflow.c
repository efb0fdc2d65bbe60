/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gateway/inflow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/share.h"
#include "base/turns.h"
#include "wire/ut.h"

struct inflow_message {
	void *message;
	size_t size;
	struct inflow_message *prev, *next;
};

struct queue {
	struct inflow *inflow;
	struct task task;
	struct line line;
	struct inflow_message *entries; /* never empty between two calls */
	size_t size;
	UT_hash_handle hh;
	char host[];
};

struct inflow {
	struct turns turns;
	inflow_take_fn take;
	void *userdata;
	struct queue *queues;
	size_t size; /* of all */
};

static void free_queue(struct queue *queue)
{
	task_cancel(&queue->task);
	line_end(&queue->line);
	HASH_DEL(queue->inflow->queues, queue);
	free(queue);
}

/* Takes the first message out of its queue. */
static void *remove_first(struct queue *queue)
{
	struct inflow_message *entry = queue->entries;
	void *message = entry->message;

	DL_DELETE(queue->entries, entry);
	queue->size -= entry->size + INFLOW_MESSAGE;
	queue->inflow->size -= entry->size + INFLOW_MESSAGE;
	free(entry);
	return message;
}

static void take_first(struct task *task)
{
	struct queue *queue = (struct queue *)((char *)task - offsetof(struct queue, task));
	struct inflow *inflow = queue->inflow;

	turns_spend(&inflow->turns, &queue->line, COST_MESSAGE + COST_MESSAGE_BYTES(queue->entries->size));
	inflow->take(inflow->userdata, remove_first(queue));
	if (queue->entries)
		task_due(&queue->task);
	else
		free_queue(queue);
}

static bool run_turns(void *userdata)
{
	struct inflow *inflow = userdata;

	uint64_t before = inflow->turns.spent;

	/* The next messages wait for the end of a pass, even if they are another host's. */
	while (inflow->turns.spent - before < INFLOW_PASS && turns_run(&inflow->turns))
		;
	return false; /* what is due is known */
}

static struct queue *get_queue(struct inflow *inflow, const char *host)
{
	struct queue *queue;
	size_t length = strlen(host);

	HASH_FIND(hh, inflow->queues, host, (unsigned)length, queue);
	if (queue || !(queue = calloc(1, sizeof(*queue) + length + 1)))
		return queue;
	queue->inflow = inflow;
	memcpy(queue->host, host, length);
	HASH_ADD_KEYPTR(hh, inflow->queues, queue->host, (unsigned)length, queue);
	if (!HASH_ADDED(queue)) {
		free(queue);
		return NULL;
	}
	task_init(&queue->task, &inflow->turns, &queue->line, take_first);
	return queue;
}

static bool inflow_has_room(const struct queue *queue, size_t size)
{
	const struct inflow *inflow = queue->inflow;

	return queue->size + size <= INFLOW_HOST_MAX &&
	       size <= quota_share(INFLOW_MAX - inflow->size, HASH_COUNT(inflow->queues), queue->size);
}

int inflow_put(struct inflow *inflow, const char *host, void *message, size_t size)
{
	struct queue *queue = get_queue(inflow, host);
	struct inflow_message *entry = NULL;
	bool has_room;

	if (!queue)
		return -ENOMEM;
	has_room = inflow_has_room(queue, size + INFLOW_MESSAGE);
	if (has_room)
		entry = malloc(sizeof(*entry));
	if (!entry) {
		if (!queue->entries)
			free_queue(queue);
		return has_room ? -ENOMEM : -ENOBUFS;
	}
	*entry = (struct inflow_message){.message = message, .size = size};
	queue->size += size + INFLOW_MESSAGE;
	inflow->size += size + INFLOW_MESSAGE;
	DL_APPEND(queue->entries, entry);
	task_due(&queue->task);
	return 0;
}

void inflow_clear(struct inflow *inflow, inflow_take_fn drop, void *userdata)
{
	struct queue *queue, *next;

	HASH_ITER(hh, inflow->queues, queue, next) {
		while (queue->entries)
			drop(userdata, remove_first(queue));
		free_queue(queue);
	}
}

int inflow_new(struct inflow **out, struct event_base *base, inflow_take_fn take, void *userdata)
{
	struct inflow *inflow = calloc(1, sizeof(*inflow));

	if (!inflow)
		return -ENOMEM;
	inflow->take = take;
	inflow->userdata = userdata;
	if (turns_init(&inflow->turns, base, run_turns, inflow) < 0) {
		free(inflow);
		return -ENOMEM;
	}
	*out = inflow;
	return 0;
}

void inflow_free(struct inflow *inflow)
{
	if (!inflow)
		return;
	turns_cleanup(&inflow->turns);
	free(inflow);
}
