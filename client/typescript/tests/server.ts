// A real server for the tests: the program in $BACKPROPD, or of the release build.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const BUILT = fileURLToPath(new URL('../../../../build/release/bin/backpropd', import.meta.url));
export const PROGRAM = process.env['BACKPROPD'] ?? BUILT;
const START_TIMEOUT_MS = 60_000;

/** A server in a directory of its own. It can be killed and started again on the same address. */
export class Server {
  #process: ChildProcess | undefined;
  #address = '127.0.0.1:0';

  private constructor(
    readonly dir: string,
    private readonly flags: readonly string[],
  ) {}

  static async start(...flags: string[]): Promise<Server> {
    const server = new Server(await mkdtemp(join(tmpdir(), 'backprop-ts-')), flags);
    await server.up();
    return server;
  }

  /** A server that stores its models. */
  static async durable(...flags: string[]): Promise<Server> {
    const dir = await mkdtemp(join(tmpdir(), 'backprop-ts-'));
    const server = new Server(dir, ['--data-dir', join(dir, 'data'), ...flags]);
    await server.up();
    return server;
  }

  get address(): string {
    return this.#address;
  }

  /** Starts the server, the second time on the same port. */
  async up(): Promise<void> {
    if (!existsSync(PROGRAM)) throw new Error(`there is no server at ${PROGRAM}: set BACKPROPD`);
    const portFile = join(this.dir, 'address');
    await rm(portFile, { force: true });
    const args = ['--listen', this.#address, '--port-file', portFile, '--log-level', 'warn', ...this.flags];
    const child = spawn(PROGRAM, args, { stdio: ['ignore', 'inherit', 'inherit'] });
    this.#process = child;
    for (const end = Date.now() + START_TIMEOUT_MS; ; await sleep(20)) {
      if (existsSync(portFile)) {
        const address = (await readFile(portFile, 'utf8')).trim();
        if (address !== '') {
          this.#address = address;
          return;
        }
      }
      if (child.exitCode !== null) throw new Error(`the server ended with ${String(child.exitCode)}`);
      if (Date.now() > end) throw new Error('the server did not start');
    }
  }

  /** Ends the server as a crash does, and returns when it is gone. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#process;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
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
