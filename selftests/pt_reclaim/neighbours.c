// SPDX-License-Identifier: GPL-2.0-only
/*
 * A page table that holds one entry stays, and so does what the entry says,
 * whatever kind of entry it is and wherever it is in the table.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <fcntl.h>

#include "kselftest_harness.h"
#include "tables.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#endif

#define TABLES	8

enum entry {
	PAGE_ENTRY,
	SWAP_ENTRY,
	GUARD_ENTRY,
	UFFD_WP_ENTRY,
	PROT_NONE_ENTRY,
};

FIXTURE(neighbours)
{
	char *map;
	int fd, uffd;
	long before;
};

FIXTURE_VARIANT(neighbours)
{
	enum entry entry;
	size_t where;		/* in each table */
};

FIXTURE_VARIANT_ADD(neighbours, page_first) { .where = 0 };
FIXTURE_VARIANT_ADD(neighbours, page_in_the_middle) { .where = 255 * PAGE };
FIXTURE_VARIANT_ADD(neighbours, page_last) { .where = TABLE - PAGE };
FIXTURE_VARIANT_ADD(neighbours, swapped) {
	.entry = SWAP_ENTRY, .where = 77 * PAGE };
FIXTURE_VARIANT_ADD(neighbours, guard) {
	.entry = GUARD_ENTRY, .where = 500 * PAGE };
FIXTURE_VARIANT_ADD(neighbours, uffd_wp) {
	.entry = UFFD_WP_ENTRY, .where = 3 * PAGE };
FIXTURE_VARIANT_ADD(neighbours, prot_none) {
	.entry = PROT_NONE_ENTRY, .where = 128 * PAGE };

static int write_protect_by_uffd(FIXTURE_DATA(neighbours) *self)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
	};
	struct uffdio_register reg = {
		.range = { (unsigned long)self->map, TABLES * TABLE },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};

	self->uffd = syscall(__NR_userfaultfd, UFFD_USER_MODE_ONLY | O_NONBLOCK);
	if (self->uffd < 0)
		return -errno;
	if (ioctl(self->uffd, UFFDIO_API, &api) ||
	    ioctl(self->uffd, UFFDIO_REGISTER, &reg))
		return -errno;

	return 0;
}

static int protect_page(int uffd, char *page)
{
	struct uffdio_writeprotect wp = {
		.range = { (unsigned long)page, PAGE },
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};

	return ioctl(uffd, UFFDIO_WRITEPROTECT, &wp) ? -errno : 0;
}

/* Bit 57 of an entry of pagemap. */
static int is_write_protected(const char *page)
{
	int fd = open("/proc/self/pagemap", O_RDONLY), ret = -1;
	uint64_t entry;

	if (pread(fd, &entry, sizeof(entry),
		  (unsigned long)page / PAGE * sizeof(entry)) == sizeof(entry))
		ret = entry >> 57 & 1;
	close(fd);

	return ret;
}

static sigjmp_buf fault;

static void on_fault(int signal)
{
	(void)signal;
	siglongjmp(fault, 1);
}

static bool faults(const char *page)
{
	struct sigaction action = { .sa_handler = on_fault }, old;
	bool ret = true;

	sigaction(SIGSEGV, &action, &old);
	if (!sigsetjmp(fault, 1)) {
		get_long(page);
		ret = false;
	}
	sigaction(SIGSEGV, &old, NULL);

	return ret;
}

FIXTURE_SETUP(neighbours)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;

	self->fd = -1;
	self->uffd = -1;
	if (variant->entry == SWAP_ENTRY && !have_swap())
		SKIP(return, "no swap");
	if (variant->entry == UFFD_WP_ENTRY) {
		self->fd = memfd_create("neighbours", 0);
		ASSERT_GE(self->fd, 0);
		ASSERT_EQ(ftruncate(self->fd, TABLES * TABLE), 0);
		flags = MAP_SHARED;
	}
	self->map = map_aligned(TABLES * TABLE, PROT_READ | PROT_WRITE, flags,
				self->fd);
	ASSERT_NE(self->map, NULL);
	self->before = vmpte_kb();
	if (variant->entry == UFFD_WP_ENTRY && write_protect_by_uffd(self))
		SKIP(return, "no userfaultfd with write protection of shmem");
}

FIXTURE_TEARDOWN(neighbours)
{
	close(self->fd);
	close(self->uffd);
}

