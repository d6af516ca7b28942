// SPDX-License-Identifier: GPL-2.0-only
/*
 * memfd_secret() as its users see it: what it costs the direct map, who can
 * read the pages, and what is left of them.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pool.h"

#define SIZE		(16 * MB)
#define PAGES		(SIZE / PAGE)
#define SECRET		0x5eed5eed5eed5eedUL	/* what the driver looks for */

FIXTURE(secret)
{
	struct dmap before;
	struct dmap after;
	struct pipes pipes;
	unsigned long *data;
	size_t size;
};

FIXTURE_SETUP(secret)
{
	int fd = syscall(__NR_memfd_secret, 0);

	if (fd < 0)
		SKIP(return, "no memfd_secret: needs CONFIG_SECRETMEM and secretmem.enable=1");
	close(fd);

	if (restore_available())
		ASSERT_EQ(restore_run(), 0);
	ASSERT_EQ(dmap_read_settled(&self->before), 0);
	if (dmap_hopeless(&self->before))
		SKIP(return, "%s", dmap_hopeless(&self->before));
}

static bool take(FIXTURE_DATA(secret) *self, size_t size)
{
	self->size = size;
	self->data = secret_alloc(size);

	return self->data;
}

static bool reserve(FIXTURE_DATA(secret) *self, size_t size)
{
	self->size = size;
	self->data = secret_map(size);

	return self->data;
}

static void drop(FIXTURE_DATA(secret) *self)
{
	if (self->data)
		secret_free(self->data, self->size);
	self->data = NULL;
}

static void write_secret(FIXTURE_DATA(secret) *self)
{
	size_t i;

	for (i = 0; i < self->size / sizeof(*self->data); i++)
		self->data[i] = SECRET;
}

FIXTURE_TEARDOWN(secret)
{
	drop(self);
	if (self->pipes.nr)
		pipes_close(&self->pipes);
	dmap_free(&self->before);
	dmap_free(&self->after);
}

/* Where single pages are free all over memory, each would split another 2M. */
TEST_F_TIMEOUT(secret, few_splits_where_memory_is_in_pieces, 300)
{
	long split;

	ASSERT_EQ(pipes_fill(&self->pipes, 1024 * MB, 32), 0);
	split = splits();
	ASSERT_TRUE(take(self, BLOCK_PAGES * PAGE));
	split = splits() - split;
	TH_LOG("%ld splits", split);
	EXPECT_LE(split, 3);
}

TEST_F_TIMEOUT(secret, no_range_smaller_when_freed_from_pieces, 300)
{
	ASSERT_EQ(pipes_fill(&self->pipes, 1024 * MB, 32), 0);
	ASSERT_TRUE(take(self, BLOCK_PAGES * PAGE));
	drop(self);
	EXPECT_TRUE(dmap_settles(&self->before, &self->after,
				 restore_available() ? 30 : 5,
				 restore_available()));
}

static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);

	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Why else CPUs are interrupted while pages are touched for so long. */
static long other_interrupts(long ms)
{
	long nr = flush_interrupts(), end = now_ms() + ms;

	do {
		char *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		size_t i;

		if (memory == MAP_FAILED)
			return 0;
		for (i = 0; i < SIZE; i += PAGE)
			memory[i] = 1;
		munmap(memory, SIZE);
	} while (now_ms() < end);

	return flush_interrupts() - nr;
}

/* Interrupts for the pages of @self, without those that others cause. */
static long flushes_to_take(FIXTURE_DATA(secret) *self)
{
	long start = now_ms(), nr = flush_interrupts(), others;

	if (!take(self, SIZE))
		return -1;
	nr = flush_interrupts() - nr;
	others = other_interrupts(now_ms() - start);
	printf("# %ld for %lu pages, %ld for other reasons in that time\n", nr,
	       PAGES, others);

	return nr > others ? nr - others : 0;
}

/* One for each page is what unmapping them one by one takes. */
/* One for a hundred pages, of which each other CPU sees an interrupt. */
static long few_flushes(void)
{
	return (long)PAGES / 100 * (sysconf(_SC_NPROCESSORS_ONLN) - 1);
}

