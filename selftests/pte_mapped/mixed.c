// SPDX-License-Identifier: GPL-2.0-only
/*
 * All at once: secrets that come and go, pages of the allocator in any order
 * and context, modules, pressure, runs. Then everything is as before.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "pool.h"

#define SECONDS	15

static atomic_bool stop;
static atomic_long foreign;	/* words that a new owner did not find zero */
static atomic_long leaked;	/* secret pages that the kernel could read */
static atomic_long tried;

FIXTURE(mixed)
{
	struct dmap before;
	struct dmap after;
};

FIXTURE_SETUP(mixed)
{
	int fd = held_open();

	if (fd < 0)
		SKIP(return, HELD_FILE " needs CONFIG_PTE_MAPPED_TEST");
	close(fd);
	ASSERT_EQ(restore_run(), 0);
	ASSERT_EQ(dmap_read_settled(&self->before), 0);
	if (dmap_hopeless(&self->before))
		SKIP(return, "%s", dmap_hopeless(&self->before));
}

FIXTURE_TEARDOWN(mixed)
{
	dmap_free(&self->before);
	dmap_free(&self->after);
}

static void *secrets(void *arg)
{
	size_t size = (1 + (long)arg) * 3 * MB, i;
	int fd = held_open();

	while (!stop) {
		char *data = secret_map(size);

		if (!data)
			continue;
		for (i = 0; i < size; i += PAGE) {
			foreign += *(long *)(data + i) != 0;
			foreign += *(long *)(data + i + PAGE - 8) != 0;
			memset(data + i, 0x5a, PAGE);
		}
		for (i = 0; i < size; i += 97 * PAGE) {
			tried++;
			leaked += held_peek(fd, data + i) != -EFAULT;
		}
		secret_free(data, size);
	}
	close(fd);

	return NULL;
}

static void *pages(void *arg)
{
	static const char * const hows[] = {
		"sleep", "atomic", "nolock", "irq", "unmapped", "plain",
	};
	unsigned int seed = (long)arg, n;
	int fd = held_open();

	for (n = 0; !stop; n++) {
		const char *how = hows[rand_r(&seed) % 6];

		held_do(fd, "alloc %s %d %d -1", how, rand_r(&seed) % 5,
			rand_r(&seed) % 200);
		if (n % 3 == 0) {
			held_do(fd, "ro");
			held_do(fd, "rw");
		}
		held_do(fd, "free %s", n % 7 == 0 ? "all" : n & 1 ? "odd" : "even");
	}
	close(fd);

	return NULL;
}

static void *pressure(void *arg)
{
	(void)arg;
	while (!stop) {
		write_file("/proc/sys/vm/drop_caches", "3");
		write_file("/proc/sys/vm/compact_memory", "1");
		restore_run();
		usleep(100000);
	}

	return NULL;
}

static void *modules(void *arg)
{
	char name[64];
	const char *path = test_module(name, sizeof(name));
	int fd = path ? open(path, O_RDONLY) : -1;

	(void)arg;
	while (!stop && fd >= 0) {
		syscall(__NR_finit_module, fd, "", 0);
		syscall(__NR_delete_module, name, O_NONBLOCK);
	}
	if (fd >= 0)
		close(fd);

	return NULL;
}

TEST_F_TIMEOUT(mixed, everything_at_once, 400)
{
	static void *(* const what[])(void *) = {
		secrets, secrets, pages, pages, pressure, modules,
	};
	pthread_t threads[sizeof(what) / sizeof(*what)];
	size_t i;

	for (i = 0; i < sizeof(what) / sizeof(*what); i++)
		ASSERT_EQ(pthread_create(&threads[i], NULL, what[i], (void *)i), 0);
	sleep(SECONDS);
	stop = true;
	for (i = 0; i < sizeof(what) / sizeof(*what); i++)
		pthread_join(threads[i], NULL);

	EXPECT_EQ(foreign, 0);
	EXPECT_GT(tried, 0);
	EXPECT_EQ(leaked, 0);
	/* What requests that can't block asked for is kept for ten seconds. */
	EXPECT_TRUE(blocks_go(60));
	EXPECT_TRUE(dmap_settles(&self->before, &self->after, 60, true));
}

TEST_HARNESS_MAIN
