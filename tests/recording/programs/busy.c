/* Makes three different calls COUNT times each, as fast as it can, in each of two processes: busy COUNT */
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 1;

	fork();
	for (long i = 0; i < count; i++) {
		syscall(SYS_getuid);
		syscall(SYS_getgid);
		syscall(SYS_getppid);
	}
	return 0;
}
