// SPDX-License-Identifier: GPL-2.0-only
/*
 * A plugin of QEMU's TCG: feeds the guest kernel's accesses to its direct map
 * to the model of tlb.c, between the markers of marker.h, and writes what came
 * of it when QEMU ends. See README.md.
 *
 * Page tables are read where they are, in the guest's memory: a file that QEMU
 * shares.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "marker.h"
#include "tlb.h"

/*
 * What is used of qemu-plugin.h, which Debian does not package. Version 1 is
 * that of QEMU up to 8.2. Version 3, of QEMU 9.1, changed how the bytes of an
 * instruction are had; later ones only add, and QEMU still takes it.
 */
#if QEMU_PLUGIN_API != 1 && QEMU_PLUGIN_API != 3
#error "set QEMU_PLUGIN_API to 1 (QEMU up to 8.2) or 3 (QEMU from 9.1)"
#endif
#define EXPORT __attribute__((visibility("default")))

typedef uint64_t plugin_id;
typedef uint32_t plugin_meminfo;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct plugin_info {
	const char *target_name;
	struct { int min, cur; } version;
	bool system_emulation;
	struct { int smp_vcpus, max_vcpus; } system;
};
enum { CB_NO_REGS };
enum { MEM_RW = 3 };

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id,
		void (*cb)(plugin_id id, struct qemu_plugin_tb *tb));
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
		void (*cb)(unsigned int cpu, void *arg), int flags, void *arg);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn,
		void (*cb)(unsigned int cpu, plugin_meminfo info, uint64_t vaddr, void *arg),
		int flags, int rw, void *arg);
void qemu_plugin_register_atexit_cb(plugin_id id, void (*cb)(plugin_id id, void *arg), void *arg);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t nr);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);

#if QEMU_PLUGIN_API == 1
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);

static void insn_bytes(const struct qemu_plugin_insn *insn, void *bytes, size_t size)
{
	memcpy(bytes, qemu_plugin_insn_data(insn), size);
}
#else
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *bytes, size_t size);

static void insn_bytes(const struct qemu_plugin_insn *insn, void *bytes, size_t size)
{
	qemu_plugin_insn_data(insn, bytes, size);
}
#endif

EXPORT int qemu_plugin_version = QEMU_PLUGIN_API;

/* Where 64-bit kernels with four levels have it, without KASLR. */
#define DIRECT_MAP_START	0xffff888000000000ULL
#define DIRECT_MAP_SIZE		(64ULL << 40)
#define KERNEL_START		0xffff800000000000ULL

/* The machine "pc": with this much memory or more only 3 GB lie below 4 GB. */
#define LOW_MEMORY_MOST		0xe0000000ULL
#define LOW_MEMORY_SPLIT	0xc0000000ULL
#define HIGH_MEMORY_START	(1ULL << 32)

#define MAX_SECTIONS	16

static struct tlb *tlb;
static struct tlb_counts sections[MAX_SECTIONS];
static int nr_sections;
static struct tlb_counts *counting;	/* the section that runs, or NULL */

static const char *ram_path, *out_path;
static const char *ram;
static uint64_t ram_size;

/* Without the report, which is written at exit. */
static void fail(const char *what)
{
	fprintf(stderr, "tlbsim: %s\n", what);
	_exit(1);
}

/* QEMU gives the file its size after it has loaded plugins. */
static void map_ram(void)
{
	int fd = open(ram_path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) || !st.st_size)
		fail("ram= is not the file of the guest's memory");
	ram_size = st.st_size;
	ram = mmap(NULL, ram_size, PROT_READ, MAP_SHARED, fd, 0);
	if (ram == MAP_FAILED)
		fail("the guest's memory can't be mapped");
	close(fd);
}

static uint64_t read_entry(void *arg, uint64_t phys)
{
	uint64_t low = ram_size < LOW_MEMORY_MOST ? ram_size : LOW_MEMORY_SPLIT;

	(void)arg;
	if (phys >= HIGH_MEMORY_START)
		phys = phys - HIGH_MEMORY_START + low;
	else if (phys >= low)
		return 0;
	if (phys > ram_size - sizeof(uint64_t))
		return 0;

	return *(const volatile uint64_t *)(ram + phys);
}

/* A section begins with nothing cached: what ran before is none of its business. */
static void start(unsigned int cpu, void *arg)
{
	(void)cpu;
	(void)arg;
	if (!ram)
		map_ram();
	if (nr_sections == MAX_SECTIONS)
		fail("too many sections");
	tlb_flush(tlb);
	counting = &sections[nr_sections++];
}

