/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the configuration file may say, and how each mistake in it is reported. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/config.h"
#include "base/ini_file.h"
#include "base/users.h"

static int directory_error;

/* In place of libc's: the directory knows "root" and "some", or fails. */
struct passwd *getpwnam(const char *name)
{
	static struct passwd root = {.pw_name = "root", .pw_uid = 4711};

	errno = directory_error;
	return directory_error || strcmp(name, "root") != 0 ? NULL : &root;
}

struct group *getgrnam(const char *name)
{
	static struct group some = {.gr_name = "some", .gr_gid = 4712};

	errno = directory_error;
	return directory_error || strcmp(name, "some") != 0 ? NULL : &some;
}

struct fixture {
	char path[64];
	struct config config;
	char *error;
};

static int set_up(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	int fd;

	strcpy(fixture->path, "/tmp/xenmsg-test-config-XXXXXX");
	fd = mkstemp(fixture->path);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(config_init(&fixture->config), 0);
	*state = fixture;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *fixture = *state;

	unlink(fixture->path);
	config_free(&fixture->config);
	free(fixture->error);
	free(fixture);
	return 0;
}

static int load_bytes(struct fixture *fixture, const void *bytes, size_t size)
{
	FILE *file = fopen(fixture->path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, size, file), size);
	fclose(file);
	config_free(&fixture->config);
	free(fixture->error);
	fixture->error = NULL;
	assert_int_equal(config_init(&fixture->config), 0);
	return config_load(&fixture->config, fixture->path, &fixture->error);
}

static int load(struct fixture *fixture, const char *text)
{
	return load_bytes(fixture, text, strlen(text));
}

/* The file is refused, and the message begins with file and line and holds the text. */
static void refuse_bytes(struct fixture *fixture, const void *bytes, size_t size, unsigned line,
			 const char *message)
{
	char prefix[96];

	if (load_bytes(fixture, bytes, size) != -EINVAL)
		fail_msg("was accepted: %s", (const char *)bytes);
	assert_non_null(fixture->error);
	snprintf(prefix, sizeof(prefix), "%s:%u: ", fixture->path, line);
	if (strncmp(fixture->error, prefix, strlen(prefix)) || !strstr(fixture->error, message))
		fail_msg("\"%s\" doesn't begin with \"%s\" and hold \"%s\"", fixture->error, prefix, message);
}

static void refuse(struct fixture *fixture, const char *text, unsigned line, const char *message)
{
	refuse_bytes(fixture, text, strlen(text), line, message);
}

TEST_WITH(the_defaults_are_the_documented_ones, set_up, tear_down)
{
	struct fixture *fixture = *state;
	struct config *config = &fixture->config;

	assert_int_equal(load(fixture, ""), 0);
	assert_null(fixture->error);
	assert_string_equal(config->socket, "/run/xenmsg/xenmsg.sock");
	assert_string_equal(config->policy_dir, "/etc/xenmsg/policy.d");
	assert_string_equal(config->host_policy_dir, "/etc/xenmsg/host-policy.d");
	assert_int_equal(config->host_policy, CONFIG_HOST_POLICY_OBEY);
	assert_int_equal(config->log_level, LOG_LEVEL_INFO);
	assert_int_equal(config->log_target, LOG_TO_STDERR);
	assert_null(config->user);
	assert_string_equal(config->admin_group, "xenmsg-admin");
	assert_int_equal(config->ring_size, 65536);
	assert_int_equal(config->min_ring_size, 1024);
	assert_int_equal(config->max_ring_size, 1048576);
	assert_int_equal(config->map, CONFIG_MAP_AUTO);
	assert_true(config->relay);
	assert_false(config->presence_private);
	assert_int_equal(config->peer_count, 0);
	assert_int_equal(config->heartbeat_ms, 10000);
	assert_int_equal(config->dead_after_ms, 30000);
	assert_int_equal(config->idle_close_ms, 600000);
	assert_int_equal(config->resume_for_ms, 60000);
	assert_int_equal(config->setup_timeout_ms, 10000);
	assert_int_equal(config->busy_poll_us, 100);
	assert_int_equal(config->max_message, 16777216);
}

