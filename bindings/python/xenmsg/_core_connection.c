/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Connections: their life and their methods, but those that hand on what the callbacks have noted. */

#include "_core.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <structmember.h>

/* Returns the connection that a method is about to use; NULL: raised. Called when the arguments have been
 * converted and what is needed was allocated, since either may run Python, which may close the connection. */
static struct xenmsg *usable(PyObject *object)
{
	struct connection *self = (struct connection *)object;

	if (check_usable(self->shared) < 0)
		return NULL;
	if (!self->shared->conn)
		raise_words(-ENOTCONN, "the connection is closed", NULL);
	return self->shared->conn;
}

/* Returns one for what is about to be begun, or NULL with an exception. */
static struct outcome *outcome_new(struct connection *self, PyObject *address)
{
	/* The collector may have taken it, and others may still begin something, which fails. */
	PyTypeObject *type = self->outcome_class ? (PyTypeObject *)self->outcome_class : &outcome_type;
	struct outcome *outcome = (struct outcome *)type->tp_alloc(type, 0);

	if (!outcome)
		return NULL;
	outcome->result.stream = -1;
	outcome->address = Py_NewRef(address);
	outcome->connection = (struct connection *)Py_NewRef((PyObject *)self);
	return outcome;
}

static void add_pending(struct connection *self, struct outcome *outcome)
{
	list_add(&self->pending, outcome);
	self->pending_count++;
}

static int begin_open(struct connection *self, PyObject *path, const struct xenmsg_options *options)
{
	const char *socket_path = path ? PyBytes_AS_STRING(path) : NULL;
	PyObject *address = PyUnicode_DecodeFSDefault(socket_path ? socket_path : "");
	struct outcome *outcome = address ? outcome_new(self, address) : NULL;
	int r = outcome ? xenmsg_begin_open(&self->shared->conn, socket_path, options, on_done, outcome)
			: -ENOMEM;

	Py_XDECREF(address);
	if (r == 0) {
		add_pending(self, outcome);
		self->opening = (struct outcome *)Py_NewRef((PyObject *)outcome);
	} else {
		Py_XDECREF(outcome);
	}
	return r;
}

static PyObject *connection_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
	static char *names[] = {"path", "outcome_class", "begin", "reconnect", "timeout_ms", NULL};
	int begin = 0, reconnect = 0;
	struct xenmsg_options options = {.size = sizeof(options), .timeout_ms = XENMSG_USUAL_MS};
	PyObject *given = Py_None, *path = NULL, *outcome_class = (PyObject *)&outcome_type;
	struct connection *self;
	struct shared *shared;
	PyThreadState *state;
	int r;

	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|OO!ppi", names, &given, &PyType_Type,
					 &outcome_class, &begin, &reconnect, &options.timeout_ms))
		return NULL;
	if (!PyType_IsSubtype((PyTypeObject *)outcome_class, &outcome_type)) {
		PyErr_SetString(PyExc_TypeError, "outcome_class is a subclass of Outcome");
		return NULL;
	}
	options.flags = reconnect ? XENMSG_RECONNECT : 0;
	if (given != Py_None && !PyUnicode_FSConverter(given, &path))
		return NULL;
	shared = calloc(1, sizeof(*shared));
	self = shared ? (struct connection *)type->tp_alloc(type, 0) : NULL;
	if (!self) {
		free(shared);
		Py_XDECREF(path);
		return PyErr_NoMemory();
	}
	shared->references = 1;
	shared->forks = forks;
	self->shared = shared;
	self->outcome_class = Py_NewRef(outcome_class);
	self->last_event = &self->events;
	self->last_change = &self->changes;
	if (begin) {
		r = begin_open(self, path, &options);
	} else {
		state = unlock(shared);
		r = xenmsg_open(&shared->conn, path ? PyBytes_AS_STRING(path) : NULL, &options);
		lock(shared, state);
	}
	if (r == 0)
		xenmsg_on_change(shared->conn, on_change, self);
	if (r < 0) {
		shared->conn = NULL;
		raise_words(r, xenmsg_reason(NULL, r), path ? PyBytes_AS_STRING(path) : NULL);
		Py_CLEAR(self);
	}
	Py_XDECREF(path);
	return (PyObject *)self;
}

