// The client for Node: gRPC over HTTP/2.
import { open, rename, rm } from 'node:fs/promises';
import { type BaseOptions, BaseClient } from './client.js';
import {
  type Address,
  parseAddress,
  secureOptions,
  TokenFile,
  type TlsOptions,
} from './credentials.js';
import { connect } from './session.js';
import { checked, mayTravel } from './token.js';
import type { CallOptions, ImportOptions, Model } from './types.js';

export * from './common.js';
export type { TlsOptions } from './credentials.js';

/** Options of a client in Node. */
export interface ClientOptions extends BaseOptions {
  /** Encryption: `true` trusts the authorities that Node trusts. Default: clear text. */
  readonly tls?: boolean | TlsOptions | undefined;
  /** A token, or a function that returns the current one. */
  readonly token?: string | (() => string | Promise<string>) | undefined;
  /**
   * A file with the token. It is read again when it changes. Default, without `token`: the token in
   * the environment variable BACKPROP_TOKEN, if there is one.
   */
  readonly tokenFile?: string | undefined;
  /** Without TLS a token is sent to this machine only, unless this is true. */
  readonly allowClearTextToken?: boolean | undefined;
  /** Idle time of a connection with calls before a ping, at least 1000. Default: 10,000. */
  readonly keepaliveMs?: number | undefined;
}

type TokenSource = () => string | Promise<string> | undefined;

function tokenSource(options: ClientOptions): TokenSource | undefined {
  const { token, tokenFile } = options;
  if (token !== undefined && tokenFile !== undefined) {
    throw new TypeError('token and tokenFile cannot both be given');
  }
  if (tokenFile !== undefined) {
    const file = new TokenFile(tokenFile);
    return () => file.read();
  }
  if (typeof token === 'function') return async () => checked(await token(), 'the token');
  const text = token ?? process.env['BACKPROP_TOKEN'];
  if (text === undefined || (token === undefined && text === '')) return undefined;
  const fixed = checked(text, token === undefined ? 'the token in BACKPROP_TOKEN' : 'the token');
  return () => fixed;
}

function hostOf(address: Address): string {
  return 'path' in address ? 'localhost' : address.host;
}

/** A client of a backpropd server, in Node. */
export class Client extends BaseClient {
  /**
   * `address`: `host:port`, or `unix:/path` for a Unix socket. Throws if the options cannot be used:
   * FAILED_PRECONDITION names the file.
   */
  constructor(address: string, options: ClientOptions = {}) {
    const target = parseAddress(address);
    // Unix sockets are always clear text.
    const encrypted = !('path' in target) && options.tls !== undefined && options.tls !== false;
    const tls = encrypted
      ? secureOptions(options.tls === true ? {} : (options.tls as TlsOptions))
      : undefined;
    const token = tokenSource(options);
    if (token) mayTravel(encrypted, hostOf(target), options.allowClearTextToken);
    const { transport, close } = connect(target, tls, options.keepaliveMs ?? 10_000);
    super(
      {
        transport,
        bidirectional: true,
        maxUploadBytes: undefined,
        answered: (error) =>
          error.metadata.has('grpc-status') || error.rawMessage.startsWith('HTTP '),
        token: () => token?.(),
        close,
      },
      options,
    );
  }

  /**
   * Writes a model into a file, which appears when it is complete. Returns its size. A broken
   * connection fails the call; the file that was there before is kept.
   */
  async saveModel(
    model: string,
    path: string,
    options: CallOptions = {},
  ): Promise<{ bytes: number }> {
    const partial = `${path}.partial-${String(process.pid)}-${String(Date.now())}`;
    const file = await open(partial, 'wx');
    let bytes = 0;
    try {
      try {
        for await (const data of this.exportModel(model, options)) {
          await file.writeFile(data);
          bytes += data.length;
        }
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(partial, path);
    } catch (error) {
      await rm(partial, { force: true });
      throw error;
    }
    return { bytes };
  }

  /** Creates a model from a file of saveModel. Retried, because the file can be read again. */
  async loadModel(path: string, options: ImportOptions = {}): Promise<Model> {
    return this.importModel(() => readFile(path), options);
  }
}

async function* readFile(path: string): AsyncGenerator<Uint8Array, void, undefined> {
  const file = await open(path);
  try {
    for (;;) {
      const { bytesRead, buffer } = await file.read(new Uint8Array(2 ** 20));
      if (bytesRead === 0) return;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await file.close();
  }
}
