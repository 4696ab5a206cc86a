#include "client/cli/connection.h"

#include <cstdlib>

#include "client/cli/contexts.h"
#include "client/cli/server_address.h"
#include "client/cli/table.h"

namespace backprop::cli {
namespace {

std::string FromEnvironment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

// The context to use, and whether the user chose it for this command.
struct Choice {
  Context context;
  bool explicitly = false;
};

Choice ChooseContext(const ConnectionFlags& flags) {
  if (!flags.context.empty()) return {ReadContexts().Find(flags.context), true};
  if (!flags.server.empty()) return {};
  const std::string named = FromEnvironment("BACKPROP_CONTEXT");
  if (!named.empty()) return {ReadContexts().Find(named), true};
  if (!FromEnvironment("BACKPROP_SERVER").empty()) return {};
  const Contexts contexts = ReadContexts();
  if (contexts.current.empty()) return {};
  return {contexts.Find(contexts.current), false};
}

std::string FirstOf(const std::string& a, const std::string& b) { return a.empty() ? b : a; }

TokenOptions ResolveToken(const ConnectionFlags& flags, const Choice& choice) {
  TokenOptions token;
  token.use_environment = false;  // it is read here, where contexts can come first
  const std::string environment = FromEnvironment("BACKPROP_TOKEN");
  const bool context_first = choice.explicitly && !choice.context.token_file.empty();
  if (!flags.token_file.empty()) {
    token.file = flags.token_file;
  } else if (!environment.empty() && !context_first) {
    token.token = environment;
  } else {
    token.file = choice.context.token_file;
  }
  return token;
}

std::optional<TlsOptions> ResolveTls(const ConnectionFlags& flags, const Context& context) {
  TlsOptions tls;
  tls.ca_file = FirstOf(flags.ca, context.ca);
  // A certificate and its key belong together.
  tls.certificate_file = flags.cert.empty() ? context.cert : flags.cert;
  tls.key_file = flags.cert.empty() ? context.key : flags.key;
  tls.server_name = FirstOf(flags.tls_server_name, context.tls_server_name);
  const bool wanted = flags.tls || context.tls || !flags.ca.empty() || !flags.cert.empty() ||
                      !flags.tls_server_name.empty();
  return wanted ? std::optional(tls) : std::nullopt;
}

}  // namespace

void AddConnectionFlags(CLI::App* app, ConnectionFlags* flags) {
  app->add_option("--server", flags->server,
                  "host:port, host (port 50051), [IPv6]:port or unix:path; or BACKPROP_SERVER; "
                  "default: that of the current context, otherwise 127.0.0.1:50051")
      ->type_name("ADDRESS")
      ->transform(CLI::Validator(
          [](std::string& address) { return CompleteServerAddress(&address); }, "", "address"));
  app->add_option("--context", flags->context,
                  "Use this server of the file config.toml; or BACKPROP_CONTEXT; default: its "
                  "current context")
      ->type_name("NAME");
  app->add_flag("--tls", flags->tls, "Encrypt, and verify the server; implied by the next flags");
  app->add_option("--ca", flags->ca,
                  "Authorities that may have signed the server's certificate, in PEM; default: "
                  "those of the system")
      ->type_name("FILE");
  auto* cert = app->add_option("--cert", flags->cert, "Your certificate, in PEM, for the server");
  auto* key = app->add_option("--key", flags->key, "The private key of --cert, in PEM");
  cert->type_name("FILE")->needs(key);
  key->type_name("FILE")->needs(cert);
  app->add_option("--tls-server-name", flags->tls_server_name,
                  "Name in the server's certificate; default: the host of the server")
      ->type_name("NAME");
  app->add_option("--token-file", flags->token_file,
                  "File with the token that is sent with each call; or BACKPROP_TOKEN")
      ->type_name("FILE");
}

Connection ResolveConnection(const ConnectionFlags& flags) {
  const Choice choice = ChooseContext(flags);
  const std::string from_environment = FromEnvironment("BACKPROP_SERVER");
  Connection connection;
  if (!flags.server.empty()) {
    connection.server = flags.server;
  } else if (!choice.context.server.empty()) {
    connection.server = choice.context.server;
  } else if (!from_environment.empty()) {
    connection.server = from_environment;
    const std::string wrong = CompleteServerAddress(&connection.server);
    if (!wrong.empty()) throw CLI::ValidationError("BACKPROP_SERVER", wrong);
  }
  connection.tls = ResolveTls(flags, choice.context);
  connection.token = ResolveToken(flags, choice);
  return connection;
}

}  // namespace backprop::cli
