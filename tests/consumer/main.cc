// SPDX-License-Identifier: Apache-2.0
// Uses the installed library the way a stranger would: public headers only. Loading a model that is not there pulls
// in the whole engine at link time, and must end in an Error that this program can catch.
#include <gateskip/engine.h>

#include <cstdio>
#include <string>

int main() {
  try {
    gateskip::EngineOptions options;
    options.model_path = "absent.gguf";
    gateskip::Engine::Load(options);
  } catch (const gateskip::Error& error) {
    if (error.code() != gateskip::ErrorCode::kNotFound) {
      std::fprintf(stderr, "expected not_found, found %s\n", error.what());
      return 1;
    }
    std::printf("%s\n", std::string(gateskip::Version()).c_str());
    return 0;
  }
  std::fprintf(stderr, "expected an Error, found a model\n");
  return 1;
}
