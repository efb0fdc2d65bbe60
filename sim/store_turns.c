/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The store by turns: what could come next, and what the caller has chosen of it. See store.h. */
#include "sim/store.h"

#include <poll.h>

#include "sim/store_internal.h"

static bool is_ready(evutil_socket_t fd, short events)
{
	struct pollfd poller = {.fd = fd, .events = events};

	return poll(&poller, 1, 0) == 1;
}

static bool has_output(const struct sim_connection *connection)
{
	return connection->bev && !connection->doomed && !connection->domain->store->stalled &&
	       !(bufferevent_get_enabled(connection->bev) & EV_WRITE) &&
	       evbuffer_get_length(connection->output) > 0;
}

/* Whether something is on its way in or out. */
static bool is_busy(const struct sim_connection *connection)
{
	const short enabled = connection->bev ? bufferevent_get_enabled(connection->bev) : 0;
	short events = 0;

	if (connection->doomed)
		return true;
	if (enabled & EV_READ && evbuffer_get_length(connection->input) < SIM_INPUT_ENOUGH)
		events |= POLLIN;
	/* Who doesn't read keeps nobody waiting. */
	if (enabled & EV_WRITE && evbuffer_get_length(connection->output) > 0)
		events |= POLLOUT;
	return events && is_ready(bufferevent_getfd(connection->bev), events);
}

void sim_store_take_turns(struct sim_store *store, bool by_turns)
{
	struct store_domain *domain, *next;

	store->by_turns = by_turns;
	HASH_ITER(hh, store->domains, domain, next) {
		struct sim_connection *connection;

		DL_FOREACH(domain->connections, connection)
			sim_connection_apply_stall(connection);
	}
}

bool sim_store_turns(struct sim_store *store,
		     void (*visit)(const struct sim_store_turn *turn, void *userdata), void *userdata)
{
	struct store_domain *domain, *next;
	struct sim_connection *connection;
	bool busy = false;

	HASH_ITER(hh, store->domains, domain, next) {
		busy = busy ||
		       (domain->listener && is_ready(evconnlistener_get_fd(domain->listener), POLLIN));
		DL_FOREACH(domain->connections, connection) {
			struct sim_store_turn turn = {.domid = domain->domid,
						      .connection = connection->number,
						      .handle = connection};

			busy = busy || is_busy(connection);
			if (sim_connection_has_request(connection))
				visit(&turn, userdata);
			turn.writes = true;
			if (has_output(connection))
				visit(&turn, userdata);
		}
	}
	return busy;
}

void sim_store_take_turn(const struct sim_store_turn *turn)
{
	struct sim_connection *connection = turn->handle;

	if (turn->writes)
		bufferevent_enable(connection->bev, EV_WRITE);
	else
		sim_connection_process_one(connection);
}
