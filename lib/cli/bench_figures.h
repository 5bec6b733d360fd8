#pragma once

#include <string>

#include "base/json.h"
#include "metrics/figure.h"

namespace atelier::cli {

/// A figure as the contract's record: {"metric","variant","value","interval","n_real","n_fake","weights_sha256"}, where there is
/// one "deviation", and "unreadable" with a {"file","reason"} for each file that was left out.
base::Json figure_record(const metrics::Figure& figure);
/// The same back, of a record that this program wrote.
metrics::Figure figure_of(const base::Json& record);

/// "fid (pytorch-fid): 23.41 (95 %: 22.9 to 24.0), 200 pictures against 2000, weights 6726825d".
std::string figure_text(const metrics::Figure& figure);

/// Warns of every file that was left out, the first few by name.
void warn_unreadable(const metrics::Figure& figure);

/// Error(data) unless the weights have this hash (upper case is fine); "" takes any. `what` names the weights.
void require_hash(const std::string& wanted, const std::string& found, const std::string& what);

}  // namespace atelier::cli
