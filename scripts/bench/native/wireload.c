/* wireload: load on the daemon's wire protocol, or on plain HTTP for comparison; one thread, epoll. Prints one line of
 * JSON.
 *
 *   wireload -s SOCKET -u URL ...        to the daemon
 *   wireload -a HOST:PORT -u URL ...     to an HTTP server, with one request in flight per connection
 *
 *   -m stream     answers are streams (default: buffered)      -c N   connections        -p N   in flight on each
 *   -d S          begin requests for S seconds                 -n N   begin at most N    -x S   wait for them S more
 *   -e N          each stream has N events of the upstream     -b N   bytes of request body, a multiple of 4
 *   -t N          spread the connections over N tenants        -w N   stream window in bytes
 *
 * Latencies are microseconds per request; first_*: from request to first event; delay_*: the age of each event (its
 * "t") on arrival. lost_events: those that streams which ended well did not have.
 */
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { READ_BYTES = 1 << 18, MAX_READY = 256 };

struct options options = {.connections = 1, .in_flight = 1, .tenants = 1, .duration_s = 3, .patience_s = 10,
                          .max_requests = -1, .window_bytes = 262144};

static int epoll;
static struct samples latency, first, delay;
static long begun, done, errors, lost_connections, lost_events, busy;
static size_t body_bytes;
static int64_t stop_ns, last_ns;
static char last_error[200];
static unsigned char *upload_bytes;

/* --- what exchanges tell --- */

void remember_error(const char *message, size_t n) {
  snprintf(last_error, sizeof last_error, "%.*s", (int)(n < sizeof last_error ? n : sizeof last_error - 1), message);
  for (char *c = last_error; *c; c++)
    if (*c < ' ' || *c == '"' || *c == '\\') *c = '\'';
}

void answer_to_nothing(const char *why, size_t n) {
  errors++;
  if (n) remember_error(why, n);
  else remember_error("an answer to no request", 23);
}

static void took_event(struct exchange *e, int64_t written_ns, int64_t now) {
  add_sample(&delay, now - written_ns);
  if (!e->events++) add_sample(&first, now - e->began_ns);
}

static void find_events(struct exchange *e, const unsigned char *p, const unsigned char *end) {
  static const char key[] = "\"t\":";
  struct event_finder *f = &e->finder;
  int64_t now = now_ns();
  while (p < end) {
    if (f->matched == 4) {
      for (; p < end && *p >= '0' && *p <= '9'; p++) f->number = 10 * f->number + (*p - '0');
      if (p == end) return;
      took_event(e, f->number, now);
      *f = (struct event_finder){0};
    } else if (f->matched) {
      if (*p == key[f->matched]) f->matched++, p++;
      else f->matched = 0; /* the key's first character occurs once in it: none of what was matched begins another */
    } else {
      const unsigned char *found = memmem(p, end - p, key, 4);
      if (found) {
        p = found + 4;
        f->matched = 4;
      } else { /* it may begin in the last three characters */
        const unsigned char *tail = end - p > 3 ? end - 3 : p;
        p = memchr(tail, '"', end - tail);
        if (!p) return;
        p++;
        f->matched = 1;
      }
    }
  }
}

void took_body(struct exchange *e, const unsigned char *data, size_t n) {
  body_bytes += n;
  if (options.expected_events) find_events(e, data, data + n);
}

static void begin(struct connection *c, int index) {
  if (options.max_requests >= 0 && begun >= options.max_requests) return;
  struct exchange *e = &c->exchanges[index];
  *e = (struct exchange){.busy = true, .generation = e->generation + 1, .began_ns = now_ns()};
  begun++, busy++, c->busy++;
  if (options.http_address) http_request(c);
  else wire_request(c, index);
}

