// SPDX-License-Identifier: Apache-2.0
#include "server/page.h"

namespace gateskip::server {

std::string_view ChatPage() { return "<!DOCTYPE html><title>gateskip</title>"; }

}  // namespace gateskip::server
