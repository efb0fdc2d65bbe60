/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <config.h>

#include "daemon/link/link.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include <event2/event.h>
#include <uthash.h>

#include "daemon/relay/channel.h"
#include "daemon/base/clock.h"
#include "daemon/base/log.h"
#include "daemon/link/patience.h"
#include "daemon/peers/directory.h"
#include "daemon/peers/peers.h"
#include "daemon/base/quota.h"
#include "daemon/base/self.h"
#include "daemon/base/timer.h"
#include "daemon/xen/vchan.h"

#define ACK_BYTES 65536u
#define YIELD_NS  20000u /* if others had the CPU for longer than this while we yielded, they need it */

struct link {
	uint32_t domid;
	struct links *links;
	enum link_state state;
	struct hop hop;
	struct vchan *vchan;
	struct vchan *next; /* the peer has made a new one, while the last frames of `vchan` are read */
	uint8_t token[16];  /* of the session */
	uint32_t ring_bytes;
	uint64_t acked;		/* position in our last ACK */
	uint64_t acked_by_peer; /* position in the peer's last ACK */
	uint64_t heard_ms;	/* when something last arrived */
	uint64_t heard_frames;
	uint64_t used_ms; /* when it last had a channel */
	uint64_t rtt_ns;
	struct round_trips round_trips;
	uint64_t since;
	struct pings pings;
	struct patience patience;
	bool was_polled; /* what comes in next was found by polling */
	char version[32];
	uint32_t flags; /* of the peer's HELLO */
	char last_error[LINK_REASON_SIZE];
	struct log_source wanted_by; /* the account that asked for it last */
	UT_hash_handle hh;
};

struct links {
	struct link_failure failures[LINKS_FAILURES_MAX]; /* circular */
	unsigned failures_next, failures_count;
	struct relay *relay;
	struct peers *peers;
	struct directory *directory;
	struct links_options options;
	struct links_callbacks callbacks;
	void *userdata;
	struct link *links;
	struct event *heartbeat;
	struct link *polled; /* the one that we poll instead of waiting for its notification, or NULL */
	uint64_t polled_until;
};

static void set_state(struct link *link, enum link_state state)
{
	if (link->state != state)
		link->since = (uint64_t)time(NULL);
	link->state = state;
}

static const char *state_name(enum link_state state)
{
	switch (state) {
	case LINK_CONNECTING:
		return "connecting";
	case LINK_GREETING:
		return "greeting";
	case LINK_UP:
		return "up";
	default:
		return "idle";
	}
}

/* --- a session's end -------------------------------------------------------------------------- */

/* Puts a last frame into the ring, if there is room, and closes the vchan. */
static void drop_vchan(struct link *link, int error, const char *why)
{
	struct frame_goodbye goodbye = {.error = (uint32_t)error, .text = {why, strlen(why)}};
	uint8_t payload[FRAME_PAYLOAD_MAX];

	if (link->links->polled == link)
		link->links->polled = NULL;
	if (!link->vchan)
		return;
	if (vchan_state(link->vchan) == VCHAN_CONNECTED && link->hop.attached)
		hop_farewell(&link->hop, payload, frame_goodbye_encode(&goodbye, payload));
	hop_detach(&link->hop);
	vchan_close(link->vchan);
	link->vchan = NULL;
	if (!link->next) /* else it is connected anew already */
		peers_disconnect(link->links->peers, link->domid);
}

static void drop_next(struct link *link)
{
	if (link->next)
		vchan_close(link->next);
	link->next = NULL;
}

/* Ends the session: what was never sent ends with `error`. */
static void end_session(struct link *link, int error, const char *why)
{
	bool was_wanted = link->hop.channels.count || link->pings.list, was_up = link->state == LINK_UP;

	snprintf(link->last_error, sizeof(link->last_error), "%s", why);
	if (link->state == LINK_CONNECTING)
		peers_disconnect(link->links->peers, link->domid);
	set_state(link, LINK_IDLE);
	hop_detach(&link->hop);
	hop_reset_channels(&link->hop, error);
	pings_fail(&link->pings, -error);
	if (was_up)
		directory_link(link->links->directory, link->domid, false);
	if (was_wanted)
		log_limited(LOG_UNREACHABLE,
			    error == EHOSTDOWN ? link->wanted_by : LOG_BY_DOMAIN(link->domid), LOG_LEVEL_INFO,
			    "domain %u: what was meant for it ends: %s", link->domid, why);
}

