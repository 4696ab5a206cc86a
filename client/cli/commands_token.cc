// token create.
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

#include "client/cli/command.h"
#include "client/cli/json_output.h"
#include "client/cli/note.h"

namespace backprop::cli {
namespace {

using Bytes = std::array<unsigned char, 32>;

// base64url without padding.
std::string Base64Url(const Bytes& bytes) {
  std::array<unsigned char, 45> text;  // 44 characters and a NUL
  const int size = EVP_EncodeBlock(text.data(), bytes.data(), static_cast<int>(bytes.size()));
  std::string url(text.begin(), text.begin() + size);
  for (char& c : url) c = c == '+' ? '-' : c == '/' ? '_' : c;
  url.resize(url.find('='));
  return url;
}

Bytes Sha256(std::string_view text) {
  Bytes digest;
  if (EVP_Digest(text.data(), text.size(), digest.data(), nullptr, EVP_sha256(), nullptr) != 1) {
    throw std::runtime_error("OpenSSL cannot compute SHA-256");
  }
  return digest;
}

std::string Hexadecimal(const Bytes& bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

// "bpt_", 32 random bytes as 43 characters, and 6 characters of a checksum: the first ones of the
// SHA-256, in base64url, of all characters before it. A scanner for secrets can recognise a token
// by its form, and by the checksum rule out other text of this form.
std::string NewToken() {
  constexpr size_t kChecksumCharacters = 6;
  Bytes random;
  if (RAND_bytes(random.data(), random.size()) != 1) {
    throw std::runtime_error("the system has no random numbers");
  }
  std::string token = "bpt_" + Base64Url(random);
  token += Base64Url(Sha256(token)).substr(0, kChecksumCharacters);
  return token;
}

// Writes a new file that only its owner can read. Returns why that failed, or "".
std::string WriteSecret(const std::string& path, const std::string& text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return std::strerror(errno);
  const bool written = write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const std::string error = written ? "" : std::strerror(errno);
  const bool closed = close(fd) == 0;
  if (written && closed) return "";
  unlink(path.c_str());
  return error.empty() ? std::strerror(errno) : error;
}

struct Wanted {
  std::string name;
  std::string project = "default";
  std::string role;
  std::string output;
};

int Create(const Globals& globals, const Wanted& wanted) {
  const std::string token = NewToken();
  const std::string principal = R"({"name":)" + JsonString(wanted.name) + R"(,"project":)" +
                                JsonString(wanted.project) + R"(,"role":)" +
                                JsonString(wanted.role) + R"(,"token_sha256":[")" +
                                Hexadecimal(Sha256(token)) + R"("]})";
  const bool to_file = !wanted.output.empty();
  if (to_file) {
    const std::string error = WriteSecret(wanted.output, token + "\n");
    if (!error.empty()) {
      return globals.FailHere(kFailed, "FILE", wanted.output + ": cannot be created: " + error);
    }
  }
  globals.SetDocument(to_file ? R"({"principal":)" + principal + "}"
                              : R"({"token":)" + JsonString(token) + R"(,"principal":)" +
                                    principal + "}");
  if (globals.json) return kOk;
  if (!to_file) std::printf("%s\n", token.c_str());
  std::printf("%s\n", principal.c_str());
  std::fflush(stdout);
  PrintNote(
      std::string(to_file ? "the token is in " + wanted.output : "the token is shown only now") +
      "; the line in braces belongs to `principals` in the server's --auth-file");
  return kOk;
}

}  // namespace

void AddTokenCommands(CLI::App* app, Globals* globals, Command* chosen) {
  auto* group = app->add_subcommand("token", "Create tokens for a server with an --auth-file");
  group->require_subcommand(1);
  auto* create = group->add_subcommand(
      "create", "Create a token and the line for the auth file; needs no server");
  auto wanted = std::make_shared<Wanted>();
  create->add_option("--name", wanted->name, "Name of the principal, unique in the auth file")
      ->required();
  create->add_option("--project", wanted->project, "Project in which the principal acts")
      ->capture_default_str();
  create->add_option("--role", wanted->role, "What the principal may do")
      ->required()
      ->transform(CLI::IsMember({"READER", "WRITER", "ADMIN", "OPERATOR"}, CLI::ignore_case));
  create
      ->add_option("--output", wanted->output,
                   "New file for the token, readable by its owner only, instead of standard output")
      ->type_name("FILE");
  create->callback([=] { *chosen = [=] { return Create(*globals, *wanted); }; });
}

}  // namespace backprop::cli
