/* replay/options.c: the command line. See options.h. */
#include "replay/options.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/number.h"
#include "core/cpu.h"
#include "core/mem.h"
#include "replay/position.h"

enum kind { FLAG, TEXT, SIZE, NUMBER, POSITION, DURATION, CLOCK, CPU, FLIP };

struct option_row {
    const char *name, *value; /* value: what the help calls the argument */
    enum kind kind;
    size_t offset;            /* into struct options; for FLIP of flip_gpa */
    unsigned commands;
    const char *help;         /* NULL: not listed, for tests */
};

#define AT(field) offsetof(struct options, field)
#define CONSOLE_DEFAULT "stdio"
enum { BOOT = CMD_RUN | CMD_RECORD, RUNNING = BOOT | CMD_REPLAY };

static const struct option_row rows[] = {
    {"-o", "FILE", TEXT, AT(output), CMD_RECORD, "write the recording to FILE (required)"},
    {"-o", "FILE", TEXT, AT(output), CMD_REPLAY, "with --live: record what follows; FILE stands alone"},
    {"--initrd", "F", TEXT, AT(initrd), BOOT, "initial RAM disk; the module of a Multiboot kernel"},
    {"--append", "TEXT", TEXT, AT(append), BOOT, "kernel command line"},
    {"--firmware", "F", TEXT, AT(firmware), BOOT, "start a raw firmware image at the reset vector instead of a kernel"},
    {"--memory", "SIZE", SIZE, AT(memory), BOOT, "guest RAM, e.g. 512M (default) or 4G; 1M to 64G"},
    {"--clock", "host|virtual", CLOCK, AT(host_clock), BOOT,
     "guest time follows the host's (default), or is a function of ticks alone"},
    {"--cpu", "+F,-F", CPU, AT(cpu_features), BOOT, "CPU model options: sha, mitigations"},
    {"--engine", "NAME", TEXT, AT(engine), RUNNING, "what executes the guest: dbt (default), interp, mixed"},
    {"--engine", "A", TEXT, AT(engine), CMD_BISECT, "the engine in question (default dbt)"},
    {"--against", "B", TEXT, AT(against), CMD_BISECT, "the engine it is compared with (default interp)"},
    {"--live", NULL, FLAG, AT(live), CMD_REPLAY, "from --to POSITION on, run live: what if something else happened?"},
    {"--console", "SPEC", TEXT, AT(console), BOOT, "COM1 goes to stdio (default), none or unix:PATH"},
    {"--console", "SPEC", TEXT, AT(console), CMD_REPLAY, "with --live: as of run"},
    {"--limit-ticks", "N", NUMBER, AT(limit_ticks), BOOT | CMD_BISECT, "end after N ticks"},
    {"--limit-ticks", "N", NUMBER, AT(limit_ticks), CMD_REPLAY, "with --live: end after N ticks (since the beginning)"},
    {"--checkpoint-every", "TIME", DURATION, AT(checkpoint_ns), CMD_RECORD,
     "put checkpoints into the recording, so that debugging can start in the middle; e.g. 250ms (or 250 million ticks)"},
    {"--checkpoint-ticks", "N", NUMBER, AT(checkpoint_ticks), CMD_INDEX, "ticks between checkpoints (default 250000000)"},
    {"-o", "FILE", TEXT, AT(output), CMD_INDEX, "write the copy with checkpoints to FILE (default: replace the recording)"},
    {"--verify", NULL, FLAG, AT(verify), CMD_RECORD, "replay the recording at once"},
    {"--to", "POSITION", POSITION, AT(to), CMD_REPLAY, "stop there: ticks, N%, start, end, or eEVENT: before that input"},
    {"--quiet", NULL, FLAG, AT(quiet), CMD_REPLAY, "do not print the console again"},
    {"--force", NULL, FLAG, AT(force), CMD_REPLAY | CMD_BISECT | CMD_INDEX | CMD_DEBUG,
     "try although this host is of another class than the recording's"},
    {"--stats", NULL, FLAG, AT(stats), RUNNING, "say at the end what the engine did: code translated, TLB fills, ..."},
    {"--gdb", "WHERE", TEXT, AT(gdb), BOOT, "let gdb attach at any time; WHERE is [HOST:]PORT or unix:PATH"},
    {"--gdb-wait", NULL, FLAG, AT(gdb_wait), BOOT, "with --gdb: do not start the guest before gdb lets it"},
    {"--gdb-i386", NULL, FLAG, AT(gdb_i386), BOOT | CMD_DEBUG, "describe a 32-bit CPU to gdb, as it wants for a 32-bit kernel"},
    {"--at", "POSITION", POSITION, AT(at), CMD_DEBUG,
     "start there: ticks, N%, start, end (default), or eEVENT: before that input"},
    {"--symbols", "VMLINUX", TEXT, AT(symbols), CMD_DEBUG, "the kernel's ELF file with its symbols (default: what the guest has)"},
    {"--gdb", "WHERE", TEXT, AT(gdb), CMD_DEBUG, "start no gdb, wait for one; WHERE is [HOST:]PORT or unix:PATH"},
    {"--engine", "NAME", TEXT, AT(engine), CMD_DEBUG | CMD_INDEX, "what executes the guest: dbt (default), interp, mixed"},
    {"--checkpoint-memory", "SIZE", SIZE, AT(checkpoint_memory), CMD_DEBUG,
     "memory for checkpoints (default 512M): more of it makes going back faster"},
    {"--json", NULL, FLAG, AT(json), CMD_INFO | CMD_DUMP, "print JSON"},
    {"--test-flip", "GPA:BIT@TICKS", FLIP, AT(flip_gpa), CMD_REPLAY, NULL},
    {"--test-alter-event", "SEQ", NUMBER, AT(alter_seq), CMD_REPLAY, NULL},
};

