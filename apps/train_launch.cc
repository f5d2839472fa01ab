// SPDX-License-Identifier: Apache-2.0
#include "train_launch.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <iterator>
#include <optional>
#include <string_view>

#include "base/check.h"
#include "terminal.h"
#include "train/rank_environment.h"
#include "train/rank_socket.h"

extern char** environ;

namespace gateskip::cli {
namespace {

using Clock = std::chrono::steady_clock;
using train::FileDescriptor;

constexpr const char* kLoopback = "127.0.0.1";
constexpr size_t kLongestLine = 1 << 16;
constexpr int kCannotStart = 127;  // what a shell says, too

[[noreturn]] void FailCall(const char* what) {
  Fail(ErrorCode::kIo, "[launch] {}: expected it to work, found: {}; check the limits of processes and open files",
       what, std::strerror(errno));
}

std::string RandomToken() {
  std::array<unsigned char, 16> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) FailCall("getrandom");
  std::string token;
  for (const unsigned char byte : bytes) token += fmt::format("{:02x}", byte);
  return token;
}

std::vector<std::string> OwnCommandLine() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  std::vector<std::string> words;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\0', begin), text.size());
    words.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

struct Pipe {
  FileDescriptor read;
  FileDescriptor write;
};

Pipe MakePipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) FailCall("pipe");
  Pipe pipe{FileDescriptor(ends[0]), FileDescriptor(ends[1])};
  ::fcntl(pipe.read.get(), F_SETFL, O_NONBLOCK);
  return pipe;
}

// SIGINT, SIGTERM, SIGHUP and SIGCHLD as something to read, while it lives.
class Signals {
 public:
  Signals() {
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGCHLD}) sigaddset(&set, signal);
    ::sigprocmask(SIG_BLOCK, &set, &before_);
    file_ = FileDescriptor(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!file_.open()) FailCall("signalfd");
  }
  ~Signals() { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  const sigset_t& before() const { return before_; }
  int fd() const { return file_.get(); }
  std::optional<signalfd_siginfo> Next() const {
    signalfd_siginfo info{};
    if (::read(file_.get(), &info, sizeof info) != sizeof info) return std::nullopt;
    return info;
  }

 private:
  sigset_t before_{};
  FileDescriptor file_;
};

class Launch {
 public:
  explicit Launch(const LaunchOptions& options)
      : options_(options), ranks_(static_cast<size_t>(options.num_ranks)), token_(RandomToken()) {}
  ~Launch() {
    for (const Rank& rank : ranks_) {
      if (rank.pid <= 0) continue;
      ::kill(rank.pid, SIGKILL);
      ::waitpid(rank.pid, nullptr, 0);
    }
  }
  Launch(const Launch&) = delete;
  Launch& operator=(const Launch&) = delete;

  int Run() {
    {
      FileDescriptor listener = train::ListenAt(kLoopback, 0);
      for (int rank = 0; rank < options_.num_ranks; ++rank) Start(rank, listener);
    }
    while (std::any_of(ranks_.begin(), ranks_.end(), [](const Rank& r) { return r.pid > 0; })) {
      WaitForNews();
      HandleSignals();
      for (size_t rank = 0; rank < ranks_.size(); ++rank) PassOutput(rank);
      Reap();
      if (kill_at_ && Clock::now() >= *kill_at_) SignalAll(SIGKILL);
    }
    return status_;
  }

 private:
  struct Rank {
    pid_t pid = 0;  // 0: not started, or ended
    FileDescriptor output;
    std::string line;  // begun, not ended
  };

