/* tests/insn/forms.c: which instruction forms exist. The decoder library is asked about every point of the opcode
 * space: all maps, opcodes, ModRM.reg values, register and memory operands, prefixes, W, L and pp. What it decodes
 * alike is one form: the same mnemonic, opcode, and operands by type, size, encoding and (where fixed) register.
 *
 * The engines' own instruction table plays no part here, so what it lacks is found. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/insn/insn_test.h"

/* What makes two encodings the same form. Compared bytewise; no padding. */
struct form_key {
    uint16_t mnemonic;
    uint8_t mode, encoding, map, opcode;
    uint8_t operand_width, rep; /* FP_LOCK and FP_F3/FP_F2 when they have an effect */
    struct {
        uint8_t type, encoding;
        uint16_t size;
        uint16_t reg;
        uint16_t actions;
    } op[10];
};
_Static_assert(sizeof(struct form_key) == 88, "compared bytewise");
_Static_assert(ZYDIS_MAX_OPERAND_COUNT <= 10, "room for every operand");

struct form_extra {
    struct form_key key;
    int next;
};

enum { HASH_BITS = 14, HASH_SIZE = 1 << HASH_BITS };

static ZydisDecoder decoders[2];

ZydisDecoder *form_decoder(unsigned mode)
{
    ZydisDecoder *d = &decoders[mode == 64];
    if (!d->machine_mode && !d->stack_width)
        ZydisDecoderInit(d, mode == 64 ? ZYDIS_MACHINE_MODE_LONG_64 : ZYDIS_MACHINE_MODE_LONG_COMPAT_32,
                         mode == 64 ? ZYDIS_STACK_WIDTH_64 : ZYDIS_STACK_WIDTH_32);
    return d;
}

/* A register named by ModRM, VEX.vvvv or the opcode is free; any other belongs to the form. */
static bool register_is_free(const ZydisDecodedOperand *op) { return op->encoding != ZYDIS_OPERAND_ENCODING_NONE; }

static void make_key(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *op, struct form_key *k)
{
    memset(k, 0, sizeof(*k));
    k->mnemonic = (uint16_t)zi->mnemonic;
    k->mode = zi->machine_mode == ZYDIS_MACHINE_MODE_LONG_64 ? 64 : 32;
    k->encoding = (uint8_t)zi->encoding;
    k->map = (uint8_t)zi->opcode_map;
    k->opcode = zi->opcode;
    k->rep = (zi->attributes & ZYDIS_ATTRIB_HAS_LOCK ? FP_LOCK : 0) |
             (zi->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE) ? FP_F3 : 0) |
             (zi->attributes & ZYDIS_ATTRIB_HAS_REPNE ? FP_F2 : 0);
    bool reg_in_opcode = false;
    if (zi->meta.branch_type != ZYDIS_BRANCH_TYPE_NONE)
        k->operand_width = zi->operand_width; /* how far RIP is cut; nothing else shows it */
    for (unsigned i = 0; i < zi->operand_count; i++) {
        k->op[i].type = (uint8_t)op[i].type;
        k->op[i].encoding = (uint8_t)op[i].encoding;
        k->op[i].size = op[i].size;
        k->op[i].actions = op[i].actions;
        if (op[i].type == ZYDIS_OPERAND_TYPE_REGISTER && !register_is_free(&op[i]) &&
            op[i].visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN)
            k->op[i].reg = (uint16_t)op[i].reg.value;
        reg_in_opcode |= op[i].encoding == ZYDIS_OPERAND_ENCODING_OPCODE;
        /* The widths of hidden pointers and counters follow the address size, which every case chooses anew. */
        if (op[i].visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN && op[i].type == ZYDIS_OPERAND_TYPE_REGISTER)
            k->op[i].size = 0;
    }
    if (reg_in_opcode)
        k->opcode &= 0xf8;
}

static uint32_t hash_key(const struct form_key *k)
{
    uint64_t h = 0, w;
    for (size_t i = 0; i < sizeof(*k); i += sizeof(w)) {
        memcpy(&w, (const uint8_t *)k + i, sizeof(w));
        h = (h ^ w) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 29;
    }
    return (uint32_t)(h >> (64 - HASH_BITS));
}

static struct form_extra *extra; /* parallel to the form list */
static int buckets[HASH_SIZE];   /* index + 1 */

bool form_matches(const struct form_list *list, const struct form *f, const ZydisDecodedInstruction *zi,
                  const ZydisDecodedOperand *op)
{
    struct form_key k;
    make_key(zi, op, &k);
    return memcmp(&extra[f - list->form].key, &k, sizeof(k)) == 0;
}

