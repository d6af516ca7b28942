// SPDX-License-Identifier: GPL-2.0-only
/*
 * What exclusive memory costs the direct map and the TLBs of all CPUs, and what
 * is left of it for whoever gets the memory next.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "exclusive.h"

#define SIZE		(16 * MB)
#define PAGES		((long)(SIZE / PAGE))
#define PROCESSES	4
#define ROUNDS		5	/* of touching again */

FIXTURE(cost)
{
	struct dmap before;
	struct dmap after;
	struct pipes pipes;
	char *map;
	size_t size;
};

static bool take(FIXTURE_DATA(cost) *self, size_t size)
{
	self->size = size;
	self->map = exclusive_map(size);
	if (self->map)
		fill_pattern(self->map, size);

	return self->map;
}

static void drop(FIXTURE_DATA(cost) *self)
{
	if (self->map)
		munmap(self->map, self->size);
	self->map = NULL;
}

static const char *no_pool(void)
{
	if (no_exclusive())
		return no_exclusive();
	if (vm_event("unmapped_flushes") < 0)
		return "no pool of unmapped pages";

	return NULL;
}

FIXTURE_SETUP(cost)
{
	if (no_pool())
		SKIP(return, "%s", no_pool());
	if (restore_available())
		ASSERT_EQ(restore_run(), 0);
	ASSERT_EQ(dmap_read_settled(&self->before), 0);
	if (dmap_hopeless(&self->before))
		SKIP(return, "%s", dmap_hopeless(&self->before));
}

FIXTURE_TEARDOWN(cost)
{
	drop(self);
	if (self->pipes.nr)
		pipes_close(&self->pipes);
	dmap_free(&self->before);
	dmap_free(&self->after);
}

/* Where single pages are free all over memory, each would split another 2M. */
TEST_F_TIMEOUT(cost, few_splits_where_memory_is_in_pieces, 300)
{
	long split;

	ASSERT_EQ(pipes_fill(&self->pipes, 1024 * MB, 32), 0);
	split = splits();
	ASSERT_TRUE(take(self, BLOCK_PAGES * PAGE));
	split = splits() - split;
	TH_LOG("%ld splits", split);
	EXPECT_LE(split, 3);
}

TEST_F_TIMEOUT(cost, no_range_smaller_when_given_back, 300)
{
	if (!restore_available())
		SKIP(return, "no " RESTORE_DIR "run");
	ASSERT_TRUE(take(self, SIZE));
	drop(self);
	EXPECT_TRUE(dmap_settles(&self->before, &self->after, 30, true));
	EXPECT_TRUE(dmap_same_attrs(&self->before, &self->after));
}

TEST_F_TIMEOUT(cost, nothing_is_left_out_unasked, 500)
{
	if (!restore_available())
		SKIP(return, "no " RESTORE_DIR "run");
	ASSERT_TRUE(take(self, SIZE));
	drop(self);
	EXPECT_TRUE(pool_empties(30));
	EXPECT_TRUE(blocks_go(30));
	EXPECT_TRUE(dmap_settles_unasked(&self->before, &self->after));
}

/* Long before it would go by itself, while others come and go. */
TEST_F_TIMEOUT(cost, nothing_is_left_out_under_pressure, 120)
{
	int i;

	ASSERT_TRUE(take(self, SIZE));
	drop(self);
	for (i = 0; i < 50 && meminfo_kb("NoDirectMap:"); i++) {
		ASSERT_EQ(write_file("/proc/sys/vm/drop_caches", "2"), 0);
		usleep(20000);
	}
	EXPECT_EQ(meminfo_kb("NoDirectMap:"), 0);
}

/* In use by whom pays for it, and little beside that. */
TEST_F_TIMEOUT(cost, pages_in_use_are_not_idle, 120)
{
	ASSERT_TRUE(take(self, SIZE));
	EXPECT_EQ(meminfo_kb("NoDirectMap:") - meminfo_kb("NoDirectMapIdle:"),
		  (long)(SIZE / KB));
	EXPECT_LE(meminfo_kb("NoDirectMap:"), (long)((SIZE + 2 * MB) / KB));
}

