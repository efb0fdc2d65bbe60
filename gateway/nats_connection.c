/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "gateway/nats_connection.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <event2/event.h>
#include <nats/nats.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/timer.h"
#include "gateway/inflow.h"
#include "gateway/log_host.h"
#include "gateway/nats_options.h"
#include "gateway/settings.h"

#define RETRY_MS	  1000u /* and up to as much again, so that hosts don't come back in step */
#define FULL_SIZE	  (1024 * 1024)
#define ROOM_SIZE	  (256 * 1024)
#define SUBSCRIPTIONS_MAX 2u
#define SPENT_MAX	  32u	       /* messages that are kept before they are freed, */
#define SPENT_SIZE	  (256 * 1024) /* or bytes in them */
#define FLUSH_MS	  500u
#define ATTEMPT_MS	  60000u /* at most, for each server: to look up its name takes the longest */

struct nats_connection {
	struct event_base *base;
	const struct settings *settings;
	const struct nats_callbacks *callbacks;
	void *userdata;
	char *name;
	pthread_t loop;

	enum { WAITING, CONNECTING, UP } state;
	struct event *retry; /* WAITING; CONNECTING: the connector hangs */
	pthread_t connector; /* CONNECTING */
	/* UP */
	natsConnection *nats;
	natsSubscription *subscriptions[SUBSCRIPTIONS_MAX];
	unsigned subscription_count;
	struct event *readable, *writable;
	struct event *flush; /* active as soon as something is to be written */
	bool is_full;
	struct inflow *inflow;	   /* messages (natsMsg) that have come; always there */
	natsMsg *spent[SPENT_MAX]; /* messages that are to be freed */
	unsigned spent_count;
	int spent_size;

	/* Notes of other threads for the loop, which `wake` wakes. */
	int wake;
	struct event *woken;
	pthread_mutex_t lock; /* for what follows; nothing that blocks is done under it */
	bool is_tried;	      /* the connector has ended, */
	natsConnection *made; /* with this, or with NULL and the reason in `why` */
	char why[NATS_WHY_SIZE];
	int socket;	 /* a duplicate, which lives until the loop has let go of it; -1: none */
	natsSock theirs; /* libnats's own, of which that is one */
	bool wants_write, is_gone;
	char complaint[NATS_WHY_SIZE];
};

static void nats_connection_note(struct nats_connection *connection)
{
	uint64_t one = 1;

	if (write(connection->wake, &one, sizeof(one)) < 0 && errno != EAGAIN)
		log_error("NATS: the event loop can't be woken: %s", strerror(errno));
}

/* --- the options of a connection -------------------------------------------------------------- */

static natsStatus attach(void **data, void *loop, natsConnection *nats, natsSock socket);
static natsStatus on_read_wish(void *userdata, bool add);
static natsStatus on_write_wish(void *userdata, bool add);
static natsStatus on_detach(void *userdata);
static void on_error(natsConnection *nats, natsSubscription *subscription, natsStatus status, void *userdata);

/* Makes the options anew for each attempt, since files may have been replaced. NULL, and why. */
static natsOptions *make_options(struct nats_connection *connection, char why[NATS_WHY_SIZE])
{
	natsOptions *options = nats_options_new(connection->settings, connection->name, why);
	natsStatus status;

	if (!options)
		return NULL;
	status =
		natsOptions_SetEventLoop(options, connection, attach, on_read_wish, on_write_wish, on_detach);
	if (status == NATS_OK)
		status = natsOptions_SetErrorHandler(options, on_error, connection);
	if (status == NATS_OK)
		return options;
	nats_options_say_why(why, "", status);
	natsOptions_Destroy(options);
	return NULL;
}

/* --- what libnats asks of the loop, from any thread ------------------------------------------- */

static natsStatus attach(void **data, void *loop, natsConnection *nats, natsSock socket)
{
	struct nats_connection *connection = loop;
	int copy = fcntl(socket, F_DUPFD_CLOEXEC, 0);

	if (copy < 0)
		return NATS_SYS_ERROR;
	*data = connection;
	pthread_mutex_lock(&connection->lock);
	connection->socket = copy;
	connection->theirs = socket;
	pthread_mutex_unlock(&connection->lock);
	return NATS_OK;
}

