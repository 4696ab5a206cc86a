// The client for browsers: the Connect protocol over fetch, for a server with --http.
import { createConnectTransport } from '@connectrpc/connect-web';
import { type BaseOptions, BaseClient } from './client.js';
import { invalid } from './error.js';
import { checked, mayTravel } from './token.js';

export * from './common.js';

/** Options of a client in a browser. */
export interface ClientOptions extends BaseOptions {
  /** A token, or a function that returns the current one. */
  readonly token?: string | (() => string | Promise<string>) | undefined;
  /** Without TLS a token is sent to this machine only, unless this is true. */
  readonly allowClearTextToken?: boolean | undefined;
  /** Default: the fetch of the platform. */
  readonly fetch?: typeof globalThis.fetch | undefined;
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
    if (token !== undefined)
      mayTravel(url.protocol === 'https:', url.hostname, options.allowClearTextToken);
    const transport = createConnectTransport({
      baseUrl: url.href,
      useBinaryFormat: true,
      ...(options.fetch && { fetch: options.fetch }),
    });
    super(
      {
        transport,
        bidirectional: false,
        maxUploadBytes: undefined,
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
