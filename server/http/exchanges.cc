#include "server/http/exchanges.h"

#include <deque>
#include <exception>
#include <optional>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "server/http/call.h"
#include "server/http/envelope.h"
#include "server/http/errors.h"
#include "server/http/gzip.h"
#include "server/http/json.h"

namespace backprop::http {
namespace {

// Smaller responses are not worth the time. Binary ones are mostly numbers, which gzip cannot
// compress.
constexpr size_t kLeastCompressedBytes = 1024;
constexpr absl::Duration kPageTimeout = absl::Seconds(10);

bool IsWorthCompressing(const CallFormat& format, const std::string& bytes) {
  return format.gzip_response && format.codec == Codec::kJson &&
         bytes.size() >= kLeastCompressedBytes;
}

absl::Status TooLarge(size_t limit) {
  return absl::ResourceExhaustedError(
      absl::StrCat("the request has more than ", limit, " bytes (--max-message-bytes)"));
}
absl::Status NoMemory() {
  return absl::ResourceExhaustedError(
      "too many bytes of requests and responses are in memory (--max-in-flight-bytes); try again");
}

// The message of a request in binary.
absl::StatusOr<std::string> Decode(const CallHead& head, std::string bytes, bool is_compressed,
                                   size_t limit) {
  if (is_compressed && !bytes.empty()) {
    auto decompressed = Decompress(bytes, limit);
    if (!decompressed.ok()) return decompressed.status();
    bytes = *std::move(decompressed);
  }
  if (head.format.codec == Codec::kBinary) return bytes;
  return BinaryFromJson(head.method->request_type, bytes);
}

// The message of a response in the codec of the call.
absl::StatusOr<std::string> Encode(const CallHead& head, const grpc::ByteBuffer& response) {
  std::string bytes = ToString(response);
  if (head.format.codec == Codec::kBinary) return bytes;
  return JsonFromBinary(head.method->response_type, bytes);
}

// A server that stops cancels calls; clients must see that they may try again elsewhere.
grpc::Status EndOf(const grpc::Status& status, const Connection& connection) {
  if (status.error_code() != grpc::StatusCode::CANCELLED || !connection.draining()) return status;
  return grpc::Status(grpc::StatusCode::UNAVAILABLE, "the server stops");
}

CallOptions OptionsOf(const CallSetup& setup) {
  CallOptions options{setup.head.method->path, setup.head.timeout, setup.head.metadata};
  options.metadata.insert(options.metadata.end(), setup.metadata.begin(), setup.metadata.end());
  return options;
}

void Add(Metadata more, Metadata* headers) {
  headers->insert(headers->end(), std::make_move_iterator(more.begin()),
                  std::make_move_iterator(more.end()));
}

void RespondConnectError(const grpc::Status& status, int http_status, Metadata headers,
                         Connection* connection) {
  ResponseHead head;
  head.status = http_status;
  head.headers.emplace_back("content-type", "application/json");
  Add(std::move(headers), &head.headers);
  connection->Respond(head, ConnectError(status));
}

// The end of a stream that had no message.
std::string EndFrame(const CallFormat& format, const grpc::Status& status,
                     const Metadata& trailers) {
  const bool is_connect = format.protocol == Protocol::kConnectStream;
  std::string frame = is_connect
                          ? WriteEnvelope(kConnectEndFlag, ConnectEndOfStream(status, trailers))
                          : WriteEnvelope(kGrpcWebTrailersFlag, GrpcWebTrailers(status, trailers));
  return format.is_base64 ? absl::Base64Escape(frame) : frame;
}

class UnaryExchange final : public Exchange, public std::enable_shared_from_this<UnaryExchange> {
 public:
  explicit UnaryExchange(CallSetup setup)
      : setup_(std::move(setup)), claim_(setup_.environment->memory) {}

  void Start() override {}
  bool WantsBody() const override { return phase_ == Phase::kReading; }

  void OnBody(std::string piece) override {
    const size_t limit = setup_.environment->max_message_bytes;
    if (body_.size() + piece.size() > limit) return Fail(ToGrpc(TooLarge(limit)));
    if (body_.empty()) {
      body_ = std::move(piece);
    } else {
      body_ += piece;
    }
    if (!claim_.Resize(body_.size())) Fail(ToGrpc(NoMemory()));
  }

