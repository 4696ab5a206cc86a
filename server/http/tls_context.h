// The TLS of the HTTP listener, with the certificates of the server.
#ifndef BACKPROP_SERVER_HTTP_TLS_CONTEXT_H_
#define BACKPROP_SERVER_HTTP_TLS_CONTEXT_H_

#include <openssl/ssl.h>

#include <memory>

#include "absl/base/thread_annotations.h"
#include "server/base/mutex.h"
#include "server/rpc/certificates.h"
#include "server/rpc/tls.h"

namespace backprop::http {

// Thread-safe.
class TlsContext {
 public:
  // `tls` must outlive this object.
  explicit TlsContext(rpc::Tls* tls) : tls_(tls) {}

  // TLS 1.2 or later, protocol http/1.1, with the latest certificates; those before them while the
  // latest cannot be used; null if none could.
  std::shared_ptr<SSL_CTX> Latest();

 private:
  rpc::Tls* const tls_;
  base::Mutex mu_;
  std::shared_ptr<const rpc::Certificates> certificates_ ABSL_GUARDED_BY(mu_);
  std::shared_ptr<SSL_CTX> context_ ABSL_GUARDED_BY(mu_);
};

}  // namespace backprop::http

#endif  // BACKPROP_SERVER_HTTP_TLS_CONTEXT_H_
