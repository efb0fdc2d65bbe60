/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Another process holds the other end of the socket, so no call here may wait for it: all are made with MSG_DONTWAIT,
 * and the socket is read and closed as a program's is (program_socket.h), since descriptors may be in it. It is read in
 * turns of the gateway's, which pays for the memory, too: it alone could have any number of hosts.
 *
 * Of what comes from there only the length of each frame is looked at; the hop judges the rest, and the indices are
 * checked as those of a ring in shared memory are (wire/ring.h).
 */

#include "daemon/link/socket_transport.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <event2/event.h>

#include "daemon/base/cost.h"
#include "daemon/base/quota.h"
#include "daemon/base/timer.h"
#include "daemon/hosts/hosts.h"
#include "daemon/relay/hop.h"
#include "daemon/relay/program_socket.h"
#include "wire/bytes.h"
#include "wire/frame.h"

#define RECORD_MAX   65536u /* bytes behind a head: so what is processed is told of in between */
#define READ_ONCE    65536u /* bytes in a turn, and a record more */
#define SENDS_ONCE   4u	    /* of a record each */
#define TELL_AT	     (SOCKET_RING_SIZE / 8) /* bytes processed that are told of at once, */
#define TELL_LATE_MS 20			    /* fewer after so long, unless a record goes that way anyway */

_Static_assert(2 * SOCKET_RING_SIZE == HOSTS_CONVERSATION_MEMORY, "that is what is charged");

struct direction {
	struct ring_words words;
	uint8_t *data;
};

struct carrier {
	struct relay *relay;
	int fd;
	struct charge charge;
	bool is_granter;
	enum transport_state state;
	transport_event_fn event;
	void *userdata;
	struct event *readable, *writable, *late;
	struct task turn;	    /* there is input, or there was */
	struct task output;	    /* our hop has written, or processed */
	struct direction in, out;   /* as the hop sees them */
	struct ring_writer arrived; /* writes what has come into `in` */
	struct ring_reader leaving; /* reads what is to be sent from `out` */
	/* The record that is being read, and the one that is being sent. */
	uint8_t head_in[SOCKET_RECORD_HEAD], head_out[SOCKET_RECORD_HEAD];
	uint32_t head_in_size, head_out_left;
	uint32_t record_in, record_out; /* bytes behind the head that are still to come, and to go */
	uint32_t offset_out;		/* of what was sent, from what the other end has processed */
	uint32_t told;			/* the index that the other end knows of */
	uint32_t whole;			/* the index in `in` before which frames are complete */
};

static void spend(struct carrier *carrier, uint64_t units)
{
	relay_spend(carrier->relay, carrier->charge.account, units);
}

/* --- in --------------------------------------------------------------------------------------- */

static void tell(struct carrier *carrier)
{
	if (carrier->event)
		carrier->event(carrier->userdata);
}

static void end(struct carrier *carrier, enum transport_state state)
{
	if (carrier->state != TRANSPORT_OPEN)
		return;
	carrier->state = state;
	event_del(carrier->readable);
	event_del(carrier->writable);
	event_del(carrier->late);
	task_cancel(&carrier->turn);
	task_cancel(&carrier->output);
}

/* Takes the index up to which the other end has processed. False: it can't be. */
static bool take_index(struct carrier *carrier, uint32_t index)
{
	uint32_t processed = index - carrier->leaving.tail;

	if (processed > carrier->offset_out || index & 7)
		return false;
	carrier->offset_out -= processed;
	ring_reader_consume(&carrier->leaving, processed);
	return true;
}

static void take_head(struct carrier *carrier)
{
	carrier->head_in_size = 0;
	carrier->record_in = get_u32(carrier->head_in);
	/* The other end knows what we have processed, so it never sends more than there is room for. */
	if (carrier->record_in > RECORD_MAX || !take_index(carrier, get_u32(carrier->head_in + 4)) ||
	    ring_writer_space(&carrier->arrived, carrier->record_in) < (int)carrier->record_in)
		end(carrier, TRANSPORT_BROKEN);
}

/* Reads what is left of a record, and the head of the next one. Adds to *taken how many bytes came. False: there are no
 * more. */
static bool receive(struct carrier *carrier, size_t *taken)
{
	uint32_t wanted = carrier->record_in + SOCKET_RECORD_HEAD - carrier->head_in_size, bytes;
	struct iovec pieces[PROGRAM_SOCKET_PIECES];
	unsigned count = 0;
	ssize_t size;

	if (carrier->record_in)
		count = (unsigned)ring_writer_reserve(&carrier->arrived, carrier->record_in, pieces);
	pieces[count].iov_base = carrier->head_in + carrier->head_in_size;
	pieces[count++].iov_len = SOCKET_RECORD_HEAD - carrier->head_in_size;
	size = program_socket_read(carrier->fd, pieces, count);
	spend(carrier, 2 * COST_SYSCALL + (size > 0 ? 2 * COST_BYTES((uint64_t)size) : 0));
	if (size == -EAGAIN)
		return false;
	if (size <= 0) {
		end(carrier, size == -EBADMSG ? TRANSPORT_BROKEN : TRANSPORT_LEFT);
		return false;
	}
	*taken += (size_t)size;
	bytes = (uint32_t)size < carrier->record_in ? (uint32_t)size : carrier->record_in;
	ring_writer_advance(&carrier->arrived, bytes);
	carrier->record_in -= bytes;
	carrier->head_in_size += (uint32_t)size - bytes;
	if (carrier->head_in_size == SOCKET_RECORD_HEAD)
		take_head(carrier);
	return (uint32_t)size == wanted && carrier->state == TRANSPORT_OPEN;
}

