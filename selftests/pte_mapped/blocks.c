// SPDX-License-Identifier: GPL-2.0-only
/*
 * __GFP_PTE_MAPPED: which pages are had, what that costs the direct map, and
 * that everything goes back.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pool.h"

#define MANY		4096

FIXTURE(blocks)
{
	struct dmap before;
	struct dmap after;
	struct pipes pipes;
	int fd;
};

FIXTURE_SETUP(blocks)
{
	self->fd = held_open();
	if (self->fd < 0)
		SKIP(return, HELD_FILE " needs CONFIG_PTE_MAPPED_TEST");

	ASSERT_EQ(restore_run(), 0);
	ASSERT_EQ(blocks(), 0);
	ASSERT_EQ(dmap_read_settled(&self->before), 0);
	if (dmap_hopeless(&self->before))
		SKIP(return, "%s", dmap_hopeless(&self->before));
}

FIXTURE_TEARDOWN(blocks)
{
	if (self->fd >= 0)
		close(self->fd);
	if (self->pipes.nr)
		pipes_close(&self->pipes);
	dmap_free(&self->before);
	dmap_free(&self->after);
}

/* All pages that are held lie in blocks of the type. */
static bool all_pte_mapped(int fd)
{
	return !held_do(fd, "type");
}

static long count_pte_mapped(int fd)
{
	struct held_page *pages;
	long nr = held_read(fd, &pages), i, count = 0;

	for (i = 0; i < nr; i++)
		count += pages[i].type == 'P';
	free(pages);

	return count;
}

static bool all_on_node(int fd, int node)
{
	struct held_page *pages;
	long nr = held_read(fd, &pages), i;
	bool all = nr > 0;

	for (i = 0; i < nr; i++)
		all &= pages[i].node == node;
	free(pages);

	return all;
}

static bool as_before(FIXTURE_DATA(blocks) *self)
{
	return !restore_run() && !blocks() && !dmap_read(&self->after) &&
	       dmap_no_smaller(&self->before, &self->after) &&
	       dmap_same_attrs(&self->before, &self->after);
}

TEST_F_TIMEOUT(blocks, all_orders, 120)
{
	int order;

	for (order = 0; order < 9; order++) {
		long split;

		ASSERT_EQ(held_do(self->fd, "alloc sleep %d 16 -1", order), 0);
		EXPECT_TRUE(all_pte_mapped(self->fd));
		split = splits();
		ASSERT_EQ(held_do(self->fd, "ro"), 0);
		ASSERT_EQ(held_do(self->fd, "rw"), 0);
		EXPECT_EQ(splits(), split);
		ASSERT_EQ(held_do(self->fd, "free all"), 0);
	}
	EXPECT_TRUE(as_before(self));
}

/* A block can't be had as an allocation: it would be no block any more. */
TEST_F_TIMEOUT(blocks, order_of_a_block_is_refused, 60)
{
	EXPECT_EQ(held_do(self->fd, "alloc sleep 9 1 -1"), -ENOMEM);
	EXPECT_EQ(held_do(self->fd, "alloc sleep 10 1 -1"), -ENOMEM);
	EXPECT_EQ(held_do(self->fd, "alloc plain 9 1 -1"), 0);
}

TEST_F_TIMEOUT(blocks, few_splits, 120)
{
	long split = splits();

	ASSERT_EQ(held_do(self->fd, "alloc sleep 0 %d -1", MANY), 0);
	EXPECT_TRUE(all_pte_mapped(self->fd));
	split = splits() - split;
	TH_LOG("%ld splits for %d pages", split, MANY);
	EXPECT_LE(split, MANY / BLOCK_PAGES + 2);
	EXPECT_LE(blocks(), MANY / BLOCK_PAGES + 1);
}

