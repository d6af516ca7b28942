// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel can do with exclusive memory: not read it through its direct
 * map, not lend it to anybody by its pages, and copy to and from it at its
 * owner's address as ever.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/posix_types.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>
#include <net/if.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "exclusive.h"

#define SIZE		(16 * MB)
#define PAGES		((long)(SIZE / PAGE))
#define STEP		61	/* of pages that are looked at */

static void on_cpus(struct __test_metadata *_metadata, int fd, char *map, int err)
{
	long i;

	for (i = 0; i < PAGES; i += STEP)
		ASSERT_EQ(held_peek(fd, map + i * PAGE), err);
}

FIXTURE(direct_map)
{
	int fd;			/* of the driver, or -errno */
	char *map;
	char *ordinary;
};

FIXTURE_SETUP(direct_map)
{
	self->fd = -1;
	if (no_exclusive())
		SKIP(return, "%s", no_exclusive());
	self->fd = held_open();
	self->map = exclusive_map(SIZE);
	ASSERT_NE(self->map, NULL);
	self->ordinary = ordinary_map(SIZE);
	ASSERT_NE(self->ordinary, NULL);
}

FIXTURE_TEARDOWN(direct_map)
{
	if (self->map)
		munmap(self->map, SIZE);
	if (self->ordinary)
		munmap(self->ordinary, SIZE);
	if (self->fd >= 0)
		close(self->fd);
}

#define KPF_RESERVED	0x100000000UL

/* What to subtract of an address in the kernel's image for its physical one. */
static unsigned long image_offset(void)
{
	unsigned long text = 0, code = 0, value;
	char line[512], name[256];
	FILE *file;

	file = fopen("/proc/kallsyms", "r");
	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx %*c %255s", &value, name) == 2 &&
		    !strcmp(name, "_text"))
			text = value;
	}
	if (file)
		fclose(file);
	file = fopen("/proc/iomem", "r");
	while (file && fgets(line, sizeof(line), file)) {
		if (strstr(line, ": Kernel code"))
			code = strtoul(line, NULL, 16);
	}
	if (file)
		fclose(file);

	return text && code ? text - code : 0;
}

/* Pages from @start to @end that are not the kernel's for good. */
static long not_reserved(int flags_fd, unsigned long start, unsigned long end)
{
	unsigned long pfn;
	uint64_t flags;
	long nr = 0;

	for (pfn = start / PAGE; pfn < end / PAGE; pfn++)
		nr += pread(flags_fd, &flags, sizeof(flags),
			    pfn * sizeof(flags)) != sizeof(flags) ||
		      !(flags & KPF_RESERVED);

	return nr;
}

/*
 * The kernel maps its image once more, beside the direct map. What of it was
 * freed, or lies behind it, is memory that others get.
 */
TEST(image_mapping_has_nothing_but_the_image)
{
	unsigned long start, end, offset = image_offset();
	int flags_fd = open("/proc/kpageflags", O_RDONLY);
	char line[256], attr[8];
	bool inside = false;
	long others = 0, mapped = 0;
	FILE *file = fopen(PTDUMP, "r");

	if (!file || flags_fd < 0 || !offset)
		SKIP(return, "needs " PTDUMP " and /proc/kpageflags");
	while (fgets(line, sizeof(line), file)) {
		if (!strncmp(line, "---[", 4))
			inside = strstr(line, "High Kernel Mapping");
		if (!inside ||
		    sscanf(line, "0x%lx-0x%lx %*s %7s", &start, &end, attr) != 3 ||
		    (strcmp(attr, "ro") && strcmp(attr, "RW")))
			continue;
		mapped += (end - start) / PAGE;
		others += not_reserved(flags_fd, start - offset, end - offset);
	}
	fclose(file);
	close(flags_fd);
	TH_LOG("%ld pages mapped, %ld of others", mapped, others);
	EXPECT_GT(mapped, 0);
	EXPECT_EQ(others, 0);
}

TEST_F_TIMEOUT(direct_map, kcore_shows_zeros, 120)
{
	unsigned long pfn, page[PAGE / sizeof(long)];
	long i;

	fill_pattern(self->map, SIZE);
	fill_pattern(self->ordinary, SIZE);
	for (i = 0; i < PAGES; i += STEP) {
		/* The control: it shows what is ordinary. */
		pfn = pfn_of(self->ordinary + i * PAGE);
		ASSERT_NE(pfn, 0UL);
		ASSERT_EQ(read_kcore(pfn, page), 0);
		ASSERT_EQ(memcmp(page, self->ordinary + i * PAGE, PAGE), 0);

		pfn = pfn_of(self->map + i * PAGE);
		ASSERT_NE(pfn, 0UL);
		ASSERT_EQ(read_kcore(pfn, page), 0);
		ASSERT_TRUE(is_zero(page, PAGE));
	}
}