static int error_now(struct link *link)
{
	return peers_is_up(link->links->peers, link->domid) ? EHOSTUNREACH : EHOSTDOWN;
}

/* --- as the owner of the hop ------------------------------------------------------------------ */

/* Copies a peer's text, which goes into the log, into JSON and to terminals: keeps ASCII from `lowest` on,
 * and makes the rest '?'. */
static void copy_plain(char *to, size_t room, struct frame_text text, char lowest)
{
	size_t size = text.size < room - 1 ? text.size : room - 1;

	for (size_t i = 0; i < size; i++)
		to[i] = text.data[i] >= lowest && text.data[i] < 0x7f ? text.data[i] : '?';
	to[size] = '\0';
}

static int take_hello(struct link *link, const struct frame_header *header, const uint8_t *payload)
{
	struct frame_hello_link hello;
	int r = frame_hello_link_decode(payload, header->length, &hello);

	if (link->state != LINK_GREETING)
		return -EBUSY;
	/* The major comes first in every version's HELLO. */
	if (header->length >= 2 && hello.major != PROTOCOL_MAJOR) {
		hop_fail(
			&link->hop, -EPROTONOSUPPORT,
			"domain %u speaks protocol %u, this daemon %d; run the same version of xenmsgd in both",
			link->domid, hello.major, PROTOCOL_MAJOR);
		return -EPROTONOSUPPORT;
	}
	if (r < 0)
		return r;
	if (link->domid < link->links->options.self->domid)
		memcpy(link->token, hello.token, sizeof(link->token));
	copy_plain(link->version, sizeof(link->version), hello.version, '!');
	link->flags = hello.flags;
	set_state(link, LINK_UP);
	log_limited(LOG_LINK, LOG_BY_DOMAIN(link->domid), LOG_LEVEL_INFO, "domain %u: link is up, xenmsgd %s",
		    link->domid, link->version);
	if (!(link->flags & HELLO_RELAYS))
		pings_refuse_relayed(&link->pings);
	pings_send(&link->pings, &link->hop);
	directory_link(link->links->directory, link->domid, true);
	return 0;
}

static int take_goodbye(struct link *link, const struct frame_header *header, const uint8_t *payload)
{
	struct frame_goodbye goodbye;
	char text[101];
	int r = frame_goodbye_decode(payload, header->length, &goodbye);

	if (r < 0)
		return r;
	copy_plain(text, sizeof(text), goodbye.text, ' ');
	hop_fail(&link->hop, -ECONNRESET,
		 goodbye.error ? "the peer says goodbye: %s" : "the peer has closed it", text);
	return 0;
}

/* Takes a DIRECTORY frame. Only domain 0 may send names. */
static int take_directory(struct link *link, const struct frame_header *header, const uint8_t *payload)
{
	if (link->state != LINK_UP)
		return -EINVAL;
	if (link->domid != 0)
		return -EPROTO;
	return directory_take(link->links->directory, payload, header->length);
}

static struct link *link_find(const struct links *links, uint32_t domid);

/* Whether it is a ping for somebody else: otherwise what is behind the token means nothing. */
static bool is_relayed_ping(const struct link *link, uint32_t length)
{
	const struct links *links = link->links;

	return length >= FRAME_PING_RELAYED_SIZE && links->options.relays && links->callbacks.ping;
}

static int take_relayed_ping(struct link *link, const struct frame_header *header, const uint8_t *payload)
{
	struct frame_ping_relayed ping;
	int r = frame_ping_relayed_decode(payload, header->length, &ping);

	if (link->state != LINK_UP)
		return -EINVAL;
	if (r == 0)
		link->links->callbacks.ping(link->links->userdata, link->domid, &ping);
	return r;
}

/* Takes the answer to a ping that the peer has relayed. False: it answers none. */
static bool take_relayed_pong(struct link *link, const struct frame_header *header, const uint8_t *payload)
{
	struct frame_ping_relayed pong;
	uint64_t rtt_ns;
	uint32_t domid = link->domid;
	struct link *other;

	if (frame_ping_relayed_decode(payload, header->length, &pong) < 0)
		return false;
	rtt_ns = pings_take_relayed(&link->pings, pong.token,
				    pong.number ? frame_error(pong.number, -EPROTO) : 0, &domid);
	other = rtt_ns ? link_find(link->links, domid) : NULL;
	if (other)
		other->rtt_ns = rtt_ns;
	return domid != link->domid;
}

