/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A session in the image that a daemon hands over (base/image.h). Its socket and its doorbells stay what they
 * are. Memory that it shares doesn't: the program has sealed it against further mappings that can be written
 * to, and a mapping doesn't outlive its program. So the next daemon makes other memory of the same layout,
 * and the program goes on in it:
 *
 *     the new daemon                            the program (libclient/transport.c)
 *     ───────────── MEMORY, with the other memory ──────────▶
 *                                               copies everything, so that all positions stay, seals it
 *     ◀──────────────────── rings ──────────────────────────
 *     attaches the hop to its rings again
 *
 * Meanwhile the program may go on in the memory that it has, where nobody reads. One that ends instead has
 * left there what it wrote: so the daemon keeps a descriptor of that memory, maps it for reading, and takes
 * in what is there (session_memory.c).
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/fd_parcel.h"
#include "base/descriptors.h"
#include "base/image.h"
#include "base/shared_memory.h"
#include "daemon/local/session_internal.h"
#include "daemon/switch/hop_image.h"
#include "daemon/switch/memfd_lifetimes.h"
#include "wire/local_ring.h"

#define MEMORY_MAX (1u << 28)

void session_settle_for_image(struct hop *program)
{
	struct session *session = hop_owner(program);

	/* A program that has moved, or begun, goes on where it is, though it may not have rung yet. */
	if (session->state == RUNNING && session->memory && !session->uses_memory &&
	    shared_memory_is_sealed(session->memory_fd))
		session_use_memory(session, false);
	hop_settle_for_image(session->hop);
}

bool session_is_socket(int fd)
{
	struct sockaddr_un peer;
	socklen_t size = sizeof(peer), type_size = sizeof(int);
	int type = 0;

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size) == 0 && type == SOCK_STREAM &&
	       getsockname(fd, (struct sockaddr *)&peer, &size) == 0 && peer.sun_family == AF_UNIX;
}

/* Each hand-over gives the program other memory, whatever its user may have: so it has to let go of what it
 * had. */
static bool keeps_too_much(const struct session *session)
{
	struct quota_usage usage = account_usage(session->charge.account, QUOTA_MEMORY);

	return usage.used > usage.max && session->old_memory_fd < 0 &&
	       memory_is_kept(session->board, session->former_memory);
}

bool session_fits_image(struct hop *program)
{
	struct session *session = hop_owner(program);

	if (session->state == GREETING || session->state == STREAM)
		return true;
	return session->state == RUNNING && session->fd >= 0 && !session->is_deaf &&
	       !keeps_too_much(session) &&
	       session->unanswered == session->callbacks->carries(session->userdata, session->hop) &&
	       hop_fits_image(session->hop) && !hop_is_finishing(session->hop);
}

void session_ask_again(struct hop *program)
{
	struct session *session = hop_owner(program);

	session->unanswered++;
}

bool session_can_be_carried(const struct hop *program)
{
	const struct session *session = hop_owner(program);

	return session->fd < 0 || fd_parcel_takes(session->fd);
}

void session_end_unfit(struct hop *program)
{
	struct session *session = hop_owner(program);

	if (keeps_too_much(session))
		session_send_goodbye(
			session, -ENOBUFS,
			"its user has more memory than allowed, and the program keeps that of before the "
			"last hand-over");
	else
		session_send_goodbye(session, -ECONNRESET,
				     "the daemon hands over, and can't hand over this connection");
	while (session->callbacks->leave &&
	       session->callbacks->leave(session->userdata, program, &session->left_at))
		; /* nobody has turns now */
	session_end(session);
}

/* --- without shared memory -------------------------------------------------------------------- */

static void pumped_image(struct image *image, struct session *session)
{
	carried_piece_image(image, session->board->rings, &session->pumped);
	hop_ring_image(image, &session->from_socket, PRIVATE_RING_SIZE);
	hop_ring_image(image, &session->to_socket, PRIVATE_RING_SIZE);
	image_bool(image, &session->reports);
	if (!image->is_read || image->error)
		return;
	if (session->reports)
		hop_set_kind(session->hop, HOP_REPORTING);
	session->write_event = session_new_write_event(session);
	if (!session->write_event)
		image_fail(image, -ENOMEM);
}