TEST_F_TIMEOUT(direct_map, no_cpu_reads_it, 120)
{
	if (self->fd < 0)
		SKIP(return, HELD_FILE " needs CONFIG_PTE_MAPPED_TEST");
	fill_pattern(self->map, SIZE);
	fill_pattern(self->ordinary, SIZE);
	on_cpus(_metadata, self->fd, self->ordinary, 0);
	on_cpus(_metadata, self->fd, self->map, -EFAULT);
}

/* Taken by a read or by the kernel's own write to it, it is out of reach, too. */
TEST_F_TIMEOUT(direct_map, no_cpu_reads_what_was_not_written, 120)
{
	int fd = open("/dev/zero", O_RDONLY);
	long i;

	if (self->fd < 0)
		SKIP(return, HELD_FILE " needs CONFIG_PTE_MAPPED_TEST");
	for (i = 0; i < PAGES / 2; i++)
		get_long(self->map + i * PAGE);
	ASSERT_EQ(read(fd, self->map + SIZE / 2, SIZE / 2), (ssize_t)SIZE / 2);
	close(fd);
	on_cpus(_metadata, self->fd, self->map, -EFAULT);
}

/*
 * What a CPU has in its TLB when a block becomes unmapped has to go. The block
 * is mapped by 4K when its pages are read, so that no split flushes for it.
 */
TEST_F_TIMEOUT(direct_map, no_cpu_reads_it_through_its_tlb, 120)
{
	unsigned long pfn, first = -1UL, last = 0;
	struct held_page *pages;
	long i, seen = 0, read = 0;

	if (self->fd < 0)
		SKIP(return, HELD_FILE " needs CONFIG_PTE_MAPPED_TEST");
	if (restore_available())
		ASSERT_EQ(restore_run(), 0);
	ASSERT_EQ(held_do(self->fd, "alloc sleep 0 %d -1", BLOCK_PAGES), 0);
	ASSERT_EQ(held_read(self->fd, &pages), BLOCK_PAGES);
	for (i = 0; i < BLOCK_PAGES; i++) {
		first = pages[i].pfn < first ? pages[i].pfn : first;
		last = pages[i].pfn > last ? pages[i].pfn : last;
	}
	free(pages);
	ASSERT_EQ(held_do(self->fd, "fill"), 0);
	ASSERT_EQ(held_do(self->fd, "prime"), 0);
	ASSERT_EQ(held_do(self->fd, "free all"), 0);

	fill_pattern(self->map, 64 * PAGE);
	for (i = 0; i < 64; i++) {
		pfn = pfn_of(self->map + i * PAGE);
		seen += pfn >= first && pfn <= last;
		read += held_do(self->fd, "peek %#lx", pfn) != -EFAULT;
	}
	EXPECT_EQ(read, 0);
	/* Else the pages were others than those that were read. */
	EXPECT_GT(seen, 0);
}

/* Whatever becomes of the pages around it. */
TEST_F_TIMEOUT(direct_map, page_in_use_stays_out_when_others_go, 120)
{
	unsigned long pfn;
	char *kept;
	int i;

	if (self->fd < 0)
		SKIP(return, HELD_FILE " needs CONFIG_PTE_MAPPED_TEST");
	fill_pattern(self->map, SIZE / 2 + 5 * PAGE);
	kept = exclusive_map(PAGE);
	ASSERT_NE(kept, NULL);
	fill_pattern(kept, PAGE);
	pfn = pfn_of(kept);
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(madvise(self->map, SIZE, MADV_DONTNEED), 0);
		if (restore_available())
			ASSERT_EQ(restore_run(), 0);
		EXPECT_EQ(held_do(self->fd, "peek %#lx", pfn), -EFAULT);
		fill_pattern(self->map, SIZE);
	}
	EXPECT_EQ(get_long(kept), (long)PATTERN);
	EXPECT_EQ(pfn_of(kept), pfn);
	munmap(kept, PAGE);
}

/*
 * Given back, it is zeroed first and mapped then. Who looks at once finds it not
 * mapped, or zeros; never what was there.
 */
