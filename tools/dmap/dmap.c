// SPDX-License-Identifier: GPL-2.0-only
/*
 * A picture of the direct map of the running kernel, or of a saved dump of its
 * page tables: one cell for each 2 MB of physical memory, by the size of the
 * pages that map it.
 *
 * Reads what CONFIG_PTDUMP_DEBUGFS shows, of x86-64 with page tables of 4 and of
 * 5 levels. Stands alone, to be built and used on any machine:
 *
 *	gcc -O2 -static -o dmap dmap.c
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEBUGFS		"/sys/kernel/debug"
#define PTDUMP		DEBUGFS "/page_tables/kernel"
#define DEBUGFS_MAGIC	0x64626720
#define SECTION		"Low Kernel Mapping"

#define CELL_SHIFT	21
#define CELL		(1UL << CELL_SHIFT)
#define GB		(1UL << 30)

/* A cell shows the last of these that there is in it. */
enum kind { NONE, PUD, PMD, PTE, PINNED, KINDS };

static const struct kind_info {
	const char *name, *text, *svg;
	char letter;
	int ansi;
} kinds[KINDS] = {
	[NONE]	 = { "none",   "not present",			"#d0d7de", '.', 250 },
	[PUD]	 = { "1G",     "1G pages",			"#1a7f37", 'G', 28 },
	[PMD]	 = { "2M",     "2M pages",			"#8fd694", 'M', 114 },
	[PTE]	 = { "4K",     "4K pages",			"#f0883e", 'k', 208 },
	[PINNED] = { "pinned", "4K pages that are to stay so",	"#8250df", 'P', 141 },
};

/* In order of size of the page; what is not present comes last. */
static const enum kind shown[KINDS] = { PUD, PMD, PTE, PINNED, NONE };

struct run {
	unsigned long nr;
	enum kind kind;
};

/* Runs of cells from physical address 0 on; bytes as mapped, cells or not. */
struct picture {
	struct run *runs;
	size_t nr_runs, room;
	unsigned long nr;			/* cells in all runs */
	unsigned long cells[KINDS], bytes[KINDS];
};

