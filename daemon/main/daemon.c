/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/main/daemon.h"

#include <config.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/clock.h"
#include "base/descriptors.h"
#include "daemon/main/daemon_internal.h"
#include "daemon/link/link.h"
#include "daemon/main/renewal.h"
#include "daemon/serve/questions.h"
#include "daemon/main/startup.h"
#include "daemon/local/local.h"
#include "base/log.h"
#include "daemon/main/memory_left.h"
#include "base/notify.h"
#include "daemon/peers/peers.h"
#include "base/timer.h"
#include "daemon/xen/store.h"
#include "daemon/xen/vchan.h"
#include "wire/cpu_atomics.h"

#define GREETINGS_MS 1000
#define MEMORY_TOO                                                                                           \
	(8u << 20) /* bytes: for the next daemon, and what comes until then; a small guest has it */
#define BASE_FILES   8
#define MUCH_MEMORY  (16u << 20) /* bytes */
#define HOLDER_STACK 16384
#define FILES_TOO    16 /* which the next daemon has open for a moment, and the image */

/* --- signals ---------------------------------------------------------------------------------- */

/* Refuses the renewal to the program that has asked for it, if it is still there. */
static void answer_renewal(struct daemon *daemon, int error, const char *words)
{
	if (daemon->renewal_asked_by)
		question_refuse(daemon->renewal_asked_by, -error, words);
	daemon->renewal_asked_by = NULL;
}

/* Under a service manager the next program says first whether it is about to be started, and would take over.
 * A second request to stop doesn't wait for that. Nor does a restart for the answer to a renewal,
 * which it makes needless. */
static bool asks_for_restart(struct daemon *daemon, int number)
{
	if (number != SIGTERM || !daemon->is_running || daemon->asks_for_restart || !getenv("NOTIFY_SOCKET"))
		return false;
	if (renewal_give_up(daemon->renewal))
		answer_renewal(daemon, -ECANCELED, "the service is being stopped or restarted");
	daemon->asks_for_restart = renewal_begin(daemon->renewal, true) == 0;
	return daemon->asks_for_restart;
}

static void on_stop_signal(int number, short what, void *userdata)
{
	struct daemon *daemon = userdata;

	if (daemon->is_handing_over) { /* it is held since then, so the next program hears it */
		kill(getpid(), number);
		return;
	}
	log_info("stopping: %s", strsignal(number));
	if (asks_for_restart(daemon, number))
		return;
	daemon->stop_asked = true;
	event_base_loopbreak(daemon->base);
}

static void on_hangup(int number, short what, void *userdata)
{
	struct daemon *daemon = userdata;

	reload_files(daemon);
}

static void hold_signal(int number, int how)
{
	sigset_t signals;

	sigemptyset(&signals);
	sigaddset(&signals, number);
	sigprocmask(how, &signals, NULL);
}

/* Between two programs nobody hears signals, so they wait for the next one, until it runs. */
static void hold_signals(int how)
{
	startup_hold_stop(how);
	hold_signal(SIGHUP, how);
}

/* Makes an event and adds it, unless that was done before. */
static int hear_signal(struct daemon *daemon, struct event **event, int number, event_callback_fn heard)
{
	if (!*event)
		*event = evsignal_new(daemon->base, number, heard, daemon);
	return *event && event_add(*event, NULL) == 0 ? 0 : -ENOMEM;
}

static int start_base(void *userdata)
{
	struct daemon *daemon = userdata;
	int r;

	if (!daemon->base &&
	    !descriptors_can_be_made(BASE_FILES)) /* libevent ends the process for want of one */
		return -EMFILE;
	if (!daemon->base)
		daemon->base = event_base_new();
	if (!daemon->base)
		return -ENOMEM;
	r = hear_signal(daemon, &daemon->term, SIGTERM, on_stop_signal);
	if (r == 0)
		r = hear_signal(daemon, &daemon->interrupt, SIGINT, on_stop_signal);
	if (r == 0)
		r = hear_signal(daemon, &daemon->hangup, SIGHUP, on_hangup);
	return r < 0 ? r : self_new_instance(&daemon->self);
}

static void prepare_process(struct daemon *daemon)
{
	/* A mask is inherited, and the ends of commands must be heard, whoever starts the daemon. */
	hold_signal(SIGCHLD, SIG_UNBLOCK);
	daemon->descriptors = descriptors_pool(); /* before any of the former daemon's are taken */
	if (!startup_takes_over(&daemon->inherited))
		startup_hold_stop(SIG_UNBLOCK);
	hold_signal(SIGHUP, SIG_BLOCK); /* there is nothing yet that a reload could be applied to */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* an image that may not be as large fails, and no more */
}

/* --- handing over ----------------------------------------------------------------------------- */

