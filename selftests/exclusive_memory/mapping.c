// SPDX-License-Identifier: GPL-2.0-only
/*
 * MAP_EXCLUSIVE as its users see it: what can be mapped, what the system calls
 * on mappings make of it, and what becomes of it in a child and at the end.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "exclusive.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED	24
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP	4
#endif

#define PAGES		64L
#define SIZE		(PAGES * PAGE)
#define SIZE_KB		((long)(SIZE / KB))
#define SEED		0x0e8c1051fe000000UL
#define ORDINARY	0x0bd1a4b000000000UL
#define USER		23001	/* no user of this machine */

#define ENABLE	"/sys/module/exclusive_memory/parameters/enable"

/* Who asks an old kernel, or one without it, gets an error and no other memory. */
TEST(what_can_not_be_exclusive_is_refused)
{
	char *map = mmap(NULL, SIZE, READ_WRITE, MAP_EXCLUSIVE | MAP_ANONYMOUS, -1, 0);
	int err = map == MAP_FAILED ? errno : 0;
	char enabled[8];

	if (!err) {
		EXPECT_TRUE(smaps_flag(map, "em"));
		munmap(map, SIZE);
	}
	if (read_file(ENABLE, enabled, sizeof(enabled))) {
		EXPECT_TRUE(err == EINVAL || err == EOPNOTSUPP);
		return;
	}
	/* Also where the direct map can't be changed. */
	EXPECT_TRUE(err == EOPNOTSUPP || (!err && *enabled == 'Y'));
}

/* mmap() of what can't be exclusive, and of what can. */
FIXTURE(request)
{
	int fd;
	void *map;
};

FIXTURE_VARIANT(request)
{
	int flags;		/* beside MAP_EXCLUSIVE */
	bool file;
	int err;
};

FIXTURE_VARIANT_ADD(request, plain) { .flags = MAP_ANONYMOUS };
FIXTURE_VARIANT_ADD(request, populate) { .flags = MAP_ANONYMOUS | MAP_POPULATE };
FIXTURE_VARIANT_ADD(request, locked) { .flags = MAP_ANONYMOUS | MAP_LOCKED };
FIXTURE_VARIANT_ADD(request, noreserve) { .flags = MAP_ANONYMOUS | MAP_NORESERVE };
FIXTURE_VARIANT_ADD(request, stack) { .flags = MAP_ANONYMOUS | MAP_STACK };
FIXTURE_VARIANT_ADD(request, of_a_file) { .file = true, .err = EINVAL };
FIXTURE_VARIANT_ADD(request, hugetlb) {
	.flags = MAP_ANONYMOUS | MAP_HUGETLB, .err = EINVAL };
FIXTURE_VARIANT_ADD(request, growsdown) {
	.flags = MAP_ANONYMOUS | MAP_GROWSDOWN, .err = EINVAL };

FIXTURE_SETUP(request)
{
	self->fd = -1;
	self->map = MAP_FAILED;
	if (no_exclusive())
		SKIP(return, "%s", no_exclusive());
	if (variant->file) {
		self->fd = memfd_create("exclusive", 0);
		ASSERT_GE(self->fd, 0);
		ASSERT_EQ(ftruncate(self->fd, SIZE), 0);
	}
}

FIXTURE_TEARDOWN(request)
{
	if (self->map != MAP_FAILED)
		munmap(self->map, SIZE);
	close(self->fd);
}

TEST_F(request, is_served_or_refused)
{
	errno = 0;
	self->map = mmap(NULL, SIZE, READ_WRITE, MAP_EXCLUSIVE | variant->flags,
			 self->fd, 0);
	EXPECT_EQ(self->map == MAP_FAILED, variant->err != 0);
	EXPECT_EQ(errno, variant->err);
	if (self->map != MAP_FAILED)
		EXPECT_TRUE(smaps_flag(self->map, "em"));
}

/* Nothing is there before somebody touches it, whatever was asked for. */
TEST_F(request, takes_no_page_at_once)
{
	long before = exclusive_pages();

	self->map = mmap(NULL, SIZE, READ_WRITE, MAP_EXCLUSIVE | variant->flags,
			 self->fd, 0);
	EXPECT_EQ(exclusive_pages(), before);
	if (self->map == MAP_FAILED)
		return;
	EXPECT_EQ(smaps_kb(self->map, "Rss:"), 0);
	put_long(self->map, 1);
	EXPECT_EQ(smaps_kb(self->map, "Rss:"), 4);
	EXPECT_EQ(exclusive_pages(), before + 1);
}

/* The same request without MAP_EXCLUSIVE is not refused, at least not for that. */
TEST_F(request, is_served_where_memory_is_ordinary)
{
	errno = 0;
	self->map = mmap(NULL, SIZE, READ_WRITE, MAP_PRIVATE | variant->flags,
			 self->fd, 0);
	if (variant->flags & MAP_HUGETLB && self->map == MAP_FAILED) {
		EXPECT_EQ(errno, ENOMEM);
		return;
	}
	ASSERT_NE(self->map, MAP_FAILED);
	EXPECT_FALSE(smaps_flag(self->map, "em"));
}

FIXTURE(mapping)
{
	char *map;
	char *ordinary;
	size_t size;
	long before;		/* pages in use by others */
	unsigned long pfns[PAGES];
};