TEST_F_TIMEOUT(secret, few_flushes_at_first_touch, 120)
{
	long nr;

	if (flush_interrupts() < 0)
		SKIP(return, "one CPU: there are no TLBs of others to flush");
	nr = flushes_to_take(self);
	EXPECT_GE(nr, 0);
	EXPECT_LE(nr, few_flushes());
}

TEST_F_TIMEOUT(secret, few_flushes_when_touched_again, 120)
{
	long nr;

	if (flush_interrupts() < 0)
		SKIP(return, "one CPU: there are no TLBs of others to flush");
	ASSERT_TRUE(take(self, SIZE));
	drop(self);
	nr = flushes_to_take(self);
	EXPECT_GE(nr, 0);
	EXPECT_LE(nr, few_flushes());
}

/*
 * A CPU's batch of the LRU may have the last references to some pages: a fault
 * does not wait for those of other CPUs, the pool's worker does.
 */
static bool pages_are_idle(void)
{
	int i;

	for (i = 0; i < 500 && meminfo_kb("NoDirectMapIdle:") < (long)(SIZE / 1024); i++)
		usleep(2000);

	return i < 500;
}

TEST_F_TIMEOUT(secret, direct_map_does_not_change_when_touched_again, 120)
{
	long nr;

	if (vm_event("unmapped_flushes") < 0)
		SKIP(return, "no pool of unmapped pages");
	ASSERT_TRUE(take(self, SIZE));
	drop(self);
	EXPECT_TRUE(pages_are_idle());
	nr = vm_event("unmapped_flushes");
	ASSERT_TRUE(take(self, SIZE));
	EXPECT_EQ(vm_event("unmapped_flushes"), nr);
}

TEST_F_TIMEOUT(secret, next_owner_finds_zeros, 120)
{
	int i;

	for (i = 0; i < 3; i++) {
		ASSERT_TRUE(reserve(self, SIZE));
		EXPECT_TRUE(is_zero(self->data, SIZE));
		write_secret(self);
		drop(self);
		/* Zeroed by the fault itself, and by whoever does it later. */
		if (i)
			sleep(1);
	}
}

/* The same for whoever gets the memory when it is nobody's secret any more. */
TEST_F_TIMEOUT(secret, next_owner_of_the_block_finds_zeros, 300)
{
	unsigned long *pages, i, found = 0, nr;
	unsigned long pfns[64];
	char page[PAGE];

	ASSERT_TRUE(take(self, SIZE));
	write_secret(self);
	for (i = 0; i < 64; i++) {
		pfns[i] = pfn_of((char *)self->data + i * SIZE / 64);
		ASSERT_NE(pfns[i], 0UL);
	}
	drop(self);
	if (restore_available())
		ASSERT_EQ(restore_run(), 0);
	for (i = 0; i < 64; i++) {
		ASSERT_EQ(read_kcore(pfns[i], page), 0);
		pages = (unsigned long *)page;
		for (nr = 0; nr < PAGE / sizeof(*pages); nr++)
			found += pages[nr] == SECRET;
	}
	EXPECT_EQ(found, 0UL);
}

TEST_F_TIMEOUT(secret, kcore_shows_none, 120)
{
	static unsigned long ordinary[2 * PAGE / sizeof(long)];
	unsigned long pfn, page[PAGE / sizeof(long)];
	unsigned long *mine;
	size_t i;

	/* A page of this process, as the control. */
	mine = (void *)(((unsigned long)ordinary + PAGE - 1) & ~(PAGE - 1));
	for (i = 0; i < PAGE / sizeof(*mine); i++)
		mine[i] = SECRET;
	pfn = pfn_of(mine);
	ASSERT_NE(pfn, 0UL);
	ASSERT_EQ(read_kcore(pfn, page), 0);
	EXPECT_EQ(memcmp(page, mine, PAGE), 0);

	ASSERT_TRUE(take(self, SIZE));
	write_secret(self);
	for (i = 0; i < PAGES; i += 61) {
		pfn = pfn_of((char *)self->data + i * PAGE);
		ASSERT_NE(pfn, 0UL);
		ASSERT_EQ(read_kcore(pfn, page), 0);
		ASSERT_TRUE(is_zero(page, PAGE));
	}
}

