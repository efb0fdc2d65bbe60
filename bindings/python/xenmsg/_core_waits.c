/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Methods of connections that use the library at once, or wait without the GIL. */

#include "_core.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

PyObject *connection_fileno(PyObject *object, PyObject *ignored)
{
	struct xenmsg *conn = usable(object);

	return conn ? PyLong_FromLong(xenmsg_fd(conn)) : NULL;
}

/* What both return: the outcomes for which somebody waits. A lost connection has told all outcomes first. */
static PyObject *after_work(struct connection *self, int result)
{
	PyObject *waited_for = collect(self);

	if (!waited_for || result >= 0 || result == -EINTR || PyList_GET_SIZE(waited_for) > 0)
		return waited_for;
	Py_DECREF(waited_for);
	return raise_error(self->shared, result, NULL);
}

PyObject *connection_process(PyObject *object, PyObject *ignored)
{
	struct connection *self = (struct connection *)object;
	struct xenmsg *conn = usable(object);
	PyThreadState *state;
	int r;

	if (!conn)
		return NULL;
	state = unlock(self->shared);
	r = xenmsg_process(conn);
	lock(self->shared, state);
	return after_work(self, r);
}

PyObject *connection_wait(PyObject *object, PyObject *argument)
{
	struct connection *self = (struct connection *)object;
	long timeout = PyLong_AsLong(argument);
	PyThreadState *state;
	PyObject *waited_for;
	struct xenmsg *conn;
	int r;

	if (PyErr_Occurred() || !(conn = usable(object)))
		return NULL;
	state = unlock(self->shared);
	r = xenmsg_wait(conn, timeout > INT_MAX ? INT_MAX : (int)timeout);
	lock(self->shared, state);
	waited_for = after_work(self, r);
	if (waited_for && PyErr_CheckSignals() < 0)
		Py_CLEAR(waited_for);
	return waited_for;
}

static PyObject *connection_endpoint(PyObject *object, const char *endpoint,
				     int (*what)(struct xenmsg *conn, const char *endpoint,
						 const struct xenmsg_options *options),
				     const struct xenmsg_options *options)
{
	struct connection *self = (struct connection *)object;
	struct xenmsg *conn = usable(object);
	PyThreadState *state;
	int r;

	if (!conn || !endpoint)
		return NULL;
	do {
		state = unlock(self->shared);
		r = what(conn, endpoint, options);
		lock(self->shared, state);
	} while (r == -EINTR && PyErr_CheckSignals() == 0 && (conn = usable(object)));
	return PyErr_Occurred() ? NULL : none_or_error(self->shared, r, endpoint);
}

static int bind_with(struct xenmsg *conn, const char *endpoint, const struct xenmsg_options *options)
{
	return xenmsg_bind(conn, endpoint, options, NULL, NULL);
}

static int unbind(struct xenmsg *conn, const char *endpoint, const struct xenmsg_options *options)
{
	return xenmsg_unbind(conn, endpoint);
}

static int listen_with(struct xenmsg *conn, const char *endpoint, const struct xenmsg_options *options)
{
	return xenmsg_listen(conn, endpoint, options);
}

bool read_bind(PyObject *arguments, PyObject **endpoint, unsigned *flags)
{
	int messages, calls, shared;

	if (!PyArg_ParseTuple(arguments, "Uppp", endpoint, &messages, &calls, &shared))
		return false;
	if (!messages && !calls) {
		PyErr_SetString(PyExc_ValueError, "an endpoint takes messages, calls, or both");
		return false;
	}
	*flags = (!calls      ? XENMSG_ONLY_MESSAGES
		  : !messages ? XENMSG_ONLY_CALLS
			      : 0) |
		 (shared ? XENMSG_SHARED : 0);
	return true;
}

bool read_listen(PyObject *arguments, PyObject **endpoint, unsigned *flags)
{
	int shared;

	if (!PyArg_ParseTuple(arguments, "Up", endpoint, &shared))
		return false;
	*flags = XENMSG_FROM_HOSTS | (shared ? XENMSG_SHARED : 0);
	return true;
}

