package dev.backprop.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.grpc.Status;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class AddressTest {
  @TempDir Path folder;

  @ParameterizedTest
  @CsvSource({
    "localhost:1, true", "LOCALHOST:1, true", "a.localhost:1, true", "127.0.0.1:1, true",
    "127.8.9.1:1, true", "[::1]:1, true", "unix:/tmp/x, true", "unix:///tmp/x, true",
    "dns:///localhost:1, true", "dns://8.8.8.8/localhost:1, true", "[::ffff:127.0.0.1]:1, true",
    "example.com:1, false", "127.example.com:1, false", "10.0.0.1:1, false",
    "dns:///example.com:1, false", "localhost.example.com:1, false", "[2001:db8::1]:1, false",
    "'127.0.0.1:1,10.0.0.1:1', false"
  })
  void tokensInClearTextStayOnThisMachine(String address, boolean here) {
    assertEquals(here, Address.isThisMachine(address));
    var builder = BackpropClient.builder(address).token("secret");
    if (here) {
      builder.build().close();
      return;
    }
    BackpropException e = assertThrows(BackpropException.class, builder::build);
    assertEquals(Status.Code.FAILED_PRECONDITION, e.code());
    BackpropClient.builder(address).token("secret").allowClearTextToken().build().close();
    BackpropClient.builder(address).token("secret").tls(TlsOptions.system()).build().close();
  }

  @Test
  void wrongTokensAreRefusedWithoutShowingThem() {
    for (String token : new String[] {"", "a b", "geh\u00e9im", "x".repeat(9000)}) {
      var builder = BackpropClient.builder("localhost:1").token(token);
      BackpropException e = assertThrows(BackpropException.class, builder::build);
      assertEquals(Status.Code.INVALID_ARGUMENT, e.code());
      if (!token.isEmpty()) assertEquals(-1, e.getMessage().indexOf(token));
    }
  }

  @Test
  void aTokenFileIsReadAgain() throws Exception {
    Path file = folder.resolve("token");
    Token token = Token.file(file);
    assertEquals(
        Status.Code.UNAUTHENTICATED, assertThrows(BackpropException.class, token::get).code());
    Files.writeString(file, " one\n");
    assertEquals("one", token.get());
    Files.writeString(file, "two");
    Files.setLastModifiedTime(file, java.nio.file.attribute.FileTime.fromMillis(1));
    Thread.sleep(1100);
    assertEquals("two", token.get());
  }

  @Test
  void filesOfTlsAreNamed() throws Exception {
    Path missing = folder.resolve("missing.pem");
    Path wrong = Files.writeString(folder.resolve("wrong.pem"), "nothing");
    for (Path file : new Path[] {missing, wrong}) {
      var builder = BackpropClient.builder("localhost:1").tls(TlsOptions.trusting(file));
      BackpropException e = assertThrows(BackpropException.class, builder::build);
      assertEquals(Status.Code.FAILED_PRECONDITION, e.code());
      assertEquals(true, e.getMessage().contains(file.toString()), e.getMessage());
    }
  }
}