static struct form *add_form(struct form_list *list, const struct form_key *k, uint32_t h)
{
    if (list->count == list->cap) {
        list->cap = list->cap ? 2 * list->cap : 4096;
        list->form = realloc(list->form, list->cap * sizeof(*list->form));
        extra = realloc(extra, list->cap * sizeof(*extra));
        if (!list->form || !extra)
            abort();
    }
    struct form *f = &list->form[list->count];
    memset(f, 0, sizeof(*f));
    extra[list->count].key = *k;
    extra[list->count].next = buckets[h];
    buckets[h] = (int)++list->count;
    return f;
}

static struct form *find_form(struct form_list *list, const struct form_key *k, bool *is_new_out)
{
    uint32_t h = hash_key(k);
    *is_new_out = false;
    for (int i = buckets[h]; i; i = extra[i - 1].next)
        if (memcmp(&extra[i - 1].key, k, sizeof(*k)) == 0)
            return &list->form[i - 1];
    *is_new_out = true;
    return add_form(list, k, h);
}

static void describe(struct form *f, const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *op)
{
    ZydisFormatter fmt;
    ZydisFormatterInit(&fmt, ZYDIS_FORMATTER_STYLE_INTEL);
    ZydisFormatterFormatInstruction(&fmt, zi, op, zi->operand_count_visible, f->sample, sizeof(f->sample), 0, NULL);
}

static void new_form(struct form *f, const struct opcode_point *pt, const ZydisDecodedInstruction *zi,
                     const ZydisDecodedOperand *op)
{
    f->mode = pt->mode;
    f->encoding = pt->encoding;
    f->map = pt->map;
    f->opcode = pt->opcode;
    f->suffix = pt->suffix;
    f->has_modrm = zi->attributes & ZYDIS_ATTRIB_HAS_MODRM;
    f->mnemonic = zi->mnemonic;
    f->isa_set = zi->meta.isa_set;
    for (unsigned i = 0; i < zi->operand_count; i++) {
        f->mem |= op[i].type == ZYDIS_OPERAND_TYPE_MEMORY;
        f->vsib |= op[i].type == ZYDIS_OPERAND_TYPE_MEMORY && op[i].mem.type == ZYDIS_MEMOP_TYPE_VSIB;
    }
    describe(f, zi, op);
    model_classify(f);
}

static void add_variant(struct form *f, struct variant v)
{
    for (unsigned i = 0; i < f->variant_count; i++)
        if (memcmp(&f->variant[i], &v, sizeof(v)) == 0)
            return;
    if (f->variant_count < ARRAY_LEN(f->variant))
        f->variant[f->variant_count++] = v;
}

/* Write the bytes up to and including the opcode. */
unsigned form_put_opcode(uint8_t *b, const struct opcode_point *pt, struct variant v, struct reg_ext x)
{
    static const uint8_t pp_of[8] = {[FP_66] = 1, [FP_F3] = 2, [FP_F2] = 3};
    uint8_t *p = b;
    uint8_t rxb = (uint8_t)(x.r << 2 | x.x << 1 | x.b);
    uint8_t pp = pp_of[v.prefixes & 7];
    switch (pt->encoding) {
    case ZYDIS_INSTRUCTION_ENCODING_VEX:
        if (pt->map == ZYDIS_OPCODE_MAP_0F && x.short_vex && !x.x && !x.b && !v.w) {
            *p++ = 0xc5;
            *p++ = (uint8_t)(!x.r << 7 | (~x.vvvv & 15) << 3 | v.l << 2 | pp);
            break;
        } /* fall through */
    case ZYDIS_INSTRUCTION_ENCODING_XOP:
        *p++ = pt->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ? 0xc4 : 0x8f;
        *p++ = (uint8_t)((~rxb & 7) << 5 | (pt->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ? pt->map : pt->map - 1));
        *p++ = (uint8_t)(v.w << 7 | (~x.vvvv & 15) << 3 | v.l << 2 | pp);
        break;
    case ZYDIS_INSTRUCTION_ENCODING_EVEX:
        *p++ = 0x62;
        *p++ = (uint8_t)((~rxb & 7) << 5 | 0x10 | pt->map);
        *p++ = (uint8_t)(v.w << 7 | (~x.vvvv & 15) << 3 | 4 | pp);
        *p++ = (uint8_t)(v.l << 5 | v.evex_b << 4 | 8 | v.aaa);
        break;
    default: {
        static const uint8_t escapes[][3] = {{0}, {0x0f}, {0x0f, 0x38}, {0x0f, 0x3a}};
        unsigned map = pt->map == ZYDIS_OPCODE_MAP_0F0F ? 1 : pt->map;
        if (v.prefixes & FP_LOCK)
            *p++ = 0xf0;
        if (v.prefixes & FP_66)
            *p++ = 0x66;
        if (v.prefixes & FP_F3)
            *p++ = 0xf3;
        if (v.prefixes & FP_F2)
            *p++ = 0xf2;
        if (v.w || rxb || x.rex)
            *p++ = (uint8_t)(0x40 | v.w << 3 | rxb);
        for (unsigned i = 0; i < 3 && escapes[map][i]; i++)
            *p++ = escapes[map][i];
    }
    }
    *p++ = pt->map == ZYDIS_OPCODE_MAP_0F0F ? 0x0f : pt->opcode;
    return (unsigned)(p - b);
}