TEST_F_TIMEOUT(secret, no_cpu_reads_it_through_the_direct_map, 120)
{
	int fd = held_open();
	struct held_page *page;
	size_t i;

	if (fd < 0)
		SKIP(return, HELD_FILE " needs CONFIG_PTE_MAPPED_TEST");
	ASSERT_EQ(held_do(fd, "alloc plain 0 1 -1"), 0);
	ASSERT_EQ(held_do(fd, "fill"), 0);
	ASSERT_EQ(held_read(fd, &page), 1);
	EXPECT_EQ(held_do(fd, "peek %#lx", page->pfn), 0);
	free(page);

	ASSERT_TRUE(take(self, SIZE));
	write_secret(self);
	for (i = 0; i < PAGES; i += 61)
		ASSERT_EQ(held_peek(fd, (char *)self->data + i * PAGE), -EFAULT);
	close(fd);
}

/* Whatever becomes of the pages around it. */
TEST_F_TIMEOUT(secret, page_in_use_stays_unmapped_when_others_go, 120)
{
	int fd = held_open();
	unsigned long *kept;
	unsigned long pfn;
	int i;

	if (fd < 0)
		SKIP(return, HELD_FILE " needs CONFIG_PTE_MAPPED_TEST");
	ASSERT_TRUE(take(self, SIZE / 2 + 5 * PAGE));
	kept = secret_alloc(PAGE);
	ASSERT_NE(kept, NULL);
	*kept = SECRET;
	pfn = pfn_of(kept);
	for (i = 0; i < 3; i++) {
		drop(self);
		ASSERT_EQ(restore_run(), 0);
		EXPECT_EQ(held_do(fd, "peek %#lx", pfn), -EFAULT);
		EXPECT_LE(blocks(), 1);
		ASSERT_TRUE(take(self, SIZE));
	}
	EXPECT_EQ(*kept, SECRET);
	secret_free(kept, PAGE);
	close(fd);
}

/*
 * What a CPU has in its TLB when a block becomes unmapped has to go. The block
 * is mapped by 4K when its pages are read, so that no split flushes for it.
 */
TEST_F_TIMEOUT(secret, no_cpu_reads_it_through_its_tlb, 120)
{
	unsigned long pfn, first = -1UL, last = 0;
	struct held_page *pages;
	int fd = held_open();
	size_t i, seen = 0;
	long nr;

	if (fd < 0)
		SKIP(return, HELD_FILE " needs CONFIG_PTE_MAPPED_TEST");
	ASSERT_EQ(held_do(fd, "alloc sleep 0 %d -1", BLOCK_PAGES), 0);
	nr = held_read(fd, &pages);
	ASSERT_EQ(nr, BLOCK_PAGES);
	for (i = 0; i < BLOCK_PAGES; i++) {
		first = pages[i].pfn < first ? pages[i].pfn : first;
		last = pages[i].pfn > last ? pages[i].pfn : last;
	}
	free(pages);
	ASSERT_EQ(held_do(fd, "fill"), 0);
	ASSERT_EQ(held_do(fd, "prime"), 0);
	ASSERT_EQ(held_do(fd, "free all"), 0);

	ASSERT_TRUE(take(self, 64 * PAGE));
	write_secret(self);
	for (i = 0; i < 64; i++) {
		pfn = pfn_of((char *)self->data + i * PAGE);
		seen += pfn >= first && pfn <= last;
		EXPECT_EQ(held_do(fd, "peek %#lx", pfn), -EFAULT);
	}
	/* Else the pages were others than those that were read. */
	EXPECT_GT(seen, 0UL);
	close(fd);
}

TEST_F_TIMEOUT(secret, meminfo_counts_it, 120)
{
	long before = meminfo_kb("NoDirectMap:"), now;

	if (before < 0)
		SKIP(return, "no pool of unmapped pages");
	ASSERT_TRUE(take(self, SIZE));
	now = meminfo_kb("NoDirectMap:") - meminfo_kb("NoDirectMapIdle:");
	EXPECT_GE(now, (long)(SIZE / 1024));
	/* What is idle beside it is less than one more block. */
	EXPECT_LE(meminfo_kb("NoDirectMap:"), (long)((SIZE + 2 * MB) / 1024));
	drop(self);
	if (restore_available())
		ASSERT_EQ(restore_run(), 0);
	EXPECT_EQ(meminfo_kb("NoDirectMap:"), 0);
	EXPECT_EQ(meminfo_kb("NoDirectMapIdle:"), 0);
}

