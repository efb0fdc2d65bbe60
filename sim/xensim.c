/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * xensim(1): starts a simulated host, runs commands inside its domains, and passes all other commands to the
 * hypervisor process (hv_admin.c).
 */
#include "config.h"

#include "cli/nearest.h"
#include "sim/hv.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXIT_USAGE = 2, EXIT_OWN_FAILURE = 125, EXIT_CANNOT_RUN = 126, EXIT_NOT_FOUND = 127 };

/* What --help says of the commands, all in one list and each by itself. */
static const struct help {
	const char *name;
	const char *arguments;
	const char *summary;
	const char *details; /* lines of text */
} help_texts[] = {
	{"run", "[--domains N] -- CMD [ARGUMENT]...", "start a host, run CMD beside it, and stop it",
	 "CMD runs outside of the domains, and has the host in $XENSIM_DIR, where `xensim exec` and the other\n"
	 "commands find it. When CMD ends, or xensim itself, all that runs in the domains is killed. The host\n"
	 "is another one for each run, so many can run at once.\n"
	 "\n"
	 "  --domains N      with domain 0 and the guests 1 to N; 0 by default\n"
	 "\n"
	 "Exit status: that of CMD, 128 more than the signal that ended it; 125 if there is no host,\n"
	 "126 if CMD can't be run, 127 if there is none.\n"},
	{"start", "[--domains N] [--dir DIR]", "start a host; prints its directory",
	 "Returns when the host is ready. It runs until `xensim stop`.\n"
	 "\n"
	 "  --domains N      with domain 0 and the guests 1 to N; 0 by default\n"
	 "  --dir DIR        its directory: by default $XENSIM_DIR, else $XDG_RUNTIME_DIR/xensim,\n"
	 "                   else /tmp/xensim-UID\n"},
	{"exec", "DOMID -- CMD [ARGUMENT]...", "become CMD inside a domain",
	 "The exit status, signals and the terminal are CMD's own; 126: it can't be run, 127: there is none.\n"
	 "In a paused domain CMD waits until that goes on.\n"},
	{"create", "[--name NAME] [--type pvh|pv]", "make a guest; prints its domid",
	 "Domids are never reused. The name is \"dom\" and the domid by default, the type pvh.\n"},
	{"destroy", "DOMID", "end a domain as a crash or a power-off does",
	 "Its peers' channels hear nothing of it. It stays as a zombie while others map its pages.\n"},
	{"pause", "DOMID", "stop all processes of a domain", "Also those that are started later.\n"},
	{"unpause", "DOMID", "let a paused domain go on", ""},
	{"suspend", "DOMID [--notice MS] [--stale MS] [--seed N]", "save a domain, as xl save",
	 "  --notice MS      so long before the stop, control/shutdown says suspend (20); 0: it doesn't\n"
	 "  --stale MS       for so long after the stop the pages that it has granted are copied, while\n"
	 "                   others write there (0): what they write may be stale or torn in the image\n"
	 "  --seed N         decides when which page is copied\n"},
	{"resume", "DOMID [--unaware MS] [--clock MS] [--same-domid]",
	 "restore a domain, as xl restore; prints its new domid",
	 "DOMID is the old one, or the name.\n"
	 "\n"
	 "  --unaware MS     for so long XenStore answers nobody\n"
	 "  --clock MS       by so much the clocks that run while a domain is saved are ahead (200)\n"
	 "  --same-domid     as if it came from another host with its number: needs that nobody maps its old\n"
	 "                   pages any more\n"},
	{"checkpoint", "DOMID [--notice MS] [--stall MS] [--clock MS]",
	 "stop a domain, as xl save -c or a save that fails, and let it go on",
	 "  --notice MS      as of suspend\n"
	 "  --stall MS       for so long it is stopped (0)\n"
	 "  --clock MS       as of resume\n"},
	{"migrate", "DOMID [OPTION]...", "migrate a domain to this host; prints its new domid",
	 "  --notice MS      as of suspend\n"
	 "  --stale MS       for so long before the notice the pages that it has granted are copied, and again\n"
	 "                   after the stop only those that it has written, or others have unmapped (0)\n"
	 "  --seed N         decides when which page is copied\n"
	 "  --unaware MS, --clock MS    as of resume\n"},
	{"rename", "DOMID NAME", "give a domain another name", ""},
	{"list", "[--json]", "list the domains, what they use, and what their kernels complained about", ""},
	{"fault", "KIND DOMID [VALUE]", "let something go wrong",
	 "  stall-store DOMID on|off          XenStore answers no domain\n"
	 "  lose-store DOMID                  its programs' connections to XenStore are closed\n"
	 "  lose-event DOMID [N]              the next N notifications to each open handle get lost\n"
	 "  refuse-grant DOMID N|on|off       granting fails with ENOSPC\n"
	 "  refuse-map DOMID N|on|off         mapping fails with EINVAL\n"
	 "  grant-limit DOMID PAGES\n"
	 "  evtchn-limit DOMID PORTS\n"
	 "  corrupt-ring-index DOMID left-cons|left-prod|right-cons|right-prod=NUMBER\n"},
	{"xsm", "silo|dummy, or forbid|allow DOMID DOMID", "let Xen forbid domains to share memory",
	 "  silo             guests have grants and event channels with domain 0 alone, as Xen's XSM SILO\n"
	 "                   has it, which Debian's Xen for arm64 begins with\n"
	 "  dummy            no more: the default\n"
	 "  forbid|allow DOMID DOMID    for these two alone, as a policy of Flask may\n"
	 "\n"
	 "What is granted and bound already stays.\n"},
	{"stop", "", "kill all that runs in the host and remove its directory", ""},
};

