// SPDX-License-Identifier: GPL-2.0-only
/*
 * Workloads whose accesses to the direct map are counted by tlbsim, in a state
 * of the direct map that is made first:
 *
 *	fresh		as it is after boot
 *	control		after nearly all memory was used and freed, nothing split
 *	fragmented	the same, but pages all over it were secret in between
 *	restored	the same again, and a pass was asked for
 *
 * Prints a line "step NAME 4K 2M 1G SPLITS" for each look at the direct map (kB,
 * and splits since boot), and "workload NAME OPERATIONS" for each section, in
 * their order.
 *
 * usage: tlb STATE
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <unistd.h>

#include "dmap.h"
#include "marker.h"

#define KB		(1UL << 10)
#define MB		(1UL << 20)
#define PAGE		4096UL
#define DIR		"/tmp/tlb"
#define MIN_FREE	"/proc/sys/vm/min_free_kbytes"
#define PCP_FRACTION	"/proc/sys/vm/percpu_pagelist_high_fraction"
#define BOOST_FACTOR	"/proc/sys/vm/watermark_boost_factor"

/* Not filled by ordinary memory: page tables, and who else needs some. */
#define UNFILLED	(64 * MB)
/* Never used: what zones keep for others, and the pages that nobody reaches. */
#define LEFT		(40 * MB)
/* Pages freed in each 2M, one after the other all over memory. */
#define HOLES		32

#define FILE_SIZE	(1024 * MB)
#define RANDOM_OPS	400000
#define FILES		40000
#define STAT_OPS	200000
#define PIPES		256
#define PIPE_DEPTH	14
#define PIPE_OPS	40000
#define ROWS		24000
#define ROW_SIZE	3000
#define ROWS_EACH	10
#define TRANSACTIONS	5000

static int fail(const char *what)
{
	printf("error: ");
	fflush(stdout);
	perror(what);
	return -1;
}

/* The same numbers in each run. */
static unsigned long random_below(unsigned long bound)
{
	static uint64_t state = 1;

	state = state * 6364136223846793005UL + 1442695040888963407UL;

	return (state >> 33) % bound;
}

static int show(const char *step)
{
	struct dmap map;

	if (dmap_read(&map) || !map.nr)
		return fail("the direct map can't be read");
	printf("step %s %lu %lu %lu %ld\n", step, map.kb[DMAP_4K], map.kb[DMAP_2M],
	       map.kb[DMAP_1G], vm_event("direct_map_level2_splits") +
	       vm_event("direct_map_level3_splits"));
	fflush(stdout);
	dmap_free(&map);

	return 0;
}

static char *ordinary_alloc(size_t size)
{
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED || madvise(memory, size, MADV_NOHUGEPAGE) ||
	    madvise(memory, size, MADV_POPULATE_WRITE))
		return NULL;

	return memory;
}

static size_t free_memory(void)
{
	return meminfo_kb("MemFree:") * KB;
}

/* One page of each 2M after the other, so that none is left out in the end. */
static int make_holes(char *memory, size_t size)
{
	size_t pos;
	int i;

	for (i = 0; i < HOLES; i++) {
		for (pos = i * (2 * MB / HOLES); pos < size; pos += 2 * MB) {
			if (madvise(memory + pos, PAGE, MADV_DONTNEED))
				return -1;
		}
	}

	return 0;
}

/*
 * Fill memory with pages that can't be put together, free some in each 2M, and
 * take what is free then, which is these: as secret memory, or to compare, as
 * more of the ordinary.
 */
static int use_all_memory(bool secret)
{
	size_t size, more;
	char *memory, *rest;

	size = (free_memory() - UNFILLED) & ~(2 * MB - 1);
	memory = ordinary_alloc(size);
	if (!memory || make_holes(memory, size))
		return fail("memory can't be filled");
	if (free_memory() < LEFT + MB)
		return fail("no holes");
	more = (free_memory() - LEFT) & ~(PAGE - 1);
	rest = secret ? secret_alloc(more) : ordinary_alloc(more);
	if (!rest)
		return fail("the holes can't be filled");
	/* To dump page tables that are all over memory takes some. */
	munmap(memory, size);
	if (show("used"))
		return -1;
	munmap(rest, more);

	return 0;
}

