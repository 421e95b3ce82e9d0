/* The daemon's wire protocol: frames, and the few tables that a load needs, written by hand.
 *
 * Slots are those of schemas/connector_ipc.fbs. A table is laid out as: root offset, vtable, the table's own fields at
 * fixed places, then its strings and vectors in the order in which they are set.
 */
#define _GNU_SOURCE
#include "load.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { EXECUTE_REQUEST, EXECUTE_RESPONSE, CREDIT_UPDATE = 4, HELLO, RESPONSE_HEAD, BODY_CHUNK, RESPONSE_END };
enum { HEADER_BYTES = 5, MAX_TABLE_BYTES = 4096, MAX_FRAME_BYTES = 10 << 20, DEADLINE_MS = 600000 };

/* --- writing a table --- */

struct table {
  unsigned char bytes[MAX_TABLE_BYTES];
  size_t at, end;
};

static size_t aligned(size_t n, size_t to) { return (n + to - 1) / to * to; }

static void table_begin(struct table *t, int slots, int field_bytes) {
  const uint16_t sizes[2] = {4 + 2 * slots, field_bytes};
  t->at = aligned(4 + sizes[0], 8);
  t->end = aligned(t->at + field_bytes, 4);
  memset(t->bytes, 0, t->end);
  *(uint32_t *)t->bytes = t->at;
  memcpy(t->bytes + 4, sizes, sizeof sizes);
  *(int32_t *)(t->bytes + t->at) = t->at - 4;
}

/* Where the slot's value stands: `offset` bytes into the table. */
static void *table_field(struct table *t, int slot, int offset) {
  *(uint16_t *)(t->bytes + 8 + 2 * slot) = offset;
  return t->bytes + t->at + offset;
}

/* A vector whose `n` bytes are at most those that still fit; data NULL: they follow the table. */
static void table_vector(struct table *t, int slot, int offset, const void *data, size_t n) {
  *(uint32_t *)table_field(t, slot, offset) = t->end - (t->at + offset);
  *(uint32_t *)(t->bytes + t->end) = n;
  t->end += 4;
  if (!data) return;
  memset(t->bytes + t->end, 0, n + 4); /* a string's NUL, and padding */
  memcpy(t->bytes + t->end, data, n);
  t->end = aligned(t->end + n + 1, 4);
}

static void table_string(struct table *t, int slot, int offset, const char *text) {
  table_vector(t, slot, offset, text, strlen(text));
}

/* `following`: bytes of a body that are sent after the table, and belong to it. */
static void put_frame(struct connection *c, int type, const struct table *t, size_t following) {
  uint32_t length = htonl(1 + t->end + following);
  unsigned char kind = type;
  append(&c->out, &length, 4);
  append(&c->out, &kind, 1);
  append(&c->out, t->bytes, t->end);
}

/* --- what is sent --- */

void wire_hello(struct connection *c) {
  struct table t;
  table_begin(&t, 4, 20);
  *(uint16_t *)table_field(&t, 0, 16) = 1; /* protocol_version */
  *(uint32_t *)table_field(&t, 2, 8) = MAX_FRAME_BYTES;
  *(uint32_t *)table_field(&t, 3, 12) = options.window_bytes;
  table_string(&t, 1, 4, "wireload");
  put_frame(c, HELLO, &t, 0);
}

static void put_credit(struct connection *c, uint64_t id, int32_t bytes) {
  struct table t;
  table_begin(&t, 3, 16);
  *(int32_t *)table_field(&t, 0, 4) = bytes;
  *(uint64_t *)table_field(&t, 2, 8) = id;
  put_frame(c, CREDIT_UPDATE, &t, 0);
}

/* An HttpRequest whose body of `body_bytes` bytes follows. */
static void upload(struct table *t) {
  table_begin(t, 5, 20);
  table_string(t, 0, 4, "POST");
  table_string(t, 1, 8, options.url);
  table_vector(t, 3, 12, NULL, options.body_bytes);
}