static const struct help *find_help(const char *name)
{
	for (size_t i = 0; i < sizeof(help_texts) / sizeof(help_texts[0]); i++)
		if (strcmp(help_texts[i].name, name) == 0)
			return &help_texts[i];
	return NULL;
}

static void print_help(void)
{
	printf("Usage: xensim COMMAND\nSimulated Xen hosts on plain Linux.\n\n");
	for (size_t i = 0; i < sizeof(help_texts) / sizeof(help_texts[0]); i++) {
		const struct help *help = &help_texts[i];
		int width = printf("  %s%s%s", help->name, help->arguments[0] ? " " : "", help->arguments);

		/* What is too long for its column has the summary below. */
		printf("%*s%s\n", width < 38 ? 38 - width : 0,
		       width < 38 ? "" : "\n                                      ", help->summary);
	}
	printf("\n`xensim COMMAND --help` says more. DOMID is a number or a name. The host is the one in $XENSIM_DIR,\n"
	       "else the user's default one. Exit status: 0 done, 1 error, 2 usage; of exec and run: the command's own.\n");
}

static void print_help_of(const struct help *help)
{
	printf("Usage: xensim %s%s%s\n%c%s.\n%s%s", help->name, help->arguments[0] ? " " : "",
	       help->arguments, toupper((unsigned char)help->summary[0]), help->summary + 1,
	       help->details[0] ? "\n" : "", help->details);
}

static int usage_error(const char *message, const char *what)
{
	fprintf(stderr, "xensim: %s%s%s: see xensim --help\n", message, what ? " " : "", what ? what : "");
	return EXIT_USAGE;
}

/* Says what is unknown, and what may be meant. */
static int unknown(const char *what, const char *typed, const char *meant)
{
	fprintf(stderr, "xensim: unknown %s '%s'%s%s%s: see xensim --help\n", what, typed,
		meant ? "; did you mean '" : "", meant ? meant : "", meant ? "'?" : "");
	return EXIT_USAGE;
}