TEST_F_TIMEOUT(direct_map, no_cpu_reads_it_once_given_back, 120)
{
	unsigned long pfns[64];
	long read = 0;
	int round, i;

	if (self->fd < 0)
		SKIP(return, HELD_FILE " needs CONFIG_PTE_MAPPED_TEST");
	for (round = 0; round < 50; round++) {
		fill_pattern(self->map, 64 * PAGE);
		pfns_of(self->map, 64, pfns);
		ASSERT_EQ(madvise(self->map, 64 * PAGE, MADV_DONTNEED), 0);
		for (i = 0; i < 64; i += 7)
			read += !held_do(self->fd, "peek %#lx", pfns[i]);
	}
	EXPECT_EQ(read, 0);
}

/* The same after mremap and mprotect: no other page takes its place. */
TEST_F_TIMEOUT(direct_map, no_cpu_reads_it_once_moved, 120)
{
	char *moved;

	if (self->fd < 0)
		SKIP(return, HELD_FILE " needs CONFIG_PTE_MAPPED_TEST");
	fill_pattern(self->map, SIZE);
	moved = mremap(self->map, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
		       NULL);
	ASSERT_NE(moved, MAP_FAILED);
	fill_pattern(self->map, SIZE);
	on_cpus(_metadata, self->fd, moved, -EFAULT);
	on_cpus(_metadata, self->fd, self->map, -EFAULT);
	ASSERT_EQ(mprotect(moved, SIZE, PROT_READ), 0);
	ASSERT_EQ(mprotect(moved, SIZE, READ_WRITE), 0);
	fill_pattern(moved, SIZE);
	on_cpus(_metadata, self->fd, moved, -EFAULT);
	munmap(moved, SIZE);
}

static int child_peeks(void *arg)
{
	FIXTURE_DATA(direct_map) *self = arg;
	long i;

	fill_pattern(self->map, SIZE);
	fill_pattern(self->ordinary, SIZE);
	for (i = 0; i < PAGES; i += STEP) {
		if (held_peek(self->fd, self->map + i * PAGE) != -EFAULT)
			return 1;
		if (held_peek(self->fd, self->ordinary + i * PAGE))
			return 2;
	}

	return 0;
}

TEST_F_TIMEOUT(direct_map, no_cpu_reads_that_of_a_child, 120)
{
	if (self->fd < 0)
		SKIP(return, HELD_FILE " needs CONFIG_PTE_MAPPED_TEST");
	fill_pattern(self->map, SIZE);
	EXPECT_EQ(in_child(child_peeks, self), 0);
	on_cpus(_metadata, self->fd, self->map, -EFAULT);
}

/*
 * Who asks the kernel for the pages of a process, and not for a copy: one page,
 * exclusive or ordinary. What was read of it is in @seen.
 */
struct use {
	char *page;
	char *seen;		/* shared with children */
	bool wrote;		/* it is of those that write zeros to the page */
	const char *missing;	/* this kernel can't do it at all */
};

static int skip_use(struct use *use, const char *missing)
{
	use->missing = missing;

	return 0;
}

static int result(long ret)
{
	return ret < 0 ? -errno : 0;
}

static int use_process_vm_readv(struct use *use)
{
	struct iovec to = { use->seen, PAGE }, from = { use->page, PAGE };

	return result(process_vm_readv(getpid(), &to, 1, &from, 1, 0));
}

static int use_process_vm_writev(struct use *use)
{
	struct iovec from = { use->seen, PAGE }, to = { use->page, PAGE };

	use->wrote = true;

	return result(process_vm_writev(getpid(), &from, 1, &to, 1, 0));
}

static int mem_of(pid_t pid, struct use *use, bool writes)
{
	char path[32];
	int fd, err;

	snprintf(path, sizeof(path), "/proc/%d/mem", pid);
	fd = open(path, O_RDWR);
	if (fd < 0)
		return -errno;
	use->wrote = writes;
	err = result(writes ? pwrite(fd, use->seen, PAGE, (off_t)use->page) :
			      pread(fd, use->seen, PAGE, (off_t)use->page));
	close(fd);

	return err;
}

static int use_proc_mem_read(struct use *use)
{
	return mem_of(getpid(), use, false);
}

static int use_proc_mem_write(struct use *use)
{
	return mem_of(getpid(), use, true);
}

/* As another process does it: a child, to its parent. */
static int by_child(int (*call)(pid_t, struct use *), struct use *use)
{
	pid_t parent = getpid(), pid;
	int status;

	fflush(stdout);
	pid = fork();
	if (!pid)
		_exit(-call(parent, use));
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -ECHILD;

	return -WEXITSTATUS(status);
}

static int proc_mem_of_parent(pid_t parent, struct use *use)
{
	return mem_of(parent, use, false);
}