/* Everything gets its outcome; somebody may still hand them on. */
static void shut(struct connection *self)
{
	struct shared *shared = self->shared;
	struct xenmsg *conn = shared->conn;
	/* An operation without an outcome here gets it in the process that began it. */
	const struct xenmsg_result elsewhere = {.error = -ECHILD,
						.fate = XENMSG_FATE_UNKNOWN,
						.reason = xenmsg_error_text(-ECHILD),
						.stream = -1};

	if (!conn || (shared->forks != forks && shared->busy))
		return;
	xenmsg_close(conn);
	shared->conn = NULL;
	while (self->pending.first)
		on_done(self->pending.first, &elsewhere);
}

static PyObject *connection_close(PyObject *object, PyObject *ignored)
{
	struct connection *self = (struct connection *)object;

	if (self->shared->forks == forks && check_usable(self->shared) < 0)
		return NULL;
	shut(self);
	return collect(self);
}

static int connection_traverse(PyObject *object, visitproc visit, void *arg)
{
	struct connection *self = (struct connection *)object;

	Py_VISIT(self->outcome_class);
	Py_VISIT(self->failed);
	Py_VISIT(self->opening);
	/* A thread in the library may change the list at any time. It holds a reference, so this is no
	 * garbage. */
	if (!self->shared->busy)
		for (struct outcome *outcome = self->pending.first; outcome; outcome = outcome->next)
			Py_VISIT(outcome);
	return 0;
}

static int connection_clear(PyObject *object)
{
	struct connection *self = (struct connection *)object;
	PyObject *waited_for;

	shut(self);
	waited_for = collect(self);
	Py_XDECREF(waited_for);
	PyErr_Clear();
	Py_CLEAR(self->outcome_class);
	Py_CLEAR(self->failed);
	Py_CLEAR(self->opening);
	return 0;
}

static void connection_dealloc(PyObject *object)
{
	struct connection *self = (struct connection *)object;
	PyObject *type, *value, *trace;

	PyObject_GC_UnTrack(object);
	if (self->weak_references)
		PyObject_ClearWeakRefs(object);
	PyErr_Fetch(&type, &value, &trace);
	connection_clear(object);
	PyErr_Restore(type, value, trace);
	forget_told(self);
	shared_release(self->shared);
	Py_TYPE(object)->tp_free(object);
}

static PyObject *connection_take_opening(PyObject *object, PyObject *ignored)
{
	struct connection *self = (struct connection *)object;
	struct outcome *opening = self->opening;

	self->opening = NULL;
	return opening ? (PyObject *)opening : Py_NewRef(Py_None);
}

/* Whether something has no outcome yet that nobody waits for. */
static bool has_unwatched(const struct connection *self)
{
	for (const struct outcome *outcome = self->pending.first; outcome; outcome = outcome->next)
		if (!outcome->waiter || outcome->waiter == Py_None)
			return true;
	return false;
}

static PyObject *connection_get(PyObject *object, void *closure)
{
	struct connection *self = (struct connection *)object;
	struct xenmsg *conn;

	switch ((uintptr_t)closure) {
	case 0:
		return PyBool_FromLong(!self->shared->conn);
	case 1:
		return PyLong_FromSize_t(self->pending_count);
	case 4:
		return PyBool_FromLong(has_unwatched(self));
	default:
		conn = usable(object);
		if (!conn)
			return NULL;
		return (uintptr_t)closure == 2 ? PyLong_FromUnsignedLong(xenmsg_domid(conn))
					       : PyLong_FromSize_t(xenmsg_max_message(conn));
	}
}

static PyObject *connection_sent_name(PyObject *object, PyObject *arguments)
{
	char name[XENMSG_NAME_SIZE];
	struct xenmsg *conn;
	const char *address;
	int is_call;

	if (!PyArg_ParseTuple(arguments, "sp", &address, &is_call) || !(conn = usable(object)))
		return NULL;
	if (xenmsg_sent_name(conn, address, is_call ? XENMSG_ONLY_CALLS : 0, name, sizeof(name)) < 0)
		Py_RETURN_NONE;
	return PyUnicode_FromString(name);
}

/* ---- what uses the library at once, or waits without the GIL ----------------------------------- */

