/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/log_limit.h"

#include <stdlib.h>

#include "base/share.h"
#include "wire/ut.h"

struct limit_key {
	uint32_t kind, id;
};

struct log_speaker {
	struct limit_key key;
	unsigned seen[LOG_CAUSES];
	uint64_t written, held_back;
	UT_hash_handle hh;
};

static struct log_speaker *speaker_of(struct log_limits *limits, struct log_source source)
{
	struct limit_key key = {.kind = source.kind, .id = source.id};
	struct log_speaker *speaker;

	HASH_FIND(hh, limits->speakers, &key, sizeof(key), speaker);
	if (speaker || HASH_COUNT(limits->speakers) >= LOG_SOURCES)
		return speaker;
	speaker = calloc(1, sizeof(*speaker));
	if (!speaker)
		return NULL;
	speaker->key = key;
	HASH_ADD(hh, limits->speakers, key, sizeof(speaker->key), speaker);
	if (!HASH_ADDED(speaker)) {
		free(speaker);
		return NULL;
	}
	return speaker;
}

bool log_limits_allow(struct log_limits *limits, enum log_cause cause, struct log_source source)
{
	struct log_speaker *speaker = speaker_of(limits, source);
	uint64_t writers;

	if (!speaker) {
		limits->others++;
		return false;
	}
	writers = limits->writers + (speaker->written == 0);
	if (speaker->seen[cause]++ >= LOG_BURST ||
	    quota_share(LOG_POOL - limits->written, writers, speaker->written) == 0) {
		speaker->held_back++;
		return false;
	}
	limits->writers = writers;
	limits->written++;
	speaker->written++;
	return true;
}

void log_limits_clear(struct log_limits *limits)
{
	struct log_speaker *speaker, *next;

	HASH_ITER(hh, limits->speakers, speaker, next) {
		HASH_DEL(limits->speakers, speaker);
		free(speaker);
	}
	*limits = (struct log_limits){0};
}

void log_limits_turn(struct log_limits *limits, uint64_t now_ms,
		     void (*report)(const struct log_source *source, uint64_t held_back))
{
	struct log_speaker *speaker, *next;
	uint64_t others = limits->others;
	unsigned reports = 0;

	if (limits->since_ms && now_ms - limits->since_ms <= LOG_WINDOW_MS)
		return;
	HASH_ITER(hh, limits->speakers, speaker, next) {
		struct log_source source = {.kind = speaker->key.kind, .id = speaker->key.id};

		if (speaker->held_back == 0)
			continue;
		if (reports++ < LOG_REPORTS)
			report(&source, speaker->held_back);
		else
			others += speaker->held_back;
	}
	if (others)
		report(NULL, others);
	log_limits_clear(limits);
	limits->since_ms = now_ms;
}
