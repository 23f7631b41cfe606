/* The loops of the range coder; rans.py calls them, rans_python.py says the same in Python.
 *
 * An operation is start | width << 16: an interval of the 65536 that a probability has. Width 0
 * stands for a nibble, start being its value.
 *
 * The functions are plain C and are called through ctypes. They neither allocate nor touch Python,
 * so the interpreter's lock is not held; the module below is empty and there only because a file
 * has to be one to be built and found like any other extension.
 */

#include <Python.h>
#include <stdint.h>

#ifdef _WIN32
#define EXPORTED __declspec(dllexport)
#else
#define EXPORTED __attribute__((visibility("default")))
#endif

#define LEAST ((uint64_t)1 << 31) /* of a state: 2^31 <= x < 2^63 */
#define MOST_NIBBLES 7

enum { DECODED, ENDED, IMPOSSIBLE }; /* rans.py has the same numbers */

typedef struct {
    uint64_t x;
    int64_t position; /* of the next word */
    int32_t status;
} State;

/* Code `count` operations into the end of `words`, which has room for count + 2: an operation
 * writes one word at most, the state at the end two. Returns where the stream begins. */
EXPORTED int64_t mpa_rans_encode(const uint32_t *operations, int64_t count, uint32_t *words)
{
    uint64_t x = LEAST;
    int64_t at = count + 2;
    while (count-- > 0) {
        uint32_t start = operations[count] & 0xFFFF, width = operations[count] >> 16;
        int bits = 16;
        if (width == 0) {
            width = 1;
            bits = 4;
        }
        if (x >> (63 - bits) >= width) {
            words[--at] = (uint32_t)x;
            x >>= 32;
        }
        x = ((x / width) << bits) + x % width + start;
    }
    words[--at] = (uint32_t)(x >> 32);
    words[--at] = (uint32_t)x;
    return at;
}

/* A word if the state needs one; 0 if there is none. Done before a state is used rather than
 * after, so that of a stream cut short every symbol is decoded that its words determine. */
static int refill(State *state, const uint32_t *words, int64_t word_count)
{
    if (state->x < LEAST) {
        if (state->position >= word_count)
            return 0;
        state->x = state->x << 32 | words[state->position++];
    }
    return 1;
}

/* The value that follows an escape: how many nibbles, then those, the lowest first. */
static int read_outside(State *state, const uint32_t *words, int64_t word_count, uint32_t *raw)
{
    uint32_t count = 0, nibble, i;
    *raw = 0;
    for (i = 0; i <= count; i++) {
        if (!refill(state, words, word_count))
            return ENDED;
        nibble = (uint32_t)(state->x & 15);
        state->x >>= 4;
        if (i == 0)
            count = nibble;
        else
            *raw |= nibble << (4 * (i - 1));
        if (count > MOST_NIBBLES || (i > 0 && i == count && nibble == 0))
            return IMPOSSIBLE;
    }
    return DECODED;
}

/* Decode up to `count` symbols, entry i by row `rows[i]` of the tables: `intervals` has the
 * operations of all rows one after the other, row r from first[r] to first[r] + escape[r], which
 * is the escape. Returns how many; `state->status` says why they are fewer.
 *
 * Words are read within `word_count` whatever they hold. The rows and tables are trusted, and so
 * is the state at the start, 2^31 <= x < 2^63: CdfTables and RangeDecoder checked them. */
EXPORTED int64_t mpa_rans_decode(State *state, const uint32_t *words, int64_t word_count,
                                 const int32_t *rows, int64_t count, const uint32_t *intervals,
                                 const int64_t *first, const int32_t *escape,
                                 const int32_t *offset, int32_t *symbols)
{
    State own = *state; /* another thread's call with the same state does harm to results alone */
    int64_t i;
    own.status = DECODED;
    for (i = 0; i < count; i++) {
        int32_t row = rows[i], value;
        const uint32_t *table = intervals + first[row];
        uint32_t last = (uint32_t)escape[row], k = 0, left = last + 1, low, raw;
        if (!refill(&own, words, word_count)) {
            own.status = ENDED;
            break;
        }
        low = (uint32_t)(own.x & 0xFFFF);
        while (left > 1) { /* the last interval that starts at low or below */
            uint32_t half = left / 2;
            k += (table[k + half] & 0xFFFF) <= low ? half : 0;
            left -= half;
        }
        own.x = (table[k] >> 16) * (own.x >> 16) + low - (table[k] & 0xFFFF);
        value = (int32_t)k;
        if (k == last) {
            own.status = read_outside(&own, words, word_count, &raw);
            if (own.status != DECODED)
                break;
            value = raw & 1 ? -(int32_t)((raw + 1) / 2) : value + (int32_t)(raw / 2);
        }
        symbols[i] = offset[row] + value;
    }
    *state = own;
    return i;
}

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_rans", NULL, 0, NULL,
                                    NULL,                  NULL,    NULL, NULL};

PyMODINIT_FUNC PyInit__rans(void)
{
    return PyModuleDef_Init(&module);
}
