/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/message_source.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/payload.h"

int message_argument(const char *command, const char *address, int argc, char **argv, const char **message)
{
	if (address && cli_check_address(command, address))
		return EXIT_USAGE;
	*message = optind < argc ? argv[optind++] : NULL;
	if (optind < argc)
		return cli_usage(command, "too many arguments: quote a message of several words");
	if (*message && strcmp(*message, "-") == 0)
		*message = NULL;
	return 0;
}

int message_read(const struct cli *cli, const char *path, const char *what, size_t most, char **data,
		 size_t *size)
{
	const char *file = path && strcmp(path, "-") != 0 ? path : NULL;
	int fd = file ? open(file, O_RDONLY | O_CLOEXEC) : STDIN_FILENO, r;
	struct stat info;

	*data = NULL;
	*size = 0;
	if (!file)
		cli_note_typing(cli, what);
	r = fd < 0 ? -errno : payload_read(fd, most, data, size);
	if (r == -EMSGSIZE && fstat(fd, &info) == 0 && (size_t)info.st_size > *size)
		*size = (size_t)info.st_size;
	if (r < 0 && r != -EMSGSIZE)
		cli_complain("%s: %s", file ? file : "standard input", strerror(-r));
	if (file && fd >= 0)
		close(fd);
	return r;
}
