/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The replicas that wait for their topics, and which of them looks again when one may have come. Others
 * make topics and domains come and go, and there may be thousands who wait: so each of them has a turn. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "base/timer.h"
#include "daemon/topic/topic_internal.h"
#include "wire/address.h"

#define COST_LOOK  4u
#define COST_HURRY 12u
#define HURRY_MS   200

/* The replicas that subscribe to topics of one name, in whatever domain. */
struct topic_place {
	struct topic *replicas;
	struct topic *cursor; /* whose turn is next */
	bool is_looking;
	struct topic_place *prev, *next; /* in topics->looking */
	UT_hash_handle hh;
	char name[];
};

static const char *search_name_of(const struct topic *replica)
{
	const char *endpoint = address_split(replica->address, strlen(replica->address)).endpoint.data;

	return endpoint ? endpoint : replica->address;
}

int search_begin(struct topic *replica)
{
	struct topics *topics = replica->topics;
	const char *name = search_name_of(replica);
	struct topic_place *place;

	HASH_FIND_STR(topics->places, name, place);
	if (!place) {
		place = calloc(1, sizeof(*place) + strlen(name) + 1);
		if (!place)
			return -ENOMEM;
		memcpy(place->name, name, strlen(name));
		HASH_ADD_STR(topics->places, name, place);
	}
	replica->of = place;
	DL_APPEND2(place->replicas, replica, place_prev, place_next);
	return 0;
}

static void stop_looking(struct topics *topics, struct topic_place *place)
{
	if (place->is_looking)
		DL_DELETE(topics->looking, place);
	place->is_looking = false;
	place->cursor = NULL;
}

void search_end(struct topic *replica)
{
	struct topics *topics = replica->topics;
	struct topic_place *place = replica->of;

	search_is_patient(replica, false);
	if (!place)
		return;
	if (place->cursor == replica)
		place->cursor = replica->place_next;
	DL_DELETE2(place->replicas, replica, place_prev, place_next);
	replica->of = NULL;
	if (place->replicas)
		return;
	stop_looking(topics, place);
	HASH_DEL(topics->places, place);
	free(place);
}

void search_is_patient(struct topic *replica, bool is_patient)
{
	if (replica->is_patient == is_patient)
		return;
	replica->is_patient = is_patient;
	if (is_patient)
		DL_APPEND2(replica->topics->patient, replica, patient_prev, patient_next);
	else
		DL_DELETE2(replica->topics->patient, replica, patient_prev, patient_next);
}

void search_hurry(struct topics *topics)
{
	if (!topics->patient)
		return;
	topics->is_hurrying = true;
	task_due(&topics->task);
}

void topics_look(struct topics *topics, const char *name)
{
	struct topic_place *place;

	HASH_FIND_STR(topics->places, name, place);
	if (!place)
		return;
	place->cursor = place->replicas;
	if (!place->is_looking)
		DL_APPEND(topics->looking, place);
	place->is_looking = true;
	task_due(&topics->task);
}

/* It's the daemon's own line that pays: it would go on for ever if its work were charged to others. */
static void search_spend(struct topics *topics, uint64_t units)
{
	turns_spend(topics->task.turns, topics->task.line, units);
}

/* Lets one look, in its own turn. False: all have. */
static bool look_next(struct topics *topics)
{
	struct topic_place *place = topics->looking;
	struct topic *replica = place ? place->cursor : NULL;

	if (place && !replica)
		stop_looking(topics, place);
	if (!replica)
		return place;
	place->cursor = replica->place_next;
	search_spend(topics, COST_LOOK);
	replica->is_to_look = true;
	inner_due(replica->hop);
	return true;
}

/* Has one that waits for long look soon: others may come and go as fast as they like, so that is often
 * enough. */
static bool hurry_next(struct topics *topics)
{
	struct topic *replica = topics->is_hurrying ? topics->patient : NULL;

	topics->is_hurrying = replica;
	if (!replica)
		return false;
	search_spend(topics, COST_HURRY);
	search_is_patient(replica, false);
	timer_set(replica->timer, HURRY_MS);
	return true;
}

void search_on_task(struct task *task)
{
	struct topics *topics = (struct topics *)((char *)task - offsetof(struct topics, task));
	const struct turns *turns = &topics->with.board->turns;
	uint64_t from = turns->spent;

	while (turns->spent - from < TOPIC_PIECE_UNITS)
		if (!look_next(topics) && !hurry_next(topics))
			return;
	task_due(task);
}