static int use_proc_mem_of_another(struct use *use)
{
	return by_child(proc_mem_of_parent, use);
}

static int peek_parent(pid_t parent, struct use *use)
{
	long word, i;
	int err = 0;

	if (ptrace(PTRACE_ATTACH, parent, NULL, NULL))
		return -errno;
	waitpid(parent, NULL, 0);
	for (i = 0; !err && i < (long)PAGE; i += sizeof(word)) {
		errno = 0;
		word = ptrace(PTRACE_PEEKDATA, parent, use->page + i, NULL);
		err = -errno;
		if (!err)
			memcpy(use->seen + i, &word, sizeof(word));
	}
	ptrace(PTRACE_DETACH, parent, NULL, NULL);

	return err;
}

static int use_ptrace_peek(struct use *use)
{
	return by_child(peek_parent, use);
}

static int poke_parent(pid_t parent, struct use *use)
{
	int err = 0;
	long i;

	if (ptrace(PTRACE_ATTACH, parent, NULL, NULL))
		return -errno;
	waitpid(parent, NULL, 0);
	for (i = 0; !err && i < (long)PAGE; i += sizeof(long))
		err = result(ptrace(PTRACE_POKEDATA, parent, use->page + i, 0L));
	ptrace(PTRACE_DETACH, parent, NULL, NULL);

	return err;
}

static int use_ptrace_poke(struct use *use)
{
	use->wrote = true;

	return by_child(poke_parent, use);
}

static int use_vmsplice(struct use *use)
{
	struct iovec from = { use->page, PAGE };
	int fds[2], err;

	if (pipe(fds))
		return -errno;
	err = result(vmsplice(fds[1], &from, 1, SPLICE_F_NONBLOCK));
	if (!err && read(fds[0], use->seen, PAGE) != (ssize_t)PAGE)
		err = -EIO;
	close(fds[0]);
	close(fds[1]);

	return err;
}

#define NO_IO_URING "no io_uring: needs CONFIG_IO_URING"

static int io_uring_of(struct io_uring_params *params)
{
	return syscall(__NR_io_uring_setup, 4, params);
}

static int use_io_uring_buffer(struct use *use)
{
	struct iovec buffer = { use->page, PAGE };
	struct io_uring_params params = { 0 };
	int fd = io_uring_of(&params), err;

	if (fd < 0)
		return skip_use(use, NO_IO_URING);
	err = result(syscall(__NR_io_uring_register, fd, IORING_REGISTER_BUFFERS,
			     &buffer, 1));
	close(fd);

	return err;
}

/* The rings themselves in memory of the caller. */
static int use_io_uring_ring(struct use *use)
{
	struct io_uring_params own = { .flags = IORING_SETUP_NO_MMAP }, kernels = { 0 };
	void *entries = ordinary_map(PAGE);
	int fd = io_uring_of(&kernels), err;

	if (fd < 0)
		return skip_use(use, NO_IO_URING);
	close(fd);
	own.cq_off.user_addr = (unsigned long)use->page;
	own.sq_off.user_addr = (unsigned long)entries;
	fd = io_uring_of(&own);
	err = result(fd);
	if (fd >= 0)
		close(fd);
	munmap(entries, PAGE);

	return err;
}

static int use_direct_write(struct use *use)
{
	void *copy = ordinary_map(PAGE);
	int fd = direct_device(PAGE), err;

	if (fd < 0)
		return skip_use(use, NO_DIRECT_DEVICE);
	err = result(pwrite(fd, use->page, PAGE, 0));
	/* Of the disk, whatever the call said. */
	if (pread(fd, copy, PAGE, 0) == (ssize_t)PAGE)
		memcpy(use->seen, copy, PAGE);
	munmap(copy, PAGE);
	close(fd);

	return err;
}

static int use_direct_read(struct use *use)
{
	int fd = direct_device(PAGE), err;

	if (fd < 0)
		return skip_use(use, NO_DIRECT_DEVICE);
	use->wrote = true;
	err = result(pread(fd, use->page, PAGE, 0));
	close(fd);

	return err;
}

