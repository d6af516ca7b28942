// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/loop.h>

#include "exclusive.h"

static void *map_at(void *where, size_t size, int flags)
{
	void *map = mmap(where, size, READ_WRITE, flags | MAP_ANONYMOUS, -1, 0);

	return map == MAP_FAILED ? NULL : map;
}

void *exclusive_map(size_t size)
{
	return map_at(NULL, size, MAP_EXCLUSIVE);
}

void *ordinary_map(size_t size)
{
	void *map = map_at(NULL, size, MAP_PRIVATE);

	/* Whatever the system's policy: page by page. */
	if (map)
		madvise(map, size, MADV_NOHUGEPAGE);

	return map;
}

void *exclusive_map_at(void *where, size_t size)
{
	return map_at(where, size, MAP_EXCLUSIVE | MAP_FIXED);
}

void *ordinary_map_at(void *where, size_t size)
{
	return map_at(where, size, MAP_PRIVATE | MAP_FIXED);
}

const char *no_exclusive(void)
{
	void *map = exclusive_map(PAGE);

	if (map) {
		munmap(map, PAGE);
		return NULL;
	}
	if (errno == EOPNOTSUPP)
		return "no MAP_EXCLUSIVE: exclusive_memory.enable=0, or a fixed direct map";

	return "no MAP_EXCLUSIVE: needs CONFIG_EXCLUSIVE_MEMORY";
}

/* Each CPU keeps part of the count to itself. */
long exclusive_pages(void)
{
	write_file("/proc/sys/vm/stat_refresh", "1");

	return vm_event("nr_exclusive");
}

bool exclusive_settles(long pages)
{
	int tries = 100;

	while (exclusive_pages() != pages) {
		if (!tries--) {
			printf("# %ld exclusive pages, %ld expected\n",
			       exclusive_pages(), pages);
			return false;
		}
		usleep(100000);
	}

	return true;
}

#define WORDS	(PAGE / sizeof(unsigned long))

void fill(void *start, size_t size, unsigned long seed)
{
	unsigned long *words = start;
	size_t i;

	for (i = 0; i < size / sizeof(*words); i++)
		words[i] = seed + i;
}

bool holds(const void *start, size_t size, unsigned long seed)
{
	const unsigned long *words = start;
	size_t i;

	for (i = 0; i < size / sizeof(*words); i++) {
		if (words[i] != seed + i)
			return false;
	}

	return true;
}

long count_filled(const void *data, size_t size, unsigned long seed)
{
	const unsigned long *words = data;
	size_t i, n;
	long found = 0;

	for (i = 0; i + WORDS <= size / sizeof(*words); i++) {
		size_t first = words[i] - seed;

		/* The first word of a page, by its number. */
		if (first % WORDS || first >= size / sizeof(*words))
			continue;
		for (n = 0; n < WORDS; n++) {
			if (words[i + n] != seed + first + n)
				break;
		}
		found += n == WORDS;
	}

	return found;
}

void fill_pattern(void *start, size_t size)
{
	unsigned long *words = start;
	size_t i;

	for (i = 0; i < size / sizeof(*words); i++)
		words[i] = PATTERN;
}

static __thread sigjmp_buf fault;
static __thread int expected;

static void on_fault(int nr)
{
	if (__atomic_load_n(&expected, __ATOMIC_RELAXED))
		siglongjmp(fault, nr);
	/* A fault that nobody asked for: the same again, and the end. */
	signal(nr, SIG_DFL);
}

/* For all threads, and so for good. */
static void catch_faults(void)
{
	struct sigaction action = { .sa_handler = on_fault };
	static bool caught;

	if (caught)
		return;
	caught = true;
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}