/* --- with shared memory ----------------------------------------------------------------------- */

/* Whether the rings lie within the memory, and nowhere in each other's way. The program would have checked
 * them, too. */
static bool places_are_possible(const struct session *session)
{
	for (unsigned i = 0; i < LOCAL_RINGS; i++) {
		const struct frame_ring_place *place = &session->places[i];

		if (place->size < 4096 || place->size > 1u << 26 || (place->size & (place->size - 1)) ||
		    place->control % 64 || place->data % 64 ||
		    (uint64_t)place->control + LOCAL_RING_CONTROL > session->memory_size ||
		    (uint64_t)place->data + place->size > session->memory_size)
			return false;
	}
	return true;
}

static bool has_size(int fd, size_t size)
{
	struct stat status;
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & F_SEAL_SHRINK) && (seals & F_SEAL_GROW) && fstat(fd, &status) == 0 &&
	       status.st_size == (off_t)size;
}

static void layout_image(struct image *image, struct session *session)
{
	uint32_t size = (uint32_t)session->memory_size;

	image_upto(image, &size, MEMORY_MAX);
	for (unsigned i = 0; i < LOCAL_RINGS; i++) {
		image_u32(image, &session->places[i].control);
		image_u32(image, &session->places[i].data);
		image_u32(image, &session->places[i].size);
	}
	session->memory_size = size;
	image_expect(image, places_are_possible(session));
}

/* Maps memory that was offered to the program by the daemon before; false: the program has sealed it, so it
 * goes on there. */
