#include "server/rpc/listener.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace backprop::rpc {
namespace {

constexpr absl::Duration kReportPeriod = absl::Seconds(10);
// Pause after an error that would occur again immediately.
constexpr absl::Duration kPause = absl::Milliseconds(100);
// Sweeps take at most 1/kSweepShare of the thread's time.
constexpr int kSweepShare = 20;
// Maximum number of connections that are accepted from one socket before the others are served.
constexpr int kTurn = 64;

constexpr char kTooMany[] = "the limit --max-connections is reached";
constexpr char kNoDescriptors[] =
    "the limit of open files is reached (ulimit -n); some descriptors are reserved for the store";

int Accept(int listening_fd, sockaddr_storage* from = nullptr) {
  socklen_t size = sizeof(*from);
  return accept4(listening_fd, reinterpret_cast<sockaddr*>(from), from != nullptr ? &size : nullptr,
                 SOCK_NONBLOCK | SOCK_CLOEXEC);
}

ConnectionLimits WithDefaults(ConnectionLimits limits) {
  if (limits.max_connections_per_peer < 0) {
    limits.max_connections_per_peer = std::max<int64_t>(limits.max_connections / 4, 16);
  }
  return limits;
}

bool OutOfDescriptors(int error) { return error == EMFILE || error == ENFILE; }

// Errors of the connection to be accepted, not of the listening socket: see accept(2).
bool OfTheConnection(int error) {
  switch (error) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case EPERM:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
    case ETIMEDOUT:
      return true;
    default:
      return false;
  }
}

// Whether the peer still has to acknowledge sent bytes.
bool HasUnsent(int fd) {
  int bytes = 0;
  return ioctl(fd, SIOCOUTQ, &bytes) == 0 && bytes > 0;
}

}  // namespace

Listener::Listener(std::vector<Endpoint> endpoints, ConnectionLimits limits,
                   std::function<void(const std::string&)> on_warning)
    : endpoints_(std::move(endpoints)),
      limits_(WithDefaults(limits)),
      on_warning_(std::move(on_warning)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      spare_(open("/dev/null", O_RDONLY | O_CLOEXEC)) {}

Listener::~Listener() { Stop(); }

void Listener::Start() {
  thread_ = std::thread([this] { Work(); });
}

void Listener::Stop() {
  if (thread_.joinable()) {
    const uint64_t one = 1;
    while (write(wake_.get(), &one, sizeof(one)) < 0 && errno == EINTR) {
    }
    thread_.join();
  }
  for (Endpoint& endpoint : endpoints_) endpoint.listening.sockets.clear();
}

void Listener::Work() {
  std::vector<pollfd> polled = {{wake_.get(), POLLIN, 0}};
  std::vector<Acceptor*> acceptors = {nullptr};  // acceptors[i] takes the connections of polled[i]
  for (const Endpoint& endpoint : endpoints_) {
    for (const Descriptor& socket : endpoint.listening.sockets) {
      polled.push_back({socket.get(), POLLIN, 0});
      acceptors.push_back(endpoint.acceptor.get());
    }
  }
  for (;;) {
    const int timeout_ms = refusing_ ? 1000 : connections_.empty() ? -1 : 1000 * kCountSeconds;
    if (poll(polled.data(), polled.size(), timeout_ms) < 0 && errno != EINTR)
      absl::SleepFor(kPause);
    if (polled[0].revents != 0) return;
    for (size_t i = 1; i < polled.size(); ++i) {
      if (polled[i].revents != 0) TakeFrom(polled[i].fd, acceptors[i]);
    }
    Count();
    ReportRefusals();
  }
}

void Listener::Count() {
  const absl::Time now = absl::Now();
  if (now >= next_count_) {
    Sweep();
    next_count_ = now + absl::Seconds(kCountSeconds);
  }
  open_.store(static_cast<int64_t>(connections_.size()), std::memory_order_relaxed);
}

void Listener::TakeFrom(int listening_fd, Acceptor* acceptor) {
  for (int taken = 0; taken < kTurn; ++taken) {
    sockaddr_storage from = {};
    const int fd = Accept(listening_fd, &from);
    if (fd < 0) {
      const int error = errno;
      if (error == EAGAIN || error == EWOULDBLOCK) return;
      if (OfTheConnection(error)) continue;
      if (OutOfDescriptors(error)) {
        // accept() returns this error whether or not a connection waits.
        if (!RefuseWithSpare(listening_fd)) return;
        Refused(kNoDescriptors);
        continue;
      }
      const char* description = strerrordesc_np(error);
      Refused(description != nullptr ? description : "accept failed");
      absl::SleepFor(kPause);
      return;
    }
    const std::string peer = PeerOf(from);
    if (std::string reason = Admit(fd, peer); !reason.empty()) {
      close(fd);
      Refused(std::move(reason));
      continue;
    }
    Remember(fd, peer);
    all_accepted_.Add();
    if (limits_.unacknowledged > absl::ZeroDuration()) {
      const auto milliseconds =
          static_cast<unsigned>(absl::ToInt64Milliseconds(limits_.unacknowledged));
      setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &milliseconds, sizeof(milliseconds));
    }
    Acceptor::NewConnectionParameters connection;
    connection.listener_fd = listening_fd;
    connection.fd = fd;
    acceptor->HandleNewConnection(&connection);
  }
}

