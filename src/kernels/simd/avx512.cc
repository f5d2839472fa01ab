// SPDX-License-Identifier: Apache-2.0
// The avx512 target: compiled with its own instruction-set flags (see ../CMakeLists.txt), reached through its table.
#include <immintrin.h>

#include "kernels/packed_layout.h"

namespace gateskip::kernels {
namespace avx512 {

// vec.h first; all inside the namespace, so that every target has its own copy.
// clang-format off
#include "kernels/simd/vec.h"
#include "kernels/simd/attention_impl.h"
#include "kernels/simd/matmul_impl.h"
#include "kernels/simd/row_ops_impl.h"
// clang-format on

}  // namespace avx512

const KernelTable& Avx512Kernels() {
  static constexpr KernelTable kTable = {
      CpuTarget::kAvx512, avx512::IntegerMatMul, avx512::FloatMatMul, avx512::QuantizeRow, avx512::RmsNorm,
      avx512::Dot,        avx512::GatedSilu,     avx512::GatedGelu,   avx512::SigmoidRow,  avx512::Add,
      avx512::AddScaled,  avx512::AddProduct,    avx512::RopeHead,    avx512::ToHalf,      avx512::SumExp,
      avx512::ArgMax,     avx512::Attend,        avx512::DotProducts,
  };
  return kTable;
}

}  // namespace gateskip::kernels
