/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/config.h"

#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/conf_dir.h"
#include "base/ini_file.h"
#include "base/users.h"
#include "wire/address.h"

#define USUAL_ADMIN_GROUP  "xenmsg-admin"
#define USUAL_GATEWAY_USER "xenmsg-gateway"

#define KIB 1024ull
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

enum config_value_kind {
	VALUE_SOCKET,
	VALUE_PATH,
	VALUE_USER,
	VALUE_GROUP,
	VALUE_LOG_LEVEL,
	VALUE_LOG_TARGET,
	VALUE_RING, /* a size that is a power of two */
	VALUE_SIZE, /* a size of 32 bits */
	VALUE_SIZE64,
	VALUE_DURATION,
	VALUE_SHORT_DURATION, /* in microseconds */
	VALUE_COUNT,
	VALUE_MAP,
	VALUE_SIGHT,
	VALUE_RELAY,
	VALUE_HOST_POLICY,
	VALUE_PRESENCE,
	VALUE_PEERS,
	VALUE_HOST,
};

struct config_key {
	const char *section, *name;
	enum config_value_kind kind;
	size_t offset;
	const char *usual; /* as a file would say it; NULL: it isn't set */
	uint64_t min, max;
	const char *allowed; /* completes "must be ..." */
};

#define AT(field)    offsetof(struct config, field)
#define RING_ALLOWED "a power of two from 1K to 1M"
#define POOL_MAX     (1u << 20)
#define POOL_ALLOWED "a number from 2 to 1048576"

static const struct config_key keys[] = {
	{"daemon", "socket", VALUE_SOCKET, AT(socket), "/run/xenmsg/xenmsg.sock", 0, 0,
	 "an absolute path of at most 107 bytes (a Unix socket's limit)"},
	{"daemon", "policy-dir", VALUE_PATH, AT(policy_dir), "/etc/xenmsg/policy.d", 0, 0,
	 "an absolute path"},
	{"daemon", "host-policy", VALUE_HOST_POLICY, AT(host_policy), "obey", 0, 0,
	 "obey, ignore or require"},
	{"daemon", "host-policy-dir", VALUE_PATH, AT(host_policy_dir), "/etc/xenmsg/host-policy.d", 0, 0,
	 "an absolute path"},
	{"daemon", "activation-dir", VALUE_PATH, AT(activation_dir), "/etc/xenmsg/activation.d", 0, 0,
	 "an absolute path"},
	{"daemon", "log-level", VALUE_LOG_LEVEL, AT(log_level), "info", 0, 0,
	 "error, warning, info or debug"},
	{"daemon", "log-to", VALUE_LOG_TARGET, AT(log_target), "stderr", 0, 0, "stderr, syslog or journal"},
	{"daemon", "user", VALUE_USER, AT(user), NULL, 0, 0, "the name of a user that exists here"},
	{"daemon", "admin-group", VALUE_GROUP, AT(admin_group), USUAL_ADMIN_GROUP, 0, 0,
	 "the name of a group, which need not exist"},
	{"daemon", "host-sight", VALUE_SIGHT, 0, "links", 0, 0, "links, full or none"},
	{"links", "ring-size", VALUE_RING, AT(ring_size), "64K", KIB, MIB, RING_ALLOWED},
	{"links", "min-ring-size", VALUE_RING, AT(min_ring_size), "1K", KIB, MIB, RING_ALLOWED},
	{"links", "max-ring-size", VALUE_RING, AT(max_ring_size), "1M", KIB, MIB, RING_ALLOWED},
	{"links", "map", VALUE_MAP, AT(map), "auto", 0, 0, "auto, yes or no"},
	{"links", "relay", VALUE_RELAY, 0, "auto", 0, 0, "auto, yes or no"},
	{"links", "presence", VALUE_PRESENCE, AT(presence_private), "public", 0, 0, "public or private"},
	{"links", "peers", VALUE_PEERS, AT(peers), NULL, 0, DOMID_MAX,
	 "domids from 0 to 32751, each once, separated by commas"},
	{"links", "heartbeat", VALUE_DURATION, AT(heartbeat_ms), "10s", 100, 3600000,
	 "a time from 100ms to 1h, such as 10s"},
	{"links", "dead-after", VALUE_DURATION, AT(dead_after_ms), "30s", 200, 24 * 3600000,
	 "a time from 200ms to 24h, such as 30s"},
	{"links", "idle-close", VALUE_DURATION, AT(idle_close_ms), "10min", 0, 24 * 3600000,
	 "a time up to 24h, such as 10min, or 0 for never"},
	{"links", "resume-for", VALUE_DURATION, AT(resume_for_ms), "60s", 0, 24 * 3600000,
	 "a time up to 24h, such as 60s, or 0 for not at all"},
	{"links", "setup-timeout", VALUE_DURATION, AT(setup_timeout_ms), "10s", 100, 3600000,
	 "a time from 100ms to 1h, such as 10s"},
	{"links", "busy-poll", VALUE_SHORT_DURATION, AT(busy_poll_us), "100us", 0, 10000,
	 "a time up to 10ms, such as 100us, or 0 for never"},
	{"hosts", "name", VALUE_HOST, AT(host_name), NULL, 0, 0,
	 "at most 63 of a-z, 0-9 and -, of which the first isn't -"},
	{"hosts", "user", VALUE_GROUP, AT(gateway_user), USUAL_GATEWAY_USER, 0, 0,
	 "the name of a user, who need not exist"},
	{"limits", "max-message", VALUE_SIZE, AT(max_message), "16M", 1, GIB, "a size from 1 to 1G"},
	/* With smaller pools everybody's share would be nothing. */
	{"limits", "max-clients", VALUE_COUNT, AT(max_clients), "4096", 2, POOL_MAX, POOL_ALLOWED},
	{"limits", "max-endpoints", VALUE_COUNT, AT(max_endpoints), "2048", 2, POOL_MAX, POOL_ALLOWED},
	{"limits", "max-channels", VALUE_COUNT, AT(max_channels), "8192", 2, POOL_MAX, POOL_ALLOWED},
	{"limits", "max-queued-bytes", VALUE_SIZE64, AT(max_queued_bytes), "512M", 256 * KIB, 1024 * GIB,
	 "a size from 256K to 1024G"},
	{"limits", "max-memory", VALUE_SIZE64, AT(max_memory), "1536M", 4 * MIB, 1024 * GIB,
	 "a size from 4M to 1024G"},
};
#define KEYS (sizeof(keys) / sizeof(keys[0]))