static __attribute__((format(printf, 1, 2), noreturn)) void die(const char *fmt, ...)
{
	va_list args;

	fflush(stdout);
	fputs("dmap: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
	exit(3);
}

static void push(struct picture *pic, unsigned long nr, enum kind kind)
{
	if (!nr)
		return;
	pic->nr += nr;
	if (pic->nr_runs && pic->runs[pic->nr_runs - 1].kind == kind) {
		pic->runs[pic->nr_runs - 1].nr += nr;
		return;
	}
	if (pic->nr_runs == pic->room) {
		pic->room = pic->room ? 2 * pic->room : 256;
		pic->runs = realloc(pic->runs, pic->room * sizeof(*pic->runs));
		if (!pic->runs)
			die("out of memory");
	}
	pic->runs[pic->nr_runs++] = (struct run){ nr, kind };
}

static void drop_last_cell(struct picture *pic)
{
	pic->nr--;
	if (!--pic->runs[pic->nr_runs - 1].nr)
		pic->nr_runs--;
}

/* Ranges come in order and without gaps: only the last cell can be shared. */
static void add_range(struct picture *pic, unsigned long start,
		      unsigned long end, enum kind kind)
{
	unsigned long cell = start / CELL, after = (end + CELL - 1) / CELL;

	pic->bytes[kind] += end - start;
	if (cell < pic->nr) {
		if (kind > pic->runs[pic->nr_runs - 1].kind) {
			drop_last_cell(pic);
			push(pic, 1, kind);
		}
		cell++;
	}
	if (after > cell)
		push(pic, after - cell, kind);
}

/* The kernel has room behind the last page that it maps: that is no hole. */
static void finish(struct picture *pic, unsigned long mapped)
{
	size_t i;

	if (pic->nr_runs && pic->runs[pic->nr_runs - 1].kind == NONE)
		pic->nr -= pic->runs[--pic->nr_runs].nr;
	pic->bytes[NONE] = mapped;
	for (i = PUD; i < KINDS; i++)
		pic->bytes[NONE] -= pic->bytes[i];
	for (i = 0; i < pic->nr_runs; i++)
		pic->cells[pic->runs[i].kind] += pic->runs[i].nr;
}

/*
 * A line reads "0xSTART-0xEND  SIZE ATTRIBUTES LEVEL"; one of a range that is
 * not mapped has no attributes. The attribute "4K" is the mark of a page that
 * must stay mapped by 4K, on kernels that show it.
 */
static bool parse_line(char *line, unsigned long *start, unsigned long *end,
		       enum kind *kind)
{
	const char *level = NULL, *word;
	bool marked = false;
	int words = 0, used;

	if (sscanf(line, "0x%lx-0x%lx %*s%n", start, end, &used) != 2)
		return false;
	for (word = strtok(line + used, " \n"); word; word = strtok(NULL, " \n")) {
		words++;
		marked |= !strcmp(word, "4K");
		level = word;
	}
	if (!words || *end <= *start)
		return false;
	if (!strcmp(level, "pte"))
		*kind = marked ? PINNED : PTE;
	else if (!strcmp(level, "pmd"))
		*kind = PMD;
	else if (!strcmp(level, "pud"))
		*kind = PUD;
	else if ((strcmp(level, "p4d") && strcmp(level, "pgd")) || words > 1)
		return false;
	if (words == 1)
		*kind = NONE;

	return true;
}

static __attribute__((noreturn)) void die_of_open(const char *path, bool live)
{
	struct statfs fs;
	int err = errno;

	if (!live)
		die("%s: %s", path, strerror(err));
	if (err == EACCES)
		die("%s can be read by root only: run it as root", path);
	if (err == EPERM)
		die("%s is locked down: boot without lockdown=, or look from a kernel without Secure Boot",
		    path);
	if (err != ENOENT)
		die("%s: %s", path, strerror(err));
	if (statfs(DEBUGFS, &fs) || fs.f_type != DEBUGFS_MAGIC)
		die("debugfs is not mounted: mount -t debugfs none " DEBUGFS);
	die("%s is missing: the kernel needs CONFIG_PTDUMP_DEBUGFS=y (old ones: CONFIG_X86_PTDUMP=y)",
	    path);
}

/* The section of the direct map ends where the next one begins. */
static void read_dump(struct picture *pic, const char *path, FILE *file)
{
	unsigned long base = 0, expected = 0, mapped = 0, start, end, nr = 0;
	unsigned long before_start = 1, before_end = 0;
	bool inside = false, ended = false;
	enum kind kind, before = NONE;
	char *line = NULL;
	size_t room = 0;

	while (!ended && getline(&line, &room, file) > 0) {
		nr++;
		if (!strncmp(line, "---[", 4)) {
			ended = inside;
			inside = strstr(line, SECTION);
			continue;
		}
		if (!inside) {
			if (!parse_line(line, &before_start, &before_end, &before))
				before_end = 0;
			continue;
		}
		if (!strchr(line, '\n'))
			break;
		if (!parse_line(line, &start, &end, &kind))
			die("%s: line %lu is not one of a dump of page tables", path, nr);
		if (!expected)
			base = expected = start;
		/*
		 * Where two sections begin at one address the kernel prints the first
		 * range before the name of the second.
		 */
		if (expected == base && start % GB && before_end == start && before_start % GB == 0) {
			base = before_start;
			add_range(pic, 0, start - base, before);
		}
		if (start != expected)
			die("%s: line %lu begins at %#lx, the one before ends at %#lx: lines are missing",
			    path, nr, start, expected);
		expected = end;
		add_range(pic, start - base, end - base, kind);
		if (kind != NONE)
			mapped = end - base;
	}
	free(line);
	if (ferror(file))
		die("%s: %s", path, strerror(errno));
	if (inside && !ended)
		die("%s is truncated: it ends in the section \"" SECTION "\"", path);
	if (!ended)
		die("%s has no section \"" SECTION "\": is it a dump of the page tables of an x86-64 kernel?",
		    path);
	if (!mapped)
		die("%s: nothing is mapped in the section \"" SECTION "\"", path);
	if (base % GB)
		die("%s: the direct map begins at %#lx, which no kernel does: its first lines are missing",
		    path, base);
	finish(pic, mapped);
}

static void read_picture(struct picture *pic, const char *input)
{
	const char *path = input ? input : PTDUMP;
	FILE *file = strcmp(path, "-") ? fopen(path, "re") : stdin;

	if (!file)
		die_of_open(path, !input);
	read_dump(pic, path, file);
	if (file != stdin)
		fclose(file);
}

/* How the rows of a picture are told apart and drawn. */
struct view {
	FILE *out;
	const char *title;
	unsigned long width;		/* cells in a row */
	bool fold, color;
	int y;				/* of an SVG picture: where the next row goes */
};

/* A row: its runs, taken from those of the picture. */
struct row {
	struct run *runs;
	size_t nr_runs;
};

static bool uniform(const struct row *row, unsigned long width)
{
	return row->nr_runs == 1 && row->runs[0].nr == width;
}

/* A place in the picture. */
struct cursor {
	size_t run;
	unsigned long used;		/* cells of that run */
};

static void take_row(const struct picture *pic, struct cursor *at,
		     unsigned long width, struct row *row)
{
	row->nr_runs = 0;
	while (width && at->run < pic->nr_runs) {
		const struct run *run = &pic->runs[at->run];
		unsigned long nr = run->nr - at->used;

		if (nr > width)
			nr = width;
		row->runs[row->nr_runs++] = (struct run){ nr, run->kind };
		width -= nr;
		at->used += nr;
		if (at->used == run->nr) {
			at->run++;
			at->used = 0;
		}
	}
}

/* How many rows more are all of the run that the last one was of. */
static unsigned long take_equal_rows(const struct picture *pic, struct cursor *at,
				     unsigned long width, enum kind kind)
{
	unsigned long rows;

	if (at->run >= pic->nr_runs || pic->runs[at->run].kind != kind)
		return 0;
	rows = (pic->runs[at->run].nr - at->used) / width;
	at->used += rows * width;
	if (at->used == pic->runs[at->run].nr) {
		at->run++;
		at->used = 0;
	}

	return rows;
}

static void each_row(const struct picture *pic, struct view *view,
		     void (*draw)(struct view *, unsigned long, const struct row *),
		     void (*draw_fold)(struct view *, unsigned long, enum kind))
{
	struct cursor at = { 0 }, before;
	unsigned long cell = 0, rows;
	struct row row;

	row.runs = malloc(view->width * sizeof(*row.runs));
	if (!row.runs)
		die("out of memory");
	while (cell < pic->nr) {
		take_row(pic, &at, view->width, &row);
		draw(view, cell, &row);
		cell += view->width;
		if (!view->fold || !uniform(&row, view->width))
			continue;
		before = at;
		rows = take_equal_rows(pic, &at, view->width, row.runs[0].kind);
		if (rows < 2) {
			at = before;
			continue;
		}
		draw_fold(view, rows, row.runs[0].kind);
		cell += rows * view->width;
	}
	free(row.runs);
}

#define LABEL	11

static void label(char *text, size_t size, unsigned long cell)
{
	snprintf(text, size, "%9.3fG", (double)cell * CELL / GB);
}

static void draw_text_row(struct view *view, unsigned long cell, const struct row *row)
{
	unsigned long i;
	char text[32];
	size_t r;

	label(text, sizeof(text), cell);
	fprintf(view->out, "%s ", text);
	for (r = 0; r < row->nr_runs; r++) {
		const struct kind_info *kind = &kinds[row->runs[r].kind];

		if (view->color)
			fprintf(view->out, "\033[30;48;5;%dm", kind->ansi);
		for (i = 0; i < row->runs[r].nr; i++)
			fputc(kind->letter, view->out);
		if (view->color)
			fputs("\033[0m", view->out);
	}
	fputc('\n', view->out);
}

static void draw_text_fold(struct view *view, unsigned long rows, enum kind kind)
{
	fprintf(view->out, "%*s... %lu rows more, all %s\n", LABEL, "", rows,
		kinds[kind].text);
}

static void write_legend(struct view *view)
{
	size_t i;

	for (i = 0; i < KINDS; i++) {
		const struct kind_info *kind = &kinds[shown[i]];

		if (view->color)
			fprintf(view->out, "\033[30;48;5;%dm%c\033[0m", kind->ansi, kind->letter);
		else
			fputc(kind->letter, view->out);
		fprintf(view->out, " %s%s", kind->text, i + 1 < KINDS ? "   " : "\n");
	}
}

static void write_totals(const struct picture *pic, FILE *out)
{
	size_t i;

	fprintf(out, "%-8s %10s %8s %12s\n", "", "cells", "of all", "MB");
	for (i = 0; i < KINDS; i++) {
		enum kind kind = shown[i];

		fprintf(out, "%-8s %10lu %7.2f%% %12.2f\n", kinds[kind].name,
			pic->cells[kind], 100.0 * pic->cells[kind] / pic->nr,
			(double)pic->bytes[kind] / (1 << 20));
	}
	fprintf(out, "%-8s %10lu\n", "all", pic->nr);
}

static void write_text(const struct picture *pic, struct view *view)
{
	fprintf(view->out, "%s, a cell is 2 MB, a row %lu MB\n\n", view->title, 2 * view->width);
	each_row(pic, view, draw_text_row, draw_text_fold);
	fputc('\n', view->out);
	write_legend(view);
	fputc('\n', view->out);
	write_totals(pic, view->out);
}

static void write_summary(const struct picture *pic)
{
	size_t i;

	for (i = 0; i < KINDS; i++)
		printf("%s%s %lu", i ? " " : "", kinds[shown[i]].name,
		       pic->cells[shown[i]]);
	putchar('\n');
}

/* Pixels. */
#define SVG_CELL	6
#define SVG_LEFT	84
#define SVG_LINE	16
#define SVG_TOP		36
#define SVG_FOLD_ROWS	192

static void svg_text(struct view *view, int x, int y, const char *text)
{
	fprintf(view->out, "<text x=\"%d\" y=\"%d\">", x, y);
	for (; *text; text++) {
		switch (*text) {
		case '&':
			fputs("&amp;", view->out);
			break;
		case '<':
			fputs("&lt;", view->out);
			break;
		default:
			fputc(*text, view->out);
		}
	}
	fputs("</text>\n", view->out);
}

static void svg_rect(struct view *view, unsigned long x, unsigned long width, enum kind kind)
{
	fprintf(view->out,
		"<rect x=\"%lu\" y=\"%d\" width=\"%lu\" height=\"%d\" fill=\"%s\"/>\n",
		SVG_LEFT + x * SVG_CELL, view->y, width * SVG_CELL, SVG_CELL, kinds[kind].svg);
}

static void draw_svg_row(struct view *view, unsigned long cell, const struct row *row)
{
	unsigned long x = 0;
	char text[32];
	size_t r;

	/* A label every 512 MB, so that they don't overlap. */
	if (!((cell * CELL) % (GB / 2))) {
		label(text, sizeof(text), cell);
		svg_text(view, 4, view->y + SVG_CELL, text + strspn(text, " "));
	}
	for (r = 0; r < row->nr_runs; r++) {
		svg_rect(view, x, row->runs[r].nr, row->runs[r].kind);
		x += row->runs[r].nr;
	}
	view->y += SVG_CELL + 1;
}

static void draw_svg_fold(struct view *view, unsigned long rows, enum kind kind)
{
	char text[96];

	snprintf(text, sizeof(text), "%lu rows more, all %s", rows, kinds[kind].text);
	svg_text(view, SVG_LEFT, view->y + SVG_LINE - 4, text);
	view->y += SVG_LINE + 2;
}

static void draw_svg_legend(const struct picture *pic, struct view *view)
{
	char text[128];
	size_t i;

	view->y += SVG_LINE / 2;
	for (i = 0; i < KINDS; i++) {
		enum kind kind = shown[i];

		svg_rect(view, 0, 2, kind);
		snprintf(text, sizeof(text), "%s: %lu cells, %.1f%%", kinds[kind].text,
			 pic->cells[kind], 100.0 * pic->cells[kind] / pic->nr);
		svg_text(view, SVG_LEFT + 3 * SVG_CELL, view->y + SVG_CELL, text);
		view->y += SVG_LINE;
	}
}

/* The size of a picture stands before it: draw it once for that. */
static void draw_svg(const struct picture *pic, struct view *view, int height)
{
	unsigned long width = SVG_LEFT + view->width * SVG_CELL + 8;
	char text[256];

	fprintf(view->out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%lu\" height=\"%d\" viewBox=\"0 0 %lu %d\" font-family=\"sans-serif\" font-size=\"11\">\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
		width, height, width, height);
	snprintf(text, sizeof(text), "%s, a cell is 2 MB, a row %lu MB",
		 view->title, 2 * view->width);
	svg_text(view, 4, SVG_LINE, text);
	view->y = SVG_TOP;
	each_row(pic, view, draw_svg_row, draw_svg_fold);
	draw_svg_legend(pic, view);
	fputs("</svg>\n", view->out);
}

static void write_svg(const struct picture *pic, struct view view, FILE *out)
{
	view.color = false;
	view.fold = view.fold && pic->nr / view.width > SVG_FOLD_ROWS;
	view.out = fopen("/dev/null", "we");
	if (!view.out)
		die("/dev/null: %s", strerror(errno));
	draw_svg(pic, &view, 0);
	fclose(view.out);
	view.out = out;
	draw_svg(pic, &view, view.y + 8);
}

static void close_or_die(FILE *file, const char *path)
{
	bool bad = ferror(file);

	if (fclose(file) || bad)
		die("%s could not be written: %s", path, strerror(errno));
}

static void write_svg_file(const struct picture *pic, const struct view *view, const char *path)
{
	FILE *out = fopen(path, "we");

	if (!out)
		die("%s: %s", path, strerror(errno));
	write_svg(pic, *view, out);
	close_or_die(out, path);
}

/* Status 127 is the shell's word for a command that is not there. */
static void write_png_file(const struct picture *pic, const struct view *view, const char *path)
{
	int fds[2], status;
	FILE *out;
	pid_t pid;

	if (pipe(fds))
		die("pipe: %s", strerror(errno));
	pid = fork();
	if (pid < 0)
		die("fork: %s", strerror(errno));
	if (!pid) {
		dup2(fds[0], 0);
		close(fds[0]);
		close(fds[1]);
		execlp("rsvg-convert", "rsvg-convert", "-o", path, NULL);
		_exit(127);
	}
	close(fds[0]);
	out = fdopen(fds[1], "w");
	if (!out)
		die("pipe: %s", strerror(errno));
	write_svg(pic, *view, out);
	fclose(out);
	if (waitpid(pid, &status, 0) < 0 || status) {
		if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
			die("a PNG needs rsvg-convert: apt-get install librsvg2-bin, or take --svg");
		die("rsvg-convert could not write %s", path);
	}
}

/* The widest power of two that fits, so that rows begin at round addresses. */
static unsigned long fitting_width(void)
{
	const char *columns = getenv("COLUMNS");
	unsigned long have = 80, width = 16;
	struct winsize size;

	if (isatty(1) && !ioctl(1, TIOCGWINSZ, &size) && size.ws_col)
		have = size.ws_col;
	else if (columns && atol(columns) > 0)
		have = atol(columns);
	while (2 * width + LABEL <= have && width < 512)
		width *= 2;

	return width;
}

static bool want_color(const char *when)
{
	if (!strcmp(when, "always"))
		return true;
	if (!strcmp(when, "never"))
		return false;
	if (strcmp(when, "auto"))
		die("--color=%s: say auto, always or never", when);

	return isatty(1) && !getenv("NO_COLOR");
}

static unsigned long parse_width(const char *text)
{
	char *end;
	unsigned long width = strtoul(text, &end, 10);

	if (*end || width < 8 || width > 4096)
		die("--width %s: say a number of cells from 8 to 4096", text);

	return width;
}

static void usage(FILE *out)
{
	fputs("usage: dmap [options]\n"
	      "Show how the kernel's direct map is mapped, a cell for each 2 MB.\n"
	      "\n"
	      "  --input FILE   a saved dump, - for standard input (default " PTDUMP ")\n"
	      "  --title TEXT   what stands above the picture\n"
	      "  --svg FILE     write an SVG picture\n"
	      "  --png FILE     write a PNG picture (needs rsvg-convert)\n"
	      "  --text         print the picture, the default unless another is asked for\n"
	      "  --summary      print how many cells there are of each kind, in a line\n"
	      "  --width N      cells in a row (default: what fits; 128 for --svg and --png)\n"
	      "  --color WHEN   auto, always or never\n"
	      "  --all          don't fold rows that are all of one kind\n", out);
}

struct request {
	const char *input, *title, *svg, *png, *color;
	unsigned long width;
	bool text, summary, all;
};

static void parse_args(struct request *ask, int argc, char **argv)
{
	static const struct option options[] = {
		{ "input", required_argument, NULL, 'i' },
		{ "title", required_argument, NULL, 't' },
		{ "svg", required_argument, NULL, 's' },
		{ "png", required_argument, NULL, 'p' },
		{ "text", no_argument, NULL, 'x' },
		{ "summary", no_argument, NULL, 'm' },
		{ "width", required_argument, NULL, 'w' },
		{ "color", required_argument, NULL, 'c' },
		{ "all", no_argument, NULL, 'a' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'i':
			ask->input = optarg;
			break;
		case 't':
			ask->title = optarg;
			break;
		case 's':
			ask->svg = optarg;
			break;
		case 'p':
			ask->png = optarg;
			break;
		case 'x':
			ask->text = true;
			break;
		case 'm':
			ask->summary = true;
			break;
		case 'w':
			ask->width = parse_width(optarg);
			break;
		case 'c':
			ask->color = optarg;
			break;
		case 'a':
			ask->all = true;
			break;
		case 'h':
			usage(stdout);
			exit(0);
		default:
			usage(stderr);
			exit(3);
		}
	}
	if (optind < argc) {
		usage(stderr);
		exit(3);
	}
	if (!ask->svg && !ask->png && !ask->summary)
		ask->text = true;
}

int main(int argc, char **argv)
{
	struct request ask = { .title = "Direct map", .color = "auto" };
	struct view text, graphic;
	struct picture pic = { 0 };

	parse_args(&ask, argc, argv);
	text = (struct view){
		.out = stdout,
		.title = ask.title,
		.width = ask.width ? ask.width : fitting_width(),
		.fold = !ask.all,
		.color = want_color(ask.color),
	};
	graphic = text;
	graphic.width = ask.width ? ask.width : 128;

	/* A converter that is missing or dies has a message of its own. */
	signal(SIGPIPE, SIG_IGN);
	read_picture(&pic, ask.input);
	if (ask.svg)
		write_svg_file(&pic, &graphic, ask.svg);
	if (ask.png)
		write_png_file(&pic, &graphic, ask.png);
	if (ask.summary)
		write_summary(&pic);
	if (ask.text)
		write_text(&pic, &text);
	free(pic.runs);
	if (fflush(stdout) || ferror(stdout))
		die("standard output: %s", strerror(errno));

	return 0;
}
