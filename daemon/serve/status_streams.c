/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Byte streams in a status, and messages that wait for a program. */

#include "daemon/local/local.h"
#include "daemon/local/session.h"
#include "daemon/local/streams.h"
#include "daemon/switch/channel.h"
#include "daemon/switch/hop.h"
#include "daemon/serve/status_json.h"

/* --- what waits ------------------------------------------------------------------------------- */

/* Returns how much of what a program hasn't said it has taken can wait for it. */
static uint64_t not_taken(struct hop *hop, uint64_t untold)
{
	uint64_t unread = hop_tells_late(hop) ? hop_unacknowledged(hop) : UINT64_MAX;

	return unread < untold ? unread : untold;
}

uint64_t status_queued_for(struct status_walk *walk, struct hop *hop)
{
	uint64_t queued = 0, untold = 0;
	struct channel_end *end;
	uint32_t number = 0;

	walk->units += hop_channel_pages(hop) + hop_channel_count(hop);
	while ((end = hop_next_channel(hop, &number))) {
		queued += channel_queued(end);
		untold += end->sent - end->consumed;
	}
	return queued + not_taken(hop, untold);
}

/* The same for the program at this end. */
static uint64_t queued_at(const struct channel_end *end)
{
	return channel_queued(end) + not_taken(end->hop, end->sent - end->consumed);
}

/* --- streams ---------------------------------------------------------------------------------- */

static const char *state_of_carried(const struct channel_end *end)
{
	if (end->in != IN_OPEN && end->out >= OUT_FIN)
		return "over";
	return end->is_opener && !channel_is_accepted(end->channel) ? "calling" : "flowing";
}

/* The next stream that a session carries, or the next session, which is an entry that nobody sees. */
static bool next_carried(struct status_walk *walk)
{
	struct hop *program = local_at(walk->sources->local, &walk->place);
	const struct frame_identity *who;
	const struct channel *channel;
	const struct channel_end *end;
	uint32_t from = walk->channel;

	walk->carried = end = program && hop_program(program)->carries_streams
				      ? hop_next_channel(program, &walk->channel)
				      : NULL;
	if (!end) {
		walk->channel = 0;
		return local_next(walk->sources->local, &walk->place) != NULL;
	}
	walk->units += (walk->channel - from) / CHANNEL_TABLE_PAGE;
	who = &hop_program(program)->identity;
	channel = end->channel;
	walk->stream = (struct stream_info){
		.number = channel_stream_number(end),
		.uid = who->uid,
		.pid = who->pid,
		.program = hop_program(program)->comm,
		.incoming = !end->is_opener,
		.from = channel->identity.domid,
		.host = channel_from_host(channel) ? channel_from_host(channel) : "",
		.name = end->is_opener ? channel->address : channel->endpoint,
		.state = state_of_carried(end),
		.bytes_in = end->received,
		.bytes_out = end->sent,
	};
	return true;
}

bool status_next_stream(struct status_walk *walk)
{
	if (!walk->begun && streams_next(walk->sources->streams, &walk->stream))
		return true;
	walk->begun = true;
	return next_carried(walk);
}

bool status_stream_is_visible(struct status_walk *walk)
{
	return (!walk->begun || walk->carried) && is_own(walk, walk->stream.uid);
}

unsigned status_rank_of_stream(struct status_walk *walk)
{
	return rank_of(true, walk->stream.bytes_in + walk->stream.bytes_out);
}

void status_describe_stream(struct status_walk *walk, struct json *json)
{
	const struct stream_info *info = &walk->stream;

	json_number(json, "number", info->number);
	json_number(json, "uid", info->uid);
	json_number(json, "pid", info->pid);
	add_text(json, "comm", info->program);
	add_text(json, "address", info->incoming ? NULL : info->name);
	add_text(json, "endpoint", info->incoming ? info->name : NULL);
	json_number_if(json, "from", info->incoming, info->from);
	add_text(json, "host", info->host);
	add_text(json, "state", info->state);
	json_number(json, "bytes_in", info->bytes_in);
	json_number(json, "bytes_out", info->bytes_out);
	json_number(json, "bytes_queued",
		    info->hop ? status_queued_for(walk, info->hop) : queued_at(walk->carried));
}