static int unknown_command(const char *name)
{
	/* What xl(1) and others call it. */
	static const struct {
		const char *name, *meant;
	} others[] = {
		{"ls", "list"},	     {"info", "list"},	    {"status", "list"},	     {"ps", "list"},
		{"save", "suspend"}, {"restore", "resume"}, {"shutdown", "destroy"}, {"kill", "destroy"},
		{"console", "exec"}, {"shell", "exec"},	    {"new", "create"},	     {"up", "start"},
		{"down", "stop"},
	};
	struct nearest nearest = nearest_to(name);

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (strcmp(name, others[i].name) == 0)
			return unknown("command", name, others[i].meant);
	for (size_t i = 0; i < sizeof(help_texts) / sizeof(help_texts[0]); i++)
		nearest_try(&nearest, help_texts[i].name);
	return unknown("command", name, nearest.meant);
}

/* Takes the next option that a help text names, its -- with it. Returns false if there is none. */
static bool next_option(const char **text, char option[32])
{
	const char *at = strstr(*text, "--");
	size_t size = at ? 2 + strspn(at + 2, "abcdefghijklmnopqrstuvwxyz-") : 0;

	if (!at)
		return false;
	*text = at + size;
	snprintf(option, 32, "%.*s", (int)size, at);
	return true;
}

/* Looks whether the help of the command names the option, which may be shortened. Copies into `meant` the one that may be meant;
 * "": none. */
static bool has_option(const struct help *help, const char *typed, char meant[32])
{
	const char *texts[] = {help->arguments, help->details};
	struct nearest nearest = nearest_to(typed);
	char option[32];

	meant[0] = '\0';
	for (size_t i = 0; i < 2; i++)
		while (next_option(&texts[i], option)) {
			const char *before = nearest.meant;

			if (strncmp(option, typed, strlen(typed)) == 0)
				return true;
			nearest_try(&nearest, option);
			if (nearest.meant != before)
				memcpy(meant, option, 32);
			nearest.meant = before || nearest.meant ? meant : NULL;
		}
	return false;
}

