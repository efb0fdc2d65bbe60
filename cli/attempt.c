/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/attempt.h"

#include <errno.h>

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "libclient/again.h"

#define TICK_MS	   100
#define LONG_TICKS (CLI_LONG_MS / TICK_MS)

/* The reasons of messages and calls are texts that stay. */
static void note_result(void *userdata, const struct xenmsg_result *result)
{
	struct attempt *attempt = userdata;

	attempt->known = true;
	attempt->result = *result;
}

static int fail(struct attempt *attempt, int error, enum xenmsg_fate fate)
{
	attempt->result = (struct xenmsg_result){.error = error, .fate = fate, .reason = ""};
	return error;
}

static bool is_over(int64_t deadline)
{
	return deadline >= 0 && interrupt_deadline(0) >= deadline;
}

/* Nobody waits in silence at a terminal. */
static void tell_wait(struct attempt *attempt)
{
	bool is_away = cli_is_away(attempt->conn, attempt->address);

	attempt->ticks = -1;
	if (attempt->known)
		return;
	cli_note(attempt->cli, "%s %s: not yet %s%s%s", attempt->what, attempt->address,
		 attempt->is_call ? "answered" : "taken",
		 is_away ? ": its domain is away, and waited for" : "",
		 attempt->timeout_ms < 0 ? "; " CLI_ENDS_WAIT : "");
}

/* Sleeps until something has come, a tick is due, or the deadline. Returns 0, or -ENOTCONN or -EPROTO. */
static int look(struct attempt *attempt, int64_t deadline)
{
	int left_ms = interrupt_left(deadline), r;
	bool ticks = (attempt->tick || attempt->ticks >= 0) && (left_ms < 0 || left_ms > TICK_MS);

	r = interrupt_wait(attempt->conn, ticks ? interrupt_deadline(TICK_MS) : deadline);
	if (r == 0 && attempt->tick)
		attempt->tick(attempt->userdata);
	if (r == 0 && attempt->ticks >= 0 && ++attempt->ticks == LONG_TICKS)
		tell_wait(attempt);
	return r < 0 && r != -EINTR ? r : 0;
}

/* Obeys the first signal; from now on a second one kills. */
static void note_signal(struct attempt *attempt)
{
	attempt->interrupted = true;
	interrupt_take();
	interrupt_allow_complaint("%s %s: interrupted again; whether it was %s can't be known", attempt->what,
				  attempt->address, attempt->is_call ? "carried out" : "delivered");
}

static int begin(struct attempt *attempt, const void *data, size_t size, int left_ms)
{
	if (attempt->is_call)
		return xenmsg_begin_call(attempt->conn, attempt->address, data, size,
					 XENMSG_WITH(left_ms, attempt->flags), note_result, attempt,
					 &attempt->op);
	return xenmsg_begin_send(attempt->conn, attempt->address, data, size,
				 XENMSG_WITH(left_ms, attempt->flags), note_result, attempt, &attempt->op);
}

/* Begins it, as soon as there is room. Returns 0, or why it isn't out. */
static int begin_in_time(struct attempt *attempt, const void *data, size_t size, int64_t deadline)
{
	int r;

	while (!interrupt_came()) {
		r = begin(attempt, data, size, interrupt_left(deadline));
		if (r != -EAGAIN)
			return r;
		if (is_over(deadline))
			return -ETIMEDOUT;
		r = look(attempt, deadline);
		if (r < 0)
			return r;
	}
	note_signal(attempt);
	return -ETIMEDOUT;
}

void attempt_tell_name(struct xenmsg *conn, const char *address)
{
	char name[XENMSG_NAME_SIZE];

	if (xenmsg_sent_name(conn, address, 0, name, sizeof(name)) == 0)
		cli_print_line("%s", name);
	cli_flush();
}

static int try_once(struct attempt *attempt, const void *data, size_t size, int64_t deadline)
{
	int64_t settled = -1;
	int r;

	attempt->known = false;
	r = begin_in_time(attempt, data, size, deadline);
	if (r < 0)
		return fail(attempt, r, XENMSG_FATE_NOT_DONE);
	if (attempt->tells_name)
		attempt_tell_name(attempt->conn, attempt->address);
	while (!attempt->known && r == 0) {
		if (!attempt->interrupted && interrupt_came()) {
			note_signal(attempt);
			xenmsg_op_withdraw(attempt->op);
			settled = interrupt_deadline(ATTEMPT_SETTLE_MS);
		}
		/* It tells when the time is up, too, or the daemon gone. */
		r = is_over(settled) ? -ETIMEDOUT : look(attempt, settled);
	}
	return attempt->known ? attempt->result.error : fail(attempt, -ECONNRESET, XENMSG_FATE_UNKNOWN);
}

/* Waits before the next try. Returns 0, or why there is none. */
static int rest(struct attempt *attempt, int pause_ms)
{
	int64_t end = interrupt_deadline(pause_ms);
	int r = 0;

	while (r == 0 && !is_over(end)) {
		if (interrupt_came()) {
			note_signal(attempt);
			return -ETIMEDOUT;
		}
		r = look(attempt, end);
	}
	return r;
}

/* Says that it was the signal that ended the wait, where the library says that the time was up. */
static const char *interrupted_reason(const struct xenmsg_result *result)
{
	if (result->error == -ETIMEDOUT && result->fate == XENMSG_FATE_UNKNOWN)
		return "interrupted; the request was taken, and may have been carried out";
	if (result->error == -ETIMEDOUT)
		return "interrupted; it was not delivered";
	if (result->error == -ECONNRESET)
		return "interrupted, and the other side doesn't say whether it was taken: whether it was delivered "
		       "can't be known";
	return result->reason;
}

static int try_on(struct attempt *attempt, const void *data, size_t size)
{
	int64_t deadline = interrupt_deadline(attempt->timeout_ms);
	struct again again = {0};
	int r;

	/* A command that shows its progress says enough. */
	attempt->ticks = !attempt->tick && cli_is_watched(attempt->cli) ? 0 : -1;
	do {
		r = try_once(attempt, data, size, deadline);
		if (r != -ENODATA)
			break;
		/* The policy there isn't known yet. */
		r = again_pause(&again, deadline);
		if (r >= 0)
			r = rest(attempt, r);
		if (r < 0)
			fail(attempt, r, XENMSG_FATE_NOT_DONE);
	} while (r == 0);
	if (attempt->interrupted)
		attempt->result.reason = interrupted_reason(&attempt->result);
	return attempt->result.error;
}

int attempt_send(struct attempt *attempt, const void *data, size_t size)
{
	attempt->is_call = false;
	return try_on(attempt, data, size);
}

int attempt_call(struct attempt *attempt, const void *data, size_t size)
{
	attempt->is_call = true;
	return try_on(attempt, data, size);
}

int attempt_complain(const struct attempt *attempt)
{
	/* To ask the daemon why may take a while. */
	if (!attempt->interrupted)
		interrupt_allow(NULL);
	if (*cli_said(attempt->result.reason, attempt->result.error))
		return cli_error_because(attempt->result.reason, attempt->what, attempt->address,
					 attempt->result.error);
	return cli_error(attempt->conn, attempt->what, attempt->address, attempt->result.error);
}