static int make_entry(FIXTURE_DATA(neighbours) *self, enum entry entry,
		      char *page, int i)
{
	memset(page, i + 1, PAGE);
	switch (entry) {
	case SWAP_ENTRY:
		return madvise(page, PAGE, MADV_PAGEOUT) ? -errno : 0;
	case GUARD_ENTRY:
		return madvise(page, PAGE, MADV_GUARD_INSTALL) ? -errno : 0;
	case UFFD_WP_ENTRY:
		return protect_page(self->uffd, page);
	case PROT_NONE_ENTRY:
		return mprotect(page, PAGE, PROT_NONE) ? -errno : 0;
	default:
		return 0;
	}
}

static bool entry_survived(enum entry entry, char *page, int i)
{
	size_t pos;

	switch (entry) {
	case GUARD_ENTRY:
		return faults(page);
	case UFFD_WP_ENTRY:
		return is_write_protected(page) == 1;
	case PROT_NONE_ENTRY:
		if (!faults(page) || mprotect(page, PAGE, PROT_READ))
			return false;
		break;
	default:
		break;
	}
	for (pos = 0; pos < PAGE; pos++) {
		if (page[pos] != i + 1)
			return false;
	}

	return true;
}

static void empty_around(char *table, size_t where, bool up)
{
	size_t pos;

	for (pos = 0; pos < TABLE; pos += PAGE) {
		size_t offset = up ? pos : TABLE - PAGE - pos;

		if (offset == where)
			continue;
		put_long(table + offset, 1);
		madvise(table + offset, PAGE, MADV_DONTNEED);
	}
}

TEST_F_TIMEOUT(neighbours, what_is_in_use_survives, 120)
{
	int i;

	for (i = 0; i < TABLES; i++)
		ASSERT_EQ(make_entry(self, variant->entry, self->map +
				     i * TABLE + variant->where, i), 0);
	for (i = 0; i < TABLES; i++)
		empty_around(self->map + i * TABLE, variant->where, i & 1);
	if (reclaim_available())
		ASSERT_EQ(reclaim_run(), 0);
	EXPECT_GE(vmpte_kb(), self->before + TABLES * 4);
	for (i = 0; i < TABLES; i++)
		EXPECT_TRUE(entry_survived(variant->entry, self->map +
					   i * TABLE + variant->where, i));
}

TEST(a_table_of_two_mappings)
{
	char *map = map_aligned(2 * TABLE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1);
	long before = vmpte_kb();

	ASSERT_NE(map, NULL);
	ASSERT_EQ(mprotect(map + MB, TABLE, PROT_READ), 0);
	touch(map, MB, PAGE);
	touch(map + TABLE + MB, MB, PAGE);
	map[0] = 'a';
	map[2 * TABLE - PAGE] = 'z';

	/* All but one page of each table, from both sides of the border. */
	madvise(map + PAGE, MB - PAGE, MADV_DONTNEED);
	madvise(map + MB, TABLE, MADV_DONTNEED);
	madvise(map + TABLE + MB, MB - PAGE, MADV_DONTNEED);
	if (reclaim_available())
		ASSERT_EQ(reclaim_run(), 0);
	EXPECT_EQ(map[0], 'a');
	EXPECT_EQ(map[2 * TABLE - PAGE], 'z');
	EXPECT_GE(vmpte_kb(), before + 8);

	madvise(map, PAGE, MADV_DONTNEED);
	madvise(map + 2 * TABLE - PAGE, PAGE, MADV_DONTNEED);
	if (reclaim_available())
		ASSERT_EQ(reclaim_run(), 0);
	EXPECT_TRUE(vmpte_settles(before + 4, 5));
}

TEST(munmap_keeps_what_its_neighbours_use)
{
	char *map = map_aligned(4 * TABLE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1);
	int i;

	ASSERT_NE(map, NULL);
	touch(map, 4 * TABLE, PAGE);
	for (i = 0; i < 4; i++)
		memset(map + (i + 1) * TABLE - PAGE, 'n', PAGE);
	for (i = 0; i < 4; i++)
		ASSERT_EQ(munmap(map + i * TABLE, TABLE - PAGE), 0);
	for (i = 0; i < 4; i++) {
		EXPECT_EQ(map[(i + 1) * TABLE - PAGE], 'n');
		EXPECT_EQ(map[(i + 1) * TABLE - 1], 'n');
	}
}

