// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the series costs and gains, in nanoseconds of CPU time. Under QEMU's
 * -icount shift=0 one nanosecond is one instruction.
 *
 * Prints lines "what number". Nothing is printed before all is measured: who
 * passes the lines on would run in between.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
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
/* So much is faulted in before the pool's worker comes to zero it. */
#define AGAIN_SIZE	(4UL << 20)
#define AGAIN_ROUNDS	16
/* What the pool has is zeroed, what it does not keep is given back. */
#define ZEROED_MS	500
#define RETURNED_MS	6000
#define ZAP_ROUNDS	20000
#define TABLE_ROUNDS	500
#define FORK_ROUNDS	500
#define PROGRAMS	6000
#define MODULE_ROUNDS	100
/* What comes in between, an interrupt and its work, only adds: the least counts. */
#define TRIES		4
#define MOST_TRIES	8
/* What lists of free pages of a CPU took or gave is lost among so many pages. */
#define CYCLES		4

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

/*
 * What a call leaves to workers, to RCU and to interrupts is in nobody's CPU
 * time. So a thread of the lowest class counts the instructions that nobody else
 * wants, and what it did not get is what the rest of the system took: there is
 * one CPU, and it is never idle while the thread runs.
 */
struct spinner {
	pthread_t thread;
	unsigned long turns;
	int stop;
};

#define TURN_INSTRUCTIONS	3

static void *spin(void *arg)
{
	static const struct sched_param lowest;
	struct spinner *spinner = arg;

	sched_setscheduler(0, SCHED_IDLE, &lowest);
	asm volatile("1: incq %0; cmpl $0, %1; je 1b"
		     : "+m" (spinner->turns) : "m" (spinner->stop)
		     : "cc", "memory");

	return NULL;
}

/*
 * Instructions of all but the spinner in a call and @ms after it; those of the
 * spinner are in @spun.
 */
static long spent_by_all(void (*call)(void), unsigned int ms, long *spun)
{
	struct spinner spinner = { 0 };
	long start = read_clock(CLOCK_MONOTONIC), spent;

	if (pthread_create(&spinner.thread, NULL, spin, &spinner)) {
		perror("a thread");
		exit(1);
	}
	call();
	usleep(ms * 1000);
	__atomic_store_n(&spinner.stop, 1, __ATOMIC_RELAXED);
	spent = read_clock(CLOCK_MONOTONIC) - start;
	pthread_join(spinner.thread, NULL);

	*spun = spinner.turns * TURN_INSTRUCTIONS;

	return spent - *spun;
}

static void do_nothing(void)
{
}

static long least(long before, long value)
{
	return before && before < value ? before : value;
}

/*
 * The same without the timer's ticks and what else comes while nobody does
 * anything. Workers and RCU come in their own time, and add to either: of both
 * the least of all tries. @prepare is not counted.
 */
