// SPDX-License-Identifier: GPL-2.0-only
/*
 * The demonstration of "make run": let user space fragment the direct map,
 * free everything, and say at each step how the direct map is mapped.
 *
 * Prints a line a step: step 4K 2M 1G (kB mapped by each), splits and
 * collapses since boot. With the argument "dump" the page tables of the direct
 * map follow it, between "dump STEP" and "end of dump".
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "dmap.h"

#define MB	(1UL << 20)

/* Ordinary memory between the secret pages spreads them over the machine. */
#define STRIDE	(64 * MB)
#define STRIDES	48
#define SECRET	(MB / 2)
#define LUMP	(16 * MB)

#define PTDUMP	"/sys/kernel/debug/page_tables/kernel"

static bool want_dump;

/* The section of the direct map, and the line that ends it. */
static int dump(const char *step)
{
	FILE *file = fopen(PTDUMP, "r");
	char line[256], before[256] = "";
	bool inside = false, ended = false;

	if (!file) {
		printf("error: can't read " PTDUMP "\n");
		return 1;
	}
	printf("dump %s\n", step);
	while (!ended && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, "---[", 4)) {
			ended = inside;
			inside = inside || strstr(line, "Low Kernel Mapping");
			/* The section's first range may stand before its name. */
			if (inside && !ended)
				fputs(before, stdout);
		}
		if (inside)
			fputs(line, stdout);
		else
			strcpy(before, line);
	}
	fclose(file);
	if (ended)
		printf("end of dump\n");

	return !ended;
}

static int show(const char *step)
{
	struct dmap map;

	if (dmap_read(&map)) {
		printf("error: can't read the direct map\n");
		return 1;
	}
	printf("step %s %lu %lu %lu %ld %ld\n", step, map.kb[DMAP_4K],
	       map.kb[DMAP_2M], map.kb[DMAP_1G],
	       vm_event("direct_map_level2_splits") +
	       vm_event("direct_map_level3_splits"),
	       vm_event("direct_map_level2_collapses") +
	       vm_event("direct_map_level3_collapses"));
	dmap_free(&map);

	return want_dump ? dump(step) : 0;
}

static void *ordinary_alloc(void)
{
	char *memory = mmap(NULL, STRIDE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t pos;

	if (memory == MAP_FAILED)
		return NULL;
	madvise(memory, STRIDE, MADV_HUGEPAGE);
	for (pos = 0; pos < STRIDE; pos += getpagesize())
		memory[pos] = 1;

	return memory;
}

int main(int argc, char **argv)
{
	void *ordinary[STRIDES], *secret[STRIDES], *lump;
	int i, err;

	want_dump = argc > 1 && !strcmp(argv[1], "dump");
	setvbuf(stdout, NULL, _IOLBF, 0);

	if (restore_available())
		restore_run();
	err = show("at-boot");

	lump = secret_alloc(LUMP);
	for (i = 0; i < STRIDES; i++) {
		ordinary[i] = ordinary_alloc();
		secret[i] = secret_alloc(SECRET);
		if (!ordinary[i] || !secret[i] || !lump) {
			printf("error: out of memory, or no memfd_secret\n");
			return 1;
		}
	}
	err |= show("fragmented");

	secret_free(lump, LUMP);
	for (i = 0; i < STRIDES; i++) {
		secret_free(secret[i], SECRET);
		munmap(ordinary[i], STRIDE);
	}
	/* What restores by itself gets its time, on either kernel. */
	sleep(3);
	if (restore_available())
		restore_run();
	err |= show("freed");

	return err;
}
