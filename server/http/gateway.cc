#include "server/http/gateway.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <cerrno>
#include <chrono>
#include <deque>
#include <exception>
#include <thread>
#include <unordered_map>
#include <utility>
#include <variant>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "server/base/mutex.h"
#include "server/base/text.h"
#include "server/http/methods.h"
#include "server/http/tls_context.h"

namespace backprop::http {
namespace {

namespace asio = boost::asio;
using Error = boost::system::error_code;

// Pause after accept() failed for lack of a descriptor or of memory.
constexpr std::chrono::milliseconds kAcceptPause{100};
// How often peers that are too late are looked for.
constexpr std::chrono::milliseconds kTick{100};
constexpr absl::Duration kReportPeriod = absl::Seconds(10);
constexpr char kPreflightSeconds[] = "7200";

// The peer as gRPC writes it.
std::string AddressText(const sockaddr_storage& from) {
  char text[INET6_ADDRSTRLEN] = {};
  if (from.ss_family == AF_INET) {
    const auto& ipv4 = reinterpret_cast<const sockaddr_in&>(from);
    inet_ntop(AF_INET, &ipv4.sin_addr, text, sizeof(text));
    return absl::StrCat("ipv4:", text, ":", ntohs(ipv4.sin_port));
  }
  if (from.ss_family != AF_INET6) return "unix:";
  const auto& ipv6 = reinterpret_cast<const sockaddr_in6&>(from);
  if (IN6_IS_ADDR_V4MAPPED(&ipv6.sin6_addr)) {
    inet_ntop(AF_INET, reinterpret_cast<const char*>(&ipv6.sin6_addr) + 12, text, sizeof(text));
    return absl::StrCat("ipv4:", text, ":", ntohs(ipv6.sin6_port));
  }
  inet_ntop(AF_INET6, &ipv6.sin6_addr, text, sizeof(text));
  return absl::StrCat("ipv6:%5B", text, "%5D:", ntohs(ipv6.sin6_port));
}

// "example.org" of "example.org:8080", "https://example.org" and so on.
std::string HostOf(absl::string_view text) {
  const size_t scheme = text.find("://");
  if (scheme != absl::string_view::npos) text.remove_prefix(scheme + 3);
  if (absl::StartsWith(text, "[")) return std::string(text.substr(0, text.find(']') + 1));
  return absl::AsciiStrToLower(text.substr(0, text.find(':')));
}

bool IsAddressOrLocalhost(const std::string& host) {
  if (host == "localhost" || absl::EndsWith(host, ".localhost")) return true;
  if (absl::StartsWith(host, "[")) return true;
  in_addr ipv4 = {};
  return inet_pton(AF_INET, host.c_str(), &ipv4) == 1;
}

// Whether `text` is a list of names of headers.
bool IsHeaderList(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || absl::StrContains("-_.*, ", c);
  });
}

Refusal Plain(int http_status, grpc::StatusCode code, std::string message) {
  Refusal refusal;
  refusal.http_status = http_status;
  refusal.status = grpc::Status(code, std::move(message));
  return refusal;
}

}  // namespace

class Gateway::Impl {
 public:
  Impl(GatewayOptions options, std::shared_ptr<grpc::Channel> channel)
      : options_(std::move(options)),
        methods_(options_.services),
        stub_(std::move(channel)),
        memory_(options_.max_in_flight_bytes),
        calls_{&stub_, options_.max_message_bytes, &memory_},
        work_(asio::make_work_guard(io_)),
        accepting_(asio::make_strand(io_)),
        timer_(accepting_) {
    if (options_.tls != nullptr) tls_ = std::make_unique<TlsContext>(options_.tls);
    if (options_.connections.max_connections_per_peer < 0) {
      options_.connections.max_connections_per_peer =
          std::max<int64_t>(options_.connections.max_connections / 4, 16);
    }
    environment_.max_head_bytes = options_.max_head_bytes;
    environment_.times = options_.times;
    environment_.route = [this](const RequestHead& head,
                                const std::shared_ptr<Connection>& connection) {
      return Route(head, connection);
    };
    for (const rpc::ListeningSockets& listening : options_.listening) {
      for (const rpc::Descriptor& socket : listening.sockets) {
        // The descriptor of the acceptor is a copy, which it closes itself.
        acceptors_.emplace_back(accepting_, fcntl(socket.get(), F_DUPFD_CLOEXEC, 0),
                                options_.tls != nullptr && !listening.IsUnix());
        Accept(&acceptors_.back());
      }
    }
    for (int i = 0; i < options_.threads; ++i) threads_.emplace_back([this] { Run(); });
  }

