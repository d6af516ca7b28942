// SPDX-License-Identifier: GPL-2.0-only
/*
 * Each way to empty page tables: nothing is left of them afterwards.
 *
 * Without the reclaim of empty page tables most of these keep VmPTE where it
 * was when the memory was in use.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "tables.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif

#define VECTORS		32

enum kind {
	ANON,
	MEMFD,
	DISK,
};

struct area {
	char *map;
	size_t size;
	int fd;
};

static int drop(struct area *area, size_t pos, size_t size, int advice)
{
	return madvise(area->map + pos, size, advice) ? -errno : 0;
}

static int in_pieces(struct area *area, size_t piece, int advice)
{
	size_t pos;

	for (pos = 0; pos < area->size; pos += piece) {
		size_t size = area->size - pos < piece ? area->size - pos : piece;
		int err = drop(area, pos, size, advice);

		if (err)
			return err;
	}

	return 0;
}

/* Each piece once, in an order without one: 40503 is odd and a prime. */
static int shuffled(struct area *area, size_t piece, int advice)
{
	size_t pieces = area->size / piece, i;

	for (i = 0; i < pieces; i++) {
		int err = drop(area, i * 40503 % pieces * piece, piece, advice);

		if (err)
			return err;
	}

	return 0;
}

static int backwards(struct area *area, size_t piece, int advice)
{
	size_t pos = area->size;

	while (pos) {
		int err;

		pos -= piece;
		err = drop(area, pos, piece, advice);
		if (err)
			return err;
	}

	return 0;
}

static int dontneed(struct area *area, size_t piece)
{
	return in_pieces(area, piece, MADV_DONTNEED);
}

static int dontneed_shuffled(struct area *area, size_t piece)
{
	return shuffled(area, piece, MADV_DONTNEED);
}

static int dontneed_backwards(struct area *area, size_t piece)
{
	return backwards(area, piece, MADV_DONTNEED);
}

static int process_dontneed(struct area *area, size_t piece)
{
	int pidfd = syscall(__NR_pidfd_open, getpid(), 0);
	size_t pos = 0;

	if (pidfd < 0)
		return -errno;
	while (pos < area->size) {
		struct iovec vec[VECTORS];
		int i;

		for (i = 0; i < VECTORS && pos < area->size; i++, pos += piece) {
			vec[i].iov_base = area->map + pos;
			vec[i].iov_len = piece;
		}
		if (syscall(__NR_process_madvise, pidfd, vec, i,
			    MADV_DONTNEED, 0) != (long)(i * piece)) {
			close(pidfd);
			return errno ? -errno : -EIO;
		}
	}
	close(pidfd);

	return 0;
}

static int free_and_reclaim(struct area *area, size_t piece)
{
	int err = in_pieces(area, piece, MADV_FREE);

	return err ? err : in_pieces(area, piece, MADV_PAGEOUT);
}

static int reclaim(struct area *area, size_t piece)
{
	return in_pieces(area, piece, MADV_PAGEOUT);
}

/* All of it is swapped out when it is dropped. */
static int swap_and(struct area *area, size_t piece, int advice)
{
	int err;

	if (!have_swap())
		return -EOPNOTSUPP;
	err = in_pieces(area, area->size, MADV_PAGEOUT);

	return err ? err : in_pieces(area, piece, advice);
}

static int swap_and_free(struct area *area, size_t piece)
{
	return swap_and(area, piece, MADV_FREE);
}

static int swap_and_dontneed(struct area *area, size_t piece)
{
	return swap_and(area, piece, MADV_DONTNEED);
}

static int punch(struct area *area, size_t piece)
{
	size_t pos;

	for (pos = 0; pos < area->size; pos += piece) {
		if (fallocate(area->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      pos, piece))
			return -errno;
	}

	return 0;
}

static int remove_pages(struct area *area, size_t piece)
{
	return in_pieces(area, piece, MADV_REMOVE);
}

static int truncate_down(struct area *area, size_t piece)
{
	size_t size = area->size;

	while (size) {
		size -= piece;
		if (ftruncate(area->fd, size))
			return -errno;
	}

	return 0;
}

static int guard(struct area *area, size_t piece)
{
	int err = in_pieces(area, piece, MADV_GUARD_INSTALL);

	return err ? err : in_pieces(area, piece, MADV_GUARD_REMOVE);
}

static int unmap_beside(struct area *area, size_t piece)
{
	size_t pos;

	for (pos = 0; pos < area->size; pos += 2 * TABLE) {
		if (munmap(area->map + pos, piece))
			return -errno;
	}

	return 0;
}

