/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/store/store_unit.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static void make_home(struct sim_store *store, unsigned domid)
{
	const struct sim_perm theirs = {domid, SIM_PERM_NONE};
	const struct sim_perm read_only[] = {{0, SIM_PERM_NONE}, {domid, SIM_PERM_READ}};
	char path[64];

	snprintf(path, sizeof(path), "/local/domain/%u", domid);
	assert_int_equal(sim_store_write(store, path, "", read_only, 2), 0);
	snprintf(path, sizeof(path), "/local/domain/%u/name", domid);
	assert_int_equal(sim_store_write(store, path, "guest", read_only, 2), 0);
	snprintf(path, sizeof(path), "/local/domain/%u/data", domid);
	assert_int_equal(sim_store_write(store, path, "", &theirs, 1), 0);
}

struct unit_host *unit_host_new(void)
{
	struct unit_host *host = calloc(1, sizeof(*host));

	signal(SIGPIPE, SIG_IGN);
	host->base = event_base_new();
	host->store = sim_store_new(host->base, NULL);
	assert_non_null(host->store);
	for (unsigned domid = 1; domid <= 3; domid++) {
		make_home(host->store, domid);
		sim_store_introduce(host->store, domid);
	}
	return host;
}

void unit_host_free(struct unit_host *host)
{
	sim_store_free(host->store);
	event_base_free(host->base);
	free(host);
}

int unit_setup(void **state)
{
	struct unit_fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->host = unit_host_new();
	f->dom0 = unit_connect(f->host, 0);
	f->one = unit_connect(f->host, 1);
	f->two = unit_connect(f->host, 2);
	*state = f;
	return 0;
}

int unit_teardown(void **state)
{
	struct unit_fixture *f = *state;

	unit_close(f->dom0);
	unit_close(f->one);
	unit_close(f->two);
	unit_host_free(f->host);
	free(f);
	return 0;
}

/* Runs the loop. A request takes a round to be read and a round to be answered; a few more do no harm. */
void unit_run(struct unit_host *host)
{
	for (int i = 0; i < 10; i++)
		event_base_loop(host->base, EVLOOP_NONBLOCK);
}

struct unit_client *unit_connect(struct unit_host *host, unsigned domid)
{
	struct unit_client *client = calloc(1, sizeof(*client));
	int fds[2];

