/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the configuration file may say, and how each mistake in it is reported. */
#include "tests/unit/unit.h"

#include <grp.h>
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

struct scene {
	char path[64];
	struct config config;
	char *error;
};

static void scene_start(struct scene *scene)
{
	int fd;

	strcpy(scene->path, "/tmp/xenmsg-test-config-XXXXXX");
	fd = mkstemp(scene->path);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(config_init(&scene->config), 0);
}

static void scene_stop(struct scene *scene)
{
	unlink(scene->path);
	config_free(&scene->config);
	free(scene->error);
}

static int load_bytes(struct scene *scene, const void *bytes, size_t size)
{
	FILE *file = fopen(scene->path, "w");

	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, size, file), size);
	fclose(file);
	config_free(&scene->config);
	free(scene->error);
	scene->error = NULL;
	assert_int_equal(config_init(&scene->config), 0);
	return config_load(&scene->config, scene->path, &scene->error);
}

static int load(struct scene *scene, const char *text)
{
	return load_bytes(scene, text, strlen(text));
}

/* The file is refused, and the message begins with file and line and holds the text. */
static void refuse_bytes(struct scene *scene, const void *bytes, size_t size, unsigned line,
			 const char *message)
{
	char prefix[96];

	if (load_bytes(scene, bytes, size) != -EINVAL)
		fail_msg("was accepted: %s", (const char *)bytes);
	assert_non_null(scene->error);
	snprintf(prefix, sizeof(prefix), "%s:%u: ", scene->path, line);
	if (strncmp(scene->error, prefix, strlen(prefix)) || !strstr(scene->error, message))
		fail_msg("\"%s\" doesn't begin with \"%s\" and hold \"%s\"", scene->error, prefix, message);
}

static void refuse(struct scene *scene, const char *text, unsigned line, const char *message)
{
	refuse_bytes(scene, text, strlen(text), line, message);
}

/* test_manual.py sees to it that they are the documented ones. */
SCENE_TEST(what_is_not_set_has_its_default, scene_start)
{
	struct config *config = &scene->config;

	assert_int_equal(load(scene, ""), 0);
	assert_null(scene->error);
	assert_string_equal(config->admin_group, "xenmsg-admin");
	assert_int_equal(config->log_level, LOG_LEVEL_INFO);
	assert_int_equal(config->min_ring_size, 1024);
	assert_true(config->relay);
	assert_int_equal(config->idle_close_ms, 600000);
	assert_int_equal(config->max_memory, 1610612736);
	assert_null(config->user);
	assert_int_equal(config->peer_count, 0);
}

SCENE_TEST(every_key_is_taken, scene_start)
{
	struct config *config = &scene->config;
	/* test_manual.py sees to it that this seed has each key */
	FILE *file = unit_source("tests/fuzz/corpus/config/all-keys");

	assert_int_equal(config_load_stream(config, file, "all-keys", &scene->error), 0);
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
	assert_int_equal(config->max_clients, 7);
	assert_int_equal(config->max_endpoints, 8);
	assert_int_equal(config->max_channels, 1048576);
	assert_int_equal(config->max_queued_bytes, 262144);
	assert_int_equal(config->max_memory, 5368709120ull);
}

SCENE_TEST(unknown_sections_and_keys_are_named, scene_start)
{
	refuse(scene, "\n[demon]\nsocket = /tmp/s\n", 2, "unknown section [demon]");
	refuse(scene, "[links]\nring_size = 64K\n", 2, "unknown key ring_size in [links]");
	refuse(scene, "[daemon]\nring-size = 64K\n", 2, "unknown key ring-size in [daemon]");
	refuse(scene, "socket = /tmp/s\n", 1, "before any section");
	refuse(scene, "[links]\nmap = no\n\nmap = no\n", 4, "was set before, in line 2");
}

SCENE_TEST(lines_that_are_not_ini_are_errors, scene_start)
{
	char text[2048] = "[daemon]\nsocket = /";

	refuse(scene, "[daemon]\nwhatever\n", 2, "KEY = VALUE");
	refuse(scene, "[daemon\n", 1, "[section]");
	/* what comes of it further down isn't what is wrong */
	refuse(scene, "[daemon\nlog-level = info\n", 1, "[section]");
	refuse(scene, "[links]\nring-size = 64K\n[daemon\nlog-level = info\n", 3, "[section]");
	memset(text + strlen(text), 'x', 1024);
	refuse(scene, text, 2, "too long");
	/* What libinih would overlook. */
	refuse(scene, "[links] ring-size = 128K\n", 1, "behind [links] there may only be a comment");
	refuse(scene, "[daemon]\n[links]]\nring-size = 128K\n", 2, "behind [links]");
	refuse(scene, "[lniks]\n", 1, "unknown section [lniks]");
	refuse_bytes(scene, "[daemon]\nsocket = /x\0y", 23, 2, "NUL");
	refuse_bytes(scene, "[daemon]\n\0socket = /x\n", 22, 2, "NUL");
	/* What stands further down, and is wrong only because of it. */
	refuse(scene, "[links\nring-size = 128K\n", 1, "neither a [section] nor KEY = VALUE nor a comment");
	refuse(scene, "[links]\nring-size 128K\nmin-ring-size = 99\n", 2,
	       "neither a [section] nor KEY = VALUE nor a comment");
	refuse(scene, "[links]\nring-size 1M\nmin-ring-size = 1M\n", 2,
	       "neither a [section] nor KEY = VALUE nor a comment");
	assert_int_equal(load(scene, "\xEF\xBB\xBF[links] # first\nring-size = 128K\n"), 0);
	assert_int_equal(scene->config.ring_size, 131072);
	assert_int_equal(load_bytes(scene, "[daemon]\n\0\nmap = x\n", 18), -EINVAL);
	assert_non_null(strstr(scene->error, ":2: "));
}

