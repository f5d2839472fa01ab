// SPDX-License-Identifier: Apache-2.0
// The report of a training run as one HTML page, made from its log.jsonl alone: it survives a resume and can be made
// again at any time.
#pragma once

#include <string>

#include "analysis/train_log.h"

namespace gateskip {

// `name` stands in the title when the log does not name the model. The same log gives the same bytes.
std::string RenderTrainReport(const TrainLog& log, const std::string& name);

// Reads run_directory/log.jsonl and puts the page in the place of `path`, at once. Throws Error as ReadTrainLogFile
// and WriteFileAtomically do.
void WriteTrainReport(const std::string& run_directory, const std::string& path);

}  // namespace gateskip
