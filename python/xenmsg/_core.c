/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * xenmsg._core: libxenmsg as Python sees it, one method for one function. What waits, retries and awaits is in
 * Python, in blocking.py and aio.py.
 *
 * No Python runs within the library's callbacks: they note what has come, and the method that has called the
 * library hands it on when the library has returned. So nothing calls back into a connection from within, no
 * exception is lost in C, and the callbacks need no GIL.
 *
 * Threads: a connection and its messages belong to one thread at a time (xenmsg.h). The GIL sees to that but
 * where a method gives it up to wait: meanwhile the connection is `busy`, other methods raise, and messages that
 * are dropped are freed later.
 *
 * Fork: in a child what uses a connection of its parent's raises ECHILD, as the library has it. It is asked for here, since a thread
 * that was in the library at the fork left it in a state in which the child may not even free it.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <structmember.h>
#include <unistd.h>

#include "xenmsg.h"

#define COPIED_WITH_GIL 65536 /* bytes; more are copied while other threads run */

static PyTypeObject message_type, outcome_type, connection_type;
static PyObject *make_error; /* of _errors.py */
static unsigned forks;	     /* how many lie between the first process and this one */

static void count_fork(void)
{
	forks++;
}

/* ---- what a connection and its messages share ------------------------------------------------- */

/* Lives until the connection and all of its messages are gone. */
struct shared {
	size_t references;
	struct xenmsg *conn;		 /* NULL: closed */
	bool busy;			 /* a thread is in the library without the GIL */
	bool withdrawn;			 /* some call was, since take_withdrawn() */
	unsigned forks;			 /* as it was when this was opened */
	struct xenmsg_message **dropped; /* while it was busy */
	size_t dropped_count, dropped_capacity;
};

static void shared_release(struct shared *shared)
{
	if (--shared->references > 0)
		return;
	free(shared->dropped);
	free(shared);
}

/* What isn't a message or call has failed: the error says what is known. */
#define FATE_OF_ERROR (-1)

/* Raises xenmsg.Error(errno, reason, fate, address, code, exit_status, data). `reason`, `address` and `data` may be NULL. */
static PyObject *raise_result(const struct xenmsg_result *result, int fate, const char *address,
			      PyObject *data)
{
	PyObject *exception = PyObject_CallFunction(make_error, "isizIiO",
						    result->error < 0 ? -result->error : result->error,
						    result->reason ? result->reason : "", fate, address,
						    result->code, result->exit_status, data ? data : Py_None);

	if (exception) {
		PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
		Py_DECREF(exception);
	}
	return NULL;
}

static PyObject *raise_words(int error, const char *reason, const char *address)
{
	const struct xenmsg_result result = {.error = error, .reason = reason};

	return raise_result(&result, FATE_OF_ERROR, address, NULL);
}

static int check_usable(const struct shared *shared)
{
	if (shared->forks != forks) {
		raise_words(-ECHILD, "the connection was opened before fork(), by another process", NULL);
		return -1;
	}
	if (shared->busy) {
		PyErr_SetString(PyExc_RuntimeError, "the connection is in use by another thread");
		return -1;
	}
	return 0;
}

static void drop_message(struct shared *shared, struct xenmsg_message *message)
{
	if (shared->forks != forks && shared->busy)
		return;
	if (!shared->busy) {
		xenmsg_message_free(message);
		return;
	}
	if (shared->dropped_count == shared->dropped_capacity) {
		size_t capacity = shared->dropped_capacity ? shared->dropped_capacity * 2 : 16;
		struct xenmsg_message **dropped = realloc(shared->dropped, capacity * sizeof(*dropped));

		if (!dropped)
			return; /* lost: freeing it now would be worse */
		shared->dropped = dropped;
		shared->dropped_capacity = capacity;
	}
	shared->dropped[shared->dropped_count++] = message;
}

/* Between these, the library runs without the GIL. */
static PyThreadState *unlock(struct shared *shared)
{
	shared->busy = true;
	return PyEval_SaveThread();
}

static void lock(struct shared *shared, PyThreadState *state)
{
	PyEval_RestoreThread(state);
	shared->busy = false;
	while (shared->dropped_count > 0)
		xenmsg_message_free(shared->dropped[--shared->dropped_count]);
}

/* ---- errors ----------------------------------------------------------------------------------- */

static PyObject *raise_error(struct shared *shared, int error, const char *address)
{
	if (error == -ENOMEM)
		return PyErr_NoMemory();
	return raise_words(error, shared->conn ? xenmsg_reason(shared->conn) : "", address);
}

static PyObject *none_or_error(struct shared *shared, int result, const char *address)
{
	if (result < 0)
		return raise_error(shared, result, address);
	Py_RETURN_NONE;
}

/* Text for the library; NULL: raised. */
static const char *text_of(PyObject *object)
{
	Py_ssize_t size;
	const char *text = PyUnicode_AsUTF8AndSize(object, &size);

	if (text && strlen(text) != (size_t)size) {
		PyErr_SetString(PyExc_ValueError, "embedded null character");
		return NULL;
	}
	return text;
}

