/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/activation/activation_read.h"

#include <errno.h>
#include <grp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/conf_dir.h"
#include "base/config.h"
#include "base/ini_file.h"
#include "base/users.h"
#include "daemon/activation/units.h"
#include "wire/ut.h"

#define TIMEOUT_MS     30000u
#define TIMEOUT_MIN_MS 100u
#define TIMEOUT_MAX_MS 600000u
#define WORDS_MAX      64u   /* of a command */
#define GROUPS_MAX     65536 /* of a user: Linux' own limit */

/* State of reading one file. */
struct activation_reader {
	struct ini_file file; /* first: begin_section() gets it */
	struct activation_settings *settings;
	unsigned section_line;
	unsigned keys; /* that were set, a bit for each row of the table */
};

static void activation_read_begin_section(struct ini_file *file, const char *name, size_t size)
{
	struct activation_reader *reader = (struct activation_reader *)file;

	if (size != strlen("activate") || strncmp(name, "activate", size))
		ini_file_complain(file, "such a file has only the section [activate]");
	else if (reader->section_line)
		ini_file_complain(file, "a second [activate]; each endpoint has a file of its own");
	reader->section_line = file->line;
}

/* --- keys ------------------------------------------------------------------------------------- */

static int set_endpoint(struct activation_reader *reader, const char *value)
{
	if (!endpoint_name_is_valid(value, strlen(value)))
		return ini_file_complain(
			&reader->file,
			"endpoint = %s: must be 1 to 63 letters, digits, _ and -, beginning with a letter or digit",
			value);
	if (!strcmp(value, DAEMON_ENDPOINT))
		return ini_file_complain(&reader->file, "endpoint = %s: xenmsgd answers there itself", value);
	strcpy(reader->settings->endpoint, value);
	return 1;
}

/* Notes the user's groups, and what else the command's process needs. */
static int keep_identity(struct activation_reader *reader, const struct passwd *entry)
{
	struct activation_settings *settings = reader->settings;
	int count = 0;

	settings->gid = entry->pw_gid;
	settings->user_name = strdup(entry->pw_name);
	settings->home = strdup(entry->pw_dir);
	if (!settings->user_name || !settings->home)
		return ini_file_out_of_memory(&reader->file);
	getgrouplist(settings->user_name, settings->gid, NULL, &count);
	/* Some may be added meanwhile. */
	for (count += 16; count <= GROUPS_MAX; count *= 2) {
		free(settings->groups);
		settings->groups = calloc((size_t)count, sizeof(gid_t));
		settings->group_count = count;
		if (!settings->groups)
			return ini_file_out_of_memory(&reader->file);
		if (getgrouplist(settings->user_name, settings->gid, settings->groups,
				 &settings->group_count) >= 0)
			return 1;
	}
	return ini_file_complain(&reader->file, "user = %s: is in too many groups", settings->user);
}

/* The users can't be looked up, which is no mistake. */
static int cannot_tell(struct activation_reader *reader, const char *value, int r)
{
	return ini_file_fail(&reader->file, r == -ENOMEM ? r : -EAGAIN,
			     "user = %s: can't be looked up now: %s", value, strerror(-r));
}

static int set_user(struct activation_reader *reader, const char *value)
{
	const struct passwd *entry;
	char *end = NULL;
	unsigned long uid = 0;
	int r = users_find(value, &entry);

	if (r == -ENOENT) {
		if (*value >= '0' && *value <= '9')
			uid = strtoul(value, &end, 10);
		if (!end || *end || uid >= UINT32_MAX)
			return ini_file_complain(&reader->file,
						 "user = %s: must be the name or uid of a user here", value);
		r = users_find_uid((uid_t)uid, &entry);
	}
	if (r < 0 && r != -ENOENT)
		return cannot_tell(reader, value, r);
	reader->settings->uid = entry ? entry->pw_uid : (uid_t)uid;
	reader->settings->user = strdup(value);
	if (!reader->settings->user)
		return ini_file_out_of_memory(&reader->file);
	return entry ? keep_identity(reader, entry) : 1;
}