/* The loop reads as long as there is a connection. When libnats wants no more of it, its socket is to be
 * closed: from 3.10 on, by the owner of the loop. The duplicate is what the loop has. */
static natsStatus on_read_wish(void *userdata, bool add)
{
#ifdef HAVE_NATSCONNECTION_PROCESSCLOSEEVENT
	struct nats_connection *connection = userdata;

	if (add)
		return NATS_OK;
	pthread_mutex_lock(&connection->lock);
	natsConnection_ProcessCloseEvent(&connection->theirs);
	pthread_mutex_unlock(&connection->lock);
#endif
	return NATS_OK;
}

static natsStatus on_write_wish(void *userdata, bool add)
{
	struct nats_connection *connection = userdata;

	if (pthread_equal(pthread_self(), connection->loop) && connection->state == UP) {
		if (add)
			event_active(connection->flush, EV_TIMEOUT, 0);
		else if (connection->writable)
			event_del(connection->writable);
		return NATS_OK;
	}
	if (!add)
		return NATS_OK;
	pthread_mutex_lock(&connection->lock);
	connection->wants_write = true;
	pthread_mutex_unlock(&connection->lock);
	nats_connection_note(connection);
	return NATS_OK;
}

static natsStatus on_detach(void *userdata)
{
	struct nats_connection *connection = userdata;

	pthread_mutex_lock(&connection->lock);
	connection->is_gone = true;
	pthread_mutex_unlock(&connection->lock);
	nats_connection_note(connection);
	return NATS_OK;
}

static void on_error(natsConnection *nats, natsSubscription *subscription, natsStatus status, void *userdata)
{
	struct nats_connection *connection = userdata;
	const char *text = NULL;

	natsConnection_GetLastError(nats, &text);
	pthread_mutex_lock(&connection->lock);
	snprintf(connection->complaint, sizeof(connection->complaint), "%s",
		 text && *text ? text : natsStatus_GetText(status));
	pthread_mutex_unlock(&connection->lock);
	nats_connection_note(connection);
}

/* --- connecting ------------------------------------------------------------------------------- */

static void *connect_in_thread(void *userdata)
{
	struct nats_connection *connection = userdata;
	char why[NATS_WHY_SIZE] = "";
	natsConnection *nats = NULL;
	natsOptions *options = make_options(connection, why);
	natsStatus status = options ? natsConnection_Connect(&nats, options) : NATS_ERR;

	if (options && status != NATS_OK)
		nats_options_say_why(why, "", status);
	natsOptions_Destroy(options);
	pthread_mutex_lock(&connection->lock);
	connection->is_tried = true;
	connection->made = nats;
	memcpy(connection->why, why, sizeof(why));
	pthread_mutex_unlock(&connection->lock);
	nats_connection_note(connection);
	nats_ReleaseThreadMemory();
	return NULL;
}

static void retry_later(struct nats_connection *connection)
{
	connection->state = WAITING;
	timer_set(connection->retry, RETRY_MS + (uint64_t)random() % RETRY_MS);
}

static void nats_connection_on_retry(evutil_socket_t fd, short what, void *userdata)
{
	struct nats_connection *connection = userdata;
	int r;

	if (connection->state == CONNECTING) {
		connection->callbacks->hangs(connection->userdata);
		return;
	}
	connection->is_tried = connection->is_gone = connection->wants_write = false;
	connection->socket = -1;
	connection->state = CONNECTING;
	timer_set(connection->retry, (uint64_t)ATTEMPT_MS * connection->settings->server_count);
	r = pthread_create(&connection->connector, NULL, connect_in_thread, connection);
	if (r == 0)
		return;
	retry_later(connection);
	connection->callbacks->lost(connection->userdata, strerror(r));
}

/* --- while it is up --------------------------------------------------------------------------- */

static void free_spent(struct nats_connection *connection)
{
	for (unsigned i = 0; i < connection->spent_count; i++)
		natsMsg_Destroy(connection->spent[i]);
	connection->spent_count = 0;
	connection->spent_size = 0;
}

