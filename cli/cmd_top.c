/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* top: shows the daemon's status live in a terminal, or with --host that of all daemons of the host. Each
 * round asks for it; rates are the differences between rounds. */

#include <errno.h>
#include <locale.h>
#include <ncurses.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>

#include <json-c/json.h>

#include "cli/cli.h"
#include "cli/fields.h"
#include "cli/host_statuses.h"
#include "cli/host_view.h"
#include "cli/interrupt.h"
#include "cli/top.h"

/* ---- the table of a host, once -------------------------------------------------------------- */

/*
 * One picture of the host, for commands that end then: two looks (host_view.h), some time apart.
 */

#define HOST_ANSWER_MS 3000 /* who says nothing for so long isn't waited for */

/* Looks once. Replaces *view, which was made at *when, in ns, or is NULL. */
static int look_look(struct cli *cli, struct xenmsg *conn, struct host_view **view, uint64_t *when)
{
	uint64_t now = clock_ns();
	struct json_object *all;
	struct host_view *before = *view;
	const char *why;
	int r = host_statuses_ask(conn, HOST_ANSWER_MS, &all, &why);

	if (r < 0)
		return host_statuses_complain(cli, conn, r, why);
	*view = host_view_new(all, before, (double)(now - *when) / 1e9);
	json_object_put(all);
	host_view_free(before);
	*when = now;
	return *view ? EXIT_DONE : host_statuses_complain(cli, conn, -ENOMEM, NULL);
}

/* Looks twice, delay_ms apart (0: once, and there are no rates). Returns 0 and what was seen, which the
 * caller frees, or an exit code after a complaint. */
static int host_look(struct cli *cli, int delay_ms, struct host_view **view)
{
	struct xenmsg *conn;
	uint64_t when = 0;
	int code = cli_open(cli, &conn);

	if (code)
		return code;
	*view = NULL;
	code = look_look(cli, conn, view, &when);
	if (code == EXIT_DONE && delay_ms > 0) {
		poll(NULL, 0, delay_ms);
		code = look_look(cli, conn, view, &when);
	}
	xenmsg_close(conn);
	if (code != EXIT_DONE) {
		host_view_free(*view);
		*view = NULL;
	}
	return code;
}

/* Prints it as JSON. Returns an exit code. */
static int host_look_print(const struct host_view *view)
{
	cli_print_line("%s", json_line(view->shown));
	return cli_flush();
}

/* ---------------------------------------------------------------------------------------------- */

static const char help[] =
	"Usage: xenmsg top [OPTIONS]\n"
	"       xenmsg top --host [--once | --json] [OPTIONS]\n"
	"\n"
	"Shows links, endpoints, programs, streams, topics and accounts of the daemon,\n"
	"live. Keys: arrows and page up and down scroll, also sideways where the\n"
	"terminal is narrow, s sorts by traffic, by what is queued, or by the first\n"
	"column, / shows only lines with a text (escape: all again), space stops and\n"
	"goes on, q ends.\n"
	"\n"
	"      --delay S       look every S seconds (1); at least 0.1\n"
	"      --host          in domain 0, for its administrators: all domains of this\n"
	"                      host, who talks to whom and how much, what is away, and\n"
	"                      endpoints, as far as their host-sight lets domain 0 see\n"
	"      --once          look twice, so that there are rates, print that and end\n"
	"      --json          the same as a JSON object\n"
	"\n"
	"Examples:\n"
	"  xenmsg top\n"
	"  xenmsg top --delay 5s\n"
	"  xenmsg top --host\n";

#define DELAY_MIN_MS 100
#define ESCAPE	     27

static const char *const sort_names[] = {"traffic", "queued", "first column"};

#define SIDE_STEP 8

/* Returns how many bytes the first letter of a text has, and how many columns it takes. */
static size_t letter(const char *text, int *columns)
{
	mbstate_t state = {0};
	wchar_t wide;
	size_t size = mbrtowc(&wide, text, MB_CUR_MAX, &state);
	bool is_odd = size == 0 || size == (size_t)-1 || size == (size_t)-2;
	int width = is_odd ? 1 : wcwidth(wide);

	*columns = width > 0 ? width : 0;
	return is_odd ? 1 : size;
}

