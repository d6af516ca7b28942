// SPDX-License-Identifier: GPL-2.0-only
/*
 * Faults against all that changes the mapping at the same time: nobody sees
 * what is not his, and afterwards nothing is in use or charged.
 *
 * RACE_SECONDS says how long each lasts.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "exclusive.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif

#define DEFAULT_SECONDS	4
#define THREADS		4
#define PAGES		64L
#define SIZE		(PAGES * PAGE)
#define OWN		0x1000L		/* what its threads write to a page */
#define SECRET		((long)PATTERN)
#define PUBLIC		0x0b5e55edL
#define USER		23002	/* no user of this machine */

static char *map;		/* what the threads fault in */
static atomic_bool over;
static atomic_long wrong, rounds, signals;

static time_t end_of_race(void)
{
	const char *text = getenv("RACE_SECONDS");

	return time(NULL) + (text ? atoi(text) : DEFAULT_SECONDS);
}

static bool is_ours(long value)
{
	return !value || (value & ~0xffL) == OWN;
}

/* Any page of the range, whatever becomes of the range meanwhile. */
static void *fault(void *arg)
{
	unsigned int seed = (unsigned long)arg;

	while (!over) {
		char *at = map + rand_r(&seed) % PAGES * PAGE;
		int nr;

		if (rand_r(&seed) & 1)
			nr = signal_of_write(at, OWN | rand_r(&seed) % 256);
		else
			nr = signal_of_read(at);
		signals += nr != 0;
		rounds++;
	}

	return NULL;
}

static void look(void)
{
	long i;

	for (i = 0; i < PAGES; i++)
		wrong += !is_ours(get_long(map + i * PAGE));
}

static void drop_pages(unsigned int *seed)
{
	long first = rand_r(seed) % PAGES, nr = 1 + rand_r(seed) % (PAGES - first);

	wrong += madvise(map + first * PAGE, nr * PAGE, MADV_DONTNEED) != 0;
	look();
}

