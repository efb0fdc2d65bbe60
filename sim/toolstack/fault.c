/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The faults of xensim fault. */
#include "config.h"

#include "sim/toolstack/admin_internal.h"

#include "cli/nearest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

/* Faults. The second word is the domain, the third the value. */

static int parse_switch(const char *value, bool *on)
{
	*on = value && strcmp(value, "on") == 0;
	return *on || (value && strcmp(value, "off") == 0) ? 0 : -EINVAL;
}

static int fault_stall_store(struct command_context *context, struct hv_domain *domain, const char *value)
{
	bool on;

	if (parse_switch(value, &on) < 0)
		return hv_answer(context, EXIT_USAGE,
				 "fault stall-store DOMID on|off (one xenstored serves all domains)");
	sim_store_stall(context->hv->store, on);
	context->hv->store_stalled = on;
	return EXIT_DONE;
}

static int fault_lose_store(struct command_context *context, struct hv_domain *domain, const char *value)
{
	if (value)
		return hv_answer(context, EXIT_USAGE, "fault lose-store DOMID");
	sim_store_disconnect(context->hv->store, domain->domid);
	return EXIT_DONE;
}

static int parse_times(struct command_context *context, const char *value, uint32_t *times)
{
	if (!value || strcmp(value, "on") == 0)
		*times = UINT32_MAX;
	else if (strcmp(value, "off") == 0)
		*times = 0;
	else if (hv_parse_number(value, times) < 0)
		return hv_answer(context, EXIT_USAGE, "fault %s: '%s' is not a number, on or off",
				 context->word[1], value);
	return EXIT_DONE;
}

/* ---- calls that are refused
 * ------------------------------------------------------------------------------------- */

/* N, or N@AFTER: after so many that go well. */
static int parse_refusal(struct command_context *context, const char *value, struct hv_refusal *refusal)
{
	const char *at = value ? strchr(value, '@') : NULL;
	char times[16];
	int r;

	if (!at)
		return parse_times(context, value, &refusal->times);
	snprintf(times, sizeof(times), "%.*s", (int)(at - value), value);
	r = parse_times(context, times, &refusal->times);
	if (r == EXIT_DONE && hv_parse_number(at + 1, &refusal->after) < 0)
		r = hv_answer(context, EXIT_USAGE, "fault %s: '%s' is not a number, on or off, or N@AFTER",
			      context->word[1], value);
	return r;
}

