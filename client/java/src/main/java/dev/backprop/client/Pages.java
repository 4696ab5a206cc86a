package dev.backprop.client;

import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.Spliterator;
import java.util.Spliterators;
import java.util.function.Function;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/** Reads a list page by page, as far as it is used. */
final class Pages<P, T> implements Iterator<T> {
  private final Function<String, P> fetch;
  private final Function<P, List<T>> items;
  private final Function<P, String> nextToken;
  private Iterator<T> page = List.<T>of().iterator();
  private String token = ""; // null: there are no more pages

  private Pages(
      Function<String, P> fetch, Function<P, List<T>> items, Function<P, String> nextToken) {
    this.fetch = fetch;
    this.items = items;
    this.nextToken = nextToken;
  }

  static <P, T> Stream<T> stream(
      Function<String, P> fetch, Function<P, List<T>> items, Function<P, String> nextToken) {
    return StreamSupport.stream(
        Spliterators.spliteratorUnknownSize(
            new Pages<>(fetch, items, nextToken), Spliterator.ORDERED | Spliterator.NONNULL),
        false);
  }

  @Override
  public boolean hasNext() {
    while (!page.hasNext() && token != null) {
      P response = fetch.apply(token);
      page = items.apply(response).iterator();
      String next = nextToken.apply(response);
      token = next.isEmpty() ? null : next;
    }
    return page.hasNext();
  }

  @Override
  public T next() {
    if (!hasNext()) throw new NoSuchElementException();
    return page.next();
  }
}
