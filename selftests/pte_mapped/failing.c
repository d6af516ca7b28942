// SPDX-License-Identifier: GPL-2.0-only
/*
 * What goes wrong: allocations that fail, memory that is bad, memory that goes.
 * Requests may fail then. Nothing else does, and afterwards all is as before.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "../direct_map/fail.h"
#include "pool.h"

#define HWPOISON	"/sys/kernel/debug/hwpoison/corrupt-pfn"
#define UNPOISON	"/sys/kernel/debug/hwpoison/unpoison-pfn"

FIXTURE(failing)
{
	struct dmap before;
	struct dmap after;
	int fd;
};

FIXTURE_VARIANT(failing)
{
	const char *what;
	const char *function;	/* NULL: the requests themselves */
	int percent;
};

FIXTURE_VARIANT_ADD(failing, slab_of_requests) { FAIL_SLAB, NULL, 30 };
FIXTURE_VARIANT_ADD(failing, pages_of_requests) { FAIL_PAGES, NULL, 30 };
FIXTURE_VARIANT_ADD(failing, all_slab_of_refills) { FAIL_SLAB, "pte_mapped_refill", 100 };
FIXTURE_VARIANT_ADD(failing, all_pages_of_refills) { FAIL_PAGES, "pte_mapped_refill", 100 };
FIXTURE_VARIANT_ADD(failing, all_slab_of_the_allocator) { FAIL_SLAB, "alloc_pte_mapped", 100 };
FIXTURE_VARIANT_ADD(failing, pages_of_splits) { FAIL_PAGES, "change_page_attr_set_clr", 80 };
FIXTURE_VARIANT_ADD(failing, slab_of_the_pool) { FAIL_SLAB, "unmapped_page_alloc", 50 };

FIXTURE_SETUP(failing)
{
	self->fd = held_open();
	if (self->fd < 0)
		SKIP(return, HELD_FILE " needs CONFIG_PTE_MAPPED_TEST");
	if (!fail_available(variant->what))
		SKIP(return, "no fault injection: needs CONFIG_FAULT_INJECTION");
	ASSERT_EQ(restore_run(), 0);
	ASSERT_TRUE(blocks_go(30));
	ASSERT_EQ(dmap_read_settled(&self->before), 0);
	if (dmap_hopeless(&self->before))
		SKIP(return, "%s", dmap_hopeless(&self->before));
}

FIXTURE_TEARDOWN(failing)
{
	fail_stop(variant->what);
	if (self->fd >= 0)
		close(self->fd);
	dmap_free(&self->before);
	dmap_free(&self->after);
}

TEST_F_TIMEOUT(failing, nothing_breaks_and_all_goes_back, 200)
{
	long available = meminfo_kb("MemAvailable:"), failed, refills;
	int served = 0, round, order;

	ASSERT_EQ(fail_start(variant->what, variant->function, variant->percent), 0);
	for (round = 0; round < 20; round++) {
		for (order = 0; order < 4; order++)
			served += !held_do(self->fd, "alloc sleep %d 1 -1", order);
		for (order = 0; order < 40; order++)
			served += !held_do(self->fd, "alloc unmapped 0 1 -1");
		/* It stops at what can't be split. To undo it needs nothing. */
		held_do(self->fd, "ro");
		ASSERT_EQ(held_do(self->fd, "rw"), 0);
		held_do(self->fd, "free %s", round & 1 ? "odd" : "even");
	}
	failed = fail_stop(variant->what);
	TH_LOG("%d served, %ld allocations failed", served, failed);
	EXPECT_GT(failed, 0);
	/* Who asked for a page has one unless that one failed. */
	EXPECT_GT(served, 200);

	/* Allocations do not fail any more: neither do refills. */
	ASSERT_EQ(held_do(self->fd, "free all"), 0);
	ASSERT_EQ(restore_run(), 0);
	EXPECT_TRUE(blocks_go(30));
	refills = vm_event("pte_mapped_refills");
	EXPECT_EQ(held_do(self->fd, "alloc sleep 0 100 -1"), 0);
	EXPECT_EQ(held_do(self->fd, "type"), 0);
	EXPECT_EQ(vm_event("pte_mapped_refills"), refills + 1);
	ASSERT_EQ(held_do(self->fd, "free all"), 0);
	EXPECT_TRUE(blocks_go(30));
	EXPECT_EQ(meminfo_kb("NoDirectMap:"), 0);
	EXPECT_TRUE(dmap_settles(&self->before, &self->after, 60, true));
	EXPECT_TRUE(dmap_same_attrs(&self->before, &self->after));
	EXPECT_GT(meminfo_kb("MemAvailable:"), available - 32 * 1024);
}