static int on_control(void *owner, const struct frame_header *header, const uint8_t *payload)
{
	struct link *link = owner;
	uint64_t number, rtt_ns;
	int r;

	if (header->type == FRAME_HELLO)
		return take_hello(link, header, payload);
	if (header->type == FRAME_GOODBYE)
		return take_goodbye(link, header, payload);
	if (header->type == FRAME_DIRECTORY)
		return take_directory(link, header, payload);
	if (header->type == FRAME_PING && is_relayed_ping(link, header->length))
		return take_relayed_ping(link, header, payload);
	if (header->type != FRAME_PING && header->type != FRAME_PONG && header->type != FRAME_ACK)
		return -EPROTO;
	if (link->state != LINK_UP)
		return -EINVAL;
	r = frame_u64_decode(payload, header->length, &number);
	if (r < 0)
		return r;
	switch (header->type) {
	case FRAME_PING:
		link->acked = link->hop.in.position;
		r = hop_send(&link->hop, FRAME_PONG, 0, 0, payload, 8);
		if (r == 0) {
			uint8_t ack[8];

			r = hop_send(&link->hop, FRAME_ACK, 0, 0, ack, frame_u64_encode(link->acked, ack));
		}
		return r;
	case FRAME_PONG:
		if (take_relayed_pong(link, header, payload))
			return 0;
		rtt_ns = pings_take_pong(&link->pings, number);
		if (rtt_ns) {
			link->rtt_ns = rtt_ns;
			round_trips_add(&link->round_trips, rtt_ns);
		}
		return 0;
	default:
		if (number > link->hop.out[OUTLET_MAIN].position || number < link->acked_by_peer)
			return -EPROTO;
		link->acked_by_peer = number;
		return 0;
	}
}

static int on_open(void *owner, struct channel *channel, const struct frame_open *open)
{
	struct link *link = owner;

	if (link->state != LINK_UP)
		return -EINVAL;
	channel->identity.domid = link->domid; /* the hypervisor's word, not the peer's */
	link->links->callbacks.open(link->links->userdata, channel, open);
	return 0;
}

static void on_notify(void *owner)
{
	struct link *link = owner;
	int r = vchan_notify(link->vchan);

	if (r < 0)
		hop_fail(&link->hop, r, "notifying it: %s", strerror(-r));
}

static void begin_session(struct link *link);

static void on_failed(void *owner, int error, const char *why)
{
	struct link *link = owner;
	char reason[200];

	if (link->state != LINK_GREETING && link->state != LINK_UP)
		return;
	snprintf(reason, sizeof(reason), "%s", why);
	log_limited(LOG_LINK, LOG_BY_DOMAIN(link->domid),
		    error == -ECONNRESET ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, "domain %u: link is down: %s",
		    link->domid, reason);
	drop_vchan(link, error == -ECONNRESET ? 0 : -error, reason);
	end_session(link, error_now(link), reason);
	if (link->next)
		begin_session(link);
}

/* --- the vchan -------------------------------------------------------------------------------- */

static void send_due_ack(struct link *link)
{
	uint8_t payload[8];

	if (link->state != LINK_UP || link->hop.in.position - link->acked < ACK_BYTES)
		return;
	link->acked = link->hop.in.position;
	hop_send(&link->hop, FRAME_ACK, 0, 0, payload, frame_u64_encode(link->acked, payload));
}

/* Notes that something was taken in, so the peer lives. */
static void note_heard(struct link *link, uint64_t now)
{
	if (link->hop.rx.frames == link->heard_frames)
		return;
	link->heard_frames = link->hop.rx.frames;
	link->heard_ms = now;
}

/* Polls for the next answer instead of waiting for it, while answers come quickly (patience.h). */
static void poll_or_ask(struct link *link, uint64_t now)
{
	struct links *links = link->links;

	if (link->patience.limit && link->state == LINK_UP && !links->polled &&
	    patience_idle(&link->patience, now)) {
		links->polled = link;
		links->polled_until = now + link->patience.limit;
		hop_dont_ask(&link->hop);
	} else {
		hop_may_ask(&link->hop);
	}
}