PyObject *connection_bind(PyObject *object, PyObject *arguments)
{
	PyObject *endpoint;
	unsigned flags;

	return read_bind(arguments, &endpoint, &flags)
		       ? connection_endpoint(object, text_of(endpoint), bind_with, XENMSG_FLAGS(flags))
		       : NULL;
}

bool read_topic(PyObject *arguments, PyObject **endpoint, struct xenmsg_options *options)
{
	int retain;

	*options = *XENMSG_FLAGS(XENMSG_TOPIC | XENMSG_COUNT_LISTENERS);
	if (!PyArg_ParseTuple(arguments, "UpI", endpoint, &retain, &options->keys))
		return false;
	if (retain || options->keys)
		options->flags |= XENMSG_RETAIN;
	return true;
}

PyObject *connection_topic(PyObject *object, PyObject *arguments)
{
	struct xenmsg_options options;
	PyObject *endpoint;

	return read_topic(arguments, &endpoint, &options)
		       ? connection_endpoint(object, text_of(endpoint), bind_with, &options)
		       : NULL;
}

static int subscribe_with(struct xenmsg *conn, const char *address, const struct xenmsg_options *options)
{
	return xenmsg_subscribe(conn, address, options, NULL, NULL);
}

bool read_subscription(PyObject *arguments, PyObject **address, struct xenmsg_options *options)
{
	unsigned long queue;
	int keeps_oldest, is_pattern;

	if (!PyArg_ParseTuple(arguments, "Ukpp", address, &queue, &keeps_oldest, &is_pattern))
		return false;
	if (queue > XENMSG_QUEUE_MAX || (keeps_oldest && !queue)) {
		PyErr_SetString(PyExc_ValueError, "queue is up to 65535, and keep=\"oldest\" needs one");
		return false;
	}
	*options = *XENMSG_FLAGS((keeps_oldest ? XENMSG_KEEP_OLDEST : 0) | (is_pattern ? XENMSG_PATTERN : 0));
	options->queue = (unsigned)queue;
	return true;
}

PyObject *connection_subscribe(PyObject *object, PyObject *arguments)
{
	struct xenmsg_options options;
	PyObject *address;

	return read_subscription(arguments, &address, &options)
		       ? connection_endpoint(object, text_of(address), subscribe_with, &options)
		       : NULL;
}

PyObject *connection_unbind(PyObject *object, PyObject *endpoint)
{
	return connection_endpoint(object, text_of(endpoint), unbind, NULL);
}

static int drain(struct xenmsg *conn, const char *endpoint, const struct xenmsg_options *options)
{
	return xenmsg_drain(conn, endpoint, options);
}

PyObject *connection_drain(PyObject *object, PyObject *arguments)
{
	PyObject *endpoint;
	int timeout_ms;

	if (!PyArg_ParseTuple(arguments, "Ui", &endpoint, &timeout_ms))
		return NULL;
	return connection_endpoint(object, text_of(endpoint), drain, XENMSG_WITHIN(timeout_ms));
}

PyObject *connection_pause(PyObject *object, PyObject *ignored)
{
	struct xenmsg *conn = usable(object);

	return conn ? none_or_error(((struct connection *)object)->shared, xenmsg_pause(conn), NULL) : NULL;
}

PyObject *connection_resume(PyObject *object, PyObject *ignored)
{
	struct xenmsg *conn = usable(object);

	return conn ? none_or_error(((struct connection *)object)->shared, xenmsg_resume(conn), NULL) : NULL;
}

PyObject *connection_listen(PyObject *object, PyObject *arguments)
{
	PyObject *endpoint;
	unsigned flags;

	return read_listen(arguments, &endpoint, &flags)
		       ? connection_endpoint(object, text_of(endpoint), listen_with, XENMSG_FLAGS(flags))
		       : NULL;
}

