/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What xensim says of its commands, and of words that it doesn't know. */
#include "config.h"

#include "cli/nearest.h"
#include "sim/commands/command.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct help help_texts[] = {
	{"run", "[--domains N] [--store NAME] [--daemons] [--allow] -- CMD [ARGUMENT]...",
	 "start a host, run CMD beside it, and stop it",
	 "CMD runs outside of the domains, and has the host in $XENSIM_DIR, where `xensim exec` and the other\n"
	 "commands find it. When CMD ends, or xensim itself, all that runs in the domains is killed. The host\n"
	 "is another one for each run, so many can run at once.\n"
	 "\n"
	 "  --domains N      with domain 0 and the guests 1 to N; 0 by default\n"
	 "  --store NAME     oxenstored (the default) or xenstored, whose XenStore differs\n"
	 "  --daemons        with xenmsgd in each domain, which answers when the host is ready; its log is\n"
	 "                   dom-DOMID/xenmsgd.log in the host's directory\n"
	 "  --allow          that, with a rule in each domain which lets everybody reach everything\n"
	 "\n"
	 "Exit status: that of CMD, 128 more than the signal that ended it; 125 if there is no host,\n"
	 "126 if CMD can't be run, 127 if there is none.\n"},
	{"start", "[--domains N] [--store NAME] [--daemons] [--allow] [--dir DIR]",
	 "start a host; prints its directory",
	 "Returns when the host is ready. It runs until `xensim stop`.\n"
	 "\n"
	 "  --domains N      with domain 0 and the guests 1 to N; 0 by default\n"
	 "  --store NAME     oxenstored (the default) or xenstored, whose XenStore differs\n"
	 "  --daemons        with xenmsgd in each domain, which answers when the host is ready; its log is\n"
	 "                   dom-DOMID/xenmsgd.log in the host's directory\n"
	 "  --allow          that, with a rule in each domain which lets everybody reach everything\n"
	 "  --dir DIR        its directory: by default $XENSIM_DIR, else $XDG_RUNTIME_DIR/xensim,\n"
	 "                   else /tmp/xensim-UID\n"},
	{"exec", "[--user USER] DOMID -- CMD [ARGUMENT]...", "become CMD inside a domain",
	 "  --user USER      as this user of the machine, with all of its groups; only root may\n"
	 "\n"
	 "The exit status, signals and the terminal are CMD's own; 126: it can't be run, 127: there is none.\n"
	 "In a paused domain CMD waits until that goes on.\n"},
	{"create", "[--name NAME] [--type pvh|pv] [--domid DOMID] [--on-crash destroy|preserve]",
	 "make a guest; prints its domid",
	 "Domids are given in turn, from the given one on, and used again behind 32751. The name is \"dom\"\n"
	 "and the domid by default, the type pvh. --on-crash says what the toolstack does when it has crashed:\n"
	 "destroy it (the default) or leave it.\n"},
	{"destroy", "DOMID [--linger MS]", "end a domain as xl destroy does",
	 "Its home in XenStore goes first. Its peers' channels hear nothing of it. It stays as a zombie while\n"
	 "others map its pages.\n"
	 "\n"
	 "  --linger MS      for so long it is still there after its home has gone (10)\n"},
	{"shutdown", "DOMID [--reboot] [--timeout MS]", "let a guest power off, or start anew",
	 "All its processes get SIGTERM, and SIGKILL after the time-out (2000), so its peers' channels end;\n"
	 "then the toolstack destroys it.\n"
	 "\n"
	 "  --reboot         another domain takes its place, of the same name and UUID; prints its domid\n"},
	{"crash", "DOMID", "let a guest crash",
	 "Its processes stop where they are, and nobody is told but the toolstack, by @releaseDomain, which\n"
	 "destroys it, unless it was made with --on-crash preserve.\n"},
	{"pause", "DOMID", "stop all processes of a domain", "Also those that are started later.\n"},
	{"unpause", "DOMID", "let a paused domain go on", ""},
	{"suspend", "DOMID [--notice MS] [--stale MS] [--seed N]", "save a domain, as xl save",
	 "  --notice MS      so long before the stop, control/shutdown says suspend (20); 0: it doesn't\n"
	 "  --stale MS       for so long after the stop the pages that it has granted are copied, while\n"
	 "                   others write there (0): what they write may be stale or torn in the image\n"
	 "  --seed N         decides when which page is copied\n"},
	{"resume", "DOMID [--unaware MS] [--clock MS] [--same-domid]",
	 "restore a domain, as xl restore; prints its new domid",
	 "DOMID is the old one, or the name.\n"
	 "\n"
	 "  --unaware MS     for so long XenStore answers nobody\n"
	 "  --clock MS       by so much the clocks that run while a domain is saved are ahead (200)\n"
	 "  --same-domid     as if it came from another host with its number: needs that nobody maps its old\n"
	 "                   pages any more\n"},
	{"checkpoint", "DOMID [--notice MS] [--stall MS] [--clock MS]",
	 "stop a domain, as xl save -c or a save that fails, and let it go on",
	 "  --notice MS      as of suspend\n"
	 "  --stall MS       for so long it is stopped (0)\n"
	 "  --clock MS       as of resume\n"},
	{"migrate", "DOMID [OPTION]...", "migrate a domain to this host; prints its new domid",
	 "  --notice MS      as of suspend\n"
	 "  --stale MS       for so long before the notice the pages that it has granted are copied, and again\n"
	 "                   after the stop only those that it has written, or others have unmapped (0)\n"
	 "  --seed N         decides when which page is copied\n"
	 "  --unaware MS, --clock MS    as of resume\n"},
	{"rename", "DOMID NAME", "give a domain another name", ""},
	{"list", "[--json]", "list the domains, what they use, and what their kernels complained about", ""},
	{"record", "FILE|off", "record what passes, a line each, in a file",
	 "Requests to XenStore and to the hypervisor with their answers, events of watches, and what happens to\n"
	 "domains; notifications of event channels aren't among them. Five columns, separated by tabs: seconds,\n"
	 "domain, operation, arguments, result. off: no more.\n"},
	{"trace", "FILE -- CMD [ARGUMENT]...", "become CMD, and write down what it asks of Xen's libraries",
	 "As a record, a line for each call that libxenstore, libxenevtchn, libxengnttab and what uses them get\n"
	 "from CMD. That needs no host: it works on real Xen, too, and inside a domain (xensim exec 1 -- xensim\n"
	 "trace FILE -- CMD). Notifications aren't in it. A program that is linked statically, or finds functions\n"
	 "by dlsym, isn't seen. Exit status: CMD's; 125 if FILE can't be written, 126 if CMD can't be run, 127 if\n"
	 "there is none.\n"},
	{"compare", "RECORD RECORD", "say where two records part",
	 "For each domain the first line that differs, but for what differs by chance: times, the numbers of\n"
	 "domains, ports, references and transactions, in their order, and the order of what several domains do.\n"
	 "So a trace of real Xen is compared with one of a simulated host. Exit status: 0 the same, 1 they\n"
	 "differ, 2 one can't be read.\n"},
	{"fault", "KIND DOMID [VALUE]...", "let something go wrong",
	 "  stall-store DOMID on|off          XenStore answers no domain\n"
	 "  lose-store DOMID                  its programs' connections to XenStore are closed\n"
	 "  lose-event DOMID [N[@M]]          N notifications to each open handle get lost, after M that come\n"
	 "  refuse DOMID OPERATION [N[@M]|on|off [ERROR]]\n"
	 "                                    calls of a kind, which is named as in a record, such as WRITE,\n"
	 "                                    TRANSACTION_END, map or evtchn-open, end with ERROR: by default\n"
	 "                                    EIO (XenStore) or ENOMEM, N times after M that succeed.\n"
	 "                                    ECONNRESET ends the connection to XenStore instead\n"
	 "  conflict DOMID N|on|off           commits of transactions fail with EAGAIN\n"
	 "  refuse-grant DOMID N[@M]|on|off   granting fails with ENOSPC, N times after M that succeed\n"
	 "  refuse-map DOMID N[@M]|on|off     mapping fails with EINVAL\n"
	 "  refuse-bind DOMID N[@M]|on|off    binding an event channel fails with ENOSPC\n"
	 "  grant-limit DOMID PAGES\n"
	 "  evtchn-limit DOMID PORTS\n"
	 "  late-events DOMID MS              its events from XenStore come so long after the answers (0: off)\n"
	 "  interrupt-pause DOMID on|off      a pause ends a program's epoll_wait with EINTR\n"
	 "  corrupt-ring-index DOMID left-cons|left-prod|right-cons|right-prod=NUMBER\n"},
	{"xsm", "silo|dummy, or forbid|allow DOMID DOMID", "let Xen forbid domains to share memory",
	 "  silo             guests have grants and event channels with domain 0 alone, as Xen's XSM SILO\n"
	 "                   has it, which Debian's Xen for arm64 begins with\n"
	 "  dummy            no more: the default\n"
	 "  forbid|allow DOMID DOMID    for these two alone, as a policy of Flask may\n"
	 "\n"
	 "What is granted and bound already stays.\n"},
	{"stop", "", "kill all that runs in the host and remove its directory", ""},
};