TEST_WITH(every_key_is_taken, set_up, tear_down)
{
	struct fixture *fixture = *state;
	struct config *config = &fixture->config;
	/* test_manual.py sees to it that this seed has each key */
	FILE *file = unit_source("tests/fuzz/corpus/config/all-keys");

	assert_int_equal(config_load_stream(config, file, "all-keys", &fixture->error), 0);
	fclose(file);
	assert_string_equal(config->socket, "/tmp/s");
	assert_string_equal(config->policy_dir, "/tmp/policy");
	assert_string_equal(config->host_policy_dir, "/tmp/host-policy");
	assert_int_equal(config->host_policy, CONFIG_HOST_POLICY_REQUIRE);
	assert_string_equal(config->activation_dir, "/tmp/activation");
	assert_int_equal(config->log_level, LOG_LEVEL_DEBUG);
	assert_int_equal(config->log_target, LOG_TO_SYSLOG);
	assert_string_equal(config->user, "root");
	assert_string_equal(config->admin_group, "wheel");
	assert_int_equal(config->host_sight, CONFIG_SIGHT_FULL);
	assert_int_equal(config->ring_size, 131072);
	assert_int_equal(config->min_ring_size, 2048);
	assert_int_equal(config->max_ring_size, 262144);
	assert_int_equal(config->map, CONFIG_MAP_NO);
	assert_false(config->relay);
	assert_true(config->presence_private);
	assert_int_equal(config->peer_count, 3);
	assert_int_equal(config->peers[0], 3);
	assert_int_equal(config->peers[1], 7);
	assert_int_equal(config->peers[2], 0);
	assert_int_equal(config->heartbeat_ms, 500);
	assert_int_equal(config->dead_after_ms, 2000);
	assert_int_equal(config->idle_close_ms, 3600000);
	assert_int_equal(config->resume_for_ms, 120000);
	assert_int_equal(config->setup_timeout_ms, 60000);
	assert_int_equal(config->busy_poll_us, 5000);
	assert_string_equal(config->host_name, "hosta");
	assert_string_equal(config->gateway_user, "nobody");
	assert_int_equal(config->max_message, 1048576);
	assert_int_equal(config->max_clients_per_uid, 1);
	assert_int_equal(config->max_endpoints_per_uid, 2);
	assert_int_equal(config->max_channels_per_uid, 3);
	assert_int_equal(config->max_queued_bytes_per_uid, 5368709120ull);
	assert_int_equal(config->max_channels_per_peer, 4);
	assert_int_equal(config->max_queued_bytes_per_peer, 131072);
	assert_int_equal(config->max_descriptors_per_uid, 5);
	assert_int_equal(config->max_descriptors_per_peer, 6);
	assert_int_equal(config->max_clients, 7);
	assert_int_equal(config->max_endpoints, 8);
	assert_int_equal(config->max_channels, 1048576);
	assert_int_equal(config->max_queued_bytes, 262144);
	assert_int_equal(config->max_memory_per_uid, 1048576);
	assert_int_equal(config->max_memory_per_peer, 2097152);
	assert_int_equal(config->max_memory, 5368709120ull);
}

TEST_WITH(unknown_sections_and_keys_are_named, set_up, tear_down)
{
	refuse(*state, "\n[demon]\nsocket = /tmp/s\n", 2, "unknown section [demon]");
	refuse(*state, "[links]\nring_size = 64K\n", 2, "unknown key ring_size in [links]");
	refuse(*state, "[daemon]\nring-size = 64K\n", 2, "unknown key ring-size in [daemon]");
	refuse(*state, "socket = /tmp/s\n", 1, "before any section");
	refuse(*state, "[links]\nmap = no\n\nmap = no\n", 4, "was set before, in line 2");
}

