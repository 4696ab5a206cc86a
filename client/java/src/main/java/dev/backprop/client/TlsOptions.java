package dev.backprop.client;

import io.grpc.ChannelCredentials;
import io.grpc.Status;
import io.grpc.TlsChannelCredentials;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * TLS of a connection. Files are PEM and are read once, when the client is built.
 *
 * @param ca certificates of the authorities that may have signed the server's; null: those of the
 *     Java runtime
 * @param certificate the client's certificate, followed by intermediate ones; null: none
 * @param key the private key of the certificate in PKCS#8, without a passphrase; null: none
 * @param serverName name that the server's certificate must have; null: the host of the address
 */
public record TlsOptions(Path ca, Path certificate, Path key, String serverName) {
  private static final long MAX_FILE_BYTES = 1 << 20;

  /**
   * Checks that a certificate comes with its key.
   *
   * @param ca as above
   * @param certificate as above
   * @param key as above
   * @param serverName as above
   */
  public TlsOptions {
    if ((certificate == null) != (key == null)) {
      throw BackpropException.invalid(
          "certificate", "a client certificate and its key must be given together");
    }
  }

  /**
   * Trusts the authorities of the Java runtime.
   *
   * @return the options
   */
  public static TlsOptions system() {
    return new TlsOptions(null, null, null, null);
  }

  /**
   * Trusts the authorities in a file.
   *
   * @param ca the file
   * @return the options
   */
  public static TlsOptions trusting(Path ca) {
    return new TlsOptions(ca, null, null, null);
  }

  /**
   * Presents a client certificate.
   *
   * @param chain the certificate, followed by intermediate ones
   * @param privateKey its key in PKCS#8
   * @return the options with the certificate
   */
  public TlsOptions withCertificate(Path chain, Path privateKey) {
    return new TlsOptions(ca, chain, privateKey, serverName);
  }

  /**
   * Expects another name in the server's certificate than the host of the address.
   *
   * @param name the name
   * @return the options with the name
   */
  public TlsOptions withServerName(String name) {
    return new TlsOptions(ca, certificate, key, name);
  }

  /** FAILED_PRECONDITION, naming the file, if a file cannot be used. */
  ChannelCredentials credentials() {
    var builder = TlsChannelCredentials.newBuilder();
    try {
      if (ca != null) builder.trustManager(stream(ca, "-----BEGIN CERTIFICATE-----"));
      if (certificate != null) {
        builder.keyManager(
            stream(certificate, "-----BEGIN CERTIFICATE-----"),
            stream(key, "-----BEGIN PRIVATE KEY-----"));
      }
    } catch (IOException e) {
      throw unusable("cannot be used: " + e.getMessage(), e);
    }
    return builder.build();
  }

  private static ByteArrayInputStream stream(Path file, String mustHold) throws IOException {
    if (Files.isRegularFile(file) && Files.size(file) > MAX_FILE_BYTES) {
      throw unusable(file + ": has more than 1 MiB", null);
    }
    byte[] bytes;
    try {
      bytes = Files.readAllBytes(file);
    } catch (IOException e) {
      throw unusable(file + ": cannot be read: " + e, e);
    }
    if (!new String(bytes, StandardCharsets.ISO_8859_1).contains(mustHold)) {
      throw unusable(
          file
              + ": holds no "
              + mustHold
              + (mustHold.contains("KEY")
                  ? "; openssl pkcs8 -topk8 -nocrypt converts another form"
                  : ""),
          null);
    }
    return new ByteArrayInputStream(bytes);
  }

  static BackpropException unusable(String why, Throwable cause) {
    return BackpropException.of(Status.Code.FAILED_PRECONDITION, "TLS: " + why, cause);
  }
}
