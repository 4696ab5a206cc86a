#include "server/rpc/request_key.h"

#include <xxhash.h>

#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "server/codec/names.h"
#include "server/records/project.h"

namespace backprop::rpc {

absl::StatusOr<records::RequestKey> RequestKeyOf(const char* method, const std::string& request_id,
                                                 const google::protobuf::Message& request) {
  if (request_id.empty()) return records::RequestKey();
  const absl::Status status = codec::CheckRequestId(request_id);
  if (!status.ok()) return status;
  std::string content(method);
  {
    google::protobuf::io::StringOutputStream stream(&content);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    request.SerializeToCodedStream(&coded);
  }
  return records::RequestKey{request_id, XXH3_64bits(content.data(), content.size())};
}

absl::StatusOr<records::RequestKey> ScopedRequestKeyOf(absl::string_view project,
                                                       const char* method,
                                                       const std::string& request_id,
                                                       const google::protobuf::Message& request) {
  auto key = RequestKeyOf(method, request_id, request);
  if (key.ok() && !key->id.empty()) key->id = records::ScopedRequestId(project, key->id);
  return key;
}

}  // namespace backprop::rpc
