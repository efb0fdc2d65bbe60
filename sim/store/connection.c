/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One client: requests in, replies and watch events out.
 *
 * No client waits for another: one that doesn't read gets no more requests served once OUTPUT_ENOUGH bytes
 * wait for it, and is cut off when the events of others have piled up to OUTPUT_LIMIT.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <xen/xen.h>

#include "sim/store/store_internal.h"

#define KERNEL_MESSAGE_MAX 4096 /* with its header */

/* Of a node, with C xenstored. */
#define XENSTORED_MAX_PERMS 5

#define OUTPUT_ENOUGH (256 * 1024)
#define OUTPUT_LIMIT  (16 * 1024 * 1024)

void sim_connection_doom(struct sim_connection *connection)
{
	if (connection->doomed)
		return;
	connection->doomed = true;
	if (connection->bev)
		bufferevent_disable(connection->bev, EV_READ | EV_WRITE);
	event_active(connection->domain->store->reap, EV_TIMEOUT, 0);
}

static void send_error(struct sim_connection *connection, const struct xsd_sockmsg *header, int error);

static void on_late(evutil_socket_t fd, short what, void *data)
{
	struct sim_connection *connection = data;

	if (!connection->doomed)
		evbuffer_add_buffer(connection->output, connection->late);
}

/* Where an event goes: behind the answers that come in the next time, if the domain's events are late. */
static struct evbuffer *output_for_event(struct sim_connection *connection)
{
	const unsigned late_ms = connection->domain->late_ms;
	const struct timeval time = {.tv_sec = late_ms / 1000, .tv_usec = late_ms % 1000 * 1000};

	if (!late_ms && (!connection->late || evbuffer_get_length(connection->late) == 0))
		return connection->output;
	if (!connection->late) {
		connection->late = sim_must(evbuffer_new());
		connection->late_timer =
			sim_must(evtimer_new(connection->domain->store->base, on_late, connection));
	}
	if (evbuffer_get_length(connection->late) == 0)
		evtimer_add(connection->late_timer, &time);
	return connection->late;
}

void sim_connection_send(struct sim_connection *connection, const struct xsd_sockmsg *header,
			 const void *data, size_t len)
{
	struct xsd_sockmsg sized = *header;
	struct evbuffer *output;

	if (connection->doomed)
		return;
	/* oxenstored keeps to the limit by rings only. What a guest's kernel then gets is an error, which in
	 * place of an event it drops. */
	if (len > XENSTORE_PAYLOAD_MAX && connection->domain->domid != 0) {
		if (header->type != XS_WATCH_EVENT || !sim_domain_has_kernel(connection->domain))
			send_error(connection, header, -E2BIG);
		return;
	}
	if (evbuffer_get_length(connection->output) > OUTPUT_LIMIT) {
		sim_connection_doom(connection);
		return;
	}
	sized.len = (uint32_t)len;
	output = header->type == XS_WATCH_EVENT ? output_for_event(connection) : connection->output;
	if (evbuffer_expand(output, sizeof(sized) + len) < 0 ||
	    evbuffer_add(output, &sized, sizeof(sized)) < 0 || evbuffer_add(output, data, len) < 0)
		abort();
}

static void send_error(struct sim_connection *connection, const struct xsd_sockmsg *header, int error)
{
	struct xsd_sockmsg copy = *header;
	/* There C xenstored says another one. */
	const bool spells = error == -EDQUOT && connection->domain->store->options.like_xenstored;
	const char *name = sim_wire_error_name(!spells ? error : header->type == XS_WATCH ? -E2BIG : -ENOSPC);

	copy.type = XS_ERROR;
	sim_connection_send(connection, &copy, name, strlen(name) + 1);
}

static void send_reply(struct sim_connection *connection, const struct store_message *request,
		       const struct store_reply *reply)
{
	struct xsd_sockmsg header = request->header;

	/* Watches belong to no transaction; a guest's kernel, which answers itself, leaves the number. */
	if ((header.type == XS_WATCH || header.type == XS_UNWATCH) &&
	    !sim_domain_has_kernel(connection->domain))
		header.tx_id = 0;
	if (reply->error)
		send_error(connection, &header, reply->error);
	else
		sim_connection_send(connection, &header, reply->data, reply->len);
}

