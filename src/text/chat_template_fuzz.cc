// SPDX-License-Identifier: Apache-2.0
// Chat templates. An input is a template and, behind a byte 0xFF (which UTF-8 never holds), the text of a message: it
// ends in an Error or in a text within its limits.
#include <cstdint>

#include "text/chat_template.h"
#include "text/testing/laws.h"

namespace {

using gateskip::ChatMessage;

constexpr char kVariables[] =
    R"({"n":5,"s":"hello","l":[1,2,3],"d":{"k":"v","n":{"a":[true,null,1.5]}},"strftime_now":1700000000,)"
    R"("tools":[{"type":"function","function":{"name":"f","parameters":{"x":"int"}}}]})";

void Render(const gateskip::ChatTemplate& parsed, const std::vector<ChatMessage>& messages, bool prompt,
            const std::string& variables) {
  gateskip::TemplateLimits limits;
  limits.max_steps = 10'000;  // the default of 5 million, in little
  limits.max_output_bytes = 1 << 16;
  try {
    const std::string text = parsed.Render(messages, prompt, "<s>", "</s>", variables, limits);
    gateskip::testing::Require(text.size() <= limits.max_output_bytes, "the output is within its limit");
  } catch (const gateskip::Error& error) {
    gateskip::testing::CheckError(error);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string input(reinterpret_cast<const char*>(data), size);
  const size_t split = std::min(input.find('\xFF'), size);
  const std::string content = split < size ? input.substr(split + 1) : "hi\n";
  try {
    const gateskip::ChatTemplate parsed(input.substr(0, split));
    const std::vector<ChatMessage> talk = {
        {"system", "be brief"}, {"user", content}, {"assistant", "ho"}, {"tool", "{}"}, {"user", ""}};
    Render(parsed, {{"user", content}}, true, "{}");
    Render(parsed, talk, false, kVariables);
  } catch (const gateskip::Error& error) {
    gateskip::testing::CheckError(error);
  }
  return 0;
}
