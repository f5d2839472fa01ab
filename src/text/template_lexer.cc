// SPDX-License-Identifier: Apache-2.0
// The lexer. Whitespace rules after jinja2/lexer.py (3.1): a tag with `-` strips all space on that side; without
// a mark and with Spacing::kTrimmed, `%}` and `#}` swallow one newline, and `{%` and `{#` swallow the blanks between
// line start and tag.
#include "text/template_lexer.h"

#include "base/check.h"
#include "text/utf8.h"

namespace gateskip::jinja {

void FailSyntax(uint32_t line, uint32_t column, std::string_view expected, std::string_view found) {
  Fail(ErrorCode::kCorruptData, "[chat template] line {}, column {}: expected {}, found {}; correct the template", line,
       column, expected, ReadableText(found, 40));
}

namespace {

bool IsNameStart(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || static_cast<uint8_t>(c) >= 0x80;
}
bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsBlank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

std::string NormalizeNewlines(const std::string& source, Spacing spacing) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (spacing == Spacing::kTrimmed && out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  Lexer(const std::string& source, Spacing spacing)
      : text_(NormalizeNewlines(source, spacing)), trims_(spacing == Spacing::kTrimmed) {}

  std::vector<Token> Run() {
    while (pos_ < text_.size()) LexData();
    Add(TokenKind::kEnd, "end of template");
    return std::move(tokens_);
  }

 private:
  void Add(TokenKind kind, std::string text) {
    // Positions only ever grow, so lines are counted once over the whole run.
    for (; counted_ < pos_; ++counted_) {
      if (text_[counted_] == '\n') {
        ++line_;
        line_start_ = counted_ + 1;
      }
    }
    tokens_.push_back({kind, line_, static_cast<uint32_t>(pos_ - std::min(line_start_, pos_)) + 1, std::move(text)});
  }

  [[noreturn]] void FailHere(std::string_view expected, std::string_view found) {
    Add(TokenKind::kEnd, "");
    FailSyntax(tokens_.back().line, tokens_.back().column, expected, found);
  }

  bool StartsWith(std::string_view what) const { return std::string_view(text_).substr(pos_).starts_with(what); }

  // Text up to the next tag, then the tag.
  void LexData() {
    size_t tag = pos_;
    while (true) {
      tag = text_.find('{', tag);
      if (tag == std::string::npos || tag + 1 >= text_.size()) {
        AddData(text_.size(), '+', false);
        pos_ = text_.size();
        return;
      }
      const char c = text_[tag + 1];
      if (c == '{' || c == '%' || c == '#') break;
      ++tag;
    }
    const char type = text_[tag + 1];
    char sign = 0;
    size_t body = tag + 2;
    if (body < text_.size() && (text_[body] == '-' || text_[body] == '+')) sign = text_[body++];
    AddData(tag, sign, type != '{');
    pos_ = body;
    at_line_start_ = false;
    if (type == '#') return LexComment();
    if (type == '%' && LexRaw()) return;
    Add(type == '%' ? TokenKind::kBlockBegin : TokenKind::kOutputBegin, type == '%' ? "{%" : "{{");
    LexTag(type);
  }

  void AddData(size_t end, char sign, bool is_block) {
    const size_t begin = pos_;
    if (sign == '-') {
      while (end > begin && IsBlank(text_[end - 1])) --end;
    } else if (trims_ && sign != '+' && is_block) {
      size_t blank = end;
      while (blank > begin && IsBlank(text_[blank - 1]) && text_[blank - 1] != '\n') --blank;
      if (blank > begin ? text_[blank - 1] == '\n' : at_line_start_) end = blank;
    }
    if (end > begin) Add(TokenKind::kData, text_.substr(begin, end - begin));
  }

  // After the closing mark of a tag: strips what `sign` or trim_blocks asks for.
  void EndTag(char sign, bool is_block) {
    at_line_start_ = false;
    if (sign == '-') {
      while (pos_ < text_.size() && IsBlank(text_[pos_])) at_line_start_ = text_[pos_++] == '\n';
    } else if (trims_ && sign != '+' && is_block && pos_ < text_.size() && text_[pos_] == '\n') {
      ++pos_;
      at_line_start_ = true;
    }
  }

  void LexComment() {
    const size_t end = text_.find("#}", pos_);
    if (end == std::string::npos) FailHere("#} to end the comment", "the end of the template");
    const char before = end > pos_ ? text_[end - 1] : ' ';
    pos_ = end + 2;
    EndTag(before == '-' || before == '+' ? before : '\0', true);
  }

  // {% raw %} ... {% endraw %}; true when it was one.
  bool LexRaw() {
    size_t p = SkipBlanks(pos_);
    if (text_.compare(p, 3, "raw") != 0) return false;
    p = SkipBlanks(p + 3);
    char sign = 0;
    if (p < text_.size() && (text_[p] == '-' || text_[p] == '+')) sign = text_[p++];
    if (text_.compare(p, 2, "%}") != 0) return false;
    pos_ = p + 2;
    EndTag(sign, true);
    for (size_t tag = text_.find("{%", pos_); tag != std::string::npos; tag = text_.find("{%", tag + 2)) {
      size_t q = tag + 2;
      char open_sign = 0;
      if (q < text_.size() && (text_[q] == '-' || text_[q] == '+')) open_sign = text_[q++];
      q = SkipBlanks(q);
      if (text_.compare(q, 6, "endraw") != 0) continue;
      q = SkipBlanks(q + 6);
      char close_sign = 0;
      if (q < text_.size() && (text_[q] == '-' || text_[q] == '+')) close_sign = text_[q++];
      if (text_.compare(q, 2, "%}") != 0) continue;
      AddData(tag, open_sign, true);
      pos_ = q + 2;
      EndTag(close_sign, true);
      return true;
    }
    FailHere("{% endraw %}", "the end of the template");
  }

  size_t SkipBlanks(size_t p) const {
    while (p < text_.size() && IsBlank(text_[p])) ++p;
    return p;
  }

  void LexTag(char type) {
    const std::string_view close = type == '%' ? "%}" : "}}";
    std::string brackets;
    while (true) {
      pos_ = SkipBlanks(pos_);
      if (pos_ >= text_.size()) FailHere(close, "the end of the template");
      const char c = text_[pos_];
      if (brackets.empty()) {
        const bool signed_close = (c == '-' || (c == '+' && type == '%')) && text_.compare(pos_ + 1, 2, close) == 0;
        if (signed_close || StartsWith(close)) {
          Add(type == '%' ? TokenKind::kBlockEnd : TokenKind::kOutputEnd, std::string(close));
          pos_ += close.size() + (signed_close ? 1 : 0);
          return EndTag(signed_close ? c : '\0', type == '%');
        }
      }
      if (IsNameStart(c)) {
        LexName();
      } else if (IsDigit(c)) {
        LexNumber();
      } else if (c == '"' || c == '\'') {
        LexString();
      } else {
        LexOperator(&brackets);
      }
    }
  }

  void LexName() {
    size_t end = pos_;
    while (end < text_.size() && (IsNameStart(text_[end]) || IsDigit(text_[end]))) ++end;
    Add(TokenKind::kName, text_.substr(pos_, end - pos_));
    pos_ = end;
  }

  void LexNumber() {
    size_t end = pos_;
    const auto digits = [&] {
      while (end < text_.size() && (IsDigit(text_[end]) || text_[end] == '_')) ++end;
    };
    digits();
    bool is_float = false;
    if (end + 1 < text_.size() && text_[end] == '.' && IsDigit(text_[end + 1])) {
      is_float = true;
      ++end;
      digits();
    }
    if (end < text_.size() && (text_[end] == 'e' || text_[end] == 'E')) {
      size_t p = end + 1;
      if (p < text_.size() && (text_[p] == '+' || text_[p] == '-')) ++p;
      if (p < text_.size() && IsDigit(text_[p])) {
        is_float = true;
        end = p;
        digits();
      }
    }
    std::string number;
    for (size_t i = pos_; i < end; ++i) {
      if (text_[i] != '_') number += text_[i];
    }
    Add(is_float ? TokenKind::kFloat : TokenKind::kInteger, std::move(number));
    pos_ = end;
  }

  void LexString() {
    const char quote = text_[pos_];
    std::string value;
    size_t p = pos_ + 1;
    for (; p < text_.size() && text_[p] != quote; ++p) {
      if (text_[p] != '\\' || p + 1 >= text_.size()) {
        value += text_[p];
      } else {
        p = Unescape(p + 1, &value);
      }
    }
    if (p >= text_.size()) FailHere("the end of the string", "the end of the template");
    Add(TokenKind::kString, std::move(value));
    pos_ = p + 1;
  }

  // The escape whose letter is at p; returns the position of its last character.
  size_t Unescape(size_t p, std::string* value) {
    const char c = text_[p];
    switch (c) {
      case 'n':
        *value += '\n';
        return p;
      case 't':
        *value += '\t';
        return p;
      case 'r':
        *value += '\r';
        return p;
      case 'b':
        *value += '\b';
        return p;
      case 'f':
        *value += '\f';
        return p;
      case 'v':
        *value += '\v';
        return p;
      case 'a':
        *value += '\a';
        return p;
      case '0':
        *value += '\0';
        return p;
      case '\n':
        return p;
      case '\\':
      case '\'':
      case '"':
        *value += c;
        return p;
      case 'x':
        return UnescapeHex(p, 2, value);
      case 'u':
        return UnescapeHex(p, 4, value);
      case 'U':
        return UnescapeHex(p, 8, value);
      default:
        *value += '\\';
        *value += c;
        return p;
    }
  }

  size_t UnescapeHex(size_t p, size_t num_digits, std::string* value) {
    uint32_t code = 0;
    for (size_t i = 1; i <= num_digits; ++i) {
      const char c = p + i < text_.size() ? text_[p + i] : '\0';
      uint32_t digit = 0;
      if (IsDigit(c)) {
        digit = static_cast<uint32_t>(c - '0');
      } else if (c >= 'a' && c <= 'f') {
        digit = static_cast<uint32_t>(c - 'a' + 10);
      } else if (c >= 'A' && c <= 'F') {
        digit = static_cast<uint32_t>(c - 'A' + 10);
      } else {
        FailHere("hexadecimal digits in the escape", "another character");
      }
      code = code * 16 + digit;
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) FailHere("a Unicode character", "another number");
    AppendUtf8(code, value);
    return p + num_digits;
  }

  void LexOperator(std::string* brackets) {
    static constexpr std::string_view kOperators[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                      "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                      ">",  "<",  "=",  ".",  ":",  "|",  ",", ";"};
    for (const std::string_view op : kOperators) {
      if (!StartsWith(op)) continue;
      const char c = op[0];
      if (c == '(' || c == '[' || c == '{') brackets->push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
      if (c == ')' || c == ']' || c == '}') {
        if (brackets->empty() || brackets->back() != c) FailHere("a matching bracket", op);
        brackets->pop_back();
      }
      Add(TokenKind::kOperator, std::string(op));
      pos_ += op.size();
      return;
    }
    FailHere("an expression", "an unknown character");
  }

  std::string text_;
  bool trims_;
  size_t pos_ = 0;
  bool at_line_start_ = true;
  size_t counted_ = 0;
  size_t line_start_ = 0;
  uint32_t line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> Tokenize(const std::string& source, Spacing spacing) { return Lexer(source, spacing).Run(); }

}  // namespace gateskip::jinja
