// SPDX-License-Identifier: GPL-2.0-only
/*
 * init of the guest: runs what /job lists and tells the host how it went.
 *
 * Each line of /job is a name and a command with its arguments, separated by
 * blanks, or the one word "shell". Results go out through the virtio port
 * named "results", where nothing that the kernel prints can mix with them:
 *
 *	= start NAME
 *	| a line that the command printed
 *	= end NAME exit STATUS		(or: signal NUMBER, or: timeout)
 *	= done
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_ARGS	256
#define COMMAND_SECONDS	3600

static FILE *results;

static void fatal(const char *what)
{
	fprintf(stderr, "init: %s: %s\n", what, strerror(errno));
	if (results) {
		fprintf(results, "= fatal %s: %s\n", what, strerror(errno));
		fflush(results);
	}
	sync();
	reboot(RB_AUTOBOOT);
	_exit(1);
}

static void mount_or_warn(const char *type, const char *dir)
{
	mkdir(dir, 0755);
	if (mount(type, dir, type, 0, NULL) && errno != EBUSY)
		fprintf(stderr, "init: mount %s: %s\n", dir, strerror(errno));
}

static void mount_all(void)
{
	mount_or_warn("devtmpfs", "/dev");
	mount_or_warn("proc", "/proc");
	mount_or_warn("sysfs", "/sys");
	mount_or_warn("debugfs", "/sys/kernel/debug");
	mount_or_warn("tracefs", "/sys/kernel/tracing");
	mount_or_warn("tmpfs", "/tmp");
	mkdir("/dev/shm", 01777);
	mount_or_warn("tmpfs", "/dev/shm");
}

/* /dev/vportNpM whose name attribute is "results". */
static FILE *open_results(void)
{
	DIR *dir = opendir("/sys/class/virtio-ports");
	struct dirent *entry;
	FILE *found = NULL;

	if (!dir)
		return NULL;

	while (!found && (entry = readdir(dir))) {
		char path[512], name[64] = "";
		FILE *file;

		snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name",
			 entry->d_name);
		file = fopen(path, "r");
		if (!file)
			continue;
		if (fscanf(file, "%63s", name) == 1 && !strcmp(name, "results")) {
			snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
			found = fopen(path, "we");
		}
		fclose(file);
	}
	closedir(dir);

	return found;
}

static void tell(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vfprintf(results, fmt, args);
	va_end(args);
	fflush(results);
}

/* Pass complete lines on, keep the rest of the buffer for later. */
static size_t pass_lines(char *buf, size_t len, int all)
{
	char *line = buf, *end;

	buf[len] = '\0';
	while ((end = strchr(line, '\n'))) {
		*end = '\0';
		tell("| %s\n", line);
		line = end + 1;
	}
	len -= line - buf;
	memmove(buf, line, len + 1);
	if (len && all) {
		tell("| %s\n", buf);
		len = 0;
	}

	return len;
}

/* Copy what the command prints until it closes the pipe; false on time-out. */
static int copy_output(int fd)
{
	time_t deadline = time(NULL) + COMMAND_SECONDS;
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	static char buf[65536];
	size_t len = 0;

	while (time(NULL) < deadline) {
		ssize_t got;

		if (poll(&pfd, 1, 1000) <= 0)
			continue;
		got = read(fd, buf + len, sizeof(buf) - 1 - len);
		if (got <= 0) {
			pass_lines(buf, len, 1);
			return 1;
		}
		len = pass_lines(buf, len + got, len + got == sizeof(buf) - 1);
	}
	pass_lines(buf, len, 1);

	return 0;
}

static void run(const char *name, char **argv)
{
	int fds[2], status, finished;
	pid_t pid;

	tell("= start %s\n", name);
	if (pipe2(fds, O_CLOEXEC))
		fatal("pipe");
	pid = fork();
	if (pid < 0)
		fatal("fork");
	if (!pid) {
		setsid();
		dup2(fds[1], 1);
		dup2(fds[1], 2);
		execv(argv[0], argv);
		dprintf(2, "%s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	close(fds[1]);

	finished = copy_output(fds[0]);
	if (!finished)
		kill(-pid, SIGKILL);
	close(fds[0]);
	waitpid(pid, &status, 0);

	if (!finished)
		tell("= end %s timeout\n", name);
	else if (WIFSIGNALED(status))
		tell("= end %s signal %d\n", name, WTERMSIG(status));
	else
		tell("= end %s exit %d\n", name, WEXITSTATUS(status));
}

static void shell(void)
{
	static char *argv[] = { "/bin/busybox", "sh", NULL };
	pid_t pid = fork();

	if (!pid) {
		setsid();
		execv("/bin/busybox", (char *[]){ "/bin/busybox", "--install",
						  "-s", "/bin", NULL });
		_exit(127);
	}
	waitpid(pid, NULL, 0);

	pid = fork();
	if (!pid) {
		int tty = open("/dev/ttyS0", O_RDWR);

		setsid();
		dup2(tty, 0);
		dup2(tty, 1);
		dup2(tty, 2);
		execv(argv[0], argv);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
}

static void run_job(FILE *job)
{
	static char line[16384];

	while (fgets(line, sizeof(line), job)) {
		char *argv[MAX_ARGS + 1] = { 0 }, *name;
		int argc = 0;

		name = strtok(line, " \t\n");
		if (!name || *name == '#')
			continue;
		while (argc < MAX_ARGS && (argv[argc] = strtok(NULL, " \t\n")))
			argc++;
		if (argc)
			run(name, argv);
		else if (!strcmp(name, "shell"))
			shell();
	}
}

/* A disk and swap; who needs them and finds none says so. */
static void prepare(void)
{
	pid_t pid;

	if (access("/prepare", R_OK))
		return;
	pid = fork();
	if (!pid) {
		freopen("/dev/null", "w", stdout);
		execl("/bin/busybox", "sh", "/prepare", NULL);
		_exit(127);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

int main(void)
{
	FILE *job;

	mount_all();
	setenv("PATH", "/bin", 1);
	setenv("HOME", "/tmp", 1);
	prepare();
	if (!access("/modules/binfmt_misc.ko", R_OK))
		setenv("DIRECT_MAP_TEST_MODULE", "/modules/binfmt_misc.ko", 1);

	job = fopen("/job", "re");
	if (!job)
		fatal("/job");
	results = open_results();
	if (!results)
		results = fopen("/dev/null", "we");

	run_job(job);

	tell("= done\n");
	sync();
	reboot(RB_AUTOBOOT);
	return 1;
}
