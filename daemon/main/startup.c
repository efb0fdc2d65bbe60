/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/main/startup.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include "daemon/main/daemon_internal.h"
#include "base/clock.h"
#include "base/descriptors.h"
#include "base/log.h"
#include "base/log_limit.h"
#include "base/notify.h"
#include "daemon/peers/peers.h"
#include "daemon/peers/peers_parse.h"
#include "daemon/xen/keeper.h"
#include "daemon/xen/singleton.h"
#include "daemon/xen/store.h"
#include "base/timer.h"
#include "daemon/xen/vchan.h"
#include "wire/advice.h"
#include "wire/address.h"
#include "wire/retry.h"

#define STORE_ANSWER_MS	   30000
#define ALIVE_S		   5
#define SINGLETON_WAIT_MS  5000
#define SINGLETON_PAUSE_MS 50

/* --- XenStore's answer ------------------------------------------------------------------------ */

static void on_domid(void *userdata, int error, const char *untrusted_value, size_t size)
{
	struct daemon *daemon = userdata;

	daemon->domid_error = error;
	if (!error && !domid_parse(untrusted_value, size, &daemon->self.domid))
		daemon->domid_error = -EPROTO;
	event_base_loopbreak(daemon->base);
}

static void on_no_answer(evutil_socket_t fd, short what, void *userdata)
{
	struct daemon *daemon = userdata;

	event_base_loopbreak(daemon->base);
}

void startup_pause(uint32_t ms)
{
	const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

	notify_alive();
	nanosleep(&pause, NULL);
}

static void pause_before_next(void)
{
	startup_pause(RETRY_EACH_MS);
}

static void on_alive(evutil_socket_t fd, short what, void *userdata)
{
	notify_alive();
}

/* Reads `domid` and waits for the answer, which comes behind those to all earlier requests. It doesn't use
 * event_base_loopexit(), which would end the daemon's loop later on. Where it takes over, the manager's
 * watchdog goes on. */
static int await_store(struct daemon *daemon, void (*done)(void *, int, const char *, size_t))
{
	struct event *limit = evtimer_new(daemon->base, on_no_answer, daemon);
	struct event *alive = event_new(daemon->base, -1, EV_PERSIST, on_alive, NULL);
	const struct timeval alive_interval = {.tv_sec = ALIVE_S};
	struct store_request *request = NULL;
	int r;

	if (!limit || !alive) {
		free_event(limit);
		free_event(alive);
		return -ENOMEM;
	}
	timer_set(limit, STORE_ANSWER_MS);
	event_add(alive, &alive_interval);
	r = store_read(daemon->store, "domid", done, daemon, &request);
	if (r == 0)
		event_base_dispatch(daemon->base);
	event_free(limit);
	event_free(alive);
	if (r == 0 && request)
		r = -ETIMEDOUT;
	store_cancel(&request);
	return daemon->stop_asked ? -EINTR : r;
}

static void note_own_leaf(struct daemon *daemon, unsigned leaf, int error, const char *value, size_t size)
{
	/* Also by what an attempt before has asked. */
	daemon->own_leaves_missing |= error == -ENOENT ? 1u << leaf : 0;
	daemon->has_token |= value && presence_token_parse(value, size, daemon->token);
}

static void on_own_presence(void *userdata, int error, const char *value, size_t size)
{
	note_own_leaf(userdata, 0, error, value, size);
}

static void on_own_private(void *userdata, int error, const char *value, size_t size)
{
	note_own_leaf(userdata, 1, error, value, size);
}

/* Whether the leaves of the daemon before are still there, by which this domain is the one that it was. It
 * may have had other settings. */
static int look_for_own_leaves(struct daemon *daemon)
{
	int r = store_read(daemon->store, "data/xenmsg/presence", on_own_presence, daemon, NULL);

	return r < 0 ? r : store_read(daemon->store, "data/xenmsg/own", on_own_private, daemon, NULL);
}

/* Learns our own number, without which nothing else can start. What was handed over waits for it as long as
 * XenStore doesn't answer, or isn't there: if this daemon ended, all of it would. */
static int learn_domid(struct daemon *daemon)
{
	bool looks = daemon->handover || keeper_is_there(), told = false;
	int r;

	for (;;) {
		r = looks ? look_for_own_leaves(daemon) : 0;
		if (r == 0)
			r = await_store(daemon, on_domid);
		if (r == 0)
			r = daemon->domid_error;
		if (!daemon->handover || (r != -ETIMEDOUT && r != -ENOTCONN))
			return r;
		if (!told)
			log_warning("XenStore doesn't answer: " STARTUP_WAITS "it does");
		told = true;
		if (r == -ENOTCONN)
			pause_before_next();
	}
}

