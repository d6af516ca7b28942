// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <linux/magic.h>

#include "tables.h"

static long named_number(const char *path, const char *name)
{
	FILE *file = fopen(path, "r");
	char key[64];
	long value, ret = -1;

	if (!file)
		return -1;
	while (fscanf(file, "%63s", key) == 1) {
		if (!strcmp(key, name) && fscanf(file, "%ld", &value) == 1) {
			ret = value;
			break;
		}
		if (fscanf(file, "%*[^\n]") == EOF)
			break;
	}
	fclose(file);

	return ret;
}

long vmpte_kb(void)
{
	return named_number("/proc/self/status", "VmPTE:");
}

long vm_event(const char *name)
{
	return named_number("/proc/vmstat", name);
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

bool reclaim_available(void)
{
	return !access(RECLAIM_DIR "run", F_OK);
}

int reclaim_run(void)
{
	return write_file(RECLAIM_DIR "run", "1");
}

bool vmpte_settles(long most_kb, unsigned int seconds)
{
	unsigned int tries = seconds * 10;

	while (vmpte_kb() > most_kb) {
		if (!tries--) {
			printf("# VmPTE %ld kB, at most %ld expected\n",
			       vmpte_kb(), most_kb);
			return false;
		}
		usleep(100000);
	}

	return true;
}

char *map_aligned(size_t size, int prot, int flags, int fd)
{
	char *start = mmap(NULL, size + 2 * TABLE, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *map;

	if (start == MAP_FAILED)
		return NULL;
	map = (char *)(((unsigned long)start + TABLE) & ~(TABLE - 1));
	map = mmap(map, size, prot, flags | MAP_FIXED | MAP_NORESERVE, fd, 0);
	if (map == MAP_FAILED)
		return NULL;
	/* One page in each table, whatever the system's policy. */
	madvise(map, size, MADV_NOHUGEPAGE);

	return map;
}

void touch(char *start, size_t size, size_t step)
{
	size_t pos;

	for (pos = 0; pos < size; pos += step)
		put_long(start + pos, 1);
}

void drop_in_pieces(char *start, size_t size, size_t piece)
{
	size_t pos;

	for (pos = 0; pos < size; pos += piece)
		madvise(start + pos, piece, MADV_DONTNEED);
}

int uffd_for_moves(char *to, size_t size)
{
	struct uffdio_api api = {
		.api = UFFD_API, .features = UFFD_FEATURE_MOVE,
	};
	struct uffdio_register reg = {
		.range = { (unsigned long)to, size },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = syscall(__NR_userfaultfd, UFFD_USER_MODE_ONLY);

	if (fd < 0)
		return -errno;
	if (ioctl(fd, UFFDIO_API, &api) || ioctl(fd, UFFDIO_REGISTER, &reg)) {
		close(fd);
		return -EOPNOTSUPP;
	}

	return fd;
}

int uffd_move_all(int uffd, char *to, char *from, size_t size)
{
	struct uffdio_move move = {
		.dst = (unsigned long)to,
		.src = (unsigned long)from,
		.len = size,
		.mode = UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES,
	};

	while (ioctl(uffd, UFFDIO_MOVE, &move)) {
		if (errno != EAGAIN)
			return -errno;
		/* Nothing was moved yet: the same again. */
		if (move.move == -EAGAIN)
			move.move = 0;
		if (move.move < 0)
			return move.move;
		move.dst += move.move;
		move.src += move.move;
		move.len -= move.move;
		move.move = 0;
	}

	return 0;
}

/* Neither of these loses a clean page to reclaim for nothing. */
static bool is_memory(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) || fs.f_type == TMPFS_MAGIC ||
	       fs.f_type == RAMFS_MAGIC;
}

int file_on_disk(size_t size)
{
	const char * const dirs[] = { getenv("TMPDIR"), ".", "/var/tmp" };
	size_t i;

	for (i = 0; i < sizeof(dirs) / sizeof(*dirs); i++) {
		char path[256];
		int fd;

		if (!dirs[i])
			continue;
		snprintf(path, sizeof(path), "%s/pt_reclaim.XXXXXX", dirs[i]);
		fd = mkstemp(path);
		if (fd < 0)
			continue;
		unlink(path);
		if (!is_memory(fd) && !ftruncate(fd, size))
			return fd;
		close(fd);
	}

	return -1;
}

bool have_swap(void)
{
	return named_number("/proc/meminfo", "SwapFree:") > 256 * 1024;
}
