/* analysis/btf.c: see btf.h. The types are gone through twice: for where each one's entry (DIE) will lie, and to write it. */
#include "analysis/btf.h"

#include <stdlib.h>

/* ---- BTF (include/uapi/linux/btf.h) ---- */

enum btf_kind {
    KIND_VOID, KIND_INT, KIND_PTR, KIND_ARRAY, KIND_STRUCT, KIND_UNION, KIND_ENUM, KIND_FWD, KIND_TYPEDEF, KIND_VOLATILE,
    KIND_CONST, KIND_RESTRICT, KIND_FUNC, KIND_FUNC_PROTO, KIND_VAR, KIND_DATASEC, KIND_FLOAT, KIND_DECL_TAG, KIND_TYPE_TAG,
    KIND_ENUM64, KINDS,
};
enum {
    BTF_MAGIC = 0xeb9f, BTF_VERSION = 1, BTF_HEADER_LEN = 24, BTF_TYPE_LEN = 12,
    INT_SIGNED = 1, INT_CHAR = 2, INT_BOOL = 4, /* encodings */
};

/* What follows the twelve bytes that all have: so many bytes, and so many for each of its parts. */
static const struct { uint8_t fixed, part; } kinds[KINDS] = {
    [KIND_INT] = {4, 0}, [KIND_ARRAY] = {12, 0}, [KIND_STRUCT] = {0, 12}, [KIND_UNION] = {0, 12}, [KIND_ENUM] = {0, 8},
    [KIND_FUNC_PROTO] = {0, 8}, [KIND_VAR] = {4, 0}, [KIND_DATASEC] = {0, 12}, [KIND_DECL_TAG] = {4, 0},
    [KIND_ENUM64] = {0, 12},
};

struct type {
    enum btf_kind kind;
    bool flag;         /* of structures: their members may be bit fields; of enumerations: signed; of FWD: a union */
    uint32_t name, size, parts;
    const uint8_t *at; /* what follows */
};

static struct type type_at(const uint8_t *p)
{
    uint32_t info = get_le32(p + 4);
    return (struct type){.name = get_le32(p), .kind = (info >> 24) & 31, .flag = info >> 31, .parts = info & 0xffff,
                         .size = get_le32(p + 8), .at = p + BTF_TYPE_LEN};
}

static size_t len_of(const struct type *t)
{
    return BTF_TYPE_LEN + kinds[t->kind].fixed + (size_t)t->parts * kinds[t->kind].part;
}

/* ---- DWARF 4 ---- */

enum { FORM_DATA8 = 0x07, FORM_DATA4 = 0x06, FORM_DATA1 = 0x0b, FORM_STRP = 0x0e, FORM_REF4 = 0x13, FORM_PRESENT = 0x19 };
enum {
    AT_NAME = 0x03, AT_BYTE_SIZE = 0x0b, AT_LANGUAGE = 0x13, AT_CONST_VALUE = 0x1c, AT_PROTOTYPED = 0x27, AT_COUNT = 0x37,
    AT_MEMBER_LOCATION = 0x38, AT_DECLARATION = 0x3c, AT_ENCODING = 0x3e, AT_TYPE = 0x49, AT_BIT_SIZE = 0x0d,
    AT_BIT_OFFSET = 0x6b, /* DW_AT_data_bit_offset */
    LANGUAGE_C99 = 0x0c,
    ENCODING_BOOL = 2, ENCODING_FLOAT = 4, ENCODING_SIGNED = 5, ENCODING_SIGNED_CHAR = 6, ENCODING_UNSIGNED = 7,
    ENCODING_UNSIGNED_CHAR = 8,
    POINTER_LEN = 8,
};

enum die {
    DIE_UNIT, DIE_VOID, DIE_BASE, DIE_POINTER, DIE_ARRAY, DIE_RANGE, DIE_STRUCT, DIE_UNION, DIE_MEMBER, DIE_BIT_FIELD, DIE_ENUM,
    DIE_ENUMERATOR, DIE_STRUCT_FWD, DIE_UNION_FWD, DIE_TYPEDEF, DIE_CONST, DIE_VOLATILE, DIE_RESTRICT, DIE_FUNCTION,
    DIE_PARAMETER, DIE_MORE, DIES,
};
enum { ATTRIBUTES = 4 };

