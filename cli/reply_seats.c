/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/reply_seats.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <utlist.h>

#define SEATS_MIN 2 /* so that there is one for another account */
#define SEATS_MAX 16

void reply_seats_init(struct reply_seats *seats, uint32_t domid, uint64_t jobs)
{
	uint64_t most = jobs < SEATS_MIN ? SEATS_MIN : jobs > SEATS_MAX ? SEATS_MAX : jobs;

	*seats = (struct reply_seats){.most = (unsigned)most, .domid = domid};
}

static void set_who(const struct reply_seats *seats, struct waiting_reply *reply,
		    const struct xenmsg_message *request)
{
	const char *host = xenmsg_peer_host(xenmsg_message_sender(request));
	uint32_t domid = xenmsg_peer_domid(xenmsg_message_sender(request));

	if (*host)
		snprintf(reply->who, sizeof(reply->who), "%s/", host);
	else if (domid != seats->domid)
		snprintf(reply->who, sizeof(reply->who), "%" PRIu32, domid);
	else
		snprintf(reply->who, sizeof(reply->who), "user %" PRIu32,
			 xenmsg_peer_uid(xenmsg_message_sender(request)));
}

static unsigned seats_of(const struct reply_seats *seats, const char *who)
{
	const struct waiting_reply *reply;
	unsigned count = 0;

	DL_FOREACH(seats->replies, reply)
		count += reply->seated && strcmp(reply->who, who) == 0;
	return count;
}

static void begin(struct reply_seats *seats, struct waiting_reply *reply,
		  const struct xenmsg_message *request, uint64_t now_ms)
{
	const struct waiting_reply *first;

	set_who(seats, reply, request);
	DL_FOREACH(seats->replies, first)
		if (strcmp(first->who, reply->who) == 0)
			break;
	reply->since_ms = now_ms;
	reply->until_ms = (first ? first->since_ms : now_ms) + REPLY_MOMENT_MS;
	reply->waits = true;
	DL_APPEND(seats->replies, reply);
}

/* The oldest seated reply of the account that has the most seats. */
static struct waiting_reply *greediest(const struct reply_seats *seats, unsigned *most)
{
	struct waiting_reply *reply, *found = NULL;

	*most = 0;
	DL_FOREACH(seats->replies, reply) {
		unsigned count = reply->seated ? seats_of(seats, reply->who) : 0;

		if (count > *most) {
			*most = count;
			found = reply;
		}
	}
	return found;
}

static void seat(struct reply_seats *seats, struct waiting_reply *reply, struct waiting_reply **unseated)
{
	unsigned most;

	if (seats->taken == seats->most) {
		struct waiting_reply *other = greediest(seats, &most);

		if (!other || most < seats_of(seats, reply->who) + 2)
			return;
		other->seated = false;
		other->until_ms = 0;
		seats->taken--;
		*unseated = other;
	}
	reply->seated = true;
	reply->until_ms = reply->since_ms + REPLY_PATIENCE_MS;
	seats->taken++;
}

bool reply_seats_wait(struct reply_seats *seats, struct waiting_reply *reply,
		      const struct xenmsg_message *request, uint64_t now_ms, struct waiting_reply **unseated)
{
	*unseated = NULL;
	if (!reply->waits)
		begin(seats, reply, request, now_ms);
	if (!reply->seated)
		seat(seats, reply, unseated);
	if (reply->until_ms > now_ms)
		return true;
	reply_seats_end(seats, reply);
	return false;
}

void reply_seats_end(struct reply_seats *seats, struct waiting_reply *reply)
{
	if (!reply->waits)
		return;
	DL_DELETE(seats->replies, reply);
	seats->taken -= reply->seated;
	reply->waits = reply->seated = false;
}