static bool map_offered(struct session *session, int fd)
{
	void *mapped = fd < 0 ? MAP_FAILED
			      : mmap(NULL, session->memory_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (mapped == MAP_FAILED)
		return false;
	session->memory = mapped;
	session->memory_fd = fd;
	return true;
}

/* `used` is what the program uses, `offered` what it may have gone on in, or begun in, since; -1: nothing. */
static void take_memory(struct image *image, struct session *session, int used, int offered)
{
	int fds[] = {used, offered};

	session->old_memory_fd = used;
	image_expect(image, (used >= 0 || offered >= 0) &&
				    (used < 0 || (has_size(used, session->memory_size) &&
						  shared_memory_is_sealed(used))) &&
				    (offered < 0 || has_size(offered, session->memory_size)));
	if (image->error) {
		session->old_memory_fd = -1;
		descriptors_close(fds, 2);
		return;
	}
	if (map_offered(session, offered))
		return;
	if (offered >= 0) {
		if (used >= 0)
			close(used);
		session->old_memory_fd = offered;
	}
	session->memory_fd = shared_memory_new(session->memory_size, &session->memory);
	session->offers_memory = session->memory_fd >= 0;
	if (session->memory_fd < 0)
		image_fail(image, session->memory_fd);
}

static void shared_image(struct image *image, struct session *session)
{
	int used = session->uses_memory ? session->memory_fd : session->old_memory_fd,
	    offered = session->uses_memory ? -1 : session->memory_fd;
	struct rlimit file;

	layout_image(image, session);
	image_fd(image, &used);
	image_fd(image, &offered);
	image_fd(image, &session->wake_daemon);
	image_fd(image, &session->wake_program);
	if (!image->is_read) {
		if (getrlimit(RLIMIT_FSIZE, &file) == 0 && file.rlim_cur < session->memory_size)
			image_fail(image,
				   -EFBIG); /* the next daemon couldn't make as much, and would end it */
		return;
	}
	image_expect(image, session->wake_daemon >= 0 && session->wake_program >= 0);
	take_memory(image, session, used, offered);
	if (image->error)
		return;
	session_find_rings(session);
	hop_set_kind(session->hop, hop_program(session->hop)->carries_streams ? HOP_MUX : HOP_SHARED);
	if (session_await_memory(session) < 0)
		image_fail(image, -ENOMEM);
}

/* --- all of it -------------------------------------------------------------------------------- */

static void greeting_image(struct image *image, struct session *session)
{
	struct image_bytes bytes = {session->greeting, (uint32_t)session->greeted};

	image_bytes(image, &bytes, GREETING_FRAME_MAX - 1);
	if (!image->is_read || image->error)
		return;
	memcpy(session->greeting, bytes.data ? bytes.data : session->greeting, bytes.size);
	session->greeted = bytes.size;
}

/* Charges for what the session has already, so that it isn't refused. */
static void charge_again(struct session *session)
{
	struct charge *charge = &session->charge;
	uint64_t memory = HOP_MEMORY;

	charge_exceed(charge, QUOTA_DESCRIPTORS, 1);
	if (session->state != RUNNING)
		return;
	charge_exceed(charge, QUOTA_CLIENTS, 1);
	if (session->memory) {
		/* Doorbells, and both memories. */
		charge_exceed(charge, QUOTA_DESCRIPTORS, session->old_memory_fd >= 0 ? 4 : 3);
		memory += ledger_memory(session->places[LOCAL_RING_IN].size) +
			  ledger_memory(session->places[LOCAL_RING_DELIVERIES].size);
	} else {
		memory += sizeof(struct private_rings);
	}
	charge_exceed(charge, QUOTA_MEMORY, memory);
	/* Of two memories the other one is paid for when the program goes on there. */
	if (session->old_memory_fd >= 0)
		session->former_memory = session_pay_for_memory(session, session->old_memory_fd);
	else if (session->memory)
		session_pay_for_memory(session, session->memory_fd);
}

static void running_image(struct image *image, struct session *session)
{
	struct hop_program *program = hop_own_program(session->hop);
	bool shares = session->memory != NULL;

	image_text(image, program->comm, sizeof(program->comm));
	image_bool(image, &program->carries_streams);
	image_bool(image, &shares);
	if (shares)
		shared_image(image, session);
	else
		pumped_image(image, session);
	if (!image->error)
		hop_image(image, session->hop);
}

void session_image(struct image *image, struct hop *program)
{
	struct session *session = hop_owner(program);
	uint32_t state = session->state;

	image_upto(image, &state, RUNNING);
	if (image->error)
		return;
	session->state = (enum session_state)state;
	if (session->state == RUNNING)
		running_image(image, session);
	else
		greeting_image(image, session);
	if (image->is_read && !image->error)
		charge_again(session);
}

/* Attaches the hop of a program without shared memory to rings in which bytes lie already. */
static int pump_again(struct session *session)
{
	struct hop_rings rings = {.adopt = true};
	struct ring_view in = session_from_socket(session), out = session_to_socket(session);
	int r = ring_writer_init(&session->pump_in, &in, true);

	if (r == 0)
		r = ring_reader_init(&session->pump_out, &out, true);
	ring_reader_arm(&session->pump_out, 1);
	session->may_have_more = true;
	rings.in = in;
	rings.out[OUTLET_MAIN] = out;
	return r < 0 ? r : hop_attach_again(session->hop, &rings);
}

#define CANT_GO_ON "the session can't go on after the hand-over"

void session_offer_memory(struct session *session)
{
	uint8_t frame[FRAME_HEADER_SIZE + 8];
	int r = session_send_with(session, FRAME_MEMORY, frame, 0, &session->memory_fd, 1);

	session->offers_memory = lack_passes(-r);
	if (session->offers_memory)
		session_try_later(session);
	/* A program that has gone has left something in the memory that it had, which its socket's end
	 * leads to. */
	else if (r < 0 && r != -EPIPE && r != -ECONNRESET)
		session_cut_off(session->hop, r, CANT_GO_ON);
}

void session_go_on(struct hop *program)
{
	struct session *session = hop_owner(program);
	int r;

	if (session->state != RUNNING)
		return;
	event_del(session->greeting_timer);
	r = session->memory ? 0 : pump_again(session);
	if (r < 0) {
		session_cut_off(session->hop, r, CANT_GO_ON);
		return;
	}
	if (session->offers_memory)
		session_offer_memory(session);
	hop_event(session->hop);
	if (session->pumped.bytes)
		session_pump(session);
}
