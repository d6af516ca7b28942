// SPDX-License-Identifier: GPL-2.0-only
/*
 * How the work of restore, of PTE-mapped blocks, of the pool of unmapped pages and
 * of the reclaim of page tables grows: each is done for more and more of them, up
 * to a part of the machine's memory. Under QEMU's -icount shift=0 one nanosecond
 * is one instruction.
 *
 * Prints a line for each: what, how many, nanoseconds of CPU time, flushes of
 * other CPUs' TLBs, and those that CPUs received; "restore" has the number of 1G
 * besides.
 *
 * usage: scale MOST-BLOCKS MOST-TABLES [busy], where busy keeps all CPUs in user
 * space while page tables are reclaimed.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "dmap.h"

#define RECLAIM_DIR	"/sys/kernel/mm/pt_reclaim/"
#define BLOCKS_FILE	"/sys/kernel/debug/pte_mapped_test"
#define BLOCK		(2UL << 20)
#define MAX_CPUS	64
/* What comes in between, an interrupt and its work, only adds: the least counts. */
#define ROUNDS		3

static long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return time.tv_sec * 1000000000L + time.tv_nsec;
}

/* What is compared before and after. */
enum {
	SPENT,
	FLUSHES,
	RECEIVED,
	RESTORED_2M,
	RESTORED_1G,
	REFILLS,
	RETURNS,
	UNMAPPED,
	SCANNED,
	FREED,
	NR_COUNTS
};

static const char * const events[NR_COUNTS] = {
	[FLUSHES]	= "nr_tlb_remote_flush",
	[RECEIVED]	= "nr_tlb_remote_flush_received",
	[RESTORED_2M]	= "direct_map_restore_2m",
	[RESTORED_1G]	= "direct_map_restore_1g",
	[REFILLS]	= "pte_mapped_refills",
	[RETURNS]	= "pte_mapped_returns",
	[UNMAPPED]	= "unmapped_flushes",
	[SCANNED]	= "pt_reclaim_scanned",
	[FREED]		= "pt_reclaim_freed",
};

struct counts {
	long of[NR_COUNTS];
};

static void read_events(struct counts *counts, int sign)
{
	int i;

	for (i = FLUSHES; i < NR_COUNTS; i++)
		counts->of[i] += sign * vm_event(events[i]);
}

/* What the step before left to RCU and to workers is not this one's. */
static void begin(struct counts *counts)
{
	usleep(200000);
	memset(counts, 0, sizeof(*counts));
	read_events(counts, -1);
	counts->of[SPENT] = -now();
}

static void end(struct counts *counts)
{
	counts->of[SPENT] += now();
	read_events(counts, 1);
}

