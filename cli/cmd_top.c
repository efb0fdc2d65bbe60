/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* top: shows the daemon's status live in a terminal. Each round asks for it; rates are the differences
 * between rounds. */

#include <locale.h>
#include <ncurses.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#include <json-c/json.h>

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/top.h"

static const char help[] =
	"Usage: xenmsg top [OPTIONS]\n"
	"\n"
	"Shows links, endpoints, programs, streams, topics and accounts of the daemon,\n"
	"live. Keys: arrows and page up and down scroll, also sideways where the\n"
	"terminal is narrow, s sorts by traffic, by what is queued, or by the first\n"
	"column, / shows only lines with a text (escape: all again), space stops and\n"
	"goes on, q ends.\n"
	"\n"
	"      --delay S       look every S seconds (1); at least 0.1\n"
	"\n"
	"Examples:\n"
	"  xenmsg top\n"
	"  xenmsg top --delay 5s\n";

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
static char *behind_columns(char *text, int columns)
{
	int taken;

	while (*text && columns > 0) {
		text += letter(text, &taken);
		columns -= taken;
	}
	return text;
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

/* Returns how wide the first column of a table is, by its title: up to the second word. */
static int first_column(const char *title)
{
	size_t word = strcspn(title, " ");

	return (int)(word + strspn(title + word, " "));
}

/* Returns how many columns of a line stay when the others are scrolled sideways: those of its table's first one. */
static int fixed_of(const struct top *top, size_t index)
{
	while (index > 0 && !top->lines[index].is_title)
		index--;
	return top->lines[index].is_title ? first_column(top->lines[index].text) : 0;
}

/* Draws a line, of which the first columns stay where they are, and the rest is scrolled sideways. */
static void draw_line(const struct top *top, int row, struct top_line *line, int fixed)
{
	char *rest = behind_columns(line->text, fixed);
	char text[2 * LINE_MAX_BYTES];

	snprintf(text, sizeof(text), "%.*s%s", (int)(rest - line->text), line->text,
		 behind_columns(rest, top->left));
	*behind_columns(text, COLS) = '\0';
	if (line->is_title)
		draw_bar(row, text);
	else
		mvaddnstr(row, 0, text, -1);
}

static void draw_help(const struct top *top)
{
	const char *filter = top->filter;
	char text[160];

	if (top->typing && COLS < 80)
		snprintf(text, sizeof(text), "/%s_  (enter, escape)", filter);
	else if (top->typing)
		snprintf(text, sizeof(text), "show only lines with: %s_  (enter: done, escape: all)", filter);
	else if (COLS < 80)
		snprintf(text, sizeof(text), "q quit  %ss sort  /%s  arrows", top->paused ? "PAUSED  " : "",
			 filter[0] ? filter : " filter");
	else
		snprintf(text, sizeof(text), "q quit  space %s  s sort: %s  / filter%s%s  arrows scroll",
			 top->paused ? "go on" : "pause", sort_names[top->sort], filter[0] ? ": " : "",
			 filter);
	*behind_columns(text, COLS) = '\0';
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
		draw_line(top, row, &top->lines[index], fixed_of(top, index));
	}
	draw_help(top);
	refresh();
}

static double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Asks the daemon. If it is gone, its last answer stays on the screen. */
static void look(struct top *top)
{
	struct json_object *status;
	char *text;
	int r;

	interrupt_allow(NULL);
	r = top->conn ? 0 : xenmsg_open(&top->conn, top->cli->socket, NULL);
	if (r == 0)
		r = xenmsg_query(top->conn, "status", NULL, &text);
	interrupt_forbid();
	if (r < 0) {
		snprintf(top->trouble, sizeof(top->trouble), "no answer from xenmsgd: %s", strerror(-r));
		xenmsg_close(top->conn);
		top->conn = NULL;
		return;
	}
	status = json_tokener_parse(text);
	free(text);
	if (!status)
		return;
	top->trouble[0] = '\0';
	json_object_put(top->before);
	top->before = top->now;
	top->before_s = top->now_s;
	top->now = status;
	top->now_s = seconds_now();
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

static void watch_it(struct top *top, int delay_ms)
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
		top_make_lines(top);
		draw(top);
		interrupt_sleep(STDIN_FILENO, (int)left_ms + 1);
		/* All that was typed before it is drawn again: with thousands of lines that takes longer than a key does. */
		while (more && (key = getch()) != ERR)
			more = on_key(top, key);
	}
}

int cmd_top(struct cli *cli, int argc, char **argv)
{
	struct top top = {.cli = cli};
	int code, delay_ms = 1000;
	const struct cli_option options[] = {{"delay", .ms = &delay_ms, .least_ms = DELAY_MIN_MS}, {0}};
	SCREEN *screen;

	if (!cli_options(cli, argc, argv, help, options, &code))
		return code;
	if (optind < argc)
		return cli_usage("top", "it takes no arguments");
	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		return cli_usage("top", "it needs a terminal; 'xenmsg status' doesn't");
	code = cli_open(cli, &top.conn);
	if (code)
		return code;
	setlocale(LC_ALL, "");
	interrupt_catch();
	screen = newterm(NULL, stdout, stdin);
	if (screen && !tigetstr("cup")) { /* it can't put text in its place */
		endwin();
		delscreen(screen);
		screen = NULL;
	}
	if (!screen) {
		xenmsg_close(top.conn);
		return cli_usage("top", "it can't use a terminal of the kind '%s'",
				 getenv("TERM") ? getenv("TERM") : "");
	}
	cbreak();
	noecho();
	keypad(stdscr, TRUE);
	set_escdelay(50);
	curs_set(0);
	timeout(0); /* don't wait here: poll() sleeps */
	watch_it(&top, delay_ms);
	endwin();
	delscreen(screen);
	xenmsg_close(top.conn);
	json_object_put(top.now);
	json_object_put(top.before);
	free(top.lines);
	return EXIT_DONE;
}
