// SPDX-License-Identifier: GPL-2.0-only
/*
 * Threads that zap and fault in the same tables, passes all the time, and one
 * thread that does to these tables what else can be done to them. Nobody may
 * lose what was written, or find what was dropped.
 *
 * RACE_SECONDS says how long each lasts.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "tables.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define DEFAULT_SECONDS	4
#define TABLES		4
#define SIZE		(TABLES * TABLE)
#define WORKERS		4
#define SLICE		(TABLE / (WORKERS + 1))

static char *map;
static int fd;			/* of the file that is mapped, or -1 */
static atomic_bool over;
static atomic_long wrong, failed, rounds;

static void unexpected(const char *what)
{
	printf("# %s: %s\n", what, strerror(errno));
	failed++;
}

static void store(char *page, long value)
{
	put_long(page, value);
	put_long(page + PAGE - sizeof(value), value);
}

static bool holds(char *page, long value)
{
	return get_long(page) == value &&
	       get_long(page + PAGE - sizeof(value)) == value;
}

static void drop(char *start, size_t size)
{
	if (fd >= 0 ? fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				start - map, size) :
		      madvise(start, size, MADV_DONTNEED))
		unexpected("drop");
}

/* Each worker has a slice of each table for itself. */
static void *work(void *arg)
{
	unsigned int seed = (unsigned long)arg;
	size_t pages = SLICE / PAGE;

	while (!over) {
		char *slice = map + rand_r(&seed) % TABLES * TABLE +
			      ((unsigned long)arg - 1) * pages * PAGE;
		size_t nr = 1 + rand_r(&seed) % 32;
		char *start = slice + rand_r(&seed) % (pages - nr) * PAGE;
		long value = rand_r(&seed) | 1;
		size_t i;

		for (i = 0; i < nr; i++)
			store(start + i * PAGE, value + i);
		if (rand_r(&seed) % 8 == 0)
			sched_yield();
		for (i = 0; i < nr; i++)
			wrong += !holds(start + i * PAGE, value + i);
		drop(start, nr * PAGE);
		i = rand_r(&seed) % nr;
		wrong += !holds(start + i * PAGE, 0);
		drop(start, nr * PAGE);
		rounds++;
	}

	return NULL;
}

static void *run_all_the_time(void *arg)
{
	while (!over) {
		if (reclaim_run())
			unexpected("run");
		sched_yield();
	}

	return arg;
}

/* The slice at the end of each table is the others' */
static char *others_slice(unsigned int *seed)
{
	return map + rand_r(seed) % TABLES * TABLE + WORKERS * (SLICE / PAGE) * PAGE;
}

static void nobody(unsigned int *seed)
{
	usleep(rand_r(seed) % 1000);
}

static void whole_tables(unsigned int *seed)
{
	static char *own;
	char *table;

	if (!own)
		own = map_aligned(SIZE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1);
	table = own + rand_r(seed) % TABLES * TABLE;
	touch(table, TABLE, 64 * KB);
	madvise(table, TABLE, MADV_DONTNEED);
	wrong += !holds(table, 0);
	madvise(table, PAGE, MADV_DONTNEED);
}

/* Of small and huge pages in turn, read by another thread all the time. */
static char *huge;

static void small_and_huge(unsigned int *seed)
{
	long value = rand_r(seed) | 1;
	size_t pos;

	if (!huge)
		huge = map_aligned(TABLE, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1);
	madvise(huge, TABLE, MADV_NOHUGEPAGE);
	for (pos = 0; pos < TABLE; pos += 16 * PAGE)
		store(huge + pos, value);
	madvise(huge, TABLE, MADV_DONTNEED);
	madvise(huge, TABLE, MADV_HUGEPAGE);
	store(huge, value + 1);
	wrong += !holds(huge, value + 1);
	wrong += !holds(huge + 16 * PAGE, 0);
	madvise(huge + TABLE / 2, TABLE / 2, MADV_DONTNEED);
	wrong += !holds(huge, value + 1);
	madvise(huge, TABLE, MADV_DONTNEED);
}

static void fork_it(unsigned int *seed)
{
	char *page = others_slice(seed);
	long value = rand_r(seed) | 1;
	int status;
	pid_t pid;

	store(page, value);
	pid = fork();
	if (!pid)
		_exit(!holds(page, value));
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		unexpected("fork");
	else
		wrong += status != 0;
	drop(page, PAGE);
}

static void collapse(unsigned int *seed)
{
	char *table = map + rand_r(seed) % TABLES * TABLE;

	madvise(table, TABLE, MADV_HUGEPAGE);
	madvise(table, TABLE, MADV_COLLAPSE);
	madvise(table, TABLE, MADV_NOHUGEPAGE);
}