/* As unit_name_is_valid() of systemd does, for one that may be started: no template, no device and no
 * scope. */
static bool can_be_started(const char *unit)
{
	static const char *const types[] = {"service", "socket", "target", "mount", "automount",
					    "swap",    "path",	 "timer",  "slice"};
	size_t size = strspn(unit, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:-_.\\@");
	const char *suffix = strrchr(unit, '.'), *at = strchr(unit, '@');

	if (unit[size] || !suffix || *unit == '.' || at == unit || (at && at + 1 == suffix))
		return false;
	for (unsigned i = 0; i < sizeof(types) / sizeof(*types); i++)
		if (!strcmp(suffix + 1, types[i]))
			return true;
	return false;
}

static int set_unit(struct activation_reader *reader, const char *value)
{
	if (!units_are_supported)
		return ini_file_complain(
			&reader->file,
			"unit = %s: this xenmsgd was built without systemd; exec = starts a command", value);
	if (!can_be_started(value))
		return ini_file_complain(
			&reader->file, "unit = %s: must be the name of a systemd unit, such as print.service",
			value);
	reader->settings->unit = strdup(value);
	return reader->settings->unit ? 1 : ini_file_out_of_memory(&reader->file);
}

static int set_command(struct activation_reader *reader, const char *value)
{
	struct activation_settings *settings = reader->settings;
	char *rest, *word;
	unsigned count = 0;

	if (*value != '/')
		return ini_file_complain(&reader->file, "exec = %s: must begin with an absolute path", value);
	settings->command = calloc(WORDS_MAX + 1, sizeof(char *));
	settings->words = strdup(value);
	rest = word = strdup(value);
	/* The words lie in one piece of memory, which begins with the first one. */
	if (settings->command && word)
		settings->command[0] = word;
	if (!settings->command || !settings->words || !word) {
		if (!settings->command)
			free(word);
		return ini_file_out_of_memory(&reader->file);
	}
	while ((word = strsep(&rest, " \t")) != NULL) {
		if (!*word)
			continue;
		if (count == WORDS_MAX)
			return ini_file_complain(&reader->file, "exec has more than %u words", WORDS_MAX);
		settings->command[count++] = word;
	}
	return 1;
}

static int set_timeout(struct activation_reader *reader, const char *value)
{
	if (config_parse_duration(value, TIMEOUT_MIN_MS, TIMEOUT_MAX_MS, &reader->settings->timeout_ms) < 0)
		return ini_file_complain(&reader->file,
					 "timeout = %s: must be a time from 100ms to 10min, such as 30s",
					 value);
	return 1;
}

static int activation_read_on_key(void *user, const char *section, const char *key, const char *value)
{
	struct activation_reader *reader = user;
	static const struct {
		const char *name;
		int (*set)(struct activation_reader *reader, const char *value);
	} keys[] = {
		{"endpoint", set_endpoint}, {"user", set_user},	      {"unit", set_unit},
		{"exec", set_command},	    {"timeout", set_timeout},
	};

	if (reader->file.failed)
		return 0;
	if (!reader->section_line)
		return ini_file_complain(&reader->file, "%s stands outside of [activate]", key);
	for (unsigned i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		if (strcmp(key, keys[i].name))
			continue;
		if (reader->keys & 1u << i)
			return ini_file_complain(&reader->file, "%s comes twice", key);
		reader->keys |= 1u << i;
		return keys[i].set(reader, value);
	}
	return ini_file_complain(&reader->file,
				 "[activate] has no key '%s'; it has endpoint, user, unit, exec and timeout",
				 key);
}

/* --- files ------------------------------------------------------------------------------------ */

static void check_user(struct activation_reader *reader, uid_t runs_as)
{
	const struct activation_settings *settings = reader->settings;
	unsigned line = reader->section_line;

	if (settings->command && runs_as != 0 && runs_as != settings->uid)
		ini_file_complain_at(
			&reader->file, line,
			"the command has to run as %s (uid %u), but the daemon runs as uid %u and can't become another user: name a unit instead",
			settings->user, (unsigned)settings->uid, (unsigned)runs_as);
	else if (settings->command && runs_as != settings->uid && !settings->user_name)
		ini_file_complain_at(&reader->file, line,
				     "the command can't run as uid %u, which no user has here",
				     (unsigned)settings->uid);
}

static void check_complete(struct activation_reader *reader, const struct activation_settings *list,
			   uid_t runs_as)
{
	const struct activation_settings *settings = reader->settings, *other;
	unsigned line = reader->section_line ? reader->section_line : 1;

	if (!reader->section_line)
		ini_file_complain_at(&reader->file, line, "the file has no [activate]");
	else if (!settings->endpoint[0] || !settings->user)
		ini_file_complain_at(&reader->file, line, "this [activate] has no %s",
				     settings->endpoint[0] ? "user" : "endpoint");
	else if (!settings->unit == !settings->command)
		ini_file_complain_at(&reader->file, line, "an [activate] has either unit or exec");
	check_user(reader, runs_as);
	LL_FOREACH(list, other)
		if (other != settings && !strcmp(other->endpoint, settings->endpoint))
			ini_file_complain_at(&reader->file, line, "the endpoint %s is in %s already",
					     settings->endpoint, other->path);
}

static int read_stream(struct activation_settings *list, struct activation_settings *settings, FILE *file,
		       uid_t runs_as, char **error)
{
	struct activation_reader reader = {
		.file = {.stream = file,
			 .path = settings->path,
			 .error = error,
			 .begin_section = activation_read_begin_section},
		.settings = settings,
	};
	int r = ini_file_parse(&reader.file, activation_read_on_key, &reader);

	if (r < 0)
		return r;
	check_complete(&reader, list, runs_as);
	return reader.file.failed;
}

/* All that is read. */
struct activation_reading {
	struct activation_settings *list;
	uid_t runs_as;
};

static int read_file(void *userdata, FILE *file, const char *path, char **error)
{
	struct activation_reading *reading = userdata;
	struct activation_settings *settings = calloc(1, sizeof(*settings));

	if (!settings)
		return -ENOMEM;
	LL_PREPEND(reading->list, settings);
	settings->timeout_ms = TIMEOUT_MS;
	settings->path = strdup(path);
	return settings->path ? read_stream(reading->list, settings, file, reading->runs_as, error) : -ENOMEM;
}

int activation_read(struct activation_settings **list, const char *directory, uid_t runs_as, char **error)
{
	struct activation_reading reading = {.runs_as = runs_as};
	int r;

	*error = NULL;
	r = conf_dir_read(directory, read_file, &reading, error);
	if (r < 0) {
		activation_settings_free(reading.list);
		reading.list = NULL;
	}
	*list = reading.list;
	return r;
}

bool activation_names_unit(const char *directory, const char *unit)
{
	bool found = false;
	char **paths, *why = NULL;
	unsigned count;
	int r = conf_dir_list(directory, &paths, &count, &why);

	free(why);
	if (r < 0)
		return false;
	for (unsigned i = 0; i < count && !found; i++) {
		struct activation_reading reading = {0};
		char *error = NULL;
		FILE *file = conf_open(paths[i], &r, &error);

		found = file && read_file(&reading, file, paths[i], &error) == 0 && reading.list->unit &&
			!strcmp(reading.list->unit, unit);
		if (file)
			fclose(file);
		free(error);
		activation_settings_free(reading.list);
	}
	conf_dir_free(paths, count);
	return found;
}

void activation_settings_free(struct activation_settings *list)
{
	struct activation_settings *settings, *next;

	LL_FOREACH_SAFE(list, settings, next) {
		if (settings->command)
			free(settings->command[0]);
		free(settings->command);
		free(settings->words);
		free(settings->user);
		free(settings->user_name);
		free(settings->home);
		free(settings->groups);
		free(settings->unit);
		free(settings->path);
		free(settings);
	}
}
