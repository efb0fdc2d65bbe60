/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* policy check, test: ask which rule decides about a sender and an endpoint here. policy matrix: all of them
 * over a host (policy_matrix.c). policy show, denied: list the rules in force, and what they have refused.
 * policy reload: lets the daemon read its rules again. */

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/fields.h"
#include "cli/json.h"
#include "cli/nearest.h"
#include "cli/more/more.h"
#include "cli/more/policy_matrix.h"
#include "cli/more/rules_tried.h"
#include "cli/writer.h"

static const char help[] =
	"Usage: xenmsg policy check|test|matrix|show|denied|reload [OPTIONS] ...\n"
	"\n"
	"check    whether FROM may reach TO, by which rule, and which one would allow it\n"
	"test     whether it decides as a table says\n"
	"matrix   who may reach what, over all domains of this host\n"
	"show     the rules in force\n"
	"denied   who was refused what\n"
	"reload   read the rules again\n"
	"\n"
	"'xenmsg help policy check' and so on say more.\n"
	"\n"
	"      --json          the same as JSON, one object a line\n"
	"\n"
	"Examples:\n"
	"  xenmsg policy check work print\n"
	"  xenmsg policy denied\n"
	"  xenmsg policy reload\n";

static const char reload_help[] =
	"Usage: xenmsg policy reload [OPTIONS]\n"
	"\n"
	"Has the daemon read its policy again, in domain 0 with that for the host's\n"
	"domains, and its activation files. Says how many rules of which files are in\n"
	"force. This is for root, the user that the daemon runs as, and members of its\n"
	"admin-group.\n"
	"\n"
	"Exit status 2: the files have a mistake, which is told with file and line, and\n"
	"the old rules stay.\n"
	"\n"
	"      --json          the same as a JSON object\n"
	"\n"
	"Examples:\n"
	"  xenmsg policy reload\n"
	"  xenmsg policy reload --json\n";

static const char denied_help[] =
	"Usage: xenmsg policy denied [OPTIONS]\n"
	"\n"
	"Lists who was refused what, how often, when last, and by which rule; the daemon\n"
	"keeps the latest 64 pairs of sender and endpoint. This is for root, the user\n"
	"that the daemon runs as, and members of its admin-group.\n"
	"\n"
	"      --json          the same as JSON, one object a line\n"
	"\n"
	"Examples:\n"
	"  xenmsg policy denied\n"
	"  xenmsg policy denied --json\n";

static const char show_help[] =
	"Usage: xenmsg policy show [OPTIONS]\n"
	"\n"
	"Prints the rules in force, with file and line, in the order in which they are\n"
	"asked. In domain 0 it also says of one domain which tags the host's policy gives\n"
	"it, and which of the host's rules are about it. This is for root, the user that\n"
	"the daemon runs as, and members of its admin-group.\n"
	"\n"
	"      --domain DOMAIN the tags of DOMAIN and the host's rules about it\n"
	"      --json          the same as JSON, one object a line\n"
	"\n"
	"Examples:\n"
	"  xenmsg policy show\n"
	"  xenmsg policy show --json\n";

static const char check_help[] =
	"Usage: xenmsg policy check [OPTIONS] FROM TO\n"
	"\n"
	"Says whether programs of FROM may reach the endpoint TO of this domain, by which\n"
	"rule of which file, and which rule would allow what is denied. FROM is a domain\n"
	"(domid, name, UUID or self), or DOMAIN/UID for the programs of one user there;\n"
	"the user is root if none is named. On another host it is HOST/DOMAIN or\n"
	"HOST/DOMAIN/UID. In domain 0 TO may also be an address, [HOST/]DOMAIN:ENDPOINT:\n"
	"whether it relays to there, or lets it go to that host.\n"
	"\n"
	"Exit status 0: allowed; 4: denied; 5: not decided, for a rule needs names that\n"
	"aren't known now.\n"
	"\n"
	"      --json          the decision as a JSON object\n"
	"\n"
	"Examples:\n"
	"  xenmsg policy check work print\n"
	"  xenmsg policy check 5/1000 print\n"
	"  xenmsg policy check hostb/work print\n";

