// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool.h"

#define PIPE_SIZE	(16 * PAGE)
/* A pipe keeps two pages that were read for itself. */
#define READ_SIZE	(4 * PAGE)

#define HEAD		"Number of blocks type"

/* The sum of a column of the second table of /proc/pagetypeinfo. */
long blocks(void)
{
	FILE *file = fopen("/proc/pagetypeinfo", "r");
	char line[512];
	bool all_blocks = false;
	int column = 0;
	long sum = -1;

	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file)) {
		char *word, *rest = NULL;
		int i = 0;

		if (!strncmp(line, HEAD, strlen(HEAD))) {
			for (word = strtok_r(line + strlen(HEAD), "\n ", &rest); word;
			     word = strtok_r(NULL, "\n ", &rest)) {
				i++;
				if (!strcmp(word, "PteMapped"))
					column = i;
			}
			if (!column)
				break;
			/* There is such a line for each node. */
			if (sum < 0)
				sum = 0;
			all_blocks = true;
			continue;
		}
		/* With page_owner, those with pages of others come after them. */
		if (!strncmp(line, "Number of", 9))
			all_blocks = false;
		if (!all_blocks || strncmp(line, "Node", 4))
			continue;
		word = strstr(line, "zone");
		/* Free pages by type stand above the blocks of each node. */
		if (!word || strstr(word, "type"))
			continue;
		/* Behind "zone NAME". */
		strtok_r(word, "\n ", &rest);
		strtok_r(NULL, "\n ", &rest);
		for (i = 1; (word = strtok_r(NULL, "\n ", &rest)); i++) {
			if (i == column)
				sum += atol(word);
		}
	}
	fclose(file);

	return sum;
}

bool blocks_go(unsigned int seconds)
{
	unsigned int i;

	for (i = 0; blocks() > 0; i++) {
		if (i == seconds * 10)
			return false;
		usleep(100000);
	}

	return true;
}

bool pool_empties(unsigned int seconds)
{
	unsigned int i;

	for (i = 0; meminfo_kb("NoDirectMap:") > 0; i++) {
		if (i == seconds * 10)
			return false;
		usleep(100000);
	}

	return true;
}

long splits(void)
{
	return vm_event("direct_map_level2_splits") +
	       vm_event("direct_map_level3_splits");
}

long flush_interrupts(void)
{
	FILE *file = fopen("/proc/interrupts", "r");
	char line[4096], *at, *end;
	long sum = 0;

	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file)) {
		/* Of user space's addresses, and of the kernel's. */
		at = strstr(line, "TLB:") ?: strstr(line, "CAL:");
		if (!at)
			continue;
		at += 4;
		for (;;) {
			long nr = strtol(at, &end, 10);

			if (end == at)
				break;
			sum += nr;
			at = end;
		}
	}
	fclose(file);

	return sysconf(_SC_NPROCESSORS_ONLN) > 1 ? sum : -1;
}

static uint64_t pagemap_entry(int fd, const void *page)
{
	uint64_t entry;

	if (pread(fd, &entry, sizeof(entry),
		  (uintptr_t)page / PAGE * sizeof(entry)) != sizeof(entry))
		return 0;

	return entry;
}

unsigned long pfn_of(const void *page)
{
	int fd = open("/proc/self/pagemap", O_RDONLY), tries = 500;
	uint64_t entry = 0;

	if (fd < 0)
		return 0;
	while (!((entry = pagemap_entry(fd, page)) >> 63) && tries--)
		usleep(1000);
	close(fd);

	return entry >> 63 ? entry & ((1ULL << 55) - 1) : 0;
}

int held_open(void)
{
	int fd = open(HELD_FILE, O_RDWR);

	return fd < 0 ? -errno : fd;
}

int held_do(int fd, const char *command, ...)
{
	char line[64];
	va_list args;
	int len;

	va_start(args, command);
	len = vsnprintf(line, sizeof(line), command, args);
	va_end(args);

	return write(fd, line, len) == len ? 0 : -errno;
}

int held_peek(int fd, const void *page)
{
	unsigned long pfn = pfn_of(page);

	return pfn ? held_do(fd, "peek %#lx", pfn) : -ENXIO;
}

long held_read(int fd, struct held_page **pages)
{
	struct held_page page, *more;
	char line[128];
	long nr = 0, room = 0;
	FILE *file;

	*pages = NULL;
	/* Another open would hold pages of its own. */
	fd = dup(fd);
	file = fd < 0 || lseek(fd, 0, SEEK_SET) ? NULL : fdopen(fd, "r");
	if (!file) {
		close(fd);
		return -1;
	}
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx %u %d %c", &page.pfn, &page.order,
			   &page.node, &page.type) != 4)
			continue;
		if (nr == room) {
			room = room ? 2 * room : 1024;
			more = realloc(*pages, room * sizeof(page));
			if (!more)
				break;
			*pages = more;
		}
		(*pages)[nr++] = page;
	}
	fclose(file);

	return nr;
}

