// A server that browsers can reach: backpropd with --http. For a backpropd without --http, a server
// of the Connect library passes the calls on to it.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer, type Server as HttpServer } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  ConnectError,
  createClient,
  type HandlerContext,
  type Interceptor,
  type ServiceImpl,
} from '@connectrpc/connect';
import { connectNodeAdapter, createGrpcTransport } from '@connectrpc/connect-node';
import { TrainingService } from '../src/gen/backprop/v1/training_service_pb.js';
import { freePort, PROGRAM, Server } from './server.js';

/** A server, and the URL of its HTTP listener. */
export interface Http {
  readonly server: Server;
  readonly url: string;
  readonly stop: () => Promise<void>;
}

async function builtIn(origin: string): Promise<Http> {
  const port = await freePort();
  const url = `http://127.0.0.1:${String(port)}`;
  const server = await Server.start((dir) => [
    '--data-dir',
    join(dir, 'data'),
    '--http',
    `127.0.0.1:${String(port)}`,
    '--http-port-file',
    join(dir, 'http'),
    '--http-allow-origin',
    origin,
  ]);
  while (
    !existsSync(join(server.dir, 'http')) ||
    (await readFile(join(server.dir, 'http'), 'utf8')) === ''
  ) {
    await sleep(20);
  }
  return { server, url, stop: () => server.stop() };
}

async function gateway(origin: string): Promise<Http> {
  const server = await Server.durable();
  // The headers of a gRPC response are not those of a Connect response.
  const strip: Interceptor = (next) => async (request) => {
    try {
      return await next(request);
    } catch (thrown) {
      const error = ConnectError.from(thrown);
      for (const name of [...error.metadata.keys()]) error.metadata.delete(name);
      throw error;
    }
  };
  const baseUrl = `http://${server.address}`;
  const transport = createGrpcTransport({ baseUrl, interceptors: [strip] });
  const client = createClient(TrainingService, transport) as unknown as Record<
    string,
    (request: unknown, options: object) => unknown
  >;
  const forward = Object.fromEntries(
    TrainingService.methods.map(({ localName }) => [
      localName,
      (request: unknown, { signal }: HandlerContext) => client[localName]?.(request, { signal }),
    ]),
  ) as unknown as ServiceImpl<typeof TrainingService>;
  const handler = connectNodeAdapter({
    routes: (router) => router.service(TrainingService, forward),
  });
  const http: HttpServer = createServer((request, response) => {
    response.setHeader('access-control-allow-origin', origin);
    response.setHeader('access-control-allow-headers', '*');
    if (request.method === 'OPTIONS') response.writeHead(204).end();
    else handler(request, response);
  });
  const port = await freePort();
  await new Promise<void>((resolve) => {
    http.listen(port, '127.0.0.1', resolve);
  });
  const stop = async (): Promise<void> => {
    http.closeAllConnections();
    http.close();
    await server.stop();
  };
  return { server, url: `http://127.0.0.1:${String(port)}`, stop };
}

/** Starts a server that pages of an origin may call. */
export function startHttp(origin: string): Promise<Http> {
  const help = spawnSync(PROGRAM, ['--help'], { encoding: 'utf8' }).stdout;
  if (help.includes('--http ')) return builtIn(origin);
  console.log(
    'This backpropd has no --http: a server of the Connect library stands in front of it.',
  );
  return gateway(origin);
}
