/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_FRAME_H
#define XENMSG_WIRE_FRAME_H

/*
 * Frames, as doc/protocol.md specifies them, with each encoder next to its decoder. A decoder takes a payload
 * that was copied out of untrusted memory and returns 0, or -EPROTO if the payload can't be that frame; it
 * accepts payloads that are longer than it expects. Text in a decoded frame points into the payload and is
 * not terminated.
 */

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "wire/address.h"
#include "wire/bytes.h"
#include "wire/text.h"

#define FRAME_HEADER_SIZE 16u
#define FRAME_PAYLOAD_MAX 65536u
#define FRAME_REPLY_HEAD  8u /* bytes before the body */

#define PROTOCOL_MAJOR 1
#define PROTOCOL_MINOR 0

#define CHANNEL_NUMBERS	      65536u /* channel numbers of a hop are below this */
#define CHANNEL_INITIAL_LIMIT 65536u /* bytes that the opener may send before it hears from the acceptor */
#define REQUESTS_MAX	      64u    /* requests of a program that may be outstanding */

enum frame_type {
	FRAME_HELLO = 1,
	FRAME_WELCOME = 2,
	FRAME_GOODBYE = 3,
	FRAME_PING = 4,
	FRAME_PONG = 5,
	FRAME_ACK = 6,
	FRAME_DIRECTORY = 7,
	FRAME_PROVE = 8,
	FRAME_RESUME = 9,
	FRAME_OFFER = 10,
	FRAME_MOVE = 11,
	FRAME_DECLINE = 12,
	FRAME_OPEN = 16,
	FRAME_OPENED = 17,
	FRAME_DATA = 18,
	FRAME_CREDIT = 19,
	FRAME_FIN = 20,
	FRAME_RESET = 21,
	FRAME_CANCEL = 22,
	FRAME_CANCELLED = 23,
	FRAME_SENDER = 24,
	FRAME_WITHDRAW = 25,
	FRAME_REASSIGNED = 26,
	FRAME_BIND = 32,
	FRAME_UNBIND = 33,
	FRAME_REPLY = 39,
	FRAME_ACCEPT = 40,
	FRAME_INCOMING = 41,
	FRAME_DRAIN = 42,
	FRAME_SELF = 43,
	FRAME_SUBSCRIBE = 44,
	FRAME_MEMORY = 46,
	FRAME_POLICY = 48,
	FRAME_LISTENERS = 49,
	FRAME_IDLE = 50,
	FRAME_OPTIONAL = 128, /* receivers may skip types from here on if they don't know them */
};

enum channel_kind {
	CHANNEL_MESSAGE = 1,
	CHANNEL_CALL = 2,
	CHANNEL_STREAM = 3,
};

enum event_kind {
	EVENT_DOMAIN_UP = 1,
	EVENT_DOMAIN_DOWN = 2,
	EVENT_ENDPOINT_UP = 3,
	EVENT_ENDPOINT_DOWN = 4,
	EVENT_DOMAIN_AWAY = 5,
	EVENT_HOST_UP = 6, /* another one */
	EVENT_HOST_DOWN = 7,
	EVENT_LISTED = 8, /* what was there when the watch began was told */
};

/* The header and trailer of a message inside a channel's stream (protocol.md, section 2.1). */
#define MESSAGE_HEAD_SIZE    8u
#define MESSAGE_TRAILER_SIZE 8u
enum message_type {
	MESSAGE_PLAIN = 0,
	MESSAGE_REQUEST = 1,
	MESSAGE_REPLY = 2,
	MESSAGE_ERROR = 3,
	MESSAGE_REFUSAL = 4,
	MESSAGE_PROPERTIES = 0x80, /* a bit: properties stand before the payload (wire/properties.h) */
};
enum message_state {
	MESSAGE_SENT = 0,
	MESSAGE_TAKEN = 1,
	MESSAGE_CANCELLED = 2,
};

/* Returns the size of a message in the stream. */
static inline uint64_t message_span(uint64_t size)
{
	return MESSAGE_HEAD_SIZE + ((size + 7) & ~(uint64_t)7) + MESSAGE_TRAILER_SIZE;
}