SCENE_TEST(bad_numbers_are_refused_with_what_is_allowed, scene_start)
{
	static const struct {
		const char *setting, *allowed;
		const char *wrong[14];
	} cases[] = {
		{"[links]\nring-size",
		 "must be a power of two from 1K to 1M",
		 {"", "K", "64k", "64KB", "-1", "0x1000", "3000", "512", "2M", "0", "1.5M",
		  "99999999999999999999", "18014398509481984K"}},
		{"[links]\nheartbeat",
		 "must be a time from 100ms to 1h",
		 {"", "10", "s", "10m", "10sec", "-1s", "1ms", "2h", "0"}},
		{"[links]\nbusy-poll",
		 "must be a time up to 10ms, such as 100us, or 0 for never",
		 {"", "10", "us", "1s", "11ms", "10001us", "-1us", "4294967296us"}},
		{"[limits]\nmax-clients",
		 "must be a number from 2 to 1048576",
		 {"", "0", "1K", "1048577", "many"}},
	};
	char text[128];

	for (size_t i = 0; i < ROWS(cases); i++)
		for (const char *const *wrong = cases[i].wrong; *wrong; wrong++) {
			snprintf(text, sizeof(text), "%s = %s\n", cases[i].setting, *wrong);
			refuse(scene, text, 2, cases[i].allowed);
		}
	refuse(scene, "[daemon]\nuser = nobody-of-that-name\n", 2,
	       "user = nobody-of-that-name: must be the name of a user that exists here");
	refuse(scene, "[daemon]\nuser =\n", 2, "must be the name of a user");
	refuse(scene, "[daemon]\nadmin-group =\n", 2, "must be the name of a group");
	refuse(scene, "[limits]\nmax-message = 2G\n", 2, "max-message = 2G: must be a size from 1 to 1G");
	refuse(scene, "[limits]\nmax-message = 0\n", 2, "must be a size");
	refuse(scene, "[limits]\nmax-clients = 1\n", 2,
	       "max-clients = 1: must be a number from 2 to 1048576");
	refuse(scene, "[limits]\nmax-channels = 1048577\n", 2, "must be a number from 2");
	refuse(scene, "[limits]\nmax-endpoints = many\n", 2, "must be a number from 2");
	refuse(scene, "[limits]\nmax-queued-bytes = 128K\n", 2, "must be a size from 256K to 1024G");
	refuse(scene, "[limits]\nmax-memory = 3M\n", 2, "must be a size from 4M to 1024G");
	assert_int_equal(load(scene, "[links]\nidle-close = 0\nbusy-poll = 0\n"), 0);
}

SCENE_TEST(bad_words_are_refused_with_what_is_allowed, scene_start)
{
	refuse(scene, "[daemon]\nlog-level = loud\n", 2,
	       "log-level = loud: must be error, warning, info or debug");
	refuse(scene, "[links]\nmap = maybe\n", 2, "must be auto, yes or no");
	refuse(scene, "[links]\nrelay = sometimes\n", 2, "must be auto, yes or no");
	refuse(scene, "[links]\npresence = hidden\n", 2, "must be public or private");
	refuse(scene, "[daemon]\npolicy-dir = policy\n", 2, "must be an absolute path");
	refuse(scene, "[daemon]\nhost-policy = obeys\n", 2, "must be obey, ignore or require");
	refuse(scene, "[links]\npresence = private\npeers = 3 7\n", 3, "must be domids");
	refuse(scene, "[links]\npresence = private\npeers = 3,3\n", 3, "must be domids");
	refuse(scene, "[links]\npresence = private\npeers = 32752\n", 3, "must be domids");
	refuse(scene, "[links]\npresence = private\npeers = work\n", 3, "must be domids");
}