void wire_request(struct connection *c, int index) {
  static char small[2048];
  static int n_small;
  if (!n_small)
    n_small = snprintf(small, sizeof small,
                       "{\"method\":\"POST\",\"url\":\"%s\",\"headers\":{\"Content-Type\":\"application/json\","
                       "\"Authorization\":\"Bearer sk-bench\"},\"body\":\"{\\\"model\\\":\\\"m\\\",\\\"messages\\\":"
                       "[{\\\"role\\\":\\\"user\\\",\\\"content\\\":\\\"hello\\\"}]}\"}",
                       options.url);
  struct table t;
  char tenant[32];
  snprintf(tenant, sizeof tenant, "bench-%d", c->tenant);
  table_begin(&t, 11, 40);
  *(uint64_t *)table_field(&t, 0, 8) = (uint64_t)c->exchanges[index].generation << 16 | (index + 1);
  *(uint64_t *)table_field(&t, 6, 24) = (uint64_t)time(NULL) * 1000 + DEADLINE_MS;
  *(uint8_t *)table_field(&t, 9, 36) = options.streams;
  *(uint8_t *)table_field(&t, 10, 37) = options.body_bytes > 0; /* payload_format HttpRequest */
  table_string(&t, 1, 4, tenant);
  table_string(&t, 4, 16, "http");
  table_string(&t, 5, 20, "request");
  if (options.body_bytes) {
    struct table http;
    upload(&http);
    /* The payload is the inner table, and the body that follows it. */
    table_vector(&t, 7, 32, NULL, http.end + options.body_bytes);
    memcpy(t.bytes + t.end, http.bytes, http.end);
    t.end += http.end;
    c->body_left = options.body_bytes;
  } else {
    table_vector(&t, 7, 32, small, n_small);
  }
  put_frame(c, EXECUTE_REQUEST, &t, c->body_left);
}

/* --- what arrives --- */

static const unsigned char *field(const unsigned char *b, int slot) {
  const unsigned char *table = b + *(const uint32_t *)b, *vtable = table - *(const int32_t *)table;
  int at = 4 + 2 * slot;
  if (at >= *(const uint16_t *)vtable) return NULL;
  uint16_t offset = *(const uint16_t *)(vtable + at);
  return offset ? table + offset : NULL;
}

/* The bytes of a string or vector; none: NULL, and 0 of them. */
static const unsigned char *vector(const unsigned char *b, int slot, size_t *n) {
  const unsigned char *at = field(b, slot);
  *n = 0;
  if (!at) return NULL;
  at += *(const uint32_t *)at;
  *n = *(const uint32_t *)at;
  return at + 4;
}

static void take_message(struct connection *c, int type, const unsigned char *message) {
  size_t n;
  const unsigned char *data = field(message, 0);
  uint64_t id = data ? *(const uint64_t *)data : 0;
  int index = (int)(id & 0xffff) - 1;
  bool is_end = type == EXECUTE_RESPONSE || type == RESPONSE_END;
  if (index < 0 || index >= options.in_flight || !c->exchanges[index].busy ||
      id >> 16 != c->exchanges[index].generation) {
    data = vector(message, 2, &n);
    if (!is_end) n = 0;
    answer_to_nothing((const char *)data, n);
  } else if (type == BODY_CHUNK) {
    data = vector(message, 1, &n);
    took_body(&c->exchanges[index], data, n);
    put_credit(c, id, n);
  } else if (is_end) {
    const unsigned char *class = field(message, 1);
    bool ok = !class || !*class;
    data = vector(message, 2, &n);
    if (!ok && data) remember_error((const char *)data, n);
    finish(c, index, ok);
  }
}

void wire_receive(struct connection *c) {
  struct buffer *in = &c->in;
  while (in->end - in->begin >= HEADER_BYTES) {
    const unsigned char *frame = in->bytes + in->begin;
    uint32_t length;
    memcpy(&length, frame, 4);
    length = ntohl(length);
    if (in->end - in->begin < 4 + (size_t)length) {
      reserve(in, 4 + (size_t)length);
      return;
    }
    int type = frame[4];
    in->begin += 4 + (size_t)length;
    if (type == EXECUTE_RESPONSE || (type >= RESPONSE_HEAD && type <= RESPONSE_END))
      take_message(c, type, frame + HEADER_BYTES);
  }
}
