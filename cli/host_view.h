/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_HOST_VIEW_H
#define XENMSG_CLI_HOST_VIEW_H

/*
 * The host as `top --host` shows it: its domains, and how much each says to each other one. It is made of
 * what the daemons tell (host_statuses.h), one look after the other:
 *
 *   statuses ──▶ view, with totals ──▶ the next look's view, with rates
 *
 * A domain's name is what domain 0 knows; all else is that domain's word. What goes from one domain to
 * another is told by both: domain 0's word goes before that of the sender, which goes before that of the
 * receiver, so a domain that tells nothing is seen by what the others say. Domains that domain 0 doesn't know
 * aren't in it, whoever talks of them, and of what one domain lists there is an end.
 */

struct json_object;

struct host_view {
	/* {domains, traffic}, as doc/commands.schema.json has it. Its texts do nothing at a terminal, its
	 * numbers aren't negative. */
	struct json_object *shown;
	struct json_object *index; /* domains, endpoints and directions, by a text for each */
	double asking_s;	   /* for so long all were asked */
};

/* Makes a view of what host_statuses() has told. `before`: the look before, so many seconds ago; NULL: there
 * was none, and no rates. NULL: out of memory. */
struct host_view *host_view_new(struct json_object *statuses, const struct host_view *before, double seconds);
/* Notes what domain 0 says, in `status`, once all were asked, which has taken so many seconds. The next
 * look's rates leave out the traffic of the questions themselves, which is all over links of domain 0. */
void host_view_note_asked(struct host_view *view, struct json_object *status, double seconds);
void host_view_free(struct host_view *view);

/* Returns what goes from one of its domains to another one; NULL: nothing. */
struct json_object *host_view_direction(const struct host_view *view, struct json_object *from,
					struct json_object *to);
/* Returns how an end of a direction, or a domain, is called in few letters; it belongs to the view. */
const char *host_view_name(struct json_object *end);

#endif