/* A hole in it for a moment, and at times all of it. */
static void unmap_pages(unsigned int *seed)
{
	long first = rand_r(seed) % PAGES, nr = 1 + rand_r(seed) % (PAGES - first);

	/* Nobody else maps anything where the hole is. */
	wrong += mmap(map + first * PAGE, nr * PAGE, PROT_NONE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED;
	wrong += !exclusive_map_at(map + first * PAGE, nr * PAGE);
	look();
}

static void move_mapping(unsigned int *seed)
{
	static char *place;
	char *moved;

	(void)seed;
	if (!place)
		place = ordinary_map(SIZE);
	/* Away, where nobody faults, and back. */
	moved = mremap(map, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, place);
	wrong += moved != place;
	place = moved;
	wrong += mremap(place, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, map) != map;
	look();
}

static void move_and_keep(unsigned int *seed)
{
	char *moved = mremap(map, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	long i;

	(void)seed;
	if (moved == MAP_FAILED) {
		wrong++;
		return;
	}
	for (i = 0; i < PAGES; i++)
		wrong += !is_ours(get_long(moved + i * PAGE));
	munmap(moved, SIZE);
}

static void protect(unsigned int *seed)
{
	long first = rand_r(seed) % PAGES, nr = 1 + rand_r(seed) % (PAGES - first);

	wrong += mprotect(map + first * PAGE, nr * PAGE, PROT_READ) != 0;
	wrong += mprotect(map + first * PAGE, nr * PAGE, PROT_NONE) != 0;
	wrong += mprotect(map + first * PAGE, nr * PAGE, READ_WRITE) != 0;
	look();
}

static void guard(unsigned int *seed)
{
	long first = rand_r(seed) % PAGES, nr = 1 + rand_r(seed) % (PAGES - first);

	wrong += madvise(map + first * PAGE, nr * PAGE, MADV_GUARD_INSTALL) != 0;
	wrong += madvise(map + first * PAGE, nr * PAGE, MADV_GUARD_REMOVE) != 0;
	look();
}

/* The child finds zeros, whatever is faulted in while it is made. */
static void fork_it(unsigned int *seed)
{
	int status;
	pid_t pid;
	long i;

	(void)seed;
	pid = fork();
	if (!pid) {
		for (i = 0; i < PAGES; i++) {
			if (get_long(map + i * PAGE))
				_exit(1);
			put_long(map + i * PAGE, SECRET);
		}
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		wrong++;
	else
		wrong += status != 0;
	look();
}

/* Who walks page tables while they change. */
static void look_at_tables(unsigned int *seed)
{
	unsigned char there[PAGES];
	unsigned long pfns[PAGES];

	mincore(map, SIZE, there);
	pfns_of(map, PAGES, pfns);
	smaps_kb(map, "Rss:");
	drop_pages(seed);
}

static void give_back_all(unsigned int *seed)
{
	drop_pages(seed);
	write_file("/proc/sys/vm/drop_caches", "2");
	write_file("/proc/sys/vm/compact_memory", "1");
	if (restore_available())
		restore_run();
	look();
}

FIXTURE(races)
{
	long before;
};

FIXTURE_VARIANT(races)
{
	void (*other)(unsigned int *seed);
};

FIXTURE_VARIANT_ADD(races, dontneed) { drop_pages };
FIXTURE_VARIANT_ADD(races, munmap) { unmap_pages };
FIXTURE_VARIANT_ADD(races, mremap) { move_mapping };
FIXTURE_VARIANT_ADD(races, mremap_dontunmap) { move_and_keep };
FIXTURE_VARIANT_ADD(races, mprotect) { protect };
FIXTURE_VARIANT_ADD(races, guards) { guard };
FIXTURE_VARIANT_ADD(races, fork) { fork_it };
FIXTURE_VARIANT_ADD(races, walks) { look_at_tables };
FIXTURE_VARIANT_ADD(races, pool_given_back) { give_back_all };

FIXTURE_SETUP(races)
{
	if (no_exclusive())
		SKIP(return, "%s", no_exclusive());
	self->before = exclusive_pages();
	map = exclusive_map(SIZE);
	ASSERT_NE(map, NULL);
}

FIXTURE_TEARDOWN(races)
{
	if (map)
		munmap(map, SIZE);
}

/* This thread changes the mapping, its look() is never in the way of that. */
TEST_F_TIMEOUT(races, nothing_is_lost, 900)
{
	time_t end = end_of_race();
	pthread_t threads[THREADS];
	unsigned int seed = 4711;
	long nr = 0;

	for (; nr < THREADS; nr++)
		ASSERT_EQ(pthread_create(&threads[nr], NULL, fault, (void *)(nr + 1)), 0);
	while (time(NULL) < end)
		variant->other(&seed);
	over = true;
	while (nr)
		pthread_join(threads[--nr], NULL);
	TH_LOG("%ld accesses, %ld signals", (long)rounds, (long)signals);
	EXPECT_EQ(wrong, 0);
	EXPECT_GT(rounds, 0);
	munmap(map, SIZE);
	map = NULL;
	EXPECT_TRUE(exclusive_settles(self->before));
}

/*
 * Threads that all touch the same page at the same time, one page after the
 * other. Each adds one to it: with two pages for one address one would be lost.
 */
static long racers, race_pages, in_use;

/* Each on a CPU of its own, if there are as many. */
static void run_on_cpu(long nr)
{
	cpu_set_t allowed, one;
	int cpu;

	if (sched_getaffinity(0, sizeof(allowed), &allowed))
		return;
	nr %= CPU_COUNT(&allowed);
	for (cpu = 0; !CPU_ISSET(cpu, &allowed) || nr--; cpu++)
		;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

/* Until all are here. */
static void meet(void)
{
	static atomic_long arrived;
	long last = (arrived++ / racers + 1) * racers, spins = 0;

	while (arrived < last) {
		if (++spins % 1000 == 0)
			sched_yield();
	}
}

static void race_once(void)
{
	long i;

	for (i = 0; i < race_pages; i++) {
		long *at = (long *)(map + i * PAGE);

		meet();
		if (signal_of_read(at))
			signals++;
		else
			__atomic_fetch_add(at, 1, __ATOMIC_RELAXED);
	}
	meet();
}

static void *race(void *arg)
{
	run_on_cpu((long)arg);
	do {
		race_once();
		/* The main thread looks, and drops all. */
		meet();
	} while (!over);

	return arg;
}

static void look_and_drop(bool count)
{
	long i;

	for (i = 0; !signals && i < race_pages; i++)
		wrong += get_long(map + i * PAGE) != racers;
	if (count && rounds % 64 == 0)
		wrong += exclusive_pages() != in_use + race_pages;
	wrong += madvise(map, race_pages * PAGE, MADV_DONTNEED) != 0;
	rounds++;
}

/* Who is not root can't count what is in use. */
static bool race_for_pages(long pages, bool count)
{
	time_t end = end_of_race();
	pthread_t threads[THREADS];
	long nr;

	racers = sysconf(_SC_NPROCESSORS_ONLN);
	racers = racers < 2 ? 2 : racers > THREADS ? THREADS : racers;
	race_pages = pages;
	for (nr = 1; nr < racers; nr++) {
		if (pthread_create(&threads[nr], NULL, race, (void *)nr))
			return false;
	}
	run_on_cpu(0);
	do {
		race_once();
		look_and_drop(count);
		over = signals || wrong || time(NULL) >= end;
		meet();
	} while (!over);
	while (--nr)
		pthread_join(threads[nr], NULL);
	printf("# %ld rounds, %ld signals, %ld wrong\n", (long)rounds, (long)signals,
	       (long)wrong);

	return !wrong && !signals;
}

FIXTURE(pages)
{
	long before;
};

FIXTURE_SETUP(pages)
{
	if (no_exclusive())
		SKIP(return, "%s", no_exclusive());
	self->before = exclusive_pages();
	map = exclusive_map(SIZE);
	ASSERT_NE(map, NULL);
}

FIXTURE_TEARDOWN(pages)
{
	if (map)
		munmap(map, SIZE);
}

TEST_F_TIMEOUT(pages, one_for_all_that_fault_at_once, 900)
{
	in_use = self->before;
	EXPECT_TRUE(race_for_pages(PAGES, true));
	EXPECT_EQ(exclusive_pages(), self->before);
	/* Nor are pages left of those who came second. */
	munmap(map, SIZE);
	map = NULL;
	EXPECT_TRUE(pool_empties(60));
}

static int race_with_limit(void *arg)
{
	(void)arg;
	munmap(map, SIZE);
	if (become_user(USER, PAGE))
		return 1;
	map = exclusive_map(PAGE);
	if (!map)
		return 2;
	if (!race_for_pages(1, false))
		return 3;
	fflush(stdout);

	return 0;
}

/* Who was second to map a page was charged for none, not even for a moment. */
TEST_F_TIMEOUT(pages, as_many_as_the_limit_are_enough, 900)
{
	EXPECT_EQ(in_child(race_with_limit, NULL), 0);
	EXPECT_TRUE(exclusive_settles(self->before));
}

/* Two threads that fault until they are killed. */
static int fault_until_killed(void *arg)
{
	pthread_t thread;
	long i;

	(void)arg;
	if (pthread_create(&thread, NULL, fault, (void *)1))
		return 1;
	child_wait();
	for (;;) {
		for (i = 0; i < PAGES; i++)
			put_long(map + i * PAGE, SECRET);
		madvise(map, SIZE, MADV_DONTNEED);
	}

	return 0;
}

TEST_F_TIMEOUT(pages, none_is_left_by_who_is_killed, 900)
{
	time_t end = end_of_race();
	unsigned int seed = 1;
	struct child child;
	long i;

	while (time(NULL) < end || rounds < 20) {
		ASSERT_TRUE(child_start(&child, fault_until_killed, NULL));
		ASSERT_TRUE(child_waits(&child));
		child_go_on(&child);
		usleep(rand_r(&seed) % 3000);
		child_kill(&child);
		/* What is had next may be what that one had. */
		for (i = 0; i < PAGES; i++)
			wrong += get_long(map + i * PAGE) != 0;
		madvise(map, SIZE, MADV_DONTNEED);
		rounds++;
	}
	TH_LOG("%ld killed", (long)rounds);
	EXPECT_EQ(wrong, 0);
	EXPECT_TRUE(exclusive_settles(self->before));
}

/*
 * At one address there is exclusive memory and ordinary memory in turn, and who
 * asks the kernel for its pages gets those of the ordinary memory or nothing.
 */
#define TURN_PAGES	8L
#define TURNS		50

static atomic_long seen_public, seen_nothing;

static void *map_in_turn(void *arg)
{
	long i;

	while (!over) {
		wrong += !exclusive_map_at(map, TURN_PAGES * PAGE);
		for (i = 0; i < TURN_PAGES; i++)
			put_long(map + i * PAGE, SECRET);
		sched_yield();
		wrong += !ordinary_map_at(map, TURN_PAGES * PAGE);
		for (i = 0; i < TURN_PAGES; i++)
			put_long(map + i * PAGE, PUBLIC);
		sched_yield();
		rounds++;
	}

	return arg;
}

/* Readers are not to keep the one that maps from doing so. */
static char *next_page(unsigned int *seed)
{
	sched_yield();

	return map + rand_r(seed) % TURN_PAGES * PAGE;
}

static void got(long value)
{
	seen_public += value == PUBLIC;
	wrong += value == SECRET;
}

static void *by_vmsplice(void *arg)
{
	unsigned int seed = (unsigned long)arg;
	int fds[2];

	if (pipe2(fds, O_NONBLOCK))
		wrong++;
	while (!over) {
		struct iovec page = { next_page(&seed), sizeof(long) };
		long value;

		if (vmsplice(fds[1], &page, 1, SPLICE_F_NONBLOCK) != sizeof(long)) {
			seen_nothing++;
			continue;
		}
		if (read(fds[0], &value, sizeof(value)) == sizeof(value))
			got(value);
	}
	close(fds[0]);
	close(fds[1]);

	return NULL;
}

static void *by_process_vm(void *arg)
{
	unsigned int seed = (unsigned long)arg;

	while (!over) {
		long value;
		struct iovec to = { &value, sizeof(value) };
		struct iovec from = { next_page(&seed), sizeof(long) };

		if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) == sizeof(value))
			got(value);
		else
			seen_nothing++;
	}

	return NULL;
}

static void *by_proc_mem(void *arg)
{
	unsigned int seed = (unsigned long)arg;
	int fd = open("/proc/self/mem", O_RDONLY);

	while (!over) {
		long value;

		if (pread(fd, &value, sizeof(value),
			  (off_t)(next_page(&seed))) == sizeof(value))
			got(value);
		else
			seen_nothing++;
	}
	close(fd);

	return NULL;
}

static void *by_direct_io(void *arg)
{
	unsigned int seed = (unsigned long)arg;
	int fd = direct_device(PAGE);
	long *copy = ordinary_map(PAGE);

	while (!over) {
		if (pwrite(fd, next_page(&seed), PAGE, 0) == (ssize_t)PAGE &&
		    pread(fd, copy, PAGE, 0) == (ssize_t)PAGE)
			got(*copy);
		else
			seen_nothing++;
	}
	munmap(copy, PAGE);
	close(fd);

	return NULL;
}

FIXTURE(in_turn)
{
	long before;
};

FIXTURE_VARIANT(in_turn)
{
	void *(*reader)(void *arg);
	bool disk;
};

FIXTURE_VARIANT_ADD(in_turn, vmsplice) { .reader = by_vmsplice };
FIXTURE_VARIANT_ADD(in_turn, process_vm_readv) { .reader = by_process_vm };
FIXTURE_VARIANT_ADD(in_turn, proc_mem) { .reader = by_proc_mem };
FIXTURE_VARIANT_ADD(in_turn, direct_io) { .reader = by_direct_io, .disk = true };

FIXTURE_SETUP(in_turn)
{
	int fd;

	if (no_exclusive())
		SKIP(return, "%s", no_exclusive());
	if (variant->disk) {
		fd = direct_device(PAGE);
		if (fd < 0)
			SKIP(return, NO_DIRECT_DEVICE);
		close(fd);
	}
	self->before = exclusive_pages();
	map = ordinary_map(SIZE);
	ASSERT_NE(map, NULL);
}

FIXTURE_TEARDOWN(in_turn)
{
	if (map)
		munmap(map, SIZE);
}

TEST_F_TIMEOUT(in_turn, only_ordinary_memory_is_seen, 900)
{
	time_t end = end_of_race();
	pthread_t threads[THREADS];
	long nr = 0;

	ASSERT_EQ(pthread_create(&threads[nr++], NULL, map_in_turn, NULL), 0);
	for (; nr < THREADS; nr++)
		ASSERT_EQ(pthread_create(&threads[nr], NULL, variant->reader,
					 (void *)nr), 0);
	/* As long as it takes to see something: a disk may be slow. */
	while (!wrong && (time(NULL) < end || rounds < TURNS || !seen_public ||
			  !seen_nothing))
		usleep(10000);
	over = true;
	while (nr)
		pthread_join(threads[--nr], NULL);
	TH_LOG("%ld times mapped, %ld reads, %ld refused", (long)rounds,
	       (long)seen_public, (long)seen_nothing);
	EXPECT_EQ(wrong, 0);
	munmap(map, SIZE);
	map = NULL;
	EXPECT_TRUE(exclusive_settles(self->before));
}

/*
 * All at once: processes that take memory of their own and give it back, secret
 * memory from the same pool, and passes, compaction and reclaim.
 */
static atomic_long foreign, leaked, served;

static void *take_and_give(void *arg)
{
	size_t size = (1 + (long)arg % 3) * MB, i;
	int fd = held_open();

	while (!over) {
		char *data = (long)arg & 1 ? exclusive_map(size) : secret_map(size);

		if (!data)
			continue;
		for (i = 0; i < size; i += PAGE) {
			foreign += get_long(data + i) != 0;
			foreign += get_long(data + i + PAGE - sizeof(long)) != 0;
			fill_pattern(data + i, PAGE);
		}
		for (i = 0; fd >= 0 && i < size; i += 97 * PAGE)
			leaked += held_peek(fd, data + i) != -EFAULT;
		munmap(data, size);
		served++;
	}
	if (fd >= 0)
		close(fd);

	return NULL;
}

static void *pressure(void *arg)
{
	(void)arg;
	while (!over) {
		write_file("/proc/sys/vm/drop_caches", "3");
		write_file("/proc/sys/vm/compact_memory", "1");
		if (restore_available())
			restore_run();
		usleep(100000);
	}

	return NULL;
}

FIXTURE(mixed)
{
	struct dmap before;
	struct dmap after;
	long in_use;
};

FIXTURE_SETUP(mixed)
{
	if (no_exclusive())
		SKIP(return, "%s", no_exclusive());
	if (!restore_available())
		SKIP(return, "no " RESTORE_DIR "run");
	ASSERT_EQ(restore_run(), 0);
	ASSERT_EQ(dmap_read_settled(&self->before), 0);
	if (dmap_hopeless(&self->before))
		SKIP(return, "%s", dmap_hopeless(&self->before));
	self->in_use = exclusive_pages();
}

FIXTURE_TEARDOWN(mixed)
{
	dmap_free(&self->before);
	dmap_free(&self->after);
}

TEST_F_TIMEOUT(mixed, everything_at_once, 900)
{
	time_t end = end_of_race();
	pthread_t threads[THREADS + 1];
	long nr = 0;

	for (; nr < THREADS; nr++)
		ASSERT_EQ(pthread_create(&threads[nr], NULL, take_and_give, (void *)nr), 0);
	ASSERT_EQ(pthread_create(&threads[nr++], NULL, pressure, NULL), 0);
	while (time(NULL) < end)
		usleep(100000);
	over = true;
	while (nr)
		pthread_join(threads[--nr], NULL);
	TH_LOG("%ld times", (long)served);
	EXPECT_GT(served, 0);
	EXPECT_EQ(foreign, 0);
	EXPECT_EQ(leaked, 0);
	EXPECT_TRUE(exclusive_settles(self->in_use));
	EXPECT_TRUE(dmap_settles(&self->before, &self->after, 60, true));
}

TEST_HARNESS_MAIN
