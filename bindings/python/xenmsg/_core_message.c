/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Messages, as Python sees them. */

#include "_core.h"

#include <errno.h>
#include <string.h>

struct message {
	PyObject_HEAD struct shared *shared;
	struct xenmsg_message *message;
	bool owed; /* it is a call that wasn't answered here */
};

/* Runs without the GIL, so it touches no message: its holder looks at its `withdrawn`. */
static void note_withdrawn(void *userdata, struct xenmsg_message *message)
{
	((struct shared *)userdata)->withdrawn = true;
}

PyObject *message_wrap(struct shared *shared, struct xenmsg_message *message)
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

	return words_of(name);
}

static PyObject *message_sender_host(PyObject *object, void *closure)
{
	const char *host = xenmsg_peer_host(sender_of(object));

	return words_of(host);
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

static PyObject *message_name(PyObject *object, void *closure)
{
	char name[XENMSG_NAME_SIZE];

	if (xenmsg_message_name(((struct message *)object)->message, name, sizeof(name)) < 0)
		Py_RETURN_NONE;
	return PyUnicode_FromString(name);
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
	{"name", message_name, NULL, "What it is called in traces (xenmsg trace); None: it has no name.",
	 NULL},
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

PyTypeObject message_type = {
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
