package dev.backprop.client;

import dev.backprop.v1.Durability;
import java.time.Duration;
import java.util.Map;

/**
 * How a model is created.
 *
 * @param modelId its id; empty: the server draws one
 * @param labels labels of the caller
 * @param ttl the model is deleted when it was not used for this time; null: never
 * @param durability when the server responds to changes; null: the default of the server
 * @param initialParameters parameters to begin with; null: random ones. Not used by an import
 */
public record CreateOptions(
    String modelId,
    Map<String, String> labels,
    Duration ttl,
    Durability durability,
    ModelParameters initialParameters) {
  /**
   * Copies the labels.
   *
   * @param modelId as above
   * @param labels as above
   * @param ttl as above
   * @param durability as above
   * @param initialParameters as above
   */
  public CreateOptions {
    if (modelId == null) modelId = "";
    labels = Map.copyOf(labels);
    if (durability == null) durability = Durability.DURABILITY_UNSPECIFIED;
  }

  /**
   * A model with an id that the server draws.
   *
   * @return the options
   */
  public static CreateOptions unnamed() {
    return named("");
  }

  /**
   * A model with an id.
   *
   * @param modelId the id
   * @return the options
   */
  public static CreateOptions named(String modelId) {
    return new CreateOptions(modelId, Map.of(), null, null, null);
  }

  /**
   * Sets labels.
   *
   * @param value labels by key
   * @return the options
   */
  public CreateOptions withLabels(Map<String, String> value) {
    return new CreateOptions(modelId, value, ttl, durability, initialParameters);
  }

  /**
   * Sets the time without use after which the model is deleted.
   *
   * @param value at least a second
   * @return the options
   */
  public CreateOptions withTtl(Duration value) {
    return new CreateOptions(modelId, labels, value, durability, initialParameters);
  }

  /**
   * Sets when the server responds to changes of the model.
   *
   * @param value the durability
   * @return the options
   */
  public CreateOptions withDurability(Durability value) {
    return new CreateOptions(modelId, labels, ttl, value, initialParameters);
  }

  /**
   * Sets the parameters to begin with.
   *
   * @param value every tensor of the spec
   * @return the options
   */
  public CreateOptions withInitialParameters(ModelParameters value) {
    return new CreateOptions(modelId, labels, ttl, durability, value);
  }
}
