#include "server/http/connection.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/status.hpp>
#include <boost/beast/http/verb.hpp>
#include <chrono>
#include <cstdint>
#include <exception>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace backprop::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
using beast::http::error;

constexpr size_t kHeadPieceBytes = 4 << 10;
constexpr size_t kBodyPieceBytes = 64 << 10;
// Parts of the output below this size are joined, so that they are one record of TLS.
constexpr size_t kJoinedBytes = 16 << 10;
constexpr size_t kMostBuffers = 16;
constexpr size_t kSendBytes = 256 << 10;  // in one operation, each of which has its own time
constexpr double kLeastBodyBytesPerSecond = 1024;
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

int64_t SteadyNow() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

int64_t After(absl::Duration duration) {
  if (duration == absl::InfiniteDuration()) return kNever;
  return SteadyNow() + absl::ToInt64Nanoseconds(duration);
}

// The request's target as path and query. That of a proxy has a scheme and a host.
void SplitTarget(absl::string_view target, RequestHead* head) {
  if (!absl::StartsWith(target, "/")) {
    const size_t scheme = target.find("://");
    const size_t path = scheme == absl::string_view::npos ? scheme : target.find('/', scheme + 3);
    if (path != absl::string_view::npos) target.remove_prefix(path);
  }
  const size_t question = target.find('?');
  head->path = std::string(target.substr(0, question));
  if (question != absl::string_view::npos) head->query = std::string(target.substr(question + 1));
}

}  // namespace

Connection::Connection(const Environment* environment, std::unique_ptr<Transport> transport,
                       Peer peer, std::shared_ptr<void> place)
    : place_(std::move(place)),
      environment_(environment),
      transport_(std::move(transport)),
      executor_(transport_->executor()),
      peer_(std::move(peer)),
      read_deadline_ns_(kNever),
      write_deadline_ns_(kNever) {}

Connection::~Connection() = default;

template <class Function>
void Connection::Guard(Function what) {
  try {
    what();
  } catch (const std::exception&) {
    Close();
  }
}

void Connection::SetReadDeadline(absl::Duration from_now) {
  read_deadline_ns_.store(After(from_now), std::memory_order_relaxed);
}
void Connection::SetWriteDeadline(absl::Duration from_now) {
  write_deadline_ns_.store(After(from_now), std::memory_order_relaxed);
}

bool Connection::IsOverdue() const {
  const int64_t now = SteadyNow();
  return now > read_deadline_ns_.load(std::memory_order_relaxed) ||
         now > write_deadline_ns_.load(std::memory_order_relaxed);
}

void Connection::CheckOverdue() {
  if (IsOverdue()) Close();
}

void Connection::Start() {
  SetReadDeadline(environment_->times.handshake);
  transport_->Handshake([self = shared_from_this()](const Transport::Error& error) {
    self->Guard([&] {
      if (error || self->reading_ == Reading::kClosed) return self->Close();
      self->peer_.certificate_uris = self->transport_->CertificateUris();
      self->SetReadDeadline(self->environment_->times.head);
      self->Advance();
    });
  });
}

void Connection::Drain() {
  if (exchange_ == nullptr && reading_ == Reading::kHead && !parser_.has_value()) Close();
}

void Connection::Close() {
  if (reading_ == Reading::kClosed) return;
  reading_ = Reading::kClosed;
  transport_->Close();
  const auto exchange = std::exchange(exchange_, nullptr);
  if (exchange != nullptr && writing_ != Writing::kEnded) exchange->OnGone();
}

// Reading.

void Connection::Advance() {
  if (std::exchange(advancing_, true)) return;
  while ((reading_ == Reading::kHead && AdvanceHead()) ||
         (reading_ == Reading::kBody && AdvanceBody())) {
  }
  advancing_ = false;
  ReadMore();
}

bool Connection::AdvanceHead() {
  if (input_.empty() || writing_ == Writing::kEnded) return false;
  if (!parser_.has_value()) {
    parser_.emplace();
    parser_->header_limit(static_cast<uint32_t>(environment_->max_head_bytes));
    // Exchanges limit their bodies. Boost 1.74 refuses every body if there is no limit.
    parser_->body_limit(std::numeric_limits<uint64_t>::max());
    SetReadDeadline(environment_->times.head);
  }
  Transport::Error failed;
  const size_t used = parser_->put(asio::buffer(input_), failed);
  input_.erase(0, used);
  if (failed == error::need_more) {
    if (input_.size() > environment_->max_head_bytes) Refuse(431);
    return false;
  }
  if (failed) {
    Refuse(failed == error::header_limit ? 431 : 400);
    return false;
  }
  if (!parser_->is_header_done()) return !input_.empty() && used > 0;
  OnHead();
  return true;
}

