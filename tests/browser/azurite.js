// A storage account on this machine with drops of three customers, which the real binary has delivered as far as it can.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { program } from './binary.js';

const ACCOUNT = 'devstoreaccount1';
// The well-known key of every emulator, which Microsoft publishes.
const KEY = 'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==';

const AZURITE = fileURLToPath(new URL('../azurite/serve.js', import.meta.url));
const OPTIONS = ['--silent', '--skipApiVersionCheck', '--disableTelemetry', '--loose', '--inMemoryPersistence'];
const PORTS = ['--blobPort', '0', '--queuePort', '0', '--tablePort', '0'];

/** Starts Azurite; returns its connection string and a function that stops it. */
async function startAzurite() {
  const server = spawn(process.execPath, [AZURITE, ...OPTIONS, ...PORTS], { stdio: ['pipe', 'pipe', 'inherit'] });
  const stop = async () => {
    server.stdin.end();
    if (server.exitCode === null) await once(server, 'exit');
  };
  for await (const line of createInterface({ input: server.stdout })) {
    const endpoint = /^Azurite Blob service is successfully listening at (http:\S+)/.exec(line)?.[1];
    if (endpoint) {
      server.stdout.resume();
      const connection = `AccountName=${ACCOUNT};AccountKey=${KEY};BlobEndpoint=${endpoint}/${ACCOUNT}`;
      return { connection, stop };
    }
  }
  throw new Error('Azurite ended without an address');
}

/** The id of the tenant with this number. */
const tenant = (number) => `00000000-0000-4000-8000-00000000000${number}`;

/**
 * Delivers the drops of three customers: one is completed, one is set aside, because the customer's key does not fit, and one is
 * retried, because the receiver does not answer. `sweep` plays the timer; `correctKey` repairs the customer's key.
 */
export async function startAccount() {
  const folder = await mkdtemp(join(tmpdir(), 'vivadrop-'));
  const azurite = await startAzurite();
  const keys = join(folder, 'keys');
  await mkdir(keys);
  const settings = {
    PATH: process.env.PATH,
    DropStorage: azurite.connection,
    DROP_CONTAINER: 'datasets',
    // Nothing listens at the discard port.
    TENANTS: JSON.stringify({
      [tenant(1)]: {},
      [tenant(2)]: {},
      [tenant(3)]: { DELIVER_TO: 'http://127.0.0.1:9/rows', DELIVERY_PATIENCE: '1s' },
    }),
    PRIVATE_KEYS: `file://${keys}`,
    DELIVER_TO: 'stdout:',
  };
  const run = (...command) =>
    new Promise((resolve) => execFile(program, command, { env: settings, maxBuffer: 1 << 26 }, resolve));
  const keyOf = (number) => join(folder, String(number), 'private-key.pem');
  const useKey = (number, of) => copyFile(keyOf(of), join(keys, `${tenant(number)}.pem`));
  for (const number of [1, 2, 3]) {
    const failed = await run(
      ...['simulate', '--users', '50', '--weeks', '13', '--files', '2', '--keys-in-drop', '--upload'],
      ...['--tenant', tenant(number), '--out', join(folder, String(number))],
    );
    if (failed) throw failed;
    await useKey(number, number === 2 ? 1 : number);
  }
  // Fails, because a drop is retried.
  const sweep = () => run('sweep');
  await sweep();
  const stop = async () => {
    await azurite.stop();
    await rm(folder, { recursive: true });
  };
  return { settings, sweep, correctKey: () => useKey(2, 2), stop };
}