/* Decode one point with one ModRM byte; record what it is. Returns false when ModRM plays no part. */
static bool visit(struct form_list *list, const struct opcode_point *pt, struct variant v, uint8_t modrm)
{
    uint8_t b[24] = {0};
    struct reg_ext x = {0};
    unsigned n = form_put_opcode(b, pt, v, x);
    b[n] = modrm;
    if (modrm < 0xc0 && (modrm & 7) == 4)
        b[n + 1] = 0x20;
    else if (pt->map == ZYDIS_OPCODE_MAP_0F0F)
        b[n + 1] = pt->suffix;
    ZydisDecodedInstruction zi;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(form_decoder(pt->mode), b, sizeof(b), &zi, op)))
        return true;
    if ((uint8_t)zi.encoding != pt->encoding || (uint8_t)zi.opcode_map != pt->map || zi.opcode != pt->opcode)
        return true; /* these bytes mean something of another map */
    struct form_key k;
    make_key(&zi, op, &k);
    bool is_new;
    struct form *f = find_form(list, &k, &is_new);
    if (is_new)
        new_form(f, pt, &zi, op);
    add_variant(f, v);
    if (pt->opcode != f->opcode)
        f->opcode_reg = true;
    if (f->has_modrm && modrm >= 0xc0)
        f->reg_set |= UINT64_C(1) << (modrm & 0x3f);
    else if (f->has_modrm)
        f->mem_reg_set |= (uint8_t)(1 << (modrm >> 3 & 7));
    return f->has_modrm;
}

static void visit_modrm(struct form_list *list, const struct opcode_point *pt, struct variant v)
{
    for (unsigned m = 0; m < 64; m++)
        if (!visit(list, pt, v, (uint8_t)(0xc0 | m)))
            return;
    for (unsigned reg = 0; reg < 8; reg++) {
        visit(list, pt, v, (uint8_t)(reg << 3));
        visit(list, pt, v, (uint8_t)(reg << 3 | 4)); /* with SIB: some forms need it */
    }
}

bool form_opcode_is_prefix(unsigned mode, unsigned opcode)
{
    static const uint8_t prefixes[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x0f};
    return memchr(prefixes, (int)opcode, sizeof(prefixes)) || (mode == 64 && opcode >= 0x40 && opcode < 0x50);
}

static void enumerate_legacy(struct form_list *list, struct opcode_point pt)
{
    static const uint8_t combos[] = {
        0,       FP_66,           FP_F3,           FP_F2,          FP_66 | FP_F3, FP_66 | FP_F2,
        FP_LOCK, FP_LOCK | FP_66, FP_LOCK | FP_F3, FP_LOCK | FP_F2};
    for (unsigned opcode = 0; opcode < 256; opcode++) {
        pt.opcode = (uint8_t)opcode;
        if (pt.map == ZYDIS_OPCODE_MAP_DEFAULT && form_opcode_is_prefix(pt.mode, opcode))
            continue;
        for (unsigned i = 0; i < ARRAY_LEN(combos); i++)
            for (uint8_t w = 0; w < (pt.mode == 64 ? 2 : 1); w++)
                visit_modrm(list, &pt, (struct variant){.prefixes = combos[i], .w = w});
    }
}

static void enumerate_3dnow(struct form_list *list, struct opcode_point pt)
{
    for (unsigned suffix = 0; suffix < 256; suffix++) {
        pt.opcode = pt.suffix = (uint8_t)suffix;
        for (unsigned reg = 0; reg < 8; reg++) {
            visit(list, &pt, (struct variant){0}, (uint8_t)(reg << 3));
            visit(list, &pt, (struct variant){0}, (uint8_t)(0xc0 | reg << 3));
        }
    }
}

