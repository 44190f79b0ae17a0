/* Prints "ready" and sleeps until SIGTERM, with THREADS further threads: sleeper [THREADS] */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void end(int signal)
{
	(void)signal;
	_exit(0);
}

static void *wait_for_ever(void *unused)
{
	for (;;)
		pause();
	return unused;
}

int main(int argc, char **argv)
{
	signal(SIGTERM, end);
	signal(SIGINT, end);
	for (int i = argc > 1 ? atoi(argv[1]) : 0; i > 0; i--) {
		pthread_t thread;
		if (pthread_create(&thread, NULL, wait_for_ever, NULL))
			return 1;
	}
	puts("ready");
	fflush(stdout);
	wait_for_ever(NULL);
}
