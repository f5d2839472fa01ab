// SPDX-License-Identifier: Apache-2.0
// The avx512vnni target: compiled with its own instruction-set flags (see ../CMakeLists.txt), reached through its
// table.
#include <immintrin.h>

#include "kernels/packed_layout.h"

namespace gateskip::kernels {
namespace avx512vnni {

// vec.h first; all inside the namespace, so that every target has its own copy.
// clang-format off
#include "kernels/simd/vec.h"
#include "kernels/simd/attention_impl.h"
#include "kernels/simd/matmul_impl.h"
#include "kernels/simd/row_ops_impl.h"
// clang-format on

}  // namespace avx512vnni

const KernelTable& Avx512VnniKernels() {
  static constexpr KernelTable kTable = {
      CpuTarget::kAvx512Vnni, avx512vnni::IntegerMatMul, avx512vnni::FloatMatMul, avx512vnni::QuantizeRow,
      avx512vnni::RmsNorm,    avx512vnni::Dot,           avx512vnni::GatedSilu,   avx512vnni::GatedGelu,
      avx512vnni::SigmoidRow, avx512vnni::Add,           avx512vnni::AddScaled,   avx512vnni::AddProduct,
      avx512vnni::RopeHead,   avx512vnni::ToHalf,        avx512vnni::SumExp,      avx512vnni::ArgMax,
      avx512vnni::Attend,     avx512vnni::DotProducts,
  };
  return kTable;
}

}  // namespace gateskip::kernels
