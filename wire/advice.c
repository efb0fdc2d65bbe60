/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/advice.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire/frame.h"

#define CANNOT_REACH "the program there can't reach its target: "
#define HAS_LOST     "the stream broke behind the program there: "

/* Says why the program there has broken it off, if that is what it leads to. NULL: it doesn't say. */
static const char *of_target(int error, bool has_come)
{
	static const struct {
		int error;
		const char *first, *later;
	} words[] = {
#define WORDS(error, words) {error, CANNOT_REACH words, HAS_LOST words}
		WORDS(ECONNREFUSED, "connection refused"),
		WORDS(ECONNRESET, "connection reset"),
		WORDS(EPIPE, "it takes no more"),
		WORDS(ETIMEDOUT, "connection timed out"),
		WORDS(EHOSTUNREACH, "host unreachable"),
		WORDS(EHOSTDOWN, "its domain or host is down"),
		WORDS(ENETUNREACH, "network unreachable"),
		WORDS(EADDRNOTAVAIL, "no such address can be used there"),
		WORDS(ENODATA, "no such host or service is known there"),
		WORDS(ENOENT, "no such socket or endpoint"),
		WORDS(EACCES, "permission denied"),
		WORDS(EPROTOTYPE, "it isn't for streams"),
		WORDS(ENOBUFS, "over a limit"),
#undef WORDS
#define WORDS(error, words) {error, words, words}
		WORDS(BREAK_NOT_STARTED, "the command there can't be started"),
		WORDS(BREAK_KILLED, "the command there was killed before it had ended"),
#undef WORDS
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (words[i].error == error)
			return has_come ? words[i].later : words[i].first;
	if (!error)
		return NULL;
	return has_come ? HAS_LOST "another error" : CANNOT_REACH "another error";
}

static const char *by_program(uint32_t flags, bool has_come)
{
	const char *why = of_target((int)((flags & RESET_CAUSE) >> RESET_CAUSE_SHIFT), has_come);

	if (why)
		return why;
	return has_come ? "the stream broke: the program there has broken it off"
			: "the program there has ended it before anything came, as a server of 'xenmsg run' "
			  "does if something else calls it";
}

const char *advice_of_break(uint32_t flags, bool has_come)
{
	switch (flags & RESET_BY) {
	case RESET_BY_PROGRAM:
		return by_program(flags, has_come);
	case RESET_BY_DEATH:
		return "the stream broke: the program there has died, or left without a word";
	case RESET_BY_LOSS:
		return "the stream broke: its domain, or the xenmsgd there, is gone";
	case RESET_BY_RELAY:
		return ADVICE_DENIED_BY_RELAY;
	default:
		return "the stream broke; nobody says why";
	}
}

/* The daemon takes bytes that come with a descriptor as the request to break the stream. */
void advice_break(int stream, int cause)
{
	uint8_t mark = (uint8_t)cause;
	struct iovec piece = {&mark, 1};
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct msghdr message = {.msg_iov = &piece,
				 .msg_iovlen = 1,
				 .msg_control = control.space,
				 .msg_controllen = sizeof(control.space)};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
	const int most = INT_MAX / 2; /* the kernel makes it as much as may be, which is twice as much */

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &stream, sizeof(int));
	/* If there is no room for it, because the other program is slow, a larger buffer has some. */
	if (sendmsg(stream, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno == EAGAIN &&
	    setsockopt(stream, SOL_SOCKET, SO_SNDBUF, &most, sizeof(most)) == 0)
		sendmsg(stream, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(stream);
}
