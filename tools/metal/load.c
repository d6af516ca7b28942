// SPDX-License-Identifier: GPL-2.0-only
/*
 * Work that the kernel does through its direct map, to be counted by perf, and
 * what fragments the direct map from user space. See ../bench-metal.
 *
 *	load prepare DIR MB FILES	a file of MB and FILES empty ones
 *	load tmpfs DIR OPERATIONS	64 bytes read or written at random places
 *	load stat DIR OPERATIONS	stat() of random ones of the empty files
 *	load pipes PIPES OPERATIONS	a page into and out of a random pipe
 *	load fragment secret|pages MB	for each 2 MB of that much memory a page that
 *					has permissions of its own: secret memory,
 *					or pages of CONFIG_DIRECT_MAP_TEST
 *	load secret			is there memfd_secret()?
 *
 * Touches no memory and no file but its own; if memory gets short it is the
 * first to be killed. The same operations in the same order each time.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MB		(1UL << 20)
#define PAGE		4096UL
#define FILES_IN_DIR	1000
#define PAGES_FILE	"/sys/kernel/debug/direct_map_test"

static __attribute__((format(printf, 1, 2), noreturn)) void die(const char *fmt, ...)
{
	int err = errno;
	va_list args;

	fputs("load: ", stderr);
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fprintf(stderr, ": %s\n", strerror(err));
	exit(1);
}

static uint64_t state = 0x9e3779b97f4a7c15;

static uint64_t random_below(uint64_t limit)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;

	return state % limit;
}

static void be_first_to_go(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY);

	if (fd < 0 || write(fd, "1000", 4) != 4)
		die("oom_score_adj");
	close(fd);
}

/* Where that is forbidden, what needs more says so. */
static void lift_limit(int resource, rlim_t least)
{
	struct rlimit limit = { least, least };

	setrlimit(resource, &limit);
}

static void name_file(char *path, size_t size, const char *dir, unsigned long i)
{
	snprintf(path, size, "%s/%lu/%lu", dir, i / FILES_IN_DIR, i % FILES_IN_DIR);
}

static void prepare(const char *dir, unsigned long mb, unsigned long files)
{
	static char block[MB];
	char path[4096];
	unsigned long i;
	int fd;

	snprintf(path, sizeof(path), "%s/file", dir);
	fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
	if (fd < 0)
		die("%s", path);
	memset(block, 1, sizeof(block));
	for (i = 0; i < mb; i++) {
		if (write(fd, block, sizeof(block)) != sizeof(block))
			die("%s", path);
	}
	close(fd);
	for (i = 0; i < files; i++) {
		if (i % FILES_IN_DIR == 0) {
			snprintf(path, sizeof(path), "%s/%lu", dir, i / FILES_IN_DIR);
			if (mkdir(path, 0700))
				die("%s", path);
		}
		name_file(path, sizeof(path), dir, i);
		fd = open(path, O_CREAT | O_WRONLY, 0600);
		if (fd < 0)
			die("%s", path);
		close(fd);
	}
	snprintf(path, sizeof(path), "%s/files", dir);
	fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
	if (fd < 0 || dprintf(fd, "%lu\n", files) < 0)
		die("%s", path);
	close(fd);
}

static void work_tmpfs(const char *dir, unsigned long operations)
{
	char path[4096], block[64] = "";
	struct stat info;
	int fd;

	snprintf(path, sizeof(path), "%s/file", dir);
	fd = open(path, O_RDWR);
	if (fd < 0 || fstat(fd, &info) || info.st_size < (off_t)sizeof(block))
		die("%s", path);
	while (operations--) {
		off_t pos = random_below(info.st_size / sizeof(block)) * sizeof(block);
		ssize_t done = operations % 2 ? pread(fd, block, sizeof(block), pos) :
						pwrite(fd, block, sizeof(block), pos);

		if (done != sizeof(block))
			die("%s", path);
	}
	close(fd);
}

static void work_stat(const char *dir, unsigned long operations)
{
	unsigned long files = 0;
	char path[4096];
	struct stat info;
	FILE *count;

	snprintf(path, sizeof(path), "%s/files", dir);
	count = fopen(path, "r");
	if (!count || fscanf(count, "%lu", &files) != 1 || !files)
		die("%s", path);
	fclose(count);
	while (operations--) {
		name_file(path, sizeof(path), dir, random_below(files));
		if (stat(path, &info))
			die("%s", path);
	}
}