static void on_renewal_checked(void *userdata, int error, const char *words)
{
	struct daemon *daemon = userdata;

	/* Until a program has moved to other memory, there are two. */
	if (error == 0 && !descriptors_are_left(local_memories(daemon->local) + FILES_TOO)) {
		error = -EINVAL;
		words = "this daemon may not have as many descriptors open as the next one needs: see LimitNOFILE= "
			"in its unit";
	}
	/* What is queued is there twice for a moment: here, and in the image. */
	if (error == 0 && memory_left("") < handover_size(daemon) + MEMORY_TOO) {
		error = -EINVAL;
		words = "there is too little memory for an image of what is queued: see MemoryMax= in its unit";
	}
	if (error < 0) /* else the next program answers */
		answer_renewal(daemon, error, words);
	if (daemon->asks_for_restart) {
		log_info(error < 0 ? "all connections end: %s" : "leaving all connections to %s", words);
		daemon->is_restarted = error == 0;
		daemon->stop_asked = true;
		event_base_loopbreak(daemon->base);
		return;
	}
	if (error < 0) {
		log_error("not handing over: %s", words);
		return;
	}
	log_info("handing over to %s", words);
	daemon->is_handing_over = true;
	hold_signals(SIG_BLOCK);
	event_base_loopbreak(daemon->base);
}

void renewal_ask(void *userdata, struct question *question)
{
	struct daemon *daemon = userdata;
	/* While it awaits greetings, nobody would answer a second one. */
	int r = daemon->is_handing_over ? -EBUSY : renewal_begin(daemon->renewal, false);
	char words[PATH_MAX + 100];

	if (r == -EBUSY) {
		question_refuse(question, EBUSY, "xenmsgd is being renewed already");
		return;
	}
	daemon->renewal_asked_by = question;
	if (r == 0)
		return;
	snprintf(words, sizeof(words), "%s can't be run: %s", daemon->program->path, strerror(-r));
	on_renewal_checked(daemon, startup_error(r, -EINVAL), words);
}

void renewal_forget(void *userdata, const struct question *question)
{
	struct daemon *daemon = userdata;

	if (daemon->renewal_asked_by == question)
		daemon->renewal_asked_by = NULL;
}

/* Lets links greet that have begun to. A peer that has heard our greeting has a session, which the next
 * daemon wouldn't know before we have heard the peer's. One that stands still isn't waited for. */
static void await_greetings(struct daemon *daemon)
{
	const struct timeval pause = {.tv_usec = 5000};
	uint64_t end = clock_ms() + GREETINGS_MS;

	while (links_greet(daemon->links) && clock_ms() < end &&
	       event_base_loopexit(daemon->base, &pause) == 0)
		event_base_loop(daemon->base, EVLOOP_ONCE);
}

void renewal_tell(void *userdata, struct question *question)
{
	static const char version[] = "xenmsgd " PACKAGE_VERSION;

	if (((struct daemon *)userdata)->has_lost)
		question_refuse(question, ECONNRESET,
				"the next one couldn't take over all: its log says what has ended");
	else
		question_answer(question, version, strlen(version));
}

bool daemon_hands_over(const struct daemon *daemon)
{
	return daemon->is_handing_over && !daemon->stop_asked && !daemon->failed;
}

/* Shares this program's memory, without its descriptors, until that has become the next program. */
static int hold_memory(void *pipe)
{
	uint8_t byte;

	dup2(*(int *)pipe, STDIN_FILENO);
	syscall(SYS_close_range, STDERR_FILENO, UINT_MAX, 0);
	(void)!read(STDIN_FILENO, &byte, sizeof(byte));
	_exit(0);
}

/* Between them the two leave a process that nobody here has to reap. */
static int begin_to_hold(void *pipe)
{
	static _Alignas(16) uint8_t stack[HOLDER_STACK];

	clone(hold_memory, stack + sizeof(stack), CLONE_VM, pipe);
	_exit(0);
}

/* Much memory takes long to give back: 240 MB 50 ms, for which execve(2) would wait, and everybody with it.
 * Another process gives it back when it ends, behind that. */
