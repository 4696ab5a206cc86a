#include "server/http/transport.h"

#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <boost/asio/ssl.hpp>
#include <utility>

namespace backprop::http {
namespace {

namespace asio = boost::asio;

class Clear final : public Transport {
 public:
  explicit Clear(Socket socket) : socket_(std::move(socket)) {}

  void Handshake(std::function<void(const Error&)> handler) override { handler({}); }
  void ReadSome(asio::mutable_buffer into, Handler handler) override {
    socket_.async_read_some(into, std::move(handler));
  }
  void WriteSome(const std::vector<asio::const_buffer>& from, Handler handler) override {
    socket_.async_write_some(from, std::move(handler));
  }
  void EndOutput(std::function<void()> handler) override {
    Error ignored;
    socket_.shutdown(asio::socket_base::shutdown_send, ignored);
    handler();
  }
  void Close() override {
    Error ignored;
    socket_.close(ignored);
  }
  asio::any_io_executor executor() override { return socket_.get_executor(); }
  std::vector<std::string> CertificateUris() const override { return {}; }

 private:
  Socket socket_;
};

class Encrypted final : public Transport {
 public:
  Encrypted(Socket socket, SSL_CTX* context)
      : context_((SSL_CTX_up_ref(context), context)), stream_(std::move(socket), context_) {}

  void Handshake(std::function<void(const Error&)> handler) override {
    stream_.async_handshake(asio::ssl::stream_base::server, std::move(handler));
  }
  void ReadSome(asio::mutable_buffer into, Handler handler) override {
    stream_.async_read_some(into, std::move(handler));
  }
  void WriteSome(const std::vector<asio::const_buffer>& from, Handler handler) override {
    stream_.async_write_some(from, std::move(handler));
  }
  void EndOutput(std::function<void()> handler) override {
    stream_.async_shutdown([handler = std::move(handler)](const Error&) { handler(); });
  }
  void Close() override {
    Error ignored;
    stream_.lowest_layer().close(ignored);
  }
  asio::any_io_executor executor() override { return stream_.get_executor(); }

  std::vector<std::string> CertificateUris() const override {
    std::vector<std::string> uris;
    SSL* const ssl = const_cast<asio::ssl::stream<Socket>&>(stream_).native_handle();
    if (SSL_get_verify_result(ssl) != X509_V_OK) return uris;
    const std::unique_ptr<X509, decltype(&X509_free)> certificate(SSL_get1_peer_certificate(ssl),
                                                                  X509_free);
    if (certificate == nullptr) return uris;
    const std::unique_ptr<GENERAL_NAMES, decltype(&GENERAL_NAMES_free)> names(
        static_cast<GENERAL_NAMES*>(
            X509_get_ext_d2i(certificate.get(), NID_subject_alt_name, nullptr, nullptr)),
        GENERAL_NAMES_free);
    for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get()); ++i) {
      const GENERAL_NAME* const name = sk_GENERAL_NAME_value(names.get(), i);
      if (name->type != GEN_URI) continue;
      const ASN1_IA5STRING* const uri = name->d.uniformResourceIdentifier;
      uris.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(uri)),
                        static_cast<size_t>(ASN1_STRING_length(uri)));
    }
    return uris;
  }

 private:
  asio::ssl::context context_;  // owns the reference
  asio::ssl::stream<Socket> stream_;
};

}  // namespace

std::unique_ptr<Transport> ClearTransport(Transport::Socket socket) {
  return std::make_unique<Clear>(std::move(socket));
}

std::unique_ptr<Transport> TlsTransport(Transport::Socket socket, SSL_CTX* context) {
  return std::make_unique<Encrypted>(std::move(socket), context);
}

}  // namespace backprop::http