TEST_WITH(lines_that_are_not_ini_are_errors, set_up, tear_down)
{
	struct fixture *fixture = *state;
	char text[2048] = "[daemon]\nsocket = /";

	refuse(fixture, "[daemon]\nwhatever\n", 2, "KEY = VALUE");
	refuse(fixture, "[daemon\n", 1, "[section]");
	/* what comes of it further down isn't what is wrong */
	refuse(fixture, "[daemon\nlog-level = info\n", 1, "[section]");
	refuse(fixture, "[links]\nring-size = 64K\n[daemon\nlog-level = info\n", 3, "[section]");
	memset(text + strlen(text), 'x', 1024);
	refuse(fixture, text, 2, "too long");
	/* What libinih would overlook. */
	refuse(fixture, "[links] ring-size = 128K\n", 1, "behind [links] there may only be a comment");
	refuse(fixture, "[daemon]\n[links]]\nring-size = 128K\n", 2, "behind [links]");
	refuse(fixture, "[lniks]\n", 1, "unknown section [lniks]");
	refuse_bytes(fixture, "[daemon]\nsocket = /x\0y", 23, 2, "NUL");
	refuse_bytes(fixture, "[daemon]\n\0socket = /x\n", 22, 2, "NUL");
	/* What stands further down, and is wrong only because of it. */
	refuse(fixture, "[links\nring-size = 128K\n", 1, "neither a [section] nor KEY = VALUE nor a comment");
	refuse(fixture, "[links]\nring-size 128K\nmin-ring-size = 99\n", 2,
	       "neither a [section] nor KEY = VALUE nor a comment");
	refuse(fixture, "[links]\nring-size 1M\nmin-ring-size = 1M\n", 2,
	       "neither a [section] nor KEY = VALUE nor a comment");
	assert_int_equal(load(fixture, "\xEF\xBB\xBF[links] # first\nring-size = 128K\n"), 0);
	assert_int_equal(fixture->config.ring_size, 131072);
	assert_int_equal(load_bytes(fixture, "[daemon]\n\0\nmap = x\n", 18), -EINVAL);
	assert_non_null(strstr(fixture->error, ":2: "));
}

TEST_WITH(bad_numbers_are_refused_with_what_is_allowed, set_up, tear_down)
{
	static const char *const sizes[] = {"",
					    "K",
					    "64k",
					    "64KB",
					    "-1",
					    "0x1000",
					    "3000",
					    "512",
					    "2M",
					    "0",
					    "1.5M",
					    "99999999999999999999",
					    "18014398509481984K"};
	static const char *const durations[] = {"", "10", "s", "10m", "10sec", "-1s", "1ms", "2h", "0"};
	static const char *const short_durations[] = {"",     "10",	 "us",	 "1s",
						      "11ms", "10001us", "-1us", "4294967296us"};
	static const char *const counts[] = {"", "0", "1K", "65537", "many"};
	char text[128];

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		snprintf(text, sizeof(text), "[links]\nring-size = %s\n", sizes[i]);
		refuse(*state, text, 2, "must be a power of two from 1K to 1M");
	}
	for (size_t i = 0; i < sizeof(durations) / sizeof(*durations); i++) {
		snprintf(text, sizeof(text), "[links]\nheartbeat = %s\n", durations[i]);
		refuse(*state, text, 2, "must be a time from 100ms to 1h");
	}
	for (size_t i = 0; i < sizeof(short_durations) / sizeof(*short_durations); i++) {
		snprintf(text, sizeof(text), "[links]\nbusy-poll = %s\n", short_durations[i]);
		refuse(*state, text, 2, "must be a time up to 10ms, such as 100us, or 0 for never");
	}
	for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
		snprintf(text, sizeof(text), "[limits]\nmax-clients-per-uid = %s\n", counts[i]);
		refuse(*state, text, 2, "must be a number from 1 to 65536");
	}
	refuse(*state, "[daemon]\nuser = nobody-of-that-name\n", 2,
	       "user = nobody-of-that-name: must be the name of a user that exists here");
	refuse(*state, "[daemon]\nuser =\n", 2, "must be the name of a user");
	refuse(*state, "[daemon]\nadmin-group =\n", 2, "must be the name of a group");
	refuse(*state, "[limits]\nmax-message = 2G\n", 2, "max-message = 2G: must be a size from 1 to 1G");
	refuse(*state, "[limits]\nmax-message = 0\n", 2, "must be a size");
	refuse(*state, "[limits]\nmax-queued-bytes-per-peer = 1K\n", 2, "must be a size from 64K");
	refuse(*state, "[limits]\nmax-descriptors-per-peer = 0\n", 2, "must be a number from 1 to 65536");
	refuse(*state, "[limits]\nmax-clients = 1\n", 2,
	       "max-clients = 1: must be a number from 2 to 1048576");
	refuse(*state, "[limits]\nmax-channels = 1048577\n", 2, "must be a number from 2");
	refuse(*state, "[limits]\nmax-endpoints = many\n", 2, "must be a number from 2");
	refuse(*state, "[limits]\nmax-queued-bytes = 128K\n", 2, "must be a size from 256K to 1024G");
	refuse(*state, "[limits]\nmax-memory-per-uid = 1023K\n", 2, "must be a size from 1M to 1024G");
	refuse(*state, "[limits]\nmax-memory = 3M\n", 2, "must be a size from 4M to 1024G");
	assert_int_equal(load(*state, "[links]\nidle-close = 0\nbusy-poll = 0\n"), 0);
}