	assert_non_null(client);
	client->host = host;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	client->fd = fds[0];
	assert_int_equal(fcntl(client->fd, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(sim_store_attach(host->store, domid, fds[1]), 0);
	return client;
}

void unit_close(struct unit_client *client)
{
	struct unit_host *host = client->host;

	close(client->fd);
	free(client);
	unit_run(host);
}

void unit_send(struct unit_client *client, const void *data, size_t len)
{
	const char *rest = data;

	while (len) {
		ssize_t sent = send(client->fd, rest, len, MSG_NOSIGNAL);

		if (sent < 0 && errno == EAGAIN) {
			unit_run(client->host);
			continue;
		}
		if (sent < 0)
			return; /* cut off: the test checks what comes back */
		rest += sent;
		len -= (size_t)sent;
	}
}

static void keep_event(struct unit_client *client, const char *payload)
{
	assert_true(client->n_events < 4096);
	snprintf(client->events[client->n_events][0], 1100, "%s", payload);
	snprintf(client->events[client->n_events][1], 1100, "%s", payload + strlen(payload) + 1);
	client->n_events++;
}

/* Takes one message from the input. Returns true if it was a reply. */
static bool take_message(struct unit_client *client, struct xsd_sockmsg *header, bool *taken)
{
	size_t len;
	bool is_reply;

	*taken = false;
	if (client->input_len < sizeof(*header))
		return false;
	memcpy(header, client->input, sizeof(*header));
	assert_true(header->len <= XENSTORE_PAYLOAD_MAX);
	len = sizeof(*header) + header->len;
	if (client->input_len < len)
		return false;
	is_reply = header->type != XS_WATCH_EVENT;
	if (is_reply) {
		memcpy(client->reply, client->input + sizeof(*header), header->len);
		client->reply[header->len] = '\0';
		client->reply_len = header->len;
	} else {
		keep_event(client, client->input + sizeof(*header));
	}
	memmove(client->input, client->input + len, client->input_len - len);
	client->input_len -= len;
	*taken = true;
	return is_reply;
}

bool unit_receive(struct unit_client *client)
{
	for (;;) {
		ssize_t got;

		unit_run(client->host);
		got = recv(client->fd, client->input + client->input_len,
			   sizeof(client->input) - client->input_len, 0);
		if (got < 0)
			return errno == EAGAIN;
		if (got == 0)
			return client->input_len == sizeof(client->input);
		client->input_len += (size_t)got;
	}
}

static int error_number(const char *name)
{
	if (strcmp(name, "EQUOTA") == 0)
		return -EDQUOT;
	for (size_t i = 0; i < sizeof(xsd_errors) / sizeof(xsd_errors[0]); i++)
		if (strcmp(xsd_errors[i].errstring, name) == 0)
			return -xsd_errors[i].errnum;
	fail_msg("unknown error %s", name);
	return 0;
}

int unit_ask(struct unit_client *client, uint32_t type, uint32_t transaction, const void *payload, size_t len)
{
	struct xsd_sockmsg header = {.type = type, .req_id = 77, .tx_id = transaction, .len = (uint32_t)len};
	bool taken;

	unit_send(client, &header, sizeof(header));
	unit_send(client, payload, len);
	/* A refused watch ends the connection behind its answer. */
	assert_true(unit_receive(client) || type == XS_WATCH);
	while (!take_message(client, &header, &taken))
		assert_true(taken);
	assert_int_equal(header.req_id, 77);
	assert_int_equal(header.tx_id, transaction);
	if (header.type == XS_ERROR)
		return error_number(client->reply);
	assert_int_equal(header.type, type);
	return 0;
}

int unit_write(struct unit_client *client, uint32_t transaction, const char *path, const char *value)
{
	char payload[XENSTORE_PAYLOAD_MAX];
	int len = snprintf(payload, sizeof(payload), "%s%c%s", path, '\0', value);

	return unit_ask(client, XS_WRITE, transaction, payload, (size_t)len);
}

int unit_simple(struct unit_client *client, uint32_t type, uint32_t transaction, const char *path)
{
	return unit_ask(client, type, transaction, path, strlen(path) + 1);
}

const char *unit_read(struct unit_client *client, uint32_t transaction, const char *path)
{
	int rc = unit_simple(client, XS_READ, transaction, path);

	errno = -rc;
	return rc < 0 ? NULL : client->reply;
}

int unit_set_perms(struct unit_client *client, uint32_t transaction, const char *path, const char *perms)
{
	char payload[XENSTORE_PAYLOAD_MAX];
	int len = snprintf(payload, sizeof(payload), "%s%c%s", path, '\0', perms);

	for (char *at = payload + strlen(path) + 1; *at; at++)
		if (*at == ' ')
			*at = '\0';
	return unit_ask(client, XS_SET_PERMS, transaction, payload, (size_t)len + 1);
}

const char *unit_get_perms(struct unit_client *client, const char *path)
{
	int rc = unit_simple(client, XS_GET_PERMS, 0, path);

	errno = -rc;
	if (rc < 0)
		return NULL;
	for (size_t i = 0; i + 1 < client->reply_len; i++)
		if (client->reply[i] == '\0')
			client->reply[i] = ' ';
	return client->reply;
}

static int ask_two(struct unit_client *client, uint32_t type, const char *first, const char *second)
{
	char payload[XENSTORE_PAYLOAD_MAX];
	int len = snprintf(payload, sizeof(payload), "%s%c%s", first, '\0', second);

	return unit_ask(client, type, 0, payload, (size_t)len + 1);
}

int unit_watch(struct unit_client *client, const char *path, const char *token)
{
	return ask_two(client, XS_WATCH, path, token);
}

void unit_watch_quietly(struct unit_client *client, const char *path, const char *token)
{
	assert_int_equal(unit_watch(client, path, token), 0);
	unit_expect_event(client, path, token);
}

int unit_unwatch(struct unit_client *client, const char *path, const char *token)
{
	return ask_two(client, XS_UNWATCH, path, token);
}

int unit_start(struct unit_client *client, uint32_t *transaction)
{
	int rc = unit_ask(client, XS_TRANSACTION_START, 0, "", 1);

	if (rc == 0)
		*transaction = (uint32_t)strtoul(client->reply, NULL, 10);
	return rc;
}

int unit_end(struct unit_client *client, uint32_t transaction, bool commit)
{
	return unit_ask(client, XS_TRANSACTION_END, transaction, commit ? "T" : "F", 2);
}

void unit_collect_events(struct unit_client *client)
{
	struct xsd_sockmsg header;
	bool taken;

	unit_receive(client);
	do {
		assert_false(take_message(client, &header, &taken)); /* a reply without a request */
	} while (taken);
}

void unit_expect_event(struct unit_client *client, const char *path, const char *token)
{
	unit_collect_events(client);
	if (client->n_events == 0)
		fail_msg("no event, expected %s %s", path, token);
	assert_string_equal(client->events[0][0], path);
	assert_string_equal(client->events[0][1], token);
	client->n_events--;
	memmove(client->events[0], client->events[1], client->n_events * sizeof(client->events[0]));
}

void unit_expect_silence(struct unit_client *client)
{
	unit_collect_events(client);
	if (client->n_events)
		fail_msg("unexpected event %s %s", client->events[0][0], client->events[0][1]);
}
