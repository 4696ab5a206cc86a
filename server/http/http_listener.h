// A small HTTP/1.1 listener for pages that programs fetch: metrics and health.
#ifndef BACKPROP_SERVER_HTTP_HTTP_LISTENER_H_
#define BACKPROP_SERVER_HTTP_HTTP_LISTENER_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/rpc/sockets.h"

namespace backprop::http {

struct Page {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};

// What one peer can make the listener hold.
struct HttpLimits {
  size_t connections = 32;  // at the same time; further ones are closed at once
  // The line and the headers of a request. A head of this size is accepted, one of more than
  // twice the size never.
  size_t head_bytes = 8192;
  absl::Duration request = absl::Seconds(5);    // from the connection to the end of the head
  absl::Duration response = absl::Seconds(10);  // until the peer has taken the response
};

// Serves GET requests on its own thread, one at a time: a page that takes long delays the others,
// and nothing else. There is no encryption and no authentication. A connection serves one request
// and is then closed; a body is not read. The error codes are 400 for what is not HTTP, 405 for
// other methods, 431 for a head that is too large, and 500 if `page` throws. If no descriptor is
// free, connections wait until one is.
class HttpListener {
 public:
  // Returns the page of a path, such as "/metrics", without the query. Called by the listener's
  // thread. Return status 404 for an unknown path.
  using Pages = std::function<Page(absl::string_view path)>;

  // Serves until it is destroyed.
  HttpListener(rpc::ListeningSockets listening, Pages pages, const HttpLimits& limits = {});
  // Closes the sockets and deletes the file of a Unix socket. Responses that are being sent are
  // cut.
  ~HttpListener();
  HttpListener(const HttpListener&) = delete;
  HttpListener& operator=(const HttpListener&) = delete;

  // "host:port", with the port that was bound, or "unix:path".
  const std::string& address() const { return address_; }

 private:
  class Server;

  const std::string address_;
  std::unique_ptr<Server> server_;
};

}  // namespace backprop::http

#endif  // BACKPROP_SERVER_HTTP_HTTP_LISTENER_H_
