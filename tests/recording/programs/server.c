/*
 * A server that calls times before it listens on 8080, getpriority for each connection, and getpgid after SIGTERM.
 * With an argument it has that many threads, each of which calls getsid and ends.
 */
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/times.h>
#include <unistd.h>

static volatile sig_atomic_t ended;

static void end(int signal)
{
	ended = signal;
}

static void *run(void *nothing)
{
	getsid(0);
	return nothing;
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = end};
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(8080)};
	struct tms spent;
	int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0);

	sigaction(SIGTERM, &action, NULL);
	times(&spent);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 16))
		return 1;
	for (int left = argc > 1 ? atoi(argv[1]) : 0; left > 0; left--) {
		pthread_t thread;
		if (pthread_create(&thread, NULL, run, NULL) == 0)
			pthread_detach(thread);
	}
	while (!ended) {
		int connection = accept(listener, NULL, NULL);
		if (connection < 0)
			continue;
		getpriority(PRIO_PROCESS, 0);
		close(connection);
	}
	getpgid(0);
	return 0;
}