/* VEX, XOP and EVEX: pp, W, L, and for EVEX broadcast/rounding and a mask. */
static void enumerate_vector(struct form_list *list, struct opcode_point pt)
{
    static const uint8_t pp[4] = {0, FP_66, FP_F3, FP_F2};
    bool evex = pt.encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX;
    for (unsigned n = 0; n < 256 * 4 * 2 * 4 * 2 * 2; n++) {
        struct variant v = {
            .prefixes = pp[n & 3], .w = n >> 2 & 1, .l = n >> 3 & 3, .evex_b = n >> 5 & 1, .aaa = n >> 6 & 1};
        if (!evex && (v.l > 1 || v.evex_b || v.aaa))
            continue;
        pt.opcode = (uint8_t)(n >> 7);
        visit_modrm(list, &pt, v);
    }
}

/* Encodings that mean nothing must raise #UD, but for the hint space (0F 0D, 0F 18..1F): there the decoder refuses what
 * CPUs without CET and MPX execute as NOP, so a host is asked. */
static void add_refused(struct form_list *list, struct opcode_point pt, bool hints)
{
    struct form_key k = {.mode = pt.mode, .encoding = pt.encoding, .map = pt.map, .opcode = hints};
    struct form *f = add_form(list, &k, hash_key(&k));
    f->mode = pt.mode;
    f->encoding = pt.encoding;
    f->map = pt.map;
    f->refused = true;
    f->opcode = hints ? 0x18 : 0;
    f->kind = hints ? FORM_TEST : FORM_UD;
    static const char *const names[] = {"legacy", "3DNow!", "XOP", "VEX", "EVEX"};
    snprintf(f->sample, sizeof(f->sample), "refused %s encodings of map %u%s", names[pt.encoding], pt.map,
             hints ? ", hint space" : "");
}

void forms_enumerate(struct form_list *list, unsigned mode)
{
    static const uint8_t vector_maps[][2] = {
        {ZYDIS_INSTRUCTION_ENCODING_VEX, ZYDIS_OPCODE_MAP_0F},
        {ZYDIS_INSTRUCTION_ENCODING_VEX, ZYDIS_OPCODE_MAP_0F38},
        {ZYDIS_INSTRUCTION_ENCODING_VEX, ZYDIS_OPCODE_MAP_0F3A},
        {ZYDIS_INSTRUCTION_ENCODING_XOP, ZYDIS_OPCODE_MAP_XOP8},
        {ZYDIS_INSTRUCTION_ENCODING_XOP, ZYDIS_OPCODE_MAP_XOP9},
        {ZYDIS_INSTRUCTION_ENCODING_XOP, ZYDIS_OPCODE_MAP_XOPA},
        {ZYDIS_INSTRUCTION_ENCODING_EVEX, ZYDIS_OPCODE_MAP_0F},
        {ZYDIS_INSTRUCTION_ENCODING_EVEX, ZYDIS_OPCODE_MAP_0F38},
        {ZYDIS_INSTRUCTION_ENCODING_EVEX, ZYDIS_OPCODE_MAP_0F3A},
        {ZYDIS_INSTRUCTION_ENCODING_EVEX, ZYDIS_OPCODE_MAP_MAP5},
        {ZYDIS_INSTRUCTION_ENCODING_EVEX, ZYDIS_OPCODE_MAP_MAP6},
    };
    struct opcode_point pt = {.mode = (uint8_t)mode, .encoding = ZYDIS_INSTRUCTION_ENCODING_LEGACY};
    for (pt.map = ZYDIS_OPCODE_MAP_DEFAULT; pt.map <= ZYDIS_OPCODE_MAP_0F3A; pt.map++)
        enumerate_legacy(list, pt);
    pt.encoding = ZYDIS_INSTRUCTION_ENCODING_3DNOW;
    pt.map = ZYDIS_OPCODE_MAP_0F0F;
    enumerate_3dnow(list, pt);
    pt.suffix = 0;
    for (size_t i = 0; i < ARRAY_LEN(vector_maps); i++) {
        pt.encoding = vector_maps[i][0];
        pt.map = vector_maps[i][1];
        enumerate_vector(list, pt);
        add_refused(list, pt, false);
    }
    pt.encoding = ZYDIS_INSTRUCTION_ENCODING_LEGACY;
    for (pt.map = ZYDIS_OPCODE_MAP_DEFAULT; pt.map <= ZYDIS_OPCODE_MAP_0F3A; pt.map++)
        add_refused(list, pt, false);
    pt.map = ZYDIS_OPCODE_MAP_0F;
    add_refused(list, pt, true);
}
