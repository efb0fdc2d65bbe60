/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Gives a domain a device, and takes it away, as libxl does: the nodes of both halves in one transaction,
 * with its permissions, the wait for the backend's state, and the hotplug script with its environment. The
 * drivers are the programs under test. It speaks to XenStore as a program of domain 0.
 */
#include "config.h"

#include "sim/device.h"
#include "sim/device_store.h"

#include <errno.h> /* before xs_wire.h, which makes its table of errors only then */
#include <stdint.h>
#include <xen/io/xs_wire.h>
#include <xen/io/xenbus.h>

#include <getopt.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define STATE_MS     10000 /* libxl's: for a backend to be there, or to close */
#define SCRIPT_MS    40000
#define MAX_PATH     STORE_CLIENT_PATH
#define FIRST_VBD    51712 /* xvda */
#define EXIT_FAILED  1
#define EXIT_MISUSED 2

struct split_device {
	unsigned domid, backend_domid, devid;
	const char *type;
	const char *script;
	char frontend[MAX_PATH], backend[MAX_PATH], libxl[MAX_PATH];
};

static int complain(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fprintf(stderr, "xensim: ");
	vfprintf(stderr, format, arguments);
	fprintf(stderr, "\n");
	va_end(arguments);
	return EXIT_FAILED;
}

/* ---- the device
 * ------------------------------------------------------------------------------------------------ */

static int open_store(struct store_client *store, const char *dir)
{
	int r = store_client_open(store, dir);

	return r == 0 ? 0
		      : complain("no host runs in %s (%s): start one with `xensim start`, or set XENSIM_DIR",
				 dir, strerror(-r));
}

static bool parse_number(const char *text, unsigned *number)
{
	char *rest;
	unsigned long value = strtoul(text, &rest, 10);

	*number = (unsigned)value;
	return *text >= '0' && *text <= '9' && !*rest && value < 1ul << 31;
}

/* A domain by its number or name. */
static int find_domain(const struct store_client *store, const char *word, unsigned *domid)
{
	char names[STORE_CLIENT_TEXT], value[STORE_CLIENT_TEXT], path[64];
	int length = store_client_ask(store, XS_DIRECTORY, "/local/domain", sizeof("/local/domain"), names);

	for (const char *name = names; length > 0 && name < names + length; name += strlen(name) + 1) {
		snprintf(path, sizeof(path), "/local/domain/%.10s", name);
		if (strcmp(name, word) == 0 ||
		    (store_client_read(store, path, "name", value) >= 0 && strcmp(value, word) == 0))
			return parse_number(name, domid) ? 0 : -EINVAL;
	}
	return -ENOENT;
}

static void set_paths(struct split_device *device)
{
	snprintf(device->frontend, MAX_PATH, "/local/domain/%u/device/%s/%u", device->domid, device->type,
		 device->devid);
	snprintf(device->backend, MAX_PATH, "/local/domain/%u/backend/%s/%u/%u", device->backend_domid,
		 device->type, device->domid, device->devid);
	snprintf(device->libxl, MAX_PATH, "/libxl/%u/device/%s/%u", device->domid, device->type,
		 device->devid);
}

/* The first number above those that are taken. */
static unsigned next_devid(const struct store_client *store, const struct split_device *device)
{
	unsigned next = strcmp(device->type, "vbd") == 0 ? FIRST_VBD : 0, number;
	char names[STORE_CLIENT_TEXT], path[MAX_PATH];
	int length = snprintf(path, sizeof(path), "/libxl/%u/device/%s", device->domid, device->type);

	length = store_client_ask(store, XS_DIRECTORY, path, (size_t)length + 1, names);
	for (const char *name = names; length > 0 && name < names + length; name += strlen(name) + 1)
		if (parse_number(name, &number) && number >= next)
			next = strcmp(device->type, "vbd") == 0 ? number + 16 : number + 1;
	return next;
}

/* The nodes that the words name: those of the backend, which the toolstack keeps a copy of, front: and ro:,
 * which the frontend may not change. */