static void reply_text(struct store_reply *reply, const char *text)
{
	sim_reply_append(reply, text, strlen(text) + 1);
}

/* ---- requests of the toolstack --------------------------------------------------------------- */

static bool is_for_toolstack(uint32_t type)
{
	return type == XS_INTRODUCE || type == XS_RELEASE || type == XS_IS_DOMAIN_INTRODUCED ||
	       type == XS_RESUME || type == XS_SET_TARGET;
}

/* RELEASE changes the tree of the transaction that it is in. */
static int serve_toolstack(struct sim_store *store, struct sim_tree *tree,
			   const struct store_message *request, struct store_reply *reply)
{
	struct store_domain *domain = sim_domain_find_introduced(store, request->domid);

	switch (request->header.type) {
	case XS_IS_DOMAIN_INTRODUCED:
		reply_text(reply, domain || request->domid == DOMID_SELF ? "T" : "F");
		return 0;
	case XS_INTRODUCE:
		if (!domain && (request->domid < 0 || request->domid >= DOMID_FIRST_RESERVED))
			return -EINVAL;
		if (!domain)
			sim_store_introduce(store, (unsigned)request->domid);
		break;
	case XS_RELEASE:
		if (request->domid == 0)
			return -EINVAL;
		sim_store_release_in(store, tree, request->domid);
		if (!domain)
			return -EINVAL;
		break;
	case XS_RESUME:
		if (!domain)
			return -EINVAL;
		break;
	case XS_SET_TARGET:
		if (!domain)
			return -ENOENT;
		domain->target = request->target;
		break;
	default:
		abort();
	}
	reply_text(reply, "OK");
	return 0;
}

/* ---- requests of the connection's own state -------------------------------------------------- */

static void tell_quota(const struct sim_tree *tree, int64_t domid, struct store_reply *reply)
{
	int owned = sim_tree_owned(tree, domid);
	char text[64];

	if (owned)
		snprintf(text, sizeof(text), "dom%" PRId64 " quota: %d/%u", domid, owned,
			 tree->options->limits.nodes);
	else
		snprintf(text, sizeof(text), "dom%" PRId64 " quota: not set", domid);
	reply_text(reply, text);
}

static int serve_own(struct sim_connection *connection, const struct sim_tree *tree,
		     const struct store_message *request, struct store_reply *reply)
{
	struct store_domain *domain = connection->domain;
	struct sim_credentials who = sim_domain_credentials(domain);
	struct sim_connection *other;
	char text[16];
	uint32_t id;
	int rc = 0;

	switch (request->header.type) {
	case XS_WATCH:
		rc = sim_watch_add(connection, request->untrusted_path, request->token);
		break;
	case XS_UNWATCH:
		rc = sim_watch_remove(connection, request->untrusted_path, request->token);
		break;
	case XS_RESET_WATCHES:
		/* A guest has one connection, its kernel's, for all of its processes. */
		DL_FOREACH(domain->connections, other) {
			if (sim_domain_has_kernel(domain) || other == connection) {
				sim_watch_remove_all(other);
				sim_transaction_abort_all(other);
			}
		}
		break;
	case XS_CONTROL:
		if (request->asks_quota && sim_credentials_privileged(&who)) {
			tell_quota(tree, request->domid, reply);
			return 0;
		}
		break;
	case XS_TRANSACTION_START:
		if (request->header.tx_id != 0)
			return -EBUSY;
		rc = sim_transaction_start(connection, &id);
		if (rc == 0) {
			snprintf(text, sizeof(text), "%" PRIu32, id);
			reply_text(reply, text);
		}
		return rc;
	default:
		return -ENOSYS;
	}
	if (rc == 0)
		reply_text(reply, "OK");
	return rc;
}

/* ---- requests in general --------------------------------------------------------------------- */

/* What is to be done when the reply has been sent: a client may expect it before the event that its own
 * request causes. */
struct consequence {
	struct sim_changes changes;
	struct sim_node *old_root, *new_root;
	bool ended; /* the request's transaction */
};

static void consequence_take(struct sim_store *store, struct consequence *consequence)
{
	if (consequence->old_root)
		sim_watch_fire_changes(store, &consequence->changes, consequence->old_root,
				       consequence->new_root);
	sim_changes_clear(&consequence->changes);
	sim_node_unref(consequence->old_root);
	sim_node_unref(consequence->new_root);
}