FIXTURE_SETUP(mapping)
{
	if (no_exclusive())
		SKIP(return, "%s", no_exclusive());
	self->before = exclusive_pages();
	self->size = SIZE;
	self->map = exclusive_map(SIZE);
	ASSERT_NE(self->map, NULL);
	self->ordinary = ordinary_map(SIZE);
	ASSERT_NE(self->ordinary, NULL);
}

FIXTURE_TEARDOWN(mapping)
{
	if (self->map)
		munmap(self->map, self->size);
	if (self->ordinary)
		munmap(self->ordinary, SIZE);
}

static void write_all(FIXTURE_DATA(mapping) *self)
{
	fill(self->map, SIZE, SEED);
	fill(self->ordinary, SIZE, ORDINARY);
	pfns_of(self->map, PAGES, self->pfns);
}

TEST_F(mapping, smaps_shows_what_it_is)
{
	EXPECT_TRUE(smaps_flag(self->map, "em"));
	/* Locked, in no dump, wiped on fork, in no huge page. */
	EXPECT_TRUE(smaps_flag(self->map, "lo"));
	EXPECT_TRUE(smaps_flag(self->map, "dd"));
	EXPECT_TRUE(smaps_flag(self->map, "wf"));
	EXPECT_TRUE(smaps_flag(self->map, "nh"));
	EXPECT_FALSE(smaps_flag(self->ordinary, "em"));
}

static void expect_in_smaps(struct __test_metadata *_metadata, char *map, long kb)
{
	EXPECT_EQ(smaps_kb(map, "Rss:"), kb);
	EXPECT_EQ(smaps_kb(map, "Pss:"), kb);
	EXPECT_EQ(smaps_kb(map, "Anonymous:"), kb);
	EXPECT_EQ(smaps_kb(map, "Private_Dirty:"), kb);
	EXPECT_EQ(smaps_kb(map, "Locked:"), kb);
	EXPECT_EQ(smaps_kb(map, "Swap:"), 0);
	EXPECT_EQ(smaps_kb(map, "AnonHugePages:"), 0);
}

TEST_F(mapping, smaps_counts_what_was_touched)
{
	expect_in_smaps(_metadata, self->map, 0);
	fill(self->map, SIZE / 2, SEED);
	expect_in_smaps(_metadata, self->map, SIZE_KB / 2);
}

TEST_F(mapping, meminfo_and_vmstat_count_what_was_touched)
{
	long kb = meminfo_kb("Exclusive:"), idle;

	ASSERT_GE(kb, 0);
	fill(self->map, SIZE, SEED);
	EXPECT_EQ(exclusive_pages(), self->before + PAGES);
	EXPECT_EQ(meminfo_kb("Exclusive:"), kb + SIZE_KB);
	idle = meminfo_kb("NoDirectMapIdle:");
	EXPECT_GE(meminfo_kb("NoDirectMap:") - idle, kb + SIZE_KB);
	munmap(self->map, SIZE);
	self->map = NULL;
	EXPECT_EQ(exclusive_pages(), self->before);
	EXPECT_EQ(meminfo_kb("Exclusive:"), kb);
}

TEST_F(mapping, status_counts_the_mapping_and_its_pages)
{
	long locked, anon;

	munmap(self->map, SIZE);
	locked = status_kb("VmLck:");
	anon = status_kb("RssAnon:");
	self->map = exclusive_map(SIZE);
	ASSERT_NE(self->map, NULL);
	EXPECT_EQ(status_kb("VmLck:"), locked + SIZE_KB);
	fill(self->map, SIZE, SEED);
	/* Some of the process's own pages may have come meanwhile. */
	EXPECT_GE(status_kb("RssAnon:"), anon + SIZE_KB);
	munmap(self->map, SIZE);
	self->map = NULL;
	EXPECT_EQ(status_kb("VmLck:"), locked);
	EXPECT_LE(status_kb("RssAnon:"), anon + 64);
}

TEST_F(mapping, pages_are_zero_at_first)
{
	EXPECT_TRUE(is_zero(self->map, SIZE));
}

/* A read takes a page of the owner's own, as the zero page is anybody's. */
TEST_F(mapping, read_takes_a_page_that_a_write_keeps)
{
	get_long(self->ordinary);
	get_long(self->ordinary + PAGE);
	/* That is the zero page. */
	EXPECT_EQ(pfn_of(self->ordinary), pfn_of(self->ordinary + PAGE));

	get_long(self->map);
	get_long(self->map + PAGE);
	pfns_of(self->map, 2, self->pfns);
	EXPECT_NE(self->pfns[0], 0UL);
	EXPECT_NE(self->pfns[0], self->pfns[1]);
	EXPECT_NE(self->pfns[0], pfn_of(self->ordinary));
	EXPECT_EQ(exclusive_pages(), self->before + 2);
	put_long(self->map, 1);
	put_long(self->map + PAGE, 1);
	EXPECT_EQ(pfns_differ(self->map, 2, self->pfns), 0);
	EXPECT_EQ(exclusive_pages(), self->before + 2);
}

