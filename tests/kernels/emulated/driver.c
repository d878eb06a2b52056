/* Calls a kernel, `void kernel(int64 *arguments)`, as a file says, and writes what it left in memory.

   In: threads, the number of arguments and of blocks of memory; the arguments; an address and a size of each block; its
   bytes. All numbers are 64 bits wide. Out: the blocks' bytes.

   A block lies elsewhere here, so arguments that point into one are moved with it. It begins at the same address modulo
   16, and ends at memory that can't be touched: what reads or writes past it is killed. */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { COUNTER, TICKET, ACTIVE, TASKS, PAGE = 4096, MOST = 64 };

void kernel(int64_t *arguments);

static void *call(void *arguments) {
    kernel(arguments);
    return 0;
}

static void read_all(void *into, size_t size, FILE *file) {
    if (fread(into, 1, size, file) != size) exit(2);
}

static char *guarded(int64_t address, int64_t size) {
    size_t pages = (size + 2 * PAGE - 1) / PAGE * PAGE;
    char *memory = mmap(0, pages + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory + pages, PAGE, PROT_NONE)) exit(3);
    char *start = memory + pages - size;
    return start - ((intptr_t)start - address) % 16;
}

int main(int count, char **names) {
    int64_t sizes[3], arguments[256], where[MOST][2];
    char *blocks[MOST];
    FILE *in = count == 3 ? fopen(names[1], "rb") : 0;
    if (!in) return 1;
    read_all(sizes, sizeof sizes, in);
    int64_t threads = sizes[0], given = sizes[1], many = sizes[2];
    if (threads > MOST || given > 256 || many > MOST) return 1;
    read_all(arguments, given * 8, in);
    read_all(where, many * 16, in);
    for (int64_t b = 0; b < many; b++) {
        blocks[b] = guarded(where[b][0] & 15, where[b][1]);
        read_all(blocks[b], where[b][1], in);
    }
    for (int64_t i = TASKS + 1; i < given; i++)
        for (int64_t b = 0; b < many; b++)
            if (arguments[i] >= where[b][0] && arguments[i] <= where[b][0] + where[b][1]) {
                arguments[i] += (intptr_t)blocks[b] - where[b][0];
                break;
            }
    pthread_t others[MOST];
    for (int64_t t = 1; t < threads; t++)
        if (pthread_create(&others[t], 0, call, arguments)) return 4;
    kernel(arguments);
    for (int64_t t = 1; t < threads; t++) pthread_join(others[t], 0);
    if (arguments[ACTIVE] || arguments[COUNTER] < arguments[TASKS]) return 5;
    FILE *out = fopen(names[2], "wb");
    if (!out) return 1;
    for (int64_t b = 0; b < many; b++)
        if (fwrite(blocks[b], 1, where[b][1], out) != (size_t)where[b][1]) return 6;
    return fclose(out);
}
