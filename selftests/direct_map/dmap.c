// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "dmap.h"

/* As ptdump names the levels of a leaf. */
static const char * const level_names[DMAP_LEVELS] = { "pte", "pmd", "pud" };

/*
 * A line reads "0xSTART-0xEND  SIZE ATTRIBUTES LEVEL"; one of a range that is
 * not mapped has no attributes.
 */
static bool parse_range(const char *line, struct dmap_range *range)
{
	char size[32], level[8];
	const char *attrs;
	size_t len;
	int used, i;

	if (sscanf(line, "0x%lx-0x%lx %31s%n", &range->start, &range->end,
		   size, &used) != 3)
		return false;

	attrs = line + used;
	len = strcspn(attrs, "\n");
	while (len && attrs[len - 1] == ' ')
		len--;
	if (len < 4 || sscanf(attrs + len - 3, "%7s", level) != 1)
		return false;
	len -= 3;
	while (len && attrs[len - 1] == ' ')
		len--;
	while (len && *attrs == ' ') {
		attrs++;
		len--;
	}
	if (!len || len >= DMAP_ATTRS + 16)
		return false;

	for (i = 0; i < DMAP_LEVELS; i++) {
		if (!strcmp(level, level_names[i]))
			break;
	}
	if (i == DMAP_LEVELS)
		return false;
	range->level = i;

	/* The bit that says "large" is the level again. */
	used = 0;
	for (; len; attrs++, len--) {
		if (len >= 3 && !strncmp(attrs, "PSE", 3)) {
			attrs += 2;
			len -= 2;
			continue;
		}
		if (*attrs == ' ' && used && range->attrs[used - 1] == ' ')
			continue;
		if (used < DMAP_ATTRS - 1)
			range->attrs[used++] = *attrs;
	}
	range->attrs[used] = '\0';

	return true;
}

/* What a line says of 4K pages that are not present. */
static unsigned long absent_kb(const char *line)
{
	unsigned long start, end;
	char size[32], level[8], rest;

	if (sscanf(line, "0x%lx-0x%lx %31s %7s %c", &start, &end, size, level,
		   &rest) != 4 || strcmp(level, "pte"))
		return 0;

	return (end - start) / 1024;
}

static int read_walk(struct dmap *map)
{
	FILE *file = fopen(PTDUMP, "r");
	struct dmap_range range;
	bool inside = false;
	char line[256];
	size_t room = 0;

	if (!file)
		return -errno;

	while (fgets(line, sizeof(line), file)) {
		if (!strncmp(line, "---[", 4)) {
			inside = strstr(line, "Low Kernel Mapping");
			continue;
		}
		if (inside)
			map->kb_absent += absent_kb(line);
		if (!inside || !parse_range(line, &range))
			continue;
		if (map->nr == room) {
			struct dmap_range *more;

			room = room ? 2 * room : 256;
			more = realloc(map->ranges, room * sizeof(*more));
			if (!more) {
				fclose(file);
				return -ENOMEM;
			}
			map->ranges = more;
		}
		map->ranges[map->nr++] = range;
		map->kb[range.level] += (range.end - range.start) / 1024;
	}
	fclose(file);

	return map->nr ? 0 : -ENODATA;
}

int dmap_meminfo(struct dmap *map)
{
	static const char * const names[DMAP_LEVELS] = {
		"DirectMap4k: %lu", "DirectMap2M: %lu", "DirectMap1G: %lu",
	};
	FILE *file = fopen("/proc/meminfo", "r");
	int i, found = 0;
	char line[256];

	if (!file)
		return -errno;

	while (fgets(line, sizeof(line), file)) {
		for (i = 0; i < DMAP_LEVELS; i++)
			found += sscanf(line, names[i], &map->kb[i]) == 1;
	}
	fclose(file);

	return found ? 0 : -ENODATA;
}

/* Returns 0, or -errno with nothing to free. */
int dmap_read(struct dmap *map)
{
	int err;

	memset(map, 0, sizeof(*map));
	err = read_walk(map);
	if (!err)
		return 0;

	dmap_free(map);
	return dmap_meminfo(map);
}

