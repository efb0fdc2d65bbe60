/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_LINK_RIG_H
#define XENMSG_TESTS_LINK_RIG_H

/*
 * A link with the daemon of another domain, whose end the test plays. The vchan is the rig's own in place
 * of daemon/xen/vchan.c, and so are the peers and the directory; time goes by when the test says so.
 */

#include "tests/unit/unit.h"

#include <event2/event.h>

#include "base/config.h"
#include "base/quota.h"
#include "base/self.h"
#include "daemon/registry/registry.h"
#include "daemon/link/link.h"
#include "daemon/switch/channel.h"
#include "tests/unit/private_ring.h"
#include "daemon/xen/vchan.h"

#define OWN	      5
#define HEARTBEAT_MS  10000
#define DEAD_AFTER_MS 30000
#define IDLE_CLOSE_MS 600000
#define RESUME_FOR_MS 60000

/* What the test lets go by. */
extern uint64_t time_passed_ms;
/* What each look at the clock takes. */
extern uint64_t look_takes_ns;
/* Others have the CPU for so long when we let them. */
extern uint64_t yield_takes_ms;

struct vchan {
	struct private_ring in, out; /* as seen from the daemon */
	enum vchan_state state;
	vchan_event_fn event;
	void *userdata;
	unsigned notified;
	int notify_error;
	bool closed;
	bool is_mapped;	     /* by the daemon; else it has granted it */
	bool left, was_left; /* by the daemon; by the peer, with `state` */
	bool has_died;	     /* the peer, likewise */
	bool restored;	     /* our domain was, since */
	uint32_t size;	     /* of the rings, where only that counts; 0: as it is */
	struct vchan *next;  /* that the rig has made before */
};

/* Our domain may be restored; and maps what the peer grants. */
extern bool guarded, maps;

struct peer {
	uint32_t domid;
	struct vchan *vchan;
	struct ring_writer out;
	struct ring_reader in;
	uint32_t sequence, heard_sequence;
	bool unnumbered;			/* frames before those of a session that is resumed */
	uint64_t put;				/* bytes of frames */
	uint8_t payload[FRAME_PAYLOAD_MAX + 8]; /* of the last frame heard */
	struct frame_header header;
};

struct scene {
	struct self self;
	struct event_base *base;
	struct switchboard board;
	struct quota *quota; /* if the scene is to have limits */
	struct links *links;
	bool is_up;			/* the peers, according to XenStore */
	bool is_unseen;			/* they aren't up, but nobody has looked */
	uint8_t instances[16][16];	/* by domid, likewise */
	struct registry_sink *sink;	/* the links', of names */
	const char *name, *uuid;	/* of any domain, as the directory knows them; NULL: it doesn't */
	uint32_t found;			/* the domid of any name, or UUID; 0: none has it */
	uint32_t zero_knows, zero_sees; /* the domid that domain 0 calls away, and that comes back; 0: none */
	uint32_t zero_tells;		/* the domid of which it tells; 0: none */
	int connect_error;
	uint32_t next_rings; /* the size of those that are granted next; 0: as large as any */
	bool is_connected;   /* has handed over a vchan, and wasn't told that it ended */
	unsigned connects, disconnects, deaths, ups, downs, anews, directories, opens, sources;
	int directory_result;
	int pong;
	unsigned words; /* that domain 0 was asked for */
	unsigned pongs, unlinkable, waiting_for_pages;
	uint32_t peer_flags;	 /* of its HELLO */
	struct channel *waiting; /* that goes elsewhere when there can be no link */
	struct hop program;	 /* who opens channels, */
	unsigned opened;	 /* by open_channel() */
	uint32_t was;		 /* the peer's domid before it was restored; 0: it wasn't */
	uint32_t other;		 /* another peer's, likewise */
	unsigned moves;
	/* The channels of a session that goes on are seen to in so many pieces, each so dear; what was said
	 * of them last; how often. */
	unsigned resumed_pieces, resumed_cost;
	uint32_t resumed_from, resumed_to;
	unsigned resumed_calls;
	struct peer peer;
};

