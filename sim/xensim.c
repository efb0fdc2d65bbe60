/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * xensim(1): starts a simulated host, runs commands inside its domains, and passes all other commands to the
 * hypervisor process (hv_admin.c).
 */
#include "config.h"

#include "sim/hv.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXIT_USAGE = 2, EXIT_CANNOT_RUN = 126, EXIT_NOT_FOUND = 127 };

static const char usage_text[] =
	"Usage: xensim COMMAND\n"
	"Simulated Xen hosts on plain Linux.\n\n"
	"  start [--domains N] [--dir DIR]\n"
	"                                    start a host with domain 0 and guests 1 to N; prints its "
	"directory\n"
	"  exec DOMID -- CMD [ARGUMENT]...   run CMD inside a domain\n"
	"  create [--name NAME] [--type pvh|pv]   prints the new domid\n"
	"  destroy DOMID                     as a crash: its peers' channels hear nothing of it\n"
	"  pause DOMID, unpause DOMID\n"
	"  suspend DOMID [--stale MS] [--seed N]        save: what others wrote may be MS old\n"
	"  resume DOMID [--unaware MS] [--clock MS]     restore; prints the new domid\n"
	"  rename DOMID NAME\n"
	"  list [--json]                     domains, what they use, and what their kernels complained "
	"about\n"
	"  fault KIND DOMID [VALUE]          stall-store on|off, lose-event N, refuse-grant N|on|off,\n"
	"                                    refuse-map N|on|off, grant-limit N, evtchn-limit N,\n"
	"                                    corrupt-ring-index left-prod=N\n"
	"  stop                              kills what runs in the host and removes its directory\n\n"
	"DOMID is a number or a name. The host is the one in $XENSIM_DIR, else the user's default one.\n"
	"Exit status: 0 done, 1 error, 2 usage; of exec: the command's own, 127 if there is no such "
	"command.\n";

static int usage_error(const char *message, const char *what)
{
	fprintf(stderr, "xensim: %s%s%s: see xensim --help\n", message, what ? " " : "", what ? what : "");
	return EXIT_USAGE;
}

/* Returns the host's directory, which the caller frees. */
static char *host_dir(void)
{
	const char *dir = getenv("XENSIM_DIR"), *runtime = getenv("XDG_RUNTIME_DIR");
	char *path;
	int r;

	if (dir && dir[0])
		return strdup(dir);
	if (runtime && runtime[0])
		r = asprintf(&path, "%s/xensim", runtime);
	else
		r = asprintf(&path, "/tmp/xensim-%u", (unsigned)getuid());
	return r < 0 ? NULL : path;
}

static int connect_host(const char *dir)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int length = snprintf(address.sun_path, sizeof(address.sun_path), "%s/xensim.sock", dir);
	int fd;

	if (length < 0 || (size_t)length >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -errno;
}

/* Sends the words. Returns the answer's exit status, and its text in *text, which the caller frees. */
static int ask_host(int count, char **words, char **text)
{
	char *dir = host_dir(), buffer[4096];
	FILE *out;
	size_t size;
	ssize_t n;
	int fd;
	int status = EXIT_FAILURE;

	*text = NULL;
	fd = dir ? connect_host(dir) : -ENOMEM;
	if (fd < 0) {
		fprintf(stderr,
			"xensim: no host runs in %s (%s): start one with `xensim start`, or set XENSIM_DIR\n",
			dir ? dir : "?", strerror(-fd));
		free(dir);
		return EXIT_FAILURE;
	}
	free(dir);
	for (int i = 0; i < count; i++)
		if (send(fd, words[i], strlen(words[i]) + 1, MSG_NOSIGNAL) < 0)
			break;
	shutdown(fd, SHUT_WR);
	out = open_memstream(text, &size);
	while (out && ((n = read(fd, buffer, sizeof(buffer))) > 0 || (n < 0 && errno == EINTR)))
		if (n > 0)
			fwrite(buffer, 1, (size_t)n, out);
	if (out)
		fclose(out);
	close(fd);
	if (*text && strchr(*text, '\n')) {
		char *end = strchr(*text, '\n') + 1;

		status = atoi(*text);
		memmove(*text, end, strlen(end) + 1);
	} else {
		fprintf(stderr, "xensim: the host ended before it answered\n");
		free(*text);
		*text = NULL;
	}
	return status;
}

