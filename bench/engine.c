/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bench/engine.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Round trips are faster than 1 us nowhere, and no measurement takes longer than some seconds. */
#define SAMPLES_MAX (4u << 20)

void engine_fail(const char *what, int error)
{
	fprintf(stderr, "bench: %s: %s\n", what, strerror(error < 0 ? -error : error));
	exit(1);
}

void engine_ready(void)
{
	puts("ready");
	fflush(stdout);
}

void engine_serve(const struct end *end, size_t size)
{
	const char *data;

	while ((data = end->receive(end->userdata, size)) != NULL)
		if (data[0] == ANSWER_ALL)
			end->send(end->userdata, data, size);
		else if (data[0] == ANSWER_BYTE)
			end->send(end->userdata, data, 1);
}

/* ---- time ------------------------------------------------------------------------------------ */

static uint64_t clock_ns(clockid_t clock)
{
	struct timespec time;

	if (clock_gettime(clock, &time) < 0)
		return 0; /* it has ended */
	return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Returns the CPU time of all processes that take part, so far. */
static uint64_t cpu_ns(void)
{
	const char *pids = getenv("BENCH_PIDS");
	uint64_t sum = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	char *next;

	while (pids && *pids) {
		long pid = strtol(pids, &next, 10);
		clockid_t clock;

		if (next == pids)
			break;
		if (clock_getcpuclockid((pid_t)pid, &clock) == 0)
			sum += clock_ns(clock);
		pids = next;
	}
	return sum;
}

/* ---- samples --------------------------------------------------------------------------------- */

struct samples {
	uint32_t *ns;
	size_t count;
};

static void add_sample(struct samples *samples, uint64_t ns)
{
	if (samples->count < SAMPLES_MAX)
		samples->ns[samples->count++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

static int compare(const void *one, const void *other)
{
	uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;

	return (a > b) - (a < b);
}

/* The samples are in order. */
static uint32_t percentile(const struct samples *samples, double part)
{
	size_t at = (size_t)(part * (double)samples->count);

	if (!samples->count)
		return 0;
	return samples->ns[at < samples->count ? at : samples->count - 1];
}

/* ---- what is measured ------------------------------------------------------------------------ */

struct run {
	const struct end *end;
	char *data;
	size_t size;
	uint64_t limit; /* ns */
	uint64_t messages, start;
	struct samples samples;
};

static void expect(const struct run *run, size_t size)
{
	if (!run->end->receive(run->end->userdata, size))
		engine_fail("receive", ECONNRESET);
}

static void round_trips(struct run *run)
{
	uint64_t before = run->start, now;

	run->data[0] = ANSWER_ALL;
	do {
		run->end->send(run->end->userdata, run->data, run->size);
		expect(run, run->size);
		now = now_ns();
		add_sample(&run->samples, now - before);
		before = now;
		run->messages++;
	} while (now - run->start < run->limit);
}

static void one_way(struct run *run)
{
	run->data[0] = ANSWER_NONE;
	/* Reading the clock costs as much as a small message, so it is read now and then only. */
	do {
		run->end->send(run->end->userdata, run->data, run->size);
		run->messages++;
	} while ((run->messages % 64 && run->size <= 4096) || now_ns() - run->start < run->limit);
	run->data[0] = ANSWER_BYTE;
	run->end->send(run->end->userdata, run->data, run->size);
	expect(run, 1);
	run->messages++;
}

static void ask(const struct run *run)
{
	if (run->end->call)
		run->end->call(run->end->userdata, run->data, run->size);
	else
		run->end->send(run->end->userdata, run->data, run->size);
}

static void answered(const struct run *run)
{
	if (run->end->call)
		run->end->reply(run->end->userdata);
	else
		expect(run, run->size);
}

static void calls(struct run *run, unsigned window)
{
	uint64_t asked = 0;
	bool goes_on = true;

	run->data[0] = ANSWER_ALL;
	while (asked < window) {
		ask(run);
		asked++;
	}
	while (run->messages < asked) {
		answered(run);
		run->messages++;
		if (run->messages % 16 == 0)
			goes_on = now_ns() - run->start < run->limit;
		if (goes_on) {
			ask(run);
			asked++;
		}
	}
}

void engine_measure(const struct end *end, const char *mode, size_t size, double seconds)
{
	struct run run = {.end = end, .size = size, .limit = (uint64_t)(seconds * 1e9)};
	uint64_t cpu, elapsed;

	run.data = calloc(1, size);
	run.samples.ns = calloc(SAMPLES_MAX, sizeof(*run.samples.ns));
	if (!run.data || !run.samples.ns)
		engine_fail("memory", ENOMEM);
	/* What is made at the first message isn't measured. */
	run.data[0] = ANSWER_BYTE;
	end->send(end->userdata, run.data, size);
	expect(&run, 1);
	if (end->call) {
		ask(&run);
		answered(&run);
	}
	cpu = cpu_ns();
	run.start = now_ns();
	if (strcmp(mode, "rtt") == 0)
		round_trips(&run);
	else if (strcmp(mode, "stream") == 0)
		one_way(&run);
	else if (strcmp(mode, "calls1") == 0 || strcmp(mode, "calls64") == 0)
		calls(&run, (unsigned)atoi(mode + strlen("calls")));
	else
		engine_fail(mode, EINVAL);
	elapsed = now_ns() - run.start;
	cpu = cpu_ns() - cpu;
	qsort(run.samples.ns, run.samples.count, sizeof(*run.samples.ns), compare);
	printf("%llu %llu %u %u %u %llu\n", (unsigned long long)run.messages, (unsigned long long)elapsed,
	       percentile(&run.samples, 0.5), percentile(&run.samples, 0.99), percentile(&run.samples, 0.999),
	       (unsigned long long)cpu);
	free(run.samples.ns);
	free(run.data);
}
