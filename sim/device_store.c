/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* XenStore's protocol by hand: a request, and the wait for its answer. */
#include "config.h"

#include "sim/device_store.h"

#include <errno.h> /* before xs_wire.h, which makes its table of errors only then */
#include <xen/io/xs_wire.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define STORE_S 30

_Static_assert(STORE_CLIENT_TEXT == XENSTORE_PAYLOAD_MAX + 1, "one length");

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int store_client_open(struct store_client *store, const char *dir)
{
	const struct timeval patience = {.tv_sec = STORE_S};
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(address.sun_path, sizeof(address.sun_path), "%.80s/dom-0/xenstored.sock", dir);
	store->transaction = 0;
	store->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (store->fd < 0 || connect(store->fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	setsockopt(store->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return 0;
}

/* Reads a message, of which the text gets a NUL. Returns its length, or a negative errno. */
static int receive(const struct store_client *store, struct xsd_sockmsg *header, char text[STORE_CLIENT_TEXT])
{
	if (recv(store->fd, header, sizeof(*header), MSG_WAITALL) != sizeof(*header) ||
	    header->len > XENSTORE_PAYLOAD_MAX ||
	    (header->len && recv(store->fd, text, header->len, MSG_WAITALL) != (ssize_t)header->len))
		return -EIO;
	text[header->len] = '\0';
	return (int)header->len;
}

static int error_number(const char *name)
{
	for (size_t i = 0; i < sizeof(xsd_errors) / sizeof(xsd_errors[0]); i++)
		if (strcmp(xsd_errors[i].errstring, name) == 0)
			return xsd_errors[i].errnum;
	return strcmp(name, "EQUOTA") == 0 ? EDQUOT : EINVAL;
}

int store_client_ask(const struct store_client *store, uint32_t type, const char *text, size_t length,
		     char answer[STORE_CLIENT_TEXT])
{
	struct xsd_sockmsg header = {.type = type, .tx_id = store->transaction, .len = (uint32_t)length};
	int r;

	if (length > XENSTORE_PAYLOAD_MAX)
		return -E2BIG;
	if (send(store->fd, &header, sizeof(header), MSG_NOSIGNAL) < 0 ||
	    send(store->fd, text, length, MSG_NOSIGNAL) < 0)
		return -errno;
	do
		r = receive(store, &header, answer);
	while (r >= 0 && header.type == XS_WATCH_EVENT);
	return r >= 0 && header.type == XS_ERROR ? -error_number(answer) : r;
}

int store_client_ask_of(const struct store_client *store, uint32_t type, const char *path, const char *rest,
			size_t rest_length)
{
	char text[XENSTORE_PAYLOAD_MAX], answer[STORE_CLIENT_TEXT];
	size_t length = strlen(path) + 1;
	int r;

	if (length + rest_length > sizeof(text))
		return -E2BIG;
	memcpy(text, path, length);
	if (rest_length)
		memcpy(text + length, rest, rest_length);
	r = store_client_ask(store, type, text, length + rest_length, answer);
	return r < 0 ? r : 0;
}

int store_client_write(const struct store_client *store, const char *directory, const char *name,
		       const char *value)
{
	char path[2 * STORE_CLIENT_PATH];

	if (snprintf(path, sizeof(path), "%s/%s", directory, name) >= (int)sizeof(path))
		return -E2BIG;
	return store_client_ask_of(store, XS_WRITE, path, value, strlen(value));
}

int store_client_read(const struct store_client *store, const char *directory, const char *name,
		      char value[STORE_CLIENT_TEXT])
{
	char path[2 * STORE_CLIENT_PATH];
	int length = snprintf(path, sizeof(path), "%s%s%s", directory, name[0] ? "/" : "", name);

	return store_client_ask(store, XS_READ, path, (size_t)length + 1, value);
}

int store_client_remove(const struct store_client *store, const char *path)
{
	int r = store_client_ask_of(store, XS_RM, path, NULL, 0);

	return r == -ENOENT ? 0 : r;
}

int store_client_set_perms(const struct store_client *store, const char *path, unsigned owner,
			   unsigned reader)
{
	char perms[64];
	int length = snprintf(perms, sizeof(perms), "n%u%cr%u", owner, '\0', reader);

	return store_client_ask_of(store, XS_SET_PERMS, path, perms, (size_t)length + 1);
}

int store_client_begin(struct store_client *store)
{
	char answer[STORE_CLIENT_TEXT];
	int r = store_client_ask(store, XS_TRANSACTION_START, "", 1, answer);

	if (r >= 0)
		store->transaction = (uint32_t)strtoul(answer, NULL, 10);
	return r < 0 ? r : 0;
}

int store_client_end(struct store_client *store, int r)
{
	char answer[STORE_CLIENT_TEXT];
	int ended = store_client_ask(store, XS_TRANSACTION_END, r == 0 ? "T" : "F", 2, answer);

	store->transaction = 0;
	return r == 0 && ended < 0 ? ended : r;
}

int store_client_wait_for_state(const struct store_client *store, const char *backend, int wanted,
				int64_t patience_ms)
{
	char path[STORE_CLIENT_PATH + 8], value[STORE_CLIENT_TEXT];
	struct pollfd pollfd = {.fd = store->fd, .events = POLLIN};
	int64_t until = now_ms() + patience_ms;
	struct xsd_sockmsg header;
	int r;

	snprintf(path, sizeof(path), "%s/state", backend);
	r = store_client_ask_of(store, XS_WATCH, path, "state", sizeof("state"));
	while (r == 0) {
		int64_t left = until - now_ms();

		r = store_client_read(store, backend, "state", value);
		if (r < 0 || atoi(value) == wanted)
			break;
		r = left <= 0 ? -ETIMEDOUT : poll(&pollfd, 1, (int)left) < 0 && errno != EINTR ? -errno : 0;
		if (r == 0 && pollfd.revents)
			r = receive(store, &header, value) < 0 ? -EIO : 0;
	}
	store_client_ask_of(store, XS_UNWATCH, path, "state", sizeof("state"));
	return r < 0 ? r : 0;
}
