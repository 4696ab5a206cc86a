package dev.backprop.client;

/** Rows that are uploaded in pieces, for example from a file. */
@FunctionalInterface
public interface RowSource {
  /**
   * Returns rows from an index on, as many as fit in a message (about 1 MiB is good). After a break
   * it is called again with the first row that the server does not have.
   *
   * @param firstRow index of the first row
   * @return the rows; null after the last one
   */
  Batch rows(long firstRow);
}
