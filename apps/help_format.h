// SPDX-License-Identifier: Apache-2.0
// How --help looks: the option and its kind of value on the left; on the right what it does, its default and
// the environment variable that mirrors it.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace gateskip::cli {

class HelpFormat : public CLI::Formatter {
 public:
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override;
  std::string make_option(const CLI::Option* option, bool is_positional) const override;
  std::string make_option_name(const CLI::Option* option, bool is_positional) const override;
  std::string make_option_opts(const CLI::Option* option) const override;
  std::string make_option_desc(const CLI::Option* option) const override;
};

}  // namespace gateskip::cli
