// SPDX-License-Identifier: GPL-2.0-only
/*
 * When a page table goes no CPU keeps a translation of what it mapped, also
 * where reclaim has unmapped the page and put off the flush.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "tables.h"

#define ROUNDS	20

static char *page;
static atomic_long reads;
static atomic_int seen;
static atomic_bool over;

static void pin_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* Keeps a translation of the page in the TLB of one CPU. */
static void *read_all_the_time(void *arg)
{
	pin_to((long)arg);
	while (!over) {
		seen = get_long(page) & 255;
		reads++;
	}

	return NULL;
}

static void *page_out(void *arg)
{
	madvise(arg, TABLE, MADV_PAGEOUT);

	return NULL;
}

static void wait_for_reads(void)
{
	long until = reads + 1000;

	while (reads < until)
		sched_yield();
}

static void sleep_ms(long ms)
{
	struct timespec time = { .tv_nsec = ms * 1000000 };

	nanosleep(&time, NULL);
}

TEST(no_cpu_reads_what_was_mapped_before)
{
	int fd = file_on_disk(2 * TABLE), round;
	char *map, text[PAGE];
	pthread_t reader, reclaimer;

	if (!reclaim_available())
		SKIP(return, "no " RECLAIM_DIR "run");
	if (fd < 0)
		SKIP(return, "no file on a disk: set TMPDIR");
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "one CPU");
	memset(text, 1, sizeof(text));
	ASSERT_EQ(pwrite(fd, text, PAGE, 0), (long)PAGE);
	memset(text, 2, sizeof(text));
	ASSERT_EQ(pwrite(fd, text, PAGE, TABLE), (long)PAGE);
	ASSERT_EQ(fsync(fd), 0);

	/* Next to a table that stays, so that no other is freed with this. */
	map = map_aligned(2 * TABLE, PROT_READ, MAP_SHARED, fd);
	ASSERT_NE(map, NULL);
	get_long(map + TABLE);
	madvise(map, 2 * TABLE, MADV_RANDOM);
	page = map;
	pin_to(0);
	ASSERT_EQ(pthread_create(&reader, NULL, read_all_the_time, (void *)1), 0);

	for (round = 0; round < ROUNDS; round++) {
		wait_for_reads();
		ASSERT_EQ(seen, 1);
		ASSERT_EQ(pthread_create(&reclaimer, NULL, page_out, map), 0);
		sleep_ms(round);
		ASSERT_EQ(reclaim_run(), 0);
		ASSERT_NE(mmap(map, TABLE, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
			       TABLE), MAP_FAILED);
		wait_for_reads();
		EXPECT_EQ(seen, 2);
		pthread_join(reclaimer, NULL);
		ASSERT_NE(mmap(map, TABLE, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
			       0), MAP_FAILED);
		madvise(map, TABLE, MADV_RANDOM);
	}
	over = true;
	pthread_join(reader, NULL);
}

TEST_HARNESS_MAIN
