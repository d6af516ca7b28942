// SPDX-License-Identifier: GPL-2.0-only
/*
 * Threads that split the direct map, one that asks for passes and one that
 * walks the kernel's page tables, all at once; and who reads a page table while
 * a large page replaces it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "dmap.h"

#define SPLITTERS	4
#define ROUNDS		60

static atomic_int splitters_left;
static atomic_long corrupt, failed;

static void *split(void *arg)
{
	unsigned int seed = (unsigned long)arg;
	int i;

	for (i = 0; i < ROUNDS; i++) {
		size_t size = (1 + rand_r(&seed) % 512) * getpagesize();
		char *secret = secret_alloc(size);
		size_t pos;

		if (!secret) {
			failed++;
			continue;
		}
		for (pos = 0; pos < size; pos += getpagesize())
			corrupt += *(size_t *)(secret + pos) != ~pos;
		secret_free(secret, size);
	}
	splitters_left--;

	return NULL;
}

static void *ask_for_passes(void *arg)
{
	while (splitters_left)
		failed += !!restore_run();

	return arg;
}

static void *walk(void *arg)
{
	while (splitters_left) {
		struct dmap map;

		if (!dmap_read(&map))
			dmap_free(&map);
		else
			failed++;
	}

	return arg;
}

FIXTURE(race)
{
	struct dmap before;
	struct dmap after;
};

FIXTURE_SETUP(race)
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

FIXTURE_TEARDOWN(race)
{
	dmap_free(&self->before);
	dmap_free(&self->after);
}

TEST_F_TIMEOUT(race, splits_passes_and_walks, 300)
{
	pthread_t threads[SPLITTERS + 2];
	int i, nr = 0;

	splitters_left = SPLITTERS;
	for (i = 0; i < SPLITTERS; i++)
		ASSERT_EQ(pthread_create(&threads[nr++], NULL, split,
					 (void *)(i + 1UL)), 0);
	ASSERT_EQ(pthread_create(&threads[nr++], NULL, walk, NULL), 0);
	if (restore_available())
		ASSERT_EQ(pthread_create(&threads[nr++], NULL, ask_for_passes,
					 NULL), 0);
	while (nr)
		pthread_join(threads[--nr], NULL);

	EXPECT_EQ(corrupt, 0);
	EXPECT_EQ(failed, 0);
	EXPECT_TRUE(dmap_settles(&self->before, &self->after,
				 restore_available() ? 0 : 5,
				 restore_available()));
	if (self->before.nr)
		EXPECT_TRUE(dmap_same_attrs(&self->before, &self->after));
}

#define PAGES		512
#define LOOK_TRIES	20
#define LOOKS		2
/* Tables that were collapsed are freed a second later. */
#define LOOK_MS		2500

/*
 * Holds no lock, but is inside RCU: the table that it found stays one until it
 * is through, also if nothing leads there any more.
 */
FIXTURE(reader)
{
	struct dmap before;
	struct dmap after;
	unsigned long pfn;
	int fd;
};

FIXTURE_VARIANT(reader)
{
	const char *collapse;
};

FIXTURE_VARIANT_ADD(reader, of_what_is_restored)
{
};

FIXTURE_VARIANT_ADD(reader, of_what_is_collapsed)
{
	.collapse = "rox",
};

FIXTURE_SETUP(reader)
{
	self->fd = pages_open();
	if (self->fd < 0)
		SKIP(return, "no " PAGES_FILE ": needs CONFIG_DIRECT_MAP_TEST");
	if (!restore_available())
		SKIP(return, "no " RESTORE_DIR "run");
	ASSERT_EQ(dmap_read_settled(&self->before), 0);
	if (dmap_hopeless_to_see(&self->before))
		SKIP(return, "%s", dmap_hopeless_to_see(&self->before));
	ASSERT_EQ(pages_take_large(self->fd, &self->before, PAGES), 0);
	self->pfn = pages_phys(self->fd) / getpagesize();
}

FIXTURE_TEARDOWN(reader)
{
	if (self->fd >= 0)
		close(self->fd);
	dmap_free(&self->before);
	dmap_free(&self->after);
}

static void *look_at(void *arg)
{
	unsigned long pfn = (unsigned long)arg;
	int fd = pages_open();
	long err = pages_do(fd, "look %lu %d", pfn + PAGES / 2, LOOK_MS);

	close(fd);

	return (void *)err;
}

/* A large page replaces the table that the other reads. */
static void replace(struct __test_metadata *_metadata, FIXTURE_DATA(reader) *self,
		    const char *collapse)
{
	if (!collapse) {
		EXPECT_EQ(restore_run(), 0);
		return;
	}
	EXPECT_EQ(pages_do(self->fd, "%s 0 %d", collapse, PAGES), 0);
	EXPECT_EQ(pages_do(self->fd, "nx 0 %d", PAGES), 0);
	EXPECT_EQ(pages_do(self->fd, "rw 0 %d", PAGES), 0);
}

TEST_F_TIMEOUT(reader, finds_its_table_until_it_is_through, 300)
{
	int tries, looks = 0;

	for (tries = 0; tries < LOOK_TRIES && looks < LOOKS; tries++) {
		pthread_t thread;
		void *err;

		ASSERT_EQ(pages_do(self->fd, "ro 0 1"), 0);
		if (!variant->collapse)
			ASSERT_EQ(pages_do(self->fd, "rw 0 1"), 0);
		ASSERT_EQ(pthread_create(&thread, NULL, look_at,
					 (void *)self->pfn), 0);
		usleep(100000);
		replace(_metadata, self, variant->collapse);
		pthread_join(thread, &err);
		ASSERT_NE((long)err, -EIO)
			TH_LOG("the table was freed under its reader");
		looks += !err;
	}
	EXPECT_EQ(looks, LOOKS);
	EXPECT_TRUE(dmap_settles(&self->before, &self->after, 20, true));
}

TEST_HARNESS_MAIN