/* libnats frees messages in a thread of its own. It is woken for many at once, since that costs more than the
 * rest of a small message. */
static void nats_connection_spend(struct nats_connection *connection, natsMsg *message)
{
	connection->spent[connection->spent_count++] = message;
	connection->spent_size += natsMsg_GetDataLength(message);
	if (connection->spent_count == SPENT_MAX || connection->spent_size >= SPENT_SIZE)
		free_spent(connection);
}

/* It is the turn of the host that has sent it. */
static void nats_connection_on_turn(void *userdata, void *message)
{
	struct nats_connection *connection = userdata;

	connection->callbacks->message(connection->userdata, natsMsg_GetSubject(message),
				       (const uint8_t *)natsMsg_GetData(message),
				       (size_t)natsMsg_GetDataLength(message));
	nats_connection_spend(connection, message);
}

static void on_cleared(void *userdata, void *message)
{
	natsMsg_Destroy(message);
}

/* All subjects that are subscribed to end with the host that publishes there. */
static void nats_connection_put(struct nats_connection *connection, natsMsg *message)
{
	const char *dot = strrchr(natsMsg_GetSubject(message), '.');
	const char *host = dot ? dot + 1 : "";

	int r = inflow_put(connection->inflow, host, message, (size_t)natsMsg_GetDataLength(message));

	if (r == 0)
		return;
	log_limited(LOG_LIMIT, log_by_host(host), LOG_LEVEL_WARNING,
		    r == -ENOMEM ? "%s: out of memory; a message of it is dropped"
				 : "%s: sends more than is taken of it; the rest is dropped",
		    host);
	nats_connection_spend(connection, message);
}

static int count_pending(natsSubscription *subscription)
{
	int count = 0;

	return natsSubscription_GetPending(subscription, &count, NULL) == NATS_OK ? count : 0;
}

/* Takes all that is pending. Not each try gives a message: libnats keeps one for itself whose header has the
 * status "no responders", which anybody may write, and tells of other things in place of one. What is behind
 * it must not wait. */
static void take_messages(struct nats_connection *connection, natsSubscription *subscription)
{
	int before, left = count_pending(subscription);
	natsMsg *message;

	do {
		before = left;
		for (int i = 0; i < before; i++)
			if (natsSubscription_NextMsg(&message, subscription, 0) == NATS_OK)
				nats_connection_put(connection, message);
		left = count_pending(subscription);
	} while (left > 0 && left < before);
}

static void nats_connection_on_readable(evutil_socket_t fd, short what, void *userdata)
{
	struct nats_connection *connection = userdata;

	natsConnection_ProcessReadEvent(connection->nats);
	for (unsigned i = 0; i < connection->subscription_count; i++)
		take_messages(connection, connection->subscriptions[i]);
}

static void nats_connection_on_writable(evutil_socket_t fd, short what, void *userdata)
{
	struct nats_connection *connection = userdata;

	/* A wish of another thread may come when all was written already: libnats takes a write of nothing
	 * for the end. */
	if (natsConnection_Buffered(connection->nats) > 0)
		natsConnection_ProcessWriteEvent(connection->nats);
	if (natsConnection_Buffered(connection->nats) > 0)
		event_add(connection->writable, NULL); /* libnats takes that back when all is written */
	if (!connection->is_full || natsConnection_Buffered(connection->nats) > ROOM_SIZE)
		return;
	connection->is_full = false;
	connection->callbacks->room(connection->userdata);
}

/* Lets go of a connection that has ended, or is to. */
static void nats_connection_drop(struct nats_connection *connection)
{
	inflow_clear(connection->inflow, on_cleared, NULL);
	free_spent(connection);
	for (unsigned i = 0; i < connection->subscription_count; i++)
		natsSubscription_Destroy(connection->subscriptions[i]);
	connection->subscription_count = 0;
	free_event(connection->readable);
	free_event(connection->writable);
	connection->readable = connection->writable = NULL;
	event_del(connection->flush);
	connection->state = WAITING;
	natsConnection_Destroy(connection->nats);
	connection->nats = NULL;
	if (connection->socket >= 0)
		close(connection->socket);
	connection->socket = -1;
}

