/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <config.h>

#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/descriptors.h"
#include "base/log.h"
#include "base/notify.h"
#include "gateway/gateway.h"
#include "gateway/nats_options.h"
#include "gateway/settings.h"

#define HEAP_KEPT (4 * 1024 * 1024)

struct gateway_arguments {
	const char *config;
	bool check_config;
	int ready_fd;
	bool has_log_target;
	enum log_target log_target;
};

static void print_help(void)
{
	printf("Usage: xenmsg-gateway [OPTION]...\n"
	       "Leads the xenmsg daemon of this Xen host to those of other hosts, over NATS.\n"
	       "Runs in the foreground and logs on stderr.\n\n"
	       "      --config FILE    read FILE instead of " SETTINGS_DEFAULT_PATH
	       "\n"
	       "      --check-config   only check the configuration\n"
	       "      --log-to TARGET  log to stderr, syslog or journal, whatever the configuration says\n"
	       "      --ready-fd N     write a line to descriptor N, and close it, once it is ready\n"
	       "  -h, --help           print this and exit\n"
	       "      --version        print the version and exit\n\n"
	       "See xenmsg-gateway(8).\n");
}

/* Returns the exit status, or a negative number to go on. */
static int parse_arguments(int argc, char **argv, struct gateway_arguments *arguments)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"check-config", no_argument, NULL, 'k'},
		{"log-to", required_argument, NULL, 'l'},
		{"ready-fd", required_argument, NULL, 'r'},
		{"help", no_argument, NULL, 'h'},
		{"version", no_argument, NULL, 'V'},
		{NULL, 0, NULL, 0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (option) {
		case 'c':
			arguments->config = optarg;
			break;
		case 'k':
			arguments->check_config = true;
			break;
		case 'l':
			arguments->has_log_target = true;
			if (log_target_parse(optarg, &arguments->log_target) == 0)
				break;
			fprintf(stderr, "xenmsg-gateway: --log-to %s: must be stderr, syslog or journal\n",
				optarg);
			return GATEWAY_EXIT_USAGE;
		case 'r':
			if (notify_parse_fd(optarg, &arguments->ready_fd) == 0)
				break;
			fprintf(stderr,
				"xenmsg-gateway: --ready-fd %s: must be a descriptor that is open for writing\n",
				optarg);
			return GATEWAY_EXIT_USAGE;
		case 'h':
			print_help();
			return GATEWAY_EXIT_OK;
		case 'V':
			printf("xenmsg-gateway " PACKAGE_VERSION "\n");
			return GATEWAY_EXIT_OK;
		default:
			fprintf(stderr, "Try 'xenmsg-gateway --help'.\n");
			return GATEWAY_EXIT_USAGE;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "xenmsg-gateway: unexpected argument '%s'\nTry 'xenmsg-gateway --help'.\n",
			argv[optind]);
		return GATEWAY_EXIT_USAGE;
	}
	return -1;
}

static int main_load(struct settings *settings, const char *path)
{
	char *error = NULL;
	int r = settings_init(settings);

	if (r == 0)
		r = settings_load(settings, path, &error);
	if (r < 0)
		log_error("%s", error ? error : strerror(-r));
	free(error);
	return r;
}

static enum gateway_exit check_files(const struct settings *settings)
{
	char why[NATS_WHY_SIZE];

	if (nats_options_check(settings, why))
		return GATEWAY_EXIT_OK;
	log_error("%s", why);
	return GATEWAY_EXIT_USAGE;
}

static enum gateway_exit main_run(const struct settings *settings)
{
	struct gateway *gateway;
	enum gateway_exit status;
	int r = gateway_new(&gateway, settings);

	if (r < 0) {
		log_error("can't be started: %s", strerror(-r));
		return GATEWAY_EXIT_ERROR;
	}
	status = gateway_run(gateway);
	gateway_free(gateway);
	return status;
}

int main(int argc, char **argv)
{
	struct gateway_arguments arguments = {.config = SETTINGS_DEFAULT_PATH, .ready_fd = -1};
	struct settings settings = {0};
	int status = parse_arguments(argc, argv, &arguments);

	if (status >= 0)
		return status;
#ifdef M_TRIM_THRESHOLD
	/* Messages come and go all the time: what one was in isn't given back to the kernel before the next
	 * one. */
	mallopt(M_TRIM_THRESHOLD, HEAP_KEPT);
#endif
	descriptors_pool();			    /* three for each host that is talked to */
	signal(SIGPIPE, SIG_IGN);		    /* OpenSSL writes without MSG_NOSIGNAL */
	log_set_target(arguments.log_target, NULL); /* also for what is wrong with the configuration */
	if (main_load(&settings, arguments.config) < 0)
		status = GATEWAY_EXIT_USAGE;
	else if (arguments.check_config)
		status = check_files(&settings);
	else {
		log_set_level(settings.log_level);
		if (!arguments.has_log_target)
			log_set_target(settings.log_target, NULL);
		settings.ready_fd = arguments.ready_fd;
		status = main_run(&settings);
	}
	settings_free(&settings);
	return status;
}
