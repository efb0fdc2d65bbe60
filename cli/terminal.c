/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/terminal.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/payload.h"

/* Returns the size of the character that begins there, and the character, or 0: it is none. */
static size_t decode(const char *at, const char *end, uint32_t *character)
{
	uint8_t lead = (uint8_t)*at;
	size_t size = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;

	if (size > (size_t)(end - at) || !payload_is_utf8(at, size))
		return 0;
	*character = size == 1 ? lead : lead & (0x7fu >> size);
	for (size_t i = 1; i < size; i++)
		*character = *character << 6 | ((uint8_t)at[i] & 0x3f);
	return size;
}

static bool does_something(uint32_t character)
{
	static const struct {
		uint16_t first, last;
	} ranges[] = {
		{0, 0x1f},	  /* C0 */
		{0x7f, 0x9f},	  /* DEL, C1 */
		{0x61c, 0x61c},	  /* marks of direction */
		{0x200e, 0x200f}, /* likewise */
		{0x2028, 0x202e}, /* separators of lines and paragraphs; embeddings, overrides of direction */
		{0x2066, 0x2069}, /* isolates */
	};

	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
		if (character >= ranges[i].first && character <= ranges[i].last)
			return true;
	return false;
}

size_t terminal_escape(const char **at, const char *end, bool one_line, char *out, size_t room)
{
	size_t used = 0;

	while (*at < end) {
		char escaped[TERMINAL_GROWTH + 1];
		uint32_t character = 0;
		size_t size = decode(*at, end, &character), wanted = size;
		const char *from = *at;

		if (size == 0) {
			wanted = (size_t)snprintf(escaped, sizeof(escaped), "\\x%02x", (uint8_t) * *at);
			size = 1;
			from = escaped;
		} else if (does_something(character) && (one_line || (**at != '\n' && **at != '\t'))) {
			wanted = (size_t)snprintf(escaped, sizeof(escaped), "\\u%04x",
						  (unsigned)character & 0xffff);
			from = escaped;
		}
		if (wanted > room - used)
			break;
		memcpy(out + used, from, wanted);
		used += wanted;
		*at += size;
	}
	return used;
}

char *terminal_line(const char *text)
{
	size_t size = strlen(text), room = size * TERMINAL_GROWTH;
	char *line = malloc(room + 1);

	if (line)
		line[terminal_escape(&text, text + size, true, line, room)] = '\0';
	return line;
}
