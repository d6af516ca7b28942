// SPDX-License-Identifier: GPL-2.0-only
/*
 * A page of exclusive memory stays where it is: whoever moves, merges, swaps out
 * or takes away pages of others finds none there. Ordinary pages beside it show
 * that it was tried.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "exclusive.h"

#ifndef PR_SET_MEMORY_MERGE
#define PR_SET_MEMORY_MERGE	67
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif

#define PAGES		1024L
#define SIZE		(PAGES * PAGE)
#define HUGE		(2 * MB)
#define SEED		0x57a5e8c1000000UL
#define ORDINARY	0x57a50bd1000000UL

FIXTURE(stays)
{
	char *map;
	char *ordinary;
	unsigned long pfns[PAGES];
	unsigned long ordinary_pfns[PAGES];
	struct group group;
	int status[PAGES];
	int node[PAGES];
	void *page[PAGES];
};

FIXTURE_SETUP(stays)
{
	if (no_exclusive())
		SKIP(return, "%s", no_exclusive());
	self->map = exclusive_map(SIZE);
	ASSERT_NE(self->map, NULL);
	self->ordinary = ordinary_map(SIZE);
	ASSERT_NE(self->ordinary, NULL);
	fill(self->map, SIZE, SEED);
	fill(self->ordinary, SIZE, ORDINARY);
	pfns_of(self->map, PAGES, self->pfns);
	pfns_of(self->ordinary, PAGES, self->ordinary_pfns);
}

FIXTURE_TEARDOWN(stays)
{
	group_remove(&self->group);
	if (self->map)
		munmap(self->map, SIZE);
	if (self->ordinary)
		munmap(self->ordinary, SIZE);
}

static void stayed(struct __test_metadata *_metadata, FIXTURE_DATA(stays) *self)
{
	EXPECT_EQ(pfns_differ(self->map, PAGES, self->pfns), 0);
	EXPECT_TRUE(holds(self->map, SIZE, SEED));
	EXPECT_TRUE(holds(self->ordinary, SIZE, ORDINARY));
}

static long moved(FIXTURE_DATA(stays) *self)
{
	return pfns_differ(self->ordinary, PAGES, self->ordinary_pfns);
}

/* The nodes that have memory: at most 64, one bit each. */
static unsigned long nodes(void)
{
	char text[64], *at = text;
	unsigned long mask = 0;

	if (read_file("/sys/devices/system/node/has_memory", text, sizeof(text)))
		return 0;
	while (*at >= '0' && *at <= '9') {
		unsigned long first = strtoul(at, &at, 10), last = first;

		if (*at == '-')
			last = strtoul(at + 1, &at, 10);
		for (; first <= last && first < 64; first++)
			mask |= 1UL << first;
		at += *at == ',';
	}

	return mask;
}

static int node_of_page(void *page)
{
	int status = -ENOENT;

	if (syscall(__NR_move_pages, 0, 1UL, &page, NULL, &status, 0))
		return -errno;

	return status;
}

/* A node where the first ordinary page is not, or -1. */
static int another_node(FIXTURE_DATA(stays) *self)
{
	int node = node_of_page(self->ordinary);
	unsigned long others;

	if (node < 0)
		return -1;
	others = nodes() & ~(1UL << node);

	return others ? __builtin_ctzl(others) : -1;
}

static long move_all(FIXTURE_DATA(stays) *self, char *map, int node)
{
	long i;

	for (i = 0; i < PAGES; i++) {
		self->page[i] = map + i * PAGE;
		self->node[i] = node;
		self->status[i] = -ENOENT;
	}

	return syscall(__NR_move_pages, 0, PAGES, self->page,
		       node < 0 ? NULL : self->node, self->status, MPOL_MF_MOVE);
}

static long count_status(FIXTURE_DATA(stays) *self, int status)
{
	long i, nr = 0;

	for (i = 0; i < PAGES; i++)
		nr += self->status[i] == status;

	return nr;
}

TEST_F(stays, move_pages_tells_nothing_of_it)
{
	int node = node_of_page(self->ordinary);

	if (node < 0)
		SKIP(return, "no move_pages: needs CONFIG_MIGRATION and CONFIG_NUMA");
	/* As of memory where no page is. */
	ASSERT_EQ(move_all(self, self->map, -1), 0);
	EXPECT_EQ(count_status(self, -ENOENT), PAGES);
}