static const char test_help[] =
	"Usage: xenmsg policy test [OPTIONS] FILE\n"
	"\n"
	"Asks about each line of FILE (-: standard input) what 'xenmsg policy check'\n"
	"does, and prints each answer that differs from its line. A line is FROM TO\n"
	"ANSWER, and the answer allow, deny or undecided; a # begins a comment. In domain\n"
	"0 it tests the host's policy, too. This is for root, the user that the daemon\n"
	"runs as, and members of its admin-group; but whoever can read rules may try\n"
	"them.\n"
	"\n"
	"Exit status 0: all is as expected; 1: something isn't; 2: the rules have a\n"
	"mistake.\n"
	"\n"
	"      --rules PATH    ask the rules in this file, or in the files *.conf of this\n"
	"                      directory, and not those in force\n"
	"      --host-rules PATH\n"
	"                      likewise those of the host's policy. With one of the two,\n"
	"                      the other kind has no rules\n"
	"\n"
	"Examples:\n"
	"  xenmsg policy test expected.txt\n"
	"  xenmsg policy test --rules new.d expected.txt\n"
	"  echo work print allow | xenmsg policy test -\n";

static const char matrix_help[] =
	"Usage: xenmsg policy matrix [OPTIONS]\n"
	"\n"
	"Prints, in domain 0, who may reach what over all domains of this host that have\n"
	"a daemon: a row for each endpoint, and a column for each domain that sends.\n"
	"'yes': its programs may, at least those of some user; '.': none may; '?': nobody\n"
	"knows here. Each daemon tells it by its rules and the host's, as far as its\n"
	"host-sight lets domain 0 see. 'xenmsg policy check' in the receiving domain says\n"
	"which rule it is. This is for root, the user that the daemon runs as, and\n"
	"members of its admin-group.\n"
	"\n"
	"      --json          an object for each pair, one a line: from, from_name, to,\n"
	"                      to_name, endpoint, and answer (allow, deny, undecided or\n"
	"                      untold)\n"
	"\n"
	"Examples:\n"
	"  xenmsg policy matrix\n"
	"  xenmsg policy matrix --json\n";

/* The command line, as it was read. */
struct policy_call {
	struct cli *cli;
	const char *command; /* "policy check" */
	char **words;
	const char *domain;		/* NULL: without --domain */
	const char *rules, *host_rules; /* to be tried, likewise */
	bool as_json;
};

/* Asks for what only administrators are told, as a rule. Returns 0 and the answer, which the caller puts, or
 * an exit code after a complaint. */
static int policy_ask(const struct policy_call *call, const char *question, const char *subject,
		      struct json_object **answer)
{
	bool is_check = !strncmp(question, "policy ", strlen("policy "));
	struct xenmsg *conn;
	int code = cli_open(call->cli, &conn), r;

	if (code)
		return code;
	*answer = cli_query(conn, question, NULL, &r);
	if (r == -EPERM && !is_check) { /* there EXIT_DENIED is an answer */
		cli_complain("%s: %s", call->command, xenmsg_reason(conn, r));
		code = EXIT_DENIED;
	} else if (r == -EINVAL && !strcmp(question, "reload")) { /* what is wrong, with file and line */
		cli_complain("%s: %s; the old rules stay in force", call->command, xenmsg_reason(conn, r));
		code = EXIT_USAGE;
	} else if (r == -EINVAL && is_check) {
		code = cli_usage(call->command, "%s", xenmsg_reason(conn, r));
	} else if (r < 0) {
		code = cli_error(conn, call->command, subject, r);
	}
	xenmsg_close(conn);
	return code;
}

/* ---- rules ----------------------------------------------------------------------------------- */

/* Prints a rule as a policy file has it: the daemon tells its keys in that order. */
static void print_rule(struct json_object *rule)
{
	cli_print_line("[%s]", text_or(rule, "section", ""));
	json_object_object_foreach(rule, key, value) {
		char *list = json_object_is_type(value, json_type_array) ? fields_joined(value, ", ") : NULL;

		if (list)
			cli_print_line("%s = %s", key, list);
		free(list);
	}
	cli_print_line("action = %s", text_or(rule, "action", ""));
}

/* ---- check ----------------------------------------------------------------------------------- */

