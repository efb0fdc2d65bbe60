/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/ini_file.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BYTE_ORDER_MARK "\xEF\xBB\xBF"

static void __attribute__((format(printf, 4, 0)))
complain(struct ini_file *file, int r, unsigned line, const char *format, va_list args)
{
	char *what = NULL;

	if (file->failed)
		return;
	file->failed = r;
	file->noticed = file->line;
	if (vasprintf(&what, format, args) < 0)
		what = NULL;
	if (asprintf(file->error, "%s:%u: %s", file->path, line, what ? what : "bad line") < 0)
		*file->error = NULL;
	free(what);
}

int ini_file_complain(struct ini_file *file, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	complain(file, -EINVAL, file->line, format, args);
	va_end(args);
	return 0;
}

int ini_file_fail(struct ini_file *file, int r, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	complain(file, r, file->line, format, args);
	va_end(args);
	return 0;
}

int ini_file_out_of_memory(struct ini_file *file)
{
	return ini_file_fail(file, -ENOMEM, "out of memory");
}

int ini_file_complain_at(struct ini_file *file, unsigned line, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	complain(file, -EINVAL, line, format, args);
	va_end(args);
	return 0;
}

int ini_file_unreadable(const char *path, int r, char **error)
{
	const struct group *group = r == -EACCES ? getgrgid(getegid()) : NULL;
	int size;

	free(*error);
	if (group)
		size = asprintf(error, "%s: can't be read: %s; chgrp %s %s && chmod g+rX %s", path,
				strerror(-r), group->gr_name, path, path);
	else
		size = asprintf(error, "%s: can't be read: %s", path, strerror(-r));
	if (size < 0)
		*error = NULL;
	return r;
}

/* Reads the next line without its indent, and without the byte order mark in the first one. Returns 1: it is
 * in the buffer; 0: there are no more, or it has a mistake; or why the file can't be read. */
static int fetch_line(struct ini_file *file, char *buffer, int size)
{
	int length = 0, c = 0;
	bool has_nul = false, is_long = false;

	errno = 0;
	while (!has_nul && !is_long && c != '\n' && (c = getc(file->stream)) != EOF) {
		if (length == 0 && (c == ' ' || c == '\t'))
			continue;
		has_nul = c == '\0';
		is_long = length == size - 1;
		if (!has_nul && !is_long)
			buffer[length++] = (char)c;
	}
	if (ferror(file->stream)) /* a directory, for example */
		return errno ? -errno : -EIO;
	file->line += has_nul || length > 0;
	if (is_long)
		return ini_file_complain(file, "the line is too long: at most %d bytes", size - 2);
	if (has_nul)
		return ini_file_complain(file, "there is a NUL byte in the line");
	buffer[length] = '\0';
	if (length > 0 && file->line == 1 && !strncmp(buffer, BYTE_ORDER_MARK, 3))
		memmove(buffer, buffer + 3, (size_t)length - 2);
	return length > 0;
}

/* Looks whether a section begins. A bracket that isn't closed is reported by libinih. */
static void look_for_section(struct ini_file *file, const char *line)
{
	const char *end = *line == '[' ? strchr(line, ']') : NULL, *rest;
	size_t size;

	if (!end)
		return;
	size = (size_t)(end - line) - 1;
	file->begin_section(file, line + 1, size);
	rest = end + 1 + strspn(end + 1, " \t\r\n");
	if (*rest && (rest == end + 1 || (*rest != ';' && *rest != '#')))
		ini_file_complain(file, "behind [%.*s] there may only be a comment", (int)size, line + 1);
}

static char *ini_file_read_line(char *buffer, int size, void *userdata)
{
	struct ini_file *file = userdata;
	int r = file->failed ? 0 : fetch_line(file, buffer, size);

	if (r < 0)
		file->read_error = r;
	if (r <= 0)
		return NULL;
	look_for_section(file, buffer);
	return buffer;
}

