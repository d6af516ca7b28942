// SPDX-License-Identifier: GPL-2.0-only
/*
 * What splits and restores cost, in nanoseconds of CPU time. Under QEMU's
 * -icount shift=0 one nanosecond is one instruction.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "dmap.h"

#define SIZE	(256UL << 20)
#define PAGES	(SIZE / 4096)

/* Of this thread: a pass sleeps between batches. */
static long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return time.tv_sec * 1000000000L + time.tv_nsec;
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

	return 0;
}

int main(void)
{
	long start, middle, restored = vm_event("direct_map_restore_2m");
	char *secret;
	int round;

	/* The worker must not come in between. */
	if (restore_available())
		write_file(RESTORE_DIR "delay_ms", "3600000");

	if (pairs()) {
		perror("the module that measures set_memory");
		return 1;
	}
	ordinary_faults();
	for (round = 0; round < 2; round++) {
		start = now();
		secret = secret_alloc(SIZE);
		middle = now();
		if (!secret)
			return 1;
		secret_free(secret, SIZE);
		printf("secret-fault-%d %ld\n", round, (middle - start) / (long)PAGES);
		printf("secret-free-%d %ld\n", round, (now() - middle) / (long)PAGES);
	}
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