/* A name comes first where there may be one. */
static const struct {
    uint8_t tag;
    bool children;
    struct { uint8_t name, form; } attribute[ATTRIBUTES];
} dies[DIES] = {
    [DIE_UNIT] = {0x11, true, {{AT_NAME, FORM_STRP}, {AT_LANGUAGE, FORM_DATA1}}},
    [DIE_VOID] = {0x3b, false, {{AT_NAME, FORM_STRP}}},
    [DIE_BASE] = {0x24, false, {{AT_NAME, FORM_STRP}, {AT_BYTE_SIZE, FORM_DATA1}, {AT_ENCODING, FORM_DATA1}}},
    [DIE_POINTER] = {0x0f, false, {{AT_BYTE_SIZE, FORM_DATA1}, {AT_TYPE, FORM_REF4}}},
    [DIE_ARRAY] = {0x01, true, {{AT_TYPE, FORM_REF4}}},
    [DIE_RANGE] = {0x21, false, {{AT_COUNT, FORM_DATA4}}},
    [DIE_STRUCT] = {0x13, true, {{AT_NAME, FORM_STRP}, {AT_BYTE_SIZE, FORM_DATA4}}},
    [DIE_UNION] = {0x17, true, {{AT_NAME, FORM_STRP}, {AT_BYTE_SIZE, FORM_DATA4}}},
    [DIE_MEMBER] = {0x0d, false, {{AT_NAME, FORM_STRP}, {AT_TYPE, FORM_REF4}, {AT_MEMBER_LOCATION, FORM_DATA4}}},
    [DIE_BIT_FIELD] = {0x0d, false, {{AT_NAME, FORM_STRP}, {AT_TYPE, FORM_REF4}, {AT_BIT_OFFSET, FORM_DATA4},
                                     {AT_BIT_SIZE, FORM_DATA1}}},
    [DIE_ENUM] = {0x04, true, {{AT_NAME, FORM_STRP}, {AT_BYTE_SIZE, FORM_DATA1}}},
    [DIE_ENUMERATOR] = {0x28, false, {{AT_NAME, FORM_STRP}, {AT_CONST_VALUE, FORM_DATA8}}},
    [DIE_STRUCT_FWD] = {0x13, false, {{AT_NAME, FORM_STRP}, {AT_DECLARATION, FORM_PRESENT}}},
    [DIE_UNION_FWD] = {0x17, false, {{AT_NAME, FORM_STRP}, {AT_DECLARATION, FORM_PRESENT}}},
    [DIE_TYPEDEF] = {0x16, false, {{AT_NAME, FORM_STRP}, {AT_TYPE, FORM_REF4}}},
    [DIE_CONST] = {0x26, false, {{AT_TYPE, FORM_REF4}}},
    [DIE_VOLATILE] = {0x35, false, {{AT_TYPE, FORM_REF4}}},
    [DIE_RESTRICT] = {0x37, false, {{AT_TYPE, FORM_REF4}}},
    [DIE_FUNCTION] = {0x15, true, {{AT_PROTOTYPED, FORM_PRESENT}, {AT_TYPE, FORM_REF4}}},
    [DIE_PARAMETER] = {0x05, false, {{AT_TYPE, FORM_REF4}}},
    [DIE_MORE] = {0x18, false, {{0, 0}}},
};

static size_t form_len(unsigned form)
{
    switch (form) {
    case FORM_DATA1: return 1;
    case FORM_PRESENT: return 0;
    case FORM_DATA8: return 8;
    }
    return 4;
}

/* ---- writing ---- */

struct writer {
    const uint8_t **type; /* by number; [0] is NULL: void */
    uint32_t *entry;      /* where each type's is, in the unit; [0]: that of void */
    size_t types;
    uint32_t names;       /* bytes of BTF's strings, which .debug_str begins with; void's name and the unit's follow */
    uint8_t *data;        /* NULL: only counted */
    size_t len;
};

static void put(struct writer *w, uint64_t v, size_t len)
{
    for (size_t i = 0; w->data && i < len; i++)
        w->data[w->len + i] = (uint8_t)(v >> (8 * i));
    w->len += len;
}

/* An entry and its attributes. Each kind of entry has two abbreviations: with its name, and without. */
static void put_die(struct writer *w, enum die die, uint32_t name, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t value[ATTRIBUTES] = {a, b, c, 0};
    bool named = dies[die].attribute[0].name == AT_NAME;
    if (named)
        memcpy(value, (uint64_t[]){name, a, b, c}, sizeof(value));
    bool nameless = named && !name;
    put(w, 1 + 2 * (uint64_t)die + nameless, 1);
    for (unsigned i = nameless; i < ATTRIBUTES && dies[die].attribute[i].name; i++)
        put(w, value[i], form_len(dies[die].attribute[i].form));
}

static void end_children(struct writer *w) { put(w, 0, 1); }

static uint32_t name_of(const struct writer *w, uint32_t at) { return at < w->names ? at : 0; }

/* The entry of a type that something refers to. Tags say nothing to gdb; what is no type is void. */
static uint32_t ref(const struct writer *w, uint32_t number)
{
    for (size_t left = 64; number && number < w->types; left--) {
        struct type t = type_at(w->type[number]);
        if (t.kind != KIND_TYPE_TAG)
            return w->entry[number] ? w->entry[number] : w->entry[0];
        number = left ? t.size : 0;
    }
    return w->entry[0];
}