static int pass_on(int count, char **words)
{
	char *text;
	int status = ask_host(count, words, &text);

	if (text && status == 0)
		fputs(text, stdout);
	else if (text)
		fprintf(stderr, "xensim: %s\n", text);
	free(text);
	return status;
}

/* Stops the host, and waits until it has gone, and its directory with it. */
static int command_stop(int count, char **words)
{
	char *dir = host_dir();
	int status = pass_on(count, words);
	int lock = dir && status == 0 ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	/* The host holds a lock on its directory as long as it lives. */
	if (lock >= 0) {
		flock(lock, LOCK_SH);
		close(lock);
	}
	free(dir);
	return status;
}

/* Returns the library's path: beside this program when it runs from its build tree, else where it was
 * installed. */
static char *library_path(void)
{
	const char *path = getenv("XENSIM_LIBRARY");
	char program[4096], *built;
	ssize_t n;

	if (path)
		return strdup(path);
	n = readlink("/proc/self/exe", program, sizeof(program) - 1);
	if (n > 0) {
		program[n] = 0;
		*strrchr(program, '/') = 0;
		if (asprintf(&built, "%s/.libs/libxensim.so", program) >= 0) {
			if (access(built, R_OK) == 0)
				return built;
			free(built);
		}
	}
	return strdup(PKGLIBDIR "/libxensim.so");
}

static int set_preload(void)
{
	char *library = library_path(), *value;
	const char *first = getenv("XENSIM_PRELOAD_FIRST"), *others = getenv("LD_PRELOAD");
	int r = 0;

	if (!library || access(library, R_OK) < 0) {
		fprintf(stderr, "xensim: cannot read %s: install xensim, or set XENSIM_LIBRARY\n",
			library ? library : "libxensim.so");
		free(library);
		return -ENOENT;
	}
	/* A sanitizer's run-time must come before everything else. */
	if (asprintf(&value, "%s%s%s%s%s", first ? first : "", first ? ":" : "", library, others ? ":" : "",
		     others ? others : "") < 0)
		value = NULL;
	if (!value || setenv("LD_PRELOAD", value, 1) < 0)
		r = -ENOMEM;
	free(value);
	free(library);
	return r;
}

static int command_exec(int count, char **words)
{
	char *text, *line, *next;
	bool stop = false;
	int status;

	if (count < 4 || strcmp(words[2], "--") != 0)
		return usage_error("usage: xensim exec DOMID -- CMD [ARGUMENT]...", NULL);
	status = ask_host(2, words, &text);
	if (status != 0) {
		if (text)
			fprintf(stderr, "xensim: %s\n", text);
		free(text);
		return status;
	}
	for (line = text; *line; line = next) {
		next = strchrnul(line, '\n');
		if (*next)
			*next++ = 0;
		if (strcmp(line, "STOP") == 0)
			stop = true;
		else if (strchr(line, '='))
			putenv(line);
	}
	if (set_preload() < 0)
		return EXIT_CANNOT_RUN;
	/* A paused domain runs nothing. */
	if (stop)
		raise(SIGSTOP);
	execvp(words[3], words + 3);
	fprintf(stderr, "xensim: cannot run %s: %s\n", words[3], strerror(errno));
	return errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
}

/* Takes over a directory that a dead host left; the lock says whether a host runs there. */
static int claim_dir(const char *dir)
{
	struct stat status;
	int fd;

	if (mkdir(dir, 0755) < 0 && errno != EEXIST) {
		fprintf(stderr, "xensim: cannot create %s: %s\n", dir, strerror(errno));
		return -1;
	}
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &status) < 0 || status.st_uid != geteuid()) {
		fprintf(stderr, "xensim: cannot use %s: %s\n", dir,
			fd < 0 ? strerror(errno) : "it is another user's");
		goto fail;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		fprintf(stderr, "xensim: a host runs in %s already: stop it, or choose another --dir\n", dir);
		goto fail;
	}
	return fd;