  void OnBodyEnd() override {
    if (phase_ != Phase::kReading) return;
    const CallHead& head = setup_.head;
    std::string bytes = head.message.has_value() ? *head.message : std::exchange(body_, {});
    const size_t arrived = bytes.size();
    auto message = Decode(head, std::move(bytes), head.format.gzip_request,
                          setup_.environment->max_message_bytes);
    if (!message.ok()) return Fail(ToGrpc(message.status()));
    if (!claim_.Resize(arrived + message->size())) return Fail(ToGrpc(NoMemory()));
    phase_ = Phase::kCalling;
    call_ =
        UnaryCall::Start(setup_.environment->stub, OptionsOf(setup_),
                         ToByteBuffer(*std::move(message)), setup_.connection->executor(),
                         [self = shared_from_this()](UnaryCall* call) { self->OnCallEnd(*call); });
  }

  void OnGone() override {
    phase_ = Phase::kEnded;
    if (call_ != nullptr) call_->Cancel();
  }

 private:
  enum class Phase { kReading, kCalling, kEnded };  // in this order

  void OnCallEnd(const UnaryCall& call) {
    const auto kept = std::exchange(call_, nullptr);
    if (phase_ == Phase::kEnded) return;
    try {
      Respond(call);
    } catch (const std::exception&) {
      setup_.connection->Close();
    }
  }

  void Respond(const UnaryCall& call) {
    ResponseHead head;
    Add(ToHeaders(call.context().GetServerInitialMetadata()), &head.headers);
    Add(ToHeaders(call.context().GetServerTrailingMetadata(), "trailer-"), &head.headers);
    if (!call.status().ok()) return Fail(EndOf(call.status(), *setup_.connection), head.headers);
    if (!claim_.Resize(2 * call.response().Length())) return Fail(ToGrpc(NoMemory()));
    auto body = Encode(setup_.head, call.response());
    if (!body.ok()) return Fail(ToGrpc(body.status()));
    const CallFormat& format = setup_.head.format;
    head.headers.emplace_back("content-type", format.ContentType());
    if (IsWorthCompressing(format, *body)) {
      body = Compress(*body);
      head.headers.emplace_back("content-encoding", "gzip");
    }
    Add(setup_.headers, &head.headers);
    phase_ = Phase::kEnded;
    setup_.connection->Respond(head, *std::move(body));
  }

  void Fail(const grpc::Status& status, Metadata headers = {}) {
    phase_ = Phase::kEnded;
    Add(setup_.headers, &headers);
    RespondConnectError(status, HttpStatus(status.error_code()), std::move(headers),
                        setup_.connection.get());
  }

