/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_DAEMON_REQUESTS_H
#define XENMSG_DAEMON_REQUESTS_H

/*
 * Answers the requests of programs, and their questions (questions.h). A costly answer is made in pieces by
 * report.h from the entries of status.h, those that viewer.h lets the program see.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/config.h"
#include "daemon/local/session.h"
#include "wire/frame.h"

struct access;
struct account;
struct registry;
struct hosts;
struct links;
struct local;
struct peers;
struct question;
struct questions;
struct questions_callbacks;
struct router;
struct self;
struct streams;
struct topics;
struct tracers;
struct relay;
struct watches;

/* What answers are made of. Nothing of it is owned, and all of it is there before the first program is. */
struct request_context {
	const struct self *self;
	struct access *access;
	struct registry *registry;
	struct hosts *hosts;
	struct links *links;
	struct local *local;
	struct peers *peers;
	struct tracers *tracers;
	struct questions *questions;
	struct router *router;
	struct streams *streams;
	struct topics *topics;
	struct relay *relay;
	struct watches *watches;
	gid_t administrators;	 /* or USERS_NO_GID */
	enum config_sight sight; /* what domain 0 may see */
	/* Reads files again that may change while the daemon runs. Returns 0: requests_reloaded() is called
	 * once what they forbid has ended, unless the next daemon begins anew; or a negative errno, and then
	 * *why says what is wrong (NULL: nothing more is known). */
	int (*reload)(void *userdata, struct question *question, const char **why);
	void (*reload_forget)(void *userdata, const struct question *question);
	/* Has the daemon hand over to the program that is installed now. The question is answered then, or
	 * later, if need be by the next daemon, by `renewed`. */
	void (*renew)(void *userdata, struct question *question);
	void (*renew_forget)(void *userdata, const struct question *question);
	/* Answers how the last hand-over has ended. */
	void (*renewed)(void *userdata, struct question *question);
	void *userdata; /* of these */
};

/* Answers that the files were read, and hold for all. */
void requests_reloaded(const struct request_context *context, struct question *question);

/* What sessions call; their userdata is a struct request_context. */
extern const struct session_callbacks requests_session_callbacks;
/* What answers questions; the userdata is a struct request_context, too. */
extern const struct questions_callbacks requests_questions_callbacks;

#endif