PyObject *connection_recv(PyObject *object, PyObject *argument)
{
	struct connection *self = (struct connection *)object;
	struct xenmsg_message *message = NULL;
	long timeout = PyLong_AsLong(argument);
	unsigned noted = self->noted;
	struct xenmsg *conn;
	int r;

	if (PyErr_Occurred() || !(conn = usable(object)))
		return NULL;
	if (timeout == 0) {
		r = xenmsg_recv(conn, &message, 0);
	} else {
		PyThreadState *state = unlock(self->shared);

		r = xenmsg_recv(conn, &message, timeout > INT_MAX ? INT_MAX : (int)timeout);
		lock(self->shared, state);
	}
	if (self->noted != noted) /* process() hands that on */
		xenmsg_wake(conn);
	if (r == 0)
		return message_wrap(self->shared, message);
	if (r == -EINTR && PyErr_CheckSignals() < 0)
		return NULL;
	if (r == -EAGAIN || r == -ETIMEDOUT || r == -EINTR)
		Py_RETURN_NONE;
	return raise_error(self->shared, r, NULL);
}

/* post(address, data) and call_post(address, data) */
/* The trace, the time-out, whether it waits for the receiver, and the key, behind address and data, as far as
 * they are given. */
static int post_options(PyObject *const *arguments, Py_ssize_t count, struct xenmsg_options *options)
{
	long timeout = count > 3 ? PyLong_AsLong(arguments[3]) : -1;

	*options = *XENMSG_FLAGS(0);
	if (count < 2 || count > 6) {
		PyErr_SetString(PyExc_TypeError,
				"an address and data, a trace, a time-out, whether it waits, and a key");
		return -1;
	}
	if (count > 4 && arguments[4] == Py_True)
		options->flags = XENMSG_WAIT;
	if (timeout == -1 && PyErr_Occurred())
		return -1;
	if (timeout >= 0)
		options->timeout_ms = timeout > INT_MAX ? INT_MAX : (int)timeout;
	if (count > 2 && arguments[2] != Py_None && !(options->trace = text_of(arguments[2])))
		return -1;
	if (count > 5 && arguments[5] != Py_None && !(options->key = text_of(arguments[5])))
		return -1;
	return 0;
}

static PyObject *post(PyObject *object, PyObject *const *arguments, Py_ssize_t count, bool call)
{
	struct connection *self = (struct connection *)object;
	PyThreadState *state = NULL;
	struct outcome *outcome;
	struct xenmsg_options options;
	struct xenmsg *conn;
	const char *address;
	Py_buffer data;
	int r;

	if (post_options(arguments, count, &options) < 0)
		return NULL;
	address = text_of(arguments[0]);
	if (!address || PyObject_GetBuffer(arguments[1], &data, PyBUF_SIMPLE) < 0)
		return NULL;
	outcome = outcome_new(self, arguments[0]);
	conn = outcome ? usable(object) : NULL;
	if (!conn) {
		Py_XDECREF(outcome);
		PyBuffer_Release(&data);
		return NULL;
	}
	if (data.len > COPIED_WITH_GIL)
		state = unlock(self->shared);
	r = call ? xenmsg_begin_call(conn, address, data.buf, (size_t)data.len, &options, on_done, outcome,
				     &outcome->op)
		 : xenmsg_begin_send(conn, address, data.buf, (size_t)data.len, &options, on_done, outcome,
				     &outcome->op);
	if (r == 0)
		add_pending(self, outcome);
	if (state)
		lock(self->shared, state);
	PyBuffer_Release(&data);
	if (r == 0)
		return Py_NewRef((PyObject *)outcome);
	Py_DECREF(outcome);
	if (r == -EAGAIN)
		Py_RETURN_NONE;
	return raise_error(self->shared, r, address);
}

PyObject *connection_post(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
	return post(object, arguments, count, false);
}

PyObject *connection_call_post(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
	return post(object, arguments, count, true);
}

PyObject *connection_connect(PyObject *object, PyObject *arguments)
{
	struct connection *self = (struct connection *)object;
	struct xenmsg *conn;
	PyThreadState *state;
	const char *address;
	int timeout, r;

	if (!PyArg_ParseTuple(arguments, "si", &address, &timeout) || !(conn = usable(object)))
		return NULL;
	do {
		state = unlock(self->shared);
		r = xenmsg_connect(conn, address, XENMSG_WITHIN(timeout));
		lock(self->shared, state);
	} while (r == -EINTR && PyErr_CheckSignals() == 0 && (conn = usable(object)));
	if (PyErr_Occurred())
		return NULL;
	return r < 0 ? raise_error(self->shared, r, address) : PyLong_FromLong(r);
}