/* Others take pages in between, all over memory. */
TEST_F_TIMEOUT(blocks, few_splits_between_others, 180)
{
	long split;
	int i;

	ASSERT_EQ(pipes_fill(&self->pipes, 512 * MB, 8), 0);
	split = splits();
	for (i = 0; i < 64; i++) {
		ASSERT_EQ(held_do(self->fd, "alloc plain 0 64 -1"), 0);
		ASSERT_EQ(held_do(self->fd, "alloc sleep 0 %d -1", MANY / 64), 0);
	}
	ASSERT_EQ(held_do(self->fd, "free odd"), 0);
	split = splits() - split;
	TH_LOG("%ld splits for %d pages", split, MANY);
	EXPECT_LE(split, MANY / BLOCK_PAGES + 2);
	ASSERT_EQ(held_do(self->fd, "free all"), 0);
	EXPECT_TRUE(as_before(self));
}

TEST_F_TIMEOUT(blocks, goes_back_in_any_order, 120)
{
	int i;

	for (i = 0; i < 4; i++) {
		ASSERT_EQ(held_do(self->fd, "alloc sleep %d %d -1", i, MANY >> i), 0);
		ASSERT_EQ(held_do(self->fd, "free %s", i & 1 ? "odd" : "even"), 0);
	}
	EXPECT_GT(blocks(), 0);
	ASSERT_EQ(held_do(self->fd, "free all"), 0);
	EXPECT_TRUE(as_before(self));
}

/* A page in use keeps its block, and only that. */
TEST_F_TIMEOUT(blocks, a_page_keeps_its_block, 120)
{
	ASSERT_EQ(held_do(self->fd, "alloc sleep 0 %d -1", MANY), 0);
	while (!held_do(self->fd, "free odd")) {
		struct held_page *pages;
		long nr = held_read(self->fd, &pages);

		free(pages);
		if (nr == 1)
			break;
	}
	ASSERT_EQ(restore_run(), 0);
	EXPECT_EQ(blocks(), 1);
	ASSERT_EQ(held_do(self->fd, "free all"), 0);
	EXPECT_TRUE(as_before(self));
}

TEST_F_TIMEOUT(blocks, goes_back_unasked, 500)
{
	ASSERT_EQ(held_do(self->fd, "alloc sleep 0 %d -1", MANY), 0);
	ASSERT_EQ(held_do(self->fd, "free all"), 0);
	EXPECT_TRUE(blocks_go(30));
	EXPECT_TRUE(dmap_settles_unasked(&self->before, &self->after));
}

TEST_F_TIMEOUT(blocks, goes_back_under_pressure, 120)
{
	int i;

	ASSERT_EQ(held_do(self->fd, "alloc sleep 0 %d -1", MANY), 0);
	ASSERT_EQ(held_do(self->fd, "free all"), 0);
	for (i = 0; i < 50 && blocks(); i++) {
		ASSERT_EQ(write_file("/proc/sys/vm/drop_caches", "2"), 0);
		usleep(20000);
	}
	EXPECT_EQ(blocks(), 0);
	EXPECT_LT(i, 50);
}

FIXTURE(no_block)
{
	int fd;
};

FIXTURE_VARIANT(no_block)
{
	const char *how;
};

FIXTURE_VARIANT_ADD(no_block, nowait) { .how = "nowait" };
FIXTURE_VARIANT_ADD(no_block, atomic) { .how = "atomic" };
FIXTURE_VARIANT_ADD(no_block, irq) { .how = "irq" };
FIXTURE_VARIANT_ADD(no_block, nolock) { .how = "nolock" };

FIXTURE_SETUP(no_block)
{
	self->fd = held_open();
	if (self->fd < 0)
		SKIP(return, HELD_FILE " needs CONFIG_PTE_MAPPED_TEST");
	/* What an earlier test asked for is kept for ten seconds. */
	ASSERT_EQ(restore_run(), 0);
	ASSERT_TRUE(blocks_go(30));
}

FIXTURE_TEARDOWN(no_block)
{
	if (self->fd >= 0)
		close(self->fd);
}

