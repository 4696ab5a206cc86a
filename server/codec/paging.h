// Requests and replies that hold one page of a list.
#ifndef BACKPROP_SERVER_CODEC_PAGING_H_
#define BACKPROP_SERVER_CODEC_PAGING_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/base/fields.h"
#include "server/base/limits.h"
#include "server/base/text.h"
#include "server/codec/names.h"
#include "server/codec/reply_size.h"

namespace backprop::codec {

inline constexpr int32_t kDefaultPageSize = 100;
inline constexpr int32_t kMaxPageSize = 1000;

// Maximum number of entries of the page. Adds violations about page_size and page_token. A token is
// the last id of the previous page.
template <class Request>
size_t DecodePage(const Request& request, const char* method, base::Fields* fields) {
  if (request.page_size() < 0 || request.page_size() > kMaxPageSize) {
    fields->Add("page_size",
                absl::StrCat("must be in [0, ", kMaxPageSize, "], got ", request.page_size()));
  }
  if (!request.page_token().empty() && !IsModelId(request.page_token())) {
    fields->Add("page_token", absl::StrCat("must be a next_page_token of ", method, ", got ",
                                           base::Quote(request.page_token())));
  }
  return static_cast<size_t>(request.page_size() == 0 ? kDefaultPageSize : request.page_size());
}

// Encodes the first entries of `list` into `page`: at most `page_size`, and no more than a reply
// can hold. The caller must query page_size + 1 entries: the additional one shows that there is a
// next page. Sets `next` to the token of the next page, or leaves it empty. RESOURCE_EXHAUSTED if
// the first entry does not fit into a reply.
template <class List, class IdOf, class Encode, class Message>
absl::Status EncodePage(size_t page_size, const List& list, const base::Limits& limits,
                        const IdOf& id_of, const Encode& encode,
                        google::protobuf::RepeatedPtrField<Message>* page, std::string* next) {
  std::string last;
  int64_t bytes = 0;
  for (const auto& entry : list) {
    bool full = static_cast<size_t>(page->size()) == page_size;
    if (!full) {
      Message* const message = page->Add();
      encode(entry, message);
      bytes += FieldBytes(static_cast<int64_t>(message->ByteSizeLong()));
      full = bytes > limits.max_message_bytes;
      if (full) page->RemoveLast();
    }
    if (full && page->empty()) {
      return CheckReplyBytes(id_of(entry), bytes, limits,
                             "the first entry does not fit into a page");
    }
    if (full) {
      *next = last;
      return absl::OkStatus();
    }
    last = id_of(entry);
  }
  return absl::OkStatus();
}

}  // namespace backprop::codec

#endif  // BACKPROP_SERVER_CODEC_PAGING_H_