/* The next owner of a page, of the pool and of all memory. */
TEST_F_TIMEOUT(cost, next_owner_finds_zeros, 120)
{
	int i;

	for (i = 0; i < 3; i++) {
		self->size = SIZE;
		self->map = exclusive_map(SIZE);
		ASSERT_NE(self->map, NULL);
		EXPECT_TRUE(is_zero(self->map, SIZE));
		fill_pattern(self->map, SIZE);
		drop(self);
		/* Zeroed by the fault itself, and by whoever does it later. */
		if (i)
			sleep(1);
	}
}

TEST_F_TIMEOUT(cost, secret_memory_finds_zeros, 120)
{
	char *secret;

	ASSERT_TRUE(take(self, SIZE));
	drop(self);
	secret = secret_map(SIZE);
	if (!secret)
		SKIP(return, "no memfd_secret: needs CONFIG_SECRETMEM and secretmem.enable=1");
	EXPECT_TRUE(is_zero(secret, SIZE));
	fill_pattern(secret, SIZE);
	secret_free(secret, SIZE);
	self->map = exclusive_map(SIZE);
	ASSERT_NE(self->map, NULL);
	EXPECT_TRUE(is_zero(self->map, SIZE));
}

static long patterns_in(const unsigned long *pfns, int nr)
{
	unsigned long page[PAGE / sizeof(long)];
	long found = 0;
	size_t n;
	int i;

	for (i = 0; i < nr; i++) {
		if (read_kcore(pfns[i], page))
			return -1;
		for (n = 0; n < PAGE / sizeof(long); n++)
			found += page[n] == PATTERN;
	}

	return found;
}

TEST_F_TIMEOUT(cost, next_owner_of_the_block_finds_zeros, 120)
{
	unsigned long pfns[64], ordinary_pfn;
	char *ordinary = ordinary_map(PAGE);
	int i;

	if (!restore_available())
		SKIP(return, "no " RESTORE_DIR "run");
	ASSERT_TRUE(take(self, SIZE));
	for (i = 0; i < 64; i++) {
		pfns[i] = pfn_of(self->map + i * SIZE / 64);
		ASSERT_NE(pfns[i], 0UL);
	}
	drop(self);
	ASSERT_EQ(restore_run(), 0);
	/* Mapped again, so that it would be seen, as in an ordinary page. */
	EXPECT_EQ(meminfo_kb("NoDirectMap:"), 0);
	ASSERT_NE(ordinary, NULL);
	fill_pattern(ordinary, PAGE);
	ordinary_pfn = pfn_of(ordinary);
	EXPECT_EQ(patterns_in(&ordinary_pfn, 1), (long)(PAGE / sizeof(long)));
	EXPECT_EQ(patterns_in(pfns, 64), 0);
	munmap(ordinary, PAGE);
}

static int take_and_die(void *arg)
{
	FIXTURE_DATA(cost) *self = arg;

	if (!take(self, SIZE))
		return 1;
	kill(getpid(), SIGKILL);

	return 2;
}

TEST_F_TIMEOUT(cost, killed_owner_leaves_zeros, 120)
{
	int i;

	for (i = 0; i < 4; i++) {
		ASSERT_EQ(in_child(take_and_die, self), -SIGKILL);
		self->size = SIZE;
		self->map = exclusive_map(SIZE);
		ASSERT_NE(self->map, NULL);
		EXPECT_TRUE(is_zero(self->map, SIZE));
		drop(self);
	}
}

/*
 * Processes that each touch some memory, give it back and touch it again.
 * unmapped_flushes counts the changes of the direct map, and so the flushes of
 * the TLBs of all CPUs.
 */
FIXTURE(flushes)
{
	struct dmap before;
	struct dmap after;
	struct child child[PROCESSES];
	bool running;
};

FIXTURE_VARIANT(flushes)
{
	long pages;		/* of each process */
	bool at_once;		/* all give back, then all touch again, or one by one */
};

/*
 * 10,000 in all, and 10,000 of each. What is idle for two seconds is given back:
 * so many are not all touched again within that, on a slow machine.
 */
FIXTURE_VARIANT_ADD(flushes, 2500_of_each) { .pages = 2500, .at_once = true };
FIXTURE_VARIANT_ADD(flushes, 10000_of_each) { .pages = 10000, .at_once = false };