void config_free(struct config *config)
{
	free(config->policy_dir);
	free(config->host_policy_dir);
	free(config->activation_dir);
	free(config->user);
	free(config->admin_group);
	free(config->host_name);
	free(config->gateway_user);
	free(config->peers);
	*config = (struct config){0};
}

/* A suffix of a number, and its factor. */
struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit size_units[] = {{"", 1}, {"K", KIB}, {"M", MIB}, {"G", GIB}, {NULL, 0}};
/* A duration without a unit would leave its reader guessing, so only 0 may have none. */
static const struct unit duration_units[] = {
	{"ms", 1}, {"s", 1000}, {"min", 60000}, {"h", 3600000}, {NULL, 0}};
static const struct unit short_duration_units[] = {{"us", 1}, {"ms", 1000}, {NULL, 0}};
static const struct unit count_units[] = {{"", 1}, {NULL, 0}};

static const struct unit *units_of(enum config_value_kind kind)
{
	switch (kind) {
	case VALUE_DURATION:
		return duration_units;
	case VALUE_SHORT_DURATION:
		return short_duration_units;
	case VALUE_COUNT:
		return count_units;
	default:
		return size_units;
	}
}

static int config_parse_number(const char *text, const struct unit *units, const struct config_key *key,
			       uint64_t *value)
{
	const char *end = text;
	uint64_t number = 0;

	for (; isdigit((unsigned char)*end); end++)
		if (__builtin_mul_overflow(number, 10ull, &number) ||
		    __builtin_add_overflow(number, (uint64_t)(*end - '0'), &number))
			return -EINVAL;
	if (end == text)
		return -EINVAL;
	while (*end == ' ')
		end++;
	if (number == 0 && !*end) {
		*value = 0;
		return key->min == 0 ? 0 : -EINVAL;
	}
	for (; units->name; units++)
		if (!strcmp(units->name, end)) {
			if (__builtin_mul_overflow(number, units->factor, &number) || number < key->min ||
			    number > key->max)
				return -EINVAL;
			*value = number;
			return 0;
		}
	return -EINVAL;
}

int config_parse_duration(const char *text, uint32_t min, uint32_t max, uint32_t *ms)
{
	const struct config_key key = {.min = min, .max = max};
	uint64_t number;
	int r = config_parse_number(text, duration_units, &key, &number);

	if (r == 0)
		*ms = (uint32_t)number;
	return r;
}