static void stop(unsigned int cpu, void *arg)
{
	(void)cpu;
	(void)arg;
	counting = NULL;
}

static void flush(unsigned int cpu, void *arg)
{
	(void)cpu;
	(void)arg;
	if (counting)
		tlb_flush(tlb);
}

static void memory_access(unsigned int cpu, plugin_meminfo info, uint64_t vaddr, void *arg)
{
	(void)cpu;
	(void)info;
	(void)arg;
	if (counting && vaddr - DIRECT_MAP_START < DIRECT_MAP_SIZE)
		tlb_access(tlb, vaddr, counting);
}

/*
 * Of the flushes only those that include global entries, as all of the direct
 * map is: a change of CR4.PGE, for want of PCID. A write of CR3 spares them.
 */
static bool writes_cr4(const uint8_t *bytes, size_t size)
{
	return size == 3 && bytes[0] == 0x0f && bytes[1] == 0x22 && (bytes[2] & 0x38) == 0x20;
}

static void look_for_marker(struct qemu_plugin_insn *insn, const uint8_t *bytes)
{
	uint32_t disp;

	if (bytes[0] != 0x0f || bytes[1] != 0x1f || bytes[2] != 0x80)
		return;
	memcpy(&disp, bytes + 3, sizeof(disp));
	if (disp == MARKER_START)
		qemu_plugin_register_vcpu_insn_exec_cb(insn, start, CB_NO_REGS, NULL);
	else if (disp == MARKER_STOP)
		qemu_plugin_register_vcpu_insn_exec_cb(insn, stop, CB_NO_REGS, NULL);
}

static void translate_insn(struct qemu_plugin_insn *insn)
{
	size_t size = qemu_plugin_insn_size(insn);
	uint8_t bytes[16] = { 0 };

	if (size > sizeof(bytes))
		return;
	insn_bytes(insn, bytes, size);
	if (size == MARKER_SIZE)
		look_for_marker(insn, bytes);
	/* User space has no access to the direct map. */
	if (qemu_plugin_insn_vaddr(insn) < KERNEL_START)
		return;
	if (writes_cr4(bytes, size))
		qemu_plugin_register_vcpu_insn_exec_cb(insn, flush, CB_NO_REGS, NULL);
	qemu_plugin_register_vcpu_mem_cb(insn, memory_access, CB_NO_REGS, MEM_RW, NULL);
}

static void translate(plugin_id id, struct qemu_plugin_tb *tb)
{
	size_t nr = qemu_plugin_tb_n_insns(tb), i;

	(void)id;
	for (i = 0; i < nr; i++)
		translate_insn(qemu_plugin_tb_get_insn(tb, i));
}

static void report(plugin_id id, void *arg)
{
	FILE *out = fopen(out_path, "w");

	(void)id;
	(void)arg;
	if (!out)
		fail("out= can't be written");
	if (tlb_report(out, sections, nr_sections))
		fprintf(stderr, "tlbsim: nothing to rely on, see %s\n", out_path);
	if (fclose(out))
		fail("out= can't be written");
}

static const char *value_of(const char *option, const char *name)
{
	size_t len = strlen(name);

	return !strncmp(option, name, len) && option[len] == '=' ? option + len + 1 : NULL;
}

EXPORT int qemu_plugin_install(plugin_id id, const struct plugin_info *info,
			       int argc, char **argv)
{
	uint64_t root = 0;
	int i;

	for (i = 0; i < argc; i++) {
		const char *value;

		if ((value = value_of(argv[i], "ram")))
			ram_path = strdup(value);
		else if ((value = value_of(argv[i], "out")))
			out_path = strdup(value);
		else if ((value = value_of(argv[i], "root")))
			root = strtoull(value, NULL, 16);
		else
			fail("options: ram=FILE,root=ADDRESS,out=FILE");
	}
	if (!ram_path || !out_path || !root)
		fail("ram=, root= and out= are needed");
	if (!info->system_emulation || strcmp(info->target_name, "x86_64") ||
	    info->system.smp_vcpus != 1)
		fail("the model is of one CPU of an x86-64 system");
	tlb = tlb_new(root, read_entry, NULL);
	if (!tlb)
		fail("no memory");

	qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
	qemu_plugin_register_atexit_cb(id, report, NULL);

	return 0;
}