static bool parse_number(const char *s, char **end, uint64_t *out)
{
    if (*s < '0' || *s > '9')
        return false;
    errno = 0;
    *out = strtoull(s, end, 0);
    return !errno;
}

static struct err *parse_size(const struct option_row *o, const char *s, uint64_t *out)
{
    static const char suffixes[] = "KMG";
    char *end;
    const char *suffix;
    if (parse_number(s, &end, out)) {
        suffix = *end ? strchr(suffixes, *end) : NULL;
        unsigned shift = suffix ? 10 * (unsigned)(suffix - suffixes + 1) : 0;
        bool clean = suffix ? !end[1] : !*end;
        if (clean && *out <= MEM_RAM_MAX >> shift) {
            *out <<= shift;
            if (*out >= MIB(1) && *out <= MEM_RAM_MAX && !(*out & PAGE_MASK))
                return NULL;
        }
    }
    return err_new(ERR_USAGE, "%s %s: expected a size from 1M to 64G in whole pages, such as 512M", o->name, s);
}

static struct err *parse_duration(const struct option_row *o, const char *s, uint64_t *out)
{
    static const struct { const char *suffix; uint64_t ns; } units[] = {
        {"us", NS_PER_S / 1000000}, {"ms", NS_PER_S / 1000}, {"s", NS_PER_S}, {"min", 60 * NS_PER_S}};
    char *end;
    uint64_t n;
    if (parse_number(s, &end, &n))
        for (size_t i = 0; i < ARRAY_LEN(units); i++)
            if (!strcmp(end, units[i].suffix) && n && n <= UINT64_MAX / 2 / units[i].ns) {
                *out = n * units[i].ns;
                return NULL;
            }
    return err_new(ERR_USAGE, "%s %s: expected a time with its unit, such as 250ms or 5s", o->name, s);
}

static struct err *parse_flip(const struct option_row *o, const char *s, struct options *out)
{
    char *end;
    uint64_t b;
    if (parse_number(s, &end, &out->flip_gpa) && *end == ':' && parse_number(end + 1, &end, &b) && b < 8 && *end == '@' &&
        parse_number(end + 1, &end, &out->flip_ticks) && !*end) {
        out->flip_bit = (unsigned)b;
        return NULL;
    }
    return err_new(ERR_USAGE, "%s %s: expected %s", o->name, s, o->value);
}

static struct err *set_value(const struct option_row *o, const char *s, struct options *out)
{
    void *field = (char *)out + o->offset;
    switch (o->kind) {
    case FLAG:
        *(bool *)field = true;
        return NULL;
    case TEXT:
        *(const char **)field = s;
        return NULL;
    case SIZE:
        return parse_size(o, s, field);
    case NUMBER:
        if (number_parse(s, field))
            return NULL;
        return err_new(ERR_USAGE, "%s %s: expected a number", o->name, s);
    case POSITION:
        *(const char **)field = s;
        return position_like(s) ? NULL : err_new(ERR_USAGE, "%s %s: expected %s", o->name, s, POSITION_FORMS);
    case DURATION:
        return parse_duration(o, s, field);
    case CLOCK:
        *(bool *)field = !strcmp(s, "host");
        if (!strcmp(s, "host") || !strcmp(s, "virtual"))
            return NULL;
        return err_new(ERR_USAGE, "--clock %s: expected host or virtual", s);
    case CPU:
        return cpu_parse_features(s, field);
    case FLIP:
        break;
    }
    return parse_flip(o, s, out);
}

