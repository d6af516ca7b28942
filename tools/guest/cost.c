// SPDX-License-Identifier: GPL-2.0-only
/*
 * What splits and restores cost, in nanoseconds of CPU time. Under QEMU's
 * -icount shift=0 one nanosecond is one instruction.
 */
#define _GNU_SOURCE
#include <stdio.h>
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

int main(void)
{
	long start, middle, restored = vm_event("direct_map_restore_2m");
	char *secret;
	int round;

	/* The worker must not come in between. */
	if (restore_available())
		write_file(RESTORE_DIR "delay_ms", "3600000");

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
