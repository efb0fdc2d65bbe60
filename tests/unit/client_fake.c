/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/unit/client_fake.h"
#include "wire/properties.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/descriptors.h"
#include "tests/unit/unit.h"
#include "wire/bytes.h"
#include "wire/doorbell.h"

#define PATIENCE_MS 20000

static void read_exactly(struct fake *fake, void *buffer, size_t size)
{
	size_t got = 0;

	while (got < size) {
		struct pollfd wait = {.fd = fake->fd, .events = POLLIN};
		ssize_t n;

		assert_int_equal(poll(&wait, 1, PATIENCE_MS), 1);
		n = recv(fake->fd, (char *)buffer + got, size - got, 0);
		assert_true(n > 0);
		got += (size_t)n;
	}
}

static void write_exactly(struct fake *fake, const void *buffer, size_t size)
{
	/* The program may have closed it by now, if nothing is left to say. */
	if (size > 0)
		assert_int_equal(send(fake->fd, buffer, size, MSG_NOSIGNAL), size);
}

static struct ring_view view_of(struct fake *fake, const struct frame_ring_place *place)
{
	uint8_t *control = fake->memory + place->control;

	return (struct ring_view){
		.data = fake->memory + place->data,
		.size = place->size,
		.producer = (uint32_t *)(void *)control,
		.consumer = (uint32_t *)(void *)(control + 64),
		.wants_data = control + 128,
		.wants_space = control + 192,
		.wants_data_bit = 1,
		.wants_space_bit = 1,
	};
}

/* Returns its descriptor. */
static int make_memory(void **memory)
{
	int fd = memfd_create("fake", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, FAKE_MEMORY_SIZE), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
	*memory = mmap(NULL, FAKE_MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(*memory != MAP_FAILED);
	return fd;
}

static int share_memory(struct fake *fake, struct frame_welcome *welcome)
{
	void *memory;
	int fd = make_memory(&memory);
	struct epoll_event rung = {.events = EPOLLOUT | EPOLLET};
	struct ring_view view;

	fake->memory = memory;
	for (uint32_t i = 0; i < LOCAL_RINGS; i++)
		welcome->rings[i] = (struct frame_ring_place){
			.control = i * 256, .data = 4096 + i * FAKE_RING_SIZE, .size = FAKE_RING_SIZE};
	view = view_of(fake, &welcome->rings[LOCAL_RING_OUT]);
	ring_reader_init(&fake->out, &view, false);
	view = view_of(fake, &welcome->rings[LOCAL_RING_IN]);
	ring_writer_init(&fake->in, &view, false);
	view = view_of(fake, &welcome->rings[LOCAL_RING_DELIVERIES]);
	ring_writer_init(&fake->deliveries, &view, false);
	fake->wake_daemon = doorbell_new();
	fake->wake_program = doorbell_new();
	fake->sleeping = epoll_create1(EPOLL_CLOEXEC);
	assert_true(fake->wake_daemon >= 0 && fake->wake_program >= 0 && fake->sleeping >= 0);
	assert_int_equal(epoll_ctl(fake->sleeping, EPOLL_CTL_ADD, fake->wake_daemon, &rung), 0);
	ring_reader_arm(&fake->out, 1);
	return fd;
}

static void welcome_program(struct fake *fake)
{
	struct frame_welcome welcome = {.major = fake->is_later ? 2 : 1,
					.minor = PROTOCOL_MINOR + 1,
					.domid = 7,
					.max_message = FAKE_MAX_MESSAGE};
	uint8_t raw[FRAME_HEADER_SIZE + FRAME_SMALL_MAX] = {0};
	struct frame_header header;
	struct frame_hello_local hello;
	uint32_t size;
	int memory = -1;

	read_exactly(fake, raw, FRAME_HEADER_SIZE);
	assert_int_equal(frame_header_decode(raw, &header), 0);
	assert_int_equal(header.type, FRAME_HELLO);
	read_exactly(fake, raw, frame_size(header.length) - FRAME_HEADER_SIZE);
	assert_int_equal(frame_hello_local_decode(raw, header.length, &hello), 0);
	assert_int_equal(hello.flags & HELLO_SHARED_MEMORY, fake->shared ? HELLO_SHARED_MEMORY : 0);
	memset(raw, 0, sizeof(raw));
	fake->asks_mux = hello.flags & HELLO_MUX;
	if (fake->shared) {
		welcome.flags = HELLO_SHARED_MEMORY;
		memory = share_memory(fake, &welcome);
	}
	header = (struct frame_header){.type = FRAME_WELCOME};
	header.length = frame_welcome_encode(&welcome, raw + FRAME_HEADER_SIZE);
	frame_header_encode(&header, raw);
	size = frame_size(header.length);
	if (!fake->shared) {
		write_exactly(fake, raw, size);
		return;
	}
	assert_int_equal(send_descriptors(fake->fd, raw, size,
					  (const int[]){memory, fake->wake_daemon, fake->wake_program}, 3, 0),
			 size);
	close(memory);
}

void fake_send_memory(struct fake *fake, int fd)
{
	const struct frame_header header = {.type = FRAME_MEMORY};
	uint8_t raw[FRAME_HEADER_SIZE];

	frame_header_encode(&header, raw);
	if (fd < 0)
		write_exactly(fake, raw, sizeof(raw));
	else
		assert_int_equal(send_descriptor(fake->fd, raw, sizeof(raw), fd, 0), sizeof(raw));
}

void *fake_offer_memory(struct fake *fake)
{
	void *memory;
	int fd = make_memory(&memory);

	fake_send_memory(fake, fd);
	close(fd);
	return memory;
}

void fake_use_memory(struct fake *fake, void *memory)
{
	size_t size = FAKE_MEMORY_SIZE;

	assert_ptr_equal(mremap(memory, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, fake->memory),
			 fake->memory);
}

static void *accept_program(void *userdata)
{
	struct fake *fake = userdata;
	int listener = fake->fd;

	fake->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	close(listener);
	assert_true(fake->fd >= 0);
	welcome_program(fake);
	return NULL;
}

static void listen_for_program(struct fake *fake)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	memcpy(address.sun_path, fake->path, strlen(fake->path) + 1);
	fake->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fake->fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fake->fd, 1), 0);
	assert_int_equal(pthread_create(&fake->thread, NULL, accept_program, fake), 0);
}