static const struct option_row *find_row(unsigned command, const char *arg, size_t len)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if ((rows[i].commands & command) && strlen(rows[i].name) == len && !strncmp(rows[i].name, arg, len))
            return &rows[i];
    return NULL;
}

/* "--name value", "--name=value", "--flag". *i is left on the last argument used. */
static struct err *parse_option(unsigned command, int argc, char **argv, int *i, struct options *out)
{
    const char *arg = argv[*i], *eq = strncmp(arg, "--", 2) ? NULL : strchr(arg, '=');
    size_t len = eq ? (size_t)(eq - arg) : strlen(arg);
    const struct option_row *o = find_row(command, arg, len);
    if (!o)
        return err_new(ERR_USAGE, "%s: unknown option %.*s; `hyperwind help %s` lists them", argv[0], (int)len, arg, argv[0]);
    if (o->kind == FLAG && eq)
        return err_new(ERR_USAGE, "%s takes no value", o->name);
    if (o->kind != FLAG && !eq && *i + 1 >= argc)
        return err_new(ERR_USAGE, "%s needs a value: %s", o->name, o->value);
    const char *value = o->kind == FLAG ? NULL : eq ? eq + 1 : argv[++*i];
    return set_value(o, value, out);
}

static struct err *check(unsigned command, const char *name, const struct options *o)
{
    if (command & BOOT) {
        if (!o->file && !o->firmware)
            return err_new(ERR_USAGE, "%s: which kernel? Give a bzImage, an ELF or Multiboot kernel, or --firmware", name);
        if (o->file && o->firmware)
            return err_new(ERR_USAGE, "%s: a kernel and --firmware exclude each other", name);
        if (o->firmware && o->initrd)
            return err_new(ERR_USAGE, "%s: --initrd goes with a kernel, not with --firmware", name);
    } else if (!o->file) {
        return err_new(ERR_USAGE, "%s: which recording?", name);
    }
    if ((command & BOOT) && o->gdb_wait && !o->gdb)
        return err_new(ERR_USAGE, "%s: --gdb-wait goes with --gdb WHERE", name);
    if (command == CMD_REPLAY && o->live && !o->to)
        return err_new(ERR_USAGE, "replay: --live needs --to POSITION, the position to go live at");
    if (command == CMD_REPLAY && !o->live && o->output)
        return err_new(ERR_USAGE, "replay: -o goes with --live");
    if (command == CMD_REPLAY && !o->live && (o->limit_ticks != UINT64_MAX || strcmp(o->console, CONSOLE_DEFAULT) != 0))
        return err_new(ERR_USAGE, "replay: --limit-ticks and --console go with --live; --to POSITION stops earlier");
    if (command == CMD_RECORD && !o->output)
        return err_new(ERR_USAGE, "record: -o FILE says where the recording goes");
    return NULL;
}

struct err *options_parse(unsigned command, int argc, char **argv, struct options *out)
{
    *out = (struct options){.append = "", .console = CONSOLE_DEFAULT, .memory = MIB(512), .limit_ticks = UINT64_MAX,
                            .host_clock = true, .flip_ticks = UINT64_MAX, .alter_seq = UINT64_MAX};
    for (int i = 1; i < argc; i++) {
        struct err *e = NULL;
        if (command == CMD_DEBUG && !strcmp(argv[i], "--")) {
            out->rest = argv + i + 1;
            break;
        }
        if (argv[i][0] == '-' && argv[i][1])
            e = parse_option(command, argc, argv, &i, out);
        else if (out->file)
            e = err_new(ERR_USAGE, "%s: one file at a time, \"%s\" is too many", argv[0], argv[i]);
        else
            out->file = argv[i];
        if (e)
            return e;
    }
    return check(command, argv[0], out);
}

void options_help(unsigned command, FILE *out)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char left[40];
        if (!(rows[i].commands & command) || !rows[i].help)
            continue;
        snprintf(left, sizeof(left), "%s %s", rows[i].name, rows[i].value ? rows[i].value : "");
        fprintf(out, "  %-24s %s\n", left, rows[i].help);
    }
}