struct frame_header {
	uint32_t length;
	uint8_t type;
	uint8_t flags;
	uint16_t messages;
	uint32_t channel;
	uint32_t sequence;
};

struct frame_text {
	const char *data;
	size_t size;
};
/* Returns the text of a string, or of NULL. */
static inline struct frame_text frame_text_of(const char *string)
{
	return (struct frame_text){string, string ? strlen(string) : 0};
}
static inline bool frame_text_is(struct frame_text text, const char *string)
{
	return text.size == strlen(string) && !memcmp(text.data, string, text.size);
}
/* Copies a text for people as a string, of which as many characters of UTF-8 as fit into `room` bytes, at
 * least 1. */
static inline void frame_text_copy(struct frame_text text, char *to, size_t room)
{
	size_t size = text.size < room ? text.size : room - 1;

	while (size > 0 && size < text.size && (text.data[size] & 0xc0) == 0x80)
		size--;
	if (size)
		memcpy(to, text.data, size);
	to[size] = '\0';
}
/* Copies a text of others' that goes into the log, into JSON and to terminals, cut to `room` bytes, at least
 * 1: keeps ASCII from `lowest` on, and makes the rest '?'. */
static inline void frame_text_copy_plain(struct frame_text text, char *to, size_t room, char lowest)
{
	size_t size = text.size < room ? text.size : room - 1;

	if (size)
		memcpy(to, text.data, size);
	text_make_ascii(to, size, lowest);
	to[size] = '\0';
}

struct frame_identity {
	uint32_t domid, uid, gid, pid;
};

struct frame_hello_local {
	uint16_t major, minor;
	uint32_t flags;
};
#define HELLO_SHARED_MEMORY 0x1u /* and of WELCOME */
#define HELLO_STREAM	    0x2u /* this connection is to become a stream */
#define HELLO_MUX	    0x4u /* the session carries streams (protocol.md, 6.1) */
#define HELLO_TAKES_SOCKET  0x8u /* with HELLO_STREAM: the stream may be a socket that comes with the REPLY */
#define HELLO_REPORTS	    0x10u /* says what it has taken before it waits for more (protocol.md, 4) */

struct frame_ring_place {
	uint32_t control, data, size;
};

enum {
	LOCAL_RING_OUT,	       /* program to daemon */
	LOCAL_RING_IN,	       /* daemon to program: frames about the program's requests and channels */
	LOCAL_RING_DELIVERIES, /* daemon to program: DATA for the program's endpoints */
	LOCAL_RINGS,
};

struct frame_welcome {
	uint16_t major, minor;
	uint32_t flags; /* HELLO_SHARED_MEMORY: `rings` is valid */
	uint32_t domid;
	uint64_t max_message;
	uint8_t instance[16];
	struct frame_ring_place rings[LOCAL_RINGS];
};

#define HELLO_TAGS     8u
#define HELLO_TAG_SIZE 8u

struct frame_hello_link {
	uint16_t major, minor;
	uint32_t flags; /* bits that aren't known mean nothing */
	uint8_t instance[16];
	uint64_t max_message;
	struct frame_text version; /* without a zero */
	uint8_t nonce[16];
	uint8_t secret[32];	/* of a session that begins here, from the lower domid; else zero */
	struct frame_text host; /* from domain 0: its host's name; empty: it has none */
	/* Names of sessions that it may go on with, which say nothing to a peer that doesn't know their
	 * secrets (protocol.md, 5.7). */
	uint8_t tags[HELLO_TAGS][HELLO_TAG_SIZE];
};

struct frame_prove {
	uint32_t epoch;
	uint8_t proof[32];
};

struct frame_resume {
	uint64_t received;
	uint32_t epoch;
};

/* Another vchan that its sender has granted, for the session to move to. */
struct frame_offer {
	uint32_t ring_ref, port;
	uint32_t epoch; /* of the session: else it is one from before a loss, that has come again */
};

