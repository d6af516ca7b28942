// SPDX-License-Identifier: GPL-2.0-only
/*
 * "make stress": stress-ng beside modules and BPF programs that come and go,
 * memory that goes off- and online, and passes that are asked for. Then
 * everything has to be as before: how the direct map is mapped, what the
 * series counts, memory that is available; and kmemleak has nothing to say.
 *
 * usage: stress COMMAND [ARGUMENT]...	(what runs stress-ng)
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <glob.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dmap.h"

#define MEMORY		"/sys/devices/system/memory/"
#define KMEMLEAK	"/sys/kernel/debug/kmemleak"
#define PT_RECLAIM	"/sys/kernel/mm/pt_reclaim/run"
/* What per-cpu lists, slabs and caches keep may differ by so much. */
#define TOLERANCE_KB	(96 * 1024)

static atomic_bool over;
static atomic_long modules, programs, blocks, passes;

static void *load_modules(void *unused)
{
	char name[64];
	const char *path = test_module(name, sizeof(name));
	int fd = path ? open(path, O_RDONLY) : -1;

	(void)unused;
	while (!over && fd >= 0) {
		modules += !syscall(__NR_finit_module, fd, "", 0);
		syscall(__NR_delete_module, name, O_NONBLOCK);
	}
	if (fd >= 0)
		close(fd);

	return NULL;
}

static void *load_programs(void *unused)
{
	(void)unused;
	while (!over) {
		int fd = load_bpf_program();

		if (fd >= 0) {
			programs++;
			close(fd);
		}
		usleep(1000);
	}

	return NULL;
}

static int memory_set(int nr, const char *state)
{
	char path[96];

	snprintf(path, sizeof(path), MEMORY "memory%d/state", nr);

	return write_file(path, state);
}

/* Whichever block can go: most can't, while their pages are in use. */
static void *move_memory(void *unused)
{
	unsigned int seed = 1;

	(void)unused;
	while (!over) {
		int nr = rand_r(&seed) % 64;

		if (!memory_set(nr, "offline")) {
			blocks++;
			usleep(100000);
			while (memory_set(nr, "online") && !over)
				usleep(10000);
		}
		usleep(200000);
	}

	return NULL;
}

static void *ask_for_passes(void *unused)
{
	(void)unused;
	while (!over) {
		passes += !restore_run() && !write_file(PT_RECLAIM, "1");
		usleep(300000);
	}

	return NULL;
}

static void all_online(void)
{
	char state[32], path[96];
	int nr;

	for (nr = 0; nr < 256; nr++) {
		snprintf(path, sizeof(path), MEMORY "memory%d/state", nr);
		if (!read_file(path, state, sizeof(state)) &&
		    !strncmp(state, "offline", 7))
			memory_set(nr, "online");
	}
}

static int run_command(char **argv)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		execv(argv[0], argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;

	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int failures, tests;

static void result(bool good, const char *name)
{
	printf("%sok %d %s\n", good ? "" : "not ", ++tests, name);
	fflush(stdout);
	failures += !good;
}

/* KASAN keeps what was freed, a part of all memory, until its cache shrinks. */
static void shrink_caches(void)
{
	glob_t found;
	size_t i;

	if (glob("/sys/kernel/slab/*/shrink", 0, NULL, &found))
		return;
	for (i = 0; i < found.gl_pathc; i++)
		write_file(found.gl_pathv[i], "1");
	globfree(&found);
}

static long available(void)
{
	write_file("/proc/sys/vm/drop_caches", "3");
	shrink_caches();

	return meminfo_kb("MemAvailable:");
}

/* What was freed a moment ago may still be seen: what stays is a leak. */
static bool no_leak(void)
{
	static char text[65536];
	int i;

	for (i = 0; i < 5; i++) {
		if (write_file(KMEMLEAK, "scan")) {
			printf("# kmemleak is off, or gave up for lack of memory\n");
			return false;
		}
		sleep(6);
	}
	if (read_all(KMEMLEAK, text, sizeof(text)))
		return false;
	printf("%.*s\n", (int)strnlen(text, 4096), text);

	return !strstr(text, "unreferenced object");
}

int main(int argc, char **argv)
{
	static void *(* const work[])(void *) = {
		load_modules, load_programs, move_memory, ask_for_passes,
	};
	pthread_t threads[sizeof(work) / sizeof(*work)];
	struct dmap before, after = { 0 };
	long free_before, status;
	size_t i;

	if (argc < 2)
		return 3;
	/* Memory becomes short: it is others that go. */
	write_file("/proc/self/oom_score_adj", "-1000");
	if (restore_run() || dmap_read_settled(&before)) {
		printf("Bail out! the direct map can't be read\n");
		return 3;
	}
	free_before = available();
	if (!access(KMEMLEAK, W_OK))
		write_file(KMEMLEAK, "clear");

	printf("1..6\n");
	for (i = 0; i < sizeof(work) / sizeof(*work); i++)
		pthread_create(&threads[i], NULL, work[i], NULL);
	status = run_command(argv + 1);
	over = true;
	for (i = 0; i < sizeof(work) / sizeof(*work); i++)
		pthread_join(threads[i], NULL);
	all_online();
	printf("# %ld modules, %ld programs, %ld memory blocks, %ld passes\n",
	       modules, programs, blocks, passes);

	result(!status, "stress_ng_ends_well");
	result(modules && programs && blocks && passes, "its_neighbours_had_work");
	result(dmap_settles(&before, &after, 120, true), "no_range_is_mapped_smaller");
	result(dmap_same_attrs(&before, &after), "attributes_as_before");
	printf("# %ld kB available before, %ld after; NoDirectMap %ld, Exclusive %ld\n",
	       free_before, available(), meminfo_kb("NoDirectMap:"),
	       meminfo_kb("Exclusive:"));
	result(available() > free_before - TOLERANCE_KB &&
	       meminfo_kb("NoDirectMap:") == 0 && meminfo_kb("Exclusive:") == 0,
	       "memory_is_back");
	result(no_leak(), "nothing_leaks");

	return failures ? 1 : 0;
}
