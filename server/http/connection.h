// One connection of HTTP/1.1: reads requests, one after another, and writes their responses.
#ifndef BACKPROP_SERVER_HTTP_CONNECTION_H_
#define BACKPROP_SERVER_HTTP_CONNECTION_H_

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/optional.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "server/http/protocol.h"
#include "server/http/transport.h"

namespace backprop::http {

class Connection;

// One request and its response. Created when the head of the request was read. All methods are
// called by one thread at a time, on the executor of the connection. Responds through the
// connection, once: Respond; or Begin, Write any number of times, and End.
class Exchange {
 public:
  virtual ~Exchange() = default;
  // Called first. May respond.
  virtual void Start() = 0;
  // Pieces of the body. Called only while it wants them.
  virtual void OnBody(std::string piece) = 0;
  virtual void OnBodyEnd() = 0;
  // When this becomes true again, the exchange calls Connection::Resume.
  virtual bool WantsBody() const = 0;
  // The socket has taken everything that was written.
  virtual void OnWritten() {}
  // The peer has gone, or the time is up: nothing can be written any more. The last call.
  virtual void OnGone() = 0;
};

// The time that a peer has.
struct ConnectionTimes {
  absl::Duration handshake = absl::Seconds(20);  // of TLS
  absl::Duration head = absl::Seconds(10);       // from its first byte to its end
  absl::Duration idle = absl::Minutes(5);        // between two requests
  // To send a body, after which it must have sent 1 KiB for each further second.
  absl::Duration body = absl::Seconds(30);
  absl::Duration stream_idle =
      absl::Minutes(10);                     // without a byte of a stream, in either direction
  absl::Duration write = absl::Seconds(30);  // for each piece of a response
};

// The body of a request as a std::string, from which the exchange takes the pieces. Unlike
// beast::http::string_body it reserves no memory for a length that a peer claims.
struct PiecesBody {
  using value_type = std::string;
  class reader {
   public:
    template <bool kIsRequest, class Fields>
    reader(boost::beast::http::header<kIsRequest, Fields>& /*head*/, std::string& pieces)
        : pieces_(pieces) {}
    void init(const boost::optional<uint64_t>& /*length*/, boost::system::error_code& error) {
      error = {};
    }
    template <class Buffers>
    size_t put(const Buffers& buffers, boost::system::error_code& error) {
      size_t size = 0;
      for (auto it = boost::asio::buffer_sequence_begin(buffers);
           it != boost::asio::buffer_sequence_end(buffers); ++it) {
        pieces_.append(static_cast<const char*>((*it).data()), (*it).size());
        size += (*it).size();
      }
      error = {};
      return size;
    }
    void finish(boost::system::error_code& error) { error = {}; }

   private:
    std::string& pieces_;
  };
};

// Owned by the handlers of its operations and by its exchange. All methods but those that say
// otherwise must be called on its executor.
//
//     head → body → done → head …           of requests
//     none → begun → ended → none …         of responses; the connection closes unless both are at
//                                           their end and the peer keeps the connection alive
class Connection final : public std::enable_shared_from_this<Connection> {
 public:
  struct Peer {
    std::string address;  // as gRPC writes it: "ipv4:10.0.0.1:4711"
    std::vector<std::string> certificate_uris;
    bool is_encrypted = false;
  };
  // Creates the exchange of a request.
  using Router = std::function<std::shared_ptr<Exchange>(const RequestHead&,
                                                         const std::shared_ptr<Connection>&)>;
  struct Environment {
    Router route;
    size_t max_head_bytes = 16 << 10;
    ConnectionTimes times;
    std::atomic<bool> draining{false};  // connections close after the response
  };

  // `environment` must outlive the connection. `place` is destroyed last.
  Connection(const Environment* environment, std::unique_ptr<Transport> transport, Peer peer,
             std::shared_ptr<void> place);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void Start();
  // Closes the connection now if no request is under way, otherwise after the response.
  void Drain();
  // Closes the connection.
  void Close();
  // Whether the peer is too late. Thread-safe.
  bool IsOverdue() const;
  // Closes the connection if it is overdue.
  void CheckOverdue();

  const Peer& peer() const { return peer_; }
  // Thread-safe.
  boost::asio::any_io_executor executor() const { return executor_; }
  bool draining() const { return environment_->draining.load(std::memory_order_relaxed); }

  // For the exchange. The body is empty, or has the media type of the head.
  void Respond(const ResponseHead& head, std::string body);
  void Begin(const ResponseHead& head);
  // OnWritten follows.
  void Write(std::string bytes);
  void End();
  void Resume();
  // The exchange is a stream, which may be idle.
  void SetStream() { is_stream_ = true; }

 private:
  using Parser = boost::beast::http::request_parser<PiecesBody>;
  enum class Reading { kHead, kBody, kDone, kDiscarding, kClosed };
  enum class Writing { kNone, kBegun, kEnded };

  // Calls `what`, and closes the connection if it throws, for lack of memory.
  template <class Function>
  void Guard(Function what);
  // Makes progress with what was read, then reads more.
  void Advance();
  bool AdvanceHead();  // whether there may be more to do
  bool AdvanceBody();
  void OnHead();
  void Refuse(int status);  // a request that is not HTTP or too large, without an exchange
  void ReadMore();
  void OnRead(const Transport::Error& error, size_t size);
  std::string HeadText(const ResponseHead& head, std::optional<size_t> length);
  void Append(std::string bytes);
  void Send();
  void OnSent(const Transport::Error& error, size_t size);
  void EndExchange();
  void SetReadDeadline(absl::Duration from_now);
  void SetWriteDeadline(absl::Duration from_now);

  const std::shared_ptr<void> place_;  // first, so that it is destroyed last
  const Environment* const environment_;
  const std::unique_ptr<Transport> transport_;
  const boost::asio::any_io_executor executor_;
  Peer peer_;

  Reading reading_ = Reading::kHead;
  Writing writing_ = Writing::kNone;
  bool is_stream_ = false;
  bool keep_alive_ = false;
  bool is_chunked_ = false;  // the response
  std::shared_ptr<Exchange> exchange_;

  std::optional<Parser> parser_;  // none before the first byte of a request
  std::string input_;             // was read and not parsed
  std::string read_buffer_;       // owned by the transport while read_pending_
  bool read_pending_ = false;
  bool advancing_ = false;
  absl::Time body_begin_;
  int64_t body_bytes_ = 0;

  std::vector<std::string> output_;       // is being sent
  std::vector<std::string> next_output_;  // will be sent after it
  size_t sent_parts_ = 0;                 // of output_
  size_t sent_bytes_ = 0;                 // of the next part
  bool send_pending_ = false;

  std::atomic<int64_t> read_deadline_ns_;
  std::atomic<int64_t> write_deadline_ns_;
};

}  // namespace backprop::http

#endif  // BACKPROP_SERVER_HTTP_CONNECTION_H_