const struct help *find_help(const char *name)
{
	for (size_t i = 0; i < sizeof(help_texts) / sizeof(help_texts[0]); i++)
		if (strcmp(help_texts[i].name, name) == 0)
			return &help_texts[i];
	return NULL;
}

void print_help(void)
{
	printf("Usage: xensim COMMAND\nSimulated Xen hosts on plain Linux.\n\n");
	for (size_t i = 0; i < sizeof(help_texts) / sizeof(help_texts[0]); i++) {
		const struct help *help = &help_texts[i];
		int width = printf("  %s%s%s", help->name, help->arguments[0] ? " " : "", help->arguments);

		/* What is too long for its column has the summary below. */
		printf("%*s%s\n", width < 38 ? 38 - width : 0,
		       width < 38 ? "" : "\n                                      ", help->summary);
	}
	printf("\n`xensim COMMAND --help` says more. DOMID is a number or a name. The host is the one in $XENSIM_DIR,\n"
	       "else the user's default one. Exit status: 0 done, 1 error, 2 usage; of exec and run: the command's own.\n");
}

void print_help_of(const struct help *help)
{
	printf("Usage: xensim %s%s%s\n%c%s.\n%s%s", help->name, help->arguments[0] ? " " : "",
	       help->arguments, toupper((unsigned char)help->summary[0]), help->summary + 1,
	       help->details[0] ? "\n" : "", help->details);
}