/* To use memory to the last page, free pages must not wait in lists of a CPU. */
static int set_limits(bool low)
{
	static char min_free[32];

	if (low && read_file(MIN_FREE, min_free, sizeof(min_free)))
		return fail(MIN_FREE);
	if (write_file(MIN_FREE, low ? "1024" : min_free))
		return fail(MIN_FREE);
	if (write_file(PCP_FRACTION, low ? "1000000" : "0"))
		return fail(PCP_FRACTION);
	if (write_file(BOOST_FACTOR, low ? "0" : "15000"))
		return fail(BOOST_FACTOR);

	return 0;
}

static int make_state(const char *state)
{
	bool control = !strcmp(state, "control");
	bool restored = !strcmp(state, "restored");

	/* init's; memory is not to go there. */
	swapoff("/dev/loop1");
	/* No worker in between: there is a pass when it is asked for. */
	if (restore_available() && write_file(RESTORE_DIR "delay_ms", "3600000"))
		return fail("delay_ms");
	if (show("boot"))
		return -1;
	if (!strcmp(state, "fresh"))
		return 0;
	if (!control && !restored && strcmp(state, "fragmented"))
		return fail(state);
	if (set_limits(true) || use_all_memory(!control) || set_limits(false))
		return -1;
	/* What is freed by works and grace periods is free after this. */
	sleep(2);
	if (restored && restore_run())
		return fail("no pass");

	return show("freed");
}

static int mount_tmpfs(void)
{
	mkdir(DIR, 0755);

	return mount("tlb", DIR, "tmpfs", 0, "size=2g");
}

static void umount_tmpfs(void)
{
	umount(DIR);
}

static int data_fd;
static char buf[MB];

static int prepare_file(void)
{
	size_t pos;

	if (mount_tmpfs())
		return -1;
	data_fd = open(DIR "/file", O_RDWR | O_CREAT, 0600);
	if (data_fd < 0)
		return -1;
	for (pos = 0; pos < FILE_SIZE; pos += sizeof(buf)) {
		if (write(data_fd, buf, sizeof(buf)) != sizeof(buf))
			return -1;
	}

	return 0;
}

static int random_io(void)
{
	int i;

	for (i = 0; i < RANDOM_OPS; i++) {
		off_t pos = random_below(FILE_SIZE / 64) * 64;
		ssize_t done = i % 2 ? pwrite(data_fd, buf, 64, pos) :
				       pread(data_fd, buf, 64, pos);

		if (done != 64)
			return -1;
	}

	return 0;
}

static void clean_file(void)
{
	close(data_fd);
	umount_tmpfs();
}

static int prepare_files(void)
{
	int i, fd;

	if (mount_tmpfs() || chdir(DIR))
		return -1;
	for (i = 0; i < FILES; i++) {
		snprintf(buf, sizeof(buf), "%d", i);
		fd = open(buf, O_WRONLY | O_CREAT, 0600);
		if (fd < 0)
			return -1;
		close(fd);
	}

	return 0;
}

static int stat_files(void)
{
	struct stat st;
	char name[16];
	int i;

	for (i = 0; i < STAT_OPS; i++) {
		snprintf(name, sizeof(name), "%lu", random_below(FILES));
		if (stat(name, &st))
			return -1;
	}

	return 0;
}

static void clean_files(void)
{
	if (!chdir("/"))
		umount_tmpfs();
}

static int pipes[PIPES][2];

/* Each has some pages on their way. */
static int prepare_pipes(void)
{
	struct rlimit limit = { 4 * PIPES, 4 * PIPES };
	int i, j;

	if (setrlimit(RLIMIT_NOFILE, &limit))
		return -1;
	for (i = 0; i < PIPES; i++) {
		if (pipe(pipes[i]))
			return -1;
		for (j = 0; j < PIPE_DEPTH; j++) {
			if (write(pipes[i][1], buf, PAGE) != (ssize_t)PAGE)
				return -1;
		}
	}

	return 0;
}

static int use_pipes(void)
{
	int i;

	for (i = 0; i < PIPE_OPS; i++) {
		int *fds = pipes[random_below(PIPES)];

		if (write(fds[1], buf, PAGE) != (ssize_t)PAGE ||
		    read(fds[0], buf, PAGE) != (ssize_t)PAGE)
			return -1;
	}

	return 0;
}