  ~Impl() {
    Stop(absl::ZeroDuration());
    io_.stop();
    for (std::thread& thread : threads_) thread.join();
  }

  void Drain() {
    if (environment_.draining.exchange(true)) return;
    for (const rpc::ListeningSockets& listening : options_.listening) {
      if (listening.IsUnix()) unlink(listening.address.substr(5).c_str());
    }
    options_.listening.clear();
    asio::post(accepting_, [this] {
      Error ignored;
      for (Acceptor& acceptor : acceptors_) acceptor.socket.close(ignored);
      ForAll([](Connection* connection) { connection->Drain(); });
    });
  }

  void Stop(absl::Duration flush) {
    Drain();
    if (WaitForNone(flush)) return;
    // A connection that was accepted meanwhile is closed in the next round.
    do {
      ForAll([](Connection* connection) { connection->Close(); });
    } while (!WaitForNone(absl::Milliseconds(100)));
  }

  int64_t open_connections() const {
    const base::MutexLock lock(&mu_);
    return static_cast<int64_t>(connections_.size());
  }

 private:
  using Strand = asio::strand<asio::io_context::executor_type>;

  struct Acceptor {
    Acceptor(const Strand& strand, int fd, bool encrypts)
        : socket(strand, fd), pause(strand), is_encrypted(encrypts) {}
    asio::posix::stream_descriptor socket;
    asio::steady_timer pause;
    const bool is_encrypted;
  };

  // A connection in the table, until it is destroyed.
  struct Place {
    Place(Impl* its_gateway, std::string its_peer)
        : gateway(its_gateway), peer(std::move(its_peer)) {}
    ~Place() { gateway->Leave(this); }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

    Impl* const gateway;
    const std::string peer;
  };

  // A handler throws if there is no memory.
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

  // Accepts one connection, then waits for the next.
  void TakeOne(Acceptor* acceptor) {
    sockaddr_storage from = {};
    socklen_t size = sizeof(from);
    const int fd = accept4(acceptor->socket.native_handle(), reinterpret_cast<sockaddr*>(&from),
                           &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
      acceptor->pause.expires_after(kAcceptPause);
      acceptor->pause.async_wait([this, acceptor](const Error& error) {
        if (!error) Accept(acceptor);
      });
      return;
    }
    if (fd >= 0) {
      try {
        Take(rpc::Descriptor(fd), from, acceptor->is_encrypted);
      } catch (const std::exception&) {  // no memory; the connection is closed
      }
    }
    Accept(acceptor);
  }

  void Take(rpc::Descriptor fd, const sockaddr_storage& from, bool is_encrypted) {
    auto place = std::make_shared<Place>(this, rpc::PeerOf(from));
    const std::string refused = Enter(place.get(), fd.get());
    if (!refused.empty()) return Refused(refused);
    SetOptions(fd.get(), from.ss_family);
    asio::generic::stream_protocol::socket socket(asio::make_strand(io_));
    Error error;
    socket.assign(asio::generic::stream_protocol(from.ss_family, 0), fd.get(), error);
    if (error) return;
    fd.Release();
    std::unique_ptr<Transport> transport;
    if (is_encrypted) {
      const auto context = tls_->Latest();
      if (context == nullptr) return;
      transport = TlsTransport(std::move(socket), context.get());
    } else {
      transport = ClearTransport(std::move(socket));
    }
    Place* const key = place.get();
    auto connection = std::make_shared<Connection>(
        &environment_, std::move(transport), Connection::Peer{AddressText(from), {}, is_encrypted},
        std::move(place));
    {
      const base::MutexLock lock(&mu_);
      connections_[key] = connection;
    }
    asio::post(connection->executor(), [connection] { connection->Start(); });
    Tick();
  }