/* Of a link, by the settings of its sender: */
#define HELLO_RELAYS  0x1u /* takes relayed OPENs (protocol.md, 5.8) */
#define HELLO_RESUMES 0x2u /* keeps a session whose vchan is lost (5.7) */
#define HELLO_OBEYS   0x4u /* takes POLICY from domain 0 (5.12) */

/* IDLE says one of these. */
#define IDLE_ASKS 0u
#define IDLE_NO	  1u

/* A part of what domain 0 tells of the host's policy, as text. */
struct frame_policy {
	uint32_t flags;
	struct frame_text text;
};
#define POLICY_REPLACES 0x1u /* a whole share begins */
#define POLICY_MORE	0x2u /* it goes on in the next frame */
#define POLICY_HEAD	4u   /* bytes before the text */

struct frame_goodbye {
	uint32_t error;
	struct frame_text text;
};

/* The sender may administer its own daemon: domain 0's guests ask it of who asks them (protocol.md, 3). */
#define OPEN_ADMINISTERS 1u

struct frame_open {
	uint8_t kind;
	uint8_t flags; /* bits that aren't known mean nothing */
	/* By this, its domid and its pid a channel is named in traces, the same at each daemon; 0: its daemon
	 * doesn't say */
	uint16_t serial;
	struct frame_identity identity;
	struct frame_text
		name; /* address from a program to its daemon and in a relayed OPEN, else endpoint */
	/* domain of the sender; in what a daemon sends to a program it follows a zero: frame_text_split() */
	struct frame_text domain_name;
	struct frame_text
		host; /* of the sender, behind the domain's name and a zero: empty on its own host */
};

struct frame_opened {
	uint64_t limit, max_message;
	bool has_identity;
	struct frame_identity identity; /* of the acceptor */
	bool is_topic;			/* which is a topic */
};

/* Nothing more of the stream is wanted: what still comes is dropped. */
#define CREDIT_STOP 1u
/* From a program that reports early: more lies there, which it takes now (doc/protocol.md, 4). */
#define CREDIT_MORE 2u

struct frame_credit {
	uint64_t consumed, limit;
	uint32_t flags; /* CREDIT_STOP, CREDIT_MORE; those of later versions are ignored */
};

/* The error is what the receiving program said of the message that begins at `unsure`, which it has
 * refused. From a program that shares an endpoint, also: nothing goes to the others. */
#define RESET_REFUSED 1u
/* Who has ended the channel, as the daemon that saw it first knows: others pass it on. 0: nobody knows. */
#define RESET_BY	 0x700u
#define RESET_BY_PROGRAM 0x100u /* the program there, which goes on, or has left in order */
#define RESET_BY_DEATH	 0x200u /* the program there has died, or left without a word */
#define RESET_BY_LOSS	 0x300u /* the session with the domain there is lost: it or its daemon is gone */
#define RESET_BY_RELAY	 0x400u /* domain 0, which relays between the two, by EACCES: its policy forbids it */
/* With RESET_BY_PROGRAM: the errno of what the program there couldn't reach, or lost. 0: it doesn't say. */
#define RESET_CAUSE	  0xfff0000u
#define RESET_CAUSE_SHIFT 16
/* So begins the abstract address of the daemon's end of a broken stream's socket: the flags of its RESET, in
 * hex, and whether something came before follow (protocol.md, 6). */
#define BREAK_NAME "xenmsg/break/"

struct frame_reset {
	uint32_t error;
	uint32_t flags; /* RESET_REFUSED, RESET_BY, RESET_CAUSE; those of later versions are ignored */
	uint64_t consumed, unsure;
};

/* Another program goes on with the channel where the one that had accepted it has left it (protocol.md,
 * 2.7). */
struct frame_reassigned {
	uint64_t consumed, unsure; /* as in RESET; what begins at `unsure` goes to the other one */
};

struct frame_cancelled {
	uint64_t offset;
	uint32_t result;
};

/* Names the domain at the other end of a channel as it is now. */
struct frame_sender {
	uint32_t domid;
	struct frame_text domain_name; /* "": unknown; not of who answers */
};