FIXTURE_SETUP(flushes)
{
	if (no_pool())
		SKIP(return, "%s", no_pool());
	if (restore_available())
		ASSERT_EQ(restore_run(), 0);
	ASSERT_EQ(dmap_read_settled(&self->before), 0);
	if (dmap_hopeless(&self->before))
		SKIP(return, "%s", dmap_hopeless(&self->before));
}

FIXTURE_TEARDOWN(flushes)
{
	int i;

	for (i = 0; self->running && i < PROCESSES; i++)
		child_kill(&self->child[i]);
	dmap_free(&self->before);
	dmap_free(&self->after);
}

static bool touch_all(char *map, long pages)
{
	bool zeros = true;
	long i;

	for (i = 0; i < pages; i++) {
		zeros &= !get_long(map + i * PAGE);
		put_long(map + i * PAGE, i + 1);
	}

	return zeros;
}

static int touch_and_unmap(void *arg)
{
	const FIXTURE_VARIANT(flushes) *variant = arg;
	size_t size = variant->pages * PAGE;
	char *map = exclusive_map(size);
	int i;

	child_wait();
	if (!map || !touch_all(map, variant->pages))
		return 1;
	child_wait();
	for (i = 0; i < ROUNDS; i++) {
		munmap(map, size);
		if (variant->at_once)
			child_wait();
		map = exclusive_map(size);
		if (!map || !touch_all(map, variant->pages))
			return 2;
		child_wait();
	}

	return 0;
}

/* All of them go on, to where they wait next. */
static bool all_go_on(FIXTURE_DATA(flushes) *self)
{
	bool all = true;
	int i;

	for (i = 0; i < PROCESSES; i++)
		child_go_on(&self->child[i]);
	for (i = 0; i < PROCESSES; i++)
		all &= child_waits(&self->child[i]);

	return all;
}

static bool one_after_the_other(FIXTURE_DATA(flushes) *self)
{
	bool all = true;
	int i;

	for (i = 0; i < PROCESSES; i++) {
		child_go_on(&self->child[i]);
		all &= child_waits(&self->child[i]);
	}

	return all;
}

TEST_F_TIMEOUT(flushes, few_at_first_and_none_later, 300)
{
	long total = PROCESSES * variant->pages, nr, least = total;
	int i;

	for (i = 0; i < PROCESSES; i++)
		ASSERT_TRUE(child_start(&self->child[i], touch_and_unmap, (void *)variant));
	self->running = true;
	for (i = 0; i < PROCESSES; i++)
		ASSERT_TRUE(child_waits(&self->child[i]));

	nr = vm_event("unmapped_flushes");
	ASSERT_TRUE(all_go_on(self));
	nr = vm_event("unmapped_flushes") - nr;
	TH_LOG("%ld flushes for the first touch of %ld pages", nr, total);
	EXPECT_GT(nr, 0);
	EXPECT_LE(nr, total * 8 / 1000);

	/* What is idle for two seconds is given back: a slow round may need some. */
	for (i = 0; i < ROUNDS; i++) {
		nr = vm_event("unmapped_flushes");
		if (variant->at_once) {
			ASSERT_TRUE(all_go_on(self));
			ASSERT_TRUE(all_go_on(self));
		} else {
			ASSERT_TRUE(one_after_the_other(self));
		}
		nr = vm_event("unmapped_flushes") - nr;
		TH_LOG("%ld when they were touched again", nr);
		least = nr < least ? nr : least;
	}
	EXPECT_EQ(least, 0);

	for (i = 0; i < PROCESSES; i++) {
		child_go_on(&self->child[i]);
		EXPECT_EQ(child_end(&self->child[i]), 0);
	}
	self->running = false;
	if (restore_available())
		EXPECT_TRUE(dmap_settles(&self->before, &self->after, 30, true));
}

/* Interrupts tell the same as the counter. */
TEST_F_TIMEOUT(cost, few_interrupts_of_other_cpus, 120)
{
	long nr = flush_interrupts();

	if (nr < 0)
		SKIP(return, "one CPU: there are no TLBs of others to flush");
	ASSERT_TRUE(take(self, SIZE));
	nr = flush_interrupts() - nr;
	TH_LOG("%ld interrupts for %ld pages", nr, PAGES);
	/* For other reasons, too: one for each page would be far more. */
	EXPECT_LE(nr, PAGES / 10);
}

TEST_HARNESS_MAIN
