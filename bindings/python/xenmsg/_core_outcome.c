/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Outcomes: what becomes of what was begun, as Python sees it. */

#include "_core.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <structmember.h>
#include <unistd.h>

void list_add(struct list *list, struct outcome *outcome)
{
	outcome->prev = list->last;
	outcome->next = NULL;
	if (list->last)
		list->last->next = outcome;
	else
		list->first = outcome;
	list->last = outcome;
}

void list_remove(struct list *list, struct outcome *outcome)
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
		return words_of(self->result.json);
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
		return raise_result(&self->result, (int)self->result.fate, self->address, self->reply);
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
	{"waiter", T_OBJECT, offsetof(struct outcome, waiter), 0, "Belongs to whoever waits for it."},
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

PyTypeObject outcome_type = {
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