/* Returns where a text has so many columns before it, or its end. */
static char *behind_columns(const char *text, int columns)
{
	int taken;

	while (*text && columns > 0) {
		text += letter(text, &taken);
		columns -= taken;
	}
	return (char *)text;
}

static int columns_of(const char *text)
{
	int columns = 0, taken;

	while (*text) {
		text += letter(text, &taken);
		columns += taken;
	}
	return columns;
}

/* Draws a line over the whole width, reversed. */
static void draw_bar(int row, const char *text)
{
	attron(A_REVERSE);
	mvhline(row, 0, ' ', COLS);
	mvaddnstr(row, 0, text, -1);
	attroff(A_REVERSE);
}

/* Returns the title of a line's table, NULL if it is in none. */
static const char *title_of(const struct top *top, size_t index)
{
	while (index > 0 && !top->lines[index].is_title)
		index--;
	return top->lines[index].is_title ? top->lines[index].text : NULL;
}

/* Cuts a text before a gap so that it has so many columns at most. Returns how many it has. */
static int cut(char *text, int columns, const char *gap)
{
	char *end = behind_columns(text, columns), *at = end;

	while (at > text && *end && strncmp(at, gap, strlen(gap)) != 0)
		at--;
	*(at > text ? at : end) = '\0';
	return columns_of(text);
}

/* Puts what is seen of a line into `text`: the first columns stay where they are, and the rest is scrolled
 * sideways, without the word that is only half seen. */
static void scroll_aside(const struct top *top, const char *line, int fixed, char *text, size_t size)
{
	const char *rest = behind_columns(line, fixed), *seen = behind_columns(rest, top->left);
	size_t half = seen > rest && seen[-1] != ' ' ? strcspn(seen, " ") : 0;

	snprintf(text, size, "%.*s%*s%s", (int)(rest - line), line, (int)half, "", seen + half);
}

/* Draws a line, of which whole words are seen, and of a table whole columns. The first column is that up to
 * the title's second word. */
static void draw_line(const struct top *top, int row, size_t index)
{
	const struct top_line *line = &top->lines[index];
	const char *title = title_of(top, index);
	char head[2 * LINE_MAX_BYTES], text[2 * LINE_MAX_BYTES];
	int fixed = 0, columns = COLS;

	if (title) {
		fixed = (int)(strcspn(title, " ") + strspn(title + strcspn(title, " "), " "));
		scroll_aside(top, title, fixed, head, sizeof(head));
		if (columns_of(head) > COLS)
			columns = cut(head, COLS, " ");
	}
	scroll_aside(top, line->text, fixed, text, sizeof(text));
	cut(text, columns, title || !strstr(text, "  ") ? " " : "  ");
	if (line->is_title)
		draw_bar(row, text);
	else
		mvaddnstr(row, 0, text, -1);
}

static void draw_help(const struct top *top)
{
	const char *filter = top->filter;
	char text[160];

	if (top->typing)
		snprintf(text, sizeof(text), "/%s_  enter: done  escape: all", filter);
	else
		snprintf(text, sizeof(text), "%sq quit  arrows scroll  / filter%s%s  s sort: %s  space pause",
			 top->paused ? "PAUSED  " : "", filter[0] ? ": " : "", filter, sort_names[top->sort]);
	cut(text, COLS, "  ");
	draw_bar(LINES - 1, text);
}

/* Returns how many lines scroll: those between the head and the help. */
static size_t body_lines(void)
{
	return (size_t)(LINES > HEAD_LINES + 2 ? LINES - HEAD_LINES - 1 : 1);
}

/* Returns how many columns can be scrolled sideways until the end of the longest line is seen. */
static int columns_aside(const struct top *top)
{
	int most = 0;

	for (size_t i = 0; i < top->count; i++) {
		int columns = columns_of(top->lines[i].text);

		most = columns > most ? columns : most;
	}
	return most > COLS ? most - COLS : 0;
}

