/*
 * Asks a FHIR server: load PORT PATH CLIENTS REQUESTS SECONDS CREATE,READ,UPDATE,DELETE,SEARCH
 *
 * Each client is a thread with a connection of its own that is kept open, and makes REQUESTS requests one after the
 * other, or fewer when SECONDS have passed; the five numbers are the weights of the mix. A client reads, changes and
 * deletes patients of its own; making the first one is not counted. Prints, when all are done: requests, failed ones,
 * seconds from the first request to the last answer, and the median and the 99th percentile of one request in
 * microseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define IDS 32
#define ID 80
#define SIZE (1 << 20)

struct client {
	pthread_t thread;
	unsigned seed;
	int fd, held, failed, done;
	char ids[IDS][ID];
	char *buffer;
	double *took, ended;
};

static int port, requests, weights[5];
static double seconds, began;
static const char *base;
static pthread_barrier_t ready;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static int dial(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval patience = {.tv_sec = 60};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* The value of a header, or NULL; `end` is where the headers end. */
static char *header(char *head, const char *end, const char *name)
{
	size_t length = strlen(name);

	for (char *line = head; line && line < end; line = strstr(line, "\r\n"), line = line ? line + 2 : NULL)
		if (!strncasecmp(line, name, length) && line[length] == ':')
			return line + length + 1 + strspn(line + length + 1, " ");
	return NULL;
}

/* Whether the chunked body that begins at `at` has come whole. */
static int chunks_end(const char *at, const char *end)
{
	while (at < end) {
		char *rest;
		long size = strtol(at, &rest, 16);
		const char *line = memmem(at, end - at, "\r\n", 2);
		if (!line || rest == at)
			return 0;
		if (size == 0)
			return end - line >= 4;
		at = line + 2 + size + 2;
	}
	return 0;
}

/* Reads one answer into the buffer. Returns its status, or -1; `close_after` says that the server ends the connection. */
static int answer(struct client *c, int *close_after)
{
	size_t have = 0;
	char *body = NULL;

	for (;;) {
		if (body) {
			char *length = header(c->buffer, body, "Content-Length"), *coding = header(c->buffer, body, "Transfer-Encoding");
			size_t got = c->buffer + have - body;
			int status = atoi(c->buffer + 9);
			char *connection = header(c->buffer, body, "Connection");
			*close_after = connection && !strncasecmp(connection, "close", 5);
			if (status == 204 || status == 304 || (length && got >= strtoul(length, NULL, 10)))
				return status;
			if (!length && coding && chunks_end(body, c->buffer + have))
				return status;
		}
		if (have >= SIZE - 1)
			return -1;
		ssize_t n = read(c->fd, c->buffer + have, SIZE - 1 - have);
		if (n <= 0)
			return -1;
		have += n;
		c->buffer[have] = 0;
		if (!body && (body = strstr(c->buffer, "\r\n\r\n")))
			body += 4;
	}
}

static int ask(struct client *c, const char *method, const char *path, const char *body)
{
	char request[2048];
	int close_after = 0, status;
	int length = snprintf(request, sizeof request,
			      "%s %s%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: application/fhir+json\r\n"
			      "Content-Type: application/fhir+json\r\nContent-Length: %zu\r\n\r\n%s",
			      method, base, path, port, strlen(body), body);

	if (c->fd < 0 && (c->fd = dial()) < 0)
		return -1;
	status = write(c->fd, request, length) == length ? answer(c, &close_after) : -1;
	if (status < 0 || close_after) {
		close(c->fd);
		c->fd = -1;
	}
	return status;
}

static void patient(struct client *c, char *body, size_t size, const char *id)
{
	snprintf(body, size,
		 "{\"resourceType\":\"Patient\"%s%s%s,\"active\":true,\"name\":[{\"family\":\"F%d\",\"given\":[\"Alice\"]}],"
		 "\"gender\":\"female\",\"birthDate\":\"1970-01-01\"}",
		 id ? ",\"id\":\"" : "", id ? id : "", id ? "\"" : "", rand_r(&c->seed) % 100000);
}

