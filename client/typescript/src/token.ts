// Bearer tokens.
import { BackpropError } from './error.js';

const MAX_TOKEN_BYTES = 8192;

/** Returns the token, or throws. The text of the error does not contain it. */
export function checked(token: string, where: string): string {
  let wrong: string | undefined;
  if (token === '') wrong = 'is empty';
  else if (token.length > MAX_TOKEN_BYTES) wrong = `has more than ${String(MAX_TOKEN_BYTES)} bytes`;
  else if (!/^[!-~]+$/.test(token)) wrong = 'has white space, or characters other than ASCII';
  if (wrong !== undefined) throw new BackpropError('UNAUTHENTICATED', `${where} ${wrong}`);
  return token;
}

/** Whether a host is this machine. */
export function isLoopback(host: string): boolean {
  const name = host.toLowerCase().replace(/^\[(.*)\]$/, '$1');
  return name === 'localhost' || name === '::1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(name);
}

/** Throws unless a token may be sent to the host. */
export function mayTravel(
  encrypted: boolean,
  host: string,
  allowClearText: boolean | undefined,
): void {
  if (encrypted || allowClearText === true || isLoopback(host)) return;
  const text = `the token is not sent to ${host} in clear text; use TLS, or allow clear text explicitly`;
  throw new BackpropError('FAILED_PRECONDITION', text);
}
