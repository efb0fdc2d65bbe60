/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "vchan/vchan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vchan/vchan_internal.h"
#include "vchan/ring.h"

#define DOMID_MAX     0x7FEF
#define RETRY_MIN_MS  10
#define RETRY_MAX_MS  500
#define STALE_MS      1000 /* so long a name may still be that of a program that has ended */
#define CLOSE_WAIT_MS 5000
#define SETTLE_MS     1000
#define LOOK_MS	      5000 /* how often who waits for a client asks whether its domain is there */

enum vchan_phase {
	WAITING,    /* a server whose client hasn't come */
	CONNECTING, /* a client */
	OPEN,
	OVER,	 /* its peer has gone */
	CLOSING, /* likewise, for the program: what was written is still on its way */
};

enum vchan_event { EVENT_STATE = 1, EVENT_BYTES = 2 };

struct vchan_end {
	struct vchan_end *prev, *next;
	char endpoint[VCHAN_NAME_SIZE];
	int domid;
	bool is_server;
	enum vchan_clients clients;
	enum vchan_phase phase;
	unsigned generation; /* of the process that it belongs to */
	struct xenmsg_stream *stream;
	struct xenmsg_stream *later; /* of a server: the next client, until the end of this one was seen */
	struct ring in, out;
	/* It has bytes that don't fit into `in`, so that we see an end behind them, or `data` is NULL. */
	struct ring spill;
	bool has_held;	 /* there are bytes in the stream for which there was no room */
	bool wants_room; /* the program does, and is to be told */
	bool is_ended;	 /* our direction is */
	bool end_seen;	 /* the program knows that its client has gone */
	bool is_kept;	 /* by vchan_close(), which waits for it */
	unsigned asks;	 /* answers that are awaited: for a server's endpoint, and about the other domain */
	bool listens;	 /* its endpoint is there */
	bool waits;	 /* of a client: for its server */
	int error;	 /* why it is OVER, an errno; of a server why it has no endpoint, or 0 */
	int64_t due;	 /* when to try again, or -1 */
	int64_t until;	 /* of a server: until then a name that is taken is tried again; -1: for ever */
	int pause;	 /* before the next attempt, in ms */
	unsigned events; /* that the program hasn't taken */
	int fd;		 /* of the events, if the program has asked for it, else -1 */
};

static struct vchan_end *channels;
static int gone_domid = -1; /* that was found not to be there last */

/* --- events --------------------------------------------------------------------------------------- */

static void raise_event(struct vchan_end *vchan, enum vchan_event event)
{
	const uint64_t one = 1;

	if (vchan->events & event)
		return;
	vchan->events |= event;
	if (vchan->fd >= 0 && write(vchan->fd, &one, sizeof(one)) < 0)
		return; /* the program has closed it */
}

/* Takes one of these, of its state first. Returns whether there was one. */
static bool take_event(struct vchan_end *vchan, unsigned which)
{
	unsigned events = vchan->events & which;
	uint64_t count;

	vchan->events &= ~(events & -events);
	return events && (vchan->fd < 0 || read(vchan->fd, &count, sizeof(count)) || true);
}