static void serve_tree(struct sim_connection *connection, struct sim_transaction *transaction,
		       const struct store_message *request, struct store_reply *reply,
		       struct consequence *consequence)
{
	struct sim_store *store = connection->domain->store;
	struct sim_credentials who = sim_domain_credentials(connection->domain);

	if (transaction) {
		if (store->options.like_xenstored)
			sim_transaction_look(connection, transaction, request);
		sim_request_execute(&transaction->tree, &who, request, reply, &transaction->changes);
		return;
	}
	consequence->old_root = sim_node_ref(store->tree.root);
	sim_request_execute(&store->tree, &who, request, reply, &consequence->changes);
	consequence->new_root = sim_node_ref(store->tree.root);
}

static void serve_transaction_end(struct sim_connection *connection, struct sim_transaction *transaction,
				  const struct store_message *request, struct store_reply *reply,
				  struct consequence *consequence)
{
	struct sim_committed committed = {0};

	if (!transaction) {
		reply->error = -ENOENT;
		return;
	}
	reply->error = sim_transaction_end(connection, transaction, request->commit, &committed);
	consequence->ended = true;
	/* Here the events come first. */
	if (committed.new_root)
		sim_watch_fire_changes(connection->domain->store, &committed.changes, committed.old_root,
				       committed.new_root);
	sim_transaction_committed_clear(&committed);
	if (!reply->error)
		reply_text(reply, "OK");
}

/* What C xenstored asks of permissions before it looks at the node. */
static int check_perms(const struct sim_store *store, const struct sim_credentials *who,
		       const struct store_message *request)
{
	if (!sim_credentials_privileged(who) && request->n_perms > XENSTORED_MAX_PERMS)
		return -ENOSPC;
	/* It asks Xen, which knows domains before they are introduced. */
	return request->perms[0].domid >= 0 && request->perms[0].domid < DOMID_FIRST_RESERVED &&
			       sim_domain_find(store, (unsigned)request->perms[0].domid)
		       ? 0
		       : -ENOENT;
}

static void serve(struct sim_connection *connection, struct sim_transaction *transaction,
		  const struct store_message *request, int decoded, struct store_reply *reply,
		  struct consequence *consequence)
{
	struct store_domain *domain = connection->domain;
	struct sim_credentials who = sim_domain_credentials(domain);
	struct sim_tree *tree = transaction ? &transaction->tree : &domain->store->tree;
	const uint32_t type = request->header.type;

	if (is_for_toolstack(type) && !sim_credentials_privileged(&who)) {
		reply->error = -EACCES;
	} else if (decoded < 0) {
		reply->error = decoded;
	} else if (is_for_toolstack(type)) {
		reply->error = serve_toolstack(domain->store, tree, request, reply);
	} else if (type == XS_TRANSACTION_END) {
		serve_transaction_end(connection, transaction, request, reply, consequence);
	} else if (type == XS_SET_PERMS && domain->store->options.like_xenstored &&
		   (reply->error = check_perms(domain->store, &who, request)) < 0) {
		return;
	} else if (sim_request_is_for_tree(type)) {
		serve_tree(connection, transaction, request, reply, consequence);
	} else {
		reply->error = serve_own(connection, tree, request, reply);
		consequence->ended = type == XS_RESET_WATCHES;
	}
}

/* Finds the transaction that a request is in. Returns 0, or the error for an id that names none. */
static int find_transaction(struct sim_connection *connection, const struct store_message *request,
			    struct sim_transaction **transaction)
{
	const uint32_t type = request->header.type;
	bool has_kernel = sim_domain_has_kernel(connection->domain);

	*transaction = NULL;
	if (request->header.tx_id == 0 || type == XS_WATCH || type == XS_UNWATCH)
		return 0;
	*transaction = sim_transaction_find(connection, request->header.tx_id);
	if (!*transaction || ((*transaction)->stale && type != XS_TRANSACTION_END))
		return !*transaction && (has_kernel || connection->domain->store->options.like_xenstored) &&
				       type != XS_TRANSACTION_START
			       ? -ENOENT
			       : -EIO;
	return 0;
}