TEST_F(stays, move_pages_moves_none_to_its_own_node)
{
	int node = node_of_page(self->ordinary);

	if (node < 0)
		SKIP(return, "no move_pages: needs CONFIG_MIGRATION and CONFIG_NUMA");
	ASSERT_EQ(move_all(self, self->ordinary, node), 0);
	EXPECT_EQ(count_status(self, node), PAGES);
	ASSERT_GE(move_all(self, self->map, node), 0);
	EXPECT_EQ(count_status(self, -EFAULT), PAGES);
	stayed(_metadata, self);
}

TEST_F(stays, move_pages_moves_none_to_another_node)
{
	int node = another_node(self);

	if (node < 0)
		SKIP(return, "one node");
	ASSERT_EQ(move_all(self, self->ordinary, node), 0);
	EXPECT_EQ(count_status(self, node), PAGES);
	EXPECT_EQ(moved(self), PAGES);
	ASSERT_GE(move_all(self, self->map, node), 0);
	EXPECT_EQ(count_status(self, -EFAULT), PAGES);
	stayed(_metadata, self);
}

static long bind_to(char *map, int node, int flags)
{
	unsigned long mask = 1UL << node;

	return syscall(__NR_mbind, map, SIZE, MPOL_BIND, &mask, 65UL, flags);
}

TEST_F(stays, mbind_moves_none)
{
	int node = another_node(self);

	if (node < 0)
		SKIP(return, "one node");
	ASSERT_EQ(bind_to(self->ordinary, node, MPOL_MF_MOVE), 0);
	EXPECT_EQ(moved(self), PAGES);
	bind_to(self->map, node, MPOL_MF_MOVE);
	stayed(_metadata, self);
	bind_to(self->map, node, MPOL_MF_MOVE_ALL | MPOL_MF_STRICT);
	stayed(_metadata, self);
}

/* Strict, without a move: only to hear of them. */
TEST_F(stays, mbind_tells_of_pages_that_are_elsewhere)
{
	int node = another_node(self), here = node_of_page(self->ordinary);

	if (node < 0)
		SKIP(return, "one node");
	ASSERT_EQ(madvise(self->map, SIZE, MADV_DONTNEED), 0);
	ASSERT_EQ(bind_to(self->map, node, 0), 0);
	fill(self->map, SIZE, SEED);
	EXPECT_EQ(bind_to(self->map, node, MPOL_MF_STRICT), 0);
	errno = 0;
	EXPECT_EQ(bind_to(self->map, here, MPOL_MF_STRICT), -1);
	EXPECT_EQ(errno, EIO);
}

/* Whether a node has the memory block of a page. */
static bool is_on_node(unsigned long pfn, int node)
{
	char path[96], size[32];

	if (read_file("/sys/devices/system/memory/block_size_bytes", size, sizeof(size)))
		return false;
	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/memory%lu", node,
		 pfn / (strtoul(size, NULL, 16) / PAGE));

	return !access(path, F_OK);
}

/* A policy is for pages that are yet to come. */
TEST_F(stays, mbind_says_where_a_page_comes_from)
{
	int node = another_node(self), there = 0;
	long i;

	if (node < 0)
		SKIP(return, "one node");
	ASSERT_EQ(madvise(self->map, SIZE, MADV_DONTNEED), 0);
	ASSERT_EQ(bind_to(self->map, node, 0), 0);
	fill(self->map, SIZE, SEED);
	for (i = 0; i < PAGES; i++)
		there += is_on_node(pfn_of(self->map + i * PAGE), node);
	EXPECT_EQ(there, PAGES);
}

TEST_F(stays, migrate_pages_moves_none)
{
	int node = another_node(self);
	unsigned long from, to;

	if (node < 0)
		SKIP(return, "one node");
	to = 1UL << node;
	from = nodes() & ~to;
	ASSERT_GE(syscall(__NR_migrate_pages, 0, 65UL, &from, &to), 0);
	EXPECT_EQ(moved(self), PAGES);
	stayed(_metadata, self);
}

#define PIECES		(256 * MB)
#define PIECE		(8 * PAGE)