static void expect_fault(bool expect)
{
	__atomic_store_n(&expected, expect, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

int signal_of_read(const void *at)
{
	int nr;

	catch_faults();
	expect_fault(true);
	nr = sigsetjmp(fault, 1);
	if (!nr)
		get_long(at);
	expect_fault(false);

	return nr;
}

int signal_of_write(void *at, long value)
{
	int nr;

	catch_faults();
	expect_fault(true);
	nr = sigsetjmp(fault, 1);
	if (!nr)
		put_long(at, value);
	expect_fault(false);

	return nr;
}

void pfns_of(const void *start, long nr, unsigned long *pfns)
{
	long i;

	for (i = 0; i < nr; i++)
		pfns[i] = pfn_of((const char *)start + i * PAGE);
}

long pfns_differ(const void *start, long nr, const unsigned long *pfns)
{
	long i, differ = 0;

	for (i = 0; i < nr; i++)
		differ += pfn_of((const char *)start + i * PAGE) != pfns[i];

	return differ;
}

bool is_swapped(const void *page)
{
	int fd = open("/proc/self/pagemap", O_RDONLY);
	uint64_t entry = 0;

	if (fd < 0)
		return false;
	if (pread(fd, &entry, sizeof(entry),
		  (uintptr_t)page / PAGE * sizeof(entry)) != sizeof(entry))
		entry = 0;
	close(fd);

	return entry >> 62 & 1;
}

/* The line of smaps of the mapping at @at that begins with @name, or "". */
static void smaps_line(const void *at, const char *name, char *line, size_t size)
{
	FILE *file = fopen("/proc/self/smaps", "r");
	unsigned long start, end;
	bool inside = false;

	*line = '\0';
	if (!file)
		return;
	while (fgets(line, size, file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = start <= (unsigned long)at && (unsigned long)at < end;
		else if (inside && !strncmp(line, name, strlen(name)))
			break;
		*line = '\0';
	}
	fclose(file);
}

long smaps_kb(const void *at, const char *name)
{
	char line[256];

	smaps_line(at, name, line, sizeof(line));

	return *line ? atol(line + strlen(name)) : -1;
}

bool smaps_flag(const void *at, const char *flag)
{
	char line[256], word[8];

	smaps_line(at, "VmFlags:", line, sizeof(line));
	snprintf(word, sizeof(word), " %s", flag);

	return strstr(line, word);
}

long status_kb(const char *name)
{
	FILE *file = fopen("/proc/self/status", "r");
	char line[256];
	long kb = -1;

	while (file && kb < 0 && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, name, strlen(name)))
			kb = atol(line + strlen(name));
	}
	if (file)
		fclose(file);

	return kb;
}

/* The child's ends. */
static int told_by, tell;

bool child_start(struct child *child, int (*run)(void *), void *arg)
{
	int to[2], from[2];

	if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC))
		return false;
	fflush(stdout);
	child->pid = fork();
	if (!child->pid) {
		close(to[1]);
		close(from[0]);
		told_by = to[0];
		tell = from[1];
		_exit(run(arg));
	}
	close(to[0]);
	close(from[1]);
	child->to = to[1];
	child->from = from[0];

	return child->pid > 0;
}

void child_wait(void)
{
	char c = 'w';

	/* Without a parent there is nothing to go on for. */
	if (write(tell, &c, 1) != 1 || read(told_by, &c, 1) != 1)
		_exit(99);
}

bool child_waits(struct child *child)
{
	char c;

	return read(child->from, &c, 1) == 1;
}

void child_go_on(struct child *child)
{
	if (write(child->to, "g", 1) != 1)
		printf("# a child is gone\n");
}

static int status_of(int status)
{
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

int child_end(struct child *child)
{
	int status;

	if (waitpid(child->pid, &status, 0) != child->pid)
		return -1000;
	close(child->to);
	close(child->from);

	return status_of(status);
}

void child_kill(struct child *child)
{
	kill(child->pid, SIGKILL);
	child_end(child);
}

int in_child(int (*run)(void *), void *arg)
{
	struct child child;

	return child_start(&child, run, arg) ? child_end(&child) : -1000;
}

int become_user(uid_t uid, size_t limit)
{
	struct rlimit rlimit = { limit, limit };

	if (setrlimit(RLIMIT_MEMLOCK, &rlimit) || setresuid(uid, uid, uid))
		return -errno;

	return 0;
}

int group_set(struct group *group, const char *file, size_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%zu", value);

	return group_write(group, file, text);
}

long group_value(struct group *group, const char *file)
{
	char path[128], text[32];

	snprintf(path, sizeof(path), "%s/%s", group->path, file);

	return read_file(path, text, sizeof(text)) ? -1 : atol(text);
}

long group_event(struct group *group, const char *name)
{
	char path[128], text[1024], *at = text;
	size_t len = strlen(name);

	snprintf(path, sizeof(path), "%s/memory.events", group->path);
	if (read_file(path, text, sizeof(text)))
		return -1;
	while (at && (strncmp(at, name, len) || at[len] != ' ')) {
		at = strchr(at, '\n');
		at = at ? at + 1 : NULL;
	}

	return at ? atol(at + len) : -1;
}

static int loop_device(int backing)
{
	struct loop_config config = {
		.fd = backing,
		.info = { .lo_flags = LO_FLAGS_AUTOCLEAR },
	};
	int control = open("/dev/loop-control", O_RDWR), nr, fd;
	char path[32];

	if (control < 0)
		return -1;
	nr = ioctl(control, LOOP_CTL_GET_FREE);
	close(control);
	snprintf(path, sizeof(path), "/dev/loop%d", nr);
	fd = nr < 0 ? -1 : open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config)) {
		close(fd);
		fd = -1;
	}

	return fd;
}

/* Another may have taken the device that was free. */
int direct_device(size_t size)
{
	int backing = memfd_create("exclusive", MFD_CLOEXEC), fd = -1, tries;

	if (backing >= 0 && !ftruncate(backing, size)) {
		for (tries = 0; fd < 0 && tries < 10; tries++)
			fd = loop_device(backing);
	}
	close(backing);

	return fd;
}

bool have_swap(void)
{
	return meminfo_kb("SwapFree:") > 256 * 1024;
}
