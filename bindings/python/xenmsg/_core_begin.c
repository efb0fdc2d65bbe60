/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Methods of connections that begin something, for programs with a loop. */

#include "_core.h"

#include <errno.h>

/* How it is to be begun. */
struct asked {
	int timeout_ms;
	unsigned flags, keys, queue;
};

typedef int (*beginner)(struct xenmsg *conn, const char *name, const struct asked *asked,
			struct outcome *outcome);

/* Returns the Outcome. None of these waits, so they keep the GIL. */
static PyObject *begin(PyObject *object, PyObject *name, beginner what, const struct asked *asked)
{
	struct connection *self = (struct connection *)object;
	const char *text = text_of(name);
	struct xenmsg *conn = text ? usable(object) : NULL;
	struct outcome *outcome = conn ? outcome_new(self, name) : NULL;
	int r;

	if (!outcome)
		return NULL;
	r = what(conn, text, asked, outcome);
	if (r < 0) {
		Py_DECREF(outcome);
		return raise_error(self->shared, r, text);
	}
	add_pending(self, outcome);
	return Py_NewRef((PyObject *)outcome);
}

static int begin_bind(struct xenmsg *conn, const char *name, const struct asked *asked,
		      struct outcome *outcome)
{
	struct xenmsg_options options = *XENMSG_FLAGS(asked->flags);

	options.keys = asked->keys;
	return xenmsg_begin_bind(conn, name, &options, NULL, on_done, outcome, &outcome->op);
}

static int begin_subscribe(struct xenmsg *conn, const char *name, const struct asked *asked,
			   struct outcome *outcome)
{
	struct xenmsg_options options = *XENMSG_FLAGS(asked->flags);

	options.queue = asked->queue;
	return xenmsg_begin_subscribe(conn, name, &options, NULL, on_done, outcome, &outcome->op);
}

static int begin_listen(struct xenmsg *conn, const char *name, const struct asked *asked,
			struct outcome *outcome)
{
	return xenmsg_begin_listen(conn, name, XENMSG_FLAGS(asked->flags), on_done, outcome, &outcome->op);
}

static int begin_watch(struct xenmsg *conn, const char *name, const struct asked *asked,
		       struct outcome *outcome)
{
	struct connection *connection = outcome->connection;
	int r = connection->watching ? -EBUSY
				     : xenmsg_begin_watch(conn, name, NULL, on_event, on_watched, connection,
							  &outcome->op);

	if (r >= 0)
		connection->watching = outcome;
	return r;
}

static int begin_query(struct xenmsg *conn, const char *name, const struct asked *asked,
		       struct outcome *outcome)
{
	return xenmsg_begin_query(conn, name, NULL, on_done, outcome, &outcome->op);
}

static int begin_ping(struct xenmsg *conn, const char *name, const struct asked *asked,
		      struct outcome *outcome)
{
	return xenmsg_begin_ping(conn, name, XENMSG_WITHIN(asked->timeout_ms), on_done, outcome,
				 &outcome->op);
}

static int begin_connect(struct xenmsg *conn, const char *name, const struct asked *asked,
			 struct outcome *outcome)
{
	return xenmsg_begin_connect(conn, name, XENMSG_WITH(asked->timeout_ms, asked->flags), on_done,
				    outcome, &outcome->op);
}

static int begin_drain(struct xenmsg *conn, const char *name, const struct asked *asked,
		       struct outcome *outcome)
{
	return xenmsg_begin_drain(conn, name, XENMSG_WITHIN(asked->timeout_ms), on_done, outcome,
				  &outcome->op);
}

PyObject *connection_begin_bind(PyObject *object, PyObject *arguments)
{
	struct asked asked = {0};
	PyObject *name;

	return read_bind(arguments, &name, &asked.flags) ? begin(object, name, begin_bind, &asked) : NULL;
}

PyObject *connection_begin_topic(PyObject *object, PyObject *arguments)
{
	struct xenmsg_options options;
	PyObject *name;

	return read_topic(arguments, &name, &options)
		       ? begin(object, name, begin_bind,
			       &(const struct asked){.flags = options.flags, .keys = options.keys})
		       : NULL;
}

PyObject *connection_begin_subscribe(PyObject *object, PyObject *arguments)
{
	struct xenmsg_options options;
	PyObject *name;

	return read_subscription(arguments, &name, &options)
		       ? begin(object, name, begin_subscribe,
			       &(const struct asked){.flags = options.flags, .queue = options.queue})
		       : NULL;
}

PyObject *connection_begin_listen(PyObject *object, PyObject *arguments)
{
	struct asked asked = {0};
	PyObject *name;

	return read_listen(arguments, &name, &asked.flags) ? begin(object, name, begin_listen, &asked) : NULL;
}

PyObject *connection_begin_watch(PyObject *object, PyObject *name)
{
	return begin(object, name, begin_watch, NULL);
}

PyObject *connection_begin_query(PyObject *object, PyObject *name)
{
	return begin(object, name, begin_query, NULL);
}

static PyObject *begin_within(PyObject *object, PyObject *arguments, beginner what)
{
	struct asked asked = {0};
	PyObject *name;

	if (!PyArg_ParseTuple(arguments, "Ui", &name, &asked.timeout_ms))
		return NULL;
	return begin(object, name, what, &asked);
}

PyObject *connection_begin_ping(PyObject *object, PyObject *arguments)
{
	return begin_within(object, arguments, begin_ping);
}

PyObject *connection_begin_drain(PyObject *object, PyObject *arguments)
{
	return begin_within(object, arguments, begin_drain);
}

PyObject *connection_begin_connect(PyObject *object, PyObject *arguments)
{
	struct asked asked = {0};
	PyObject *name;
	int waits;

	if (!PyArg_ParseTuple(arguments, "Uip", &name, &asked.timeout_ms, &waits))
		return NULL;
	asked.flags = waits ? XENMSG_WAIT : 0;
	return begin(object, name, begin_connect, &asked);
}
