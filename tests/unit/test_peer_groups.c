/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* However many groups a program is in, a rule about one of them holds; and when they aren't known, nothing is
 * allowed by them. */
#include "tests/unit/unit.h"

#include <grp.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/registry/registry.h"
#include "daemon/policy/access.h"
#include "base/log.h"
#include "base/users.h"
#include "base/self.h"

#define FIRST	100000u
#define MEMBERS 20001u
#define OWN	99999u

static const struct self domain_0 = {.domid = 0};

/* A directory with one rule: the last group of them may not bind. */
static struct access *access_that_denies(char *directory, const char *uid)
{
	static struct registry *registry;
	struct access *access = NULL;
	char path[64];
	FILE *file;

	assert_non_null(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/rules.conf", directory);
	file = fopen(path, "w");
	assert_non_null(file);
	fprintf(file,
		"[bind]\nname = *\nuid = %s\naction = deny\n[bind]\nname = *\nuid = *\naction = allow\n",
		uid);
	fclose(file);
	if (!registry)
		registry = registry_new(&domain_0);
	assert_int_equal(access_new(&access, &domain_0, directory, registry), 0);
	unlink(path);
	rmdir(directory);
	return access;
}

/* In a process of its own: groups are a process's. */
static int in_groups(unsigned count, int (*check)(int socket))
{
	pid_t child = fork();
	int status = 0;

	assert_true(child >= 0);
	if (child == 0) {
		gid_t *groups = calloc(count + 1, sizeof(*groups));
		int ends[2];

		for (unsigned i = 0; groups && i < count; i++)
			groups[i] = FIRST + i;
		if (!groups || setgroups(count, groups) < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
			_exit(77);
		_exit(check(ends[0]));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int has_all(int socket)
{
	gid_t *groups;
	unsigned count;

	if (peer_groups(socket, &groups, &count) < 0 || count != MEMBERS)
		return 1;
	for (unsigned i = 0; i < count; i++)
		if (groups[i] != FIRST + i)
			return 2;
	free(groups);
	return 0;
}

static int has_none(int socket)
{
	gid_t *groups;
	unsigned count;

	return peer_groups(socket, &groups, &count) == 0 && count == 0 && !groups ? 0 : 1;
}

BEFORE_ALL
{
	log_set_level(LOG_LEVEL_ERROR);
}

TEST(test_all_groups_are_known)
{
	if (geteuid() != 0)
		skip();
	assert_int_equal(in_groups(MEMBERS, has_all), 0);
	assert_int_equal(in_groups(0, has_none), 0);
}

static struct group *group_of(gid_t gid)
{
	static char *nobody[] = {NULL};
	static struct group group = {.gr_name = "the-last", .gr_mem = nobody};

	group.gr_gid = gid;
	return &group;
}

/* In place of libc's: a rule names groups that need not exist here. */
struct group *getgrnam(const char *name)
{
	return strcmp(name, "the-last") ? NULL : group_of(FIRST + MEMBERS - 1);
}

static struct access *denying;

static int may_not_bind(int socket)
{
	return access_bind(denying, socket, 1000, OWN, "org.example", OWN) == -EACCES ? 0 : 1;
}

static int may_bind(int socket)
{
	return access_bind(denying, socket, 1000, OWN, "org.example", OWN) == 0 ? 0 : 1;
}

TEST(test_a_rule_about_the_last_group_holds)
{
	char directory[] = "/tmp/xenmsg-groups-XXXXXX";

	if (geteuid() != 0)
		skip();
	denying = access_that_denies(directory, "@the-last");
	assert_int_equal(in_groups(MEMBERS, may_not_bind), 0);
	assert_int_equal(in_groups(MEMBERS - 1, may_bind), 0);
	access_free(denying);
}

/* A socket that was never connected has no peer whose groups anybody could know. */
TEST(test_unknown_groups_allow_nothing)
{
	char directory[] = "/tmp/xenmsg-groups-XXXXXX";
	struct access *access = access_that_denies(directory, "@the-last");
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	gid_t *groups;
	unsigned count;

	assert_true(fd >= 0);
	assert_true(peer_groups(fd, &groups, &count) < 0);
	assert_int_equal(access_bind(access, fd, 1000, OWN, "org.example", OWN), -EACCES);
	close(fd);
	access_free(access);
}
