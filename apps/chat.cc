// SPDX-License-Identifier: Apache-2.0
// `gateskip chat`: a conversation. The KV cache of the turns before is reused by the engine.
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "base/check.h"
#include "command.h"
#include "flags.h"
#include "interrupt.h"
#include "prompt.h"
#include "report.h"
#include "runtime/sampler.h"

namespace gateskip::cli {
namespace {

constexpr const char* kHelp =
    "/exit (or Ctrl-D)   leave\n"
    "/reset              forget the conversation\n"
    "/budget X           save the share X of the layer cost from now on\n"
    "/help               this list\n"
    "A line that ends in \\ goes on in the next one. Ctrl-C stops an answer; at the prompt it leaves.\n";

struct ChatCommand {
  EngineFlags engine;
  BudgetFlags budget;
  GenerationFlags generation;
  bool quiet = false;
};

// Lines of stdin through read(2): unlike stdio it can be told apart whether it ended or failed.
class LineReader {
 public:
  // False at the end of the input.
  bool Next(std::string* line) {
    while (true) {
      const size_t end = pending_.find('\n');
      if (end != std::string::npos) {
        *line = pending_.substr(0, end);
        pending_.erase(0, end + 1);
        if (!line->empty() && line->back() == '\r') line->pop_back();
        return true;
      }
      char block[4096];
      const ssize_t count = read(STDIN_FILENO, block, sizeof(block));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) Fail(ErrorCode::kIo, "[stdin] read: expected success, found '{}'", std::strerror(errno));
      if (count == 0) {
        *line = std::exchange(pending_, {});
        return !line->empty();
      }
      pending_.append(block, static_cast<size_t>(count));
      if (pending_.size() > kMaxPromptBytes) {
        Fail(ErrorCode::kLimitExceeded, "[stdin] line: expected at most {} bytes, found more", kMaxPromptBytes);
      }
    }
  }

 private:
  std::string pending_;
};

class Chat {
 public:
  explicit Chat(ChatCommand& flags) : flags_(flags), interactive_(IsTerminal(stdin) && IsTerminal(stdout)) {
    options_ = flags.generation.options;
    ValidateSamplingOptions(options_.sampling);
    options_.budget = MakeBudget(flags.budget, flags.engine);
    options_.speculation = MakeSpeculation(flags.generation.speculation, &flags.engine);
  }

  int Run() {
    InstallInterruptHandler();
    engine_ = LoadEngine(flags_.engine);
    Reset();
    if (interactive_) {
      fmt::print(stderr, "{}{}, budget {}. /help lists the commands.{}\n", Paint(stderr, Style::kDim),
                 Printable(engine_->info().name), options_.budget.decode, Paint(stderr, Style::kReset));
    }
    std::string message;
    while (ReadMessage(&message)) {
      if (message.empty()) continue;
      if (message[0] == '/') {
        if (!Obey(message)) return 0;
      } else if (!Answer(message)) {
        return 0;
      }
    }
    if (interactive_) WriteStdout("\n");
    return 0;
  }

 private:
  void Reset() {
    turns_.clear();
    if (!flags_.generation.system.empty()) turns_.push_back({"system", flags_.generation.system});
  }

  bool ReadMessage(std::string* message) {
    message->clear();
    std::string line;
    const char* prompt = "> ";
    while (true) {
      if (interactive_)
        WriteStdout(fmt::format("{}{}{}", Paint(stdout, Style::kAccent), prompt, Paint(stdout, Style::kReset)));
      if (!reader_.Next(&line)) return !message->empty();
      const bool goes_on = !line.empty() && line.back() == '\\';
      if (goes_on) line.back() = '\n';
      *message += line;
      if (!goes_on) return true;
      prompt = ". ";
    }
  }

  // False to leave.
  bool Obey(const std::string& line) {
    const size_t space = line.find(' ');
    const std::string word = line.substr(0, space);
    const std::string rest = space == std::string::npos ? "" : line.substr(line.find_last_of(' ') + 1);
    if (word == "/exit" || word == "/quit") return false;
    if (word == "/reset") {
      Reset();
    } else if (word == "/help") {
      fmt::print(stderr, "{}", kHelp);
    } else if (word == "/budget") {
      Try([&] {
        const double budget = ParseDouble("/budget", rest, kLowestBudget, kHighestBudget);
        options_.budget = MakeBudget(budget, budget, flags_.budget.policy, flags_.engine);
      });
    } else {
      Try([&] {
        Fail(ErrorCode::kInvalidArgument, "[chat] command: expected /exit, /reset, /budget X or /help, found '{}'",
             Printable(word));
      });
    }
    return true;
  }

  // False when there is nobody left to read the answer.
  bool Answer(const std::string& message) {
    turns_.push_back({"user", message});
    const size_t turns_before = turns_.size() - 1;
    bool reader_there = true;
    const bool answered = Try([&] {
      const std::vector<int32_t> ids = EncodeChat(*engine_, turns_);
      const GenerateResult result = GenerateStreaming(*engine_, ids, options_, /*stream=*/true);
      ClearInterrupt();
      reader_there = WriteStdout("\n");
      turns_.push_back({"assistant", result.text});
      if (!flags_.quiet) {
        fmt::print(stderr, "{}{}{}", Paint(stderr, Style::kDim), TimingText(result), Paint(stderr, Style::kReset));
      }
      if (result.finish_reason == FinishReason::kContextFull) {
        fmt::print(stderr, "The context of {} tokens is full; /reset starts anew.\n", engine_->info().context_length);
      }
    });
    if (!answered) turns_.resize(turns_before);
    return reader_there;
  }

  // In a conversation a mistake is told, not the end. From a pipe it ends the run.
  template <typename Action>
  bool Try(const Action& action) {
    try {
      action();
      return true;
    } catch (const Error& error) {
      if (!interactive_ || error.code() == ErrorCode::kInternal) throw;
      fmt::print(stderr, "{}error:{} {}\n", Paint(stderr, Style::kError), Paint(stderr, Style::kReset),
                 Printable(error.what()));
      return false;
    }
  }

  const ChatCommand& flags_;
  const bool interactive_;
  GenerateOptions options_;
  std::unique_ptr<Engine> engine_;
  std::vector<ChatTurn> turns_;
  LineReader reader_;
};

}  // namespace

void AddChat(CLI::App& app, Command& command) {
  const auto flags = std::make_shared<ChatCommand>();
  // A conversation reads badly when it is greedy: small models repeat themselves.
  flags->generation.options.max_tokens = -1;
  flags->generation.options.sampling.temperature = 0.5F;
  flags->generation.options.sampling.repeat_penalty = 1.1F;
  CLI::App* sub = app.add_subcommand("chat", "Talk with the model; /help lists the commands inside");
  AddEngineFlags(*sub, &flags->engine);
  AddContextLength(*sub, &flags->engine);
  AddBudgetFlags(*sub, &flags->budget);
  AddGenerationFlags(*sub, &flags->generation);
  sub->add_flag("--quiet", flags->quiet, "No timings after each answer")->group("Output");
  sub->footer(
      "Examples:\n"
      "  gateskip chat -m model.gguf --adapter DIR --budget 0.15\n"
      "  gateskip chat -m model.gguf --system 'Answer in one sentence.' --temp 0");
  sub->callback([flags, &command] { command.run = [flags] { return Chat(*flags).Run(); }; });
}

}  // namespace gateskip::cli
