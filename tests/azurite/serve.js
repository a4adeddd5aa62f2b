// Runs Azurite for the tests. Reads commands from stdin and exits when stdin is closed, so that it never outlives the test
// binary, however that ended.
//
//   pause   accept requests, but answer none
//   resume  answer the waiting requests, and all later ones

const http = require("node:http");
const readline = require("node:readline");

let paused = false;
let waiting = [];
const servers = [];

const emit = http.Server.prototype.emit;
http.Server.prototype.emit = function (event, ...values) {
  if (paused && event === "request") {
    waiting.push(() => emit.call(this, event, ...values));
    return true;
  }
  if (event === "listening") {
    servers.push(this);
  }
  return emit.call(this, event, ...values);
};

const commands = readline.createInterface({ input: process.stdin });
commands.on("line", (command) => {
  paused = command === "pause";
  if (!paused) {
    const held = waiting;
    waiting = [];
    held.forEach((answer) => answer());
  }
  console.log(`${command} done`);
});
// Nobody reads stdout once the test binary has ended.
process.stdout.on("error", () => {});
commands.on("close", () => {
  // On SIGTERM, Azurite waits until no connection is open and writes its data to disk. The timer ends it if that fails.
  if (!process.emit("SIGTERM", "SIGTERM")) {
    process.exit(0);
  }
  servers.forEach((server) => server.closeAllConnections());
  setTimeout(() => process.exit(0), 5000).unref();
});

require("azurite/dist/src/azurite.js");