PyObject *connection_accept(PyObject *object, PyObject *argument)
{
	struct connection *self = (struct connection *)object;
	long timeout = PyLong_AsLong(argument);
	const struct xenmsg_peer *peer;
	char channel[XENMSG_NAME_SIZE];
	struct xenmsg *conn;
	PyThreadState *state;
	int r;

	if (PyErr_Occurred() || !(conn = usable(object)))
		return NULL;
	state = unlock(self->shared);
	r = xenmsg_accept(conn, XENMSG_WITHIN(timeout > INT_MAX ? INT_MAX : (int)timeout), &peer);
	lock(self->shared, state);
	if (r == -EINTR && PyErr_CheckSignals() < 0)
		return NULL;
	/* After -ECONNREFUSED, since the daemon hasn't answered, the stream waits on. */
	if (r == -EAGAIN || r == -ETIMEDOUT || r == -EINTR || r == -ECONNREFUSED)
		Py_RETURN_NONE;
	if (r < 0)
		return raise_error(self->shared, r, NULL);
	return Py_BuildValue("iIIIIssss", r, xenmsg_peer_domid(peer), xenmsg_peer_uid(peer),
			     xenmsg_peer_gid(peer), xenmsg_peer_pid(peer), xenmsg_peer_endpoint(peer),
			     xenmsg_peer_domain_name(peer), xenmsg_peer_host(peer),
			     xenmsg_peer_channel(peer, channel, sizeof(channel)) == 0 ? channel : "");
}

PyObject *connection_watch(PyObject *object, PyObject *argument)
{
	struct connection *self = (struct connection *)object;
	const char *pattern = text_of(argument);
	struct xenmsg *conn = usable(object);
	PyThreadState *state;
	int r;

	if (!conn || !pattern)
		return NULL;
	do {
		state = unlock(self->shared);
		r = xenmsg_watch(conn, pattern, NULL, on_event, self);
		lock(self->shared, state);
	} while (r == -EINTR && PyErr_CheckSignals() == 0 && (conn = usable(object)));
	return PyErr_Occurred() ? NULL : none_or_error(self->shared, r, pattern);
}

PyObject *connection_query(PyObject *object, PyObject *argument)
{
	struct connection *self = (struct connection *)object;
	const char *what = text_of(argument);
	struct xenmsg *conn = usable(object);
	PyThreadState *state;
	char *json = NULL;
	PyObject *text;
	int r;

	if (!conn || !what)
		return NULL;
	do {
		state = unlock(self->shared);
		r = xenmsg_query(conn, what, NULL, &json);
		lock(self->shared, state);
	} while (r == -EINTR && PyErr_CheckSignals() == 0 && (conn = usable(object)));
	if (PyErr_Occurred())
		return NULL;
	if (r < 0)
		return raise_error(self->shared, r, what);
	text = words_of(json);
	free(json);
	return text;
}

PyObject *connection_ping(PyObject *object, PyObject *arguments)
{
	struct connection *self = (struct connection *)object;
	struct xenmsg *conn;
	PyThreadState *state;
	const char *domain;
	uint64_t rtt_ns = 0;
	int timeout, r;

	if (!PyArg_ParseTuple(arguments, "si", &domain, &timeout) || !(conn = usable(object)))
		return NULL;
	do {
		state = unlock(self->shared);
		r = xenmsg_ping(conn, domain, XENMSG_WITHIN(timeout), &rtt_ns);
		lock(self->shared, state);
	} while (r == -EINTR && PyErr_CheckSignals() == 0 && (conn = usable(object)));
	if (PyErr_Occurred())
		return NULL;
	return r < 0 ? raise_error(self->shared, r, domain) : PyFloat_FromDouble((double)rtt_ns / 1e9);
}