fail:
	if (fd >= 0)
		close(fd);
	return -1;
}

static int run_host(const char *dir, unsigned domains, int ready_fd)
{
	int null;

	if (setsid() < 0 || chdir("/") < 0)
		return EXIT_FAILURE;
	umask(022);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
		return EXIT_FAILURE;
	return hv_run(dir, domains, ready_fd) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int start_host(const char *dir, unsigned domains)
{
	char command[4200], byte;
	int ready[2], lock = claim_dir(dir);
	pid_t pid;

	if (lock < 0)
		return EXIT_FAILURE;
	/* Remove only what an earlier host left, never anything else in the directory. */
	snprintf(command, sizeof(command), "%s/xensim.sock", dir);
	if (access(command, F_OK) == 0)
		unlink(command);
	if (pipe2(ready, O_CLOEXEC) < 0)
		return EXIT_FAILURE;
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(ready[0]);
		_exit(run_host(dir, domains, ready[1]));
	}
	close(ready[1]);
	close(lock);
	if (pid < 0 || read(ready[0], &byte, 1) != 1) {
		if (pid > 0)
			waitpid(pid, NULL, 0);
		else
			fprintf(stderr, "xensim: cannot fork: %s\n", strerror(errno));
		return EXIT_FAILURE;
	}
	printf("%s\n", dir);
	return EXIT_SUCCESS;
}

/* The longest directory with room for the longest socket path in it. */
#define DIR_MAX (sizeof(((struct sockaddr_un *)NULL)->sun_path) - sizeof("/dom-32751/xenstored.sock"))

static int command_start(int count, char **words)
{
	static const struct option options[] = {{"domains", required_argument, NULL, 'n'},
						{"dir", required_argument, NULL, 'd'},
						{NULL, 0, NULL, 0}};
	char *dir = NULL, *path = NULL, *end;
	unsigned long domains = 0;
	char name[] = "xensim start";
	bool made;
	int option, status;

	/* getopt's messages begin with it. */
	words[0] = name;
	while ((option = getopt_long(count, words, "", options, NULL)) != -1) {
		switch (option) {
		case 'n':
			domains = strtoul(optarg, &end, 10);
			if (!strlen(optarg) || *end || domains > 1000 || strspn(optarg, "0123456789") == 0)
				return usage_error("start: --domains takes a number up to 1000, not", optarg);
			break;
		case 'd':
			dir = optarg;
			break;
		default:
			return EXIT_USAGE;
		}
	}
	if (optind < count)
		return usage_error("start: unexpected argument", words[optind]);
	dir = dir ? strdup(dir) : host_dir();
	made = dir && mkdir(dir, 0755) == 0;
	if (dir && !made && errno != EEXIST) {
		fprintf(stderr, "xensim: cannot create %s: %s\n", dir, strerror(errno));
		free(dir);
		return EXIT_FAILURE;
	}
	/* Programs that change their working directory use it as well. */
	path = dir ? realpath(dir, NULL) : NULL;
	if (!path) {
		fprintf(stderr, "xensim: cannot use %s: %s\n", dir ? dir : "the directory", strerror(errno));
		status = EXIT_FAILURE;
	} else if (strlen(path) > DIR_MAX) {
		fprintf(stderr,
			"xensim: %s is too long for the paths of sockets in it: choose a --dir of at most %zu bytes\n",
			path, DIR_MAX);
		if (made)
			rmdir(path);
		status = EXIT_FAILURE;
	} else {
		status = start_host(path, (unsigned)domains);
	}
	free(path);
	free(dir);
	return status;
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return usage_error("a command is missing", NULL);
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		fputs(usage_text, stdout);
		return EXIT_SUCCESS;
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("xensim %s\n", PACKAGE_VERSION);
		return EXIT_SUCCESS;
	}
	if (strcmp(argv[1], "start") == 0)
		return command_start(argc - 1, argv + 1);
	if (strcmp(argv[1], "exec") == 0)
		return command_exec(argc - 1, argv + 1);
	if (strcmp(argv[1], "stop") == 0)
		return command_stop(argc - 1, argv + 1);
	return pass_on(argc - 1, argv + 1);
}