FIXTURE(memory)
{
	unsigned long block_size;
	unsigned long offline;	/* a memory block that a test put offline */
	int fd;
};

FIXTURE_SETUP(memory)
{
	char text[32];

	self->fd = held_open();
	if (self->fd < 0)
		SKIP(return, HELD_FILE " needs CONFIG_PTE_MAPPED_TEST");
	if (!read_file("/sys/devices/system/memory/block_size_bytes", text,
		       sizeof(text)))
		self->block_size = strtoul(text, NULL, 16);
	ASSERT_EQ(restore_run(), 0);
	ASSERT_TRUE(blocks_go(30));
}

FIXTURE_TEARDOWN(memory)
{
	if (self->offline)
		block_set(self->offline, "online");
	if (self->fd >= 0)
		close(self->fd);
}

/* Numbers of the memory blocks in which pages are held; how many. */
static int blocks_of(int fd, unsigned long block_size, unsigned long *numbers,
		     int most)
{
	struct held_page *pages;
	long held = held_read(fd, &pages), i;
	int nr = 0, n;

	for (i = 0; i < held && nr < most; i++) {
		unsigned long number = pages[i].pfn / (block_size / PAGE);

		for (n = 0; n < nr && numbers[n] != number; n++)
			;
		if (n == nr)
			numbers[nr++] = number;
	}
	free(pages);

	return nr;
}

/*
 * What is free in PTE-mapped blocks does not keep their memory online. Pages
 * that others can't move may.
 */
TEST_F_TIMEOUT(memory, goes_offline_with_blocks_that_are_free, 200)
{
	unsigned long numbers[64], size = self->block_size;
	struct dmap map, after = { 0 };
	long before, kept = 0;
	int nr, i;

	if (!size)
		SKIP(return, "no memory hotplug: needs CONFIG_MEMORY_HOTPLUG");
	ASSERT_EQ(dmap_read_settled(&map), 0);
	ASSERT_EQ(held_do(self->fd, "alloc sleep 4 %ld -1", 8 * size / (16 * PAGE)), 0);
	nr = blocks_of(self->fd, size, numbers, 64);
	ASSERT_GT(nr, 0);

	/* Pages in use keep it, and an attempt takes no block. Others may add one. */
	before = blocks();
	EXPECT_NE(block_set(numbers[nr - 1], "offline"), 0);
	EXPECT_GE(blocks(), before);
	EXPECT_EQ(held_do(self->fd, "type"), 0);

	ASSERT_EQ(held_do(self->fd, "free all"), 0);
	for (i = nr - 1; i >= 0; i--) {
		kept = blocks();
		if (!block_set(numbers[i], "offline"))
			break;
	}
	if (i < 0)
		SKIP(return, "no memory block is without pages that others can't move");
	self->offline = numbers[i];
	/* What is offline is not kept, nor are the marks of its mapping. */
	EXPECT_TRUE(!kept || blocks() < kept);
	ASSERT_EQ(block_set(self->offline, "online"), 0);
	self->offline = 0;
	EXPECT_TRUE(blocks_go(30));
	EXPECT_TRUE(dmap_settles(&map, &after, 60, true));
	EXPECT_TRUE(dmap_same_attrs(&map, &after));
	EXPECT_EQ(held_do(self->fd, "alloc sleep 0 100 -1"), 0);
	EXPECT_EQ(held_do(self->fd, "type"), 0);
	dmap_free(&map);
	dmap_free(&after);
}

static sigjmp_buf bus_error;

static void on_bus_error(int signal)
{
	siglongjmp(bus_error, signal);
}

#define KPF_UPTODATE	0x000008UL
#define KPF_HWPOISON	0x080000UL
#define KPF_OFFLINE	0x800000UL

/*
 * Out of the kernel's hands, and not as a page that a driver can move: who is
 * offline and up to date is taken for one of these.
 */
static bool is_lost(unsigned long pfn)
{
	int fd = open("/proc/kpageflags", O_RDONLY);
	uint64_t flags = 0;

	if (pread(fd, &flags, sizeof(flags), pfn * sizeof(flags)) !=
	    sizeof(flags))
		flags = 0;
	close(fd);

	return (flags & (KPF_UPTODATE | KPF_HWPOISON | KPF_OFFLINE)) ==
	       (KPF_HWPOISON | KPF_OFFLINE);
}

