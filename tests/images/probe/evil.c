/* What an image puts in the hook's way: run or preloaded, it leaves a mark. As a program and as a shared object. */
#include <fcntl.h>
#include <unistd.h>

__attribute__((constructor)) static void mark(void)
{
	int fd = open("/run/fhir-hook-evil", O_CREAT | O_WRONLY | O_APPEND, 0644);

	if (fd >= 0) {
		if (write(fd, "ran\n", 4) != 4)
			_exit(1);
		close(fd);
	}
}

#ifndef SHARED
int main(void)
{
	return 0;
}
#endif
