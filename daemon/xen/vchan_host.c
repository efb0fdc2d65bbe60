/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What all vchans share: the handles of Xen's libraries, the event channels, and what a restore does to
 * these. */
#include "daemon/xen/vchan_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/image.h"
#include "base/log.h"
#include "base/timer.h"
#include "daemon/xen/keeper.h"

#define EVENTS_PER_WAKE_UP 64

/* --- events, and what no event tells of ----------------------------------------------------------- */

/*
 * How often live bytes are looked at. A guest's page holds no port (vchan_host_notify_port()), so its kernel
 * clears the byte of a process that died and says nothing; and Linux before 5.19 says so before it clears it.
 * An idle daemon doesn't look: links do with each heartbeat, and before they are used.
 */
#define BUSY_LOOK_MS	100
#define WAITING_LOOK_MS 1000

static void vchan_host_tell(struct vchan_host *host, struct vchan *vchan)
{
	if (!vchan->was_connected && vchan_state(vchan) == VCHAN_CONNECTED)
		vchan->was_connected = true;
	if (vchan->event)
		vchan->event(vchan->userdata); /* may close it, and others */
}

static struct vchan *vchan_host_find(const struct vchan_host *host, uint32_t port)
{
	struct vchan *vchan = host->vchans;

	if (!vchan || vchan->port != port) /* most domains have a single link */
		HASH_FIND(hh, host->vchans, &port, sizeof(port), vchan);
	return vchan;
}

/* One of each port at most; asking for one more would be a system call for nothing. Then other events of the
 * loop have their turn. */
static unsigned events_at_once(const struct vchan_host *host)
{
	unsigned events = HASH_COUNT(host->vchans);

	return events < EVENTS_PER_WAKE_UP ? events : EVENTS_PER_WAKE_UP;
}

static void on_events(evutil_socket_t fd, short what, void *userdata)
{
	struct vchan_host *host = userdata;
	unsigned events = events_at_once(host);

	for (unsigned i = 0; i < events || i == 0; i++) {
		xenevtchn_port_or_error_t port = xenevtchn_pending(host->evtchn);
		struct vchan *vchan;

		if (port < 0)
			break;
		vchan = vchan_host_find(host, (uint32_t)port);
		if (!vchan) /* the event came while the port was being closed */
			continue;
		if (vchan->is_kept) {
			/* It stays masked until it is granted again: events would cost whatever the peer
			 * likes. */
			vchan->is_masked = true;
			kept_look_at(vchan);
			continue;
		}
		/* The port is unmasked before anybody looks at the rings, so that whatever happens from now
		 * on makes a new event. */
		xenevtchn_unmask(host->evtchn, vchan->port);
		vchan_host_look_soon(host);
		vchan_host_tell(host, vchan);
	}
}

static bool has_ended_silently(const struct vchan *vchan)
{
	return !vchan->is_kept && vchan->event && vchan_state(vchan) == VCHAN_CLOSED;
}

static void on_host_look(evutil_socket_t fd, short what, void *userdata)
{
	struct vchan_host *host = userdata;
	uint32_t ports[EVENTS_PER_WAKE_UP], count = 0;
	bool is_busy = host->is_busy;
	struct vchan *vchan, *next;

	host->is_busy = false;
	HASH_ITER(hh, host->vchans, vchan, next)
		if (count < EVENTS_PER_WAKE_UP && has_ended_silently(vchan))
			ports[count++] = vchan->port;
	if (is_busy || count == EVENTS_PER_WAKE_UP)
		timer_set(host->look, BUSY_LOOK_MS);
	else if (host->waits && host->waits(host->waits_userdata))
		timer_set(host->look, WAITING_LOOK_MS);
	for (uint32_t i = 0; i < count; i++) {
		vchan = vchan_host_find(host, ports[i]); /* unless another one's callee has closed it */
		if (vchan && has_ended_silently(vchan))
			vchan_host_tell(host, vchan);
	}
}

void vchan_host_look_soon(struct vchan_host *host)
{
	if (!host->is_busy)
		timer_set(host->look, BUSY_LOOK_MS);
	host->is_busy = true;
}

void vchan_host_set_waits(struct vchan_host *host, bool (*waits)(void *userdata), void *userdata)
{
	host->waits = waits;
	host->waits_userdata = userdata;
}

uint32_t vchan_host_notify_port(const struct vchan_host *host, uint32_t port)
{
	return host->guarded ? UINT32_MAX : port;
}

/* --- the handles ------------------------------------------------------------------------------ */

/* Logs the libraries' messages for debugging only: running out of pages is no error here, and every other one
 * is returned. */