void on_pong(void *userdata, uint32_t request, int result);

/* For the scene that is started next. */
extern struct config links_config;
extern const struct carrier_maker *carrier_maker;
extern uint32_t channels_max;

/* The peer is this domain, or domain 7. */
void scene_start_with(struct scene *scene, uint32_t domid);
void scene_start(struct scene *scene);
/* Ends the links, if the test hasn't, and the program's channels. All vchans must have been closed by then.
 * What was set for the scene is as it was. */
void scene_stop(struct scene *scene);
/* As the daemon does when it stops. */
void start_links(struct scene *scene);
void stop_links(struct scene *scene);
/* Each domain may hold so much. */
void set_limits(struct scene *scene, uint64_t bytes, uint64_t channels);
void charge_to(struct charge *charge, struct scene *scene, uint32_t domid);
uint64_t used_by(struct scene *scene, uint32_t domid, enum quota_resource resource);
/* Something is known of the domain that wasn't. */
void note_name(struct scene *scene, uint32_t domid);
/* So often a link was told to be away. */
extern unsigned told_away;
/* What the loop would do next. */
void settle(struct scene *scene);
struct link_info info_of(struct scene *scene);
void expect_state(struct scene *scene, enum link_state state);
void expect_state_of(struct scene *scene, uint32_t domid, enum link_state state);
void expect_last_error(struct scene *scene, const char *part);
/* Time goes by, at once or in steps. */
void pass(struct scene *scene, uint64_t ms);
void pass_in_steps(struct scene *scene, uint64_t ms, uint64_t step_ms);

/* A vchan of the scene, whose rings the peer reads and writes. */
struct vchan *make_vchan(enum vchan_state state, struct ring_writer *out, struct ring_reader *in);
unsigned open_vchans(void);
void free_closed_vchans(void);
void bring_vchan(struct scene *scene);
void connect_peer(struct scene *scene);
void notify(struct scene *scene);
/* The event comes, and nothing more is done yet. */
void notify_only(struct scene *scene);
/* The peer closes the vchan, as a daemon that dies does. */
void close_by_peer(struct scene *scene);
/* XenStore says that the peer has gone: for good, or perhaps for a while. */
void lose(struct scene *scene, bool gone);
void put(struct scene *scene, uint8_t type, uint32_t channel, const void *payload, uint32_t length);
/* The peer says this. */
void say(struct scene *scene, uint8_t type, const void *payload, uint32_t length);
void say_u64(struct scene *scene, uint8_t type, uint64_t value);
void say_hello(struct scene *scene, uint16_t major);
/* The event is lost, or comes later. */
void say_hello_unheard(struct scene *scene);
/* What the daemon has said next. */
bool hear(struct scene *scene);
void expect(struct scene *scene, uint8_t type);
void expect_silence(struct scene *scene);
void greet(struct scene *scene);
void up(struct scene *scene);
void up_with_domain_0(struct scene *scene);
/* The peer has done wrong: it is told so by the last frame, and the link is idle until it is had again. */
void expect_violation(struct scene *scene, uint32_t error);
/* Somebody wants a link with the domain. */
struct hop *want(struct scene *scene, uint32_t domid);
void want_in_vain(struct scene *scene, uint32_t domid, int error);
/* Somebody awaits the session with the domain; scene->pong will have the result. */
void ping(struct scene *scene, uint32_t domid);
/* A program opens a channel to the peer; or to another domain, before anything is said of it. */
struct channel *open_channel(struct scene *scene);
struct channel *open_channel_to(struct scene *scene, uint32_t domid, enum channel_kind kind);
/* The peer has opened channel 2 to an endpoint of the program. */
void accept_channel(struct scene *scene);

struct failures {
	unsigned count;
	uint32_t first;
};

void collect_failure(void *userdata, const struct link_failure *failure);
/* The program lets go of its channels. */
void forget_program_channels(struct scene *scene);

enum moment {
	CONNECTING,
	GREETING,
	RUNNING,
	MOMENTS,
};

/* From the start of the scene. */
void reach(struct scene *scene, enum moment moment, bool with_channel);

#endif