static int read_at(int fd, unsigned long offset, void *to, size_t size)
{
	return pread(fd, to, size, offset) == (ssize_t)size ? 0 : -EIO;
}

int read_kcore(unsigned long pfn, void *page)
{
	int fd = open("/proc/kcore", O_RDONLY), i, err = -ENOENT;
	unsigned long phys = pfn * PAGE;
	Elf64_Ehdr head;
	Elf64_Phdr part;

	if (fd < 0)
		return -errno;
	if (read_at(fd, 0, &head, sizeof(head)))
		head.e_phnum = 0;
	for (i = 0; i < head.e_phnum; i++) {
		if (read_at(fd, head.e_phoff + i * sizeof(part), &part,
			    sizeof(part)))
			break;
		if (part.p_type != PT_LOAD || part.p_paddr == ~(Elf64_Addr)0 ||
		    phys < part.p_paddr || phys - part.p_paddr >= part.p_filesz)
			continue;
		err = read_at(fd, part.p_offset + phys - part.p_paddr, page, PAGE);
		break;
	}
	close(fd);

	return err;
}

static int fill_pipe(int fd)
{
	static char data[PIPE_SIZE];

	if (fcntl(fd, F_SETFL, O_NONBLOCK))
		return -errno;

	return write(fd, data, sizeof(data)) == sizeof(data) ? 0 : -ENOSPC;
}

int pipes_fill(struct pipes *pipes, size_t size, int nth)
{
	size_t half = meminfo_kb("MemAvailable:") * 1024 / 2;
	int most = (size < half ? size : half) / PIPE_SIZE, i, err;
	struct rlimit limit = { 2 * most + 1024, 2 * most + 1024 };
	static char data[READ_SIZE];

	if (setrlimit(RLIMIT_NOFILE, &limit))
		return -errno;
	pipes->nr = 0;
	pipes->fds = calloc(most, sizeof(*pipes->fds));
	if (!pipes->fds)
		return -ENOMEM;
	while (pipes->nr < most) {
		if (pipe(pipes->fds[pipes->nr]))
			return -errno;
		err = fill_pipe(pipes->fds[pipes->nr++][1]);
		if (err)
			return err;
	}
	for (i = 0; i < most; i += nth) {
		if (read(pipes->fds[i][0], data, sizeof(data)) != sizeof(data))
			return -EIO;
	}

	return 0;
}

void pipes_close(struct pipes *pipes)
{
	while (pipes->nr--) {
		close(pipes->fds[pipes->nr][0]);
		close(pipes->fds[pipes->nr][1]);
	}
	free(pipes->fds);
	pipes->fds = NULL;
	pipes->nr = 0;
}

const char *group_make(struct group *group, const char *file)
{
	static char missing[64];
	char path[128];

	mkdir("/tmp", 01777);
	strcpy(group->mount, "/tmp/cgroups.XXXXXX");
	if (!mkdtemp(group->mount))
		return "no folder below /tmp";
	if (mount("cgroups", group->mount, "cgroup2", 0, NULL)) {
		rmdir(group->mount);
		*group->mount = '\0';
		return "no cgroups: needs CONFIG_CGROUPS";
	}
	snprintf(path, sizeof(path), "%s/cgroup.subtree_control", group->mount);
	snprintf(missing, sizeof(missing), "+%.*s", (int)strcspn(file, "."), file);
	write_file(path, missing);
	snprintf(group->path, sizeof(group->path), "%s/test", group->mount);
	mkdir(group->path, 0755);
	snprintf(path, sizeof(path), "%s/%s", group->path, file);
	if (access(path, W_OK)) {
		group_remove(group);
		snprintf(missing, sizeof(missing), "cgroups have no %s here", file);
		return missing;
	}

	return NULL;
}

int group_write(struct group *group, const char *file, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", group->path, file);

	return write_file(path, text);
}

int group_enter(struct group *group)
{
	return group_write(group, "cgroup.procs", "0");
}

void group_leave(struct group *group)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/cgroup.procs", group->mount);
	write_file(path, "0");
}

void group_remove(struct group *group)
{
	int tries = 50;

	if (!*group->mount)
		return;
	group_leave(group);
	/* Who exited may be in it for a moment longer. */
	while (rmdir(group->path) && errno == EBUSY && tries--)
		usleep(100000);
	umount2(group->mount, MNT_DETACH);
	rmdir(group->mount);
	*group->mount = '\0';
}

bool is_zero(const void *start, size_t size)
{
	const unsigned long *words = start;
	size_t i;

	for (i = 0; i < size / sizeof(*words); i++) {
		if (words[i])
			return false;
	}

	return true;
}