static void page_out(unsigned int *seed)
{
	char *page = others_slice(seed);
	long value = rand_r(seed) | 1;

	store(page, value);
	madvise(map + rand_r(seed) % TABLES * TABLE, TABLE, MADV_PAGEOUT);
	wrong += !holds(page, value);
	drop(page, PAGE);
}

/* Mappings next to those of the workers in the same table, moved back and forth. */
static void move_neighbour(unsigned int *seed)
{
	static char *here, *there;
	long value = rand_r(seed) | 1;
	char *next;
	int i;

	if (!here) {
		there = map + SIZE - PAGE * 40;
		here = map + TABLE - PAGE * 40;
		mprotect(here, 32 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
		munmap(there, 32 * PAGE);
	}
	for (i = 0; i < 32; i += 8)
		store(here + i * PAGE, value + i);
	next = mremap(here, 32 * PAGE, 32 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		      there);
	if (next == MAP_FAILED) {
		unexpected("mremap");
		return;
	}
	there = here;
	here = next;
	for (i = 0; i < 32; i += 8)
		wrong += !holds(here + i * PAGE, value + i);
	madvise(here, 32 * PAGE, MADV_DONTNEED);
}

/*
 * Private pages of a file, moved to where tables begin a page later, so that no
 * table is moved whole, while others punch holes into the file: holes take
 * tables, but no private page.
 */
static int moved_file = -1;

static void move_private(unsigned int *seed)
{
	static char *place;
	long value = rand_r(seed) | 1;
	char *from, *to;
	size_t pos;

	if (!place)
		place = map_aligned(4 * SIZE, PROT_NONE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1);
	from = mmap(place, SIZE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_FIXED, moved_file, 0);
	if (from == MAP_FAILED) {
		unexpected("mmap");
		return;
	}
	from += PAGE;
	for (pos = 0; pos < SIZE - PAGE; pos += TABLE / 2)
		store(from + pos, value + pos);
	to = mremap(from, SIZE - PAGE, SIZE - PAGE,
		    MREMAP_MAYMOVE | MREMAP_FIXED, place + 2 * SIZE);
	if (to == MAP_FAILED) {
		unexpected("mremap");
		return;
	}
	for (pos = 0; pos < SIZE - PAGE; pos += TABLE / 2)
		wrong += !holds(to + pos, value + pos);
	munmap(to, SIZE - PAGE);
}

/* Before the others: the time in which it can meet a move is short. */
static void *punch_all_the_time(void *arg)
{
	if (setpriority(PRIO_PROCESS, gettid(), -20))
		unexpected("setpriority");
	while (!over) {
		if (fallocate(moved_file, FALLOC_FL_PUNCH_HOLE |
			      FALLOC_FL_KEEP_SIZE, 0, SIZE))
			unexpected("hole");
	}

	return arg;
}

static void *read_huge_all_the_time(void *arg)
{
	while (!over) {
		if (huge)
			get_long(huge + 16 * PAGE);
	}

	return arg;
}

/* Out of the workers' tables and back. */
static void move_by_uffd(unsigned int *seed)
{
	static int uffd = -1;
	static char *there;
	char *page = others_slice(seed);
	long value = rand_r(seed) | 1;
	int i;

	if (!there) {
		there = map_aligned(TABLE, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1);
		uffd = uffd_for_moves(there, TABLE);
	}
	for (i = 0; i < 8; i++)
		store(page + i * PAGE, value + i);
	if (uffd_move_all(uffd, there, page, 8 * PAGE)) {
		unexpected("UFFDIO_MOVE");
		over = true;
		return;
	}
	for (i = 0; i < 8; i++)
		wrong += !holds(there + i * PAGE, value + i);
	for (i = 0; i < 8; i++)
		madvise(there + i * PAGE, PAGE, MADV_DONTNEED);
}

/* Mappings beside those of the workers come and go. */
static void map_beside(unsigned int *seed)
{
	static char *place;
	char *half;
	long value = rand_r(seed) | 1;

	if (!place)
		place = map_aligned(TABLE, PROT_NONE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1);
	half = mmap(place + MB, MB / 2, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	store(half, value);
	store(half + MB / 4, value);
	munmap(half + MB / 4, MB / 4);
	wrong += !holds(half, value);
	madvise(half, MB / 4, MADV_DONTNEED);
	munmap(half, MB / 4);
}

static void truncate_it(unsigned int *seed)
{
	static int file = -1;
	static char *shared;
	long value = rand_r(seed) | 1;
	size_t pos = rand_r(seed) % (SIZE / PAGE) * PAGE;

	if (!shared) {
		file = memfd_create("truncated", 0);
		if (ftruncate(file, SIZE))
			unexpected("ftruncate");
		shared = map_aligned(SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
				     file);
	}
	store(shared, value);
	store(shared + pos, value);
	wrong += !holds(shared + pos, value);
	if (ftruncate(file, pos) || ftruncate(file, SIZE))
		unexpected("ftruncate");
	wrong += !holds(shared + pos, 0);
}

FIXTURE(races)
{
	char delay[16];
};

FIXTURE_VARIANT(races)
{
	void (*other)(unsigned int *seed);
	void *(*helper)(void *arg);
	bool file, swap;
};

FIXTURE_VARIANT_ADD(races, refault) { .other = nobody };
FIXTURE_VARIANT_ADD(races, refault_of_a_file) { .other = nobody, .file = true };
FIXTURE_VARIANT_ADD(races, whole_tables) { .other = whole_tables };
FIXTURE_VARIANT_ADD(races, small_and_huge) {
	.other = small_and_huge, .helper = read_huge_all_the_time };
FIXTURE_VARIANT_ADD(races, fork) { .other = fork_it };
FIXTURE_VARIANT_ADD(races, collapse) { .other = collapse };
FIXTURE_VARIANT_ADD(races, collapse_of_a_file) { .other = collapse, .file = true };
FIXTURE_VARIANT_ADD(races, swap) { .other = page_out, .swap = true };
FIXTURE_VARIANT_ADD(races, mremap_of_a_neighbour) { .other = move_neighbour };
FIXTURE_VARIANT_ADD(races, mremap_and_holes) {
	.other = move_private, .helper = punch_all_the_time };
FIXTURE_VARIANT_ADD(races, uffd_move) { .other = move_by_uffd };
FIXTURE_VARIANT_ADD(races, munmap_of_a_neighbour) { .other = map_beside };
FIXTURE_VARIANT_ADD(races, truncate) { .other = truncate_it };

FIXTURE_SETUP(races)
{
	if (!reclaim_available())
		SKIP(return, "no " RECLAIM_DIR "run");
	if (variant->swap && !have_swap())
		SKIP(return, "no swap");
	ASSERT_EQ(read_file(RECLAIM_DIR "delay_ms", self->delay,
			    sizeof(self->delay)), 0);
	ASSERT_EQ(write_file(RECLAIM_DIR "delay_ms", "1"), 0);
	fd = -1;
	if (variant->file) {
		fd = memfd_create("races", 0);
		ASSERT_GE(fd, 0);
		ASSERT_EQ(ftruncate(fd, SIZE), 0);
	}
	moved_file = memfd_create("moved", 0);
	ASSERT_EQ(ftruncate(moved_file, SIZE), 0);
	map = map_aligned(SIZE, PROT_READ | PROT_WRITE,
			  fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, fd);
	ASSERT_NE(map, NULL);
}

FIXTURE_TEARDOWN(races)
{
	if (*self->delay)
		write_file(RECLAIM_DIR "delay_ms", self->delay);
}

TEST_F_TIMEOUT(races, nothing_is_lost, 900)
{
	const char *text = getenv("RACE_SECONDS");
	time_t end = time(NULL) + (text ? atoi(text) : DEFAULT_SECONDS);
	long freed = vm_event("pt_reclaim_freed") + vm_event("pt_reclaim_zapped");
	pthread_t threads[WORKERS + 2];
	unsigned int seed = 4711;
	int nr = 0;

	for (; nr < WORKERS; nr++)
		ASSERT_EQ(pthread_create(&threads[nr], NULL, work,
					 (void *)(nr + 1L)), 0);
	ASSERT_EQ(pthread_create(&threads[nr++], NULL, run_all_the_time, NULL), 0);
	if (variant->helper)
		ASSERT_EQ(pthread_create(&threads[nr++], NULL, variant->helper,
					 NULL), 0);
	while (time(NULL) < end && !over)
		variant->other(&seed);
	over = true;
	while (nr)
		pthread_join(threads[--nr], NULL);

	EXPECT_EQ(wrong, 0);
	EXPECT_EQ(failed, 0);
	EXPECT_GT(rounds, 0);
	EXPECT_GT(vm_event("pt_reclaim_freed") + vm_event("pt_reclaim_zapped"),
		  freed);
	TH_LOG("%ld rounds", (long)rounds);
}

TEST_HARNESS_MAIN