void Connection::OnHead() {
  const auto& message = parser_->get();
  RequestHead head;
  head.method = message.method_string().to_string();
  SplitTarget({message.target().data(), message.target().size()}, &head);
  for (const auto& field : message) {
    const absl::string_view name(field.name_string().data(), field.name_string().size());
    head.headers.emplace_back(absl::AsciiStrToLower(name), field.value().to_string());
  }
  keep_alive_ = parser_->keep_alive();
  is_chunked_ = message.version() >= 11;
  parser_->eager(true);
  body_begin_ = absl::Now();
  body_bytes_ = 0;
  reading_ = parser_->is_done() ? Reading::kDone : Reading::kBody;
  SetReadDeadline(absl::InfiniteDuration());
  // Whatever the exchange does, it lives until it returns.
  const auto exchange = environment_->route(head, shared_from_this());
  exchange_ = exchange;
  exchange->Start();
  if (writing_ != Writing::kNone || reading_ == Reading::kClosed) return;
  if (reading_ == Reading::kDone) return exchange->OnBodyEnd();
  if (absl::EqualsIgnoreCase(head.Get("expect"), "100-continue") && message.version() >= 11) {
    Append("HTTP/1.1 100 Continue\r\n\r\n");
    Send();
  }
}

bool Connection::AdvanceBody() {
  if (writing_ == Writing::kEnded || !exchange_->WantsBody() || input_.empty()) return false;
  Transport::Error failed;
  const size_t used = parser_->put(asio::buffer(input_), failed);
  input_.erase(0, used);
  const bool too_long = used == 0 && input_.size() > environment_->max_head_bytes;
  if ((failed && failed != error::need_more) || too_long) {
    // What has arrived of the body is no request.
    if (writing_ != Writing::kNone) {
      Close();
    } else {
      const auto exchange = std::exchange(exchange_, nullptr);
      exchange->OnGone();
      Refuse(400);
    }
    return false;
  }
  if (parser_->is_done()) reading_ = Reading::kDone;
  std::string piece;
  piece.swap(parser_->get().body());
  body_bytes_ += static_cast<int64_t>(piece.size());
  const auto exchange = exchange_;
  if (!piece.empty()) exchange->OnBody(std::move(piece));
  if (reading_ == Reading::kDone) {
    SetReadDeadline(absl::InfiniteDuration());
    if (writing_ != Writing::kEnded) exchange->OnBodyEnd();
  }
  return used > 0;
}

void Connection::Refuse(int status) {
  reading_ = Reading::kBody;  // unfinished, so that the connection closes
  ResponseHead head;
  head.status = status;
  const auto reason =
      beast::http::obsolete_reason(beast::http::int_to_status(static_cast<unsigned>(status)));
  head.headers.emplace_back("content-type", "text/plain; charset=utf-8");
  Respond(head, absl::StrCat(std::string(reason.data(), reason.size()), "\n"));
}

void Connection::ReadMore() {
  if (read_pending_) return;
  size_t size = kHeadPieceBytes;
  switch (reading_) {
    case Reading::kClosed:
      return;
    case Reading::kHead:
    case Reading::kDiscarding:
      break;
    case Reading::kBody: {
      if (writing_ == Writing::kEnded || exchange_ == nullptr || !exchange_->WantsBody()) return;
      size = kBodyPieceBytes;
      const auto sent = absl::Seconds(static_cast<double>(body_bytes_) / kLeastBodyBytesPerSecond);
      SetReadDeadline(is_stream_ ? environment_->times.stream_idle
                                 : body_begin_ + environment_->times.body + sent - absl::Now());
      break;
    }
    case Reading::kDone:
      // To notice that the peer has gone. What it sends is its next request.
      if (input_.size() > environment_->max_head_bytes) return;
      break;
  }
  read_pending_ = true;
  read_buffer_.resize(size);
  transport_->ReadSome(asio::buffer(read_buffer_),
                       [self = shared_from_this()](const Transport::Error& failed, size_t bytes) {
                         self->Guard([&] { self->OnRead(failed, bytes); });
                       });
}

void Connection::OnRead(const Transport::Error& failed, size_t size) {
  read_pending_ = false;
  if (reading_ == Reading::kClosed) return;
  if (failed) return Close();
  if (reading_ != Reading::kDiscarding) input_.append(read_buffer_, 0, size);
  if (size < kHeadPieceBytes && read_buffer_.capacity() > kHeadPieceBytes) read_buffer_ = {};
  if (reading_ == Reading::kBody) SetReadDeadline(absl::InfiniteDuration());
  Advance();
}

void Connection::Resume() { Advance(); }

// Writing.

