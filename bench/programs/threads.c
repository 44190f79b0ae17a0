/* threads N: a process of N threads that all wait; says "ready" when they are there. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *wait_forever(void *none)
{
	for (;;)
		pause();
	return none;
}

int main(int argc, char **argv)
{
	pthread_attr_t small;
	pthread_t thread;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 1 << 15);
	for (int n = argc > 1 ? atoi(argv[1]) : 1; n > 1; n--)
		if (pthread_create(&thread, &small, wait_forever, NULL))
			return 1;
	puts("ready");
	fflush(stdout);
	wait_forever(NULL);
}