/* Finds how many frames are complete: a ring's writer lets the reader see whole ones only, and a socket cuts them
 * anywhere. */
static void find_whole_frames(struct carrier *carrier)
{
	const struct ring_writer *writer = &carrier->arrived;
	struct ring_reader reader = {.ring = writer->ring, .tail = carrier->whole};
	uint8_t head[FRAME_HEADER_SIZE];
	struct frame_header header;
	uint64_t frames = 0;

	while (writer->head - reader.tail >= FRAME_HEADER_SIZE) {
		ring_reader_copy(&reader, 0, head, sizeof(head));
		if (frame_header_decode(head, &header) < 0) {
			end(carrier, TRANSPORT_BROKEN);
			break;
		}
		if (writer->head - reader.tail < frame_size(header.length))
			break;
		reader.tail += frame_size(header.length);
		frames++;
	}
	spend(carrier, frames);
	carrier->whole = reader.tail;
}

/* Lets the hop see them. Returns whether it has asked to hear of that. */
static bool publish(struct carrier *carrier)
{
	struct ring_writer *writer = &carrier->arrived;

	find_whole_frames(carrier);
	if (writer->published == carrier->whole)
		return false;
	writer->published = carrier->whole;
	ring_store(writer->ring.producer, carrier->whole);
	return ring_take_request(writer->ring.wants_data, writer->ring.wants_data_bit);
}

/* --- out -------------------------------------------------------------------------------------- */

/* What our hop has processed. */
static uint32_t processed(const struct carrier *carrier)
{
	return ring_load(carrier->arrived.ring.consumer);
}

/* Begins a record, if there is something to send, or to tell of. False: there is nothing. */
static bool begin_record(struct carrier *carrier, bool late)
{
	uint32_t index = processed(carrier), size;
	int ready = ring_reader_ready(&carrier->leaving, carrier->offset_out + 1);

	if (ready < 0)
		return false; /* it is our own hop's ring */
	size = (uint32_t)ready - carrier->offset_out;
	if (!size && index - carrier->told < (late ? 1 : TELL_AT))
		return false;
	carrier->record_out = size < RECORD_MAX ? size : RECORD_MAX;
	put_u32(carrier->head_out, carrier->record_out);
	put_u32(carrier->head_out + 4, index);
	carrier->head_out_left = SOCKET_RECORD_HEAD;
	carrier->told = index;
	return true;
}

/* Sends what there is of a record. False: the socket takes no more, now or ever. */
static bool send_record(struct carrier *carrier)
{
	struct iovec pieces[3] = {
		{carrier->head_out + SOCKET_RECORD_HEAD - carrier->head_out_left, carrier->head_out_left}};
	struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 1};
	uint32_t head;
	ssize_t size;

	if (carrier->record_out)
		message.msg_iovlen += (size_t)ring_reader_peek(&carrier->leaving, carrier->offset_out,
							       carrier->record_out, pieces + 1);
	size = sendmsg(carrier->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	spend(carrier, COST_SYSCALL + (size > 0 ? COST_BYTES((uint64_t)size) : 0));
	if (size < 0 && (errno == EAGAIN || errno == EINTR))
		event_add(carrier->writable, NULL);
	else if (size < 0)
		shutdown(carrier->fd, SHUT_RDWR); /* so that reading comes to an end, too, and tells */
	if (size < 0)
		return false;
	head = (size_t)size < carrier->head_out_left ? (uint32_t)size : carrier->head_out_left;
	carrier->head_out_left -= head;
	carrier->record_out -= (uint32_t)size - head;
	carrier->offset_out += (uint32_t)size - head;
	return true;
}

/* Sends what there is, and in a turn of its own what is more than a turn's. */
static void send_records(struct carrier *carrier, bool late)
{
	unsigned sends = 0;

	if (carrier->state != TRANSPORT_OPEN)
		return;
	do {
		while (carrier->head_out_left || carrier->record_out || begin_record(carrier, late)) {
			if (sends++ == SENDS_ONCE) {
				task_due(&carrier->output);
				return;
			}
			if (!send_record(carrier))
				return;
		}
	} while (ring_reader_arm(&carrier->leaving, carrier->offset_out + 1) > 0);
	/* Hear of what the hop processes. */
	ring_request(carrier->arrived.ring.wants_space, carrier->arrived.ring.wants_space_bit);
	if (processed(carrier) != carrier->told)
		timer_start(carrier->late, TELL_LATE_MS);
}