static void begin_to_use(struct nats_connection *connection)
{
	int fd = connection->socket;
	char server[NATS_WHY_SIZE] = "";

	connection->nats = connection->made;
	connection->readable = event_new(connection->base, fd, EV_READ | EV_PERSIST,
					 nats_connection_on_readable, connection);
	connection->writable = event_new(connection->base, fd, EV_WRITE | EV_PERSIST,
					 nats_connection_on_writable, connection);
	if (!connection->readable || !connection->writable || event_add(connection->readable, NULL) < 0) {
		nats_connection_drop(connection);
		retry_later(connection);
		connection->callbacks->lost(connection->userdata, "out of memory");
		return;
	}
	connection->state = UP;
	connection->is_full = false;
	event_active(connection->flush, EV_TIMEOUT, 0); /* a wish to write may have come before */
	natsConnection_GetConnectedUrl(connection->nats, server, sizeof(server));
	connection->callbacks->connected(connection->userdata, server);
}

static void nats_connection_lose(struct nats_connection *connection)
{
	const char *text = NULL;
	char why[NATS_WHY_SIZE];
	natsStatus status = natsConnection_GetLastError(connection->nats, &text);

	snprintf(why, sizeof(why), "%s", text && *text ? text : natsStatus_GetText(status));
	nats_connection_drop(connection);
	retry_later(connection);
	connection->callbacks->lost(connection->userdata, why);
}

static void on_tried(struct nats_connection *connection)
{
	char why[NATS_WHY_SIZE];

	pthread_join(connection->connector, NULL);
	event_del(connection->retry);
	if (connection->made) {
		begin_to_use(connection);
		return;
	}
	if (connection->socket >= 0) /* of a server that didn't become the one */
		close(connection->socket);
	connection->socket = -1;
	memcpy(why, connection->why, sizeof(why));
	retry_later(connection);
	connection->callbacks->lost(connection->userdata, why);
}

static void on_wake(evutil_socket_t fd, short what, void *userdata)
{
	struct nats_connection *connection = userdata;
	bool is_tried, is_gone, wants_write;
	char complaint[NATS_WHY_SIZE];
	uint64_t count;

	if (read(fd, &count, sizeof(count)) < 0)
		return;
	pthread_mutex_lock(&connection->lock);
	is_tried = connection->state == CONNECTING && connection->is_tried;
	is_gone = connection->is_gone;
	wants_write = connection->wants_write;
	connection->wants_write = false;
	memcpy(complaint, connection->complaint, sizeof(complaint));
	connection->complaint[0] = '\0';
	pthread_mutex_unlock(&connection->lock);

	if (is_tried)
		on_tried(connection);
	if (*complaint)
		connection->callbacks->complaint(connection->userdata, complaint);
	if (connection->state == UP && is_gone)
		nats_connection_lose(connection);
	else if (connection->state == UP && wants_write)
		event_active(connection->flush, EV_TIMEOUT, 0);
}

bool nats_connection_is_up(const struct nats_connection *connection)
{
	return connection->state == UP;
}

void nats_connection_again(struct nats_connection *connection)
{
	if (connection->state != UP)
		return;
	nats_connection_drop(connection);
	retry_later(connection);
}

size_t nats_connection_max_payload(const struct nats_connection *connection)
{
	int64_t size = natsConnection_GetMaxPayload(connection->nats);

	return size > 0 ? (size_t)size : 0;
}

void nats_connection_subscribe(struct nats_connection *connection, const char *subject)
{
	natsStatus status;
	const char *known;

	for (unsigned i = 0; i < connection->subscription_count; i++) {
		known = natsSubscription_GetSubject(connection->subscriptions[i]);
		if (!known || !strcmp(known, subject)) /* NULL: it has ended, as the loop will hear */
			return;
	}
	if (connection->state != UP || connection->subscription_count == SUBSCRIPTIONS_MAX)
		return;
	status = natsConnection_SubscribeSync(&connection->subscriptions[connection->subscription_count],
					      connection->nats, subject);
	if (status == NATS_OK)
		connection->subscription_count++;
	else
		log_error("NATS: can't subscribe to %s: %s", subject, natsStatus_GetText(status));
}

