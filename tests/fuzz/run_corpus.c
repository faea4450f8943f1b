/* tests/fuzz/run_corpus.c: runs files through a fuzz harness once each, for builds without libFuzzer.
 * usage: fuzz_NAME FILE_OR_FOLDER... */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int run_file(const char *path, size_t len)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = malloc(len + 1);
    if (!f || !data || fread(data, 1, len, f) != len) {
        perror(path);
        exit(1);
    }
    fclose(f);
    LLVMFuzzerTestOneInput(data, len);
    free(data);
    return 1;
}

static int run_folder(const char *path)
{
    struct dirent **entries;
    int ran = 0;
    int n = scandir(path, &entries, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char file[4096];
        struct stat st;
        snprintf(file, sizeof(file), "%s/%s", path, entries[i]->d_name);
        if (stat(file, &st) == 0 && S_ISREG(st.st_mode))
            ran += run_file(file, (size_t)st.st_size);
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    return ran;
}

int main(int argc, char **argv)
{
    int ran = 0;
    LLVMFuzzerTestOneInput(NULL, 0);
    for (int i = 1; i < argc; i++) {
        struct stat st;
        if (stat(argv[i], &st) == 0)
            ran += S_ISDIR(st.st_mode) ? run_folder(argv[i]) : run_file(argv[i], (size_t)st.st_size);
    }
    printf("%d inputs\n", ran);
    return 0;
}