/* Prints the rule that would allow it, to be pasted. */
static void print_cure(struct json_object *cure)
{
	putchar('\n');
	if (at(cure, "line"))
		cli_print_words(2, "To allow it, put this before it, and then: xenmsg policy reload");
	else
		cli_print_words(2, "To allow it, add this to %s, and then: xenmsg policy reload",
				text_or(cure, "file", ""));
	print_rule(cure);
}

/* Prints the decision on one line, and the rules that it is about. */
static void print_words(struct json_object *answer, const char *decision)
{
	if (!at(answer, "file"))
		cli_print_words(2, "%s: %s", decision, text_or(answer, "reason", ""));
	else if (json_object_get_boolean(at(answer, "undecided")))
		cli_print_words(2, "%s: %s, line %s: %s", decision, text_or(answer, "file", ""),
				text_or(answer, "line", ""), text_or(answer, "reason", ""));
	else
		cli_print_line("%s: the %srule in %s, line %s, decides", decision,
			       strcmp(text_or(answer, "policy", "own"), "host") ? "" : "host policy's ",
			       text_or(answer, "file", ""), text_or(answer, "line", ""));
	if (at(answer, "rule"))
		print_rule(at(answer, "rule"));
	if (at(answer, "cure"))
		print_cure(at(answer, "cure"));
}

static int check(const struct policy_call *call)
{
	const char *from = call->words[0], *to = call->words[1];
	char question[512];
	struct json_object *answer;
	bool allow, undecided;
	int code;

	if (strchr(from, ' ') || strchr(to, ' '))
		return cli_usage(call->command, "neither FROM nor TO has spaces in it");
	if (snprintf(question, sizeof(question), "policy %s %s", from, to) >= (int)sizeof(question))
		return cli_usage(call->command, "FROM and TO are too long");
	code = policy_ask(call, question, from, &answer);
	if (code)
		return code;
	allow = json_object_get_boolean(at(answer, "allow"));
	undecided = json_object_get_boolean(at(answer, "undecided"));
	if (call->as_json)
		cli_print_line("%s", json_line(answer));
	else
		print_words(answer, allow ? "allow" : undecided ? "not decided" : "deny");
	json_object_put(answer);
	code = cli_flush();
	return code ? code : allow ? EXIT_DONE : undecided ? EXIT_UNREACHABLE : EXIT_DENIED;
}

/* ---- a table of questions ------------------------------------------------------------------- */

/* policy test: asks for each line of a table whether the policy decides as the line says. */

#define WORDS 3 /* FROM TO ANSWER */

/* A table that is checked. */
struct table {
	struct xenmsg *conn;
	struct rules_tried *tried; /* NULL: the rules in force are asked */
	const char *path;
	unsigned line, answers, wrong;
};

/* Splits a line; a # begins a comment. Returns how many words there are, at most one more
 * than fit. */
static unsigned split(char *line, char *words[WORDS])
{
	char *rest = line, *word;
	unsigned count = 0;

	line[strcspn(line, "#\n")] = '\0';
	while ((word = strsep(&rest, " \t\r")) != NULL) {
		if (!*word)
			continue;
		if (count == WORDS)
			return WORDS + 1;
		words[count++] = word;
	}
	return count;
}

static bool is_answer(const char *word)
{
	return !strcmp(word, "allow") || !strcmp(word, "deny") || !strcmp(word, "undecided");
}

/* Returns whether this is a line of rules: "[rule]", or "from = work". */
static bool is_of_rules(char *words[WORDS], unsigned count)
{
	return *words[0] == '[' || (count > 1 && *words[1] == '=');
}

static const char *answer_of(struct json_object *decision)
{
	if (json_object_get_boolean(at(decision, "allow")))
		return "allow";
	return json_object_get_boolean(at(decision, "undecided")) ? "undecided" : "deny";
}

static void print_wrong(const struct table *table, char *words[WORDS], struct json_object *decision)
{
	if (at(decision, "file"))
		cli_print_line("%s:%u: %s to %s: %s, not %s, by the %srule in %s, line %s", table->path,
			       table->line, words[0], words[1], answer_of(decision), words[2],
			       strcmp(text_or(decision, "policy", "own"), "host") ? "" : "host policy's ",
			       text_or(decision, "file", ""), text_or(decision, "line", ""));
	else
		cli_print_line("%s:%u: %s to %s: %s, not %s: %s", table->path, table->line, words[0],
			       words[1], answer_of(decision), words[2], text_or(decision, "reason", ""));
}

