/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * xensim(1): starts a simulated host, runs commands inside its domains, and passes all other commands to the
 * hypervisor process (toolstack/admin.c).
 */
#include "config.h"

#include "sim/commands/command.h"

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

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

/* The word behind the command names a file of ours, and the host's working directory is another one. */
static int pass_on_with_file(int count, char **words)
{
	char path[PATH_MAX], here[PATH_MAX / 2];

	if (count > 1 && words[1][0] != '/' && strcmp(words[1], "off") != 0) {
		if (!getcwd(here, sizeof(here)) ||
		    snprintf(path, sizeof(path), "%s/%s", here, words[1]) >= (int)sizeof(path)) {
			fprintf(stderr, "xensim: %s: the path of %s is too long\n", words[0], words[1]);
			return EXIT_FAILURE;
		}
		words[1] = path;
	}
	return pass_on(count, words);
}

static const struct {
	const char *name;
	int (*run)(int count, char **words);
} own_commands[] = {
	{"start", command_start},      {"run", command_run},	 {"exec", command_exec},
	{"stop", command_stop},	       {"trace", command_trace}, {"compare", command_compare},
	{"record", pass_on_with_file},
};

static bool is_help(const char *word)
{
	return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

int main(int argc, char **argv)
{
	const struct help *help = argc > 1 ? find_help(argv[1]) : NULL;

	if (argc < 2)
		return usage_error("a command is missing", NULL);
	if (is_help(argv[1])) {
		print_help();
		return EXIT_SUCCESS;
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("xensim %s\n", PACKAGE_VERSION);
		return EXIT_SUCCESS;
	}
	if (help && argc > 2 && is_help(argv[2])) {
		print_help_of(help);
		return EXIT_SUCCESS;
	}
	if (!help)
		return unknown_command(argv[1]);
	if (check_options(help, argc, argv) != EXIT_SUCCESS)
		return EXIT_USAGE;
	for (size_t i = 0; i < sizeof(own_commands) / sizeof(own_commands[0]); i++)
		if (strcmp(argv[1], own_commands[i].name) == 0)
			return own_commands[i].run(argc - 1, argv + 1);
	return pass_on(argc - 1, argv + 1);
}