/* Serves a request in a transaction, which is then tried again with it, whatever its type is. */
static void serve_in_transaction(struct sim_connection *connection, struct sim_transaction *transaction,
				 const struct store_message *request, int decoded, const void *message,
				 size_t len, struct store_reply *reply, struct consequence *consequence)
{
	bool ends = request->header.type == XS_TRANSACTION_END,
	     has_kernel = sim_domain_has_kernel(connection->domain);

	/* One that is full can't even be ended. */
	if (sim_transaction_is_full(connection, transaction)) {
		reply->error = -EDQUOT;
		transaction->abandoned = has_kernel && ends;
		return;
	}
	serve(connection, transaction, request, decoded, reply, consequence);
	if (!consequence->ended)
		sim_transaction_log(transaction, message, len, reply);
}

static void record(const struct sim_connection *connection, const struct store_message *request,
		   const char *text, size_t length, const struct store_reply *reply)
{
	const struct sim_store *store = connection->domain->store;
	const struct sim_store_seen seen = {.domid = connection->domain->domid,
					    .type = request->header.type,
					    .transaction = request->header.tx_id,
					    .text = text,
					    .length = length,
					    .error = reply->error,
					    .answer = reply->data,
					    .answer_length = reply->len};

	if (store->record)
		store->record(&seen, store->record_userdata);
}

/* Returns what a fault has for the request, or 0. A commit that fails by it ends its transaction all the
 * same. */
static int refusal(const struct sim_connection *connection, struct store_message *request)
{
	const struct sim_store *store = connection->domain->store;
	int error = store->refuse ? store->refuse(connection->domain->domid, request->header.type,
						  store->refuse_userdata)
				  : 0;

	if (error && request->header.type == XS_TRANSACTION_END)
		request->commit = false;
	return error;
}

static void serve_message(struct sim_connection *connection, const void *message, size_t len)
{
	struct store_message request;
	struct store_reply reply = {0};
	struct consequence consequence = {0};
	struct sim_transaction *transaction;
	int decoded = sim_wire_decode(&request, message, len), refused = refusal(connection, &request);
	const bool like_xenstored = connection->domain->store->options.like_xenstored;

	if (request.header.type == XS_DIRECTORY_PART && !like_xenstored)
		decoded = -ENOSYS;
	if (refused == -ECONNRESET) {
		sim_connection_doom(connection);
		return;
	}
	connection->domain->store->served = connection;
	connection->domain->requests++;
	connection->domain->writes += request.header.type == XS_WRITE;
	reply.error = find_transaction(connection, &request, &transaction);
	/* A guest's kernel doesn't send this on. */
	if (!reply.error && request.header.type == XS_TRANSACTION_END &&
	    sim_domain_has_kernel(connection->domain) && (decoded < 0 || request.header.len != 2))
		reply.error = -EINVAL;
	if (!reply.error && request.header.type != XS_TRANSACTION_END)
		reply.error = refused;
	if (transaction && !reply.error)
		serve_in_transaction(connection, transaction, &request, decoded, message, len, &reply,
				     &consequence);
	else if (!reply.error)
		serve(connection, NULL, &request, decoded, &reply, &consequence);
	if (!reply.error)
		reply.error = refused;
	/* C xenstored answers when it has told of what was done. */
	if (like_xenstored)
		consequence_take(connection->domain->store, &consequence);
	send_reply(connection, &request, &reply);
	record(connection, &request, (const char *)message + sizeof(request.header),
	       len - sizeof(request.header), &reply);
	if (!like_xenstored)
		consequence_take(connection->domain->store, &consequence);
	if (request.header.type == XS_WATCH && !reply.error)
		sim_watch_fire_first(connection);
	/* A guest's kernel fails the write of a refused watch, and libxenstore closes its descriptor then. */
	if (request.header.type == XS_WATCH && reply.error && sim_domain_has_kernel(connection->domain))
		connection->ending = true;
	sim_reply_clear(&reply);
	connection->domain->store->served = NULL;
}

/* A guest's kernel has room for less than XenStore takes, since it counts the header, too. It fails the
 * write, and libxenstore closes its descriptor then. */
static void refuse_message(struct sim_connection *connection, const struct xsd_sockmsg *header)
{
	send_error(connection, header, -E2BIG);
	connection->ending = true;
}

/* Returns the length of the message to be served next, 0 if there is none now, or a negative errno: its
 * beginning can't be found any more. */