  const CallSetup setup_;
  Phase phase_ = Phase::kReading;
  std::string body_;
  Memory::Claim claim_;
  std::shared_ptr<UnaryCall> call_;
};

// Holds one message in each direction: the next is read, from the body or from the call, when the
// call or the socket has taken the one before it.
class StreamExchange final : public Exchange,
                             public StreamCall::Observer,
                             public std::enable_shared_from_this<StreamExchange> {
 public:
  explicit StreamExchange(CallSetup setup)
      : setup_(std::move(setup)),
        reader_(setup_.environment->max_message_bytes, format().is_base64),
        request_claim_(setup_.environment->memory),
        response_claim_(setup_.environment->memory) {}

  void Start() override {
    setup_.connection->SetStream();
    // The request of a method that takes one is complete before the call begins.
    if (setup_.head.method->client_streams) StartCall();
  }

  bool WantsBody() const override { return !ended_ && !sending_; }

  void OnBody(std::string piece) override {
    const absl::Status added = reader_.Add(piece);
    if (!added.ok()) return Fail(added);
    TakeMessages();
  }

  void OnBodyEnd() override {
    if (ended_) return;
    body_ended_ = true;
    TakeMessages();
  }

  void OnWritten() override {
    response_claim_.Resize(0);
    if (!ended_ && call_ != nullptr) call_->Read();
  }

  void OnGone() override {
    ended_ = true;
    if (call_ != nullptr) call_->Cancel();
  }

  // Reactions of the call.

  void OnSent(bool ok) override {
    Guarded([&] {
      sending_ = false;
      request_claim_.Resize(reader_.held_bytes());
      if (ended_) return;
      if (!ok) return;  // the call has ended, and OnEnd says how
      TakeMessages();
      if (!ended_ && !sending_) setup_.connection->Resume();
    });
  }

  void OnMessage(const grpc::ByteBuffer& message) override {
    Guarded([&] {
      if (ended_) return;
      if (!response_claim_.Resize(2 * message.Length())) return Fail(NoMemory());
      auto bytes = Encode(setup_.head, message);
      if (!bytes.ok()) return Fail(bytes.status());
      uint8_t flags = 0;
      if (IsWorthCompressing(format(), *bytes)) {
        bytes = Compress(*bytes);
        flags = kCompressedFlag;
      }
      Begin();
      std::string frame = WriteEnvelope(flags, *bytes);
      setup_.connection->Write(format().is_base64 ? absl::Base64Escape(frame) : std::move(frame));
    });
  }

  void OnEnd(const grpc::Status& status) override {
    Guarded([&] {
      const auto call = std::exchange(call_, nullptr);
      if (ended_) return;
      Begin(call.get());
      End(EndOf(status, *setup_.connection),
          ToHeaders(call->context().GetServerTrailingMetadata()));
    });
  }

 private:
  const CallFormat& format() const { return setup_.head.format; }

  template <class Function>
  void Guarded(Function function) {
    try {
      function();
    } catch (const std::exception&) {
      setup_.connection->Close();
    }
  }

  void StartCall() {
    call_ = StreamCall::Start(setup_.environment->stub, OptionsOf(setup_),
                              setup_.connection->executor(), shared_from_this());
    call_->Read();
  }

  // Passes on what was read, as far as the call takes it.
  void TakeMessages() {
    while (!ended_ && !sending_) {
      auto taken = reader_.Take();
      if (!taken.ok()) return Fail(taken.status());
      if (!taken->has_value()) break;
      const absl::Status passed = Pass(*std::move(*taken));
      if (!passed.ok()) return Fail(passed);
    }
    if (ended_ || sending_) return;
    if (!request_claim_.Resize(reader_.held_bytes())) return Fail(NoMemory());
    if (!body_ended_ || writes_done_) return;
    if (reader_.HasRest()) {
      return Fail(absl::InvalidArgumentError("the body ends in the middle of a message"));
    }
    writes_done_ = true;
    if (setup_.head.method->client_streams) {
      if (call_ != nullptr) call_->WritesDone();
    } else if (only_message_.has_value()) {
      StartCall();
      sending_ = true;
      call_->Write(ToByteBuffer(*std::move(only_message_)), /*is_last=*/true);
    } else {
      Fail(absl::UnimplementedError("the request has no message; the method takes one"));
    }
  }

  absl::Status Pass(Envelope envelope) {
    const bool is_compressed = (envelope.flags & kCompressedFlag) != 0;
    if ((envelope.flags & ~kCompressedFlag) != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("a message has the flags ", envelope.flags, "; only 0 and 1 are known"));
    }
    if (is_compressed && !format().gzip_request) {
      return absl::InternalError("a message is compressed, and the headers name no encoding");
    }
    auto message = Decode(setup_.head, std::move(envelope.message), is_compressed,
                          setup_.environment->max_message_bytes);
    if (!message.ok()) return message.status();
    if (!request_claim_.Resize(reader_.held_bytes() + message->size())) return NoMemory();
    if (!setup_.head.method->client_streams) {
      if (only_message_.has_value()) {
        return absl::UnimplementedError("the request has two messages; the method takes one");
      }
      only_message_ = *std::move(message);
    } else if (call_ != nullptr) {
      sending_ = true;
      call_->Write(ToByteBuffer(*std::move(message)), /*is_last=*/false);
    }
    return absl::OkStatus();
  }

  // The head of the response, if it was not sent.
  void Begin(const StreamCall* call = nullptr) {
    if (std::exchange(begun_, true)) return;
    ResponseHead head;
    if (call == nullptr) call = call_.get();
    if (call != nullptr) Add(ToHeaders(call->context().GetServerInitialMetadata()), &head.headers);
    head.headers.emplace_back("content-type", format().ContentType());
    if (format().gzip_response && format().codec == Codec::kJson) {
      const bool is_connect = format().protocol == Protocol::kConnectStream;
      head.headers.emplace_back(is_connect ? "connect-content-encoding" : "grpc-encoding", "gzip");
    }
    Add(setup_.headers, &head.headers);
    setup_.connection->Begin(head);
  }

  void End(const grpc::Status& status, const Metadata& trailers) {
    ended_ = true;
    setup_.connection->Write(EndFrame(format(), status, trailers));
    setup_.connection->End();
  }

  void Fail(const absl::Status& status) {
    if (!begun_) {
      begun_ = true;
      ResponseHead head;
      head.headers.emplace_back("content-type", format().ContentType());
      Add(setup_.headers, &head.headers);
      setup_.connection->Begin(head);
    }
    if (call_ != nullptr) call_->Cancel();
    End(ToGrpc(status), {});
  }