static unsigned encoding_of(uint32_t data, uint32_t bytes)
{
    unsigned how = (data >> 24) & 15;
    bool character = how & INT_CHAR;
    if (how & INT_BOOL)
        return ENCODING_BOOL;
    if (how & INT_SIGNED)
        return character || bytes == 1 ? ENCODING_SIGNED_CHAR : ENCODING_SIGNED;
    return character || bytes == 1 ? ENCODING_UNSIGNED_CHAR : ENCODING_UNSIGNED;
}

static void put_members(struct writer *w, const struct type *t)
{
    size_t len = kinds[t->kind].part;
    for (const uint8_t *p = t->at, *end = p + t->parts * len; p < end; p += len) {
        uint32_t name = name_of(w, get_le32(p)), type = ref(w, get_le32(p + 4)), at = get_le32(p + 8);
        uint32_t bits = t->flag ? at >> 24 : 0, offset = t->flag ? at & 0xffffff : at;
        if (bits)
            put_die(w, DIE_BIT_FIELD, name, type, offset, bits);
        else
            put_die(w, DIE_MEMBER, name, type, offset / 8, 0);
    }
    end_children(w);
}

static void put_enumerators(struct writer *w, const struct type *t)
{
    size_t len = kinds[t->kind].part;
    for (const uint8_t *p = t->at, *end = p + t->parts * len; p < end; p += len) {
        uint64_t value = get_le32(p + 4);
        if (t->kind == KIND_ENUM64)
            value |= (uint64_t)get_le32(p + 8) << 32;
        else if (t->flag)
            value = (uint64_t)(int32_t)value;
        put_die(w, DIE_ENUMERATOR, name_of(w, get_le32(p)), value, 0, 0);
    }
    end_children(w);
}

static void put_parameters(struct writer *w, const struct type *t)
{
    size_t len = kinds[t->kind].part;
    for (const uint8_t *p = t->at, *end = p + t->parts * len; p < end; p += len) {
        if (get_le32(p) || get_le32(p + 4))
            put_die(w, DIE_PARAMETER, 0, ref(w, get_le32(p + 4)), 0, 0);
        else
            put_die(w, DIE_MORE, 0, 0, 0, 0);
    }
    end_children(w);
}

/* False: it is no type. */
static bool put_type(struct writer *w, const struct type *t)
{
    uint32_t name = name_of(w, t->name);
    switch (t->kind) {
    case KIND_INT:
        put_die(w, DIE_BASE, name, t->size, encoding_of(get_le32(t->at), t->size), 0);
        return true;
    case KIND_FLOAT:
        put_die(w, DIE_BASE, name, t->size, ENCODING_FLOAT, 0);
        return true;
    case KIND_PTR:
        put_die(w, DIE_POINTER, 0, POINTER_LEN, ref(w, t->size), 0);
        return true;
    case KIND_ARRAY:
        put_die(w, DIE_ARRAY, 0, ref(w, get_le32(t->at)), 0, 0);
        put_die(w, DIE_RANGE, 0, get_le32(t->at + 8), 0, 0);
        end_children(w);
        return true;
    case KIND_STRUCT:
    case KIND_UNION:
        put_die(w, t->kind == KIND_UNION ? DIE_UNION : DIE_STRUCT, name, t->size, 0, 0);
        put_members(w, t);
        return true;
    case KIND_ENUM:
    case KIND_ENUM64:
        put_die(w, DIE_ENUM, name, t->size, 0, 0);
        put_enumerators(w, t);
        return true;
    case KIND_FWD:
        put_die(w, t->flag ? DIE_UNION_FWD : DIE_STRUCT_FWD, name, 1, 0, 0);
        return true;
    case KIND_TYPEDEF:
        put_die(w, DIE_TYPEDEF, name, ref(w, t->size), 0, 0);
        return true;
    case KIND_CONST:
        put_die(w, DIE_CONST, 0, ref(w, t->size), 0, 0);
        return true;
    case KIND_VOLATILE:
        put_die(w, DIE_VOLATILE, 0, ref(w, t->size), 0, 0);
        return true;
    case KIND_RESTRICT:
        put_die(w, DIE_RESTRICT, 0, ref(w, t->size), 0, 0);
        return true;
    case KIND_FUNC_PROTO:
        put_die(w, DIE_FUNCTION, 0, 1, ref(w, t->size), 0);
        put_parameters(w, t);
        return true;
    default:
        return false;
    }
}

#define VOID_NAME "void"
#define UNIT_NAME "BTF"

