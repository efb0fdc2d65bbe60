/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A test in C on a simulated Xen host: two ends of a vchan, each in a domain of its own, and what one sees
 * when the other is gone. It runs itself in the domains.
 *
 *	cc -o xensim-test xensim-test.c $(pkg-config --cflags --libs xenvchan) && ./xensim-test
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* for -std=c11 */
#endif

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libxenvchan.h>

#include "xensim.h"

#define PATH "/local/domain/1/data/test"

/* Not assert(), which NDEBUG would take away. */
#define CHECK(condition)                                                                                     \
	do {                                                                                                 \
		if (!(condition)) {                                                                          \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                      \
			exit(1);                                                                             \
		}                                                                                            \
	} while (0)

/* In domain 1: sends back what comes, until the client has gone. */
static int serve(void)
{
	struct libxenvchan *vchan = libxenvchan_server_init(NULL, 2, PATH, 4096, 4096);
	char byte;

	CHECK(vchan);
	vchan->blocking = -1; /* one bit, with a sign */
	while (libxenvchan_read(vchan, &byte, 1) == 1)
		CHECK(libxenvchan_write(vchan, &byte, 1) == 1);
	libxenvchan_close(vchan);
	return 0;
}

/* In domain 2. */
static int ask(void)
{
	struct libxenvchan *vchan = libxenvchan_client_init(NULL, 1, PATH);
	char text[6];

	CHECK(vchan);
	vchan->blocking = -1; /* one bit, with a sign */
	CHECK(libxenvchan_send(vchan, "hello", 6) == 6);
	CHECK(libxenvchan_recv(vchan, text, 6) == 6 && strcmp(text, "hello") == 0);
	libxenvchan_close(vchan);
	return 0;
}

static int test(void)
{
	const char *server[] = {"/proc/self/exe", "server", NULL},
		   *client[] = {"/proc/self/exe", "client", NULL};
	const char *is_ready[] = {"xenstore-exists", PATH "/event-channel", NULL};
	struct xensim_host host;
	pid_t pid;

	alarm(60);
	CHECK(xensim_start(&host, 2) == 0);
	pid = xensim_spawn(&host, 1, server);
	CHECK(pid > 0);
	while (xensim_run(&host, 0, is_ready) != 0)
		usleep(10000);
	CHECK(xensim_run(&host, 2, client) == 0);
	CHECK(xensim_wait(pid) == 0);

	/* A destroyed domain takes its nodes with it. */
	CHECK(xensim_command(&host, NULL, 0, "destroy", "1") == 0);
	CHECK(xensim_run(&host, 0, is_ready) == 1);
	CHECK(!xensim_kernel_complains(&host));
	CHECK(xensim_stop(&host) == 0);
	puts("all is well");
	return 0;
}

int main(int argc, char **argv)
{
	return argc < 2 ? test() : strcmp(argv[1], "server") == 0 ? serve() : ask();
}
