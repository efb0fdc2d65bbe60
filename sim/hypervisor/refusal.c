/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Calls that are refused, as `xensim fault` has it. */
#include "config.h"

#include "sim/hypervisor/hv_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

static bool is_meant(const struct hv_refusal *refusal, const char *operation)
{
	return strcmp(refusal->operation, operation) == 0 ||
	       (strcmp(refusal->operation, "bind") == 0 && strncmp(operation, "bind-", 5) == 0);
}

int hv_refused(struct hv_domain *domain, const char *operation)
{
	struct hv_refusal *refusal;

	LL_FOREACH(domain->refusals, refusal) {
		if (!operation || refusal->times == 0 || !is_meant(refusal, operation))
			continue;
		if (refusal->after) {
			refusal->after--;
			continue;
		}
		refusal->times -= refusal->times != UINT32_MAX;
		return refusal->error;
	}
	return 0;
}

int hv_store_refused(unsigned domid, uint32_t type, void *hv)
{
	struct hv_domain *domain = hv_domain_by_id(hv, domid);

	return domain ? hv_refused(domain, hv_store_operation(type)) : 0;
}

int hv_refuse(struct hv_domain *domain, const struct hv_refusal *wanted)
{
	struct hv_refusal *refusal, *next;

	LL_FOREACH(domain->refusals, refusal)
		if (strcmp(refusal->operation, wanted->operation) == 0)
			break;
	if (!refusal) {
		refusal = malloc(sizeof(*refusal));
		if (!refusal)
			return -ENOMEM;
		LL_PREPEND(domain->refusals, refusal);
	}
	next = refusal->next;
	*refusal = *wanted;
	refusal->next = next;
	return 0;
}

void hv_refusals_free(struct hv_domain *domain)
{
	struct hv_refusal *refusal, *next;

	LL_FOREACH_SAFE(domain->refusals, refusal, next)
		free(refusal);
	domain->refusals = NULL;
}