/* --- devices, and no other daemon ------------------------------------------------------------- */

/* Logs why a device can't be opened, and what to do. */
static void explain_device(const char *device, int error)
{
	char module[32] = "xen-";
	const char *name = strrchr(device, '/');

	if (!name) {
		log_error("out of %s", device);
		return;
	}
	strncat(module, name + 1, sizeof(module) - strlen(module) - 1);
	if (access("/sys/hypervisor/type", F_OK) < 0)
		log_error(
			"this is no Xen domain: there is neither /sys/hypervisor/type nor %s; xensim simulates a Xen host",
			device);
	else if (error == -ENOENT || error == -ENODEV || error == -ENXIO)
		log_error(
			"there is no %s: load the module %s (modprobe %s); a kernel without it, such as Debian's cloud kernel, "
			"can't share memory between domains",
			device, module, module);
	else if (error == -EACCES || error == -EPERM)
		log_error(
			"can't open %s: %s; start xenmsgd as root and name a user under [daemon], or let this user read and write "
			"/dev/xen/evtchn, gntdev, gntalloc and xenbus (" ADVICE_DEVICES " lets xenmsgd)",
			device, strerror(-error));
	else
		log_error("can't open %s: %s", device, strerror(-error));
}

/* Of what this process needs, which no waiting ends. */
static bool is_lack(int error)
{
	return error == -EAGAIN || lack_passes(-error);
}

bool startup_takes_over(const struct inherited *inherited)
{
	const char *names = getenv("LISTEN_FDNAMES");

	return inherited->programs >= 0 || (names && strstr(names, HANDED_OVER_IMAGE));
}

void startup_hold_stop(int how)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigprocmask(how, &signals, NULL);
}

static bool is_told_to_stop(void)
{
	sigset_t told;

	return sigpending(&told) == 0 &&
	       (sigismember(&told, SIGTERM) == 1 || sigismember(&told, SIGINT) == 1);
}

int startup_despite_lacks(bool takes_over, int (*step)(void *userdata), void *userdata)
{
	uint64_t end = clock_ms() + STARTUP_LACKS_MS;
	uint32_t pause_ms = 0;
	int r;

	while (is_lack(r = step(userdata)) && takes_over && clock_ms() < end) {
		if (!pause_ms)
			log_warning(STARTUP_WAITS "there is what this daemon lacks: %s", strerror(-r));
		log_skip_repeats(true);
		if (is_told_to_stop()) {
			r = -EINTR;
			break;
		}
		pause_ms = retry_pause(RETRY_HERE, pause_ms);
		startup_pause(pause_ms);
	}
	log_skip_repeats(false);
	return r;
}

/* A step that reads files. */
struct file_step {
	int (*step)(void *userdata);
	void *userdata;
	bool takes_over;
};

static int with_good_files(void *userdata)
{
	const struct file_step *file_step = userdata;
	bool has_waited = false;
	int r;

	while (((r = file_step->step(file_step->userdata)) == -EAGAIN || r == -EBADMSG) &&
	       file_step->takes_over) {
		if (!has_waited)
			log_warning(STARTUP_WAITS "this is mended");
		log_skip_repeats(true);
		has_waited = true;
		if (is_told_to_stop()) {
			r = -EINTR;
			break;
		}
		pause_before_next();
	}
	log_skip_repeats(false);
	if (r == 0 && has_waited)
		log_info("that is mended");
	return r;
}

int startup_with_good_files(bool takes_over, int (*step)(void *userdata), void *userdata)
{
	if (takes_over) /* a stop would end what a restart is to keep */
		startup_hold_stop(SIG_BLOCK);
	return startup_despite_lacks(takes_over, with_good_files,
				     &(struct file_step){step, userdata, takes_over});
}

int startup_error(int error, int otherwise)
{
	return is_lack(error) ? error : otherwise;
}

/* Makes sure that no other daemon runs. Waits for one that is just stopping, which still takes its nodes out
 * of XenStore, so that a restart by hand works too. */
