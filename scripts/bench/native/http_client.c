/* One exchange at a time over HTTP/1.1, keep-alive (RFC 9112): Content-Length and chunked bodies. */
#define _GNU_SOURCE
#include "load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char SMALL_BODY[] = "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}";

void http_request(struct connection *c) {
  char head[1024];
  const char *path = strchr(options.url + strlen("http://"), '/');
  size_t length = options.body_bytes ? options.body_bytes : sizeof SMALL_BODY - 1;
  int n = snprintf(head, sizeof head,
                   "POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                   path ? path : "/", length);
  append(&c->out, head, n);
  if (options.body_bytes) c->body_left = options.body_bytes;
  else append(&c->out, SMALL_BODY, length);
}

static bool take_head(struct connection *c) {
  char *head = (char *)c->in.bytes + c->in.begin;
  char *end = memmem(head, c->in.end - c->in.begin, "\r\n\r\n", 4);
  if (!end) return false;
  *end = 0;
  c->is_ok = !strncmp(head + strlen("HTTP/1.1 "), "200", 3);
  if (!c->is_ok) remember_error(head, strcspn(head, "\r"));
  const char *length = strcasestr(head, "\r\ncontent-length:");
  c->part = length ? HTTP_LENGTH : HTTP_CHUNK_SIZE; /* the upstream and nginx always send the one or the other */
  c->part_left = length ? strtoul(length + 17, NULL, 10) : 0;
  c->in.begin += end + 4 - head;
  return true;
}

static void take_data(struct connection *c) {
  size_t n = c->in.end - c->in.begin;
  if (n > c->part_left) n = c->part_left;
  took_body(&c->exchanges[0], c->in.bytes + c->in.begin, n);
  c->in.begin += n;
  c->part_left -= n;
}

/* A line that ends in CRLF: true, and *begin is where it begins. */
static bool take_line(struct connection *c, const char **begin) {
  *begin = (char *)c->in.bytes + c->in.begin;
  char *end = memmem(*begin, c->in.end - c->in.begin, "\r\n", 2);
  if (!end) return false;
  *end = 0;
  c->in.begin += end + 2 - *begin;
  return true;
}

void http_receive(struct connection *c) {
  const char *line;
  while (c->in.begin < c->in.end || (c->part == HTTP_LENGTH && !c->part_left)) {
    switch (c->part) {
      case HTTP_HEAD:
        if (!take_head(c)) return;
        break;
      case HTTP_LENGTH:
        take_data(c);
        if (c->part_left) return;
        c->part = HTTP_HEAD;
        finish(c, 0, c->is_ok);
        break;
      case HTTP_CHUNK_SIZE:
        if (!take_line(c, &line)) return;
        c->part_left = strtoul(line, NULL, 16);
        c->part = c->part_left ? HTTP_CHUNK : HTTP_TRAILER;
        break;
      case HTTP_CHUNK:
        take_data(c);
        if (!c->part_left) c->part = HTTP_CHUNK_END;
        break;
      case HTTP_CHUNK_END:
        if (!take_line(c, &line)) return;
        c->part = HTTP_CHUNK_SIZE;
        break;
      case HTTP_TRAILER:
        if (!take_line(c, &line)) return;
        if (*line) break;
        c->part = HTTP_HEAD;
        finish(c, 0, c->is_ok);
        break;
    }
  }
}