TEST_F(mapping, neighbour_of_the_same_mapping_joins_it)
{
	char *place = ordinary_map(3 * SIZE);

	ASSERT_NE(place, NULL);
	ASSERT_EQ(exclusive_map_at(place, SIZE), place);
	ASSERT_EQ(exclusive_map_at(place + SIZE, SIZE), place + SIZE);
	fill(place, 3 * SIZE, SEED);
	EXPECT_EQ(smaps_kb(place, "Size:"), smaps_kb(place + SIZE, "Size:"));
	/* What is beside it stays what it is. */
	EXPECT_FALSE(smaps_flag(place + 2 * SIZE, "em"));
	EXPECT_EQ(exclusive_pages(), self->before + 2 * PAGES);
	munmap(place, 3 * SIZE);
	EXPECT_EQ(exclusive_pages(), self->before);
}

TEST_F(mapping, unmapped_in_part_the_rest_stays)
{
	long i;

	write_all(self);
	for (i = 1; i < PAGES; i += 2)
		ASSERT_EQ(munmap(self->map + i * PAGE, PAGE), 0);
	EXPECT_EQ(exclusive_pages(), self->before + PAGES / 2);
	for (i = 0; i < PAGES; i += 2)
		EXPECT_TRUE(holds(self->map + i * PAGE, PAGE,
				  SEED + i * PAGE / sizeof(long)));
}

TEST_F(mapping, mapped_over_the_pages_go)
{
	write_all(self);
	ASSERT_EQ(ordinary_map_at(self->map, SIZE), self->map);
	EXPECT_EQ(exclusive_pages(), self->before);
	EXPECT_TRUE(is_zero(self->map, SIZE));
	EXPECT_FALSE(smaps_flag(self->map, "em"));
}

static int lock_all(char *map)
{
	(void)map;
	return mlockall(MCL_CURRENT) || munlockall();
}

static int lock(char *map)
{
	return mlock(map, SIZE);
}

static int lock_on_fault(char *map)
{
	return mlock2(map, SIZE, MLOCK_ONFAULT);
}

static int unlock(char *map)
{
	return munlock(map, SIZE);
}

static int lock_and_unlock_a_part(char *map)
{
	return mlock(map + PAGE, 5 * PAGE) || munlock(map + 3 * PAGE, 7 * PAGE);
}

/* It is locked as long as it is mapped. */
FIXTURE(locking)
{
	char *map;
	long others_kb;
	unsigned long pfns[PAGES / 2];
};

FIXTURE_VARIANT(locking)
{
	int (*call)(char *map);
};

FIXTURE_VARIANT_ADD(locking, mlock) { lock };
FIXTURE_VARIANT_ADD(locking, mlock2) { lock_on_fault };
FIXTURE_VARIANT_ADD(locking, munlock) { unlock };
FIXTURE_VARIANT_ADD(locking, parts) { lock_and_unlock_a_part };
FIXTURE_VARIANT_ADD(locking, mlockall_munlockall) { lock_all };

FIXTURE_SETUP(locking)
{
	if (no_exclusive())
		SKIP(return, "%s", no_exclusive());
	self->others_kb = status_kb("VmLck:");
	self->map = exclusive_map(SIZE);
	ASSERT_NE(self->map, NULL);
	fill(self->map, SIZE / 2, SEED);
	pfns_of(self->map, PAGES / 2, self->pfns);
}

FIXTURE_TEARDOWN(locking)
{
	if (self->map)
		munmap(self->map, SIZE);
}

TEST_F(locking, changes_nothing)
{
	long kb = self->others_kb + SIZE_KB, pages = exclusive_pages();

	EXPECT_EQ(status_kb("VmLck:"), kb);
	EXPECT_EQ(variant->call(self->map), 0);
	EXPECT_EQ(status_kb("VmLck:"), kb);
	EXPECT_TRUE(smaps_flag(self->map, "lo"));
	EXPECT_TRUE(smaps_flag(self->map, "em"));
	EXPECT_EQ(smaps_kb(self->map, "Size:"), SIZE_KB);
	/* Nor is anything taken that nobody touched. */
	EXPECT_EQ(exclusive_pages(), pages);
	EXPECT_TRUE(holds(self->map, SIZE / 2, SEED));
	EXPECT_EQ(pfns_differ(self->map, PAGES / 2, self->pfns), 0);

	munmap(self->map, SIZE);
	self->map = NULL;
	EXPECT_EQ(status_kb("VmLck:"), self->others_kb);
}

TEST_F(mapping, pages_are_taken_at_first_touch_where_all_is_to_be_locked)
{
	char *map;

	ASSERT_EQ(mlockall(MCL_FUTURE), 0);
	map = exclusive_map(SIZE);
	ASSERT_NE(map, NULL);
	EXPECT_EQ(smaps_kb(map, "Rss:"), 0);
	EXPECT_EQ(exclusive_pages(), self->before);
	fill(map, SIZE, SEED);
	EXPECT_EQ(exclusive_pages(), self->before + PAGES);
	ASSERT_EQ(munlockall(), 0);
	munmap(map, SIZE);
}

/* Files of /proc that go through all pages of a process. */
TEST_F(mapping, walks_of_its_pages_change_nothing)
{
	char text[512];

	write_all(self);
	EXPECT_EQ(write_file("/proc/self/clear_refs", "1"), 0);
	EXPECT_EQ(write_file("/proc/self/clear_refs", "2"), 0);
	EXPECT_EQ(read_all("/proc/self/smaps_rollup", text, sizeof(text)), 0);
	EXPECT_NE(strstr(text, "Rss:"), NULL);
	read_all("/proc/self/numa_maps", text, sizeof(text));
	EXPECT_TRUE(holds(self->map, SIZE, SEED));
	EXPECT_EQ(pfns_differ(self->map, PAGES, self->pfns), 0);
	EXPECT_EQ(smaps_kb(self->map, "Rss:"), SIZE_KB);
}

