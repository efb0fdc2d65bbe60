/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/delivery.h"

#include <errno.h>

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "libclient/again.h"

#define TICK_MS	   100
#define LONG_TICKS (CLI_LONG_MS / TICK_MS)

/* The reasons of messages and calls are texts that stay. */
static void note_result(void *userdata, const struct xenmsg_result *result)
{
	struct delivery *delivery = userdata;

	delivery->known = true;
	delivery->result = *result;
}

static int fail(struct delivery *delivery, int error, enum xenmsg_fate fate)
{
	delivery->result = (struct xenmsg_result){.error = error, .fate = fate, .reason = ""};
	return error;
}

static bool is_over(int64_t deadline)
{
	return deadline >= 0 && interrupt_deadline(0) >= deadline;
}

/* Nobody waits in silence at a terminal. */
static void tell_wait(struct delivery *delivery)
{
	bool is_away = cli_is_away(delivery->conn, delivery->address);

	delivery->ticks = -1;
	if (delivery->known)
		return;
	cli_note(delivery->cli, "%s %s: not yet %s%s%s", delivery->what, delivery->address,
		 delivery->is_call ? "answered" : "taken",
		 is_away ? ": its domain is away, and waited for" : "",
		 delivery->timeout_ms < 0 ? "; " CLI_ENDS_WAIT : "");
}

/* Sleeps until something has come, a tick is due, or the deadline. Returns 0, or -ENOTCONN or -EPROTO. */
static int look(struct delivery *delivery, int64_t deadline)
{
	int left_ms = interrupt_left(deadline), r;
	bool ticks = (delivery->tick || delivery->ticks >= 0) && (left_ms < 0 || left_ms > TICK_MS);

	r = interrupt_wait(delivery->conn, ticks ? interrupt_deadline(TICK_MS) : deadline);
	if (r == 0 && delivery->tick)
		delivery->tick(delivery->userdata);
	if (r == 0 && delivery->ticks >= 0 && ++delivery->ticks == LONG_TICKS)
		tell_wait(delivery);
	return r < 0 && r != -EINTR ? r : 0;
}

/* Obeys the first signal; from now on a second one kills. */
static void note_signal(struct delivery *delivery)
{
	delivery->interrupted = true;
	interrupt_take();
	interrupt_allow_complaint("%s %s: interrupted again; whether it was %s can't be known",
				  delivery->what, delivery->address,
				  delivery->is_call ? "carried out" : "delivered");
}

static int begin(struct delivery *delivery, const void *data, size_t size, int left_ms)
{
	if (delivery->is_call)
		return xenmsg_begin_call(delivery->conn, delivery->address, data, size,
					 XENMSG_WITH(left_ms, delivery->flags), note_result, delivery,
					 &delivery->op);
	return xenmsg_begin_send(delivery->conn, delivery->address, data, size,
				 XENMSG_WITH(left_ms, delivery->flags), note_result, delivery, &delivery->op);
}

/* Begins it, as soon as there is room. Returns 0, or why it isn't out. */
static int begin_in_time(struct delivery *delivery, const void *data, size_t size, int64_t deadline)
{
	int r;

	while (!interrupt_came()) {
		r = begin(delivery, data, size, interrupt_left(deadline));
		if (r != -EAGAIN)
			return r;
		if (is_over(deadline))
			return -ETIMEDOUT;
		r = look(delivery, deadline);
		if (r < 0)
			return r;
	}
	note_signal(delivery);
	return -ETIMEDOUT;
}

void delivery_tell_name(struct xenmsg *conn, const char *address)
{
	char name[XENMSG_NAME_SIZE];

	if (xenmsg_sent_name(conn, address, 0, name, sizeof(name)) == 0)
		cli_print_line("%s", name);
	cli_flush();
}

static int try_once(struct delivery *delivery, const void *data, size_t size, int64_t deadline)
{
	int64_t settled = -1;
	int r;

	delivery->known = false;
	r = begin_in_time(delivery, data, size, deadline);
	if (r < 0)
		return fail(delivery, r, XENMSG_FATE_NOT_DONE);
	if (delivery->tells_name)
		delivery_tell_name(delivery->conn, delivery->address);
	while (!delivery->known && r == 0) {
		if (!delivery->interrupted && interrupt_came()) {
			note_signal(delivery);
			xenmsg_op_withdraw(delivery->op);
			settled = interrupt_deadline(DELIVERY_SETTLE_MS);
		}
		/* It tells when the time is up, too, or the daemon gone. */
		r = is_over(settled) ? -ETIMEDOUT : look(delivery, settled);
	}
	return delivery->known ? delivery->result.error : fail(delivery, -ECONNRESET, XENMSG_FATE_UNKNOWN);
}

/* Waits before the next try. Returns 0, or why there is none. */
static int rest(struct delivery *delivery, int pause_ms)
{
	int64_t end = interrupt_deadline(pause_ms);
	int r = 0;

	while (r == 0 && !is_over(end)) {
		if (interrupt_came()) {
			note_signal(delivery);
			return -ETIMEDOUT;
		}
		r = look(delivery, end);
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

static int try_on(struct delivery *delivery, const void *data, size_t size)
{
	int64_t deadline = interrupt_deadline(delivery->timeout_ms);
	struct again again = {0};
	int r;

	/* A command that shows its progress says enough. */
	delivery->ticks = !delivery->tick && cli_is_watched(delivery->cli) ? 0 : -1;
	do {
		r = try_once(delivery, data, size, deadline);
		if (r != -ENODATA)
			break;
		/* The policy there isn't known yet. */
		r = again_pause(&again, deadline);
		if (r >= 0)
			r = rest(delivery, r);
		if (r < 0)
			fail(delivery, r, XENMSG_FATE_NOT_DONE);
	} while (r == 0);
	if (delivery->interrupted)
		delivery->result.reason = interrupted_reason(&delivery->result);
	return delivery->result.error;
}

int delivery_send(struct delivery *delivery, const void *data, size_t size)
{
	delivery->is_call = false;
	return try_on(delivery, data, size);
}

int delivery_call(struct delivery *delivery, const void *data, size_t size)
{
	delivery->is_call = true;
	return try_on(delivery, data, size);
}

int delivery_complain(const struct delivery *delivery)
{
	/* To ask the daemon why may take a while. */
	if (!delivery->interrupted)
		interrupt_allow(NULL);
	if (*cli_said(delivery->result.reason, delivery->result.error))
		return cli_error_because(delivery->result.reason, delivery->what, delivery->address,
					 delivery->result.error);
	return cli_error(delivery->conn, delivery->what, delivery->address, delivery->result.error);
}