/*
 * Marked to stay mapped by 4K: its owner may change it at any time, as KFENCE
 * does, and nobody else's doing is seen there.
 */
static bool has_owner(const struct dmap_range *range)
{
	return range->level == DMAP_4K && strstr(range->attrs, "4K");
}

static size_t skip_owned(const struct dmap *map, size_t i)
{
	while (i < map->nr && has_owner(&map->ranges[i]))
		i++;

	return i;
}

unsigned long dmap_mapped_kb(const struct dmap *map)
{
	unsigned long kb = 0;
	size_t i;

	for (i = skip_owned(map, 0); i < map->nr; i = skip_owned(map, i + 1))
		kb += (map->ranges[i].end - map->ranges[i].start) / 1024;

	return kb;
}

static bool equal(const struct dmap *a, const struct dmap *b)
{
	size_t i = skip_owned(a, 0), j = skip_owned(b, 0);

	while (i < a->nr && j < b->nr) {
		const struct dmap_range *x = &a->ranges[i], *y = &b->ranges[j];

		if (x->start != y->start || x->end != y->end ||
		    x->level != y->level || strcmp(x->attrs, y->attrs))
			return false;
		i = skip_owned(a, i + 1);
		j = skip_owned(b, j + 1);
	}

	return i == a->nr && j == b->nr;
}

/*
 * What ran before may still be at it: programs and modules go by RCU and works
 * of their own.
 */
int dmap_read_settled(struct dmap *map)
{
	time_t end = time(NULL) + 20;
	struct dmap again;
	bool same;
	int err;

	err = dmap_read(map);
	while (!err && time(NULL) < end) {
		sleep(1);
		if (restore_available())
			restore_run();
		err = dmap_read(&again);
		if (err)
			break;
		same = equal(map, &again);
		dmap_free(map);
		*map = again;
		if (same)
			break;
	}

	return err;
}

void dmap_free(struct dmap *map)
{
	free(map->ranges);
	memset(map, 0, sizeof(*map));
}

/* Set while a disagreement is no news. */
static bool quiet;

/* Ranges of both maps that overlap, in order of address. */
static bool each_overlap(const struct dmap *before, const struct dmap *after,
			 bool (*agree)(const struct dmap_range *,
				       const struct dmap_range *))
{
	size_t i = 0, j = 0;
	unsigned long pos;

	for (i = skip_owned(before, 0); i < before->nr;
	     i = skip_owned(before, i + 1)) {
		const struct dmap_range *old = &before->ranges[i];

		for (pos = old->start; pos < old->end; pos = after->ranges[j].end) {
			while (j < after->nr && after->ranges[j].end <= pos)
				j++;
			if (j == after->nr || after->ranges[j].start > pos) {
				if (!quiet)
					printf("# %#lx was mapped and is not\n", pos);
				return false;
			}
			if (!agree(old, &after->ranges[j])) {
				if (!quiet)
					printf("# %#lx was %s %s, is %s %s\n", pos,
					       level_names[old->level], old->attrs,
					       level_names[after->ranges[j].level],
					       after->ranges[j].attrs);
				return false;
			}
		}
	}

	return true;
}

/*
 * What was read-only as a whole, the alias of a cache of text for instance, has
 * an owner who may have split it; it stays split as long as it is read-only.
 */
static bool not_smaller(const struct dmap_range *old,
			const struct dmap_range *new)
{
	return new->level >= old->level || !strstr(old->attrs, "RW");
}

static bool same_attrs(const struct dmap_range *old,
		       const struct dmap_range *new)
{
	return !strcmp(old->attrs, new->attrs);
}

bool dmap_no_smaller(const struct dmap *before, const struct dmap *after)
{
	if (before->nr && after->nr)
		return each_overlap(before, after, not_smaller);

	return after->kb[DMAP_4K] <= before->kb[DMAP_4K] &&
	       after->kb[DMAP_1G] >= before->kb[DMAP_1G];
}

bool dmap_same_attrs(const struct dmap *before, const struct dmap *after)
{
	return each_overlap(before, after, same_attrs);
}

const struct dmap_range *dmap_find(const struct dmap *map, unsigned long addr)
{
	size_t i;

	for (i = 0; i < map->nr; i++) {
		if (map->ranges[i].start <= addr && addr < map->ranges[i].end)
			return &map->ranges[i];
	}

	return NULL;
}

