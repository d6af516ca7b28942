// SPDX-License-Identifier: GPL-2.0-only
/*
 * What splits and restores cost, in nanoseconds of CPU time. Under QEMU's
 * -icount shift=0 one nanosecond is one instruction.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "dmap.h"

#define SIZE	(256UL << 20)
#define PAGES	(SIZE / 4096)
/* So much the pool of unmapped pages keeps of what a guest of 6 GB frees. */
#define POOL_SIZE	(64UL << 20)
#define ZAP_ROUNDS	20000
#define FORK_ROUNDS	2000

static long read_clock(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec * 1000000000L + time.tv_nsec;
}

/* Of this thread: a pass sleeps between batches. */
static long now(void)
{
	return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

static void ordinary_faults(void)
{
	char *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	long start = now(), middle;
	size_t i;

	for (i = 0; i < SIZE; i += 4096)
		memory[i] = 1;
	middle = now();
	munmap(memory, SIZE);
	printf("ordinary-fault %ld\n", (middle - start) / (long)PAGES);
	printf("ordinary-free %ld\n", (now() - middle) / (long)PAGES);
}

/* What one page table maps. */
static char *map_table(void)
{
	unsigned long start = (unsigned long)mmap(NULL, 4 << 20,
			PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned long table = (start + (2 << 20) - 1) & ~((2UL << 20) - 1);

	munmap((char *)start, table - start);
	munmap((char *)table + (2 << 20), start + (2 << 20) - table);

	return (char *)table;
}

/* Of all threads: they share the one CPU. */
static long now_of_all(void)
{
	return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

struct zapper {
	char *start;
	size_t size;
};

/* Memory is freed and used again at once, as allocators do in a loop. */
static void *zap_and_refault(void *arg)
{
	struct zapper *zapper = arg;
	int i;

	for (i = 0; i < ZAP_ROUNDS; i++) {
		size_t pos;

		for (pos = 0; pos < zapper->size; pos += 4096)
			zapper->start[pos] = 1;
		madvise(zapper->start, zapper->size, MADV_DONTNEED);
	}

	return NULL;
}

/* Threads have neighbouring pieces of one page table. */
static void zap_loops(const char *what, size_t size, int nr)
{
	char *table = map_table();
	struct zapper zappers[2];
	pthread_t threads[2];
	long start;
	int i;

	start = now_of_all();
	for (i = 0; i < nr; i++) {
		zappers[i].start = table + (1 << 20) + i * size;
		zappers[i].size = size;
		pthread_create(&threads[i], NULL, zap_and_refault, &zappers[i]);
	}
	for (i = 0; i < nr; i++)
		pthread_join(threads[i], NULL);
	printf("%s %ld\n", what, (now_of_all() - start) / ZAP_ROUNDS / nr);
	munmap(table, 2 << 20);
}

static void whole_table_zaps(void)
{
	char *table = map_table();
	long spent = 0;
	int i;

	for (i = 0; i < ZAP_ROUNDS / 10; i++) {
		size_t pos;
		long start;

		for (pos = 0; pos < 2 << 20; pos += 65536)
			table[pos] = 1;
		start = now();
		madvise(table, 2 << 20, MADV_DONTNEED);
		spent += now() - start;
	}
	printf("zap-whole-table %ld\n", spent / (ZAP_ROUNDS / 10));
	munmap(table, 2 << 20);
}

static void small_mappings(void)
{
	long spent = 0;
	int i;

	for (i = 0; i < ZAP_ROUNDS; i++) {
		char *memory = mmap(NULL, 65536, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		long start;

		memory[0] = 1;
		start = now();
		munmap(memory, 65536);
		spent += now() - start;
	}
	printf("munmap-64k %ld\n", spent / ZAP_ROUNDS);
}

static void zaps(void)
{
	zap_loops("zap-refault-4k", 4096, 1);
	zap_loops("zap-refault-4k-2", 4096, 2);
	zap_loops("zap-refault-64k", 65536, 1);
	zap_loops("zap-refault-64k-2", 65536, 2);
	whole_table_zaps();
	small_mappings();
}

/* Of all that runs: there is one CPU, and nothing else to do. */
static void forks(void)
{
	long start = read_clock(CLOCK_MONOTONIC);
	int i, status;

	for (i = 0; i < FORK_ROUNDS; i++) {
		pid_t pid = fork();

		if (!pid)
			_exit(0);
		waitpid(pid, &status, 0);
	}
	printf("fork-exit %ld\n", (read_clock(CLOCK_MONOTONIC) - start) / FORK_ROUNDS);
}

static unsigned long symbol(const char *name)
{
	FILE *file = fopen("/proc/kallsyms", "r");
	unsigned long addr, found = 0;
	char key[128];

	while (file && fscanf(file, "%lx %*c %127s%*[^\n]", &addr, key) == 2) {
		if (!strcmp(key, name)) {
			found = addr;
			break;
		}
	}
	if (file)
		fclose(file);

	return found;
}

static void print_parameter(const char *what, const char *name)
{
	char path[128], text[32] = "";

	snprintf(path, sizeof(path), "/sys/module/set_memory_cost/parameters/%s",
		 name);
	read_file(path, text, sizeof(text));
	printf("%s %ld\n", what, atol(text));
}

/* Pairs of calls, measured by a module. */
static int pairs(void)
{
	unsigned long ro = symbol("set_memory_ro"), rw = symbol("set_memory_rw");
	unsigned long invalid = symbol("set_direct_map_invalid_noflush");
	unsigned long valid = symbol("set_direct_map_default_noflush");
	int fd = open("/modules/set_memory_cost.ko", O_RDONLY);
	char args[160];

	if (!ro || !rw || !invalid || !valid || fd < 0)
		return -1;
	snprintf(args, sizeof(args), "ro=%lu rw=%lu invalid=%lu valid=%lu",
		 ro, rw, invalid, valid);
	if (syscall(__NR_finit_module, fd, args, 0))
		return -1;
	close(fd);
	print_parameter("set-memory-pair", "set_memory_pair");
	print_parameter("direct-map-pair", "direct_map_pair");
	print_parameter("page-pair", "page_pair");
	print_parameter("order-2-pair", "order_2_pair");

	return 0;
}

static int secret(const char *name, unsigned long size)
{
	long pages = size / 4096, start = now(), middle;
	char *memory = secret_alloc(size);

	if (!memory)
		return -1;
	middle = now();
	secret_free(memory, size);
	printf("secret-fault-%s %ld\n", name, (middle - start) / pages);
	printf("secret-free-%s %ld\n", name, (now() - middle) / pages);

	return 0;
}

int main(void)
{
	long start, restored = vm_event("direct_map_restore_2m");

	/* The worker must not come in between. */
	if (restore_available())
		write_file(RESTORE_DIR "delay_ms", "3600000");

	if (pairs()) {
		perror("the module that measures set_memory");
		return 1;
	}
	ordinary_faults();
	forks();
	zaps();
	if (secret("first", SIZE) || secret("next", SIZE) ||
	    secret("pool", POOL_SIZE) || secret("again", POOL_SIZE))
		return 1;
	if (!restore_available())
		return 0;

	start = now();
	if (restore_run())
		return 1;
	start = now() - start;
	restored = vm_event("direct_map_restore_2m") - restored;
	printf("restored-2m %ld\n", restored);
	if (restored)
		printf("worker-per-2m %ld\n", start / restored);

	return 0;
}