static void print(const char *what, const struct counts *counts, int nr)
{
	printf("%s %ld %ld %ld %ld\n", what, counts->of[nr], counts->of[SPENT],
	       counts->of[FLUSHES], counts->of[RECEIVED]);
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void run_pass(const char *enabled)
{
	if (write_file(RESTORE_DIR "enabled", enabled) || restore_run())
		die("a pass of restore");
}

static void do_blocks(int fd, const char *command, int order, long nr)
{
	/* Half a block is the largest that a request may have. */
	if (pages_do(fd, "alloc %s %d %ld -1", command, order, nr))
		die("PTE-mapped pages");
}

static void free_blocks(int fd)
{
	if (pages_do(fd, "free all"))
		die("freeing PTE-mapped pages");
}

/* Blocks are made, given back, and what maps them is restored. */
static void blocks(int fd, long nr)
{
	struct counts refill, give, restore;

	begin(&refill);
	do_blocks(fd, "sleep", 8, 2 * nr);
	end(&refill);
	free_blocks(fd);

	begin(&give);
	run_pass("0");
	end(&give);

	begin(&restore);
	run_pass("1");
	end(&restore);

	print("refill", &refill, REFILLS);
	print("return", &give, RETURNS);
	printf("restore %ld %ld %ld %ld %ld\n", restore.of[RESTORED_2M],
	       restore.of[SPENT], restore.of[FLUSHES], restore.of[RECEIVED],
	       restore.of[RESTORED_1G]);
}

/* The same through the pool, which zeroes and unmaps a block at a time. */
static void unmapped(int fd, long nr)
{
	struct counts counts;

	begin(&counts);
	do_blocks(fd, "unmapped", 0, nr * (BLOCK / 4096));
	end(&counts);
	free_blocks(fd);
	run_pass("1");
	print("unmap", &counts, UNMAPPED);
}

static bool busy, stop;

static void *spin(void *arg)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET((long)arg, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
		;

	return NULL;
}

/* Other CPUs have the mm loaded, and have to be told. */
static long start_threads(pthread_t *threads)
{
	long cpu, nr = busy ? sysconf(_SC_NPROCESSORS_ONLN) : 0;

	stop = false;
	for (cpu = 0; cpu < nr && cpu < MAX_CPUS; cpu++)
		pthread_create(&threads[cpu], NULL, spin, (void *)cpu);

	return cpu;
}

static void reclaim_run(struct counts *counts)
{
	pthread_t threads[MAX_CPUS];
	long nr = start_threads(threads);

	begin(counts);
	if (write_file(RECLAIM_DIR "run", "1"))
		die("a pass of reclaim");
	end(counts);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	while (nr)
		pthread_join(threads[--nr], NULL);
}

/*
 * Tables in use are looked at to the entry that is: the last one. With all
 * entries gone they are freed.
 */
static void tables(long nr)
{
	size_t size = (nr + 1) * BLOCK;
	char *start = mmap(NULL, size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct counts used, empty;
	char *last;
	long i;

	if (start == MAP_FAILED)
		die("mmap");
	last = (char *)(((size_t)start + BLOCK - 1) & ~(BLOCK - 1)) + BLOCK - 4096;
	for (i = 0; i < nr; i++)
		last[i * BLOCK] = 1;

	/* More than there is room to note: all are looked at. */
	for (i = 0; i < nr && i < 32; i++) {
		last[i * BLOCK - 4096 * 8] = 1;
		madvise(last + i * BLOCK - 4096 * 8, 4096, MADV_DONTNEED);
	}
	reclaim_run(&used);
	for (i = 0; i < nr; i++)
		madvise(last + i * BLOCK, 4096, MADV_DONTNEED);
	reclaim_run(&empty);
	munmap(start, size);

	print("look", &used, SCANNED);
	print("reclaim", &empty, FREED);
}

int main(int argc, char **argv)
{
	long most_blocks = argc > 2 ? atol(argv[1]) : 0;
	long most_tables = argc > 2 ? atol(argv[2]) : 0;
	int fd = open(BLOCKS_FILE, O_RDWR);
	int round;
	long nr;

	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	busy = argc > 3 && !strcmp(argv[3], "busy");
	if (fd < 0 || !restore_available())
		die("the files of CONFIG_PTE_MAPPED_TEST and of restore");
	/* The workers must not come in between. */
	if (write_file(RESTORE_DIR "delay_ms", "3600000") ||
	    write_file(RECLAIM_DIR "delay_ms", "3600000"))
		die("delay_ms");
	/*
	 * Whoever frees the page that is one too many for its CPU's list puts
	 * back thousands that others had freed. Make room for all of them.
	 */
	if (write_file("/proc/sys/vm/percpu_pagelist_high_fraction", "8"))
		die("percpu_pagelist_high_fraction");

	printf("memory-kb %ld\n", meminfo_kb("MemTotal:"));
	printf("cpus %ld\n", sysconf(_SC_NPROCESSORS_ONLN));
	/* Of what boot left, and of the first of everything. */
	run_pass("1");
	for (round = 0; round < ROUNDS; round++) {
		for (nr = 1; nr <= most_blocks; nr *= 2)
			blocks(fd, nr);
		for (nr = 1; nr <= most_blocks && nr <= 256; nr *= 4)
			unmapped(fd, nr);
		for (nr = 32; nr <= most_tables; nr *= 4)
			tables(nr);
		tables(most_tables);
	}
	close(fd);

	return 0;
}
