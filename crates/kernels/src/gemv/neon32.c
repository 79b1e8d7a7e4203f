// Steps of sparse fully connected layers for 32-bit ARM with NEON, in C as `planes/neon32.c`: eight rows side by side, each with one
// weight and one input per step. Products are rounded before they are added, as in the portable kernel.

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>

// The inputs at four positions.
static inline float32x4_t fetched(const float *x, const uint16_t *at) {
    float32x4_t inputs = vld1q_dup_f32(x + at[0]);
    inputs = vld1q_lane_f32(x + at[1], inputs, 1);
    inputs = vld1q_lane_f32(x + at[2], inputs, 2);
    return vld1q_lane_f32(x + at[3], inputs, 3);
}

// Adds `steps` steps to eight sums.
void sentei_gemv_f32(size_t steps, const float *values, const uint16_t *positions, const float *x, float *sums) {
    float32x4_t low = vld1q_f32(sums), high = vld1q_f32(sums + 4);
    for (; steps; steps--, values += 8, positions += 8) {
        low = vmlaq_f32(low, vld1q_f32(values), fetched(x, positions));
        high = vmlaq_f32(high, vld1q_f32(values + 4), fetched(x, positions + 4));
    }
    vst1q_f32(sums, low);
    vst1q_f32(sums + 4, high);
}

// The same with bytes as weights.
void sentei_gemv_i8(size_t steps, const int8_t *values, const uint16_t *positions, const float *x, float *sums) {
    float32x4_t low = vld1q_f32(sums), high = vld1q_f32(sums + 4);
    for (; steps; steps--, values += 8, positions += 8) {
        const int16x8_t wide = vmovl_s8(vld1_s8(values));
        low = vmlaq_f32(low, vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide))), fetched(x, positions));
        high = vmlaq_f32(high, vcvtq_f32_s32(vmovl_s16(vget_high_s16(wide))), fetched(x, positions + 4));
    }
    vst1q_f32(sums, low);
    vst1q_f32(sums + 4, high);
}