static void stop_polling(struct links *links)
{
	struct link *link = links->polled;

	links->polled = NULL;
	patience_in_vain(&link->patience);
	hop_look(&link->hop); /* which asks for a notification again */
}

static void after_turn(void *owner, bool took_in, bool more)
{
	struct link *link = owner;
	uint64_t now = clock_ns();

	if (took_in) {
		if (link->patience.idle_since)
			patience_came(&link->patience, now, link->was_polled);
		note_heard(link, clock_ms_of(now));
		send_due_ack(link);
	}
	link->was_polled = false;
	if (!more)
		poll_or_ask(link, now);
}

static const struct hop_callbacks hop_callbacks = {
	.control = on_control,
	.open = on_open,
	.notify = on_notify,
	.after_turn = after_turn,
	.failed = on_failed,
};

static void on_vchan(struct vchan *vchan, void *userdata)
{
	struct link *link = userdata;
	/* Read the state first: what the peer wrote before it closed is then in the ring. */
	enum vchan_state state = vchan_state(vchan);

	if (link->links->polled == link)
		link->links->polled = NULL;
	hop_event(&link->hop);
	if (state == VCHAN_CLOSED)
		hop_finish(&link->hop, -ECONNRESET, "the peer's daemon has gone");
	else if (state != VCHAN_CONNECTED)
		hop_finish(&link->hop, -EPROTO, "impossible state in the vchan");
}

bool links_poll(struct links *links)
{
	struct link *link = links->polled;
	uint64_t before;

	if (!link)
		return false;
	if (hop_has_input(&link->hop)) {
		links->polled = NULL;
		link->was_polled = true;
		hop_polled(&link->hop);
		relay_pass_quick(links->relay);
		return links->polled != NULL;
	}
	before = clock_ns();
	if (before < links->polled_until) {
		sched_yield();
		if (clock_ns() - before < YIELD_NS)
			return true;
	}
	stop_polling(links);
	return false;
}

static int send_hello(struct link *link)
{
	const struct links_options *options = &link->links->options;
	struct frame_hello_link hello = {
		.major = PROTOCOL_MAJOR,
		.minor = PROTOCOL_MINOR,
		.flags = options->relays ? HELLO_RELAYS : 0,
		.max_message = link->links->relay->max_message,
		.version = {PACKAGE_VERSION, strlen(PACKAGE_VERSION)},
	};
	uint8_t payload[FRAME_PAYLOAD_MAX];

	memcpy(hello.instance, options->self->instance, sizeof(hello.instance));
	memset(link->token, 0, sizeof(link->token));
	if (options->self->domid < link->domid) {
		if (getrandom(link->token, sizeof(link->token), 0) != sizeof(link->token))
			return -EIO;
		memcpy(hello.token, link->token, sizeof(hello.token));
	}
	return hop_send(&link->hop, FRAME_HELLO, 0, 0, payload, frame_hello_link_encode(&hello, payload));
}

/* Begins a session over the next vchan. */
static void begin_session(struct link *link)
{
	struct vchan *vchan = link->next;
	struct hop_rings rings = {0};
	int r;

	link->next = NULL;
	vchan_read_view(vchan, &rings.in);
	vchan_write_view(vchan, &rings.out[OUTLET_MAIN]);
	link->vchan = vchan;
	link->ring_bytes = rings.out[OUTLET_MAIN].size;
	link->acked = link->acked_by_peer = 0;
	link->heard_ms = link->used_ms = clock_ms();
	patience_init(&link->patience, link->links->options.busy_poll_ns);
	set_state(link, LINK_GREETING);
	vchan_set_event(vchan, on_vchan, link);
	r = hop_attach(&link->hop, &rings);
	if (r == 0)
		r = send_hello(link);
	if (r < 0)
		hop_fail(&link->hop, r, "setting it up: %s", strerror(-r));
	on_vchan(vchan, link); /* the peer may have been quicker */
}

static int by_domid(const struct link *a, const struct link *b)
{
	return (a->domid > b->domid) - (a->domid < b->domid);
}

static struct link *link_get(struct links *links, uint32_t domid)
{
	struct link *link;

