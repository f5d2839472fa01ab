// SPDX-License-Identifier: Apache-2.0
// Puts the parts of the server together: binds, loads the model while /health says so, answers, drains on SIGINT and
// SIGTERM. Threads: this one is the HTTP side's; the engine's; a few workers'.
#pragma once

#include <functional>
#include <string>

#include "server/options.h"

namespace gateskip::server {

// Returns after a signal, when what was under way has ended or --drain-timeout has passed; a second signal ends the
// process. `log` gets a line at a time. Throws Error when it cannot begin: bad options, an address in use, a model that
// does not load.
void Serve(const ServeOptions& options, bool log_answers, const std::function<void(const std::string& line)>& log);

}  // namespace gateskip::server