static bool is_used_again(int fd, unsigned long bad)
{
	struct held_page *pages;
	bool found = false;
	long nr;

	if (held_do(fd, "alloc sleep 0 4096 -1") ||
	    held_do(fd, "alloc plain 0 4096 -1"))
		return true;
	nr = held_read(fd, &pages);
	while (nr-- > 0)
		found |= pages[nr].pfn == bad;
	free(pages);
	held_do(fd, "free all");

	return found;
}

/*
 * Its owner is told. The rest of the block is used again, and that page is not.
 * It keeps its block: what comes after this can't have none at its beginning.
 */
TEST_F_TIMEOUT(memory, bad_page_of_a_secret_is_not_used_again, 120)
{
	const size_t size = 4 * MB;
	unsigned long bad, i;
	char *secret;
	long corrupted;
	char text[32];

	corrupted = meminfo_kb("HardwareCorrupted:");
	if (corrupted < 0)
		SKIP(return, "no handling of bad memory: needs CONFIG_MEMORY_FAILURE");
	secret = secret_alloc(size);
	ASSERT_NE(secret, NULL);
	bad = pfn_of(secret + 5 * PAGE);
	ASSERT_TRUE(bad > 0);
	/* The owner may not do that itself: nobody pins such pages. */
	snprintf(text, sizeof(text), "%#lx", bad);
	if (access(HWPOISON, W_OK))
		SKIP(return, "no " HWPOISON ": needs CONFIG_HWPOISON_INJECT");
	ASSERT_EQ(write_file(HWPOISON, text), 0);
	EXPECT_EQ(meminfo_kb("HardwareCorrupted:"), corrupted + 4);

	signal(SIGBUS, on_bus_error);
	if (!sigsetjmp(bus_error, 1)) {
		secret[5 * PAGE] = 1;
		EXPECT_TRUE(false) TH_LOG("the bad page can be written");
	}
	signal(SIGBUS, SIG_DFL);
	/* Its neighbours are the secret that they were. */
	for (i = 0; i < size / PAGE; i++) {
		if (i != 5)
			EXPECT_EQ(*(size_t *)(secret + i * PAGE), ~(i * PAGE));
	}

	secret_free(secret, size);
	ASSERT_EQ(restore_run(), 0);
	EXPECT_EQ(blocks(), 1);
	EXPECT_EQ(meminfo_kb("NoDirectMap:"), 0);
	EXPECT_TRUE(is_lost(bad));
	/* Not mapped, it is not to be free either. */
	EXPECT_EQ(write_file(UNPOISON, text), -EBUSY);
	EXPECT_FALSE(is_used_again(self->fd, bad));
}

/* All that was free is idle, within a second. */
static bool becomes_idle(long kb)
{
	int tries = 100;

	while (meminfo_kb("NoDirectMapIdle:") < kb && tries--)
		usleep(10000);

	return tries >= 0;
}

FIXTURE(idle)
{
	int fd;
};

FIXTURE_SETUP(idle)
{
	self->fd = held_open();
	if (self->fd < 0)
		SKIP(return, HELD_FILE " needs CONFIG_PTE_MAPPED_TEST");
	ASSERT_EQ(restore_run(), 0);
}

FIXTURE_TEARDOWN(idle)
{
	close(self->fd);
}

/* Nobody is told, as nobody has it. It stays out of reach when its block goes. */
TEST_F_TIMEOUT(idle, bad_page_is_not_mapped_again, 60)
{
	long corrupted = meminfo_kb("HardwareCorrupted:");
	unsigned long bad;
	char text[32];
	char *secret;

	if (corrupted < 0 || access(HWPOISON, W_OK))
		SKIP(return, "no " HWPOISON ": needs CONFIG_HWPOISON_INJECT");
	secret = secret_alloc(2 * MB);
	ASSERT_NE(secret, NULL);
	bad = pfn_of(secret + 5 * PAGE);
	ASSERT_TRUE(bad > 0);
	secret_free(secret, 2 * MB);
	ASSERT_TRUE(becomes_idle(2048));
	/* The kernel can't do anything about it, but knows. */
	snprintf(text, sizeof(text), "%#lx", bad);
	write_file(HWPOISON, text);
	ASSERT_EQ(meminfo_kb("HardwareCorrupted:"), corrupted + 4);

	ASSERT_EQ(restore_run(), 0);
	EXPECT_EQ(meminfo_kb("NoDirectMap:"), 0);
	EXPECT_TRUE(is_lost(bad));
	EXPECT_EQ(held_do(self->fd, "peek %#lx", bad), -EFAULT);
	EXPECT_FALSE(is_used_again(self->fd, bad));
}

TEST_HARNESS_MAIN