static int be_the_only_one(struct daemon *daemon)
{
	struct event *timer;
	int r;

	if (daemon->singleton >= 0) /* the daemon before has handed over the lock */
		return 0;
	timer = evtimer_new(daemon->base, on_no_answer, daemon);
	r = timer ? singleton_claim(SINGLETON_DIRECTORY, &daemon->singleton) : -ENOMEM;

	if (r == -EBUSY)
		log_info("another xenmsgd runs in this domain: waiting %d s for its end",
			 SINGLETON_WAIT_MS / 1000);
	for (int waited = 0; r == -EBUSY && waited < SINGLETON_WAIT_MS; waited += SINGLETON_PAUSE_MS) {
		timer_set(timer, SINGLETON_PAUSE_MS);
		event_base_dispatch(daemon->base);
		r = daemon->stop_asked ? -EINTR : singleton_claim(SINGLETON_DIRECTORY, &daemon->singleton);
	}
	free_event(timer);
	if (r == -EBUSY)
		log_error(
			"another xenmsgd runs in this domain, and there can be only one: stop it first (" ADVICE_STOP(
				"xenmsgd") ")");
	else if (r == -EROFS)
		log_error(
			"can't lock " SINGLETON_DIRECTORY
			" against a second xenmsgd: %s; mount -o remount,rw $(findmnt -n -o TARGET -T /run)",
			strerror(-r));
	else if (r < 0 && r != -EINTR && r != -ENOMEM)
		log_error("can't lock " SINGLETON_DIRECTORY
			  " against a second xenmsgd: %s; it must be a directory of the user that "
			  "xenmsgd is started as (the unit and tmpfiles.d make it)",
			  strerror(-r));
	return r < 0 && r != -EBUSY && r != -EINTR ? startup_error(r, -ENODEV) : r;
}

/* What was handed over waits for it. */
static int startup_connect_to_store(struct daemon *daemon)
{
	bool told = false;
	int r = 0;

	while (!daemon->store && (r = store_new(&daemon->store, daemon->base)) < 0 && daemon->handover &&
	       !is_lack(r)) {
		if (!told)
			log_warning("XenStore can't be reached: %s: " STARTUP_WAITS "it can", strerror(-r));
		told = true;
		pause_before_next();
	}
	return r;
}

int startup_xen(struct daemon *daemon)
{
	const char *what = "";
	int r = daemon->host ? 0 : vchan_host_new(&daemon->host, daemon->base, &what);

	if (r < 0) {
		explain_device(what, r);
		return startup_error(r, -ENODEV);
	}
	r = restore_prepare(daemon);
	if (r == 0)
		r = be_the_only_one(daemon);
	if (r < 0)
		return r;
	r = startup_connect_to_store(daemon);
	if (r < 0 && getenv("XENSTORED_PATH")) {
		log_error("can't connect to XenStore at %s, which XENSTORED_PATH names: %s",
			  getenv("XENSTORED_PATH"), strerror(-r));
		return startup_error(r, -ENODEV);
	}
	if (r < 0 && startup_error(r, -ENODEV) == r) {
		log_error("can't connect to XenStore: %s", strerror(-r));
		return r;
	}
	if (r < 0) {
		log_error(
			"can't connect to XenStore: %s; in domain 0 start xenstored (" ADVICE_START("xenstored") "), in a guest there "
			"must be /dev/xen/xenbus",
			strerror(-r));
		return -ENODEV;
	}
	r = learn_domid(daemon);
	if (r < 0 && r != -EINTR)
		log_error(
			"can't read this domain's number from XenStore: %s; does xenstored run in domain 0?",
			strerror(-r));
	if (r < 0 || daemon->self.domid == 0)
		return r;
	vchan_host_guard(daemon->host);
	if (daemon->has_token && !daemon->handover)
		vchan_host_take_from_keeper(daemon->host, daemon->token);
	restore_note_token(daemon);
	return 0;
}

static void startup_on_settled(void *userdata, int error, const char *untrusted_value, size_t size)
{
	struct daemon *daemon = userdata;

	daemon->domid_error = error;
	event_base_loopbreak(daemon->base);
}

int startup_await_presence(struct daemon *daemon)
{
	bool shown;
	int r;

	/* Others see it already, and nobody is to be answered before the image says what was agreed on. */
	if (daemon->handover)
		return 0;
	/* What comes after it in the store's queue is answered after it was written. */
	do {
		shown = peers_are_shown(daemon->peers);
		r = await_store(daemon, startup_on_settled);
		if (r == 0 && !shown && daemon->domid_error == -ENOTCONN)
			pause_before_next();
	} while (r == 0 && !shown);
	if (r != -ETIMEDOUT)
		return r;
	log_warning("XenStore doesn't answer: other domains don't see this daemon until it does");
	return 0;
}
