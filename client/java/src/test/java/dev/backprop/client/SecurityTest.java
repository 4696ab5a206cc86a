package dev.backprop.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.grpc.Status;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.NetworkInterface;
import java.net.ServerSocket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HexFormat;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** TLS, client certificates, tokens, Unix sockets, quotas. */
@Timeout(120)
class SecurityTest {
  private static final String WRITER = token("a".repeat(43));
  private static final String READER = token("b".repeat(43));

  /** A token as docs/security.md describes it: with a checksum. */
  private static String token(String random) {
    String body = "bpt_" + random;
    byte[] hash = sha256(body);
    return body + Base64.getUrlEncoder().encodeToString(hash).substring(0, 6);
  }

  private static byte[] sha256(String text) {
    try {
      return MessageDigest.getInstance("SHA-256").digest(text.getBytes(StandardCharsets.UTF_8));
    } catch (NoSuchAlgorithmException e) {
      throw new AssertionError(e);
    }
  }

  @TempDir Path folder;

  private void openssl(String... arguments) throws Exception {
    List<String> command = new ArrayList<>(List.of("openssl"));
    command.addAll(List.of(arguments));
    Process process =
        new ProcessBuilder(command).directory(folder.toFile()).redirectErrorStream(true).start();
    String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    assertEquals(0, process.waitFor(), said);
  }