struct frame_bind {
	uint32_t kinds; /* bits (1 << (enum channel_kind - 1)), and BIND_HOSTS */
	struct frame_text endpoint;
};

#define BIND_STREAMS (1u << (CHANNEL_STREAM - 1))
/* The endpoint is a topic (protocol.md, 2.8). */
#define BIND_TOPIC     0x8u
#define BIND_RETAIN    0x20000000u /* and its last message is kept for later subscribers */
#define BIND_LISTENERS 0x10000000u /* and its program is told how many listen */
/* or that of each key, of so many keys; 0: one */
#define BIND_KEYS	0xfff00u
#define BIND_KEYS_SHIFT 8
/* The program takes streams of other hosts, and asks which host each is from. */
#define BIND_HOSTS 0x80000000u
/* Other programs of its user that say so, too, may bind the endpoint beside it. */
#define BIND_SHARED 0x40000000u
/* What else BIND says beside the kinds. */
#define BIND_FLAGS (BIND_HOSTS | BIND_SHARED | BIND_RETAIN | BIND_LISTENERS | BIND_KEYS)

struct frame_subscribe {
	uint32_t flags; /* bits that aren't known mean nothing */
	struct frame_text address;
};
#define SUBSCRIBE_AGAIN	 1u /* the program had subscribed to it by an earlier daemon */
#define SUBSCRIBE_LEAVE	 4u /* it is subscribed, and gets WAITING behind what there is, and nothing more */
#define SUBSCRIBE_OLDEST 2u /* of what is more than this it loses the newest, else the oldest: */
/* how many messages may wait for it; 0: as many as the daemon has */
#define SUBSCRIBE_QUEUE	      0xffff00u
#define SUBSCRIBE_QUEUE_SHIFT 8

/* How many subscribe to a topic of the program's. */
struct frame_listeners {
	uint64_t count;
	struct frame_text endpoint;
};
#define FRAME_LISTENERS_MAX (8u + ENDPOINT_NAME_MAX)

/* A part of the answer to a watch, which is no frame. */
struct frame_event {
	uint32_t kind;
	uint32_t domid;
	struct frame_text text;	       /* the endpoint, or the name of the domain */
	struct frame_text domain_name; /* with an endpoint; empty where unknown */
	struct frame_text host;	       /* empty: this one */
};

/* The domains that exist, as domain 0's daemon lists them. A complete list may take several frames. */
#define DIRECTORY_REPLACES 0x1u /* begins a complete list */
#define DIRECTORY_MORE	   0x2u /* the list continues in the next frame */
struct frame_directory {
	uint32_t flags;
	uint32_t count;		 /* entries that follow, or that are still to be read */
	const uint8_t *at, *end; /* decoding only */
};

enum directory_state {
	DIRECTORY_REMOVED = 0,
	DIRECTORY_PRESENT = 1,
	DIRECTORY_CHANGED = 2, /* some of its leaves in XenStore */
};

/* The leaves of a domain that have changed for the receiver (doc/protocol.md, section 5.1). */
#define CHANGED_PRESENCE  0x01u
#define CHANGED_ENDPOINTS 0x02u /* for the receiver, as the next one */
#define CHANGED_HELLO	  0x04u
#define CHANGED_PUBLIC	  0x08u /* the endpoints for everybody */
#define CHANGED_NODES	  0x10u
#define CHANGED_ASKS	  0x20u /* it asks, and is told of the receiver in any case */
#define CHANGED_ASKS_ALL  0x40u /* it asks, and hears of the receiver only by an answer */
/* no leaf: it has gone, and domain 0 knows the way to it until it is removed */
#define CHANGED_AWAY 0x80u

struct frame_directory_entry {
	uint32_t domid;
	enum directory_state state;
	uint8_t leaves;		/* with DIRECTORY_CHANGED, and then nothing else */
	uint8_t uuid[16];	/* zero: unknown */
	struct frame_text name; /* empty: unknown, or it can't stand in an address */
};
#define DIRECTORY_HEAD_SIZE 8u
#define DIRECTORY_ENTRY_MAX (22u + DOMAIN_NAME_MAX)
#define DIRECTORY_CHANGE    6u /* bytes of an entry with DIRECTORY_CHANGED */

