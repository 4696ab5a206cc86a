#include "server/auth/role.h"

namespace backprop::auth {

const char* NameOf(Role role) {
  switch (role) {
    case Role::kReader:
      return "READER";
    case Role::kWriter:
      return "WRITER";
    case Role::kAdmin:
      return "ADMIN";
    case Role::kOperator:
      return "OPERATOR";
  }
  return "unknown";
}

}  // namespace backprop::auth
