/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the library's callbacks note, and how it is handed on. */

#include "_core.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void on_done(void *userdata, const struct xenmsg_result *result)
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
void on_watched(void *userdata, const struct xenmsg_result *result)
{
	struct connection *connection = userdata;
	struct outcome *outcome = connection->watching;

	connection->watching = NULL;
	on_done(outcome, result);
}

void on_event(void *userdata, const struct xenmsg_event *come)
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

void on_change(void *userdata, const struct xenmsg_change *come)
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

PyObject *collect(struct connection *self)
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

PyObject *connection_take_failed(PyObject *object, PyObject *ignored)
{
	struct connection *self = (struct connection *)object;
	PyObject *failed = self->failed;

	self->failed = NULL;
	if (failed && ((struct outcome *)failed)->seen)
		Py_CLEAR(failed);
	return failed ? failed : Py_NewRef(Py_None);
}

PyObject *connection_take_withdrawn(PyObject *object, PyObject *ignored)
{
	struct connection *self = (struct connection *)object;
	bool withdrawn = self->shared->withdrawn;

	self->shared->withdrawn = false;
	return PyBool_FromLong(withdrawn);
}

/* The next event as a tuple, None: there is none. */
PyObject *connection_event(PyObject *object, PyObject *ignored)
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
	result = Py_BuildValue("iINNN", (int)event->kind, event->domid, words_of(event->name),
			       words_of(event->domain_name), words_of(event->host));
	self->events = event->next;
	if (!self->events)
		self->last_event = &self->events;
	free(event);
	return result;
}

/* The next change as a tuple, None: there is none. */
PyObject *connection_change(PyObject *object, PyObject *ignored)
{
	struct connection *self = (struct connection *)object;
	struct change *change = self->changes;
	PyObject *result;

	if (check_usable(self->shared) < 0)
		return NULL;
	if (!change)
		Py_RETURN_NONE;
	result = Py_BuildValue("iiNN", (int)change->told.kind, -change->told.error,
			       words_of(change->endpoint), words_of(change->reason));
	self->changes = change->next;
	if (!self->changes)
		self->last_change = &self->changes;
	free(change);
	return result;
}

void forget_told(struct connection *self)
{
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
}
