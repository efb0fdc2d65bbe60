/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Calls Xen's libraries for tests: takes one command a line on stdin, and answers each with one line, "ok"
 * and the results, or "error ERRNO". Objects are named by the number that the answer to their making gave. It
 * links nothing of this project.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/conformance/check_xen.h"

void result(long value)
{
	if (value < 0)
		printf("error %d\n", errno);
	else
		printf("ok %ld\n", value);
}

void until_it_fails(struct tool *tool, bool (*attempt)(struct tool *tool, long i), long limit)
{
	for (long i = 0; i < limit; i++) {
		errno = 0;
		if (!attempt(tool, i)) {
			result(-1);
			return;
		}
	}
	result(0);
}

static void run_line(struct tool *tool, char *line)
{
	static const struct tool_command *const tables[] = {memory_commands, event_commands, store_commands,
							    domain_commands, raw_commands};
	char *save = NULL;

	tool->words = 0;
	for (char *word = strtok_r(line, " \n", &save); word && tool->words < 8;
	     word = strtok_r(NULL, " \n", &save)) {
		snprintf(tool->word[tool->words], sizeof(tool->word[0]), "%s", word);
		tool->number[tool->words++] = atol(word);
	}
	errno = 0;
	for (size_t i = 0; tool->words && i < sizeof(tables) / sizeof(tables[0]); i++)
		for (const struct tool_command *command = tables[i]; command->name; command++)
			if (strcmp(command->name, tool->word[0]) == 0 && command->words == tool->words) {
				command->run(tool);
				return;
			}
	printf("error usage\n");
}

int main(void)
{
	struct tool *tool = calloc(1, sizeof(*tool));
	char line[4096];

	if (!tool)
		return 1;
	tool->gntshr = xengntshr_open(NULL, 0);
	tool->gnttab = xengnttab_open(NULL, 0);
	tool->xs = xs_open(0);
	if (!tool->gntshr || !tool->gnttab || !tool->xs) {
		printf("error %d\n", errno);
		return 1;
	}
	printf("ok 0\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		run_line(tool, line);
		fflush(stdout);
	}
	for (unsigned i = 0; i < tool->evtchn_count; i++)
		xenevtchn_close(tool->evtchn[i]);
	xengntshr_close(tool->gntshr);
	xengnttab_close(tool->gnttab);
	xs_close(tool->xs);
	if (tool->xc)
		xc_interface_close(tool->xc);
	free(tool);
	return 0;
}