/* Ordinary pages tell whether clear_refs does what it is for. */
TEST_F(mapping, referenced_until_clear_refs)
{
	write_all(self);
	fill(self->ordinary, SIZE, SEED);
	EXPECT_EQ(smaps_kb(self->map, "Referenced:"), SIZE_KB);
	EXPECT_EQ(smaps_kb(self->ordinary, "Referenced:"), SIZE_KB);
	ASSERT_EQ(write_file("/proc/self/clear_refs", "1"), 0);
	EXPECT_EQ(smaps_kb(self->map, "Referenced:"), 0);
	EXPECT_EQ(smaps_kb(self->ordinary, "Referenced:"), 0);
}

/* Advice: refused, accepted or of no effect, and never a loss of content. */
FIXTURE(advice)
{
	char *map;
	char *ordinary;
	unsigned long pfns[PAGES];
};

FIXTURE_VARIANT(advice)
{
	int advice;
	int err;
	bool bad_for_others;	/* not to be tried on ordinary memory */
};

FIXTURE_VARIANT_ADD(advice, keeponfork) { MADV_KEEPONFORK, EINVAL, false };
FIXTURE_VARIANT_ADD(advice, dodump) { MADV_DODUMP, EINVAL, false };
FIXTURE_VARIANT_ADD(advice, hugepage) { MADV_HUGEPAGE, EINVAL, false };
/* Of less than 2M it can't be had for ordinary memory either. */
FIXTURE_VARIANT_ADD(advice, collapse) { MADV_COLLAPSE, EINVAL, true };
FIXTURE_VARIANT_ADD(advice, free) { MADV_FREE, EINVAL, false };
FIXTURE_VARIANT_ADD(advice, cold) { MADV_COLD, EINVAL, false };
FIXTURE_VARIANT_ADD(advice, pageout) { MADV_PAGEOUT, EINVAL, false };
FIXTURE_VARIANT_ADD(advice, populate_read) { MADV_POPULATE_READ, EINVAL, false };
FIXTURE_VARIANT_ADD(advice, populate_write) { MADV_POPULATE_WRITE, EINVAL, false };
/* These do what they say to ordinary memory. */
FIXTURE_VARIANT_ADD(advice, hwpoison) { MADV_HWPOISON, EFAULT, true };
FIXTURE_VARIANT_ADD(advice, soft_offline) { MADV_SOFT_OFFLINE, EFAULT, true };
FIXTURE_VARIANT_ADD(advice, dofork) { MADV_DOFORK, 0, false };
FIXTURE_VARIANT_ADD(advice, dontfork) { MADV_DONTFORK, 0, false };
FIXTURE_VARIANT_ADD(advice, dontdump) { MADV_DONTDUMP, 0, false };
FIXTURE_VARIANT_ADD(advice, wipeonfork) { MADV_WIPEONFORK, 0, false };
FIXTURE_VARIANT_ADD(advice, nohugepage) { MADV_NOHUGEPAGE, 0, false };
FIXTURE_VARIANT_ADD(advice, mergeable) { MADV_MERGEABLE, 0, false };
FIXTURE_VARIANT_ADD(advice, unmergeable) { MADV_UNMERGEABLE, 0, false };
FIXTURE_VARIANT_ADD(advice, random) { MADV_RANDOM, 0, false };
FIXTURE_VARIANT_ADD(advice, willneed) { MADV_WILLNEED, 0, false };

/* What the advice is about: a kernel that does not have it knows no such advice. */
static const char *subject_of(int advice)
{
	switch (advice) {
	case MADV_HUGEPAGE:
	case MADV_NOHUGEPAGE:
		return "/sys/kernel/mm/transparent_hugepage";
	case MADV_MERGEABLE:
	case MADV_UNMERGEABLE:
		return "/sys/kernel/mm/ksm";
	default:
		return "/";
	}
}

FIXTURE_SETUP(advice)
{
	if (no_exclusive())
		SKIP(return, "%s", no_exclusive());
	if (access(subject_of(variant->advice), F_OK))
		SKIP(return, "no %s", subject_of(variant->advice));
	self->map = exclusive_map(SIZE);
	ASSERT_NE(self->map, NULL);
	self->ordinary = ordinary_map(SIZE);
	ASSERT_NE(self->ordinary, NULL);
	fill(self->map, SIZE, SEED);
	fill(self->ordinary, SIZE, ORDINARY);
	pfns_of(self->map, PAGES, self->pfns);
}

FIXTURE_TEARDOWN(advice)
{
	if (self->map)
		munmap(self->map, SIZE);
	if (self->ordinary)
		munmap(self->ordinary, SIZE);
}

static int advise(char *map, int advice)
{
	return madvise(map, SIZE, advice) ? errno : 0;
}