static void __attribute__((format(printf, 5, 0)))
log_of_library(xentoollog_logger *logger, xentoollog_level level, int error, const char *context,
	       const char *format, va_list args)
{
	int saved_errno = errno;
	char text[256];

	vsnprintf(text, sizeof(text), format, args);
	log_debug("%s: %s%s%s", context ? context : "xen", text, error > 0 ? ": " : "",
		  error > 0 ? strerror(error) : "");
	errno = saved_errno;
}

static int open_events(struct vchan_host *host)
{
	int fd, flags, r;

	if (host->evtchn)
		return 0;
	errno = 0;
	host->evtchn = xenevtchn_open(&host->logger, 0);
	if (!host->evtchn)
		return vchan_failure();
	fd = xenevtchn_fd(host->evtchn);
	flags = fcntl(fd, F_GETFL);
	r = flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? vchan_failure() : 0;
	if (r == 0)
		host->events =
			event_new(event_get_base(host->look), fd, EV_READ | EV_PERSIST, on_events, host);
	if (r == 0 && (!host->events || event_add(host->events, NULL) < 0))
		r = -ENOMEM;
	if (r < 0) {
		free_event(host->events);
		host->events = NULL;
		xenevtchn_close(host->evtchn);
		host->evtchn = NULL;
	}
	return r;
}

int vchan_host_may_bind(struct vchan_host *host)
{
	return host->restores_known == vchan_host_restores(host) ? open_events(host) : -EAGAIN;
}

void vchan_host_leave_to_keeper(struct vchan_host *host)
{
	(void)!getrandom(host->token, sizeof(host->token), 0); /* never fails for so few */
	host->keeper_has = false;
}

void vchan_host_take_from_keeper(struct vchan_host *host, const uint8_t token[16])
{
	memcpy(host->token, token, KEEPER_TOKEN_SIZE);
	host->keeper_has = true;
}

const uint8_t *vchan_host_token(const struct vchan_host *host)
{
	return host->token;
}

int vchan_host_new(struct vchan_host **result, struct event_base *base, const char **what)
{
	struct vchan_host *host = calloc(1, sizeof(*host));
	int r;

	*what = "memory";
	if (!host)
		return -ENOMEM;
	host->logger.vmessage = log_of_library;
	host->asked = host->given_back = -1;
	vchan_host_leave_to_keeper(host);
	restore_clock_init(&host->restore_clock); /* what XenStore says from now on is known by this */
	host->look = evtimer_new(base, on_host_look, host);
	r = host->look ? 0 : -ENOMEM;
	if (r < 0)
		goto fail;
	errno = 0;
	*what = "/dev/xen/gntalloc";
	host->gntshr = xengntshr_open(&host->logger, 0);
	if (!host->gntshr)
		goto refused;
	*what = "/dev/xen/gntdev";
	host->gnttab = xengnttab_open(&host->logger, 0);
	if (!host->gnttab)
		goto refused;
	*what = "/dev/xen/evtchn";
	r = open_events(host);
	if (r < 0)
		goto fail;
	*result = host;
	return 0;
refused:
	r = vchan_failure();
fail:
	vchan_host_free(host);
	return r;
}

bool vchan_host_has_ports(const struct vchan_host *host)
{
	return host->vchans || host->retired_count || host->lost_port || host->asked >= 0 ||
	       host->given_back >= 0;
}

void vchan_host_note_certain(struct vchan_host *host, unsigned restores)
{
	host->is_certain = true;
	host->certain_restores = restores;
}

/* Whether closing the handle is no kernel BUG for certain. */
static bool may_close_events(struct vchan_host *host)
{
	if (!host->guarded || !vchan_host_has_ports(host))
		return true;
	return host->is_certain && vchan_host_restores(host) == host->certain_restores;
}

static int vchan_host_hold(struct vchan_host *host, int fd)
{
	int r = keeper_hold(fd, host->token);

	host->keeper_has |= r == 0;
	return r;
}

static int hold_events(struct vchan_host *host)
{
	int r = host->is_held ? 0 : vchan_host_hold(host, xenevtchn_fd(host->evtchn));

	host->is_held = r == 0;
	return r;
}

/* --- what a keeper has, and no restore has ended ----------------------------------------------- */

/*
 * Behind a checkpoint, or if XenStore doesn't answer a daemon that hands over, a keeper has event channels
 * that may be closed for all that. As soon as XenStore says so, the keeper gives them back, one handle after
 * the other. That of a daemon before this waits as any port that is retired, since it is the last one; a
 * duplicate of ours may be closed at any time.
 */

