/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The engine of bench/topics: one publishes, many subscribe, and the publisher is never more than a window
 * ahead of the slowest, so that nobody loses anything for want of room, and what is measured is what all can
 * keep up. How far each process is, it says in a file that all map. What other contenders do within a call is
 * theirs.
 *
 * 	bench-fanout subscribe CONTENDER ADDRESS FILE INDEX COUNT SUBSCRIBERS SIZE
 * 	bench-fanout publish CONTENDER ADDRESS FILE PROCESSES SUBSCRIBERS SIZE SECONDS rate|latency
 *
 * The first one says "ready", and goes on until it is killed; COUNT of all SUBSCRIBERS are in it.
 *
 * It prints "MESSAGES NANOSECONDS FIRST LAST MISSED CPU": with `latency` the medians of when the first and
 * the last subscriber has a message, in ns; the CPU time is that of this process and of those that BENCH_PIDS
 * names.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bench/engine.h"
#include "bench/fanout.h"

#define PROCESSES_MAX 256u
#define SAMPLES_MAX   4096u
#define WINDOW_BYTES  (512u << 10)
#define WINDOW_MAX    1024u
#define WINDOW_ALL    65536u /* deliveries, so that many subscribers don't take many seconds for one */
#define BATCHES	      8u     /* in a window: after each the subscribers say how far they are */
#define GIVE_UP_NS    40000000000u

/* What the processes share: all zero at first. */
struct shared {
	uint32_t bell;			 /* a futex: somebody has come further */
	uint32_t subscribers;		 /* of all processes */
	uint64_t batches[PROCESSES_MAX]; /* that all subscribers of a process have */
	uint64_t missed;
	struct {
		uint64_t first, last; /* when it came to them */
		uint32_t count;	      /* to how many */
	} samples[SAMPLES_MAX];
};

struct head {
	uint64_t time; /* when it was published; 0: that doesn't matter */
	uint32_t sample;
};

static struct shared *shared;
static uint32_t batch, processes, index_here, subscribers_here;
/* how many of this process have that batch, in a ring */
static uint32_t reached[4 * BATCHES];

static const struct contender *const contenders[] = {
#ifdef FANOUT_ZEROMQ
	&fanout_zeromq,
#else
	&fanout_topic,
	&fanout_send,
	&fanout_nats,
#ifdef FANOUT_DBUS
	&fanout_dbus,
#endif
#endif
};

static void map_shared(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_CREAT, 0600);

	if (fd < 0 || ftruncate(fd, sizeof(*shared)) < 0)
		engine_fail(path, errno);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shared == MAP_FAILED)
		engine_fail(path, errno);
	close(fd);
}

static uint32_t batch_of(uint32_t subscribers, size_t size)
{
	size_t window = WINDOW_BYTES / size;

	if (window > WINDOW_ALL / subscribers)
		window = WINDOW_ALL / subscribers;
	if (window > WINDOW_MAX)
		window = WINDOW_MAX;
	return window < BATCHES ? 1 : (uint32_t)(window / BATCHES);
}

/* ---- subscribers ----------------------------------------------------------------------------- */