	if (domid == links->options.self->domid)
		return NULL;
	HASH_FIND(hh, links->links, &domid, sizeof(domid), link);
	if (link)
		return link;
	link = calloc(1, sizeof(*link));
	if (!link)
		return NULL;
	link->domid = domid;
	link->links = links;
	link->since = (uint64_t)time(NULL);
	/* The lower domid takes even channel numbers. */
	if (hop_init(&link->hop, links->relay, HOP_LINK, &hop_callbacks, link,
		     links->options.self->domid < domid ? 0 : 1, links->options.channels_max) < 0) {
		free(link);
		return NULL;
	}
	if (links->relay->quota)
		hop_set_account(&link->hop, quota_account(links->relay->quota, QUOTA_PEER, domid));
	HASH_ADD_INORDER(hh, links->links, domid, sizeof(link->domid), link, by_domid);
	return link;
}

static struct link *link_find(const struct links *links, uint32_t domid)
{
	struct link *link;

	HASH_FIND(hh, links->links, &domid, sizeof(domid), link);
	return link;
}

struct hop *links_want(struct links *links, uint32_t domid, struct account *account, int *error)
{
	struct link *link = link_find(links, domid);

	*error = domid == links->options.self->domid ? -EHOSTDOWN : 0;
	/* Ask even if another account has asked already: the one whose turn comes first has it looked up. */
	if (*error == 0 && (!link || link->state == LINK_IDLE || link->state == LINK_CONNECTING))
		*error = peers_connect(links->peers, domid, account);
	if (*error < 0 && *error != -ENOLINK)
		return NULL;
	if (!link)
		link = link_get(links, domid);
	if (!link) {
		peers_disconnect(links->peers, domid);
		*error = -ENOMEM;
		return NULL;
	}
	link->used_ms = clock_ms();
	if (*error < 0)
		return NULL;
	link->wanted_by = account_source(account);
	if (link->state == LINK_IDLE)
		set_state(link, LINK_CONNECTING);
	return &link->hop;
}

int links_relays(const struct links *links, uint32_t domid)
{
	const struct link *link = link_find(links, domid);

	if (!link || link->state != LINK_UP)
		return 0;
	return link->flags & HELLO_RELAYS ? 1 : -EOPNOTSUPP;
}

void links_explain(struct links *links, uint32_t domid, const char *reason)
{
	struct link *link = link_find(links, domid);

	if (link)
		snprintf(link->last_error, sizeof(link->last_error), "%s", reason);
}

void links_each_hop(struct links *links, void (*each)(void *userdata, struct hop *hop), void *userdata)
{
	struct link *link, *next;

	HASH_ITER(hh, links->links, link, next)
		each(userdata, &link->hop);
}

int links_send(struct links *links, uint32_t domid, uint8_t type, const void *payload, uint32_t length)
{
	struct link *link;

	HASH_FIND(hh, links->links, &domid, sizeof(domid), link);
	if (!link || link->state != LINK_UP)
		return -ENOTCONN;
	return hop_send(&link->hop, type, 0, 0, payload, length);
}

int links_ping(struct links *links, uint32_t domid, struct account *account, ping_fn done, void *userdata,
	       uint32_t request)
{
	struct link *link;
	int r = 0;

	if (!links_want(links, domid, account, &r))
		return r;
	link = link_find(links, domid);
	r = pings_add(&link->pings, done, userdata, request);
	if (r == 0 && link->state == LINK_UP)
		pings_send(&link->pings, &link->hop);
	return r;
}

int links_ping_relayed(struct links *links, uint32_t domid, uint32_t relayed_to, struct account *account,
		       ping_fn done, void *userdata, uint32_t request)
{
	struct link *link;
	int r = 0;

	if (!links_want(links, domid, account, &r))
		return r;
	link = link_find(links, domid);
	r = links_relays(links, domid);
	if (r < 0)
		return r;
	r = pings_add_relayed(&link->pings, relayed_to, done, userdata, request);
	if (r == 0 && link->state == LINK_UP)
		pings_send(&link->pings, &link->hop);
	return r;
}

void links_ping_cancel(struct links *links, const void *userdata)
{
	struct link *link, *next;

	HASH_ITER(hh, links->links, link, next)
		pings_forget(&link->pings, userdata);
}

void links_connected(struct links *links, uint32_t domid, struct vchan *vchan)
{
	struct link *link = link_get(links, domid);

	if (!link) {
		vchan_close(vchan);
		peers_disconnect(links->peers, domid);
		return;
	}
	drop_next(link);
	link->next = vchan;
	if (link->vchan)
		hop_finish(&link->hop, -ECONNRESET, "the peer has made a new one");
	else
		begin_session(link);
}

