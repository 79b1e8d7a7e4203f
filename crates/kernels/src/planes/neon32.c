// The tiles of sparse and block-sparse convolutions for 32-bit ARM with NEON: `planes/tiles.rs` in C, since Rust's intrinsics for these
// processors are not stable. Four lanes, sixteen registers. Products are rounded before they are added, as in the portable kernels.

#include <arm_neon.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The structs of `planes/rows.rs`, `planes/tiles.rs` and `planes/neon32.rs`, field by field.
struct turn {
    uint16_t group, entries;
};

struct place {
    size_t element;
    uint32_t first, count;
};

struct pass {
    const struct turn *turns;
    size_t groups;
    const uint16_t *offsets;
    size_t unit;
    const void *values;
    const float *bias;
    const float *scales;
    const float *x;
    float *sums;
    size_t sums_stride;
    float *y;
    size_t stride;
    const float *residual;
    // null where the pixels of the tile follow each other in the output, from `whole` on
    const struct place *places;
    size_t count, whole;
    float *finished;
    size_t first, last;
    // the activation: bounds, unless it is HardSwish
    size_t hard_swish;
    float min, max;
};

enum { LANES = 4, FEW_SUMS = 6, MOST_SUMS = 13 };

// These instructions give NaN where either side is. (Comparisons would be taken apart, number by number: they are not IEEE's.)
static inline float32x4_t clip(float32x4_t x, float32x4_t min, float32x4_t max) {
    return vminq_f32(vmaxq_f32(x, min), max);
}

static inline float32x4_t activate(float32x4_t x, const struct pass *pass) {
    if (!pass->hard_swish)
        return clip(x, vdupq_n_f32(pass->min), vdupq_n_f32(pass->max));
    const float32x4_t gate = vaddq_f32(vmulq_n_f32(x, 1.0f / 6.0f), vdupq_n_f32(0.5f));
    return vmulq_f32(x, clip(gate, vdupq_n_f32(0.0f), vdupq_n_f32(1.0f)));
}

// Adds the residual to `count` sums, applies the activation and stores them from element `at` of the output on.
static void finish(const struct pass *pass, const float *sums, size_t at, size_t count) {
    for (; count >= LANES; count -= LANES, sums += LANES, at += LANES) {
        float32x4_t sum = vld1q_f32(sums);
        if (pass->residual)
            sum = vaddq_f32(sum, vld1q_f32(pass->residual + at));
        vst1q_f32(pass->y + at, activate(sum, pass));
    }
    if (count == 0)
        return;
    float lanes[LANES] = {0}, others[LANES] = {0};
    for (size_t lane = 0; lane < count; lane++) {
        lanes[lane] = sums[lane];
        others[lane] = pass->residual ? pass->residual[at + lane] : 0.0f;
    }
    float32x4_t sum = vld1q_f32(lanes);
    if (pass->residual)
        sum = vaddq_f32(sum, vld1q_f32(others));
    vst1q_f32(lanes, activate(sum, pass));
    for (size_t lane = 0; lane < count; lane++)
        pass->y[at + lane] = lanes[lane];
}

// The sums of a turn, `pixels` elements apart, to where they belong.
static __attribute__((noinline)) void into_places(const struct pass *pass, size_t turn, size_t outputs, const float *sums,
                                                  size_t pixels) {
    const float32x4_t min = vdupq_n_f32(pass->min), max = vdupq_n_f32(pass->max);
    const bool simple = !pass->hard_swish && !pass->residual;
    const struct place *const places = pass->places, *const end = places + pass->count;
    for (size_t g = 0; g < outputs; g++, sums += pixels) {
        const size_t row = (pass->turns[turn].group * outputs + g) * pass->stride;
        float *const y = pass->y + row;
        if (!places) {
            finish(pass, sums, row + pass->whole, pixels);
            continue;
        }
        for (const struct place *place = places; place != end; place++) {
            if (simple && place->count == LANES)
                vst1q_f32(y + place->element, clip(vld1q_f32(sums + place->first), min, max));
            else
                finish(pass, sums + place->first, row + place->element, place->count);
        }
    }
}

// Four weights at `at`, bytes or numbers.
static inline __attribute__((always_inline)) float32x4_t four(const void *values, size_t at, bool bytes) {
    if (!bytes)
        return vld1q_f32((const float *)values + at);
    uint32_t word;
    __builtin_memcpy(&word, (const int8_t *)values + at, sizeof word);
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u32(vdup_n_u32(word))))));
}