SCENE_TEST(a_socket_path_that_does_not_fit_is_refused, scene_start)
{
	char path[200] = "/", text[300];

	memset(path + 1, 'p', 106);
	snprintf(text, sizeof(text), "[daemon]\nsocket = %s\n", path);
	assert_int_equal(load(scene, text), 0);
	assert_string_equal(scene->config.socket, path);
	assert_int_equal(config_set_socket(&scene->config, path, &scene->error), 0);

	path[107] = 'p';
	snprintf(text, sizeof(text), "[daemon]\nsocket = %s\n", path);
	refuse(scene, text, 2, "at most 107 bytes");
	free(scene->error);
	assert_int_equal(config_set_socket(&scene->config, path, &scene->error), -EINVAL);
	assert_non_null(strstr(scene->error, "has 108 bytes; must have 1 to 107"));
	refuse(scene, "[daemon]\nsocket = relative\n", 2, "an absolute path");
}

SCENE_TEST(settings_that_do_not_go_together_are_refused, scene_start)
{
	refuse(scene, "[links]\nmin-ring-size = 128K\n", 2,
	       "min-ring-size (131072 bytes) is larger than ring-size");
	refuse(scene, "[links]\nmax-ring-size = 32K\n", 2,
	       "ring-size (65536 bytes) is larger than max-ring-size (32768 bytes)");
	refuse(scene, "[links]\ndead-after = 15s\n", 2, "at least twice heartbeat (10000 ms)");
	refuse(scene, "[links]\npeers = 3\n", 2, "only for presence = private");
}

SCENE_TEST(a_missing_file_matters_only_if_it_was_asked_for, scene_start)
{
	unlink(scene->path);
	assert_int_equal(config_load(&scene->config, scene->path, &scene->error), -ENOENT);
	assert_non_null(strstr(scene->error, scene->path));
	if (access(CONFIG_DEFAULT_PATH, F_OK) < 0) {
		free(scene->error);
		assert_int_equal(config_load(&scene->config, NULL, &scene->error), 0);
		assert_null(scene->error);
	}
}

SCENE_TEST(a_file_that_is_denied_names_the_cure, scene_start)
{
	char cure[256];

	snprintf(cure, sizeof(cure), "%s: can't be read: Permission denied; chgrp %s %s && chmod g+rX %s",
		 scene->path, getgrgid(getegid())->gr_name, scene->path, scene->path);
	assert_int_equal(ini_file_unreadable(scene->path, -EACCES, &scene->error), -EACCES);
	assert_string_equal(scene->error, cure);
}

SCENE_TEST(an_unreadable_file_is_an_error, scene_start)
{
	assert_int_equal(config_load(&scene->config, "/tmp", &scene->error), -EISDIR);
	assert_non_null(strstr(scene->error, "/tmp: can't be read"));
	if (geteuid() != 0) { /* root reads everything */
		free(scene->error);
		chmod(scene->path, 0);
		assert_int_equal(config_load(&scene->config, scene->path, &scene->error), -EACCES);
	}
}

static void expect_users(const struct config *config, uid_t uid, uid_t gateway_uid, gid_t administrators)
{
	assert_int_equal(config->uid, uid);
	assert_int_equal(config->gateway_uid, gateway_uid);
	assert_int_equal(config->administrators, administrators);
}

SCENE_TEST(users_that_cannot_be_looked_up_now_are_told, scene_start)
{
	const char *named = "[daemon]\nuser = root\nadmin-group = some\n[hosts]\nuser = root\n";

	assert_int_equal(load(scene, ""), 0);
	assert_int_equal(config_find_users(&scene->config, &scene->error), 0);
	/* this machine may have those of the package */
	assert_int_equal(scene->config.uid, geteuid());
	assert_int_equal(load(scene, named), 0);
	assert_int_equal(config_find_users(&scene->config, &scene->error), 0);
	expect_users(&scene->config, 4711, 4711, 4712);

	assert_int_equal(load(scene, named), 0);
	directory_error = EIO;
	assert_int_equal(config_find_users(&scene->config, &scene->error), -EAGAIN);
	assert_non_null(strstr(scene->error, "[daemon] user = root: can't be looked up now: "));
	assert_non_null(strstr(scene->error, strerror(EIO)));
	expect_users(&scene->config, geteuid(), USERS_NO_UID, USERS_NO_GID);
	assert_int_equal(load(scene, "[daemon]\nadmin-group = some\n[hosts]\nuser = root\n"), 0);
	assert_int_equal(config_find_users(&scene->config, &scene->error), -EAGAIN);
	assert_non_null(strstr(scene->error, "[hosts] user = root: can't"));
	/* The usual ones are local, if there are such. */
	assert_int_equal(load(scene, ""), 0);
	assert_int_equal(config_find_users(&scene->config, &scene->error), 0);
	/* It is read whole, or not at all. */
	assert_int_equal(load(scene, named), -EAGAIN);
	directory_error = 0;
}
