/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A hostile peer and a link's session that has lost its vchan: HELLO, PROVE and RESUME in any order and form,
 * over one carrier after the other. The peer knows the session's secret, and can say what is right; from
 * there the input changes what it likes. The first byte says who is the lower domid, and grants; a record
 * that follows is { u8 what, u8 length, payload }, of which bit 7 says that another one follows before the
 * daemon wakes, and bit 6 that the peer doesn't read. Nobody resumes who has proven nothing, who has proven
 * nothing ends nothing, and in the end each carrier was closed once, and nothing is left.
 */

#include <sys/syscall.h>
#include <time.h>

#include <event2/event.h>

#include "base/config.h"
#include "base/log.h"
#include "base/self.h"
#include "daemon/link/link.h"
#include "daemon/link/auth_tag.h"
#include "daemon/link/carrier.h"
#include "daemon/registry/registry.h"
#include "daemon/peers/peers.h"
#include "daemon/switch/channel.h"
#include "tests/fuzz/fuzz.h"
#include "wire/frame_ring.h"

#define US	     5u
#define RING_SMALL   512u
#define RING_LARGE   4096u
#define CARRIERS     40
#define CHANNELS     16
#define HEARTBEAT_MS 1000
#define DEAD_MS	     3000
#define RESUME_MS    20000

struct ring_pair {
	struct ring_words words[2]; /* to the daemon, from it */
	uint8_t data[2][RING_LARGE];
	uint32_t size;
	enum carrier_state state;
	bool granter, closed;
	carrier_event_fn event;
	void *userdata;
	struct ring_writer out;
	struct ring_reader in;
	bool to_resume;	    /* the daemon's HELLO names the session */
	bool spoken;	    /* the peer has said something, */
	bool named, proven; /* named the session by its first frame, proven who it is */
	uint8_t their_nonce[16], our_nonce[16], their_secret[AUTH_SECRET_SIZE];
	uint32_t their_hello; /* its size */
	uint8_t our_instance[AUTH_ID_SIZE];
	uint32_t their_epoch, our_epoch; /* as said last */
};

static struct world {
	struct self self;
	struct event_base *base;
	struct switchboard board;
	struct registry *registry;
	struct registry_sink sink;
	struct links *links;
	struct hop program;
	uint32_t peer;
	bool granter, wanted;
	struct ring_pair carriers[CARRIERS];
	unsigned used;
	/* The session, as the peer knows it. */
	uint8_t secret[AUTH_SECRET_SIZE], instance[AUTH_ID_SIZE];
	uint32_t sequence, epoch, resumes;
	uint64_t received;
} world;

static const uint8_t our_secret[AUTH_SECRET_SIZE] = "a secret of the peer's";

/* --- time, which passes when a record says so ------------------------------------------------- */

static uint64_t passed_ms;