int ini_file_parse(struct ini_file *file, ini_handler on_key, void *userdata)
{
	int r = ini_parse_stream(ini_file_read_line, file, on_key, userdata);

	if (!file->failed && file->read_error)
		return ini_file_unreadable(file->path, file->read_error, file->error);
	if (r < 0)
		return ini_file_unreadable(file->path, -ENOMEM, file->error);
	/* libinih continues after a line that it can't parse; what is found further down may only be its
	 * consequence. */
	if (r > 0 && (!file->failed || (unsigned)r < file->noticed)) {
		free(*file->error);
		*file->error = NULL;
		file->failed = 0;
		ini_file_complain_at(file, (unsigned)r,
				     "this is neither a [section] nor KEY = VALUE nor a comment");
	}
	return file->failed;
}

/* --- settings --------------------------------------------------------------------------------- */

struct keys_reading {
	struct ini_file file; /* first: ini_keys_begin_section() gets it */
	const struct ini_keys *keys;
	unsigned *lines;
	void *userdata;
};

/* Writes "[a], [b] and [c]". */
static const char *name_sections(const struct ini_keys *keys, char *out, size_t size)
{
	const char *last = keys->key(keys->count - 1).section, *before = "";
	size_t length = 0;

	for (unsigned i = 0; i < keys->count && length < size; i++) {
		const char *section = keys->key(i).section;

		if (!strcmp(section, before))
			continue;
		length += (size_t)snprintf(out + length, size - length, "%s[%s]",
					   !*before		   ? ""
					   : strcmp(section, last) ? ", "
								   : " and ",
					   section);
		before = section;
	}
	return out;
}

static void ini_keys_begin_section(struct ini_file *file, const char *name, size_t size)
{
	const struct ini_keys *keys = ((const struct keys_reading *)file)->keys;
	char sections[256];

	for (unsigned i = 0; i < keys->count; i++)
		if (strlen(keys->key(i).section) == size && !strncmp(keys->key(i).section, name, size))
			return;
	ini_file_complain(file, "unknown section [%.*s]; there are %s", (int)size, name,
			  name_sections(keys, sections, sizeof(sections)));
}

static int ini_keys_on_key(void *userdata, const char *section, const char *name, const char *value)
{
	struct keys_reading *reading = userdata;
	const struct ini_keys *keys = reading->keys;
	struct ini_file *file = &reading->file;
	char sections[256];
	unsigned i = 0;
	int r;

	if (!*section)
		return ini_file_complain(file, "%s stands before any section; there are %s", name,
					 name_sections(keys, sections, sizeof(sections)));
	while (i < keys->count && (strcmp(keys->key(i).section, section) || strcmp(keys->key(i).name, name)))
		i++;
	if (i == keys->count)
		return ini_file_complain(file, "unknown key %s in [%s]; %s lists all", name, section,
					 keys->manual);
	if (reading->lines[i])
		return ini_file_complain(file, "%s was set before, in line %u", name, reading->lines[i]);
	reading->lines[i] = file->line;
	r = keys->parse(reading->userdata, i, value);
	if (r == -EINVAL)
		return ini_file_complain(file, "%s = %s: must be %s", name, value, keys->key(i).allowed);
	if (r == -EAGAIN)
		return ini_file_fail(file, r, "%s = %s: can't be looked up now", name, value);
	return r < 0 ? ini_file_out_of_memory(file) : 1;
}

int ini_keys_read(struct ini_file *file, const struct ini_keys *keys, unsigned *lines, void *userdata)
{
	struct keys_reading reading = {*file, keys, lines, userdata};
	int r;

	reading.file.begin_section = ini_keys_begin_section;
	r = ini_file_parse(&reading.file, ini_keys_on_key, &reading);
	*file = reading.file;
	return r;
}

int ini_set_string(char **field, const char *value)
{
	char *copy = strdup(value);

	if (!copy)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

const char *ini_next_item(const char **list, size_t *size)
{
	const char *item = *list;

	if (!*item)
		return NULL;
	*size = strcspn(item, ",");
	*list = item + *size + (item[*size] == ',');
	while (*size && isspace((unsigned char)*item))
		item++, (*size)--;
	while (*size && isspace((unsigned char)item[*size - 1]))
		(*size)--;
	return item;
}
