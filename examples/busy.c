/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A service that works on thousands of calls at once, in one thread, and stops the work for callers that have
 * gone or given up. The work here is to wait as many milliseconds as the request says.
 *
 *   busy ENDPOINT          in domain 2, say:   busy work
 *
 * In domain 1: `xenmsg call 2:work 500`
 *
 *   cc busy.c $(pkg-config --cflags --libs xenmsg) -o busy
 */

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* for -std=c11 */
#endif

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

#include <xenmsg.h>

struct job {
	LIST_ENTRY(job) entry;
	struct xenmsg_message *call;
	long long due_ms;
};

static LIST_HEAD(, job) jobs = LIST_HEAD_INITIALIZER(jobs);
static unsigned count, most;

static long long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void end_job(struct job *job)
{
	LIST_REMOVE(job, entry);
	xenmsg_message_free(job->call);
	free(job);
	count--;
}

static void on_withdrawn(void *userdata, struct xenmsg_message *call)
{
	(void)call;
	end_job(userdata);
	printf("stopped: the caller has gone; %u left\n", count);
}

enum { NOT_A_NUMBER = 1, NO_MEMORY = 2 }; /* errors of our own */

static void refuse(struct xenmsg_message *call, unsigned code, const char *words)
{
	xenmsg_reply_error(call, code, words, strlen(words));
	xenmsg_message_free(call);
}

static void on_call(void *userdata, struct xenmsg_message *call)
{
	(void)userdata;
	size_t size = xenmsg_message_size(call);
	char digits[16] = "";
	struct job *job;

	if (size == 0 || size >= sizeof(digits) ||
	    strspn(memcpy(digits, xenmsg_message_data(call), size), "0123456789") < size) {
		refuse(call, NOT_A_NUMBER, "not a number");
		return;
	}
	job = malloc(sizeof(*job));
	if (!job) {
		refuse(call, NO_MEMORY, "no memory");
		return;
	}
	job->call = call;
	job->due_ms = now_ms() + atoll(digits);
	LIST_INSERT_HEAD(&jobs, job, entry);
	if (++count > most)
		most = count;
	if (xenmsg_message_on_withdrawn(call, on_withdrawn, job) < 0)
		end_job(job); /* already */
}

/* Answers what is due. Returns for how many milliseconds there is nothing to do. */
static int work(void)
{
	long long now = now_ms(), next = -1;
	struct job *job = LIST_FIRST(&jobs);

	while (job) {
		struct job *following = LIST_NEXT(job, entry);

		if (job->due_ms <= now) {
			/* A caller who doesn't read his answers, so that there is no room, gets
			 * XENMSG_UNANSWERED from end_job(). */
			if (xenmsg_reply(job->call, "done", 4) == 0)
				printf("done; %u at once so far\n", most);
			end_job(job);
		} else if (next < 0 || job->due_ms - now < next) {
			next = job->due_ms - now;
		}
		job = following;
	}
	return next > 1000 ? 1000 : (int)next;
}

int main(int argc, char **argv)
{
	struct xenmsg *conn = NULL;
	int r = argc == 2 ? xenmsg_open(&conn, NULL, NULL) : 0;

	if (argc != 2) {
		fprintf(stderr, "usage: %s ENDPOINT\n", argv[0]);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (r == 0)
		r = xenmsg_bind(conn, argv[1], XENMSG_FLAGS(XENMSG_ONLY_CALLS), on_call, NULL);
	while (r >= 0) {
		r = xenmsg_wait(conn, work());
		if (r == -EINTR || r == -ENOMEM) /* it was stopped and goes on; or no memory, for now */
			r = 0;
	}
	fprintf(stderr, "busy: %s: %s\n", argv[1], xenmsg_reason(conn, r));
	while (!LIST_EMPTY(&jobs))
		end_job(LIST_FIRST(&jobs));
	xenmsg_close(conn);
	return 1;
}