/* Of each piece one page has memory: between them there is room. */
static void pieces_fill(char *pieces)
{
	size_t pos;

	for (pos = 0; pos < PIECES; pos += PAGE)
		put_long(pieces + pos, 1);
	for (pos = 0; pos < PIECES; pos += PIECE)
		madvise(pieces + pos + PAGE, PIECE - PAGE, MADV_DONTNEED);
}

static void pieces_pfns(const char *pieces, unsigned long *pfns)
{
	size_t pos;

	for (pos = 0; pos < PIECES; pos += PIECE)
		pfns[pos / PIECE] = pfn_of(pieces + pos);
}

static long pieces_moved(const char *pieces, const unsigned long *pfns)
{
	size_t pos;
	long nr = 0;

	for (pos = 0; pos < PIECES; pos += PIECE)
		nr += pfn_of(pieces + pos) != pfns[pos / PIECE];

	return nr;
}

/*
 * Compaction moves what is low in a zone to what is free above it. Pages with
 * room between them are enough for it, wherever they are: some always move, of
 * a few that lie close together perhaps none.
 */
TEST_F_TIMEOUT(stays, compaction_moves_none, 120)
{
	long scanned = vm_event("compact_migrate_scanned");
	static unsigned long pfns[PIECES / PIECE];
	char *pieces;
	int tries;

	if (write_file("/proc/sys/vm/compact_memory", "1"))
		SKIP(return, "no compaction: needs CONFIG_COMPACTION");
	pieces = ordinary_map(PIECES);
	ASSERT_NE(pieces, NULL);
	for (tries = 0; tries < 20; tries++) {
		pieces_fill(pieces);
		pieces_pfns(pieces, pfns);
		ASSERT_EQ(write_file("/proc/sys/vm/compact_memory", "1"), 0);
		if (pieces_moved(pieces, pfns))
			break;
	}
	EXPECT_GT(vm_event("compact_migrate_scanned"), scanned);
	EXPECT_LT(tries, 20);
	stayed(_metadata, self);
	munmap(pieces, PIECES);
}

static long swapped(char *map)
{
	long i, nr = 0;

	for (i = 0; i < PAGES; i++)
		nr += is_swapped(map + i * PAGE);

	return nr;
}

TEST_F_TIMEOUT(stays, pressure_swaps_none_out, 120)
{
	const char *missing;
	int tries;

	if (!have_swap())
		SKIP(return, "no swap");
	missing = group_make(&self->group, "memory.max");
	if (missing)
		SKIP(return, "%s", missing);
	ASSERT_EQ(group_enter(&self->group), 0);
	/* Charged to the group that is under pressure. */
	munmap(self->map, SIZE);
	munmap(self->ordinary, SIZE);
	self->map = exclusive_map(SIZE);
	ASSERT_NE(self->map, NULL);
	self->ordinary = ordinary_map(SIZE);
	ASSERT_NE(self->ordinary, NULL);
	fill(self->map, SIZE, SEED);
	fill(self->ordinary, SIZE, ORDINARY);
	pfns_of(self->map, PAGES, self->pfns);
	for (tries = 0; tries < 20 && swapped(self->ordinary) < PAGES / 2; tries++)
		group_set(&self->group, "memory.reclaim", SIZE);
	/* In the group there is nothing else that can go. */
	EXPECT_GE(swapped(self->ordinary), PAGES / 2);
	EXPECT_EQ(swapped(self->map), 0);
	ASSERT_EQ(write_file("/proc/sys/vm/drop_caches", "3"), 0);
	stayed(_metadata, self);
}

static int advise_of_another(pid_t pid, char *map, int advice)
{
	struct iovec range = { map, SIZE };
	int pidfd = syscall(__NR_pidfd_open, pid, 0), err = 0;

	if (pidfd < 0)
		return -errno;
	if (syscall(__NR_process_madvise, pidfd, &range, 1UL, advice, 0U) < 0)
		err = -errno;
	close(pidfd);

	return err;
}

static int advise_parent(void *arg)
{
	FIXTURE_DATA(stays) *self = arg;

	/* What two processes map is not swapped out for one of them. */
	munmap(self->ordinary, SIZE);
	if (advise_of_another(getppid(), self->ordinary, MADV_PAGEOUT))
		return 1;
	if (advise_of_another(getppid(), self->map, MADV_PAGEOUT) != -EINVAL)
		return 2;
	if (advise_of_another(getppid(), self->map, MADV_COLD) != -EINVAL)
		return 3;

	return 0;
}