static inline __attribute__((always_inline)) float one(const void *values, size_t at, bool bytes) {
    return bytes ? (float)((const int8_t *)values)[at] : ((const float *)values)[at];
}

// Four pixels at `x`, which then points to the next four: compilers would rather keep twelve addresses than count one up.
static inline __attribute__((always_inline)) float32x4_t next(const float **x) {
    const float32x4_t pixels = vld1q_f32(*x);
    *x += LANES;
    __asm__ volatile("" : "+r"(*x));
    return pixels;
}

// The first `count` of three vectors are computed by now: what follows is not begun before. Compilers would rather have all pixels
// of four non-zeros first, for which there are no registers.
static inline __attribute__((always_inline)) void done(float32x4_t *vectors, int count) {
    if (count == 1)
        __asm__ volatile("" : "+w"(vectors[0]));
    else if (count == 2)
        __asm__ volatile("" : "+w"(vectors[0]), "+w"(vectors[1]));
    else
        __asm__ volatile("" : "+w"(vectors[0]), "+w"(vectors[1]), "+w"(vectors[2]));
}

// The sums of one non-zero of one output: `V` vectors of pixels times lane `N` of the weights.
#define ENTRY(N, HALF)                                                                                                         \
    do {                                                                                                                       \
        const float *x = (const float *)((const char *)from + ((size_t)offset[N] << unit));                                    \
        _Pragma("GCC unroll 7") for (int v = 0; v < V; v += together) {                                                        \
            const int count = V - v < together ? V - v : together;                                                             \
            float32x4_t pixels[3];                                                                                             \
            /* all are loaded before the first is needed, as processors that do not reorder would wait for each otherwise */   \
            pixels[0] = next(&x);                                                                                              \
            pixels[1] = count > 1 ? next(&x) : pixels[0];                                                                      \
            pixels[2] = count > 2 ? next(&x) : pixels[0];                                                                      \
            done(pixels, count);                                                                                               \
            sums[v] = vmlaq_lane_f32(sums[v], pixels[0], vget_##HALF##_f32(weights), N & 1);                                   \
            if (count > 1)                                                                                                     \
                sums[v + 1] = vmlaq_lane_f32(sums[v + 1], pixels[1], vget_##HALF##_f32(weights), N & 1);                       \
            if (count > 2)                                                                                                     \
                sums[v + 2] = vmlaq_lane_f32(sums[v + 2], pixels[2], vget_##HALF##_f32(weights), N & 1);                       \
            done(sums + v, count);                                                                                             \
        }                                                                                                                      \
    } while (0)

// As `tile` of `planes/tiles.rs`; the constants are known where this is inlined.
static inline __attribute__((always_inline)) void tile(const struct pass *pass, const int V, const int G, const bool bytes) {
    const uint16_t *offset = pass->offsets;
    const size_t unit = pass->unit;
    const float *const from = pass->x;
    size_t value = 0;
    for (size_t number = 0; number < pass->groups; number++) {
        const struct turn turn = pass->turns[number];
        const size_t output = (size_t)turn.group * G;
        float *const waiting = pass->sums + output * pass->sums_stride;
        float32x4_t sums[MOST_SUMS];
#pragma GCC unroll 8
        for (int g = 0; g < G; g++) {
#pragma GCC unroll 13
            for (int v = 0; v < V; v++) {
                if (!pass->first)
                    sums[g * V + v] = vld1q_f32(waiting + g * pass->sums_stride + v * LANES);
                else
                    sums[g * V + v] = vdupq_n_f32(bytes ? 0.0f : pass->bias[output + g]);
            }
        }
        size_t entries = turn.entries;
        if (G == 1 && V > FEW_SUMS) {
            // sums, weights and pixels fill the registers
            const int together = V < MOST_SUMS ? 3 : 2;
            for (; entries >= 4; entries -= 4) {
                const float32x4_t weights = four(pass->values, value, bytes);
                ENTRY(0, low);
                ENTRY(1, low);
                ENTRY(2, high);
                ENTRY(3, high);
                offset += 4;
                value += 4;
            }
            for (; entries; entries--) {
                const float32x4_t weights = vdupq_n_f32(one(pass->values, value, bytes));
                ENTRY(0, low);
                offset++;
                value++;
            }
        }
        // a few sums would wait for each other: every second entry has sums of its own
        const bool few = G * V <= FEW_SUMS;
        float32x4_t others[FEW_SUMS];
#pragma GCC unroll 6
        for (int i = 0; i < FEW_SUMS; i++)
            others[i] = vdupq_n_f32(0.0f);
#define ONE(TO)                                                                                                                \
    do {                                                                                                                       \
        const float *x = (const float *)((const char *)from + ((size_t)*offset++ << unit));                                    \
        _Pragma("GCC unroll 13") for (int v = 0; v < V; v++) {                                                                 \
            const float32x4_t pixels = next(&x);                                                                               \
            _Pragma("GCC unroll 8") for (int g = 0; g < G; g++) TO[g * V + v] =                                                \
                vmlaq_n_f32(TO[g * V + v], pixels, one(pass->values, value + g, bytes));                                       \
        }                                                                                                                      \
        value += G;                                                                                                            \
    } while (0)
        if (few) {
            for (; entries >= 2; entries -= 2) {
                ONE(sums);
                ONE(others);
            }
            if (entries)
                ONE(sums);
#pragma GCC unroll 6
            for (int i = 0; i < G * V; i++)
                sums[i] = vaddq_f32(sums[i], others[i]);
        } else {
            for (; entries; entries--)
                ONE(sums);
        }
        if (!pass->last) {
#pragma GCC unroll 8
            for (int g = 0; g < G; g++) {
#pragma GCC unroll 13
                for (int v = 0; v < V; v++)
                    vst1q_f32(waiting + g * pass->sums_stride + v * LANES, sums[g * V + v]);
            }
            continue;
        }
        if (bytes) {
#pragma GCC unroll 8
            for (int g = 0; g < G; g++) {
                const float32x4_t bias = vdupq_n_f32(pass->bias[output + g]);
#pragma GCC unroll 13
                for (int v = 0; v < V; v++)
                    sums[g * V + v] = vmlaq_n_f32(bias, sums[g * V + v], pass->scales[output + g]);
            }
        }
        if (!pass->places && !pass->residual && !pass->hard_swish) {
            const float32x4_t min = vdupq_n_f32(pass->min), max = vdupq_n_f32(pass->max);
#pragma GCC unroll 8
            for (int g = 0; g < G; g++) {
                float *y = pass->y + (output + g) * pass->stride + pass->whole;
#pragma GCC unroll 13
                for (int v = 0; v < V; v++)
                    vst1q_f32(y + v * LANES, clip(sums[g * V + v], min, max));
            }
            continue;
        }
        // into their places one turn later, when the stores have reached the cache
        float *slot = pass->finished + number % 2 * G * V * LANES;
#pragma GCC unroll 13
        for (int i = 0; i < G * V; i++)
            vst1q_f32(slot + i * LANES, sums[i]);
        if (number > 0)
            into_places(pass, number - 1, G, pass->finished + (number - 1) % 2 * G * V * LANES, V * LANES);
    }
    if (pass->last && pass->groups > 0 && (pass->places || pass->residual || pass->hard_swish))
        into_places(pass, pass->groups - 1, G, pass->finished + (pass->groups - 1) % 2 * G * V * LANES, V * LANES);
}

#define TILE(V, G)                                                                                                             \
    static __attribute__((noinline)) void sentei_planes_pass_##V##x##G(const struct pass *pass) {                              \
        if (pass->scales)                                                                                                      \
            tile(pass, V, G, true);                                                                                            \
        else                                                                                                                   \
            tile(pass, V, G, false);                                                                                           \
    }
#define TILES(EACH)                                                                                                            \
    EACH(1, 1) EACH(2, 1) EACH(3, 1) EACH(4, 1) EACH(5, 1) EACH(6, 1) EACH(7, 1) EACH(8, 1) EACH(9, 1) EACH(10, 1) EACH(11, 1) \
    EACH(12, 1) EACH(13, 1) EACH(1, 2) EACH(2, 2) EACH(3, 2) EACH(4, 2) EACH(5, 2) EACH(6, 2) EACH(1, 4) EACH(2, 4) EACH(3, 4) EACH(1, 8)
TILES(TILE)

// Whether there is such a tile; if so, it was computed.
bool sentei_planes_pass(size_t vectors, size_t group, const struct pass *pass) {
    switch (vectors * 16 + group) {
#define CASE(V, G)                                                                                                             \
    case V * 16 + G:                                                                                                           \
        sentei_planes_pass_##V##x##G(pass);                                                                                    \
        return true;
        TILES(CASE)
    }
    return false;
}