static void draw(struct top *top)
{
	size_t height = body_lines();
	size_t below = top->count > HEAD_LINES ? top->count - HEAD_LINES : 0;
	int aside = columns_aside(top);

	if (top->first + height > below)
		top->first = below > height ? below - height : 0;
	if (top->left > aside)
		top->left = aside;
	erase();
	for (int row = 0; row < LINES - 1; row++) {
		size_t index = (size_t)row < HEAD_LINES ? (size_t)row : (size_t)row + top->first;

		if (index >= top->count)
			break;
		draw_line(top, row, index);
	}
	draw_help(top);
	refresh();
}

static double seconds_now(void)
{
	return (double)clock_ns() / 1e9;
}

/* Keeps an answer, which has taken the place of the one before. */
static void keep(struct top *top, struct json_object *status)
{
	json_object_put(top->before);
	top->before = top->now;
	top->now = status;
}

/* Asks the local daemon. Returns a negative errno if there was no answer. */
static int look_here(struct top *top)
{
	int r;
	struct json_object *status = cli_query(top->conn, "status", NULL, &r);

	if (status)
		keep(top, status);
	return r;
}

/* Asks those of the host, so many seconds after the last time. */
static int look_at_host(struct top *top, double seconds)
{
	struct json_object *all;
	struct host_view *view;
	const char *why;
	int r = host_statuses_ask(top->conn, HOST_ANSWER_MS, &all, &why);

	if (r < 0)
		return r;
	view = host_view_new(all, top->view, seconds);
	json_object_put(all);
	if (!view)
		return -ENOMEM;
	host_view_free(top->view);
	top->view = view;
	return 0;
}

/* Looks. If the daemon is gone, its last answer stays on the screen. */
static void look(struct top *top)
{
	double now;
	int r;

	interrupt_allow(NULL);
	r = top->conn ? 0 : xenmsg_open(&top->conn, top->cli->socket, NULL);
	now = seconds_now();
	if (r == 0)
		r = top->is_host ? look_at_host(top, now - top->now_s) : look_here(top);
	interrupt_forbid();
	if (r < 0) {
		snprintf(top->trouble, sizeof(top->trouble), "no answer from xenmsgd: %s", strerror(-r));
		xenmsg_close(top->conn);
		top->conn = NULL;
		return;
	}
	top->trouble[0] = '\0';
	top->before_s = top->now_s;
	top->now_s = now;
}

static void type(struct top *top, int key)
{
	size_t length = strlen(top->filter);

	if (key == '\n' || key == '\r' || key == KEY_ENTER || key == ESCAPE)
		top->typing = false;
	if (key == ESCAPE)
		memset(top->filter, 0, sizeof(top->filter));
	else if ((key == KEY_BACKSPACE || key == '\b' || key == 0x7f) && length > 0)
		top->filter[length - 1] = '\0';
	else if (key >= ' ' && key < 0x7f && length + 1 < sizeof(top->filter))
		top->filter[length] = (char)key; /* the rest is zero */
}

/* Returns false if the user wants to quit. */
static bool on_key(struct top *top, int key)
{
	size_t page = body_lines() > 1 ? body_lines() - 1 : 1;

	if (top->typing) {
		type(top, key);
		return true;
	}

	if (key == KEY_UP && top->first > 0)
		top->first--;
	else if (key == KEY_DOWN)
		top->first++;
	else if (key == KEY_PPAGE)
		top->first = top->first > page ? top->first - page : 0;
	else if (key == KEY_NPAGE)
		top->first += page;
	else if (key == KEY_LEFT)
		top->left = top->left > SIDE_STEP ? top->left - SIDE_STEP : 0;
	else if (key == KEY_RIGHT)
		top->left += SIDE_STEP;
	else if (key == ' ')
		top->paused = !top->paused;
	else if (key == 's')
		top->sort = (top->sort + 1) % SORTS;
	else if (key == '/')
		top->typing = true;
	else if (key == ESCAPE)
		memset(top->filter, 0, sizeof(top->filter));
	return key != 'q' && key != 'Q';
}

