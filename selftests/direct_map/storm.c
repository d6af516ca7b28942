// SPDX-License-Identifier: GPL-2.0-only
/*
 * All that changes the direct map at once, against the worker, passes that are
 * asked for, walks of the page tables, memory that goes off- and online, and a
 * CPU that does. When it is over, no range is mapped smaller than before.
 *
 * STORM_SECONDS says how long it lasts.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "dmap.h"

#define DEFAULT_SECONDS	20
#define MAX_THREADS	32
#define MAX_PAGES	1024
#define MEMORY		"/sys/devices/system/memory/"
#define CPU		"/sys/devices/system/cpu/"
#define CPA_TEST	"/sys/module/cpa_test/parameters/interval"

static atomic_bool over;
static atomic_long corrupt, failed, rounds, replugged;

/* A function that changes pages and what undoes it, both in order. */
static const struct {
	const char *change[3], *undo[3];
	bool map;
} pairs[] = {
	{ .change = { "ro" }, .undo = { "rw" } },
	{ .change = { "ro", "x" }, .undo = { "nx", "rw" } },
	{ .change = { "rox" }, .undo = { "nx", "rw" } },
	{ .change = { "uc" }, .undo = { "wb" } },
	{ .change = { "wc" }, .undo = { "wb" } },
	{ .change = { "np" }, .undo = { "p" } },
	{ .change = { "invalid" }, .undo = { "default" } },
	{ .change = { "not_valid" }, .undo = { "valid" } },
	{ .change = { "array_uc" }, .undo = { "array_wb" } },
	{ .change = { "pages_ro" }, .undo = { "pages_rw" } },
	{ .change = { "poison" }, .undo = { "unpoison" } },
	{ .change = { "ro" }, .undo = { "rw" }, .map = true },
	{ .change = { "np" }, .undo = { "p" }, .map = true },
};

static void unexpected(const char *what, int err)
{
	printf("# %s: %s\n", what, strerror(-err));
	failed++;
}

static void call_all(int fd, const char *const *names, int first, int nr)
{
	int i;

	for (i = 0; i < 3 && names[i]; i++) {
		int err = pages_do(fd, "%s %d %d", names[i], first, nr);

		if (err)
			unexpected(names[i], err);
	}
}

static void change_some(int fd, unsigned int *seed, int pages)
{
	int pair = rand_r(seed) % (sizeof(pairs) / sizeof(*pairs));
	int first = rand_r(seed) % pages;
	int nr = 1 + rand_r(seed) % (pages - first);

	if (pairs[pair].map && pages_do(fd, "map"))
		return;
	call_all(fd, pairs[pair].change, first, nr);
	if (rand_r(seed) % 4 == 0)
		usleep(rand_r(seed) % 20000);
	call_all(fd, pairs[pair].undo, first, nr);
	if (pairs[pair].map)
		pages_do(fd, "unmap");
	if (pages_do(fd, "check"))
		corrupt++;
}

static void *change(void *arg)
{
	unsigned int seed = (unsigned long)arg;

	while (!over) {
		int pages = 1 + rand_r(&seed) % MAX_PAGES;
		int fd = pages_open(), i, err;

		/* Offlining isolates what this would get. */
		err = pages_do(fd, "alloc %d", pages);
		if (!err && !pages_do(fd, "fill")) {
			for (i = 0; i < 4 && !over; i++)
				change_some(fd, &seed, pages);
			rounds++;
		} else if (err != -ENOMEM && err != -EBUSY) {
			unexpected("alloc", err);
		}
		close(fd);
	}

	return NULL;
}

static void *keep_secrets(void *arg)
{
	unsigned int seed = (unsigned long)arg;

	while (!over) {
		size_t size = (1 + rand_r(&seed) % 512) * getpagesize(), pos;
		char *secret = secret_alloc(size);

		if (!secret) {
			unexpected("memfd_secret", -errno);
			continue;
		}
		for (pos = 0; pos < size; pos += getpagesize())
			corrupt += *(size_t *)(secret + pos) != ~pos;
		secret_free(secret, size);
	}

	return NULL;
}

static void *ask_for_passes(void *arg)
{
	unsigned int seed = (unsigned long)arg;

	while (!over) {
		int err = restore_run();

		if (err)
			unexpected("run", err);
		usleep(rand_r(&seed) % 200000);
	}

	return NULL;
}

/* A walk keeps the worker out: leave it as much time as each of them took. */
static void *walk(void *arg)
{
	while (!over) {
		time_t start = time(NULL);
		struct dmap map;

		if (!dmap_read(&map))
			dmap_free(&map);
		usleep(20000);
		sleep(time(NULL) - start);
	}

	return arg;
}