/* All of .debug_info. */
static void put_unit(struct writer *w, size_t whole_len)
{
    w->len = 0;
    put(w, whole_len - 4, 4); /* what follows the length */
    put(w, 4, 2);             /* version */
    put(w, 0, 4);             /* abbreviations */
    put(w, POINTER_LEN, 1);
    put_die(w, DIE_UNIT, w->names + (uint32_t)sizeof(VOID_NAME), LANGUAGE_C99, 0, 0);
    w->entry[0] = (uint32_t)w->len;
    put_die(w, DIE_VOID, w->names, 0, 0, 0);
    for (size_t i = 1; i < w->types; i++) {
        struct type t = type_at(w->type[i]);
        size_t at = w->len;
        w->entry[i] = put_type(w, &t) ? (uint32_t)at : 0;
    }
    end_children(w);
}

static void put_abbreviations(struct writer *w)
{
    for (unsigned die = 0; die < DIES; die++)
        for (unsigned nameless = 0; nameless < 2; nameless++) {
            put(w, 1 + 2 * die + nameless, 1);
            put(w, dies[die].tag, 1);
            put(w, dies[die].children, 1);
            for (unsigned i = nameless; i < ATTRIBUTES && dies[die].attribute[i].name; i++) {
                put(w, dies[die].attribute[i].name, 1);
                put(w, dies[die].attribute[i].form, 1);
            }
            put(w, 0, 2);
        }
    put(w, 0, 1);
}

/* ---- reading ---- */

/* The types one after the other; *count of them, that of void included. */
static struct err *find_types(const uint8_t *p, const uint8_t *end, const uint8_t **type, size_t *count)
{
    for (*count = 1; p < end; ++*count) {
        if (end - p < BTF_TYPE_LEN)
            return err_new(ERR_UNSUPPORTED, "BTF type %zu is cut short", *count);
        struct type t = type_at(p);
        if (t.kind == KIND_VOID || t.kind >= KINDS)
            return err_new(ERR_UNSUPPORTED, "BTF type %zu is of unknown kind %d", *count, t.kind);
        if (len_of(&t) > (size_t)(end - p))
            return err_new(ERR_UNSUPPORTED, "BTF type %zu is cut short", *count);
        type[*count] = p;
        p += len_of(&t);
    }
    return NULL;
}

static struct err *write_all(struct writer *w, const uint8_t *names, struct btf_dwarf *out)
{
    put_unit(w, 0);
    out->info_len = w->len;
    out->str_len = w->names + sizeof(VOID_NAME) + sizeof(UNIT_NAME);
    out->types = w->types - 1;
    w->len = 0;
    put_abbreviations(w);
    out->abbrev_len = w->len;
    out->info = malloc(out->info_len);
    out->abbrev = malloc(out->abbrev_len);
    out->str = malloc(out->str_len);
    if (!out->info || !out->abbrev || !out->str || out->info_len > UINT32_MAX / 2)
        return err_new(ERR_HOST, "no memory for the kernel's types");
    memcpy(out->str, names, w->names);
    memcpy(out->str + w->names, VOID_NAME, sizeof(VOID_NAME));
    memcpy(out->str + w->names + sizeof(VOID_NAME), UNIT_NAME, sizeof(UNIT_NAME));
    w->data = out->info;
    put_unit(w, out->info_len);
    w->data = out->abbrev;
    w->len = 0;
    put_abbreviations(w);
    return NULL;
}

struct err *btf_to_dwarf(const uint8_t *btf, size_t len, struct btf_dwarf *out)
{
    *out = (struct btf_dwarf){0};
    if (len < BTF_HEADER_LEN || len > BTF_LEN_MAX || get_le16(btf) != BTF_MAGIC || btf[2] != BTF_VERSION)
        return err_new(ERR_UNSUPPORTED, "this is no BTF of version %d", BTF_VERSION);
    uint64_t header = get_le32(btf + 4), types = header + get_le32(btf + 8), types_len = get_le32(btf + 12),
             names = header + get_le32(btf + 16), names_len = get_le32(btf + 20);
    if (types > len || types_len > len - types || names > len || names_len > len - names || !names_len ||
        btf[names + names_len - 1])
        return err_new(ERR_UNSUPPORTED, "BTF reaches beyond its end");
    struct writer w = {.names = (uint32_t)names_len};
    size_t most = 1 + types_len / BTF_TYPE_LEN;
    w.type = calloc(most, sizeof(*w.type));
    w.entry = calloc(most, sizeof(*w.entry));
    struct err *e = w.type && w.entry ? NULL : err_new(ERR_HOST, "no memory for the kernel's types");
    if (!e)
        e = find_types(btf + types, btf + types + types_len, w.type, &w.types);
    if (!e)
        e = write_all(&w, btf + names, out);
    free(w.type);
    free(w.entry);
    if (e)
        btf_dwarf_deinit(out);
    return e;
}

void btf_dwarf_deinit(struct btf_dwarf *d)
{
    free(d->info);
    free(d->abbrev);
    free(d->str);
    *d = (struct btf_dwarf){0};
}