__attribute__((visibility("default"))) int clock_gettime(clockid_t id, struct timespec *now)
{
	uint64_t ms = 1000000 + passed_ms;

	if (id != CLOCK_MONOTONIC && id != CLOCK_MONOTONIC_COARSE)
		return (int)syscall(SYS_clock_gettime, id, now);
	*now = (struct timespec){.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
	return 0;
}

/* --- what stands in for the peers and the directory ------------------------------------------- */

int peers_connect(struct peers *peers, uint32_t domid, struct account *account)
{
	world.wanted = true;
	return 0;
}

void peers_disconnect(struct peers *peers, uint32_t domid)
{
	world.wanted = false;
}

void peers_died(struct peers *peers, uint32_t domid)
{
}

bool peers_is_forbidden(struct peers *peers, uint32_t domid)
{
	return false;
}

bool peers_is_up(struct peers *peers, uint32_t domid)
{
	return true;
}

bool peers_is_absent(struct peers *peers, uint32_t domid)
{
	return false;
}

bool peers_instance(struct peers *peers, uint32_t domid, uint8_t its_instance[16])
{
	return false;
}

bool peers_want_all(struct peers *peers)
{
	return true;
}

bool peers_next(struct peers *peers, int64_t after, struct peer_info *info)
{
	return false;
}

unsigned peers_waiting(const struct peers *peers)
{
	return 0;
}

static void begin_session(void);

static void on_known(void *userdata, enum registry_what what, uint32_t domid)
{
	if (what == REGISTRY_LINK_UP)
		begin_session();
}

static int take_names(void *userdata, const uint8_t *payload, uint32_t length)
{
	return -EPROTO;
}

/* --- carriers in memory --------------------------------------------------------------------- */

static void rings_of(void *userdata, struct ring_view *in, struct ring_view *out)
{
	struct ring_pair *carrier = userdata;

	*in = ring_words_view(&carrier->words[0], carrier->data[0], carrier->size);
	*out = ring_words_view(&carrier->words[1], carrier->data[1], carrier->size);
}

static void hear_events(void *userdata, carrier_event_fn event, void *event_userdata)
{
	struct ring_pair *carrier = userdata;

	carrier->event = event;
	carrier->userdata = event_userdata;
}

static int notify(void *userdata)
{
	return 0;
}

static enum carrier_state state_of(void *userdata)
{
	return ((struct ring_pair *)userdata)->state;
}

static void close_it(void *userdata, bool to_resume)
{
	struct ring_pair *carrier = userdata;

	check(!carrier->closed);
	carrier->closed = true;
	carrier->event = NULL;
}

static bool is_granter(void *userdata)
{
	return ((struct ring_pair *)userdata)->granter;
}

static uint32_t pages_of(void *userdata)
{
	return 1;
}

static const struct carrier_functions functions = {
	.rings = rings_of,
	.hear = hear_events,
	.notify = notify,
	.state = state_of,
	.close = close_it,
	.is_granter = is_granter,
	.pages = pages_of,
};

/* The last one; its end of the daemon may be closed. NULL: there was none. */
static struct ring_pair *current(void)
{
	return world.used ? &world.carriers[world.used - 1] : NULL;
}

static void bring(bool small)
{
	struct ring_pair *carrier;
	struct carrier made = {.functions = &functions};
	struct ring_view view;

	if (world.used == CARRIERS)
		return;
	carrier = &world.carriers[world.used++];
	*carrier = (struct ring_pair){
		.size = small ? RING_SMALL : RING_LARGE, .state = CARRIER_OPEN, .granter = world.granter};
	carrier->our_nonce[0] = (uint8_t)world.used;
	view = ring_words_view(&carrier->words[0], carrier->data[0], carrier->size);
	ring_writer_init(&carrier->out, &view, false);
	view = ring_words_view(&carrier->words[1], carrier->data[1], carrier->size);
	ring_reader_init(&carrier->in, &view, false);
	made.self = carrier;
	links_connected(world.links, peer_domain(world.peer), &made);
}

/* --- the peer --------------------------------------------------------------------------------- */

static void settle(void)
{
	for (unsigned i = 0; i < 1000 && switch_is_busy(&world.board); i++)
		switch_pass(&world.board);
	check(!switch_is_busy(&world.board)); /* else it does something without end */
}

static enum link_state state_now(uint32_t *resumes)
{
	struct link_info info;

	*resumes = 0;
	if (!links_info(world.links, peer_domain(world.peer), &info))
		return LINK_IDLE;
	*resumes = info.resumes;
	return info.state;
}

/* Unless the one that there was goes on: the lower domid has chosen what names it, and the two HELLOs are its
 * first frames. */
static void begin_session(void)
{
	struct ring_pair *carrier = current();
	uint32_t resumes;

	state_now(&resumes);
	if (resumes != world.resumes) {
		world.resumes = resumes;
		return;
	}
	world.epoch = 1;
	world.sequence = 1;
	if (carrier->to_resume)
		world.received = carrier->their_hello;
	memcpy(world.instance, carrier->our_instance, sizeof(world.instance));
	memcpy(world.secret, world.peer < US ? our_secret : carrier->their_secret, sizeof(world.secret));
}

static void put(uint8_t type, const uint8_t *payload, uint32_t length, uint32_t sequence)
{
	const struct frame_header header = {.type = type, .length = length, .sequence = sequence};
	uint8_t frame[FRAME_HEADER_SIZE + FRAME_SMALL_MAX + 8] = {0};
	struct ring_pair *carrier = current();

	if (!carrier || ring_writer_space(&carrier->out, frame_size(length)) < (int)frame_size(length))
		return;
	frame_header_encode(&header, frame);
	memcpy(frame + FRAME_HEADER_SIZE, payload, length);
	ring_writer_put(&carrier->out, frame, frame_size(length));
	ring_writer_publish(&carrier->out);
	carrier->spoken = true;
}

/* A frame of the session. */
static void put_next(uint8_t type, const uint8_t *payload, uint32_t length)
{
	put(type, payload, length, world.sequence++);
}

static uint8_t byte_of(const uint8_t *payload, size_t size, size_t at)
{
	return at < size ? payload[at] : 0;
}

/* What the two ends are to a proof and to a tag. */
static void make_ends(const struct ring_pair *carrier, struct auth_end *daemon, struct auth_end *peer)
{
	*daemon = (struct auth_end){.domid = US};
	*peer = (struct auth_end){.domid = world.peer};
	memcpy(daemon->nonce, carrier->their_nonce, sizeof(daemon->nonce));
	memcpy(daemon->instance, world.self.instance, sizeof(daemon->instance));
	memcpy(peer->nonce, carrier->our_nonce, sizeof(peer->nonce));
	memcpy(peer->instance, world.instance, sizeof(peer->instance));
}

/* Whether it names the session, and what is wrong: tag, instance, no sessions, major, nothing at all. */
static void put_hello(const uint8_t *payload, size_t size)
{
	struct ring_pair *carrier = current();
	uint8_t wrong = byte_of(payload, size, 1), out[FRAME_SMALL_MAX];
	struct frame_hello_link hello = {
		.major = wrong & 8 ? 2 : PROTOCOL_MAJOR,
		.minor = PROTOCOL_MINOR,
		.max_message = 1u << 20,
		.version = {"1.1", 3},
		.flags = wrong & 4 ? 0 : HELLO_RESUMES,
	};
	bool names = byte_of(payload, size, 0) == 1;
	struct auth_end daemon, peer;

	if (!carrier)
		return;
	make_ends(carrier, &daemon, &peer);
	if (names)
		auth_hello_tag(world.secret, &peer, &daemon, hello.tags[7]);
	hello.tags[7][3] ^= wrong & 1;
	memcpy(hello.instance, world.instance, sizeof(hello.instance));
	hello.instance[3] ^= wrong & 2;
	memcpy(carrier->our_instance, hello.instance, sizeof(carrier->our_instance));
	memcpy(hello.nonce, carrier->our_nonce, sizeof(hello.nonce));
	if (world.peer < US)
		memcpy(hello.secret, our_secret, sizeof(hello.secret));
	if (!carrier->to_resume) { /* a session begins */
		world.sequence = 0;
		put_next(FRAME_HELLO, out, frame_hello_link_encode(&hello, out));
		return;
	}
	carrier->named = !carrier->spoken && !(wrong & 15) && names;
	put(FRAME_HELLO, out, frame_hello_link_encode(&hello, out), 0);
}

/* By how much the epoch is wrong, and the bit of the proof that is. */
static void put_prove(const uint8_t *payload, size_t size)
{
	struct ring_pair *carrier = current();
	uint8_t wrong = byte_of(payload, size, 1), out[FRAME_SMALL_MAX];
	struct frame_prove prove = {.epoch = world.epoch + (uint32_t)(int8_t)byte_of(payload, size, 0)};
	struct auth_end daemon, peer;

	if (!carrier)
		return;
	make_ends(carrier, &daemon, &peer);
	auth_tag_make(world.secret, wrong == 255 ? &daemon : &peer, wrong == 255 ? &peer : &daemon,
		      prove.epoch, prove.proof);
	if (wrong && wrong != 255)
		prove.proof[wrong % AUTH_TAG_SIZE] ^= (uint8_t)(1u << (wrong >> 5));
	carrier->proven |= !wrong;
	put(FRAME_PROVE, out, frame_prove_encode(&prove, out), 0);
}

/* By how much position and epoch are wrong. */
static void put_resume(const uint8_t *payload, size_t size)
{
	struct ring_pair *carrier = current();
	struct frame_resume resume = {.received = world.received +
						  (uint64_t)(int64_t)(int8_t)byte_of(payload, size, 0) * 8};
	uint8_t out[FRAME_SMALL_MAX];

	if (!carrier)
		return;
	/* The mapping end numbers the epochs. */
	resume.epoch = world.granter
			       ? (world.epoch > carrier->their_epoch ? world.epoch : carrier->their_epoch) + 1
			       : carrier->their_epoch;
	resume.epoch += (uint32_t)(int8_t)byte_of(payload, size, 1);
	carrier->our_epoch = resume.epoch;
	put(FRAME_RESUME, out, frame_resume_encode(&resume, out), 0);
}

static bool is_named(const struct ring_pair *carrier, const struct frame_hello_link *hello)
{
	struct auth_end daemon, peer;
	uint8_t tag[AUTH_HELLO_SIZE];
	bool is_there = false;

	make_ends(carrier, &daemon, &peer);
	auth_hello_tag(world.secret, &daemon, &peer, tag);
	for (unsigned i = 0; i < HELLO_TAGS; i++)
		is_there |= !memcmp(hello->tags[i], tag, sizeof(tag));
	return is_there;
}

/* What the daemon has said before the session goes on, and its HELLO. */
static void learn(struct ring_pair *carrier, const struct frame_header *header, const uint8_t *payload)
{
	struct frame_hello_link hello;
	struct frame_resume resume;
	struct frame_prove prove;

	if (header->type == FRAME_HELLO && frame_hello_link_decode(payload, header->length, &hello) == 0) {
		carrier->their_hello = frame_size(header->length);
		memcpy(carrier->their_nonce, hello.nonce, sizeof(carrier->their_nonce));
		carrier->to_resume = is_named(carrier, &hello);
		memcpy(carrier->their_secret, hello.secret, sizeof(carrier->their_secret));
		if (!carrier->to_resume)
			world.received = 0;
	} else if (header->type == FRAME_PROVE && frame_prove_decode(payload, header->length, &prove) == 0) {
		carrier->their_epoch = prove.epoch;
	} else if (header->type == FRAME_RESUME &&
		   frame_resume_decode(payload, header->length, &resume) == 0) {
		check(carrier->proven); /* else it says what it has received to anybody */
		carrier->their_epoch = resume.epoch;
	}
}

static void hear(void)
{
	struct ring_pair *carrier = current();
	uint8_t payload[FRAME_PAYLOAD_MAX];
	struct frame_header header;
	uint32_t ready;

	while (carrier && frame_next(&carrier->in, &header, &ready) > 0) {
		ring_reader_copy(&carrier->in, FRAME_HEADER_SIZE, payload, header.length);
		ring_reader_consume(&carrier->in, frame_size(header.length));
		ring_reader_release(&carrier->in);
		learn(carrier, &header, payload);
		if (header.type != FRAME_PROVE && header.type != FRAME_RESUME &&
		    header.type != FRAME_GOODBYE && !(header.type == FRAME_HELLO && carrier->to_resume))
			world.received += frame_size(header.length);
	}
}

/* --- what happens ----------------------------------------------------------------------------- */

static int no_control(void *owner, const struct frame_header *header, const uint8_t *payload)
{
	return -EPROTO;
}

static const struct hop_callbacks program_callbacks = {.control = no_control};

static void on_open(void *userdata, struct peer_id peer, struct channel *channel,
		    const struct frame_open *open)
{
	channel_refuse(channel, ENOENT);
}

/* A program here opens a channel to the peer. */
static void open_channel(void)
{
	struct frame_identity identity = {.domid = US};
	struct channel *channel;
	int error = 0;
	struct hop *hop;

	if (world.program.channels.count >= CHANNELS)
		return;
	hop = links_want(world.links, peer_domain(world.peer), NULL, &error);
	if (!hop || channel_new(&world.program, world.program.channels.count * 2 + 1, CHANNEL_MESSAGE,
				&identity, &channel) < 0)
		return;
	if (channel_accept(channel, hop, "inbox") < 0)
		channel_refuse(channel, ENOBUFS);
}

static void fail(uint8_t how)
{
	struct ring_pair *carrier = current();

	switch (how & 7) {
	case 0:
		links_failed(world.links, peer_domain(world.peer), -EHOSTDOWN, "it isn't there");
		break;
	case 1:
		links_failed(world.links, peer_domain(world.peer), -EHOSTUNREACH, "it is silent");
		break;
	case 2:
		links_lost(world.links, peer_domain(world.peer), how & 8, "it is gone");
		break;
	case 3:
		if (carrier)
			carrier->words[0].producer += 1u << (how >> 3);
		break;
	case 4:
		if (carrier)
			carrier->words[1].consumer += 1u << (how >> 3);
		break;
	default:
		if (carrier)
			carrier->state = how & 8 ? CARRIER_LEFT : how & 16 ? CARRIER_CLOSED : CARRIER_BROKEN;
	}
}

static void act(unsigned what, const uint8_t *payload, size_t size)
{
	switch (what) {
	case 0:
		put_hello(payload, size);
		break;
	case 1:
		put_prove(payload, size);
		break;
	case 2:
		put_resume(payload, size);
		break;
	case 3: /* any frame */
		if (size > 1)
			put(payload[0], payload + 2, (uint32_t)(size - 2), payload[1]);
		break;
	case 4: /* one of the session, by its number */
		if (size)
			put_next(payload[0], payload + 1, (uint32_t)size - 1);
		break;
	case 5:
		bring(byte_of(payload, size, 0) & 1);
		break;
	case 6:
		if (byte_of(payload, size, 0) & 0x80)
			open_channel();
		else
			passed_ms += 100u * byte_of(payload, size, 0);
		event_base_loop(world.base, EVLOOP_NONBLOCK);
		break;
	default:
		fail(byte_of(payload, size, 0));
	}
}

/* The daemon goes on. `deaf`: the peer doesn't read what it says. */
static void wake(bool deaf)
{
	for (unsigned i = 0; i < world.used; i++)
		if (world.carriers[i].event)
			world.carriers[i].event(world.carriers[i].userdata);
	settle();
	if (!deaf)
		hear();
}

static void start(uint8_t how)
{
	static const struct links_callbacks callbacks = {.open = on_open, .names = take_names};
	static const struct config config = {
		.heartbeat_ms = HEARTBEAT_MS,
		.dead_after_ms = DEAD_MS,
		.resume_for_ms = RESUME_MS,
	};
	struct links_options options = {.self = &world.self, .config = &config, .channels_max = CHANNELS};

	memset(&world, 0, sizeof(world));
	world.self = (struct self){.domid = US, .instance = "instance of us"};
	world.peer = how & 1 ? 3 : 7;
	world.granter = how & 2;
	options.registry = world.registry = registry_new(&world.self);
	check(options.registry);
	registry_listen(options.registry, &world.sink, on_known, NULL);
	check((world.base = event_base_new()) && switch_init(&world.board, world.base, 1u << 20) == 0);
	check(links_new(&world.links, &world.board, (void *)&world, &options, &callbacks, NULL) == 0);
	check(hop_init(&world.program, &world.board, HOP_SHARED, &program_callbacks, NULL, 1, CHANNELS) == 0);
	bring(false);
	wake(false);
	put_hello((const uint8_t[]){0, how & 4}, 2);
	wake(false);
	check(state_now(&(uint32_t){0}) == LINK_UP); /* else nothing of this would be tried */
}

static void stop(void)
{
	links_free(world.links);
	registry_free(world.registry);
	hop_reset_channels(&world.program, ENOENT);
	settle();
	hop_cleanup(&world.program);
	switch_cleanup(&world.board);
	event_base_free(world.base);
	for (unsigned i = 0; i < world.used; i++)
		check(world.carriers[i].closed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_record record;

	log_set_level(LOG_LEVEL_ERROR);
	if (size == 0)
		return 0;
	start(data[0]);
	data++;
	size--;
	while (next_record(&record, &data, &size)) {
		struct ring_pair *carrier = current();
		uint32_t resumes_before, resumes;
		enum link_state before = state_now(&resumes_before), after;

		act(record.what & 7, record.payload, record.size);
		if (!(record.what & 0x80))
			wake(record.what & 0x40);
		after = state_now(&resumes);
		if (resumes > resumes_before) {
			check(carrier->proven);
			world.epoch = world.granter ? carrier->our_epoch : carrier->their_epoch;
		}
		if ((record.what & 7) < 5 && before == LINK_AWAY && after == LINK_IDLE && carrier)
			check(!carrier->named || carrier->proven || carrier->state != CARRIER_OPEN);
	}
	stop();
	return 0;
}