static int make_fd(const struct vchan_end *vchan)
{
	unsigned count = !!(vchan->events & EVENT_STATE) + !!(vchan->events & EVENT_BYTES);

	return eventfd(count, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
}

/* --- what goes ------------------------------------------------------------------------------------ */

/* Hands the stream what lies in the ring. */
static void pump(struct vchan_end *vchan)
{
	bool made_room = false;

	while (vchan->stream && !vchan->is_ended && ring_filled(&vchan->out) > 0) {
		const unsigned char *data;
		size_t size = ring_front(&vchan->out, &data);
		ssize_t r = xenmsg_stream_write(vchan->stream, data, size);

		if (r < 0) /* nobody wants it any more, of which a callback tells, or look_at_peer() */
			break;
		ring_drop(&vchan->out, (size_t)r);
		made_room |= r > 0;
		if ((size_t)r < size)
			break;
	}
	if (made_room && vchan->wants_room) {
		vchan->wants_room = false;
		raise_event(vchan, EVENT_BYTES);
	}
}

/* --- how a client comes and goes ------------------------------------------------------------------ */

static void drop_stream(struct vchan_end *vchan)
{
	if (vchan->stream)
		xenmsg_stream_close(vchan->stream);
	vchan->stream = NULL;
	vchan->has_held = false;
}

static void vchan_free(struct vchan_end *vchan)
{
	if (vchan->prev)
		vchan->prev->next = vchan->next;
	else if (channels == vchan)
		channels = vchan->next;
	if (vchan->next)
		vchan->next->prev = vchan->prev;
	if (vchan->fd >= 0)
		close(vchan->fd);
	free(vchan->in.data);
	free(vchan->spill.data);
	free(vchan->out.data);
	free(vchan);
}

/* The peer has gone, or our side is through. Its stream may still have bytes for the program. */
static void be_over(struct vchan_end *vchan, int error)
{
	vchan->out.head = vchan->out.tail = 0;
	vchan->due = -1;
	vchan->error = error; /* a peer that is seen to have gone may be told to be lost later */
	if (vchan->phase == CLOSING || vchan->phase == OVER)
		return;
	vchan->phase = OVER;
	vchan->end_seen = vchan->clients == VCHAN_PERSISTS;
	raise_event(vchan, EVENT_STATE);
}

/* Moves what has spilled into the ring, as far as there is room. */
static void refill(struct vchan_end *vchan)
{
	const unsigned char *front;
	size_t size;

	while (vchan->spill.data && ring_space(&vchan->in) > 0 &&
	       (size = ring_front(&vchan->spill, &front)) > 0) {
		ring_drop(&vchan->spill, ring_put(&vchan->in, front, size));
		raise_event(vchan, EVENT_BYTES);
	}
	if (vchan->spill.data && ring_filled(&vchan->spill) == 0) {
		free(vchan->spill.data);
		vchan->spill.data = NULL;
	}
}

/* Returns how much was taken. */
static size_t spill(struct vchan_end *vchan, const void *data, size_t size)
{
	if (!vchan->spill.data && size > 0)
		vchan->spill = (struct ring){calloc(1, VCHAN_RING_MAX), VCHAN_RING_MAX, 0, 0};
	return vchan->spill.data ? ring_put(&vchan->spill, data, size) : 0;
}

static size_t on_data(void *userdata, struct xenmsg_stream *stream, const void *data, size_t size)
{
	struct vchan_end *vchan = userdata;
	size_t taken;

	if (stream == vchan->later)
		return 0;
	refill(vchan);
	taken = vchan->spill.data ? 0 : ring_put(&vchan->in, data, size);
	taken += spill(vchan, (const char *)data + taken, size - taken);
	vchan->has_held = taken < size;
	if (taken > 0)
		raise_event(vchan, EVENT_BYTES);
	return taken;
}

/* The other side has ended, which we answer, unless we have closed: then ours may still be under way. */
static void on_ended(void *userdata, struct xenmsg_stream *stream)
{
	struct vchan_end *vchan = userdata;

	if (stream == vchan->later ||
	    vchan->phase == CLOSING) /* the later one is told once more in its turn */
		return;
	if (!vchan->is_ended)
		xenmsg_stream_end(stream);
	vchan->is_ended = true;
	drop_stream(vchan);
	be_over(vchan, EPIPE);
}

static void on_room(void *userdata, struct xenmsg_stream *stream)
{
	pump(userdata);
}

static void try_again(struct vchan_end *vchan)
{
	vchan->due = engine_now() + vchan->pause;
	vchan->pause = vchan->pause * 3 / 2 < RETRY_MAX_MS ? vchan->pause * 3 / 2 : RETRY_MAX_MS;
}

/* The daemon says whether there is such a domain: where nobody knows, it may be. */
static void on_looked(void *userdata, const struct xenmsg_result *result)
{
	struct vchan_end *vchan = userdata;
	bool is_gone = result->json && strstr(result->json, "\"is_there\":false");

	free(result->json);
	vchan->asks--;
	if (is_gone)
		gone_domid = vchan->domid;
	if (vchan->phase == CONNECTING && vchan->waits && !is_gone)
		try_again(vchan);
	else if (vchan->phase == CONNECTING || (vchan->phase == WAITING && is_gone))
		be_over(vchan, is_gone ? ESRCH : EHOSTDOWN);
}

/* Returns whether an answer follows. */
static bool look_for_domain(struct vchan_end *vchan)
{
	struct xenmsg *conn = engine_connection();
	char question[32];

	snprintf(question, sizeof(question), "domain %d", vchan->domid);
	if (!conn || xenmsg_begin_query(conn, question, NULL, on_looked, vchan, NULL) < 0)
		return false;
	return ++vchan->asks;
}

static void on_broken(void *userdata, struct xenmsg_stream *stream, int error)
{
	struct vchan_end *vchan = userdata;

	if (stream == vchan->later) {
		xenmsg_stream_close(stream);
		vchan->later = NULL;
		return;
	}
	drop_stream(vchan);
	if (gone_domid == vchan->domid)
		gone_domid = -1;
	if (vchan->phase == CONNECTING && error == -EHOSTDOWN && look_for_domain(vchan))
		return;
	if (vchan->phase == CONNECTING && vchan->waits && (error == -ENOENT || error == -EHOSTDOWN))
		try_again(vchan);
	else
		be_over(vchan, -error);
}

static void on_opened(void *userdata, struct xenmsg_stream *stream)
{
	struct vchan_end *vchan = userdata;

	if (vchan->phase == CONNECTING)
		vchan->phase = OPEN;
	raise_event(vchan, EVENT_STATE);
	pump(vchan);
}

static const struct xenmsg_stream_callbacks callbacks = {
	.size = sizeof(callbacks),
	.opened = on_opened,
	.data = on_data,
	.ended = on_ended,
	.room = on_room,
	.broken = on_broken,
};

static void begin_client(struct vchan_end *vchan, struct xenmsg_stream *stream)
{
	drop_stream(vchan);
	if (vchan->phase == OVER && vchan->clients != VCHAN_PERSISTS) {
		vchan->in.head = vchan->in.tail = vchan->spill.head = vchan->spill.tail = 0;
		refill(vchan);
	}
	vchan->stream = stream;
	vchan->phase = OPEN;
	vchan->is_ended = vchan->end_seen = false;
	xenmsg_stream_set_callbacks(stream, &callbacks, vchan);
	raise_event(vchan, EVENT_STATE);
	pump(vchan);
}

/* The program looks: it may have the client that waits for that. */
static void begin_later(struct vchan_end *vchan)
{
	struct xenmsg_stream *stream = vchan->later;

	if (!stream || vchan->phase != OVER || !vchan->end_seen)
		return;
	vchan->later = NULL;
	begin_client(vchan, stream);
	xenmsg_stream_resume(stream);
}

static void note_nothing(void *userdata, const struct xenmsg_result *result)
{
}

static void on_incoming(void *userdata, struct xenmsg_stream *stream, const struct xenmsg_peer *peer)
{
	struct vchan_end *vchan = userdata;
	bool is_stranger = xenmsg_peer_domid(peer) != (uint32_t)vchan->domid || *xenmsg_peer_host(peer);
	bool is_late = vchan->phase != WAITING;

	if (is_stranger || vchan->phase == CLOSING || vchan->later ||
	    (is_late && vchan->clients == VCHAN_ONE))
		return;
	if (is_late && !(vchan->phase == OVER && vchan->end_seen)) { /* not all of the last one may be read */
		vchan->later = stream;
		xenmsg_stream_set_callbacks(stream, &callbacks, vchan);
		raise_event(vchan, EVENT_STATE);
		return;
	}
	begin_client(vchan, stream);
	if (vchan->clients == VCHAN_ONE && vchan->listens) { /* its name is free for the next server */
		vchan->listens = false;
		if (xenmsg_begin_drain(engine_connection(), vchan->endpoint, NULL, note_nothing, NULL, NULL) <
		    0)
			xenmsg_unbind(engine_connection(), vchan->endpoint);
	}
}

/* --- what is begun -------------------------------------------------------------------------------- */

static void on_listening(void *userdata, const struct xenmsg_result *result)
{
	struct vchan_end *vchan = userdata;

	vchan->asks--;
	vchan->listens = result->error == 0;
	vchan->error = -result->error;
	if (vchan->phase == CLOSING) {
		if (vchan->listens)
			xenmsg_unbind(engine_connection(), vchan->endpoint);
		vchan->listens = false;
	} else if (result->error == -EEXIST && (vchan->until < 0 || engine_now() < vchan->until)) {
		try_again(vchan);
	}
}

static void listen_now(struct vchan_end *vchan)
{
	int r = engine_open() ? xenmsg_begin_stream_listen(engine_connection(), vchan->endpoint, NULL,
							   on_incoming, on_listening, vchan, NULL)
			      : -errno;

	vchan->asks += r == 0;
	vchan->error = -r;
	if (r == -EEXIST && (vchan->until < 0 || engine_now() < vchan->until))
		try_again(vchan);
}

static void connect_now(struct vchan_end *vchan)
{
	char address[VCHAN_NAME_SIZE + 16];
	int r;

	snprintf(address, sizeof(address), "%d:%s", vchan->domid, vchan->endpoint);
	r = engine_open() ? xenmsg_stream_connect(engine_connection(), address, NULL, &callbacks, vchan,
						  &vchan->stream)
			  : -errno;
	if (r < 0) {
		vchan->stream = NULL;
		be_over(vchan, -r);
	}
}

/* --- what the engine asks ------------------------------------------------------------------------- */

/* Whether the peer has gone, which nothing tells of while its bytes wait for room here, or ours there. */
static void look_at_peer(struct vchan_end *vchan)
{
	bool may_wait = vchan->phase == CLOSING || (vchan->phase == OPEN && vchan->has_held);

	if (may_wait && vchan->stream && !vchan->is_ended &&
	    xenmsg_stream_write(vchan->stream, "", 0) == -EPIPE)
		be_over(vchan, EPIPE);
}

/* Of a closed one: ends it behind all that was written, and lets it go when the other side has that. */
static void finish(struct vchan_end *vchan)
{
	pump(vchan);
	look_at_peer(vchan);
	if (vchan->stream && !vchan->is_ended && ring_filled(&vchan->out) == 0) {
		xenmsg_stream_end(vchan->stream);
		vchan->is_ended = true;
	}
	if (vchan->stream && vchan->is_ended && xenmsg_stream_under_way(vchan->stream) == 0)
		drop_stream(vchan);
}

int64_t channels_look(int64_t now)
{
	struct vchan_end *vchan, *next;
	int64_t due = -1;

	for (vchan = channels; vchan; vchan = next) {
		next = vchan->next;
		if (vchan->due >= 0 && vchan->due <= now) {
			vchan->due = -1;
			if (vchan->is_server)
				listen_now(vchan);
			else
				connect_now(vchan);
		}
		if (vchan->phase == CLOSING)
			finish(vchan);
		else
			look_at_peer(vchan);
		if (vchan->due >= 0 && (due < 0 || vchan->due < due))
			due = vchan->due;
		if (vchan->phase == CLOSING && !vchan->stream && !vchan->asks && !vchan->is_kept)
			vchan_free(vchan);
	}
	return due;
}

uint64_t channels_under_way(void)
{
	uint64_t sum = 0;

	for (struct vchan_end *vchan = channels; vchan; vchan = vchan->next)
		if (vchan->phase == CLOSING && vchan->stream)
			sum += 1 + ring_filled(&vchan->out) + xenmsg_stream_under_way(vchan->stream);
	return sum;
}

void channels_fork(void)
{
	for (struct vchan_end *vchan = channels; vchan; vchan = vchan->next) {
		int fd;

		vchan->stream = vchan->later = NULL;
		vchan->listens = vchan->has_held = false;
		vchan->asks = 0;
		vchan->due = -1;
		if (vchan->phase == OPEN || vchan->phase == CONNECTING)
			vchan->phase = OVER;
		if (vchan->fd < 0)
			continue;
		fd = make_fd(vchan); /* the parent's is shared with it */
		if (fd >= 0) {
			dup3(fd, vchan->fd, O_CLOEXEC);
			close(fd);
		}
	}
}

/* --- what the program does ------------------------------------------------------------------------ */

/* Begins a function. A child takes over a server that waits, as soon as its parent leaves the name to it. */
static void enter(struct vchan_end *vchan)
{
	engine_lock();
	if (vchan->generation == engine_generation)
		return;
	vchan->generation = engine_generation;
	if (!vchan->is_server || (vchan->phase == OVER && vchan->clients == VCHAN_ONE))
		return;
	vchan->until = -1;
	vchan->pause = RETRY_MIN_MS;
	listen_now(vchan);
	if (engine_connection())
		xenmsg_wake(engine_connection()); /* something is due earlier than who sleeps knows */
}

static int leave(int result)
{
	engine_unlock();
	return result;
}

static int fail(int error)
{
	errno = error;
	return leave(-1);
}

static bool ring_make(struct ring *ring, size_t size)
{
	ring->size = VCHAN_RING_MIN;
	while (ring->size < size)
		ring->size *= 2;
	ring->data = calloc(1, ring->size);
	return ring->data;
}

static struct vchan_end *vchan_new(int domid, const char *endpoint, size_t in, size_t out)
{
	struct vchan_end *vchan = NULL;

	errno = EINVAL;
	if (domid < 0 || domid > DOMID_MAX || in > VCHAN_RING_MAX || out > VCHAN_RING_MAX)
		return NULL;
	vchan = calloc(1, sizeof(*vchan));
	if (!vchan)
		return NULL;
	vchan->fd = -1;
	vchan->domid = domid;
	snprintf(vchan->endpoint, sizeof(vchan->endpoint), "%s", endpoint);
	vchan->due = -1;
	vchan->pause = RETRY_MIN_MS;
	if (!ring_make(&vchan->in, in) || !ring_make(&vchan->out, out)) {
		vchan_free(vchan);
		errno = ENOMEM;
		return NULL;
	}
	vchan->generation = engine_generation;
	vchan->next = channels;
	if (channels)
		channels->prev = vchan;
	channels = vchan;
	return vchan;
}

/* Says what an errno can't, once and not each time that a program tries again. Returns the errno. */
static int explain(const struct vchan_end *vchan, int error)
{
	static const char *said;
	const char *words = NULL;

	if (error == ENOENT && !vchan->is_server)
		words = "no server of xenmsg's; it can't meet a stock one, run that by 'xenmsg vchan', too";
	else if (error == EACCES)
		words = vchan->is_server
				? "no [bind] rule lets this user serve it: see the group xenmsg-vchan"
				: "no rule of its domain lets this one come: see 'xenmsg policy denied' there";
	if (words && words != said)
		fprintf(stderr, "xenmsg: %s: %s\n", vchan->endpoint, said = words);
	return error;
}

/* Ends one that couldn't be made, with errno. */
static struct vchan_end *undo(struct vchan_end *vchan, int error)
{
	if (vchan->asks)
		vchan->phase = CLOSING;
	else
		vchan_free(vchan);
	errno = error;
	leave(0);
	return NULL;
}

struct vchan_end *vchan_serve(int domid, const char *endpoint, size_t in, size_t out,
			      enum vchan_clients clients)
{
	struct vchan_end *vchan;

	engine_lock();
	vchan = vchan_new(domid, endpoint, in, out);
	if (vchan) {
		vchan->is_server = true;
		vchan->clients = clients;
		vchan->phase = WAITING;
		vchan->until = engine_now() + STALE_MS;
		listen_now(vchan);
	}
	while (vchan && (vchan->asks || vchan->due >= 0))
		engine_wait(-1);
	if (vchan && vchan->error)
		return undo(vchan, explain(vchan, vchan->error));
	leave(0);
	return vchan;
}

struct vchan_end *vchan_connect(int domid, const char *endpoint, bool waits)
{
	struct vchan_end *vchan;

	engine_lock();
	vchan = engine_open() ? vchan_new(domid, endpoint, VCHAN_RING_MAX, VCHAN_RING_MAX) : NULL;
	if (vchan) {
		vchan->phase = CONNECTING;
		vchan->waits = waits;
		connect_now(vchan);
	}
	leave(0);
	return vchan;
}

int vchan_opened(struct vchan_end *vchan, bool waits)
{
	enter(vchan);
	while (waits && vchan->phase == CONNECTING)
		engine_wait(-1);
	take_event(vchan, EVENT_STATE);
	if (vchan->phase == OVER && vchan->error && vchan->error != EPIPE)
		return fail(waits ? explain(vchan, vchan->error) : vchan->error);
	return leave(vchan->phase == CONNECTING);
}

static int is_open(struct vchan_end *vchan)
{
	begin_later(vchan);
	if (vchan->phase == OPEN)
		return VCHAN_IS_OPEN;
	if (vchan->phase == WAITING || vchan->phase == CONNECTING)
		return vchan->clients == VCHAN_PERSISTS ? VCHAN_IS_OPEN : VCHAN_WAITS;
	vchan->end_seen = true;
	if (vchan->later) /* it begins when the program looks again */
		raise_event(vchan, EVENT_STATE);
	return vchan->clients == VCHAN_PERSISTS && vchan->is_server ? VCHAN_IS_OPEN : VCHAN_GONE;
}

int vchan_is_open(struct vchan_end *vchan)
{
	enter(vchan);
	look_at_peer(vchan);
	return leave(is_open(vchan));
}

/* Why nothing comes or goes any more. That isn't EPIPE where bytes may be lost. */
static int why_over(const struct vchan_end *vchan)
{
	return vchan->phase == OVER && vchan->error ? vchan->error : EPIPE;
}

/* Waits for an event, and takes it. Called with the lock. Returns 0, or -1 with errno. */
static int await_event(struct vchan_end *vchan)
{
	int64_t look = engine_now() + LOOK_MS;

	begin_later(vchan);
	while (!take_event(vchan, EVENT_STATE | EVENT_BYTES)) {
		bool is_for_one = vchan->is_server && vchan->clients == VCHAN_ONE;

		if (vchan->phase == OVER && !vchan->stream && (!vchan->is_server || is_for_one)) {
			errno = why_over(vchan);
			return -1;
		}
		if (engine_wait(is_for_one && vchan->phase == WAITING ? look : -1) < 0)
			return -1;
		if (is_for_one && vchan->phase == WAITING && !vchan->asks && engine_now() >= look) {
			look_for_domain(vchan);
			look = engine_now() + LOOK_MS;
		}
	}
	return 0;
}

int vchan_wait(struct vchan_end *vchan)
{
	enter(vchan);
	return leave(await_event(vchan));
}

/* Fetches what had no room before. */
static void fetch(struct vchan_end *vchan)
{
	refill(vchan);
	if (!vchan->has_held || !vchan->stream)
		return;
	vchan->has_held = false;
	xenmsg_stream_resume(vchan->stream);
}

/* Of a peer that has gone, what it wrote last may still be on its way. */
static void settle(struct vchan_end *vchan)
{
	int64_t until = engine_now() + SETTLE_MS;

	fetch(vchan);
	while (vchan->phase == OVER && vchan->stream && ring_filled(&vchan->in) == 0 && engine_now() < until)
		engine_wait(until);
}

static int read_now(struct vchan_end *vchan, void *data, size_t size)
{
	size_t taken = ring_take(&vchan->in, data, size);

	if (ring_space(&vchan->in) >= vchan->in.size / 4)
		fetch(vchan);
	return (int)taken;
}

int vchan_read(struct vchan_end *vchan, void *data, size_t size, bool all, bool blocking)
{
	enter(vchan);
	for (;;) {
		if (ring_filled(&vchan->in) < size)
			settle(vchan);
		if (all ? ring_filled(&vchan->in) >= size : ring_filled(&vchan->in) > 0)
			return leave(read_now(vchan, data, size));
		if (is_open(vchan) == VCHAN_GONE)
			return fail(why_over(vchan));
		if (!blocking)
			return leave(0);
		if (all && size > vchan->in.size)
			return fail(EMSGSIZE);
		if (await_event(vchan) < 0)
			return leave(-1);
	}
}

/* Puts what may be put now, without a stay in the ring if it can. Returns how much, and asks for room for the
 * rest. */
static size_t write_some(struct vchan_end *vchan, const void *data, size_t size, bool all)
{
	size_t done = 0;
	ssize_t r = 0;

	pump(vchan);
	if (!all || size <= ring_space(&vchan->out)) {
		if (vchan->stream && vchan->phase == OPEN && ring_filled(&vchan->out) == 0)
			r = xenmsg_stream_write(vchan->stream, data, size);
		done = r > 0 ? (size_t)r : 0;
		done += ring_put(&vchan->out, (const char *)data + done, size - done);
	}
	vchan->wants_room |= done < size;
	return done;
}

int vchan_write(struct vchan_end *vchan, const void *data, size_t size, bool all, bool blocking)
{
	size_t done = 0;

	enter(vchan);
	for (;;) {
		if (is_open(vchan) == VCHAN_GONE)
			return fail(why_over(vchan));
		done += write_some(vchan, (const char *)data + done, size - done, all);
		if (done == size || !blocking)
			return leave((int)done);
		if (all && size > vchan->out.size)
			return fail(EMSGSIZE);
		if (await_event(vchan) < 0)
			return leave(-1);
	}
}

int vchan_data_ready(struct vchan_end *vchan)
{
	enter(vchan);
	settle(vchan);
	return leave((int)ring_filled(&vchan->in));
}

int vchan_buffer_space(struct vchan_end *vchan)
{
	enter(vchan);
	pump(vchan);
	vchan->wants_room |= ring_filled(&vchan->out) > 0;
	return leave((int)ring_space(&vchan->out));
}

int vchan_fd_for_select(struct vchan_end *vchan)
{
	enter(vchan);
	if (vchan->fd < 0)
		vchan->fd = make_fd(vchan);
	return leave(vchan->fd);
}

void vchan_set_clients(struct vchan_end *vchan, enum vchan_clients clients)
{
	vchan->clients = clients;
}

void vchan_close(struct vchan_end *vchan)
{
	int64_t until = engine_now() + CLOSE_WAIT_MS;
	int error = errno;

	if (!vchan)
		return;
	engine_lock();
	if (vchan->listens && engine_connection())
		xenmsg_unbind(engine_connection(), vchan->endpoint);
	vchan->listens = false;
	if (vchan->later)
		xenmsg_stream_close(vchan->later);
	vchan->later = NULL;
	vchan->due = -1;
	if (vchan->fd >= 0)
		close(vchan->fd);
	vchan->fd = -1;
	if (vchan->phase != OPEN)
		drop_stream(vchan);
	vchan->phase = CLOSING;
	vchan->has_held = false;
	if (vchan->stream)
		xenmsg_stream_stop(vchan->stream);
	finish(vchan);
	vchan->is_kept = true;
	while (vchan->stream && engine_now() < until)
		engine_wait(until);
	vchan->is_kept = false;
	if (!vchan->stream && !vchan->asks)
		vchan_free(vchan);
	leave(0);
	errno = error;
}

bool vchan_domain_is_gone(int domid)
{
	errno = ESRCH;
	return gone_domid == domid;
}

int vchan_own_domid(void)
{
	int domid;

	engine_lock();
	domid = engine_open() ? (int)xenmsg_domid(engine_connection()) : -1;
	return leave(domid);
}
