/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * In which order things happen, for xensim order. Xen leaves open which domain's request is served first, and
 * who of those that are woken comes to it first. Here that is decided: whenever all programs rest, one of the
 * things that could come next is chosen, and is done; then the programs run until they rest again. Such a
 * step is
 *
 *	dN store:C request	the next request of that connection to XenStore is served
 *	dN store:C delivery	what waits for that connection is written to it: answers, and events of watches
 *	dN xen:C call		a request of the process's connection to the hypervisor is served, or its end
 *	dN evtchn:H event	an event wakes that event channel handle
 *
 * C and H count the connections and handles of the domain. The first two come from the store
 * (sim_store_turns()). The events of others go into an eventfd of ours beside the handle's own, from which
 * they are passed on.
 */
#include "config.h"

#include "sim/hv_admin.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utlist.h>

/* After so long something is done although a program runs, or although the schedule has another thing and all
 * rest. */
#define RESTLESS_MS  30000
#define ASTRAY_MS    3000
#define TICK_US	     500
#define IDLE_TICK_US 4000

enum mode { HOLD, BY_SEED, REPLAY };

/* How many steps there were, how many of them came before all rested, and how many weren't as the schedule
 * had them. */
struct counts {
	int write_error; /* of the schedule, which then ended: an errno */
	unsigned long steps, restless, astray;
};

struct order_step {
	char name[48];
	struct hv_client *client;
	struct hv_handle *handle;
	struct sim_store_turn turn;
};

struct hv_order {
	struct hv *hv;
	enum mode mode;
	uint64_t random;
	FILE *written, *replayed;
	char expected[48]; /* the next step of the schedule; "": there is no more */
	struct event *tick;
	struct timespec restless_since, astray_since; /* 0: not now */
	struct counts counts;
	struct order_step *step;
	size_t step_count, step_size;
	bool out_of_memory;
};

/* ---- where events wait
 * ----------------------------------------------------------------------------------------- */

static bool take_token(struct hv_handle *handle)
{
	uint64_t token;

	return read(handle->diverted, &token, sizeof(token)) == sizeof(token);
}

static void pass_events_on(struct hv_handle *handle)
{
	/* As many as its ring has entries, and no more can come before these are taken. */
	for (uint32_t i = 0; handle->diverted >= 0 && i < handle->page->slots && take_token(handle); i++)
		sim_evtchn_token(handle->eventfd);
}

static void on_late_event(evutil_socket_t fd, short events, void *userdata)
{
	pass_events_on(userdata);
}

int hv_order_wake_fd(struct hv_handle *handle)
{
	if (!handle->domain->hv->order)
		return handle->eventfd;
	if (handle->diverted < 0)
		handle->diverted = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE | EFD_NONBLOCK);
	return handle->diverted < 0 ? handle->eventfd : handle->diverted;
}

void hv_order_forget(struct hv_handle *handle)
{
	if (handle->diverted_event)
		event_free(handle->diverted_event);
	if (handle->diverted >= 0)
		close(handle->diverted);
	handle->diverted_event = NULL;
	handle->diverted = -1;
}

/* Who sends to a handle just now may still have the other descriptor: nothing gets lost by that. */
static void divert(struct hv_handle *handle, bool on)
{
	if (on && handle->diverted_event) {
		event_free(handle->diverted_event);
		handle->diverted_event = NULL;
	}
	if (on || handle->diverted < 0)
		return;
	pass_events_on(handle);
	handle->diverted_event = event_new(handle->domain->hv->base, handle->diverted, EV_READ | EV_PERSIST,
					   on_late_event, handle);
	if (handle->diverted_event)
		event_add(handle->diverted_event, NULL);
}

static void switch_domain(struct hv_domain *domain, bool on)
{
	struct hv_client *client;
	struct hv_handle *handle;

	DL_FOREACH(domain->clients, client) {
		if (on)
			event_del(client->event);
		else
			event_add(client->event, NULL);
		DL_FOREACH(client->handles, handle)
			divert(handle, on);
	}
	DL_FOREACH(domain->orphans, handle)
		divert(handle, on);
	/* All ask again where to notify. */
	for (uint32_t i = 0; i < domain->port_room; i++)
		if (domain->port[i] && domain->port[i]->handle)
			atomic_fetch_add(&domain->port[i]->handle->page->sequence[i], 1);
}

static void switch_all(struct hv *hv, bool on)
{
	struct hv_domain *domain, *next;

	HASH_ITER(hh, hv->domains, domain, next)
		switch_domain(domain, on);
	for (domain = hv->suspended; domain; domain = domain->next_suspended)
		switch_domain(domain, on);
	sim_store_take_turns(hv->store, on);
}

/* ---- what could come next
 * -------------------------------------------------------------------------------------- */

