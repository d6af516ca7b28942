// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages that are marked to stay mapped by 4K: who owns a mark, what it keeps
 * from happening, and that nothing of it is left when it is released. And the
 * page tables that huge mappings replace.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "dmap.h"

#define MB		(1024UL * 1024)
#define GB		(1024 * MB)
#define PAGES		512
#define RANGES		64
#define ROUNDS		1000
#define HUGE_ROUNDS	10000

FIXTURE(kernel_4k)
{
	struct dmap before;
	struct dmap after;
	unsigned long addr;
	int fd;
};

FIXTURE_SETUP(kernel_4k)
{
	self->fd = pages_open();
	if (self->fd < 0)
		SKIP(return, "no " PAGES_FILE ": needs CONFIG_DIRECT_MAP_TEST");
	if (!restore_available())
		SKIP(return, "no " RESTORE_DIR "run");
	ASSERT_EQ(dmap_read_settled(&self->before), 0);
	if (dmap_hopeless_to_see(&self->before))
		SKIP(return, "%s", dmap_hopeless_to_see(&self->before));
	ASSERT_EQ(pages_take_large(self->fd, &self->before, RANGES * PAGES), 0);
	self->addr = pages_addr(self->fd);
}

FIXTURE_TEARDOWN(kernel_4k)
{
	if (self->fd >= 0)
		close(self->fd);
	dmap_free(&self->before);
	dmap_free(&self->after);
}

/* However often a pass is asked for, the 2M at the beginning stays split. */
static void stays_split(struct __test_metadata *_metadata,
			FIXTURE_DATA(kernel_4k) *self)
{
	const struct dmap_range *range;
	int i;

	for (i = 0; i < 3; i++)
		ASSERT_EQ(restore_run(), 0);
	dmap_free(&self->after);
	ASSERT_EQ(dmap_read(&self->after), 0);
	range = dmap_find(&self->after, self->addr);
	ASSERT_NE(range, NULL);
	EXPECT_TRUE(range->level == DMAP_4K);
}

/* It takes one pass. */
static void comes_back(struct __test_metadata *_metadata,
		       FIXTURE_DATA(kernel_4k) *self)
{
	dmap_free(&self->after);
	EXPECT_TRUE(dmap_settles(&self->before, &self->after, 0, true));
	EXPECT_TRUE(dmap_same_attrs(&self->before, &self->after));
}

TEST_F_TIMEOUT(kernel_4k, set_keeps_2M_and_1G_split_until_released, 60)
{
	ASSERT_EQ(pages_do(self->fd, "4k 256 1"), 0);
	stays_split(_metadata, self);
	ASSERT_EQ(pages_do(self->fd, "non4k 256 1"), 0);
	comes_back(_metadata, self);
}

TEST_F_TIMEOUT(kernel_4k, page_that_is_mapped_by_4K_gets_the_mark, 60)
{
	ASSERT_EQ(pages_do(self->fd, "np 5 1"), 0);
	ASSERT_EQ(pages_do(self->fd, "4k 100 1"), 0);
	ASSERT_EQ(pages_do(self->fd, "p 5 1"), 0);
	stays_split(_metadata, self);
	ASSERT_EQ(pages_do(self->fd, "non4k 100 1"), 0);
	comes_back(_metadata, self);
}

TEST_F_TIMEOUT(kernel_4k, every_page_gets_the_mark, 300)
{
	int i;

	ASSERT_EQ(pages_do(self->fd, "4k 0 %d", PAGES), 0);
	for (i = 0; i < PAGES; i += 64) {
		stays_split(_metadata, self);
		ASSERT_EQ(pages_do(self->fd, "non4k %d 64", i), 0);
	}
	comes_back(_metadata, self);
}

TEST_F_TIMEOUT(kernel_4k, second_set_is_refused, 60)
{
	ASSERT_EQ(pages_do(self->fd, "4k 5 3"), 0);
	EXPECT_EQ(pages_do(self->fd, "4k 7 1"), -EBUSY);
	EXPECT_EQ(pages_do(self->fd, "4k 0 %d", PAGES), -EBUSY);

	/* Nothing was marked by those. */
	EXPECT_EQ(pages_do(self->fd, "non4k 8 1"), -EINVAL);
	EXPECT_EQ(pages_do(self->fd, "non4k 0 1"), -EINVAL);
	ASSERT_EQ(pages_do(self->fd, "non4k 5 3"), 0);
	comes_back(_metadata, self);
}

TEST_F_TIMEOUT(kernel_4k, foreign_release_is_refused, 60)
{
	ASSERT_EQ(pages_do(self->fd, "4k 5 3"), 0);
	EXPECT_EQ(pages_do(self->fd, "non4k 4 4"), -EINVAL);
	EXPECT_EQ(pages_do(self->fd, "non4k 5 4"), -EINVAL);
	EXPECT_EQ(pages_do(self->fd, "non4k 0 %d", PAGES), -EINVAL);
	stays_split(_metadata, self);

	ASSERT_EQ(pages_do(self->fd, "non4k 5 3"), 0);
	EXPECT_EQ(pages_do(self->fd, "non4k 5 3"), -EINVAL);
	comes_back(_metadata, self);
}