static PyObject *connection_fileno(PyObject *object, PyObject *ignored)
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

static PyObject *connection_process(PyObject *object, PyObject *ignored)
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

static PyObject *connection_wait(PyObject *object, PyObject *argument)
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

static PyObject *connection_pause(PyObject *object, PyObject *ignored)
{
	struct xenmsg *conn = usable(object);

	return conn ? none_or_error(((struct connection *)object)->shared, xenmsg_pause(conn), NULL) : NULL;
}

static PyObject *connection_resume(PyObject *object, PyObject *ignored)
{
	struct xenmsg *conn = usable(object);

	return conn ? none_or_error(((struct connection *)object)->shared, xenmsg_resume(conn), NULL) : NULL;
}

static PyObject *connection_recv(PyObject *object, PyObject *argument)
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

static PyObject *connection_post(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
	return post(object, arguments, count, false);
}

static PyObject *connection_call_post(PyObject *object, PyObject *const *arguments, Py_ssize_t count)
{
	return post(object, arguments, count, true);
}

static PyObject *connection_accept(PyObject *object, PyObject *argument)
{
	struct connection *self = (struct connection *)object;
	long timeout = PyLong_AsLong(argument);
	const struct xenmsg_peer *peer;
	char channel[XENMSG_NAME_SIZE];
	PyObject *come;
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
	come = Py_BuildValue("iIIIINNNs", r, xenmsg_peer_domid(peer), xenmsg_peer_uid(peer),
			     xenmsg_peer_gid(peer), xenmsg_peer_pid(peer),
			     words_of(xenmsg_peer_endpoint(peer)), words_of(xenmsg_peer_domain_name(peer)),
			     words_of(xenmsg_peer_host(peer)),
			     xenmsg_peer_channel(peer, channel, sizeof(channel)) == 0 ? channel : "");
	if (!come)
		xenmsg_break(r); /* nobody gets it */
	return come;
}

/* ---- what is begun ---------------------------------------------------------------------------- */

typedef int (*beginner)(struct xenmsg *conn, const char *name, const struct xenmsg_options *options,
			xenmsg_done done, void *userdata, struct xenmsg_op **op);

/* Returns the Outcome. None of these waits, so they keep the GIL. */
static PyObject *begin(PyObject *object, PyObject *name, beginner what, const struct xenmsg_options *options)
{
	struct connection *self = (struct connection *)object;
	const char *text = text_of(name);
	struct outcome *outcome = text ? outcome_new(self, name) : NULL;
	struct xenmsg *conn = outcome ? usable(object) : NULL;
	int r;

	if (!conn) {
		Py_XDECREF(outcome);
		return NULL;
	}
	r = what(conn, text, options, on_done, outcome, &outcome->op);
	if (r < 0) {
		Py_DECREF(outcome);
		return raise_error(self->shared, r, text);
	}
	add_pending(self, outcome);
	return Py_NewRef((PyObject *)outcome);
}

static int begin_bind(struct xenmsg *conn, const char *name, const struct xenmsg_options *options,
		      xenmsg_done done, void *userdata, struct xenmsg_op **op)
{
	return xenmsg_begin_bind(conn, name, options, NULL, done, userdata, op);
}

static int begin_subscribe(struct xenmsg *conn, const char *name, const struct xenmsg_options *options,
			   xenmsg_done done, void *userdata, struct xenmsg_op **op)
{
	return xenmsg_begin_subscribe(conn, name, options, NULL, done, userdata, op);
}

static int begin_watch(struct xenmsg *conn, const char *name, const struct xenmsg_options *options,
		       xenmsg_done done, void *userdata, struct xenmsg_op **op)
{
	struct outcome *outcome = userdata;
	struct connection *self = outcome->connection;
	int r = self->watching ? -EBUSY
			       : xenmsg_begin_watch(conn, name, options, on_event, on_watched, self, op);

	if (r >= 0)
		self->watching = outcome;
	return r;
}

