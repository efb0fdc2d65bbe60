/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_TESTS_STREAM_RIG_H
#define XENMSG_TESTS_STREAM_RIG_H

/*
 * Streams between two programs with real sockets, or between one and the test, which has the other end of
 * the channel in its hands.
 */

#include "tests/unit/hop_rig.h"

struct scene {
	struct rig rig;
	struct account *opener, *program; /* that pay; NULL: nobody */
	struct quota *quota;		  /* that they belong to */
	struct stream *caller, *acceptor;
	int a, b;			/* the programs' ends */
	int at_a, at_b;			/* the daemon's */
	struct participant *peer;	/* the channel goes to it, if set */
	uint32_t number;		/* there */
	uint64_t received;		/* bytes of DATA there */
	struct participant_frame heard; /* there, by hear() */
	int refuse_with, forbid_with;
	unsigned gone;
	bool takes_socket; /* the programs take another one with the answer */
};

void run(struct scene *scene);
/* A program's socket with the guard behind its handshake. */
int new_socket(int *program);
void scene_start(struct scene *scene);
void call(struct scene *scene);
void hang_up(int *fd);
void scene_stop(struct scene *scene);
/* Everything has ended by itself. */
void expect_gone(struct scene *scene, unsigned count);
void expect_reply(int fd, uint32_t error);
void expect_nothing(int fd);
void expect_end(int fd);
void expect_broken(int fd);
void expect_text(int fd, const char *text);
void write_text(struct scene *scene, int fd, const char *text);
/* The called program fetches its socket. */
void fetch(struct scene *scene);
/* Two programs joined. */
void join(struct scene *scene);
/* Likewise, by sockets that the daemon has made. */
void join_given(struct scene *scene);

/* The next frame of this type at the peer; bytes of DATA before it are counted. */
bool hear(struct scene *scene, uint8_t type);
void opened(struct scene *scene, uint64_t limit);
/* Called, and OPEN has come to the peer. */
void call_peer(struct scene *scene);
/* ... and then the peer accepts. */
void join_peer(struct scene *scene, uint64_t limit);

uint8_t byte_at(uint64_t at);
/* Writes until nothing more is taken. */
uint64_t write_all_that_goes(struct scene *scene, int fd, uint64_t at);
uint64_t read_all(struct scene *scene, int fd, uint64_t at);
uint64_t put_data(struct scene *scene, uint64_t at, uint64_t upto);

#endif