/* Nothing says so where this process isn't told by SIGHUP. */
static bool is_terminal_gone(void)
{
	struct pollfd terminal = {.fd = STDIN_FILENO};

	return poll(&terminal, 1, 0) > 0;
}

static int watch_it(struct top *top, int delay_ms)
{
	double next = 0;
	bool more = true;

	int key;

	while (more && !interrupt_came()) {
		double left_ms = (next - seconds_now()) * 1000;

		if (left_ms <= 0) {
			if (!top->paused)
				look(top);
			next = seconds_now() + delay_ms / 1000.0;
			left_ms = delay_ms;
		}
		if (top->is_host)
			top_make_host_lines(top);
		else
			top_make_lines(top);
		draw(top);
		interrupt_sleep(STDIN_FILENO, (int)left_ms + 1);
		if (is_terminal_gone())
			return EXIT_OTHER;
		/* All that was typed before it is drawn again: with thousands of lines that takes longer than
		 * a key does. */
		while (more && (key = getch()) != ERR)
			more = on_key(top, key);
	}
	return EXIT_DONE;
}

/* Draws on the terminal from now on. NULL: it can't. */
static SCREEN *open_screen(void)
{
	SCREEN *screen;

	/* The terminal's own size, whatever COLUMNS and LINES say: they may be of another one. */
	use_tioctl(TRUE);
	screen = newterm(NULL, stdout, stdin);
	if (screen && !tigetstr("cup")) { /* it can't put text in its place */
		endwin();
		delscreen(screen);
		screen = NULL;
	}
	if (!screen)
		return NULL;
	cbreak();
	noecho();
	keypad(stdscr, TRUE);
	set_escdelay(50);
	curs_set(0);
	timeout(0); /* don't wait here: poll() sleeps */
	return screen;
}

static int run(struct top *top, int delay_ms)
{
	SCREEN *screen;
	int code;

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		return cli_usage("top", top->is_host ? "top needs a terminal, or --once"
						     : "top needs a terminal; 'xenmsg status' needs none");
	/* What is wrong is said before the screen is taken. */
	code = top->is_host ? host_look(top->cli, 0, &top->view) : cli_open(top->cli, &top->conn);
	if (code)
		return code;
	setlocale(LC_ALL, "");
	interrupt_catch();
	screen = open_screen();
	if (!screen)
		return cli_usage("top", "a terminal of the kind '%s' can't show it",
				 getenv("TERM") ? getenv("TERM") : "");
	code = watch_it(top, delay_ms);
	endwin();
	delscreen(screen);
	return code;
}

/* Prints what a screen of the host would show, or the same as JSON. */
static int print(struct top *top, int delay_ms, bool json)
{
	int code = host_look(top->cli, delay_ms, &top->view);

	if (code)
		return code;
	if (json)
		return host_look_print(top->view);
	top_make_host_lines(top);
	for (size_t i = 0; i < top->count; i++)
		cli_print_line("%s", top->lines[i].text);
	return cli_flush();
}

int cmd_top(struct cli *cli, int argc, char **argv)
{
	struct top top = {.cli = cli};
	int code, delay_ms = 1000;
	bool once = false, json = false;
	const struct cli_option options[] = {{"delay", .ms = &delay_ms, .least_ms = DELAY_MIN_MS},
					     {"host", .flag = &top.is_host},
					     {"once", .flag = &once},
					     {"json", .flag = &json},
					     {0}};

	if (!cli_options(cli, argc, argv, help, options, &code))
		return code;
	if (optind < argc)
		return cli_usage("top", "top takes no arguments");
	if ((once || json) && !top.is_host)
		return cli_usage("top", "--once and --json go with --host; else 'xenmsg status' does that");
	code = once || json ? print(&top, delay_ms, json) : run(&top, delay_ms);
	xenmsg_close(top.conn);
	json_object_put(top.now);
	json_object_put(top.before);
	host_view_free(top.view);
	free(top.lines);
	return code;
}