TEST_F(advice, is_refused_or_changes_nothing)
{
	EXPECT_EQ(advise(self->map, variant->advice), variant->err);
	EXPECT_TRUE(holds(self->map, SIZE, SEED));
	EXPECT_EQ(pfns_differ(self->map, PAGES, self->pfns), 0);
	EXPECT_TRUE(smaps_flag(self->map, "em"));
	EXPECT_TRUE(smaps_flag(self->map, "dd"));
	EXPECT_TRUE(smaps_flag(self->map, "wf"));
	EXPECT_TRUE(smaps_flag(self->map, "nh"));
	EXPECT_FALSE(smaps_flag(self->map, "mg"));
	EXPECT_FALSE(smaps_flag(self->map, "hg"));
	/* The control: what is refused here is not refused for all memory. */
	if (!variant->bad_for_others)
		EXPECT_EQ(advise(self->ordinary, variant->advice), 0);
}

static int advise_in_child(void *arg)
{
	const FIXTURE_VARIANT(advice) *variant = ((void **)arg)[1];
	char *map = ((void **)arg)[0];

	fill(map, SIZE, SEED + 1);
	if (advise(map, variant->advice) != variant->err)
		return 1;
	if (!holds(map, SIZE, SEED + 1))
		return 2;

	return smaps_flag(map, "em") && smaps_flag(map, "dd") &&
	       smaps_flag(map, "wf") ? 0 : 3;
}

TEST_F(advice, is_the_same_in_a_child)
{
	void *arg[] = { self->map, (void *)variant };

	EXPECT_EQ(in_child(advise_in_child, arg), 0);
	EXPECT_TRUE(holds(self->map, SIZE, SEED));
}

/* Advice that gives pages back. */
FIXTURE(giving_back)
{
	char *map;
	long before;
};

FIXTURE_VARIANT(giving_back)
{
	int advice;
	bool guard;
	long start, nr;
};

FIXTURE_VARIANT_ADD(giving_back, dontneed) { MADV_DONTNEED, false, 0, PAGES };
FIXTURE_VARIANT_ADD(giving_back, dontneed_of_a_part) { MADV_DONTNEED, false, 5, 7 };
FIXTURE_VARIANT_ADD(giving_back, dontneed_locked) { MADV_DONTNEED_LOCKED, false, 0, PAGES };
FIXTURE_VARIANT_ADD(giving_back, dontneed_locked_of_a_part) { MADV_DONTNEED_LOCKED, false, 5, 7 };
FIXTURE_VARIANT_ADD(giving_back, guard) { MADV_GUARD_INSTALL, true, 0, PAGES };
FIXTURE_VARIANT_ADD(giving_back, guard_of_a_part) { MADV_GUARD_INSTALL, true, 5, 7 };

FIXTURE_SETUP(giving_back)
{
	if (no_exclusive())
		SKIP(return, "%s", no_exclusive());
	self->before = exclusive_pages();
	self->map = exclusive_map(SIZE);
	ASSERT_NE(self->map, NULL);
	fill(self->map, SIZE, SEED);
}

FIXTURE_TEARDOWN(giving_back)
{
	if (self->map)
		munmap(self->map, SIZE);
}

TEST_F(giving_back, leaves_zeros_and_the_rest)
{
	char *start = self->map + variant->start * PAGE;
	char *end = start + variant->nr * PAGE;

	ASSERT_EQ(madvise(start, end - start, variant->advice), 0);
	EXPECT_EQ(exclusive_pages(), self->before + (long)PAGES - variant->nr);
	if (variant->guard) {
		EXPECT_EQ(signal_of_read(start), SIGSEGV);
		EXPECT_EQ(signal_of_write(end - PAGE, 1), SIGSEGV);
		EXPECT_EQ(exclusive_pages(), self->before + (long)PAGES - variant->nr);
		ASSERT_EQ(madvise(start, end - start, MADV_GUARD_REMOVE), 0);
	}
	EXPECT_TRUE(is_zero(start, end - start));
	EXPECT_TRUE(holds(self->map, start - self->map, SEED));
	EXPECT_TRUE(holds(end, self->map + SIZE - end,
			  SEED + (end - self->map) / sizeof(long)));
	EXPECT_EQ(exclusive_pages(), self->before + PAGES);
	EXPECT_TRUE(smaps_flag(start, "em"));
}

TEST_F(mapping, read_only_and_writable_again_is_the_same_page)
{
	write_all(self);
	ASSERT_EQ(mprotect(self->map, SIZE, PROT_READ), 0);
	EXPECT_EQ(signal_of_write(self->map, 1), SIGSEGV);
	EXPECT_TRUE(holds(self->map, SIZE, SEED));
	ASSERT_EQ(mprotect(self->map, SIZE, READ_WRITE), 0);
	fill(self->map, SIZE, SEED + 1);
	EXPECT_TRUE(holds(self->map, SIZE, SEED + 1));
	EXPECT_EQ(pfns_differ(self->map, PAGES, self->pfns), 0);
	EXPECT_EQ(exclusive_pages(), self->before + PAGES);
}

TEST_F(mapping, inaccessible_and_accessible_again_is_the_same_page)
{
	write_all(self);
	ASSERT_EQ(mprotect(self->map + PAGE, 5 * PAGE, PROT_NONE), 0);
	EXPECT_EQ(signal_of_read(self->map + PAGE), SIGSEGV);
	EXPECT_EQ(signal_of_read(self->map + 6 * PAGE), 0);
	ASSERT_EQ(mprotect(self->map + PAGE, 5 * PAGE, READ_WRITE), 0);
	EXPECT_TRUE(holds(self->map, SIZE, SEED));
	EXPECT_EQ(pfns_differ(self->map, PAGES, self->pfns), 0);
	/* One mapping again. */
	EXPECT_EQ(smaps_kb(self->map, "Size:"), SIZE_KB);
}

