// SPDX-License-Identifier: Apache-2.0
#include "help_format.h"

namespace gateskip::cli {

std::string HelpFormat::make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const {
  std::string text = CLI::Formatter::make_help(app, std::move(name), mode);
  for (size_t at = text.find("\n\n\n"); at != std::string::npos; at = text.find("\n\n\n", at)) text.erase(at, 1);
  if (const size_t usage = text.find("\nUsage:"); usage != std::string::npos) text.insert(usage, "\n");
  return text;
}

std::string HelpFormat::make_option_opts(const CLI::Option* option) const {
  return option->get_type_size() == 0 ? "" : " " + option->get_type_name();
}

std::string HelpFormat::make_option_desc(const CLI::Option* option) const {
  std::string text = option->get_description();
  if (!option->get_default_str().empty()) text += " (default " + option->get_default_str() + ")";
  if (!option->get_envname().empty()) text += " [$" + option->get_envname() + "]";
  return text;
}

}  // namespace gateskip::cli