static int use_aio(struct use *use)
{
	struct iocb iocb = { 0 }, *list = &iocb;
	struct io_event event = { 0 };
	aio_context_t context = 0;
	void *copy;
	int fd, err;

	if (syscall(__NR_io_setup, 1, &context))
		return skip_use(use, "no AIO: needs CONFIG_AIO");
	fd = direct_device(PAGE);
	if (fd < 0)
		return skip_use(use, NO_DIRECT_DEVICE);
	iocb.aio_fildes = fd;
	iocb.aio_lio_opcode = IOCB_CMD_PWRITE;
	iocb.aio_buf = (unsigned long)use->page;
	iocb.aio_nbytes = PAGE;
	err = result(syscall(__NR_io_submit, context, 1, &list));
	if (!err)
		err = result(syscall(__NR_io_getevents, context, 1, 1, &event, NULL));
	if (!err && event.res < 0)
		err = event.res;
	copy = ordinary_map(PAGE);
	if (pread(fd, copy, PAGE, 0) == (ssize_t)PAGE)
		memcpy(use->seen, copy, PAGE);
	munmap(copy, PAGE);
	syscall(__NR_io_destroy, context);
	close(fd);

	return err;
}

/* A key that other processes can have: that of the page. */
static int use_shared_futex(struct use *use)
{
	return result(syscall(__NR_futex, use->page, FUTEX_WAKE, 1, NULL, NULL, 0));
}

/* Up, so that there is a network at all. Whether it was. */
static bool loopback_up(int fd)
{
	struct ifreq request = { .ifr_name = "lo" };
	bool up;

	if (ioctl(fd, SIOCGIFFLAGS, &request))
		return false;
	up = request.ifr_flags & IFF_UP;
	request.ifr_flags |= IFF_UP;
	ioctl(fd, SIOCSIFFLAGS, &request);

	return up;
}

static void loopback_down(int fd)
{
	struct ifreq request = { .ifr_name = "lo" };

	ioctl(fd, SIOCSIFFLAGS, &request);
}

/* Both ends of a connection over TCP. */
static bool connected(int fds[2])
{
	struct sockaddr_in addr = { .sin_family = AF_INET };
	socklen_t len = sizeof(addr);
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fds[0] = socket(AF_INET, SOCK_STREAM, 0);
	fds[1] = -1;
	if (!bind(listener, (void *)&addr, sizeof(addr)) &&
	    !listen(listener, 1) &&
	    !getsockname(listener, (void *)&addr, &len) &&
	    !connect(fds[0], (void *)&addr, sizeof(addr)))
		fds[1] = accept(listener, NULL, NULL);
	close(listener);

	return fds[1] >= 0;
}

static int use_zerocopy(struct use *use)
{
	int control = socket(AF_INET, SOCK_DGRAM, 0), fds[2], one = 1, err;
	bool was_up;

	if (control < 0)
		return skip_use(use, "no network: needs CONFIG_INET");
	was_up = loopback_up(control);
	if (!connected(fds) ||
	    setsockopt(fds[0], SOL_SOCKET, SO_ZEROCOPY, &one, sizeof(one))) {
		err = skip_use(use, "no TCP over a loopback device");
	} else {
		err = result(send(fds[0], use->page, PAGE, MSG_ZEROCOPY));
		if (!err && recv(fds[1], use->seen, PAGE, MSG_WAITALL) != (ssize_t)PAGE)
			err = -EIO;
	}
	close(fds[0]);
	close(fds[1]);
	if (!was_up)
		loopback_down(control);
	close(control);

	return err;
}

static int use_get_mempolicy(struct use *use)
{
	int node;

	if (access("/proc/self/numa_maps", R_OK))
		return skip_use(use, "no memory policies: needs CONFIG_NUMA");

	return result(syscall(__NR_get_mempolicy, &node, NULL, 0, use->page,
			      MPOL_F_NODE | MPOL_F_ADDR));
}

FIXTURE(page_user)
{
	struct use use;
	char *map;
	char *ordinary;
	long before;
};

FIXTURE_VARIANT(page_user)
{
	int (*call)(struct use *use);
	bool sees;	/* it gets the content of the page */
	int other_err;	/* it may say this instead of -EFAULT */
};