void finish(struct connection *c, int index, bool ok) {
  struct exchange *e = &c->exchanges[index];
  last_ns = now_ns();
  if (ok) {
    done++;
    body_bytes += options.body_bytes;
    add_sample(&latency, last_ns - e->began_ns);
    if (e->events < options.expected_events) lost_events += options.expected_events - e->events;
  } else {
    errors++;
  }
  e->busy = false;
  busy--, c->busy--;
  if (last_ns < stop_ns) begin(c, index);
}

/* --- buffers and sockets --- */

void reserve(struct buffer *b, size_t n) {
  if (b->begin) {
    memmove(b->bytes, b->bytes + b->begin, b->end - b->begin);
    b->end -= b->begin;
    b->begin = 0;
  }
  if (b->capacity < n) b->bytes = realloc(b->bytes, b->capacity = 2 * n);
}

void append(struct buffer *to, const void *bytes, size_t n) {
  if (to->capacity - to->end < n) reserve(to, to->end - to->begin + n);
  memcpy(to->bytes + to->end, bytes, n);
  to->end += n;
}

static void lose(struct connection *c) {
  lost_connections++;
  errors += c->busy;
  busy -= c->busy;
  c->busy = 0;
  close(c->fd);
  c->fd = -1;
}

/* False when the socket takes no more for now, or is gone. */
static bool send_some(struct connection *c, const unsigned char *data, size_t n, size_t *sent) {
  ssize_t k = send(c->fd, data, n, MSG_NOSIGNAL);
  if (k < 0) {
    if (errno != EAGAIN) lose(c);
    return false;
  }
  *sent = k;
  return true;
}

static void flush(struct connection *c) {
  size_t sent;
  bool goes_on = true;
  while (goes_on && c->out.begin < c->out.end)
    if ((goes_on = send_some(c, c->out.bytes + c->out.begin, c->out.end - c->out.begin, &sent))) c->out.begin += sent;
  while (goes_on && c->body_left)
    if ((goes_on = send_some(c, upload_bytes + options.body_bytes - c->body_left, c->body_left, &sent)))
      c->body_left -= sent;
  if (c->fd < 0) return;
  if (c->out.begin == c->out.end) c->out.begin = c->out.end = 0;
  bool wants_write = c->out.end || c->body_left;
  if (wants_write == c->wants_write) return;
  c->wants_write = wants_write;
  struct epoll_event e = {.events = EPOLLIN | (wants_write ? EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &e);
}

static void receive(struct connection *c) {
  if (c->in.capacity - c->in.end < READ_BYTES) reserve(&c->in, c->in.end - c->in.begin + READ_BYTES);
  ssize_t n = recv(c->fd, c->in.bytes + c->in.end, c->in.capacity - c->in.end, 0);
  if (n == 0 || (n < 0 && errno != EAGAIN)) {
    lose(c);
  } else if (n > 0) {
    c->in.end += n;
    if (options.http_address) http_receive(c);
    else wire_receive(c);
    if (c->in.begin == c->in.end) c->in.begin = c->in.end = 0;
  }
}

static int connect_to(struct sockaddr *address, socklen_t size, const char *name) {
  int fd = socket(address->sa_family, SOCK_STREAM, 0), on = 1;
  if (fd < 0 || connect(fd, address, size)) {
    fprintf(stderr, "wireload: cannot connect to %s: %s\n", name, strerror(errno));
    exit(1);
  }
  if (address->sa_family == AF_INET) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  return fd;
}

static int connect_once(void) {
  if (options.socket_path) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", options.socket_path);
    return connect_to((void *)&a, sizeof a, options.socket_path);
  }
  char host[64];
  const char *colon = strrchr(options.http_address, ':');
  snprintf(host, sizeof host, "%.*s", (int)(colon - options.http_address), options.http_address);
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(colon + 1))};
  inet_pton(AF_INET, host, &a.sin_addr);
  return connect_to((void *)&a, sizeof a, options.http_address);
}

