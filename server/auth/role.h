// What a caller may do.
#ifndef BACKPROP_SERVER_AUTH_ROLE_H_
#define BACKPROP_SERVER_AUTH_ROLE_H_

namespace backprop::auth {

// Each role includes the ones before it. kOperator concerns the whole server, the others concern
// the project of the caller.
enum class Role { kReader = 1, kWriter = 2, kAdmin = 3, kOperator = 4 };

// As in the auth file: "READER".
const char* NameOf(Role role);

}  // namespace backprop::auth

#endif  // BACKPROP_SERVER_AUTH_ROLE_H_