/* The first is missed, and has a worker prepare for the next ones. */
TEST_F_TIMEOUT(no_block, missed_then_served, 120)
{
	long missed = vm_event("pte_mapped_misses"), split = splits();
	int i;

	EXPECT_EQ(held_do(self->fd, "alloc %s 0 1 -1", variant->how), -ENOMEM);
	EXPECT_GT(vm_event("pte_mapped_misses"), missed);
	for (i = 0; i < 100; i++) {
		if (!held_do(self->fd, "alloc %s 0 1 -1", variant->how))
			break;
		usleep(50000);
	}
	EXPECT_LT(i, 100);
	EXPECT_TRUE(all_pte_mapped(self->fd));
	/* More than are in a block, bit by bit. */
	for (i = 0; i < 100; i++) {
		if (!held_do(self->fd, "alloc %s 2 20 -1", variant->how) && i >= 10)
			break;
		usleep(50000);
	}
	EXPECT_LT(i, 100);
	EXPECT_TRUE(all_pte_mapped(self->fd));
	EXPECT_LE(splits() - split, blocks() + 2);

	/* Nobody asks any more: nothing is kept. */
	ASSERT_EQ(held_do(self->fd, "free all"), 0);
	EXPECT_TRUE(blocks_go(60));
}

/* What is there already is given to whoever can't block. */
TEST_F_TIMEOUT(no_block, served_from_what_is_there, 120)
{
	long split;

	ASSERT_EQ(held_do(self->fd, "alloc sleep 0 1 -1"), 0);
	split = splits();
	EXPECT_EQ(held_do(self->fd, "alloc %s 0 100 -1", variant->how), 0);
	EXPECT_TRUE(all_pte_mapped(self->fd));
	EXPECT_EQ(splits(), split);
}

FIXTURE(masks)
{
	int fd;
};

FIXTURE_VARIANT(masks)
{
	const char *how;
};

FIXTURE_VARIANT_ADD(masks, noio) { .how = "noio" };
FIXTURE_VARIANT_ADD(masks, movable) { .how = "movable" };
FIXTURE_VARIANT_ADD(masks, dma32) { .how = "dma32" };
FIXTURE_VARIANT_ADD(masks, account) { .how = "account" };

FIXTURE_SETUP(masks)
{
	self->fd = held_open();
	if (self->fd < 0)
		SKIP(return, HELD_FILE " needs CONFIG_PTE_MAPPED_TEST");
}

FIXTURE_TEARDOWN(masks)
{
	if (self->fd >= 0)
		close(self->fd);
}

TEST_F_TIMEOUT(masks, are_honoured, 60)
{
	struct held_page *pages;
	long nr, i;

	ASSERT_EQ(held_do(self->fd, "alloc %s 1 300 -1", variant->how), 0);
	EXPECT_TRUE(all_pte_mapped(self->fd));
	EXPECT_LE(blocks(), 4);
	nr = held_read(self->fd, &pages);
	for (i = 0; i < nr && !strcmp(variant->how, "dma32"); i++)
		EXPECT_LT(pages[i].pfn, (4096 * MB) / PAGE);
	free(pages);
}

/* Numbers of free pages: of all types together, and by order. */
TEST_F_TIMEOUT(blocks, buddyinfo_and_pagetypeinfo_agree, 60)
{
	char line[1024], *rest, *word;
	long by_type, by_zone;
	FILE *file;
	int tries;

	ASSERT_EQ(held_do(self->fd, "alloc sleep 0 100 -1"), 0);
	for (tries = 0; tries < 20; tries++) {
		by_type = 0;
		by_zone = 0;
		file = fopen("/proc/pagetypeinfo", "r");
		ASSERT_NE(file, NULL);
		while (fgets(line, sizeof(line), file)) {
			if (strncmp(line, "Node", 4) || !strstr(line, "type"))
				continue;
			word = strtok_r(strstr(line, "type"), "\n ", &rest);
			strtok_r(NULL, "\n ", &rest);
			/* Order 9: 8 below it are what moves all the time. */
			for (int order = 0; (word = strtok_r(NULL, "\n ", &rest)); order++)
				by_type += order >= 9 ? atol(word) << order : 0;
		}
		fclose(file);
		file = fopen("/proc/buddyinfo", "r");
		ASSERT_NE(file, NULL);
		while (fgets(line, sizeof(line), file)) {
			word = strtok_r(strstr(line, "zone"), "\n ", &rest);
			strtok_r(NULL, "\n ", &rest);
			for (int order = 0; (word = strtok_r(NULL, "\n ", &rest)); order++)
				by_zone += order >= 9 ? atol(word) << order : 0;
		}
		fclose(file);
		if (by_type == by_zone)
			break;
	}
	EXPECT_EQ(by_type, by_zone);
	EXPECT_GT(blocks(), 0);
}