TEST_F(stays, advice_of_another_process_swaps_none_out)
{
	if (!have_swap())
		SKIP(return, "no swap");
	EXPECT_EQ(in_child(advise_parent, self), 0);
	EXPECT_GE(swapped(self->ordinary), PAGES / 2);
	EXPECT_EQ(swapped(self->map), 0);
	stayed(_metadata, self);
}

/* Huge pages, of whoever makes them. */
#define THP_ENABLED	"/sys/kernel/mm/transparent_hugepage/enabled"

FIXTURE(huge)
{
	char enabled[64];
	char *map;
	char *ordinary;
};

FIXTURE_SETUP(huge)
{
	char text[64], *start, *end;

	if (no_exclusive())
		SKIP(return, "%s", no_exclusive());
	if (read_file(THP_ENABLED, text, sizeof(text)))
		SKIP(return, "no huge pages: needs CONFIG_TRANSPARENT_HUGEPAGE");
	start = strchr(text, '[');
	end = strchr(text, ']');
	ASSERT_NE(start, NULL);
	ASSERT_NE(end, NULL);
	snprintf(self->enabled, sizeof(self->enabled), "%.*s",
		 (int)(end - start - 1), start + 1);
	ASSERT_EQ(write_file(THP_ENABLED, "always"), 0);
	self->map = exclusive_map(4 * HUGE);
	ASSERT_NE(self->map, NULL);
	self->ordinary = mmap(NULL, 4 * HUGE, READ_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(self->ordinary, MAP_FAILED);
}

FIXTURE_TEARDOWN(huge)
{
	if (*self->enabled)
		write_file(THP_ENABLED, self->enabled);
	if (self->map)
		munmap(self->map, 4 * HUGE);
	if (self->ordinary)
		munmap(self->ordinary, 4 * HUGE);
}

static char *aligned(char *map)
{
	return (char *)(((unsigned long)map + HUGE - 1) & ~(HUGE - 1));
}

TEST_F(huge, page_is_none_at_first_touch)
{
	fill(self->ordinary, 4 * HUGE, ORDINARY);
	fill(self->map, 4 * HUGE, SEED);
	EXPECT_GT(smaps_kb(self->ordinary, "AnonHugePages:"), 0);
	EXPECT_EQ(smaps_kb(self->map, "AnonHugePages:"), 0);
	EXPECT_EQ(smaps_kb(self->map, "Rss:"), (long)(4 * HUGE / KB));
	EXPECT_TRUE(holds(self->map, 4 * HUGE, SEED));
}

TEST_F(huge, page_is_none_by_collapse)
{
	char *map = aligned(self->map), *ordinary = aligned(self->ordinary);
	unsigned long pfns[512];

	ASSERT_EQ(madvise(self->ordinary, 4 * HUGE, MADV_NOHUGEPAGE), 0);
	fill(ordinary, HUGE, ORDINARY);
	fill(map, HUGE, SEED);
	pfns_of(map, 512, pfns);
	ASSERT_EQ(madvise(self->ordinary, 4 * HUGE, MADV_HUGEPAGE), 0);
	EXPECT_EQ(madvise(ordinary, HUGE, MADV_COLLAPSE), 0);
	EXPECT_GT(smaps_kb(ordinary, "AnonHugePages:"), 0);
	EXPECT_EQ(madvise(map, HUGE, MADV_COLLAPSE), -1);
	EXPECT_EQ(errno, EINVAL);
	EXPECT_EQ(pfns_differ(map, 512, pfns), 0);
	EXPECT_TRUE(holds(map, HUGE, SEED));
}

/* KSM, asked for one mapping and for a whole process. */
#define KSM		"/sys/kernel/mm/ksm/"

static const char * const ksm_files[] = {
	KSM "sleep_millisecs", KSM "pages_to_scan", KSM "run",
};

#define KSM_FILES 3

FIXTURE(ksm)
{
	char values[KSM_FILES][16];	/* as they were */
	char *map;
	char *ordinary;
};

FIXTURE_VARIANT(ksm)
{
	bool process;
};

FIXTURE_VARIANT_ADD(ksm, advised) { .process = false };
FIXTURE_VARIANT_ADD(ksm, process) { .process = true };

FIXTURE_SETUP(ksm)
{
	int i;

	if (no_exclusive())
		SKIP(return, "%s", no_exclusive());
	if (access(KSM "run", W_OK))
		SKIP(return, "no " KSM "run: needs CONFIG_KSM");
	for (i = 0; i < KSM_FILES; i++)
		ASSERT_EQ(read_file(ksm_files[i], self->values[i],
				    sizeof(self->values[i])), 0);
	self->map = exclusive_map(16 * PAGE);
	ASSERT_NE(self->map, NULL);
	self->ordinary = ordinary_map(16 * PAGE);
	ASSERT_NE(self->ordinary, NULL);
}

FIXTURE_TEARDOWN(ksm)
{
	int i;

	for (i = 0; i < KSM_FILES; i++) {
		if (*self->values[i])
			write_file(ksm_files[i], self->values[i]);
	}
	if (self->map)
		munmap(self->map, 16 * PAGE);
	if (self->ordinary)
		munmap(self->ordinary, 16 * PAGE);
}

static bool merged(char *map)
{
	unsigned long pfn = pfn_of(map);
	int i;

	for (i = 1; i < 16; i++) {
		if (pfn_of(map + i * PAGE) == pfn)
			return true;
	}

	return false;
}

TEST_F_TIMEOUT(ksm, merges_none, 120)
{
	unsigned long pfns[16];
	int tries;

	/* Of this test's own process. */
	if (variant->process) {
		ASSERT_EQ(prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0), 0);
	} else {
		ASSERT_EQ(madvise(self->ordinary, 16 * PAGE, MADV_MERGEABLE), 0);
		ASSERT_EQ(madvise(self->map, 16 * PAGE, MADV_MERGEABLE), 0);
	}
	fill_pattern(self->map, 16 * PAGE);
	fill_pattern(self->ordinary, 16 * PAGE);
	pfns_of(self->map, 16, pfns);
	EXPECT_TRUE(smaps_flag(self->ordinary, "mg"));
	EXPECT_FALSE(smaps_flag(self->map, "mg"));
	write_file(KSM "sleep_millisecs", "10");
	write_file(KSM "pages_to_scan", "1000");
	ASSERT_EQ(write_file(KSM "run", "1"), 0);
	for (tries = 0; tries < 600 && !merged(self->ordinary); tries++)
		usleep(100000);
	EXPECT_TRUE(merged(self->ordinary));
	EXPECT_FALSE(merged(self->map));
	EXPECT_EQ(pfns_differ(self->map, 16, pfns), 0);
}

