// The sums of dense convolutions for 32-bit ARM with NEON, in C as `planes/neon32.c`: groups of outputs times vectors of four pixels.
// Products are rounded before they are added, as in the portable kernels.

#include <arm_neon.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LANES = 4 };

// The vectors at `x`, `step` elements apart, are multiplied by one weight per output and added to `sums`, `[output][vector]`.
static inline __attribute__((always_inline)) void add_entries(const int V, const int G, size_t entries, const uint32_t *offsets,
                                                              const float *weights, const float *x, size_t step, float *sums) {
    float32x4_t all[12];
#pragma GCC unroll 12
    for (int i = 0; i < G * V; i++)
        all[i] = vld1q_f32(sums + i * LANES);
    for (; entries; entries--, weights += G) {
        const float *at = x + *offsets++;
        float32x4_t pixels[4];
#pragma GCC unroll 4
        for (int v = 0; v < V; v++, at += step)
            pixels[v] = vld1q_f32(at);
        if (G == 4) {
            const float32x4_t four = vld1q_f32(weights);
#pragma GCC unroll 4
            for (int v = 0; v < V; v++) {
                all[0 * V + v] = vmlaq_lane_f32(all[0 * V + v], pixels[v], vget_low_f32(four), 0);
                all[1 * V + v] = vmlaq_lane_f32(all[1 * V + v], pixels[v], vget_low_f32(four), 1);
                all[2 * V + v] = vmlaq_lane_f32(all[2 * V + v], pixels[v], vget_high_f32(four), 0);
                all[3 * V + v] = vmlaq_lane_f32(all[3 * V + v], pixels[v], vget_high_f32(four), 1);
            }
        } else {
#pragma GCC unroll 2
            for (int g = 0; g < G; g++) {
#pragma GCC unroll 4
                for (int v = 0; v < V; v++)
                    all[g * V + v] = vmlaq_n_f32(all[g * V + v], pixels[v], weights[g]);
            }
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < G * V; i++)
        vst1q_f32(sums + i * LANES, all[i]);
}

// Whether there is such a tile; if so, its entries were added.
bool sentei_dense_sums(size_t vectors, size_t outputs, size_t entries, const uint32_t *offsets, const float *weights,
                       const float *x, size_t step, float *sums) {
    switch (vectors * 16 + outputs) {
#define CASE(V, G)                                                                                                             \
    case V * 16 + G:                                                                                                           \
        add_entries(V, G, entries, offsets, weights, x, step, sums);                                                           \
        return true;
        CASE(1, 4) CASE(2, 4) CASE(3, 4) CASE(1, 2) CASE(2, 2) CASE(3, 2) CASE(4, 2) CASE(1, 1) CASE(2, 1) CASE(3, 1) CASE(4, 1)
    }
    return false;
}