static bool one_node(void)
{
	return access("/sys/devices/system/node/node1", F_OK);
}

/* All blocks, without having anything reclaimed for them. */
static void use_blocks(int fd)
{
	held_do(fd, "alloc eager 10 100000 -1");
	held_do(fd, "alloc eager 9 100000 -1");
}

static bool any_pte_mapped(int fd)
{
	return held_do(fd, "type") != -ENOENT;
}

/* The rest too, until what is left is free in PTE-mapped blocks only. */
static bool use_all_but_pte_mapped(int fd)
{
	int order;

	use_blocks(fd);
	for (order = 8; order >= 0; order--) {
		while (!held_do(fd, "alloc eager %d 64 -1", order)) {
			if (any_pte_mapped(fd))
				return true;
		}
	}

	return any_pte_mapped(fd);
}

/*
 * No block is wholly free: single pages are taken where there are some, and
 * what else is free around them joins.
 */
TEST_F_TIMEOUT(blocks, steals_where_no_block_is_free, 200)
{
	long steals = vm_event("pte_mapped_steals"), split, stolen;
	int others = held_open();

	if (!one_node())
		SKIP(return, "more than one node to use up");
	/* 128 MB of single pages are left. */
	ASSERT_EQ(held_do(others, "alloc plain 0 65536 -1"), 0);
	use_blocks(self->fd);
	ASSERT_EQ(held_do(others, "free odd"), 0);
	/* What the watermarks kept of them. */
	use_blocks(self->fd);

	split = splits();
	ASSERT_EQ(held_do(others, "alloc sleep 0 1024 -1"), 0);
	stolen = vm_event("pte_mapped_steals") - steals;
	split = splits() - split;
	TH_LOG("%ld stolen, %ld splits", stolen, split);
	EXPECT_GT(stolen, 0);
	EXPECT_LE(split, stolen + 2);

	/* The neighbours of those pages stay, and do not keep their blocks. */
	ASSERT_EQ(held_do(self->fd, "free all"), 0);
	ASSERT_EQ(held_do(others, "alloc plain 0 20000 -1"), 0);
	ASSERT_EQ(held_do(others, "free odd"), 0);
	ASSERT_EQ(held_do(others, "free even"), 0);
	close(others);
	EXPECT_TRUE(as_before(self));
}

/* What others have of a block that was stolen does not keep it. */
TEST_F_TIMEOUT(blocks, stolen_blocks_go_back_from_between_others, 200)
{
	int others = held_open(), mine = held_open();
	long in_use;

	if (!one_node())
		SKIP(return, "more than one node to use up");
	ASSERT_EQ(held_do(others, "alloc plain 0 65536 -1"), 0);
	use_blocks(self->fd);
	ASSERT_EQ(held_do(others, "free odd"), 0);
	/* What the watermarks kept of them. */
	use_blocks(self->fd);
	ASSERT_EQ(held_do(mine, "alloc sleep 0 1024 -1"), 0);
	/* Not while a page is in use that was asked for. */
	in_use = count_pte_mapped(mine);
	EXPECT_GT(in_use, 0);
	ASSERT_EQ(restore_run(), 0);
	EXPECT_EQ(count_pte_mapped(mine), in_use);
	close(mine);
	EXPECT_TRUE(as_before(self));
	close(others);
}

/* The pages are as good as others where there are no others. */
TEST_F_TIMEOUT(blocks, others_get_them_before_they_fail, 200)
{
	int others = held_open();

	if (!one_node())
		SKIP(return, "more than one node to use up");
	ASSERT_EQ(held_do(self->fd, "alloc sleep 3 8192 -1"), 0);
	ASSERT_EQ(held_do(self->fd, "free odd"), 0);
	EXPECT_TRUE(use_all_but_pte_mapped(others));
	/* Of higher orders too, and they are others' now. */
	EXPECT_EQ(held_do(others, "alloc eager 2 100 -1"), 0);
	ASSERT_EQ(held_do(self->fd, "free all"), 0);
	EXPECT_GT(blocks(), 0);
	close(others);
	EXPECT_TRUE(as_before(self));
}

