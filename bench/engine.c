/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "bench/engine.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/histogram.h"

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

uint64_t engine_cpu_ns(void)
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

/* ---- what is measured ------------------------------------------------------------------------ */

struct run {
	const struct end *end;
	char *data;
	size_t size;
	uint64_t limit; /* ns */
	uint64_t messages, start;
	struct histogram times;
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
		histogram_add(&run->times, now - before);
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
	static struct run run;
	uint64_t cpu, elapsed;

	run = (struct run){.end = end, .size = size, .limit = (uint64_t)(seconds * 1e9)};
	run.data = calloc(1, size);
	if (!run.data)
		engine_fail("memory", ENOMEM);
	/* What is made at the first message isn't measured. */
	run.data[0] = ANSWER_BYTE;
	end->send(end->userdata, run.data, size);
	expect(&run, 1);
	if (end->call) {
		ask(&run);
		answered(&run);
	}
	cpu = engine_cpu_ns();
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
	cpu = engine_cpu_ns() - cpu;
	printf("%llu %llu %llu %llu %llu %llu\n", (unsigned long long)run.messages,
	       (unsigned long long)elapsed, (unsigned long long)histogram_at(&run.times, 0.5),
	       (unsigned long long)histogram_at(&run.times, 0.99),
	       (unsigned long long)histogram_at(&run.times, 0.999), (unsigned long long)cpu);
	free(run.data);
}