void fake_await(struct fake *fake, bool shared, bool is_mux)
{
	*fake = (struct fake){.shared = shared, .is_mux = is_mux, .wake_daemon = -1, .wake_program = -1};
	snprintf(fake->directory, sizeof(fake->directory), "/tmp/xenmsg-test.XXXXXX");
	assert_non_null(mkdtemp(fake->directory));
	snprintf(fake->path, sizeof(fake->path), "%s/socket", fake->directory);
	listen_for_program(fake);
	setenv("XENMSG_NO_SHARED_MEMORY", shared ? "0" : "1", 1);
}

void fake_await_second(struct fake *fake, const struct fake *first, bool is_later)
{
	*fake = (struct fake){.shared = first->shared,
			      .is_mux = true,
			      .is_later = is_later,
			      .wake_daemon = -1,
			      .wake_program = -1};
	memcpy(fake->path, first->path, sizeof(fake->path));
	unlink(fake->path);
	listen_for_program(fake);
}

void fake_start(struct fake *fake, bool shared)
{
	fake_await(fake, shared, false);
	assert_int_equal(xenmsg_open(&fake->conn, fake->path, NULL), 0);
	fake_join(fake);
}

void fake_die(struct fake *fake)
{
	if (fake->fd >= 0)
		close(fake->fd);
	fake->fd = -1;
}

static void forget_session(struct fake *fake)
{
	fake_die(fake);
	if (fake->memory)
		munmap(fake->memory, FAKE_MEMORY_SIZE);
	fake->memory = NULL;
	if (fake->wake_daemon >= 0) {
		close(fake->wake_daemon);
		close(fake->wake_program);
		close(fake->sleeping);
	}
	fake->wake_daemon = fake->wake_program = -1;
}

void fake_begin_anew(struct fake *fake)
{
	forget_session(fake);
	fake->questions = 0;
	fake->asked_bytes = 0;
	unlink(fake->path);
	listen_for_program(fake);
}

void fake_stop(struct fake *fake)
{
	if (fake->conn)
		xenmsg_close(fake->conn);
	forget_session(fake);
	unlink(fake->path);
	if (fake->directory[0])
		rmdir(fake->directory);
}

void fake_close(struct fake *fake)
{
	xenmsg_close(fake->conn);
	fake->conn = NULL;
}

static void notify_program(struct fake *fake)
{
	assert_int_equal(doorbell_ring(fake->wake_program), 0);
}

uint64_t fake_notifications(struct fake *fake)
{
	uint64_t before = fake->rung;
	char path[64], line[128];
	FILE *file;

	/* Each has taken 1 from the doorbell's counter. */
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fake->wake_daemon);
	file = fopen(path, "r");
	assert_non_null(file);
	fake->rung = 0;
	while (fgets(line, sizeof(line), file))
		if (strncmp(line, "eventfd-count:", 14) == 0)
			fake->rung = strtoull(line + 14, NULL, 16);
	fclose(file);
	assert_true(fake->rung);
	return before - fake->rung;
}

