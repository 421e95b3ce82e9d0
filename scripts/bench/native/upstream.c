/* upstream: a fast HTTP/1.1 upstream for measurements, one thread, epoll.
 *
 *   upstream PORT          listens on 127.0.0.1 (port 0: any free one) and prints the port
 *
 * Keeps connections alive. An answer begins once the request's body, of any method and size, has been read. The target
 * chooses the answer:
 *   /json?bytes=N             200 application/json, a body of about N bytes (default 400)
 *   /delay?ms=D&bytes=N       the same after D milliseconds (default 20)
 *   /bytes?n=N                200 application/octet-stream, N bytes
 *   /sse?n=N&gap=G&first=F    N Server-Sent Events, the first after F microseconds, then one every G microseconds
 *                             (defaults 50, 5000, 5000; gap=0: as fast as the socket takes them), then data: [DONE].
 *                             "t" in each event: CLOCK_MONOTONIC nanoseconds when it was written, so that a reader on
 *                             the same machine knows how long it was on its way.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { IN_MAX = 1 << 16, OUT_MAX = 1 << 17, SCRATCH_BYTES = 1 << 20, MAX_READY = 256 };

enum doing { AWAITING_REQUEST, READING_BODY, DELAYING, STREAMING_EVENTS, SENDING_BYTES };

struct conn {
  int fd;
  bool closed, wants_write;
  enum doing doing;
  char target[512];  /* of the request that is being answered */
  size_t body_left;  /* of its body, still to be read */
  long events_left;
  size_t bytes_left;
  int64_t gap_ns, due_ns;
  int timer;         /* place in the heap of timers, or -1 */
  size_t n_in, n_out, at_out;
  struct conn *next_closed;
  char in[IN_MAX], out[OUT_MAX];
};

static int epoll;
static struct conn *closed_conns;   /* freed once no event of this turn can name them */
static char scratch[SCRATCH_BYTES]; /* bodies that are sent, and those that are read and dropped */

static int64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* --- timers: a binary heap, the soonest first --- */

static struct conn **heap;
static int n_heap, cap_heap;

static void heap_set(int i, struct conn *c) {
  heap[i] = c;
  c->timer = i;
}

static void heap_settle(int i, struct conn *c) {
  for (int parent; i && heap[parent = (i - 1) / 2]->due_ns > c->due_ns; i = parent) heap_set(i, heap[parent]);
  for (int child; (child = 2 * i + 1) < n_heap; i = child) {
    if (child + 1 < n_heap && heap[child + 1]->due_ns < heap[child]->due_ns) child++;
    if (heap[child]->due_ns >= c->due_ns) break;
    heap_set(i, heap[child]);
  }
  heap_set(i, c);
}

static void timer_clear(struct conn *c) {
  int i = c->timer;
  if (i < 0) return;
  struct conn *last = heap[--n_heap];
  c->timer = -1;
  if (last != c) heap_settle(i, last);
}

static void timer_set(struct conn *c) {
  if (c->timer < 0) {
    if (n_heap == cap_heap) heap = realloc(heap, sizeof *heap * (cap_heap = cap_heap ? 2 * cap_heap : 64));
    c->timer = n_heap++;
  }
  heap_settle(c->timer, c);
}

/* --- output --- */

static void drop(struct conn *c) {
  if (c->closed) return;
  timer_clear(c);
  close(c->fd);
  c->closed = true;
  c->next_closed = closed_conns;
  closed_conns = c;
}

