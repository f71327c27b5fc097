/* The stream that every simulated node says, and the check that a reader got it.
 *
 * All nodes say the same: 64-byte lines with ascending numbers, which begin again after 65,536 lines (4 MiB).  So a
 * sender formats nothing, and a reader compares with memcmp.  A loss of exactly 4 MiB would go unseen; nobody loses that.
 */
#ifndef STREAM_H
#define STREAM_H
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define LINE 64u
#define LINES 65536u
#define PERIOD (LINE * LINES)

static char *block; /* two periods, so that any stretch of one is contiguous */

static inline void make_block(void) {
    if (!(block = malloc(2 * PERIOD + 1))) abort();
    for (uint32_t i = 0; i < 2 * LINES; i++)
        snprintf(block + i * LINE, LINE + 1, "%08u the quick brown fox jumps over the lazy dog 0123456%02u\r\n", i % LINES, i % LINES % 100);
}

static inline double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static inline double cpu(void) { /* seconds that this process has used */
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return r.ru_utime.tv_sec + r.ru_stime.tv_sec + (r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

struct check {
    uint64_t good, lost, again, foreign; /* bytes: in their place, missing, repeated, not of the stream */
    uint32_t next;                       /* the place in the period of the next byte */
    int begun, thorough;                 /* thorough: every byte, and not one line of each piece */
    char *held;                          /* what could not be placed yet */
    size_t holds, room;
};

static inline size_t alike(const char *a, const char *b, size_t size) { /* for how many bytes */
    size_t n = 0;
    while (n + 256 <= size && !memcmp(a + n, b + n, 256)) n += 256;
    while (n < size && a[n] == b[n]) n++;
    return n;
}

/* Where the next whole line of the stream begins in `data`; `size` if there is none. */
static inline size_t next_line(const char *data, size_t size, uint32_t *at) {
    for (size_t i = 0; i + LINE <= size; i++) {
        uint32_t number = 0, digits = 0;
        while (digits < 8 && data[i + digits] >= '0' && data[i + digits] <= '9') number = number * 10 + data[i + digits++] - '0';
        if (digits == 8 && number < LINES && !memcmp(data + i, block + number * LINE, LINE)) {
            *at = number * LINE;
            return i;
        }
    }
    return size;
}

/* Find the next whole line in what is held, and say what that means. */
static inline void place(struct check *c) {
    size_t done = 0;
    while (done < c->holds) {
        const char *data = c->held + done;
        size_t size = c->holds - done;
        uint32_t at = 0;
        size_t i = next_line(data, size, &at);
        if (i == size) break;
        uint32_t step = c->begun ? (at - c->next) % PERIOD : 0;
        if (step <= i && !memcmp(data + i - step, block + c->next, step)) {
            c->foreign += i - step; /* something stands between, and nothing is missing */
            c->good += step;
        } else {
            c->foreign += i;
            if (step > PERIOD - PERIOD / 4) c->again += PERIOD - step;
            else c->lost += step;
        }
        size_t same = alike(data + i, block + at, size - i < PERIOD ? size - i : PERIOD);
        c->good += same;
        c->next = (at + same) % PERIOD;
        c->begun = 1;
        done += i + same;
    }
    c->holds -= done;
    if (c->holds > 1 << 20) { /* a megabyte of something else */
        c->foreign += c->holds - LINE;
        done += c->holds - LINE;
        c->holds = LINE;
    }
    memmove(c->held, c->held + done, c->holds);
}

/* So many bytes were thrown away unread.  Whether they were the right ones is seen by what follows. */
static inline void skip(struct check *c, size_t size) {
    c->good += size;
    c->next = (c->next + size) % PERIOD;
}

/* The next `size` bytes. */
static inline void look(struct check *c, const char *data, size_t size) {
    const char *start = data;
    while (size && c->begun && !c->holds) {
        size_t n = size < PERIOD ? size : PERIOD;
        const char *want = block + c->next;
        size_t last = n - (c->next + n) % LINE - LINE; /* of n >= 2 * LINE: the last whole line */
        size_t same = n;
        if (c->thorough || n < 2 * LINE || memcmp(data, want, 8) || memcmp(data + last, want + last, LINE))
            same = alike(data, want, n);
        c->good += same;
        c->next = (c->next + same) % PERIOD;
        data += same;
        size -= same;
        if (same < n) { /* the beginning of a wrong line may be alike: none of it was right */
            size_t back = c->next % LINE < (size_t)(data - start) ? c->next % LINE : (size_t)(data - start);
            c->good -= back, c->next -= back;
            data -= back, size += back;
            break;
        }
    }
    if (!size) return;
    if (c->holds + size > c->room && !(c->held = realloc(c->held, c->room = 2 * (c->holds + size)))) abort();
    memcpy(c->held + c->holds, data, size);
    c->holds += size;
    place(c);
}
#endif