static void take_answer(struct vchan_host *host)
{
	if (host->asked < 0)
		return;
	free_event(host->answered);
	host->answered = NULL;
	host->given_back = keeper_take_back(host->asked);
	host->given_back_ms = clock_ms();
	host->asked = -1;
}

/* Leaves it to a keeper again. */
static void leave_given_back(struct vchan_host *host)
{
	if (host->given_back >= 0 && vchan_host_hold(host, host->given_back) == 0)
		close(host->given_back);
	host->given_back = -1; /* else it stays open */
}

static void ask_keeper(struct vchan_host *host);

static void on_answer(evutil_socket_t fd, short what, void *userdata)
{
	struct vchan_host *host = userdata;

	take_answer(host);
	if (host->given_back < 0) {
		host->keeper_has = false;
		return;
	}
	log_info("there was no restore: a keeper has given back event channels");
	if (host->asked_own) {
		close(host->given_back);
		host->given_back = -1;
		ask_keeper(host);
	} else if (vchan_host_restores(host) != host->restores_known) {
		leave_given_back(host);
	} else if (host->retired_notify) {
		host->retired_notify(host->retired_userdata);
	}
}

static void ask_keeper(struct vchan_host *host)
{
	if (!host->keeper_has || host->asked >= 0 || host->given_back >= 0)
		return;
	host->asked = keeper_ask(host->token);
	host->answered = host->asked >= 0 ? event_new(event_get_base(host->look), host->asked, EV_READ,
						      on_answer, host)
					  : NULL;
	host->asked_own = host->is_held;
	if (host->answered && event_add(host->answered, NULL) == 0)
		host->is_held = false;
	else
		take_answer(host);
}

/* There is no restore between then and now. */
static void close_given_back(struct vchan_host *host, uint64_t at_ms)
{
	if (host->given_back < 0 || host->given_back_ms > at_ms ||
	    vchan_host_restores(host) != host->restores_known)
		return;
	close(host->given_back);
	host->given_back = -1;
}

void vchan_host_keeper_image(struct image *image, struct vchan_host *host)
{
	bool has = host->keeper_has || (!image->is_read && !may_close_events(host));

	image_bool(image, &has);
	image_raw(image, host->token, sizeof(host->token));
	host->keeper_has = has;
}

void vchan_host_look(struct vchan_host *host)
{
	unsigned restores = vchan_host_restores(host);

	if (restores == host->restores_seen)
		return;
	host->restores_seen = restores;
	leave_given_back(host);
	if (host->evtchn && vchan_host_has_ports(host) && hold_events(host) == 0)
		log_debug("the clocks show a restore: a keeper has the event channels, too");
	if (host->retired_notify) /* until XenStore has been asked, nothing is bound */
		host->retired_notify(host->retired_userdata);
}

/* Parks the handle with a keeper, and closes ours. */
static void park_events(struct vchan_host *host)
{
	int r = hold_events(host);

	if (r == 0)
		xenevtchn_close(host->evtchn);
	else /* it stays open: the longer this process lives, the better */
		log_error(
			"no keeper for the event channels from before the restore: %s; stopping this daemon will be a "
			"kernel BUG: see running-on-xen.md",
			strerror(-r));
	host->evtchn = NULL;
	host->is_held = false;
}

/* There was no restore: what a keeper has since the clocks seemed to show one is to hold no ports. */
static void close_events(struct vchan_host *host)
{
	const struct vchan *vchan;

	for (vchan = host->vchans; host->is_held && vchan; vchan = vchan->hh.next)
		xenevtchn_unbind(host->evtchn, vchan->port);
	for (unsigned i = 0; host->is_held && i < host->retired_count; i++)
		xenevtchn_unbind(host->evtchn, host->retired[i].port);
	xenevtchn_close(host->evtchn);
}

void vchan_host_free(struct vchan_host *host)
{
	if (!host)
		return;
	kept_destroy(host);
	free_event(host->look);
	free_event(host->events);
	if (host->clock_set) {
		close(event_get_fd(host->clock_set));
		event_free(host->clock_set);
	}
	take_answer(host);
	if (may_close_events(host)) {
		if (host->given_back >= 0)
			close(host->given_back);
		if (host->evtchn)
			close_events(host);
	} else {
		log_info("this domain may have been restored: a keeper gets the event channels");
		leave_given_back(host);
		if (host->evtchn)
			park_events(host);
	}
	if (host->gnttab)
		xengnttab_close(host->gnttab);
	if (host->gntshr)
		xengntshr_close(host->gntshr);
	free(host->retired);
	free(host);
}