static int parse_peers(const char *text, struct config *config)
{
	const char *item;
	uint32_t *peers = NULL;
	unsigned count = 0;
	size_t size;

	while ((item = ini_next_item(&text, &size)) != NULL) {
		uint32_t *grown, domid;

		if (!domid_parse(item, size, &domid))
			goto bad;
		for (unsigned i = 0; i < count; i++)
			if (peers[i] == domid)
				goto bad;
		grown = reallocarray(peers, count + 1, sizeof(*peers));
		if (!grown) {
			free(peers);
			return -ENOMEM;
		}
		peers = grown;
		peers[count++] = domid;
	}
	free(config->peers);
	config->peers = peers;
	config->peer_count = count;
	return 0;
bad:
	free(peers);
	return -EINVAL;
}

/* Parses one of some words. */
static int parse_choice(struct config *config, enum config_value_kind kind, const char *text)
{
	static const char *const words[][4] = {
		[VALUE_MAP] = {"auto", "yes", "no"},
		[VALUE_RELAY] = {"auto", "yes", "no"},
		[VALUE_SIGHT] = {"links", "full", "none"},
		[VALUE_HOST_POLICY] = {"obey", "ignore", "require"},
		[VALUE_PRESENCE] = {"public", "private"},
	};
	unsigned index = 0;

	while (words[kind][index] && strcmp(words[kind][index], text) != 0)
		index++;
	if (!words[kind][index])
		return -EINVAL;
	if (kind == VALUE_MAP)
		config->map = (enum config_map)index;
	else if (kind == VALUE_RELAY)
		config->relay = index != CONFIG_MAP_NO;
	else if (kind == VALUE_SIGHT)
		config->host_sight = (enum config_sight)index;
	else if (kind == VALUE_HOST_POLICY)
		config->host_policy = (enum config_host_policy)index;
	else
		config->presence_private = index == 1;
	return 0;
}

/* Parses a value into its field. */
static int config_parse_value(void *config_, unsigned row, const char *text)
{
	const struct config_key *key = &keys[row];
	struct config *config = config_;
	void *field = (char *)config + key->offset;
	const struct passwd *user;
	uint64_t number;
	int r;

	switch (key->kind) {
	case VALUE_SOCKET:
		if (text[0] != '/' || strlen(text) >= sizeof(config->socket))
			return -EINVAL;
		strcpy(config->socket, text);
		return 0;
	case VALUE_PATH:
		return text[0] == '/' ? ini_set_string(field, text) : -EINVAL;
	case VALUE_USER:
		r = users_find(text, &user);
		if (r < 0)
			return r == -ENOENT ? -EINVAL : -EAGAIN;
		return ini_set_string(field, text);
	case VALUE_GROUP:
		return *text ? ini_set_string(field, text) : -EINVAL;
	case VALUE_LOG_LEVEL:
		return log_level_parse(text, field);
	case VALUE_LOG_TARGET:
		return log_target_parse(text, field);
	case VALUE_RING:
	case VALUE_SIZE:
	case VALUE_SIZE64:
	case VALUE_DURATION:
	case VALUE_SHORT_DURATION:
	case VALUE_COUNT:
		r = config_parse_number(text, units_of(key->kind), key, &number);
		if (r == 0 && key->kind == VALUE_RING && (number & (number - 1)))
			r = -EINVAL;
		if (r == 0 && key->kind == VALUE_SIZE64)
			*(uint64_t *)field = number;
		else if (r == 0)
			*(uint32_t *)field = (uint32_t)number;
		return r;
	case VALUE_MAP:
	case VALUE_SIGHT:
	case VALUE_RELAY:
	case VALUE_HOST_POLICY:
	case VALUE_PRESENCE:
		return parse_choice(config, key->kind, text);
	case VALUE_HOST:
		return host_name_is_valid(text, strlen(text)) ? ini_set_string(field, text) : -EINVAL;
	case VALUE_PEERS:
		return parse_peers(text, config);
	}
	return -EINVAL;
}

int config_init(struct config *config)
{
	*config = (struct config){
		.ready_fd = -1,
		.uid = geteuid(),
		.gateway_uid = USERS_NO_UID,
		.administrators = USERS_NO_GID,
	};
	for (unsigned i = 0; i < KEYS; i++)
		if (keys[i].usual && config_parse_value(config, i, keys[i].usual) < 0)
			return -ENOMEM;
	return 0;
}

/* State of reading one file. */
struct config_reading {
	struct ini_file file;
	unsigned lines[KEYS]; /* the line that set each key; 0: none did */
};

/* Returns the line to blame for two settings that don't go together: the later one, 0 if neither is in the
 * file. */
static unsigned later(const struct config_reading *reading, const char *a, const char *b)
{
	unsigned last = 0;

	for (unsigned i = 0; i < KEYS; i++)
		if ((!strcmp(keys[i].name, a) || !strcmp(keys[i].name, b)) && reading->lines[i] > last)
			last = reading->lines[i];
	return last;
}