static int write_words(const struct store_client *store, const struct split_device *device, char **words)
{
	int r = 0;

	for (; *words && r == 0; words++) {
		bool front = strncmp(*words, "front:", 6) == 0, read_only = strncmp(*words, "ro:", 3) == 0;
		const char *key = *words + (front ? 6 : read_only ? 3 : 0), *value = strchr(key, '=');
		char name[MAX_PATH], path[2 * MAX_PATH];

		snprintf(name, sizeof(name), "%.*s", (int)(value - key), key);
		r = store_client_write(store, front || read_only ? device->frontend : device->backend, name,
				       value + 1);
		if (r == 0 && !front && !read_only)
			r = store_client_write(store, device->libxl, name, value + 1);
		snprintf(path, sizeof(path), "%s/%s", device->frontend, name);
		if (r == 0 && read_only)
			r = store_client_set_perms(store, path, device->backend_domid, device->domid);
	}
	return r;
}

/* A half's directory, in which only that domain writes and the other one reads. */
static int make_half(const struct store_client *store, const char *path, unsigned owner, unsigned reader)
{
	int r = store_client_remove(store, path);

	if (r == 0)
		r = store_client_ask_of(store, XS_MKDIR, path, NULL, 0);
	return r == 0 ? store_client_set_perms(store, path, owner, reader) : r;
}

static int write_device(const struct store_client *store, const struct split_device *device, char **words)
{
	char domid[16], backend_domid[16], initialising[16], value[STORE_CLIENT_TEXT];
	const struct {
		const char *directory, *name, *value;
	} nodes[] = {
		{device->libxl, "frontend", device->frontend},
		{device->libxl, "backend", device->backend},
		{device->frontend, "backend", device->backend},
		{device->frontend, "backend-id", backend_domid},
		{device->frontend, "state", initialising},
		{device->backend, "frontend", device->frontend},
		{device->backend, "frontend-id", domid},
		{device->backend, "online", "1"},
		{device->backend, "state", initialising},
		{device->libxl, "frontend-id", domid},
		{device->libxl, "online", "1"},
		{device->libxl, "state", initialising},
		{device->backend, "script", device->script},
		{device->libxl, "script", device->script},
	};
	int r;

	snprintf(domid, sizeof(domid), "%u", device->domid);
	snprintf(backend_domid, sizeof(backend_domid), "%u", device->backend_domid);
	snprintf(initialising, sizeof(initialising), "%d", XenbusStateInitialising);
	if (store_client_read(store, device->libxl, "", value) >= 0)
		return -EEXIST;
	r = make_half(store, device->frontend, device->domid, device->backend_domid);
	if (r == 0)
		r = make_half(store, device->backend, device->backend_domid, device->domid);
	for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]) && r == 0; i++)
		if (nodes[i].value)
			r = store_client_write(store, nodes[i].directory, nodes[i].name, nodes[i].value);
	return r == 0 ? write_words(store, device, words) : r;
}

/* Removes a node, and above it what is then empty. */
static int clean_up(const struct store_client *store, const char *node)
{
	char path[MAX_PATH], text[STORE_CLIENT_TEXT], *slash;
	int r = store_client_remove(store, node);

	memccpy(path, node, '\0', sizeof(path)); /* it is one of ours */
	while (r == 0 && (slash = strrchr(path, '/')) && slash != path) {
		*slash = '\0';
		if (store_client_read(store, path, "", text) != 0 ||
		    store_client_ask(store, XS_DIRECTORY, path, strlen(path) + 1, text) != 0)
			break;
		r = store_client_remove(store, path);
	}
	return r;
}

/* ---- hotplug scripts
 * ------------------------------------------------------------------------------------------- */

static void set_script_environment(const struct split_device *device)
{
	char path[MAX_PATH], vif[64];

	snprintf(path, sizeof(path), "backend/%s/%u/%u", device->type, device->domid, device->devid);
	snprintf(vif, sizeof(vif), "vif%u.%u", device->domid, device->devid);
	setenv("script", device->script, 1);
	setenv("XENBUS_TYPE", device->type, 1);
	setenv("XENBUS_PATH", path, 1);
	setenv("XENBUS_BASE_PATH", "backend", 1);
	if (strcmp(device->type, "vif") == 0) {
		setenv("netdev", "", 1);
		setenv("vif", vif, 1);
	}
}

