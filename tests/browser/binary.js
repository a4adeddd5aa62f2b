// The real binary: `vivadrop demo --page`, with six customers in different states, or `vivadrop page` alone.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export const program = process.env.VIVADROP || fileURLToPath(new URL('../../target/debug/vivadrop', import.meta.url));

/** Starts the demo; returns the address that it printed, which has the one-time token, and a function that stops it. */
export const startDemo = () => start(['demo', '--page'], process.env);

/** Starts `vivadrop page` with these settings; returns the same as `startDemo`. */
export const startPage = (settings) => start(['page', '--no-open'], settings);

/** Starts the binary, and waits for the line with the address. `stop` sends SIGTERM and returns the exit code. */
async function start(command, env) {
  const server = spawn(program, command, { env, stdio: ['ignore', 'pipe', 'inherit'] });
  const stop = async () => {
    server.kill('SIGTERM');
    if (server.exitCode === null) await once(server, 'exit');
    return server.exitCode;
  };
  for await (const line of createInterface({ input: server.stdout })) {
    if (line.includes('#token=')) {
      server.stdout.resume();
      return { address: line.trim(), stop };
    }
  }
  throw new Error(`${program} ${command.join(' ')} ended without an address`);
}
