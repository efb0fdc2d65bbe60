/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A byte stream in the image that a daemon hands over (base/image.h). Its socket stays what it is, with all
 * that lies unread in it on either side, and so do the rings between it and its hop (private_ring.h).
 * Whatever an event would have told is looked for anew.
 */

#include "daemon/local/stream_internal.h"

#include <errno.h>

#include "base/fd_parcel.h"
#include "base/image.h"
#include "daemon/local/session.h"
#include "daemon/switch/hop_image.h"

bool stream_fits_image(struct stream *stream, bool is_carried)
{
	return stream->state != OVER && hop_fits_image(&stream->hop) &&
	       (stream->state == BREAKING) == hop_is_finishing(&stream->hop) &&
	       (!is_carried || stream->fd < 0 || fd_parcel_takes(stream->fd));
}

/* Finds the payer, and charges for what the stream has already, so that it isn't refused. */
static void payers_image(struct image *image, struct stream *stream)
{
	bool is_program = stream->payer && stream->payer == stream->program;
	struct account *account = stream->charge.account;

	switch_account_image(image, stream->board, &account);
	switch_account_image(image, stream->board, &stream->program);
	image_bool(image, &is_program);
	if (!image->is_read)
		return;
	charge_init(&stream->charge, account);
	charge_exceed(&stream->charge, QUOTA_DESCRIPTORS, stream->end_epoll < 0 ? 1 : 2);
	charge_exceed(&stream->charge, QUOTA_MEMORY, STREAM_MEMORY);
	stream_set_account(stream, account);
	if (is_program && stream->program)
		stream_set_payer(stream, stream->program);
	account_unref(account);
}

static void rings_image(struct image *image, struct stream *stream)
{
	carried_piece_image(image, stream->board->rings, &stream->rings);
	hop_ring_image(image, &stream->to_hop, PRIVATE_RING_SIZE);
	hop_ring_image(image, &stream->data_from_hop, PRIVATE_RING_SIZE);
	hop_ring_image(image, &stream->from_hop, CONTROL_RING_SIZE);
}

static void positions_image(struct image *image, struct stream *stream)
{
	image_upto(image, &stream->number, CHANNEL_NUMBERS - 1);
	image_u64(image, &stream->sent);
	image_u64(image, &stream->limit);
	image_u64(image, &stream->taken);
	image_u64(image, &stream->told);
	image_upto(image, &stream->written, FRAME_PAYLOAD_MAX);
	image_u64(image, &stream->total);
	image_upto(image, &stream->copied, INT32_MAX - 1);
	image_expect(image, stream->sent <= stream->limit && stream->told <= stream->taken &&
				    stream->written <= stream->taken);
}

/* Which ways have ended, and how. */
static void ends_image(struct image *image, struct stream *stream)
{
	uint8_t ended = stream->ended < 0 ? 3 : (uint8_t)stream->ended;

	image_bool(image, &stream->takes_socket);
	image_bool(image, &stream->is_unguarded);
	image_bool(image, &stream->was_accepted);
	image_bool(image, &stream->fin_came);
	image_bool(image, &stream->breaks);
	image_u8_upto(image, &stream->mark, UINT8_MAX);
	image_bool(image, &stream->tells_all);
	image_bool(image, &stream->end_read);
	image_bool(image, &stream->refused);
	image_bool(image, &stream->end_written);
	image_bool(image, &stream->stopped);
	image_bool(image, &stream->is_deaf);
	image_bool(image, &stream->told_deaf);
	image_u8_upto(image, &ended, 3);
	stream->ended = ended == 3 ? -ECONNRESET : ended;
}

void stream_image(struct image *image, struct stream *stream)
{
	uint32_t state = stream->state;

	image_fd(image, &stream->fd);
	image_fd(image, &stream->end_epoll);
	image_upto(image, &state, UNTOLD);
	stream->state = (enum stream_stage)state;
	if (image->is_read)
		image_expect(image, stream->state == WAITING
					    ? stream->fd < 0
					    : stream->fd >= 0 && session_is_socket(stream->fd));
	hop_identity_image(image, &stream->identity);
	image_u64(image, &stream->token);
	payers_image(image, stream);
	positions_image(image, stream);
	ends_image(image, stream);
	rings_image(image, stream);
	if (!image->error)
		hop_image(image, &stream->hop);
	if (image->is_read && !image->error && stream->fd >= 0 && stream_watch_socket(stream, stream->fd) < 0)
		image_fail(image, -ENOMEM);
}

int stream_go_on(struct stream *stream)
{
	int r = stream->state == UNTOLD ? 0 : stream_attach(stream, true);

	if (r < 0)
		return r;
	stream->in_doubt = true; /* the daemon before may not have looked */
	if (stream->state == BREAKING)
		stream_leave(stream);
	hop_event(&stream->hop);
	task_due(&stream->turn);
	return 0;
}