static void ring_bell(void)
{
	__atomic_add_fetch(&shared->bell, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &shared->bell, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void count_up(struct subscriber *subscriber, uint64_t count)
{
	uint64_t before = subscriber->count / batch, after;

	subscriber->count += count;
	after = subscriber->count / batch;
	while (before < after) {
		uint32_t *all = &reached[++before % (4 * BATCHES)];

		if (++*all < subscribers_here)
			continue;
		*all = 0;
		__atomic_store_n(&shared->batches[index_here], before, __ATOMIC_RELEASE);
		ring_bell();
	}
}

static void note_time(const struct head *head)
{
	uint64_t now = now_ns(), *first = &shared->samples[head->sample].first,
		 *last = &shared->samples[head->sample].last;
	uint64_t seen = __atomic_load_n(first, __ATOMIC_RELAXED);

	while ((seen == 0 || now < seen) &&
	       !__atomic_compare_exchange_n(first, &seen, now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
	seen = __atomic_load_n(last, __ATOMIC_RELAXED);
	while (now > seen &&
	       !__atomic_compare_exchange_n(last, &seen, now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
	if (__atomic_add_fetch(&shared->samples[head->sample].count, 1, __ATOMIC_ACQ_REL) ==
	    shared->subscribers)
		ring_bell();
}

void took(struct subscriber *subscriber, const void *data)
{
	struct head head;

	memcpy(&head, data, sizeof(head));
	if (head.time && head.sample < SAMPLES_MAX)
		note_time(&head);
	else
		count_up(subscriber, 1);
}

void missed(struct subscriber *subscriber, uint64_t count)
{
	__atomic_add_fetch(&shared->missed, count, __ATOMIC_RELAXED);
	count_up(subscriber, count);
}

static void serve(const struct contender *contender, const char *address, uint32_t count, size_t size)
{
	struct subscriber *subscribers = calloc(count, sizeof(*subscribers));
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event events[64];

	if (!subscribers || epoll < 0)
		engine_fail("memory", ENOMEM);
	for (uint32_t i = 0; i < count; i++) {
		struct epoll_event event = {.events = EPOLLIN, .data.ptr = &subscribers[i]};

		contender->subscribe(&subscribers[i], address, size);
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, subscribers[i].fd, &event) < 0)
			engine_fail("epoll_ctl", errno);
	}
	engine_ready();
	for (;;) {
		int n = epoll_wait(epoll, events, 64, -1);

		for (int i = 0; i < n; i++)
			contender->take(events[i].data.ptr);
	}
}

uint32_t fanout_subscribers(void)
{
	return shared->subscribers;
}

/* ---- the publisher --------------------------------------------------------------------------- */

static uint64_t slowest(void)
{
	uint64_t least = UINT64_MAX;

	for (uint32_t i = 0; i < processes; i++) {
		uint64_t batches = __atomic_load_n(&shared->batches[i], __ATOMIC_ACQUIRE);

		least = batches < least ? batches : least;
	}
	return least;
}

/* Waits until all have so many batches, or this sample. */
static void await(const struct contender *contender, uint64_t batches, const uint32_t *count)
{
	const struct timespec pause = {.tv_nsec = 100000000};
	uint64_t end = now_ns() + GIVE_UP_NS;

	contender->flush();
	for (;;) {
		uint32_t bell = __atomic_load_n(&shared->bell, __ATOMIC_SEQ_CST);

		if (count ? __atomic_load_n(count, __ATOMIC_ACQUIRE) == shared->subscribers
			  : slowest() >= batches)
			return;
		if (syscall(SYS_futex, &shared->bell, FUTEX_WAIT, bell, &pause, NULL, 0) < 0 &&
		    errno == ETIMEDOUT)
			contender->flush(); /* and hears what was refused */
		if (now_ns() > end)
			engine_fail("the subscribers don't get it", ETIMEDOUT);
	}
}

static uint64_t measure_rate(const struct contender *contender, uint8_t *data, size_t size, double seconds)
{
	uint64_t start = now_ns(), batches = 0, base = slowest();

	memset(data, 0, size);
	do {
		for (uint32_t i = 0; i < batch; i++)
			contender->publish(data, size);
		batches++;
		if (batches >= BATCHES)
			await(contender, base + batches - BATCHES + 1, NULL);
	} while (now_ns() - start < (uint64_t)(seconds * 1e9));
	await(contender, base + batches, NULL);
	return batches * batch;
}

/* One at a time, with a pause that lets everybody go to sleep. */
static uint64_t measure_latency(const struct contender *contender, uint8_t *data, size_t size, double seconds)
{
	const struct timespec pause = {.tv_nsec = 2000000};
	uint64_t start = now_ns();
	struct head head = {0};

	while (head.sample < SAMPLES_MAX && now_ns() - start < (uint64_t)(seconds * 1e9)) {
		head.time = now_ns();
		memcpy(data, &head, sizeof(head));
		contender->publish(data, size);
		await(contender, 0, &shared->samples[head.sample].count);
		shared->samples[head.sample].first -= head.time;
		shared->samples[head.sample].last -= head.time;
		head.sample++;
		nanosleep(&pause, NULL);
	}
	return head.sample;
}

static int compare(const void *a, const void *b)
{
	uint64_t first = *(const uint64_t *)a, second = *(const uint64_t *)b;

	return first < second ? -1 : first > second;
}

static uint64_t median(bool of_last, uint64_t count)
{
	static uint64_t values[SAMPLES_MAX];

	for (uint64_t i = 0; i < count; i++)
		values[i] = of_last ? shared->samples[i].last : shared->samples[i].first;
	qsort(values, count, sizeof(values[0]), compare);
	return count ? values[count / 2] : 0;
}

static void measure(const struct contender *contender, const char *address, size_t size, double seconds,
		    const char *mode)
{
	bool is_latency = strcmp(mode, "latency") == 0;
	uint8_t *data = calloc(1, size);
	uint64_t start, cpu, count, elapsed;

	if (!data)
		engine_fail("memory", ENOMEM);
	memset(shared->samples, 0, sizeof(shared->samples));
	shared->missed = 0;
	contender->open(address, size);
	cpu = engine_cpu_ns();
	start = now_ns();
	count = (is_latency ? measure_latency : measure_rate)(contender, data, size, seconds);
	elapsed = now_ns() - start;
	cpu = engine_cpu_ns() - cpu;
	printf("%llu %llu %llu %llu %llu %llu\n", (unsigned long long)count, (unsigned long long)elapsed,
	       (unsigned long long)(is_latency ? median(false, count) : 0),
	       (unsigned long long)(is_latency ? median(true, count) : 0), (unsigned long long)shared->missed,
	       (unsigned long long)cpu);
	free(data);
}

static const struct contender *find(const char *name)
{
	for (size_t i = 0; i < sizeof(contenders) / sizeof(contenders[0]); i++)
		if (strcmp(contenders[i]->name, name) == 0)
			return contenders[i];
	engine_fail(name, ENOENT);
}

int main(int argc, char **argv)
{
	const struct rlimit files = {65536, 65536};

	setrlimit(RLIMIT_NOFILE, &files);
#ifdef FANOUT_DBUS
	if (argc == 3 && strcmp(argv[1], "broker") == 0)
		fanout_broker(argv[2]);
#endif
	if (argc == 9 && strcmp(argv[1], "subscribe") == 0) {
		map_shared(argv[4]);
		index_here = (uint32_t)atoi(argv[5]);
		subscribers_here = (uint32_t)atoi(argv[6]);
		batch = batch_of((uint32_t)atoi(argv[7]), (size_t)atol(argv[8]));
		serve(find(argv[2]), argv[3], subscribers_here, (size_t)atol(argv[8]));
	} else if (argc == 10 && strcmp(argv[1], "publish") == 0) {
		map_shared(argv[4]);
		processes = (uint32_t)atoi(argv[5]);
		shared->subscribers = (uint32_t)atoi(argv[6]);
		batch = batch_of(shared->subscribers, (size_t)atol(argv[7]));
		measure(find(argv[2]), argv[3], (size_t)atol(argv[7]), atof(argv[8]), argv[9]);
		return 0;
	}
	fprintf(stderr,
		"usage: bench-fanout subscribe CONTENDER ADDRESS FILE INDEX COUNT SUBSCRIBERS SIZE |\n"
		"       publish CONTENDER ADDRESS FILE PROCESSES SUBSCRIBERS SIZE SECONDS rate|latency\n");
	return 2;
}
