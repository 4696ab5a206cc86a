#include "server/auth/principals.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "absl/strings/escaping.h"
#include "server/auth/token.h"

namespace backprop::auth {
namespace {

std::string Token(char c) { return "bpt_" + std::string(49, c); }

Principals Two() {
  AuthFile file;
  file.principals.push_back(
      {"a", "p", Role::kReader, {Sha256(Token('1')), Sha256(Token('2'))}, {}});
  file.principals.push_back({"b", "p", Role::kWriter, {Sha256(Token('3'))}, {"x:b", "x:c"}});
  // Hashes that differ only after the part by which they are found.
  Digest neighbour = Sha256(Token('1'));
  neighbour[31] ^= 1;
  file.principals.push_back({"c", "p", Role::kWriter, {neighbour}, {}});
  return Principals(std::move(file));
}

TEST(TokenTest, Sha256OfFips180) {
  const Digest digest = Sha256("abc");
  EXPECT_EQ(absl::BytesToHexString({reinterpret_cast<const char*>(digest.data()), digest.size()}),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(TokenTest, TheFormExcludesShortPasswords) {
  EXPECT_TRUE(HasTokenForm(Token('a')));
  EXPECT_TRUE(HasTokenForm(Token('-')));
  EXPECT_TRUE(HasTokenForm(Token('_')));
  for (const std::string& wrong :
       {std::string(), std::string("secret"), Token('a') + "a", Token('a').substr(1),
        Token('a').substr(0, 52), Token('+'), Token('='), Token(' '), Token('\xff'),
        "BPT_" + std::string(49, 'a'), std::string(53, 'a')}) {
    EXPECT_FALSE(HasTokenForm(wrong)) << wrong;
  }
}

TEST(PrincipalsTest, EveryTokenAndUriLeadsToItsPrincipal) {
  const Principals principals = Two();
  EXPECT_EQ(principals.WithToken(Token('1')), 0U);
  EXPECT_EQ(principals.WithToken(Token('2')), 0U);
  EXPECT_EQ(principals.WithToken(Token('3')), 1U);
  EXPECT_EQ(principals.WithUri("x:b"), 1U);
  EXPECT_EQ(principals.WithUri("x:c"), 1U);
  EXPECT_TRUE(principals.use_certificates());
}

TEST(PrincipalsTest, OthersAreNotFound) {
  const Principals principals = Two();
  EXPECT_EQ(principals.WithToken(Token('4')), std::nullopt);
  EXPECT_EQ(principals.WithToken(""), std::nullopt);
  EXPECT_EQ(principals.WithUri("x:B"), std::nullopt);
  EXPECT_EQ(principals.WithUri(""), std::nullopt);
}

// A text that is not a token does not become one by its hash in the file.
TEST(PrincipalsTest, AHashOfAPasswordIsOfNoUse) {
  AuthFile file;
  file.principals.push_back({"a", "p", Role::kReader, {Sha256("secret")}, {}});
  EXPECT_EQ(Principals(std::move(file)).WithToken("secret"), std::nullopt);
}

TEST(DigestTest, EveryBitIsCompared) {
  const Digest digest = Sha256("abc");
  EXPECT_TRUE(SameDigest(digest, Sha256("abc")));
  for (size_t bit = 0; bit < 8 * digest.size(); ++bit) {
    Digest other = digest;
    other[bit / 8] = static_cast<uint8_t>(other[bit / 8] ^ (1U << (bit % 8)));
    EXPECT_FALSE(SameDigest(digest, other)) << bit;
  }
}

}  // namespace
}  // namespace backprop::auth