static void clean_pipes(void)
{
	int i;

	for (i = 0; i < PIPES; i++) {
		close(pipes[i][0]);
		close(pipes[i][1]);
	}
}

static sqlite3 *db;
static sqlite3_stmt *put, *get;

static int sql(const char *text)
{
	return sqlite3_exec(db, text, NULL, NULL, NULL);
}

static int put_row(int id)
{
	sqlite3_bind_int(put, 1, id);
	sqlite3_bind_blob(put, 2, buf, ROW_SIZE, SQLITE_STATIC);
	if (sqlite3_step(put) != SQLITE_DONE)
		return -1;

	return sqlite3_reset(put);
}

static int get_row(int id)
{
	int size;

	sqlite3_bind_int(get, 1, id);
	if (sqlite3_step(get) != SQLITE_ROW)
		return -1;
	size = sqlite3_column_bytes(get, 0);

	return sqlite3_reset(get) || size != ROW_SIZE;
}

/* Far more than the 1 MB that the database caches itself: the page cache is it. */
static int prepare_database(void)
{
	int i;

	if (mount_tmpfs() || sqlite3_open(DIR "/db", &db) ||
	    sql("PRAGMA page_size = 4096; PRAGMA cache_size = -1024; PRAGMA mmap_size = 0;"
		"CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB); BEGIN") ||
	    sqlite3_prepare_v2(db, "REPLACE INTO t VALUES (?, ?)", -1, &put, NULL) ||
	    sqlite3_prepare_v2(db, "SELECT data FROM t WHERE id = ?", -1, &get, NULL))
		return -1;
	for (i = 0; i < ROWS; i++) {
		if (put_row(i))
			return -1;
	}

	return sql("COMMIT");
}

static int use_database(void)
{
	int i, j;

	for (i = 0; i < TRANSACTIONS; i++) {
		if (sql("BEGIN"))
			return -1;
		for (j = 0; j < ROWS_EACH; j++) {
			if (get_row(random_below(ROWS)))
				return -1;
		}
		if (put_row(random_below(ROWS)) || sql("COMMIT"))
			return -1;
	}

	return 0;
}

static void clean_database(void)
{
	sqlite3_finalize(put);
	sqlite3_finalize(get);
	sqlite3_close(db);
	umount_tmpfs();
}

static const struct workload {
	const char *name;
	int ops;
	int (*prepare)(void);
	int (*run)(void);
	void (*clean)(void);
} workloads[] = {
	{ "tmpfs", RANDOM_OPS, prepare_file, random_io, clean_file },
	{ "stat", STAT_OPS, prepare_files, stat_files, clean_files },
	{ "pipes", PIPE_OPS, prepare_pipes, use_pipes, clean_pipes },
	{ "database", TRANSACTIONS, prepare_database, use_database, clean_database },
};

static long changes_of_direct_map(void)
{
	return vm_event("direct_map_level2_splits") +
	       vm_event("direct_map_level3_splits") +
	       vm_event("direct_map_level2_collapses") +
	       vm_event("direct_map_level3_collapses");
}

/*
 * init prints what it is told while the workload is prepared, not while it is
 * counted.
 */
static int count(const struct workload *work)
{
	long changes;
	int err;

	printf("workload %s %d\n", work->name, work->ops);
	fflush(stdout);
	if (work->prepare())
		return fail(work->name);
	changes = changes_of_direct_map();
	MARKER(MARKER_START);
	err = work->run();
	MARKER(MARKER_STOP);
	if (err)
		return fail(work->name);
	if (changes != changes_of_direct_map()) {
		printf("error: the direct map was changed while %s was counted\n", work->name);
		return -1;
	}
	work->clean();

	return 0;
}

int main(int argc, char **argv)
{
	size_t i;

	/* There is nobody else to kill. */
	write_file("/proc/self/oom_score_adj", "-1000");
	memset(buf, 1, sizeof(buf));
	if (argc != 2 || make_state(argv[1]))
		return 1;
	for (i = 0; i < sizeof(workloads) / sizeof(*workloads); i++) {
		if (count(&workloads[i]))
			return 1;
	}

	return show("end");
}