#define QUEUE_EVENT	"/sys/kernel/tracing/events/pt_reclaim/pt_reclaim_queue/"
#define TRACE		"/sys/kernel/tracing/trace"

/* Record when this table is noted as one that may be empty, in any process. */
static int trace_queue(const char *table)
{
	char filter[64];
	int err;

	snprintf(filter, sizeof(filter), "addr == %#lx", (unsigned long)table);
	err = write_file(QUEUE_EVENT "filter", filter);
	if (err)
		return err;

	return write_file(QUEUE_EVENT "enable", "1");
}

/* How often it was. */
static int traced(void)
{
	FILE *file = fopen(TRACE, "r");
	char line[256];
	int nr = 0;

	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file))
		nr += line[0] != '#' && strstr(line, "pt_reclaim_queue");
	fclose(file);

	return nr;
}

static void trace_stop(void)
{
	write_file(QUEUE_EVENT "enable", "0");
	write_file(QUEUE_EVENT "filter", "0");
	close(open(TRACE, O_WRONLY | O_TRUNC));
}

/* What one mmu_gather has room for, when pages are no neighbours of each other. */
#define GATHERED	(7 + 19 * 509)

FIXTURE(gather)
{
	int pid;
};

FIXTURE_SETUP(gather)
{
	self->pid = syscall(__NR_pidfd_open, getpid(), 0);
	ASSERT_GE(self->pid, 0);
}

FIXTURE_TEARDOWN(gather)
{
	trace_stop();
	close(self->pid);
}

/*
 * A zap of one page is the last that a gather has room for, and so comes to its
 * end and to a flush at once. That is so for one of these sizes, if constants of
 * the kernel are what they are.
 */
TEST_F_TIMEOUT(gather, zap_of_a_page_fills_it, 120)
{
	const size_t most = (GATHERED + 2) * PAGE;
	char *map = map_aligned(most, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1);
	char *table = map_aligned(TABLE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1);
	struct iovec pieces[2] = {
		{ .iov_base = map },
		{ .iov_base = table + 300 * PAGE, .iov_len = PAGE },
	};
	size_t nr;

	ASSERT_NE(map, NULL);
	ASSERT_NE(table, NULL);
	if (trace_queue(table))
		SKIP(return, "no " QUEUE_EVENT);

	table[301 * PAGE] = 'n';
	for (nr = GATHERED - 3; nr < GATHERED + 2; nr++) {
		touch(map, nr * PAGE, PAGE);
		table[300 * PAGE] = 'z';
		pieces[0].iov_len = nr * PAGE;
		ASSERT_EQ(syscall(__NR_process_madvise, self->pid, pieces, 2,
				  MADV_DONTNEED, 0), (long)((nr + 1) * PAGE));
	}
	/* Its neighbour is in use, each time. */
	EXPECT_EQ(traced(), 0);
	EXPECT_EQ(table[301 * PAGE], 'n');
	madvise(table + 301 * PAGE, PAGE, MADV_DONTNEED);
	EXPECT_EQ(traced(), 1);
}

static bool fork_once(void)
{
	pid_t child = fork();

	if (!child)
		_exit(0);

	return child > 0 && waitpid(child, NULL, 0) == child;
}

/* Two mappings share a table, the upper has nothing; as two stacks may, and guards. */
TEST(fork_beside_what_is_in_use)
{
	char *map = map_aligned(TABLE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1);

	ASSERT_NE(map, NULL);
	ASSERT_EQ(mprotect(map + MB, MB, PROT_READ), 0);
	map[MB - 2 * PAGE] = 'a';
	ASSERT_EQ(mprotect(map + MB - PAGE, PAGE, PROT_NONE), 0);
	ASSERT_EQ(mprotect(map + MB, MB, PROT_READ | PROT_WRITE | PROT_EXEC), 0);
	map[MB] = 'b';
	madvise(map + MB, PAGE, MADV_DONTNEED);
	if (trace_queue(map))
		SKIP(return, "no " QUEUE_EVENT);

	ASSERT_TRUE(fork_once());
	EXPECT_EQ(traced(), 0);

	/* With nothing in it at all, it is one to look at. */
	madvise(map + MB - 2 * PAGE, PAGE, MADV_DONTNEED);
	EXPECT_EQ(traced(), 1);
	ASSERT_TRUE(fork_once());
	EXPECT_GT(traced(), 1);
	trace_stop();
}

TEST_HARNESS_MAIN