  void Start(int rank, const FileDescriptor& listener) {
    std::vector<std::string> words = options_.command.empty() ? OwnCommandLine() : options_.command;
    std::vector<std::string> variables = Variables(rank, listener);
    const std::vector<char*> argv = Pointers(words);
    const std::vector<char*> envp = Pointers(variables);
    Pipe pipe;
    if (rank > 0) pipe = MakePipe();
    const pid_t launcher = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0) FailCall("fork");
    if (pid == 0) {  // only async-signal-safe calls up to exec
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (::getppid() != launcher) ::_exit(kCannotStart);
      if (rank == 0) {
        ::fcntl(listener.get(), F_SETFD, 0);
      } else {
        ::dup2(::open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);
        ::dup2(pipe.write.get(), STDOUT_FILENO);
        ::dup2(pipe.write.get(), STDERR_FILENO);
      }
      ::sigprocmask(SIG_SETMASK, &signals_.before(), nullptr);
      ::execve("/proc/self/exe", argv.data(), envp.data());
      ::_exit(kCannotStart);
    }
    ranks_[static_cast<size_t>(rank)].pid = pid;
    ranks_[static_cast<size_t>(rank)].output = std::move(pipe.read);
  }

  std::vector<std::string> Variables(int rank, const FileDescriptor& listener) const {
    std::vector<std::pair<std::string, std::string>> own = {
        {"RANK", std::to_string(rank)},       {"WORLD_SIZE", std::to_string(options_.num_ranks)},
        {"LOCAL_RANK", std::to_string(rank)}, {"LOCAL_WORLD_SIZE", std::to_string(options_.num_ranks)},
        {"MASTER_ADDR", kLoopback},           {"MASTER_PORT", std::to_string(train::LocalPort(listener))},
        {train::kTokenVariable, token_},      {train::kListenerVariable, std::to_string(listener.get())}};
    // One host needs no network.
    constexpr std::array<std::string_view, 2> kUnset = {"GLOO_SOCKET_IFNAME", "TORCHELASTIC_USE_AGENT_STORE"};
    std::vector<std::string> variables;
    for (char** v = environ; *v != nullptr; ++v) {
      const std::string_view variable = *v;
      const std::string_view name = variable.substr(0, variable.find('='));
      const bool replaced = std::any_of(own.begin(), own.end(), [&](const auto& o) { return o.first == name; });
      if (!replaced && std::find(kUnset.begin(), kUnset.end(), name) == kUnset.end()) variables.emplace_back(variable);
    }
    for (const auto& [name, value] : own) variables.push_back(name + "=" + value);
    return variables;
  }

  void WaitForNews() const {
    std::vector<pollfd> polled = {{signals_.fd(), POLLIN, 0}};
    for (const Rank& rank : ranks_) polled.push_back({rank.output.get(), POLLIN, 0});  // closed: -1, which poll ignores
    int wait = -1;
    if (kill_at_) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(*kill_at_ - Clock::now()).count();
      wait = static_cast<int>(std::clamp<int64_t>(left, 10, 60'000));
    }
    ::poll(polled.data(), polled.size(), wait);
  }

  void HandleSignals() {
    while (const auto info = signals_.Next()) {
      const int signal = static_cast<int>(info->ssi_signo);
      if (signal == SIGCHLD) continue;
      stopped_by_user_ = true;
      // What the terminal sends (Ctrl-C) has reached the ranks already: they are in its foreground group as well.
      if (info->ssi_code != SI_KERNEL) SignalAll(signal);
    }
  }

  void SignalAll(int signal) const {
    for (const Rank& rank : ranks_) {
      if (rank.pid > 0) ::kill(rank.pid, signal);
    }
  }

  void PassOutput(size_t index) {
    Rank& rank = ranks_[index];
    std::array<char, 4096> buffer{};
    while (rank.output.open()) {
      const ssize_t n = ::read(rank.output.get(), buffer.data(), buffer.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) return;
      if (n > 0) {
        rank.line.append(buffer.data(), static_cast<size_t>(n));
        PrintLines(index, false);
      } else {
        rank.output.Close();
      }
    }
  }

  void PrintLines(size_t index, bool last) {
    std::string& text = ranks_[index].line;
    for (;;) {
      const size_t end = text.find('\n');
      if (text.empty() || (end == std::string::npos && !last && text.size() <= kLongestLine)) return;
      const size_t length = std::min({end, kLongestLine, text.size()});
      fmt::print(stderr, "[rank {}] {}\n", index, std::string_view(text).substr(0, length));
      text.erase(0, length + (length == end ? 1 : 0));
    }
  }

  void Reap() {
    struct End {
      size_t rank;
      int status;
    };
    std::vector<End> failures;
    for (size_t rank = 0; rank < ranks_.size(); ++rank) {
      int status = 0;
      if (ranks_[rank].pid <= 0 || ::waitpid(ranks_[rank].pid, &status, WNOHANG) != ranks_[rank].pid) continue;
      ranks_[rank].pid = 0;
      PassOutput(rank);
      PrintLines(rank, true);
      if (status != 0) failures.push_back({rank, status});
    }
    // Of several that were found at once: the others' kIo follows from the one that died.
    const int follows = ExitCode(ErrorCode::kIo);
    const auto cause =
        std::find_if(failures.begin(), failures.end(), [&](const End& end) { return StatusOf(end.status) != follows; });
    if (!failures.empty()) {
      const End& first = cause == failures.end() ? failures.front() : *cause;
      OnFailure(first.rank, first.status);
    }
  }

  static int StatusOf(int wait_status) {
    return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
  }

  void OnFailure(size_t rank, int wait_status) {
    if (status_ != 0) return;  // the first one counts, the others follow from it
    status_ = StatusOf(wait_status);
    if (stopped_by_user_) return;  // as asked; the ranks end on their own
    const std::string reason = WIFSIGNALED(wait_status) ? fmt::format("signal {} ({})", WTERMSIG(wait_status),
                                                                      ::strsignal(WTERMSIG(wait_status)))
                                                        : fmt::format("exit status {}", status_);
    fmt::print(stderr,
               "{}gateskip: error:{} [launch] rank {} of {}: expected it to finish, found it ended by {}; the other "
               "ranks are ended, go on with --resume\n",
               Paint(stderr, Style::kError), Paint(stderr, Style::kReset), rank, options_.num_ranks, reason);
    SignalAll(SIGTERM);
    kill_at_ = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                  std::chrono::duration<double>(std::max(options_.kill_after, 0.0)));
  }

  const LaunchOptions options_;
  Signals signals_;
  std::vector<Rank> ranks_;
  const std::string token_;
  int status_ = 0;
  bool stopped_by_user_ = false;
  std::optional<Clock::time_point> kill_at_;
};

}  // namespace

int LaunchRanks(const LaunchOptions& options) {
  if (options.num_ranks < 1 || options.num_ranks > train::kMaxRanks) {
    Fail(ErrorCode::kInvalidArgument, "[launch] nproc: expected a number in [1, {}], found {}; change the option",
         train::kMaxRanks, options.num_ranks);
  }
  return Launch(options).Run();
}

bool IsRank() { return train::RankEnvironment::Read().size > 1; }

int ThreadsPerRank(int threads, int num_ranks) { return std::max(1, threads / std::max(1, num_ranks)); }

}  // namespace gateskip::cli