static void config_check_together(struct config_reading *reading, const struct config *config)
{
	if (config->min_ring_size > config->ring_size)
		ini_file_complain_at(&reading->file, later(reading, "min-ring-size", "ring-size"),
				     "min-ring-size (%u bytes) is larger than ring-size (%u bytes)",
				     config->min_ring_size, config->ring_size);
	if (config->ring_size > config->max_ring_size)
		ini_file_complain_at(&reading->file, later(reading, "max-ring-size", "ring-size"),
				     "ring-size (%u bytes) is larger than max-ring-size (%u bytes)",
				     config->ring_size, config->max_ring_size);
	if (config->dead_after_ms < 2 * (uint64_t)config->heartbeat_ms)
		ini_file_complain_at(
			&reading->file, later(reading, "heartbeat", "dead-after"),
			"dead-after (%u ms) must be at least twice heartbeat (%u ms), or a living peer is "
			"taken for dead",
			config->dead_after_ms, config->heartbeat_ms);
	if (config->peer_count && !config->presence_private)
		ini_file_complain_at(
			&reading->file, later(reading, "peers", "presence"),
			"peers is only for presence = private; with presence = public every domain sees "
			"this daemon");
}

static struct ini_key config_key_at(unsigned index)
{
	return (struct ini_key){keys[index].section, keys[index].name, keys[index].allowed};
}

int config_load_stream(struct config *config, FILE *file, const char *path, char **error)
{
	static const struct ini_keys table = {
		.count = KEYS,
		.key = config_key_at,
		.manual = "xenmsgd.conf(5)",
		.parse = config_parse_value,
	};
	struct config_reading reading = {.file = {.stream = file, .path = path, .error = error}};
	int r;

	*error = NULL;
	r = ini_keys_read(&reading.file, &table, reading.lines, config);
	if (r < 0)
		return r;
	config_check_together(&reading, config);
	return reading.file.failed;
}

static int load_file(struct config *config, const char *path, char **error)
{
	FILE *file;
	int r;

	*error = NULL;
	file = conf_open(path, &r, error);
	if (!file)
		return r;
	r = config_load_stream(config, file, path, error);
	fclose(file);
	return r;
}

static int load_opened(void *config, FILE *file, const char *path, char **error)
{
	return config_load_stream(config, file, path, error);
}

int config_load(struct config *config, const char *path, char **error)
{
	int r;

	if (path)
		return load_file(config, path, error);
	r = load_file(config, CONFIG_DEFAULT_PATH, error);
	if (r < 0 && r != -ENOENT)
		return r;
	free(*error);
	*error = NULL;
	return conf_dir_read(CONFIG_DEFAULT_DIRECTORY, load_opened, config, error);
}

/* Says why a user or a group can't be looked up now. */
static int note_unknown(int r, const char *what, const char *name, char **error)
{
	if (r == 0 || r == -ENOENT || *error)
		return 0;
	return asprintf(error, "%s = %s: can't be looked up now: %s", what, name, strerror(-r)) < 0 ? -ENOMEM
												    : 0;
}

int config_find_users(struct config *config, char **error)
{
	const struct passwd *user;
	const struct group *group;
	int r, failed;

	*error = NULL;
	r = config->user ? users_find(config->user, &user) : -ENOENT;
	if (r == 0)
		config->uid = user->pw_uid;
	failed = note_unknown(r, "[daemon] user", config->user, error);
	r = strcmp(config->gateway_user, USUAL_GATEWAY_USER) ? users_find(config->gateway_user, &user)
							     : users_find_usual(USUAL_GATEWAY_USER, &user);
	if (r == 0)
		config->gateway_uid = user->pw_uid;
	failed |= note_unknown(r, "[hosts] user", config->gateway_user, error);
	r = strcmp(config->admin_group, USUAL_ADMIN_GROUP)
		    ? users_find_group(config->admin_group, &group)
		    : users_find_usual_group(USUAL_ADMIN_GROUP, &group);
	if (r == 0)
		config->administrators = group->gr_gid;
	failed |= note_unknown(r, "[daemon] admin-group", config->admin_group, error);
	return failed ? -ENOMEM : *error ? -EAGAIN : 0;
}

int config_set_socket(struct config *config, const char *path, char **error)
{
	size_t length = strlen(path);

	*error = NULL;
	if (length > 0 && length < sizeof(config->socket)) {
		strcpy(config->socket, path);
		return 0;
	}
	if (asprintf(error, "socket path '%s' has %zu bytes; must have 1 to %zu", path, length,
		     sizeof(config->socket) - 1) < 0)
		*error = NULL;
	return -EINVAL;
}