static void *plug(void *arg)
{
	unsigned int seed = (unsigned long)arg;

	while (!over) {
		char path[96];

		snprintf(path, sizeof(path), MEMORY "memory%d/state",
			 rand_r(&seed) % 64);
		if (!write_file(path, "offline"))
			usleep(rand_r(&seed) % 20000);
		write_file(path, "online");
		usleep(50000);
	}

	return NULL;
}

/* It uses page tables on its way, before a flush gets to it. */
static void *replug(void *arg)
{
	char path[96];

	snprintf(path, sizeof(path), CPU "cpu%ld/online",
		 sysconf(_SC_NPROCESSORS_CONF) - 1);
	while (!over) {
		replugged += !write_file(path, "0");
		usleep(100000);
		write_file(path, "1");
		usleep(300000);
	}

	return arg;
}

static void load_module(void)
{
	char name[64];
	const char *path = test_module(name, sizeof(name));
	int fd;

	if (!path)
		return;
	fd = open(path, O_RDONLY);
	if (syscall(__NR_finit_module, fd, "", 0))
		unexpected("finit_module", -errno);
	else if (syscall(__NR_delete_module, name, O_NONBLOCK))
		unexpected("delete_module", -errno);
	close(fd);
}

static void *load_code(void *arg)
{
	while (!over) {
		close(load_bpf_program());
		load_module();
	}

	return arg;
}

FIXTURE(storm)
{
	struct dmap before;
	struct dmap after;
	pthread_t threads[MAX_THREADS];
	char delay[16];
	int nr;
};

FIXTURE_SETUP(storm)
{
	int fd = pages_open();

	if (fd < 0)
		SKIP(return, "no " PAGES_FILE ": needs CONFIG_DIRECT_MAP_TEST");
	close(fd);
	if (!restore_available())
		SKIP(return, "no " RESTORE_DIR "run");
	ASSERT_EQ(read_file(RESTORE_DIR "delay_ms", self->delay,
			    sizeof(self->delay)), 0);

	/* What loads code for the first time keeps 2M for more of it. */
	close(load_bpf_program());
	load_module();
	sleep(2);
	ASSERT_EQ(restore_run(), 0);
	ASSERT_EQ(dmap_read_settled(&self->before), 0);
	if (dmap_hopeless(&self->before))
		SKIP(return, "%s", dmap_hopeless(&self->before));
}

FIXTURE_TEARDOWN(storm)
{
	if (*self->delay)
		write_file(RESTORE_DIR "delay_ms", self->delay);
	dmap_free(&self->before);
	dmap_free(&self->after);
}

TEST_F_TIMEOUT(storm, no_range_smaller_when_it_is_over, 1800)
{
	void *(*const others[])(void *) = {
		keep_secrets, ask_for_passes, walk, plug, replug, load_code,
	};
	const char *text = getenv("STORM_SECONDS");
	int seconds = text ? atoi(text) : DEFAULT_SECONDS;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	long contended = vm_event("vmap_huge_contended");
	long splits = vm_event("direct_map_level2_splits");
	long restored = vm_event("direct_map_restore_2m");
	size_t i;

	ASSERT_EQ(write_file(RESTORE_DIR "delay_ms", "20"), 0);
	/* A kernel that tests CPA by itself adds to it. */
	write_file(CPA_TEST, "1");
	for (i = 0; i < sizeof(others) / sizeof(*others); i++)
		ASSERT_EQ(pthread_create(&self->threads[self->nr++], NULL,
					 others[i], (void *)(i + 1)), 0);
	for (i = 0; i < (size_t)cpus + 1 && self->nr < MAX_THREADS; i++)
		ASSERT_EQ(pthread_create(&self->threads[self->nr++], NULL,
					 change, (void *)(i + 100)), 0);
	for (; seconds > 0; seconds -= 30) {
		sleep(seconds < 30 ? seconds : 30);
		TH_LOG("%ld rounds", (long)rounds);
	}
	over = true;
	while (self->nr)
		pthread_join(self->threads[--self->nr], NULL);
	write_file(CPA_TEST, "0");

	EXPECT_EQ(corrupt, 0);
	EXPECT_EQ(failed, 0);
	EXPECT_GT(rounds, 0);
	EXPECT_TRUE(replugged > 0 || cpus == 1);
	EXPECT_GT(vm_event("direct_map_level2_splits"), splits);
	EXPECT_GT(vm_event("direct_map_restore_2m"), restored);

	/* Programs and modules are freed by RCU and works of their own. */
	EXPECT_TRUE(dmap_settles(&self->before, &self->after, 30, true));
	if (self->before.nr)
		EXPECT_TRUE(dmap_same_attrs(&self->before, &self->after));
	TH_LOG("%ld rounds, %ld splits, %ld restored, %ld huge mappings made small",
	       (long)rounds, vm_event("direct_map_level2_splits") - splits,
	       vm_event("direct_map_restore_2m") - restored,
	       vm_event("vmap_huge_contended") - contended);
}

TEST_HARNESS_MAIN
