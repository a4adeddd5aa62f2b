// The real binary: `vivadrop demo --page`, with six customers in different states.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const program = process.env.VIVADROP || fileURLToPath(new URL('../../target/debug/vivadrop', import.meta.url));

/** Starts the demo; returns the address that it printed, which has the one-time token, and a function that stops it. */
export async function startDemo() {
  const demo = spawn(program, ['demo', '--page'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const stop = async () => {
    demo.kill('SIGTERM');
    if (demo.exitCode === null) await once(demo, 'exit');
    return demo.exitCode;
  };
  for await (const line of createInterface({ input: demo.stdout })) {
    if (line.includes('#token=')) {
      demo.stdout.resume();
      return { address: line.trim(), stop };
    }
  }
  throw new Error(`${program} demo --page ended without an address`);
}
