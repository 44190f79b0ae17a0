/*
 * Forks COUNT processes, each with a thread, as fast as it can from its first moment. Every process and thread reports
 * at once, and again after SECONDS: "early|late process|thread PID TID Seccomp NoNewPrivs CapBnd".
 *   forker [COUNT [SECONDS]]
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static unsigned seconds;

static void value(const char *status, const char *key, char *to, size_t size)
{
	const char *at = strstr(status, key);
	size_t n = 0;

	if (at)
		for (at += strlen(key); *at && *at != '\n' && n < size - 1; at++)
			if (*at != '\t' && *at != ' ')
				to[n++] = *at;
	to[n] = 0;
}

static void report(const char *when, const char *what)
{
	char status[8192], seccomp[16], nnp[16], bounding[32], line[160];
	int fd = open("/proc/thread-self/status", O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, status, sizeof status - 1);

	if (fd >= 0)
		close(fd);
	status[n < 0 ? 0 : n] = 0;
	value(status, "\nSeccomp:", seccomp, sizeof seccomp);
	value(status, "\nNoNewPrivs:", nnp, sizeof nnp);
	value(status, "\nCapBnd:", bounding, sizeof bounding);
	int size = snprintf(line, sizeof line, "%s %s %d %d %s %s %s\n", when, what, getpid(), gettid(), seccomp, nnp, bounding);
	if (write(1, line, size) != size)
		_exit(1);
}

static void *run(void *what)
{
	report("early", what);
	sleep(seconds);
	report("late", what);
	return NULL;
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 32, failed = 0, status;

	seconds = argc > 2 ? atoi(argv[2]) : 0;
	if (count < 1 || count > 500)
		return 2;
	for (int i = 0; i < count; i++) {
		pid_t pid = fork();
		if (pid < 0) {
			perror("fork");
			failed = 1;
			break;
		}
		if (pid == 0) {
			pthread_t thread;
			int bad = pthread_create(&thread, NULL, run, "thread");
			run("process");
			if (!bad)
				pthread_join(thread, NULL);
			_exit(bad != 0);
		}
	}
	run("process");
	while (wait(&status) > 0)
		failed |= status != 0;
	return failed;
}