TEST_WITH(bad_words_are_refused_with_what_is_allowed, set_up, tear_down)
{
	refuse(*state, "[daemon]\nlog-level = loud\n", 2,
	       "log-level = loud: must be error, warning, info or debug");
	refuse(*state, "[links]\nmap = maybe\n", 2, "must be auto, yes or no");
	refuse(*state, "[links]\nrelay = sometimes\n", 2, "must be auto, yes or no");
	refuse(*state, "[links]\npresence = hidden\n", 2, "must be public or private");
	refuse(*state, "[daemon]\npolicy-dir = policy\n", 2, "must be an absolute path");
	refuse(*state, "[daemon]\nhost-policy = obeys\n", 2, "must be obey, ignore or require");
	refuse(*state, "[links]\npresence = private\npeers = 3 7\n", 3, "must be domids");
	refuse(*state, "[links]\npresence = private\npeers = 3,3\n", 3, "must be domids");
	refuse(*state, "[links]\npresence = private\npeers = 32752\n", 3, "must be domids");
	refuse(*state, "[links]\npresence = private\npeers = work\n", 3, "must be domids");
}

TEST_WITH(a_socket_path_that_does_not_fit_is_refused, set_up, tear_down)
{
	struct fixture *fixture = *state;
	char path[200] = "/", text[300];

	memset(path + 1, 'p', 106);
	snprintf(text, sizeof(text), "[daemon]\nsocket = %s\n", path);
	assert_int_equal(load(fixture, text), 0);
	assert_string_equal(fixture->config.socket, path);
	assert_int_equal(config_set_socket(&fixture->config, path, &fixture->error), 0);

	path[107] = 'p';
	snprintf(text, sizeof(text), "[daemon]\nsocket = %s\n", path);
	refuse(fixture, text, 2, "at most 107 bytes");
	free(fixture->error);
	assert_int_equal(config_set_socket(&fixture->config, path, &fixture->error), -EINVAL);
	assert_non_null(strstr(fixture->error, "has 108 bytes; must have 1 to 107"));
	refuse(fixture, "[daemon]\nsocket = relative\n", 2, "an absolute path");
}

