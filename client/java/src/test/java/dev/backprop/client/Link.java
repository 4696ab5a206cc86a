package dev.backprop.client;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;

/** A connection that can be cut: forwards TCP to the server, on loopback. */
final class Link implements AutoCloseable {
  private final ServerSocket listener;
  private final int port;
  private final List<Socket> sockets = new ArrayList<>(); // guarded by this
  // Keeps responses back, of the connections that exist when it is true.
  private volatile AtomicBoolean holding = new AtomicBoolean();

  Link(String address) throws IOException {
    port = Integer.parseInt(address.substring(address.lastIndexOf(':') + 1));
    listener = new ServerSocket(0, 16, InetAddress.getLoopbackAddress());
    daemon(this::accept);
  }

  private static void daemon(Runnable action) {
    Thread thread = new Thread(action, "link");
    thread.setDaemon(true);
    thread.start();
  }

  String address() {
    return "127.0.0.1:" + listener.getLocalPort();
  }

  private void accept() {
    try {
      while (true) {
        Socket client = listener.accept();
        Socket server = new Socket();
        try {
          server.connect(new InetSocketAddress(InetAddress.getLoopbackAddress(), port));
        } catch (IOException refused) { // the server is not there
          client.close();
          continue;
        }
        synchronized (this) {
          sockets.add(client);
          sockets.add(server);
        }
        AtomicBoolean hold = holding;
        daemon(() -> copy(client, server, null));
        daemon(() -> copy(server, client, hold));
      }
    } catch (IOException closed) {
      // The link was closed.
    }
  }

  private static void copy(Socket from, Socket to, AtomicBoolean hold) {
    byte[] bytes = new byte[1 << 16];
    try (InputStream in = from.getInputStream();
        OutputStream out = to.getOutputStream()) {
      for (int count; (count = in.read(bytes)) >= 0; ) {
        while (hold != null && hold.get() && !from.isClosed()) Thread.sleep(5);
        out.write(bytes, 0, count);
      }
    } catch (IOException | InterruptedException cut) {
      // The other side ended.
    }
  }

  /** Keeps the responses of the server back until the next cut. */
  void hold() {
    holding.set(true);
  }

  /** Keeps the responses of the present connections back, and not those of new ones. */
  void releaseNewConnections() {
    holding = new AtomicBoolean();
  }

  /** Ends all connections; new ones work. */
  void cut() throws IOException {
    synchronized (this) {
      for (Socket socket : sockets) {
        try {
          socket.setSoLinger(true, 0); // a reset
          socket.close();
        } catch (SocketException closedBefore) {
          // Its connection ended before.
        }
      }
      sockets.clear();
    }
    releaseNewConnections();
  }

  @Override
  public void close() throws IOException {
    listener.close();
    cut();
  }
}
