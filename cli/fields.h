/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_FIELDS_H
#define XENMSG_CLI_FIELDS_H

/* Reads members of the daemon's JSON, which may come from another version: a missing member, or a value that
 * isn't an object, is absent and no error. */

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/json.h"

static inline struct json_object *at(struct json_object *object, const char *name)
{
	return json_object_is_type(object, json_type_object) ? json_object_object_get(object, name) : NULL;
}

/* Returns a member as text, whatever its type. The text belongs to the object. */
static inline const char *text_or(struct json_object *object, const char *name, const char *absent)
{
	const char *text = json_object_get_string(at(object, name));

	return text ? text : absent;
}

/* Returns a member as text for a table. */
static inline const char *text_at(struct json_object *object, const char *name)
{
	return text_or(object, name, "-");
}

static inline int64_t number_at(struct json_object *object, const char *name)
{
	return json_object_get_int64(at(object, name));
}

static inline size_t length_of(struct json_object *list)
{
	return json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
}

/* Goes through the entries of a list, as a loop with break and continue; what is no list has none. */
#define fields_foreach(list, entry)                                                                          \
	for (size_t entry##_at = 0, entry##_more = 1; entry##_more && entry##_at < length_of(list);          \
	     entry##_at++)                                                                                   \
		for (struct json_object *entry =                                                             \
			     (entry##_more = 0, json_object_array_get_idx(list, entry##_at));                \
		     !entry##_more; entry##_more = 1)

/* Returns the entry of a list in which this member has this text, or NULL. */
static inline struct json_object *find_in(struct json_object *list, const char *name, const char *text)
{
	fields_foreach(list, entry)
		if (!strcmp(text_or(entry, name, ""), text))
			return entry;
	return NULL;
}

/* Returns how many entries this list of a status has, and how many it would have if it weren't cut to those
 * that matter most. */
static inline size_t listed_in(struct json_object *status, const char *list)
{
	return length_of(at(status, list));
}

static inline size_t total_of(struct json_object *status, const char *list)
{
	int64_t total = number_at(at(status, "totals"), list);
	size_t listed = listed_in(status, list);

	return total > 0 && (size_t)total > listed ? (size_t)total : listed;
}

/* Returns whether the daemon has left out what the caller may not see of others. */
static inline bool is_partial(struct json_object *status)
{
	return json_object_get_boolean(at(status, "partial"));
}

/* What is at a path in an object: A.B, or A.0 of a list. */

/* Returns it; of the path `size` bytes count, and "" is the object. */
struct json_object *fields_at(struct json_object *object, const char *path, size_t size);
static inline struct json_object *field(struct json_object *object, const char *path)
{
	return fields_at(object, path, strlen(path));
}
/* Returns whether all of these, parted by blanks, hold: PATH (it is there, and not "", 0 or false), !PATH,
 * PATH=TEXT, PATH!=TEXT (what isn't there is ""), PATH>NUMBER, and "else". */
bool fields_hold(struct json_object *object, const char *conditions);
/* Returns a text with what is at each {PATH} in it, and for {WORDS|PATH|WORDS} with these around it unless it
 * is "". The caller frees it. */
char *fields_words(struct json_object *object, const char *text);
/* Returns a text, as printf() would print it, which the caller frees. */
char *fields_printed(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Returns the entries of a list as one text, which the caller frees. */
char *fields_joined(struct json_object *list, const char *between);
/* Adds a member that is a text, unless it is no object. */
void fields_add(struct json_object *object, const char *name, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Writes how long something has lasted, in its two largest units. */
static inline void duration_text(int64_t seconds, char *text, size_t size)
{
	if (seconds < 60)
		snprintf(text, size, "%" PRId64 " s", seconds);
	else if (seconds < 3600)
		snprintf(text, size, "%" PRId64 " min %" PRId64 " s", seconds / 60, seconds % 60);
	else if (seconds < 86400)
		snprintf(text, size, "%" PRId64 " h %" PRId64 " min", seconds / 3600, seconds / 60 % 60);
	else
		snprintf(text, size, "%" PRId64 " d %" PRId64 " h", seconds / 86400, seconds / 3600 % 24);
}

/* Writes a time by the local clock: the hour alone if it is to be short and the day is today. */
static inline void time_text(time_t when, bool is_short, char *text, size_t size)
{
	time_t now = time(NULL);
	struct tm today, local;
	bool is_today = localtime_r(&now, &today) && localtime_r(&when, &local) &&
			local.tm_year == today.tm_year && local.tm_yday == today.tm_yday;

	if (!localtime_r(&when, &local) ||
	    !strftime(text, size, is_short && is_today ? "%H:%M:%S" : "%F %T", &local))
		snprintf(text, size, "?");
}

/* Writes the member `since` likewise. */
static inline void since_text(struct json_object *object, bool is_short, char *text, size_t size)
{
	time_text((time_t)number_at(object, "since"), is_short, text, size);
}

/* Writes a size in bytes with a unit as settings have it, and three digits at most: 64K, 1.5M. */
static inline void size_text(int64_t bytes, char *text, size_t size)
{
	static const char units[] = " KMGTPE";
	double value = (double)bytes;
	unsigned unit = 0;

	while (value >= 999.5 && (unit > 0 || bytes >= 1024) && units[unit + 1]) {
		value /= 1024;
		unit++;
	}
	if (unit == 0)
		snprintf(text, size, "%" PRId64, bytes);
	else
		snprintf(text, size, "%.*f%c", value < 9.95 && (int)(value * 10 + 0.5) % 10, value,
			 units[unit]);
}

/* Returns what makes a word that many. */
static inline const char *plural(int64_t count)
{
	return count == 1 ? "" : "s";
}

/* Each adds members with what people read of it. */

/* Adds to an account `who` it is of: "uid 0", "domain 5", "host hostb". */
void fields_name_account(struct json_object *account);
/* Adds to a link of a status the `number` and the name (`called`) of its other end; its role says if domain 0
 * relays. */
void fields_name_link(struct json_object *link);
/* Makes this member, the state of a link, say since when it is away, and how often it was resumed before;
 * other domains than 0 aren't told since when. */
void fields_tell_away(struct json_object *link, const char *member);

/* The columns of a table, or the fields of which a command prints some: parted by commas TITLE=PATH, or TITLE
 * if that is the path, too; with :WIDTH behind it as the table of a screen has it, and a k if it is a number
 * to be shortened. */
struct column {
	char title[32], path[32];
	int width; /* negative: it begins at the left, and is cut */
	bool is_short;
};
/* Takes the next one. Returns false: there is none. */
bool column_next(const char **columns, struct column *column);

#define WHO_SEES_ALL "root and members of the daemon's admin-group"

#endif