/* Taken by a read where nothing can be written, the page is written later. */
TEST_F(mapping, page_of_a_read_only_mapping_is_written_later)
{
	ASSERT_EQ(mprotect(self->map, SIZE, PROT_READ), 0);
	EXPECT_TRUE(is_zero(self->map, SIZE));
	pfns_of(self->map, PAGES, self->pfns);
	EXPECT_EQ(exclusive_pages(), self->before + PAGES);
	ASSERT_EQ(mprotect(self->map, SIZE, READ_WRITE), 0);
	fill(self->map, SIZE, SEED);
	EXPECT_EQ(pfns_differ(self->map, PAGES, self->pfns), 0);
}

TEST_F(mapping, moved_the_pages_go_with_it)
{
	char *place = ordinary_map(SIZE), *moved;

	ASSERT_NE(place, NULL);
	write_all(self);
	moved = mremap(self->map, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, place);
	ASSERT_EQ(moved, place);
	EXPECT_EQ(signal_of_read(self->map), SIGSEGV);
	self->map = moved;
	EXPECT_TRUE(holds(moved, SIZE, SEED));
	EXPECT_EQ(pfns_differ(moved, PAGES, self->pfns), 0);
	EXPECT_TRUE(smaps_flag(moved, "em"));
	EXPECT_EQ(exclusive_pages(), self->before + PAGES);
}

TEST_F(mapping, grown_it_has_zeros_more)
{
	long locked = status_kb("VmLck:");
	char *grown;

	write_all(self);
	grown = mremap(self->map, SIZE, 2 * SIZE, MREMAP_MAYMOVE);
	ASSERT_NE(grown, MAP_FAILED);
	self->map = grown;
	self->size = 2 * SIZE;
	EXPECT_TRUE(holds(grown, SIZE, SEED));
	EXPECT_EQ(pfns_differ(grown, PAGES, self->pfns), 0);
	EXPECT_EQ(exclusive_pages(), self->before + PAGES);
	EXPECT_TRUE(is_zero(grown + SIZE, SIZE));
	EXPECT_TRUE(smaps_flag(grown + SIZE, "em"));
	EXPECT_EQ(exclusive_pages(), self->before + 2 * PAGES);
	EXPECT_EQ(status_kb("VmLck:"), locked + SIZE_KB);
}

TEST_F(mapping, shrunk_it_gives_the_rest_back)
{
	long locked = status_kb("VmLck:");

	write_all(self);
	ASSERT_EQ(mremap(self->map, SIZE, SIZE / 2, 0), self->map);
	EXPECT_EQ(signal_of_read(self->map + SIZE / 2), SIGSEGV);
	EXPECT_TRUE(holds(self->map, SIZE / 2, SEED));
	EXPECT_EQ(exclusive_pages(), self->before + PAGES / 2);
	EXPECT_EQ(status_kb("VmLck:"), locked - SIZE_KB / 2);
}

TEST_F(mapping, moved_and_not_unmapped_it_leaves_zeros)
{
	long locked = status_kb("VmLck:");
	char *moved;

	write_all(self);
	moved = mremap(self->map, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
		       NULL);
	ASSERT_NE(moved, MAP_FAILED);
	EXPECT_TRUE(holds(moved, SIZE, SEED));
	EXPECT_EQ(pfns_differ(moved, PAGES, self->pfns), 0);
	EXPECT_EQ(exclusive_pages(), self->before + PAGES);
	EXPECT_TRUE(is_zero(self->map, SIZE));
	/* That are exclusive, too. */
	EXPECT_EQ(exclusive_pages(), self->before + 2 * PAGES);
	EXPECT_TRUE(smaps_flag(self->map, "em"));
	EXPECT_TRUE(smaps_flag(moved, "em"));
	munmap(moved, SIZE);
	munmap(self->map, SIZE);
	self->map = NULL;
	EXPECT_EQ(exclusive_pages(), self->before);
	EXPECT_EQ(status_kb("VmLck:"), locked - SIZE_KB);
}

/* What a child of @self found and did. */
static int child_finds_zeros(void *arg)
{
	FIXTURE_DATA(mapping) *self = arg;

	if (!is_zero(self->map, SIZE))
		return 1;
	/* The control: that is a copy. */
	if (!holds(self->ordinary, SIZE, ORDINARY))
		return 2;
	if (!smaps_flag(self->map, "em"))
		return 3;
	if (pfns_differ(self->map, PAGES, self->pfns) != PAGES)
		return 4;
	fill(self->map, SIZE, SEED + 1);

	return holds(self->map, SIZE, SEED + 1) ? 0 : 5;
}

TEST_F(mapping, child_finds_zeros_and_the_parent_its_own)
{
	write_all(self);
	EXPECT_EQ(in_child(child_finds_zeros, self), 0);
	EXPECT_TRUE(holds(self->map, SIZE, SEED));
	EXPECT_EQ(pfns_differ(self->map, PAGES, self->pfns), 0);
	/* Written after a fork: no copy either. */
	fill(self->map, SIZE, SEED + 2);
	EXPECT_EQ(pfns_differ(self->map, PAGES, self->pfns), 0);
	EXPECT_TRUE(exclusive_settles(self->before + PAGES));
}

