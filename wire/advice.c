/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "wire/advice.h"

#include <errno.h>
#include <stddef.h>

#include "wire/frame.h"
#include "wire/stream_break.h"

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
		WORDS(EMFILE, "over a limit"),
		WORDS(ENFILE, "over a limit"),
		WORDS(ENOMEM, "out of memory"),
#undef WORDS
#define WORDS(error, words) {error, words, words}
		WORDS(ECANCELED, "the program there was ended meanwhile"),
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
