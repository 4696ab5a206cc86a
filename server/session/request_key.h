// What makes two requests the same.
#ifndef BACKPROP_SERVER_SESSION_REQUEST_KEY_H_
#define BACKPROP_SERVER_SESSION_REQUEST_KEY_H_

#include <cstdint>
#include <string>

namespace backprop::session {

// The caller's id, and a hash of the method and the content. An empty id asks for no protection.
struct RequestKey {
  std::string id;
  uint64_t fingerprint = 0;
};

}  // namespace backprop::session

#endif  // BACKPROP_SERVER_SESSION_REQUEST_KEY_H_
