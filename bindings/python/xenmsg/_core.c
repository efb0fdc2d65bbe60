/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * xenmsg._core: libxenmsg as Python sees it, one method for one function. What waits, retries and awaits is
 * in Python, in blocking.py and aio.py.
 *
 * No Python runs within the library's callbacks: they note what has come, and the method that has called the
 * library hands it on when the library has returned. So nothing calls back into a connection from within, no
 * exception is lost in C, and the callbacks need no GIL.
 *
 * Threads: a connection and its messages belong to one thread at a time (xenmsg.h). The GIL sees to that but
 * where a method gives it up to wait: meanwhile the connection is `busy`, other methods raise, and messages
 * that are dropped are freed later.
 *
 * Fork: in a child what uses a connection of its parent's raises ECHILD, as the library has it. It is asked
 * for here, since a thread that was in the library at the fork left it in a state in which the child may not
 * even free it.
 */

#include "_core.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

unsigned forks;
static void count_fork(void)
{
	forks++;
}

/* ---- what a connection and its messages share ------------------------------------------------- */

void shared_release(struct shared *shared)
{
	if (--shared->references > 0)
		return;
	free(shared->dropped);
	free(shared);
}

PyObject *words_of(const char *text)
{
	return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

PyObject *name_of(const char *text)
{
	return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "surrogateescape");
}

/* Returns the maker of errors, of the interpreter that runs this: each has classes of its own. */
static PyObject *error_maker(void)
{
	PyObject *errors = PyImport_ImportModule("xenmsg._errors");
	PyObject *maker = errors ? PyObject_GetAttrString(errors, "make_error") : NULL;

	Py_XDECREF(errors);
	return maker;
}

/* Raises xenmsg.Error(errno, reason, fate, address, code, exit_status, data). `reason`, `address` and `data`
 * may be NULL. */
PyObject *raise_result(const struct xenmsg_result *result, int fate, PyObject *address, PyObject *data)
{
	PyObject *exception, *maker = error_maker();

	if (!maker)
		return NULL;
	exception = PyObject_CallFunction(
		maker, "iNiOIiO", result->error < 0 ? -result->error : result->error,
		words_of(result->reason ? result->reason : ""), fate, address ? address : Py_None,
		result->code, result->exit_status, data ? data : Py_None);
	Py_DECREF(maker);
	if (exception) {
		PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
		Py_DECREF(exception);
	}
	return NULL;
}

PyObject *raise_words(int error, const char *reason, const char *address)
{
	const struct xenmsg_result result = {.error = error, .reason = reason};
	PyObject *name = address ? name_of(address) : NULL;

	if (!address || name)
		raise_result(&result, FATE_OF_ERROR, name, NULL);
	Py_XDECREF(name);
	return NULL;
}

int check_usable(const struct shared *shared)
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

void drop_message(struct shared *shared, struct xenmsg_message *message)
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

PyThreadState *unlock(struct shared *shared)
{
	shared->busy = true;
	return PyEval_SaveThread();
}

void lock(struct shared *shared, PyThreadState *state)
{
	PyEval_RestoreThread(state);
	shared->busy = false;
	while (shared->dropped_count > 0)
		xenmsg_message_free(shared->dropped[--shared->dropped_count]);
}

/* ---- errors ----------------------------------------------------------------------------------- */

PyObject *raise_error(struct shared *shared, int error, const char *address)
{
	if (error == -ENOMEM)
		return PyErr_NoMemory();
	return raise_words(error, xenmsg_reason(shared->conn, error), address);
}

PyObject *none_or_error(struct shared *shared, int result, const char *address)
{
	if (result < 0)
		return raise_error(shared, result, address);
	Py_RETURN_NONE;
}

const char *text_of(PyObject *object)
{
	Py_ssize_t size;
	const char *text = PyUnicode_AsUTF8AndSize(object, &size);

	if (text && strlen(text) != (size_t)size) {
		PyErr_SetString(PyExc_ValueError, "embedded null character");
		return NULL;
	}
	return text;
}

/* ---- the module ------------------------------------------------------------------------------- */

static PyObject *break_stream(PyObject *module, PyObject *argument)
{
	long fd = PyLong_AsLong(argument);

	if (PyErr_Occurred())
		return NULL;
	Py_BEGIN_ALLOW_THREADS xenmsg_break((int)fd);
	Py_END_ALLOW_THREADS Py_RETURN_NONE;
}

static PyObject *break_reason(PyObject *module, PyObject *argument)
{
	long fd = PyLong_AsLong(argument);

	return PyErr_Occurred() ? NULL : PyUnicode_FromString(xenmsg_break_reason((int)fd));
}

static PyMethodDef functions[] = {
	{"break_reason", break_reason, METH_O, "Says in words why a stream has broken."},
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
	PyObject *module, *maker = error_maker();
	char version[16];

	Py_XDECREF(maker);
	if (!maker || pthread_atfork(NULL, NULL, count_fork) != 0)
		return maker ? PyErr_NoMemory() : NULL;
	module = PyModule_Create(&module_definition);
	snprintf(version, sizeof(version), "%u.%u.%u", XENMSG_VERSION >> 16, XENMSG_VERSION >> 8 & 0xff,
		 XENMSG_VERSION & 0xff);
	if (!module || PyModule_AddType(module, &message_type) < 0 ||
	    PyModule_AddType(module, &outcome_type) < 0 || PyModule_AddType(module, &connection_type) < 0 ||
	    PyModule_AddStringConstant(module, "__version__", version) < 0)
		Py_CLEAR(module);
	return module;
}