void nats_connection_publish(struct nats_connection *connection, const char *subject, const void *data,
			     size_t size)
{
	natsStatus status;

	if (connection->state != UP)
		return;
	status = natsConnection_Publish(connection->nats, subject, data, (int)size);
	if (status != NATS_OK && status != NATS_CONNECTION_CLOSED)
		log_error("NATS: can't publish %zu bytes on %s: %s", size, subject,
			  natsStatus_GetText(status));
}

bool nats_connection_is_full(struct nats_connection *connection)
{
	if (connection->state == UP && !connection->is_full)
		connection->is_full = natsConnection_Buffered(connection->nats) > FULL_SIZE;
	return connection->is_full;
}

/* --- its life --------------------------------------------------------------------------------- */

int nats_connection_new(struct nats_connection **out, struct event_base *base,
			const struct settings *settings, const struct nats_callbacks *callbacks,
			void *userdata, const char *name, char **error)
{
	struct nats_connection *connection = calloc(1, sizeof(*connection));
	char why[NATS_WHY_SIZE] = "";
	natsOptions *options;

	*error = NULL;
	if (!connection)
		return -ENOMEM;
	connection->base = base;
	connection->settings = settings;
	connection->callbacks = callbacks;
	connection->userdata = userdata;
	connection->loop = pthread_self();
	connection->socket = -1;
	pthread_mutex_init(&connection->lock, NULL);
	connection->name = strdup(name);
	connection->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	connection->woken = event_new(base, connection->wake, EV_READ | EV_PERSIST, on_wake, connection);
	connection->retry = event_new(base, -1, 0, nats_connection_on_retry, connection);
	connection->flush = event_new(base, -1, 0, nats_connection_on_writable, connection);
	if (!connection->name || connection->wake < 0 || !connection->woken || !connection->retry ||
	    !connection->flush || event_add(connection->woken, NULL) < 0 ||
	    inflow_new(&connection->inflow, base, nats_connection_on_turn, connection) < 0) {
		nats_connection_free(connection);
		return -ENOMEM;
	}
	if (nats_options_trust_only(settings) < 0) {
		*error = strdup("tls-ca: can't be in place of the system's CAs here");
		nats_connection_free(connection);
		return -EINVAL;
	}
	options = make_options(connection, why);
	if (!options) {
		*error = strdup(why);
		nats_connection_free(connection);
		return -EINVAL;
	}
	natsOptions_Destroy(options);
	srandom((unsigned)clock_ns());
	*out = connection;
	nats_connection_on_retry(-1, 0, connection);
	return 0;
}

/* Writes what waits, without a loop. */
static void flush_at_end(struct nats_connection *connection)
{
	uint64_t end = clock_ms() + FLUSH_MS, now;

	while (natsConnection_Buffered(connection->nats) > 0 && (now = clock_ms()) < end) {
		struct pollfd socket = {.fd = connection->socket, .events = POLLOUT};

		if (poll(&socket, 1, (int)(end - now)) <= 0 || socket.revents & (POLLERR | POLLHUP))
			return;
		natsConnection_ProcessWriteEvent(connection->nats);
	}
}

void nats_connection_free(struct nats_connection *connection)
{
	if (!connection)
		return;
	if (connection->state == CONNECTING) {
		/* The thread may wait for a server for some seconds more. The process ends, and that with
		 * it. */
		pthread_mutex_lock(&connection->lock);
		bool is_tried = connection->is_tried;
		pthread_mutex_unlock(&connection->lock);
		if (!is_tried)
			return;
		pthread_join(connection->connector, NULL);
		connection->nats = connection->made;
		connection->state = WAITING;
	}
	if (connection->state == UP)
		flush_at_end(connection);
	if (connection->inflow)
		nats_connection_drop(connection);
	nats_CloseAndWait(1000); /* whatever it would still tell from other threads, it has told now */
	free_event(connection->woken);
	free_event(connection->retry);
	free_event(connection->flush);
	inflow_free(connection->inflow);
	if (connection->wake >= 0)
		close(connection->wake);
	pthread_mutex_destroy(&connection->lock);
	free(connection->name);
	free(connection);
}
