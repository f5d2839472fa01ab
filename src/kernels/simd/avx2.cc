// SPDX-License-Identifier: Apache-2.0
// The avx2 target: compiled with its own instruction-set flags (see ../CMakeLists.txt), reached through its table.
#include <immintrin.h>

#include "kernels/packed_layout.h"

namespace gateskip::kernels {
namespace avx2 {

// vec.h first; all inside the namespace, so that every target has its own copy.
// clang-format off
#include "kernels/simd/vec.h"
#include "kernels/simd/attention_impl.h"
#include "kernels/simd/matmul_impl.h"
#include "kernels/simd/row_ops_impl.h"
// clang-format on

}  // namespace avx2

const KernelTable& Avx2Kernels() {
  static constexpr KernelTable kTable = {
      CpuTarget::kAvx2, avx2::IntegerMatMul, avx2::FloatMatMul, avx2::QuantizeRow, avx2::RmsNorm,   avx2::Dot,
      avx2::GatedSilu,  avx2::GatedGelu,     avx2::SigmoidRow,  avx2::Add,         avx2::AddScaled, avx2::AddProduct,
      avx2::RopeHead,   avx2::ToHalf,        avx2::SumExp,      avx2::ArgMax,      avx2::Attend,    avx2::DotProducts,
  };
  return kTable;
}

}  // namespace gateskip::kernels
