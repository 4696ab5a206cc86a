// The client for browsers: the Connect protocol over fetch, for a server with --http.
import { create, type DescMethodStreaming, toBinary } from '@bufbuild/protobuf';
import type { Transport } from '@connectrpc/connect';
import { encodeEnvelope } from '@connectrpc/connect/protocol';
import { createConnectTransport } from '@connectrpc/connect-web';
import { only } from './calls.js';
import { type BaseOptions, BaseClient } from './client.js';
import { invalid } from './error.js';
import { checked, mayTravel } from './token.js';

export * from './common.js';

// Bytes of the rows in one call of an upload. Another call continues it.
const UPLOAD_BYTES = 2 ** 22;

/** Options of a client in a browser. */
export interface ClientOptions extends BaseOptions {
  /** A token, or a function that returns the current one. */
  readonly token?: string | (() => string | Promise<string>) | undefined;
  /** Without TLS a token is sent to this machine only, unless this is true. */
  readonly allowClearTextToken?: boolean | undefined;
  /** Default: the fetch of the platform. */
  readonly fetch?: typeof globalThis.fetch | undefined;
}

/**
 * A transport that can send a stream of requests: it gathers them, because fetch sends a body that
 * is complete. The responses are a stream as ever.
 */
function transportOf(baseUrl: string, fetch: typeof globalThis.fetch): Transport {
  const connect = (send: typeof globalThis.fetch): Transport =>
    createConnectTransport({ baseUrl, useBinaryFormat: true, fetch: send });
  const plain = connect(fetch);
  return {
    unary: plain.unary.bind(plain),
    async stream(method, signal, timeoutMs, header, messages, context) {
      if (method.methodKind === 'server_streaming') {
        return plain.stream(method, signal, timeoutMs, header, messages, context);
      }
      const parts: BlobPart[] = [];
      for await (const message of messages) {
        signal?.throwIfAborted();
        const bytes = toBinary(method.input, create(method.input, message));
        parts.push(encodeEnvelope(0, bytes) as Uint8Array<ArrayBuffer>);
      }
      const body = new Blob(parts);
      const gathered = connect((url, init) => fetch(url, { ...init, body }));
      // The transport takes one message of such a method. The body above takes its place.
      const one = Object.create(method, {
        methodKind: { value: 'server_streaming' },
      }) as DescMethodStreaming<typeof method.input, typeof method.output>;
      const message = only(create(method.input)) as typeof messages;
      return gathered.stream(one, signal, timeoutMs, header, message, context);
    },
  };
}

/** A client of a backpropd server, in a browser. */
export class Client extends BaseClient {
  /** `address`: the URL of the server's HTTP listener, such as `https://models.example.com`. */
  constructor(address: string, options: ClientOptions = {}) {
    let url: URL;
    try {
      url = new URL(address);
      if (!/^https?:$/.test(url.protocol)) throw new TypeError();
    } catch {
      throw invalid({
        field: 'address',
        description: `must be an http or https URL, got "${address}"`,
      });
    }
    const { token } = options;
    if (token !== undefined) {
      mayTravel(url.protocol === 'https:', url.hostname, options.allowClearTextToken);
    }
    const fetch = options.fetch ?? globalThis.fetch.bind(globalThis);
    super(
      {
        transport: transportOf(url.href.replace(/\/$/, ''), fetch),
        bidirectional: false,
        maxUploadBytes: UPLOAD_BYTES,
        answered: (error) =>
          error.cause === undefined && !error.rawMessage.startsWith('protocol error'),
        token: async () => {
          if (token === undefined) return undefined;
          return checked(typeof token === 'function' ? await token() : token, 'the token');
        },
        close: () => undefined,
      },
      options,
    );
  }
}
