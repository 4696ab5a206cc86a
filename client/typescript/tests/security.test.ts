// Tokens, TLS and Unix sockets.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { chmodSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BackpropError, Client, type ClientOptions } from '../src/node.js';
import { XOR } from './data.js';
import { Server } from './server.js';

/** Makes NAME.pem and NAME.key, signed by `issuer` or by itself. */
function certificate(
  dir: string,
  name: string,
  issuer?: string,
  san = 'DNS:localhost,IP:127.0.0.1',
): void {
  const config = join(dir, 'openssl.cnf'); // the system's would make all of them authorities
  writeFileSync(config, `[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nCN=${name}\n`);
  const file = (of: string, kind: string): string => join(dir, `${of}.${kind}`);
  const args = [
    'req',
    '-x509',
    '-config',
    config,
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
  ];
  args.push(
    '-nodes',
    '-keyout',
    file(name, 'key'),
    '-out',
    file(name, 'pem'),
    '-days',
    '30',
    '-addext',
  );
  if (issuer === undefined) args.push('basicConstraints=critical,CA:TRUE');
  else {
    args.push('basicConstraints=CA:FALSE', '-addext', `subjectAltName=${san}`);
    args.push('-CA', file(issuer, 'pem'), '-CAkey', file(issuer, 'key'));
  }
  execFileSync('openssl', args, { stdio: 'ignore' });
  chmodSync(file(name, 'key'), 0o600);
}

/** A token as docs/security.md describes it. */
function newToken(): string {
  const body = `bpt_${randomBytes(32).toString('base64url')}`;
  return body + createHash('sha256').update(body).digest('base64url').slice(0, 6);
}

const tokens = { writer: newToken(), reader: newToken() };
let server: Server;
let mutual: Server;

const file = (of: Server, name: string): string => join(of.dir, name);

before(async () => {
  server = await Server.start((dir) => {
    certificate(dir, 'ca');
    certificate(dir, 'other');
    certificate(dir, 'server', 'ca');
    const principals = Object.entries(tokens).map(([role, token]) => ({
      name: role,
      role: role.toUpperCase(),
      project: 'default',
      token_sha256: [createHash('sha256').update(token).digest('hex')],
    }));
    writeFileSync(join(dir, 'auth.json'), JSON.stringify({ principals }), { mode: 0o600 });
    const flags = ['--auth-file', join(dir, 'auth.json'), '--unix-socket', join(dir, 'socket')];
    return [...flags, '--tls-cert', join(dir, 'server.pem'), '--tls-key', join(dir, 'server.key')];
  });
  mutual = await Server.start((dir) => {
    certificate(dir, 'ca');
    certificate(dir, 'server', 'ca');
    certificate(dir, 'client', 'ca', 'URI:spiffe://example.org/client');
    const flags = ['--tls-cert', join(dir, 'server.pem'), '--tls-key', join(dir, 'server.key')];
    return [...flags, '--tls-client-ca', join(dir, 'ca.pem')];
  });
});

after(async () => {
  await server.stop();
  await mutual.stop();
});

async function using<T>(
  address: string,
  options: ClientOptions,
  use: (client: Client) => Promise<T>,
): Promise<T> {
  const client = new Client(address, { retry: { maxAttempts: 2 }, ...options });
  try {
    return await use(client);
  } finally {
    client.close();
  }
}

const list = async (client: Client): Promise<number> => {
  let count = 0;
  for await (const { name } of client.listModels()) count += name === '' ? 0 : 1;
  return count;
};

test('TLS needs the right authority and the right name', async () => {
  const token = tokens.writer;
  const ca = { caFile: file(server, 'ca.pem') };
  await using(server.address, { tls: ca, token }, list);
  await using(server.address, { tls: { ca: readFileSync(ca.caFile, 'utf8') }, token }, list);
  const port = String(server.address.split(':')[1]);
  await using(`localhost:${port}`, { tls: ca, token }, list);
  const other = { caFile: file(server, 'other.pem') };
  await assert.rejects(using(server.address, { tls: other, token }, list), {
    code: 'UNAVAILABLE',
    message: /certificate/,
  });
  const named = { ...ca, serverName: 'example.org' };
  await assert.rejects(using(server.address, { tls: named, token }, list), {
    code: 'UNAVAILABLE',
    message: /example\.org/,
  });
  await assert.rejects(using(server.address, { tls: true, token }, list), { code: 'UNAVAILABLE' });
  await assert.rejects(using(server.address, { token }, list), { code: 'UNAVAILABLE' });
});