/* Each holds some pages all the time, so that each operation meets others. */
static void work_pipes(unsigned long nr, unsigned long operations)
{
	static char page[PAGE];
	int (*pipes)[2] = calloc(nr, sizeof(*pipes));
	unsigned long i, held;

	if (!pipes)
		die("%lu pipes", nr);
	lift_limit(RLIMIT_NOFILE, 2 * nr + 64);
	for (i = 0; i < nr; i++) {
		if (pipe(pipes[i]))
			die("pipe %lu", i);
		for (held = 0; held < 8; held++) {
			if (write(pipes[i][1], page, PAGE) != PAGE)
				die("pipe %lu", i);
		}
	}
	while (operations--) {
		int *one = pipes[random_below(nr)];

		if (write(one[1], page, PAGE) != PAGE || read(one[0], page, PAGE) != PAGE)
			die("pipe");
	}
}

static int secret_open(unsigned long pages)
{
	int fd = syscall(__NR_memfd_secret, 0);

	if (fd < 0)
		die("memfd_secret (CONFIG_SECRETMEM, boot parameter secretmem.enable=y)");
	if (ftruncate(fd, pages * PAGE))
		die("memfd_secret");

	return fd;
}

static volatile char *secret_map(unsigned long pages)
{
	int fd = secret_open(pages);
	volatile char *secret = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
				     MAP_SHARED, fd, 0);

	if (secret == MAP_FAILED)
		die("memfd_secret");
	close(fd);

	return secret;
}

/* A page of the kernel's own, made read-only; closing makes it ordinary again. */
static void make_read_only(void)
{
	int fd = open(PAGES_FILE, O_RDWR);

	if (fd < 0 || write(fd, "alloc 1", 7) != 7 || write(fd, "ro 0 1", 6) != 6)
		die(PAGES_FILE);
}

/*
 * Pages in pipes can't be moved and fill memory block by block. Of each pipe the
 * first pages go again: what has permissions of its own takes the holes that
 * they leave, each in another block. A pipe keeps two pages that were read out
 * of it for itself.
 */
#define PIPE_PAGES	512
#define DRAINED		3

static void drain(int fd)
{
	static char pages[DRAINED * PAGE];

	if (read(fd, pages, sizeof(pages)) != sizeof(pages))
		die("pipe");
}

static void fill(int fds[2])
{
	static char pages[PIPE_PAGES * PAGE];

	if (pipe(fds))
		die("pipe");
	if (fcntl(fds[1], F_SETPIPE_SZ, sizeof(pages)) < (int)sizeof(pages))
		die("a pipe of 2 MB");
	if (write(fds[1], pages, sizeof(pages)) != sizeof(pages))
		die("pipe");
}

static void fragment(bool secret, unsigned long mb)
{
	unsigned long nr = mb * MB / (PIPE_PAGES * PAGE), i;
	int (*pipes)[2] = calloc(nr, sizeof(*pipes));
	volatile char *pages = NULL;

	if (!nr || !pipes)
		die("%lu MB", mb);
	be_first_to_go();
	lift_limit(RLIMIT_NOFILE, 3 * nr + 64);
	lift_limit(RLIMIT_MEMLOCK, RLIM_INFINITY);
	if (secret)
		pages = secret_map(nr);
	for (i = 0; i < nr; i++)
		fill(pipes[i]);
	for (i = 0; i < nr; i++) {
		drain(pipes[i][0]);
		if (secret)
			pages[i * PAGE] = 1;
		else
			make_read_only();
	}
	printf("%lu %s among %lu MB\n", nr, secret ? "secret pages" : "read-only pages", mb);
}

static unsigned long number(const char *text)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	errno = EINVAL;
	if (*end || !value)
		die("%s is no number", text);

	return value;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	/* Who started it may be stopped. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (!strcmp(what, "prepare") && argc == 5)
		prepare(argv[2], number(argv[3]), number(argv[4]));
	else if (!strcmp(what, "tmpfs") && argc == 4)
		work_tmpfs(argv[2], number(argv[3]));
	else if (!strcmp(what, "stat") && argc == 4)
		work_stat(argv[2], number(argv[3]));
	else if (!strcmp(what, "pipes") && argc == 4)
		work_pipes(number(argv[2]), number(argv[3]));
	else if (!strcmp(what, "fragment") && argc == 4 && !strcmp(argv[2], "secret"))
		fragment(true, number(argv[3]));
	else if (!strcmp(what, "fragment") && argc == 4 && !strcmp(argv[2], "pages"))
		fragment(false, number(argv[3]));
	else if (!strcmp(what, "secret") && argc == 2)
		close(secret_open(1));
	else {
		fprintf(stderr, "usage: see the head of load.c\n");
		return 3;
	}

	return 0;
}