FIXTURE_VARIANT_ADD(page_user, process_vm_readv) { use_process_vm_readv, true, 0 };
FIXTURE_VARIANT_ADD(page_user, process_vm_writev) { use_process_vm_writev, false, 0 };
FIXTURE_VARIANT_ADD(page_user, proc_mem_read) { use_proc_mem_read, true, -EIO };
FIXTURE_VARIANT_ADD(page_user, proc_mem_write) { use_proc_mem_write, false, -EIO };
FIXTURE_VARIANT_ADD(page_user, proc_mem_of_another) { use_proc_mem_of_another, true, -EIO };
FIXTURE_VARIANT_ADD(page_user, ptrace_peek) { use_ptrace_peek, true, -EIO };
FIXTURE_VARIANT_ADD(page_user, ptrace_poke) { use_ptrace_poke, false, -EIO };
FIXTURE_VARIANT_ADD(page_user, vmsplice) { use_vmsplice, true, 0 };
FIXTURE_VARIANT_ADD(page_user, io_uring_buffer) { use_io_uring_buffer, false, 0 };
FIXTURE_VARIANT_ADD(page_user, io_uring_ring) { use_io_uring_ring, false, 0 };
FIXTURE_VARIANT_ADD(page_user, direct_write) { use_direct_write, true, 0 };
FIXTURE_VARIANT_ADD(page_user, direct_read) { use_direct_read, false, 0 };
FIXTURE_VARIANT_ADD(page_user, aio) { use_aio, true, 0 };
FIXTURE_VARIANT_ADD(page_user, shared_futex) { use_shared_futex, false, 0 };
FIXTURE_VARIANT_ADD(page_user, zerocopy) { use_zerocopy, true, 0 };
FIXTURE_VARIANT_ADD(page_user, get_mempolicy) { use_get_mempolicy, false, 0 };

FIXTURE_SETUP(page_user)
{
	if (no_exclusive())
		SKIP(return, "%s", no_exclusive());
	self->before = exclusive_pages();
	self->map = exclusive_map(PAGE);
	ASSERT_NE(self->map, NULL);
	self->ordinary = ordinary_map(PAGE);
	ASSERT_NE(self->ordinary, NULL);
	self->use.seen = mmap(NULL, PAGE, READ_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			      -1, 0);
	ASSERT_NE(self->use.seen, MAP_FAILED);
}

FIXTURE_TEARDOWN(page_user)
{
	if (self->map)
		munmap(self->map, PAGE);
	if (self->ordinary)
		munmap(self->ordinary, PAGE);
	if (self->use.seen)
		munmap(self->use.seen, PAGE);
}

static void refused(struct __test_metadata *_metadata,
		    FIXTURE_DATA(page_user) *self,
		    const FIXTURE_VARIANT(page_user) *variant)
{
	int err;

	self->use.page = self->map;
	err = variant->call(&self->use);
	if (self->use.missing)
		SKIP(return, "%s", self->use.missing);
	EXPECT_NE(err, 0);
	if (err != variant->other_err)
		EXPECT_EQ(err, -EFAULT);
	/* Not a word of it. */
	EXPECT_TRUE(is_zero(self->use.seen, PAGE));
}

TEST_F(page_user, is_refused)
{
	unsigned long pfn;

	fill_pattern(self->map, PAGE);
	pfn = pfn_of(self->map);
	refused(_metadata, self, variant);
	EXPECT_EQ(get_long(self->map), (long)PATTERN);
	EXPECT_EQ(get_long(self->map + PAGE - sizeof(long)), (long)PATTERN);
	EXPECT_EQ(pfn_of(self->map), pfn);
}

/* Nor does it leave a reference behind: the page goes back like others. */
TEST_F(page_user, leaves_nothing_behind)
{
	fill_pattern(self->map, PAGE);
	refused(_metadata, self, variant);
	munmap(self->map, PAGE);
	self->map = NULL;
	EXPECT_EQ(exclusive_pages(), self->before);
	if (!restore_available() || self->before)
		return;
	ASSERT_EQ(restore_run(), 0);
	EXPECT_EQ(meminfo_kb("NoDirectMap:"), 0);
}

/* Where no page is yet, none is taken for it. */
TEST_F(page_user, is_refused_where_nobody_touched_it)
{
	refused(_metadata, self, variant);
	EXPECT_EQ(exclusive_pages(), self->before);
	EXPECT_TRUE(is_zero(self->map, PAGE));
}

TEST_F(page_user, is_served_with_ordinary_memory)
{
	fill_pattern(self->ordinary, PAGE);
	self->use.page = self->ordinary;
	EXPECT_EQ(variant->call(&self->use), 0);
	if (self->use.missing)
		SKIP(return, "%s", self->use.missing);
	if (variant->sees)
		EXPECT_EQ(memcmp(self->use.seen, self->ordinary, PAGE), 0);
	if (self->use.wrote)
		EXPECT_TRUE(is_zero(self->ordinary, PAGE));
}

/* What copies at the owner's address, which needs no direct map. */
FIXTURE(syscalls)
{
	char *map;
	char *ordinary;
};

