// SPDX-License-Identifier: Apache-2.0
#include "help_format.h"

#include <sstream>

namespace gateskip::cli {
namespace {

constexpr size_t kLineWidth = 118;

}  // namespace

std::string HelpFormat::make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const {
  std::string text = CLI::Formatter::make_help(app, std::move(name), mode);
  for (size_t at = text.find("\n\n\n"); at != std::string::npos; at = text.find("\n\n\n", at)) text.erase(at, 1);
  if (const size_t usage = text.find("\nUsage:"); usage != std::string::npos) text.insert(usage, "\n");
  return text;
}

std::string HelpFormat::make_option(const CLI::Option* option, bool is_positional) const {
  const size_t indent = get_column_width();
  std::string left = "  " + make_option_name(option, is_positional) + make_option_opts(option);
  while (left.ends_with(' ')) left.pop_back();
  const std::string description = make_option_desc(option);
  std::string text = left;
  size_t column = left.size();
  if (column + 1 > indent) {
    text += '\n';
    column = 0;
  }
  text.append(indent - column, ' ');
  column = indent;
  std::istringstream words(description);
  for (std::string word; words >> word;) {
    if (column > indent && column + 1 + word.size() > kLineWidth) {
      text += '\n';
      text.append(indent, ' ');
      column = indent;
    }
    if (column > indent) text += ' ';
    text += word;
    column += word.size() + 1;
  }
  return text + '\n';
}

std::string HelpFormat::make_option_name(const CLI::Option* option, bool is_positional) const {
  const std::string name = CLI::Formatter::make_option_name(option, is_positional);
  const size_t no = name.find(",--no-");  // a flag that can be taken back: "--prior,--no-prior{false}"
  return no == std::string::npos ? name : "--[no-]" + name.substr(2, no - 2);
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
