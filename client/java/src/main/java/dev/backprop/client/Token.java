package dev.backprop.client;

import io.grpc.Status;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;

/** The bearer token of a connection: fixed, or in a file that is read again when it changes. */
final class Token {
  private static final int MAX_BYTES = 8192;
  private static final long LOOK_PERIOD_NANOS = 1_000_000_000;

  private final Path file; // null: fixed
  private String token;
  private FileTime seen;
  private long nextLookNanos;
  private boolean looked;

  private Token(Path file, String token) {
    this.file = file;
    this.token = token;
  }

  static Token fixed(String token) {
    String wrong = wrong(token);
    if (wrong != null) throw BackpropException.invalid("token", wrong);
    return new Token(null, token);
  }

  static Token file(Path file) {
    return new Token(file, null);
  }

  /** UNAUTHENTICATED if the file cannot be read or holds no token. */
  synchronized String get() {
    if (file == null) return token;
    long now = System.nanoTime();
    if (looked && token != null && now - nextLookNanos < 0) return token;
    looked = true;
    nextLookNanos = now + LOOK_PERIOD_NANOS;
    try {
      FileTime modified = Files.getLastModifiedTime(file);
      if (token != null && modified.equals(seen)) return token;
      token = null;
      if (Files.size(file) > 2L * MAX_BYTES) throw new IOException("has more than 8192 bytes");
      String text = new String(Files.readAllBytes(file), StandardCharsets.ISO_8859_1).strip();
      String wrong = wrong(text);
      if (wrong != null) throw new IOException(wrong);
      token = text;
      seen = modified;
      return token;
    } catch (IOException e) {
      token = null;
      throw BackpropException.of(
          Status.Code.UNAUTHENTICATED, "the token file " + file + ": " + e.getMessage(), e);
    }
  }

  /** Returns null, or what is wrong. The text does not contain the token. */
  private static String wrong(String token) {
    if (token.isEmpty()) return "holds no token";
    if (token.length() > MAX_BYTES) return "the token has more than 8192 bytes";
    boolean visible = token.chars().allMatch(c -> c > ' ' && c < 0x7f);
    return visible ? null : "the token has white space, or characters other than ASCII";
  }
}
