/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/base/ini_file.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/ini_line.h"

int ini_file_complain(struct ini_file *file, unsigned line, const char *format, ...)
{
	char *what = NULL;
	va_list args;

	if (file->failed)
		return 0;
	file->failed = true;
	file->noticed = file->line;
	va_start(args, format);
	if (vasprintf(&what, format, args) < 0)
		what = NULL;
	va_end(args);
	if (asprintf(file->error, "%s:%u: %s", file->path, line, what ? what : "bad line") < 0)
		*file->error = NULL;
	free(what);
	return 0;
}

int ini_file_unreadable(const char *path, int r, char **error)
{
	free(*error);
	if (asprintf(error, "%s: can't be read: %s", path, strerror(-r)) < 0)
		*error = NULL;
	return r;
}

static char *read_line(char *buffer, int size, void *userdata)
{
	struct ini_file *file = userdata;
	char why[INI_LINE_WHY];
	int r = file->failed ? 0 : ini_line_read(file->stream, buffer, size, &file->line, why);

	if (r == -EINVAL)
		ini_file_complain(file, file->line, "%s", why);
	else if (r < 0)
		file->read_error = r;
	if (r <= 0)
		return NULL;
	if (*buffer == '[')
		file->begin_section(file, buffer);
	return buffer;
}

int ini_file_parse(struct ini_file *file, ini_handler on_key, void *userdata)
{
	int r = ini_parse_stream(read_line, file, on_key, userdata);

	if (!file->failed && file->read_error)
		return ini_file_unreadable(file->path, file->read_error, file->error);
	if (r < 0)
		return ini_file_unreadable(file->path, -ENOMEM, file->error);
	/* libinih continues after a line that it can't parse; what is found further down may only be its
	 * consequence. */
	if (r > 0 && (!file->failed || (unsigned)r < file->noticed)) {
		free(*file->error);
		*file->error = NULL;
		file->failed = false;
		ini_file_complain(file, (unsigned)r, "this is neither a [section] nor KEY = VALUE");
	}
	return file->failed ? -EINVAL : 0;
}
