/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Connections: their life, and the table of their methods. */

#include "_core.h"

#include <errno.h>
#include <stdlib.h>
#include <structmember.h>

struct xenmsg *usable(PyObject *object)
{
	struct connection *self = (struct connection *)object;

	if (check_usable(self->shared) < 0)
		return NULL;
	if (!self->shared->conn)
		raise_words(-ENOTCONN, "the connection is closed", NULL);
	return self->shared->conn;
}

struct outcome *outcome_new(struct connection *self, PyObject *address)
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

void add_pending(struct connection *self, struct outcome *outcome)
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
	static char *names[] = {"path", "outcome_class", "begin", "reconnect", NULL};
	int begin = 0, reconnect = 0;
	struct xenmsg_options options = {.size = sizeof(options), .timeout_ms = XENMSG_USUAL_MS};
	PyObject *given = Py_None, *path = NULL, *outcome_class = (PyObject *)&outcome_type;
	struct connection *self;
	struct shared *shared;
	PyThreadState *state;
	int r;

	if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|OO!pp", names, &given, &PyType_Type,
					 &outcome_class, &begin, &reconnect))
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
	struct xenmsg *conn = usable(object);
	char name[XENMSG_NAME_SIZE];
	const char *address;
	int is_call;

	if (!conn || !PyArg_ParseTuple(arguments, "sp", &address, &is_call))
		return NULL;
	if (xenmsg_sent_name(conn, address, is_call ? XENMSG_ONLY_CALLS : 0, name, sizeof(name)) < 0)
		Py_RETURN_NONE;
	return PyUnicode_FromString(name);
}

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
	{"bind", connection_bind, METH_VARARGS, "bind(endpoint, messages, calls, shared)"},
	{"topic", connection_topic, METH_VARARGS, "topic(endpoint, retain, keys)"},
	{"subscribe", connection_subscribe, METH_VARARGS,
	 "subscribe(address, queue, keeps_oldest, is_pattern)"},
	{"unbind", connection_unbind, METH_O, "unbind(endpoint)"},
	{"drain", connection_drain, METH_VARARGS, "drain(endpoint, timeout_ms)"},
	{"pause", connection_pause, METH_NOARGS, "Takes no messages until resume()."},
	{"resume", connection_resume, METH_NOARGS, "Ends pause()."},
	{"recv", connection_recv, METH_O,
	 "recv(timeout_ms): a Message, or None: none there, the time is up, or a signal came"},
	{"post", FAST(connection_post), METH_FASTCALL,
	 "post(address, data, trace=None, timeout_ms=-1, wait=False, key=None): an Outcome, or None: no room now"},
	{"call_post", FAST(connection_call_post), METH_FASTCALL,
	 "call_post(address, data, trace=None, timeout_ms=-1, wait=False): the same for a call"},
	{"connect", connection_connect, METH_VARARGS, "connect(address, timeout_ms): a descriptor"},
	{"listen", connection_listen, METH_VARARGS, "listen(endpoint, shared)"},
	{"accept", connection_accept, METH_O,
	 "accept(timeout_ms): (descriptor, domid, uid, gid, pid, endpoint, domain_name), or None as recv()"},
	{"watch", connection_watch, METH_O, "watch(pattern)"},
	{"event", connection_event, METH_NOARGS, "The next event (kind, domid, name, domain_name), or None."},
	{"change", connection_change, METH_NOARGS,
	 "The next change (kind, errno, endpoint, reason), or None."},
	{"query", connection_query, METH_O, "query(what): JSON text"},
	{"ping", connection_ping, METH_VARARGS, "ping(domain, timeout_ms): seconds"},
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
