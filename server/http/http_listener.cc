#include "server/http/http_listener.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/basic_stream.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <boost/optional.hpp>
#include <cerrno>
#include <chrono>
#include <deque>
#include <exception>
#include <memory>
#include <thread>
#include <utility>

#include "absl/strings/match.h"

namespace backprop::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
using Error = boost::system::error_code;
using Stream = beast::basic_stream<asio::generic::stream_protocol>;

// Pause after accept() failed for lack of a descriptor or of memory.
constexpr std::chrono::milliseconds kPause{100};

Page ErrorPage(beast::http::status status) {
  return {static_cast<int>(status), Page().content_type,
          beast::http::obsolete_reason(status).to_string() + "\n"};
}

// The error that ends the reading of a head, as a page; none if the peer has gone or was too slow.
boost::optional<Page> PageOf(const Error& error) {
  if (error == beast::http::error::header_limit || error == beast::http::error::buffer_overflow) {
    return ErrorPage(beast::http::status::request_header_fields_too_large);
  }
  const bool of_parser = error.category() == make_error_code(beast::http::error{}).category();
  if (!of_parser || error == beast::http::error::end_of_stream ||
      error == beast::http::error::partial_message) {
    return boost::none;
  }
  return ErrorPage(beast::http::status::bad_request);
}

}  // namespace

// Everything runs on thread_, except the constructor and the destructor.
class HttpListener::Server {
 public:
  Server(rpc::ListeningSockets listening, Pages pages, const HttpLimits& limits)
      : listening_(std::move(listening)), pages_(std::move(pages)), limits_(limits) {
    for (const rpc::Descriptor& socket : listening_.sockets) {
      // The descriptor of the acceptor is a copy, which it closes itself.
      acceptors_.emplace_back(io_, fcntl(socket.get(), F_DUPFD_CLOEXEC, 0));
      Accept(&acceptors_.back());
    }
    thread_ = std::thread([this] { Run(); });
  }
  ~Server() {
    io_.stop();
    thread_.join();
    if (absl::StartsWith(listening_.address, "unix:")) {
      unlink(listening_.address.substr(5).c_str());
    }
  }

 private:
  class Connection;
  struct Acceptor {
    Acceptor(asio::io_context& io, int fd) : socket(io, fd), pause(io) {}
    asio::posix::stream_descriptor socket;
    asio::steady_timer pause;
  };

  // A handler throws if there is no memory, and its connection is closed then.
  void Run() {
    while (!io_.stopped()) {
      try {
        io_.run();
      } catch (const std::exception&) {
      }
    }
  }

  void Accept(Acceptor* acceptor) {
    acceptor->socket.async_wait(asio::posix::stream_descriptor::wait_read,
                                [this, acceptor](const Error& error) {
                                  if (!error) TakeOne(acceptor);
                                });
  }
  void TakeOne(Acceptor* acceptor);

  const rpc::ListeningSockets listening_;
  const Pages pages_;
  const HttpLimits limits_;
  size_t connections_ = 0;
  asio::io_context io_;
  std::deque<Acceptor> acceptors_;
  std::thread thread_;
};

// Reads one head, writes one response, and ends. Its handlers own it.
class HttpListener::Server::Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Server* server, asio::generic::stream_protocol::socket socket)
      : server_(server),
        stream_(std::move(socket)),
        // The parser stops at the limit, so the buffer never has to hold more.
        buffer_(server->limits_.head_bytes + 1) {
    ++server_->connections_;
    parser_.header_limit(static_cast<uint32_t>(server->limits_.head_bytes));
  }
  ~Connection() { --server_->connections_; }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void Start() {
    stream_.expires_after(absl::ToChronoNanoseconds(server_->limits_.request));
    beast::http::async_read_header(stream_, buffer_, parser_,
                                   [self = shared_from_this()](const Error& error, size_t) {
                                     if (!error) return self->Respond(self->Answer());
                                     const auto page = PageOf(error);
                                     if (page.has_value()) self->Respond(*page);
                                   });
  }

 private:
  Page Answer() {
    if (parser_.get().method() != beast::http::verb::get) {
      return ErrorPage(beast::http::status::method_not_allowed);
    }
    const auto target = parser_.get().target();
    const absl::string_view path(target.data(), target.size());
    try {
      return server_->pages_(path.substr(0, path.find('?')));
    } catch (const std::exception&) {
      return ErrorPage(beast::http::status::internal_server_error);
    }
  }

  void Respond(Page page) {
    response_.version(11);
    response_.result(static_cast<unsigned>(page.status));
    response_.set(beast::http::field::content_type, page.content_type);
    response_.set(beast::http::field::cache_control, "no-store");
    if (response_.result() == beast::http::status::method_not_allowed) {
      response_.set(beast::http::field::allow, "GET");
    }
    response_.keep_alive(false);
    response_.body() = std::move(page.body);
    response_.prepare_payload();
    stream_.expires_after(absl::ToChronoNanoseconds(server_->limits_.response));
    beast::http::async_write(stream_, response_,
                             [self = shared_from_this()](const Error&, size_t) { self->Drain(); });
  }

  // Closing a socket with unread bytes would reset the connection, and the peer might lose the
  // response. So the rest of what the peer sent is read first, within the time of the response.
  void Drain() {
    Error ignored;
    stream_.socket().shutdown(asio::socket_base::shutdown_send, ignored);
    Discard();
  }
  void Discard() {
    stream_.async_read_some(asio::buffer(discarded_),
                            [self = shared_from_this()](const Error& error, size_t) {
                              if (!error) self->Discard();
                            });
  }

  Server* const server_;
  Stream stream_;
  beast::flat_buffer buffer_;
  beast::http::request_parser<beast::http::empty_body> parser_;
  beast::http::response<beast::http::string_body> response_;
  std::array<char, 4096> discarded_;
};

// Accepts one connection, then waits for the next.
void HttpListener::Server::TakeOne(Acceptor* acceptor) {
  sockaddr_storage peer = {};
  socklen_t size = sizeof(peer);
  const int fd = accept4(acceptor->socket.native_handle(), reinterpret_cast<sockaddr*>(&peer),
                         &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
    acceptor->pause.expires_after(kPause);
    acceptor->pause.async_wait([this, acceptor](const Error& error) {
      if (!error) Accept(acceptor);
    });
    return;
  }
  if (fd >= 0 && connections_ >= limits_.connections) {
    close(fd);
  } else if (fd >= 0) {
    asio::generic::stream_protocol::socket socket(io_);
    Error error;
    socket.assign(asio::generic::stream_protocol(peer.ss_family, 0), fd, error);
    if (error) {
      close(fd);
    } else {
      std::make_shared<Connection>(this, std::move(socket))->Start();
    }
  }
  Accept(acceptor);
}

HttpListener::HttpListener(rpc::ListeningSockets listening, Pages pages, const HttpLimits& limits)
    : address_(listening.address),
      server_(std::make_unique<Server>(std::move(listening), std::move(pages), limits)) {}

HttpListener::~HttpListener() = default;

}  // namespace backprop::http
