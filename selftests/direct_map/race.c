// SPDX-License-Identifier: GPL-2.0-only
/*
 * Threads that split the direct map, one that asks for passes and one that
 * walks the kernel's page tables, all at once.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
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

TEST_HARNESS_MAIN