/*
 * To where the tables are dropped as a whole. The userfaultfd stays: where it
 * ends all page tables are looked at.
 */
static int uffd_move(struct area *area, size_t piece)
{
	struct area to = { .size = area->size };
	size_t pos;
	int err = 0;

	to.map = map_aligned(area->size, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1);
	area->fd = to.map ? uffd_for_moves(to.map, to.size) : -ENOMEM;
	if (area->fd < 0)
		return area->fd;
	for (pos = 0; pos < area->size && !err; pos += piece)
		err = uffd_move_all(area->fd, to.map + pos, area->map + pos,
				    piece);
	munmap(to.map, to.size);

	return err;
}

/* One piece off, so that no table can be moved whole. */
static int remap_and_keep(struct area *area, size_t piece)
{
	char *to = map_aligned(area->size + TABLE, PROT_NONE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1);

	if (!to)
		return -ENOMEM;
	if (mremap(area->map, area->size, area->size,
		   MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
		   to + piece) == MAP_FAILED)
		return -errno;
	munmap(to, area->size + TABLE);

	return 0;
}

FIXTURE(rows)
{
	struct area area;
	long before;
};

FIXTURE_VARIANT(rows)
{
	enum kind kind;
	size_t size;
	size_t step;		/* a page is touched in each step */
	size_t piece;
	int (*empty)(struct area *area, size_t piece);
	unsigned long keeps;	/* tables that are in use afterwards */
	bool reads;		/* pages are read, not written */
	bool private;
};

FIXTURE_VARIANT_ADD(rows, whole) {
	.size = 2 * GB, .piece = 2 * GB, .empty = dontneed,
};

FIXTURE_VARIANT_ADD(rows, 4K) {
	.size = GB / 2, .step = PAGE, .piece = PAGE, .empty = dontneed,
};

FIXTURE_VARIANT_ADD(rows, 4K_shuffled) {
	.size = GB / 2, .step = PAGE, .piece = PAGE,
	.empty = dontneed_shuffled,
};

FIXTURE_VARIANT_ADD(rows, 64K) {
	.size = 2 * GB, .step = 64 * KB, .piece = 64 * KB,
	.empty = dontneed,
};

FIXTURE_VARIANT_ADD(rows, 64K_shuffled) {
	.size = 2 * GB, .step = 64 * KB, .piece = 64 * KB,
	.empty = dontneed_shuffled,
};

FIXTURE_VARIANT_ADD(rows, 64K_backwards) {
	.size = 2 * GB, .step = 64 * KB, .piece = 64 * KB,
	.empty = dontneed_backwards,
};

FIXTURE_VARIANT_ADD(rows, 1M) {
	.size = 2 * GB, .step = 64 * KB, .piece = MB, .empty = dontneed,
};

FIXTURE_VARIANT_ADD(rows, 2M_less_4K) {
	.size = 2 * GB, .step = 64 * KB, .piece = TABLE - PAGE,
	.empty = dontneed,
};

FIXTURE_VARIANT_ADD(rows, process_madvise) {
	.size = GB, .step = 64 * KB, .piece = 64 * KB,
	.empty = process_dontneed,
};

FIXTURE_VARIANT_ADD(rows, free_then_reclaim) {
	.size = 2 * GB, .step = 64 * KB, .piece = 64 * MB,
	.empty = free_and_reclaim,
};

FIXTURE_VARIANT_ADD(rows, swapped_then_free) {
	.size = GB / 2, .step = 64 * KB, .piece = 64 * KB,
	.empty = swap_and_free,
};

FIXTURE_VARIANT_ADD(rows, swapped_then_dontneed) {
	.size = GB / 2, .step = 64 * KB, .piece = 64 * KB,
	.empty = swap_and_dontneed,
};

FIXTURE_VARIANT_ADD(rows, guards) {
	.size = 2 * GB, .step = 2 * GB, .piece = 2 * GB, .empty = guard,
};

FIXTURE_VARIANT_ADD(rows, guards_64K) {
	.size = 2 * GB, .step = 2 * GB, .piece = 64 * KB, .empty = guard,
};

FIXTURE_VARIANT_ADD(rows, munmap_beside) {
	.size = 2 * GB, .step = TABLE, .piece = TABLE - PAGE,
	.empty = unmap_beside, .keeps = 512,
};

FIXTURE_VARIANT_ADD(rows, uffd_move) {
	.size = GB, .step = 64 * KB, .piece = TABLE, .empty = uffd_move,
};

/* Holes are looked at one by one, pages many at once. */
FIXTURE_VARIANT_ADD(rows, uffd_move_without_holes) {
	.size = 128 * MB, .step = PAGE, .piece = TABLE, .empty = uffd_move,
};