static void link_free(struct link *link)
{
	HASH_DEL(link->links->links, link);
	hop_cleanup(&link->hop);
	free(link);
}

/* Remembers the reason why a link couldn't be made. That a domain isn't there needs none. */
static void remember_failure(struct links *links, uint32_t domid, const char *reason)
{
	struct link_failure *failure = NULL;

	for (unsigned i = 0; i < links->failures_count; i++)
		if (links->failures[i].domid == domid)
			failure = &links->failures[i];
	if (!failure) {
		failure = &links->failures[links->failures_next++ % LINKS_FAILURES_MAX];
		links->failures_count += links->failures_count < LINKS_FAILURES_MAX;
	}
	failure->domid = domid;
	failure->since = (uint64_t)time(NULL);
	snprintf(failure->reason, sizeof(failure->reason), "%s", reason);
}

/* Forgets the link if its domain isn't there, or a program could fill our memory with numbers of domains that
 * don't exist. */
static void forget_if_absent(struct link *link, int error, const char *reason)
{
	struct links *links = link->links;

	if (link->state != LINK_IDLE || link->hop.channels.count || link->pings.list ||
	    peers_is_up(links->peers, link->domid))
		return;
	if (error != -EHOSTDOWN)
		remember_failure(links, link->domid, reason);
	link_free(link);
}

/* Lets domain 0 ping the peer's daemon for us. */
static void relay_pings(struct link *link)
{
	struct links *links = link->links;
	struct link *zero = NULL;
	int r = -EHOSTUNREACH;

	if (links->options.relays && link->domid != 0 && links_want(links, 0, NULL, &r) &&
	    links_relays(links, 0) >= 0)
		zero = link_find(links, 0);
	if (!zero)
		return;
	pings_relay(&link->pings, link->domid, &zero->pings);
	if (zero->state == LINK_UP)
		pings_send(&zero->pings, &zero->hop);
}

/* Lets what waits for a link that can't be made go another way. */
static void give_away(struct link *link, const char *reason)
{
	struct links *links = link->links;

	snprintf(link->last_error, sizeof(link->last_error), "%s", reason);
	if (links->callbacks.unlinkable)
		links->callbacks.unlinkable(links->userdata, link->domid, &link->hop);
	if (link->pings.list)
		relay_pings(link);
}

void links_failed(struct links *links, uint32_t domid, int error, const char *reason)
{
	struct link *link = link_find(links, domid);
	char why[LINK_REASON_SIZE];

	if (!link || link->state != LINK_CONNECTING)
		return;
	set_state(link, LINK_IDLE);
	if (error == -ENOLINK) {
		give_away(link, reason);
		error = -EHOSTUNREACH;
		reason = memcpy(why, link->last_error, sizeof(why));
	}
	end_session(link, -error, reason);
	forget_if_absent(link, error, reason);
}

void links_lost(struct links *links, uint32_t domid, const char *reason)
{
	struct link *link;

	HASH_FIND(hh, links->links, &domid, sizeof(domid), link);
	if (!link || !link->vchan)
		return;
	drop_next(link);
	hop_finish(&link->hop, -ECONNRESET, "%s", reason);
}

/* --- heartbeat -------------------------------------------------------------------------------- */

static void beat(struct link *link, uint64_t now)
{
	const struct links_options *options = &link->links->options;
	bool carries_directory = link->domid == 0 || options->self->domid == 0;

	if (link->state != LINK_UP && link->state != LINK_GREETING)
		return;
	/* Look into the ring: a peer that was asked to notify us does it once, so after an event was lost no
	 * other comes. And a peer whose frames lie there unread isn't dead: it was we who stood still. */
	hop_look(&link->hop);
	if (link->hop.channels.count || link->pings.list)
		link->used_ms = now;
	if (now - link->heard_ms >= options->dead_after_ms && !hop_has_input(&link->hop)) {
		hop_fail(&link->hop, -ETIMEDOUT, "nothing has come from it for %u s",
			 options->dead_after_ms / 1000);
		return;
	}
	if (link->state != LINK_UP)
		return;
	if (options->idle_close_ms && !carries_directory && now - link->used_ms >= options->idle_close_ms) {
		hop_fail(&link->hop, -ECONNRESET, "it was idle");
		return;
	}
	if (pings_add(&link->pings, NULL, NULL, 0) == 0)
		pings_send(&link->pings, &link->hop);
}

