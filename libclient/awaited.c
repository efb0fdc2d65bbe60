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
