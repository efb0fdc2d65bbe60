/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <config.h>

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include <event2/event.h>

#include "daemon/activation/activation_read.h"
#include "daemon/activation/units.h"
#include "base/config.h"
#include "base/image.h"
#include "daemon/main/daemon.h"
#include "daemon/main/renewal.h"
#include "daemon/main/startup.h"
#include "base/log.h"
#include "base/notify.h"
#include "daemon/policy/host_policy.h"
#include "daemon/policy/policy.h"
#include "daemon/xen/store.h"
#include "daemon/xen/vchan.h"

#define ANSWER_S 5 /* of XenStore: half of what a daemon waits that is to be renewed */

enum {
	EXIT_OK = 0,
	EXIT_ERROR = 1,
	EXIT_USAGE = 2,
	EXIT_NO_XEN = 3, /* the unit doesn't restart the daemon after this one and EXIT_USAGE */
};

static const struct inherited nothing_inherited = {-1, -1, -1, -1, false, -1, 0};

struct daemon_arguments {
	const char *config;
	const char *socket;
	const char *unit; /* may it be started? */
	bool check_config;
	int ready_fd;
	bool has_log_target;
	enum log_target log_target;
	bool check_takeover, restarted;
	struct inherited inherited;
	const char *program;
};

static void xenmsgd_print_help(void)
{
	printf("Usage: xenmsgd [OPTION]...\n"
	       "The xenmsg daemon: carries messages between the programs of this Xen domain and those of others.\n"
	       "Runs in the foreground and logs on stderr.\n\n"
	       "      --config FILE    read FILE instead of " CONFIG_DEFAULT_PATH
	       "\n"
	       "      --socket PATH    listen there, whatever the configuration says\n"
	       "      --check-config   only check the configuration, the policy and what is started on demand\n"
	       "      --check-takeover only check that, and whether it could take over from the daemon that runs\n"
	       "      --may-start UNIT only tell by the exit status whether it may start this unit of systemd\n"
	       "      --log-to TARGET  log to stderr, syslog or journal, whatever the configuration says\n"
	       "      --ready-fd N     write a line to descriptor N, and close it, once it is ready\n"
	       "  -h, --help           print this and exit\n"
	       "      --version        print the version and exit\n\n"
	       "See xenmsgd(8) and xenmsgd.conf(5).\n");
}

/* Returns the exit status, or a negative number to go on. */
static int xenmsgd_parse_arguments(int argc, char **argv, struct daemon_arguments *arguments)
{
	static const struct option options[] = {
		{"config", required_argument, NULL, 'c'},
		{"socket", required_argument, NULL, 's'},
		{"check-config", no_argument, NULL, 'k'},
		{"log-to", required_argument, NULL, 'l'},
		{"ready-fd", required_argument, NULL, 'r'},
		{"may-start", required_argument, NULL, 'm'},
		{"check-takeover", no_argument, NULL, 'K'},
		{"restarted", no_argument, NULL, 'R'},
		{"take-over", required_argument, NULL, 'T'},
		{"program", required_argument, NULL, 'P'},
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
		case 's':
			arguments->socket = optarg;
			break;
		case 'k':
			arguments->check_config = true;
			break;
		case 'l':
			arguments->has_log_target = true;
			if (log_target_parse(optarg, &arguments->log_target) == 0)
				break;
			fprintf(stderr, "xenmsgd: --log-to %s: must be stderr, syslog or journal\n", optarg);
			return EXIT_USAGE;
		case 'r': /* its number may be another descriptor's by now */
			if (arguments->check_takeover || arguments->inherited.programs >= 0)
				break;
			if (notify_parse_fd(optarg, &arguments->ready_fd) == 0)
				break;
			fprintf(stderr,
				"xenmsgd: --ready-fd %s: must be a descriptor that is open for writing\n",
				optarg);
			return EXIT_USAGE;
		case 'K':
			arguments->check_takeover = true;
			break;
		case 'R': /* not for people either: a daemon that is stopped says it */
			arguments->restarted = true;
			break;
		case 'T': /* not for people: a daemon that hands over says it */
			if (inherited_parse(optarg, &arguments->inherited))
				break;
			fprintf(stderr, "xenmsgd: --take-over is for a daemon that hands over\n");
			return EXIT_USAGE;
		case 'P': /* nor for people: where the next program is, if this one isn't it */
			arguments->program = optarg;
			break;
		case 'm':
			arguments->unit = optarg;
			break;
		case 'h':
			xenmsgd_print_help();
			return EXIT_OK;
		case 'V':
			printf("xenmsgd " PACKAGE_VERSION "\n");
			return EXIT_OK;
		default:
			fprintf(stderr, "Try 'xenmsgd --help'.\n");
			return EXIT_USAGE;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "xenmsgd: unexpected argument '%s'\nTry 'xenmsgd --help'.\n", argv[optind]);
		return EXIT_USAGE;
	}
	return -1;
}