static int create(struct client *c)
{
	char body[512], *place, *end;
	int status;

	patient(c, body, sizeof body, NULL);
	status = ask(c, "POST", "/Patient", body);
	end = strstr(c->buffer, "\r\n\r\n");
	if (status != 201 || !end || !(place = header(c->buffer, end, "Location")) || !(place = strstr(place, "Patient/")))
		return -1;
	place += strlen("Patient/");
	/* when there are enough of them, one is let go, not deleted */
	int slot = c->held < IDS ? c->held++ : rand_r(&c->seed) % IDS;
	snprintf(c->ids[slot], ID, "%.*s", (int)strcspn(place, "/\r\n"), place);
	return status;
}

/* Makes one request of the mix; true when the server did what it was asked. */
static int one(struct client *c)
{
	int draw = rand_r(&c->seed) % (weights[0] + weights[1] + weights[2] + weights[3] + weights[4]), kind = 0, status;
	char path[256], body[512];

	while (draw >= weights[kind])
		draw -= weights[kind++];
	if (kind == 3 && c->held < 2)
		kind = 1; /* the last one stays */
	int which = rand_r(&c->seed) % c->held;
	snprintf(path, sizeof path, "/Patient/%s", c->ids[which]);
	if (kind == 0)
		return create(c) == 201;
	if (kind == 1)
		return ask(c, "GET", path, "") == 200;
	if (kind == 2) {
		patient(c, body, sizeof body, c->ids[which]);
		return ask(c, "PUT", path, body) == 200;
	}
	if (kind == 3) {
		memmove(c->ids[which], c->ids[--c->held], ID);
		status = ask(c, "DELETE", path, "");
		return status == 200 || status == 204;
	}
	snprintf(path, sizeof path, "/Patient?family=F%d", rand_r(&c->seed) % 100000);
	return ask(c, "GET", path, "") == 200;
}

static void *work(void *argument)
{
	struct client *c = argument;
	int can = create(c) == 201;

	pthread_barrier_wait(&ready);
	pthread_barrier_wait(&ready);
	if (!can)
		c->failed = 1;
	while (can && c->done < requests) {
		double start = now();
		if (start - began > seconds * 1e6)
			break;
		c->failed += !one(c);
		c->ended = now();
		c->took[c->done++] = c->ended - start;
	}
	return NULL;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	if (argc != 7 || sscanf(argv[6], "%d,%d,%d,%d,%d", weights, weights + 1, weights + 2, weights + 3, weights + 4) != 5)
		return 2;
	port = atoi(argv[1]);
	base = argv[2];
	int count = atoi(argv[3]), failed = 0;
	requests = atoi(argv[4]);
	seconds = atof(argv[5]);
	struct client *clients = calloc(count, sizeof *clients);
	pthread_attr_t small;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 1 << 17);
	pthread_barrier_init(&ready, NULL, count + 1);
	for (int i = 0; i < count; i++) {
		clients[i].seed = i + 1;
		clients[i].fd = -1;
		clients[i].buffer = malloc(SIZE);
		clients[i].took = calloc(requests, sizeof *clients[i].took);
		if (pthread_create(&clients[i].thread, &small, work, &clients[i]))
			return 3;
	}
	pthread_barrier_wait(&ready);
	began = now();
	double ended = began;
	pthread_barrier_wait(&ready);
	double *all = calloc((size_t)count * requests + 1, sizeof *all);
	size_t total = 0;
	for (int i = 0; i < count; i++) {
		pthread_join(clients[i].thread, NULL);
		memcpy(all + total, clients[i].took, clients[i].done * sizeof *all);
		total += clients[i].done;
		failed += clients[i].failed;
		if (clients[i].ended > ended)
			ended = clients[i].ended;
	}
	qsort(all, total, sizeof *all, compare);
	printf("%zu %d %.6f %.1f %.1f\n", total, failed, (ended - began) / 1e6, all[total / 2], all[total * 99 / 100]);
	return 0;
}