int usage_error(const char *message, const char *what)
{
	fprintf(stderr, "xensim: %s%s%s: see xensim --help\n", message, what ? " " : "", what ? what : "");
	return EXIT_USAGE;
}

/* Says what is unknown, and what may be meant. */
static int unknown(const char *what, const char *typed, const char *meant)
{
	fprintf(stderr, "xensim: unknown %s '%s'%s%s%s: see xensim --help\n", what, typed,
		meant ? "; did you mean '" : "", meant ? meant : "", meant ? "'?" : "");
	return EXIT_USAGE;
}

int unknown_command(const char *name)
{
	/* What xl(1) and others call it. */
	static const struct {
		const char *name, *meant;
	} others[] = {
		{"ls", "list"},	     {"info", "list"},	    {"status", "list"},	     {"ps", "list"},
		{"save", "suspend"}, {"restore", "resume"}, {"shutdown", "destroy"}, {"kill", "destroy"},
		{"console", "exec"}, {"shell", "exec"},	    {"new", "create"},	     {"up", "start"},
		{"down", "stop"},
	};
	struct nearest nearest = nearest_to(name);

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (strcmp(name, others[i].name) == 0)
			return unknown("command", name, others[i].meant);
	for (size_t i = 0; i < sizeof(help_texts) / sizeof(help_texts[0]); i++)
		nearest_try(&nearest, help_texts[i].name);
	return unknown("command", name, nearest.meant);
}

/* Takes the next option that a help text names, its -- with it. Returns false if there is none. */
static bool next_option(const char **text, char option[32])
{
	const char *at = strstr(*text, "--");
	size_t size = at ? 2 + strspn(at + 2, "abcdefghijklmnopqrstuvwxyz-") : 0;

	if (!at)
		return false;
	*text = at + size;
	snprintf(option, 32, "%.*s", (int)size, at);
	return true;
}

/* Looks whether the help of the command names the option, which may be shortened. Copies into `meant` the one
 * that may be meant; "": none. */
static bool has_option(const struct help *help, const char *typed, char meant[32])
{
	const char *texts[] = {help->arguments, help->details};
	struct nearest nearest = nearest_to(typed);
	char option[32];

	meant[0] = '\0';
	for (size_t i = 0; i < 2; i++)
		while (next_option(&texts[i], option)) {
			const char *before = nearest.meant;

			if (strncmp(option, typed, strlen(typed)) == 0)
				return true;
			nearest_try(&nearest, option);
			if (nearest.meant != before)
				memcpy(meant, option, 32);
			nearest.meant = before || nearest.meant ? meant : NULL;
		}
	return false;
}

int check_options(const struct help *help, int count, char **words)
{
	char typed[32], meant[32];

	for (int i = 2; i < count && strcmp(words[i], "--") != 0; i++) {
		if (strncmp(words[i], "--", 2) != 0)
			continue;
		snprintf(typed, sizeof(typed), "%.*s", (int)strcspn(words[i], "="), words[i]);
		if (!has_option(help, typed, meant) && meant[0])
			return unknown("option", typed, meant);
	}
	return EXIT_SUCCESS;
}
