package dev.backprop.client;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** A real server with a data directory of its own. It can be killed and started again. */
final class TestServer implements AutoCloseable {
  private static final long START_TIMEOUT_NANOS = TimeUnit.SECONDS.toNanos(60);

  private final Path folder;
  private final List<String> flags;
  private String address;
  private Process process;

  private TestServer(Path folder, List<String> flags) {
    this.folder = folder;
    this.flags = flags;
  }

  static TestServer start(String... flags) throws IOException, InterruptedException {
    TestServer server =
        new TestServer(Files.createTempDirectory("backprop-java"), List.of(flags));
    server.run("127.0.0.1:0");
    return server;
  }

  static Path binary() {
    String given = System.getenv("BACKPROPD");
    Path path =
        Path.of(given == null || given.isEmpty() ? "../../build/release/bin/backpropd" : given);
    if (!Files.isExecutable(path)) {
      throw new IllegalStateException(
          "no server at " + path.toAbsolutePath() + ": build it, or set BACKPROPD");
    }
    return path;
  }

  private void run(String listen) throws IOException, InterruptedException {
    Path port = folder.resolve("port");
    Files.deleteIfExists(port);
    List<String> command =
        new ArrayList<>(
            List.of(
                binary().toString(),
                "--listen",
                listen,
                "--port-file",
                port.toString(),
                "--data-dir",
                folder.resolve("data").toString()));
    command.addAll(flags);
    process =
        new ProcessBuilder(command)
            .redirectErrorStream(true)
            .redirectOutput(ProcessBuilder.Redirect.appendTo(folder.resolve("log").toFile()))
            .start();
    Process started = process; // a run that is interrupted leaves no server
    Runtime.getRuntime().addShutdownHook(new Thread(started::destroyForcibly));
    long start = System.nanoTime();
    while (!Files.exists(port) || Files.readString(port).isBlank()) {
      if (!process.isAlive() || System.nanoTime() - start > START_TIMEOUT_NANOS) {
        throw new IOException("the server did not start: " + log());
      }
      Thread.sleep(10);
    }
    address = Files.readString(port).strip();
  }

  String log() throws IOException {
    return Files.readString(folder.resolve("log"));
  }

  Path folder() {
    return folder;
  }

  String address() {
    return address;
  }

  BackpropClient connect() {
    return builder().build();
  }

  /** With more patience than the default, because a restart on a busy machine takes seconds. */
  BackpropClient.Builder builder() {
    return BackpropClient.builder(address)
        .retry(
            new RetryPolicy(
                60, java.time.Duration.ofMillis(50), java.time.Duration.ofSeconds(1)));
  }

  /** kill -9. */
  void kill() throws InterruptedException {
    process.destroyForcibly();
    process.waitFor();
  }

  /** Starts the server again on the same address. */
  void restart() throws IOException, InterruptedException {
    run(address);
  }

  /** Stops (SIGSTOP) or continues (SIGCONT) the process. */
  void signal(String name) throws IOException, InterruptedException {
    int code = new ProcessBuilder("kill", "-" + name, "" + process.pid()).start().waitFor();
    if (code != 0) throw new IOException("kill -" + name + " failed");
  }

  @Override
  public void close() throws IOException {
    process.destroyForcibly();
    try {
      process.waitFor();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
    try (var files = Files.walk(folder)) {
      for (Path path : files.sorted(Comparator.reverseOrder()).toList()) Files.delete(path);
    }
  }
}