  void SetOptions(int fd, int family) const {
    if (family != AF_INET && family != AF_INET6) return;
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    const absl::Duration limit = options_.connections.unacknowledged;
    if (limit <= absl::ZeroDuration()) return;
    // Finds peers that have failed while nothing is sent, as pings of HTTP/2 do.
    const int seconds = std::max<int>(1, static_cast<int>(absl::ToInt64Seconds(limit / 4)));
    const int probes = 2;
    const auto milliseconds = static_cast<unsigned>(absl::ToInt64Milliseconds(limit));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof(seconds));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof(seconds));
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &milliseconds, sizeof(milliseconds));
  }

  // Adds a place to the table, or returns why there is none.
  std::string Enter(Place* place, int fd) {
    const rpc::ConnectionLimits& limits = options_.connections;
    const base::MutexLock lock(&mu_);
    connections_[place];
    if (!place->peer.empty()) ++per_peer_[place->peer];
    if (static_cast<int64_t>(connections_.size()) > limits.max_connections) {
      return "the limit --max-connections is reached";
    }
    if (fd >= limits.max_descriptor) return "the limit of open files is reached (ulimit -n)";
    if (!place->peer.empty() && per_peer_[place->peer] > limits.max_connections_per_peer) {
      return absl::StrCat("the limit --max-connections-per-peer is reached by ",
                          rpc::NameOfPeer(place->peer));
    }
    return "";
  }

  void Leave(Place* place) {
    const base::MutexLock lock(&mu_);
    connections_.erase(place);
    if (const auto count = per_peer_.find(place->peer);
        count != per_peer_.end() && --count->second == 0) {
      per_peer_.erase(count);
    }
    if (connections_.empty()) none_.NotifyAll();
  }

  // Called on accepting_.
  void Refused(const std::string& reason) {
    ++refused_;
    const absl::Time now = absl::Now();
    if (now < next_report_ || !options_.on_warning) return;
    next_report_ = now + kReportPeriod;
    options_.on_warning(
        absl::StrCat("--http: ", std::exchange(refused_, 0), " connections refused: ", reason));
  }

  // Runs `what` for each connection, on its executor.
  template <class Function>
  void ForAll(Function what) {
    std::vector<std::shared_ptr<Connection>> all;  // may be the last references
    {
      const base::MutexLock lock(&mu_);
      for (const auto& [place, connection] : connections_) {
        if (auto open = connection.lock()) all.push_back(std::move(open));
      }
    }
    for (const auto& connection : all) {
      asio::post(connection->executor(), [connection, what] { what(connection.get()); });
    }
  }

  bool WaitForNone(absl::Duration timeout) {
    const base::MutexLock lock(&mu_);
    return none_.WaitFor(&mu_, timeout, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return connections_.empty();
    });
  }

  // Closes connections that are overdue, as long as there are any. Called on accepting_.
  void Tick() {
    if (std::exchange(ticking_, true)) return;
    timer_.expires_after(kTick);
    timer_.async_wait([this](const Error&) {
      ticking_ = false;
      std::vector<std::shared_ptr<Connection>> all;
      {
        const base::MutexLock lock(&mu_);
        if (connections_.empty()) return;
        for (const auto& [place, connection] : connections_) {
          if (auto open = connection.lock()) all.push_back(std::move(open));
        }
      }
      for (const auto& connection : all) {
        if (!connection->IsOverdue()) continue;
        asio::post(connection->executor(), [connection] { connection->CheckOverdue(); });
      }
      Tick();
    });
  }

  bool IsAllowedOrigin(const std::string& origin) const {
    return std::any_of(options_.allowed_origins.begin(), options_.allowed_origins.end(),
                       [&](const std::string& allowed) {
                         return allowed == "*" || absl::EqualsIgnoreCase(allowed, origin);
                       });
  }

  bool IsAllowedHost(const RequestHead& head) const {
    if (!options_.only_local_hosts || !head.Has("host")) return true;
    const std::string host = HostOf(head.Get("host"));
    return IsAddressOrLocalhost(host) ||
           std::any_of(options_.allowed_origins.begin(), options_.allowed_origins.end(),
                       [&](const std::string& allowed) { return HostOf(allowed) == host; });
  }

  // The headers of a response by which a browser gives it to a page of another origin.
  Metadata CrossOrigin(const RequestHead& head) const {
    if (options_.allowed_origins.empty()) return {};
    Metadata headers = {{"vary", "origin"}};
    const std::string origin = head.Get("origin");
    if (origin.empty() || !IsAllowedOrigin(origin) || !IsPrintable(origin)) return headers;
    headers.emplace_back("access-control-allow-origin", origin);
    headers.emplace_back("access-control-expose-headers", "*");
    return headers;
  }
  static bool IsPrintable(absl::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  }

  // The request by which a browser asks whether a page may send another one.
  std::shared_ptr<Exchange> Preflight(const RequestHead& head,
                                      const std::shared_ptr<Connection>& connection) const {
    ResponseHead response;
    response.status = 204;
    response.headers = CrossOrigin(head);
    if (response.headers.size() <= 1) {
      return MakeRefusal(connection,
                         Plain(403, grpc::StatusCode::PERMISSION_DENIED,
                               absl::StrCat("pages of the origin ", base::Quote(head.Get("origin")),
                                            " may not call this server (--http-allow-origin)")),
                         response.headers);
    }
    response.headers.emplace_back("access-control-allow-methods", "GET, POST");
    const std::string wanted = head.Get("access-control-request-headers");
    if (!wanted.empty() && IsHeaderList(wanted)) {
      response.headers.emplace_back("access-control-allow-headers", wanted);
    }
    if (head.Get("access-control-request-private-network") == "true") {
      response.headers.emplace_back("access-control-allow-private-network", "true");
    }
    response.headers.emplace_back("access-control-max-age", kPreflightSeconds);
    return MakeFixedExchange(connection, std::move(response), "");
  }

  std::shared_ptr<Exchange> Route(const RequestHead& head,
                                  const std::shared_ptr<Connection>& connection) {
    if (!IsAllowedHost(head)) {
      return MakeRefusal(
          connection,
          Plain(421, grpc::StatusCode::PERMISSION_DENIED,
                absl::StrCat("the host ", base::Quote(head.Get("host")),
                             " is not one of this server: without authentication it answers to "
                             "localhost and to addresses (docs/http.md)")),
          {});
    }
    if (head.method == "OPTIONS") return Preflight(head, connection);
    const Metadata headers = CrossOrigin(head);
    const auto page = options_.pages.find(head.path);
    if (page != options_.pages.end() && head.method == "GET") {
      Metadata metadata = IdentityOf(*connection);
      const std::string authorization = head.Get("authorization");
      if (!authorization.empty() && IsHeaderText(authorization)) {
        metadata.emplace_back("authorization", authorization);
      }
      return MakePageExchange(&calls_, connection, &page->second, std::move(metadata));
    }
    auto read = ReadCallHead(head, methods_.Find(head.path));
    if (const auto* refusal = std::get_if<Refusal>(&read)) {
      return MakeRefusal(connection, *refusal, headers);
    }
    CallSetup setup{&calls_, connection, std::get<CallHead>(std::move(read)),
                    IdentityOf(*connection), headers};
    return setup.head.format.protocol == Protocol::kConnectUnary
               ? MakeUnaryExchange(std::move(setup))
               : MakeStreamExchange(std::move(setup));
  }
  static bool IsHeaderText(absl::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
  }

  Metadata IdentityOf(const Connection& connection) const {
    return options_.identity ? options_.identity(connection.peer()) : Metadata();
  }

  GatewayOptions options_;
  const Methods methods_;
  grpc::GenericStub stub_;
  Memory memory_;
  CallEnvironment calls_;
  Connection::Environment environment_;
  std::unique_ptr<TlsContext> tls_;

  asio::io_context io_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  Strand accepting_;
  asio::steady_timer timer_;
  bool ticking_ = false;
  int64_t refused_ = 0;
  absl::Time next_report_ = absl::InfinitePast();
  std::deque<Acceptor> acceptors_;

  mutable base::Mutex mu_;
  base::CondVar none_;
  std::unordered_map<Place*, std::weak_ptr<Connection>> connections_ ABSL_GUARDED_BY(mu_);
  std::unordered_map<std::string, int64_t> per_peer_ ABSL_GUARDED_BY(mu_);

  std::vector<std::thread> threads_;
};

Gateway::Gateway(GatewayOptions options, std::shared_ptr<grpc::Channel> channel) {
  for (const rpc::ListeningSockets& listening : options.listening) {
    addresses_.push_back(listening.address);
  }
  impl_ = std::make_unique<Impl>(std::move(options), std::move(channel));
}

Gateway::~Gateway() = default;

int64_t Gateway::open_connections() const { return impl_->open_connections(); }

void Gateway::Drain() { impl_->Drain(); }

void Gateway::Stop(absl::Duration flush) { impl_->Stop(flush); }

}  // namespace backprop::http