/* By what it is known, without a daemon, whether a file is bad or another try may succeed; -EINTR: asked to
 * stop. */
static int exit_status_of(int r)
{
	return r == 0 || r == -EINTR ? EXIT_OK : startup_error(r, 0) < 0 ? EXIT_ERROR : EXIT_USAGE;
}

/* Checks only whether what is started on demand can be read. */
static int check_activation(const struct config *config)
{
	struct activation_settings *list;
	char *error;
	int r = activation_read(&list, config->activation_dir, config->uid, &error);

	if (r < 0)
		log_error("activation: %s", error ? error : strerror(-r));
	free(error);
	activation_settings_free(list);
	return exit_status_of(r);
}

/* Checks only whether the policy can be read. */
static int check_policy(const struct config *config)
{
	struct policy *policy = NULL;
	struct policy *host = NULL;
	char *error = NULL;
	int r = policy_load(&policy, config->policy_dir, &error);

	if (r < 0)
		log_error("policy: %s", error ? error : strerror(-r));
	if (r == 0) {
		r = host_policy_load(&host, config->host_policy_dir, &error);
		if (r < 0)
			log_error("policy: %s", error ? error : strerror(-r));
	}
	free(error);
	policy_free(policy);
	policy_free(host);
	return exit_status_of(r);
}

struct answer {
	struct event_base *base;
	bool is_there;
};

static void on_answer(void *userdata, int error, const char *value, size_t size)
{
	struct answer *answer = userdata;

	answer->is_there = error != -ENOTCONN;
	event_base_loopbreak(answer->base);
}

/* A device that can be opened is no answer: a daemon that has taken over waits for its domid. */
static int hear_xenstore(struct event_base *base, struct store *store)
{
	const struct timeval limit = {.tv_sec = ANSWER_S};
	struct answer answer = {.base = base};
	int r = store_read(store, "domid", on_answer, &answer, NULL);

	if (r == 0 && event_base_loopexit(base, &limit) == 0)
		event_base_dispatch(base);
	return r < 0 || answer.is_there ? r : -ETIMEDOUT;
}

/* Checks whether this program could begin now: it can open Xen's devices and reach XenStore. */
static int check_start(void)
{
	struct event_base *base = event_base_new();
	struct vchan_host *host = NULL;
	struct store *store = NULL;
	const char *what = "memory";
	int r = base ? vchan_host_new(&host, base, &what) : -ENOMEM;

	if (r == 0) {
		what = "XenStore";
		r = store_new(&store, base);
	}
	if (r == 0)
		r = hear_xenstore(base, store);
	if (r == -ETIMEDOUT)
		log_error("XenStore doesn't answer within %d s", ANSWER_S);
	else if (r < 0)
		log_error("can't open %s: %s", what, strerror(-r));
	store_free(store);
	vchan_host_free(host);
	if (base)
		event_base_free(base);
	return r < 0 ? EXIT_NO_XEN : EXIT_OK;
}

