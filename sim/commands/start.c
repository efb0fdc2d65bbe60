/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* xensim start and run: begin a host, in a directory of its own. */
#include "config.h"

#include "sim/commands/command.h"
#include "sim/hypervisor/hv.h"
#include "sim/toolstack/main.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* Returns -1, with a line on stderr that errno ends; which: of several, or "". */
static int cannot(const char *what, const char *which)
{
	fprintf(stderr, "xensim: cannot %s%s%s: %s\n", what, which[0] ? " " : "", which, strerror(errno));
	return -1;
}

/* Returns 1 if all that is there may be removed, since it is nothing or what a dead host left; 0 if not, and
 * -1 after a failure, both with a line on stderr. */
static int may_be_taken(const char *dir)
{
	DIR *entries = opendir(dir);
	const struct dirent *entry;
	bool empty = true, host = false;

	if (!entries)
		return cannot("read the directory", "");
	while ((entry = readdir(entries))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		empty = false;
		host |= strcmp(entry->d_name, HV_LOG) == 0;
	}
	closedir(entries);
	if (!empty && !host)
		fprintf(stderr, "xensim: %s isn't empty, and no host has left it: choose another --dir\n",
			dir);
	return empty || host;
}

/* Whether it still has its name: a host that ends removes it, and then another may have made a new one. */
static bool is_still_there(int fd, const char *dir)
{
	struct stat opened, named;

	return fstat(fd, &opened) == 0 && stat(dir, &named) == 0 && opened.st_dev == named.st_dev &&
	       opened.st_ino == named.st_ino;
}

/* Takes over a directory that a dead host left; the lock says whether a host runs there. */
static int claim_dir(const char *dir)
{
	struct stat status;
	int fd;

	if (mkdir(dir, 0755) < 0 && errno != EEXIST)
		return cannot("create", dir);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &status) < 0 || status.st_uid != geteuid()) {
		fprintf(stderr, "xensim: cannot use %s: %s\n", dir,
			fd < 0 ? strerror(errno) : "another user owns it");
		goto fail;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) < 0 || !is_still_there(fd, dir)) {
		fprintf(stderr, "xensim: a host runs in %s already: stop it, or choose another --dir\n", dir);
		goto fail;
	}
	if (may_be_taken(dir) != 1)
		goto fail;
	return fd;
fail:
	if (fd >= 0)
		close(fd);
	return -1;
}

struct host_options {
	unsigned domains;
	const char *dir;
	bool like_xenstored, daemons, allows;
	bool ends_with_us; /* also if this process is killed */
	pid_t parent;	   /* this process */
};

static int run_host(const char *dir, const struct host_options *options, int ready_fd)
{
	int null;

	/* It ends as if it were stopped. */
	if (options->ends_with_us && (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != options->parent))
		return EXIT_FAILURE;
	if (setsid() < 0 || chdir("/") < 0) {
		cannot("leave the session", "");
		return EXIT_FAILURE;
	}
	umask(022);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0) {
		cannot("open /dev/null", "");
		return EXIT_FAILURE;
	}
	return hv_run(dir, options->domains, options->like_xenstored, ready_fd) == 0 ? EXIT_SUCCESS
										     : EXIT_FAILURE;
}

/* Returns the host's process, which is ready, or -1 with a line on stderr. */
static pid_t start_host(const char *dir, const struct host_options *options)
{
	char command[4200], byte;
	int ready[2], lock = claim_dir(dir);
	pid_t pid;

	if (lock < 0)
		return -1;
	/* Remove only what an earlier host left, never anything else in the directory. */
	snprintf(command, sizeof(command), "%s/xensim.sock", dir);
	if (access(command, F_OK) == 0)
		unlink(command);
	if (pipe2(ready, O_CLOEXEC) < 0) {
		close(lock);
		return cannot("make a pipe", "");
	}
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(ready[0]);
		_exit(run_host(dir, options, ready[1]));
	}
	close(ready[1]);
	close(lock);
	if (pid < 0 || read(ready[0], &byte, 1) != 1) {
		if (pid > 0)
			waitpid(pid, NULL, 0);
		else
			cannot("fork", "");
		pid = -1;
	}
	close(ready[0]);
	return pid;
}

/* The longest directory with room for the longest socket path in it. */
#define DIR_MAX (sizeof(((struct sockaddr_un *)NULL)->sun_path) - sizeof("/dom-32751/xenstored.sock"))

/* Reads the options of start (with_dir) or run. Returns the index of the first argument that is none, or
 * -EXIT_USAGE with a line on stderr. */
