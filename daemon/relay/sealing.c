/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/relay/sealing.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/base/quota.h"
#include "daemon/base/shared_memory.h"
#include "daemon/relay/errands.h"

struct sealing {
	struct errand errand;	/* the first member */
	struct sealing **place; /* its owner's; NULL: forgotten */
	int memory_fd, error;
	struct charge charge;
	sealing_done_fn done;
	void *userdata;
};

static void seal(struct errand *errand)
{
	struct sealing *sealing = (struct sealing *)errand;

	sealing->error = shared_memory_seal(sealing->memory_fd);
	close(sealing->memory_fd);
}

static void on_sealed(struct errand *errand)
{
	struct sealing *sealing = (struct sealing *)errand;

	charge_end(&sealing->charge);
	if (sealing->place) {
		*sealing->place = NULL;
		sealing->done(sealing->userdata, sealing->error);
	}
	free(sealing);
}

void sealing_begin(struct sealing **place, struct relay *relay, int memory_fd, struct charge *charge,
		   sealing_done_fn done, void *userdata)
{
	struct sealing *sealing = calloc(1, sizeof(*sealing));

	if (!sealing) {
		close(memory_fd);
		charge_release(charge, QUOTA_DESCRIPTORS, 1);
		done(userdata, -ENOMEM);
		return;
	}
	sealing->errand = (struct errand){.work = seal, .done = on_sealed};
	sealing->place = place;
	sealing->memory_fd = memory_fd;
	sealing->done = done;
	sealing->userdata = userdata;
	charge_init(&sealing->charge, charge->account);
	charge_pass(&sealing->charge, charge, QUOTA_DESCRIPTORS, 1);
	*place = sealing;
	errand_give(&sealing->errand, relay, charge->account);
}

void sealing_forget(struct sealing **place)
{
	if (*place)
		(*place)->place = NULL;
	*place = NULL;
}
