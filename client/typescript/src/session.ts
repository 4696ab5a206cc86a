// The HTTP/2 connection of a client in Node.
import type { ClientSessionOptions, SecureClientSessionOptions } from 'node:http2';
import { connect as connectTcp, isIP, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { Transport } from '@connectrpc/connect';
import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';
import type { Address, SecureOptions } from './credentials.js';
import { invalid } from './error.js';
import { VERSION } from './version.js';

const CONNECT_TIMEOUT_MS = 5000;
const PING_TIMEOUT_MS = 10_000;
// Bytes of one call that the server may send before they are read. HTTP/2 begins with 64 KiB, which
// makes a large response wait for an acknowledgement of every 64 KiB.
const WINDOW_BYTES = 2 ** 24;

/** Opens a socket; fails if that takes more than five seconds. */
function socketTo(address: Address, tls: SecureOptions | undefined): Socket {
  if ('path' in address) return connectTcp(address.path);
  const { host, port } = address;
  // No server name is sent for an address in numbers.
  const names = isIP(host) === 0 ? { servername: host } : {};
  const socket = tls
    ? connectTls({ host, port, ALPNProtocols: ['h2'], ...names, ...tls })
    : connectTcp(port, host);
  socket.setNoDelay(true);
  const timer = setTimeout(() => {
    socket.destroy(
      new Error(`no connection to ${host}:${String(port)} within ${String(CONNECT_TIMEOUT_MS)} ms`),
    );
  }, CONNECT_TIMEOUT_MS).unref();
  for (const event of [tls ? 'secureConnect' : 'connect', 'close']) {
    socket.once(event, () => {
      clearTimeout(timer);
    });
  }
  return socket;
}

function authorityOf(address: Address): string {
  if ('path' in address) return 'localhost';
  return `${address.host.includes(':') ? `[${address.host}]` : address.host}:${String(address.port)}`;
}

/** A transport over one connection, which opens with the first call and again after it broke. */
export function connect(
  address: Address,
  tls: SecureOptions | undefined,
  keepaliveMs: number,
): { readonly transport: Transport; readonly close: () => void } {
  if (!(keepaliveMs >= 1000)) {
    throw invalid({
      field: 'keepaliveMs',
      description: `must be at least 1000, got ${String(keepaliveMs)}`,
    });
  }
  const baseUrl = `${tls ? 'https' : 'http'}://${authorityOf(address)}`;
  const options: ClientSessionOptions | SecureClientSessionOptions = {
    createConnection: () => socketTo(address, tls),
    settings: { initialWindowSize: WINDOW_BYTES, enablePush: false },
  };
  const pings = { pingIntervalMs: keepaliveMs, pingTimeoutMs: PING_TIMEOUT_MS };
  const sessionManager = new Http2SessionManager(baseUrl, pings, options);
  const transport = createGrpcTransport({
    baseUrl,
    sessionManager,
    acceptCompression: [],
    interceptors: [
      (next) => (request) => {
        request.header.set('user-agent', `backprop-typescript/${VERSION}`);
        return next(request);
      },
    ],
  });
  return {
    transport,
    close: () => {
      sessionManager.abort();
    },
  };
}