FIXTURE_VARIANT_ADD(rows, remap_dontunmap) {
	.size = GB, .step = 64 * KB, .piece = 64 * KB,
	.empty = remap_and_keep,
};

FIXTURE_VARIANT_ADD(rows, holes_64K) {
	.kind = MEMFD, .size = 2 * GB, .step = 64 * KB, .piece = 64 * KB,
	.empty = punch,
};

FIXTURE_VARIANT_ADD(rows, holes_2M) {
	.kind = MEMFD, .size = 2 * GB, .step = 64 * KB, .piece = TABLE,
	.empty = punch,
};

FIXTURE_VARIANT_ADD(rows, madv_remove) {
	.kind = MEMFD, .size = 2 * GB, .step = 64 * KB, .piece = MB,
	.empty = remove_pages,
};

FIXTURE_VARIANT_ADD(rows, truncated_at_once) {
	.kind = MEMFD, .size = 2 * GB, .step = 64 * KB, .piece = 2 * GB,
	.empty = truncate_down,
};

FIXTURE_VARIANT_ADD(rows, truncated_by_1M) {
	.kind = MEMFD, .size = 2 * GB, .step = 64 * KB, .piece = MB,
	.empty = truncate_down,
};

FIXTURE_VARIANT_ADD(rows, file_reclaimed) {
	.kind = DISK, .size = GB, .step = 64 * KB, .piece = 64 * MB,
	.empty = reclaim, .reads = true,
};

FIXTURE_VARIANT_ADD(rows, private_file_whole) {
	.kind = DISK, .size = GB / 2, .step = 64 * KB, .piece = GB / 2,
	.empty = dontneed, .private = true,
};

static void read_pages(char *start, size_t size, size_t step)
{
	size_t pos;

	for (pos = 0; pos < size; pos += step)
		get_long(start + pos);
}

FIXTURE_SETUP(rows)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;

	self->area.size = variant->size;
	self->area.fd = -1;
	if (variant->kind == MEMFD) {
		self->area.fd = memfd_create("rows", 0);
		ASSERT_GE(self->area.fd, 0);
		ASSERT_EQ(ftruncate(self->area.fd, variant->size), 0);
	} else if (variant->kind == DISK) {
		self->area.fd = file_on_disk(variant->size);
		if (self->area.fd < 0)
			SKIP(return, "no file on a disk: set TMPDIR");
	}
	if (self->area.fd >= 0)
		flags = variant->private ? MAP_PRIVATE : MAP_SHARED;
	self->area.map = map_aligned(variant->size, PROT_READ | PROT_WRITE,
				     flags, self->area.fd);
	ASSERT_NE(self->area.map, NULL);
	if (variant->reads)
		madvise(self->area.map, variant->size, MADV_RANDOM);

	self->before = vmpte_kb();
	if (variant->reads)
		read_pages(self->area.map, variant->size, variant->step);
	else
		touch(self->area.map, variant->size,
		      variant->step ? variant->step : TABLE);
	if (variant->step != variant->size)
		ASSERT_GT(vmpte_kb() - self->before,
			  (long)(variant->size / TABLE * 4 - 8));
}

FIXTURE_TEARDOWN(rows)
{
	if (self->area.fd >= 0)
		close(self->area.fd);
}

/* A table of the next level for each 1G, and what the calls themselves touch. */
static long expected_kb(long before, const FIXTURE_VARIANT(rows) *variant)
{
	return before + variant->size / GB * 4 + variant->keeps * 4 + 12;
}

static void empty(struct __test_metadata *_metadata, FIXTURE_DATA(rows) *self,
		  const FIXTURE_VARIANT(rows) *variant)
{
	int err = variant->empty(&self->area, variant->piece);

	if (err == -EOPNOTSUPP)
		SKIP(return, "not to be had here: swap, or UFFDIO_MOVE");
	ASSERT_EQ(err, 0);
}

TEST_F_TIMEOUT(rows, tables_are_freed_after_a_run, 180)
{
	empty(_metadata, self, variant);
	if (reclaim_available())
		ASSERT_EQ(reclaim_run(), 0);
	EXPECT_TRUE(vmpte_settles(expected_kb(self->before, variant), 0));
}

TEST_F_TIMEOUT(rows, tables_are_freed_unasked, 180)
{
	empty(_metadata, self, variant);
	EXPECT_TRUE(vmpte_settles(expected_kb(self->before, variant),
				  reclaim_available() ? 60 : 1));
}

TEST_HARNESS_MAIN
