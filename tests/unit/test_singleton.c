/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One daemon holds the lock, whoever it runs as, and nobody else can. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/xen/singleton.h"

#define DAEMON_UID   12345 /* of no account, as the next one: nobody else's processes are in the way */
#define STRANGER_UID 12346

struct scene {
	char parent[32]; /* as /run: root's, and everybody enters it */
	char path[64];
};

static int set_up(void **state)
{
	struct scene *scene = calloc(1, sizeof(*scene));

	assert_non_null(scene);
	snprintf(scene->parent, sizeof(scene->parent), "/tmp/singleton-XXXXXX");
	assert_non_null(mkdtemp(scene->parent));
	assert_int_equal(chmod(scene->parent, 0755), 0);
	snprintf(scene->path, sizeof(scene->path), "%s/lock", scene->parent);
	*state = scene;
	return 0;
}

static int tear_down(void **state)
{
	struct scene *scene = *state;

	if (rmdir(scene->path) < 0)
		unlink(scene->path);
	rmdir(scene->parent);
	free(scene);
	return 0;
}

static int claim(const char *path)
{
	int fd = -1;

	return singleton_claim(path, &fd); /* a child's ends with it */
}

/* What somebody does who isn't the daemon, but in one of its groups. */
static int lock_by_hand(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY);

	if (fd < 0)
		return -errno;
	return flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
}

static int in_child(uid_t uid, gid_t gid, int (*function)(const char *), const char *path)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		if (uid &&
		    (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0))
			_exit(255);
		_exit(-function(path));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_not_equal(WEXITSTATUS(status), 255);
	return -WEXITSTATUS(status);
}

static mode_t mode_of(const char *path)
{
	struct stat status;

	assert_int_equal(stat(path, &status), 0);
	return status.st_mode & 07777;
}

TEST_WITH(only_one_holds_it, set_up, tear_down)
{
	struct scene *scene = *state;
	int first = -1, second = -1;

	assert_int_equal(singleton_claim(scene->path, &first), 0);
	assert_int_equal(singleton_claim(scene->path, &second), -EBUSY);
	assert_int_equal(second, -1);
	assert_int_equal(in_child(0, 0, claim, scene->path), -EBUSY);
	assert_int_equal(close(first), 0);
	assert_int_equal(singleton_claim(scene->path, &second), 0);
	assert_int_equal(close(second), 0);
}

TEST_WITH(it_ends_with_the_process, set_up, tear_down)
{
	struct scene *scene = *state;
	int fd = -1;

	assert_int_equal(in_child(0, 0, claim, scene->path), 0);
	assert_int_equal(singleton_claim(scene->path, &fd), 0);
	assert_int_equal(close(fd), 0);
}

TEST_WITH(different_directories_are_different_domains, set_up, tear_down)
{
	struct scene *scene = *state;
	char other[80];
	int one = -1, two = -1;

	snprintf(other, sizeof(other), "%s2", scene->path);
	assert_int_equal(singleton_claim(scene->path, &one), 0);
	assert_int_equal(singleton_claim(other, &two), 0);
	assert_int_equal(close(one), 0);
	assert_int_equal(close(two), 0);
	assert_int_equal(rmdir(other), 0);
}

TEST_WITH(a_directory_that_others_may_open_is_closed_to_them, set_up, tear_down)
{
	struct scene *scene = *state;
	int fd = -1;

	assert_int_equal(mkdir(scene->path, 0755), 0);
	assert_int_equal(chmod(scene->path, 0777), 0); /* whatever the umask is */
	assert_int_equal(singleton_claim(scene->path, &fd), 0);
	assert_int_equal(mode_of(scene->path), 0700);
	assert_int_equal(close(fd), 0);
}

TEST_WITH(what_is_no_directory_is_refused, set_up, tear_down)
{
	struct scene *scene = *state;
	int fd = open(scene->path, O_WRONLY | O_CREAT, 0600), lock = -1;

	assert_true(fd >= 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(singleton_claim(scene->path, &lock), -ENOTDIR);
	assert_int_equal(unlink(scene->path), 0);
	/* Nor is somebody else's followed to. */
	assert_int_equal(symlink("/", scene->path), 0);
	assert_int_equal(singleton_claim(scene->path, &lock), -ENOTDIR);
	assert_int_equal(lock, -1);
}

TEST_WITH(a_member_of_its_group_cannot_take_it, set_up, tear_down)
{
	struct scene *scene = *state;
	int fd = -1;

	if (geteuid() != 0)
		skip();
	assert_int_equal(singleton_claim(scene->path, &fd), 0);
	assert_int_equal(close(fd), 0);
	assert_int_equal(chown(scene->path, DAEMON_UID, DAEMON_UID), 0);
	assert_int_equal(in_child(STRANGER_UID, DAEMON_UID, lock_by_hand, scene->path), -EACCES);
	assert_int_equal(in_child(STRANGER_UID, DAEMON_UID, claim, scene->path), -EACCES);
}

/* Nor can he be the one who makes it, and has it so. */
TEST_WITH(a_stranger_cannot_make_it, set_up, tear_down)
{
	struct scene *scene = *state;

	if (geteuid() != 0)
		skip();
	assert_int_equal(in_child(STRANGER_UID, STRANGER_UID, claim, scene->path), -EACCES);
	assert_int_equal(access(scene->path, F_OK), -1);
}

TEST_WITH(root_and_the_daemons_user_exclude_each_other, set_up, tear_down)
{
	struct scene *scene = *state;
	int fd = -1;

	if (geteuid() != 0)
		skip();
	assert_int_equal(mkdir(scene->path, 0700), 0);
	assert_int_equal(chown(scene->path, DAEMON_UID, DAEMON_UID), 0);
	assert_int_equal(in_child(DAEMON_UID, DAEMON_UID, claim, scene->path), 0);
	assert_int_equal(singleton_claim(scene->path, &fd), 0);
	assert_int_equal(in_child(DAEMON_UID, DAEMON_UID, claim, scene->path), -EBUSY);
	assert_int_equal(close(fd), 0);
}
