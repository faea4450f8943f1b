/* logfmt/words.c: see words.h. */
#include "logfmt/words.h"

enum word_tag { WORD_ZERO, WORD_SAME, WORD_NEAR, WORD_NEW };
enum { TAG_BITS = 2, LOW_BITS = 16, RECENT = 256 };

/* Bytes of each in the data: a place; a place and the low bits; the word. */
static const uint8_t data_len[] = {[WORD_ZERO] = 0, [WORD_SAME] = 1, [WORD_NEAR] = 3, [WORD_NEW] = 8};

/* Words seen last, each at the place that its upper bits choose. */
struct recent { uint64_t word[RECENT]; };

static unsigned place_of(uint64_t word)
{
    return (unsigned)((word >> LOW_BITS) * UINT64_C(0x9e3779b97f4a7c15) >> 56);
}

/* No branches: they would be guessed wrong more often than not. A zero is not among the recent words. */
static enum word_tag pack_word(struct recent *recent, uint64_t word, uint8_t **data)
{
    unsigned place = place_of(word);
    uint64_t was = recent->word[place], differs = was ^ word;
    enum word_tag tag = WORD_SAME + (differs != 0) + (differs >> LOW_BITS != 0);
    recent->word[place] = word ? word : was;
    put_le64(*data, tag == WORD_NEW ? word : place | (word & ((1 << LOW_BITS) - 1)) << 8);
    tag = word ? tag : WORD_ZERO;
    *data += data_len[tag];
    return tag;
}

size_t words_pack(const uint8_t *from, size_t len, uint8_t *to)
{
    const size_t step = WORDS_TAGGED * sizeof(uint64_t);
    struct recent recent = {0};
    uint8_t *tags = to, *data = to + len / step;
    for (const uint8_t *end = from + len; from < end; from += step) {
        uint64_t word[WORDS_TAGGED];
        unsigned all = 0;
        for (unsigned i = 0; i < WORDS_TAGGED; i++)
            word[i] = get_le64(from + i * sizeof(uint64_t));
        if (word[0] | word[1] | word[2] | word[3])
            for (unsigned i = 0; i < WORDS_TAGGED; i++)
                all |= (unsigned)pack_word(&recent, word[i], &data) << i * TAG_BITS;
        *tags++ = (uint8_t)all;
    }
    return (size_t)(data - to);
}

static uint64_t unpack_word(struct recent *recent, enum word_tag tag, const uint8_t *data)
{
    unsigned place = data[0];
    uint64_t word = recent->word[place];
    if (tag == WORD_NEAR) {
        word = (word >> LOW_BITS << LOW_BITS) | get_le16(data + 1);
    } else if (tag == WORD_NEW) {
        word = get_le64(data);
        place = place_of(word);
    }
    recent->word[place] = word;
    return word;
}

bool words_unpack(const uint8_t *from, size_t from_len, uint8_t *to, size_t len)
{
    const size_t tag_bytes = len / sizeof(uint64_t) / WORDS_TAGGED;
    struct recent recent = {0};
    if (from_len < tag_bytes)
        return false;
    const uint8_t *data = from + tag_bytes, *end = from + from_len;
    for (size_t i = 0; i < tag_bytes * WORDS_TAGGED; i++) {
        enum word_tag tag = from[i / WORDS_TAGGED] >> i % WORDS_TAGGED * TAG_BITS & ((1 << TAG_BITS) - 1);
        if ((size_t)(end - data) < data_len[tag])
            return false;
        put_le64(to + i * sizeof(uint64_t), tag == WORD_ZERO ? 0 : unpack_word(&recent, tag, data));
        data += data_len[tag];
    }
    return data == end;
}