/* Returns what is decided, which the caller puts; NULL: *r is a negative errno, and *why says more. */
static struct json_object *decide(const struct table *table, char *words[WORDS], int *r, const char **why)
{
	char question[512];
	struct json_object *decision = NULL;

	if (table->tried)
		return rules_tried_ask(table->tried, table->conn, words[0], words[1], r, why);
	*r = -EINVAL;
	if (snprintf(question, sizeof(question), "policy %s %s", words[0], words[1]) < (int)sizeof(question))
		decision = cli_query(table->conn, question, NULL, r);
	*why = xenmsg_reason(table->conn, *r);
	return decision;
}

/* Asks about one line. Returns an exit code, which isn't 0 if no further line can be asked about. */
static int table_ask(struct table *table, char *words[WORDS])
{
	const char *why;
	int r;
	struct json_object *decision = decide(table, words, &r, &why);

	table->answers++;
	if (r == -EHOSTDOWN) { /* a domain that isn't known is no reason to leave out the others */
		table->wrong++;
		cli_print_line("%s:%u: %s to %s: %s", table->path, table->line, words[0], words[1], why);
		return 0;
	}
	if (r == -EINVAL)
		return cli_usage("policy test", "%s:%u: %s", table->path, table->line, why);
	if (r < 0)
		return cli_error(table->conn, "policy test", words[0], r);
	if (strcmp(answer_of(decision), words[2])) {
		table->wrong++;
		print_wrong(table, words, decision);
	}
	json_object_put(decision);
	return 0;
}

static int check_lines(struct table *table, FILE *file)
{
	char *line = NULL, *words[WORDS];
	size_t room = 0;
	int code = 0;

	while (code == 0 && getline(&line, &room, file) >= 0) {
		unsigned count = split(line, words);

		table->line++;
		if (count == 0)
			continue;
		if (count != WORDS || !is_answer(words[2]))
			code = cli_usage(
				"policy test",
				"%s:%u: a line is FROM TO and what is expected: allow, deny or undecided%s",
				table->path, table->line,
				is_of_rules(words, count) ? "; these are rules, which stand behind --rules"
							  : "");
		else
			code = table_ask(table, words);
	}
	free(line);
	if (code == 0 && ferror(file))
		code = cli_usage("policy test", "%s: %s", table->path, strerror(errno));
	return code;
}

/* Says how it went. */
static int report(const struct table *table)
{
	int code;

	if (table->answers == 0)
		return cli_usage("policy test", "%s: there are no lines", table->path);
	if (table->wrong)
		cli_print_line("%u of %u answers aren't as expected", table->wrong, table->answers);
	else
		cli_print_line("%u answer%s, all as expected", table->answers, plural(table->answers));
	code = cli_flush();
	return code ? code : table->wrong ? EXIT_OTHER : EXIT_DONE;
}

static int test_file(const struct policy_call *call, struct table *table)
{
	bool is_input = !strcmp(call->words[0], "-");
	FILE *file = is_input ? stdin : fopen(table->path, "re");
	int code = file ? check_lines(table, file)
			: cli_usage("policy test", "%s: %s", table->path, strerror(errno));

	if (code == 0)
		code = report(table);
	if (file && !is_input)
		fclose(file);
	return code;
}

static int test(const struct policy_call *call)
{
	struct table table = {.path = strcmp(call->words[0], "-") ? call->words[0] : "standard input"};
	int code;

	if (call->as_json)
		return cli_usage("policy test", "policy test has no --json; 'xenmsg policy check' has");
	code = cli_open(call->cli, &table.conn);
	if (code)
		return code;
	if (call->rules || call->host_rules)
		code = rules_tried_read(&table.tried, call->rules, call->host_rules);
	if (code == 0)
		code = test_file(call, &table);
	rules_tried_free(table.tried);
	xenmsg_close(table.conn);
	return code;
}

/* ---- the rules in force ---------------------------------------------------------------------- */