static void leave_memory_behind(uint64_t size)
{
	static _Alignas(16) uint8_t stack[HOLDER_STACK];
	static int ends[2];
	pid_t pid;

	if (size < MUCH_MEMORY || pipe2(ends, O_CLOEXEC) < 0)
		return;
	pid = clone(begin_to_hold, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, ends);
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

/* Runs the next program, or this one once more, with what was made for the next: that one knows then what to
 * run another time. */
static _Noreturn void run_next(const char *path, char **next, char **self)
{
	execv(path, next);
	log_error("can't start %s: %s; this program takes over from itself", path, strerror(errno));
	execv("/proc/self/exe", self);
	log_error("can't start this program again: %s", strerror(errno));
	exit(EXIT_FAILURE);
}

void daemon_hand_over(struct daemon *daemon, const struct daemon_program *program)
{
	char text[INHERITED_TEXT_SIZE] = "", why[128];
	struct inherited inherited;
	char **next = renewal_arguments(program->argv, "--take-over", text), **self = NULL;
	char **known = renewal_arguments(program->argv, "--program", program->path);
	uint64_t size = handover_size(daemon);
	const char *words;
	int r = -ENOMEM;

	if (known)
		self = renewal_arguments(known, "--take-over", text);
	if (next && self)
		r = handover_make(daemon, &inherited);
	if (r == 0) {
		inherited_print(&inherited, text);
		leave_memory_behind(size);
		run_next(program->path, next, self);
	}
	words = r == -ETIMEDOUT ? "XenStore doesn't answer" : strerror(-r);
	log_error("can't hand over: %s; this daemon goes on", words);
	snprintf(why, sizeof(why), "xenmsgd can't hand over: %s", words);
	answer_renewal(daemon, -EINVAL, why);
	daemon->is_handing_over = false;
	restore_instead_of_stop(daemon);
	free(next);
	free(self);
	free(known);
}

bool daemon_is_restarted(const struct daemon *daemon)
{
	return daemon->is_restarted && !daemon->failed;
}

int daemon_store(struct daemon *daemon)
{
	uint64_t end = clock_ms() + STARTUP_LACKS_MS;
	int r;

	while ((r = handover_store(daemon)) < 0 && startup_error(r, 0) < 0 && clock_ms() < end)
		startup_pause(LACK_MS);
	if (r < 0)
		log_error("can't leave the connections to the next program, so they end: %s", strerror(-r));
	return r;
}

/* --- life ------------------------------------------------------------------------------------- */

struct making {
	struct daemon *daemon;
	const struct daemon_program *program;
};

static int make_daemon(void *userdata)
{
	struct making *making = userdata;

	making->daemon = calloc(1, sizeof(*making->daemon));
	return making->daemon ? 0 : -ENOMEM;
}

static int make_renewal(void *userdata)
{
	const struct making *making = userdata;
	struct daemon *daemon = making->daemon;

	daemon->renewal = renewal_new(daemon->base, making->program->path, making->program->argv,
				      on_renewal_checked, daemon);
	return daemon->renewal ? 0 : -ENOMEM;
}

int daemon_new(struct daemon **out, const struct config *config, const struct daemon_program *program)
{
	bool takes_over = startup_takes_over(&program->inherited);
	struct making making = {.program = program};
	int r = startup_despite_lacks(takes_over, make_daemon, &making);
	struct daemon *daemon = making.daemon;

	if (r < 0)
		return r;
	daemon->singleton = daemon->gateway_socket = -1;
	daemon->inherited = program->inherited;
	daemon->program = program;
	daemon->sockets = HANDED_OVER_NOTHING;
	daemon->started_ms = clock_ms();
	daemon->config = *config;
	prepare_process(daemon);
	r = startup_despite_lacks(takes_over, start_base, daemon);
	if (r == 0)
		r = startup_despite_lacks(takes_over, make_renewal, &making);
	if (r == 0)
		r = wiring_start(daemon);
	if (r < 0)
		daemon_free(daemon);
	else
		*out = daemon;
	return r;
}

int daemon_run(struct daemon *daemon)
{
	struct turns *turns = &daemon->board.turns;
	bool goes_on = true;

	log_info("domain %u: listening on %s", daemon->self.domid, local_path(daemon->local));
	if (!cpu_has_bounded_atomics())
		log_warning(
			"this CPU lacks LSE (ARMv8.1): a program or a domain that writes without end to what it shares with "
			"this daemon can hold it (doc/security.md)");
	notify_ready(daemon->notify);
	daemon->is_running = true;
	hold_signals(SIG_UNBLOCK);
	turns_drive(turns, true);
	/* Passes come behind the loop's round, which forgets when it begins that somebody has asked to
	 * end. */
	do {
		if (event_base_loop(daemon->base, goes_on ? EVLOOP_ONCE | EVLOOP_NONBLOCK : EVLOOP_ONCE) < 0)
			return -EIO;
		turns_go(turns);
		vchan_host_look(daemon->host);
		invariants_check(daemon);
		goes_on = links_poll(daemon->links) || turns_are_asked(turns);
	} while (!event_base_got_break(daemon->base));
	turns_drive(turns, false);
	if (daemon_hands_over(daemon) || daemon->is_restarted) {
		handover_get_pages(daemon);
		await_greetings(daemon);
	}
	if (daemon_hands_over(daemon)) {
		/* A signal to stop that came before it was held would be lost with this program. */
		event_base_loop(daemon->base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
		notify_reloading(daemon->notify);
	} else {
		notify_stopping(daemon->notify);
	}
	daemon->store_is_silent = !restore_before_stop(daemon);
	return daemon->failed ? -EIO : 0;
}

void daemon_free(struct daemon *daemon)
{
	if (!daemon)
		return;
	daemon->stopping = true;
	renewal_free(daemon->renewal);
	wiring_end(daemon);
	if (daemon->singleton >= 0) /* not before our nodes are out of XenStore */
		close(daemon->singleton);
	free_event(daemon->term);
	free_event(daemon->interrupt);
	free_event(daemon->hangup);
	if (daemon->base)
		event_base_free(daemon->base);
	free(daemon);
}