enum dmap_level dmap_level_at(unsigned long addr)
{
	enum dmap_level level = DMAP_LEVELS;
	const struct dmap_range *range;
	struct dmap map;

	if (dmap_read(&map))
		return level;
	range = dmap_find(&map, addr);
	if (range)
		level = range->level;
	dmap_free(&map);

	return level;
}

/* With debug_pagealloc there are none. */
static bool dmap_has_large_pages(const struct dmap *map)
{
	return map->kb[DMAP_2M] + map->kb[DMAP_1G] > map->kb[DMAP_4K];
}

const char *dmap_hopeless_to_see(const struct dmap *map)
{
	if (!map->nr)
		return "needs CONFIG_PTDUMP_DEBUGFS and debugfs mounted";

	return dmap_hopeless(map);
}

/* The number after @name in a file of lines "NAME NUMBER ...", or -1. */
static long named_number(const char *path, const char *name)
{
	FILE *file = fopen(path, "r");
	char key[64];
	long value, ret = -1;

	if (!file)
		return -1;

	while (fscanf(file, "%63s %ld%*[^\n]", key, &value) == 2) {
		if (!strcmp(key, name)) {
			ret = value;
			break;
		}
	}
	fclose(file);

	return ret;
}

const char *dmap_hopeless(const struct dmap *map)
{
	char enabled[16];

	if (!dmap_has_large_pages(map))
		return "the direct map has no large pages: debug_pagealloc?";

	if (!read_file(RESTORE_DIR "enabled", enabled, sizeof(enabled)) &&
	    *enabled == '0' &&
	    write_file(RESTORE_DIR "enabled", "1") == -EOPNOTSUPP)
		return "restore is off for the whole system";

	return NULL;
}

long vm_event(const char *name)
{
	return named_number("/proc/vmstat", name);
}

/*
 * Each CPU keeps part of the count to itself, and a table is counted until it
 * is freed, a grace period after it was taken out of use.
 */
long page_tables(void)
{
	write_file("/proc/sys/vm/stat_refresh", "1");

	return vm_event("nr_page_table_pages");
}

bool page_tables_settle(long most)
{
	int tries = 300;

	while (page_tables() > most) {
		if (!tries--) {
			printf("# page tables: %ld, at most %ld expected\n",
			       page_tables(), most);
			return false;
		}
		usleep(100000);
	}

	return true;
}

long meminfo_kb(const char *name)
{
	return named_number("/proc/meminfo", name);
}

long restore_refusals(const char *reason)
{
	return named_number("/sys/kernel/debug/direct_map_restore/refusals",
			    reason);
}

int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		err = -errno;
	close(fd);

	return err;
}

int block_set(unsigned long nr, const char *state)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/devices/system/memory/memory%lu/state", nr);

	return write_file(path, state);
}

int read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t len;

	if (fd < 0)
		return -errno;
	len = read(fd, text, size - 1);
	close(fd);
	if (len < 0)
		return -errno;
	text[len] = '\0';

	return 0;
}

/* A file that takes more than one read; what does not fit is dropped. */
int read_all(const char *path, char *text, size_t size)
{
	FILE *file = fopen(path, "r");
	size_t len;

	if (!file)
		return -errno;
	len = fread(text, 1, size - 1, file);
	text[len] = '\0';
	fclose(file);

	return 0;
}

bool restore_available(void)
{
	return !access(RESTORE_DIR "run", F_OK);
}

int restore_run(void)
{
	return write_file(RESTORE_DIR "run", "1");
}

int pages_open(void)
{
	return open(PAGES_FILE, O_RDWR | O_CLOEXEC);
}

int pages_do(int fd, const char *command, ...)
{
	char line[64];
	va_list args;
	int len;

	va_start(args, command);
	len = vsnprintf(line, sizeof(line), command, args);
	va_end(args);

	return write(fd, line, len) == len ? 0 : -errno;
}

static bool pages_where(int fd, unsigned long *addr, unsigned long *pfn)
{
	char line[64] = "";

	return pread(fd, line, sizeof(line) - 1, 0) > 0 &&
	       sscanf(line, "%lx %lx", addr, pfn) == 2;
}

