package dev.backprop.client;

/**
 * Names a dataset that was uploaded before.
 *
 * @param name {@code datasets/{id}} or the id
 */
public record DatasetRef(String name) implements Rows {
  /**
   * Completes the name.
   *
   * @param name as above
   */
  public DatasetRef {
    name = Names.dataset(name);
  }
}
