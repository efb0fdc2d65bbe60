/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/relay/leaving.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/descriptors.h"
#include "base/quota.h"
#include "daemon/relay/errands.h"

struct leaving {
	struct errand errand; /* the first member */
	void *memory;
	size_t size;
	int fds[LEAVING_FDS];
	struct charge charge;
};

static void give_back(struct errand *errand)
{
	struct leaving *leaving = (struct leaving *)errand;

	if (leaving->memory)
		munmap(leaving->memory, leaving->size);
	descriptors_close(leaving->fds, LEAVING_FDS);
}

static void on_given_back(struct errand *errand)
{
	struct leaving *leaving = (struct leaving *)errand;

	charge_end(&leaving->charge);
	free(leaving);
}

void leave(struct relay *relay, void *memory, size_t size, const int fds[LEAVING_FDS], struct charge *charge)
{
	struct leaving *leaving = calloc(1, sizeof(*leaving)), here;
	uint64_t descriptors = 0;

	if (!leaving) {
		here = (struct leaving){.memory = memory, .size = size};
		memcpy(here.fds, fds, sizeof(here.fds));
		give_back(&here.errand);
		return;
	}
	leaving->errand = (struct errand){.work = give_back, .done = on_given_back};
	leaving->memory = memory;
	leaving->size = size;
	memcpy(leaving->fds, fds, sizeof(leaving->fds));
	for (unsigned i = 0; i < LEAVING_FDS; i++)
		descriptors += fds[i] >= 0;
	charge_init(&leaving->charge, charge ? charge->account : NULL);
	if (charge && charge->held[QUOTA_DESCRIPTORS] < descriptors)
		descriptors = charge->held[QUOTA_DESCRIPTORS];
	if (charge && descriptors > 0)
		charge_pass(&leaving->charge, charge, QUOTA_DESCRIPTORS, descriptors);
	errand_give(&leaving->errand, relay, leaving->charge.account);
}