std::string Connection::HeadText(const ResponseHead& head, std::optional<size_t> length) {
  keep_alive_ = keep_alive_ && reading_ == Reading::kDone && !draining() &&
                (length.has_value() || is_chunked_);
  const auto reason =
      beast::http::obsolete_reason(beast::http::int_to_status(static_cast<unsigned>(head.status)));
  std::string text = absl::StrCat("HTTP/1.1 ", head.status, " ",
                                  absl::string_view(reason.data(), reason.size()), "\r\n");
  for (const auto& [name, value] : head.headers) absl::StrAppend(&text, name, ": ", value, "\r\n");
  if (length.has_value()) {
    if (head.status != 204) absl::StrAppend(&text, "content-length: ", *length, "\r\n");
  } else if (is_chunked_) {
    text += "transfer-encoding: chunked\r\n";
  }
  if (!keep_alive_) {
    text += "connection: close\r\n";
  } else if (!is_chunked_) {  // HTTP/1.0
    text += "connection: keep-alive\r\n";
  }
  return text + "\r\n";
}

void Connection::Append(std::string bytes) {
  if (!next_output_.empty() && next_output_.back().size() + bytes.size() <= kJoinedBytes) {
    next_output_.back() += bytes;
  } else {
    next_output_.push_back(std::move(bytes));
  }
}

void Connection::Respond(const ResponseHead& head, std::string body) {
  Append(HeadText(head, body.size()));
  if (!body.empty()) Append(std::move(body));
  writing_ = Writing::kEnded;
  Send();
}

void Connection::Begin(const ResponseHead& head) {
  Append(HeadText(head, std::nullopt));
  writing_ = Writing::kBegun;
}

void Connection::Write(std::string bytes) {
  if (bytes.empty()) return;  // an empty chunk would end the body
  if (is_chunked_) Append(absl::StrCat(absl::Hex(bytes.size()), "\r\n"));
  Append(std::move(bytes));
  if (is_chunked_) Append("\r\n");
  Send();
}

void Connection::End() {
  if (is_chunked_) Append("0\r\n\r\n");
  writing_ = Writing::kEnded;
  Send();
}

void Connection::Send() {
  if (send_pending_ || reading_ == Reading::kClosed) return;
  if (sent_parts_ == output_.size()) {
    output_.clear();
    output_.swap(next_output_);
    sent_parts_ = 0;
    sent_bytes_ = 0;
  }
  std::vector<asio::const_buffer> buffers;
  size_t bytes = 0;
  for (size_t i = sent_parts_;
       i < output_.size() && buffers.size() < kMostBuffers && bytes < kSendBytes; ++i) {
    const size_t skipped = i == sent_parts_ ? sent_bytes_ : 0;
    const size_t size = std::min(output_[i].size() - skipped, kSendBytes - bytes);
    buffers.emplace_back(output_[i].data() + skipped, size);
    bytes += size;
  }
  if (buffers.empty()) return OnSent({}, 0);
  send_pending_ = true;
  SetWriteDeadline(is_stream_ ? environment_->times.stream_idle : environment_->times.write);
  transport_->WriteSome(buffers,
                        [self = shared_from_this()](const Transport::Error& failed, size_t sent) {
                          self->send_pending_ = false;
                          self->Guard([&] { self->OnSent(failed, sent); });
                        });
}

void Connection::OnSent(const Transport::Error& failed, size_t size) {
  if (reading_ == Reading::kClosed) return;
  if (failed) return Close();
  while (size > 0) {
    const size_t rest = output_[sent_parts_].size() - sent_bytes_;
    if (size < rest) {
      sent_bytes_ += size;
      break;
    }
    size -= rest;
    ++sent_parts_;
    sent_bytes_ = 0;
  }
  if (sent_parts_ < output_.size() || !next_output_.empty()) return Send();
  output_.clear();
  sent_parts_ = 0;
  SetWriteDeadline(absl::InfiniteDuration());
  if (writing_ == Writing::kEnded) return EndExchange();
  if (writing_ != Writing::kBegun) return;
  const auto exchange = exchange_;
  exchange->OnWritten();
}

void Connection::EndExchange() {
  exchange_ = nullptr;
  is_stream_ = false;
  if (keep_alive_) {
    writing_ = Writing::kNone;
    parser_.reset();
    reading_ = Reading::kHead;
    SetReadDeadline(environment_->times.idle);
    if (draining() && input_.empty()) return Close();
    return Advance();
  }
  if (reading_ == Reading::kDone && input_.empty()) {
    transport_->EndOutput([self = shared_from_this()] {});
    return Close();
  }
  // Closing a socket with unread bytes would reset the connection, and the peer might lose the
  // response. So what the peer still sends is read first, for a limited time.
  reading_ = Reading::kDiscarding;
  SetReadDeadline(environment_->times.head);
  input_.clear();
  transport_->EndOutput([self = shared_from_this()] {});
  ReadMore();
}

}  // namespace backprop::http