/* `whose` is "", or who else's rules these are. */
static void print_files(struct json_object *answer, const char *whose)
{
	struct json_object *files = at(answer, "files");
	int64_t rules = number_at(answer, "rules");

	if (length_of(files) == 0)
		cli_print_line("no rules%s are in force: there are no files *.conf in %s", whose,
			       text_or(answer, "directory", "the policy's directory"));
	else
		cli_print_line("%" PRId64 " rule%s%s %s in force", rules, plural(rules), whose,
			       rules == 1 ? "is" : "are");
	fields_foreach(files, file) {
		cli_print_line("  %s of %s", text_or(file, "rules", ""), text_or(file, "file", ""));
	}
}

static int reload(const struct policy_call *call)
{
	struct json_object *answer;
	int code = policy_ask(call, "reload", "", &answer);

	if (code)
		return code;
	if (call->as_json)
		cli_print_line("%s", json_line(answer));
	else
		print_files(answer, "");
	if (!call->as_json && at(answer, "for_host"))
		print_files(at(answer, "for_host"), " for the host's domains");
	json_object_put(answer);
	return cli_flush();
}

static int print_rules(struct cli *cli, struct json_object *rules)
{
	fields_foreach(rules, rule) {
		if (rule != json_object_array_get_idx(rules, 0))
			putchar('\n');
		cli_print_line("# %s, line %s", text_or(rule, "file", ""), text_or(rule, "line", ""));
		print_rule(rule);
	}
	if (length_of(rules) == 0)
		cli_note(cli,
			 "policy show: there are no rules; programs of this domain reach each other, "
			 "and those of others nothing here");
	return cli_flush();
}

/* Returns in words what an entry's rule is about: what its domain sends, what it receives, or both. */
static const char *role_of(struct json_object *rule)
{
	bool sends = json_object_get_boolean(at(rule, "sends")),
	     receives = json_object_get_boolean(at(rule, "receives"));

	return sends && receives ? "what it sends and receives"
	       : sends		 ? "what it sends"
	       : receives	 ? "what it receives"
				 : "it, perhaps: its name or tags aren't known";
}

static void print_domain(struct json_object *domain)
{
	char *tags = fields_joined(at(domain, "tags"), ", ");

	cli_print_line("domain %s (%s), UUID %s", text_at(domain, "domid"), text_at(domain, "name"),
		       text_at(domain, "uuid"));
	cli_print_line("tags: %s", !at(domain, "tags") ? "not known" : *tags ? tags : "none");
	free(tags);
}

/* The first entry is the domain, the others are the rules about it. */
static int print_about(struct cli *cli, struct json_object *list)
{
	size_t count = length_of(list);

	print_domain(json_object_array_get_idx(list, 0));
	for (size_t i = 1; i < count; i++) {
		struct json_object *rule = json_object_array_get_idx(list, i);

		putchar('\n');
		cli_print_line("# %s, line %s: about %s", text_or(rule, "file", ""),
			       text_or(rule, "line", ""), role_of(rule));
		json_object_object_del(rule, "sends");
		json_object_object_del(rule, "receives");
		print_rule(rule);
	}
	if (count < 2)
		cli_print_line("no rule of the host's policy is about it");
	return cli_flush();
}

/* Asks for a list, and prints it. */
static int print_answer(const struct policy_call *call, const char *question, const char *about,
			int (*print)(struct cli *cli, struct json_object *list))
{
	struct json_object *list;
	int code = policy_ask(call, question, about, &list);

	if (code)
		return code;
	code = call->as_json ? write_json_lines(list) : print(call->cli, list);
	json_object_put(list);
	return code;
}

static int policy_show(const struct policy_call *call)
{
	const char *domain = call->domain;
	char question[512];

	if (!domain)
		return print_answer(call, "rules", "", print_rules);
	if (strchr(domain, ' ') ||
	    snprintf(question, sizeof(question), "rules of %s", domain) >= (int)sizeof(question))
		return cli_usage(call->command, "'%s' can't be a domain", domain);
	return print_answer(call, question, domain, print_about);
}

/* ---- what was denied ------------------------------------------------------------------------- */

static void shape_denied(struct json_object *entry)
{
	char when[32], *rule;

	time_text((time_t)number_at(entry, "last"), false, when, sizeof(when));
	fields_add(entry, "last", "%s", when);
	fields_add(entry, "no", "no [%s]", text_or(entry, "section", "rule"));
	rule = fields_words(entry, at(entry, "file") ? "{file}:{line}" : "{no}");
	fields_add(entry, "rule", "%s", rule);
	free(rule);
}

