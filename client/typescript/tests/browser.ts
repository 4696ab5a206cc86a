// Runs tests/page.js in headless Chromium, with the modules of the package as they are published.
//
// node dist/tests/browser.js; $CHROMIUM is the program, by default chromium
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startHttp } from './http.js';
import { freePort } from './server.js';

const PACKAGE = fileURLToPath(new URL('../../', import.meta.url));
const TIMEOUT_MS = 120_000;
// What a bundler finds by the exports of the packages.
const IMPORTS = {
  '@backprop/client': '/dist/src/web.js',
  '@bufbuild/protobuf': '/node_modules/@bufbuild/protobuf/dist/esm/index.js',
  '@bufbuild/protobuf/codegenv2': '/node_modules/@bufbuild/protobuf/dist/esm/codegenv2/index.js',
  '@bufbuild/protobuf/reflect': '/node_modules/@bufbuild/protobuf/dist/esm/reflect/index.js',
  '@bufbuild/protobuf/wire': '/node_modules/@bufbuild/protobuf/dist/esm/wire/index.js',
  '@bufbuild/protobuf/wkt': '/node_modules/@bufbuild/protobuf/dist/esm/wkt/index.js',
  '@connectrpc/connect': '/node_modules/@connectrpc/connect/dist/esm/index.js',
  '@connectrpc/connect/protocol': '/node_modules/@connectrpc/connect/dist/esm/protocol/index.js',
  '@connectrpc/connect/protocol-connect':
    '/node_modules/@connectrpc/connect/dist/esm/protocol-connect/index.js',
  '@connectrpc/connect/protocol-grpc':
    '/node_modules/@connectrpc/connect/dist/esm/protocol-grpc/index.js',
  '@connectrpc/connect/protocol-grpc-web':
    '/node_modules/@connectrpc/connect/dist/esm/protocol-grpc-web/index.js',
  '@connectrpc/connect-web': '/node_modules/@connectrpc/connect-web/dist/esm/index.js',
};
const PAGE = `<!doctype html><meta charset="utf-8">
<script type="importmap">${JSON.stringify({ imports: IMPORTS })}</script>
<script type="module" src="/tests/page.js"></script>`;

interface Report {
  readonly error?: string;
  readonly events: number;
  readonly violations: readonly { readonly field: string }[];
}

const port = await freePort();
const origin = `http://127.0.0.1:${String(port)}`;
const http = await startHttp(origin);
let report: (report: Report) => void;
const reported = new Promise<Report>((resolve, reject) => {
  report = resolve;
  setTimeout(() => {
    reject(new Error('the page reported nothing'));
  }, TIMEOUT_MS).unref();
});

const pages = createServer((request, response) => {
  void (async () => {
    const path = new URL(request.url ?? '/', origin).pathname;
    if (path === '/report') {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      report(JSON.parse(Buffer.concat(chunks).toString()) as Report);
      response.end();
    } else if (path === '/') {
      response.setHeader('content-type', 'text/html').end(PAGE);
    } else {
      const text = await readFile(join(PACKAGE, path)).catch(() => undefined);
      response.setHeader('content-type', 'text/javascript');
      response.writeHead(text === undefined ? 404 : 200).end(text);
    }
  })();
});
await new Promise<void>((resolve) => {
  pages.listen(port, '127.0.0.1', resolve);
});

const profile = await mkdtemp(join(tmpdir(), 'backprop-chromium-'));
const flags = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'];
const url = `${origin}/?server=${encodeURIComponent(http.url)}`;
const program = process.env['CHROMIUM'] ?? 'chromium';
const browser = spawn(program, [...flags, `--user-data-dir=${profile}`, url], { stdio: 'ignore' });
const failed = new Promise<never>((_, reject) => {
  browser.once('error', reject);
});
try {
  const { error, events, violations, ...rest } = await Promise.race([reported, failed]);
  assert.equal(error, undefined);
  assert.ok(events >= 50, `${String(events)} events`);
  assert.deepEqual(
    violations.map(({ field }) => field),
    ['spec.layers[0].units'],
  );
  assert.deepEqual(rest, {
    stopReason: 'COMPLETED',
    classes: [0, 1, 1, 0],
    left: 'CANCELLED',
    rows: 4,
  });
  console.log(`Chromium trained XOR and saw ${String(events)} events`);
} finally {
  const gone = new Promise((resolve) => browser.once('exit', resolve));
  if (browser.kill()) await gone;
  pages.closeAllConnections();
  pages.close();
  await http.stop();
  await rm(profile, { recursive: true, force: true, maxRetries: 10 });
}
