/*
 * measured PROGRAM ARGUMENT...: runs it, and writes the microseconds that it took and the most KiB that it held to the
 * standard error. A process counts the memory of whoever made it as its own: so a small one has to make it.
 */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct timespec from, to;
	struct rusage used;
	int status;

	if (argc < 2)
		return 2;
	clock_gettime(CLOCK_MONOTONIC, &from);
	pid_t child = fork();
	if (child == 0) {
		execv(argv[1], argv + 1);
		_exit(127);
	}
	if (child < 0 || wait4(child, &status, 0, &used) < 0)
		return 3;
	clock_gettime(CLOCK_MONOTONIC, &to);
	fprintf(stderr, "\n%.1f %ld\n", (to.tv_sec - from.tv_sec) * 1e6 + (to.tv_nsec - from.tv_nsec) / 1e3, used.ru_maxrss);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 3;
}