bool fake_has_frame(struct fake *fake)
{
	char byte;

	/* The end of the program is no frame. */
	return fake->shared ? ring_reader_ready(&fake->out, 1) > 0
			    : recv(fake->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* Sleeps as a daemon does, so that a lost notification is a test that fails. */
static void wait_for_ring(struct fake *fake)
{
	while (ring_reader_arm(&fake->out, FRAME_HEADER_SIZE) == 0) {
		struct epoll_event event;

		assert_int_equal(epoll_wait(fake->sleeping, &event, 1, PATIENCE_MS), 1);
	}
}

void fake_read(struct fake *fake)
{
	uint8_t raw[FRAME_HEADER_SIZE];
	uint32_t padded;

	if (!fake->shared) {
		read_exactly(fake, raw, sizeof(raw));
		assert_int_equal(frame_header_decode(raw, &fake->header), 0);
		padded = frame_size(fake->header.length) - FRAME_HEADER_SIZE;
		if (padded)
			read_exactly(fake, fake->payload, padded);
		return;
	}
	wait_for_ring(fake);
	fake_read_busy(fake);
}

void fake_be_busy(struct fake *fake)
{
	*fake->out.ring.wants_data = 0;
}

void fake_read_busy(struct fake *fake)
{
	uint8_t raw[FRAME_HEADER_SIZE];

	ring_reader_copy(&fake->out, 0, raw, sizeof(raw));
	assert_int_equal(frame_header_decode(raw, &fake->header), 0);
	assert_true(ring_reader_ready(&fake->out, frame_size(fake->header.length)) >=
		    (int)frame_size(fake->header.length));
	ring_reader_copy(&fake->out, FRAME_HEADER_SIZE, fake->payload, fake->header.length);
	ring_reader_consume(&fake->out, frame_size(fake->header.length));
	if (ring_reader_release(&fake->out))
		notify_program(fake);
}

void fake_expect(struct fake *fake, uint8_t type)
{
	do
		fake_read(fake);
	while (type != FRAME_CREDIT && fake->header.type == FRAME_CREDIT &&
	       fake->header.channel + 1 == fake->questions); /* by which answers were read */
	assert_string_equal(frame_type_name(fake->header.type), frame_type_name(type));
}

void fake_expect_past_credit(struct fake *fake, uint8_t type)
{
	do
		fake_read(fake);
	while (fake->header.type == FRAME_CREDIT);
	assert_string_equal(frame_type_name(fake->header.type), frame_type_name(type));
}

uint32_t fake_expect_open(struct fake *fake)
{
	fake_expect_past_credit(fake, FRAME_OPEN);
	return fake->header.channel;
}

void fake_read_up_to(struct fake *fake, uint8_t type)
{
	do
		fake_read(fake);
	while (fake->header.type != type);
}

void fake_read_all(struct fake *fake)
{
	while (fake_has_frame(fake))
		fake_read(fake);
}

void fake_send(struct fake *fake, uint8_t type, uint8_t flags, uint32_t channel, const void *payload,
	       uint32_t length)
{
	struct frame_header header = {.type = type, .flags = flags, .channel = channel, .length = length};
	bool delivery = type == FRAME_DATA && (channel & 1) && !fake->is_mux;
	struct ring_writer *ring = delivery ? &fake->deliveries : &fake->in;
	uint32_t padding = frame_size(length) - FRAME_HEADER_SIZE - length;
	uint8_t raw[FRAME_HEADER_SIZE], zeros[8] = {0};

	frame_header_encode(&header, raw);
	if (!fake->shared) {
		write_exactly(fake, raw, sizeof(raw));
		write_exactly(fake, payload, length);
		write_exactly(fake, zeros, padding);
		return;
	}
	assert_true(ring_writer_space(ring, frame_size(length)) >= (int)frame_size(length));
	ring_writer_put(ring, raw, sizeof(raw));
	ring_writer_put(ring, payload, length);
	ring_writer_put(ring, zeros, padding);
	if (ring_writer_publish(ring))
		notify_program(fake);
}

void fake_opened(struct fake *fake, uint32_t channel, uint64_t limit, uint64_t max_message)
{
	FAKE_SAY(fake, OPENED, opened, channel, .limit = limit, .max_message = max_message);
}

void fake_opened_by(struct fake *fake, uint32_t channel, const struct frame_identity *identity)
{
	FAKE_SAY(fake, OPENED, opened, channel, .limit = 1u << 20, .max_message = FAKE_MAX_MESSAGE,
		 .has_identity = true, .identity = *identity);
}

uint32_t fake_accept(struct fake *fake)
{
	uint32_t channel = fake_expect_open(fake);

	fake_opened(fake, channel, CHANNEL_INITIAL_LIMIT, FAKE_MAX_MESSAGE);
	return channel;
}

void fake_credit(struct fake *fake, uint32_t channel, uint64_t consumed, uint64_t limit)
{
	FAKE_SAY(fake, CREDIT, credit, channel, .consumed = consumed, .limit = limit);
}

void fake_fin(struct fake *fake, uint32_t channel, uint64_t total)
{
	uint8_t payload[8];

	fake_send(fake, FRAME_FIN, 0, channel, payload, frame_u64_encode(total, payload));
}

void fake_cancel(struct fake *fake, uint32_t channel, uint64_t offset)
{
	uint8_t payload[8];

	fake_send(fake, FRAME_CANCEL, 0, channel, payload, frame_u64_encode(offset, payload));
}

void fake_withdraw(struct fake *fake, uint32_t channel, uint32_t number)
{
	uint8_t payload[4];

	fake_send(fake, FRAME_WITHDRAW, 0, channel, payload, frame_u32_encode(number, payload));
}

void fake_reset(struct fake *fake, uint32_t channel, uint32_t error, uint64_t consumed, uint64_t unsure)
{
	FAKE_SAY(fake, RESET, reset, channel, .error = error, .consumed = consumed, .unsure = unsure);
}

void fake_reset_by(struct fake *fake, uint32_t channel, uint32_t error, uint32_t flags)
{
	FAKE_SAY(fake, RESET, reset, channel, .error = error, .flags = flags);
}

void fake_refuse(struct fake *fake, uint32_t channel, uint32_t error, uint64_t consumed)
{
	FAKE_SAY(fake, RESET, reset, channel, error, RESET_REFUSED, consumed, consumed);
}

void fake_cancelled(struct fake *fake, uint32_t channel, uint64_t offset, uint32_t result)
{
	FAKE_SAY(fake, CANCELLED, cancelled, channel, .offset = offset, .result = result);
}

void fake_reply(struct fake *fake, uint32_t number, uint32_t error, const char *body)
{
	struct frame_reply reply = {.error = error, .body = {body, strlen(body)}};
	uint8_t payload[1024];

	assert_true(strlen(body) < 1000);
	fake_send(fake, FRAME_REPLY, 0, number, payload, frame_reply_encode(&reply, payload));
}

uint32_t fake_question(struct fake *fake, const char *text)
{
	if (!fake->questions)
		fake->questions = fake_accept(fake) + 1; /* 0 is none */
	fake_expect_past_credit(fake, FRAME_DATA);
	assert_int_equal(fake->header.channel, fake->questions - 1);
	assert_int_equal(fake->payload[4], MESSAGE_REQUEST);
	if (text) {
		assert_int_equal(get_u32(fake->payload), strlen(text));
		assert_memory_equal(fake->payload + MESSAGE_HEAD_SIZE, text, strlen(text));
	}
	fake->asked_bytes += fake->header.length;
	fake_credit(fake, fake->questions - 1, fake->asked_bytes, fake->asked_bytes + CHANNEL_INITIAL_LIMIT);
	return get_u32(fake->payload + fake->header.length - 4);
}

/* Sends an answer, whose type, error and properties are in the message already, which ends at `at`. */
static void send_answer(struct fake *fake, uint8_t *message, uint8_t *at, const void *body, size_t size,
			uint32_t number)
{
	memcpy(at, body, size);
	at += size;
	put_u32(message, (uint32_t)(at - message - MESSAGE_HEAD_SIZE));
	while ((at - message) % 8)
		*at++ = 0;
	put_u32(at, MESSAGE_SENT);
	put_u32(at + 4, number);
	fake_send(fake, FRAME_DATA, 0, fake->questions - 1, message,
		  (uint32_t)(at - message) + MESSAGE_TRAILER_SIZE);
}

void fake_tell(struct fake *fake, uint32_t number, uint32_t error, const char *body)
{
	uint8_t message[1024] = {[4] = error ? MESSAGE_ERROR : MESSAGE_REPLY};

	put_u16(message + 6, (uint16_t)error);
	send_answer(fake, message, message + MESSAGE_HEAD_SIZE, body, strlen(body), number);
}

static void tell_part(struct fake *fake, uint32_t number, uint32_t part, bool has_more, const void *body,
		      size_t size)
{
	const struct properties properties = {.is_part = true, .part = part, .has_more = has_more};
	uint8_t message[1024] = {[4] = MESSAGE_REPLY | MESSAGE_PROPERTIES}, *at = message + MESSAGE_HEAD_SIZE;

	send_answer(fake, message, at + properties_encode(&properties, at), body, size, number);
}

void fake_tell_part(struct fake *fake, uint32_t number, uint32_t part, bool has_more, const char *body)
{
	tell_part(fake, number, part, has_more, body, strlen(body));
}

uint32_t fake_expect_watch(struct fake *fake, const char *pattern)
{
	char question[128];

	snprintf(question, sizeof(question), "watch %s", pattern ? pattern : "");
	return fake_question(fake, pattern ? question : NULL);
}

void fake_watched(struct fake *fake, uint32_t number, uint32_t error)
{
	fake->parts[number % 8] = 1;
	if (error)
		fake_tell(fake, number, error, "no");
	else
		fake_tell_part(fake, number, 0, true, "");
}

uint32_t fake_watch(struct fake *fake, const char *pattern, uint32_t error)
{
	uint32_t number = fake_expect_watch(fake, pattern);

	fake_watched(fake, number, error);
	return number;
}

void fake_event(struct fake *fake, uint32_t number, const struct frame_event *event)
{
	uint8_t payload[FRAME_SMALL_MAX];

	tell_part(fake, number, fake->parts[number % 8]++, true, payload, frame_event_encode(event, payload));
}

void fake_expect_unwatch(struct fake *fake, uint32_t number)
{
	fake_expect_past_credit(fake, FRAME_WITHDRAW);
	assert_int_equal(fake->header.channel, fake->questions - 1);
	assert_int_equal(get_u32(fake->payload), number);
}

void fake_answer(struct fake *fake, uint8_t type, uint32_t error, const char *reason)
{
	fake_expect(fake, type);
	fake_reply(fake, fake->header.channel, error, reason);
}

void fake_open_kind(struct fake *fake, uint32_t channel, enum channel_kind kind, const char *endpoint)
{
	FAKE_SAY(fake, OPEN, open, channel, .kind = (uint8_t)kind,
		 .identity = {.domid = 3, .uid = 1000, .gid = 100, .pid = 4321},
		 .name = frame_text_of(endpoint));
}

void fake_open(struct fake *fake, uint32_t channel, const char *endpoint)
{
	fake_open_kind(fake, channel, CHANNEL_MESSAGE, endpoint);
}

uint32_t fake_message(uint8_t *at, const void *data, uint32_t size, uint32_t state)
{
	uint32_t padded = (size + 7) & ~7u;

	memset(at, 0, MESSAGE_HEAD_SIZE + padded + MESSAGE_TRAILER_SIZE);
	put_u32(at, size);
	if (size)
		memcpy(at + MESSAGE_HEAD_SIZE, data, size);
	put_u32(at + MESSAGE_HEAD_SIZE + padded, state);
	return MESSAGE_HEAD_SIZE + padded + MESSAGE_TRAILER_SIZE;
}

struct script {
	struct fake *fake;
	void (*run)(struct fake *fake);
};

static void *run_script(void *userdata)
{
	struct script script = *(struct script *)userdata;

	free(userdata);
	script.run(script.fake);
	return NULL;
}

void fake_meanwhile(struct fake *fake, void (*run)(struct fake *fake))
{
	struct script *script = malloc(sizeof(*script));

	assert_non_null(script);
	*script = (struct script){.fake = fake, .run = run};
	assert_int_equal(pthread_create(&fake->thread, NULL, run_script, script), 0);
}

void fake_join(struct fake *fake)
{
	assert_int_equal(pthread_join(fake->thread, NULL), 0);
}

static void answer_as_told(struct fake *fake)
{
	fake_answer(fake, fake->answered_type, fake->answer_error, fake->answer_reason);
}

void fake_answer_meanwhile(struct fake *fake, uint8_t type, uint32_t error, const char *reason)
{
	fake->answered_type = type;
	fake->answer_error = error;
	fake->answer_reason = reason;
	fake_meanwhile(fake, answer_as_told);
}

static void watch_as_told(struct fake *fake)
{
	fake_watch(fake, NULL, fake->answer_error);
}

void fake_watch_meanwhile(struct fake *fake, uint32_t error)
{
	fake->answer_error = error;
	fake_meanwhile(fake, watch_as_told);
}

void fake_bind(struct fake *fake, const char *endpoint, xenmsg_message_handler handler, void *userdata)
{
	fake_answer_meanwhile(fake, FRAME_BIND, 0, "");
	assert_int_equal(xenmsg_bind(fake->conn, endpoint, NULL, handler, userdata), 0);
	fake_join(fake);
}
