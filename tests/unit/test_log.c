/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The log waits for nobody: what isn't read is lost, and counted. Where it would wait, the alarm ends the
 * test. */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/log_limit.h"

#define LINES	3000u
#define SECONDS 30u

/* Both ends of what stderr is to be, the reader's first. */
static void make_pipe(int ends[2])
{
	assert_int_equal(pipe(ends), 0);
	assert_true(fcntl(ends[1], F_SETPIPE_SZ, 16384) >= 16384);
}

static void make_socket(int ends[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
}

static void put_lines(void)
{
	for (unsigned i = 0; i < LINES; i++)
		log_info(
			"line %u, of a length that fills what takes it some time before all of them are "
			"there",
			i);
}

/* What lies there to be read. */
static char *read_all(int fd)
{
	size_t room = 1u << 20, size = 0;
	char *text = calloc(1, room);
	ssize_t got;

	assert_non_null(text);
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	while ((got = read(fd, text + size, room - 1 - size)) > 0)
		size += (size_t)got;
	return text;
}

static unsigned count_lines(const char *text)
{
	unsigned count = 0;

	for (; (text = strchr(text, '\n')) != NULL; text++)
		count++;
	return count;
}

/* Where the line begins behind what stands before it: to the journal a priority, else the time and the level.
 * NULL: something else stands there. */
static const char *line_of(const char *text, unsigned level, bool journal)
{
	static const char *const names[] = {[4] = " warning: ", [6] = " info: "};
	static const char form[] = "dddd-dd-ddTdd:dd:dd.dddZ";
	char prefix[8];

	if (journal) {
		snprintf(prefix, sizeof(prefix), "<%u>", level);
		return strncmp(text, prefix, 3) == 0 ? text + 3 : NULL;
	}
	for (const char *c = form; *c; c++, text++)
		if (*c == 'd' ? *text < '0' || *text > '9' : *text != *c)
			return NULL;
	return strncmp(text, names[level], strlen(names[level])) == 0 ? text + strlen(names[level]) : NULL;
}

static bool is_line(const char *text, unsigned level, bool journal, const char *begin)
{
	const char *line = line_of(text, level, journal);

	return line && strncmp(line, begin, strlen(begin)) == 0;
}

/* As the service manager tells a service that the journal is its stderr. */
static void call_it_journal(int fd)
{
	struct stat status;
	char text[64];

	assert_int_equal(fstat(fd, &status), 0);
	snprintf(text, sizeof(text), "%llu:%llu", (unsigned long long)status.st_dev,
		 (unsigned long long)status.st_ino);
	setenv("JOURNAL_STREAM", text, 1);
}

/* In a process of its own, whose stderr it is. 0, or what was wrong. */
static int log_to(int ends[2], bool as_nobody, bool journal)
{
	unsigned long lost = 0;
	unsigned came;
	const char *told;
	char *text;

	if (journal)
		call_it_journal(ends[1]);
	alarm(SECONDS);
	if (as_nobody && (fchmod(ends[1], 0) < 0 || setgid(65534) < 0 || setuid(65534) < 0))
		return 77;
	if (dup2(ends[1], STDERR_FILENO) < 0)
		return 1;
	put_lines();
	if (fcntl(STDERR_FILENO, F_GETFL) & O_NONBLOCK)
		return 2; /* that isn't ours to set */
	text = read_all(ends[0]);
	came = count_lines(text);
	if (came == 0 || came >= LINES || !is_line(text, 6, journal, "line 0,") ||
	    text[strlen(text) - 1] != '\n')
		return 3;
	free(text);
	log_info("there is room again");
	text = read_all(ends[0]);
	told = strchr(text, '\n') ? line_of(text, 4, journal) : NULL;
	if (!told || sscanf(told, "log: %lu lines are lost", &lost) != 1 || lost != LINES - came)
		return 4;
	if (!is_line(strchr(told, '\n') + 1, 6, journal, "there is room again\n"))
		return 5;
	free(text);
	log_info("and now it goes on");
	text = read_all(ends[0]);
	return is_line(text, 6, journal, "and now it goes on\n") && count_lines(text) == 1 ? 0 : 6;
}

static void nothing_waits(void (*make)(int ends[2]), bool as_nobody, bool journal)
{
	int ends[2], status = 0;
	pid_t child;

	make(ends);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(log_to(ends, as_nobody, journal));
	close(ends[0]);
	close(ends[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

TEST(full_pipe_holds_nobody)
{
	nothing_waits(make_pipe, false, false);
}

TEST(full_pipe_of_another_user_holds_nobody)
{
	if (geteuid() != 0)
		skip();
	nothing_waits(make_pipe, true, false);
}

TEST(stalled_journal_holds_nobody)
{
	nothing_waits(make_socket, false, true);
}

/* Who reads what programs send to syslog or the journal. */
static int listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	assert_true(fd >= 0 && strlen(path) < sizeof(address.sun_path));
	strcpy(address.sun_path, path);
	unlink(path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* `form` has our number at %d and our name at %s. */
static void expect_datagram(int fd, const char *form)
{
	char expected[256], text[256] = "", number[16];
	const char *name = program_invocation_short_name;
	size_t size = 0;

	snprintf(number, sizeof(number), "%d", (int)getpid());
	for (; *form; form++) {
		const char *part = *form != '%' ? NULL : *++form == 's' ? name : number;

		size += (size_t)(part ? snprintf(expected + size, sizeof(expected) - size, "%s", part)
				      : snprintf(expected + size, sizeof(expected) - size, "%c", *form));
	}

	assert_true(recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT) > 0);
	assert_string_equal(text, expected);
}

static void goes_to_a_socket(enum log_target target, const char *info, const char *warning)
{
	char path[] = "/tmp/xenmsg-log-XXXXXX", lost[64], *told;
	int fd, ends[2], before = dup(STDERR_FILENO);
	unsigned came = 0;

	alarm(SECONDS);
	assert_true(before >= 0 && mkstemp(path) >= 0);
	make_pipe(ends);
	assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
	fd = listen_at(path);
	log_set_target(target, path);
	log_info("one line\nof ours");
	expect_datagram(fd, info);
	close(fd); /* it is restarted */
	fd = listen_at(path);
	log_warning("for who came back");
	expect_datagram(fd, warning);
	put_lines(); /* more than the socket takes */
	for (char text[256]; recv(fd, text, sizeof(text), MSG_DONTWAIT) > 0;)
		came++;
	assert_in_range(came, 1, LINES - 1);
	log_info("there is room again");
	snprintf(lost, sizeof(lost), "log: %u lines are lost", LINES - came);
	told = read_all(fd);
	assert_non_null(strstr(told, lost));
	free(told);
	told = read_all(ends[0]);
	assert_string_equal(told, "");
	free(told);
	close(fd);
	unlink(path);
	log_info("nobody listens");
	told = read_all(ends[0]);
	assert_true(is_line(told, 6, false, "nobody listens\n"));
	free(told);
	log_set_target(LOG_TO_STDERR, NULL);
	assert_true(dup2(before, STDERR_FILENO) >= 0);
	close(before);
	close(ends[0]);
	close(ends[1]);
	alarm(0);
}

TEST(syslog_gets_lines_and_holds_nobody)
{
	goes_to_a_socket(LOG_TO_SYSLOG, "<30>%s[%d]: one line?of ours", "<28>%s[%d]: for who came back");
}

TEST(journal_gets_lines_in_its_protocol_and_holds_nobody)
{
	goes_to_a_socket(LOG_TO_JOURNAL,
			 "PRIORITY=6\nSYSLOG_IDENTIFIER=%s\nSYSLOG_PID=%d\nMESSAGE=one line?of ours\n",
			 "PRIORITY=4\nSYSLOG_IDENTIFIER=%s\nSYSLOG_PID=%d\nMESSAGE=for who came back\n");
}

TEST(target_has_one_of_three_names)
{
	static const char *const names[] = {"stderr", "syslog", "journal"};
	enum log_target target;

	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(log_target_parse(names[i], &target), 0);
		assert_int_equal(target, i);
	}
	assert_int_equal(log_target_parse("", &target), -EINVAL);
	assert_int_equal(log_target_parse("Syslog", &target), -EINVAL);
}

/* Returns what is in a file that had `first`, and to which stderr led meanwhile. */
static char *lines_in_a_file(const char *first, void (*put)(void))
{
	char path[] = "/tmp/xenmsg-log-XXXXXX", *text;
	int fd = mkstemp(path), before = dup(STDERR_FILENO);

	assert_true(fd >= 0 && before >= 0);
	call_it_journal(before); /* and so not the file */
	unlink(path);
	assert_int_equal(write(fd, first, strlen(first)), strlen(first));
	assert_true(dup2(fd, STDERR_FILENO) >= 0);
	put();
	assert_true(dup2(before, STDERR_FILENO) >= 0);
	close(before);
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	text = read_all(fd);
	close(fd);
	return text;
}

/* A file that others write, too, is neither overwritten nor emptied. */
TEST(file_gets_all_lines_behind_what_is_there)
{
	char *text = lines_in_a_file("first\n", put_lines);

	assert_memory_equal(text, "first\n", 6);
	assert_true(is_line(text + 6, 6, false, "line 0,"));
	assert_int_equal(count_lines(text), 1 + LINES);
	free(text);
}

static void make_attempts(void)
{
	for (unsigned i = 0; i < 4; i++) {
		log_error("bad");
		log_skip_repeats(true);
		log_warning("waiting");
	}
	log_error("worse");
	log_error("bad");
	log_skip_repeats(false);
	log_error("bad");
	log_error("bad");
}

TEST(error_of_attempts_is_told_again_when_it_changes)
{
	char *text = lines_in_a_file("", make_attempts);
	unsigned bad = 0;

	for (const char *at = text; (at = strstr(at, "bad")); at++)
		bad++;
	assert_int_equal(bad, 4);
	assert_int_equal(count_lines(text), 4 + 4 + 1); /* and what is no error */
	free(text);
}

static const char *only_one_host(const void *userdata, uint32_t number)
{
	return number == 65536 ? userdata : "";
}

TEST(sources_are_named_as_people_know_them)
{
	static const struct {
		struct log_source source;
		const char *text;
	} cases[] = {
		{{LOG_OURSELVES, 0}, "this daemon"}, {{LOG_UID, 65536}, "uid 65536"},
		{{LOG_DOMAIN, 7}, "domain 7"},	     {{LOG_HOST, 65536}, "host hostb"},
		{{LOG_HOST, 65537}, "another host"},
	};
	char text[96];

	log_name_hosts(only_one_host, "hostb");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		log_source_text(&cases[i].source, text, sizeof(text));
		assert_string_equal(text, cases[i].text);
	}
	log_name_hosts(NULL, NULL);
}
