/* What the parts of wireload share: its options, its connections, and what it counts. */
#ifndef LOAD_H
#define LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct options {
  const char *socket_path, *http_address, *url;
  bool streams;          /* response mode Stream; over HTTP: answers are event streams */
  int connections, in_flight, tenants;
  double duration_s, patience_s;
  long max_requests;
  long expected_events;  /* in each stream; 0: events are not looked for */
  size_t body_bytes;     /* of each request; 0: a small JSON object */
  uint32_t window_bytes;
};
extern struct options options;

/* --- samples.c --- */

struct samples {
  int64_t *ns;
  size_t count, capacity;
};
int64_t now_ns(void);
void add_sample(struct samples *to, int64_t ns);
void sort_samples(struct samples *samples);
double percentile_us(const struct samples *sorted, double share);

/* --- exchanges and connections --- */

/* Finds "t":NANOSECONDS in a stream that is cut anywhere. */
struct event_finder {
  int matched; /* characters of the key seen so far */
  int64_t number;
};

struct exchange {
  bool busy;
  uint32_t generation; /* part of the request's id: an answer to an earlier one is not taken for this one's */
  int64_t began_ns;
  long events;
  struct event_finder finder;
};

enum http_part { HTTP_HEAD, HTTP_LENGTH, HTTP_CHUNK_SIZE, HTTP_CHUNK, HTTP_CHUNK_END, HTTP_TRAILER };

struct buffer {
  unsigned char *bytes;
  size_t begin, end, capacity;
};
void append(struct buffer *to, const void *bytes, size_t n);
void reserve(struct buffer *in, size_t n);

struct connection {
  int fd, tenant, busy;
  bool wants_write;
  struct exchange *exchanges;
  struct buffer in, out;
  size_t body_left;    /* of a request's body, to be sent after `out` */
  enum http_part part; /* of the HTTP answer, to be read next */
  size_t part_left;
  bool is_ok;
};

/* wireload.c: what the two protocols tell. */
void took_body(struct exchange *exchange, const unsigned char *data, size_t n);
void finish(struct connection *connection, int index, bool ok);
void answer_to_nothing(const char *why, size_t n);
void remember_error(const char *message, size_t n);

/* http_client.c and wire_client.c: put a request into `out`; take what is in `in`. */
void http_request(struct connection *connection);
void http_receive(struct connection *connection);
void wire_hello(struct connection *connection);
void wire_request(struct connection *connection, int index);
void wire_receive(struct connection *connection);

#endif
