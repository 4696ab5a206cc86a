// Requests for a page of a list.
#ifndef BACKPROP_SERVER_RPC_PAGING_H_
#define BACKPROP_SERVER_RPC_PAGING_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/rpc/fields.h"
#include "server/rpc/names.h"

namespace backprop::rpc {

inline constexpr int32_t kDefaultPageSize = 100;
inline constexpr int32_t kMaxPageSize = 1000;

// How many entries the page has. A token is the last id of the page before it.
template <class Request>
size_t DecodePage(const Request& request, const char* method, Fields* fields) {
  if (request.page_size() < 0 || request.page_size() > kMaxPageSize) {
    fields->Add("page_size",
                absl::StrCat("must be in [0, ", kMaxPageSize, "], got ", request.page_size()));
  }
  if (!request.page_token().empty() && !IsModelId(request.page_token())) {
    fields->Add("page_token", absl::StrCat("is not a next_page_token of ", method));
  }
  return static_cast<size_t>(request.page_size() == 0 ? kDefaultPageSize : request.page_size());
}

// Cuts a list, of which one more than the page was asked for, to the page. Returns the token of the
// next one.
template <class List, class IdOf>
std::string CutToPage(size_t page_size, List* list, const IdOf& id_of) {
  if (list->size() <= page_size) return "";
  list->resize(page_size);
  return id_of(list->back());
}

}  // namespace backprop::rpc

#endif  // BACKPROP_SERVER_RPC_PAGING_H_
