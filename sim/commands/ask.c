/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Finds the host, and lets its hypervisor process carry out a command (toolstack/admin.c). */
#include "config.h"

#include "sim/commands/command.h"
#include "sim/hypervisor/hv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

char *host_dir(void)
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

/* Whether the host is of this xensim. If not, says so. */
static bool is_of_our_version(const char *dir)
{
	char *path, version[64] = "another version\n";
	FILE *file;

	if (asprintf(&path, "%s/" HV_VERSION, dir) < 0)
		return true;
	file = fopen(path, "re");
	free(path);
	if (file && !fgets(version, sizeof(version), file))
		version[0] = 0;
	if (file)
		fclose(file);
	version[strcspn(version, "\n")] = 0;
	if (strcmp(version, PACKAGE_VERSION) == 0)
		return true;
	fprintf(stderr,
		"xensim: the host in %s is of %s, and this is xensim " PACKAGE_VERSION
		": stop it, and start another one\n",
		dir, version);
	return false;
}

int ask_host(int count, char **words, char **text)
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
	if (strcmp(words[0], "stop") != 0 && !is_of_our_version(dir)) {
		free(dir);
		close(fd);
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

int pass_on(int count, char **words)
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
