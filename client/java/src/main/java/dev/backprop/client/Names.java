package dev.backprop.client;

import java.security.SecureRandom;
import java.util.HexFormat;

/** Names of resources, and request ids. */
final class Names {
  private static final SecureRandom RANDOM = new SecureRandom();

  private Names() {}

  static String model(String model) {
    return full("model", "models/", model);
  }

  static String dataset(String dataset) {
    return full("dataset", "datasets/", dataset);
  }

  static String project(String project) {
    return full("project", "projects/", project);
  }

  /** The name of a checkpoint: complete, or an id of the model. */
  static String checkpoint(String model, String checkpoint) {
    required("checkpoint", checkpoint);
    if (checkpoint.startsWith("models/")) return checkpoint;
    return model(model) + "/checkpoints/" + checkpoint;
  }

  static String required(String field, String value) {
    if (value == null || value.isEmpty()) {
      throw BackpropException.invalid(field, "must not be empty");
    }
    return value;
  }

  private static String full(String field, String prefix, String name) {
    required(field, name);
    if (name.equals(prefix)) throw BackpropException.invalid(field, "must not be empty");
    return name.startsWith(prefix) ? name : prefix + name;
  }

  /** 128 random bits. */
  static String randomId() {
    byte[] bits = new byte[16];
    RANDOM.nextBytes(bits);
    return HexFormat.of().formatHex(bits);
  }
}
