// Identifies a request, so that retries are detected.
#ifndef BACKPROP_SERVER_RECORDS_REQUEST_KEY_H_
#define BACKPROP_SERVER_RECORDS_REQUEST_KEY_H_

#include <cstdint>
#include <string>

namespace backprop::records {

// The caller's request id, and a hash of method and content. Without an id, retries are not
// detected.
struct RequestKey {
  std::string id;
  uint64_t fingerprint = 0;
};

}  // namespace backprop::records

#endif  // BACKPROP_SERVER_RECORDS_REQUEST_KEY_H_
