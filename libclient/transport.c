/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "libclient/transport.h"

#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "libclient/socket_pump.h"
#include "libclient/transport_internal.h"
#include "wire/bytes.h"
#include "wire/doorbell.h"
#include "wire/frame_ring.h"

#define LEND_LATER 64u
#define EVENTS	   8 /* that are taken at once; what is left is told the next time */

void transport_keep_reason(struct transport *transport, struct frame_text text)
{
	frame_text_copy(text, transport->reason, sizeof(transport->reason));
}

int transport_watch(const struct transport *transport, int fd, uint32_t events, uint32_t number)
{
	struct epoll_event event = {.events = events, .data.u64 = number | (uint64_t)fd << 32};

	return epoll_ctl(transport->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int transport_watch_stream(const struct transport *transport, int fd)
{
	return transport_watch(transport, fd, EPOLLIN | EPOLLRDHUP, ON_STREAM);
}

void transport_forget_stream(const struct transport *transport, int fd)
{
	if (transport_is_here(transport))
		epoll_ctl(transport->epoll, EPOLL_CTL_DEL, fd, NULL);
}

uint8_t *transport_lend_room(struct transport *transport, uint32_t size)
{
	if (!transport->shared)
		return NULL;
	if (transport->lend_later) {
		transport->lend_later--;
		return NULL;
	}
	if (!transport->out_mirror)
		transport->out_mirror = mirror_new(&transport->out.ring);
	if (!transport->out_mirror)
		return NULL;
	transport->lent_room = size;
	return mirror_at(transport->out_mirror, transport->out.head);
}

int transport_take_room_back(struct transport *transport)
{
	struct mirror *mirror = transport->out_mirror;
	int r = mirror_keep(mirror, mirror_at(mirror, transport->out.head), transport->lent_room);

	if (r < 0)
		return r;
	transport->out_mirror = NULL;
	transport->lent_room = 0;
	transport->lend_later = LEND_LATER;
	mirror_release(mirror);
	return 0;
}

int transport_space(struct transport *transport, uint32_t want)
{
	int space = !transport_is_here(transport) ? -ECHILD
		    : transport->lent_room	  ? transport_take_room_back(transport)
						  : 0;

	if (space < 0)
		return space;
	space = ring_writer_space(&transport->out, want);
	if (space >= 0 && (uint32_t)space < want && transport->pump) {
		transport_publish(transport);
		socket_pump_out(transport->pump);
		space = ring_writer_space(&transport->out, want);
	}
	return space;
}

int transport_control(struct transport *transport, uint8_t type, uint32_t channel, const void *payload,
		      uint32_t length)
{
	const struct frame_header header = {.length = length, .type = type, .channel = channel};
	uint32_t size = frame_size(length);
	uint8_t *frame;
	bool blocked;
	int space, r;

	r = transport_flush_backlog(transport, &blocked);
	if (r < 0)
		return r;
	space = blocked ? 0 : transport_space(transport, size);
	if (space < 0)
		return space;
	if ((uint32_t)space >= size) {
		frame_put(&transport->out, &header, payload);
		return 0;
	}
	r = fifo_reserve(&transport->backlog, size);
	if (r < 0)
		return r;
	frame = fifo_extend(&transport->backlog, size);
	if (length)
		memcpy(frame + FRAME_HEADER_SIZE, payload, length);
	frame_wrap(frame, &header);
	return 0;
}

int transport_offset(struct transport *transport, uint8_t type, uint32_t channel, uint64_t offset)
{
	uint8_t payload[8];

	return transport_control(transport, type, channel, payload, frame_u64_encode(offset, payload));
}

static int send_credit(struct transport *transport, uint32_t channel, uint64_t taken, uint32_t flags)
{
	const struct frame_credit credit = {.consumed = taken, .limit = INT64_MAX, .flags = flags};
	uint8_t payload[FRAME_SMALL_MAX];

	return transport_control(transport, FRAME_CREDIT, channel, payload,
				 frame_credit_encode(&credit, payload));
}

int transport_credit(struct transport *transport, uint32_t channel, uint64_t taken)
{
	return send_credit(transport, channel, taken, 0);
}

int transport_stop(struct transport *transport, uint32_t channel, uint64_t taken)
{
	return send_credit(transport, channel, taken, CREDIT_STOP);
}

int transport_reset(struct transport *transport, uint32_t channel, uint32_t error, uint32_t flags,
		    uint64_t taken)
{
	const struct frame_reset reset = {.error = error, .flags = flags, .consumed = taken, .unsure = taken};
	uint8_t payload[FRAME_SMALL_MAX];

	return transport_control(transport, FRAME_RESET, channel, payload,
				 frame_reset_encode(&reset, payload));
}

int transport_take_late(struct transport *transport, const struct frame_header *header,
			const uint8_t *payload)
{
	uint32_t length = header->length < FRAME_SMALL_MAX ? header->length : FRAME_SMALL_MAX;

	return header->type == FRAME_RESET
		       ? transport_control(transport, FRAME_RESET, header->channel, payload, length)
		       : 0;
}

bool transport_is_read(struct transport *transport)
{
	int unread = 0;

	if (fifo_size(&transport->backlog) > 0 || ring_writer_unread(&transport->out) > 0)
		return false;
	return !transport->pump || ioctl(transport->socket, SIOCOUTQ, &unread) < 0 || unread == 0;
}

int transport_flush_backlog(struct transport *transport, bool *blocked)
{
	if (!transport_is_here(transport))
		return -ECHILD;
	while (fifo_size(&transport->backlog) > 0) {
		uint32_t size = frame_size(get_u32(fifo_front(&transport->backlog)));
		int space = transport_space(transport, size);

		if (space < 0)
			return space;
		if ((uint32_t)space < size)
			break;
		ring_writer_put(&transport->out, fifo_front(&transport->backlog), size);
		fifo_drop(&transport->backlog, size);
	}
	*blocked = fifo_size(&transport->backlog) > 0;
	return 0;
}

/* Notifies the daemon. It has made the doorbell and keeps it in order; if it doesn't, it can't be reached any
 * longer, so the connection is over. */
static void kick(struct transport *transport)
{
	if (doorbell_ring(transport->kick) == 0)
		return;
	transport->closed = true;
	transport_poke(transport);
}

void transport_notify_of_output(struct transport *transport)
{
	if (transport->shared) {
		/* The daemon also looks at what was taken, so a program that answers a message needn't notify
		 * it twice. */
		ring_reader_take_request(&transport->deliveries);
		kick(transport);
	}
}

void transport_publish_to_pump(struct transport *transport)
{
	if (transport_is_here(transport) && socket_pump_wants_flush(transport->pump))
		socket_pump_out(transport->pump);
}

void transport_release_in(struct transport *transport)
{
	if (transport_is_here(transport) && ring_reader_release(&transport->in) && transport->shared)
		kick(transport);
}

void transport_release_deliveries(struct transport *transport, bool quietly)
{
	transport_release_quietly(transport);
	if (!quietly && ring_reader_take_request(&transport->deliveries) && transport->shared)
		kick(transport);
}

void transport_wake(const struct transport *transport)
{
	const uint64_t one = 1;
	int kept = errno;
	ssize_t n;

	do
		n = write(transport->poke, &one, sizeof(one));
	while (n < 0 && errno == EINTR);
	errno = kept;
}

void transport_poke(struct transport *transport)
{
	if (transport->first)
		transport = transport->first;
	if (transport->poked || !transport_is_here(transport))
		return;
	transport->poked = true;
	transport_wake(transport);
}

/* An alarm that comes before it is needed costs a look, and one that is put off a system call: so it is never
 * put off. */
void transport_set_alarm(struct transport *transport, int64_t at)
{
	struct itimerspec time = {.it_value = {.tv_sec = at / 1000, .tv_nsec = at % 1000 * 1000000}};

	if (transport->first)
		transport = transport->first;
	if (at < 0 || (transport->alarm >= 0 && transport->alarm <= at))
		return;
	if (at == 0)
		time.it_value.tv_nsec = 1; /* zero would be never */
	if (timerfd_settime(transport->timer, TFD_TIMER_ABSTIME, &time, NULL) == 0)
		transport->alarm = at;
	else
		transport_poke(transport);
}

/* --- polling ---------------------------------------------------------------------------------- */

static bool is_about_socket(const struct transport *transport, const struct epoll_event *events, int n)
{
	bool is = false;

	for (int i = 0; i < n; i++)
		is |= (uint32_t)events[i].data.u64 == ON_SOCKET &&
		      (int)(events[i].data.u64 >> 32) == transport->socket;
	return is;
}

/* Serves one session. Returns 0 or a negative errno. */
static int take_events(struct transport *transport, const struct epoll_event *events, int n)
{
	bool on_socket = is_about_socket(transport, events, n);
	int r;

	if (transport->pump) {
		socket_pump_out(transport->pump);
		r = on_socket || !transport->first ? socket_pump_in(transport->pump) : 0;
		transport->closed |= r > 0;
		if (transport->first)
			socket_pump_arm(transport->pump); /* until somebody reads its rings */
		return r < 0 ? r : 0;
	}
	if (on_socket && !transport_is_dialling(transport))
		transport_read_socket(transport);
	return 0;
}

/* Serves the second session, whose end the program may hear of much later. */
static void take_second_events(struct transport *transport, const struct epoll_event *events, int n)
{
	if (transport->error || transport->closed)
		return;
	if (transport->is_read && !transport->pump) {
		transport->is_unwatched = transport->is_unwatched || is_about_socket(transport, events, n);
		if (transport->is_unwatched) /* it would wake again and again who can't read it now */
			epoll_ctl(transport->epoll, EPOLL_CTL_DEL, transport->socket, NULL);
		return;
	}
	transport->error = take_events(transport, events, n);
	if (transport->error || transport->closed)
		epoll_ctl(transport->epoll, EPOLL_CTL_DEL, transport->socket, NULL);
}

void transport_hold_memory(struct transport *transport, bool holds)
{
	transport->is_read = holds;
	if (holds || !transport->is_unwatched || !transport_is_here(transport))
		return;
	transport->is_unwatched = false;
	if (transport_watch(transport, transport->socket, EPOLLIN | EPOLLRDHUP, ON_SOCKET) < 0)
		transport->closed = true;
}

int transport_poll(struct transport *transport, int timeout_ms)
{
	struct epoll_event events[EVENTS];
	int n, r;

	if (!transport_is_here(transport))
		return -ECHILD;
	n = epoll_wait(transport->epoll, events, EVENTS, timeout_ms);
	if (n < 0)
		return -errno;
	transport->poked = false;
	for (int i = 0; i < n; i++)
		if ((uint32_t)events[i].data.u64 == ON_TIMER)
			transport->alarm = -1;
		else if ((uint32_t)events[i].data.u64 == ON_STREAM)
			transport->on_stream(transport->userdata, (int)(events[i].data.u64 >> 32));
	if (transport->second)
		take_second_events(transport->second, events, n);
	r = take_events(transport, events, n);
	return r < 0 ? r : n > 0;
}

int transport_arm(struct transport *transport, bool deliveries, uint32_t want_space)
{
	int r;

	if (!transport_is_here(transport))
		return -ECHILD;
	if (transport->pump) {
		socket_pump_out(transport->pump);
		r = socket_pump_resume_in(transport->pump);
		transport->closed |= r > 0;
		if (r < 0)
			return r;
		socket_pump_arm(transport->pump);
		r = ring_reader_ready(&transport->in, FRAME_HEADER_SIZE);
		if (r == 0 && deliveries)
			r = ring_reader_ready(&transport->deliveries, FRAME_HEADER_SIZE);
		return r > 0 ? 1 : r;
	}
	r = ring_reader_arm(&transport->in, FRAME_HEADER_SIZE);
	if (r == 0 && deliveries)
		r = ring_reader_arm(&transport->deliveries, FRAME_HEADER_SIZE);
	if (r == 0 && want_space)
		r = transport_arm_space(transport, want_space);
	return r;
}

int transport_arm_space(struct transport *transport, uint32_t want_space)
{
	return transport->pump ? 0 : ring_writer_arm(&transport->out, want_space);
}