struct frame_incoming {
	uint64_t token;
	struct frame_identity identity;
	struct frame_text endpoint;
	struct frame_text domain_name, host; /* as in OPEN */
	uint16_t serial;		     /* the same; 0: not told */
};

struct frame_reply {
	uint32_t error;
	struct frame_text body;
};

/* Returns the size of a frame with this payload in a ring: header, payload, padding. */
static inline uint32_t frame_size(uint32_t length)
{
	return FRAME_HEADER_SIZE + ((length + 7u) & ~7u);
}

static inline void frame_header_encode(const struct frame_header *header, uint8_t out[FRAME_HEADER_SIZE])
{
	put_u32(out, header->length);
	out[4] = header->type;
	out[5] = header->flags;
	put_u16(out + 6, header->messages);
	put_u32(out + 8, header->channel);
	put_u32(out + 12, header->sequence);
}

/* Decodes any 16 bytes. Returns 0, or -EPROTO if the length exceeds FRAME_PAYLOAD_MAX. */
static inline int frame_header_decode(const uint8_t in[FRAME_HEADER_SIZE], struct frame_header *header)
{
	header->length = get_u32(in);
	header->type = in[4];
	header->flags = in[5];
	header->messages = get_u16(in + 6);
	header->channel = get_u32(in + 8);
	header->sequence = get_u32(in + 12);
	return header->length > FRAME_PAYLOAD_MAX ? -EPROTO : 0;
}

/* Completes a frame whose payload was written to frame + FRAME_HEADER_SIZE: writes the header before it and
 * the padding behind it, for which the buffer must have room. Returns the size of the frame. */
static inline uint32_t frame_wrap(uint8_t *frame, const struct frame_header *header)
{
	frame_header_encode(header, frame);
	memset(frame + FRAME_HEADER_SIZE + header->length, 0, -header->length & 7u);
	return frame_size(header->length);
}

/* Returns the error that a frame names as a negative errno, or `otherwise` if it can't be an errno. */
static inline int frame_error(uint32_t error, int otherwise)
{
	return error > 0 && error < 4096 ? -(int)error : otherwise;
}

const char *frame_type_name(uint8_t type);

/* Each encoder writes a payload into `out` and returns its length. `out` has room for FRAME_PAYLOAD_MAX
 * bytes, or for FRAME_SMALL_MAX if the frame has no text. Text that doesn't fit is cut. */