void vchan_host_renew(struct vchan_host *host)
{
	struct vchan *vchan, *next;
	int r;

	HASH_ITER(hh, host->vchans, vchan, next) {
		HASH_DEL(host->vchans, vchan);
		vchan->is_stale = true;
		if (vchan->is_kept)
			kept_drop(vchan);
	}
	host->retired_count = 0;
	host->restores_known = vchan_host_restores(host);
	free_event(host->events);
	host->events = NULL;
	host->lost_port = false;
	take_answer(host);
	leave_given_back(host);
	if (host->evtchn)
		park_events(host);
	vchan_host_leave_to_keeper(host);
	r = open_events(host);
	if (r < 0)
		log_warning("after a restore: /dev/xen/evtchn: %s; trying again when a link is wanted",
			    strerror(-r));
}

void vchan_host_set_freed(struct vchan_host *host, void (*freed)(void *userdata), void *userdata)
{
	host->freed = freed;
	host->freed_userdata = userdata;
}

void vchan_host_set_retired(struct vchan_host *host, void (*retired)(void *userdata), void *userdata)
{
	host->retired_notify = retired;
	host->retired_userdata = userdata;
}

void vchan_host_unbind_retired(struct vchan_host *host, uint64_t at_ms)
{
	bool awaited = host->ports_short;
	unsigned done = 0;

	host->restores_known = vchan_host_restores(host);
	/* Each after a look: between two of them there may be a restore. Between the look and the system call
	 * there are a few instructions of this process, where Linux's freezer would have to stop it; no other
	 * process can ask the kernel for both at once, and of the means of user space only a restartable
	 * sequence that ends with the system call could. */
	while (done < host->retired_count && host->retired[done].at_ms <= at_ms &&
	       vchan_host_restores(host) == host->restores_known)
		xenevtchn_unbind(host->evtchn, host->retired[done++].port);
	host->retired_count -= done;
	if (done > 0 && host->retired_count > 0)
		memmove(host->retired, host->retired + done, host->retired_count * sizeof(*host->retired));
	awaited = awaited && done > 0;
	close_given_back(host, at_ms);
	ask_keeper(host);
	if ((host->retired_count || host->given_back >= 0) && host->retired_notify)
		host->retired_notify(host->retired_userdata);
	/* A caller that had a port and lacks pages isn't called: each of its attempts retires one, so that
	 * would go on for ever. */
	if (!awaited)
		return;
	host->ports_short = false;
	if (host->freed)
		host->freed(host->freed_userdata);
}

void vchan_host_retire_port(struct vchan_host *host, const struct vchan *vchan)
{
	if (!host->retired_notify) {
		xenevtchn_unbind(host->evtchn, vchan->port);
		return;
	}
	if (host->retired_count == host->retired_capacity) {
		unsigned capacity = host->retired_capacity ? host->retired_capacity * 2 : 16;
		struct retired_port *grown = realloc(host->retired, capacity * sizeof(*grown));

		if (!grown)
			goto lost; /* better than a kernel BUG */
		host->retired = grown;
		host->retired_capacity = capacity;
	}
	host->retired[host->retired_count++] = (struct retired_port){vchan->port, clock_ms()};
	host->retired_notify(host->retired_userdata);
	return;
lost:
	host->lost_port = true;
}

static int await_clock_set(int fd)
{
	const struct itimerspec never = {.it_value = {.tv_sec = UINT32_MAX}};

	return timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL);
}

static void on_clock_set(evutil_socket_t fd, short what, void *userdata)
{
	uint64_t count;

	if (read(fd, &count, sizeof(count)) < 0 && errno == ECANCELED)
		await_clock_set(fd);
	vchan_host_look(userdata);
}

void vchan_host_guard(struct vchan_host *host)
{
	int fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);

	host->guarded = true;
	if (fd >= 0 && await_clock_set(fd) == 0)
		host->clock_set =
			event_new(event_get_base(host->events), fd, EV_READ | EV_PERSIST, on_clock_set, host);
	if (host->clock_set)
		event_add(host->clock_set, NULL);
	else if (fd >= 0)
		close(fd); /* then the loop looks when something else happens */
}

unsigned vchan_host_restores(struct vchan_host *host)
{
	return host->guarded ? restore_clock_count(&host->restore_clock) : 0;
}

uint32_t vchan_host_pages_granted(const struct vchan_host *host)
{
	return host->pages_granted;
}

uint32_t vchan_host_pages_limit(const struct vchan_host *host)
{
	uint32_t limit = 0;
	FILE *file;

	file = fopen("/sys/module/xen_gntalloc/parameters/limit", "re");
	if (!file)
		return 0;
	if (fscanf(file, "%u", &limit) != 1)
		limit = 0;
	fclose(file);
	return limit;
}