static PyObject *connection_begin_bind(PyObject *object, PyObject *arguments)
{
	int messages, calls, shared;
	PyObject *name;

	if (!PyArg_ParseTuple(arguments, "Uppp", &name, &messages, &calls, &shared))
		return NULL;
	if (!messages && !calls) {
		PyErr_SetString(PyExc_ValueError, "an endpoint takes messages, calls, or both");
		return NULL;
	}
	return begin(object, name, begin_bind,
		     XENMSG_FLAGS((!calls      ? XENMSG_ONLY_MESSAGES
				   : !messages ? XENMSG_ONLY_CALLS
					       : 0) |
				  (shared ? XENMSG_SHARED : 0)));
}

static PyObject *connection_begin_topic(PyObject *object, PyObject *arguments)
{
	struct xenmsg_options options = *XENMSG_FLAGS(XENMSG_TOPIC | XENMSG_COUNT_LISTENERS);
	PyObject *name;
	int retain;

	if (!PyArg_ParseTuple(arguments, "UpI", &name, &retain, &options.keys))
		return NULL;
	if (retain || options.keys)
		options.flags |= XENMSG_RETAIN;
	return begin(object, name, begin_bind, &options);
}

static PyObject *connection_begin_subscribe(PyObject *object, PyObject *arguments)
{
	struct xenmsg_options options = *XENMSG_FLAGS(0);
	int keeps_oldest, is_pattern;
	unsigned long queue;
	PyObject *name;

	if (!PyArg_ParseTuple(arguments, "Ukpp", &name, &queue, &keeps_oldest, &is_pattern))
		return NULL;
	if (queue > XENMSG_QUEUE_MAX || (keeps_oldest && !queue)) {
		PyErr_SetString(PyExc_ValueError, "queue is up to 65535, and keep=\"oldest\" needs one");
		return NULL;
	}
	options.flags = (keeps_oldest ? XENMSG_KEEP_OLDEST : 0) | (is_pattern ? XENMSG_PATTERN : 0);
	options.queue = (unsigned)queue;
	return begin(object, name, begin_subscribe, &options);
}

static PyObject *connection_begin_listen(PyObject *object, PyObject *arguments)
{
	PyObject *name;
	int shared;

	if (!PyArg_ParseTuple(arguments, "Up", &name, &shared))
		return NULL;
	return begin(object, name, xenmsg_begin_listen,
		     XENMSG_FLAGS(XENMSG_FROM_HOSTS | (shared ? XENMSG_SHARED : 0)));
}

static PyObject *connection_begin_watch(PyObject *object, PyObject *name)
{
	return begin(object, name, begin_watch, NULL);
}

static PyObject *connection_begin_query(PyObject *object, PyObject *name)
{
	return begin(object, name, xenmsg_begin_query, NULL);
}

/* Of a name, a time-out and, if it is there, whether it waits for the receiver. */
static PyObject *begin_within(PyObject *object, PyObject *arguments, beginner what)
{
	int timeout_ms, waits = 0;
	PyObject *name;

	if (!PyArg_ParseTuple(arguments, "Ui|p", &name, &timeout_ms, &waits))
		return NULL;
	return begin(object, name, what, XENMSG_WITH(timeout_ms, waits ? XENMSG_WAIT : 0));
}

static PyObject *connection_begin_ping(PyObject *object, PyObject *arguments)
{
	return begin_within(object, arguments, xenmsg_begin_ping);
}

static PyObject *connection_begin_drain(PyObject *object, PyObject *arguments)
{
	return begin_within(object, arguments, xenmsg_begin_drain);
}

static PyObject *connection_begin_connect(PyObject *object, PyObject *arguments)
{
	return begin_within(object, arguments, xenmsg_begin_connect);
}

/* ---- the type --------------------------------------------------------------------------------- */

