// A real server for the tests: the program in $BACKPROPD, or of the release build.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const BUILT = fileURLToPath(new URL('../../../../build/release/bin/backpropd', import.meta.url));
export const PROGRAM = process.env['BACKPROPD'] ?? BUILT;
const START_TIMEOUT_MS = 60_000;

/**
 * A port below those that the system gives to connections: a client that connects to the port of a
 * dead server could otherwise get the same port at its own end, and so connect to itself.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 10_000);
    const free = await new Promise<boolean>((resolve) => {
      const probe = createServer();
      probe.once('error', () => {
        resolve(false);
      });
      probe.listen(port, '127.0.0.1', () => {
        probe.close(() => {
          resolve(true);
        });
      });
    });
    if (free) return port;
  }
}

/** A server in a directory of its own. It can be killed and started again on the same address. */
export class Server {
  #process: ChildProcess | undefined;

  private constructor(
    readonly dir: string,
    readonly address: string,
    private readonly flags: readonly string[],
  ) {}

  /** Starts a server; `flags` may depend on its directory. */
  static async start(
    flags: (dir: string) => readonly string[] | Promise<readonly string[]> = () => [],
  ): Promise<Server> {
    const dir = await mkdtemp(join(tmpdir(), 'backprop-ts-'));
    const server = new Server(dir, `127.0.0.1:${String(await freePort())}`, await flags(dir));
    await server.up();
    return server;
  }

  /** A server that stores its models. */
  static durable(): Promise<Server> {
    return Server.start((dir) => ['--data-dir', join(dir, 'data')]);
  }

  /** Starts the server, the second time on the same port. */
  async up(): Promise<void> {
    if (!existsSync(PROGRAM)) throw new Error(`there is no server at ${PROGRAM}: set BACKPROPD`);
    const portFile = join(this.dir, 'address');
    await rm(portFile, { force: true });
    const args = [
      '--listen',
      this.address,
      '--port-file',
      portFile,
      '--log-level',
      'warn',
      ...this.flags,
    ];
    const child = spawn(PROGRAM, args, { stdio: ['ignore', 'inherit', 'inherit'] });
    this.#process = child;
    const end = Date.now() + START_TIMEOUT_MS;
    for (;;) {
      if (existsSync(portFile)) {
        if ((await readFile(portFile, 'utf8')).trim() !== '') return;
      }
      if (child.exitCode !== null)
        throw new Error(`the server ended with ${String(child.exitCode)}`);
      if (Date.now() > end) throw new Error('the server did not start');
      await sleep(20);
    }
  }

  /** Ends the server as a crash does, and returns when it is gone. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#process;
    if (child?.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise<void>((resolve) => {
      child.once('exit', () => {
        resolve();
      });
    });
    child.kill(signal);
    await gone;
  }

  async crash(): Promise<void> {
    await this.kill();
    await this.up();
  }

  async stop(): Promise<void> {
    await this.kill();
    await rm(this.dir, { recursive: true, force: true });
  }
}
