// SPDX-License-Identifier: Apache-2.0
#include "io/testing/deep_read.h"

#include "gateskip/error.h"
#include "tensor/dequantize.h"

namespace gateskip::testing {
namespace {

template <typename Read>
double Try(const Read& read) {
  try {
    return static_cast<double>(read());
  } catch (const Error&) {
    return 0;
  }
}

double ReadTensor(const TensorView& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
  Dequantize(tensor.dtype, tensor.data, values);
  if (values.empty()) return 0;
  return static_cast<double>(values.front()) + static_cast<double>(values.back());
}

}  // namespace

double DeepRead(const GgufFile& file) {
  double sum = static_cast<double>(file.Fingerprint().size());
  for (const std::string_view key : file.Keys()) {
    sum += static_cast<double>(file.DescribeValue(key, 100).size()) + static_cast<double>(file.TypeOf(key).has_value());
    sum += Try([&] { return file.GetUint(key); }) + Try([&] { return file.GetInt(key); });
    sum += Try([&] { return file.GetFloat(key); }) + Try([&] { return file.GetBool(key); });
    sum += Try([&] { return file.GetString(key).size(); }) + Try([&] { return file.GetFloats(key).size(); });
    sum += Try([&] { return file.GetInts(key).size(); });
    sum += Try([&] {
      size_t bytes = 0;
      for (const std::string_view text : file.GetStrings(key)) bytes += text.empty() ? 0 : text.back() + text.size();
      return bytes;
    });
  }
  for (const TensorView& tensor : file.tensors()) {
    sum += file.FindTensor(tensor.name) == &tensor ? ReadTensor(tensor) : 0;
  }
  return sum;
}

double DeepRead(const SafetensorsFile& file) {
  double sum = static_cast<double>(file.header().size() + file.metadata().size());
  for (const auto& [name, tensor] : file.tensors()) {
    sum += file.FindTensor(name) == &tensor ? ReadTensor(tensor) : 0;
  }
  return sum;
}

}  // namespace gateskip::testing
