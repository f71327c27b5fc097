/* verify: are the files of each console the stream, whole and once?
 *
 * Each line of stdin names the files of one console in their order; one line of JSON for all of them.
 */
#include "stream.h"

int main(void) {
    static char line[1 << 20], data[1 << 18];
    uint64_t good = 0, lost = 0, again = 0, foreign = 0;
    make_block();
    while (fgets(line, sizeof line, stdin)) {
        struct check c = {.thorough = 1};
        for (char *path = strtok(line, " \n"); path; path = strtok(0, " \n")) {
            FILE *file = fopen(path, "r");
            if (!file) return perror(path), 1;
            for (size_t n; (n = fread(data, 1, sizeof data, file));) look(&c, data, n);
            fclose(file);
        }
        good += c.good, lost += c.lost, again += c.again, foreign += c.foreign + c.holds;
        free(c.held);
    }
    printf("{\"good\": %lu, \"lost\": %lu, \"again\": %lu, \"foreign\": %lu}\n", good, lost, again, foreign);
}