/* ---- messages --------------------------------------------------------------------------------- */

struct message {
	PyObject_HEAD struct shared *shared;
	struct xenmsg_message *message;
	bool owed; /* it is a call that wasn't answered here */
};

/* Runs without the GIL, so it touches no message: who has one looks at its `withdrawn`. */
static void note_withdrawn(void *userdata, struct xenmsg_message *message)
{
	((struct shared *)userdata)->withdrawn = true;
}

/* Takes over the message, also if it fails. */
static PyObject *message_wrap(struct shared *shared, struct xenmsg_message *message)
{
	struct message *self = PyObject_New(struct message, &message_type);

	if (!self) {
		drop_message(shared, message);
		return NULL;
	}
	self->message = message;
	self->owed = xenmsg_message_wants_reply(message);
	if (self->owed && xenmsg_message_on_withdrawn(message, note_withdrawn, shared) < 0)
		shared->withdrawn = true;
	self->shared = shared;
	shared->references++;
	return (PyObject *)self;
}

static void message_dealloc(PyObject *object)
{
	struct message *self = (struct message *)object;

	drop_message(self->shared, self->message);
	shared_release(self->shared);
	PyObject_Free(self);
}

/* Read-only: several may look at it. */
static int message_get_buffer(PyObject *object, Py_buffer *view, int flags)
{
	struct xenmsg_message *message = ((struct message *)object)->message;

	return PyBuffer_FillInfo(view, object, xenmsg_message_data(message),
				 (Py_ssize_t)xenmsg_message_size(message), 1, flags);
}

static Py_ssize_t message_length(PyObject *object)
{
	return (Py_ssize_t)xenmsg_message_size(((struct message *)object)->message);
}

static int message_bool(PyObject *object)
{
	return 1;
}

static PyObject *message_data(PyObject *object, void *closure)
{
	return PyMemoryView_FromObject(object);
}

static PyObject *message_endpoint(PyObject *object, void *closure)
{
	return PyUnicode_FromString(xenmsg_message_endpoint(((struct message *)object)->message));
}

static const struct xenmsg_peer *sender_of(PyObject *message)
{
	return xenmsg_message_sender(((struct message *)message)->message);
}

static PyObject *message_sender_name(PyObject *object, void *closure)
{
	const char *name = xenmsg_peer_domain_name(sender_of(object));

	return PyUnicode_DecodeUTF8(name, (Py_ssize_t)strlen(name), "replace");
}

static PyObject *message_sender_host(PyObject *object, void *closure)
{
	const char *host = xenmsg_peer_host(sender_of(object));

	return PyUnicode_DecodeUTF8(host, (Py_ssize_t)strlen(host), "replace");
}

typedef uint32_t (*peer_number)(const struct xenmsg_peer *peer);

static PyObject *message_sender(PyObject *object, void *closure)
{
	static const peer_number numbers[] = {xenmsg_peer_domid, xenmsg_peer_uid, xenmsg_peer_gid,
					      xenmsg_peer_pid};

	return PyLong_FromUnsignedLong(numbers[(uintptr_t)closure](sender_of(object)));
}

static PyObject *message_wants_reply(PyObject *object, void *closure)
{
	struct message *self = (struct message *)object;

	if (check_usable(self->shared) < 0)
		return NULL;
	return PyBool_FromLong(xenmsg_message_wants_reply(self->message));
}

/* True for a call whose caller has gone, while a handler is at work on it. */
static PyObject *message_withdrawn(PyObject *object, void *closure)
{
	struct message *self = (struct message *)object;

	if (check_usable(self->shared) < 0)
		return NULL;
	return PyBool_FromLong(self->owed && !xenmsg_message_wants_reply(self->message));
}

static PyObject *after_reply(struct message *self, int r)
{
	if (r == 0)
		self->owed = false;
	return r == -ENOMEM ? PyErr_NoMemory() : r < 0 ? raise_words(r, NULL, NULL) : Py_NewRef(Py_None);
}

static PyObject *message_reply(PyObject *object, PyObject *argument)
{
	struct message *self = (struct message *)object;
	Py_buffer data;
	int r;

	if (PyObject_GetBuffer(argument, &data, PyBUF_SIMPLE) < 0)
		return NULL;
	if (check_usable(self->shared) < 0) {
		PyBuffer_Release(&data);
		return NULL;
	}
	if (data.len > COPIED_WITH_GIL) {
		PyThreadState *state = unlock(self->shared);

		r = xenmsg_reply(self->message, data.buf, (size_t)data.len);
		lock(self->shared, state);
	} else {
		r = xenmsg_reply(self->message, data.buf, (size_t)data.len);
	}
	PyBuffer_Release(&data);
	return after_reply(self, r);
}