static int next_message(const struct sim_connection *connection, struct xsd_sockmsg *header)
{
	const size_t arrived = evbuffer_get_length(connection->input);
	ev_ssize_t copied;
	int len;

	if (connection->doomed || connection->ending || connection->waits_for ||
	    connection->domain->store->stalled || evbuffer_get_length(connection->output) > OUTPUT_ENOUGH)
		return 0;
	copied = evbuffer_copyout(connection->input, header, sizeof(*header));
	len = sim_wire_message_length(header, copied < 0 ? 0 : (size_t)copied);
	if (len <= 0 || arrived < (size_t)len)
		return len < 0 ? len : 0;
	/* oxenstored looks at a request without payload only when more has come by the socket. */
	if (header->len == 0 && connection->domain->domid == 0 && arrived == sizeof(*header))
		return 0;
	return len;
}

bool sim_connection_process_one(struct sim_connection *connection)
{
	struct xsd_sockmsg header;
	int len = next_message(connection, &header);

	if (len < 0)
		sim_connection_doom(connection);
	if (len <= 0)
		return false;
	if (len > KERNEL_MESSAGE_MAX && sim_domain_has_kernel(connection->domain))
		refuse_message(connection, &header);
	else
		serve_message(connection, evbuffer_pullup(connection->input, len), (size_t)len);
	evbuffer_drain(connection->input, (size_t)len);
	return true;
}

void sim_connection_process(struct sim_connection *connection)
{
	while (sim_connection_process_one(connection))
		;
}

/* ---- the socket ------------------------------------------------------------------------------ */

static void on_readable(struct bufferevent *bev, void *data)
{
	sim_connection_process(data);
}

/* Serves the requests that had to wait until all was written. */
static void connection_on_written(struct bufferevent *bev, void *data)
{
	struct sim_connection *connection = data;

	if (connection->ending)
		sim_connection_doom(connection);
	else
		sim_connection_process(connection);
}

static void on_closed(struct bufferevent *bev, short what, void *data)
{
	sim_connection_doom(data);
}

void sim_connection_go_on(struct sim_connection *connection)
{
	connection->waits_for = NULL;
	if (connection->bev && !connection->doomed)
		bufferevent_trigger(connection->bev, EV_READ,
				    BEV_TRIG_IGNORE_WATERMARKS | BEV_OPT_DEFER_CALLBACKS);
}

void sim_connection_apply_stall(struct sim_connection *connection)
{
	if (!connection->bev || connection->doomed)
		return;
	if (connection->domain->store->stalled) {
		bufferevent_disable(connection->bev, EV_READ | EV_WRITE);
	} else {
		bufferevent_enable(connection->bev, EV_READ | EV_WRITE);
		/* Run from the loop, which serves requests that came before the stall like new ones. */
		bufferevent_trigger(connection->bev, EV_READ,
				    BEV_TRIG_IGNORE_WATERMARKS | BEV_OPT_DEFER_CALLBACKS);
	}
}

struct sim_connection *sim_connection_new(struct store_domain *domain, int fd)
{
	struct sim_connection *connection = sim_must(calloc(1, sizeof(*connection)));

	connection->domain = domain;
	connection->number = ++domain->connections_made;
	if (fd < 0) {
		connection->input = sim_must(evbuffer_new());
		connection->output = sim_must(evbuffer_new());
	} else {
		connection->bev =
			sim_must(bufferevent_socket_new(domain->store->base, fd, BEV_OPT_CLOSE_ON_FREE));
		connection->input = bufferevent_get_input(connection->bev);
		connection->output = bufferevent_get_output(connection->bev);
		bufferevent_setcb(connection->bev, on_readable, connection_on_written, on_closed, connection);
		bufferevent_setwatermark(connection->bev, EV_READ, 0, SIM_INPUT_ENOUGH);
	}
	DL_APPEND(domain->connections, connection);
	sim_connection_apply_stall(connection);
	return connection;
}

void sim_connection_free(struct sim_connection *connection)
{
	DL_DELETE(connection->domain->connections, connection);
	sim_watch_remove_all(connection);
	sim_transaction_abort_all(connection);
	if (connection->late) {
		event_free(connection->late_timer);
		evbuffer_free(connection->late);
	}
	if (connection->bev) {
		bufferevent_free(connection->bev);
	} else {
		evbuffer_free(connection->input);
		evbuffer_free(connection->output);
	}
	free(connection);
}
