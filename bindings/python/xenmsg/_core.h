/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What the parts of xenmsg._core share: _core.c has the module and its errors, _core_message.c messages,
 * _core_outcome.c outcomes, _core_connection.c connections, and _core_told.c those of their methods that hand
 * on what the callbacks have noted. */

#ifndef XENMSG_PYTHON_CORE_H
#define XENMSG_PYTHON_CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

#include "xenmsg.h"

#define COPIED_WITH_GIL 65536 /* bytes; more are copied while other threads run */

extern PyTypeObject message_type, outcome_type, connection_type;
extern unsigned forks; /* how many lie between the first process and this one */

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

/* Lets go of it: the last one frees it. */
void shared_release(struct shared *shared);
/* Returns 0, or -1 with an exception: another thread uses it, or it belongs to another process. */
int check_usable(const struct shared *shared);
/* Frees a message, later if the connection is in use. */
void drop_message(struct shared *shared, struct xenmsg_message *message);
/* Between these, the library runs without the GIL. */
PyThreadState *unlock(struct shared *shared);
void lock(struct shared *shared, PyThreadState *state);

/* ---- errors ----------------------------------------------------------------------------------- */

/* What isn't a message or call has failed: the error says what is known. */
#define FATE_OF_ERROR (-1)

/* Returns a text that another process has written, whatever bytes it has. */
PyObject *words_of(const char *text);
/* Returns an address, a path or another name of the program's own, likewise: as os.fsdecode() does. */
PyObject *name_of(const char *text);
/* Each raises xenmsg.Error, and returns NULL. `reason`, `address` and `data` may be NULL. */
PyObject *raise_result(const struct xenmsg_result *result, int fate, PyObject *address, PyObject *data);
PyObject *raise_words(int error, const char *reason, const char *address);
/* With the reason that the connection has. */
PyObject *raise_error(struct shared *shared, int error, const char *address);
PyObject *none_or_error(struct shared *shared, int result, const char *address);
/* Returns text for the library; NULL: raised. */
const char *text_of(PyObject *object);

/* ---- messages --------------------------------------------------------------------------------- */

/* Takes over the message, also if it fails. */
PyObject *message_wrap(struct shared *shared, struct xenmsg_message *message);

/* ---- outcomes and connections ----------------------------------------------------------------- */

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

void list_add(struct list *list, struct outcome *outcome);
void list_remove(struct list *list, struct outcome *outcome);

/* The library's callbacks: perhaps without the GIL. The userdata is an outcome, of the last three a
 * connection. */
void on_done(void *userdata, const struct xenmsg_result *result);
void on_watched(void *userdata, const struct xenmsg_result *result);
void on_event(void *userdata, const struct xenmsg_event *come);
void on_change(void *userdata, const struct xenmsg_change *come);
/* Hands on what has ended: a list of those for which somebody waits. NULL: an error. */
PyObject *collect(struct connection *self);
/* Frees what the callbacks have noted of events and changes. */
void forget_told(struct connection *self);

/* The methods of a connection: see its table. */
PyObject *connection_event(PyObject *object, PyObject *argument);
PyObject *connection_change(PyObject *object, PyObject *argument);
PyObject *connection_take_failed(PyObject *object, PyObject *argument);
PyObject *connection_take_withdrawn(PyObject *object, PyObject *argument);

#endif