/*
 * The page table of a split stays for as long as the split: it is not taken
 * from a block that is to become free, not even when nothing else is left.
 */
TEST_F_TIMEOUT(blocks, tables_of_splits_are_not_in_them, 200)
{
	int large = held_open(), others[10], order;

	if (!one_node())
		SKIP(return, "more than one node to use up");
	ASSERT_EQ(held_do(large, "alloc plain 8 64 -1"), 0);
	ASSERT_EQ(held_do(self->fd, "alloc sleep 3 16384 -1"), 0);
	ASSERT_EQ(held_do(self->fd, "free odd"), 0);
	for (order = 9; order >= 0; order--) {
		others[order] = held_open();
		if (order == 9)
			use_blocks(others[order]);
		/* Until what is left of this order is theirs. */
		while (!any_pte_mapped(others[order]) &&
		       !held_do(others[order], "alloc eager %d 64 -1", order))
			;
	}
	EXPECT_EQ(held_do(large, "ro"), -ENOMEM);
	for (order = 9; order >= 0; order--)
		close(others[order]);
	EXPECT_EQ(held_do(large, "rw"), 0);
	close(large);
	ASSERT_EQ(held_do(self->fd, "free all"), 0);
	EXPECT_TRUE(as_before(self));
}

TEST_F_TIMEOUT(blocks, node_that_is_asked_for, 120)
{
	if (one_node())
		SKIP(return, "one node");
	ASSERT_EQ(held_do(self->fd, "alloc sleep 0 600 1"), 0);
	EXPECT_TRUE(all_pte_mapped(self->fd));
	EXPECT_TRUE(all_on_node(self->fd, 1));
	ASSERT_EQ(held_do(self->fd, "free all"), 0);
	ASSERT_EQ(held_do(self->fd, "alloc sleep 0 600 0"), 0);
	EXPECT_TRUE(all_pte_mapped(self->fd));
	EXPECT_TRUE(all_on_node(self->fd, 0));
	ASSERT_EQ(held_do(self->fd, "free all"), 0);
	EXPECT_TRUE(as_before(self));
}

/* This process in a cpuset: the memory of node 1. */
FIXTURE(cpuset)
{
	struct group group;
	int others;
	int fd;
};

FIXTURE_SETUP(cpuset)
{
	const char *missing;

	if (one_node())
		SKIP(return, "one node");
	self->fd = held_open();
	self->others = held_open();
	if (self->others < 0)
		SKIP(return, HELD_FILE " needs CONFIG_PTE_MAPPED_TEST");

	missing = group_make(&self->group, "cpuset.mems");
	if (missing)
		SKIP(return, "%s", missing);

	ASSERT_EQ(restore_run(), 0);
	ASSERT_TRUE(blocks_go(30));
	ASSERT_EQ(held_do(self->others, "alloc sleep 0 1 0"), 0);
	ASSERT_EQ(group_write(&self->group, "cpuset.mems", "1"), 0);
	ASSERT_EQ(group_enter(&self->group), 0);
}

FIXTURE_TEARDOWN(cpuset)
{
	group_remove(&self->group);
	if (self->fd > 0)
		close(self->fd);
	if (self->others > 0)
		close(self->others);
}

/* As for other pages: better one of the wrong node than none. */
TEST_F_TIMEOUT(cpuset, gives_way_to_atomic_requests, 60)
{
	EXPECT_EQ(held_do(self->fd, "alloc atomic 0 1 -1"), 0);
	EXPECT_TRUE(all_pte_mapped(self->fd));
	EXPECT_TRUE(all_on_node(self->fd, 0));
}

TEST_F_TIMEOUT(cpuset, gets_blocks_of_its_own, 60)
{
	ASSERT_EQ(held_do(self->fd, "alloc sleep 0 600 -1"), 0);
	EXPECT_TRUE(all_pte_mapped(self->fd));
	EXPECT_TRUE(all_on_node(self->fd, 1));
}

TEST_HARNESS_MAIN