static void want_write(struct conn *c, bool wanted) {
  if (wanted == c->wants_write) return;
  c->wants_write = wanted;
  struct epoll_event e = {.events = EPOLLIN | (wanted ? EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &e);
}

static void put(struct conn *c, const char *data, size_t n) {
  memcpy(c->out + c->n_out, data, n);
  c->n_out += n;
}

/* True when everything is out; asks to be told of room otherwise. */
static bool flush(struct conn *c) {
  while (c->at_out < c->n_out) {
    ssize_t n = send(c->fd, c->out + c->at_out, c->n_out - c->at_out, MSG_NOSIGNAL);
    if (n < 0) {
      if (errno == EAGAIN) want_write(c, true);
      else drop(c);
      return false;
    }
    c->at_out += n;
  }
  c->at_out = c->n_out = 0;
  want_write(c, false);
  return true;
}

static void put_head(struct conn *c, const char *type, size_t length) {
  c->n_out += snprintf(c->out + c->n_out, OUT_MAX - c->n_out,
                       "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", type, length);
}

static void put_json(struct conn *c, size_t bytes) {
  static const char before[] =
      "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\"message\":"
      "{\"role\":\"assistant\",\"content\":\"";
  static const char after[] = "\"}}]}";
  const size_t frame = sizeof before + sizeof after - 2;
  size_t padding = bytes > frame ? bytes - frame : 0;
  if (padding > OUT_MAX / 2) padding = OUT_MAX / 2;
  put_head(c, "application/json", frame + padding);
  put(c, before, sizeof before - 1);
  memset(c->out + c->n_out, 'x', padding);
  c->n_out += padding;
  put(c, after, sizeof after - 1);
}

static void put_event(struct conn *c) {
  char event[512];
  int n = snprintf(event, sizeof event,
                   "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\","
                   "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"token \"},\"finish_reason\":null}],"
                   "\"t\":%lld}\n\n",
                   (long long)now_ns());
  c->n_out += snprintf(c->out + c->n_out, OUT_MAX - c->n_out, "%x\r\n%s\r\n", n, event);
}

static void stream_events(struct conn *c, int64_t now) {
  static const char end[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
  if (!c->gap_ns) { /* a buffer full at a time, so that streams take turns */
    for (; c->events_left && c->n_out < OUT_MAX / 2; c->events_left--) put_event(c);
    c->due_ns = now_ns();
  }
  for (; c->gap_ns && c->events_left && now >= c->due_ns && flush(c); c->events_left--) {
    put_event(c);
    c->due_ns += c->gap_ns;
  }
  if (!c->closed && !c->events_left && c->n_out < OUT_MAX - sizeof end) {
    put(c, end, sizeof end - 1);
    c->doing = AWAITING_REQUEST;
  }
  /* One that waits for room has no timer: room wakes it. */
  if (!c->closed && flush(c) && c->doing == STREAMING_EVENTS) timer_set(c);
  else timer_clear(c);
}

static void send_bytes(struct conn *c) {
  while (c->bytes_left && flush(c)) {
    ssize_t n = send(c->fd, scratch, c->bytes_left < SCRATCH_BYTES ? c->bytes_left : SCRATCH_BYTES, MSG_NOSIGNAL);
    if (n < 0) {
      if (errno == EAGAIN) want_write(c, true);
      else drop(c);
      return;
    }
    c->bytes_left -= n;
  }
  if (!c->bytes_left && flush(c)) c->doing = AWAITING_REQUEST;
}

/* --- requests --- */

static long query(const struct conn *c, const char *key, long otherwise) {
  size_t n = strlen(key);
  for (const char *q = strchr(c->target, '?'); q; q = strchr(q, '&'))
    if (!strncmp(++q, key, n) && q[n] == '=') return atol(q + n + 1);
  return otherwise;
}

static void begin_answer(struct conn *c) {
  int64_t now = now_ns();
  if (!strncmp(c->target, "/sse", 4)) {
    static const char head[] =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
        "Transfer-Encoding: chunked\r\n\r\n";
    put(c, head, sizeof head - 1);
    c->events_left = query(c, "n", 50);
    c->gap_ns = query(c, "gap", 5000) * 1000;
    c->due_ns = now + (c->gap_ns ? query(c, "first", 5000) * 1000 : 0);
    c->doing = STREAMING_EVENTS;
    if (flush(c)) stream_events(c, now);
  } else if (!strncmp(c->target, "/bytes", 6)) {
    c->bytes_left = query(c, "n", 1 << 20);
    put_head(c, "application/octet-stream", c->bytes_left);
    c->doing = SENDING_BYTES;
    send_bytes(c);
  } else if (!strncmp(c->target, "/delay", 6)) {
    c->due_ns = now + query(c, "ms", 20) * 1000000;
    c->doing = DELAYING;
    timer_set(c);
  } else {
    put_json(c, query(c, "bytes", 400));
    c->doing = AWAITING_REQUEST;
    flush(c);
  }
}

static void take_in(struct conn *c, size_t n) {
  memmove(c->in, c->in + n, c->n_in - n);
  c->n_in -= n;
}

/* Read the head of the next request, if it is there. */
static bool begin_request(struct conn *c) {
  char *end = memmem(c->in, c->n_in, "\r\n\r\n", 4);
  if (!end) {
    if (c->n_in == IN_MAX) drop(c);
    return false;
  }
  *end = 0;
  const char *space = strchr(c->in, ' ');
  snprintf(c->target, sizeof c->target, "%.*s", space ? (int)strcspn(space + 1, " ") : 0, space ? space + 1 : "");
  const char *length = strcasestr(c->in, "\r\ncontent-length:");
  c->body_left = length ? strtoul(length + 17, NULL, 10) : 0;
  take_in(c, end + 4 - c->in);
  c->doing = READING_BODY;
  return true;
}

static void serve(struct conn *c) {
  while (!c->closed && (c->doing == READING_BODY || (c->doing == AWAITING_REQUEST && c->n_in && begin_request(c)))) {
    size_t n = c->body_left < c->n_in ? c->body_left : c->n_in;
    take_in(c, n);
    c->body_left -= n;
    if (c->body_left) return;
    begin_answer(c);
  }
}

static void on_readable(struct conn *c) {
  ssize_t n;
  if (c->doing == READING_BODY && c->body_left > IN_MAX) { /* nothing of the next request can be among it */
    n = recv(c->fd, scratch, c->body_left < SCRATCH_BYTES ? c->body_left : SCRATCH_BYTES, 0);
    if (n > 0) c->body_left -= n;
  } else {
    if (c->n_in == IN_MAX) return;
    n = recv(c->fd, c->in + c->n_in, IN_MAX - c->n_in, 0);
    if (n > 0) c->n_in += n;
  }
  if (n > 0) serve(c);
  else if (n == 0 || errno != EAGAIN) drop(c);
}

/* The connection has room, or its timer has passed. */
static void go_on(struct conn *c, int64_t now) {
  if (c->doing == DELAYING) {
    if (now < c->due_ns) return;
    timer_clear(c);
    put_json(c, query(c, "bytes", 400));
    c->doing = AWAITING_REQUEST;
    flush(c);
  } else if (c->doing == STREAMING_EVENTS) {
    if (flush(c)) stream_events(c, now);
  } else if (c->doing == SENDING_BYTES) {
    send_bytes(c);
  } else {
    flush(c);
  }
  serve(c);
}

/* --- the loop --- */

static void accept_all(int listening) {
  int fd, on = 1;
  while ((fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct conn *c = calloc(1, sizeof *c);
    c->fd = fd;
    c->timer = -1;
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e);
  }
}

static int listen_on(int port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in a = {
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t n = sizeof a;
  if (bind(fd, (void *)&a, n) || listen(fd, 4096) || getsockname(fd, (void *)&a, &n)) {
    perror("upstream");
    exit(1);
  }
  printf("%d\n", ntohs(a.sin_port));
  fflush(stdout);
  return fd;
}

int main(int argc, char **argv) {
  signal(SIGPIPE, SIG_IGN);
  memset(scratch, 'x', sizeof scratch);
  epoll = epoll_create1(0);
  int listening = listen_on(argc > 1 ? atoi(argv[1]) : 0);
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL}, ready[MAX_READY];
  epoll_ctl(epoll, EPOLL_CTL_ADD, listening, &e);
  for (;;) {
    struct timespec wait, *timeout = NULL;
    if (n_heap) {
      int64_t ns = heap[0]->due_ns - now_ns();
      if (ns < 0) ns = 0;
      wait = (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
      timeout = &wait;
    }
    int n = epoll_pwait2(epoll, ready, MAX_READY, timeout, NULL);
    int64_t now = now_ns();
    for (int i = 0; i < n; i++) {
      struct conn *c = ready[i].data.ptr;
      if (!c) {
        accept_all(listening);
        continue;
      }
      if (!c->closed && ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) on_readable(c);
      if (!c->closed && ready[i].events & EPOLLOUT) go_on(c, now);
    }
    for (now = now_ns(); n_heap && heap[0]->due_ns <= now;) {
      struct conn *c = heap[0];
      timer_clear(c); /* whoever still waits sets it anew */
      go_on(c, now);
    }
    for (struct conn *c; (c = closed_conns);) {
      closed_conns = c->next_closed;
      free(c);
    }
  }
}