static bool is_readable(int fd)
{
	struct pollfd poller = {.fd = fd, .events = POLLIN};

	return fd >= 0 && poll(&poller, 1, 0) == 1;
}

static struct order_step *add_step(struct hv_order *order)
{
	if (order->step_count == order->step_size) {
		size_t size = order->step_size ? 2 * order->step_size : 32;
		struct order_step *more = realloc(order->step, size * sizeof(*more));

		order->out_of_memory = !more;
		if (!more)
			return NULL;
		order->step = more;
		order->step_size = size;
	}
	order->step[order->step_count] = (struct order_step){0};
	return &order->step[order->step_count++];
}

static void add_turn(const struct sim_store_turn *turn, void *userdata)
{
	struct order_step *step = add_step(userdata);

	if (!step)
		return;
	step->turn = *turn;
	snprintf(step->name, sizeof(step->name), "d%u store:%u %s", turn->domid, turn->connection,
		 turn->writes ? "delivery" : "request");
}

static void add_event(struct hv_order *order, struct hv_handle *handle)
{
	struct order_step *step = is_readable(handle->diverted) ? add_step(order) : NULL;

	if (!step)
		return;
	step->handle = handle;
	snprintf(step->name, sizeof(step->name), "d%u evtchn:%u event", handle->domain->domid,
		 handle->number);
}

static void add_domain(struct hv_order *order, struct hv_domain *domain)
{
	struct hv_client *client;
	struct hv_handle *handle;

	DL_FOREACH(domain->clients, client) {
		struct order_step *step = is_readable(client->fd) ? add_step(order) : NULL;

		if (step) {
			step->client = client;
			snprintf(step->name, sizeof(step->name), "d%u xen:%u call", domain->domid,
				 client->number);
		}
		DL_FOREACH(client->handles, handle)
			add_event(order, handle);
	}
	DL_FOREACH(domain->orphans, handle)
		add_event(order, handle);
}

/* Lists it. Returns whether more is on its way. */
static bool list_steps(struct hv_order *order)
{
	struct hv_domain *domain, *next;
	bool busy;

	order->step_count = 0;
	busy = sim_store_turns(order->hv->store, add_turn, order);
	HASH_ITER(hh, order->hv->domains, domain, next) {
		busy = busy || (domain->listener && is_readable(evconnlistener_get_fd(domain->listener)));
		add_domain(order, domain);
	}
	return busy || order->out_of_memory;
}

/* ---- which of it comes
 * ----------------------------------------------------------------------------------------- */

/* splitmix64, which is well spread from any seed. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static void read_expected(struct hv_order *order)
{
	if (!order->replayed || !fgets(order->expected, sizeof(order->expected), order->replayed))
		order->expected[0] = 0;
	order->expected[strcspn(order->expected, "\n")] = 0;
}

/* Returns the number of the step. SIZE_MAX: the schedule has another. */
static size_t choose(struct hv_order *order)
{
	if (order->mode == BY_SEED)
		return order->step_count > 1 ? (size_t)(next_random(&order->random) % order->step_count) : 0;
	/* Behind the end of its schedule it goes on with the first of them. */
	if (!order->expected[0])
		return 0;
	for (size_t i = 0; i < order->step_count; i++)
		if (strcmp(order->step[i].name, order->expected) == 0)
			return i;
	return SIZE_MAX;
}

static void note_step(struct hv_order *order, const struct order_step *step)
{
	order->counts.steps++;
	if (order->written &&
	    (fprintf(order->written, "%s\n", step->name) < 0 || fflush(order->written) != 0)) {
		order->counts.write_error = errno;
		hv_log(order->hv, "the schedule ends, since it cannot be written: %m");
		fclose(order->written);
		order->written = NULL;
	}
	if (order->mode != REPLAY || !order->expected[0])
		return;
	if (strcmp(order->expected, step->name) != 0 && order->counts.astray++ == 0)
		hv_log(order->hv, "step %lu isn't the schedule's: %s, and not %s", order->counts.steps,
		       step->name, order->expected);
	read_expected(order);
}

static void take_step(struct hv_order *order, const struct order_step *step)
{
	note_step(order, step);
	if (step->client)
		hv_client_serve(step->client);
	else if (step->handle && take_token(step->handle))
		sim_evtchn_token(step->handle->eventfd);
	else if (!step->handle)
		sim_store_take_turn(&step->turn);
}

/* Whether it is less than so long since this began, which is now if it is 0. */
static bool is_patient(struct timespec *since, long milliseconds)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (since->tv_sec == 0 && since->tv_nsec == 0)
		*since = now;
	return (now.tv_sec - since->tv_sec) * 1000 + (now.tv_nsec - since->tv_nsec) / 1000000 < milliseconds;
}