static int touch_and_wait(void *arg)
{
	FIXTURE_DATA(mapping) *self = arg;

	child_wait();
	fill(self->map, SIZE / 2, SEED + 1);
	child_wait();

	return 0;
}

TEST_F(mapping, child_has_pages_of_its_own)
{
	struct child child;

	write_all(self);
	ASSERT_TRUE(child_start(&child, touch_and_wait, self));
	ASSERT_TRUE(child_waits(&child));
	/* The fork itself takes none. */
	EXPECT_EQ(exclusive_pages(), self->before + PAGES);
	child_go_on(&child);
	ASSERT_TRUE(child_waits(&child));
	EXPECT_EQ(exclusive_pages(), self->before + PAGES * 3 / 2);
	child_go_on(&child);
	EXPECT_EQ(child_end(&child), 0);
	EXPECT_TRUE(exclusive_settles(self->before + PAGES));
	EXPECT_TRUE(holds(self->map, SIZE, SEED));
}

static int grandchild(void *arg)
{
	FIXTURE_DATA(mapping) *self = arg;

	fill(self->map, SIZE, SEED + 1);
	pfns_of(self->map, PAGES, self->pfns);
	if (in_child(child_finds_zeros, self))
		return 1;

	return holds(self->map, SIZE, SEED + 1) ? 0 : 2;
}

TEST_F(mapping, grandchild_finds_zeros)
{
	write_all(self);
	EXPECT_EQ(in_child(grandchild, self), 0);
	EXPECT_TRUE(holds(self->map, SIZE, SEED));
}

static int read_of_map(void *arg)
{
	FIXTURE_DATA(mapping) *self = arg;

	return signal_of_read(self->map);
}

TEST_F(mapping, child_lacks_what_is_not_to_be_forked)
{
	write_all(self);
	ASSERT_EQ(madvise(self->map, SIZE, MADV_DONTFORK), 0);
	EXPECT_EQ(in_child(read_of_map, self), SIGSEGV);
	ASSERT_EQ(madvise(self->map, SIZE, MADV_DOFORK), 0);
	EXPECT_EQ(in_child(child_finds_zeros, self), 0);
	EXPECT_TRUE(holds(self->map, SIZE, SEED));
}

