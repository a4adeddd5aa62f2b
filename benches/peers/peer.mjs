// Decoding as a partner might write it in JavaScript: node peer.mjs FILE KEYS prints the rows.
//
// FILE is AES-256-CTR of gzip of JSON lines; KEYS is a JSON file with fileKey, fileIv, columnKey and columnIv, in hex.
import { createDecipheriv } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { createGunzip } from 'node:zlib';

const [file, keys] = process.argv.slice(2);
const hex = Object.fromEntries(Object.entries(JSON.parse(readFileSync(keys))).map(([name, value]) => [name, Buffer.from(value, 'hex')]));
const decipher = (name) => createDecipheriv('aes-256-ctr', hex[`${name}Key`], hex[`${name}Iv`]);

const text = createReadStream(file, { highWaterMark: 1 << 20 })
  .pipe(decipher('file'))
  .pipe(createGunzip({ chunkSize: 1 << 20 }));

let rows = [];
async function write() {
  if (!process.stdout.write(rows.join(''))) await once(process.stdout, 'drain');
  rows = [];
}

for await (const line of createInterface({ input: text, crlfDelay: Infinity })) {
  const row = JSON.parse(line);
  row.ObjectId = decipher('column').update(row.ObjectId, 'base64', 'utf8');
  if (rows.push(`${JSON.stringify(row)}\n`) === 500) await write();
}
await write();
