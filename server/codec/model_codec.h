// Between the messages about models and what sessions hold.
#ifndef BACKPROP_SERVER_CODEC_MODEL_CODEC_H_
#define BACKPROP_SERVER_CODEC_MODEL_CODEC_H_

#include <map>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "backprop/v1/model.pb.h"
#include "server/base/fields.h"
#include "server/session/session.h"

namespace backprop::codec {

// Violations, about `labels`, are added.
void DecodeLabels(const google::protobuf::Map<std::string, std::string>& labels,
                  std::map<std::string, std::string>* out, base::Fields* fields);
// The same about `ttl`.
void DecodeTtl(const google::protobuf::Duration& message, std::optional<absl::Duration>* ttl,
               base::Fields* fields);

// What can be promised of what was asked for, or FAILED_PRECONDITION (NO_DATA_DIR).
absl::StatusOr<session::Durability> DecodeDurability(bool stores, v1::Durability asked);

void EncodeModel(const session::Session& session, const session::Session::Status& status,
                 v1::Model* model);

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_MODEL_CODEC_H_