TEST_F_TIMEOUT(kernel_4k, shows_in_a_dump, 60)
{
	const struct dmap_range *range;

	ASSERT_EQ(pages_do(self->fd, "4k 5 1"), 0);
	ASSERT_EQ(dmap_read(&self->after), 0);
	range = dmap_find(&self->after, self->addr + 5 * getpagesize());
	ASSERT_NE(range, NULL);
	EXPECT_NE(strstr(range->attrs, "4K"), NULL);
	range = dmap_find(&self->after, self->addr + 6 * getpagesize());
	ASSERT_NE(range, NULL);
	EXPECT_EQ(strstr(range->attrs, "4K"), NULL);
	ASSERT_EQ(pages_do(self->fd, "non4k 5 1"), 0);
	comes_back(_metadata, self);
}

TEST_F_TIMEOUT(kernel_4k, thousand_rounds_over_64_ranges, 300)
{
	long splits = vm_event("direct_map_level2_splits");
	long restored = vm_event("direct_map_restore_2m");
	long tables = page_tables();
	long free_kb = meminfo_kb("MemFree:");
	int i, j;

	for (i = 0; i < ROUNDS; i++) {
		int page = (i * 37) % PAGES;

		for (j = 0; j < RANGES; j++)
			ASSERT_EQ(pages_do(self->fd, "4k %d 1",
					   j * PAGES + page), 0);
		for (j = 0; j < RANGES; j++)
			ASSERT_EQ(pages_do(self->fd, "non4k %d 1",
					   j * PAGES + page), 0);
		if (i % 50 == 0)
			ASSERT_EQ(restore_run(), 0);
	}
	comes_back(_metadata, self);

	/* Splits and restores balance, and the tables are free. */
	EXPECT_EQ(vm_event("direct_map_level2_splits") - splits,
		  vm_event("direct_map_restore_2m") - restored);
	EXPECT_TRUE(page_tables_settle(tables + 8));
	EXPECT_GE(meminfo_kb("MemFree:"), free_kb - 4096);
}

static atomic_bool over;
static unsigned long neighbour;		/* page frame */

static void *change_neighbour(void *arg)
{
	int fd = pages_open();

	/* Whose page it is does not matter. With PTI there is nothing to do. */
	while (!over && !pages_do(fd, "touch %#lx", neighbour))
		;
	close(fd);

	return arg;
}

TEST_F_TIMEOUT(kernel_4k, release_while_a_neighbour_changes, 120)
{
	pthread_t thread;
	int i;

	neighbour = pages_phys(self->fd) / getpagesize() + 300;
	ASSERT_EQ(pthread_create(&thread, NULL, change_neighbour, NULL), 0);
	for (i = 0; i < 2000; i++) {
		ASSERT_EQ(pages_do(self->fd, "4k 100 20"), 0);
		if (i % 100 == 0)
			ASSERT_EQ(restore_run(), 0);
		ASSERT_EQ(pages_do(self->fd, "non4k 100 20"), 0);
	}
	over = true;
	pthread_join(thread, NULL);
	comes_back(_metadata, self);
}

/* What maps a whole 1G of memory, by its physical address; 0 if nothing. */
static unsigned long phys_of_1G(const struct dmap *map, unsigned long offset)
{
	size_t i = map->nr;

	while (i--) {
		if (map->ranges[i].level == DMAP_1G)
			return map->ranges[i].start - offset;
	}

	return 0;
}

/* What slabs hold is not lost: KASAN keeps a part of the memory in quarantine. */
static long not_lost_kb(void)
{
	return meminfo_kb("MemFree:") + meminfo_kb("Slab:");
}

static void map_huge(struct __test_metadata *_metadata,
		     FIXTURE_DATA(kernel_4k) *self, unsigned long size)
{
	unsigned long phys = phys_of_1G(&self->before, self->addr -
					pages_phys(self->fd));
	long tables, flushes, free_kb;

	if (!phys)
		SKIP(return, "no 1G pages in the direct map of this machine");

	/* The tables above stay. */
	ASSERT_EQ(pages_do(self->fd, "huge %#lx %#lx 1", size, phys), 0);
	tables = page_tables();
	flushes = vm_event("nr_tlb_remote_flush");
	free_kb = not_lost_kb();
	ASSERT_EQ(pages_do(self->fd, "huge %#lx %#lx %d", size, phys,
			   HUGE_ROUNDS), 0);

	/* One of all, for each table; flushes of a range do not count here. */
	if (flushes >= 0)
		EXPECT_GE(vm_event("nr_tlb_remote_flush") - flushes,
			  HUGE_ROUNDS);
	/*
	 * KASAN maps its shadow of 1G of vmalloc by 64 tables and keeps them,
	 * for each address that the mapping got.
	 */
	EXPECT_TRUE(page_tables_settle(tables + HUGE_ROUNDS / 20));
	/* A table lost each round is twice as much. */
	EXPECT_GE(not_lost_kb(), free_kb - HUGE_ROUNDS * 2);
}

TEST_F_TIMEOUT(kernel_4k, tables_below_a_huge_2M_mapping_are_freed, 180)
{
	map_huge(_metadata, self, 2 * MB);
}

TEST_F_TIMEOUT(kernel_4k, tables_below_a_huge_1G_mapping_are_freed, 180)
{
	map_huge(_metadata, self, GB);
}

TEST_HARNESS_MAIN