TEST(nothing_is_mergeable_that_a_process_maps_later)
{
	char *map;

	if (no_exclusive())
		SKIP(return, "%s", no_exclusive());
	if (access(KSM "run", W_OK))
		SKIP(return, "no " KSM "run: needs CONFIG_KSM");
	ASSERT_EQ(prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0), 0);
	map = exclusive_map(16 * PAGE);
	ASSERT_NE(map, NULL);
	EXPECT_FALSE(smaps_flag(map, "mg"));
	munmap(map, 16 * PAGE);
	map = ordinary_map(16 * PAGE);
	ASSERT_NE(map, NULL);
	EXPECT_TRUE(smaps_flag(map, "mg"));
	munmap(map, 16 * PAGE);
}

/* Memory that is to go offline. */
FIXTURE(offline)
{
	unsigned long block_pages;
	unsigned long offline;	/* a memory block that a test put offline */
	char *map;
	int fd;
	unsigned long pfns[PAGES];
};

FIXTURE_SETUP(offline)
{
	char text[32];

	self->fd = -1;
	if (no_exclusive())
		SKIP(return, "%s", no_exclusive());
	if (read_file("/sys/devices/system/memory/block_size_bytes", text,
		      sizeof(text)))
		SKIP(return, "no memory hotplug: needs CONFIG_MEMORY_HOTPLUG");
	self->block_pages = strtoul(text, NULL, 16) / PAGE;
	self->fd = held_open();
	self->map = exclusive_map(SIZE);
	ASSERT_NE(self->map, NULL);
	fill(self->map, SIZE, SEED);
	pfns_of(self->map, PAGES, self->pfns);
}

