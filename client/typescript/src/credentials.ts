// Addresses, certificates and token files in Node.
import { X509Certificate, createPrivateKey } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import type { SecureContextOptions } from 'node:tls';
import { BackpropError, invalid } from './error.js';
import { checked } from './token.js';

/** Certificates, in PEM. Files are read once, by the constructor of the client. */
export interface TlsOptions {
  /** File with the certificates of the authorities that may have signed the server's. */
  readonly caFile?: string | undefined;
  /** The same as text. Default of both: the authorities that Node trusts. */
  readonly ca?: string | undefined;
  /** File with the client's certificate and intermediate ones. Needs `keyFile`. */
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
  /** Name that the server's certificate must have. Default: the host of the address. */
  readonly serverName?: string | undefined;
}

/** A TCP address, or the path of a Unix socket. */
export type Address = { readonly host: string; readonly port: number } | { readonly path: string };

const MAX_FILE_BYTES = 2 ** 20;
const LOOK_PERIOD_MS = 1000;

export function parseAddress(address: string): Address {
  const unix = /^unix:(?:\/\/)?(.+)$/.exec(address)?.[1];
  if (unix !== undefined) return { path: unix };
  const [, host, digits] = /^(\[[0-9a-fA-F:.]+\]|[^:/\s]+):(\d{1,5})$/.exec(address) ?? [];
  const port = Number(digits);
  if (host === undefined || port > 65535) {
    throw invalid({
      field: 'address',
      description: `must be host:port or unix:/path, got "${address}"`,
    });
  }
  return { host: host.replace(/^\[(.*)\]$/, '$1'), port };
}

function unusable(path: string, why: string): BackpropError {
  return new BackpropError('FAILED_PRECONDITION', `TLS: ${path}: ${why}`);
}

function read(path: string): string {
  try {
    const { size } = statSync(path);
    if (size > MAX_FILE_BYTES) throw new Error('has more than 1 MiB');
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw unusable(path, (error as Error).message);
  }
}

/** Checks that a text holds a certificate. */
function certificate(text: string, path: string): X509Certificate {
  try {
    return new X509Certificate(text);
  } catch {
    throw unusable(path, 'holds no certificate in PEM');
  }
}

export type SecureOptions = SecureContextOptions & { readonly servername?: string };

/** Reads and checks certificates and key. */
export function secureOptions(tls: TlsOptions): SecureOptions {
  const ca = tls.ca ?? (tls.caFile === undefined ? undefined : read(tls.caFile));
  if (ca !== undefined) certificate(ca, tls.ca === undefined ? String(tls.caFile) : 'ca');
  const { certFile, keyFile } = tls;
  if ((certFile === undefined) !== (keyFile === undefined)) {
    throw new BackpropError(
      'FAILED_PRECONDITION',
      'TLS: a client certificate and its key must be given together',
    );
  }
  const options: SecureContextOptions = { minVersion: 'TLSv1.2' };
  if (ca !== undefined) options.ca = ca;
  if (certFile !== undefined && keyFile !== undefined) {
    options.cert = read(certFile);
    options.key = read(keyFile);
    const own = certificate(options.cert, certFile);
    let key;
    try {
      key = createPrivateKey(options.key);
    } catch {
      throw unusable(keyFile, 'holds no private key in PEM, or one that is encrypted');
    }
    if (!own.checkPrivateKey(key))
      throw unusable(keyFile, `is not the key of the certificate in ${certFile}`);
  }
  return { ...options, ...(tls.serverName !== undefined && { servername: tls.serverName }) };
}

/** A file with a token. Looks whether it changed at most once a second. */
export class TokenFile {
  #seen = '';
  #token = '';
  #nextLook = 0;

  constructor(private readonly path: string) {}

  async read(): Promise<string> {
    if (Date.now() < this.#nextLook) return this.#token;
    const where = `the token file ${this.path}`;
    let text = this.#token;
    let stamp;
    try {
      const { ino, size, mtimeNs } = await stat(this.path, { bigint: true });
      stamp = [ino, size, mtimeNs].join();
      if (stamp !== this.#seen) {
        if (size > MAX_FILE_BYTES) throw new Error('it has more than 1 MiB');
        text = (await readFile(this.path, 'utf8')).trim();
      }
    } catch (error) {
      throw new BackpropError(
        'UNAUTHENTICATED',
        `${where} cannot be read: ${(error as Error).message}`,
      );
    }
    this.#token = checked(text, where);
    this.#seen = stamp;
    this.#nextLook = Date.now() + LOOK_PERIOD_MS;
    return this.#token;
  }
}