/* Returns whether what is remembered of a lost link is old enough to be dropped. */
static bool is_forgotten(const struct link *link, uint64_t now)
{
	return link->state == LINK_IDLE && !link->hop.channels.count && !link->pings.list &&
	       now - link->used_ms >= link->links->options.dead_after_ms;
}

/* Handles all links at once, so that an idle daemon wakes up once an interval. */
static void on_heartbeat(int fd, short what, void *userdata)
{
	struct links *links = userdata;
	struct link *link, *next;
	uint64_t now = clock_ms();

	HASH_ITER(hh, links->links, link, next) {
		if (is_forgotten(link, now) && !peers_is_up(links->peers, link->domid))
			link_free(link);
		else
			beat(link, now);
	}
}

/* --- life ------------------------------------------------------------------------------------- */

int links_new(struct links **out, struct relay *relay, struct peers *peers, struct directory *directory,
	      const struct links_options *options, const struct links_callbacks *callbacks, void *userdata)
{
	struct links *links = calloc(1, sizeof(*links));

	if (!links)
		return -ENOMEM;
	links->relay = relay;
	links->peers = peers;
	links->directory = directory;
	links->options = *options;
	links->callbacks = *callbacks;
	links->userdata = userdata;
	links->heartbeat = event_new(relay->base, -1, EV_PERSIST, on_heartbeat, links);
	if (!links->heartbeat || timer_set(links->heartbeat, options->heartbeat_ms) < 0) {
		links_free(links);
		return -ENOMEM;
	}
	*out = links;
	return 0;
}

static void end_all(struct links *links, const char *why)
{
	struct link *link, *next;

	HASH_ITER(hh, links->links, link, next) {
		drop_next(link);
		drop_vchan(link, 0, "");
		end_session(link, EHOSTUNREACH, why);
		link_free(link);
	}
}

void links_restart(struct links *links)
{
	end_all(links, "this domain was restored or migrated");
	links->failures_count = 0;
}

void links_free(struct links *links)
{
	if (!links)
		return;
	end_all(links, "this daemon stops");
	if (links->heartbeat)
		event_free(links->heartbeat);
	free(links);
}

static void fill_info(struct link *link, struct link_info *info)
{
	*info = (struct link_info){
		.domid = link->domid,
		.state = link->state,
		.state_name = state_name(link->state),
		.has_vchan = link->vchan != NULL,
		.granter = link->vchan && vchan_is_granter(link->vchan),
		.ring_bytes = link->vchan ? link->ring_bytes : 0,
		.pages = link->vchan ? vchan_pages(link->vchan) : 0,
		.channels = link->hop.channels.count,
		.unacknowledged = hop_unacknowledged(&link->hop),
		.rtt_ns = link->rtt_ns,
		.round_trips = link->round_trips,
		.tx = link->hop.tx,
		.rx = link->hop.rx,
		.account = link->hop.account,
		.since = link->since,
		.version = link->version,
		.last_error = link->last_error,
	};
}

unsigned links_count(const struct links *links)
{
	return HASH_COUNT(links->links);
}

bool links_next(struct links *links, int64_t after, struct link_info *info)
{
	uint32_t domid = (uint32_t)after;
	struct link *link = NULL;

	if (after >= 0)
		HASH_FIND(hh, links->links, &domid, sizeof(domid), link);
	if (link)
		link = link->hh.next;
	else
		for (link = links->links; link && link->domid <= after; link = link->hh.next)
			;
	if (link)
		fill_info(link, info);
	return link != NULL;
}

void links_each_failure(const struct links *links,
			void (*each)(void *userdata, const struct link_failure *failure), void *userdata)
{
	for (unsigned i = 1; i <= links->failures_count; i++)
		each(userdata, &links->failures[(links->failures_next - i) % LINKS_FAILURES_MAX]);
}

bool links_info(struct links *links, uint32_t domid, struct link_info *info)
{
	struct link *link;

	HASH_FIND(hh, links->links, &domid, sizeof(domid), link);
	if (link)
		fill_info(link, info);
	return link != NULL;
}