/* What shares the address space shares the pages. */
TEST_F(mapping, vfork_shares_it)
{
	int status;
	pid_t pid;

	write_all(self);
	pid = vfork();
	if (!pid) {
		put_long(self->map, 4711);
		_exit(0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	EXPECT_EQ(get_long(self->map), 4711);
	EXPECT_EQ(pfns_differ(self->map, PAGES, self->pfns), 0);
}

/* Ways to end for a process that has such memory. */
#define AFTER_EXEC "EXCLUSIVE_AFTER_EXEC"

/* In place of the tests: tell who waits, and wait. */
static void __attribute__((constructor(101))) after_exec(void)
{
	char c;

	if (!getenv(AFTER_EXEC))
		return;
	_exit(write(1, "x", 1) != 1 || read(0, &c, 1) != 1);
}

static int touch_and_exec(void *arg)
{
	FIXTURE_DATA(mapping) *self = arg;

	fill(self->map, SIZE, SEED + 1);
	child_wait();
	setenv(AFTER_EXEC, "1", 1);
	execl("/proc/self/exe", "mapping", NULL);

	return 1;
}

TEST_F(mapping, exec_gives_it_back)
{
	int in[2], out[2], saved[2];
	struct child child;
	char c;

	ASSERT_EQ(pipe(in), 0);
	ASSERT_EQ(pipe(out), 0);
	saved[0] = dup(0);
	saved[1] = dup(1);
	fflush(stdout);
	dup2(in[0], 0);
	dup2(out[1], 1);
	EXPECT_TRUE(child_start(&child, touch_and_exec, self));
	dup2(saved[0], 0);
	dup2(saved[1], 1);
	ASSERT_TRUE(child_waits(&child));
	EXPECT_EQ(exclusive_pages(), self->before + PAGES);
	child_go_on(&child);
	/* The program is another one, the process is there still. */
	ASSERT_EQ(read(out[0], &c, 1), 1);
	EXPECT_TRUE(exclusive_settles(self->before));
	ASSERT_EQ(write(in[1], "x", 1), 1);
	EXPECT_EQ(child_end(&child), 0);
}

static int touch_and_wait_to_end(void *arg)
{
	FIXTURE_DATA(mapping) *self = arg;

	fill(self->map, SIZE, SEED + 1);
	child_wait();

	return 0;
}

TEST_F(mapping, exit_gives_it_back)
{
	struct child child;

	ASSERT_TRUE(child_start(&child, touch_and_wait_to_end, self));
	ASSERT_TRUE(child_waits(&child));
	EXPECT_EQ(exclusive_pages(), self->before + PAGES);
	child_go_on(&child);
	EXPECT_EQ(child_end(&child), 0);
	EXPECT_TRUE(exclusive_settles(self->before));
}

TEST_F(mapping, kill_gives_it_back)
{
	struct child child;

	ASSERT_TRUE(child_start(&child, touch_and_wait_to_end, self));
	ASSERT_TRUE(child_waits(&child));
	EXPECT_EQ(exclusive_pages(), self->before + PAGES);
	child_kill(&child);
	EXPECT_TRUE(exclusive_settles(self->before));
}

/* A core dump of a process with exclusive and ordinary memory. */
FIXTURE(dump)
{
	char pattern[256];
	char dir[32];
	char *map;
	char *ordinary;
};

FIXTURE_SETUP(dump)
{
	char text[64];

	if (no_exclusive())
		SKIP(return, "%s", no_exclusive());
	if (read_file("/proc/sys/kernel/core_pattern", self->pattern,
		      sizeof(self->pattern)))
		SKIP(return, "no core dumps: needs CONFIG_COREDUMP");
	mkdir("/tmp", 01777);
	strcpy(self->dir, "/tmp/exclusive.XXXXXX");
	ASSERT_NE(mkdtemp(self->dir), NULL);
	snprintf(text, sizeof(text), "%s/core", self->dir);
	ASSERT_EQ(write_file("/proc/sys/kernel/core_pattern", text), 0);
	self->map = exclusive_map(SIZE);
	ASSERT_NE(self->map, NULL);
	self->ordinary = ordinary_map(SIZE);
	ASSERT_NE(self->ordinary, NULL);
}

FIXTURE_TEARDOWN(dump)
{
	char path[64];

	if (*self->dir) {
		snprintf(path, sizeof(path), "%s/core", self->dir);
		unlink(path);
		rmdir(self->dir);
		write_file("/proc/sys/kernel/core_pattern", self->pattern);
	}
	if (self->map)
		munmap(self->map, SIZE);
	if (self->ordinary)
		munmap(self->ordinary, SIZE);
}

static int dump_core(void *arg)
{
	FIXTURE_DATA(dump) *self = arg;
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

	fill(self->map, SIZE, SEED);
	fill(self->ordinary, SIZE, ORDINARY);
	setrlimit(RLIMIT_CORE, &limit);
	/* All that can be dumped. */
	write_file("/proc/self/coredump_filter", "0x1ff");
	signal(SIGABRT, SIG_DFL);
	abort();
}

TEST_F(dump, shows_ordinary_memory_only)
{
	char path[64];
	struct stat st;
	void *core;
	int fd;

	EXPECT_EQ(in_child(dump_core, self), -SIGABRT);
	snprintf(path, sizeof(path), "%s/core", self->dir);
	fd = open(path, O_RDONLY);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(fstat(fd, &st), 0);
	core = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	ASSERT_NE(core, MAP_FAILED);
	EXPECT_EQ(count_filled(core, st.st_size, ORDINARY), PAGES);
	EXPECT_EQ(count_filled(core, st.st_size, SEED), 0);
	munmap(core, st.st_size);
	close(fd);
}

/* RLIMIT_MEMLOCK where it is known already: when it is mapped, or grows. */
static int map_as_user(void *arg)
{
	char *map;

	(void)arg;
	if (become_user(USER, SIZE))
		return 1;
	if (exclusive_map(SIZE + PAGE) || errno != EAGAIN)
		return 2;
	map = exclusive_map(SIZE);
	if (!map)
		return 3;
	if (exclusive_map(PAGE) || errno != EAGAIN)
		return 4;
	/* Others lock what is left, and there is nothing left. */
	if (!mlock(ordinary_map(PAGE), PAGE))
		return 5;
	if (munmap(map, PAGE) || !exclusive_map(PAGE))
		return 6;

	return 0;
}

TEST_F(mapping, more_than_the_limit_is_refused)
{
	munmap(self->map, SIZE);
	self->map = NULL;
	EXPECT_EQ(in_child(map_as_user, NULL), 0);
}

static int map_without_any(void *arg)
{
	(void)arg;
	if (become_user(USER, 0))
		return 1;

	return !exclusive_map(PAGE) && (errno == EAGAIN || errno == EPERM) ? 0 : 2;
}

TEST_F(mapping, nothing_where_nothing_may_be_locked)
{
	munmap(self->map, SIZE);
	self->map = NULL;
	EXPECT_EQ(in_child(map_without_any, NULL), 0);
}

static int grow_as_user(void *arg)
{
	char *map;

	(void)arg;
	if (become_user(USER, SIZE))
		return 1;
	map = exclusive_map(SIZE / 2);
	if (!map)
		return 2;
	fill(map, SIZE / 2, SEED);
	if (mremap(map, SIZE / 2, SIZE + PAGE, MREMAP_MAYMOVE) != MAP_FAILED ||
	    errno != EAGAIN)
		return 3;
	if (!holds(map, SIZE / 2, SEED))
		return 4;
	map = mremap(map, SIZE / 2, SIZE, MREMAP_MAYMOVE);

	return map != MAP_FAILED && holds(map, SIZE / 2, SEED) ? 0 : 5;
}

TEST_F(mapping, growth_beyond_the_limit_is_refused)
{
	munmap(self->map, SIZE);
	self->map = NULL;
	EXPECT_EQ(in_child(grow_as_user, NULL), 0);
}

static int map_as_root(void *arg)
{
	struct rlimit limit = { PAGE, PAGE };
	char *map;

	(void)arg;
	if (setrlimit(RLIMIT_MEMLOCK, &limit))
		return 1;
	map = exclusive_map(SIZE);
	if (!map)
		return 2;
	fill(map, SIZE, SEED);

	return holds(map, SIZE, SEED) ? 0 : 3;
}

TEST_F(mapping, limit_does_not_hold_for_CAP_IPC_LOCK)
{
	EXPECT_EQ(in_child(map_as_root, NULL), 0);
}

TEST_HARNESS_MAIN