static int print_denied(struct cli *cli, struct json_object *list)
{
	int code = write_list(list, "from,domain,uid,to,count,last,rule", shape_denied, NULL);

	if (length_of(list) == 0)
		cli_note(cli, "policy denied: nobody was refused anything since the daemon started");
	return code;
}

static int denied(const struct policy_call *call)
{
	return print_answer(call, "denied", "", print_denied);
}

/* ---------------------------------------------------------------------------------------------- */

static int matrix(const struct policy_call *call)
{
	return policy_matrix(call->cli, call->as_json);
}

static const struct subcommand {
	const char *name;
	int (*run)(const struct policy_call *call);
	const char *help;
	int words;
	const char *takes;
} subcommands[] = {
	{"check", check, check_help, 2, "FROM and TO"},
	{"test", test, test_help, 1, "a FILE, or - for standard input"},
	{"matrix", matrix, matrix_help, 0, ""},
	{"show", policy_show, show_help, 0, ""},
	{"denied", denied, denied_help, 0, ""},
	{"reload", reload, reload_help, 0, ""},
};
#define SUBCOMMANDS (sizeof(subcommands) / sizeof(subcommands[0]))

static int policy_unknown_command(const char *name)
{
	struct nearest nearest = nearest_to(name);

	if (!strcmp(name, "list"))
		return cli_usage("policy", "there is no 'list'; did you mean 'show'?");
	if (!strcmp(name, "allow") || !strcmp(name, "deny") || !strcmp(name, "add"))
		return cli_usage(
			"policy",
			"there is no '%s': rules stand in files /etc/xenmsg/policy.d/*.conf; 'xenmsg "
			"policy check FROM TO' prints the one that is missing, and 'xenmsg policy "
			"reload' reads them",
			name);
	for (size_t i = 0; i < SUBCOMMANDS; i++)
		nearest_try(&nearest, subcommands[i].name);
	if (nearest.meant)
		return cli_usage("policy", "there is no '%s'; did you mean '%s'?", name, nearest.meant);
	return cli_usage("policy",
			 "there is no '%s', only 'check', 'test', 'matrix', 'show', 'denied' and 'reload'",
			 name);
}

/* Returns the subcommand that this word names, or NULL. */
static const struct subcommand *find_subcommand(const char *word)
{
	for (size_t i = 0; i < SUBCOMMANDS; i++)
		if (!strcmp(word, subcommands[i].name))
			return &subcommands[i];
	return NULL;
}

/* Returns the help of the first of these words that is a subcommand, else that of all. */
static const char *help_for(char **words)
{
	const struct subcommand *found = NULL;

	while (*++words && !(found = find_subcommand(*words)) && **words == '-')
		;
	return found ? found->help : help;
}

int cmd_policy(struct cli *cli, int argc, char **argv)
{
	struct policy_call call = {.cli = cli};
	const struct cli_option options[] = {{"json", .flag = &call.as_json},
					     {"domain", .text = &call.domain},
					     {"rules", .text = &call.rules},
					     {"host-rules", .text = &call.host_rules},
					     {0}};
	const struct subcommand *found;
	char command[32];
	int code;

	if (argc == 3 && *argv[1] != '-' && help_for(argv) == help)
		return policy_unknown_command(argv[1]);
	if (!cli_options(cli, argc, argv, help_for(argv), options, &code))
		return code;
	if (optind == argc)
		return cli_usage(
			"policy",
			"which of its commands? There are 'check', 'test', 'matrix', 'show', 'denied' and 'reload'");
	if (call.domain && strcmp(argv[optind], "show"))
		return cli_usage("policy", "only 'show' has --domain");
	if ((call.rules || call.host_rules) && strcmp(argv[optind], "test"))
		return cli_usage("policy", "only 'test' has --rules and --host-rules");
	found = find_subcommand(argv[optind++]);
	if (!found)
		return policy_unknown_command(argv[optind - 1]);
	snprintf(command, sizeof(command), "policy %s", found->name);
	call.command = command;
	call.words = argv + optind;
	if (argc - optind != found->words && found->words)
		return cli_usage(command, "%s takes %s", command, found->takes);
	if (argc != optind && !found->words)
		return cli_usage("policy", "'%s' takes no arguments", found->name);
	return found->run(&call);
}