TEST_F_TIMEOUT(secret, pool_is_given_back_unasked, 500)
{
	if (meminfo_kb("NoDirectMap:") < 0)
		SKIP(return, "no pool of unmapped pages");
	ASSERT_TRUE(take(self, SIZE));
	drop(self);
	EXPECT_TRUE(pool_empties(30));
	EXPECT_TRUE(blocks_go(30));
	EXPECT_TRUE(dmap_settles_unasked(&self->before, &self->after));
}

static int run_on_cpu(int nr)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(nr, &one);

	return sched_setaffinity(0, sizeof(one), &one);
}

/*
 * The CPU that added a page to the file has it in a batch, and a reference with
 * it, for as long as nobody empties the batches.
 */
TEST_F_TIMEOUT(secret, page_freed_by_another_cpu_is_given_back, 120)
{
	if (meminfo_kb("NoDirectMap:") < 0)
		SKIP(return, "no pool of unmapped pages");
	if (run_on_cpu(1))
		SKIP(return, "one CPU only");
	ASSERT_EQ(run_on_cpu(0), 0);
	ASSERT_TRUE(take(self, PAGE));
	ASSERT_EQ(run_on_cpu(1), 0);
	drop(self);
	EXPECT_TRUE(pool_empties(30));
}

/* Long before it would go by itself, while others come and go. */
TEST_F_TIMEOUT(secret, pool_is_given_back_under_pressure, 120)
{
	long returns = vm_event("pte_mapped_returns");
	int i;

	if (meminfo_kb("NoDirectMap:") < 0)
		SKIP(return, "no pool of unmapped pages");
	ASSERT_TRUE(take(self, SIZE));
	drop(self);
	for (i = 0; i < 50 && meminfo_kb("NoDirectMap:"); i++) {
		ASSERT_EQ(write_file("/proc/sys/vm/drop_caches", "2"), 0);
		usleep(20000);
	}
	EXPECT_EQ(meminfo_kb("NoDirectMap:"), 0);
	EXPECT_LT(i, 50);
	EXPECT_GE(vm_event("pte_mapped_returns"), returns);
}

TEST_F_TIMEOUT(secret, no_block_is_left_after_a_run, 120)
{
	if (blocks() < 0)
		SKIP(return, "no PteMapped in /proc/pagetypeinfo");
	ASSERT_TRUE(take(self, SIZE));
	EXPECT_GT(blocks(), 0);
	drop(self);
	ASSERT_EQ(restore_run(), 0);
	EXPECT_EQ(blocks(), 0);
}

/* A process that dies does not leave its pages to others. */
TEST_F_TIMEOUT(secret, killed_owner_leaves_zeros, 120)
{
	int i, status;
	pid_t pid;

	for (i = 0; i < 4; i++) {
		pid = fork();
		ASSERT_GE(pid, 0);
		if (!pid) {
			if (take(self, SIZE))
				write_secret(self);
			kill(getpid(), SIGKILL);
			_exit(1);
		}
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		ASSERT_TRUE(reserve(self, SIZE));
		EXPECT_TRUE(is_zero(self->data, SIZE));
		drop(self);
	}
}

/* An image of memory would have the secret in plain text. */
TEST_F_TIMEOUT(secret, no_hibernation_while_in_use, 120)
{
	char text[128];

	if (read_file("/sys/power/disk", text, sizeof(text)) < 0)
		SKIP(return, "no hibernation on this kernel");
	EXPECT_EQ(strstr(text, "[disabled]"), NULL);
	ASSERT_TRUE(take(self, SIZE));
	ASSERT_GE(read_file("/sys/power/disk", text, sizeof(text)), 0);
	EXPECT_NE(strstr(text, "[disabled]"), NULL);
	drop(self);
	/* At once: who resumes from an image has no time for idle pages to go. */
	EXPECT_EQ(write_file("/sys/power/disk", "shutdown"), 0);
	ASSERT_GE(read_file("/sys/power/disk", text, sizeof(text)), 0);
	EXPECT_EQ(strstr(text, "[disabled]"), NULL);
}

TEST_HARNESS_MAIN
