/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The faults of xensim fault. The second word is the domain, the third the value. */
#include "config.h"

#include "sim/toolstack/admin_internal.h"

#include "cli/nearest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

struct fault {
	const char *name, *values;
	enum { ITS_OWN, NOTHING, SWITCH, NUMBER, TIMES, REFUSAL } takes;
	int (*run)(struct command_context *context, struct hv_domain *domain, uint32_t number);
	uint32_t most;	       /* of a NUMBER */
	const char *operation; /* of a REFUSAL, and what it ends with */
	int error;
};

/* Returns false if it is none of a number, on and off. */
static bool parse_times(const char *value, uint32_t *times)
{
	*times = !value || strcmp(value, "on") == 0 ? UINT32_MAX : 0;
	return *times || strcmp(value, "off") == 0 || hv_parse_number(value, times) == 0;
}

/* Takes N as well as N@AFTER, which is after so many that go well. */
static bool parse_refusal(const char *value, struct hv_refusal *refusal)
{
	const char *at = value ? strchr(value, '@') : NULL;
	char times[16];

	if (!at)
		return parse_times(value, &refusal->times);
	snprintf(times, sizeof(times), "%.*s", (int)(at - value), value);
	return parse_times(times, &refusal->times) && hv_parse_number(at + 1, &refusal->after) == 0;
}

static int refuse(struct command_context *context, struct hv_domain *domain, const char *times,
		  const char *operation, int error)
{
	struct hv_refusal wanted = {.operation = operation, .error = error};

	if (!parse_refusal(times, &wanted))
		return hv_answer(context, EXIT_USAGE, "fault %s: '%s' is not a number, on or off, or N@AFTER",
				 context->word[1], times);
	return hv_finish(context, "fault", hv_refuse(domain, &wanted));
}

/* What a kernel or a hypervisor may refuse: it doesn't refuse to take back what it has given. */
static const char *refusable(const char *name, bool *of_store)
{
	const struct hv_operation *operation = hv_operation_named(name);

	*of_store = !operation;
	if (operation)
		return operation->takes_back ? NULL : operation->name;
	for (uint32_t type = 0; type < 64; type++) {
		const char *known = hv_store_operation(type);

		if (known && strcmp(known, name) == 0 && strcmp(known, "WATCH_EVENT") != 0)
			return known;
	}
	return NULL;
}

static int parse_error(const char *name, bool of_store)
{
	for (int error = 1; error < 134; error++) {
		const char *known = strerrorname_np(error);

		if (known && strcmp(known, name) == 0)
			return of_store && error != ECONNRESET && !sim_store_can_answer(-error) ? 0 : -error;
	}
	return 0;
}

static int fault_refuse(struct command_context *context, struct hv_domain *domain, uint32_t unused)
{
	const char *name = context->count > 3 ? context->word[3] : "",
		   *times = context->count > 4 ? context->word[4] : NULL,
		   *error_name = context->count > 5 ? context->word[5] : NULL;
	bool of_store;
	const char *operation = refusable(name, &of_store);
	int error = error_name ? parse_error(error_name, of_store) : of_store ? -EIO : -ENOMEM;

	if (!operation)
		return hv_answer(context, EXIT_USAGE,
				 "fault refuse DOMID OPERATION [N[@M]|on|off [ERROR]]: OPERATION is as in a "
				 "record, such as WRITE or map; '%s' can't be refused",
				 name);
	if (!error)
		return hv_answer(context, EXIT_USAGE, "fault refuse: %s never ends with '%s'", operation,
				 error_name);
	return refuse(context, domain, times, operation, error);
}

static int fault_stall_store(struct command_context *context, struct hv_domain *domain, uint32_t on)
{
	/* One xenstored serves all domains. */
	hv_stall_store(context->hv, on);
	return EXIT_DONE;
}

static int fault_lose_store(struct command_context *context, struct hv_domain *domain, uint32_t unused)
{
	sim_store_disconnect(context->hv->store, domain->domid);
	return EXIT_DONE;
}

static int fault_conflict(struct command_context *context, struct hv_domain *domain, uint32_t times)
{
	sim_store_conflict(context->hv->store, domain->domid, times);
	return EXIT_DONE;
}

static int fault_lose_event(struct command_context *context, struct hv_domain *domain, uint32_t unused)
{
	struct hv_refusal wanted = {0};

	if (!parse_refusal(context->count > 3 ? context->word[3] : "1", &wanted))
		return hv_answer(context, EXIT_USAGE, "fault lose-event DOMID [N[@M]]");
	hv_evtchn_lose(domain, wanted.times, wanted.after);
	return EXIT_DONE;
}

static int fault_grant_limit(struct command_context *context, struct hv_domain *domain, uint32_t limit)
{
	int r = hv_domain_need_files(domain);

	return hv_finish(context, "fault", r < 0 ? r : hv_grant_set_limit(domain, limit));
}

static int fault_interrupt_pause(struct command_context *context, struct hv_domain *domain, uint32_t on)
{
	domain->pauses_interrupt = on;
	return EXIT_DONE;
}

static int fault_late_events(struct command_context *context, struct hv_domain *domain, uint32_t milliseconds)
{
	sim_store_delay_events(context->hv->store, domain->domid, milliseconds);
	return EXIT_DONE;
}