test('a server that requires certificates takes a client with one', async () => {
  const caFile = file(mutual, 'ca.pem');
  const own = { caFile, certFile: file(mutual, 'client.pem'), keyFile: file(mutual, 'client.key') };
  assert.equal(await using(mutual.address, { tls: own }, list), 0);
  await assert.rejects(using(mutual.address, { tls: { caFile } }, list), { code: 'UNAVAILABLE' });
});

test('files that cannot be used are named', () => {
  const wrong = (tls: ClientOptions['tls'], message: RegExp): void => {
    assert.throws(() => new Client(server.address, { tls }), {
      name: 'BackpropError',
      code: 'FAILED_PRECONDITION',
      message,
    });
  };
  const [caFile, keyFile] = [file(mutual, 'ca.pem'), file(mutual, 'client.key')];
  wrong({ caFile: '/nowhere' }, /TLS: \/nowhere: /);
  wrong({ caFile: keyFile }, /client\.key: holds no certificate/);
  wrong({ caFile, certFile: caFile }, /must be given together/);
  wrong({ caFile, certFile: caFile, keyFile: caFile }, /ca\.pem: holds no private key/);
  wrong(
    { caFile, certFile: caFile, keyFile },
    /client\.key: is not the key of the certificate in .*ca\.pem/,
  );
});

test('a token travels as text, from a function, from a file and from the environment', async () => {
  const tls = { caFile: file(server, 'ca.pem') };
  const path = file(server, 'token');
  writeFileSync(path, `${tokens.reader}\n`);
  await using(server.address, { tls, token: tokens.reader }, list);
  await using(server.address, { tls, token: () => Promise.resolve(tokens.reader) }, list);
  const denied = { code: 'PERMISSION_DENIED', reason: 'ROLE_TOO_LOW' };
  await using(server.address, { tls, tokenFile: path }, async (client) => {
    assert.equal(await list(client), 0);
    await assert.rejects(client.createModel(XOR), denied);
    // The file is read again when it was replaced.
    writeFileSync(`${path}.new`, tokens.writer);
    renameSync(`${path}.new`, path);
    await sleep(1100);
    await client.createModel(XOR, { modelId: 'written' });
    await client.deleteModel('written');
  });
  process.env['BACKPROP_TOKEN'] = tokens.writer;
  try {
    assert.equal(await using(server.address, { tls }, list), 0);
  } finally {
    delete process.env['BACKPROP_TOKEN'];
  }
  const none = { code: 'UNAUTHENTICATED', reason: 'NO_CREDENTIALS' };
  await assert.rejects(using(server.address, { tls }, list), none);
  await assert.rejects(using(server.address, { tls, token: newToken() }, list), {
    code: 'UNAUTHENTICATED',
  });
  const missing = { code: 'UNAUTHENTICATED', message: /nowhere cannot be read/ };
  await assert.rejects(using(server.address, { tls, tokenFile: '/nowhere' }, list), missing);
  assert.throws(() => new Client(server.address, { tls, token: 'two words' }), {
    code: 'UNAUTHENTICATED',
  });
});

test('a Unix socket takes a token in clear text', async () => {
  const address = `unix:${file(server, 'socket')}`;
  await using(address, { token: tokens.writer }, async (client) => {
    await client.createModel(XOR, { modelId: 'socket' });
    assert.equal(await list(client), 1);
    await client.deleteModel('socket');
  });
  await assert.rejects(using('unix:/nowhere', {}, list), {
    code: 'UNAVAILABLE',
    message: /ENOENT/,
  });
});

test('a token is not sent in clear text to another machine', async () => {
  const addresses = Object.values(networkInterfaces()).flatMap((all) => all ?? []);
  const outside =
    addresses.find(({ internal, family }) => !internal && family === 'IPv4')?.address ??
    '192.0.2.1';
  for (const token of [tokens.writer, () => tokens.writer]) {
    assert.throws(
      () => new Client(`${outside}:50051`, { token }),
      (error: BackpropError) => {
        assert.equal(error.code, 'FAILED_PRECONDITION');
        assert.ok(!error.message.includes(tokens.writer));
        return true;
      },
    );
  }
  // With permission it is sent: the spy sees that the client connects.
  if (outside === '192.0.2.1') return;
  const seen = await new Promise<string>((resolve) => {
    const spy = createServer((socket) => {
      socket.once('data', (data) => {
        socket.destroy();
        spy.close();
        resolve(data.subarray(0, 14).toString());
      });
      socket.on('error', () => undefined);
    });
    spy.listen(0, outside, () => {
      const port = String((spy.address() as { port: number }).port);
      const options = {
        token: tokens.writer,
        allowClearTextToken: true,
        retry: { maxAttempts: 1 },
      };
      void using(`${outside}:${port}`, options, list).catch(() => undefined);
    });
  });
  assert.equal(seen, 'PRI * HTTP/2.0');
});