static int parse_host_options(int count, char **words, bool with_dir, struct host_options *options)
{
	static const struct option known[] = {
		{"domains", required_argument, NULL, 'n'}, {"dir", required_argument, NULL, 'd'},
		{"store", required_argument, NULL, 's'},   {"daemons", no_argument, NULL, 'D'},
		{"allow", no_argument, NULL, 'a'},	   {NULL, 0, NULL, 0}};
	const char *name = words[0];
	char *end, own_name[32];
	int option;

	/* getopt's messages begin with it. */
	snprintf(own_name, sizeof(own_name), "xensim %s", name);
	words[0] = own_name;
	while ((option = getopt_long(count, words, "+", known, NULL)) != -1) {
		if (option == 'n') {
			unsigned long domains = strtoul(optarg, &end, 10);

			if (!strlen(optarg) || *end || domains > 1000 || strspn(optarg, "0123456789") == 0) {
				fprintf(stderr, "xensim: %s: --domains takes a number up to 1000, not %s\n",
					name, optarg);
				return -EXIT_USAGE;
			}
			options->domains = (unsigned)domains;
		} else if (option == 's' &&
			   (strcmp(optarg, "oxenstored") == 0 || strcmp(optarg, "xenstored") == 0)) {
			options->like_xenstored = optarg[0] == 'x';
		} else if (option == 's') {
			fprintf(stderr, "xensim: %s: --store takes oxenstored or xenstored, not %s\n", name,
				optarg);
			return -EXIT_USAGE;
		} else if (option == 'd' && with_dir) {
			options->dir = optarg;
		} else if (option == 'D') {
			options->daemons = true;
		} else if (option == 'a') {
			options->daemons = options->allows = true;
		} else {
			if (option == 'd')
				fprintf(stderr, "xensim: %s: it has a directory of its own, and no --dir\n",
					name);
			return -EXIT_USAGE;
		}
	}
	words[0] = (char *)name;
	return optind;
}

/* Ends the host again if they can't be started. */
static int begin_daemons(const char *dir, const struct host_options *options)
{
	char stop[] = "stop", *stop_words[] = {stop, NULL};

	if (!options->daemons || start_daemons(dir, options->domains, options->allows) == 0)
		return EXIT_SUCCESS;
	if (setenv("XENSIM_DIR", dir, 1) == 0)
		pass_on(1, stop_words);
	return EXIT_FAILURE;
}

int command_start(int count, char **words)
{
	struct host_options options = {0};
	int first = parse_host_options(count, words, true, &options), status = EXIT_FAILURE;
	char *dir, *path;
	bool made;

	if (first < 0)
		return -first;
	if (first < count)
		return usage_error("start: unexpected argument", words[first]);
	dir = options.dir ? strdup(options.dir) : host_dir();
	made = dir && mkdir(dir, 0755) == 0;
	if (dir && !made && errno != EEXIST) {
		cannot("create", dir);
		free(dir);
		return EXIT_FAILURE;
	}
	/* Programs that change their working directory use it as well. */
	path = dir ? realpath(dir, NULL) : NULL;
	if (!path) {
		cannot("use", dir ? dir : "the directory");
	} else if (strlen(path) > DIR_MAX) {
		fprintf(stderr,
			"xensim: %s is too long for the paths of sockets in it: choose a --dir of at most %zu bytes\n",
			path, DIR_MAX);
		if (made)
			rmdir(path);
	} else if (start_host(path, &options) > 0) {
		status = begin_daemons(path, &options);
		if (status == EXIT_SUCCESS)
			printf("%s\n", path);
	}
	free(path);
	free(dir);
	return status;
}

static volatile sig_atomic_t run_child;

static void pass_signal_on(int number)
{
	kill((pid_t)run_child, number);
}

/* Runs the command to its end. Returns its exit status as a shell does. */
static int start_run_command(char **words)
{
	static const int passed_on[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	sigset_t block, before;
	int status;
	pid_t pid;

	/* A signal that comes before there is a child waits. */
	sigemptyset(&block);
	for (size_t i = 0; i < sizeof(passed_on) / sizeof(passed_on[0]); i++)
		sigaddset(&block, passed_on[i]);
	sigprocmask(SIG_BLOCK, &block, &before);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		sigprocmask(SIG_SETMASK, &before, NULL);
		_exit(become(words));
	}
	if (pid < 0) {
		cannot("fork", "");
		return EXIT_OWN_FAILURE;
	}
	run_child = pid;
	for (size_t i = 0; i < sizeof(passed_on) / sizeof(passed_on[0]); i++) {
		const struct sigaction action = {.sa_handler = pass_signal_on};

		sigaction(passed_on[i], &action, NULL);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* Makes a directory for one run, with a path short enough for the sockets in it; in memory if that can be,
 * since a disk takes ten times as long for its many small files. */
static char *make_run_dir(void)
{
	static const char memory[] = "/dev/shm";
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	char *path;

	if (!runtime || runtime[0] != '/' || strlen(runtime) >= 40)
		runtime = access(memory, W_OK | X_OK) == 0 ? memory : "/tmp";
	if (asprintf(&path, "%s/xensim-XXXXXX", runtime) < 0)
		return NULL;
	if (mkdtemp(path) && chmod(path, 0755) == 0)
		return path;
	cannot("create", path);
	free(path);
	return NULL;
}

int command_run(int count, char **words)
{
	struct host_options options = {.ends_with_us = true, .parent = getpid()};
	int first = parse_host_options(count, words, false, &options), status = EXIT_OWN_FAILURE;
	char stop[] = "stop", *stop_words[] = {stop, NULL}, *dir;
	pid_t host;

	if (first < 0)
		return -first;
	/* getopt has taken the --. */
	if (first == count || strcmp(words[first - 1], "--") != 0)
		return usage_error("usage: xensim run [--domains N] [--store NAME] -- CMD [ARGUMENT]...",
				   NULL);
	dir = make_run_dir();
	host = dir ? start_host(dir, &options) : -1;
	if (host > 0 && setenv("XENSIM_DIR", dir, 1) == 0) {
		if (!options.daemons || start_daemons(dir, options.domains, options.allows) == 0)
			status = start_run_command(words + first);
		/* CMD may have stopped it already. */
		if (access(dir, F_OK) == 0)
			pass_on(1, stop_words);
		waitpid(host, NULL, 0);
	} else if (dir) {
		rmdir(dir);
	}
	free(dir);
	return status;
}