static void nothing_waits(struct hv_order *order)
{
	order->restless_since = order->astray_since = (struct timespec){0};
}

/* Takes the next step if it is time for it. */
static void go_on(struct hv_order *order)
{
	bool restless;
	size_t chosen;

	list_steps(order);
	if (order->step_count == 0 || order->mode == HOLD) {
		nothing_waits(order);
		return;
	}
	restless = !hv_all_rest(order->hv);
	/* What all have asked for until they rested is there now. */
	restless = list_steps(order) || restless;
	if (order->step_count == 0 || (restless && is_patient(&order->restless_since, RESTLESS_MS)))
		return;
	chosen = choose(order);
	if (chosen == SIZE_MAX && is_patient(&order->astray_since, ASTRAY_MS))
		return;
	order->counts.restless += restless;
	nothing_waits(order);
	take_step(order, &order->step[chosen == SIZE_MAX ? 0 : chosen]);
}

static void on_tick(evutil_socket_t fd, short events, void *userdata)
{
	struct hv_order *order = userdata;
	struct timeval soon = {.tv_usec = TICK_US};

	go_on(order);
	/* When nothing waits, nothing is so urgent. */
	if (order->step_count == 0 || order->mode == HOLD)
		soon.tv_usec = IDLE_TICK_US;
	event_add(order->tick, &soon);
}

/* ---- begin and end
 * --------------------------------------------------------------------------------------------- */

static void close_files(struct hv_order *order)
{
	if (order->written)
		fclose(order->written);
	if (order->replayed)
		fclose(order->replayed);
	order->written = order->replayed = NULL;
	order->expected[0] = 0;
}

static struct hv_order *order_new(struct hv *hv)
{
	const struct timeval soon = {.tv_usec = TICK_US};
	struct hv_order *order = calloc(1, sizeof(*order));

	if (!order)
		return NULL;
	order->hv = hv;
	order->tick = evtimer_new(hv->base, on_tick, order);
	if (!order->tick) {
		free(order);
		return NULL;
	}
	event_add(order->tick, &soon);
	return order;
}

static int begin(struct hv *hv, enum mode mode, uint32_t seed, const char *path)
{
	FILE *file = path ? fopen(path, mode == REPLAY ? "re" : "we") : NULL;

	if (path && !file)
		return -errno;
	if (!hv->order) {
		hv->order = order_new(hv);
		if (!hv->order) {
			if (file)
				fclose(file);
			return -ENOMEM;
		}
		switch_all(hv, true);
	}
	close_files(hv->order);
	hv->order->mode = mode;
	hv->order->random = seed;
	hv->order->counts = (struct counts){0};
	nothing_waits(hv->order);
	if (mode == REPLAY)
		hv->order->replayed = file;
	else
		hv->order->written = file;
	read_expected(hv->order);
	return 0;
}

void hv_order_end(struct hv *hv)
{
	struct hv_order *order = hv->order;

	if (!order)
		return;
	hv->order = NULL;
	close_files(order);
	event_free(order->tick);
	free(order->step);
	free(order);
	switch_all(hv, false);
}

int hv_run_order(struct command_context *context)
{
	const char *how = context->count > 1 ? context->word[1] : "", *file = context->word[3];
	const struct counts counts = context->hv->order ? context->hv->order->counts : (struct counts){0};
	uint32_t seed = 0;
	int r;

	if (strcmp(how, "hold") == 0 && context->count == 2) {
		r = begin(context->hv, HOLD, 0, NULL);
	} else if (strcmp(how, "seed") == 0 && context->count > 2) {
		if (hv_parse_number(context->word[2], &seed) < 0)
			return hv_answer(context, EXIT_USAGE, "order: the seed is a number, not '%s'",
					 context->word[2]);
		r = begin(context->hv, BY_SEED, seed, context->count > 3 ? file : NULL);
	} else if (strcmp(how, "replay") == 0 && context->count == 3) {
		r = begin(context->hv, REPLAY, 0, context->word[2]);
	} else if (context->count == 1 || (strcmp(how, "off") == 0 && context->count == 2)) {
		if (context->count > 1)
			hv_order_end(context->hv);
		if (counts.write_error)
			return hv_answer(context, EXIT_ERROR,
					 "order: the schedule ended in the midst of %lu steps: %s",
					 counts.steps, strerror(counts.write_error));
		return hv_answer(context, EXIT_DONE,
				 "%lu steps, %lu before all rested, %lu not as scheduled\n", counts.steps,
				 counts.restless, counts.astray);
	} else {
		return hv_answer(context, EXIT_USAGE, "order hold, or seed N [FILE], replay FILE, off");
	}
	return hv_finish(context, "order", r);
}