static long spent_by_call(void (*prepare)(void), void (*call)(void),
			  unsigned int ms, int tries)
{
	long spent[MOST_TRIES], spun[MOST_TRIES], cost = 0;
	double quiet = 1;	/* for each instruction of the spinner */
	int i;

	for (i = 0; i < tries; i++) {
		long spun_quiet, spent_quiet = spent_by_all(do_nothing, 500, &spun_quiet);

		if (quiet > (double)spent_quiet / spun_quiet)
			quiet = (double)spent_quiet / spun_quiet;
		prepare();
		spent[i] = spent_by_all(call, ms, &spun[i]);
	}
	for (i = 0; i < tries; i++)
		cost = least(cost, spent[i] - quiet * spun[i]);

	return cost;
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

static void touch_pages(char *start, size_t size)
{
	size_t pos;

	for (pos = 0; pos < size; pos += 4096)
		start[pos] = 1;
}

/*
 * Memory is freed and used again at once, as allocators do in a loop; @nr
 * neighbouring pieces of one page table in turn.
 */
static long zap_loop(char *table, size_t size, int nr)
{
	int i, j, rounds = (size > 4096 ? ZAP_ROUNDS / 20 : ZAP_ROUNDS / 2) / nr;
	char *piece = table + (1 << 20);
	long start = now();

	for (i = 0; i < rounds; i++) {
		for (j = 0; j < nr; j++)
			touch_pages(piece + j * size, size);
		for (j = 0; j < nr; j++)
			madvise(piece + j * size, size, MADV_DONTNEED);
	}

	return (now() - start) / rounds / nr;
}

static void zap_loops(const char *what, size_t size, int nr)
{
	char *table = map_table();
	long cost = 0;
	int i;

	for (i = 0; i < TRIES; i++)
		cost = least(cost, zap_loop(table, size, nr));
	printf("%s %ld\n", what, cost);
	munmap(table, 2 << 20);
}

static long whole_table_zap(void)
{
	char *table = map_table();
	long spent = 0;
	int i;

	for (i = 0; i < TABLE_ROUNDS; i++) {
		size_t pos;
		long start;

		for (pos = 0; pos < 2 << 20; pos += 65536)
			table[pos] = 1;
		start = now();
		madvise(table, 2 << 20, MADV_DONTNEED);
		spent += now() - start;
	}
	munmap(table, 2 << 20);

	return spent / TABLE_ROUNDS;
}

static long small_mapping(void)
{
	long spent = 0;
	int i;

	for (i = 0; i < ZAP_ROUNDS / 2; i++) {
		char *memory = mmap(NULL, 65536, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		long start;

		memory[0] = 1;
		start = now();
		munmap(memory, 65536);
		spent += now() - start;
	}

	return spent / (ZAP_ROUNDS / 2);
}

static void print_least(const char *what, long (*measure)(void))
{
	long cost = 0;
	int i;

	for (i = 0; i < TRIES; i++)
		cost = least(cost, measure());
	printf("%s %ld\n", what, cost);
}

static void zaps(void)
{
	zap_loops("zap-refault-4k", 4096, 1);
	zap_loops("zap-refault-4k-2", 4096, 2);
	zap_loops("zap-refault-64k", 65536, 1);
	zap_loops("zap-refault-64k-2", 65536, 2);
	print_least("zap-whole-table", whole_table_zap);
	print_least("munmap-64k", small_mapping);
}

/* Of all that runs: there is one CPU, and nothing else to do. */
static long fork_and_exit(void)
{
	long start = read_clock(CLOCK_MONOTONIC);
	int i, status;

	for (i = 0; i < FORK_ROUNDS; i++) {
		pid_t pid = fork();

		if (!pid)
			_exit(0);
		waitpid(pid, &status, 0);
	}

	return (read_clock(CLOCK_MONOTONIC) - start) / FORK_ROUNDS;
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

	snprintf(path, sizeof(path), "/sys/module/bench_calls/parameters/%s", name);
	read_file(path, text, sizeof(text));
	printf("%s %ld\n", what, atol(text));
}

/* Pairs of calls, measured by a module. */
static int pairs(void)
{
	unsigned long ro = symbol("set_memory_ro"), rw = symbol("set_memory_rw");
	unsigned long invalid = symbol("set_direct_map_invalid_noflush");
	unsigned long valid = symbol("set_direct_map_default_noflush");
	int fd = open("/modules/bench_calls.ko", O_RDONLY);
	char args[160];

	if (!ro || !rw || !invalid || !valid || fd < 0)
		return -1;
	snprintf(args, sizeof(args), "ro=%lu rw=%lu invalid=%lu valid=%lu",
		 ro, rw, invalid, valid);
	if (syscall(__NR_finit_module, fd, args, 0))
		return -1;
	close(fd);
	print_parameter("set-memory-pair", "set_memory_pair");
	print_parameter("set-memory-pair-alone", "set_memory_pair_alone");
	print_parameter("direct-map-pair", "direct_map_pair");
	print_parameter("direct-map-pair-alone", "direct_map_pair_alone");
	print_parameter("order-0-pair", "order_0_pair");
	print_parameter("order-2-pair", "order_2_pair");
	print_parameter("order-9-pair", "order_9_pair");

	return 0;
}

struct secret_cost {
	const char *name;
	long fault, free;	/* for each page, the least of all times */
};

/* An idle guest's clock runs on by itself: a wait is no instruction. */
static void wait_ms(unsigned int ms)
{
	usleep(ms * 1000);
}

static int secret(struct secret_cost *cost, unsigned long size)
{
	long pages = size / 4096, start = now(), middle;
	char *memory = secret_alloc(size);

	if (!memory)
		return -1;
	middle = now();
	secret_free(memory, size);
	cost->free = least(cost->free, (now() - middle) / pages);
	cost->fault = least(cost->fault, (middle - start) / pages);

	return 0;
}

static void print_secret(const struct secret_cost *cost)
{
	printf("secret-fault-%s %ld\n", cost->name, cost->fault);
	printf("secret-free-%s %ld\n", cost->name, cost->free);
}

/* From nowhere, from a pool that has them ready, and right after they were freed. */
static int secrets(void)
{
	struct secret_cost first = { .name = "first" }, pool = { .name = "pool" };
	struct secret_cost again = { .name = "again" }, before = { .name = "before" };
	int i;

	for (i = 0; i < TRIES; i++) {
		if (secret(&first, POOL_SIZE))
			return -1;
		wait_ms(RETURNED_MS);
	}
	for (i = 0; i <= TRIES; i++) {
		if (secret(i ? &pool : &before, POOL_SIZE))
			return -1;
		wait_ms(ZEROED_MS);
	}
	for (i = 0; i < AGAIN_ROUNDS; i++) {
		wait_ms(ZEROED_MS);
		if (secret(&before, AGAIN_SIZE) || secret(&again, AGAIN_SIZE))
			return -1;
	}
	print_secret(&first);
	print_secret(&pool);
	print_secret(&again);
	wait_ms(RETURNED_MS);

	return 0;
}

static bool failed;

/* From the first touch until all is as it was, where someone sees to that. */
static void secret_cycle(void)
{
	void *memory = secret_alloc(POOL_SIZE);

	if (!memory) {
		failed = true;
		return;
	}
	secret_free(memory, POOL_SIZE);
	if (restore_available() && restore_run())
		failed = true;
}

static void secret_cycles(void)
{
	int i;

	for (i = 0; i < CYCLES; i++)
		secret_cycle();
}

static int programs[PROGRAMS];
static long bpf_load;

static void load_programs(void)
{
	long start = now();
	int i;

	for (i = 0; i < PROGRAMS; i++) {
		programs[i] = load_bpf_program();
		failed |= programs[i] < 0;
	}
	bpf_load = least(bpf_load, now() - start);
}

static void close_programs(void)
{
	int i;

	for (i = 0; i < PROGRAMS; i++)
		close(programs[i]);
}

static int bpf_programs(void)
{
	struct rlimit limit = { PROGRAMS + 64, PROGRAMS + 64 };
	long unload;

	setrlimit(RLIMIT_NOFILE, &limit);
	/* The pack of 2M that holds the first stays. */
	close(load_bpf_program());
	wait_ms(100);

	/* Freed by RCU and a work. */
	unload = spent_by_call(load_programs, close_programs, 200, MOST_TRIES);
	printf("bpf-load %ld\n", bpf_load / PROGRAMS);
	printf("bpf-free %ld\n", unload / PROGRAMS);

	return failed ? -1 : 0;
}

static char module_name[64];
static int module_fd;
static long module_load;

static void module_cycles(void)
{
	long load = 0, start;
	int i;

	for (i = 0; i < MODULE_ROUNDS; i++) {
		start = now();
		failed |= syscall(__NR_finit_module, module_fd, "", 0);
		load += now() - start;
		failed |= syscall(__NR_delete_module, module_name, O_NONBLOCK);
	}
	module_load = least(module_load, load);
}

static int modules(void)
{
	const char *path = test_module(module_name, sizeof(module_name));
	long cycle;

	module_fd = path ? open(path, O_RDONLY) : -1;
	if (module_fd < 0)
		return -1;
	cycle = spent_by_call(do_nothing, module_cycles, 200, MOST_TRIES);
	printf("module-load %ld\n", module_load / MODULE_ROUNDS);
	/* Whoever does it: the caller, workers or RCU. */
	printf("module-free %ld\n", (cycle - module_load) / MODULE_ROUNDS);
	close(module_fd);

	return 0;
}

static char kernel_log[1 << 20];

/* The number before @what in the line of @line, or -1. */
static double number_before(const char *line, const char *what)
{
	char *start = strstr(kernel_log, line);
	char *end = start ? strstr(start, what) : NULL;

	if (!end)
		return -1;
	while (end > kernel_log && strchr("0123456789.", end[-1]))
		end--;

	return atof(end);
}

/*
 * Waits between interrupts are not what is counted: up to the first thread there
 * is no idle time, and then the thread that becomes init does nearly all.
 */
static int boot(void)
{
	double first_thread, reserved;
	clockid_t clock_of_init;
	/* SYSLOG_ACTION_READ_ALL */
	int len = klogctl(3, kernel_log, sizeof(kernel_log) - 1);
	char *line;

	if (len < 0 || clock_getcpuclockid(1, &clock_of_init))
		return -1;
	reserved = number_before("] Memory: ", "K reserved");
	line = strstr(kernel_log, "] smp: Bringing up secondary CPUs");
	if (!line || reserved < 0)
		return -1;
	while (line > kernel_log && *line != '[')
		line--;
	first_thread = atof(line + 1);
	printf("boot %.0f\n", first_thread * 1e9 + read_clock(clock_of_init));
	printf("boot-reserved-kb %.0f\n", reserved);
	printf("boot-used-kb %ld\n", meminfo_kb("MemTotal:") - meminfo_kb("MemFree:"));

	return 0;
}

/* What a write to run costs, but for the part of it that is turned off. */
static long run_cost(const char *enabled)
{
	long start;

	if (write_file(RESTORE_DIR "enabled", enabled))
		return -1;
	start = now();

	return restore_run() ? -1 : now() - start;
}

/* Blocks that are kept at 4K go back first; then what maps them is restored. */
static int passes(void)
{
	struct secret_cost any = { .name = "any" };
	long least_each = 0, restored_then = 0;
	int i;

	for (i = 0; i < TRIES; i++) {
		long restored, spent;

		if (secret(&any, POOL_SIZE))
			return -1;
		wait_ms(RETURNED_MS);
		if (run_cost("0") < 0)
			return -1;
		restored = vm_event("direct_map_restore_2m");
		spent = run_cost("1");
		restored = vm_event("direct_map_restore_2m") - restored;
		if (spent < 0 || restored <= 0)
			return -1;
		if (!least_each || spent / restored < least_each) {
			least_each = spent / restored;
			restored_then = restored;
		}
	}
	printf("restored-2m %ld\n", restored_then);
	printf("restore-per-2m %ld\n", least_each);

	return 0;
}

static int fail(const char *what)
{
	perror(what);
	return 1;
}

int main(void)
{
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);

	/* The worker must not come in between. */
	if (restore_available())
		write_file(RESTORE_DIR "delay_ms", "3600000");

	if (boot())
		return fail("the kernel's log");
	if (pairs())
		return fail("the module that measures calls");
	ordinary_faults();
	print_least("fork-exit", fork_and_exit);
	zaps();
	if (bpf_programs())
		return fail("loading BPF programs");
	if (modules())
		return fail("loading a module");

	if (secrets())
		return fail("memfd_secret");
	if (restore_available() && passes())
		return fail("a pass of restore");
	printf("secret-cycle %ld\n", spent_by_call(do_nothing, secret_cycles, 200, TRIES) /
	       (long)(CYCLES * POOL_SIZE / 4096));
	if (failed)
		return fail("a cycle of modules or of memfd_secret");

	return 0;
}