static PyObject *message_reply_error(PyObject *object, PyObject *arguments)
{
	struct message *self = (struct message *)object;
	unsigned int code;
	Py_buffer data = {.buf = NULL};
	int r;

	if (!PyArg_ParseTuple(arguments, "I|y*", &code, &data))
		return NULL;
	r = check_usable(self->shared);
	if (r == 0)
		r = xenmsg_reply_error(self->message, code, data.buf, (size_t)data.len);
	else
		r = 1;
	PyBuffer_Release(&data);
	return r > 0 ? NULL : after_reply(self, r);
}

static PyObject *message_reply_exit_status(PyObject *object, PyObject *argument)
{
	struct message *self = (struct message *)object;
	long status = PyLong_AsLong(argument);
	int r;

	if (PyErr_Occurred() || check_usable(self->shared) < 0)
		return NULL;
	r = xenmsg_reply_exit_status(self->message, status > 0 && status < 256 ? (int)status : 0);
	return after_reply(self, r);
}

static PyObject *message_repr(PyObject *object)
{
	struct xenmsg_message *message = ((struct message *)object)->message;

	return PyUnicode_FromFormat(
		"<xenmsg.Message to %s from domain %u, %zu bytes>", xenmsg_message_endpoint(message),
		(unsigned)xenmsg_peer_domid(xenmsg_message_sender(message)), xenmsg_message_size(message));
}

static PyObject *message_time_left(PyObject *object, void *closure)
{
	int left = xenmsg_message_time_left(((struct message *)object)->message);

	return left < 0 ? Py_NewRef(Py_None) : PyFloat_FromDouble(left / 1e3);
}

static PyObject *message_trace(PyObject *object, void *closure)
{
	return PyUnicode_FromString(xenmsg_message_trace(((struct message *)object)->message));
}

static PyObject *message_key(PyObject *object, void *closure)
{
	return PyUnicode_FromString(xenmsg_message_key(((struct message *)object)->message));
}

static PyObject *message_notice(PyObject *object, void *closure)
{
	const struct xenmsg_notice *notice = xenmsg_message_notice(((struct message *)object)->message);

	return notice ? Py_BuildValue("(iiKN)", (int)notice->kind, -notice->error,
				      (unsigned long long)notice->count, PyBool_FromLong(notice->unknown))
		      : Py_NewRef(Py_None);
}

