package dev.backprop.client;

import java.util.Locale;

/** What the text of an address means. */
final class Address {
  private Address() {}

  /** Returns the path of {@code unix:path} or {@code unix:///path}; null for other addresses. */
  static String unixPath(String address) {
    if (!address.startsWith("unix:")) return null;
    String path = address.substring("unix:".length());
    return path.startsWith("//") ? path.substring(2) : path;
  }

  /** Whether bytes for this address stay on this machine. */
  static boolean isThisMachine(String address) {
    if (unixPath(address) != null) return true;
    if (address.contains(",")) return false; // a list
    String host = host(address);
    boolean isNumber = host.matches("[0-9a-f.:]+"); // a name may begin with 127 as well
    return host.equals("localhost")
        || host.endsWith(".localhost")
        || (isNumber && (host.startsWith("127.") || host.startsWith("::ffff:127.")))
        || host.equals("::1")
        || host.equals("0.0.0.0")
        || host.equals("::");
  }

  /** Returns the host in lower case, without brackets; empty if the address is of another kind. */
  private static String host(String address) {
    String rest = address;
    if (rest.startsWith("dns:")) rest = rest.substring("dns:".length());
    if (rest.startsWith("//")) { // dns://resolver/host
      int slash = rest.indexOf('/', 2);
      rest = slash < 0 ? "" : rest.substring(slash);
    }
    while (rest.startsWith("/")) rest = rest.substring(1);
    rest = rest.toLowerCase(Locale.ROOT);
    if (rest.startsWith("[")) {
      int end = rest.indexOf(']');
      return end < 0 ? "" : rest.substring(1, end);
    }
    int colon = rest.indexOf(':');
    if (colon != rest.lastIndexOf(':')) return rest; // an IPv6 address without a port
    return colon < 0 ? rest : rest.substring(0, colon);
  }
}
