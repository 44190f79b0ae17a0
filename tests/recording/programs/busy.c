/* Makes different calls as fast as it can for SECONDS, in two processes: busy SECONDS */
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 1);

	fork();
	while (time(NULL) < end)
		for (int i = 0; i < 10000; i++) {
			syscall(SYS_getuid);
			syscall(SYS_getgid);
			syscall(SYS_getppid);
		}
	return 0;
}