/* Complains about the first option that the command doesn't have and that is near one. What isn't is the command's to refuse. */
static int check_options(const struct help *help, int count, char **words)
{
	char typed[32], meant[32];

	for (int i = 2; i < count && strcmp(words[i], "--") != 0; i++) {
		if (strncmp(words[i], "--", 2) != 0)
			continue;
		snprintf(typed, sizeof(typed), "%.*s", (int)strcspn(words[i], "="), words[i]);
		if (!has_option(help, typed, meant) && meant[0])
			return unknown("option", typed, meant);
	}
	return EXIT_SUCCESS;
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

/* Daemons are where an ordinary user's PATH doesn't lead, and in a simulated domain everybody is root. */
static int add_daemons_to_path(void)
{
	const char *path = getenv("PATH");
	char *longer;
	int r;

	if (asprintf(&longer, "%s:" SBINDIR ":/usr/local/sbin:/usr/sbin:/sbin",
		     path && *path ? path : "/usr/local/bin:/usr/bin:/bin") < 0)
		return -ENOMEM;
	r = setenv("PATH", longer, 1) < 0 ? -ENOMEM : 0;
	free(longer);
	return r;
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
	if (set_preload() < 0 || add_daemons_to_path() < 0)
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

struct host_options {
	unsigned domains;
	const char *dir;
	bool ends_with_us; /* also if this process is killed */
	pid_t parent;	   /* this process */
};

static int run_host(const char *dir, const struct host_options *options, int ready_fd)
{
	int null;

	/* It ends as if it were stopped. */
	if (options->ends_with_us && (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0 || getppid() != options->parent))
		return EXIT_FAILURE;
	if (setsid() < 0 || chdir("/") < 0)
		return EXIT_FAILURE;
	umask(022);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
		return EXIT_FAILURE;
	return hv_run(dir, options->domains, ready_fd) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
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
		return -1;
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
			fprintf(stderr, "xensim: cannot fork: %s\n", strerror(errno));
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
	static const struct option known[] = {{"domains", required_argument, NULL, 'n'},
					      {"dir", required_argument, NULL, 'd'},
					      {NULL, 0, NULL, 0}};
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
		} else if (option == 'd' && with_dir) {
			options->dir = optarg;
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

static int command_start(int count, char **words)
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
		fprintf(stderr, "xensim: cannot create %s: %s\n", dir, strerror(errno));
		free(dir);
		return EXIT_FAILURE;
	}
	/* Programs that change their working directory use it as well. */
	path = dir ? realpath(dir, NULL) : NULL;
	if (!path) {
		fprintf(stderr, "xensim: cannot use %s: %s\n", dir ? dir : "the directory", strerror(errno));
	} else if (strlen(path) > DIR_MAX) {
		fprintf(stderr,
			"xensim: %s is too long for the paths of sockets in it: choose a --dir of at most %zu bytes\n",
			path, DIR_MAX);
		if (made)
			rmdir(path);
	} else if (start_host(path, &options) > 0) {
		printf("%s\n", path);
		status = EXIT_SUCCESS;
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
static int run_command(char **words)
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
		execvp(words[0], words);
		fprintf(stderr, "xensim: cannot run %s: %s\n", words[0], strerror(errno));
		_exit(errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN);
	}
	if (pid < 0) {
		fprintf(stderr, "xensim: cannot fork: %s\n", strerror(errno));
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

/* Makes a directory for one run, with a path short enough for the sockets in it. */
static char *make_run_dir(void)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	char *path;

	if (asprintf(&path, "%s/xensim-XXXXXX",
		     runtime && runtime[0] == '/' && strlen(runtime) < 40 ? runtime : "/tmp") < 0)
		return NULL;
	if (mkdtemp(path) && chmod(path, 0755) == 0)
		return path;
	fprintf(stderr, "xensim: cannot create %s: %s\n", path, strerror(errno));
	free(path);
	return NULL;
}

static int command_run(int count, char **words)
{
	struct host_options options = {.ends_with_us = true, .parent = getpid()};
	int first = parse_host_options(count, words, false, &options), status = EXIT_OWN_FAILURE;
	char stop[] = "stop", *stop_words[] = {stop, NULL}, *dir;
	pid_t host;

	if (first < 0)
		return -first;
	/* getopt has taken the --. */
	if (first == count || strcmp(words[first - 1], "--") != 0)
		return usage_error("usage: xensim run [--domains N] -- CMD [ARGUMENT]...", NULL);
	dir = make_run_dir();
	host = dir ? start_host(dir, &options) : -1;
	if (host > 0 && setenv("XENSIM_DIR", dir, 1) == 0) {
		status = run_command(words + first);
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

int main(int argc, char **argv)
{
	const struct help *help = argc > 1 ? find_help(argv[1]) : NULL;

	if (argc < 2)
		return usage_error("a command is missing", NULL);
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		print_help();
		return EXIT_SUCCESS;
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("xensim %s\n", PACKAGE_VERSION);
		return EXIT_SUCCESS;
	}
	if (help && argc > 2 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0)) {
		print_help_of(help);
		return EXIT_SUCCESS;
	}
	if (!help)
		return unknown_command(argv[1]);
	if (check_options(help, argc, argv) != EXIT_SUCCESS)
		return EXIT_USAGE;
	if (strcmp(argv[1], "start") == 0)
		return command_start(argc - 1, argv + 1);
	if (strcmp(argv[1], "run") == 0)
		return command_run(argc - 1, argv + 1);
	if (strcmp(argv[1], "exec") == 0)
		return command_exec(argc - 1, argv + 1);
	if (strcmp(argv[1], "stop") == 0)
		return command_stop(argc - 1, argv + 1);
	return pass_on(argc - 1, argv + 1);
}