static int main_check(const struct config *config, bool takes_over)
{
	int r = check_policy(config);

	if (r == EXIT_OK)
		r = check_activation(config);
	if (r == EXIT_OK && takes_over)
		r = check_start();
	if (r == EXIT_OK && takes_over)
		printf("xenmsgd " PACKAGE_VERSION "\n" RENEWAL_FORMAT "%u\n", image_format);
	return r;
}

struct loading {
	struct config *config;
	const struct daemon_arguments *arguments;
};

/* Returns -EBADMSG for a bad file, else as startup_error(). */
static int xenmsgd_load(void *userdata)
{
	const struct loading *loading = userdata;
	struct config *config = loading->config;
	const char *socket = loading->arguments->socket;
	char *error = NULL;
	int r = config_init(config);

	if (r == 0)
		r = config_load(config, loading->arguments->config, &error);
	if (!socket)
		socket = getenv("XENMSG_SOCKET");
	if (r == 0 && socket)
		r = config_set_socket(config, socket, &error);
	if (r == 0 && !loading->arguments->unit)
		r = config_find_users(config, &error);
	if (r == 0)
		return 0;
	log_error("%s", error ? error : strerror(-r));
	free(error);
	config_free(config);
	return startup_error(r, -EBADMSG);
}

/* Returns the arguments as a person or a service manager gave them, without those of a daemon that has handed
 * over, which are the first: the end of these, where they are. */
static char **arguments_before(int argc, char **argv)
{
	int from = 1;

	if (argc > from + 1 && !strcmp(argv[from], "--take-over"))
		from += 2;
	if (argc > from + 1 && !strcmp(argv[from], "--program"))
		from += 2;
	argv[from - 1] = argv[0];
	return argv + from - 1;
}

int main(int argc, char **argv)
{
	struct daemon_arguments arguments = {.ready_fd = -1, .inherited = nothing_inherited};
	struct daemon_program program = {0};
	struct daemon *daemon = NULL;
	struct config config;
	int r = xenmsgd_parse_arguments(argc, argv, &arguments);

	if (r >= 0)
		return r;
	log_set_target(arguments.log_target, NULL); /* also for what is wrong with the configuration */
	r = startup_with_good_files(!arguments.check_takeover && startup_takes_over(&arguments.inherited),
				    xenmsgd_load, &(struct loading){&config, &arguments});
	if (r < 0)
		return exit_status_of(r);
	if (arguments.unit) {
		r = activation_names_unit(config.activation_dir, arguments.unit) ? EXIT_OK : EXIT_ERROR;
		config_free(&config);
		return r;
	}
	if (arguments.check_takeover && arguments.restarted && !units_service_is_restarted()) {
		printf("the service is stopped\n");
		config_free(&config);
		return EXIT_ERROR;
	}
	if (arguments.check_config || arguments.check_takeover) {
		r = main_check(&config, arguments.check_takeover);
		config_free(&config);
		return r;
	}
	log_set_level(config.log_level);
	if (!arguments.has_log_target)
		log_set_target(config.log_target, NULL);
	config.ready_fd = arguments.ready_fd;
	program.argv = arguments_before(argc, argv);
	/* Not /proc/self/exe: an upgrade removes that. */
	program.path = arguments.program ? arguments.program : (const char *)getauxval(AT_EXECFN);
	program.inherited = arguments.inherited;
	r = daemon_new(&daemon, &config, &program);
	while (r == 0 && (r = daemon_run(daemon)) == 0 && daemon_hands_over(daemon))
		daemon_hand_over(daemon, &program);
	if (r == 0 && daemon_is_restarted(daemon) && daemon_store(daemon) == 0)
		return EXIT_OK;
	daemon_free(daemon);
	config_free(&config);
	if (r == -ENODEV)
		return EXIT_NO_XEN;
	if (r == -EBADMSG) /* the policy, or the sockets; what was wrong has been logged */
		return EXIT_USAGE;
	if (r == -EINTR) /* asked to stop while it started */
		return EXIT_OK;
	return r < 0 ? EXIT_ERROR : EXIT_OK;
}
