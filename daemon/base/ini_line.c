/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/base/ini_line.h"

#include <errno.h>
#include <string.h>

#define BYTE_ORDER_MARK "\xEF\xBB\xBF"

int ini_line_read(FILE *file, char *buffer, int size, unsigned *line, char why[INI_LINE_WHY])
{
	int length = 0, c = 0;

	why[0] = '\0';
	errno = 0;
	while (c != '\n' && (c = getc(file)) != EOF) {
		if (c == '\0')
			snprintf(why, INI_LINE_WHY, "there is a NUL byte in the line");
		if (length == 0 && (c == ' ' || c == '\t'))
			continue;
		if (length == size - 1)
			snprintf(why, INI_LINE_WHY, "the line is too long: at most %d bytes", size - 2);
		if (why[0]) {
			++*line;
			return -EINVAL;
		}
		buffer[length++] = (char)c;
	}
	if (ferror(file)) /* a directory, for example */
		return errno ? -errno : -EIO;
	buffer[length] = '\0';
	if (length == 0)
		return 0;
	if (++*line == 1 && !strncmp(buffer, BYTE_ORDER_MARK, 3))
		memmove(buffer, buffer + 3, (size_t)length - 2);
	return 1;
}

const char *ini_line_section(const char *line, size_t *size)
{
	const char *end = *line == '[' ? strchr(line, ']') : NULL;

	if (!end)
		return NULL;
	*size = (size_t)(end - line) - 1;
	return line + 1;
}

bool ini_line_section_ends(const char *line)
{
	const char *end = strchr(line, ']'), *rest = end + 1 + strspn(end + 1, " \t\r\n");

	return !*rest || (rest > end + 1 && (*rest == ';' || *rest == '#'));
}