static int refuse(struct command_context *context, struct hv_domain *domain, const char *value,
		  const char *operation, int error)
{
	struct hv_refusal wanted = {.operation = operation, .error = error};
	int r = parse_refusal(context, value, &wanted);

	return r == EXIT_DONE ? hv_finish(context, "fault", hv_refuse(domain, &wanted)) : r;
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

static int fault_refuse(struct command_context *context, struct hv_domain *domain, const char *value)
{
	const char *times = context->count > 4 ? context->word[4] : NULL,
		   *error_name = context->count > 5 ? context->word[5] : NULL;
	bool of_store;
	const char *operation = refusable(value ? value : "", &of_store);
	int error = error_name ? parse_error(error_name, of_store) : of_store ? -EIO : -ENOMEM;

	if (!operation)
		return hv_answer(context, EXIT_USAGE,
				 "fault refuse DOMID OPERATION [N[@M]|on|off [ERROR]]: OPERATION is as in a "
				 "record, such as WRITE or map; '%s' can't be refused",
				 value ? value : "");
	if (!error)
		return hv_answer(context, EXIT_USAGE, "fault refuse: %s never ends with '%s'", operation,
				 error_name);
	return refuse(context, domain, times, operation, error);
}

static int fault_refuse_bind(struct command_context *context, struct hv_domain *domain, const char *value)
{
	return refuse(context, domain, value, "bind", -ENOSPC);
}

static int fault_conflict(struct command_context *context, struct hv_domain *domain, const char *value)
{
	uint32_t times = 0;
	int r = parse_times(context, value, &times);

	if (r == EXIT_DONE)
		sim_store_conflict(context->hv->store, domain->domid, times);
	return r;
}

static int fault_refuse_grant(struct command_context *context, struct hv_domain *domain, const char *value)
{
	return refuse(context, domain, value, "grant", -ENOSPC);
}

static int fault_refuse_map(struct command_context *context, struct hv_domain *domain, const char *value)
{
	return refuse(context, domain, value, "map", -EINVAL);
}

static int fault_lose_event(struct command_context *context, struct hv_domain *domain, const char *value)
{
	struct hv_refusal wanted = {.times = 1};
	int r = value ? parse_refusal(context, value, &wanted) : EXIT_DONE;

	if (r == EXIT_DONE)
		hv_evtchn_lose(domain, wanted.times, wanted.after);
	return r;
}

static int fault_grant_limit(struct command_context *context, struct hv_domain *domain, const char *value)
{
	uint32_t limit;
	int r;

	if (!value || hv_parse_number(value, &limit) < 0)
		return hv_answer(context, EXIT_USAGE, "fault grant-limit DOMID PAGES");
	r = hv_domain_need_files(domain);
	return hv_finish(context, "fault", r < 0 ? r : hv_grant_set_limit(domain, limit));
}

static int fault_interrupt_pause(struct command_context *context, struct hv_domain *domain, const char *value)
{
	return parse_switch(value, &domain->pauses_interrupt) < 0
		       ? hv_answer(context, EXIT_USAGE, "fault interrupt-pause DOMID on|off")
		       : EXIT_DONE;
}

static int fault_late_events(struct command_context *context, struct hv_domain *domain, const char *value)
{
	uint32_t milliseconds;

	if (!value || hv_parse_number(value, &milliseconds) < 0 || milliseconds > 60000)
		return hv_answer(context, EXIT_USAGE, "fault late-events DOMID MS");
	sim_store_delay_events(context->hv->store, domain->domid, milliseconds);
	return EXIT_DONE;
}

static int fault_evtchn_limit(struct command_context *context, struct hv_domain *domain, const char *value)
{
	uint32_t limit;

	if (!value || hv_parse_number(value, &limit) < 0 || limit > HV_MOST_GUEST_PORTS)
		return hv_answer(context, EXIT_USAGE, "fault evtchn-limit DOMID PORTS (at most %u)",
				 HV_MOST_GUEST_PORTS);
	domain->port_limit = limit;
	return EXIT_DONE;
}

/* FIELD=VALUE; FIELD is an index of struct vchan_interface: left is what the server reads. */
static int fault_corrupt_ring_index(struct command_context *context, struct hv_domain *domain,
				    const char *value)
{
	static const char *const fields[] = {"left-cons", "left-prod", "right-cons", "right-prod"};
	uint32_t offset = 4, index = 0xdeadbeef;
	const char *equals = value ? strchr(value, '=') : NULL;
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

int hv_run_fault(struct command_context *context)
{
	static const struct {
		const char *name;
		int (*run)(struct command_context *context, struct hv_domain *domain, const char *value);
	} faults[] = {
		{"stall-store", fault_stall_store},
		{"lose-store", fault_lose_store},
		{"lose-event", fault_lose_event},
		{"refuse-grant", fault_refuse_grant},
		{"refuse-map", fault_refuse_map},
		{"grant-limit", fault_grant_limit},
		{"evtchn-limit", fault_evtchn_limit},
		{"corrupt-ring-index", fault_corrupt_ring_index},
		{"refuse-bind", fault_refuse_bind},
		{"conflict", fault_conflict},
		{"late-events", fault_late_events},
		{"interrupt-pause", fault_interrupt_pause},
		{"refuse", fault_refuse},
	};
	const char *value = context->count > 3 ? context->word[3] : NULL;
	struct nearest nearest = nearest_to(context->word[1]);
	struct hv_domain *domain;

	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		nearest_try(&nearest, faults[i].name);
		if (strcmp(faults[i].name, context->word[1]) != 0)
			continue;
		if (context->count > 4 && faults[i].run != fault_refuse)
			return hv_answer(context, EXIT_USAGE, "fault %s: unexpected '%s'", faults[i].name,
					 context->word[4]);
		domain = hv_named_domain(context, context->word[2], false);
		return domain ? faults[i].run(context, domain, value) : EXIT_ERROR;
	}
	if (nearest.meant)
		return hv_answer(context, EXIT_USAGE, "unknown fault '%s'; did you mean '%s'?",
				 context->word[1], nearest.meant);
	return hv_answer(
		context, EXIT_USAGE,
		"unknown fault '%s': stall-store, lose-store, conflict, lose-event, refuse, refuse-grant, refuse-map, refuse-bind, "
		"grant-limit, evtchn-limit, corrupt-ring-index, late-events or interrupt-pause",
		context->word[1]);
}
