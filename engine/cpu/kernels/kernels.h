// The entry points of each kernel set, one file a family in the folder of the same name. What each computes:
// engine/cpu/kernel_table.h and kernel_args.h. A set that lacks an operation borrows a weaker set's (kernel_table.cc).
#pragma once

#include "engine/cpu/kernels/kernel_args.h"
#include "engine/quant/tensor_type.h"

namespace tandem::engine::scalar {

void MatMulF32(const MatMulArgs& args);
void MatMulF16(const MatMulArgs& args);
void MatMulBF16(const MatMulArgs& args);
template <TensorType kType>
void MatMulBlocks(const MatMulArgs& args);  // any quantised type
void QuantizeBlock32(const float* x, int64_t cols, int8_t* q, float* scale, int32_t* sum16);
void QuantizeBlock256(const float* x, int64_t cols, int8_t* q, float* scale, int32_t* sum16);
bool RmsNormQuantize32(const float* x, const float* weight, int64_t n, float eps, int8_t* q, float* scale,
                       int32_t* sum16);
bool RmsNormQuantize256(const float* x, const float* weight, int64_t n, float eps, int8_t* q, float* scale,
                        int32_t* sum16);
void RmsNorm(const float* x, const float* weight, int64_t n, float eps, float* out);
void LayerNorm(const float* x, const float* weight, const float* bias, int64_t n, float eps, float* out);
void RopePairs(float* x, int heads, int stride, int rope_dims, const float* cos, const float* sin);
void RopeHalves(float* x, int heads, int stride, int rope_dims, const float* cos, const float* sin);
void SiluMul(const float* gate, const float* up, int64_t n, float* out);
void GeluTanhMul(const float* gate, const float* up, int64_t n, float* out);
void GeluErfMul(const float* gate, const float* up, int64_t n, float* out);
void ClampedSwiglu(const float* gate, const float* up, int64_t n, float* out);
void Add(const float* y, int64_t n, float* x);
void AddScaled(const float* y, float scale, int64_t n, float* x);
void SoftCap(float* x, int64_t n, float cap);
void Attention(const AttentionArgs& args);
void F32ToF16(const float* x, int64_t n, uint16_t* out);

}  // namespace tandem::engine::scalar

namespace tandem::engine::avx2 {

void MatMulF32(const MatMulArgs& args);
void MatMulF16(const MatMulArgs& args);
void MatMulBF16(const MatMulArgs& args);
void MatMulQ4_0(const MatMulArgs& args);
void MatMulQ8_0(const MatMulArgs& args);
void MatMulQ4_K(const MatMulArgs& args);
void MatMulQ5_K(const MatMulArgs& args);
void MatMulQ6_K(const MatMulArgs& args);
template <TensorType kType>
void MatMulPlanes(const MatMulArgs& args);  // the other quantised types
void QuantizeBlock32(const float* x, int64_t cols, int8_t* q, float* scale, int32_t* sum16);
void QuantizeBlock256(const float* x, int64_t cols, int8_t* q, float* scale, int32_t* sum16);
bool RmsNormQuantize32(const float* x, const float* weight, int64_t n, float eps, int8_t* q, float* scale,
                       int32_t* sum16);
bool RmsNormQuantize256(const float* x, const float* weight, int64_t n, float eps, int8_t* q, float* scale,
                        int32_t* sum16);
void RmsNorm(const float* x, const float* weight, int64_t n, float eps, float* out);
void LayerNorm(const float* x, const float* weight, const float* bias, int64_t n, float eps, float* out);
void RopePairs(float* x, int heads, int stride, int rope_dims, const float* cos, const float* sin);
void RopeHalves(float* x, int heads, int stride, int rope_dims, const float* cos, const float* sin);
void SiluMul(const float* gate, const float* up, int64_t n, float* out);
void GeluTanhMul(const float* gate, const float* up, int64_t n, float* out);
void ClampedSwiglu(const float* gate, const float* up, int64_t n, float* out);
void AddScaled(const float* y, float scale, int64_t n, float* x);
void SoftCap(float* x, int64_t n, float cap);
void Attention(const AttentionArgs& args);
void F32ToF16(const float* x, int64_t n, uint16_t* out);

}  // namespace tandem::engine::avx2