/* --- events ----------------------------------------------------------------------------------- */

static void on_turn(struct task *task)
{
	struct carrier *carrier = (struct carrier *)((char *)task - offsetof(struct carrier, turn));
	size_t taken = 0;
	bool wanted;

	/* What is left makes the socket readable again. */
	while (receive(carrier, &taken) && taken < READ_ONCE)
		;
	wanted = publish(carrier);
	wanted |= ring_reader_release(&carrier->leaving);
	send_records(carrier, false);
	if (wanted || carrier->state != TRANSPORT_OPEN)
		tell(carrier);
}

static void on_output(struct task *task)
{
	send_records((struct carrier *)((char *)task - offsetof(struct carrier, output)), false);
}

static void on_readable(int fd, short what, void *userdata)
{
	struct carrier *carrier = userdata;

	task_due(&carrier->turn);
}

static void on_writable(int fd, short what, void *userdata)
{
	send_records(userdata, false);
}

static void on_late(int fd, short what, void *userdata)
{
	send_records(userdata, true);
}

/* --- as a transport --------------------------------------------------------------------------- */

static void rings(void *carrier_, struct ring_view *in, struct ring_view *out)
{
	struct carrier *carrier = carrier_;

	*in = ring_words_view(&carrier->in.words, carrier->in.data, SOCKET_RING_SIZE);
	*out = ring_words_view(&carrier->out.words, carrier->out.data, SOCKET_RING_SIZE);
}

static void hear(void *carrier_, transport_event_fn event, void *userdata)
{
	struct carrier *carrier = carrier_;

	carrier->event = event;
	carrier->userdata = userdata;
}

/* What the hop writes in its turn goes together: a call of the kernel for each frame takes longer than the frame. */
static int notify(void *carrier_)
{
	struct carrier *carrier = carrier_;

	if (carrier->state == TRANSPORT_OPEN)
		task_due(&carrier->output);
	return 0;
}

static enum transport_state state(void *carrier)
{
	return ((struct carrier *)carrier)->state;
}

static void free_carrier(struct carrier *carrier)
{
	free_event(carrier->readable);
	free_event(carrier->writable);
	free_event(carrier->late);
	task_cancel(&carrier->turn);
	task_cancel(&carrier->output);
	program_socket_close(carrier->relay, carrier->fd, &carrier->charge);
	charge_end(&carrier->charge);
	free(carrier->in.data);
	free(carrier->out.data);
	free(carrier);
}

/* What was written last, a GOODBYE perhaps, still goes as far as the socket takes it. */
static void close_carrier(void *carrier, bool to_resume)
{
	send_records(carrier, false);
	free_carrier(carrier);
}

static bool is_granter(void *carrier)
{
	return ((struct carrier *)carrier)->is_granter;
}

static uint32_t pages(void *carrier)
{
	return 0;
}

int socket_transport_new(struct transport *transport, struct relay *relay, int fd, struct charge *charge,
			 bool granter)
{
	static const struct transport_functions functions = {
		.rings = rings,
		.hear = hear,
		.notify = notify,
		.state = state,
		.close = close_carrier,
		.is_granter = is_granter,
		.pages = pages,
	};
	struct carrier *carrier = calloc(1, sizeof(*carrier));
	struct ring_view in, out;

	if (!carrier) {
		program_socket_close(relay, fd, charge);
		charge_end(charge);
		return -ENOMEM;
	}
	carrier->relay = relay;
	carrier->fd = fd;
	charge_move(&carrier->charge, charge);
	task_init(&carrier->turn, &relay->turns, account_line(carrier->charge.account), on_turn);
	task_init(&carrier->output, &relay->turns, account_line(carrier->charge.account), on_output);
	carrier->is_granter = granter;
	carrier->state = TRANSPORT_OPEN;
	carrier->in.data = calloc(1, SOCKET_RING_SIZE);
	carrier->out.data = calloc(1, SOCKET_RING_SIZE);
	carrier->readable = event_new(relay->base, fd, EV_READ | EV_PERSIST, on_readable, carrier);
	carrier->writable = event_new(relay->base, fd, EV_WRITE, on_writable, carrier);
	carrier->late = evtimer_new(relay->base, on_late, carrier);
	if (!carrier->in.data || !carrier->out.data || !carrier->readable || !carrier->writable ||
	    !carrier->late || program_socket_init(fd) < 0 || event_add(carrier->readable, NULL) < 0) {
		free_carrier(carrier);
		return -ENOMEM;
	}
	rings(carrier, &in, &out);
	ring_writer_init(&carrier->arrived, &in, false);
	ring_reader_init(&carrier->leaving, &out, false);
	send_records(carrier, false); /* which asks to hear of what is written */
	*transport = (struct transport){&functions, carrier};
	return 0;
}
