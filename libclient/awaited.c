/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/awaited.h"

#include <stdlib.h>

#include <utlist.h>

#include "libclient/calls.h"

void awaited_fail(struct awaited *list, int error)
{
	struct awaiter *awaiter;
	struct awaited *place;

	DL_FOREACH(list, place)
		DL_FOREACH(place->list, awaiter)
			if (awaiter->rest && !awaiter->rest->op.settled) {
				awaiter->state = WAKING;
				call_end(awaiter->rest, error);
			}
}

bool awaited_take_refusal(struct awaited *list, uint32_t watch)
{
	struct awaiter *awaiter;
	struct awaited *place;

	DL_SEARCH_SCALAR(list, place, watch, (int)watch);
	if (!place)
		return false;
	place->watch = 0;
	DL_FOREACH(place->list, awaiter)
		if (awaiter->state == PARKED && !awaiter->rest->op.settled) {
			awaiter->state = WAKING;
			call_end(awaiter->rest, 0);
		}
	return true;
}

void awaited_free(struct awaited *list)
{
	struct awaiter *awaiter, *next_awaiter;
	struct awaited *place, *next;

	DL_FOREACH_SAFE(list, place, next) {
		DL_FOREACH_SAFE(place->list, awaiter, next_awaiter) {
			free(awaiter->trace);
			free(awaiter);
		}
		free(place);
	}
}