static PyGetSetDef connection_properties[] = {
	{"closed", connection_get, NULL, "Whether close() was called.", (void *)0},
	{"pending", connection_get, NULL, "How many posted messages and calls have no outcome yet.",
	 (void *)1},
	{"unwatched", connection_get, NULL, "Whether one of them is such that nobody waits for it.",
	 (void *)4},
	{"domid", connection_get, NULL, "The domain that this program runs in, as the daemon says.",
	 (void *)2},
	{"max_message", connection_get, NULL,
	 "The largest message that the local daemon lets pass, in bytes.", (void *)3},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef connection_members[] = {
	{"listeners", T_ULONGLONG, offsetof(struct connection, listeners), READONLY,
	 "How many subscribe to its topic, as the daemon has told."},
	{"__weaklistoffset__", T_PYSSIZET, offsetof(struct connection, weak_references), READONLY, NULL},
	{NULL, 0, 0, 0, NULL},
};

#define FAST(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef connection_methods[] = {
	{"close", connection_close, METH_NOARGS,
	 "Ends everything; returns the outcomes for which somebody waits."},
	{"fileno", connection_fileno, METH_NOARGS, "What a loop watches for reading."},
	{"process", connection_process, METH_NOARGS,
	 "xenmsg_process(); returns the outcomes for which somebody waits."},
	{"wait", connection_wait, METH_O, "xenmsg_wait(timeout_ms), likewise."},
	{"take_failed", connection_take_failed, METH_NOARGS,
	 "The first outcome that has failed and that nobody has seen."},
	{"take_withdrawn", connection_take_withdrawn, METH_NOARGS,
	 "Whether a call was withdrawn since this was last asked."},
	{"sent_name", connection_sent_name, METH_VARARGS,
	 "sent_name(address, is_call): what was sent there last is called in traces, or None"},
	{"pause", connection_pause, METH_NOARGS, "Takes no messages until resume()."},
	{"resume", connection_resume, METH_NOARGS, "Ends pause()."},
	{"recv", connection_recv, METH_O,
	 "recv(timeout_ms): a Message, or None: none there, the time is up, or a signal came"},
	{"post", FAST(connection_post), METH_FASTCALL,
	 "post(address, data, trace=None, timeout_ms=-1, wait=False, key=None): an Outcome, or None: no room now"},
	{"call_post", FAST(connection_call_post), METH_FASTCALL,
	 "call_post(address, data, trace=None, timeout_ms=-1, wait=False): the same for a call"},
	{"accept", connection_accept, METH_O,
	 "accept(timeout_ms): (descriptor, domid, uid, gid, pid, endpoint, domain_name), or None as recv()"},
	{"event", connection_event, METH_NOARGS, "The next event (kind, domid, name, domain_name), or None."},
	{"change", connection_change, METH_NOARGS,
	 "The next change (kind, errno, endpoint, reason), or None."},
	{"take_opening", connection_take_opening, METH_NOARGS,
	 "The Outcome of opening it, if that was begun and nobody has taken it."},
	{"begin_bind", connection_begin_bind, METH_VARARGS,
	 "begin_bind(endpoint, messages, calls, shared): an Outcome"},
	{"begin_topic", connection_begin_topic, METH_VARARGS,
	 "begin_topic(endpoint, retain, keys): an Outcome"},
	{"begin_subscribe", connection_begin_subscribe, METH_VARARGS,
	 "begin_subscribe(address, queue, keeps_oldest, is_pattern): an Outcome"},
	{"begin_listen", connection_begin_listen, METH_VARARGS, "begin_listen(endpoint, shared): an Outcome"},
	{"begin_watch", connection_begin_watch, METH_O, "begin_watch(pattern): an Outcome; one at a time"},
	{"begin_query", connection_begin_query, METH_O, "begin_query(what): an Outcome, of JSON text"},
	{"begin_ping", connection_begin_ping, METH_VARARGS,
	 "begin_ping(domain, timeout_ms): an Outcome, of seconds"},
	{"begin_drain", connection_begin_drain, METH_VARARGS,
	 "begin_drain(endpoint, timeout_ms): an Outcome"},
	{"begin_connect", connection_begin_connect, METH_VARARGS,
	 "begin_connect(address, timeout_ms, wait): an Outcome, of a descriptor"},
	{NULL, NULL, 0, NULL},
};

PyTypeObject connection_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "xenmsg._core.Connection",
	.tp_doc = "A struct xenmsg.",
	.tp_basicsize = sizeof(struct connection),
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
	.tp_new = connection_new,
	.tp_dealloc = connection_dealloc,
	.tp_traverse = connection_traverse,
	.tp_clear = connection_clear,
	.tp_weaklistoffset = offsetof(struct connection, weak_references),
	.tp_members = connection_members,
	.tp_getset = connection_properties,
	.tp_methods = connection_methods,
};