unsigned long pages_addr(int fd)
{
	unsigned long addr, pfn;

	return pages_where(fd, &addr, &pfn) ? addr : 0;
}

unsigned long pages_phys(int fd)
{
	unsigned long addr, pfn;

	return pages_where(fd, &addr, &pfn) ? pfn * getpagesize() : 0;
}

/* What lies between a physical address and its place in the direct map. */
static int direct_map_offset(int fd, unsigned long *offset)
{
	int err = pages_do(fd, "alloc 1");

	if (err)
		return err;
	*offset = pages_addr(fd) - pages_phys(fd);

	return pages_do(fd, "free");
}

/* Take @nr pages, aligned, that @map maps by @level. */
static int pages_take(int fd, const struct dmap *map, enum dmap_level level,
		      int nr)
{
	unsigned long size = (unsigned long)nr * getpagesize();
	unsigned long offset;
	size_t i = map->nr;
	int err = direct_map_offset(fd, &offset);

	if (err)
		return err;

	/* From the end: what boot allocated lies at the beginning. */
	while (i--) {
		const struct dmap_range *range = &map->ranges[i];
		unsigned long addr = range->end;

		if (range->level != level)
			continue;
		while (addr >= range->start + size) {
			addr -= size;
			if (!pages_do(fd, "take %#lx %d",
				      (addr - offset) / getpagesize(), nr))
				return 0;
		}
	}

	return -ENOMEM;
}

int pages_take_large(int fd, const struct dmap *map, int nr)
{
	if (!pages_take(fd, map, DMAP_1G, nr))
		return 0;

	return pages_take(fd, map, DMAP_2M, nr);
}

bool dmap_settles(const struct dmap *before, struct dmap *after,
		  unsigned int seconds, bool run)
{
	unsigned int tries = seconds * 2;

	for (;;) {
		bool settled;
		int err = run ? restore_run() : 0;

		if (!err)
			err = dmap_read(after);
		if (err) {
			printf("# a run, or reading the page tables: %s\n",
			       strerror(-err));
			return false;
		}
		/* What it waits for, every twenty seconds. */
		quiet = tries && (tries % 40 || tries == seconds * 2);
		settled = dmap_no_smaller(before, after);
		quiet = false;
		if (settled)
			return true;
		if (!tries--)
			return false;
		dmap_free(after);
		usleep(500000);
	}
}

/*
 * What earlier tests split and gave back again and again waits up to 256 delays
 * of a second.
 */
#define UNASKED_SECONDS		320

bool dmap_settles_unasked(const struct dmap *before, struct dmap *after)
{
	return dmap_settles(before, after, UNASKED_SECONDS, false);
}

/* Secret memory is charged as locked memory, to root too. */
static void lift_memlock_limit(void)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

	setrlimit(RLIMIT_MEMLOCK, &limit);
}

void *secret_map(size_t size)
{
	void *secret;
	int fd;

	lift_memlock_limit();
	fd = syscall(__NR_memfd_secret, 0);
	if (fd < 0)
		return NULL;
	if (ftruncate(fd, size)) {
		close(fd);
		return NULL;
	}
	secret = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);

	return secret == MAP_FAILED ? NULL : secret;
}

void *secret_alloc(size_t size)
{
	char *secret = secret_map(size);
	size_t i;

	for (i = 0; secret && i < size; i += getpagesize())
		*(size_t *)(secret + i) = ~i;

	return secret;
}

void secret_free(void *secret, size_t size)
{
	munmap(secret, size);
}

int load_bpf_program(void)
{
	static const struct bpf_insn insns[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr = {
		.prog_type = BPF_PROG_TYPE_SOCKET_FILTER,
		.insns = (unsigned long)insns,
		.insn_cnt = sizeof(insns) / sizeof(*insns),
		.license = (unsigned long)"GPL",
	};

	return syscall(__NR_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
}

const char *test_module(char *name, size_t size)
{
	const char *path = getenv(MODULE_ENV), *base;

	if (!path)
		return NULL;
	base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	snprintf(name, size, "%.*s", (int)strcspn(base, "."), base);

	return path;
}