  const CallSetup setup_;
  EnvelopeReader reader_;
  Memory::Claim request_claim_;
  Memory::Claim response_claim_;
  std::shared_ptr<StreamCall> call_;
  std::optional<std::string> only_message_;  // of a method that takes one
  bool sending_ = false;                     // a message is being written to the call
  bool body_ended_ = false;
  bool writes_done_ = false;
  bool begun_ = false;  // the head of the response was sent
  bool ended_ = false;  // so was its end, or the peer has gone
};

class FixedExchange final : public Exchange {
 public:
  FixedExchange(std::shared_ptr<Connection> connection, ResponseHead head, std::string body)
      : connection_(std::move(connection)), head_(std::move(head)), body_(std::move(body)) {}

  void Start() override { connection_->Respond(head_, std::move(body_)); }
  void OnBody(std::string /*piece*/) override {}
  void OnBodyEnd() override {}
  bool WantsBody() const override { return false; }
  void OnGone() override {}

 private:
  const std::shared_ptr<Connection> connection_;
  const ResponseHead head_;
  std::string body_;
};

class PageExchange final : public Exchange, public std::enable_shared_from_this<PageExchange> {
 public:
  PageExchange(CallEnvironment* environment, std::shared_ptr<Connection> connection,
               const CallPage* page, Metadata metadata)
      : environment_(environment),
        connection_(std::move(connection)),
        page_(page),
        metadata_(std::move(metadata)) {}

  void Start() override {
    call_ =
        UnaryCall::Start(environment_->stub, {page_->method, kPageTimeout, metadata_},
                         ToByteBuffer(page_->request), connection_->executor(),
                         [self = shared_from_this()](UnaryCall* call) { self->OnCallEnd(*call); });
  }
  void OnBody(std::string /*piece*/) override {}
  void OnBodyEnd() override {}
  bool WantsBody() const override { return false; }
  void OnGone() override {
    gone_ = true;
    if (call_ != nullptr) call_->Cancel();
  }

 private:
  void OnCallEnd(const UnaryCall& call) {
    const auto kept = std::exchange(call_, nullptr);
    if (gone_) return;
    try {
      Page page = page_->render(call.status(), ToString(call.response()));
      ResponseHead head;
      head.status = page.status;
      head.headers.emplace_back("content-type", page.content_type);
      head.headers.emplace_back("cache-control", "no-store");
      connection_->Respond(head, std::move(page.body));
    } catch (const std::exception&) {
      connection_->Close();
    }
  }

  CallEnvironment* const environment_;
  const std::shared_ptr<Connection> connection_;
  const CallPage* const page_;
  const Metadata metadata_;
  bool gone_ = false;
  std::shared_ptr<UnaryCall> call_;
};

}  // namespace

std::shared_ptr<Exchange> MakeUnaryExchange(CallSetup setup) {
  return std::make_shared<UnaryExchange>(std::move(setup));
}

std::shared_ptr<Exchange> MakeStreamExchange(CallSetup setup) {
  return std::make_shared<StreamExchange>(std::move(setup));
}

std::shared_ptr<Exchange> MakeFixedExchange(std::shared_ptr<Connection> connection,
                                            ResponseHead head, std::string body) {
  return std::make_shared<FixedExchange>(std::move(connection), std::move(head), std::move(body));
}

std::shared_ptr<Exchange> MakeRefusal(std::shared_ptr<Connection> connection,
                                      const Refusal& refusal, const Metadata& headers) {
  ResponseHead head;
  const bool is_stream =
      refusal.format.has_value() && refusal.format->protocol != Protocol::kConnectUnary;
  head.status = is_stream ? 200 : refusal.http_status;
  head.headers.emplace_back("content-type",
                            is_stream ? refusal.format->ContentType() : "application/json");
  Add(refusal.headers, &head.headers);
  Add(headers, &head.headers);
  return MakeFixedExchange(
      std::move(connection), std::move(head),
      is_stream ? EndFrame(*refusal.format, refusal.status, {}) : ConnectError(refusal.status));
}

std::shared_ptr<Exchange> MakePageExchange(CallEnvironment* environment,
                                           std::shared_ptr<Connection> connection,
                                           const CallPage* page, Metadata metadata) {
  return std::make_shared<PageExchange>(environment, std::move(connection), page,
                                        std::move(metadata));
}

}  // namespace backprop::http