FIXTURE_SETUP(syscalls)
{
	if (no_exclusive())
		SKIP(return, "%s", no_exclusive());
	self->map = exclusive_map(16 * PAGE);
	ASSERT_NE(self->map, NULL);
	self->ordinary = ordinary_map(16 * PAGE);
	ASSERT_NE(self->ordinary, NULL);
}

FIXTURE_TEARDOWN(syscalls)
{
	if (self->map)
		munmap(self->map, 16 * PAGE);
	if (self->ordinary)
		munmap(self->ordinary, 16 * PAGE);
}

TEST_F(syscalls, write_and_read_copy_it)
{
	int fds[2];

	fill(self->map, PAGE, PATTERN);
	ASSERT_EQ(pipe(fds), 0);
	EXPECT_EQ(write(fds[1], self->map, PAGE), (ssize_t)PAGE);
	/* To a page that nobody has touched. */
	EXPECT_EQ(read(fds[0], self->map + 5 * PAGE, PAGE), (ssize_t)PAGE);
	EXPECT_TRUE(holds(self->map + 5 * PAGE, PAGE, PATTERN));
	close(fds[0]);
	close(fds[1]);
}

TEST_F(syscalls, file_takes_and_gives_it)
{
	int fd = memfd_create("exclusive", 0);

	ASSERT_GE(fd, 0);
	fill(self->map, 8 * PAGE, PATTERN);
	EXPECT_EQ(pwrite(fd, self->map, 8 * PAGE, 0), (ssize_t)(8 * PAGE));
	EXPECT_EQ(pread(fd, self->map + 8 * PAGE, 8 * PAGE, 0), (ssize_t)(8 * PAGE));
	EXPECT_TRUE(holds(self->map + 8 * PAGE, 8 * PAGE, PATTERN));
	close(fd);
}

TEST_F(syscalls, socket_takes_and_gives_it)
{
	int fds[2];

	fill(self->map, PAGE, PATTERN);
	ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	EXPECT_EQ(send(fds[1], self->map, PAGE, 0), (ssize_t)PAGE);
	EXPECT_EQ(recv(fds[0], self->map + PAGE, PAGE, MSG_WAITALL), (ssize_t)PAGE);
	EXPECT_TRUE(holds(self->map + PAGE, PAGE, PATTERN));
	close(fds[0]);
	close(fds[1]);
}

TEST_F(syscalls, private_futex_works)
{
	int *futex = (int *)self->map;
	struct timespec soon = { .tv_nsec = 1000000 };

	*futex = 5;
	EXPECT_EQ(syscall(__NR_futex, futex, FUTEX_WAIT_PRIVATE, 4, NULL, NULL, 0), -1);
	EXPECT_EQ(errno, EAGAIN);
	EXPECT_EQ(syscall(__NR_futex, futex, FUTEX_WAIT_PRIVATE, 5, &soon, NULL, 0), -1);
	EXPECT_EQ(errno, ETIMEDOUT);
	EXPECT_EQ(syscall(__NR_futex, futex, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0), 0);
}

static void *handled_at;

static void on_signal(int signal)
{
	(void)signal;
	handled_at = __builtin_frame_address(0);
}

TEST_F(syscalls, signal_is_handled_on_a_stack_there)
{
	stack_t stack = { .ss_sp = self->map, .ss_size = 16 * PAGE }, old;
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };

	ASSERT_EQ(sigaltstack(&stack, &old), 0);
	ASSERT_EQ(sigaction(SIGUSR1, &action, NULL), 0);
	ASSERT_EQ(raise(SIGUSR1), 0);
	EXPECT_GE((char *)handled_at, self->map);
	EXPECT_LT((char *)handled_at, self->map + 16 * PAGE);
	sigaltstack(&old, NULL);
}

/* userfaultfd, which gives and takes pages. */
FIXTURE(uffd)
{
	int fd;
	char *map;
	char *ordinary;
};

FIXTURE_SETUP(uffd)
{
	struct uffdio_api api = { .api = UFFD_API };

	self->fd = -1;
	if (no_exclusive())
		SKIP(return, "%s", no_exclusive());
	self->fd = syscall(__NR_userfaultfd, UFFD_USER_MODE_ONLY | O_NONBLOCK);
	if (self->fd < 0)
		SKIP(return, "no userfaultfd: needs CONFIG_USERFAULTFD");
	api.features = UFFD_FEATURE_MOVE | UFFD_FEATURE_WP_ASYNC;
	if (ioctl(self->fd, UFFDIO_API, &api))
		SKIP(return, "no userfaultfd that moves pages and write-protects them");
	self->map = exclusive_map(16 * PAGE);
	ASSERT_NE(self->map, NULL);
	self->ordinary = ordinary_map(16 * PAGE);
	ASSERT_NE(self->ordinary, NULL);
}