static int fault_evtchn_limit(struct command_context *context, struct hv_domain *domain, uint32_t limit)
{
	domain->port_limit = limit;
	return EXIT_DONE;
}

/* FIELD=VALUE; FIELD is an index of struct vchan_interface: left is what the server reads. */
static int fault_corrupt_ring_index(struct command_context *context, struct hv_domain *domain,
				    uint32_t unused)
{
	static const char *const fields[] = {"left-cons", "left-prod", "right-cons", "right-prod"};
	uint32_t offset = 4, index = 0xdeadbeef;
	const char *value = context->count > 3 ? context->word[3] : NULL,
		   *equals = value ? strchr(value, '=') : NULL;
	bool found = !value;

	for (uint32_t i = 0; equals && i < 4; i++) {
		if (strncmp(value, fields[i], (size_t)(equals - value)) == 0 && !fields[i][equals - value]) {
			offset = 4 * i;
			found = hv_parse_number(equals + 1, &index) == 0;
		}
	}
	if (!found)
		return hv_answer(
			context, EXIT_USAGE,
			"fault corrupt-ring-index DOMID left-cons|left-prod|right-cons|right-prod=NUMBER");
	return hv_answer(context, EXIT_DONE, "%u\n", hv_grant_corrupt(domain, offset, index));
}

static const struct fault faults[] = {
	{"stall-store", "on|off", SWITCH, .run = fault_stall_store},
	{"lose-store", "", NOTHING, .run = fault_lose_store},
	{"conflict", "N|on|off", TIMES, .run = fault_conflict},
	{"lose-event", "[N[@M]]", ITS_OWN, .run = fault_lose_event},
	{"refuse", "OPERATION [N[@M]|on|off [ERROR]]", ITS_OWN, .run = fault_refuse},
	{"refuse-grant", "N[@M]|on|off", REFUSAL, .operation = "grant", .error = -ENOSPC},
	{"refuse-map", "N[@M]|on|off", REFUSAL, .operation = "map", .error = -EINVAL},
	{"refuse-bind", "N[@M]|on|off", REFUSAL, .operation = "bind", .error = -ENOSPC},
	{"grant-limit", "PAGES", NUMBER, .run = fault_grant_limit, .most = UINT32_MAX},
	{"evtchn-limit", "PORTS", NUMBER, .run = fault_evtchn_limit, .most = HV_MOST_GUEST_PORTS},
	{"corrupt-ring-index", "FIELD=NUMBER", ITS_OWN, .run = fault_corrupt_ring_index},
	{"late-events", "MS", NUMBER, .run = fault_late_events, .most = 60000},
	{"interrupt-pause", "on|off", SWITCH, .run = fault_interrupt_pause},
};

#define FAULTS (sizeof(faults) / sizeof(faults[0]))

static int run(struct command_context *context, const struct fault *fault, struct hv_domain *domain)
{
	const char *value = context->count > 3 ? context->word[3] : NULL;
	uint32_t number = 0;
	bool is_valid = true;

	switch (fault->takes) {
	case REFUSAL:
		return refuse(context, domain, value, fault->operation, fault->error);
	case NOTHING:
		is_valid = !value;
		break;
	case SWITCH:
		number = value && strcmp(value, "on") == 0;
		is_valid = number || (value && strcmp(value, "off") == 0);
		break;
	case NUMBER:
		is_valid = value && hv_parse_number(value, &number) == 0 && number <= fault->most;
		break;
	case TIMES:
		is_valid = parse_times(value, &number);
		break;
	case ITS_OWN:
		break;
	}
	if (is_valid)
		return fault->run(context, domain, number);
	if (fault->takes == NUMBER && fault->most != UINT32_MAX)
		return hv_answer(context, EXIT_USAGE, "usage: xensim fault %s DOMID %s (at most %u)",
				 fault->name, fault->values, fault->most);
	return hv_answer(context, EXIT_USAGE, "usage: xensim fault %s DOMID %s", fault->name, fault->values);
}

int hv_run_fault(struct command_context *context)
{
	struct nearest nearest = nearest_to(context->word[1]);
	struct hv_domain *domain;

	for (const struct fault *fault = faults; fault < faults + FAULTS; fault++) {
		nearest_try(&nearest, fault->name);
		if (strcmp(fault->name, context->word[1]) != 0)
			continue;
		if (context->count > 4 && fault->run != fault_refuse)
			return hv_answer(context, EXIT_USAGE, "fault %s: unexpected '%s'", fault->name,
					 context->word[4]);
		domain = hv_named_domain(context, context->word[2], false);
		return domain ? run(context, fault, domain) : EXIT_ERROR;
	}
	if (nearest.meant)
		return hv_answer(context, EXIT_USAGE, "unknown fault '%s'; did you mean '%s'?",
				 context->word[1], nearest.meant);
	hv_answer(context, EXIT_USAGE, "unknown fault '%s':", context->word[1]);
	for (size_t i = 0; i < FAULTS; i++)
		hv_answer(context, EXIT_USAGE, "%s %s", i ? "," : "", faults[i].name);
	return EXIT_USAGE;
}
