/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/reconnecting.h"
#include "cli/writer.h"
#include "wire/address.h"

static const char help[] =
	"Usage: xenmsg ping [OPTIONS] DOMAIN\n"
	"\n"
	"Measures round trips to the daemon of DOMAIN (domid, name, UUID or self, or on\n"
	"another host HOST/DOMAIN). The first one may have to make the link.\n"
	"\n"
	"  -n, --count N       how many (4)\n"
	"      --interval S    seconds between them (0.5)\n"
	"  -t, --timeout S     seconds to wait for each (10)\n"
	"      --json          one JSON object a line: to, number, rtt_us (null: no\n"
	"                      answer in time)\n"
	"\n"
	"Examples:\n"
	"  xenmsg ping work\n"
	"  xenmsg ping -n 1 -t 2s hostb/5\n";

struct ping_options {
	uint64_t count;
	int interval_ms, timeout_ms;
	struct writer *json; /* NULL: prints words */
};

/* The results so far. */
struct ping_results {
	uint64_t answered, tried;
	double least, most, sum; /* us */
	char summary[200];	 /* in words; also printed when a signal interrupts the command */
};

static void count_answer(struct ping_results *pings, double rtt)
{
	pings->answered++;
	pings->sum += rtt;
	if (pings->answered == 1 || rtt < pings->least)
		pings->least = rtt;
	if (rtt > pings->most)
		pings->most = rtt;
}

static void sum_up(const struct ping_options *ping, struct ping_results *pings)
{
	if (pings->answered && !ping->json)
		snprintf(pings->summary, sizeof(pings->summary),
			 "%llu of %llu answered; least %.1f us, mean %.1f us, most %.1f us\n",
			 (unsigned long long)pings->answered, (unsigned long long)pings->tried, pings->least,
			 pings->sum / (double)pings->answered, pings->most);
}

static int ping_once(struct cli *cli, struct xenmsg *conn, const char *domain,
		     const struct ping_options *ping, struct ping_results *pings, uint64_t *rtt_ns)
{
	struct timespec interval = {.tv_sec = ping->interval_ms / 1000,
				    .tv_nsec = ping->interval_ms % 1000 * 1000000L};
	bool is_first = pings->tried == 0;
	int first_ms = is_first ? long_wait_first(cli, ping->timeout_ms) : ping->timeout_ms, rest_ms = 0, r;
	uint64_t began;

	interrupt_allow(pings->summary);
	if (pings->tried > 0)
		nanosleep(&interval, NULL);
	began = clock_ns();
	r = xenmsg_ping(conn, domain, XENMSG_WITHIN(first_ms), rtt_ns);
	if (r == -ETIMEDOUT && is_first &&
	    (rest_ms = long_wait_rest(cli, conn, "ping", domain, "no answer", ping->timeout_ms)))
		r = xenmsg_ping(conn, domain, XENMSG_WITHIN(rest_ms), rtt_ns);
	if (r == 0 && (*rtt_ns == 0 || rest_ms)) /* of this domain, or of two tries: all that was waited */
		*rtt_ns = clock_ns() - began;
	interrupt_forbid();
	return r;
}

static int ping_tell(const struct ping_options *ping, const char *domain, uint64_t tried, bool answered,
		     double rtt)
{
	if (!ping->json) {
		if (answered)
			printf("%s: %.1f us\n", domain, rtt);
		return cli_flush();
	}
	writer_text(ping->json, "to", domain);
	writer_number(ping->json, "number", (int64_t)tried);
	if (answered)
		writer_real(ping->json, "rtt_us", rtt, 1);
	else
		writer_json(ping->json, "rtt_us", NULL);
	return writer_end_row(ping->json);
}

/* The domain counts as reachable if a single answer came; else the last error decides. */
static int ping_domain(struct cli *cli, struct xenmsg *conn, const char *domain,
		       const struct ping_options *ping)
{
	struct ping_results pings = {.summary = ""};
	int error = 0, code;

	while (pings.tried < ping->count) {
		uint64_t rtt_ns;
		int r = ping_once(cli, conn, domain, ping, &pings, &rtt_ns);

		pings.tried++;
		if (r == 0)
			count_answer(&pings, (double)rtt_ns / 1e3);
		sum_up(ping, &pings);
		if (r < 0) {
			error = r;
			if (r != -ETIMEDOUT)
				break;
			if (ping->count > 1)
				cli_note(cli, "ping %s: no answer within %.3g s", domain,
					 ping->timeout_ms / 1000.0);
		}
		code = ping_tell(ping, domain, pings.tried, r == 0, r == 0 ? (double)rtt_ns / 1e3 : 0);
		if (code)
			return code;
	}
	if (pings.answered == 0) {
		if (error == -ETIMEDOUT) {
			cli_complain("ping %s: timed out%s; none of %llu was answered within %.3g s", domain,
				     cli_is_away(conn, domain) ? ", since it is away" : "",
				     (unsigned long long)pings.tried, ping->timeout_ms / 1000.0);
			return EXIT_TIMED_OUT;
		}
		return cli_error(conn, "ping", domain, error);
	}
	fputs(pings.summary, stdout);
	code = cli_flush();
	return error && error != -ETIMEDOUT ? cli_error(conn, "ping", domain, error) : code;
}

int cmd_ping(struct cli *cli, int argc, char **argv)
{
	struct ping_options ping = {.count = 4, .interval_ms = 500, .timeout_ms = 10000};
	struct address parsed;
	struct xenmsg *conn;
	const char *domain;
	bool json = false;
	const struct cli_option options[] = {
		{"count", .count = &ping.count},
		{"interval", .ms = &ping.interval_ms},
		{"timeout", .ms = &ping.timeout_ms, .from_environment = true},
		{"json", .flag = &json},
		{0},
	};
	int code;

	if (!cli_options(cli, argc, argv, help, options, &code))
		return code;
	if (argc - optind != 1)
		return cli_usage("ping", optind >= argc ? "which domain?" : "one domain only");
	domain = argv[optind];
	if (address_parse_domain(domain, strlen(domain), &parsed) < 0)
		return cli_usage("ping", "'%s' can't be a domain; write a domid, a name, self or HOST/DOMAIN",
				 domain);
	code = cli_open_timed(cli, &conn, &(int){ping.timeout_ms});
	if (code)
		return code;
	if (json)
		ping.json = writer_new(WRITER_JSON_LINES);
	interrupt_catch();
	code = ping_domain(cli, conn, domain, &ping);
	if (json)
		writer_free(ping.json);
	xenmsg_close(conn);
	interrupt_die();
	return code;
}
