package dev.backprop.conformance;

import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import dev.backprop.client.BackpropException;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Consumer;

/**
 * Reads one request in JSON from each line of its standard input, executes it with the public API
 * of the client, and writes events and replies in JSON lines.
 */
public final class Runner {
  private static final Gson GSON = new Gson();

  private final PrintStream out =
      new PrintStream(
          new FileOutputStream(FileDescriptor.out), false, StandardCharsets.UTF_8);
  private final Operations operations = new Operations();
  private final Map<Long, Thread> background = new ConcurrentHashMap<>();

  private Runner() {}

  /** A request that the client does not offer. */
  static final class Unsupported extends RuntimeException {
    private static final long serialVersionUID = 1;
  }

  /**
   * Runs until the input ends.
   *
   * @param arguments none
   * @throws IOException if the input cannot be read
   */
  public static void main(String[] arguments) throws IOException {
    System.setOut(System.err); // only the protocol is written to the standard output
    new Runner().run();
    System.exit(0); // whatever background requests do
  }

  private void run() throws IOException {
    var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line; (line = in.readLine()) != null; ) {
      JsonObject request = JsonParser.parseString(line).getAsJsonObject();
      long id = request.get("id").getAsLong();
      String op = request.get("op").getAsString();
      JsonObject args = request.has("args") ? request.getAsJsonObject("args") : new JsonObject();
      if (op.equals("cancel")) {
        Thread target = background.get(args.get("target").getAsLong());
        if (target != null) target.interrupt();
        write(reply(id, "result", new JsonObject()));
      } else if (request.has("async") && request.get("async").getAsBoolean()) {
        Thread thread = new Thread(() -> execute(id, op, args), op + "-" + id);
        thread.setDaemon(true);
        background.put(id, thread);
        thread.start();
      } else {
        execute(id, op, args);
      }
    }
  }

  private void execute(long id, String op, JsonObject args) {
    Consumer<JsonObject> event = body -> write(reply(id, "event", body));
    JsonObject reply;
    try {
      reply = reply(id, "result", operations.execute(op, args, event));
    } catch (Unsupported e) {
      reply = new JsonObject();
      reply.addProperty("id", id);
      reply.addProperty("unsupported", true);
    } catch (BackpropException e) {
      reply = reply(id, "error", error(e));
    } catch (Exception e) { // a fault of the runner or of the client
      e.printStackTrace();
      JsonObject error = new JsonObject();
      error.addProperty("code", "UNKNOWN");
      error.addProperty("message", e.toString());
      reply = reply(id, "error", error);
    }
    background.remove(id);
    write(reply);
  }

  private static JsonObject reply(long id, String key, JsonElement value) {
    JsonObject reply = new JsonObject();
    reply.addProperty("id", id);
    reply.add(key, value);
    return reply;
  }

  private synchronized void write(JsonObject message) {
    out.println(GSON.toJson(message));
    out.flush();
  }

  private static JsonObject error(BackpropException e) {
    JsonObject error = new JsonObject();
    error.addProperty("code", e.code().name());
    error.addProperty("message", e.description());
    JsonArray violations = new JsonArray();
    e.violations()
        .forEach(
            one -> {
              JsonObject violation = new JsonObject();
              violation.addProperty("field", one.field());
              violation.addProperty("description", one.description());
              violations.add(violation);
            });
    error.add("violations", violations);
    error.addProperty("reason", e.reason());
    JsonObject metadata = new JsonObject();
    e.metadata().forEach(metadata::addProperty);
    error.add("metadata", metadata);
    return error;
  }
}
