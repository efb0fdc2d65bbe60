/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * hostile-program UID SOCKET ATTACK SESSIONS ADDRESS: becomes that user, opens the sessions, says "ok
 * SESSIONS", and attacks until its standard input ends. Asked for "count", it answers "ok FRAMES ANSWERS
 * EVENTS SESSIONS CUT-OFF": frames that the daemon has taken, frames that it has sent, what else the attack
 * counts, how many sessions there are, and how many have ended. Asked for "report", it says what the random
 * attack has covered.
 */
#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/integration/hostile_program.h"

#define RETRY_MS  100 /* for who was not let in */
#define LISTEN_MS 5   /* at least so often the test is heard */

void step_back(void)
{
	if (nice(10) < 0)
		perror("hostile-program: nice"); /* then it is as it was */
}

static void become(unsigned uid)
{
	struct rlimit files;

	/* Each session has four. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	if (uid && (setgroups(0, NULL) < 0 || setgid(uid) < 0 || setuid(uid) < 0)) {
		fprintf(stderr, "hostile-program: becoming %u: %s\n", uid, strerror(errno));
		exit(1);
	}
}

static uint64_t frames_taken(const struct attacker *attacker)
{
	return attacker->bytes ? (uint64_t)((double)attacker->frames * (double)attacker->taken /
					    (double)attacker->bytes)
			       : 0;
}

static unsigned sessions_open(const struct attacker *attacker)
{
	unsigned count = 0;

	for (unsigned i = 0; i < attacker->count; i++)
		count += attacker->sessions[i].fd >= 0;
	return count;
}

/* Tells what was asked for. False: the test has seen enough. */
static bool listen_to_test(struct attacker *attacker, int timeout_ms)
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	char line[80];

	if (poll(&input, 1, timeout_ms) <= 0)
		return true;
	if (read(STDIN_FILENO, line, sizeof(line)) <= 0)
		return false;
	if (line[0] == 'r') {
		random_report(attacker);
		return true;
	}
	printf("ok %llu %llu %llu %u %llu\n", (unsigned long long)frames_taken(attacker),
	       (unsigned long long)attacker->answers, (unsigned long long)attacker->events,
	       sessions_open(attacker), (unsigned long long)attacker->cut_off);
	fflush(stdout);
	return true;
}

static const struct attack *attack_find(const char *name)
{
	const struct attack *const all[] = {frame_attacks,  socket_attacks, descriptor_attacks,
					    kernel_attacks, random_attacks, topic_attacks};

	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		for (const struct attack *attack = all[i]; attack->name; attack++)
			if (!strcmp(attack->name, name))
				return attack;
	return NULL;
}

static bool comes_in(const struct attack *attack, struct attacker *attacker, struct session *session)
{
	if (attack->hop == NO_SESSION || session->fd >= 0)
		return true;
	if (session->retry_ms > now_ms())
		return false;
	if (session_open(attacker, session, attack->hop == SHARED, false) < 0) {
		session->retry_ms = now_ms() + RETRY_MS;
		attacker->refused++;
		return false;
	}
	if (attack->begin)
		attack->begin(attacker, session);
	return true;
}

static unsigned take_frames(const struct attack *attack, struct attacker *attacker, struct session *session)
{
	static uint8_t payload[FRAME_PAYLOAD_MAX];
	struct frame_header header;
	unsigned count = 0;
	int r = 0;

	while (count < BURST && session_has_room(session) &&
	       (r = session_take(session, &header, payload)) > 0) {
		count++;
		attacker->answers++;
		if (header.type == FRAME_GOODBYE)
			r = -ECONNRESET;
		else if (attack->frame)
			attack->frame(attacker, session, &header, payload);
		if (r < 0)
			break;
	}
	if (r < 0) {
		session_close(session);
		attacker->cut_off++;
	}
	return count;
}

static unsigned do_harm(const struct attack *attack, struct attacker *attacker, struct session *session)
{
	unsigned count = 0;

	if (attack->turn)
		return attack->turn(attacker, session);
	while (count < BURST && attack->put && attack->put(attacker, session))
		count++;
	return count;
}

static unsigned do_turn(const struct attack *attack, struct attacker *attacker, struct session *session)
{
	unsigned count = 0;

	if (!comes_in(attack, attacker, session))
		return 0;
	if (attack->hop != NO_SESSION)
		count += take_frames(attack, attacker, session);
	if (attack->hop == NO_SESSION || session->fd >= 0)
		count += do_harm(attack, attacker, session);
	if (attack->hop != NO_SESSION && session->fd >= 0 && session_notify(attacker, session) < 0) {
		session_close(session);
		attacker->cut_off++;
	}
	return count;
}

int main(int argc, char **argv)
{
	struct attacker attacker = {0};
	const struct attack *attack;
	uint64_t heard = 0;

	if (argc != 6 || !(attack = attack_find(argv[3])))
		return 2;
	become((unsigned)atoi(argv[1]));
	signal(SIGPIPE, SIG_IGN);
	attacker.path = argv[2];
	attacker.count = (unsigned)atoi(argv[4]);
	attacker.address = argv[5];
	attacker.sessions = calloc(attacker.count, sizeof(*attacker.sessions));
	if (!attacker.sessions)
		return 1;
	for (unsigned i = 0; i < attacker.count; i++)
		attacker.sessions[i].fd = -1;
	for (unsigned i = 0; i < attacker.count; i++)
		comes_in(attack, &attacker, &attacker.sessions[i]);
	printf("ok %u\n", sessions_open(&attacker));
	fflush(stdout);
	step_back();
	for (;;) {
		bool idle = true;

		for (unsigned i = 0; i < attacker.count; i++)
			if (do_turn(attack, &attacker, &attacker.sessions[i]) > 0)
				idle = false;
		if (!idle && heard + LISTEN_MS > now_ms())
			continue;
		heard = now_ms();
		/* 1 ms: who watches 250 sessions with poll() is slower than who looks at them. */
		if (!listen_to_test(&attacker, idle ? 1 : 0))
			break;
	}
	for (unsigned i = 0; i < attacker.count; i++)
		session_close(&attacker.sessions[i]);
	free(attacker.sessions);
	return 0;
}