/* Runs it in domain 0, to its end. Returns an exit status. */
static int run_script(const struct store_client *store, const struct split_device *device, bool add)
{
	const bool vif = strcmp(device->type, "vif") == 0;
	const char *action = vif ? add ? "online" : "offline" : add ? "add" : "remove";
	const char *words[] = {
		"xensim", "exec", "0", "--", device->script, action, vif ? "type_if=vif" : NULL, NULL};
	char reason[STORE_CLIENT_TEXT];
	struct pollfd pollfd = {.events = POLLIN};
	int status = 0;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		set_script_environment(device);
		if (!freopen("/dev/null", "r", stdin) || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
			_exit(126);
		execv("/proc/self/exe", (char *const *)words);
		_exit(126);
	}
	if (pid < 0)
		return complain("cannot fork: %s", strerror(errno));
	pollfd.fd = pidfd_open(pid, 0);
	if (pollfd.fd < 0 || poll(&pollfd, 1, SCRIPT_MS) == 0)
		kill(pid, SIGKILL);
	if (pollfd.fd >= 0)
		close(pollfd.fd);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (status == 0)
		return 0;
	if (store_client_read(store, device->backend, "hotplug-error", reason) < 0)
		snprintf(reason, sizeof(reason),
			 WIFSIGNALED(status) ? "it was ended by signal %d" : "exit status %d",
			 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	return complain("%s %s has failed: %s", device->script, action, reason);
}

/* ---- the commands
 * ---------------------------------------------------------------------------------------------- */

struct device_options {
	const char *backend, *devid, *script;
	unsigned timeout_ms;
	bool force;
};

/* Reads the options. Returns the index of the first word that is none, or -EXIT_MISUSED. */
static int parse_options(int count, char **words, struct device_options *options)
{
	static const struct option known[] = {
		{"backend", required_argument, NULL, 'b'}, {"devid", required_argument, NULL, 'd'},
		{"script", required_argument, NULL, 's'},  {"timeout", required_argument, NULL, 't'},
		{"force", no_argument, NULL, 'f'},	   {NULL, 0, NULL, 0},
	};
	char own_name[32], *name = words[0];
	int option;

	*options = (struct device_options){.timeout_ms = STATE_MS};
	snprintf(own_name, sizeof(own_name), "xensim %s", name);
	words[0] = own_name; /* getopt's messages begin with it */
	while ((option = getopt_long(count, words, "", known, NULL)) != -1) {
		if (option == 'b')
			options->backend = optarg;
		else if (option == 'd')
			options->devid = optarg;
		else if (option == 's')
			options->script = optarg;
		else if (option == 'f')
			options->force = true;
		else if (option != 't' || !parse_number(optarg, &options->timeout_ms)) {
			if (option == 't')
				complain("%s: --timeout takes milliseconds, not %s", name, optarg);
			words[0] = name;
			return -EXIT_MISUSED;
		}
	}
	words[0] = name;
	return optind;
}

static bool is_name(const char *type)
{
	return *type && strspn(type, "abcdefghijklmnopqrstuvwxyz0123456789_-") == strlen(type) &&
	       strlen(type) < 32;
}

static int misused(const char *what, const char *word)
{
	complain("%s %s: see xensim --help", what, word ? word : "");
	return EXIT_MISUSED;
}

static int find_device(const struct store_client *store, const char *domain, const char *backend,
		       struct split_device *device)
{
	if (find_domain(store, domain, &device->domid) < 0 || device->domid == 0)
		return complain(strcmp(domain, "0") ? "there is no domain %s" : "domain %s has no devices",
				domain);
	if (backend && find_domain(store, backend, &device->backend_domid) < 0)
		return complain("there is no domain %s", backend);
	return 0;
}

static int attach(struct store_client *store, struct split_device *device,
		  const struct device_options *options, char **words)
{
	int r;

	do {
		r = store_client_begin(store);
		if (r == 0)
			r = store_client_end(store, write_device(store, device, words));
	} while (r == -EAGAIN);
	if (r == -EEXIST)
		return complain("domain %u has %s %u already", device->domid, device->type, device->devid);
	if (r < 0)
		return complain("the nodes of %s %u cannot be written: %s", device->type, device->devid,
				strerror(-r));
	printf("%s\n", device->backend);
	fflush(stdout);
	if (options->timeout_ms == 0)
		return 0;
	r = store_client_wait_for_state(store, device->backend, XenbusStateInitWait, options->timeout_ms);
	if (r < 0)
		return complain("the backend of %s hasn't come to state %d (InitWait): %s", device->backend,
				XenbusStateInitWait, strerror(-r));
	return device->script && device->backend_domid == 0 ? run_script(store, device, true) : 0;
}

int device_attach(const char *dir, int count, char **words)
{
	struct split_device device = {0};
	struct device_options options;
	struct store_client store;
	int first = parse_options(count, words, &options), status;

	if (first < 0)
		return -first;
	if (count - first < 2 || options.force)
		return misused("usage: xensim attach DOMID TYPE [OPTION]... [KEY=VALUE]...", NULL);
	device.type = words[first + 1];
	device.script = options.script;
	if (!is_name(device.type))
		return misused("attach: no type of device:", device.type);
	for (int i = first + 2; i < count; i++)
		if (!strchr(words[i], '=') || strchr(words[i], '=') == words[i])
			return misused("attach: not KEY=VALUE:", words[i]);
	if (options.devid && !parse_number(options.devid, &device.devid))
		return misused("attach: --devid takes a number, not", options.devid);
	status = open_store(&store, dir);
	if (status == 0)
		status = find_device(&store, words[first], options.backend, &device);
	if (status == 0) {
		if (!options.devid)
			device.devid = next_devid(&store, &device);
		set_paths(&device);
		status = attach(&store, &device, &options, words + first + 2);
	}
	close(store.fd);
	return status;
}

/* Lets the backend close. Returns 0 when it has been told, 1 if there is none any more, or a negative
 * errno. */
static int begin_to_close(struct store_client *store, const struct split_device *device, bool force)
{
	char state[STORE_CLIENT_TEXT];
	int r, found = 0;

	do {
		r = store_client_begin(store);
		if (r == 0 && force)
			r = clean_up(store, device->frontend);
		if (r == 0)
			found = store_client_read(store, device->backend, "state", state);
		if (r == 0 && found >= 0)
			r = store_client_write(store, device->backend, "online", "0");
		if (r == 0 && found >= 0 && atoi(state) != XenbusStateClosed)
			r = store_client_write(store, device->backend, "state", "5");
		r = store_client_end(store, r);
	} while (r == -EAGAIN);
	return r < 0 ? r : found < 0 ? 1 : 0;
}

static int remove_device(struct store_client *store, const struct split_device *device)
{
	int r;

	do {
		r = store_client_begin(store);
		if (r == 0)
			r = clean_up(store, device->frontend);
		if (r == 0)
			r = clean_up(store, device->libxl);
		if (r == 0)
			r = clean_up(store, device->backend);
		r = store_client_end(store, r);
	} while (r == -EAGAIN);
	return r < 0 ? complain("the nodes of %s %u cannot be removed: %s", device->type, device->devid,
				strerror(-r))
		     : 0;
}

static int detach(struct store_client *store, struct split_device *device,
		  const struct device_options *options)
{
	char script[STORE_CLIENT_TEXT];
	int r = begin_to_close(store, device, options->force), status = 0, removed;

	if (r == 0)
		r = store_client_wait_for_state(store, device->backend, XenbusStateClosed,
						options->timeout_ms);
	if (r < 0 && r != -ENOENT)
		status = complain("the backend of %s hasn't closed, and is removed by force: %s",
				  device->backend, strerror(-r));
	if (r <= 0 && device->backend_domid == 0 &&
	    store_client_read(store, device->libxl, "script", script) > 0) {
		device->script = script;
		status = run_script(store, device, false) || status;
	}
	removed = remove_device(store, device);
	return status ? status : removed;
}

int device_detach(const char *dir, int count, char **words)
{
	char backend[STORE_CLIENT_TEXT];
	struct split_device device = {0};
	struct device_options options;
	struct store_client store;
	int first = parse_options(count, words, &options), status;

	if (first < 0)
		return -first;
	if (count - first != 3 || options.backend || options.devid || options.script)
		return misused("usage: xensim detach DOMID TYPE DEVID [--force] [--timeout MS]", NULL);
	device.type = words[first + 1];
	if (!is_name(device.type) || !parse_number(words[first + 2], &device.devid))
		return misused("detach: no device:", words[first + 2]);
	status = open_store(&store, dir);
	if (status == 0)
		status = find_device(&store, words[first], NULL, &device);
	if (status == 0) {
		set_paths(&device);
		if (store_client_read(&store, device.libxl, "backend", backend) < 0 ||
		    sscanf(backend, "/local/domain/%u/backend/", &device.backend_domid) != 1)
			status = complain("domain %u has no %s %u", device.domid, device.type, device.devid);
		set_paths(&device);
	}
	if (status == 0)
		status = detach(&store, &device, &options);
	close(store.fd);
	return status;
}
