// The bytes of a connection: clear text or TLS.
#ifndef BACKPROP_SERVER_HTTP_TRANSPORT_H_
#define BACKPROP_SERVER_HTTP_TRANSPORT_H_

#include <openssl/ssl.h>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/system/error_code.hpp>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace backprop::http {

// At most one operation of each kind at a time. Handlers run on the executor of the socket; after
// Close they get an error. Thread-compatible.
class Transport {
 public:
  using Error = boost::system::error_code;
  using Handler = std::function<void(const Error&, size_t)>;
  using Socket = boost::asio::generic::stream_protocol::socket;

  virtual ~Transport() = default;
  virtual void Handshake(std::function<void(const Error&)> handler) = 0;
  virtual void ReadSome(boost::asio::mutable_buffer into, Handler handler) = 0;
  virtual void WriteSome(const std::vector<boost::asio::const_buffer>& from, Handler handler) = 0;
  // Tells the peer that nothing more will be sent.
  virtual void EndOutput(std::function<void()> handler) = 0;
  virtual void Close() = 0;
  virtual boost::asio::any_io_executor executor() = 0;
  // URIs in the peer's certificate, which TLS has verified. Call after Handshake.
  virtual std::vector<std::string> CertificateUris() const = 0;
};

std::unique_ptr<Transport> ClearTransport(Transport::Socket socket);
// Takes a reference to `context`.
std::unique_ptr<Transport> TlsTransport(Transport::Socket socket, SSL_CTX* context);

}  // namespace backprop::http

#endif  // BACKPROP_SERVER_HTTP_TRANSPORT_H_
