/* SPDX-License-Identifier: GPL-2.0-only */
/* The direct map as user space can see it, and the knobs of its restore. */
#ifndef DMAP_H
#define DMAP_H

#include <stdbool.h>
#include <stddef.h>

#define PTDUMP		"/sys/kernel/debug/page_tables/kernel"
#define RESTORE_DIR	"/sys/kernel/mm/direct_map_restore/"

enum dmap_level { DMAP_4K, DMAP_2M, DMAP_1G, DMAP_LEVELS };

#define DMAP_ATTRS	32

struct dmap_range {
	unsigned long start, end;
	enum dmap_level level;
	char attrs[DMAP_ATTRS];
};

/*
 * How the direct map is mapped. @kb comes from a walk of the page tables
 * (CONFIG_PTDUMP_DEBUGFS); without one it comes from /proc/meminfo, which is
 * good for differences only, and @nr is 0.
 */
struct dmap {
	unsigned long kb[DMAP_LEVELS];
	unsigned long kb_absent;	/* in page tables, but not present */
	struct dmap_range *ranges;
	size_t nr;
};

int dmap_read(struct dmap *map);
int dmap_read_settled(struct dmap *map);
int dmap_meminfo(struct dmap *map);	/* @kb only */
void dmap_free(struct dmap *map);
/* All that is mapped, but for what is marked to stay mapped by 4K. */
unsigned long dmap_mapped_kb(const struct dmap *map);
bool dmap_no_smaller(const struct dmap *before, const struct dmap *after);
bool dmap_same_attrs(const struct dmap *before, const struct dmap *after);

/* Why nothing can be restored on this machine, or NULL. */
const char *dmap_hopeless(const struct dmap *map);

/* The same, or why it could not be seen. */
const char *dmap_hopeless_to_see(const struct dmap *map);

/* The range that maps @addr, NULL if nothing does. Needs a walk. */
const struct dmap_range *dmap_find(const struct dmap *map, unsigned long addr);

/* How @addr is mapped now: DMAP_LEVELS if it is not. */
enum dmap_level dmap_level_at(unsigned long addr);

/* Value of a line of /proc/vmstat, -1 if there is none. */
long vm_event(const char *name);
long page_tables(void);
bool page_tables_settle(long most);

/* Value of a line of /proc/meminfo, with the colon in @name. */
long meminfo_kb(const char *name);

/* 0, or -errno. */
int write_file(const char *path, const char *text);
int block_set(unsigned long nr, const char *state);	/* of a block of memory */
int read_file(const char *path, char *text, size_t size);
int read_all(const char *path, char *text, size_t size);

bool restore_available(void);
int restore_run(void);

/* How often a range was not restored for @reason, -1 if that is not counted. */
long restore_refusals(const char *reason);

/*
 * Pages whose permissions a test can change, through the file of
 * CONFIG_DIRECT_MAP_TEST; see arch/x86/mm/pat/direct_map_test.c for the
 * commands. Closing frees the pages.
 */
#define PAGES_FILE "/sys/kernel/debug/direct_map_test"

int pages_open(void);
int pages_do(int fd, const char *command, ...);	/* 0, or -errno */
unsigned long pages_addr(int fd);		/* 0 if there are none */
unsigned long pages_phys(int fd);

/*
 * Take @nr pages, aligned, of what @map maps by a 1G page if there is one to be
 * had, else by 2M pages.
 */
int pages_take_large(int fd, const struct dmap *map, int nr);

/*
 * Read the direct map until it is mapped no smaller than @before or @seconds
 * are over; with @run, ask for a pass before each look.
 */
bool dmap_settles(const struct dmap *before, struct dmap *after,
		  unsigned int seconds, bool run);

/* The same without asking for a pass: what is done by itself, if late. */
bool dmap_settles_unasked(const struct dmap *before, struct dmap *after);

/* Secret memory that nobody has touched yet, NULL on error. */
void *secret_map(size_t size);
/* The same, faulted in: its pages leave the direct map. */
void *secret_alloc(size_t size);
void secret_free(void *secret, size_t size);

/* A file descriptor of the smallest BPF program, or -1. */
int load_bpf_program(void);

/* A module without dependencies that is not loaded, and its name; or NULL. */
#define MODULE_ENV "DIRECT_MAP_TEST_MODULE"

const char *test_module(char *name, size_t size);

#endif