/* OPEN: 20, an address, a zero, a domain's name, a zero, a host's name */
#define FRAME_SMALL_MAX (20u + ADDRESS_MAX + 1 + DOMAIN_NAME_MAX + 1 + HOST_NAME_SIZE - 1)
uint32_t frame_hello_local_encode(const struct frame_hello_local *hello, uint8_t *out);
int frame_hello_local_decode(const uint8_t *payload, uint32_t length, struct frame_hello_local *hello);
uint32_t frame_welcome_encode(const struct frame_welcome *welcome, uint8_t *out);
int frame_welcome_decode(const uint8_t *payload, uint32_t length, struct frame_welcome *welcome);
uint32_t frame_hello_link_encode(const struct frame_hello_link *hello, uint8_t *out);
int frame_hello_link_decode(const uint8_t *payload, uint32_t length, struct frame_hello_link *hello);
uint32_t frame_prove_encode(const struct frame_prove *prove, uint8_t *out);
int frame_prove_decode(const uint8_t *payload, uint32_t length, struct frame_prove *prove);
uint32_t frame_resume_encode(const struct frame_resume *resume, uint8_t *out);
int frame_resume_decode(const uint8_t *payload, uint32_t length, struct frame_resume *resume);
uint32_t frame_offer_encode(const struct frame_offer *offer, uint8_t *out);
int frame_offer_decode(const uint8_t *payload, uint32_t length, struct frame_offer *offer);
uint32_t frame_goodbye_encode(const struct frame_goodbye *goodbye, uint8_t *out);
int frame_goodbye_decode(const uint8_t *payload, uint32_t length, struct frame_goodbye *goodbye);
uint32_t frame_policy_encode(const struct frame_policy *policy, uint8_t *out);
int frame_policy_decode(const uint8_t *payload, uint32_t length, struct frame_policy *policy);
uint32_t frame_open_encode(const struct frame_open *open, uint8_t *out);
int frame_open_decode(const uint8_t *payload, uint32_t length, struct frame_open *open);
/* Splits the name of an OPEN, which the decoder leaves whole, from what is behind it. */
void frame_open_split(struct frame_open *open);
uint32_t frame_opened_encode(const struct frame_opened *opened, uint8_t *out);
int frame_opened_decode(const uint8_t *payload, uint32_t length, struct frame_opened *opened);
uint32_t frame_credit_encode(const struct frame_credit *credit, uint8_t *out);
int frame_credit_decode(const uint8_t *payload, uint32_t length, struct frame_credit *credit);
uint32_t frame_reset_encode(const struct frame_reset *reset, uint8_t *out);
int frame_reset_decode(const uint8_t *payload, uint32_t length, struct frame_reset *reset);
uint32_t frame_reassigned_encode(const struct frame_reassigned *reassigned, uint8_t *out);
int frame_reassigned_decode(const uint8_t *payload, uint32_t length, struct frame_reassigned *reassigned);
uint32_t frame_cancelled_encode(const struct frame_cancelled *cancelled, uint8_t *out);
int frame_cancelled_decode(const uint8_t *payload, uint32_t length, struct frame_cancelled *cancelled);
uint32_t frame_sender_encode(const struct frame_sender *sender, uint8_t *out);
int frame_sender_decode(const uint8_t *payload, uint32_t length, struct frame_sender *sender);
uint32_t frame_bind_encode(const struct frame_bind *bind, uint8_t *out);
int frame_bind_decode(const uint8_t *payload, uint32_t length, struct frame_bind *bind);
uint32_t frame_listeners_encode(const struct frame_listeners *listeners, uint8_t *out);
int frame_listeners_decode(const uint8_t *payload, uint32_t length, struct frame_listeners *listeners);
uint32_t frame_subscribe_encode(const struct frame_subscribe *subscribe, uint8_t *out);
int frame_subscribe_decode(const uint8_t *payload, uint32_t length, struct frame_subscribe *subscribe);
uint32_t frame_event_encode(const struct frame_event *event, uint8_t *out);
int frame_event_decode(const uint8_t *payload, uint32_t length, struct frame_event *event);
uint32_t frame_reply_encode(const struct frame_reply *reply, uint8_t *out);
int frame_reply_decode(const uint8_t *payload, uint32_t length, struct frame_reply *reply);
uint32_t frame_incoming_encode(const struct frame_incoming *incoming, uint8_t *out);
int frame_incoming_decode(const uint8_t *payload, uint32_t length, struct frame_incoming *incoming);
/* Writes the head of a DIRECTORY frame. frame_directory_entry_encode() writes each entry behind it and
 * returns the size of the entry (at most DIRECTORY_ENTRY_MAX). */
uint32_t frame_directory_encode(const struct frame_directory *directory, uint8_t *out);
uint32_t frame_directory_entry_encode(const struct frame_directory_entry *entry, uint8_t *out);
int frame_directory_decode(const uint8_t *payload, uint32_t length, struct frame_directory *directory);
/* Reads the next entry. Returns 1 if there was one, 0 at the end of the list, -EPROTO if the entry is cut off
 * or has an invalid domid, state or name. */
int frame_directory_next(struct frame_directory *directory, struct frame_directory_entry *entry);
/* PING, PONG, ACK, FIN, CANCEL, ACCEPT: a single u64. WITHDRAW, SELF, IDLE: a single u32. */
uint32_t frame_u64_encode(uint64_t value, uint8_t *out);
int frame_u64_decode(const uint8_t *payload, uint32_t length, uint64_t *value);
uint32_t frame_u32_encode(uint32_t value, uint8_t *out);
int frame_u32_decode(const uint8_t *payload, uint32_t length, uint32_t *value);

#endif