static struct connection *open_connections(void) {
  struct connection *all = calloc(options.connections, sizeof *all);
  for (int i = 0; i < options.connections; i++) {
    struct connection *c = &all[i];
    c->fd = connect_once();
    c->tenant = i % options.tenants;
    c->exchanges = calloc(options.in_flight, sizeof *c->exchanges);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &e);
    if (options.socket_path && (options.streams || options.body_bytes)) wire_hello(c);
  }
  return all;
}

/* --- the run --- */

static void run(struct connection *all, int64_t until_ns) {
  struct epoll_event ready[MAX_READY];
  for (int i = 0; i < options.connections; i++) {
    for (int k = 0; k < options.in_flight; k++) begin(&all[i], k);
    flush(&all[i]);
  }
  while (busy && now_ns() < until_ns) {
    int n = epoll_wait(epoll, ready, MAX_READY, 500);
    for (int i = 0; i < n; i++) {
      struct connection *c = ready[i].data.ptr;
      if (c->fd >= 0 && ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(c);
      if (c->fd >= 0) flush(c);
    }
  }
}

static void print_percentiles(const char *name, struct samples *samples) {
  sort_samples(samples);
  printf(",\"%sp50_us\":%.1f,\"%sp95_us\":%.1f,\"%sp99_us\":%.1f,\"%smax_us\":%.1f", name, percentile_us(samples, .5),
         name, percentile_us(samples, .95), name, percentile_us(samples, .99), name, percentile_us(samples, 1));
}

static void report(double took_s) {
  printf("{\"requests\":%ld,\"errors\":%ld,\"lost_connections\":%ld,\"unanswered\":%ld,\"lost_events\":%ld,"
         "\"took_s\":%.6f,\"per_s\":%.1f,\"mb_per_s\":%.3f",
         done, errors, lost_connections, busy, lost_events, took_s, done / took_s,
         body_bytes / 1e6 / took_s);
  print_percentiles("", &latency);
  if (options.expected_events) {
    printf(",\"events\":%zu,\"events_per_s\":%.1f", delay.count, delay.count / took_s);
    print_percentiles("first_", &first);
    print_percentiles("delay_", &delay);
  }
  if (*last_error) printf(",\"last_error\":\"%s\"", last_error);
  printf("}\n");
}

static bool read_options(int argc, char **argv) {
  for (int o; (o = getopt(argc, argv, "s:a:u:m:c:p:d:n:x:e:b:t:w:")) != -1;) switch (o) {
      case 's': options.socket_path = optarg; break;
      case 'a': options.http_address = optarg; break;
      case 'u': options.url = optarg; break;
      case 'm': options.streams = !strcmp(optarg, "stream"); break;
      case 'c': options.connections = atoi(optarg); break;
      case 'p': options.in_flight = atoi(optarg); break;
      case 'd': options.duration_s = atof(optarg); break;
      case 'n': options.max_requests = atol(optarg); break;
      case 'x': options.patience_s = atof(optarg); break;
      case 'e': options.expected_events = atol(optarg); break;
      case 'b': options.body_bytes = strtoul(optarg, NULL, 10); break;
      case 't': options.tenants = atoi(optarg); break;
      case 'w': options.window_bytes = atoi(optarg); break;
      default: return false;
    }
  return options.url && !options.socket_path != !options.http_address && optind == argc &&
         (options.in_flight == 1 || !(options.http_address || options.body_bytes));
}

int main(int argc, char **argv) {
  if (!read_options(argc, argv)) {
    fprintf(stderr, "wireload: see the head of wireload.c for its options\n");
    return 2;
  }
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  upload_bytes = malloc(options.body_bytes + 1);
  memset(upload_bytes, 'x', options.body_bytes);
  epoll = epoll_create1(0);
  struct connection *all = open_connections();
  int64_t began_ns = last_ns = now_ns();
  stop_ns = began_ns + (int64_t)(options.duration_s * 1e9);
  run(all, stop_ns + (int64_t)(options.patience_s * 1e9));
  report(last_ns > began_ns ? (last_ns - began_ns) / 1e9 : 1e-9);
  return 0;
}
