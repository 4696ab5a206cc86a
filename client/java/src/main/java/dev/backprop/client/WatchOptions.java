package dev.backprop.client;

/**
 * Which events of which run are watched.
 *
 * @param run {@code models/{id}/runs/{n}}; empty: the active run, or the latest one
 * @param fromSequence number of the first event; 0: the first of the run
 */
public record WatchOptions(String run, long fromSequence) {
  /** All events of the active run, or of the latest one if none is active. */
  public static final WatchOptions LATEST = new WatchOptions("", 0);

  /**
   * Replaces null by the empty name.
   *
   * @param run as above
   * @param fromSequence as above
   */
  public WatchOptions {
    if (run == null) run = "";
  }
}