std::string Listener::Admit(int fd, const std::string& peer) {
  if (fd >= limits_.max_descriptor) return kNoDescriptors;
  // If the table has this number, gRPC has closed that connection and the number was reused.
  if (const auto known = connections_.find(fd); known != connections_.end()) Forget(known);
  const auto fits = [this] {
    return static_cast<int64_t>(connections_.size()) < limits_.max_connections;
  };
  if (!fits() || !FitsPeer(peer)) Sweep();
  if (!fits()) return kTooMany;
  if (FitsPeer(peer)) return "";
  return absl::StrCat("the limit --max-connections-per-peer is reached by ", NameOfPeer(peer));
}

bool Listener::FitsPeer(const std::string& peer) const {
  if (peer.empty()) return true;
  const auto known = per_peer_.find(peer);
  return (known == per_peer_.end() ? 0 : known->second) < limits_.max_connections_per_peer;
}

void Listener::Remember(int fd, const std::string& peer) {
  connections_[fd] = {IdentityOf(fd), peer};
  if (!peer.empty()) ++per_peer_[peer];
}

void Listener::Forget(std::unordered_map<int, Connection>::iterator known) {
  if (const auto count = per_peer_.find(known->second.peer);
      count != per_peer_.end() && --count->second == 0) {
    per_peer_.erase(count);
  }
  connections_.erase(known);
}

bool Listener::RefuseWithSpare(int listening_fd) {
  spare_.Close();
  const int fd = Accept(listening_fd);
  const bool another_took_it = fd < 0 && OutOfDescriptors(errno);
  if (fd >= 0) close(fd);
  spare_ = Descriptor(open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (another_took_it) absl::SleepFor(kPause);
  return fd >= 0;
}

Listener::Identity Listener::IdentityOf(int fd) {
  struct stat status = {};
  if (fstatat(fd, "", &status, AT_EMPTY_PATH) != 0) return {};
  return {status.st_dev, status.st_ino};
}

void Listener::Sweep() {
  const absl::Time begin = absl::Now();
  if (begin < next_sweep_) return;
  for (auto next = connections_.begin(); next != connections_.end();) {
    const auto known = next++;
    const Identity& identity = known->second.identity;
    if (identity.inode == 0 || !(IdentityOf(known->first) == identity)) Forget(known);
  }
  const absl::Time end = absl::Now();
  next_sweep_ = end + kSweepShare * (end - begin);
}

void Listener::Refused(std::string reason) {
  ++refused_;
  all_refused_.Add();
  reason_ = std::move(reason);
  last_refusal_ = absl::Now();
  refusing_ = true;
}

void Listener::ReportRefusals() {
  if (!refusing_) return;
  const absl::Time now = absl::Now();
  if (refused_ > 0 && now >= next_report_) {
    on_warning_(absl::StrCat(refused_, refused_ == 1 ? " connection was" : " connections were",
                             " refused: ", reason_, "; ", connections_.size(), " are open"));
    refused_ = 0;
    next_report_ = now + kReportPeriod;
  }
  if (refused_ == 0 && now >= last_refusal_ + kReportPeriod) {
    refusing_ = false;
    on_warning_("connections are accepted again");
  }
}

void Listener::WaitForClients(absl::Duration timeout) {
  const absl::Time end = absl::Now() + timeout;
  for (Sweep(); !connections_.empty() && absl::Now() < end; Sweep()) {
    absl::SleepFor(absl::Milliseconds(1));
  }
}

template <class How>
void Listener::ShutDown(How how) {
  for (const auto& [fd, connection] : connections_) {
    if (IdentityOf(fd) == connection.identity) shutdown(fd, how(fd));
  }
}

void Listener::EndConnections(absl::Duration flush) {
  // Two checks in a row must find nothing unsent, because gRPC may write more when there is room.
  constexpr int kQuietLooks = 2;
  constexpr absl::Duration kLook = absl::Milliseconds(5);
  const absl::Time flushed = absl::Now() + flush;
  for (int quiet = 0; quiet < kQuietLooks && absl::Now() < flushed;) {
    next_sweep_ = absl::InfinitePast();
    Sweep();
    const bool unsent = std::any_of(connections_.begin(), connections_.end(),
                                    [](const auto& known) { return HasUnsent(known.first); });
    quiet = unsent ? 0 : quiet + 1;
    absl::SleepFor(kLook);
  }
  // gRPC then reads the end of the stream, ends the calls, and closes the descriptor. But while it
  // writes, it does not close a connection, and the write to a peer that reads nothing would end
  // with the keepalive only: it must fail.
  ShutDown([](int fd) { return HasUnsent(fd) ? SHUT_RDWR : SHUT_RD; });
  const absl::Time begin = absl::Now();
  const absl::Time written = begin + absl::Milliseconds(200);
  const absl::Time closed = begin + absl::Seconds(1);
  for (bool writes_failed = false; !connections_.empty() && absl::Now() < closed;) {
    if (!writes_failed && absl::Now() >= written) {
      ShutDown([](int) { return SHUT_RDWR; });
      writes_failed = true;
    }
    next_sweep_ = absl::InfinitePast();
    Sweep();
    absl::SleepFor(absl::Milliseconds(1));
  }
}

}  // namespace backprop::rpc