TEST_WITH(settings_that_do_not_go_together_are_refused, set_up, tear_down)
{
	refuse(*state, "[links]\nmin-ring-size = 128K\n", 2,
	       "min-ring-size (131072 bytes) is larger than ring-size");
	refuse(*state, "[links]\nmax-ring-size = 32K\n", 2,
	       "ring-size (65536 bytes) is larger than max-ring-size (32768 bytes)");
	refuse(*state, "[links]\ndead-after = 15s\n", 2, "at least twice heartbeat (10000 ms)");
	refuse(*state, "[links]\npeers = 3\n", 2, "only for presence = private");
}

TEST_WITH(a_missing_file_matters_only_if_it_was_asked_for, set_up, tear_down)
{
	struct fixture *fixture = *state;

	unlink(fixture->path);
	assert_int_equal(config_load(&fixture->config, fixture->path, &fixture->error), -ENOENT);
	assert_non_null(strstr(fixture->error, fixture->path));
	if (access(CONFIG_DEFAULT_PATH, F_OK) < 0) {
		free(fixture->error);
		assert_int_equal(config_load(&fixture->config, NULL, &fixture->error), 0);
		assert_null(fixture->error);
	}
}

TEST_WITH(a_file_that_is_denied_names_the_cure, set_up, tear_down)
{
	struct fixture *fixture = *state;
	char cure[256];

	snprintf(cure, sizeof(cure), "%s: can't be read: Permission denied; chgrp %s %s && chmod g+rX %s",
		 fixture->path, getgrgid(getegid())->gr_name, fixture->path, fixture->path);
	assert_int_equal(ini_file_unreadable(fixture->path, -EACCES, &fixture->error), -EACCES);
	assert_string_equal(fixture->error, cure);
}

TEST_WITH(an_unreadable_file_is_an_error, set_up, tear_down)
{
	struct fixture *fixture = *state;

	assert_int_equal(config_load(&fixture->config, "/tmp", &fixture->error), -EISDIR);
	assert_non_null(strstr(fixture->error, "/tmp: can't be read"));
	if (geteuid() != 0) { /* root reads everything */
		free(fixture->error);
		chmod(fixture->path, 0);
		assert_int_equal(config_load(&fixture->config, fixture->path, &fixture->error), -EACCES);
	}
}

static void expect_users(const struct config *config, uid_t uid, uid_t gateway_uid, gid_t administrators)
{
	assert_int_equal(config->uid, uid);
	assert_int_equal(config->gateway_uid, gateway_uid);
	assert_int_equal(config->administrators, administrators);
}

TEST_WITH(users_that_cannot_be_looked_up_now_are_told, set_up, tear_down)
{
	const char *named = "[daemon]\nuser = root\nadmin-group = some\n[hosts]\nuser = root\n";
	struct fixture *fixture = *state;

	assert_int_equal(load(fixture, ""), 0);
	assert_int_equal(config_find_users(&fixture->config, &fixture->error), 0);
	expect_users(&fixture->config, geteuid(), USERS_NO_UID, USERS_NO_GID);
	assert_int_equal(load(fixture, named), 0);
	assert_int_equal(config_find_users(&fixture->config, &fixture->error), 0);
	expect_users(&fixture->config, 4711, 4711, 4712);

	assert_int_equal(load(fixture, named), 0);
	directory_error = EIO;
	assert_int_equal(config_find_users(&fixture->config, &fixture->error), -EAGAIN);
	assert_string_equal(fixture->error,
			    "[daemon] user = root: can't be looked up now: Input/output error");
	expect_users(&fixture->config, geteuid(), USERS_NO_UID, USERS_NO_GID);
	assert_int_equal(load(fixture, "[daemon]\nadmin-group = some\n[hosts]\nuser = root\n"), 0);
	assert_int_equal(config_find_users(&fixture->config, &fixture->error), -EAGAIN);
	assert_non_null(strstr(fixture->error, "[hosts] user = root: can't"));
	/* The usual ones are local, if there are such. */
	assert_int_equal(load(fixture, ""), 0);
	assert_int_equal(config_find_users(&fixture->config, &fixture->error), 0);
	/* It is read whole, or not at all. */
	assert_int_equal(load(fixture, named), -EAGAIN);
	directory_error = 0;
}