  private void authority(String name) throws Exception {
    openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
        name + ".key", "-out", name + ".pem", "-days", "2", "-subj", "/CN=" + name);
  }

  private void certificate(String name, String subjectAltName) throws Exception {
    openssl(
        "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
        name + ".key", "-out", name + ".csr", "-subj", "/CN=" + name);
    Files.writeString(folder.resolve(name + ".ext"), "subjectAltName=" + subjectAltName);
    openssl(
        "x509", "-req", "-in", name + ".csr", "-CA", "ca.pem", "-CAkey", "ca.key",
        "-CAcreateserial", "-out", name + ".pem", "-days", "2", "-extfile", name + ".ext");
  }

  private Path file(String name) {
    return folder.resolve(name);
  }

  private static BackpropException fails(BackpropClient.Builder builder) {
    try (BackpropClient client =
        builder.retry(new RetryPolicy(2, Duration.ofMillis(10), Duration.ofMillis(10))).build()) {
      return assertThrows(BackpropException.class, client::isServing);
    }
  }

  @Test
  void tlsWithAndWithoutClientCertificates() throws Exception {
    authority("ca");
    authority("other");
    certificate("server", "DNS:models.example,IP:127.0.0.1");
    certificate("client", "URI:spiffe://example/client");
    try (TestServer server =
        TestServer.start(
            "--tls-cert", file("server.pem").toString(), "--tls-key", file("server.key").toString(),
            "--tls-client-ca", file("ca.pem").toString())) {
      TlsOptions trusting = TlsOptions.trusting(file("ca.pem"));
      TlsOptions mutual = trusting.withCertificate(file("client.pem"), file("client.key"));
      try (BackpropClient client = server.builder().tls(mutual).build()) {
        client.createModel(Data.spec(), CreateOptions.named("a"));
        assertEquals(5, client.train("a", Data.xor(), TrainOptions.iterations(5)).getStep());
      }
      try (BackpropClient client =
          server.builder().tls(mutual.withServerName("models.example")).build()) {
        assertTrue(client.isServing());
      }
      assertEquals(
          Status.Code.UNAVAILABLE,
          fails(server.builder().tls(mutual.withServerName("wrong.example"))).code());
      TlsOptions other =
          TlsOptions.trusting(file("other.pem"))
              .withCertificate(file("client.pem"), file("client.key"));
      assertEquals(Status.Code.UNAVAILABLE, fails(server.builder().tls(other)).code());
      assertEquals(Status.Code.UNAVAILABLE, fails(server.builder().tls(TlsOptions.system())).code());
      assertEquals(Status.Code.UNAVAILABLE, fails(server.builder()).code());
      BackpropException e =
          assertThrows(
              BackpropException.class,
              () ->
                  server
                      .builder()
                      .tls(trusting.withCertificate(file("client.pem"), file("client.csr")))
                      .build());
      assertTrue(e.getMessage().contains("client.csr"), e.getMessage());
    }
  }

  private Path authFile(String quotas) throws Exception {
    StringBuilder principals = new StringBuilder();
    for (String[] one : new String[][] {{"writer", "WRITER", WRITER}, {"reader", "READER", READER}}) {
      principals
          .append(principals.length() == 0 ? "" : ",")
          .append(
              String.format(
                  "{\"name\": \"%s\", \"project\": \"p\", \"role\": \"%s\", \"token_sha256\": [\"%s\"]}",
                  one[0], one[1], HexFormat.of().formatHex(sha256(one[2]))));
    }
    return Files.writeString(
        file("auth.json"),
        "{\"principals\": ["
            + principals
            + "], \"projects\": [{\"name\": \"p\", \"quotas\": {"
            + quotas
            + "}}]}");
  }

  @Test
  void tokensOfTextsFilesAndTheEnvironment() throws Exception {
    try (TestServer server = TestServer.start("--auth-file", authFile("").toString())) {
      try (BackpropClient client = server.builder().token(WRITER).build()) {
        client.createModel(Data.spec(), CreateOptions.named("a"));
        assertEquals(2, client.train("a", Data.xor(), TrainOptions.iterations(2)).getStep());
        assertEquals(2, client.steps("a", List.of(Data.xor(), Data.xor())).size());
        assertEquals(4, client.async().getModel("a").get().getStep());
      }
      Path token = Files.writeString(file("token"), READER + "\n");
      try (BackpropClient client = server.builder().tokenFile(token).build()) {
        assertEquals(4, client.getModel("a").getStep());
        BackpropException e =
            assertThrows(BackpropException.class, () -> client.step("a", Data.xor()));
        assertEquals("ROLE_TOO_LOW", e.reason());
        // A new token applies without a restart.
        Files.writeString(token, WRITER);
        Files.setLastModifiedTime(token, java.nio.file.attribute.FileTime.fromMillis(1000));
        Thread.sleep(1100);
        assertEquals(5, client.step("a", Data.xor()).step());
        Files.delete(token);
        Thread.sleep(1100);
        e = assertThrows(BackpropException.class, () -> client.getModel("a"));
        assertEquals(Status.Code.UNAUTHENTICATED, e.code());
        var failed = client.async().getModel("a");
        assertThrows(java.util.concurrent.ExecutionException.class, failed::get);
      }
      try (BackpropClient client = server.connect()) {
        BackpropException e = assertThrows(BackpropException.class, () -> client.getModel("a"));
        assertEquals("NO_CREDENTIALS", e.reason());
      }
      // Another Java process takes the token of its environment.
      ProcessBuilder child =
          new ProcessBuilder(
              Path.of(System.getProperty("java.home"), "bin", "java").toString(),
              "-cp",
              System.getProperty("java.class.path"),
              EnvironmentMain.class.getName(),
              server.address());
      child.environment().put("BACKPROP_TOKEN", WRITER);
      Process process = child.redirectErrorStream(true).start();
      String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
      assertTrue(process.waitFor(60, TimeUnit.SECONDS));
      assertTrue(said.contains("step 5"), said);
    }
  }

  /** Prints the step count of a model. */
  static final class EnvironmentMain {
    private EnvironmentMain() {}

    public static void main(String[] arguments) {
      try (BackpropClient client = BackpropClient.connect(arguments[0])) {
        System.out.println("step " + client.getModel("a").getStep());
      }
    }
  }

  @Test
  void aQuotaThatSaysWhenIsWaitedFor() throws Exception {
    Path auth = authFile("\"requests_per_second\": 3, \"models\": 1");
    try (TestServer server = TestServer.start("--auth-file", auth.toString());
        BackpropClient client = server.builder().token(WRITER).build()) {
      client.createModel(Data.spec(), CreateOptions.named("a"));
      for (int i = 0; i < 8; ++i) client.getModel("a");
      for (int i = 0; i < 8; ++i) client.async().getModel("a").get();
      try (BackpropClient once = server.builder().token(WRITER).retry(RetryPolicy.NONE).build()) {
        BackpropException refused = null;
        for (int i = 0; i < 20 && refused == null; ++i) {
          try {
            once.getModel("a");
          } catch (BackpropException e) {
            refused = e;
          }
        }
        assertEquals(Status.Code.RESOURCE_EXHAUSTED, refused.code());
        assertTrue(refused.retryDelay().isPresent());
      }
      Thread.sleep(1000);
      long start = System.nanoTime();
      BackpropException e =
          assertThrows(
              BackpropException.class,
              () -> client.createModel(Data.spec(), CreateOptions.named("b")));
      assertEquals("QUOTA_EXCEEDED", e.reason());
      assertFalse(e.retryDelay().isPresent());
      assertTrue(System.nanoTime() - start < TimeUnit.SECONDS.toNanos(5));
    }
  }

  @Test
  void aTokenIsNotSentInClearTextToAnotherMachine() throws Exception {
    // An address of this machine that is not loopback stands for another machine.
    InetAddress outside =
        NetworkInterface.networkInterfaces()
            .flatMap(NetworkInterface::inetAddresses)
            .filter(a -> !a.isLoopbackAddress() && !a.isLinkLocalAddress())
            .findFirst()
            .orElse(null);
    if (outside == null) {
      // The rule itself is tested in AddressTest; without such an address nothing can be sent.
      assertFalse(Address.isThisMachine("192.0.2.1:50051"));
      return;
    }
    try (ServerSocket spy = new ServerSocket(0, 1, outside)) {
      spy.setSoTimeout(300);
      String host =
          outside.getHostAddress().contains(":")
              ? "[" + outside.getHostAddress() + "]"
              : outside.getHostAddress();
      var builder = BackpropClient.builder(host + ":" + spy.getLocalPort()).token(WRITER);
      assertEquals(
          Status.Code.FAILED_PRECONDITION,
          assertThrows(BackpropException.class, builder::build).code());
      assertThrows(java.net.SocketTimeoutException.class, spy::accept);
      // With permission it is sent: the spy works.
      try (BackpropClient client = builder.allowClearTextToken().build()) {
        spy.setSoTimeout(10_000);
        Thread caller =
            new Thread(
                () -> {
                  try {
                    client.withTimeout(Duration.ofSeconds(3)).isServing();
                  } catch (BackpropException expected) {
                    // The spy does not answer.
                  }
                });
        caller.start();
        try (var socket = spy.accept();
            InputStream in = socket.getInputStream()) {
          // The preface of HTTP/2 arrives. Headers follow after the settings of a server.
          assertEquals("PRI", new String(in.readNBytes(3), StandardCharsets.US_ASCII));
        }
        caller.join();
      }
    }
  }

  @Test
  void unixSockets() throws Exception {
    Path socket = file("socket");
    try (TestServer server = TestServer.start("--unix-socket", socket.toString());
        BackpropClient client =
            BackpropClient.builder("unix:" + socket).token(WRITER).build()) {
      client.createModel(Data.spec(), CreateOptions.named("a"));
      assertEquals(3, client.train("a", Data.xor(), TrainOptions.iterations(3)).getStep());
      try (BackpropClient tcp = server.connect()) {
        assertEquals(3, tcp.getModel("a").getStep());
      }
    }
  }
}