// What AVX-VNNI has beyond AVX2.
namespace tandem::engine::avx_vnni {

void MatMulQ4_0(const MatMulArgs& args);
void MatMulQ8_0(const MatMulArgs& args);
void MatMulQ4_K(const MatMulArgs& args);
void MatMulQ5_K(const MatMulArgs& args);
void MatMulQ6_K(const MatMulArgs& args);
template <TensorType kType>
void MatMulPlanes(const MatMulArgs& args);  // the other quantised types

}  // namespace tandem::engine::avx_vnni

namespace tandem::engine::avx512 {

void MatMulF32(const MatMulArgs& args);
void MatMulF16(const MatMulArgs& args);
void MatMulBF16(const MatMulArgs& args);
void MatMulQ4_0(const MatMulArgs& args);
void MatMulQ8_0(const MatMulArgs& args);
void MatMulQ4_K(const MatMulArgs& args);
void MatMulQ5_K(const MatMulArgs& args);
void MatMulQ6_K(const MatMulArgs& args);
template <TensorType kType>
void MatMulPlanes(const MatMulArgs& args);  // the other quantised types
void QuantizeBlock32(const float* x, int64_t cols, int8_t* q, float* scale, int32_t* sum16);
void QuantizeBlock256(const float* x, int64_t cols, int8_t* q, float* scale, int32_t* sum16);
bool RmsNormQuantize32(const float* x, const float* weight, int64_t n, float eps, int8_t* q, float* scale,
                       int32_t* sum16);
bool RmsNormQuantize256(const float* x, const float* weight, int64_t n, float eps, int8_t* q, float* scale,
                        int32_t* sum16);
void RmsNorm(const float* x, const float* weight, int64_t n, float eps, float* out);
void SiluMul(const float* gate, const float* up, int64_t n, float* out);
void Attention(const AttentionArgs& args);

}  // namespace tandem::engine::avx512

// What AMX has beyond AVX-512.
namespace tandem::engine::amx {

template <TensorType kType>
void MatMulTiles(const MatMulArgs& args);  // any quantised type

}  // namespace tandem::engine::amx

namespace tandem::engine::neon {

void MatMulF32(const MatMulArgs& args);
void MatMulF16(const MatMulArgs& args);
void MatMulBF16(const MatMulArgs& args);
void MatMulQ4_0(const MatMulArgs& args);
void MatMulQ8_0(const MatMulArgs& args);
void MatMulQ4_K(const MatMulArgs& args);
void MatMulQ5_K(const MatMulArgs& args);
void MatMulQ6_K(const MatMulArgs& args);
template <TensorType kType>
void MatMulPlanes(const MatMulArgs& args);  // the other quantised types
void QuantizeBlock32(const float* x, int64_t cols, int8_t* q, float* scale, int32_t* sum16);
void QuantizeBlock256(const float* x, int64_t cols, int8_t* q, float* scale, int32_t* sum16);
bool RmsNormQuantize32(const float* x, const float* weight, int64_t n, float eps, int8_t* q, float* scale,
                       int32_t* sum16);
bool RmsNormQuantize256(const float* x, const float* weight, int64_t n, float eps, int8_t* q, float* scale,
                        int32_t* sum16);
void RmsNorm(const float* x, const float* weight, int64_t n, float eps, float* out);
void LayerNorm(const float* x, const float* weight, const float* bias, int64_t n, float eps, float* out);
void RopePairs(float* x, int heads, int stride, int rope_dims, const float* cos, const float* sin);
void RopeHalves(float* x, int heads, int stride, int rope_dims, const float* cos, const float* sin);
void SiluMul(const float* gate, const float* up, int64_t n, float* out);
void GeluTanhMul(const float* gate, const float* up, int64_t n, float* out);
void ClampedSwiglu(const float* gate, const float* up, int64_t n, float* out);
void AddScaled(const float* y, float scale, int64_t n, float* x);
void SoftCap(float* x, int64_t n, float cap);
void Attention(const AttentionArgs& args);
void F32ToF16(const float* x, int64_t n, uint16_t* out);

}  // namespace tandem::engine::neon

namespace tandem::engine::neon_i8mm {

void MatMulQ4_0(const MatMulArgs& args);
void MatMulQ8_0(const MatMulArgs& args);
void MatMulQ4_K(const MatMulArgs& args);
void MatMulQ5_K(const MatMulArgs& args);
void MatMulQ6_K(const MatMulArgs& args);
template <TensorType kType>
void MatMulPlanes(const MatMulArgs& args);  // the other quantised types

}  // namespace tandem::engine::neon_i8mm