FIXTURE_TEARDOWN(offline)
{
	if (self->offline)
		block_set(self->offline, "online");
	if (self->map)
		munmap(self->map, SIZE);
	if (self->fd >= 0)
		close(self->fd);
}

/* Numbers of the memory blocks that have one of the pages. */
static int blocks_of(FIXTURE_DATA(offline) *self, unsigned long *numbers, int most)
{
	int nr = 0, n;
	long i;

	for (i = 0; i < PAGES && nr < most; i++) {
		for (n = 0; n < nr; n++) {
			if (numbers[n] == self->pfns[i] / self->block_pages)
				break;
		}
		if (n == nr)
			numbers[nr++] = self->pfns[i] / self->block_pages;
	}

	return nr;
}

TEST_F_TIMEOUT(offline, does_not_go_while_it_is_in_use, 200)
{
	unsigned long numbers[64];
	int nr, i;

	nr = blocks_of(self, numbers, 64);
	ASSERT_GT(nr, 0);
	/* -EBUSY, or -EINVAL where there are holes in a block. */
	for (i = 0; i < nr; i++) {
		EXPECT_NE(block_set(numbers[i], "offline"), 0);
		block_set(numbers[i], "online");
	}
	EXPECT_EQ(pfns_differ(self->map, PAGES, self->pfns), 0);
	EXPECT_TRUE(holds(self->map, SIZE, SEED));
	if (self->fd >= 0)
		EXPECT_EQ(held_do(self->fd, "peek %#lx", self->pfns[0]), -EFAULT);
}

/*
 * Enough of it that most of some memory block is exclusive, as other pages that
 * can't be moved may keep a block online, too.
 */
TEST_F_TIMEOUT(offline, goes_once_it_is_given_back, 300)
{
	size_t size = 4 * self->block_pages * PAGE;
	unsigned long numbers[64], pfn;
	int nr = 0, i, n;
	char *more;
	size_t pos;

	if (!restore_available())
		SKIP(return, "no " RESTORE_DIR "run");
	more = exclusive_map(size);
	ASSERT_NE(more, NULL);
	for (pos = 0; pos < size; pos += 16 * PAGE) {
		put_long(more + pos, 1);
		pfn = pfn_of(more + pos);
		for (n = 0; n < nr && numbers[n] != pfn / self->block_pages; n++)
			;
		if (n == nr && nr < 64)
			numbers[nr++] = pfn / self->block_pages;
	}
	munmap(more, size);
	munmap(self->map, SIZE);
	self->map = NULL;
	ASSERT_EQ(restore_run(), 0);
	for (i = nr - 1; i >= 0; i--) {
		if (!block_set(numbers[i], "offline"))
			break;
	}
	if (i < 0)
		SKIP(return, "no memory block is without pages that others can't move");
	self->offline = numbers[i];
	ASSERT_EQ(block_set(self->offline, "online"), 0);
	self->offline = 0;
}

/* An image of memory would have it in plain text. */
FIXTURE(hibernation)
{
	char *map;
};

FIXTURE_SETUP(hibernation)
{
	char text[128];

	if (no_exclusive())
		SKIP(return, "%s", no_exclusive());
	if (read_file("/sys/power/disk", text, sizeof(text)))
		SKIP(return, "no hibernation on this kernel");
	if (restore_available())
		ASSERT_EQ(restore_run(), 0);
}

FIXTURE_TEARDOWN(hibernation)
{
	if (self->map)
		munmap(self->map, PAGE);
}

static bool can_not_hibernate(void)
{
	char text[128];

	return !read_file("/sys/power/disk", text, sizeof(text)) &&
	       strstr(text, "[disabled]");
}

TEST_F(hibernation, is_refused_while_it_is_in_use)
{
	EXPECT_FALSE(can_not_hibernate());
	self->map = exclusive_map(PAGE);
	ASSERT_NE(self->map, NULL);
	put_long(self->map, 1);
	ASSERT_TRUE(can_not_hibernate());
	EXPECT_EQ(write_file("/sys/power/state", "disk"), -EPERM);
	munmap(self->map, PAGE);
	self->map = NULL;
	if (restore_available())
		ASSERT_EQ(restore_run(), 0);
	EXPECT_FALSE(can_not_hibernate());
}

TEST_HARNESS_MAIN