static PyGetSetDef message_properties[] = {
	{"data", message_data, NULL,
	 "The payload, a read-only memoryview of the message itself: nothing is copied.", NULL},
	{"endpoint", message_endpoint, NULL, "The endpoint that it was sent to.", NULL},
	{"sender_domid", message_sender, NULL, "The sender's domain, as the hypervisor says.", (void *)0},
	{"sender_uid", message_sender, NULL,
	 "The sender's uid, as his daemon says; worth what that domain is worth.", (void *)1},
	{"sender_gid", message_sender, NULL, "The sender's gid, likewise.", (void *)2},
	{"sender_pid", message_sender, NULL, "The sender's process, likewise.", (void *)3},
	{"sender_name", message_sender_name, NULL, "The sender's domain by name, \"\" if unknown.", NULL},
	{"sender_host", message_sender_host, NULL, "The sender's host by name, \"\" for this one.", NULL},
	{"time_left", message_time_left, NULL,
	 "For how many seconds the answer to a call is still wanted, as its caller's time-out says; None: that isn't known.",
	 NULL},
	{"trace", message_trace, NULL,
	 "The trace that its sender has given, as trustworthy as the sender; \"\" if there is none.", NULL},
	{"key", message_key, NULL,
	 "Of what comes from a topic: whose value it is, as its publisher says; \"\" if nobody's.", NULL},
	{"notice", message_notice, NULL,
	 "Of a topic: None, or it is no message, but tells (kind, errno, count, unknown).", NULL},
	{"wants_reply", message_wants_reply, NULL,
	 "Whether it is a call, and somebody still waits for its answer.", NULL},
	{"withdrawn", message_withdrawn, NULL,
	 "Whether it is a call that wasn't answered, and nobody waits for its answer any more, as far as was read.",
	 NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef message_methods[] = {
	{"reply", message_reply, METH_O,
	 "reply(data)\n--\n\nAnswers the call with bytes, which are copied. Raises Error: EALREADY (answered before), "
	 "ECANCELED (nobody waits for it any more), EINVAL (no call), EMSGSIZE, EAGAIN (the caller doesn't read; the "
	 "endpoint's reply() waits for him), ENOTCONN."},
	{"reply_error", message_reply_error, METH_VARARGS,
	 "reply_error(code, data=b'')\n--\n\nAnswers the call with an error of the program's own, 1 to 65535: the caller's call() raises "
	 "Answered with this code and these data. Raises as reply(), and EINVAL for another code."},
	{"reply_exit_status", message_reply_exit_status, METH_O,
	 "reply_exit_status(status)\n--\n\nAnswers the call with the code EIO and the exit status, 1 to 255, of the command that was "
	 "run for it, which is exit_status of the caller's Error. Raises as reply(), and EINVAL for another status."},
	{NULL, NULL, 0, NULL},
};

static PyBufferProcs message_buffer = {message_get_buffer, NULL};
static PySequenceMethods message_sequence = {.sq_length = message_length};
static PyNumberMethods message_number_methods = {.nb_bool = message_bool};

static PyTypeObject message_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "xenmsg.Message",
	.tp_doc =
		"A received message, or the reply to a call. It is a bytes-like object: bytes(message) copies it, "
		"message.data is a memoryview of it. Freed with the last reference to it or to its data; a call that "
		"wasn't answered by then is answered with ECANCELED.",
	.tp_basicsize = sizeof(struct message),
	.tp_flags = Py_TPFLAGS_DEFAULT,
	.tp_dealloc = message_dealloc,
	.tp_repr = message_repr,
	.tp_as_buffer = &message_buffer,
	.tp_as_sequence = &message_sequence,
	.tp_as_number = &message_number_methods,
	.tp_getset = message_properties,
	.tp_methods = message_methods,
};

/* ---- outcomes --------------------------------------------------------------------------------- */

struct connection;

/* What was begun. Until it has ended, the connection holds a reference and is in `connection`. */
struct outcome {
	PyObject_HEAD struct connection *connection;
	struct outcome *prev, *next; /* of those that have not ended, or have and are to be handed on */
	PyObject *address;
	PyObject *waiter;		  /* whatever Python wants to be told with */
	PyObject *reply;		  /* Message */
	struct xenmsg_message *raw_reply; /* as it came, until there is the GIL */
	struct xenmsg_op *op;		  /* valid until it has ended; NULL: it can't be withdrawn */
	struct xenmsg_result result;	  /* `reason` is ours; its reply is in `raw_reply`, then in `reply` */
	bool ended, seen;
};

struct list {
	struct outcome *first, *last;
};

static void list_add(struct list *list, struct outcome *outcome)
{
	outcome->prev = list->last;
	outcome->next = NULL;
	if (list->last)
		list->last->next = outcome;
	else
		list->first = outcome;
	list->last = outcome;
}

static void list_remove(struct list *list, struct outcome *outcome)
{
	if (outcome->prev)
		outcome->prev->next = outcome->next;
	else
		list->first = outcome->next;
	if (outcome->next)
		outcome->next->prev = outcome->prev;
	else
		list->last = outcome->prev;
	outcome->prev = outcome->next = NULL;
}

/* An event of a watch that has come. */
struct event {
	struct event *next;
	enum xenmsg_event_kind kind;
	uint32_t domid;
	char *domain_name, *host; /* in `name`, behind its end */
	char name[];
};

/* What has happened to a connection that outlives its daemon. */
struct change {
	struct change *next;
	struct xenmsg_change told;
	char *reason; /* in `endpoint`, behind its end */
	char endpoint[];
};

struct connection {
	PyObject_HEAD struct shared *shared;
	PyObject *outcome_class; /* what post() makes: a subclass of Outcome */
	struct list pending, ended;
	size_t pending_count;
	struct outcome *opening;  /* of the connection itself, until it is taken */
	struct outcome *watching; /* of the watch that was begun last, until it has ended */
	PyObject *failed;	  /* the first Outcome with an error that nobody has looked at */
	struct event *events, **last_event;
	bool events_lost;
	struct change *changes, **last_change;
	unsigned noted;		      /* how much the callbacks have noted: to see whether they have */
	unsigned long long listeners; /* of its topic */
	PyObject *weak_references;
};

static int outcome_traverse(PyObject *object, visitproc visit, void *arg)
{
	struct outcome *self = (struct outcome *)object;

	Py_VISIT(self->waiter);
	Py_VISIT(self->connection);
	return 0;
}

static int outcome_clear(PyObject *object)
{
	struct outcome *self = (struct outcome *)object;

	Py_CLEAR(self->waiter);
	return 0;
}

static void outcome_dealloc(PyObject *object)
{
	struct outcome *self = (struct outcome *)object;

	PyObject_GC_UnTrack(object);
	outcome_clear(object);
	Py_XDECREF(self->connection);
	Py_XDECREF(self->reply);
	Py_XDECREF(self->address);
	free((char *)self->result.reason);
	free(self->result.json);
	if (self->ended && self->result.stream >= 0)
		close(self->result.stream); /* nobody has taken it */
	/* a subclass's own deallocator, which calls this one, sees to the type */
	Py_TYPE(object)->tp_free(object);
}

/* What came of it, which only the first one gets if it is a stream. */
static PyObject *outcome_value(struct outcome *self)
{
	int stream = self->result.stream;

	self->result.stream = -1;
	if (stream >= 0)
		return PyLong_FromLong(stream);
	if (self->result.json)
		return PyUnicode_DecodeUTF8(self->result.json, (Py_ssize_t)strlen(self->result.json),
					    "replace");
	if (self->result.round_trip_ns)
		return PyFloat_FromDouble((double)self->result.round_trip_ns / 1e9);
	return Py_NewRef(self->reply ? self->reply : Py_None);
}

/* None, the reply, what else came of it, or the error raised. */
static PyObject *outcome_result(PyObject *object, PyObject *ignored)
{
	struct outcome *self = (struct outcome *)object;

	if (!self->ended) {
		PyErr_SetString(PyExc_RuntimeError, "the outcome is not known yet");
		return NULL;
	}
	self->seen = true;
	if (self->result.error < 0)
		return raise_result(&self->result, (int)self->result.fate, PyUnicode_AsUTF8(self->address),
				    self->reply);
	return outcome_value(self);
}

static PyObject *outcome_done(PyObject *object, PyObject *ignored)
{
	return PyBool_FromLong(((struct outcome *)object)->ended);
}

static PyObject *outcome_withdraw(PyObject *object, PyObject *ignored)
{
	struct outcome *self = (struct outcome *)object;
	struct shared *shared;
	int r;

	if (self->ended || !self->connection || !self->op)
		Py_RETURN_FALSE;
	shared = self->connection->shared;
	if (check_usable(shared) < 0)
		return NULL;
	if (!shared->conn)
		Py_RETURN_FALSE;
	r = xenmsg_op_withdraw(self->op);
	if (r < 0 && r != -EALREADY)
		return raise_error(shared, r, NULL);
	return PyBool_FromLong(r == 0);
}

static PyObject *outcome_get_error(PyObject *object, void *closure)
{
	struct outcome *self = (struct outcome *)object;

	if (!self->ended)
		Py_RETURN_NONE;
	self->seen = true;
	return PyLong_FromLong(-self->result.error);
}

static PyObject *outcome_get_answered(PyObject *object, void *closure)
{
	return PyBool_FromLong(((struct outcome *)object)->result.error == -EREMOTEIO);
}

static PyMemberDef outcome_members[] = {
	{"address", T_OBJECT, offsetof(struct outcome, address), READONLY, "Where it was sent to."},
	{"waiter", T_OBJECT, offsetof(struct outcome, waiter), 0, "Belongs to who waits for it."},
	{NULL, 0, 0, 0, NULL},
};

static PyGetSetDef outcome_properties[] = {
	{"errno", outcome_get_error, NULL, "None: not known yet; 0: delivered or answered; else the error.",
	 NULL},
	{"answered", outcome_get_answered, NULL,
	 "Whether that error is the answer of the handler that was called.", NULL},
	{NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef outcome_methods[] = {
	{"done", outcome_done, METH_NOARGS, "done()\n--\n\nWhether it is known."},
	{"result", outcome_result, METH_NOARGS,
	 "result()\n--\n\nNone, a call's reply, a descriptor, an answer's JSON, or a ping's seconds; raises Error if it has "
	 "failed, RuntimeError if it isn't known yet."},
	{"withdraw", outcome_withdraw, METH_NOARGS,
	 "withdraw()\n--\n\nGives it up. Its outcome follows within 2 s: ETIMEDOUT if it was not taken and never will be. "
	 "False: it is too late for that."},
	{"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, "Outcome[T]: what becomes of it is a T."},
	{NULL, NULL, 0, NULL},
};

static PyTypeObject outcome_type = {
	PyVarObject_HEAD_INIT(NULL, 0).tp_name = "xenmsg._core.Outcome",
	.tp_doc = "What becomes of a message, a call, or something else that was begun.",
	.tp_basicsize = sizeof(struct outcome),
	.tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE |
		    Py_TPFLAGS_DISALLOW_INSTANTIATION,
	.tp_dealloc = outcome_dealloc,
	.tp_traverse = outcome_traverse,
	.tp_clear = outcome_clear,
	.tp_members = outcome_members,
	.tp_getset = outcome_properties,
	.tp_methods = outcome_methods,
};

/* ---- the library's callbacks: perhaps without the GIL ------------------------------------------ */

static void on_done(void *userdata, const struct xenmsg_result *result)
{
	struct outcome *outcome = userdata;
	struct connection *connection = outcome->connection;

	connection->noted++;
	outcome->raw_reply = result->reply;
	outcome->result = *result;
	outcome->result.reason = *result->reason ? strdup(result->reason) : NULL;
	list_remove(&connection->pending, outcome);
	connection->pending_count--;
	list_add(&connection->ended, outcome);
}

/* A watch's events and its outcome have the same userdata. */
static void on_watched(void *userdata, const struct xenmsg_result *result)
{
	struct connection *connection = userdata;
	struct outcome *outcome = connection->watching;

	connection->watching = NULL;
	on_done(outcome, result);
}

static void on_event(void *userdata, const struct xenmsg_event *come)
{
	struct connection *connection = userdata;
	size_t name = strlen(come->name) + 1, domain = strlen(come->domain_name) + 1;
	size_t host = strlen(come->host) + 1;
	struct event *event = malloc(sizeof(*event) + name + domain + host);

	if (!event) {
		connection->events_lost = true;
		return;
	}
	event->next = NULL;
	event->kind = come->kind;
	event->domid = come->domid;
	memcpy(event->name, come->name, name);
	event->domain_name = event->name + name;
	memcpy(event->domain_name, come->domain_name, domain);
	event->host = event->domain_name + domain;
	memcpy(event->host, come->host, host);
	*connection->last_event = event;
	connection->last_event = &event->next;
}

static void on_change(void *userdata, const struct xenmsg_change *come)
{
	struct connection *connection = userdata;
	size_t endpoint = strlen(come->endpoint) + 1, reason = strlen(come->reason) + 1;
	struct change *change;

	connection->noted++;
	if (come->kind == XENMSG_LISTENERS) { /* of its one topic */
		connection->listeners = come->listeners;
		return;
	}
	change = malloc(sizeof(*change) + endpoint + reason);
	if (!change) {
		connection->events_lost = true;
		return;
	}
	change->next = NULL;
	change->told = *come;
	memcpy(change->endpoint, come->endpoint, endpoint);
	change->reason = change->endpoint + endpoint;
	memcpy(change->reason, come->reason, reason);
	*connection->last_change = change;
	connection->last_change = &change->next;
}

/* ---- connections ------------------------------------------------------------------------------ */

/* Hands on what has ended: a list of those for which somebody waits. NULL: an error. */
static PyObject *collect(struct connection *self)
{
	PyObject *waited_for = PyList_New(0);
	struct outcome *outcome;

	if (!waited_for)
		return NULL;
	while ((outcome = self->ended.first)) {
		list_remove(&self->ended, outcome);
		if (outcome->raw_reply)
			outcome->reply = message_wrap(self->shared, outcome->raw_reply);
		if (outcome->raw_reply && !outcome->reply) {
			PyErr_Clear();
			outcome->result.error = -ENOMEM;
		}
		outcome->raw_reply = NULL;
		outcome->ended = true;
		Py_CLEAR(outcome->connection);
		if (outcome->waiter && outcome->waiter != Py_None) {
			if (PyList_Append(waited_for, (PyObject *)outcome) < 0)
				PyErr_Clear();
		} else if (outcome->result.error < 0 &&
			   (!self->failed || ((struct outcome *)self->failed)->seen)) {
			Py_XSETREF(self->failed, Py_NewRef((PyObject *)outcome));
		}
		Py_DECREF(outcome);
	}
	return waited_for;
}

/* The connection that a method is about to use; NULL: raised. Called when the arguments have been converted and what is needed was
 * allocated, since either may run Python, which may close the connection. */
static struct xenmsg *usable(PyObject *object)
{
	struct connection *self = (struct connection *)object;

	if (check_usable(self->shared) < 0)
		return NULL;
	if (!self->shared->conn)
		raise_words(-ENOTCONN, "the connection is closed", NULL);
	return self->shared->conn;
}

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
		raise_words(r, NULL, path ? PyBytes_AS_STRING(path) : NULL);
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
	/* What has no outcome here gets it in the process that sent it. */
	const struct xenmsg_result elsewhere = {
		.error = -ECHILD, .fate = XENMSG_FATE_UNKNOWN, .reason = "", .stream = -1};

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
	/* A thread in the library may change the list at any time. It holds a reference, so this is no garbage. */
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
	while (self->events) {
		struct event *event = self->events;

		self->events = event->next;
		free(event);
	}
	while (self->changes) {
		struct change *change = self->changes;

		self->changes = change->next;
		free(change);
	}
	shared_release(self->shared);
	Py_TYPE(object)->tp_free(object);
}

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

static PyObject *connection_take_failed(PyObject *object, PyObject *ignored)
{
	struct connection *self = (struct connection *)object;
	PyObject *failed = self->failed;

	self->failed = NULL;
	if (failed && ((struct outcome *)failed)->seen)
		Py_CLEAR(failed);
	return failed ? failed : Py_NewRef(Py_None);
}

static PyObject *connection_take_withdrawn(PyObject *object, PyObject *ignored)
{
	struct connection *self = (struct connection *)object;
	bool withdrawn = self->shared->withdrawn;

	self->shared->withdrawn = false;
	return PyBool_FromLong(withdrawn);
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

/* Reads the arguments of bind() and begin_bind(). Returns false with an exception. */
static bool read_bind(PyObject *arguments, PyObject **endpoint, unsigned *flags)
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

/* Does so for listen() and begin_listen(). */
static bool read_listen(PyObject *arguments, PyObject **endpoint, unsigned *flags)
{
	int shared;

	if (!PyArg_ParseTuple(arguments, "Up", endpoint, &shared))
		return false;
	*flags = XENMSG_FROM_HOSTS | (shared ? XENMSG_SHARED : 0);
	return true;
}

static PyObject *connection_bind(PyObject *object, PyObject *arguments)
{
	PyObject *endpoint;
	unsigned flags;

	return read_bind(arguments, &endpoint, &flags)
		       ? connection_endpoint(object, text_of(endpoint), bind_with, XENMSG_FLAGS(flags))
		       : NULL;
}

/* Reads the arguments of topic() and begin_topic(). Returns false with an exception. */
static bool read_topic(PyObject *arguments, PyObject **endpoint, struct xenmsg_options *options)
{
	int retain;

	*options = *XENMSG_FLAGS(XENMSG_TOPIC | XENMSG_COUNT_LISTENERS);
	if (!PyArg_ParseTuple(arguments, "UpI", endpoint, &retain, &options->keys))
		return false;
	if (retain || options->keys)
		options->flags |= XENMSG_RETAIN;
	return true;
}

static PyObject *connection_topic(PyObject *object, PyObject *arguments)
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

/* Reads the arguments of subscribe() and begin_subscribe(). Returns false with an exception. */
static bool read_subscription(PyObject *arguments, PyObject **address, struct xenmsg_options *options)
{
	unsigned long queue;
	int keeps_oldest;

	if (!PyArg_ParseTuple(arguments, "Ukp", address, &queue, &keeps_oldest))
		return false;
	if (queue > XENMSG_QUEUE_MAX || (keeps_oldest && !queue)) {
		PyErr_SetString(PyExc_ValueError, "queue is up to 65535, and keep=\"oldest\" needs one");
		return false;
	}
	*options = *XENMSG_FLAGS(keeps_oldest ? XENMSG_KEEP_OLDEST : 0);
	options->queue = (unsigned)queue;
	return true;
}

static PyObject *connection_subscribe(PyObject *object, PyObject *arguments)
{
	struct xenmsg_options options;
	PyObject *address;

	return read_subscription(arguments, &address, &options)
		       ? connection_endpoint(object, text_of(address), subscribe_with, &options)
		       : NULL;
}

static PyObject *connection_unbind(PyObject *object, PyObject *endpoint)
{
	return connection_endpoint(object, text_of(endpoint), unbind, NULL);
}

static int drain(struct xenmsg *conn, const char *endpoint, const struct xenmsg_options *options)
{
	return xenmsg_drain(conn, endpoint, options);
}

static PyObject *connection_drain(PyObject *object, PyObject *arguments)
{
	PyObject *endpoint;
	int timeout_ms;

	if (!PyArg_ParseTuple(arguments, "Ui", &endpoint, &timeout_ms))
		return NULL;
	return connection_endpoint(object, text_of(endpoint), drain, XENMSG_WITHIN(timeout_ms));
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

static PyObject *connection_listen(PyObject *object, PyObject *arguments)
{
	PyObject *endpoint;
	unsigned flags;

	return read_listen(arguments, &endpoint, &flags)
		       ? connection_endpoint(object, text_of(endpoint), listen_with, XENMSG_FLAGS(flags))
		       : NULL;
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
/* The trace, the time-out, whether it waits for the receiver, and the key, behind address and data, as far as they are given. */
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

static PyObject *connection_connect(PyObject *object, PyObject *arguments)
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

static PyObject *connection_accept(PyObject *object, PyObject *argument)
{
	struct connection *self = (struct connection *)object;
	long timeout = PyLong_AsLong(argument);
	const struct xenmsg_peer *peer;
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
	if (r == -EAGAIN || r == -ETIMEDOUT || r == -EINTR)
		Py_RETURN_NONE;
	if (r < 0)
		return raise_error(self->shared, r, NULL);
	return Py_BuildValue("iIIIIsss", r, xenmsg_peer_domid(peer), xenmsg_peer_uid(peer),
			     xenmsg_peer_gid(peer), xenmsg_peer_pid(peer), xenmsg_peer_endpoint(peer),
			     xenmsg_peer_domain_name(peer), xenmsg_peer_host(peer));
}

static PyObject *connection_watch(PyObject *object, PyObject *argument)
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

/* The next event as a tuple, None: there is none. */
static PyObject *connection_event(PyObject *object, PyObject *ignored)
{
	struct connection *self = (struct connection *)object;
	struct event *event = self->events;
	PyObject *result;

	if (check_usable(self->shared) < 0)
		return NULL;
	if (!event) {
		if (self->events_lost)
			return PyErr_NoMemory();
		Py_RETURN_NONE;
	}
	result = Py_BuildValue("iIsss", (int)event->kind, event->domid, event->name, event->domain_name,
			       event->host);
	self->events = event->next;
	if (!self->events)
		self->last_event = &self->events;
	free(event);
	return result;
}

/* The next change as a tuple, None: there is none. */
static PyObject *connection_change(PyObject *object, PyObject *ignored)
{
	struct connection *self = (struct connection *)object;
	struct change *change = self->changes;
	PyObject *result;

	if (check_usable(self->shared) < 0)
		return NULL;
	if (!change)
		Py_RETURN_NONE;
	result = Py_BuildValue("iiss", (int)change->told.kind, -change->told.error, change->endpoint,
			       change->reason);
	self->changes = change->next;
	if (!self->changes)
		self->last_change = &self->changes;
	free(change);
	return result;
}

static PyObject *connection_query(PyObject *object, PyObject *argument)
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
	text = PyUnicode_DecodeUTF8(json, (Py_ssize_t)strlen(json), "replace");
	free(json);
	return text;
}

static PyObject *connection_ping(PyObject *object, PyObject *arguments)
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

/* ---- what is begun, for who has a loop --------------------------------------------------------- */

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

static PyObject *connection_begin_bind(PyObject *object, PyObject *arguments)
{
	struct asked asked = {0};
	PyObject *name;

	return read_bind(arguments, &name, &asked.flags) ? begin(object, name, begin_bind, &asked) : NULL;
}

static PyObject *connection_begin_topic(PyObject *object, PyObject *arguments)
{
	struct xenmsg_options options;
	PyObject *name;

	return read_topic(arguments, &name, &options)
		       ? begin(object, name, begin_bind,
			       &(const struct asked){.flags = options.flags, .keys = options.keys})
		       : NULL;
}

static PyObject *connection_begin_subscribe(PyObject *object, PyObject *arguments)
{
	struct xenmsg_options options;
	PyObject *name;

	return read_subscription(arguments, &name, &options)
		       ? begin(object, name, begin_subscribe,
			       &(const struct asked){.flags = options.flags, .queue = options.queue})
		       : NULL;
}

static PyObject *connection_begin_listen(PyObject *object, PyObject *arguments)
{
	struct asked asked = {0};
	PyObject *name;

	return read_listen(arguments, &name, &asked.flags) ? begin(object, name, begin_listen, &asked) : NULL;
}

static PyObject *connection_begin_watch(PyObject *object, PyObject *name)
{
	return begin(object, name, begin_watch, NULL);
}

static PyObject *connection_begin_query(PyObject *object, PyObject *name)
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

static PyObject *connection_begin_ping(PyObject *object, PyObject *arguments)
{
	return begin_within(object, arguments, begin_ping);
}

static PyObject *connection_begin_drain(PyObject *object, PyObject *arguments)
{
	return begin_within(object, arguments, begin_drain);
}

static PyObject *connection_begin_connect(PyObject *object, PyObject *arguments)
{
	struct asked asked = {0};
	PyObject *name;
	int waits;

	if (!PyArg_ParseTuple(arguments, "Uip", &name, &asked.timeout_ms, &waits))
		return NULL;
	asked.flags = waits ? XENMSG_WAIT : 0;
	return begin(object, name, begin_connect, &asked);
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
	{"bind", connection_bind, METH_VARARGS, "bind(endpoint, messages, calls, shared)"},
	{"topic", connection_topic, METH_VARARGS, "topic(endpoint, retain, keys)"},
	{"subscribe", connection_subscribe, METH_VARARGS, "subscribe(address, queue, keeps_oldest)"},
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
	 "begin_subscribe(address, queue, keeps_oldest): an Outcome"},
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

static PyTypeObject connection_type = {
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

/* ---- the module ------------------------------------------------------------------------------- */

static PyObject *break_stream(PyObject *module, PyObject *argument)
{
	long fd = PyLong_AsLong(argument);

	if (PyErr_Occurred())
		return NULL;
	Py_BEGIN_ALLOW_THREADS xenmsg_break((int)fd);
	Py_END_ALLOW_THREADS Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
	{"break_stream", break_stream, METH_O,
	 "Closes a stream's descriptor so that the other side reads ECONNRESET."},
	{NULL, NULL, 0, NULL},
};

static struct PyModuleDef module_definition = {
	PyModuleDef_HEAD_INIT, .m_name = "xenmsg._core", .m_doc = "libxenmsg",
	.m_size = -1,	       .m_methods = functions,
};

PyMODINIT_FUNC PyInit__core(void);

PyMODINIT_FUNC PyInit__core(void)
{
	PyObject *module, *errors = PyImport_ImportModule("xenmsg._errors");

	make_error = errors ? PyObject_GetAttrString(errors, "make_error") : NULL;
	Py_XDECREF(errors);
	if (!make_error || pthread_atfork(NULL, NULL, count_fork) != 0)
		return make_error ? PyErr_NoMemory() : NULL;
	module = PyModule_Create(&module_definition);
	if (!module || PyModule_AddType(module, &message_type) < 0 ||
	    PyModule_AddType(module, &outcome_type) < 0 || PyModule_AddType(module, &connection_type) < 0)
		Py_CLEAR(module);
	return module;
}