FIXTURE_TEARDOWN(uffd)
{
	if (self->map)
		munmap(self->map, 16 * PAGE);
	if (self->ordinary)
		munmap(self->ordinary, 16 * PAGE);
	if (self->fd >= 0)
		close(self->fd);
}

static int uffd_register(int fd, char *map, int mode)
{
	struct uffdio_register reg = {
		.range = { (unsigned long)map, 16 * PAGE },
		.mode = mode,
	};

	return result(ioctl(fd, UFFDIO_REGISTER, &reg));
}

static int uffd_unregister(int fd, char *map)
{
	struct uffdio_range range = { (unsigned long)map, 16 * PAGE };

	return result(ioctl(fd, UFFDIO_UNREGISTER, &range));
}

TEST_F(uffd, does_not_get_the_faults)
{
	EXPECT_EQ(uffd_register(self->fd, self->map, UFFDIO_REGISTER_MODE_MISSING), -EINVAL);
	EXPECT_EQ(uffd_register(self->fd, self->ordinary, UFFDIO_REGISTER_MODE_MISSING), 0);
	EXPECT_TRUE(is_zero(self->map, 16 * PAGE));
}

/* With UFFD_FEATURE_WP_ASYNC any mapping can be registered, but for these. */
TEST_F(uffd, does_not_write_protect_it)
{
	EXPECT_EQ(uffd_register(self->fd, self->map, UFFDIO_REGISTER_MODE_WP), -EINVAL);
	EXPECT_EQ(uffd_register(self->fd, self->ordinary, UFFDIO_REGISTER_MODE_WP), 0);
	fill(self->map, 16 * PAGE, PATTERN);
	EXPECT_TRUE(holds(self->map, 16 * PAGE, PATTERN));
}

static int uffd_move(int fd, char *to, char *from)
{
	struct uffdio_move move = {
		.dst = (unsigned long)to,
		.src = (unsigned long)from,
		.len = 4 * PAGE,
	};

	return result(ioctl(fd, UFFDIO_MOVE, &move));
}

/* From exclusive memory, and from memory that is locked like it. */
TEST_F(uffd, does_not_move_its_pages)
{
	char *to = ordinary_map(16 * PAGE);
	unsigned long pfns[4];

	ASSERT_NE(to, NULL);
	ASSERT_EQ(uffd_register(self->fd, to, UFFDIO_REGISTER_MODE_MISSING), 0);
	fill(self->map, 16 * PAGE, PATTERN);
	pfns_of(self->map, 4, pfns);
	EXPECT_EQ(uffd_move(self->fd, to, self->map), -EINVAL);
	EXPECT_TRUE(holds(self->map, 16 * PAGE, PATTERN));
	EXPECT_EQ(pfns_differ(self->map, 4, pfns), 0);
	/* The destination is as empty as before, and takes ordinary pages. */
	fill(self->ordinary, 16 * PAGE, PATTERN);
	EXPECT_EQ(uffd_move(self->fd, to, self->ordinary), 0);
	EXPECT_TRUE(holds(to, 4 * PAGE, PATTERN));
	EXPECT_EQ(uffd_unregister(self->fd, to), 0);
	munmap(to, 16 * PAGE);
}

/* Memory locked on fault as a destination: both are locked, one is exclusive. */
TEST_F(uffd, does_not_move_its_pages_to_locked_memory)
{
	char *to = ordinary_map(16 * PAGE);

	ASSERT_NE(to, NULL);
	ASSERT_EQ(mlock2(to, 16 * PAGE, MLOCK_ONFAULT), 0);
	ASSERT_EQ(mlock2(self->ordinary, 16 * PAGE, MLOCK_ONFAULT), 0);
	ASSERT_EQ(uffd_register(self->fd, to, UFFDIO_REGISTER_MODE_MISSING), 0);
	fill(self->map, 16 * PAGE, PATTERN);
	EXPECT_EQ(uffd_move(self->fd, to, self->map), -EINVAL);
	EXPECT_TRUE(holds(self->map, 16 * PAGE, PATTERN));
	fill(self->ordinary, 16 * PAGE, PATTERN);
	EXPECT_EQ(uffd_move(self->fd, to, self->ordinary), 0);
	EXPECT_TRUE(holds(to, 4 * PAGE, PATTERN));
	EXPECT_EQ(uffd_unregister(self->fd, to), 0);
	munmap(to, 16 * PAGE);
}

TEST_HARNESS_MAIN
